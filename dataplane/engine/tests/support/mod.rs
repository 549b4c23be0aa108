//! What the integration tests share: a network of their own, an engine on it,
//! and what the test kit's host needs to know to speak with it.
//!
//! Each test binary is a process of its own, since DPDK starts once per process.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use engine::{
    Config, Detail, Handle, MemoryConfig, NamespaceConfig, PortConfig, Snapshot, StoreConfig,
    StoreDevice, SubsystemConfig, TargetConfig, WritePolicy,
};
use testkit::blocking::{PATIENCE, Queue};

/// The target's address and the kernel's, on the two ends of a veth pair (RFC 5737).
pub const TARGET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const HOST: &str = "192.0.2.2/24";
/// The subsystem.
pub const NQN: &str = "nqn.2026-01.example.throughline:test";

/// Bytes of the namespace.
pub const NAMESPACE_BYTES: u64 = 64 << 20;

/// Where the target listens.
pub fn target() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(TARGET), 4420)
}

/// An engine on one end of a veth pair, with a malloc bdev of `block_size` blocks.
pub fn config(block_size: u32) -> Config {
    let blocks = NAMESPACE_BYTES / u64::from(block_size);
    Config {
        cores: vec![1],
        memory: MemoryConfig {
            clusters: 16384,
            cluster_size: 2048,
            pages: 8192,
            requests: 512,
            connections: 256,
        },
        ports: vec![PortConfig {
            name: "data0".into(),
            device: "net_af_packet0,iface=tl0,blocksz=61440,framesz=1920,framecnt=512".into(),
            mtu: 1500,
            addresses: vec![(IpAddr::V4(TARGET), 24)],
            routes: Vec::new(),
            vlan: None,
        }],
        log: None,
        pairs: Vec::new(),
        spdk_json: Some(format!(
            r#"{{"subsystems":[{{"subsystem":"bdev","config":[{{"method":"bdev_malloc_create",
            "params":{{"name":"Malloc0","num_blocks":{blocks},"block_size":{block_size}}}}}]}}]}}"#
        )),
        stores: vec![StoreConfig {
            name: "malloc0".into(),
            device: StoreDevice::Bdev("Malloc0".into()),
            timeout: Some(StoreConfig::TIMEOUT),
        }],
        target: TargetConfig {
            listeners: vec![(IpAddr::V4(TARGET), 4420).into()],
            max_io_bytes: 128 << 10,
            in_capsule_bytes: 8192,
            queue_depth: 128,
            tls_limits: tls::Limits::default(),
            tls_key_update: false,
            authentication: engine::Policy::default(),
            keys: Vec::new(),
            subsystems: vec![SubsystemConfig {
                nqn: NQN.into(),
                serial: "TL0001".into(),
                model: "Throughline".into(),
                hosts: None,
                ana: None,
                controller_ids: engine::CNTLIDS,
                peer_listeners: Vec::new(),
                namespaces: vec![NamespaceConfig {
                    nsid: 1,
                    store: "malloc0".into(),
                    uuid: None,
                    nguid: None,
                    write: WritePolicy::Through,
                    block_size: None,
                    backup_of: None,
                }],
            }],
        },
        copy: false,
        pci_allow: Vec::new(),
        spans: Vec::new(),
        native_memory_mib: 512,
    }
}

/// As [`config`], with the namespace behind the page cache, on a file of
/// `block_size` blocks. Few clusters: pages are reclaimed all the time.
pub fn write_back(file: &Path, block_size: usize) -> Config {
    let mut config = config(block_size as u32);
    config.memory.clusters = 4096;
    config.memory.pages = 2048;
    config.memory.requests = 64;
    config.spdk_json = Some(format!(
        r#"{{"subsystems":[{{"subsystem":"bdev","config":[{{"method":"bdev_aio_create",
        "params":{{"name":"File0","filename":"{}","block_size":{block_size}}}}}]}}]}}"#,
        file.display()
    ));
    config.stores = vec![StoreConfig {
        name: "file0".into(),
        device: StoreDevice::Bdev("File0".into()),
        timeout: Some(StoreConfig::TIMEOUT),
    }];
    let namespace = &mut config.target.subsystems[0].namespaces[0];
    (namespace.store, namespace.write) = ("file0".into(), WritePolicy::Back);
    config
}

/// A host of the subsystem.
pub fn host() -> testkit::Config {
    testkit::Config {
        // A machine that is busy with other things does not end the test.
        keep_alive: Duration::from_secs(120),
        ..testkit::Config::new(NQN)
    }
}

/// A host with these digests.
pub fn host_with_digests(header_digest: bool, data_digest: bool) -> testkit::Config {
    let mut config = host();
    (config.format.header_digest, config.format.data_digest) = (header_digest, data_digest);
    config
}

/// An Admin Queue and an I/O queue of a host.
pub fn controller() -> (Queue, Queue) {
    Queue::controller(target(), host()).expect("a controller")
}

/// I/O queue `qid` of controller `cntlid`.
pub fn queue(qid: u16, cntlid: u16) -> Queue {
    Queue::connect(target(), host(), qid, cntlid).expect("an I/O queue")
}

