//! What the cache does with logical pages beyond merging into them.

use crate::logical::LogicalPage;
use crate::segment::Segment;

impl LogicalPage {
    /// How many clusters the segments are in. Shared ones count, too: the page
    /// of zeros, and the shelves, which are counted where they are kept, do not.
    pub(super) fn clusters(&self) -> u8 {
        let counted = |segment: &&Segment| {
            segment.kind() == crate::SegmentKind::Data
                && !segment.structure().is_some_and(|page| page.is_shelf())
        };
        let segments = self.segments();
        let new = |(i, segment): (usize, &Segment)| {
            counted(&segment)
                && !segments[..i]
                    .iter()
                    .any(|other| match (other.cluster(), segment.cluster()) {
                        (Some(a), Some(b)) => a.is_same(b),
                        _ => false,
                    })
        };
        segments.iter().enumerate().filter(|&s| new(s)).count() as u8
    }

    /// Bytes of memory the segments pin: of a cluster that others refer to as
    /// well, this page's share.
    pub(super) fn pinned_bytes(&self) -> usize {
        let share = |segment: &Segment| {
            let cluster = segment.cluster()?;
            (segment.kind() == crate::SegmentKind::Data)
                .then(|| cluster.size() / cluster.handles() as usize)
        };
        self.segments().iter().filter_map(share).sum()
    }
}
