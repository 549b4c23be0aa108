//! Pull-up (row Z8): the least copying that brings a page back to four segments.

use std::ops::Range;

use crate::arena::PAGE_SIZE;
use crate::cluster::{Cluster, ClusterPool};
use crate::ledger::{CopyLedger, CopyReason};
use crate::logical::{MAX_SEGMENTS, Refusal};
use crate::merge::Parts;
use crate::segment::{Segment, Slice};

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

/// What a pull-up may do with NULL segments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// They stay NULL, and segments on both sides of one are never joined.
    Keep,
    /// They may become zeros: whoever writes knows which bytes are valid.
    Fill,
}

const ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

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

    /// Brings `parts` to at most four segments. On an error nothing was copied.
    #[inline]
    pub(crate) fn reduce(&self, parts: &mut Parts, gaps: Gaps) -> Result<(), Refusal> {
        match parts.segments().len().saturating_sub(MAX_SEGMENTS) {
            0 => Ok(()),
            excess => self.join(parts, excess, gaps),
        }
    }

    /// Makes the `excess` joins that copy least; of equals, those at the lowest offsets.
    fn join(&self, parts: &mut Parts, excess: usize, gaps: Gaps) -> Result<(), Refusal> {
        let segments = parts.segments();
        let mut best: Option<Plan> = None;
        let mut refusal = Refusal::TooFragmented;
        // A join more than needed never copies less: at most ten sets to look at.
        for joins in Joins::all(segments.len(), excess) {
            let runs = || joins.runs(segments.len());
            if gaps == Gaps::Keep && runs().any(|run| joins_null(&segments[run])) {
                continue;
            }
            match Plan::new(segments, joins, self.pages.free()) {
                None => refusal = Refusal::OutOfPages,
                Some(plan) if best.as_ref().is_some_and(|b| b.cost() <= plan.cost()) => (),
                Some(plan) => best = Some(plan),
            }
        }
        let plan = best.ok_or(refusal)?;
        let mut joined = plan.joined.iter().flatten().peekable();
        let mut reduced = Parts::new();
        let mut i = 0;
        while i < segments.len() {
            match joined.next_if(|join| join.run.start == i) {
                Some(join) => {
                    reduced.push(self.copy(segments, join)?);
                    i = join.run.end;
                }
                None => {
                    reduced.push(segments[i].clone());
                    i += 1;
                }
            }
        }
        *parts = reduced;
        Ok(())
    }

    /// Makes the segments of a run one, as planned.
    fn copy(&self, segments: &[Segment], join: &Join) -> Result<Segment, Refusal> {
        let run = &segments[join.run.clone()];
        let (cluster, moved) = match join.place {
            Place::Stay => (run[0].cluster().cloned(), &run[1..]),
            Place::Room(i) => (segments[i].cluster().cloned(), run),
            Place::Fresh => (self.pages.alloc().map(|f| f.freeze_filled(0)), run),
        };
        let cluster = cluster.ok_or(Refusal::OutOfPages)?;
        let start = cluster.filled();
        for segment in moved {
            // Holes are copied too, out of the shared page; a gap becomes zeros.
            cluster.append(segment.bytes().unwrap_or(&ZEROS[..segment.len()]));
        }
        let written = cluster.filled() - start;
        self.ledger.copied(CopyReason::PullUp, payload(moved));
        if let Place::Stay = join.place {
            let mut whole = run[0].clone();
            whole.extend(written);
            return Ok(whole);
        }
        Ok(Segment::data(Slice::new(cluster, start..start + written)))
    }
}

/// Where the segments of a joined run go.
enum Place {
    /// The first stays, and the others are copied behind it.
    Stay,
    /// All are copied into free space in the cluster of this segment.
    Room(usize),
    /// All are copied into a fresh page.
    Fresh,
}

/// A run of segments to be made one.
struct Join {
    run: Range<usize>,
    place: Place,
}

/// One way back to four segments: one run of two or three, or two runs of two.
struct Plan {
    joined: [Option<Join>; 2],
    /// Bytes of payload to be copied.
    copied: usize,
    /// Bytes to be written, zeros for gaps included.
    written: usize,
}

impl Plan {
    fn cost(&self) -> (usize, usize) {
        (self.copied, self.written)
    }

    /// The least copying for the given joins; `None` if fresh pages are too few.
    fn new(segments: &[Segment], joins: Joins, mut fresh: usize) -> Option<Self> {
        let runs = || joins.runs(segments.len()).filter(|run| run.len() > 1);
        let mut claims = Claims::default();
        // Which runs stay is settled first, so that no other takes their room.
        let mut stays = [false; 2];
        for (run, stays) in runs().zip(&mut stays) {
            let first = &segments[run.start];
            *stays = first.can_grow(total(&segments[run.start + 1..run.end]))
                && first.cluster().is_some_and(|c| claims.take_all(c));
        }
        let mut plan = Plan {
            joined: [None, None],
            copied: 0,
            written: 0,
        };
        for (i, run) in runs().enumerate() {
            let len = total(&segments[run.clone()]);
            let has_room = |s: &Segment| s.cluster().is_some_and(|c| claims.room(c) >= len);
            let place = if stays[i] {
                Place::Stay
            } else if let Some(k) = segments.iter().position(has_room) {
                claims.take(segments[k].cluster()?, len);
                Place::Room(k)
            } else {
                fresh = fresh.checked_sub(1)?;
                Place::Fresh
            };
            let moved = match place {
                Place::Stay => &segments[run.start + 1..run.end],
                _ => &segments[run.clone()],
            };
            plan.copied += payload(moved);
            plan.written += total(moved);
            plan.joined[i] = Some(Join { run, place });
        }
        Some(plan)
    }
}

/// Free space that a plan has already given to a run: of two clusters at most.
#[derive(Default)]
struct Claims<'s> {
    claimed: [Option<(&'s Cluster, usize)>; 2],
}

impl<'s> Claims<'s> {
    /// Free space left in `cluster`.
    fn room(&self, cluster: &Cluster) -> usize {
        let claimed = self.claimed.iter().flatten();
        let taken = claimed.filter(|(c, _)| c.is_same(cluster)).map(|(_, n)| n);
        cluster.room().saturating_sub(taken.sum())
    }

    fn take(&mut self, cluster: &'s Cluster, bytes: usize) {
        if let Some(slot) = self.claimed.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some((cluster, bytes));
        }
    }

    /// Takes all free space of `cluster`; false if some is taken already.
    fn take_all(&mut self, cluster: &'s Cluster) -> bool {
        let untouched = self.room(cluster) == cluster.room();
        if untouched {
            self.take(cluster, cluster.room());
        }
        untouched
    }
}

fn total(segments: &[Segment]) -> usize {
    segments.iter().map(Segment::len).sum()
}

fn payload(segments: &[Segment]) -> usize {
    let data = segments.iter().filter(|s| !s.is_null());
    data.map(Segment::len).sum()
}

fn joins_null(run: &[Segment]) -> bool {
    run.len() > 1 && run.iter().any(Segment::is_null)
}
