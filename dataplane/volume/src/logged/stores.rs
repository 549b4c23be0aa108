//! The stores of a log, one or two. What is written goes to both at once, as lists of the same memory, and is stable
//! when both have it (rows S6, S7).
//!
//! One of two that fails, or keeps a write for long while the other has it, is out until the next start. The other one
//! says so first, in its superblock of the region: so one that is out is never taken for whole. Then what it has is
//! acknowledged.

mod say;
mod table;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use block::{Buffers, Device, DeviceState, Fault, Op, VolumeId};
use mutant::mutant;
use nvlog::recovery::STORES_MAX;
use pages::{Cluster, Segment};
use sgl::Element;

use super::store::{Ended, LogStore};
use super::{GROUPS, LogStart, TRANSFERS, is_early};
use crate::backing::LOOK;
use say::Saying;
use table::Writer;

/// How long one store may keep what the other has: less than hosts wait.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// The ticket of a region's superblock; those below are of groups.
pub(super) const SUPERBLOCK: u32 = GROUPS as u32;
/// That of what is written of a table.
const TABLE: u32 = SUPERBLOCK + 1;
/// Bits of a code that are the ticket.
const TICKET: u32 = 8;

/// A store, as the run that begins on it knows it.
#[derive(Clone, Debug)]
pub struct LogMember {
    /// What it is called.
    pub name: String,
    /// Its place among all stores.
    pub volume: VolumeId,
    /// Its bytes.
    pub len: u64,
    /// Which of the log's stores it is; `None`: it is out.
    pub member: Option<u8>,
}

/// Which stores some shard has lost: the others need not wait until they fail there, too.
#[derive(Clone, Debug, Default)]
pub struct Lost(Arc<[AtomicBool; STORES_MAX]>);

/// How a group ended, or a superblock.
pub(super) struct StoresEnded {
    pub(super) ticket: u32,
    pub(super) result: Result<(), Fault>,
    /// Its elements, to be used again.
    pub(super) elements: Vec<Element>,
    /// One that is out has not given the memory back: [`LogStores::keep`].
    pub(super) is_kept: bool,
}

struct Side<D: Device> {
    store: LogStore<D>,
    /// `None` before the log begins on it.
    begun: Option<LogMember>,
    is_in: bool,
}

/// A group that is being written.
#[derive(Default)]
struct Sent {
    is_open: bool,
    code: u32,
    since: Duration,
    /// Stores that have not answered, and those that have it: a bit for each.
    pending: u8,
    good: u8,
    elements: Vec<Element>,
}

/// A shard's way to the stores of its log.
pub(crate) struct LogStores<D: Device> {
    /// As they are configured; `None`: it is not there.
    sides: Vec<Option<Side<D>>>,
    sent: [Sent; GROUPS],
    saying: Option<Saying>,
    /// On the shard that writes tables.
    tables: Option<Writer>,
    ended: VecDeque<StoresEnded>,
    /// Lists to be used again.
    spare: Vec<Vec<Element>>,
    codes: u32,
    lost: Lost,
    /// Why no store takes anything any more.
    failed: Option<Fault>,
    /// Memory that a store which is out may still read.
    kept: Vec<(Option<Cluster>, Option<Segment>)>,
    now: Duration,
    look_at: Duration,
}

fn bit(place: usize) -> u8 {
    1 << place
}

impl<D: Device> LogStores<D> {
    /// `devices`: as they are configured; `None` of one that is not there. `elements`: of one device list.
    pub(crate) fn new(
        devices: Vec<Option<D>>,
        elements: usize,
        mut slot: impl FnMut() -> D::Slot,
    ) -> Self {
        debug_assert!((1..=STORES_MAX).contains(&devices.len()));
        let mut side = |device| Side {
            store: LogStore::new(device, TRANSFERS, elements, &mut slot),
            begun: None,
            is_in: false,
        };
        let sides: Vec<_> = (devices.into_iter())
            .map(|device| device.map(&mut side))
            .collect();
        Self {
            sides,
            sent: Default::default(),
            saying: None,
            tables: None,
            ended: VecDeque::with_capacity(GROUPS + 1),
            spare: Vec::with_capacity(2 * TRANSFERS),
            codes: 0,
            lost: Lost::default(),
            failed: None,
            kept: Vec::new(),
            now: Duration::ZERO,
            look_at: Duration::ZERO,
        }
    }

