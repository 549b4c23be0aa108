//! After start-up nothing allocates: placing, merging, pulling up, dividing
//! reads into slices, and every path of the cache.
#![allow(unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::device::FAILED;
use common::{Lab, Random};
use pages::cache::{CacheConfig, PageCache, Request, VolumeConfig, WritePolicy};
use pages::{Cluster, CopyReason, PageRun, RunPool};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// A received frame with `len` bytes of payload.
fn frame(lab: &Lab, len: usize) -> Cluster {
    let fresh = lab.frames.alloc().expect("a free cluster");
    fresh.freeze_filled(common::HEADERS + len)
}

fn place(lab: &Lab, run: &mut PageRun, random: &mut Random, mss: usize) {
    let mut at = 0;
    while at < run.len() {
        let n = (1 + random.below(mss)).min(run.len() - at);
        let slice = frame(lab, n).slice(66..66 + n);
        run.place(at, slice, &lab.pull_up()).expect("in order");
        at += n;
    }
}

#[test]
fn k04_placing_and_pulling_up_allocate_nothing() {
    let lab = Lab::new(600, 2048, 64);
    let runs = RunPool::new(2, 64 << 10);
    let mut random = Random::new(1);
    let n = allocations(|| {
        for round in 0..50 {
            let mut run = runs.take().unwrap();
            run.begin(round * 512, 32 << 10).unwrap();
            place(
                &lab,
                &mut run,
                &mut random,
                [60, 536, 1448][round as usize % 3],
            );
            assert!(run.is_complete());
            assert!(run.slices(100..20_000).map(|s| s.len()).sum::<usize>() == 19_900);
            run.make_whole(CopyReason::DeviceBounce, &lab.pull_up())
                .unwrap();
            runs.put(run);
        }
    });
    assert!(lab.ledger.bytes_copied(CopyReason::PullUp) > 0);
    assert_eq!(n, 0);
}

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
                    place(&lab, &mut run, &mut random, 1448);
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
