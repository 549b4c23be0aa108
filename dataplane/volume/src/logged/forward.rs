//! Changes of mirrored volumes go to the other node of the pair when their group goes to the log, and are merged when both
//! have them (rows R1, S2): so a host is answered, and a read sees them, no sooner.
//!
//! What one node alone has is marked in the volume's record. The log's record counts as the mark until its half is freed;
//! before that the marks are stable themselves (row R7). What is marked is copied while changes go to both: a granule is read
//! when no change of it is on its way, and goes behind those that were forwarded before, in front of those that come later.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use block::{Buffers, Device, Fault, Flags, Io, Op, VolumeId};
use mirror::{ChangeOp, Compare, Forward, GRANULE, Mirrored, Mode};
use mutant::mutant;
use pages::PageRun;

use super::verify::Check;
use super::{Log, Logged};
use crate::cached::Cached;
use crate::change::Change;
use crate::placement::{self, OWNED_RANGE};
use crate::requester::{Ends, Requester};

/// Granules that a shard copies at a time: hosts come first.
const COPIES: usize = 2;

/// A mirrored volume, as the shard acts by it.
pub(super) struct Entry {
    pub(super) shared: Arc<Mirrored>,
    pub(super) volume: VolumeId,
    pub(super) mode: Mode,
    word: u64,
    /// While it is drained: hosts have requests of it.
    is_in_flight: bool,
    /// Transfers with lesser numbers wait for nobody any more.
    released: u64,
    /// Where the look for granules to be copied goes on.
    cursor: u64,
    pub(super) check: Check,
}

/// A granule that is being copied, piece by piece.
struct Copy {
    volume: VolumeId,
    granule: u64,
    /// What is still to be read.
    rest: Range<u64>,
    /// A piece is being read.
    reads: bool,
    /// A change of the granule was forwarded since that was begun.
    was_changed: bool,
    /// It goes on no more: some of it may be otherwise at the other node.
    is_void: bool,
    /// Pieces that the other node has not confirmed.
    sent: Vec<u64>,
}

/// A change, or a piece of a copy, on its way to the other node.
struct Transfer {
    volume: VolumeId,
    is_confirmed: bool,
    /// Bytes of a change's data, which the log has, too.
    logged: u64,
}

/// What of a shard's changes goes to another node.
pub(super) struct Forwarding {
    pub(super) shard: usize,
    pub(super) shards: usize,
    pub(super) entries: Vec<Entry>,
    /// What is to be compared with the other node's.
    pub(super) compares: VecDeque<Compare>,
    /// What is to be sent.
    queue: VecDeque<Forward>,
    /// Changes that are stable here, and that the other node has not confirmed, in their order.
    awaiting: VecDeque<Logged>,
    /// The number of the next transfer.
    next: u64,
    /// Transfers from [`Forwarding::base`] on. All before are confirmed.
    confirmed: VecDeque<Transfer>,
    base: u64,
    /// Bytes of changes that are in the log, or will be, and not confirmed.
    unconfirmed_bytes: u64,
    /// Bytes of the longest change so far, of either node's.
    longest: u64,
    /// Transfers with lesser numbers are stable here.
    stable: u64,
    copies: Vec<Copy>,
}

impl Forwarding {
    pub(super) fn new(shard: usize, shards: usize) -> Self {
        Self {
            shard,
            shards,
            entries: Vec::new(),
            compares: VecDeque::new(),
            queue: VecDeque::new(),
            awaiting: VecDeque::new(),
            next: 1,
            confirmed: VecDeque::new(),
            base: 1,
            unconfirmed_bytes: 0,
            longest: 0,
            stable: 1,
            copies: Vec::new(),
        }
    }

