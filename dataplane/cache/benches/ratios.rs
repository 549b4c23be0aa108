//! Ours against copying, side by side in one run: `cargo bench -p cache --bench ratios`.
//!
//! Times on a shared machine are noise; ratios measured in turns are not. *Hot*
//! is a few frames over and over; *cold* goes through 256 MiB of frames, and
//! through 256 MiB of pages to copy to, as a stream from a NIC to a disk does.
#![allow(missing_docs)]

mod common;

use std::hint::black_box;
use std::time::Instant;

use block::{Flags, Io, RequestId, VolumeId, WritePolicy};
use cache::{CacheConfig, PageCache, VolumeConfig};
use common::{Lab, Mss, SIZES, assemble, copy, median};
use pages::{CopyReason, LogicalPage, PAGE_SIZE, RunPool, Segment};
use testkit::Random;

const COLD: usize = 256 << 20;
const HOT: usize = 64 << 10;
/// Bytes assembled or copied between two looks at the clock.
const BATCH: usize = 256 << 10;
const ROUNDS: usize = 1001;

fn main() {
    assembling();
    merging();
    cache_hits();
    fragments();
}

/// Nanoseconds per page of assembling and of copying, in turns.
fn assembling() {
    println!("assembling a 4 KiB page from frames, ns per page (median of {ROUNDS})\n");
    println!("     MSS | set  | assemble |    copy | assemble / copy | copied by pull-up");
    println!("---------|------|----------|---------|-----------------|------------------");
    for mss in [Mss::ThreeToAPage]
        .into_iter()
        .chain(SIZES.map(Mss::Stream))
    {
        for (name, batch, bytes) in [("hot", HOT, HOT), ("cold", BATCH, COLD)] {
            let lab = Lab::new(bytes.max(1 << 20), mss.most(), 2 * BATCH / PAGE_SIZE);
            lab.post_all();
            let mut target = vec![1u8; bytes];
            let mut frames = Vec::with_capacity(BATCH / 256);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            let (mut first, mut to) = (0, 0);
            let mut run = lab.runs.take().expect("a run");
            for _ in 0..ROUNDS {
                let mut receive = |frames: &mut Vec<_>| {
                    let next = lab.receive(first, batch, mss, frames);
                    first = if name == "hot" { 0 } else { next };
                    frames.len()
                };
                let n = receive(&mut frames);
                run.begin(0, batch).expect("as long as a run can be");
                let start = Instant::now();
                assemble(&mut run, &mut frames, &lab.pull_up());
                ours.push(start.elapsed().as_nanos() as f64);
                assert!(run.is_complete());
                run.clear();
                lab.post_again(n);

                let n = receive(&mut frames);
                let start = Instant::now();
                copy(&mut target[to..to + batch], &frames);
                theirs.push(start.elapsed().as_nanos() as f64);
                black_box(&target);
                frames.clear();
                lab.post_again(n);
                to = (to + batch) % bytes;
            }
            let pages = (batch / PAGE_SIZE) as f64;
            let (ours, theirs) = (median(ours) / pages, median(theirs) / pages);
            let copied =
                lab.ledger.bytes_copied(CopyReason::PullUp) as f64 / (batch * ROUNDS) as f64;
            println!(
                "{mss:>8} | {name:4} | {ours:8.1} | {theirs:7.1} | {:>15} | {:5.1} % of bytes",
                ratio(ours, theirs),
                copied * 100.0
            );
        }
    }
}

fn ratio(ours: f64, theirs: f64) -> String {
    format!("1 : {:.1}", theirs / ours)
}

