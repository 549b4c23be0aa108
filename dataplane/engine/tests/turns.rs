//! Row Z12 with everybody at work: queues that are each deeper than the shard has
//! requests, full of writes whose data comes behind their other commands.
#![allow(missing_docs)]

mod support;

use std::collections::VecDeque;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use support::host::{CAPSULE_CMD, CAPSULE_RESP, Options, Queue, R2T, pattern};
use support::{NQN, network, snapshot, target, with_engine};

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

/// Sends all commands of a queue, as many at once as it has room for.
fn flood(queue: &mut Queue, qid: u16) -> io::Result<()> {
    let (mut next, mut out) = (0, 0);
    let mut asked = VecDeque::new();
    while next < COMMANDS || out > 0 {
        if next < COMMANDS && out < ENTRIES - 1 {
            let (lba, data) = write(qid, next);
            let mut command = [0; 64];
            (command[0], command[1], command[4]) = (0x01, 0x40, 1);
            command[2..4].copy_from_slice(&next.to_le_bytes());
            command[32..36].copy_from_slice(&(data.len() as u32).to_le_bytes());
            command[40..48].copy_from_slice(&lba.to_le_bytes());
            command[48] = (data.len() / BLOCK - 1) as u8;
            let in_capsule = data.len() == BLOCK;
            command[39] = if in_capsule { 0x01 } else { 0x5a };
            let data = if in_capsule { &data[..] } else { &[] };
            queue.send_pdu(CAPSULE_CMD, 0, &command, data)?;
            (next, out) = (next + 1, out + 1);
            continue;
        }
        // What the controller asks for comes behind all that.
        let pdu = queue.receive()?;
        match pdu.kind {
            R2T => asked.push_back(pdu.header),
            CAPSULE_RESP => {
                let status = u16::from_le_bytes([pdu.header[22], pdu.header[23]]) >> 1;
                assert_eq!(status, 0, "a write");
                out -= 1;
            }
            other => return Err(io::Error::other(format!("PDU type {other:#x}"))),
        }
        while let Some(header) = asked.pop_front() {
            let cid = u16::from_le_bytes([header[8], header[9]]);
            let at = |i: usize| u32::from_le_bytes(header[i..i + 4].try_into().unwrap()) as usize;
            let (offset, len) = (at(12), at(16));
            let part = &write(qid, cid).1[offset..offset + len];
            queue.send_data(
                [header[8], header[9]],
                [header[10], header[11]],
                offset,
                part,
            )?;
        }
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
        let options = Options {
            entries: ENTRIES,
            ..Options::default()
        };
        let (_admin, first) = Queue::controller(target(), options, NQN).unwrap();
        let cntlid = first.cntlid;
        let mut queues = vec![first];
        for qid in 2..=QUEUES {
            queues.push(Queue::connect(target(), options, NQN, qid, cntlid).unwrap());
        }
        let begun = Instant::now();
        let work = |(mut queue, qid): (Queue, u16)| {
            thread::spawn(move || {
                queue.set_patience(Duration::from_secs(30));
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
