//! Logical pages: aligned 4 KB views over at most four segments (rows Z3–Z8).

use std::fmt;
use std::ops::Range;

use crate::arena::{PAGE_SIZE, PageStructure};
use crate::cluster::Cluster;
use crate::merge::{Layout, MAX_PIECES, Part, Piece, Slots, Sources};
use crate::pull_up::{Gaps, Joined, PullUp};
use crate::refusal::{NullRead, Refusal, WriteError};
use crate::segment::{MAX_SEGMENTS, Segment, Slice};

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

impl LogicalPage {
    /// A page of which nothing is known: one NULL segment of 4096 bytes (row Z5, FIG. 3C).
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
    #[inline(always)] // Short, where `append` does it.
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
        let rest = self.append(offset, segment);
        let rest = rest.or_else(|segment| self.append_a_fifth(offset, segment, pull_up));
        rest.or_else(|segment| self.put(offset, segment, pull_up, Gaps::Keep))
    }

    /// As [`LogicalPage::write`], for callers that keep track of valid bytes apart
    /// from the page: to get back to four segments, NULL may become zeros.
    ///
    /// # Errors
    /// As [`LogicalPage::write`].
    pub fn write_over_gaps(
        &mut self,
        offset: usize,
        segment: Segment,
        pull_up: &PullUp<'_>,
    ) -> Result<(), WriteError> {
        match self.append(offset, segment) {
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
        let extent = self.extent();
        self.reset();
        self.cover(extent);
    }

    /// Makes it a view of a whole page, all NULL.
    pub(crate) fn reset(&mut self) {
        for_distinct(self.segments(), PageStructure::unrefer);
        for slot in &mut self.slots[..self.count as usize] {
            *slot = Segment::VACANT;
        }
        self.count = 1;
        self.cover(0..PAGE_SIZE);
    }

    /// Makes a view that is all NULL one of bytes `range`.
    pub(crate) fn cover(&mut self, range: Range<usize>) {
        debug_assert!(self.count == 1 && self.slots[0].is_null());
        self.slots[0] = Segment::null(range.len());
        self.start = range.start as u16;
        self.end = range.end as u16;
        self.missing = self.end - self.start;
    }

    /// Asks for the memory that copies of the view, and its end, look at.
    pub fn prefetch(&self) {
        let clusters = self.segments().iter().filter_map(Segment::cluster);
        clusters.for_each(Cluster::prefetch);
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

    /// The parts of the segments that lie in `range`, NULL ones too.
    pub fn parts(&self, range: Range<usize>) -> impl Iterator<Item = Segment> {
        self.placed().filter_map(move |(at, segment)| {
            let from = range.start.max(at);
            let to = range.end.min(at + segment.len());
            (from < to).then(|| segment.part(from - at..to - at))
        })
    }

    /// The usual write: `segment` continues what is there, and what is behind
    /// it is NULL. Gives it back, and nothing has changed, if there is more to do.
    #[inline(always)]
    fn append(&mut self, offset: usize, segment: Segment) -> Result<(), Segment> {
        let last = (self.count as usize - 1) % MAX_SEGMENTS;
        let (gap_len, len) = (self.slots[last].len(), segment.len());
        if !self.slots[last].is_null()
            || offset + gap_len != self.end as usize
            || len > gap_len
            || last == MAX_SEGMENTS - 1 && len < gap_len
        {
            return Err(segment);
        }
        let before = &self.slots[..last];
        if before
            .last()
            .is_some_and(|last| last.continues_with(&segment))
        {
            return Err(segment);
        }
        if let Some(page) = segment.structure()
            && !refers_to(before, page)
        {
            page.refer();
        }
        self.missing -= len as u16;
        // The gap has nothing to drop.
        std::mem::forget(std::mem::replace(&mut self.slots[last], segment));
        if len < gap_len {
            let rest = Segment::gap(gap_len - len);
            std::mem::forget(std::mem::replace(&mut self.slots[last + 1], rest));
            self.count += 1;
        }
        Ok(())
    }

    /// As [`LogicalPage::append`] behind three segments, with NULL left behind:
    /// what every small frame of a stream does. The least copying is found and
    /// done at once, if it is a segment growing where it is by the next one.
    #[inline(never)]
    fn append_a_fifth(
        &mut self,
        offset: usize,
        segment: Segment,
        pull_up: &PullUp<'_>,
    ) -> Result<(), Segment> {
        let [a, b, c, gap] = &self.slots;
        let len = segment.len();
        if self.count as usize != MAX_SEGMENTS
            || !gap.is_null()
            || offset + gap.len() != self.end as usize
            || len >= gap.len()
            || a.is_null()
            || b.is_null()
            || c.is_null()
            || c.continues_with(&segment)
        {
            return Err(segment);
        }
        let pairs = [(a, b), (b, c), (c, &segment)];
        let grows = |(first, next): &(&Segment, &Segment)| next.len() <= first.growth(first.len());
        let cost = |pair: &(&Segment, &Segment)| match grows(pair) {
            true => pair.1.len(),
            false => pair.0.len() + pair.1.len(),
        };
        let costs = pairs.map(|pair| cost(&pair));
        let first = costs
            .iter()
            .min()
            .and_then(|least| costs.iter().position(|n| n == least));
        let Some(first) = first.filter(|&i| grows(&pairs[i])) else {
            return Err(segment);
        };
        let old = self.structures();
        let mut new = [old[0], old[1], old[2], segment.structure()];
        new[first + 1..].rotate_left(1);
        new[MAX_SEGMENTS - 1] = None;
        recount(old, new);
        pull_up.grow(pairs[first].0, pairs[first].1);
        let mut segment = segment;
        if first < 2 {
            std::mem::swap(&mut self.slots[2], &mut segment);
        }
        if first < 1 {
            std::mem::swap(&mut self.slots[1], &mut segment);
        }
        // `segment` is the one that was joined to its neighbour now, and is dropped.
        let grown = self.slots[first].len() + segment.len();
        self.slots[first].crop(0, grown);
        self.slots[MAX_SEGMENTS - 1] = Segment::gap(self.slots[MAX_SEGMENTS - 1].len() - len);
        self.missing -= len as u16;
        Ok(())
    }

    /// Any write: lays `segment` over what is there, and pulls up if need be.
    #[inline(never)]
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
        let sources = Sources {
            slots: &self.slots[..self.count as usize],
            new: &segment,
        };
        let layout = Layout::overlay(sources, self.start as usize, offset);
        let pieces = layout.pieces();
        let mut joined = Default::default();
        if pieces.len() > MAX_SEGMENTS {
            let mut parts = [Part::new(sources, &pieces[0]); MAX_PIECES];
            for (part, piece) in parts.iter_mut().zip(pieces) {
                *part = Part::new(sources, piece);
            }
            match pull_up.join(&parts[..pieces.len()], gaps) {
                Ok(segments) => joined = segments,
                Err(reason) => return Err(WriteError { reason, segment }),
            }
        }
        self.rebuild(pieces, joined, segment);
        Ok(())
    }

    /// Takes over the pieces of a merge; those in the runs of `joined` have become one
    /// segment each.
    fn rebuild(&mut self, pieces: &[Piece], mut joined: [Joined; 2], mut new: Segment) {
        let sources = Sources {
            slots: self.segments(),
            new: &new,
        };
        let mut pages = [None; MAX_SEGMENTS];
        let mut count = 0;
        let mut i = 0;
        while let Some(piece) = pieces.get(i) {
            let joined = joined
                .iter()
                .find(|j| j.run.start == i && j.segment.is_some());
            pages[count] = match joined {
                Some(Joined { segment, .. }) => segment.as_ref().and_then(Segment::structure),
                None => sources.of(piece).structure(),
            };
            i = joined.map_or(i + 1, |joined| joined.run.end);
            count += 1;
        }
        recount(self.structures(), pages);
        let mut old = std::mem::take(&mut self.slots);
        i = 0;
        for slot in &mut self.slots[..count] {
            let joined = joined
                .iter_mut()
                .find(|j| j.run.start == i && j.segment.is_some());
            if let Some(Joined { segment, run }) = joined {
                *slot = segment.take().unwrap_or_default();
                i = run.end;
                continue;
            }
            let piece = pieces[i];
            i += 1;
            // The head and the tail of a segment share its cluster.
            let again = pieces[i..].iter().any(|next| next.source == piece.source);
            let source = old.get_mut(piece.source as usize).unwrap_or(&mut new);
            *slot = match again {
                true => source.clone(),
                false => std::mem::take(source),
            };
            slot.crop(piece.from as usize, piece.len as usize);
        }
        self.count = count as u8;
        self.count_missing();
    }

    fn count_missing(&mut self) {
        let null = self.segments().iter().filter(|segment| segment.is_null());
        self.missing = null.map(|segment| segment.len() as u16).sum();
    }

    /// The physical pages that the slots lie in.
    fn structures(&self) -> [Option<&PageStructure>; MAX_SEGMENTS] {
        self.slots.each_ref().map(Segment::structure)
    }

    /// Puts the bytes of `cluster`, a whole page, wherever the view is NULL.
    pub(crate) fn fill_from(&mut self, cluster: Cluster) {
        if let [only] = self.segments()
            && only.is_null()
        {
            // As most reads begin.
            let segment = Segment::data(Slice::new(cluster, self.extent()));
            if let Some(page) = segment.structure() {
                page.refer();
            }
            // NULL has nothing to drop.
            std::mem::forget(std::mem::replace(&mut self.slots[0], segment));
            self.missing = 0;
            return;
        }
        let mut slots = Slots::default();
        for (at, segment) in self.placed() {
            slots.push(match segment.is_null() {
                true => Segment::data(Slice::new(cluster.clone(), at..at + segment.len())),
                false => segment.clone(),
            });
        }
        self.replace(slots);
    }

    /// Becomes a second view of the bytes that `other` has in this view's extent.
    pub fn mirror(&mut self, other: &LogicalPage) {
        let mut slots = Slots::default();
        if self.extent() == other.extent() {
            slots.list.clone_from(&other.slots);
            slots.count = other.count as usize;
        } else {
            other.parts(self.extent()).for_each(|part| slots.push(part));
        }
        self.replace(slots);
    }

    /// Takes over `segment`, which has its place at `offset`, for the whole view:
    /// what lies around it becomes NULL.
    ///
    /// # Panics
    /// If the segment does not lie inside the view.
    pub fn replace_with(&mut self, offset: usize, segment: Segment) {
        let (start, end) = (self.start as usize, self.end as usize);
        let behind = offset + segment.len();
        assert!(
            start <= offset && behind <= end,
            "a segment outside the view"
        );
        let mut slots = Slots::default();
        if start < offset {
            slots.push(Segment::null(offset - start));
        }
        slots.push(segment);
        if behind < end {
            slots.push(Segment::null(end - behind));
        }
        self.replace(slots);
    }

    /// Takes over other segments for the whole view.
    pub(crate) fn replace(&mut self, slots: Slots) {
        recount(
            self.structures(),
            slots.list.each_ref().map(Segment::structure),
        );
        self.slots = slots.list;
        self.count = slots.count as u8;
        self.count_missing();
    }
}

