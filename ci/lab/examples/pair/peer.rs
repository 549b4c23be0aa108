//! What SPDK has for the same purpose: a raid1 of a bdev of its own and one of another `nvmf_tgt`, by NVMe/TCP. It takes the place
//! of the pair: the same namespaces, addresses, wires, cores and hosts.

use std::fs;
use std::path::{Path, PathBuf};

use lab::config::{NQN, WIRE};
use lab::pair::{NODES, Pair};
use lab::{MIB, Outcome, Process, Result, Test, Tool, ensure, json_rpc, wait};
use serde_json::{Value, json};

use crate::lane::Lane;

/// Which core a node polls: as the pair's.
const CORES: [&str; 2] = ["0x2", "0x1"];
const BLOCK: u64 = 512;
/// Two `nvmf_tgt`: the first one has the raid1 that hosts see.
pub struct Raid<'p> {
    pair: &'p Pair,
    nodes: [(Process, PathBuf); 2],
}

impl<'p> Raid<'p> {
    /// Starts both. The pair's own programs have ended.
    pub fn start(test: &Test, pair: &'p Pair, program: &Path) -> Result<Self> {
        for (node, address) in pair.nodes.iter().zip(NODES) {
            node.kernel_minds(WIRE)?;
            node.run(&format!("ip address add {address}/24 dev {WIRE}"))?;
        }
        let start = |node: usize| -> Result<(Process, PathBuf)> {
            let config = test.dir().join(format!("peer{node}.json"));
            let socket = test.dir().join(format!("peer{node}.sock"));
            fs::write(&config, configuration(pair, node).to_string())?;
            let mut tool = pair.nodes[node].alone(Tool::new(test, program));
            if locks_cores(program)? {
                tool = tool.arg("--disable-cpumask-locks");
            }
            let tool = tool
                .args(["-u", "-s", "640", "-m", CORES[node], "-r"])
                .arg(&socket)
                .arg("-c");
            Ok((tool.arg(config).within(600).start()?, socket))
        };
        // The first one connects to the other one when it starts.
        let destination = start(1)?;
        is_there(pair, 1)?;
        let source = start(0)?;
        is_there(pair, 0)?;
        Ok(Self {
            pair,
            nodes: [source, destination],
        })
    }

    /// Cycles in which a node was busy, as it counts them.
    pub fn busy(&self) -> Result<[u64; 2]> {
        let busy = |node: usize| -> Result<u64> {
            let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "thread_get_stats" });
            let told = json_rpc(&self.nodes[node].1, &request.to_string())?;
            let threads = told["result"]["threads"].as_array();
            ensure!(threads.is_some(), "no threads: {told}");
            let busy = threads.into_iter().flatten();
            Ok(busy.filter_map(|thread| thread["busy"].as_u64()).sum())
        };
        Ok([busy(0)?, busy(1)?])
    }

    /// Ends both, and leaves the wires as the pair wants them.
    pub fn stop(self) -> Outcome {
        // The one that is connected to the other first.
        for (mut process, _) in self.nodes {
            process.signal("TERM")?;
            process.ends()?;
        }
        for (node, address) in self.pair.nodes.iter().zip(NODES) {
            node.run(&format!("ip address del {address}/24 dev {WIRE}"))?;
        }
        Ok(())
    }
}

/// Waits until hosts are served by it.
fn is_there(pair: &Pair, node: usize) -> Outcome {
    wait::until("the peer takes connections", || {
        let connected = pair
            .host
            .within(|| Ok(Lane::<u64>::connect(NODES[node], NQN, 1).map(drop)))?;
        Ok(connected.map_err(|error| error.to_string()))
    })
}

/// A current one lets nobody else poll its cores, and both would have the first one.
fn locks_cores(program: &Path) -> Result<bool> {
    let help = std::process::Command::new(program).arg("--help").output()?;
    Ok(String::from_utf8_lossy(&help.stdout).contains("--disable-cpumask-locks"))
}

fn configuration(pair: &Pair, node: usize) -> Value {
    let address = |node: usize| json!({ "trtype": "TCP", "adrfam": "IPv4", "traddr": NODES[node], "trsvcid": "4420" });
    let method = |method: &str, params: Value| json!({ "method": method, "params": params });
    let blocks = u64::from(pair.volume_mib) * MIB / BLOCK;
    let mut bdevs = vec![method(
        "bdev_malloc_create",
        json!({ "name": "Here", "num_blocks": blocks, "block_size": BLOCK }),
    )];
    if node == 0 {
        let mut there = address(1);
        there["name"] = "There".into();
        there["subnqn"] = NQN.into();
        bdevs.push(method("bdev_nvme_attach_controller", there));
        bdevs.push(method(
            "bdev_raid_create",
            json!({ "name": "Both", "raid_level": "raid1", "base_bdevs": ["Here", "Theren1"] }),
        ));
    }
    let bdev = ["Both", "Here"][node];
    let namespace = json!({ "bdev_name": bdev });
    let nvmf = [
        method("nvmf_create_transport", json!({ "trtype": "TCP" })),
        method(
            "nvmf_create_subsystem",
            json!({ "nqn": NQN, "serial_number": "LAB0001", "allow_any_host": true }),
        ),
        method(
            "nvmf_subsystem_add_ns",
            json!({ "nqn": NQN, "namespace": namespace }),
        ),
        method(
            "nvmf_subsystem_add_listener",
            json!({ "nqn": NQN, "listen_address": address(node) }),
        ),
    ];
    // Zero-copy send holds answers back until the host's delayed acknowledgement, over a veth.
    let sock = method(
        "sock_impl_set_options",
        json!({ "impl_name": "posix", "enable_zerocopy_send_server": false }),
    );
    json!({ "subsystems": [
        { "subsystem": "sock", "config": [sock] },
        { "subsystem": "bdev", "config": bdevs },
        { "subsystem": "nvmf", "config": nvmf },
    ] })
}