    /// Stores that are configured, there or not.
    pub(crate) fn count(&self) -> usize {
        self.sides.len()
    }

    /// One of them, by its place, if it is there: for a replay, which asks them one by one.
    pub(super) fn one(&mut self, place: usize) -> Option<&mut LogStore<D>> {
        let side = self.sides.get_mut(place)?.as_mut()?;
        Some(&mut side.store)
    }

    /// The log begins on them, for shard `number`.
    pub(super) fn begin(&mut self, start: &LogStart, number: usize, now: Duration) {
        self.now = now;
        for (side, member) in self.sides.iter_mut().zip(&start.stores) {
            if let Some(side) = side {
                side.is_in = member.member.is_some();
                side.begun = Some(member.clone());
            }
        }
        self.lost = start.lost.clone();
        self.saying = Some(Saying::new(start, number));
        // Its region's superblock says which stores have all of them.
        self.tables = (number == 0).then(|| Writer::new(&start.table_area));
    }

    /// Stores that are in: a bit for each.
    fn ins(&self) -> u8 {
        let sides = self.sides.iter().enumerate();
        let ins = sides.filter(|(_, side)| side.as_ref().is_some_and(|side| side.is_in));
        ins.fold(0, |sum, (place, _)| sum | bit(place))
    }

    /// Which of two stores is out, from 1 on, as far as the other one has said so; 0: none. Before that nothing is
    /// acknowledged that this one has not.
    pub(super) fn out(&self) -> u64 {
        let is_told = self.saying.as_ref().is_some_and(Saying::is_told);
        match self.ins() {
            1 if self.sides.len() > 1 && is_told => 2,
            2 if is_told => 1,
            _ => 0,
        }
    }

    /// Stores that are configured and out, and how they are.
    pub(crate) fn outs(&self) -> impl Iterator<Item = (VolumeId, DeviceState)> {
        let outs = self.sides.iter().flatten().filter(|side| !side.is_in);
        outs.filter_map(|side| {
            let state = side.store.state().max(DeviceState::Failing);
            Some((side.begun.as_ref()?.volume, state))
        })
    }

    /// How the stores that are in do.
    pub(super) fn state(&self) -> DeviceState {
        let sides = self.sides.iter().flatten().filter(|side| side.is_in);
        let states = sides.map(|side| side.store.state());
        states.max().unwrap_or(DeviceState::Works)
    }

    /// Whether it may be that some store does not take some group as it lies.
    pub(super) fn is_particular(&self) -> bool {
        let mut sides = self.sides.iter().flatten().filter(|side| side.is_in);
        sides.any(|side| side.store.is_particular())
    }

    /// Whether the stores take these elements as they lie.
    pub(super) fn takes(&self, at: u64, len: u64, elements: &[Element]) -> bool {
        let mut sides = self.sides.iter().flatten().filter(|side| side.is_in);
        sides.all(|side| side.store.takes(at, len, elements))
    }

    fn code(&mut self, ticket: u32) -> u32 {
        self.codes = self.codes.wrapping_add(TICKET);
        self.codes | ticket
    }