/// Row Z4: counts the page in the physical pages that are `new`, and no more in
/// those that were only `old`.
fn recount(
    old: [Option<&PageStructure>; MAX_SEGMENTS],
    new: [Option<&PageStructure>; MAX_SEGMENTS],
) {
    let address = |page: Option<&PageStructure>| page.map_or(std::ptr::null(), std::ptr::from_ref);
    let (olds, news) = (old.map(address), new.map(address));
    for i in 0..MAX_SEGMENTS {
        if let Some(page) = new[i]
            && !olds.contains(&news[i])
            && !news[..i].contains(&news[i])
        {
            page.refer();
        }
        if let Some(page) = old[i]
            && !news.contains(&olds[i])
            && !olds[..i].contains(&olds[i])
        {
            page.unrefer();
        }
    }
}

/// Whether one of the segments lies in the physical page.
#[inline]
fn refers_to(segments: &[Segment], page: &PageStructure) -> bool {
    let pages = segments.iter().filter_map(Segment::structure);
    pages.into_iter().any(|other| std::ptr::eq(other, page))
}

/// Calls `each` once for every physical page that the segments lie in.
#[inline]
fn for_distinct(segments: &[Segment], each: impl Fn(&PageStructure)) {
    for (i, segment) in segments.iter().enumerate() {
        if let Some(page) = segment.structure()
            && !refers_to(&segments[..i], page)
        {
            each(page);
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
        for_distinct(self.segments(), PageStructure::refer);
        Self {
            slots: self.slots.clone(),
            ..*self
        }
    }
}

impl Drop for LogicalPage {
    fn drop(&mut self) {
        for_distinct(self.segments(), PageStructure::unrefer);
    }
}

impl fmt::Debug for LogicalPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.segments()).finish()
    }
}
