//! Consistency points: what is in one half of the region goes to its drives while changes go to the other
//! half; then the superblock says so, and the half can be used again (rows S4, S6).

use std::time::Duration;

use block::{Buffers, Device, Fault};
use events::tracepoint::{self, Name};
use mutant::mutant;
use nvlog::RegionSuperblock;

use super::Log;
use super::pace::Progress;
use crate::cached::Cached;
use crate::requester::Ends;

/// How long after one that failed the next one is tried.
const RETRY: Duration = Duration::from_secs(1);

/// Why a consistency point is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is time.
    Timer,
    /// Half of the half is used.
    Fill,
    /// All of it is.
    Full,
    /// Somebody asked for it.
    Demand,
    /// The shard stops.
    Stop,
}

impl Why {
    /// As tracers read it.
    fn name(self) -> Name {
        match self {
            Self::Timer => Name::new("time\0"),
            Self::Fill => Name::new("fill\0"),
            Self::Full => Name::new("want\0"),
            Self::Demand => Name::new("demand\0"),
            Self::Stop => Name::new("stop\0"),
        }
    }
}

/// How far a consistency point is.
enum Stage {
    Idle,
    /// Groups of the half are still written, or merged.
    Settling {
        half: usize,
    },
    /// The cache writes what it has of logged volumes.
    Flushing {
        left: usize,
        result: Result<(), Fault>,
        /// It began when nothing was on its way any more: the log has failed.
        is_last: bool,
    },
    /// The drives have it. What the other node of a pair may lack of it is being stored.
    Marking {
        wanted: Vec<(usize, u64)>,
        empties: bool,
    },
    /// The drives have it. The stores say so.
    Superblock {
        /// It is the last one, of a log that failed.
        empties: bool,
    },
}

impl Stage {
    fn flushing(left: usize, is_last: bool) -> Self {
        Self::Flushing {
            left,
            result: Ok(()),
            is_last,
        }
    }
}

pub(super) struct Point {
    stage: Stage,
    wanted: Option<Why>,
    /// When the next one is due.
    next_at: Duration,
    /// It failed after the half was left: it is tried again from there.
    is_open: bool,
    /// The log has failed; the drives have all that was acknowledged, and the log says that it is empty.
    is_emptied: bool,
    /// A copy of the superblock could not be written.
    is_torn: bool,
    /// The operator knows that consistency points fail.
    is_told: bool,
    /// Bytes of the half that was left last.
    freeing: u64,
    demanded: Demanded,
}

/// What becomes of the consistency point that somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demanded {
    /// The next one that begins.
    Next,
    /// The one that has begun last.
    This,
    Ended(PointEnd),
}

/// How a consistency point that was asked for ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointEnd {
    /// The drives have all that was acknowledged before, and the log has so many bytes less.
    Done {
        /// Bytes of the log.
        bytes: u64,
    },
    /// A drive did not take it. It is tried again, and the log keeps so many bytes meanwhile.
    DriveFailed {
        /// Why.
        fault: Fault,
        /// Bytes of the log.
        bytes: u64,
    },
    /// The log's store has failed: none is completed before a restart.
    LogFailed(Fault),
    /// There is no log.
    NoLog,
}

impl Point {
    pub(super) fn new(next_at: Duration) -> Self {
        Self {
            stage: Stage::Idle,
            wanted: None,
            next_at,
            is_open: false,
            is_emptied: false,
            is_torn: false,
            is_told: false,
            freeing: 0,
            demanded: Demanded::Ended(PointEnd::Done { bytes: 0 }),
        }
    }

    pub(super) fn want(&mut self, why: Why) {
        self.wanted = self.wanted.or(Some(why));
    }

    /// The log has failed, and no replay finds anything in it.
    pub(super) fn is_emptied(&self) -> bool {
        self.is_emptied
    }

    /// A half is to be freed, by one that has begun.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The next one is due now.
    pub(super) fn hurry(&mut self, now: Duration) {
        self.next_at = self.next_at.min(now);
    }

    /// Tells whoever waits for one how it ended.
    fn demand_ends(&mut self, end: PointEnd) {
        if !matches!(self.demanded, Demanded::Ended(_)) {
            self.demanded = Demanded::Ended(end);
        }
    }
}

impl<D: Device> Log<D> {
    /// Wants a consistency point of all that is acknowledged by now.
    pub(crate) fn want_point(&mut self) {
        self.point.demanded = Demanded::Next;
        self.point.want(Why::Demand);
    }

    /// One, if a consistency point is under way, or the last one of a shard that stops is to come. What waits
    /// to be tried again is in no stop's way.
    pub(super) fn point_in_progress(&self) -> usize {
        let is_under_way = match &self.point.stage {
            Stage::Idle => false,
            Stage::Marking { wanted, .. } => !self.waits_in_vain(wanted),
            _ => true,
        };
        usize::from(is_under_way || self.is_stopping && self.point.wanted.is_some())
    }

