//! The log of one shard: changes of logged volumes become stable in groups, then they are merged
//! into the page cache, and then they are acknowledged (rows S1, S6, S7).
//!
//! What the cache has of a logged volume is stable, therefore: a read never returns what a crash could
//! take back, and the cache may write it to its drive whenever it likes. Changes are merged in the order of the
//! log, so that a replay ends as this run would have.

mod forward;
mod group;
mod merge;
mod pace;
mod point;
mod replay;
mod store;
mod stores;
mod tables;
mod verify;
mod warm;

use std::collections::VecDeque;
use std::time::Duration;

use block::{Buffers, Device, DeviceState, Fault, VolumeId};
use collections::Slab;
use events::tracepoint;
use mutant::mutant;
use nvlog::{Crcs, Region};
use pages::Cluster;
use sgl::Element;

use crate::cached::Cached;
use crate::change::Change;
use crate::requester::Ends;

use forward::Forwarding;

use pace::Pace;
use point::Point;
pub use point::PointEnd;
pub(crate) use replay::Replay;
pub use replay::{LogPlan, LogStart, LogStorePlan, ReplayEnd, ReplayProgress};
pub(crate) use stores::LogStores;
pub use stores::{LogMember, Lost};
use stores::{SUPERBLOCK, StoresEnded};
pub use tables::{RecordPages, TableArea, TableEntry, TableRefusal, TableToken, TableWrite};
pub(crate) use warm::Warm;

/// Groups that are written at a time: one is at the device while the next one fills.
const GROUPS: usize = 4;
/// Transfers that a store of the log has at most: groups, copies of a superblock, and what is written of a table.
const TRANSFERS: usize = GROUPS + 2 + 1;
/// Payload of a group from which on it waits for no more.
const GROUP_BYTES: u64 = 256 << 10;
/// Records that are worth a group of their own while another is under way.
const GROUP_RECORDS: usize = 8;
/// Elements of a group's list.
const ELEMENTS: usize = 512;
/// How long changes wait for room in the log, or for pages: less than hosts wait.
const FULL_MAX: Duration = Duration::from_secs(10);
/// How long a log that failed is tried to be emptied before hosts are told: less than they wait.
const UNDECIDED_MAX: Duration = Duration::from_secs(10);
/// How long nothing is written before a group says what the last ones have left unsaid.
const IDLE: Duration = Duration::from_millis(20);

/// Faults put in on purpose: changes are merged when their group is sent.
fn is_early() -> bool {
    mutant!("log-acknowledged-early") || mutant!("log-read-early")
}

/// A change that is stable, or will be.
struct Logged {
    change: Change,
    /// The half that its record is in.
    half: usize,
    /// Its number on the way to the other node of a pair; 0: it does not go there.
    transfer: u64,
}

/// A change that the cache is merging: half, volume, first byte, the byte after the last.
type Merged = (usize, VolumeId, u64, u64);

/// A group that is being written.
#[derive(Default)]
struct Writing {
    sequence: u64,
    /// When it went to the store.
    sent: Duration,
    changes: Vec<Logged>,
    /// Its header; and its payload, if the device could not take it as it lay.
    pages: Vec<Cluster>,
    elements: Vec<Element>,
}

