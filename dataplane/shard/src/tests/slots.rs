//! Row Z12: a full table of connections costs no host its place.

use testkit::Command;
use testkit::pdu::ic_req;

use super::*;
use crate::snapshot::ConnectionSnapshot;

/// Connections of a shard that `shard` makes.
const SLOTS: usize = 16;

/// A session that says nothing.
fn silent(to: SocketAddr) -> Session {
    Session::Echo(Echo::new(to))
}

/// A session of a host that connects to an Admin Queue, and says nothing else.
fn host(to: SocketAddr, memory: &Heap) -> Session {
    let config = testkit::Config::new(NQN);
    let data =
        testkit::command::connect_data(&config.host_id, 0xffff, &config.subsystem, &config.host);
    let mut bytes = ic_req(&config.format, 0).to_vec();
    let connect = Command::connect(0, 31, false, 0, data);
    bytes.extend(testkit::Host::new(config).capsule(connect).1);
    let mut page = memory.buffers.pages.alloc().unwrap();
    page[..bytes.len()].copy_from_slice(&bytes);
    let mut echo = Echo::new(to);
    echo.be_mute();
    echo.say(Chunk::Slice(page.freeze().slice(0..bytes.len())));
    Session::Echo(echo)
}

fn list(shard: &Shard<World>) -> Vec<ConnectionSnapshot> {
    let mut list = Vec::new();
    shard.links[0].list(0..SLOTS, &mut list);
    list
}

fn controllers(shard: &Shard<World>) -> usize {
    let has = |c: &ConnectionSnapshot| c.cntlid.is_some();
    list(shard).into_iter().filter(has).count()
}

#[test]
fn z12_silent_connections_cannot_rob_hosts_with_controllers() {
    let (a, b) = (Frames::default(), Frames::default());
    let blocks = Rc::new(Cell::new(1000));
    let (mut caller, ..) = shard_with(0, 1, (Rc::clone(&a), Rc::clone(&b)), &blocks, 64);
    let (mut called, ..) = shard(0, 2, (b, a), &blocks);
    let to = address("192.0.2.2:4420");
    called.listen(&[(to, DoorKind::Nvme).into()]).unwrap();
    let turns = |caller: &mut Shard<World>, called: &mut Shard<World>| {
        for _ in 0..200 {
            turn(&mut [caller, called]);
        }
    };
    let first = host(to, caller.memory());
    caller.connect(0, to, first).unwrap();
    turns(&mut caller, &mut called);
    assert_eq!(controllers(&called), 1);
    assert_eq!(called.links[0].turned_away(), None);
    // More than there is room for; the host that comes last gets in all the same.
    for _ in 0..2 * SLOTS {
        caller.connect(0, to, silent(to)).unwrap();
        turns(&mut caller, &mut called);
    }
    assert_eq!((list(&called).len(), controllers(&called)), (SLOTS, 1));
    let last = host(to, caller.memory());
    caller.connect(0, to, last).unwrap();
    turns(&mut caller, &mut called);
    assert_eq!((list(&called).len(), controllers(&called)), (SLOTS, 2));
    assert_eq!(called.links[0].connections(), SLOTS as u64);
    assert!(called.links[0].turned_away().is_some(), "for the log");
    // Those that say nothing are given up, and leave their slots at once.
    NOW.set(NOW.get() + 11_000_000_000);
    turns(&mut caller, &mut called);
    assert_eq!((list(&called).len(), controllers(&called)), (2, 2));
    assert_eq!(called.links[0].slots_taken(), 2);
}