    /// How the one that was [wanted](Log::want_point) last ended, once it has.
    pub(crate) fn point_end(&self) -> Option<PointEnd> {
        match self.point.demanded {
            Demanded::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Wants the last one.
    pub(crate) fn stop(&mut self) {
        self.is_stopping = true;
        self.point.want(Why::Stop);
    }

    /// Lets the consistency point go on, or begins one that is due.
    pub(super) fn advance_point(
        &mut self,
        cached: &mut Cached,
        buffers: &Buffers,
        ends: &mut Ends,
    ) {
        match self.point.stage {
            Stage::Idle => self.begin_point(cached, buffers, ends),
            // Groups that were lost with the store are never acknowledged.
            Stage::Settling { .. } if self.failed.is_some() => {
                self.point_is_over();
                self.point.hurry(self.now);
            }
            Stage::Settling { half } => {
                let is_merged = self.unmerged[half] == 0 || mutant!("pair-point-unconfirmed");
                if is_merged && self.region.is_settled(half) {
                    self.pace.flushes(cached);
                    let left = cached.flush_logged(buffers, ends);
                    self.point.stage = Stage::flushing(left, false);
                }
            }
            Stage::Flushing {
                left,
                result,
                is_last,
            } => {
                if left == 0 || mutant!("log-half-freed-before-flush") {
                    self.drives_have_it(result, is_last);
                }
            }
            Stage::Marking {
                ref wanted,
                empties,
            } => {
                if self.has_stored(wanted) {
                    self.marks_are_stored(empties);
                } else if self.is_stopping && self.waits_in_vain(wanted) {
                    // What the log has is not told to be gone, and a replay does what is left.
                    self.point_is_over();
                    (self.point.wanted, self.point.is_torn) = (None, true);
                }
            }
            Stage::Superblock { .. } => {}
        }
        if self.is_stopping && self.point_in_progress() == 0 && self.is_quiet() {
            self.rest();
        }
    }

    /// The shard stops, and no consistency point is wanted any more.
    fn rest(&mut self) {
        let is_empty = !self.point.is_open && self.region.fill().0 == 0;
        match is_empty && self.failed.is_none() {
            true => self.stores.close(),
            false => self.stores.rest(),
        }
    }

    /// The drives have what they are to: the superblock is next.
    fn begin_superblock(&mut self, superblock: RegionSuperblock, empties: bool) {
        self.point.is_torn = false;
        self.point.stage = Stage::Superblock { empties };
        self.stores.say(superblock);
    }

    fn begin_point(&mut self, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        if let Some(fault) = self.failed {
            self.point.demand_ends(PointEnd::LogFailed(fault));
            return self.save(cached, buffers, ends);
        }
        let (used, size) = self.region.fill();
        let due = match self.point.wanted {
            Some(why) => Some(why),
            None if self.is_stopping => None,
            None if used > size / 2 => Some(Why::Fill),
            None if self.now >= self.point.next_at => Some(Why::Timer),
            None => None,
        };
        let Some(why) = due.filter(|_| self.now >= self.point.next_at || self.is_urgent()) else {
            return;
        };
        // The last one waits for all that is on its way.
        if why == Why::Stop && !self.is_quiet() {
            return;
        }
        self.point.wanted = None;
        if self.point.is_open {
            self.point.stage = Stage::Settling {
                half: 1 - self.region.active(),
            };
        } else if used > 0 && self.region.can_switch() {
            self.point.is_open = true;
            self.point.freeing = used;
            self.point_begins(why, used);
            if self.point.demanded == Demanded::Next {
                self.point.demanded = Demanded::This;
            }
            let half = self.region.switch();
            self.point.stage = Stage::Settling { half };
            self.full_since = None;
        } else {
            if used == 0 {
                self.point.demand_ends(PointEnd::Done { bytes: 0 });
            }
            self.point.next_at = self.now + self.interval;
        }
    }

    /// The log has failed: what was acknowledged goes to its drives, and then the log is told to be empty,
    /// until it is.
    fn save(&mut self, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        self.point.wanted = None;
        let gives_up = self.is_stopping && self.point.is_torn;
        let is_due = self.now >= self.point.next_at && self.is_quiet();
        if !self.point.is_emptied && !gives_up && is_due {
            let left = cached.flush_logged(buffers, ends);
            self.point.stage = Stage::flushing(left, true);
        }
    }

    /// Whether one that is due begins before it is time, which is so if the last one went well.
    fn is_urgent(&self) -> bool {
        !self.point.is_open || self.is_stopping
    }

    /// How far the one is that is under way.
    pub(super) fn point_progress(&self, cached: &Cached) -> Progress {
        let waits_for = match self.point.stage {
            Stage::Idle | Stage::Marking { .. } | Stage::Superblock { .. } => 0,
            Stage::Settling { half } => self.unmerged[half],
            Stage::Flushing { left, .. } => left,
        };
        (waits_for, cached.drained().awaited_pages)
    }

    /// A flush of a volume by the cache ended.
    pub(crate) fn flushed(&mut self, result: Result<(), Fault>) {
        if let Stage::Flushing {
            left, result: sum, ..
        } = &mut self.point.stage
        {
            *left -= 1;
            *sum = sum.and(result);
        }
    }

    /// The drives have what they are to: what the other node of a pair may lack of it is to be stable before
    /// the log's records of it are gone.
    fn store_marks(&mut self, empties: bool) {
        let wanted = match mutant!("pair-marks-not-stored") {
            true => Vec::new(),
            false => self.want_stored(),
        };
        match wanted.is_empty() {
            true => self.marks_are_stored(empties),
            false => self.point.stage = Stage::Marking { wanted, empties },
        }
    }

    fn marks_are_stored(&mut self, empties: bool) {
        if empties {
            let superblock = self.region.emptied();
            return self.begin_superblock(superblock, true);
        }
        let superblock = self.region.without_the_other();
        self.begin_superblock(superblock, false);
        if mutant!("log-half-reused-early") {
            self.region.freed();
            self.point_is_over();
        }
    }

    /// All flushes ended.
    fn drives_have_it(&mut self, result: Result<(), Fault>, is_last: bool) {
        match result {
            Ok(()) if self.failed.is_none() => self.store_marks(false),
            // More was merged meanwhile.
            Ok(()) if !is_last => {
                self.point_is_over();
                self.point.hurry(self.now);
            }
            Ok(()) => self.store_marks(true),
            Err(fault) => {
                self.counters.points_failed += 1;
                self.pace.failed();
                if !std::mem::replace(&mut self.point.is_told, true) {
                    log::error!(
                        "a consistency point failed: {fault}. What it would have freed stays in the log, and it is tried again every second"
                    );
                }
                let bytes = self.point.freeing + self.region.fill().0;
                let end = PointEnd::DriveFailed { fault, bytes };
                self.point.demand_ends(end);
                self.point.stage = Stage::Idle;
                self.point.next_at = self.now + RETRY;
                if self.is_stopping {
                    // The log has it.
                    (self.point.wanted, self.point.is_torn) = (None, true);
                } else {
                    self.point.want(Why::Full);
                }
            }
        }
    }

    /// One leaves its half, with so many bytes.
    // Never inlined: of a copy that nobody calls the linker keeps the tracepoint's note.
    #[inline(never)]
    fn point_begins(&mut self, why: Why, bytes: u64) {
        self.pace.began(self.now);
        let counters = &mut self.counters;
        *match why {
            Why::Timer => &mut counters.points_by_time,
            Why::Fill => &mut counters.points_by_fill,
            Why::Full => &mut counters.points_by_want,
            Why::Demand => &mut counters.points_by_demand,
            Why::Stop => &mut counters.points_by_stop,
        } += 1;
        tracepoint::consistency_point_start(self.number as u64, why.name(), bytes);
    }

    /// Its half is free.
    #[inline(never)] // as above
    fn point_ended(&mut self) {
        let took = (self.now - self.pace.since()).as_nanos() as u64;
        let counters = &mut self.counters;
        counters.points += 1;
        counters.point_ns += took;
        counters.slowest_point_ns = counters.slowest_point_ns.max(took);
        counters.freed_bytes += self.point.freeing;
        tracepoint::consistency_point_end(self.number as u64, took, self.point.freeing);
    }

    fn point_is_over(&mut self) {
        self.point.stage = Stage::Idle;
        self.point.is_open = false;
        self.point.next_at = self.now + self.interval;
        if self.point.demanded == Demanded::Next {
            // It had begun before it was asked for.
            self.point.want(Why::Demand);
        }
        if self.is_stopping && self.failed.is_none() && self.region.fill().0 > 0 {
            // What came to the other half meanwhile.
            self.point.want(Why::Stop);
        }
    }

    /// The superblock is stable, or not.
    pub(super) fn superblock_ended(&mut self, result: Result<(), Fault>) {
        if let Err(fault) = result {
            self.point.is_torn = true;
            self.fail("failed to write a superblock", fault);
        }
        let Stage::Superblock { empties } = self.point.stage else {
            return;
        };
        if self.point.is_torn || self.failed.is_some() && !empties {
            self.point_is_over();
            self.point.next_at = self.now + RETRY;
        } else if empties {
            self.point.is_emptied = true;
            self.point_is_over();
        } else {
            self.region.freed();
            self.point_ended();
            self.point.is_told = false;
            if self.point.demanded == Demanded::This {
                let bytes = self.point.freeing;
                self.point.demand_ends(PointEnd::Done { bytes });
            }
            self.point_is_over();
        }
    }
}
