//! The chain of logical pages that one request covers (row Z9), and its pool.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use crate::arena::PAGE_SIZE;
use crate::cluster::{Cluster, ClusterPool};
use crate::logical::LogicalPage;
use crate::pull_up::PullUp;
use crate::refusal::{Refusal, WriteError};
use crate::segment::{MAX_SEGMENTS, Segment, Slice};

/// The logical pages that a request <offset, length> covers, in order.
///
/// The first and the last are views of the part that the request covers, so
/// what the run has is the request's bytes, no more. A run is made once at
/// start-up by a [`RunPool`], travels with its request, and comes back with it.
pub struct PageRun {
    /// Those not used are whole and all NULL.
    pages: Box<[LogicalPage]>,
    /// How many of `pages` the request covers.
    used: usize,
    offset: u64,
    len: usize,
    max_bytes: usize,
    checksums: Vec<u32>,
}

/// A request covers more bytes than the run was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// No free page in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfPages;

/// A refused [`PageRun::place`]: what was not placed comes back.
#[derive(Debug)]
pub struct PlaceError {
    /// The rule it broke.
    pub reason: Refusal,
    /// Where, from the start of the request: bytes before it were placed.
    pub at: usize,
    /// The bytes from there on.
    pub slice: Slice,
}

impl PlaceError {
    #[cold]
    fn new(at: usize, error: WriteError) -> Self {
        Self {
            reason: error.reason,
            at,
            slice: error.segment.into_slice(),
        }
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request covers more bytes than a run can")
    }
}

impl fmt::Display for OutOfPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no free page")
    }
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of the request: {}", self.at, self.reason)
    }
}

impl std::error::Error for TooLong {}
impl std::error::Error for OutOfPages {}
impl std::error::Error for PlaceError {}

impl PageRun {
    fn new(max_bytes: usize) -> Self {
        // One page more, for requests that do not start at a page border.
        let pages = max_bytes.div_ceil(PAGE_SIZE) + 1;
        Self {
            pages: (0..pages).map(|_| LogicalPage::new()).collect(),
            used: 0,
            offset: 0,
            len: 0,
            max_bytes,
            checksums: Vec::with_capacity(pages),
        }
    }

    /// Starts a request for `len` bytes at byte address `offset` of the volume.
    /// All of them are NULL until they are placed; what the run held before is dropped.
    ///
    /// # Errors
    /// [`TooLong`] if `len` is more than the pool's `max_bytes`; the run is then empty.
    pub fn begin(&mut self, offset: u64, len: usize) -> Result<(), TooLong> {
        self.clear();
        if len > self.max_bytes || offset.checked_add(len as u64).is_none() {
            return Err(TooLong);
        }
        self.offset = offset;
        self.len = len;
        // Pages not used are whole; the first and the last become what is covered.
        self.used = (self.head() + len).div_ceil(PAGE_SIZE);
        if let [.., last] = self.pages_mut() {
            let end = (offset as usize).wrapping_add(len) % PAGE_SIZE;
            if end > 0 {
                last.cover(0..end);
            }
        }
        if self.used > 0 && self.head() > 0 {
            let end = self.pages[0].extent().end;
            let start = self.head();
            self.pages[0].cover(start..end);
        }
        Ok(())
    }

    /// A checksum of what the request has of each page, from the first page on, as far as whoever received the
    /// bytes has made them. Whoever changes bytes afterwards has to [clear](Vec::clear) them.
    pub fn checksums(&self) -> &[u32] {
        &self.checksums
    }

    /// The same, for whoever makes them; one for each of [`PageRun::pages`] at most.
    pub fn checksums_mut(&mut self) -> &mut Vec<u32> {
        &mut self.checksums
    }

    /// Byte address on the volume where the request starts.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Length of the request in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the run covers no byte: before `begin`, and after `clear`.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The logical pages, in order. The first is that of byte [`PageRun::offset`].
    pub fn pages(&self) -> &[LogicalPage] {
        &self.pages[..self.used]
    }

    /// The logical pages, to be written one by one. Each keeps its extent: what
    /// takes a page's place must cover the same bytes.
    pub fn pages_mut(&mut self) -> &mut [LogicalPage] {
        &mut self.pages[..self.used]
    }

    /// Puts `slice` at `at` bytes from the start of the request, whatever came
    /// before it (row Z6). It is cut at the borders of logical and of physical
    /// pages; where it overlaps what is there, it goes on top (row Z7).
    ///
    /// # Errors
    /// [`PlaceError`] gives back what was not placed. [`Refusal::Outside`] if
    /// `slice` ends behind the request: nothing was placed.
    #[inline(always)] // For each segment of a write; short where it is not cut.
    pub fn place(
        &mut self,
        at: usize,
        slice: Slice,
        pull_up: &PullUp<'_>,
    ) -> Result<(), PlaceError> {
        let (page, in_page) = self.locate(at);
        let room = (PAGE_SIZE - in_page).min(slice.in_physical_page());
        let len = slice.len();
        if at + len > self.len || len > room || len == 0 {
            return self.place_parts(at, slice, pull_up);
        }
        // The usual case: one segment, in one page.
        match self.pages[page].write(in_page, Segment::data(slice), pull_up) {
            Ok(()) => Ok(()),
            Err(error) => Err(PlaceError::new(at, error)),
        }
    }

