//! Runs of bytes in clusters: slices, and segments that stay inside a physical page.

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;

use crate::arena::{PAGE_SIZE, PageIndex, PageStructure};
use crate::cluster::Cluster;

/// A run of bytes of one cluster, sharing it.
///
/// What the network hands up: it may cross a physical page boundary when the
/// cluster is larger than a page. [`Slice::segments`] cuts it where it does.
#[derive(Clone)]
pub struct Slice {
    cluster: Cluster,
    offset: u32,
    len: u32,
}

impl Slice {
    /// The bytes of `cluster` in `range`.
    ///
    /// # Panics
    /// If `range` is not inside the bytes in use ([`Cluster::filled`]).
    pub fn new(cluster: Cluster, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= cluster.filled(),
            "slice outside its cluster"
        );
        Self {
            cluster,
            offset: range.start as u32,
            len: (range.end - range.start) as u32,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The cluster the bytes are in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Offset of the first byte in its cluster.
    pub fn offset(&self) -> usize {
        self.offset as usize
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.cluster.bytes()[self.offset()..self.offset() + self.len()]
    }

    /// Address of the first byte.
    pub fn address(&self) -> NonNull<u8> {
        self.cluster.address_at(self.offset())
    }

    /// Drops the first `n` bytes from the view.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "advanced past the end of a slice");
        self.offset += n as u32;
        self.len -= n as u32;
    }

    /// Takes the `n` bytes before the view back in: undoes [`Slice::advance`].
    pub(crate) fn retreat(&mut self, n: usize) {
        self.offset -= n as u32;
        self.len += n as u32;
    }

    /// How many bytes from the first on lie in one physical page.
    pub(crate) fn in_physical_page(&self) -> usize {
        PAGE_SIZE - (self.cluster.address().as_ptr() as usize + self.offset()) % PAGE_SIZE
    }

    /// Drops all but the first `n` bytes from the view; no effect if there are fewer.
    pub fn truncate(&mut self, n: usize) {
        self.len = self.len.min(n.min(u32::MAX as usize) as u32);
    }

    /// Takes the first `n` bytes off as a view of their own.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn split_to(&mut self, n: usize) -> Slice {
        let mut head = self.clone();
        head.truncate(n);
        self.advance(n);
        head
    }

    /// The same bytes as segments, cut at physical page boundaries.
    pub fn segments(self) -> impl Iterator<Item = Segment> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let slice = rest.as_mut()?;
            let n = slice.len().min(slice.in_physical_page());
            let whole = n == slice.len();
            let head = if whole {
                rest.take()?
            } else {
                slice.split_to(n)
            };
            (!head.is_empty()).then(|| Segment::data(head))
        })
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[{}+{}]", self.cluster, self.offset, self.len)
    }
}

impl Cluster {
    /// A view of `range`, sharing this cluster.
    ///
    /// # Panics
    /// If `range` is not inside the cluster.
    pub fn slice(self, range: Range<usize>) -> Slice {
        Slice::new(self, range)
    }
}

/// What a segment's bytes are (row Z5, FIG. 3C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// Valid data in a physical page.
    Data,
    /// Part of the one shared page of zeros, which is never modified: a hole.
    Zero,
    /// Address zero: uninitialised, or beyond the end. May not be read or written.
    Null,
}

/// Most segments a logical page may have; one more triggers a pull-up (row Z8).
pub const MAX_SEGMENTS: usize = 4;

/// A pair <address, length> that does not cross a physical page boundary (row Z3).
#[derive(Clone)]
pub struct Segment {
    /// `None` is the NULL address.
    cluster: Option<Cluster>,
    offset: u32,
    len: u16,
    zero: bool,
}

const _: () = assert!(
    size_of::<Segment>() == 16,
    "four segments fill one cache line"
);

impl Segment {
    /// No segment: what an unused slot of a logical page holds.
    pub(crate) const VACANT: Segment = Segment {
        cluster: None,
        offset: 0,
        len: 0,
        zero: false,
    };

    /// A data segment over `slice`.
    ///
    /// # Panics
    /// If the slice crosses a physical page boundary or is empty: cut it with
    /// [`Slice::segments`].
    pub fn data(slice: Slice) -> Self {
        assert!(
            !slice.is_empty() && slice.len() <= slice.in_physical_page(),
            "a segment is not empty and does not cross a physical page"
        );
        Self {
            offset: slice.offset,
            len: slice.len as u16,
            cluster: Some(slice.cluster),
            zero: false,
        }
    }

