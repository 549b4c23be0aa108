//! Pull-up (row Z8): the least copying that brings a page back to four segments.

use std::ops::Range;

use crate::arena::PAGE_SIZE;
use crate::cluster::{Cluster, ClusterPool};
use crate::ledger::{CopyLedger, CopyReason};
use crate::merge::{MAX_PIECES, Part};
use crate::refusal::Refusal;
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
    /// They may become zeros: the caller knows which bytes are valid.
    Fill,
}

/// A run of parts that became one segment; none, if there is no segment.
#[derive(Default)]
pub(crate) struct Joined {
    pub run: Range<usize>,
    pub segment: Option<Segment>,
}

/// Runs of parts to be joined, `start..end` each: one or two.
type Runs = &'static [(usize, usize)];

/// Every way from five parts to four segments, lowest offsets first.
const FROM_FIVE: [Runs; 4] = [&[(0, 2)], &[(1, 3)], &[(2, 4)], &[(3, 5)]];

/// Every way from six parts to four segments, lowest offsets first.
const FROM_SIX: [Runs; 10] = [
    &[(0, 3)],
    &[(0, 2), (2, 4)],
    &[(1, 4)],
    &[(0, 2), (3, 5)],
    &[(1, 3), (3, 5)],
    &[(2, 5)],
    &[(0, 2), (4, 6)],
    &[(1, 3), (4, 6)],
    &[(2, 4), (4, 6)],
    &[(3, 6)],
];

const ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

impl<'a> PullUp<'a> {
    /// With fresh pages from `pages`, counting in `ledger`.
    pub fn new(pages: &'a ClusterPool, ledger: &'a CopyLedger) -> Self {
        Self { pages, ledger }
    }

