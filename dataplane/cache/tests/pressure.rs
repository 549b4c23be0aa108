//! Row Z12: at its limit the cache stays within its bound, nobody starves and
//! nothing is lost. `THROUGHLINE_SOAK_SECONDS=60` holds it there for a minute.

mod common;

use std::time::{Duration, Instant};

use block::{Flags, Io, RequestId, VolumeId, WritePolicy};
use cache::{CacheConfig, PageCache, VolumeConfig};
use common::device::Device;
use common::{Lab, Random};
use pages::RunPool;

#[test]
fn z12_random_512_byte_writes_at_the_limit() {
    let seconds = std::env::var("THROUGHLINE_SOAK_SECONDS").ok();
    let seconds: f64 = seconds.and_then(|s| s.parse().ok()).unwrap_or(0.3);
    const LEN: usize = 8 << 20;
    const CLUSTERS: usize = 512;
    const REQUESTS: usize = 32;
    let lab = Lab::new(CLUSTERS + REQUESTS + 8 * 512, 2048, CLUSTERS + 256);
    let runs = RunPool::new(REQUESTS, 4096);
    let mut random = Random::new(7);
    let mut cache = PageCache::new(CacheConfig {
        pages: 1500,
        clusters: CLUSTERS,
        dirty_pages: 1500,
        requests: REQUESTS,
        operations: 16,
        max_bytes: 64 << 10,
        seed: 3,
    });
    let volume = VolumeId(0);
    cache
        .add_volume(
            volume,
            VolumeConfig {
                len: LEN as u64,
                block: 512,
                policy: WritePolicy::Back,
                device_cache: false,
            },
        )
        .unwrap();
    let mut device = Device::new(LEN, 512, false);
    let mut expected = vec![0u8; LEN];
    let mut busy = std::collections::HashMap::new();
    let (mut tag, mut longest_wait, mut most) = (0u64, 0, 0);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while Instant::now() < end || !busy.is_empty() {
        while Instant::now() < end && busy.len() < REQUESTS {
            let at = random.below(LEN / 512) * 512;
            if busy.values().any(|&(other, _)| other == at) {
                continue;
            }
            tag += 1;
            let fill = tag as u8;
            let mut run = runs.take().unwrap();
            run.begin(at as u64, 512).unwrap();
            let slice = lab.cluster(66, &[fill; 512], None).slice(66..578);
            run.place(0, slice, &lab.pull_up()).unwrap();
            expected[at..at + 512].fill(fill);
            busy.insert(tag, (at, 0));
            cache
                .submit(
                    volume,
                    RequestId(tag),
                    Io::write(run, Flags::NONE),
                    &lab.pull_up(),
                )
                .unwrap();
        }
        assert!(cache.clusters() <= CLUSTERS);
        while let Some(operation) = cache.next_operation() {
            device.start(operation, &mut random);
        }
        if let Some((operation, result)) = device.finish_one(&mut random) {
            cache.complete(operation.id, operation.io.run, result, &lab.pull_up());
            busy.values_mut().for_each(|(_, waited)| *waited += 1);
        }
        while let Some(completion) = cache.next_completion() {
            let (_, waited) = busy.remove(&completion.id.0).unwrap();
            longest_wait = longest_wait.max(waited);
            assert_eq!(completion.result, Ok(()));
            runs.put(completion.run.unwrap());
        }
        // What the cache does not count is pinned by operations and requests.
        most = most.max(lab.frames.held() + lab.pages.held());
    }
    assert!(most <= CLUSTERS + REQUESTS + 16 * 4 * 17, "{most}");
    assert!(longest_wait < 10 * REQUESTS, "starved: {longest_wait}");
    cache
        .submit(volume, RequestId(0), Io::flush(), &lab.pull_up())
        .unwrap();
    while cache.next_completion().is_none() {
        while let Some(operation) = cache.next_operation() {
            device.start(operation, &mut random);
        }
        let (operation, result) = device.finish_one(&mut random).unwrap();
        cache.complete(operation.id, operation.io.run, result, &lab.pull_up());
    }
    assert!(device.durable == expected, "something was lost");
    println!(
        "{tag} writes, {} device writes, {:?}",
        device.writes,
        cache.counters()
    );
    println!("at most {most} clusters held, {longest_wait} device operations waited for");
}