    /// Whether some volume is mirrored.
    pub(super) fn is_used(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Bytes of changes that have gone to the log, and that the other node has not confirmed.
    pub(super) fn unconfirmed_bytes(&self) -> u64 {
        self.unconfirmed_bytes
    }

    /// Bytes of the longest change so far.
    pub(super) fn longest(&self) -> u64 {
        self.longest
    }

    /// Whether the node is the source of some volumes and the destination of others.
    pub(super) fn is_both(&self) -> bool {
        let is = |mode: Mode| move |entry: &Entry| entry.mode == mode;
        self.entries.iter().any(is(Mode::Suspended)) && self.entries.iter().any(is(Mode::Forward))
    }

    /// The log has failed: sources hand over to the other node.
    pub(super) fn log_failed(&self) {
        (self.entries.iter()).for_each(|entry| entry.shared.log_failed());
    }

    pub(super) fn in_progress(&self) -> usize {
        let reads = self.entries.iter().filter(|entry| entry.check.reads());
        self.awaiting.len() + self.copies.len() + reads.count()
    }

    fn entry(&self, volume: VolumeId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.volume == volume)
    }

    fn is_confirmed(&self, volume: VolumeId, transfer: u64) -> bool {
        let place = transfer.checked_sub(self.base);
        let known = place.and_then(|place| self.confirmed.get(place as usize));
        let is_confirmed = place.is_none() || known.is_some_and(|known| known.is_confirmed);
        is_confirmed
            || self
                .entry(volume)
                .is_none_or(|entry| transfer < entry.released)
    }

    /// A change is about to be part of a group: its transfer; 0 if it goes nowhere.
    ///
    /// # Errors
    /// It is not to be done, as hosts are not served any more; or it comes from a source that is none.
    pub(super) fn takes(&mut self, change: &Change) -> Result<u64, ()> {
        let range = change.io.offset..change.io.end();
        if change.io.op == Op::Write {
            self.longest = self.longest.max(change.io.len);
        }
        let Some(entry) = self.entry(change.volume) else {
            return Ok(0);
        };
        match (entry.mode, change.io.flags.forwarded) {
            (Mode::Suspended, true) => Ok(0),
            (Mode::Suspended, false) | (_, true) => Err(()),
            (Mode::Alone, false) => {
                entry.shared.mark(&range);
                Ok(0)
            }
            (Mode::Forward | Mode::Draining, false) => {
                let op = match change.io.op {
                    Op::Write => ChangeOp::Write,
                    // The other node's drive may leave what it had.
                    _ => ChangeOp::WriteZeroes,
                };
                let run = change.io.run.as_deref();
                let logged = run.map_or(0, |_| change.io.len);
                Ok(self.forward(change.volume, op, &range, run, logged))
            }
        }
    }

    /// `logged`: bytes of its data that the log has, too.
    fn forward(
        &mut self,
        volume: VolumeId,
        op: ChangeOp,
        range: &Range<u64>,
        run: Option<&PageRun>,
        logged: u64,
    ) -> u64 {
        let last = self.confirmed.back().filter(|last| !last.is_confirmed);
        let is_reused = mutant!("pair-transfer-reused") && last.is_some();
        let transfer = self.next - u64::from(is_reused);
        self.unconfirmed_bytes += logged;
        if !is_reused {
            self.next += 1;
            self.confirmed.push_back(Transfer {
                volume,
                is_confirmed: false,
                logged,
            });
        }
        let segments = run.into_iter().flat_map(PageRun::segments);
        self.queue.push_back(Forward {
            transfer,
            volume,
            change: mirror::Change {
                op,
                offset: range.start,
                len: range.end - range.start,
            },
            segments: segments.cloned().collect(),
        });
        for copy in &mut self.copies {
            copy.was_changed |= copy.volume == volume && touches(range, copy.granule);
        }
        for entry in &mut self.entries {
            if entry.volume == volume {
                entry.check.changes(range);
            }
        }
        transfer
    }

    /// The group of these changes is stable.
    pub(super) fn stable(&mut self, changes: &[Logged]) {
        if let Some(last) = changes.iter().rev().find(|logged| logged.transfer != 0) {
            self.stable = last.transfer + 1;
        }
    }

