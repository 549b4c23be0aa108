//! Instructions per operation, counted by callgrind: the same on any machine,
//! whatever else it does. `cargo bench -p cache --bench instructions` runs
//! itself under valgrind, which must be installed.
//!
//! Each case runs many times and not at all; the difference is what it costs.
#![allow(missing_docs)]

mod common;

use std::hint::black_box;
use std::process::Command;

use block::{Flags, Io, RequestId, VolumeId, WritePolicy};
use cache::{CacheConfig, PageCache, VolumeConfig};
use common::{HEADERS, Lab, Mss, assemble, copy};
use pages::{LogicalPage, PAGE_SIZE, Segment};

const TIMES: usize = 256;

/// A case does its preparation, and then `times` times what is measured.
type Case = (&'static str, fn(times: usize));

const CASES: [Case; 11] = [
    ("assemble, 3 frames to a page", |times| {
        assemble_pages(Mss::ThreeToAPage, times)
    }),
    ("assemble, MSS 536", |times| {
        assemble_pages(Mss::Stream(536), times)
    }),
    ("assemble, MSS 1220", |times| {
        assemble_pages(Mss::Stream(1220), times)
    }),
    ("assemble, MSS 1448", |times| {
        assemble_pages(Mss::Stream(1448), times)
    }),
    ("assemble, MSS 8948", |times| {
        assemble_pages(Mss::Stream(8948), times)
    }),
    ("copy, MSS 1448", copy_pages),
    ("merge, middle of one segment", |times| merge(times, 3, 512)),
    ("merge, pull-up of 10 bytes", |times| merge(times, 4, 10)),
    ("cache, write 4 KiB", |times| cache(times, true)),
    ("cache, read 4 KiB", |times| cache(times, false)),
    ("copy 4 KiB", copy_whole),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, case, times] = &arguments[..]
        && let Some((_, work)) = CASES.iter().find(|(name, _)| name == case)
    {
        return work(times.parse().expect("a number of times"));
    }
    println!("instructions per operation (callgrind)\n");
    for (name, _) in CASES {
        match (count(name, TIMES), count(name, 0)) {
            (Some(many), Some(none)) => println!("{name:>30} {:8}", (many - none) / TIMES as u64),
            _ => return println!("valgrind --tool=callgrind does not run here"),
        }
    }
}

fn count(case: &str, times: usize) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().ok()?)
        .args([case, &times.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.contains("Collected"))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Pages assembled from frames.
fn assemble_pages(mss: Mss, times: usize) {
    let lab = Lab::new(8 << 20, mss.most(), 512);
    lab.post_all();
    let mut frames = Vec::with_capacity(4096);
    let bytes = TIMES * PAGE_SIZE;
    lab.receive(0, bytes, mss, &mut frames);
    let mut run = lab.runs.take().expect("a run");
    if times > 0 {
        run.begin(0, bytes).expect("as long as a run can be");
        assemble(&mut run, &mut frames, &lab.pull_up());
    }
    std::process::exit(0);
}

fn copy_pages(times: usize) {
    let lab = Lab::new(8 << 20, 1448, 1);
    lab.post_all();
    let mut frames = Vec::with_capacity(4096);
    let mut to = vec![0; TIMES * PAGE_SIZE];
    lab.receive(0, to.len(), Mss::Stream(1448), &mut frames);
    if times > 0 {
        copy(&mut to, &frames);
        black_box(&to);
    }
    std::process::exit(0);
}

fn data(lab: &Lab, len: usize) -> Segment {
    let cluster = lab.frames.alloc().expect("a free cluster");
    let cluster = cluster.freeze_filled(HEADERS + len);
    Segment::data(cluster.slice(HEADERS..HEADERS + len))
}

/// `len` bytes over the middle of the second of `segments` segments.
fn merge(times: usize, segments: usize, len: usize) {
    let lab = Lab::new(4 << 20, 1448, 2 * TIMES);
    let mut pages: Vec<LogicalPage> = (0..TIMES).map(|_| LogicalPage::new()).collect();
    let each = PAGE_SIZE.div_ceil(segments);
    for page in &mut pages {
        for at in (0..PAGE_SIZE).step_by(each) {
            let segment = data(&lab, each.min(PAGE_SIZE - at));
            page.write(at, segment, &lab.pull_up()).expect("in order");
        }
    }
    let segment = data(&lab, len);
    for page in pages.iter_mut().take(times) {
        let at = each + each / 2;
        page.write(at, segment.clone(), &lab.pull_up())
            .expect("room to pull up");
    }
    std::process::exit(0);
}

fn cache(times: usize, write: bool) {
    let lab = Lab::new(4 << 20, 1448, 16);
    let mut cache = PageCache::new(CacheConfig {
        pages: 1024,
        clusters: 4096,
        dirty_pages: 1024,
        requests: 4,
        operations: 4,
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
    let runs: Vec<_> = (0..TIMES)
        .map(|_| pages::RunPool::new(1, PAGE_SIZE))
        .collect();
    let take = |i: usize| {
        let mut run = runs[i].take().expect("a run");
        run.begin((i * PAGE_SIZE) as u64, PAGE_SIZE)
            .expect("one page");
        run
    };
    let written: Vec<_> = (0..TIMES)
        .map(|i| {
            let mut run = take(i);
            for at in [0, 1448, 2896] {
                let Some(slice) = data(&lab, 1448.min(PAGE_SIZE - at)).to_slice() else {
                    unreachable!("data has bytes");
                };
                run.place(at, slice, &lab.pull_up()).expect("in order");
            }
            run
        })
        .collect();
    let mut submit = |request| {
        cache
            .submit(volume, RequestId(0), request, &lab.pull_up())
            .expect("room");
        cache
            .next_completion()
            .and_then(|c| c.run)
            .expect("done at once")
    };
    if write {
        for run in written.into_iter().take(times) {
            black_box(Box::leak(submit(Io::write(run, Flags::NONE))));
        }
        std::process::exit(0);
    }
    let reads: Vec<_> = written
        .into_iter()
        .map(|run| {
            let offset = run.offset();
            let mut run = submit(Io::write(run, Flags::NONE));
            run.begin(offset, PAGE_SIZE).expect("one page");
            run
        })
        .collect();
    for run in reads.into_iter().take(times) {
        black_box(Box::leak(submit(Io::read(run, Flags::NONE))));
    }
    std::process::exit(0);
}

fn copy_whole(times: usize) {
    let (from, mut to) = (vec![1u8; PAGE_SIZE], vec![0u8; PAGE_SIZE]);
    for _ in 0..times {
        black_box(&mut to).copy_from_slice(black_box(&from));
    }
    std::process::exit(0);
}
