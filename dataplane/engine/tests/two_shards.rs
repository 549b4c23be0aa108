//! Two shards behind one page cache each: every page has one owner, and
//! requests cross to it by reference.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use engine::{Config, Handle};
use support::{
    connections, controller, eventually, network, pattern, queue, queues_on_all_shards, snapshot,
    with_engine,
};
use testkit::blocking::Queue;
use testkit::{Command, Payload, Pdu, Random};

const BLOCK: usize = 512;
const BYTES: usize = 16 << 20;
/// Ranges of this size have one owner.
const RANGE: usize = 1 << 20;
const QUEUES: u16 = 8;
const ROUNDS: u64 = 1500;

fn config(path: &std::path::Path) -> Config {
    let mut config = support::write_back(path, BLOCK);
    config.cores = vec![0, 1];
    config.ports[0].device += ",qpairs=2";
    config
}

/// A counter of every shard's cache.
fn counter(handle: &Handle, name: &str) -> Vec<u64> {
    let shards = snapshot(handle).shards;
    let of = |shard: &engine::ShardSnapshot| {
        let mut layers = shard.counters.iter();
        let cache = layers.find(|layer| layer.name == "cache").expect("a cache");
        let mut counters = cache.counters.iter();
        counters.find(|c| c.name == name).expect("a counter").value
    };
    shards.iter().map(of).collect()
}

/// Some block-aligned range, half of the time over a border between owners.
fn some_range(random: &mut Random) -> std::ops::Range<usize> {
    let blocks = match random.below(4) {
        0 => 1 + random.below(256),
        _ => 1 + random.below(16),
    };
    let len = blocks * BLOCK;
    let start = match random.below(2) {
        0 => {
            let border = RANGE * (1 + random.below(BYTES / RANGE - 1));
            border - BLOCK * random.below(blocks + 1)
        }
        _ => BLOCK * random.below((BYTES - len) / BLOCK),
    };
    start..(start + len).min(BYTES)
}

/// One request at a time, by any queue of either shard: each sees what the
/// others did, a flush makes all of it durable on every shard.
fn one_after_the_other(queues: &mut [Queue], path: &PathBuf, model: &mut [u8]) {
    let mut random = Random::new(0);
    for round in 0..ROUNDS {
        let bytes = some_range(&mut random);
        let (lba, len) = ((bytes.start / BLOCK) as u64, bytes.len());
        let queue = &mut queues[random.below(usize::from(QUEUES))];
        match random.below(20) {
            0..9 => {
                let data = pattern(round, len);
                let in_capsule = len <= 8192 && random.below(2) == 0;
                let status = match random.below(8) {
                    0 => queue.write_fua(lba, BLOCK, &data, in_capsule).unwrap(),
                    _ => queue.write(lba, BLOCK, &data, in_capsule).unwrap(),
                };
                assert_eq!(status, 0, "round {round}: write");
                model[bytes].copy_from_slice(&data);
            }
            9..18 => {
                let (status, data) = queue.read(lba, BLOCK, len).unwrap();
                assert_eq!(status, 0, "round {round}: read");
                assert!(
                    data == model[bytes],
                    "round {round}: read of {len} at {lba}"
                );
            }
            18 => {
                // Over several owners.
                let blocks =
                    (1 + random.below(6 * RANGE / BLOCK)).min(BYTES / BLOCK - lba as usize);
                assert_eq!(queue.write_zeroes(lba, blocks).unwrap(), 0, "round {round}");
                model[bytes.start..bytes.start + blocks * BLOCK].fill(0);
            }
            _ => {
                assert_eq!(queue.flush().unwrap(), 0, "round {round}: flush");
                if random.below(8) == 0 {
                    assert!(fs::read(path).unwrap() == model, "round {round}: a flush");
                }
            }
        }
    }
    assert_eq!(queues[0].flush().unwrap(), 0);
    assert!(fs::read(path).unwrap() == model, "the last flush");
}

