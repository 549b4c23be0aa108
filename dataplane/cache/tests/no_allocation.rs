//! After start-up nothing allocates on any path of the cache.

mod common;

use block::{Flags, Io, RequestId, VolumeId, WritePolicy};
use cache::{CacheConfig, PageCache, VolumeConfig};
use common::device::FAILED;
use common::{Lab, Random};
use pages::RunPool;
use testkit::{Counting, allocations};

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
    let volume = VolumeId(0);
    cache.add_volume(volume, config).unwrap();
    let n = allocations(|| {
        for tag in 0..5000 {
            let len = [512, 100, 4096, 32 << 10][random.below(4)];
            let offset =
                random.below((2 << 20) - len) as u64 / 512 * 512 + random.below(2) as u64 * 7;
            let offset = offset.min((2 << 20) - len as u64);
            let request = match random.below(20) {
                0 => Io::flush(),
                1 => Io::flush_range(offset, len as u64),
                2..10 => {
                    let mut run = runs.take().unwrap();
                    run.begin(offset, len).unwrap();
                    Io::read(run, Flags::NONE)
                }
                _ => {
                    let mut run = runs.take().unwrap();
                    run.begin(offset, len).unwrap();
                    lab.place_frames(&mut run, &mut random, 1448);
                    Io::write(run, Flags::fua(random.one_in(10)))
                }
            };
            cache
                .submit(volume, RequestId(tag), request, &lab.pull_up())
                .expect("room for one more");
            while cache.requests() > 0 {
                while let Some(operation) = cache.next_operation() {
                    let result = if random.one_in(50) {
                        Err(FAILED)
                    } else {
                        Ok(())
                    };
                    cache.complete(operation.id, operation.io.run, result, &lab.pull_up());
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
