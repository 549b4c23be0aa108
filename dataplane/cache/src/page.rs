//! What logical pages cost the cache.

use pages::{LogicalPage, Segment, SegmentKind};

use crate::shelf::Shelves;

/// How many clusters the segments are in. Shared ones count, too: the page
/// of zeros, and the shelves, which are counted where they are kept, do not.
pub(crate) fn clusters(page: &LogicalPage) -> u8 {
    let counted = |segment: &&Segment| {
        segment.kind() == SegmentKind::Data && !segment.structure().is_some_and(Shelves::has)
    };
    let segments = page.segments();
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
pub(crate) fn pinned_bytes(page: &LogicalPage) -> usize {
    let share = |segment: &Segment| {
        let cluster = segment.cluster()?;
        (segment.kind() == SegmentKind::Data).then(|| cluster.size() / cluster.handles() as usize)
    };
    page.segments().iter().filter_map(share).sum()
}
