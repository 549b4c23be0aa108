//! Shards on a wire between them, without a world: connections that a shard opens, and
//! changes while it runs.

mod ana;
mod changes;
mod ends;
mod slots;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use block::{
    Buffers, Command, Completed, Device, DeviceState, Flags, Geometry, Io, NamespaceIndex,
    NotStarted, OpEnds, OpIndex, OpTable, Request, RequestId, VolumeId, WritePolicy,
};
use events::{StageClock, Ticks};
use net::{MacAddress, PortFull, RxFrame, Stack, StackConfig, Transmit, TxFrame};
use nvmf::Target;
use pages::{Arena, Chunk, ClusterPool, CopyLedger, HeapRegion, Inline, PAGE_SIZE, RunPool};
use volume::{Origin, Volumes};

use crate::door::{Session, tests::Echo};
use crate::{
    CNTLIDS, Change, ChangeError, Common, DoorKind, Doors, Handle, Link, Machine, Memory,
    MemoryConfig, MirrorDoor, NamespaceConfig, NvmeDoor, Offer, Port, PortCounters, PortState,
    Shard, Sizing, StoreInfo, SubsystemConfig, TlsDoor,
};

const NQN: &str = "nqn.2026-01.com.example:changes";
const SIZES: MemoryConfig = MemoryConfig {
    clusters: 512,
    cluster_size: 2048,
    pages: 256,
    requests: 16,
    connections: 16,
};

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1) };
    /// Requests that a poll of the machine ends; none: all end where they are submitted.
    static ENDS_A_POLL: Cell<usize> = const { Cell::new(0) };
    /// Polls of the machine that end nothing, though it says that it had work.
    static OTHER_WORK: Cell<usize> = const { Cell::new(0) };
    static HELD: RefCell<VecDeque<(OpEnds, Completed)>> = const { RefCell::new(VecDeque::new()) };
}

#[derive(Clone, Copy)]
struct Clock;

impl Ticks for Clock {
    fn now(&self) -> u64 {
        NOW.get()
    }
    fn hz(&self) -> u64 {
        1_000_000_000
    }
}

/// Pools on the heap.
struct Heap {
    buffers: Buffers,
    free: RefCell<Vec<u32>>,
}

impl Heap {
    fn new() -> Self {
        let (clusters, pages) = (SIZES.clusters as usize, SIZES.pages as usize);
        let arena = Arena::new(HeapRegion::new(2 + pages + clusters / 2));
        let zero_page = arena.zero_page().unwrap();
        let buffers = Buffers {
            pages: ClusterPool::carve(&arena, pages, PAGE_SIZE).unwrap(),
            clusters: ClusterPool::carve(&arena, clusters, 2048).unwrap(),
            runs: RunPool::new(SIZES.runs() as usize, 1 << 17),
            runs_len: SIZES.runs() as usize,
            ledger: Rc::new(CopyLedger::new()),
            zero_page,
        };
        let mut heap = Self {
            buffers,
            free: RefCell::default(),
        };
        heap.replenish();
        heap
    }
}

impl Memory for Heap {
    fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    fn replenish(&mut self) {
        let mut indexes = [0; 64];
        loop {
            let n = self.buffers.clusters.post(&mut indexes);
            self.free.get_mut().extend(&indexes[..n]);
            if n == 0 {
                return;
            }
        }
    }
}

type Frames = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// One end of a wire.
struct End {
    from: Frames,
    to: Frames,
    /// It is in another device now.
    replaced: Option<MacAddress>,
    counters: PortCounters,
}

impl Transmit for End {
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull> {
        let mut bytes = frame.headers.to_vec();
        for piece in frame.payload.pieces() {
            bytes.extend_from_slice(piece.bytes());
        }
        self.to.borrow_mut().push_back(bytes);
        Ok(())
    }
}

impl Port for End {
    type Memory = Heap;

    fn poll(&mut self, _: &Heap) -> usize {
        self.from.borrow().len()
    }

    fn heads(&self, _: usize) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }

    fn frame(&mut self, _: usize, memory: &Heap, receive: impl FnOnce(RxFrame<'_>)) {
        let bytes = self.from.borrow_mut().pop_front().unwrap();
        let index = memory.free.borrow_mut().pop().expect("a free cluster");
        let mut fresh = memory.buffers.clusters.adopt_fresh(index);
        fresh[..bytes.len()].copy_from_slice(&bytes);
        let cluster = fresh.freeze_filled(bytes.len());
        receive(RxFrame::new(cluster.slice(0..bytes.len())));
    }

    fn flush(&mut self) {}

    fn stop(&mut self) {}

    fn replaced(&mut self) -> Option<MacAddress> {
        self.replaced.take()
    }

    fn counters(&self) -> &PortCounters {
        &self.counters
    }
}

