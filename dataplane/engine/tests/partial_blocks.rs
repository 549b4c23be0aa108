//! Row Z11 as hosts meet it: blocks of 512 bytes on a device that has blocks of 4096.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::sync::{Arc, Mutex};
use std::thread;

use engine::{Handle, WritePolicy};
use support::{controller, network, pattern, queue, snapshot, with_engine};
use testkit::Random;
use testkit::blocking::Queue;

const BLOCK: usize = 512;
const DEVICE_BLOCK: usize = 4096;
const BYTES: usize = 8 << 20;
const QUEUES: u16 = 8;
const ROUNDS: u64 = 1000;

/// Blocks of the device that were completed, on all shards.
fn completed(handle: &Handle) -> u64 {
    let shards = snapshot(handle).shards;
    let caches = (shards.iter().flat_map(|shard| &shard.counters)).filter(|l| l.name == "cache");
    let counters = caches.flat_map(|layer| &layer.counters);
    counters
        .filter(|c| c.name == "completed")
        .map(|c| c.value)
        .sum()
}

/// Each queue writes every eighth block of 512 bytes, all of them at once: no write
/// takes back what another did to the rest of a block of the device.
fn side_by_side(queues: Vec<Queue>, model: &Arc<Mutex<Vec<u8>>>) -> Vec<Queue> {
    let workers: Vec<_> = (queues.into_iter().enumerate())
        .map(|(me, mut queue)| {
            let model = Arc::clone(model);
            thread::spawn(move || {
                let mut random = Random::new(me as u64 + 1);
                for round in 0..ROUNDS / 4 {
                    // In a corner, so that they meet; and in two MiB, which two shards own.
                    let block = random.below(2) * (1 << 20) / BLOCK + random.below(64) * 8 + me;
                    let data = pattern(round << 8 | me as u64, BLOCK);
                    let status = match random.below(4) {
                        0 => queue.write_fua(block as u64, BLOCK, &data, true),
                        _ => queue.write(block as u64, BLOCK, &data, true),
                    };
                    assert_eq!(status.unwrap(), 0, "queue {me}, round {round}");
                    model.lock().unwrap()[block * BLOCK..][..BLOCK].copy_from_slice(&data);
                    if random.below(32) == 0 {
                        assert_eq!(queue.flush().unwrap(), 0);
                    }
                }
                queue
            })
        })
        .collect();
    workers
        .into_iter()
        .map(|w| w.join().expect("a client"))
        .collect()
}

#[test]
fn z11_blocks_smaller_than_the_devices_are_completed() {
    let path = std::env::temp_dir().join(format!("throughline-partial-{}", std::process::id()));
    // What is not written stays as it was.
    let mut before = pattern(77, BYTES);
    fs::write(&path, &before).unwrap();
    network();
    let mut config = support::write_back(&path, DEVICE_BLOCK);
    config.cores = vec![0, 1];
    config.ports[0].device += ",qpairs=2";
    config.target.subsystems[0].namespaces[0].block_size = Some(BLOCK as u32);
    let file = path.clone();
    with_engine(&config, move |handle| {
        let (mut admin, first) = controller();
        let (_, namespace) = admin.identify(0, 1).unwrap();
        let blocks = u64::from_le_bytes(namespace[..8].try_into().unwrap());
        assert_eq!(blocks, (BYTES / BLOCK) as u64, "NSZE");
        // OPTPERF; NPWG, NPWA, NOWS: hosts are told the device's block.
        assert_eq!(namespace[24] & 1 << 4, 1 << 4, "NSFEAT");
        for at in [64, 66, 72] {
            let preferred = u16::from_le_bytes([namespace[at], namespace[at + 1]]);
            assert_eq!((usize::from(preferred) + 1) * BLOCK, DEVICE_BLOCK, "{at}");
        }
        let mut queues = vec![first];
        for qid in 2..=QUEUES {
            queues.push(queue(qid, admin.cntlid()));
        }
        let mut random = Random::new(0);
        for round in 0..ROUNDS {
            let queue = &mut queues[random.below(usize::from(QUEUES))];
            let most = [3, 20, 200][random.below(3)];
            let blocks = 1 + random.below(most);
            let lba = random.below(BYTES / BLOCK - blocks);
            let bytes = lba * BLOCK..(lba + blocks) * BLOCK;
            match random.below(8) {
                0..4 => {
                    let data = pattern(round, bytes.len());
                    let in_capsule = data.len() <= 8192 && random.below(2) == 0;
                    let status = queue.write(lba as u64, BLOCK, &data, in_capsule);
                    assert_eq!(status.unwrap(), 0, "round {round}");
                    before[bytes].copy_from_slice(&data);
                }
                4 => {
                    assert_eq!(queue.write_zeroes(lba as u64, blocks).unwrap(), 0);
                    before[bytes].fill(0);
                }
                _ => {
                    let (status, data) = queue.read(lba as u64, BLOCK, bytes.len()).unwrap();
                    assert_eq!(status, 0, "round {round}");
                    assert!(data == before[bytes], "round {round}: {blocks} at {lba}");
                }
            }
        }
        assert!(completed(handle) > 100, "{} completed", completed(handle));
        let model = Arc::new(Mutex::new(before));
        let mut queues = side_by_side(queues, &model);
        assert_eq!(queues[0].flush().unwrap(), 0);
        let model = model.lock().unwrap();
        let device = fs::read(&file).unwrap();
        let differs = (0..BYTES / BLOCK)
            .find(|i| device[i * BLOCK..][..BLOCK] != model[i * BLOCK..][..BLOCK]);
        assert_eq!(differs, None, "block on the device after a flush");
    });
    fs::remove_file(&path).unwrap();
}

/// There is nowhere else to complete them.
#[test]
fn z11_smaller_blocks_need_the_cache() {
    let path = std::env::temp_dir().join(format!("throughline-no-cache-{}", std::process::id()));
    fs::write(&path, vec![0; BYTES]).unwrap();
    network();
    let mut config = support::write_back(&path, DEVICE_BLOCK);
    let namespace = &mut config.target.subsystems[0].namespaces[0];
    (namespace.block_size, namespace.write) = (Some(512), WritePolicy::Through);
    let error = engine::run(&config, &Handle::new())
        .unwrap_err()
        .to_string();
    fs::remove_file(&path).unwrap();
    assert!(
        error.contains("blocks of 512 bytes on a device of 4096 are completed in the page cache"),
        "{error}"
    );
}