/// Each case of row Z7, FIGS. 7A–7D, and pull-up, against copying the page.
fn merging() {
    println!("\nmerging into a page, ns per write (median of {ROUNDS})\n");
    println!("                      case |  merge | copy, hot  | merge / copy");
    println!("---------------------------|--------|------------|-------------");
    let lab = Lab::new(1 << 20, 1448, 2000);
    let mut base = LogicalPage::new();
    for at in [0, 1448, 2896] {
        base.write(at, data(&lab, 1448.min(PAGE_SIZE - at)), &lab.pull_up())
            .expect("in order");
    }
    let cases = [
        ("7A, covers one of three", 1448, 1448),
        ("7B, over a head", 1448, 512),
        ("7C, over a tail", 2384, 512),
        ("7D in the middle, pull-up", 2000, 512),
        ("over two", 1000, 1000),
    ];
    let (from, mut to) = (vec![1u8; PAGE_SIZE], vec![0u8; PAGE_SIZE]);
    for (name, at, len) in cases {
        let segment = data(&lab, len);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut pages: Vec<LogicalPage> = (0..64).map(|_| base.clone()).collect();
            let start = Instant::now();
            for page in &mut pages {
                page.write(at, segment.clone(), &lab.pull_up())
                    .expect("room to pull up");
            }
            ours.push(start.elapsed().as_nanos() as f64 / 64.0);
            let start = Instant::now();
            for _ in 0..64 {
                black_box(&mut to).copy_from_slice(black_box(&from));
            }
            theirs.push(start.elapsed().as_nanos() as f64 / 64.0);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "{name:>26} | {ours:6.1} | {theirs:10.1} | {:>12}",
            ratio(ours, theirs)
        );
    }
}

fn data(lab: &Lab, len: usize) -> Segment {
    let cluster = lab.frames.alloc().expect("a free cluster").freeze();
    Segment::data(cluster.slice(common::HEADERS..common::HEADERS + len))
}

/// A cache with `pages` pages written, and the runs to read them into.
fn cache(lab: &Lab, pages: usize) -> (PageCache, VolumeId, RunPool) {
    let mut cache = PageCache::new(CacheConfig {
        pages,
        clusters: 4 * pages,
        dirty_pages: pages,
        requests: 64,
        operations: 8,
        max_bytes: 128 << 10,
        seed: 1,
    });
    let volume = VolumeId(0);
    let config = VolumeConfig {
        len: 1 << 40,
        block: 512,
        policy: WritePolicy::Back,
        device_cache: false,
    };
    cache.add_volume(volume, config).expect("a sound volume");
    let runs = RunPool::new(64, 128 << 10);
    for page in 0..pages {
        let mut run = runs.take().expect("a run");
        run.begin((page * PAGE_SIZE) as u64, PAGE_SIZE)
            .expect("one page");
        for at in [0, 1448, 2896] {
            let cluster = lab.frames.alloc().expect("a free cluster").freeze();
            let n = 1448.min(PAGE_SIZE - at);
            let slice = cluster.slice(common::HEADERS..common::HEADERS + n);
            run.place(at, slice, &lab.pull_up()).expect("in order");
        }
        let request = Io::write(run, Flags::NONE);
        cache
            .submit(volume, RequestId(0), request, &lab.pull_up())
            .expect("room");
        runs.put(
            cache
                .next_completion()
                .and_then(|c| c.run)
                .expect("written"),
        );
    }
    (cache, volume, runs)
}

