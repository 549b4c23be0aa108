//! Pools as a shard has them, and frames with known bytes.

use std::rc::Rc;

use pages::{
    Arena, Cluster, ClusterPool, CopyLedger, HeapRegion, PAGE_SIZE, PageRun, PullUp, Segment,
};

use testkit::Random;

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

    /// Fills `run` from frames of their own with 1 to `mss` bytes of payload each.
    pub fn place_frames(&self, run: &mut PageRun, random: &mut Random, mss: usize) {
        let mut at = 0;
        while at < run.len() {
            let n = (1 + random.below(mss)).min(run.len() - at);
            let frame = self.frames.alloc().expect("a free cluster");
            let slice = frame.freeze_filled(HEADERS + n).slice(HEADERS..HEADERS + n);
            run.place(at, slice, &self.pull_up()).expect("in order");
            at += n;
        }
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

/// The bytes of a run, those that are NULL left out.
pub fn contents(run: &PageRun) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(run.len());
    for segment in run.segments() {
        bytes.extend_from_slice(segment.bytes().unwrap_or_default());
    }
    bytes
}

/// Writes `bytes` to the run's segments as a device does: past all types.
#[allow(unsafe_code)]
pub fn dma(run: &PageRun, bytes: &[u8]) {
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
