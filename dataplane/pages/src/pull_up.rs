//! Pull-up (row Z8): the least copying that brings a page back to four segments.

use std::ops::Range;

use crate::cluster::{Cluster, ClusterPool};
use crate::ledger::{CopyLedger, CopyReason};
use crate::logical::{MAX_SEGMENTS, Refusal};
use crate::merge::{MAX_PARTS, Parts};
use crate::segment::{Segment, SegmentKind, Slice};

/// What a pull-up needs: where to take a fresh page from, and where to count
/// what it copied.
///
/// A pull-up makes runs of adjacent segments into one each. A run's first
/// segment stays where it is if it ends at its cluster's free space and that
/// has room for the others; otherwise the whole run is copied, into the free
/// space of one of the page's clusters, or else into a fresh page. Free space
/// is what lies behind [`Cluster::filled`]: never protocol or file data.
#[derive(Clone, Copy)]
pub struct PullUp<'a> {
    /// Whole pages, for runs that fit in no free space.
    pub pages: &'a ClusterPool,
    /// Where copied bytes are counted.
    pub ledger: &'a CopyLedger,
}

/// Which segments are joined with the one behind them: bit `i` for segment `i`.
#[derive(Clone, Copy)]
struct Joins(u8);

impl Joins {
    /// Every set of `joins` joins among `segments` segments, lowest offsets first.
    fn all(segments: usize, joins: usize) -> impl Iterator<Item = Joins> {
        (0..1u8 << (segments - 1))
            .filter(move |bits| bits.count_ones() as usize == joins)
            .map(Joins)
    }

    /// The runs of segments that stay or become one segment each.
    fn runs(self, segments: usize) -> impl Iterator<Item = Range<usize>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = next;
            if start == segments {
                return None;
            }
            while self.0 >> next & 1 == 1 {
                next += 1;
            }
            next += 1;
            Some(start..next)
        })
    }
}

impl<'a> PullUp<'a> {
    /// With fresh pages from `pages`, counting in `ledger`.
    pub fn new(pages: &'a ClusterPool, ledger: &'a CopyLedger) -> Self {
        Self { pages, ledger }
    }

    /// Brings `parts` to at most four segments. On an error they are as they were.
    pub(crate) fn reduce(&self, parts: &mut Parts) -> Result<(), Refusal> {
        let segments = parts.segments();
        let Some(excess) = segments.len().checked_sub(MAX_SEGMENTS + 1) else {
            return Ok(());
        };
        // A join more than needed never copies less, so exactly `excess + 1`
        // are looked at: at most ten sets. The first of equals has the lowest offsets.
        let joins = Joins::all(segments.len(), excess + 1)
            .filter_map(|joins| Some((self.cost(segments, joins)?, joins)))
            .min_by_key(|&(cost, _)| cost)
            .ok_or(Refusal::TooFragmented)?
            .1;
        let fresh = joins
            .runs(segments.len())
            .filter(|run| run.len() > 1 && !fits(segments, run))
            .count();
        if self.pages.free() < fresh {
            return Err(Refusal::OutOfPages);
        }
        let mut reduced = Parts::new();
        for run in joins.runs(segments.len()) {
            if run.len() == 1 {
                reduced.push(segments[run.start].clone());
            } else {
                reduced.push(self.join(segments, run).ok_or(Refusal::OutOfPages)?);
            }
        }
        *parts = reduced;
        Ok(())
    }

    /// Bytes that `joins` would copy; `None` if a NULL segment is among the joined.
    fn cost(&self, segments: &[Segment], joins: Joins) -> Option<usize> {
        joins
            .runs(segments.len())
            .filter(|run| run.len() > 1)
            .map(|run| {
                let joined = &segments[run];
                let copied = match stays(joined) {
                    true => &joined[1..],
                    false => joined,
                };
                (!joined.iter().any(|s| s.kind() == SegmentKind::Null))
                    .then(|| copied.iter().map(Segment::len).sum::<usize>())
            })
            .sum()
    }

    /// Makes `run` one segment; `None` if it needs a fresh page and there is none.
    fn join(&self, segments: &[Segment], run: Range<usize>) -> Option<Segment> {
        let joined = &segments[run];
        if stays(joined) {
            let mut first = joined[0].clone();
            let cluster = first.cluster()?.clone();
            for segment in &joined[1..] {
                first.extend(self.copy(segment, &cluster));
            }
            return Some(first);
        }
        let len = total(joined);
        let cluster = match with_room(segments, len) {
            Some(cluster) => cluster.clone(),
            None => self.pages.alloc()?.freeze_filled(0),
        };
        let start = cluster.filled();
        for segment in joined {
            self.copy(segment, &cluster);
        }
        Some(Segment::data(Slice::new(cluster, start..start + len)))
    }

    fn copy(&self, segment: &Segment, to: &Cluster) -> usize {
        let bytes = segment.bytes().unwrap_or_default();
        to.append(bytes);
        self.ledger.copied(CopyReason::PullUp, bytes.len());
        bytes.len()
    }
}

fn total(segments: &[Segment]) -> usize {
    segments.iter().map(Segment::len).sum()
}

/// Whether the first of `joined` can stay where it is, the others copied behind it.
fn stays(joined: &[Segment]) -> bool {
    joined[0].can_grow(total(&joined[1..]))
}

/// Whether `run` becomes one segment without a fresh page.
fn fits(segments: &[Segment], run: &Range<usize>) -> bool {
    let joined = &segments[run.clone()];
    stays(joined) || with_room(segments, total(joined)).is_some()
}

/// The first cluster with free space for `len` bytes.
fn with_room(segments: &[Segment], len: usize) -> Option<&Cluster> {
    debug_assert!(segments.len() <= MAX_PARTS);
    segments
        .iter()
        .filter_map(Segment::cluster)
        .find(|cluster| cluster.room() >= len)
}