    /// Writes a group to all stores that are in, and makes it stable.
    pub(super) fn write(&mut self, ticket: u32, at: u64, len: u64, elements: Vec<Element>) {
        if let Some(saying) = &mut self.saying {
            saying.reopen();
        }
        let code = self.code(ticket);
        self.sent[ticket as usize] = Sent {
            is_open: true,
            code,
            since: self.now,
            pending: self.ins(),
            ..Sent::default()
        };
        let mut last = Some(elements);
        let mut sides = self.sides.iter_mut().flatten().filter(|side| side.is_in);
        let (first, second) = (sides.next(), sides.next());
        if let (Some(second), Some(elements)) = (second, &last) {
            let mut copy = self.spare.pop().unwrap_or_default();
            copy.extend_from_slice(elements);
            second.store.start(code, Op::Write, at, len, copy);
        }
        if let (Some(first), Some(elements)) = (first, last.take()) {
            first.store.start(code, Op::Write, at, len, elements);
        }
    }

    /// Lets the stores work; whether there was work.
    pub(super) fn poll(&mut self, now: Duration) -> bool {
        self.now = now;
        let mut busy = false;
        for place in 0..self.sides.len() {
            if let Some(side) = &mut self.sides[place] {
                busy |= side.store.poll(now);
            }
            self.take_ended(place);
        }
        if self.sides.len() > 1 && now >= self.look_at {
            self.look_at = now + LOOK;
            self.look_for_silent();
            self.hear_of_lost();
        }
        if !self.kept.is_empty() {
            let sides = self.sides.iter().flatten();
            let mut outs = sides.filter(|side| !side.is_in || is_early());
            if outs.all(|side| side.store.in_flight() == 0) {
                self.kept.clear();
            }
        }
        busy || !self.ended.is_empty()
    }

    fn take_ended(&mut self, place: usize) {
        while let Some(side) = &mut self.sides[place]
            && let Some(ended) = side.store.next_ended()
        {
            match ended.ticket % TICKET {
                SUPERBLOCK => self.copy_ended(place, ended),
                TABLE => self.table_ended(place, ended),
                ticket => self.part_ended(place, ticket, ended),
            }
        }
    }

    /// A store has a group, or failed.
    fn part_ended(&mut self, place: usize, ticket: u32, ended: Ended) {
        let sent = &mut self.sent[ticket as usize];
        let is_it = sent.is_open && sent.code == ended.ticket;
        if is_it && sent.elements.capacity() == 0 {
            sent.elements = ended.elements;
        } else {
            self.spare.push(ended.elements);
        }
        if !is_it {
            return;
        }
        sent.pending &= !bit(place);
        match ended.result {
            Ok(()) => sent.good |= bit(place),
            Err(fault) => self.lose(place, fault, "failed"),
        }
        self.settle();
    }

    /// Ends the groups that all stores that are in have, once that others are out is said.
    fn settle(&mut self) {
        let ins = self.ins();
        let is_told = self.saying.as_ref().is_none_or(Saying::is_told);
        for ticket in 0..GROUPS {
            let sent = &mut self.sent[ticket];
            let is_early = mutant!("log-two-first-is-enough") && sent.good != 0;
            let mut sides = self.sides.iter().flatten();
            let is_early = is_early && sides.all(|side| side.store.in_flight() < 2);
            if !sent.is_open || sent.pending & ins != 0 && !is_early {
                continue;
            }
            let result = match self.failed {
                Some(fault) => Err(fault),
                None if !is_told && !mutant!("log-two-untold") => continue,
                None => Ok(()),
            };
            sent.is_open = false;
            self.ended.push_back(StoresEnded {
                ticket: ticket as u32,
                result,
                elements: std::mem::take(&mut sent.elements),
                is_kept: sent.pending != 0,
            });
        }
        self.settle_table();
    }

