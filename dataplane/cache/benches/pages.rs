//! Criterion benchmarks of the page engine: `cargo bench -p cache --bench pages`.
//! For ratios against copying in one run, see `ratios.rs`.
#![allow(missing_docs)]

mod common;

use std::hint::black_box;
use std::time::Duration;

use block::{Flags, Io, RequestId, VolumeId, WritePolicy};
use cache::{CacheConfig, PageCache, VolumeConfig};
use common::{Lab, Mss, SIZES, assemble, copy};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pages::{CopyReason, LogicalPage, PAGE_SIZE, RunPool, Segment};

const BATCH: usize = 64 << 10;
const COLD: usize = 256 << 20;

fn assembling(c: &mut Criterion) {
    let mut group = c.benchmark_group("64 KiB");
    group.throughput(Throughput::Elements((BATCH / PAGE_SIZE) as u64));
    for (set, bytes) in [("hot", 1 << 20), ("cold", COLD)] {
        for mss in [Mss::ThreeToAPage]
            .into_iter()
            .chain(SIZES.map(Mss::Stream))
        {
            let lab = Lab::new(bytes, mss.most(), 1024);
            lab.post_all();
            let mut first = 0;
            let mut run = lab.runs.take().expect("a run");
            group.bench_function(format!("assembled, {mss}, {set}"), |b| {
                b.iter_batched_ref(
                    || {
                        let mut frames = Vec::with_capacity(BATCH / 256);
                        first = lab.receive(first, BATCH, mss, &mut frames);
                        frames
                    },
                    |frames| {
                        let n = frames.len();
                        run.begin(0, BATCH).expect("as long as a run can be");
                        assemble(&mut run, frames, &lab.pull_up());
                        run.clear();
                        lab.post_again(n);
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        let lab = Lab::new(bytes, 1448, 1);
        lab.post_all();
        let mut frames = Vec::with_capacity(bytes / 2048);
        lab.receive(0, bytes / 2048 * 1448, Mss::Stream(1448), &mut frames);
        let mut target = vec![1u8; bytes];
        let (mut from, mut to) = (0, 0);
        group.bench_function(format!("copied, 1448, {set}"), |b| {
            b.iter(|| {
                let n = BATCH / 1448;
                copy(&mut target[to..to + BATCH], &frames[from..from + n]);
                from = (from + n) % (frames.len() - n);
                to = (to + BATCH) % (bytes - BATCH);
                black_box(&target);
            });
        });
    }
    group.finish();
}

/// A page of `segments` frames.
fn page(lab: &Lab, segments: usize) -> LogicalPage {
    let mut page = LogicalPage::new();
    let each = PAGE_SIZE.div_ceil(segments);
    for at in (0..PAGE_SIZE).step_by(each) {
        let segment = data(lab, each.min(PAGE_SIZE - at));
        page.write(at, segment, &lab.pull_up()).expect("in order");
    }
    page
}

fn data(lab: &Lab, len: usize) -> Segment {
    let cluster = lab.frames.alloc().expect("a free cluster");
    let cluster = cluster.freeze_filled(common::HEADERS + len);
    Segment::data(cluster.slice(common::HEADERS..common::HEADERS + len))
}

fn merging(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge");
    let lab = Lab::new(1 << 20, 1448, 4096);
    let cases = [
        ("7A, covering one of three", 3, 1366, 1366),
        ("7B, over a head", 3, 1366, 512),
        ("7C, over a tail", 3, 2220, 512),
        ("pull-up of one of five", 3, 2000, 512),
        ("pull-up of two of six", 4, 1500, 10),
    ];
    for (name, segments, at, len) in cases {
        let base = page(&lab, segments);
        let segment = data(&lab, len);
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || (base.clone(), Some(segment.clone())),
                |(page, segment)| {
                    let segment = segment.take().expect("once");
                    page.write(at, segment, &lab.pull_up())
                        .expect("room to pull up");
                },
                BatchSize::NumIterations(512),
            );
        });
    }
    let base = page(&lab, 4);
    group.bench_function("whole page, copied", |b| {
        b.iter_batched_ref(
            || base.clone(),
            |page| {
                page.make_whole(CopyReason::DeviceBounce, &lab.pull_up())
                    .expect("a free page")
            },
            BatchSize::NumIterations(512),
        );
    });
    group.finish();
}

fn cache(c: &mut Criterion) {
    let mut group = c.benchmark_group("cache");
    group.throughput(Throughput::Elements(1));
    let lab = Lab::new(8 << 20, 1448, 1024);
    let mut cache = PageCache::new(CacheConfig {
        pages: 1024,
        clusters: 4096,
        dirty_pages: 1024,
        requests: 8,
        operations: 8,
        max_bytes: 64 << 10,
        seed: 1,
    });
    let volume = VolumeId(0);
    let config = VolumeConfig {
        len: 1 << 30,
        block: 512,
        policy: WritePolicy::Back,
        device_cache: false,
    };
    cache.add_volume(volume, config).expect("a sound volume");
    let runs = RunPool::new(8, 64 << 10);
    let written = page(&lab, 3);
    let mut next = 0u64;
    let mut turn = |bytes: usize, write: bool| {
        next = (next + 1) % 512;
        let mut run = runs.take().expect("a run");
        run.begin(next * PAGE_SIZE as u64, bytes).expect("one page");
        let request = if write {
            let mut at = 0;
            for segment in written.segments() {
                let slice = segment.to_slice().expect("data has bytes");
                let n = slice.len();
                run.place(at, slice, &lab.pull_up()).expect("in order");
                at += n;
            }
            Io::write(run, Flags::NONE)
        } else {
            Io::read(run, Flags::NONE)
        };
        cache
            .submit(volume, RequestId(0), request, &lab.pull_up())
            .expect("room");
        runs.put(
            cache
                .next_completion()
                .and_then(|c| c.run)
                .expect("done at once"),
        );
    };
    group.bench_function("write of 4 KiB", |b| b.iter(|| turn(PAGE_SIZE, true)));
    group.bench_function("hit of 4 KiB", |b| b.iter(|| turn(PAGE_SIZE, false)));
    group.bench_function("hit of 512 bytes", |b| b.iter(|| turn(512, false)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400));
    targets = assembling, merging, cache
}
criterion_main!(benches);
