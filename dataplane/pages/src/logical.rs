//! Logical pages: aligned 4 KB views over at most four segments (rows Z3–Z8).

use std::fmt;
use std::ops::Range;

use crate::arena::PAGE_SIZE;
use crate::cluster::Cluster;
use crate::merge::Parts;
use crate::pull_up::{Gaps, PullUp};
use crate::segment::{Segment, SegmentKind, Slice};

/// Most segments a logical page may have; one more triggers a pull-up (row Z8).
pub const MAX_SEGMENTS: usize = 4;

/// An aligned 4 KB view of bytes that lie anywhere: at most four segments.
///
/// A page starts as one NULL segment and is written by reference. It counts
/// itself once in each physical page it refers to, however many of its
/// segments lie there (row Z4).
///
/// A view may be of a *part* of a page, when a request covers no more: the
/// segments then cover that part, and nothing outside can be written or read.
pub struct LogicalPage {
    /// The first `count` are segments, side by side; the others are vacant.
    slots: [Segment; MAX_SEGMENTS],
    /// The view covers bytes `start..end` of the page.
    start: u16,
    end: u16,
    /// How many of them are NULL.
    missing: u16,
    count: u8,
}

const _: () = assert!(size_of::<LogicalPage>() == 72);

/// Why a page was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The bytes are not inside the page, or not inside the part the view covers.
    Outside,
    /// A NULL segment has no bytes to write (row Z5).
    Null,
    /// NULL segments keep more than four apart, so that no copying could bring
    /// them back to four. Fill the gaps first, or write in another order.
    TooFragmented,
    /// A pull-up needs a fresh page, and the pool has none.
    OutOfPages,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Outside => "outside the page",
            Refusal::Null => "a NULL segment has no bytes",
            Refusal::TooFragmented => "too many gaps in one page",
            Refusal::OutOfPages => "no free page for a pull-up",
        })
    }
}

/// A refused write; the page is as it was, and the segment comes back.
#[derive(Debug)]
pub struct WriteError {
    /// Why.
    pub reason: Refusal,
    /// What was to be written.
    pub segment: Segment,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl std::error::Error for WriteError {}

/// A read touched a NULL segment (row Z5), or bytes outside the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NullRead {
    /// Offset in the page of the first byte that cannot be read.
    pub at: usize,
}

impl fmt::Display for NullRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of the page was never written", self.at)
    }
}

impl std::error::Error for NullRead {}

impl LogicalPage {
    /// A page of which nothing is known: one NULL segment of 4096 bytes (FIG. 3C).
    pub fn new() -> Self {
        Self::covering(0..PAGE_SIZE)
    }

    /// A view of bytes `range` of a page, one NULL segment.
    ///
    /// # Panics
    /// If `range` is empty or not inside a page.
    pub fn covering(range: Range<usize>) -> Self {
        let mut slots = [Segment::VACANT; MAX_SEGMENTS];
        assert!(range.end <= PAGE_SIZE, "a page has 4096 bytes");
        slots[0] = Segment::null(range.end.saturating_sub(range.start));
        Self {
            slots,
            start: range.start as u16,
            end: range.end as u16,
            missing: (range.end - range.start) as u16,
            count: 1,
        }
    }

