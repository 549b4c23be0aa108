//! After start-up nothing allocates on any path of the cache.

mod common;

use cache::{CacheConfig, PageCache, Request, VolumeConfig, WritePolicy};
use common::allocations::{Counting, allocations};
use common::device::FAILED;
use common::{Lab, Random};
use pages::RunPool;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn k04_the_cache_allocates_nothing() {
    let lab = Lab::new(1200, 2048, 400);
    let runs = RunPool::new(17, 32 << 10);
    let mut random = Random::new(2);
    let mut cache = PageCache::new(CacheConfig {
        pages: 120,
        clusters: 200,
        dirty_pages: 60,
        requests: 16,
        operations: 8,
        max_bytes: 32 << 10,
        seed: 9,
    });
    let config = VolumeConfig {
        len: 2 << 20,
        block: 512,
        policy: WritePolicy::Back,
        device_cache: true,
    };
    let volume = cache.add_volume(config).unwrap();
    let n = allocations(|| {
        for tag in 0..5000 {
            let len = [512, 100, 4096, 32 << 10][random.below(4)];
            let offset =
                random.below((2 << 20) - len) as u64 / 512 * 512 + random.below(2) as u64 * 7;
            let offset = offset.min((2 << 20) - len as u64);
            let request = match random.below(20) {
                0 => Request::Flush,
                1 => Request::FlushRange {
                    offset,
                    len: len as u64,
                },
                2..10 => {
                    let mut run = runs.take().unwrap();
                    run.begin(offset, len).unwrap();
                    Request::Read { run }
                }
                _ => {
                    let mut run = runs.take().unwrap();
                    run.begin(offset, len).unwrap();
                    lab.place_frames(&mut run, &mut random, 1448);
                    Request::Write {
                        run,
                        fua: random.one_in(10),
                    }
                }
            };
            cache
                .submit(volume, request, tag, &lab.pull_up())
                .expect("room for one more");
            while cache.requests() > 0 {
                while let Some(operation) = cache.next_operation() {
                    let result = if random.one_in(50) {
                        Err(FAILED)
                    } else {
                        Ok(())
                    };
                    cache.complete(operation, result, &lab.pull_up());
                }
                while let Some(completion) = cache.next_completion() {
                    completion.run.into_iter().for_each(|run| runs.put(run));
                }
            }
        }
    });
    let counters = cache.counters();
    assert!(
        counters.compacted > 0 && counters.reclaimed > 0 && counters.completed > 0,
        "{counters:?}"
    );
    assert_eq!(n, 0);
    assert!(cache.clusters() <= 200);
}