/// Every queue at once, each on blocks of its own all over the volume.
fn all_at_once(queues: Vec<Queue>, model: &Arc<Mutex<Vec<u8>>>) {
    let workers: Vec<_> = (queues.into_iter().enumerate())
        .map(|(me, mut queue)| {
            let model = Arc::clone(model);
            thread::spawn(move || {
                let mut random = Random::new(me as u64 + 1);
                for round in 0..ROUNDS / 8 {
                    let slot = random.below(BYTES / BLOCK / usize::from(QUEUES));
                    let block = slot * usize::from(QUEUES) + me;
                    let bytes = block * BLOCK..(block + 1) * BLOCK;
                    if random.below(2) == 0 {
                        let data = pattern(round << 8 | me as u64, BLOCK);
                        let in_capsule = random.below(2) == 0;
                        let status = queue.write(block as u64, BLOCK, &data, in_capsule);
                        assert_eq!(status.unwrap(), 0, "queue {me}, round {round}: write");
                        model.lock().unwrap()[bytes].copy_from_slice(&data);
                    } else {
                        let (status, data) = queue.read(block as u64, BLOCK, BLOCK).unwrap();
                        assert_eq!(status, 0, "queue {me}, round {round}: read");
                        let expected = model.lock().unwrap()[bytes].to_vec();
                        assert!(data == expected, "queue {me}, round {round}: block {block}");
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("a client");
    }
}

/// Clients that go away in the middle of everything: large reads that nobody
/// takes, and writes of which half came.
fn gone_in_the_middle(cntlid: u16) {
    for round in 0..QUEUES {
        let mut queue = queue(100 + round, cntlid);
        for i in 0..16u64 {
            let lba = (i * 97 * 128) % (BYTES as u64 / 512 - 256);
            // No write of theirs ever has all its data.
            queue.host.command(match i % 2 {
                0 => Command::read(1, lba, 256, 128 << 10),
                _ => Command::write(1, lba, 256, Payload::Withheld(128 << 10)),
            });
        }
        // Some data of the first write that is asked for, and no more.
        loop {
            if let Pdu::R2t { cid, ttag, .. } = queue.receive().unwrap() {
                let data = vec![0xee; 128 << 10];
                let pdu = queue.h2c_data(cid, ttag, 0, &data, true);
                queue.send(&pdu[..50_000]).unwrap();
                break;
            }
        }
    }
}

#[test]
fn z11_z12_pages_of_two_shards_are_one_volume() {
    let path = std::env::temp_dir().join(format!("throughline-two-shards-{}", std::process::id()));
    fs::write(&path, vec![0; BYTES]).unwrap();
    network();
    let config = config(&path);
    let file = path.clone();
    let (tell, told) = std::sync::mpsc::channel();
    with_engine(&config, move |handle| {
        let (admin, _first) = controller();
        let each = usize::from(QUEUES) / 2;
        let mut queues = queues_on_all_shards(handle, admin.cntlid(), 2, each);
        // Neighbours are of different shards.
        let others = queues.split_off(each);
        let pairs = queues.into_iter().zip(others);
        let mut queues: Vec<Queue> = pairs.flat_map(|(one, other)| [one, other]).collect();

        let mut model = vec![0; BYTES];
        one_after_the_other(&mut queues, &file, &mut model);
        for name in ["parts_asked", "parts_served", "hits", "written"] {
            let counts = counter(handle, name);
            assert!(counts.iter().all(|&n| n > 0), "{name} by shard: {counts:?}");
        }

        gone_in_the_middle(admin.cntlid());
        // And the controller's Admin Queue and first I/O queue.
        let expected = u64::from(QUEUES) + 2;
        eventually("the dead are buried", || {
            connections(handle).iter().sum::<u64>() == expected
        });

        let model = Arc::new(Mutex::new(model));
        all_at_once(queues, &model);
        // Nothing is flushed here: stopping does it.
        let model = model.lock().unwrap().clone();
        tell.send(model).unwrap();
        drop(admin);
    });
    // `with_engine` fails if a page that was lent did not come home.
    let model = told.recv().unwrap();
    let device = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let differs =
        (0..BYTES / BLOCK).find(|i| device[i * BLOCK..][..BLOCK] != model[i * BLOCK..][..BLOCK]);
    assert_eq!(differs, None, "block on the device after a clean stop");
}
