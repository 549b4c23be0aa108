//! What every benchmark stands on: pools, and streams of frames.
#![allow(dead_code)]

use pages::{
    Arena, Cluster, ClusterPool, CopyLedger, HeapRegion, PAGE_SIZE, PageRun, PullUp, RunPool, Slice,
};

/// Ethernet, IPv4 and TCP headers, with timestamps, before the payload of a frame.
pub const HEADERS: usize = 66;

/// The maximum segment sizes that streams have: IPv4's least, IPv6's least,
/// Ethernet's with timestamps, and that of jumbo frames.
pub const SIZES: [usize; 4] = [536, 1220, 1448, 8948];

/// Pools as a shard has them.
pub struct Lab {
    pub frames: ClusterPool,
    pub pages: ClusterPool,
    pub ledger: CopyLedger,
    pub runs: RunPool,
    pub zeros: Cluster,
}

impl Lab {
    /// Clusters for frames of `mss` bytes that fill `frame_bytes`, and `pages` whole pages.
    pub fn new(frame_bytes: usize, mss: usize, pages: usize) -> Self {
        let cluster_size = if mss > 2000 { 16384 } else { 2048 };
        let frames = frame_bytes / cluster_size;
        let arena = Arena::new(HeapRegion::new(frame_bytes / PAGE_SIZE + pages + 1));
        Self {
            frames: ClusterPool::carve(&arena, frames, cluster_size).expect("room for frames"),
            pages: ClusterPool::carve(&arena, pages, PAGE_SIZE).expect("room for pages"),
            ledger: CopyLedger::new(),
            runs: RunPool::new(64, 1 << 20),
            zeros: arena.zero_page().expect("room for zeros"),
        }
    }

    pub fn pull_up(&self) -> PullUp<'_> {
        PullUp::new(&self.pages, &self.ledger)
    }

    /// Has the port receive `len` bytes in frames from number `first` on, cut as
    /// `mss` says; returns the number behind the last.
    pub fn receive(&self, first: usize, len: usize, mss: Mss, frames: &mut Vec<Slice>) -> usize {
        let (mut at, mut next) = (0, first);
        while at < len {
            let n = mss.at(at).min(len - at);
            let cluster = self.frames.adopt_filled(next as u32, HEADERS + n);
            frames.push(cluster.slice(HEADERS..HEADERS + n));
            at += n;
            next = (next + 1) % self.frames.len();
        }
        next
    }

    /// Posts every cluster to the port, so that [`Lab::receive`] can have any.
    pub fn post_all(&self) {
        let mut posted = vec![0; self.frames.len()];
        assert_eq!(self.frames.post(&mut posted), posted.len());
    }

    /// Posts clusters that are not held any more to the port again.
    pub fn post_again(&self, n: usize) {
        let mut posted = vec![0; n];
        assert_eq!(self.frames.post(&mut posted), n);
    }
}

/// How a stream is cut into segments.
#[derive(Clone, Copy)]
pub enum Mss {
    /// Every so many bytes, whatever the pages.
    Stream(usize),
    /// Three frames to a page: 1448, 1448 and 1200 bytes.
    ThreeToAPage,
}

impl Mss {
    /// Bytes in the segment that starts at byte `at` of the stream.
    pub fn at(self, at: usize) -> usize {
        match self {
            Mss::Stream(mss) => mss,
            Mss::ThreeToAPage => 1448.min(PAGE_SIZE - at % PAGE_SIZE),
        }
    }

    /// The longest.
    pub fn most(self) -> usize {
        self.at(0)
    }
}

impl std::fmt::Display for Mss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mss::Stream(mss) => f.pad(&mss.to_string()),
            Mss::ThreeToAPage => f.pad("3 / page"),
        }
    }
}

/// Places what `frames` carry into the run.
#[inline(never)]
pub fn assemble(run: &mut PageRun, frames: &mut Vec<Slice>, pull_up: &PullUp<'_>) {
    let mut at = 0;
    for frame in frames.drain(..) {
        let n = frame.len();
        run.place(at, frame, pull_up).expect("in order");
        at += n;
    }
}

/// The alternative: copies what `frames` carry together.
#[inline(never)]
pub fn copy(to: &mut [u8], frames: &[Slice]) {
    let mut at = 0;
    for frame in frames {
        to[at..at + frame.len()].copy_from_slice(frame.bytes());
        at += frame.len();
    }
}

/// The middle of an odd number of measurements.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