    /// A change that may have gone to the other node is not stable here: the two may differ.
    pub(super) fn failed(&mut self, change: &Change, transfer: u64) {
        if transfer == 0 {
            return;
        }
        let range = change.io.offset..change.io.end();
        if let Some(entry) = self.entry(change.volume) {
            entry.shared.mark(&range);
        }
        for copy in &mut self.copies {
            copy.is_void |= copy.volume == change.volume && touches(&range, copy.granule);
        }
    }

    /// What of changes that are stable waits for the other node; it is kept.
    pub(super) fn holds(&mut self, logged: Logged) -> Option<Logged> {
        if logged.transfer == 0 || mutant!("pair-answered-early") {
            return Some(logged);
        }
        self.awaiting.push_back(logged);
        None
    }

    /// The next change that waited for the other node, and does not any more.
    pub(super) fn next_released(&mut self) -> Option<Logged> {
        let mut waits = Vec::new();
        let at = self.awaiting.iter().position(|logged| {
            let volume = logged.change.volume;
            let is_first = !waits.contains(&volume);
            let goes = is_first && self.is_confirmed(volume, logged.transfer);
            if !goes && is_first {
                waits.push(volume);
            }
            goes
        })?;
        self.awaiting.remove(at)
    }

    /// The other node has these.
    fn confirm(&mut self, transfers: Range<u64>) {
        for transfer in transfers.start.max(self.base)..transfers.end {
            if let Some(confirmed) = self.confirmed.get_mut((transfer - self.base) as usize) {
                self.unconfirmed_bytes -= std::mem::take(&mut confirmed.logged);
                confirmed.is_confirmed = true;
            }
            for copy in &mut self.copies {
                copy.sent.retain(|&sent| sent != transfer);
            }
        }
        self.forget_confirmed();
    }

    fn forget_confirmed(&mut self) {
        while self
            .confirmed
            .front()
            .is_some_and(|first| first.is_confirmed)
        {
            self.confirmed.pop_front();
            self.base += 1;
        }
    }

    /// Acts by the modes as they are now.
    fn look(&mut self) {
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            let (mode, word) = entry.shared.mode();
            if word == entry.word {
                continue;
            }
            if mode == Mode::Draining && entry.is_in_flight {
                continue;
            }
            if matches!(entry.mode, Mode::Forward | Mode::Draining)
                && !matches!(mode, Mode::Forward | Mode::Draining)
            {
                self.release(at);
            }
            let entry = &mut self.entries[at];
            (entry.mode, entry.word) = (mode, word);
            entry.is_in_flight = true;
            entry.shared.acts_by(self.shard, word);
        }
    }

    /// Changes of a volume wait for the other node no more: what it has not confirmed, it may lack.
    fn release(&mut self, at: usize) {
        let (volume, next) = (self.entries[at].volume, self.next);
        for logged in self
            .awaiting
            .iter()
            .filter(|logged| logged.change.volume == volume)
        {
            if !self.is_confirmed(volume, logged.transfer) {
                let io = &logged.change.io;
                self.entries[at].shared.mark(&(io.offset..io.end()));
            }
        }
        self.queue.retain(|forward| forward.volume != volume);
        self.copies
            .iter_mut()
            .filter(|copy| copy.volume == volume)
            .for_each(|copy| copy.is_void = true);
        self.entries[at].released = next;
        // Nobody confirms them.
        for transfer in (self.confirmed.iter_mut()).filter(|known| known.volume == volume) {
            self.unconfirmed_bytes -= std::mem::take(&mut transfer.logged);
            transfer.is_confirmed = true;
        }
        self.forget_confirmed();
    }

    /// A change that is stable, and that the other node had not confirmed when it was given up, is marked.
    pub(super) fn mark_if_released(&self, logged: &Logged) {
        let volume = logged.change.volume;
        if let Some(entry) = self
            .entry(volume)
            .filter(|entry| logged.transfer < entry.released)
        {
            let io = &logged.change.io;
            entry.shared.mark(&(io.offset..io.end()));
        }
    }

    /// The next granule of an entry to be copied, if there is one.
    fn next_granule(&mut self, at: usize) -> Option<u64> {
        let (shard, shards) = (self.shard, self.shards);
        let entry = &mut self.entries[at];
        loop {
            let Some(granule) = entry.shared.first_from(entry.cursor) else {
                entry.cursor = 0;
                return None;
            };
            entry.cursor = owned_from(entry.volume, granule, shard, shards);
            if entry.cursor == granule {
                entry.cursor = granule + 1;
                return Some(granule);
            }
        }
    }
}