events::counters! {
    /// What a shard's log has done.
    pub struct LogCounters {
        /// Groups written.
        groups,
        /// Records in them.
        records,
        /// Bytes of payload in them.
        payload_bytes,
        /// Bytes of headers, and of zeros that filled blocks up.
        overhead_bytes,
        /// Payload bytes read by the CPU for checksums: those of no data digest.
        checksummed_bytes,
        /// Payload bytes copied for a log store that takes no such lists.
        bounced_bytes,
        /// Nanoseconds that groups took until they were stable, together.
        group_ns,
        /// Nanoseconds of the group that took longest.
        @gauge slowest_group_ns,
        /// Times that changes waited so that the half lasts for as long as a consistency point takes.
        paced,
        /// Times that changes waited because both halves were in use.
        full,
        /// Changes that hosts were told to try again later, as both halves stayed in use, or pages were short.
        @drop turned_away,
        /// Consistency points completed.
        points,
        /// Nanoseconds that they took, together.
        point_ns,
        /// Nanoseconds of the one that took longest.
        @gauge slowest_point_ns,
        /// Bytes of the log that they freed.
        freed_bytes,
        /// Those begun because `consistency_point_s` had gone by.
        points_by_time,
        /// Those begun because half of a half was used.
        points_by_fill,
        /// Those begun because a half was full, or again after they had failed.
        points_by_want,
        /// Those begun because somebody asked for one.
        points_by_demand,
        /// Those begun because the program stops.
        points_by_stop,
        /// Consistency points that a device made fail, and that are tried again.
        points_failed,
        /// Writes to drives of logged volumes.
        drive_writes,
        /// Their bytes.
        drive_bytes,
        /// Bytes that drives of logged volumes have deallocated.
        deallocated_bytes,
        /// Deallocations that a drive failed: zeros were written instead.
        deallocations_failed,
        /// Bytes used of the half that is written to.
        @gauge half_used,
        /// Bytes of a half.
        @gauge half_size,
        /// Changes that are not stable yet.
        @gauge waiting,
        /// The log takes no more: its store has failed, or both have.
        @gauge failed,
        /// Its store has failed, and changes go straight to their drives.
        @gauge through,
        /// Which of two stores is out, and the log on the other one alone: 1, the first, or 2; 0, none.
        @gauge out,
    }
}

/// The log of one shard, between the door of the cache and the cache.
pub(crate) struct Log<D: Device> {
    number: usize,
    region: Region,
    stores: LogStores<D>,
    /// Groups that are being written, by ticket.
    writing: [Writing; GROUPS],
    /// Which of them are not.
    free: Vec<u32>,
    /// Tickets of groups that ended well, and are not acknowledged.
    sealed: VecDeque<(u64, u32)>,
    /// Changes that are stable, to be merged into the cache, in the order of the log.
    stable: VecDeque<Logged>,
    /// Those of them that wait for one that is being merged, in their order.
    held: VecDeque<Logged>,
    /// Those that the cache is merging.
    merging: Slab<Merged>,
    /// How many of each volume those are.
    merging_of: Box<[usize]>,
    /// Changes of each half that are not merged.
    unmerged: [usize; 2],
    point: Point,
    pace: Pace,
    interval: Duration,
    /// Once it has failed and is empty, changes go straight to their drives.
    goes_through: bool,
    /// Since when changes wait because the other half is not free.
    full_since: Option<Duration>,
    /// The shard stops: a consistency point that fails is not tried again.
    is_stopping: bool,
    /// Why nothing more is written.
    failed: Option<Fault>,
    /// Changes that a group has which may be on the device, or not: they end when no replay finds them.
    undecided: Vec<Change>,
    /// When they end anyway.
    decided_at: Duration,
    now: Duration,
    /// When something was last written.
    wrote_at: Duration,
    /// Since when changes wait for a page.
    short_since: Option<Duration>,
    /// Changes of mirrored volumes.
    forwarding: Forwarding,
    crcs: Crcs,
    /// Of the pages of one change.
    checksums: Vec<u32>,
    counters: LogCounters,
}

impl<D: Device> Log<D> {
    /// The log of shard `number`, as `start` says; it merges into `cached`.
    pub(crate) fn new(
        mut stores: LogStores<D>,
        start: &LogStart,
        number: usize,
        cached: &Cached,
        now: Duration,
    ) -> Self {
        stores.begin(start, number, now);
        Self {
            number,
            region: Region::new(start.log, &start.layout, number, &start.regions[number]),
            stores,
            writing: std::array::from_fn(|_| Writing::default()),
            free: (0..GROUPS as u32).rev().collect(),
            sealed: VecDeque::with_capacity(GROUPS),
            stable: VecDeque::new(),
            held: VecDeque::new(),
            merging: Slab::new(cached.room()),
            merging_of: vec![0; cached.volumes()].into(),
            unmerged: [0; 2],
            point: Point::new(now + start.interval),
            pace: Pace::default(),
            interval: start.interval,
            goes_through: start.through_after_failure,
            full_since: None,
            is_stopping: false,
            failed: None,
            undecided: Vec::new(),
            decided_at: Duration::ZERO,
            now,
            wrote_at: now,
            short_since: None,
            forwarding: Forwarding::new(number, start.layout.regions as usize),
            crcs: Crcs::new(0),
            checksums: Vec::with_capacity(nvlog::PAGES_MAX),
            counters: LogCounters::default(),
        }
    }