    /// Joins some of the five or six `parts` of a page so that four segments are
    /// left: those that copy least; of equals, those at the lowest offsets. On
    /// an error nothing was copied.
    pub(crate) fn join(&self, parts: &[Part<'_>], gaps: Gaps) -> Result<[Joined; 2], Refusal> {
        let weights = Weights::of(parts);
        // More joins than needed never copy less: these are all there is to try.
        let ways: &[Runs] = match parts.len() {
            5 => &FROM_FIVE,
            _ => &FROM_SIX,
        };
        let free = self.pages.free();
        let mut refusal = Refusal::TooFragmented;
        let mut without_room = 0u16;
        let plan = loop {
            let mut best: Option<(usize, Plan)> = None;
            for (i, runs) in ways.iter().enumerate() {
                if without_room >> i & 1 == 1 || gaps == Gaps::Keep && weights.have_null(runs) {
                    continue;
                }
                let plan = weights.price(runs);
                if best.as_ref().is_none_or(|(_, best)| plan.cost < best.cost) {
                    best = Some((i, plan));
                }
            }
            let (i, mut plan) = best.ok_or(refusal)?;
            if weights.find_room(&mut plan) <= free {
                break plan;
            }
            // Not without fresh pages: the next best, then.
            without_room |= 1 << i;
            refusal = Refusal::OutOfPages;
        };
        let mut joined = <[Joined; 2]>::default();
        for (i, &(start, end)) in plan.runs.iter().enumerate() {
            joined[i].run = start..end;
            joined[i].segment = Some(self.copy(parts, start..end, plan.places[i])?);
        }
        Ok(joined)
    }

    /// Copies the bytes of `next` behind those of `first`, which can grow by so many.
    pub(crate) fn grow(&self, first: &Segment, next: &Segment) {
        if let (Some(cluster), Some(bytes)) = (first.cluster(), next.bytes()) {
            cluster.append(bytes);
            self.ledger.copied(CopyReason::PullUp, bytes.len());
        }
    }

    /// Makes the parts of a run one segment, as planned.
    fn copy(
        &self,
        parts: &[Part<'_>],
        run: Range<usize>,
        place: Place,
    ) -> Result<Segment, Refusal> {
        let (cluster, moved) = match place {
            Place::Stay => (parts[run.start].cluster().cloned(), run.start + 1..run.end),
            Place::Room(i) => (parts[i].cluster().cloned(), run.clone()),
            Place::Fresh => {
                let fresh = self.pages.alloc();
                (fresh.map(|fresh| fresh.freeze_filled(0)), run.clone())
            }
        };
        let cluster = cluster.ok_or(Refusal::OutOfPages)?;
        let start = cluster.filled();
        let mut payload = 0;
        for part in &parts[moved] {
            // Holes are copied too, out of the shared page; a gap becomes zeros.
            let bytes = part.bytes();
            payload += bytes.map_or(0, <[u8]>::len);
            cluster.append(bytes.unwrap_or(&ZEROS[..part.len]));
        }
        let written = cluster.filled() - start;
        self.ledger.copied(CopyReason::PullUp, payload);
        Ok(match place {
            Place::Stay => parts[run.start].to_segment(written),
            _ => Segment::data(Slice::new(cluster, start..start + written)),
        })
    }
}

/// Where the parts of a run go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The first stays, and the others are copied behind it.
    Stay,
    /// All are copied into free space in the cluster of this part.
    Room(usize),
    /// All are copied into a fresh page.
    Fresh,
}

/// One way back to four segments.
struct Plan {
    runs: Runs,
    places: [Place; 2],
    /// Payload bytes to be copied, then all that are to be written: zeros for
    /// gaps, too.
    cost: (usize, usize),
}

/// What plans have to know of the parts.
struct Weights<'p> {
    clusters: [Option<&'p Cluster>; MAX_PIECES],
    /// By how much a part can grow where it is.
    growth: [usize; MAX_PIECES],
    /// Bytes before each part, and behind the last: of payload, and in all.
    payload: [usize; MAX_PIECES + 1],
    bytes: [usize; MAX_PIECES + 1],
}

impl<'p> Weights<'p> {
    fn of(parts: &[Part<'p>]) -> Self {
        let mut weights = Self {
            clusters: [None; MAX_PIECES],
            growth: [0; MAX_PIECES],
            payload: [0; MAX_PIECES + 1],
            bytes: [0; MAX_PIECES + 1],
        };
        for (i, part) in parts.iter().enumerate() {
            weights.clusters[i] = part.cluster();
            weights.growth[i] = part.growth();
            let payload = if part.cluster().is_some() {
                part.len
            } else {
                0
            };
            weights.payload[i + 1] = weights.payload[i] + payload;
            weights.bytes[i + 1] = weights.bytes[i] + part.len;
        }
        weights
    }

    fn have_null(&self, runs: Runs) -> bool {
        runs.iter()
            .any(|&(start, end)| self.clusters[start..end].iter().any(Option::is_none))
    }

    /// What joining the runs copies, with the first part of each where it is
    /// if that is possible.
    fn price(&self, runs: Runs) -> Plan {
        let mut plan = Plan {
            runs,
            places: [Place::Fresh; 2],
            cost: (0, 0),
        };
        for (i, &(start, end)) in runs.iter().enumerate() {
            let mut from = start;
            // Two runs cannot both grow into the free space of one cluster.
            let taken =
                i == 1 && plan.places[0] == Place::Stay && self.share_cluster(start, runs[0].0);
            if self.bytes[end] - self.bytes[start + 1] <= self.growth[start] && !taken {
                plan.places[i] = Place::Stay;
                from += 1;
            }
            plan.cost.0 += self.payload[end] - self.payload[from];
            plan.cost.1 += self.bytes[end] - self.bytes[from];
        }
        plan
    }

    /// Finds free space for the runs that do not stay; returns how many fresh
    /// pages it takes for the others.
    fn find_room(&self, plan: &mut Plan) -> usize {
        let mut fresh = 0;
        let mut promised: Option<(usize, usize)> = None;
        for (i, &(start, end)) in plan.runs.iter().enumerate() {
            if plan.places[i] == Place::Stay {
                continue;
            }
            let len = self.bytes[end] - self.bytes[start];
            let places = plan.places;
            let has_room = |k: &usize| {
                let grows = |(run, place): (&(usize, usize), Place)| {
                    place == Place::Stay && self.share_cluster(*k, run.0)
                };
                let taken = match promised {
                    Some((other, len)) if self.share_cluster(*k, other) => len,
                    _ => 0,
                };
                self.clusters[*k].is_some_and(|cluster| cluster.room() >= taken + len)
                    && !plan.runs.iter().zip(places).any(grows)
            };
            match (0..MAX_PIECES).find(has_room) {
                Some(k) => {
                    plan.places[i] = Place::Room(k);
                    promised = Some((k, len));
                }
                None => fresh += 1,
            }
        }
        fresh
    }

    fn share_cluster(&self, a: usize, b: usize) -> bool {
        match (self.clusters[a], self.clusters[b]) {
            (Some(a), Some(b)) => a.is_same(b),
            _ => false,
        }
    }
}