/// The granule if it is the shard's, or where the look for one goes on.
pub(super) fn owned_from(volume: VolumeId, granule: u64, shard: usize, shards: usize) -> u64 {
    const PER_RANGE: u64 = OWNED_RANGE / GRANULE;
    match placement::owner(volume, granule * GRANULE, shards) == shard {
        true => granule,
        false => (granule / PER_RANGE + 1) * PER_RANGE,
    }
}

pub(super) fn touches(range: &Range<u64>, granule: u64) -> bool {
    range.start < (granule + 1) * GRANULE && granule * GRANULE < range.end
}

impl<D: Device> Log<D> {
    /// A volume is mirrored from now on, as `shared` says.
    pub(crate) fn mirror(&mut self, volume: VolumeId, shared: Arc<Mirrored>) {
        self.forwarding.entries.push(Entry {
            shared,
            volume,
            mode: Mode::Suspended,
            word: 0,
            is_in_flight: true,
            released: 0,
            cursor: 0,
            check: Check::default(),
        });
    }

    /// Whether hosts have requests of a volume that is being drained.
    pub(crate) fn note_in_flight(&mut self, volume: VolumeId, has_some: bool) {
        let mut entries = self.forwarding.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.volume == volume) {
            entry.is_in_flight = has_some;
        }
    }

    /// What is to be sent, and below which number transfers are stable here.
    pub(crate) fn forwards(&mut self) -> (&mut VecDeque<Forward>, u64) {
        let stable = self.forwarding.stable;
        (&mut self.forwarding.queue, stable)
    }

    /// Changes that are to be sent.
    pub(crate) fn forwards_waiting(&self) -> usize {
        self.forwarding.queue.len()
    }

    /// The other node has these.
    pub(crate) fn confirmed(&mut self, transfers: Range<u64>) {
        self.forwarding.confirm(transfers);
    }

    /// Whether a change of the granule is on its way to the cache.
    pub(super) fn has_change_of(&mut self, volume: VolumeId, granule: u64) -> bool {
        let is_it = |logged: &Logged| {
            let io = &logged.change.io;
            logged.change.volume == volume && touches(&(io.offset..io.end()), granule)
        };
        let mut merging = self.merging.iter_mut();
        self.writing
            .iter()
            .any(|writing| writing.changes.iter().any(is_it))
            || self.stable.iter().any(is_it)
            || self.held.iter().any(is_it)
            || self.forwarding.awaiting.iter().any(is_it)
            || merging
                .any(|&mut (_, of, start, end)| of == volume && touches(&(start..end), granule))
    }

    /// Lets copies go on, or begins them.
    pub(super) fn copy(&mut self, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        if self.forwarding.entries.is_empty() {
            return;
        }
        self.forwarding.look();
        for at in 0..self.forwarding.entries.len() {
            let entry = &self.forwarding.entries[at];
            let volume = entry.volume;
            while matches!(
                self.forwarding.entries[at].mode,
                Mode::Forward | Mode::Draining
            ) && !self.is_stopping
                && self.forwarding.copies.len() < COPIES
                && let Some(granule) = self.forwarding.next_granule(at)
            {
                let mut copies = self.forwarding.copies.iter();
                if copies.any(|copy| (copy.volume, copy.granule) == (volume, granule)) {
                    break;
                }
                let start = granule * GRANULE;
                let reach = self.forwarding.entries[at].shared.reach();
                self.forwarding.copies.push(Copy {
                    volume,
                    granule,
                    rest: start..(start + GRANULE).min(reach).max(start),
                    reads: false,
                    was_changed: false,
                    is_void: false,
                    sent: Vec::new(),
                });
            }
        }
        for at in (0..self.forwarding.copies.len()).rev() {
            self.copy_on(at, cached, buffers, ends);
        }
        self.verify(cached, buffers, ends);
    }

    /// The next piece of a copy, or its end.
    fn copy_on(&mut self, at: usize, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        let copy = &self.forwarding.copies[at];
        let (volume, granule, rest) = (copy.volume, copy.granule, copy.rest.clone());
        if copy.reads {
            return;
        }
        if copy.is_void {
            self.forwarding.copies.swap_remove(at);
            return;
        }
        if rest.is_empty() {
            if copy.sent.is_empty() {
                self.forwarding.copies.swap_remove(at);
                if let Some(entry) = self.forwarding.entry(volume) {
                    entry.shared.copied(granule);
                }
            }
            return;
        }
        if self.has_change_of(volume, granule) && !mutant!("pair-copied-too-early") {
            return;
        }
        let Some(mut run) = buffers.runs.take() else {
            return;
        };
        let n = rest.end.min(rest.start + buffers.runs.max_bytes() as u64) - rest.start;
        if run.begin(rest.start, n as usize).is_err() {
            return buffers.runs.put(run);
        }
        let copy = &mut self.forwarding.copies[at];
        (copy.reads, copy.was_changed) = (true, false);
        let io = Io::read(run, Flags::NONE);
        cached.start(Requester::Copy(volume, granule), volume, io, buffers, ends);
    }

    /// A piece was read.
    pub(crate) fn copy_read(
        &mut self,
        volume: VolumeId,
        granule: u64,
        result: Result<(), Fault>,
        run: Option<Box<PageRun>>,
        buffers: &Buffers,
    ) {
        let Some(run) = run else { return };
        let forwarding = &mut self.forwarding;
        let mut copies = forwarding.copies.iter_mut();
        let is_it =
            |copy: &&mut Copy| copy.reads && (copy.volume, copy.granule) == (volume, granule);
        if let Some(copy) = copies.find(is_it) {
            copy.reads = false;
            copy.is_void |= result.is_err();
            let is_old = copy.was_changed && !mutant!("pair-copied-over");
            if !copy.is_void && !is_old {
                let range = copy.rest.start..copy.rest.start + run.len() as u64;
                copy.rest.start = range.end;
                let next = forwarding.next;
                copy.sent.push(next);
                forwarding.forward(volume, ChangeOp::Write, &range, Some(&run), 0);
                // It is stable here, and those before it may not be.
                if forwarding.stable == next {
                    forwarding.stable = next + 1;
                }
            }
        }
        buffers.runs.put(run);
    }

    /// Marks that are not in stable storage: what to [ask](Log::has_stored) for, by volume.
    pub(super) fn want_stored(&self) -> Vec<(usize, u64)> {
        let entries = self.forwarding.entries.iter().enumerate();
        let wanted = entries.filter_map(|(at, entry)| Some((at, entry.shared.want_stored()?)));
        wanted.collect()
    }

    /// Whether they were tried to be, and could not.
    pub(super) fn waits_in_vain(&self, wanted: &[(usize, u64)]) -> bool {
        let mut wanted = wanted.iter();
        wanted.any(|&(at, _)| self.forwarding.entries[at].shared.stores_in_vain())
    }

    /// Whether they are.
    pub(super) fn has_stored(&self, wanted: &[(usize, u64)]) -> bool {
        let has =
            |&(at, wanted): &(usize, u64)| self.forwarding.entries[at].shared.has_stored(wanted);
        wanted.iter().all(has)
    }
}