    /// As [`PageRun::place`], of bytes that lie over some border.
    #[inline(never)]
    fn place_parts(
        &mut self,
        at: usize,
        slice: Slice,
        pull_up: &PullUp<'_>,
    ) -> Result<(), PlaceError> {
        if at > self.len || slice.len() > self.len - at {
            let reason = Refusal::Outside;
            return Err(PlaceError { reason, at, slice });
        }
        let mut at = at;
        let mut rest = slice;
        while !rest.is_empty() {
            let (page, in_page) = self.locate(at);
            let room = (PAGE_SIZE - in_page).min(rest.in_physical_page());
            if rest.len() <= room {
                let written = self.pages[page].write(in_page, Segment::data(rest), pull_up);
                return written.map_err(|error| PlaceError::new(at, error));
            }
            let segment = Segment::data(rest.split_to(room));
            let written = self.pages[page].write(in_page, segment, pull_up);
            if let Err(WriteError { reason, .. }) = written {
                rest.retreat(room);
                return Err(PlaceError {
                    reason,
                    at,
                    slice: rest,
                });
            }
            at += room;
        }
        Ok(())
    }

    /// Makes `len` bytes at `at` from the start of the request a hole (row Z13):
    /// they are zeros, by reference to the one shared `zero_page`.
    ///
    /// # Errors
    /// The refusal, and where: bytes of the hole before it were placed.
    pub fn place_zeros(
        &mut self,
        at: usize,
        len: usize,
        zero_page: &Cluster,
        pull_up: &PullUp<'_>,
    ) -> Result<(), (Refusal, usize)> {
        if at > self.len || len > self.len - at {
            return Err((Refusal::Outside, at));
        }
        let end = at + len;
        let mut at = at;
        while at < end {
            let (page, in_page) = self.locate(at);
            let n = (PAGE_SIZE - in_page).min(end - at);
            self.pages[page]
                .zero(in_page, n, zero_page, pull_up)
                .map_err(|error| (error.reason, at))?;
            at += n;
        }
        Ok(())
    }

    /// Puts whole fresh pages wherever the run is NULL, for a device to read
    /// into: the segments then name the addresses to fill (row Z10). Parts
    /// that were placed before stay.
    ///
    /// The device writes to these pages while nobody else has seen them; their
    /// bytes may be read, sent or shared only once it is done. How many pages those are.
    ///
    /// # Errors
    /// [`OutOfPages`] if the pool has too few; the run is unchanged.
    pub fn place_fresh(&mut self, pages: &ClusterPool) -> Result<usize, OutOfPages> {
        let needed = self.pages().iter().filter(|p| p.missing() > 0).count();
        if pages.free() < needed {
            return Err(OutOfPages);
        }
        for page in &mut self.pages[..self.used] {
            if page.missing() > 0 {
                let fresh = pages.alloc().ok_or(OutOfPages)?;
                page.fill_from(fresh.freeze());
            }
        }
        Ok(needed)
    }

    /// Whether every byte of the request is there.
    pub fn is_complete(&self) -> bool {
        self.missing() == 0
    }

    /// How many bytes of the request are NULL.
    pub fn missing(&self) -> usize {
        self.pages().iter().map(LogicalPage::missing).sum()
    }

    /// The segments of all pages in order: exactly the request's bytes.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.pages().iter().flat_map(|page| page.segments())
    }

    /// The bytes `range` of the request as slices, to be sent. NULL parts are left out.
    ///
    /// # Panics
    /// If `range` is not inside the request.
    pub fn slices(&self, range: Range<usize>) -> impl Iterator<Item = Slice> {
        self.parts(range).filter_map(|segment| segment.to_slice())
    }

    /// The segments of bytes `range` of the request, trimmed to it, NULL ones too.
    ///
    /// # Panics
    /// If `range` is not inside the request.
    pub fn parts(&self, range: Range<usize>) -> impl Iterator<Item = Segment> {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "parts outside the request"
        );
        let (first, _) = self.locate(range.start);
        let mut at = match first {
            0 => 0,
            n => n * PAGE_SIZE - self.head(),
        };
        let end = range.end;
        self.pages()[first.min(self.used)..]
            .iter()
            .flat_map(|page| page.segments())
            .map(move |segment| {
                at += segment.len();
                (at - segment.len(), segment)
            })
            .skip_while({
                let start = range.start;
                move |(at, segment)| at + segment.len() <= start
            })
            .take_while(move |(at, _)| *at < end)
            .map(move |(at, segment)| {
                let from = range.start.saturating_sub(at);
                let to = segment.len().min(range.end - at);
                segment.part(from..to)
            })
    }

    /// How many of the pages have one, two, three and four segments.
    pub fn fragments(&self) -> [u32; MAX_SEGMENTS] {
        let mut histogram = [0; MAX_SEGMENTS];
        for page in self.pages() {
            histogram[page.segments().len() - 1] += 1;
        }
        histogram
    }

    /// Drops every reference; the run covers nothing afterwards.
    pub fn clear(&mut self) {
        for page in &mut self.pages[..self.used] {
            page.reset();
        }
        self.used = 0;
        self.offset = 0;
        self.len = 0;
        self.checksums.clear();
    }

    /// Offset in its page of the request's first byte.
    fn head(&self) -> usize {
        (self.offset % PAGE_SIZE as u64) as usize
    }

    /// The page that byte `at` of the request is in, and the offset there.
    fn locate(&self, at: usize) -> (usize, usize) {
        let byte = self.head() + at;
        (byte / PAGE_SIZE, byte % PAGE_SIZE)
    }
}