    /// Lets the stores work.
    pub(crate) fn poll(&mut self, now: Duration) -> bool {
        self.now = now;
        self.stores.poll(now)
    }

    /// Moves changes on: from the cache's door into groups, from stable groups into the cache.
    pub(crate) fn pump(&mut self, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        while let Some(ended) = self.stores.next_ended() {
            match ended.ticket {
                SUPERBLOCK => self.superblock_ended(ended.result),
                _ => self.group_ended(ended),
            }
        }
        self.merge(cached, buffers, ends);
        self.copy(cached, buffers, ends);
        self.advance_point(cached, buffers, ends);
        self.stores.advance(buffers);
        if let Some(fault) = self.failed {
            self.short_since = None;
            // The other node of a pair asks for no decision: it goes on without this one.
            let is_forwarded = |change: &mut Change| change.io.flags.forwarded;
            let forwarded = self.undecided.extract_if(.., is_forwarded);
            ends.extend(forwarded.map(|change| change.ended(Err(fault))));
            if self.point.is_emptied() || self.is_stopping || self.now >= self.decided_at {
                let undecided = self.undecided.drain(..);
                ends.extend(undecided.map(|change| change.ended(Err(fault))));
                // What goes past the log is in no record of what the other node of a pair lacks.
                let goes_through = self.goes_through && !self.forwarding.is_used();
                match goes_through && self.point.is_emptied() {
                    true => self.go_through(cached, buffers, ends),
                    false => refuse(cached, fault, ends),
                }
            }
            return;
        }
        self.write(cached, buffers, ends);
        // One that has not begun yet is behind nothing.
        let has_stopped = self.pace.is_stuck(self.now, self.point_progress(cached));
        let is_stuck = self.point.is_open() && has_stopped;
        let is_long = |since: Duration| self.now >= since + FULL_MAX;
        let is_full = (self.full_since).is_some_and(|since| is_stuck || is_long(since));
        if is_full || self.short_since.is_some_and(is_long) {
            // No consistency point makes room, as some drive does not take what it is to; or nobody gives pages back.
            // Hosts are told to try again, before they lose patience.
            self.short_since = None;
            self.counters.turned_away += cached.changes() as u64;
            refuse(cached, Fault::Busy, ends);
        }
    }

    /// The log has failed, and no replay finds anything in it: changes go straight to their drives.
    fn go_through(&mut self, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        if self.counters.through == 0 {
            self.counters.through = 1;
            log::warn!(
                "logged volumes are served without the log from now on: writes are acknowledged when their drive has them in stable storage. Replace the log's store, and start again"
            );
        }
        cached.end_logging(buffers, ends);
    }

