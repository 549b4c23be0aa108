//! A received segment's payload, still in its clusters.

use pages::Slice;

/// Payload slices in order, trimmed as the sequence space asks.
pub(crate) struct Body<'a> {
    head: Option<Slice>,
    tail: &'a [Slice],
    /// Bytes to leave out of what comes next, and bytes to take in all.
    skip: usize,
    left: usize,
}

impl<'a> Body<'a> {
    /// `len` bytes: those of `head` from `from` on, then those of `tail`.
    pub(crate) fn new(mut head: Slice, from: usize, tail: &'a [Slice], len: usize) -> Self {
        let skip = from.saturating_sub(head.len());
        head.advance(from.min(head.len()));
        Self {
            head: Some(head),
            tail,
            skip,
            left: len,
        }
    }

    /// No payload.
    pub(crate) fn empty() -> Self {
        Self {
            head: None,
            tail: &[],
            skip: 0,
            left: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.left
    }

    /// Leaves out the first `n` bytes.
    pub(crate) fn trim_front(&mut self, n: usize) {
        self.skip += n;
        self.left -= n;
    }

    /// Leaves out all but the first `n` bytes.
    pub(crate) fn truncate(&mut self, n: usize) {
        self.left = self.left.min(n);
    }

    /// Clusters the bytes lie in.
    pub(crate) fn clusters(&self) -> u32 {
        if self.tail.is_empty() {
            return u32::from(self.left > 0);
        }
        let (mut skip, mut left, mut count) = (self.skip, self.left, 0);
        for slice in self.head.iter().chain(self.tail) {
            let skipped = skip.min(slice.len());
            skip -= skipped;
            let taken = left.min(slice.len() - skipped);
            left -= taken;
            count += u32::from(taken > 0);
        }
        count
    }

    /// The next slice that is not empty.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Slice> {
        if self.tail.is_empty() {
            // One cluster, as nearly always.
            let mut slice = self.head.take()?;
            slice.advance(std::mem::take(&mut self.skip).min(slice.len()));
            slice.truncate(std::mem::take(&mut self.left));
            return (!slice.is_empty()).then_some(slice);
        }
        while self.left > 0 {
            let mut slice = match self.head.take() {
                Some(head) => head,
                None => {
                    let (first, rest) = self.tail.split_first()?;
                    self.tail = rest;
                    first.clone()
                }
            };
            let skipped = self.skip.min(slice.len());
            self.skip -= skipped;
            slice.advance(skipped);
            slice.truncate(self.left);
            self.left -= slice.len();
            if !slice.is_empty() {
                return Some(slice);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pages::{Arena, ClusterPool, HeapRegion};

    #[test]
    fn z01_a_jumbo_segment_lies_in_several_clusters() {
        let arena = Arena::new(HeapRegion::new(8));
        let pool = ClusterPool::carve(&arena, 3, 2048).unwrap();
        let slice = |n: u8| {
            let mut fresh = pool.alloc().unwrap();
            fresh.fill(n);
            fresh.freeze().slice(0..100)
        };
        let head = slice(0);
        let tail = [slice(1), slice(2)];
        let mut body = Body::new(head, 54, &tail, 46 + 100 + 60);
        assert_eq!(body.clusters(), 3);
        body.trim_front(50);
        body.truncate(120);
        assert_eq!(body.clusters(), 2);
        let lens: Vec<_> = std::iter::from_fn(|| body.next())
            .map(|s| (s.bytes()[0], s.len()))
            .collect();
        assert_eq!(lens, [(1, 96), (2, 24)]);
        drop(tail);
        assert_eq!(pool.held(), 0);
    }
}
