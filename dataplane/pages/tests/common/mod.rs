//! What every test stands on: pools, a ledger, frames with known bytes.
#![allow(dead_code)]

pub mod cache_model;
pub mod device;
pub mod page_model;

use pages::{Arena, Cluster, ClusterPool, CopyLedger, HeapRegion, PAGE_SIZE, PullUp, Segment};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Ethernet, IPv4 and TCP headers before the payload of a frame.
pub const HEADERS: usize = 66;

pub struct Lab {
    pub arena: Rc<Arena>,
    pub frames: ClusterPool,
    pub pages: ClusterPool,
    pub ledger: CopyLedger,
    pub zeros: Cluster,
}

impl Lab {
    pub fn new(frames: usize, cluster_size: usize, pages: usize) -> Self {
        let bytes = (frames * cluster_size).next_multiple_of(PAGE_SIZE) + (pages + 1) * PAGE_SIZE;
        let arena = Arena::new(HeapRegion::new(bytes / PAGE_SIZE));
        Self {
            frames: ClusterPool::carve(&arena, frames, cluster_size).unwrap(),
            pages: ClusterPool::carve(&arena, pages, PAGE_SIZE).unwrap(),
            ledger: CopyLedger::new(),
            zeros: arena.zero_page().unwrap(),
            arena,
        }
    }

    pub fn pull_up(&self) -> PullUp<'_> {
        PullUp::new(&self.pages, &self.ledger)
    }

    /// A cluster whose bytes from `start` on are `payload`; what lies behind is
    /// free space if `filled` is not given.
    pub fn cluster(&self, start: usize, payload: &[u8], filled: Option<usize>) -> Cluster {
        let mut fresh = self.frames.alloc().expect("a free cluster");
        let end = start + payload.len();
        // What lies around is none of the payload's: it shows if it is taken for it.
        let size = fresh.len();
        fresh[start.saturating_sub(64)..(end + 64).min(size)].fill(0xee);
        fresh[start..end].copy_from_slice(payload);
        fresh.freeze_filled(filled.unwrap_or(end))
    }

    /// A frame's payload of `len` bytes `fill`, nothing known to be free behind it.
    pub fn data(&self, fill: u8, len: usize) -> Segment {
        let cluster = self.cluster(HEADERS, &vec![fill; len], Some(self.frames.cluster_size()));
        Segment::data(cluster.slice(HEADERS..HEADERS + len))
    }

    /// As [`Lab::data`], with free space from its end to the end of the cluster.
    pub fn data_with_room(&self, fill: u8, len: usize) -> Segment {
        let cluster = self.cluster(HEADERS, &vec![fill; len], None);
        Segment::data(cluster.slice(HEADERS..HEADERS + len))
    }

    /// Everything is back where it was at the start.
    pub fn assert_nothing_leaked(&self) {
        assert_eq!((self.frames.held(), self.pages.held()), (0, 0));
        for page in 0..self.arena.len() / PAGE_SIZE {
            let structure = self.arena.page(pages::PageIndex(page as u32));
            assert_eq!(structure.references(), 0, "page {page}");
        }
    }
}

/// A small generator with a seed to print: xorshift64*.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (((self.next() >> 32) * n as u64) >> 32) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// How many operations a property test does: `THROUGHLINE_PROPTEST_OPS`, or `default`.
pub fn operations(default: usize) -> usize {
    std::env::var("THROUGHLINE_PROPTEST_OPS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

/// Runs `check` on sequences of operations that `generate` makes from a seed,
/// until `total` operations were done, on as many threads as there are cores. A
/// failing sequence is shrunk by leaving operations out; what is left is printed
/// with its seed.
///
/// `THROUGHLINE_PROPTEST_SEED` does a given seed, and that one alone.
pub fn property<Op: Clone + Debug + Send>(
    total: usize,
    generate: impl Fn(&mut Random) -> Vec<Op> + Sync,
    check: impl Fn(&[Op]) + Sync,
) {
    let fails = |operations: &[Op]| catch_unwind(AssertUnwindSafe(|| check(operations))).is_err();
    let only = std::env::var("THROUGHLINE_PROPTEST_SEED").ok();
    let only: Option<u64> = only.and_then(|seed| seed.parse().ok());
    let (next, done) = (AtomicU64::new(only.unwrap_or(1)), AtomicUsize::new(0));
    let total = only.map_or(total, |_| 1);
    let failed = Mutex::new(None);
    let work = || {
        while done.load(Relaxed) < total && failed.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Relaxed);
            let operations = generate(&mut Random::new(seed));
            if fails(&operations) {
                failed.lock().unwrap().get_or_insert((seed, operations));
            } else {
                done.fetch_add(operations.len(), Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..only.map_or(cores, |_| 1) {
            scope.spawn(work);
        }
    });
    let done = done.into_inner();
    let Some((seed, mut operations)) = failed.into_inner().unwrap() else {
        return println!("{done} operations, the last seed {}", next.into_inner() - 1);
    };
    let hook = take_hook();
    set_hook(Box::new(|_| ()));
    let mut chunk = operations.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < operations.len() {
            let mut fewer = operations.clone();
            fewer.drain(at..(at + chunk).min(operations.len()));
            match fails(&fewer) {
                true => operations = fewer,
                false => at += chunk,
            }
        }
        chunk /= 2;
    }
    set_hook(hook);
    eprintln!("THROUGHLINE_PROPTEST_SEED={seed}, shrunk to {operations:#?}");
    check(&operations);
    unreachable!("it failed before");
}

/// The bytes of a run, those that are NULL left out.
pub fn contents(run: &pages::PageRun) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(run.len());
    for segment in run.segments() {
        bytes.extend_from_slice(segment.bytes().unwrap_or_default());
    }
    bytes
}

/// Writes `bytes` to the run's segments as a device does: past all types.
#[allow(unsafe_code)]
pub fn dma(run: &pages::PageRun, bytes: &[u8]) {
    let mut at = 0;
    for segment in run.segments() {
        let address = segment.address().expect("memory to read into");
        // SAFETY: a run to be read into refers to fresh pages that nobody else reads or
        // writes; the pointer is used as a device would, and no reference is alive.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes[at..].as_ptr(), address.as_ptr(), segment.len());
        }
        at += segment.len();
    }
    assert_eq!(at, bytes.len());
}
