//! Row Z12 with everybody at work: queues that are each deeper than the shard has
//! requests, full of writes whose data comes behind their other commands.
#![allow(missing_docs)]

mod support;

use std::io;
use std::thread;
use std::time::Instant;

use support::{host, network, pattern, snapshot, target, with_engine};
use testkit::blocking::Queue;
use testkit::{Command, Config, Payload};

const QUEUES: u16 = 4;
const ENTRIES: u16 = 256;
/// Commands of each queue.
const COMMANDS: u16 = 1000;
const BLOCK: usize = 4096;
/// Blocks that each command has for itself.
const BLOCKS: usize = 4;

/// Where command `cid` of a queue writes, and what: every fourth a block in its capsule.
fn write(qid: u16, cid: u16) -> (u64, Vec<u8>) {
    let place = usize::from((qid - 1) * COMMANDS + cid);
    let blocks = if cid % 4 == 3 { 1 } else { BLOCKS };
    (
        (place * BLOCKS) as u64,
        pattern(place as u64, blocks * BLOCK),
    )
}

/// Sends all commands of a queue, as many at once as it has room for. What the controller
/// asks for comes behind all that.
fn flood(queue: &mut Queue, qid: u16) -> io::Result<()> {
    for cid in 0..COMMANDS {
        let (lba, data) = write(qid, cid);
        let blocks = (data.len() / BLOCK) as u32;
        let payload = match data.len() {
            BLOCK => Payload::Capsule(data),
            _ => Payload::Asked(data),
        };
        let command = Command::write(1, lba, blocks, payload);
        queue.host.command(command);
    }
    for _ in 0..COMMANDS {
        let done = queue.until(testkit::Host::next_completion)?;
        assert_eq!(done.status, 0, "a write");
    }
    Ok(())
}

#[test]
fn z12_queues_deeper_than_the_shard_s_requests_get_everything_done() {
    network();
    let mut config = support::config(BLOCK as u32);
    config.memory.requests = 16;
    config.memory.connections = 16;
    config.target.queue_depth = ENTRIES;
    with_engine(&config, |handle| {
        let config = Config {
            entries: ENTRIES,
            ..host()
        };
        let (_admin, first) = Queue::controller(target(), config.clone()).unwrap();
        let cntlid = first.cntlid();
        let mut queues = vec![first];
        for qid in 2..=QUEUES {
            queues.push(Queue::connect(target(), config.clone(), qid, cntlid).unwrap());
        }
        let begun = Instant::now();
        let work = |(mut queue, qid): (Queue, u16)| {
            thread::spawn(move || {
                flood(&mut queue, qid).unwrap_or_else(|error| panic!("queue {qid}: {error}"));
                for cid in 0..COMMANDS {
                    let (lba, data) = write(qid, cid);
                    let (status, read) = queue.read(lba, BLOCK, data.len()).unwrap();
                    assert!(status == 0 && read == data, "queue {qid}, command {cid}");
                }
            })
        };
        let workers: Vec<_> = queues.into_iter().zip(1..).map(work).collect();
        for worker in workers {
            worker.join().expect("a queue");
        }
        let shard = &snapshot(handle).shards[0];
        let mut layers = shard.counters.iter();
        let nvmf = layers.find(|layer| layer.name == "nvmf").expect("a target");
        let counter = |name: &str| {
            let mut counters = nvmf.counters.iter();
            counters.find(|c| c.name == name).expect("a counter").value
        };
        println!("{:?}", begun.elapsed());
        assert_eq!((counter("interrupted"), counter("errors")), (0, 0));
    });
}