/// A device of which only the size matters here; without one it is gone.
struct Disk(Rc<Cell<u64>>);

impl Device for Disk {
    type Slot = ();

    fn geometry(&self) -> Geometry {
        Geometry {
            block_size: 512,
            blocks: self.0.get(),
            metadata: 0,
            alignment: 1,
            prp: false,
            max_elements: 256,
            max_bytes: 1 << 20,
            write_cache: false,
            write_zeroes: true,
            unmap: true,
            deallocated_zeros: false,
        }
    }

    fn is_gone(&self) -> bool {
        self.0.get() == 0
    }

    fn timeout(&self) -> Option<Duration> {
        None
    }

    fn recover(&mut self) {}

    fn give_up(&mut self) {}

    fn poll(&mut self) -> bool {
        false
    }

    fn submit(
        &mut self,
        ops: &mut OpTable<()>,
        op: OpIndex,
        _: usize,
        _: Command,
    ) -> Result<(), NotStarted> {
        let request = ops.request(op);
        let result = Ok(());
        let end = Completed {
            op,
            request,
            result,
        };
        match ENDS_A_POLL.get() {
            0 => ops.ends().push(end),
            _ => HELD.with_borrow_mut(|held| held.push_back((ops.ends(), end))),
        }
        Ok(())
    }
}

struct World;

impl Machine for World {
    type Ticks = Clock;
    type Memory = Heap;
    type Port = End;
    type Device = Disk;

    fn enter(&self) {}