    /// A group is stable, or not.
    fn group_ended(&mut self, ended: StoresEnded) {
        let ticket = ended.ticket;
        let writing = &mut self.writing[ticket as usize];
        writing.elements = ended.elements;
        let (sequence, sent) = (writing.sequence, writing.sent);
        if ended.is_kept {
            self.keep(ticket);
        }
        if let Err(fault) = ended.result {
            self.fail("failed", fault);
        }
        let took = (self.now - sent).as_nanos() as u64;
        let failed = ended.result.is_err().into();
        tracepoint::log_group_end(self.number as u64, sequence, took, failed);
        self.counters.group_ns += took;
        self.counters.slowest_group_ns = self.counters.slowest_group_ns.max(took);
        self.sealed.push_back((sequence, ticket));
        // None is stable behind one that is not.
        if self.failed.is_some() {
            while let Some((_, ticket)) = self.sealed.pop_front() {
                let writing = &mut self.writing[ticket as usize];
                for Logged {
                    change,
                    half,
                    transfer,
                } in writing.changes.drain(..)
                {
                    self.unmerged[half] -= 1;
                    self.forwarding.failed(&change, transfer);
                    self.undecided.push(change);
                }
                writing.pages.clear();
                self.free.push(ticket);
            }
            return;
        }
        let acknowledged = self.region.stable(sequence);
        self.sealed
            .make_contiguous()
            .sort_unstable_by_key(|&(sequence, _)| sequence);
        while let Some(&(sequence, ticket)) = self.sealed.front()
            && sequence <= acknowledged
        {
            self.sealed.pop_front();
            let writing = &mut self.writing[ticket as usize];
            self.forwarding.stable(&writing.changes);
            match self.stable.is_empty() {
                // None is moved.
                true => {
                    let changes = std::mem::take(&mut writing.changes).into();
                    writing.changes = std::mem::replace(&mut self.stable, changes).into();
                }
                false => self.stable.extend(writing.changes.drain(..)),
            }
            writing.pages.clear();
            self.free.push(ticket);
        }
    }

    /// Holds a group's memory until no store reads it any more.
    #[cold]
    fn keep(&mut self, ticket: u32) {
        let writing = &self.writing[ticket as usize];
        let runs = (writing.changes.iter()).filter_map(|logged| logged.change.io.run.as_ref());
        let segments = runs.flat_map(|run| run.segments());
        self.stores.keep(writing.pages.iter(), segments);
    }

    /// Nothing more is written from now on; `what` the store did.
    fn fail(&mut self, what: &str, fault: Fault) {
        if self.failed.is_none() {
            log::error!(
                "the log's store {what}: {fault}. Writes to logged volumes are refused until a restart; what was acknowledged is safe, and goes to its drives now"
            );
            self.failed = Some(fault);
            self.forwarding.log_failed();
            self.decided_at = self.now + UNDECIDED_MAX;
            self.point.hurry(self.now);
        }
    }

    /// Changes and groups that are not at their end.
    pub(crate) fn in_progress(&self) -> usize {
        self.undecided.len()
            + self.stable.len()
            + self.held.len()
            + self.forwarding.in_progress()
            + self.merging.len()
            + (GROUPS - self.free.len())
            + self.point_in_progress()
            + self.stores.in_progress()
    }

    /// Whether some group is not stable yet.
    pub(crate) fn is_writing(&self) -> bool {
        self.free.len() < GROUPS
    }

    /// Whether every change is merged, and every group acknowledged.
    fn is_quiet(&self) -> bool {
        let has_merged = self.stable.is_empty()
            && self.held.is_empty()
            && self.merging.is_empty()
            && self.forwarding.in_progress() == 0;
        has_merged && self.free.len() == GROUPS
    }

    /// How the log does.
    pub(crate) fn state(&self) -> DeviceState {
        match self.failed {
            Some(_) => self.stores.state().max(DeviceState::Failing),
            None => self.stores.state(),
        }
    }

    /// Stores that are out, and how they do.
    pub(crate) fn outs(&self) -> impl Iterator<Item = (VolumeId, DeviceState)> {
        self.stores.outs()
    }

    /// Since when changes wait for a page that others hold.
    pub(crate) fn short_since(&self) -> Option<Duration> {
        self.short_since
    }

    pub(crate) fn counters(&self, cached: &Cached) -> LogCounters {
        let (half_used, half_size) = self.region.fill();
        let drained = cached.drained();
        LogCounters {
            drive_writes: drained.writes,
            drive_bytes: drained.bytes,
            deallocated_bytes: drained.deallocated,
            deallocations_failed: drained.undone,
            half_used,
            half_size,
            waiting: cached.changes() as u64,
            failed: self.failed.is_some().into(),
            out: self.stores.out(),
            ..self.counters.clone()
        }
    }
}

/// Ends all changes that wait for the log.
fn refuse(cached: &mut Cached, fault: Fault, ends: &mut Ends) {
    while let Some(change) = cached.next_change() {
        ends.push_back(change.ended(Err(fault)));
    }
}