    /// The part of the page that the segments cover, lowest offset first: all
    /// of it, unless the view was made by [`LogicalPage::covering`].
    pub fn extent(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The segments, side by side in the order of their offsets: one to four.
    pub fn segments(&self) -> &[Segment] {
        &self.slots[..self.count as usize]
    }

    /// How many bytes of the view are NULL.
    pub fn missing(&self) -> usize {
        self.missing as usize
    }

    /// Puts `segment` at `offset`, over what was there (row Z7, FIGS. 7A–7D).
    ///
    /// No byte is copied, unless more than four segments would remain: then a
    /// pull-up copies the least that brings them back to four (row Z8).
    ///
    /// # Errors
    /// The page is unchanged and the segment comes back; see [`Refusal`].
    #[inline]
    pub fn write(
        &mut self,
        offset: usize,
        segment: Segment,
        pull_up: &PullUp<'_>,
    ) -> Result<(), WriteError> {
        if segment.is_null() {
            let reason = Refusal::Null;
            return Err(WriteError { reason, segment });
        }
        match self.fill_gap(offset, segment) {
            Ok(()) => Ok(()),
            Err(segment) => self.put(offset, segment, pull_up, Gaps::Keep),
        }
    }

    /// As [`LogicalPage::write`], for whoever keeps track of valid bytes apart
    /// from the page: to get back to four segments, NULL may become zeros.
    pub(crate) fn write_over_gaps(
        &mut self,
        offset: usize,
        segment: Segment,
        pull_up: &PullUp<'_>,
    ) -> Result<(), WriteError> {
        match self.fill_gap(offset, segment) {
            Ok(()) => Ok(()),
            Err(segment) => self.put(offset, segment, pull_up, Gaps::Fill),
        }
    }

    /// Makes `len` bytes at `offset` a hole: they read as zeros, from the one
    /// shared `zero_page` (row Z5).
    ///
    /// # Errors
    /// As [`LogicalPage::write`].
    ///
    /// # Panics
    /// If `len` is zero or more than a page.
    pub fn zero(
        &mut self,
        offset: usize,
        len: usize,
        zero_page: &Cluster,
        pull_up: &PullUp<'_>,
    ) -> Result<(), WriteError> {
        self.put(offset, Segment::zero(zero_page, len), pull_up, Gaps::Keep)
    }

    /// Makes the bytes from offset `len` on NULL: they lie beyond the end (row Z5).
    ///
    /// # Errors
    /// As [`LogicalPage::write`]; the page is unchanged.
    pub fn truncate(&mut self, len: usize, pull_up: &PullUp<'_>) -> Result<(), Refusal> {
        let from = len.max(self.start as usize);
        if from >= self.end as usize {
            return Ok(());
        }
        let null = Segment::null(self.end as usize - from);
        self.put(from, null, pull_up, Gaps::Keep)
            .map_err(|error| error.reason)
    }

    /// The segments that make up bytes `range`, trimmed to it.
    ///
    /// # Errors
    /// [`NullRead`] if a byte of `range` is NULL or outside the view (row Z5).
    pub fn read(&self, range: Range<usize>) -> Result<impl Iterator<Item = Segment>, NullRead> {
        match self.first_unreadable(&range) {
            Some(at) => Err(NullRead { at }),
            None => Ok(self.parts(range)),
        }
    }

    /// Whether every byte of `range` is data or zeros.
    pub fn is_valid(&self, range: Range<usize>) -> bool {
        self.first_unreadable(&range).is_none()
    }

    /// Makes the whole view NULL again.
    pub fn clear(&mut self) {
        unrefer_distinct(self.segments());
        for slot in &mut self.slots[..self.count as usize] {
            *slot = Segment::VACANT;
        }
        self.count = 1;
        self.slots[0] = Segment::null(self.extent().len());
        self.missing = self.end - self.start;
    }

    /// Makes a view that is all NULL one of bytes `range`.
    #[inline]
    pub(crate) fn cover(&mut self, range: Range<usize>) {
        debug_assert!(self.count == 1 && self.slots[0].is_null());
        self.slots[0] = Segment::null(range.len());
        self.start = range.start as u16;
        self.end = range.end as u16;
        self.missing = self.end - self.start;
    }

    /// Each segment with the offset of its first byte in the page.
    pub fn placed(&self) -> impl Iterator<Item = (usize, &Segment)> {
        let mut at = self.start as usize;
        self.segments().iter().map(move |segment| {
            at += segment.len();
            (at - segment.len(), segment)
        })
    }

    fn first_unreadable(&self, range: &Range<usize>) -> Option<usize> {
        if range.is_empty() {
            return None;
        }
        if range.start < self.start as usize {
            return Some(range.start);
        }
        if self.missing > 0 {
            for (at, segment) in self.placed() {
                let end = at + segment.len();
                if segment.is_null() && at < range.end && end > range.start {
                    return Some(at.max(range.start));
                }
            }
        }
        (range.end > self.end as usize).then_some(self.end as usize)
    }

    /// The parts of the segments that lie in `range`.
    pub(crate) fn parts(&self, range: Range<usize>) -> impl Iterator<Item = Segment> {
        self.placed().filter_map(move |(at, segment)| {
            let from = range.start.max(at);
            let to = range.end.min(at + segment.len());
            (from < to).then(|| segment.part(from - at..to - at))
        })
    }

    /// The usual write: `segment` goes into a gap, and four segments are enough.
    /// Gives it back, and nothing has changed, if there is more to do.
    #[inline]
    fn fill_gap(&mut self, offset: usize, segment: Segment) -> Result<(), Segment> {
        let count = self.count as usize;
        let mut i = 0;
        let mut at = self.start as usize;
        if offset < at {
            return Err(segment);
        }
        while i < count && at + self.slots[i].len() <= offset {
            at += self.slots[i].len();
            i += 1;
        }
        if i == count || !self.slots[i].is_null() {
            return Err(segment);
        }
        let head = offset - at;
        let Some(tail) = (self.slots[i].len() - head).checked_sub(segment.len()) else {
            return Err(segment);
        };
        if tail == 0 && i + 1 < count && segment.continues_with(&self.slots[i + 1]) {
            return Err(segment);
        }
        let len = segment.len() as u16;
        if head == 0 && i > 0 && self.slots[i - 1].continues_with(&segment) {
            // The bytes follow those before them in memory too: no new segment.
            self.slots[i - 1].extend(segment.len());
            match tail {
                0 => self.remove(i),
                _ => self.slots[i].resize_null(tail),
            }
        } else {
            if count + usize::from(head > 0) + usize::from(tail > 0) > MAX_SEGMENTS {
                return Err(segment);
            }
            if !shares_page(&segment, self.segments())
                && let Some(page) = segment.structure()
            {
                page.refer();
            }
            // The gap's own slot becomes its head, the segment, or its tail.
            match (head, tail) {
                (0, 0) => self.slots[i] = segment,
                (0, _) => {
                    self.slots[i].resize_null(tail);
                    self.insert(i, segment);
                }
                (_, 0) => {
                    self.slots[i].resize_null(head);
                    self.insert(i + 1, segment);
                }
                _ => {
                    self.slots[i].resize_null(head);
                    self.insert(i + 1, segment);
                    self.insert(i + 2, Segment::null(tail));
                }
            }
        }
        self.missing -= len;
        Ok(())
    }

    /// Puts a segment into slot `i`, moving the ones behind up.
    #[inline]
    fn insert(&mut self, i: usize, segment: Segment) {
        let mut carried = segment;
        for slot in &mut self.slots[i..=self.count as usize] {
            std::mem::swap(slot, &mut carried);
        }
        self.count += 1;
    }

    /// Takes slot `i` out, moving the ones behind down.
    fn remove(&mut self, i: usize) {
        self.slots[i..self.count as usize].rotate_left(1);
        self.count -= 1;
        self.slots[self.count as usize] = Segment::VACANT;
    }

    fn put(
        &mut self,
        offset: usize,
        segment: Segment,
        pull_up: &PullUp<'_>,
        gaps: Gaps,
    ) -> Result<(), WriteError> {
        if offset < self.start as usize || offset + segment.len() > self.end as usize {
            let reason = Refusal::Outside;
            return Err(WriteError { reason, segment });
        }
        let mut parts = Parts::overlay(self, offset, &segment);
        if let Err(reason) = pull_up.reduce(&mut parts, gaps) {
            return Err(WriteError { reason, segment });
        }
        self.replace(parts);
        Ok(())
    }

    /// Puts the bytes of `cluster`, a whole page, wherever the view is NULL.
    pub(crate) fn fill_from(&mut self, cluster: &Cluster) {
        let mut parts = Parts::new();
        for (at, segment) in self.placed() {
            parts.push(match segment.kind() {
                SegmentKind::Null => {
                    Segment::data(Slice::new(cluster.clone(), at..at + segment.len()))
                }
                _ => segment.clone(),
            });
        }
        self.replace(parts);
    }

    /// Takes over the segments of `parts`, which are at most four.
    pub(crate) fn replace(&mut self, parts: Parts) {
        let (slots, count) = parts.into_slots();
        let old = std::mem::replace(&mut self.slots, slots);
        self.count = count as u8;
        // Count the new pages before the old ones go (row Z4).
        refer_distinct(self.segments());
        unrefer_distinct(&old);
        self.missing = self
            .segments()
            .iter()
            .filter(|s| s.is_null())
            .map(|s| s.len() as u16)
            .sum();
    }
}

/// Whether some segment of `others` lies in the same physical page as `segment`.
fn shares_page(segment: &Segment, others: &[Segment]) -> bool {
    let Some(page) = segment.structure() else {
        return true;
    };
    others
        .iter()
        .filter_map(Segment::structure)
        .any(|other| std::ptr::eq(other, page))
}

fn refer_distinct(segments: &[Segment]) {
    for (i, segment) in segments.iter().enumerate() {
        if !shares_page(segment, &segments[..i])
            && let Some(page) = segment.structure()
        {
            page.refer();
        }
    }
}

fn unrefer_distinct(segments: &[Segment]) {
    for (i, segment) in segments.iter().enumerate() {
        if !shares_page(segment, &segments[..i])
            && let Some(page) = segment.structure()
        {
            page.unrefer();
        }
    }
}

impl Default for LogicalPage {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for LogicalPage {
    /// A second view of the same bytes: the physical pages count it too (row Z4).
    fn clone(&self) -> Self {
        refer_distinct(self.segments());
        Self {
            slots: self.slots.clone(),
            ..*self
        }
    }
}

impl Drop for LogicalPage {
    fn drop(&mut self) {
        unrefer_distinct(self.segments());
    }
}

impl fmt::Debug for LogicalPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.segments()).finish()
    }
}
