//! Row Z12 from outside: clients that stall in the middle of their writes, or
//! send a byte at a time, and one that wants to work.
#![allow(missing_docs)]

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engine::{StoreConfig, StoreDevice, WritePolicy};
use support::{NAMESPACE_BYTES, controller, network, pattern, queue, snapshot, with_engine};
use testkit::blocking::{PATIENCE, Queue};
use testkit::{Command, Payload, Pdu};

/// Controllers, and I/O queues of each, that stall.
const CONTROLLERS: usize = 10;
const QUEUES: u16 = 100;
/// Queues of each kind that go on sending a byte at a time.
const DRIPPING: usize = 20;
const BLOCK: usize = 512;
/// How long the client that works does so: longer than those who owe data are waited for.
const WORKING: Duration = Duration::from_secs(6);
/// Rounds that it makes at least.
const ROUNDS: u64 = 21;
/// How much longer than alone a request may take beside the others, before the time
/// that the target waits for them.
const SHARE: u32 = 20;

fn write(nsid: u32, lba: u64, payload: Payload) -> Command {
    let len = match &payload {
        Payload::Capsule(data) | Payload::Asked(data) => data.len(),
        Payload::Withheld(len) => *len,
        other => panic!("{other:?} is not written"),
    };
    Command::write(nsid, lba, (len / BLOCK) as u32, payload)
}

/// Half of a write whose data come in the capsule.
fn half_a_capsule(queue: &mut Queue, nsid: u32, part: usize) -> io::Result<()> {
    let command = write(nsid, 0, Payload::Capsule(vec![0xee; 8192]));
    let (_, capsule) = queue.host.capsule(command);
    queue.send(&capsule[..part])
}

/// As many writes by R2T as a queue takes; half of the data of the first asked for.
fn half_an_answer(queue: &mut Queue, nsid: u32) -> io::Result<()> {
    for _ in 0..16 {
        queue
            .host
            .command(write(nsid, 0, Payload::Withheld(64 << 10)));
    }
    queue.flush_out()?;
    queue.set_patience(Duration::from_millis(20));
    let asked = queue.receive();
    queue.set_patience(PATIENCE);
    let Ok(Pdu::R2t { cid, ttag, .. }) = asked else {
        // Nobody asks, or the command is refused: what there is, others have.
        return Ok(());
    };
    let data = queue.h2c_data(cid, ttag, 0, &[0xee; 64 << 10], true);
    queue.send(&data[..32 << 10])
}

/// The longest that any request of a kind took.
#[derive(Debug, Default)]
struct Longest {
    small: Duration,
    read: Duration,
    large: Duration,
    rounds: u64,
}

fn timed<T>(longest: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *longest = start.elapsed().max(*longest);
    result
}

/// Writes and reads for a while, a small one and a large one in turn, on both namespaces.
fn work(queue: &mut Queue, working: Duration) -> Longest {
    let mut longest = Longest::default();
    let end = Instant::now() + working;
    while longest.rounds < ROUNDS || Instant::now() < end {
        longest.rounds += 1;
        let nsid = 1 + (longest.rounds % 2) as u32;
        let lba = 1024 + longest.rounds * 977 % (NAMESPACE_BYTES / 512 - 2048);
        let small = pattern(longest.rounds, 4096);
        let done = timed(&mut longest.small, || {
            queue.command(write(nsid, lba, Payload::Capsule(small.clone())))
        });
        assert_eq!(done.unwrap().status, 0, "a write in a capsule");
        let mut read = |queue: &mut Queue, len: usize| {
            let command = Command::read(nsid, lba, (len / BLOCK) as u32, len);
            let done = timed(&mut longest.read, || queue.command(command)).unwrap();
            assert_eq!(done.status, 0, "a read");
            done.data
        };
        assert!(read(queue, 4096) == small);
        let large = pattern(longest.rounds, 128 << 10);
        let done = timed(&mut longest.large, || {
            queue.command(write(nsid, lba, Payload::Asked(large.clone())))
        });
        assert_eq!(done.unwrap().status, 0, "a write by R2T");
        assert!(read(queue, large.len()) == large);
    }
    longest
}