impl fmt::Debug for PageRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageRun({}+{}) ", self.offset, self.len)?;
        f.debug_list().entries(self.segments()).finish()
    }
}

/// Runs made at start-up, taken and put back.
pub struct RunPool {
    // Boxed once, at the start: taking and putting back moves a pointer.
    #[allow(clippy::vec_box)]
    free: RefCell<Vec<Box<PageRun>>>,
    max_bytes: usize,
}

impl RunPool {
    /// Makes `count` runs for requests of up to `max_bytes` each.
    pub fn new(count: usize, max_bytes: usize) -> Self {
        let free = (0..count)
            .map(|_| Box::new(PageRun::new(max_bytes)))
            .collect();
        Self {
            free: RefCell::new(free),
            max_bytes,
        }
    }

    /// An empty run, if one is left.
    #[inline]
    pub fn take(&self) -> Option<Box<PageRun>> {
        self.free.borrow_mut().pop()
    }

    /// Gives a run back; it is cleared.
    ///
    /// Only runs that this pool gave out may come back: the pool's room was
    /// measured at the start.
    #[inline]
    pub fn put(&self, mut run: Box<PageRun>) {
        run.clear();
        let mut free = self.free.borrow_mut();
        debug_assert!(
            free.len() < free.capacity(),
            "a run of another pool came back"
        );
        free.push(run);
    }

    /// How many runs are in the pool.
    pub fn available(&self) -> usize {
        self.free.borrow().len()
    }

    /// The longest request a run can cover, in bytes.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}

impl fmt::Debug for RunPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunPool")
            .field("available", &self.available())
            .field("max_bytes", &self.max_bytes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arena, CopyLedger, HeapRegion};

    /// `size` bytes of `fill` in a cluster of their own.
    fn frame(pool: &ClusterPool, fill: u8, size: usize) -> Slice {
        let mut fresh = pool.alloc().unwrap();
        fresh[66..66 + size].fill(fill);
        fresh.freeze_filled(66 + size).slice(66..66 + size)
    }

    #[test]
    fn z06_fig_4_six_frames_of_an_8_kb_write_in_any_order() {
        let arena = Arena::new(HeapRegion::new(8));
        let frames = ClusterPool::carve(&arena, 6, 2048).unwrap();
        let pages = ClusterPool::carve(&arena, 1, PAGE_SIZE).unwrap();
        let ledger = CopyLedger::new();
        let pull_up = PullUp::new(&pages, &ledger);
        let runs = RunPool::new(1, 8192);
        let mut run = runs.take().unwrap();
        run.begin(0, 8192).unwrap();
        // The second frame arrives first, then the third, then the first.
        for n in [2, 3, 1, 6, 4, 5u8] {
            let at = (usize::from(n) - 1) * 1400;
            let size = 1400.min(8192 - at);
            assert!(!run.is_complete());
            run.place(at, frame(&frames, n, size), &pull_up).unwrap();
        }
        assert!(run.is_complete());
        let bytes: Vec<u8> = run
            .slices(0..8192)
            .flat_map(|s| s.bytes().to_vec())
            .collect();
        let expected: Vec<u8> = (0..8192).map(|i| (i / 1400 + 1) as u8).collect();
        assert_eq!(bytes, expected);
        assert_eq!(run.fragments(), [0, 0, 1, 1]);
        assert_eq!(ledger.bytes_copied_total(), 0);
        runs.put(run);
        assert_eq!((frames.held(), runs.available()), (0, 1));
    }

    #[test]
    fn z10_a_read_is_given_whole_pages_and_sent_in_any_cut() {
        let arena = Arena::new(HeapRegion::new(4));
        let pages = ClusterPool::carve(&arena, 3, PAGE_SIZE).unwrap();
        let runs = RunPool::new(1, 8192);
        let mut run = runs.take().unwrap();
        run.begin(512, 8192).unwrap();
        run.place_fresh(&pages).unwrap();
        assert_eq!(
            run.segments().map(Segment::len).collect::<Vec<_>>(),
            [3584, 4096, 512]
        );
        let lens = |range| run.slices(range).map(|s| s.len()).collect::<Vec<_>>();
        assert_eq!(lens(0..8192), [3584, 4096, 512]);
        assert_eq!(lens(3584..7680), [4096]);
        assert_eq!(lens(1000..4000), [2584, 416]);
        assert_eq!(lens(8000..8192), [192]);
        assert_eq!(lens(8192..8192), [0; 0]);
    }
}