    /// `len` bytes of zeros, from the start of `zero_page`, the arena's shared page of zeros.
    ///
    /// # Panics
    /// If `len` is zero or more than a page.
    pub fn zero(zero_page: &Cluster, len: usize) -> Self {
        assert!(
            (1..=PAGE_SIZE).contains(&len),
            "a segment holds 1 to 4096 bytes"
        );
        Self {
            cluster: Some(zero_page.clone()),
            offset: 0,
            len: len as u16,
            zero: true,
        }
    }

    /// `len` bytes that were never written.
    ///
    /// # Panics
    /// If `len` is zero or more than a page.
    pub fn null(len: usize) -> Self {
        assert!(
            (1..=PAGE_SIZE).contains(&len),
            "a segment holds 1 to 4096 bytes"
        );
        Self {
            cluster: None,
            offset: 0,
            len: len as u16,
            zero: false,
        }
    }

    /// As [`Segment::null`], for a length that is known to be right.
    #[inline]
    pub(crate) const fn gap(len: usize) -> Self {
        Self {
            cluster: None,
            offset: 0,
            len: len as u16,
            zero: false,
        }
    }

    /// What the bytes are.
    pub fn kind(&self) -> SegmentKind {
        match (&self.cluster, self.zero) {
            (None, _) => SegmentKind::Null,
            (Some(_), true) => SegmentKind::Zero,
            (Some(_), false) => SegmentKind::Data,
        }
    }

    /// Length in bytes, 1 to 4096.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Always false: a segment has at least one byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The cluster of a data or zero segment.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Address of the first byte; `None` is the NULL address.
    pub fn address(&self) -> Option<NonNull<u8>> {
        let cluster = self.cluster.as_ref()?;
        Some(cluster.address_at(self.offset as usize))
    }

    /// The bytes; `None` for a NULL segment, which may not be read (row Z5).
    pub fn bytes(&self) -> Option<&[u8]> {
        let start = self.offset as usize;
        Some(&self.cluster.as_ref()?.bytes()[start..start + self.len()])
    }

    /// The physical page the bytes lie in; `None` for a NULL segment.
    pub fn page(&self) -> Option<PageIndex> {
        Some(self.cluster.as_ref()?.page_at(self.offset as usize))
    }

    /// The part of the segment in `range` (offsets from its first byte).
    ///
    /// # Panics
    /// If `range` is empty or not inside the segment.
    pub fn part(&self, range: Range<usize>) -> Segment {
        assert!(
            range.start < range.end && range.end <= self.len(),
            "part outside its segment"
        );
        let mut part = self.clone();
        // Zeros all look alike: a part of a hole starts where the page of zeros does.
        if !part.zero && part.cluster.is_some() {
            part.offset += range.start as u32;
        }
        part.len = (range.end - range.start) as u16;
        part
    }

    /// Takes `next` in if it continues this segment: the bytes behind it in the
    /// same cluster and physical page, or more zeros, or more NULL.
    ///
    /// # Errors
    /// Gives `next` back if it does not.
    pub(crate) fn join(&mut self, next: Segment) -> Result<(), Segment> {
        if !self.continues_with(&next) {
            return Err(next);
        }
        self.len += next.len;
        Ok(())
    }

    /// Whether [`Segment::join`] would take `next`.
    #[inline]
    pub(crate) fn continues_with(&self, next: &Segment) -> bool {
        self.len() + next.len() <= PAGE_SIZE && self.continues_at(self.len(), next, 0)
    }

    /// Whether the bytes of `next` from `from` on lie behind the first `end` of
    /// this segment in memory, in the same physical page; or both are zeros, or NULL.
    #[inline]
    pub(crate) fn continues_at(&self, end: usize, next: &Segment, from: usize) -> bool {
        match (&self.cluster, &next.cluster) {
            (None, None) => true,
            (Some(a), Some(b)) if a.is_same(b) && self.zero == next.zero => {
                let start = self.offset as usize;
                self.zero
                    || start + end == next.offset as usize + from
                        && std::ptr::eq(a.structure_at(start), a.structure_at(start + end))
            }
            _ => false,
        }
    }

