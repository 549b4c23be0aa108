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
use support::host::{CAPSULE_CMD, H2C_DATA, Options, Queue, R2T, pattern};
use support::{NAMESPACE_BYTES, NQN, network, snapshot, target, with_engine};

/// Controllers, and I/O queues of each, that stall.
const CONTROLLERS: usize = 10;
const QUEUES: u16 = 100;
/// Queues of each kind that go on sending a byte at a time.
const DRIPPING: usize = 20;
const BLOCK: usize = 512;
/// How long the client that works does so.
const WORKING: Duration = Duration::from_secs(6);

fn rw(opcode: u8, nsid: u8, lba: u64, len: usize) -> [u8; 64] {
    let mut command = [0; 64];
    (command[0], command[1], command[4]) = (opcode, 0x40, nsid);
    command[32..36].copy_from_slice(&(len as u32).to_le_bytes());
    command[40..48].copy_from_slice(&lba.to_le_bytes());
    command[48..50].copy_from_slice(&((len / BLOCK - 1) as u16).to_le_bytes());
    command
}

/// Half of a write whose data come in the capsule.
fn half_a_capsule(queue: &mut Queue, nsid: u8, part: usize) -> io::Result<()> {
    let mut command = rw(0x01, nsid, 0, 8192);
    command[39] = 0x01;
    let capsule = queue.build(CAPSULE_CMD, 0, &command, &[0xee; 8192]);
    queue.send(&capsule[..part])
}

/// As many writes by R2T as a queue takes; half of the data of the first asked for.
fn half_an_answer(queue: &mut Queue, nsid: u8) -> io::Result<()> {
    for cid in 0..16u16 {
        let mut command = rw(0x01, nsid, 0, 64 << 10);
        command[2..4].copy_from_slice(&cid.to_le_bytes());
        command[39] = 0x5a;
        queue.send_pdu(CAPSULE_CMD, 0, &command, &[])?;
    }
    queue.set_patience(Duration::from_millis(20));
    let pdu = match queue.receive() {
        Ok(pdu) if pdu.kind == R2T => pdu,
        // Nobody asks, or the command is refused: what there is, others have.
        _ => return Ok(()),
    };
    let asked = &pdu.header[8..12];
    let header = [asked, &[0; 4], &(64u32 << 10).to_le_bytes(), &[0; 4]].concat();
    let data = queue.build(H2C_DATA, 0x04, &header, &[0xee; 64 << 10]);
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
fn work(queue: &mut Queue) -> Longest {
    let mut longest = Longest::default();
    queue.set_patience(Duration::from_secs(20));
    let end = Instant::now() + WORKING;
    while Instant::now() < end {
        longest.rounds += 1;
        let nsid = 1 + (longest.rounds % 2) as u8;
        let lba = 1024 + longest.rounds * 977 % (NAMESPACE_BYTES / 512 - 2048);
        let small = pattern(longest.rounds, 4096);
        let status = timed(&mut longest.small, || {
            queue.command(rw(0x01, nsid, lba, 4096), Some(&small), true, 0)
        });
        assert_eq!(status.unwrap().0, 0, "a write in a capsule");
        let large = pattern(longest.rounds, 128 << 10);
        let mut read = |len: usize| {
            let (status, _, data) = timed(&mut longest.read, || {
                queue.command(rw(0x02, nsid, lba, len), None, false, len)
            })
            .unwrap();
            assert_eq!(status, 0, "a read");
            data
        };
        assert!(read(4096) == small);
        let written = rw(0x01, nsid, lba, large.len());
        let status = timed(&mut longest.large, || {
            queue.command(written, Some(&large), false, 0)
        });
        assert_eq!(status.unwrap().0, 0, "a write by R2T");
        let (status, _, data) = timed(&mut longest.read, || {
            queue.command(rw(0x02, nsid, lba, large.len()), None, false, large.len())
        })
        .unwrap();
        assert!(status == 0 && data == large);
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
    });
    let namespaces = &mut config.target.subsystems[0].namespaces;
    let mut second = namespaces[0].clone();
    (second.nsid, second.store, second.write) = (2, "malloc1".into(), WritePolicy::Back);
    namespaces.push(second);
    with_engine(&config, |handle| {
        let mut admins = Vec::new();
        let mut stalled = Vec::new();
        for _ in 0..CONTROLLERS {
            let (admin, first) = Queue::controller(target(), Options::default(), NQN).unwrap();
            stalled.push(first);
            for qid in 2..=QUEUES {
                let options = Options::default();
                stalled.push(Queue::connect(target(), options, NQN, qid, admin.cntlid).unwrap());
            }
            admins.push(admin);
        }
        let begun = Instant::now();
        for (i, queue) in stalled.iter_mut().enumerate() {
            let nsid = 1 + (i / 3 % 2) as u8;
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
        let dripper = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for queue in &mut dripping {
                    // One that was given up is as good.
                    let _ = queue.send(&[0xee]);
                }
            }
        });
        // It comes when all of them are there already.
        let (_admin, mut queue) = Queue::controller(target(), Options::default(), NQN).unwrap();
        let longest = work(&mut queue);
        stop.store(true, Ordering::Relaxed);
        dripper.join().unwrap();
        let shard = &snapshot(handle).shards[0];
        println!(
            "{} connections stalled {:?} ago; {longest:?}; pools {:?}",
            stalled.len(),
            begun.elapsed(),
            shard.pools
        );
        assert!(longest.rounds > 20, "{longest:?}");
        assert!(longest.small < Duration::from_secs(2), "{longest:?}");
        assert!(longest.read < Duration::from_secs(3), "{longest:?}");
        // Until those who owe data are given up.
        assert!(longest.large < Duration::from_secs(6), "{longest:?}");
    });
}