/// `len` bytes that `number` names.
pub fn pattern(number: u64, len: usize) -> Vec<u8> {
    testkit::pattern::stream::bytes(number, 0, len)
}

/// Puts the process into a network namespace of its own with a veth pair:
/// `tl0` for the engine's port, `host0` with an address for the kernel.
///
/// Call it first: threads made before stay outside.
pub fn network() {
    network_of(1500);
}

/// As [`network`], with a wire for IP packets of `mtu` bytes.
pub fn network_of(mtu: u16) {
    network_with_offloads(mtu);
    for end in ["tl0", "host0"] {
        run(&format!(
            "ethtool -K {end} tx off rx off tso off gso off gro off"
        ));
    }
}

/// As [`network_of`], with the offloads that a veth comes with: frames are joined to larger ones.
pub fn network_with_offloads(mtu: u16) {
    namespace();
    run("ip link add tl0 type veth peer name host0");
    for command in [
        format!("ip link set tl0 mtu {mtu} up"),
        format!("ip link set host0 mtu {mtu} up"),
        format!("ip addr add {HOST} dev host0"),
    ] {
        run(&command);
    }
}

/// An empty network, where the engine's port makes its own interface: `net_tap0,iface=tl0`.
pub fn tap_network() {
    namespace();
}

/// Makes the kernel the host at the other end of that interface, once it is there.
pub fn join_tap() {
    run("ip link set tl0 up");
    run(&format!("ip addr add {HOST} dev tl0"));
}

/// Puts the process into an empty network namespace.
fn namespace() {
    let code = {
        // SAFETY: takes no pointers; the process is single-threaded where it matters.
        #[allow(unsafe_code)]
        unsafe {
            libc::unshare(libc::CLONE_NEWNET)
        }
    };
    assert_eq!(code, 0, "a network namespace needs root");
    run("ip link set lo up");
    run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
}

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("a command"))
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error} (run ci/setup)"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
}

/// Runs `client` against an engine of `config`, then stops it.
///
/// The engine polls on the calling thread; the client has one of its own.
pub fn with_engine(config: &Config, client: impl FnOnce(&Handle) + Send + 'static) {
    let handle = Handle::new();
    let theirs = handle.clone();
    let client = thread::spawn(move || {
        let stop = StopOnDrop(theirs);
        testkit::eventually("the engine's start", PATIENCE, || {
            stop.0.is_ready() || stop.0.is_stopping()
        });
        if !stop.0.is_ready() {
            return; // it could not start: its error is reported below
        }
        client(&stop.0);
    });
    let result = engine::run(config, &handle);
    handle.stop();
    let client = client.join();
    if let Err(error) = result {
        panic!("the engine did not run: {error}");
    }
    if let Err(panic) = client {
        std::panic::resume_unwind(panic);
    }
}

/// The counters, which must come.
pub fn snapshot(handle: &Handle) -> Snapshot {
    handle
        .snapshot(Detail::Connections, PATIENCE)
        .expect("the shards answer")
}

/// Connections of every shard.
pub fn connections(handle: &Handle) -> Vec<u64> {
    let shards = snapshot(handle).shards;
    shards.iter().map(|shard| shard.connections).collect()
}

/// I/O queues of controller `cntlid`, from `qid` on: `each` on every shard, by shard.
///
/// A connection belongs to the shard that the hash of its ports says, and the
/// kernel picks our port: it is luck where one lies. So as many are made as it
/// takes, and those that a shard has too many of are closed again.
///
/// Nobody else may connect meanwhile.
pub fn queues_on_all_shards(handle: &Handle, cntlid: u16, qid: u16, each: usize) -> Vec<Queue> {
    let mut before = connections(handle);
    let mut queues: Vec<Vec<Queue>> = before.iter().map(|_| Vec::new()).collect();
    let mut surplus = Vec::new();
    for qid in qid..qid + 64 {
        if queues.iter().all(|queues| queues.len() == each) {
            break;
        }
        let queue = queue(qid, cntlid);
        let now = connections(handle);
        let shard = now
            .iter()
            .zip(&before)
            .position(|(now, before)| now > before);
        let place = &mut queues[shard.expect("a connection more")];
        match place.len() < each {
            true => place.push(queue),
            false => surplus.push(queue),
        }
        before = now;
    }
    let by_shard: Vec<_> = queues.iter().map(Vec::len).collect();
    assert_eq!(by_shard, vec![each; by_shard.len()], "queues by shard");
    let left = before.iter().sum::<u64>() - surplus.len() as u64;
    drop(surplus);
    eventually("a queue too many is closed", || {
        connections(handle).iter().sum::<u64>() == left
    });
    queues.into_iter().flatten().collect()
}

/// Waits until `done` holds, or fails with `what`.
#[track_caller]
pub fn eventually(what: &str, done: impl FnMut() -> bool) {
    testkit::eventually(what, PATIENCE, done);
}

/// Stops the engine even when the client panics.
struct StopOnDrop(Handle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
