//! The I/O path takes nothing from the allocator.
#![allow(missing_docs)]

mod support;

use support::{
    controller, host_with_digests, network, pattern, queues_on_all_shards, snapshot, target,
    with_engine,
};
use testkit::Random;
use testkit::allocations::{Counting, everywhere, stand_by, take_part};
use testkit::blocking::Queue;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Thousands of reads and writes, in-capsule and R2T, digests on: the polling
/// thread allocates nothing for them.
#[test]
fn k04_no_allocation_per_frame_or_io() {
    network();
    // The engine polls here.
    take_part();
    with_engine(&support::config(512), |_| {
        stand_by();
        let host = host_with_digests(true, true);
        let (_admin, mut io) = Queue::controller(target(), host).unwrap();
        let mut round = |rounds: u64| {
            for i in 0..rounds {
                for (len, in_capsule) in [(4096, true), (4096, false), (131_072, false)] {
                    let data = pattern(i, len);
                    assert_eq!(io.write(i * 8, 512, &data, in_capsule).unwrap(), 0);
                    assert!(io.read(i * 8, 512, len).unwrap().1 == data);
                }
            }
        };
        round(10);
        let before = everywhere();
        assert!(before > 0, "start-up is counted");
        round(1000);
        assert_eq!(everywhere() - before, 0, "allocations on the I/O path");
    });
}

/// Requests that cross between two shards, are cached there, read back by
/// reference, flushed and reclaimed: neither shard allocates anything for them.
#[test]
fn k04_no_allocation_in_write_back_on_two_shards() {
    const BYTES: usize = 32 << 20;
    let path = std::env::temp_dir().join(format!("throughline-no-alloc-{}", std::process::id()));
    std::fs::write(&path, vec![0; BYTES]).unwrap();
    network();
    let mut config = support::write_back(&path, 512);
    config.cores = vec![0, 1];
    config.ports[0].device += ",qpairs=2";
    take_part();
    with_engine(&config, |handle| {
        stand_by();
        let (admin, _first) = controller();
        let mut queues = queues_on_all_shards(handle, admin.cntlid(), 2, 2);
        let mut random = Random::new(0);
        let mut rounds = |n: u64| {
            for round in 0..n {
                let which = random.below(queues.len());
                let queue = &mut queues[which];
                let most = [8, 256][random.below(2)];
                let blocks = 1 + random.below(most);
                let lba = random.below(BYTES / 512 - blocks) as u64;
                let data = pattern(round, blocks * 512);
                let in_capsule = data.len() <= 8192 && random.below(2) == 0;
                assert_eq!(queue.write(lba, 512, &data, in_capsule).unwrap(), 0);
                assert!(queue.read(lba, 512, data.len()).unwrap().1 == data);
                if round % 100 == 99 {
                    assert_eq!(queue.flush().unwrap(), 0);
                }
            }
        };
        rounds(500);
        let before = everywhere();
        assert!(before > 0, "start-up is counted");
        rounds(2000);
        let asked = everywhere() - before;
        assert_eq!(asked, 0, "allocations on the I/O path");
        for shard in snapshot(handle).shards {
            let cache = shard.counters.iter().find(|layer| layer.name == "cache");
            let served = cache.and_then(|cache| {
                let mut counters = cache.counters.iter();
                counters.find(|counter| counter.name == "parts_served")
            });
            let served = served.expect("a cache that serves others").value;
            assert!(served > 100, "{served} parts served for the other shard");
        }
    });
    std::fs::remove_file(&path).unwrap();
}