    /// A store is out; or the last one failed, and nothing is stable any more.
    fn lose(&mut self, place: usize, fault: Fault, how: &str) {
        let Some(side) = self.sides[place].as_mut().filter(|side| side.is_in) else {
            return;
        };
        side.is_in = false;
        let name = side.begun.as_ref().map(|begun| begun.name.clone());
        let name = name.unwrap_or_default();
        let left = self.sides.iter().flatten().find(|side| side.is_in);
        let begun = left.and_then(|left| left.begun.as_ref());
        if let (Some(LogMember { name: other, .. }), Some(saying)) = (begun, &mut self.saying) {
            if !self.lost.0[place].swap(true, Relaxed) {
                log::error!(
                    "log store {name} {how}: {fault}. It is out until a restart: the log goes on with store {other} alone, which says so first. What is acknowledged from now on is lost with that one"
                );
            }
            saying.is_alone(begun.and_then(|begun| begun.member));
        } else {
            // It is asked on: what it takes may still say that nothing is left of the log.
            if let Some(side) = &mut self.sides[place] {
                side.is_in = true;
            }
            self.failed.get_or_insert(fault);
        }
        self.settle_copies();
        self.settle();
    }

    /// Looks for a store that keeps what the other one has done.
    fn look_for_silent(&mut self) {
        if self.ins() != bit(0) | bit(1) || self.failed.is_some() {
            return;
        }
        let of_groups = self.sent.iter().filter(|sent| sent.is_open);
        let of_groups = of_groups.map(|sent| (sent.since, sent.pending));
        let of_copies = self.saying.as_ref().and_then(Saying::pending);
        let is_long = |since: Duration| self.now >= since + SILENT_MAX;
        let of_tables = self.tables.as_ref().and_then(Writer::pending);
        let mut kept = of_groups.chain(of_copies).chain(of_tables);
        let kept = kept.find(|&(since, pending)| pending.count_ones() == 1 && is_long(since));
        if let Some((_, pending)) = kept {
            self.lose(pending.trailing_zeros() as usize, Fault::Busy, "is silent");
        }
    }

    /// Another shard has lost a store.
    fn hear_of_lost(&mut self) {
        let lost = [0, 1].map(|place: usize| self.lost.0[place].load(Relaxed));
        // One that has lost the other one says nothing of both.
        if self.failed.is_none() && lost[0] != lost[1] && self.ins() == bit(0) | bit(1) {
            self.lose(usize::from(lost[1]), Fault::Gone, "was lost by a shard");
        }
    }

    /// The next group that ended, or superblock.
    pub(super) fn next_ended(&mut self) -> Option<StoresEnded> {
        self.ended.pop_front()
    }

    /// Holds memory of a group until those that are out have given it back.
    pub(super) fn keep<'a>(
        &mut self,
        pages: impl Iterator<Item = &'a Cluster>,
        segments: impl Iterator<Item = &'a Segment>,
    ) {
        let pages = pages.map(|page| (Some(page.clone()), None));
        let segments = segments.map(|segment| (None, Some(segment.clone())));
        self.kept.extend(pages.chain(segments));
    }

    /// What is not at its end, but for groups.
    pub(super) fn in_progress(&self) -> usize {
        let is_saying = self.saying.as_ref().is_some_and(Saying::is_busy);
        let writes = self.tables.as_ref().map_or(0, Writer::in_progress);
        usize::from(is_saying) + writes + self.kept.len()
    }

    /// Nothing more is said but what is asked for: no memory is held for that.
    pub(super) fn rest(&mut self) {
        if let Some(saying) = &mut self.saying {
            saying.rest();
        }
    }

    /// The log is empty, and the program stops. Once tables are written: what is acknowledged after it is said is not closed.
    pub(super) fn close(&mut self) {
        let is_writing = |writer: &Writer| writer.in_progress() > 0;
        if self.tables.as_ref().is_some_and(is_writing) {
            return;
        }
        if let Some(saying) = &mut self.saying {
            saying.close();
        }
    }

    /// Says more, if something is to be said.
    pub(super) fn advance(&mut self, buffers: &Buffers) {
        let is_pair = self.ins() == bit(0) | bit(1);
        let Some(saying) = &mut self.saying else {
            return;
        };
        saying.reserve(is_pair, buffers);
        if saying.is_due() {
            self.begin_copies(buffers);
        }
        self.advance_table(buffers);
    }
}