#[test]
fn z12_a_thousand_stalled_writers_do_not_stop_another_client() {
    network();
    let mut config = support::config(BLOCK as u32);
    config.memory.connections = 1200;
    // The second namespace is behind the page cache.
    let blocks = NAMESPACE_BYTES / BLOCK as u64;
    config.spdk_json = Some(format!(
        r#"{{"subsystems":[{{"subsystem":"bdev","config":[
        {{"method":"bdev_malloc_create","params":{{"name":"Malloc0","num_blocks":{blocks},"block_size":{BLOCK}}}}},
        {{"method":"bdev_malloc_create","params":{{"name":"Malloc1","num_blocks":{blocks},"block_size":{BLOCK}}}}}]}}]}}"#
    ));
    config.stores.push(StoreConfig {
        name: "malloc1".into(),
        device: StoreDevice::Bdev("Malloc1".into()),
        timeout: Some(StoreConfig::TIMEOUT),
    });
    let namespaces = &mut config.target.subsystems[0].namespaces;
    let mut second = namespaces[0].clone();
    (second.nsid, second.store, second.write) = (2, "malloc1".into(), WritePolicy::Back);
    namespaces.push(second);
    with_engine(&config, |handle| {
        // How long requests take on this machine, whatever else it does.
        let alone = {
            let (_admin, mut queue) = controller();
            work(&mut queue, Duration::ZERO)
        };
        let mut admins = Vec::new();
        let mut stalled = Vec::new();
        for _ in 0..CONTROLLERS {
            let (admin, first) = controller();
            stalled.push(first);
            for qid in 2..=QUEUES {
                stalled.push(queue(qid, admin.cntlid()));
            }
            admins.push(admin);
        }
        let begun = Instant::now();
        for (i, queue) in stalled.iter_mut().enumerate() {
            let nsid = 1 + (i / 3 % 2) as u32;
            match i % 3 {
                0 => half_a_capsule(queue, nsid, 4096).unwrap(),
                1 => half_an_answer(queue, nsid).unwrap(),
                // Its bytes come one by one: some now, and of a few more later.
                _ => half_a_capsule(queue, nsid, 100).unwrap(),
            }
        }
        println!("{} queues stall after {:?}", stalled.len(), begun.elapsed());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut dripping: Vec<Queue> = (0..DRIPPING).map(|i| stalled.remove(2 + 2 * i)).collect();
        // These hold what R2Ts were granted.
        dripping.extend((0..DRIPPING).map(|i| stalled.remove(1 + i)));
        for queue in &dripping {
            // The window of one may be closed, and the others have their turn.
            queue.set_patience(Duration::from_secs(1));
        }
        let dripper = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for queue in &mut dripping {
                    // One that was given up is as good.
                    let _ = queue.send(&[0xee]);
                }
            }
        });
        // It comes when all of them are there already.
        let (_admin, mut queue) = controller();
        let longest = work(&mut queue, WORKING);
        stop.store(true, Ordering::Relaxed);
        dripper.join().unwrap();
        let shard = &snapshot(handle).shards[0];
        println!(
            "{} connections stalled {:?} ago; {longest:?}; pools {:?}",
            stalled.len(),
            begun.elapsed(),
            shard.pools
        );
        let within = |longest: Duration, seconds, alone: Duration| {
            longest < Duration::from_secs(seconds) + SHARE * alone
        };
        let said = format!("{longest:?}, alone {alone:?}");
        assert!(longest.rounds >= ROUNDS, "{said}");
        assert!(within(longest.small, 2, alone.small), "{said}");
        assert!(within(longest.read, 3, alone.read), "{said}");
        // Until those who owe data are given up.
        assert!(within(longest.large, 6, alone.large), "{said}");
    });
}