    fn poll(&mut self) -> bool {
        if let Some(less) = OTHER_WORK.get().checked_sub(1) {
            OTHER_WORK.set(less);
            return true;
        }
        HELD.with_borrow_mut(|held| {
            let most = ENDS_A_POLL.get().min(held.len());
            held.drain(..most).for_each(|(ends, end)| ends.push(end));
            most > 0
        })
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Shard `index` with a device at one end of a wire, and what it offers.
fn shard(
    index: usize,
    last: u8,
    wire: (Frames, Frames),
    blocks: &Rc<Cell<u64>>,
) -> (Shard<World>, Arc<Target>, Offer) {
    shard_with(index, last, wire, blocks, 16)
}

/// The same, with room for so many connections.
fn shard_with(
    index: usize,
    last: u8,
    wire: (Frames, Frames),
    blocks: &Rc<Cell<u64>>,
    connections_max: usize,
) -> (Shard<World>, Arc<Target>, Offer) {
    let memory = Heap::new();
    let own = format!("192.0.2.{last}/24");
    let stack = Stack::new(StackConfig {
        connections_max,
        receive_clusters: SIZES.clusters as usize,
        receive_headroom: 16,
        half_open_max: 8,
        duplicate_address_detection: false,
        ..StackConfig::new(
            MacAddress([2, 0, 0, 0, 0, last]),
            own.parse().unwrap(),
            [last; 32],
        )
    });
    let disk = Disk(Rc::clone(blocks));
    let stores = vec![StoreInfo::new("disk0".into(), disk.geometry())];
    let subsystem = SubsystemConfig {
        nqn: NQN.into(),
        serial: "1".into(),
        model: "test".into(),
        hosts: None,
        ana: None,
        controller_ids: CNTLIDS,
        peer_listeners: Vec::new(),
        namespaces: Vec::new(),
    };
    let offer = Offer::new(&[subsystem], stores).unwrap();
    let target = Target::new(nvmf::TargetConfig {
        subsystems: offer.subsystems.clone(),
        ..nvmf::TargetConfig::default()
    });
    let target = target.unwrap();
    let sizing = Sizing {
        memory: &SIZES,
        shards: 1,
        max_io_bytes: 1 << 17,
        cluster_payload: 1460,
        copy: false,
        seed: 1,
    };
    let policies = [WritePolicy::Through];
    let common = Common {
        volumes: Volumes::new(
            index,
            vec![disk],
            &policies,
            &[],
            &sizing.volumes(),
            target.fences(),
            || (),
        ),
        doors: Doors {
            nvme: NvmeDoor {
                commands: sizing.commands(),
                counters: nvmf::Counters::default(),
                target: Arc::clone(&target),
            },
            mirror: MirrorDoor::none(),
            tls: TlsDoor::default(),
        },
        memory,
    };
    let end = End {
        from: wire.0,
        to: wire.1,
        replaced: None,
        counters: PortCounters::default(),
    };
    let links = vec![Link::new(0, end, stack.unwrap())];
    let shard = Shard::new(index, 0, common, links, World, Clock, 0);
    (shard, target, offer)
}

/// Two shards at the ends of a wire, and the target of the second, which is to be called.
fn joined() -> (Shard<World>, Shard<World>, Arc<Target>) {
    let (a, b) = (Frames::default(), Frames::default());
    let blocks = Rc::new(Cell::new(1000));
    let (caller, ..) = shard(0, 1, (Rc::clone(&a), Rc::clone(&b)), &blocks);
    let (called, target, _) = shard(0, 2, (b, a), &blocks);
    (caller, called, target)
}

/// Where the second of them is.
const CALLED: &str = "192.0.2.2:4420";

fn turn(shards: &mut [&mut Shard<World>]) {
    NOW.set(NOW.get() + 50_000);
    for shard in shards {
        shard.poll();
    }
}

#[test]
fn connections_that_a_shard_opens_have_a_session_like_those_that_come_in() {
    let (mut caller, mut called, _) = joined();
    let to = address(CALLED);
    called.listen(&[(to, DoorKind::Echo).into()]).unwrap();
    let mut echo = Echo::new(to);
    let heard = echo.heard();
    echo.say(Chunk::Inline(Inline::new(b"hello").unwrap()));
    caller.connect(0, to, Session::Echo(echo)).unwrap();
    for _ in 0..1000 {
        turn(&mut [&mut caller, &mut called]);
        if heard.borrow().len() >= 5 {
            break;
        }
    }
    assert_eq!(&heard.borrow()[..5], b"hello");
    assert_eq!(
        (caller.links[0].connections(), called.links[0].connections()),
        (1, 1)
    );
    // Both ends are given back when the caller hangs up.
    caller.abort_connections();
    for _ in 0..1000 {
        turn(&mut [&mut caller, &mut called]);
    }
    assert!(caller.is_quiet() && called.is_quiet());
}

/// Found by simulation, seed 1754: hosts that connect again while a device is slow kept a
/// stop from its end, which then gave up without writing back.
#[test]
fn a_shard_that_stops_takes_no_connections() {
    let (mut caller, mut called, _) = joined();
    let to = address(CALLED);
    called.listen(&[(to, DoorKind::Echo).into()]).unwrap();
    caller.connect(0, to, Session::Echo(Echo::new(to))).unwrap();
    // One is on its way when the stop begins, another comes after it.
    turn(&mut [&mut caller, &mut called]);
    called.abort_connections();
    caller.connect(0, to, Session::Echo(Echo::new(to))).unwrap();
    for _ in 0..1000 {
        turn(&mut [&mut caller, &mut called]);
    }
    assert!(called.is_quiet() && caller.is_quiet());
}

#[test]
fn a_connection_that_nobody_takes_ends() {
    let (mut caller, mut called, _) = joined();
    let to = address(CALLED);
    caller.connect(0, to, Session::Echo(Echo::new(to))).unwrap();
    assert!(!caller.is_quiet());
    for _ in 0..1000 {
        turn(&mut [&mut caller, &mut called]);
    }
    assert!(caller.is_quiet(), "refused by a reset");
}

/// A host that is gone when its connection ends: what TCP still has for it is given up, long before
/// TCP itself would.
#[test]
fn z12_what_is_left_for_a_host_that_is_gone_is_forgotten() {
    let (mut caller, mut called, target) = joined();
    let to = address(CALLED);
    called.listen(&[(to, DoorKind::Nvme).into()]).unwrap();
    // ICReq (NVMe/TCP 3.6.2.2), and nothing more: no Connect comes in time.
    let mut host = Echo::new(to);
    let mut request = [0; 128];
    (request[2], request[4]) = (128, 128);
    for part in request.chunks(32) {
        host.say(Chunk::Inline(Inline::new(part).unwrap()));
    }
    caller.connect(0, to, Session::Echo(host)).unwrap();
    let queued = |called: &Shard<World>| {
        let mut list = Vec::new();
        called.links[0].list(0..16, &mut list);
        list.first().map_or(0, |connection| connection.tcp.queued)
    };
    for _ in 0..1000 {
        if queued(&called) > 0 {
            break;
        }
        turn(&mut [&mut caller, &mut called]);
    }
    assert!(queued(&called) > 0, "ICResp is under way");
    let (config, tick) = (target.config(), 10_000_000);
    let mut wait = |ms: u32| {
        for _ in 0..u64::from(ms) * 1_000_000 / tick {
            NOW.set(NOW.get() + tick);
            called.poll();
        }
        queued(&called)
    };
    assert!(config.handshake_ms + 1000 < config.data_ms);
    assert!(wait(config.data_ms - 1000) > 0);
    assert_eq!(wait(2000), 0);
}

/// Since when volumes wait for memory, and that it is memory: hosts that pin it are then
/// given less time.
#[test]
fn z12_volumes_know_since_when_reads_wait_for_memory() {
    let blocks = Rc::new(Cell::new(1000));
    let wire = (Frames::default(), Frames::default());
    let (mut shard, ..) = shard(0, 1, wire, &blocks);
    let Common {
        memory, volumes, ..
    } = &mut shard.common;
    let (buffers, namespace) = (memory.buffers(), NamespaceIndex(0));
    volumes.add_namespace(namespace, VolumeId(0), WritePolicy::Through);
    let mut stages = StageClock::new(Clock);
    let mut start = |volumes: &mut Volumes<Disk>, id| {
        let mut run = buffers.runs.take().unwrap();
        run.begin(0, 2 * PAGE_SIZE).unwrap();
        let (id, io) = (RequestId(id), Io::read(run, Flags::default()));
        let origin = Origin { link: 0, slot: 0 };
        let request = Request { id, namespace, io };
        volumes.start(origin, request, buffers, &mut stages);
    };
    let mut pinned: Vec<_> = std::iter::from_fn(|| buffers.pages.alloc()).collect();
    let ms = Duration::from_millis;
    volumes.poll(ms(100), buffers);
    assert_eq!(volumes.short_since(), None);
    start(volumes, 1);
    assert_eq!(volumes.short_since(), Some(ms(100)));
    volumes.poll(ms(101), buffers);
    start(volumes, 2);
    volumes.poll(ms(5000), buffers);
    assert_eq!(volumes.short_since(), Some(ms(100)));
    // The first has what it takes, and the next has waited for less.
    pinned.truncate(pinned.len() - 2);
    volumes.poll(ms(5001), buffers);
    assert_eq!(volumes.short_since(), Some(ms(101)));
    drop(pinned);
    volumes.poll(ms(5002), buffers);
    assert_eq!(volumes.short_since(), None);
    let stages = StageClock::new(Clock);
    while let Some(ended) = volumes.next_completion(buffers, &stages) {
        buffers.runs.put(ended.completion.run.unwrap());
    }
    assert_eq!(buffers.pages.held(), 0);
}

/// What the log says of it is told once, by the shard whose connection it was.
#[test]
fn k08_a_shard_says_why_it_dropped_a_host() {
    let (mut caller, mut called, _) = joined();
    let to = address(CALLED);
    called.listen(&[(to, DoorKind::Nvme).into()]).unwrap();
    // An ICReq has 128 bytes in its header, not none.
    let mut echo = Echo::new(to);
    for _ in 0..8 {
        echo.say(Chunk::Inline(Inline::new(&[0; 16]).unwrap()));
    }
    caller.connect(0, to, Session::Echo(echo)).unwrap();
    let mut line = None;
    for _ in 0..1000 {
        turn(&mut [&mut caller, &mut called]);
        let now = called.now();
        line = line.or_else(|| called.links[0].next_drop(now));
    }
    let line = line.expect("a line");
    for part in [
        "from 192.0.2.1:",
        "at 192.0.2.2:4420",
        "a field that cannot be",
    ] {
        assert!(line.contains(part), "{line}");
    }
    // A stop drops nobody.
    called.abort_connections();
    caller.abort_connections();
    turn(&mut [&mut caller, &mut called]);
    NOW.set(NOW.get() + 2_000_000_000);
    let now = called.now();
    assert_eq!(called.links[0].next_drop(now), None);
    assert_eq!(caller.links[0].next_drop(now), None);
}

/// Makes a change with the shard polling, as its threads would.
fn change(handle: &Handle, shard: &mut Shard<World>, change: Change) -> Result<(), ChangeError> {
    handle.begin_change(change)?;
    for _ in 0..1000 {
        if let Some(result) = handle.poll_change() {
            return result;
        }
        turn(&mut [shard]);
        shard.housekeep(handle);
    }
    panic!("the change does not end");
}
