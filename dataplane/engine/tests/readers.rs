//! Row Z12 from outside: clients that ask for much and read nothing, and one that wants to work.
#![allow(missing_docs)]

mod support;

use std::io;

use support::{NAMESPACE_BYTES, controller, eventually, network, pattern, queue, snapshot};
use testkit::Command;
use testkit::blocking::Queue;

/// Controllers, and I/O queues of each, that read nothing.
const CONTROLLERS: usize = 2;
const QUEUES: u16 = 64;
/// Reads that each queue asks for, and bytes of one.
const READS: usize = 16;
const READ: usize = 128 << 10;
const BLOCK: usize = 512;
/// Pages of the shard: one read of each queue is more than that.
const PAGES: u32 = 2048;
/// Rounds of the client that works.
const ROUNDS: u64 = 50;

/// As many reads as are to pin pages; nobody looks for what they bring.
fn ask_for_much(queue: &mut Queue) -> io::Result<()> {
    for _ in 0..READS {
        let blocks = (READ / BLOCK) as u32;
        queue.host.command(Command::read(1, 0, blocks, READ));
    }
    queue.flush_out()
}

#[test]
fn z12_hosts_that_never_read_do_not_stop_another() {
    network();
    let mut config = support::config(BLOCK as u32);
    config.memory.pages = PAGES;
    support::with_engine(&config, |handle| {
        let free = |name: &str| {
            let shard = &snapshot(handle).shards[0];
            let mut pools = shard.pools.iter();
            pools.find(|pool| pool.name == name).expect("a pool").free
        };
        let timeouts = || {
            let shard = &snapshot(handle).shards[0];
            let mut layers = shard.counters.iter();
            let nvmf = layers.find(|layer| layer.name == "nvmf").expect("a layer");
            let mut counters = nvmf.counters.iter();
            let timeouts = counters.find(|counter| counter.name == "timeouts");
            timeouts.expect("a counter").value
        };
        let (mut admin, mut good) = controller();
        let pages = free("pages");
        let mut admins = Vec::new();
        let mut readers = Vec::new();
        for _ in 0..CONTROLLERS {
            let (other, first) = controller();
            readers.push(first);
            for qid in 2..=QUEUES {
                readers.push(queue(qid, other.cntlid()));
            }
            admins.push(other);
        }
        for reader in &mut readers {
            ask_for_much(reader).expect("commands are taken");
        }
        // The clients' own memory, which the kernel gives, is what they have asked for and got.
        for round in 0..ROUNDS {
            let lba = 1024 + round * 977 % (NAMESPACE_BYTES / BLOCK as u64 - 2048);
            let data = pattern(round, READ);
            assert_eq!(good.write(lba, BLOCK, &data, false).unwrap(), 0, "a write");
            let (status, back) = good.read(lba, BLOCK, READ).unwrap();
            assert_eq!(status, 0, "a read");
            assert!(back == data);
            assert_eq!(admin.identify(1, 0).unwrap().0, 0, "Identify");
        }
        // Those that read nothing are given up, and what they pinned is free again.
        eventually("those that read nothing are closed", || {
            timeouts() >= readers.len() as u64
        });
        eventually("every page is back", || free("pages") == pages);
        let (status, _) = good.read(0, BLOCK, READ).unwrap();
        assert_eq!(status, 0, "a read");
    });
}