    /// Makes the segment its part of `len` bytes from `from` on; that may be more
    /// than it had, if its bytes continue behind it.
    #[inline]
    pub(crate) fn crop(&mut self, from: usize, len: usize) {
        if self.cluster.is_some() && !self.zero {
            self.offset += from as u32;
        }
        self.len = len as u16;
        debug_assert!((1..=PAGE_SIZE).contains(&len) && self.is_sound());
    }

    /// Not across a physical page, and not past the bytes in use.
    fn is_sound(&self) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| {
            let end = self.offset as usize + self.len();
            end <= cluster.filled() && self.offset_in_page() + self.len() <= PAGE_SIZE
        })
    }

    /// By how many bytes the first `end` bytes of the segment can grow where they
    /// are: if they end where their cluster's free space begins, by what that has
    /// in the same physical page.
    pub(crate) fn growth(&self, end: usize) -> usize {
        let Some(cluster) = self.cluster.as_ref().filter(|_| !self.zero) else {
            return 0;
        };
        let filled = cluster.filled();
        match self.offset as usize + end == filled {
            true => (PAGE_SIZE - self.offset_in_page() - end).min(cluster.size() - filled),
            false => 0,
        }
    }

    /// `len` bytes from `from` on; `None` if they are NULL. They may go on
    /// behind the segment, if its cluster's do.
    pub(crate) fn bytes_from(&self, from: usize, len: usize) -> Option<&[u8]> {
        let start = self.offset as usize + if self.zero { 0 } else { from };
        Some(&self.cluster.as_ref()?.bytes()[start..start + len])
    }

    /// Where the first byte is in its physical page; 0 for a NULL segment.
    pub(crate) fn offset_in_page(&self) -> usize {
        let address = self
            .cluster
            .as_ref()
            .map_or(0, |c| c.address().as_ptr() as usize);
        (address + self.offset as usize) % PAGE_SIZE
    }

    /// Whether the segment is NULL.
    #[inline]
    pub(crate) fn is_null(&self) -> bool {
        self.cluster.is_none()
    }

    /// The page structure of the physical page; `None` for a NULL segment.
    #[inline]
    pub fn structure(&self) -> Option<&PageStructure> {
        let cluster = self.cluster.as_ref()?;
        Some(cluster.structure_at(self.offset as usize))
    }

    /// A data segment's bytes as the slice it was made of.
    pub(crate) fn into_slice(self) -> Slice {
        Slice {
            cluster: self.cluster.expect("a data segment"),
            offset: self.offset,
            len: u32::from(self.len),
        }
    }

    /// The same bytes as a slice; `None` for a NULL segment.
    pub fn to_slice(&self) -> Option<Slice> {
        let start = self.offset as usize;
        Some(Slice::new(self.cluster.clone()?, start..start + self.len()))
    }
}

impl Default for Segment {
    fn default() -> Self {
        Self::VACANT
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cluster {
            None => write!(f, "NULL+{}", self.len),
            Some(_) if self.zero => write!(f, "zero+{}", self.len),
            Some(cluster) => write!(f, "{cluster:?}[{}+{}]", self.offset, self.len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arena, ClusterPool, HeapRegion};

    #[test]
    fn z03_a_slice_of_a_large_cluster_is_cut_at_page_boundaries() {
        let arena = Arena::new(HeapRegion::new(4));
        let pool = ClusterPool::carve(&arena, 1, 16384).unwrap();
        let slice = pool.alloc().unwrap().freeze().slice(66..9014);
        let lens: Vec<usize> = slice.segments().map(|s| s.len()).collect();
        assert_eq!(lens, [4030, 4096, 822]);
        assert_eq!(pool.held(), 0);
    }

    #[test]
    #[should_panic(expected = "does not cross a physical page")]
    fn z03_no_segment_crosses_a_physical_page() {
        let arena = Arena::new(HeapRegion::new(4));
        let pool = ClusterPool::carve(&arena, 1, 16384).unwrap();
        Segment::data(pool.alloc().unwrap().freeze().slice(4000..5000));
    }

    #[test]
    fn z05_a_null_segment_has_address_zero_and_no_bytes() {
        let null = Segment::null(512);
        assert_eq!(null.kind(), SegmentKind::Null);
        assert!(null.address().is_none() && null.bytes().is_none());
    }
}