/// Reads that the cache can serve: given out by reference, and copied out into
/// an aligned buffer as a cache does whose readers cannot take fragments.
fn cache_hits() {
    println!("\nreading 4 KiB that the cache has, ns per read (median of {ROUNDS})\n");
    println!("  set | by reference | copied out | reference / copied");
    println!("------|--------------|------------|-------------------");
    for (name, bytes) in [("hot", 1 << 20), ("cold", COLD)] {
        let lab = Lab::new(bytes / PAGE_SIZE * 3 * 2048, 1448, 16);
        let pages = bytes / PAGE_SIZE;
        let (mut cache, volume, runs) = cache(&lab, pages);
        let mut target = vec![1u8; bytes];
        let mut random = Random::new(1);
        let mut next = || random.below(pages);
        let mut read = |page: usize, to: Option<&mut [u8]>| {
            let mut run = runs.take().expect("a run");
            run.begin((page * PAGE_SIZE) as u64, PAGE_SIZE)
                .expect("one page");
            let request = Io::read(run, Flags::NONE);
            cache
                .submit(volume, RequestId(0), request, &lab.pull_up())
                .expect("room");
            let run = cache.next_completion().and_then(|c| c.run).expect("a hit");
            if let Some(to) = to {
                let mut at = 0;
                for bytes in run.segments().filter_map(Segment::bytes) {
                    to[at..at + bytes.len()].copy_from_slice(bytes);
                    at += bytes.len();
                }
            }
            runs.put(run);
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let chosen: [usize; 64] = std::array::from_fn(|_| next());
            let start = Instant::now();
            chosen.iter().for_each(|&page| read(page, None));
            ours.push(start.elapsed().as_nanos() as f64 / 64.0);
            let chosen: [(usize, usize); 64] = std::array::from_fn(|_| (next(), next()));
            let start = Instant::now();
            for (page, to) in chosen {
                read(page, Some(&mut target[to * PAGE_SIZE..][..PAGE_SIZE]));
            }
            theirs.push(start.elapsed().as_nanos() as f64 / 64.0);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "{name:>5} | {ours:12.1} | {theirs:10.1} | {:>18}",
            ratio(ours, theirs)
        );
    }
}

/// How often streams need pull-up: NVMe/TCP writes, each a PDU with a header in
/// front of its data, cut into segments wherever TCP cuts.
fn fragments() {
    println!("\nfragments of NVMe/TCP write streams, 4000 writes each\n");
    println!(
        "  MSS | cluster | write KiB | pages of 1, 2, 3, 4 segments, %   | pulled up, % | bytes copied, %"
    );
    println!(
        "------|---------|-----------|-----------------------------------|--------------|----------------"
    );
    // Frames that fit into a cluster, and jumbo frames over several.
    let fitting = SIZES.map(|mss| (mss, if mss > 2000 { 16384 } else { 2048 }));
    for (mss, room) in fitting.into_iter().chain([(8948, 2048)]) {
        for len in [4usize << 10, 16 << 10, 128 << 10] {
            // In-capsule data comes behind a command, other data behind a header.
            let header = if len <= 8 << 10 { 72 } else { 24 };
            let lab = Lab::new(64 << 20, mss.min(room - common::HEADERS), 4000);
            let mut run = lab.runs.take().expect("a run");
            let (mut sent, mut pages, mut pulled) = (0usize, [0u64; 4], 0u64);
            for _ in 0..4000 {
                sent += header;
                run.begin(0, len).expect("as long as a run can be");
                let mut at = 0;
                while at < len {
                    // What is left of the cluster that the stream is in.
                    let (in_frame, frame) = (common::HEADERS + sent % mss, common::HEADERS + mss);
                    let offset = in_frame % room;
                    let filled = (frame - (in_frame - offset)).min(room);
                    let n = (filled - offset).min(len - at);
                    let cluster = lab.frames.alloc().expect("a free cluster");
                    let cluster = cluster.freeze_filled(filled);
                    let before = lab.ledger.copies(CopyReason::PullUp);
                    run.place(at, cluster.slice(offset..offset + n), &lab.pull_up())
                        .expect("in order");
                    pulled += u64::from(lab.ledger.copies(CopyReason::PullUp) > before);
                    at += n;
                    sent += n;
                }
                for (sum, n) in pages.iter_mut().zip(run.fragments()) {
                    *sum += u64::from(n);
                }
                run.clear();
            }
            let total = pages.iter().sum::<u64>() as f64;
            let percent = pages
                .map(|n| format!("{:6.1}", n as f64 / total * 100.0))
                .join(" ");
            let copied = lab.ledger.bytes_copied_total() as f64 / (4000 * len) as f64 * 100.0;
            println!(
                "{mss:5} | {room:7} | {:9} | {percent}       | {:12.1} | {copied:14.2}",
                len >> 10,
                pulled as f64 / total * 100.0
            );
        }
    }
}
