//! The log of a shard's volumes, from its store to its consistency points.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use block::{Buffers, Device, Fault, IoKind, NamespaceIndex, VolumeId};
use mirror::{Compare, Compared, Forward, Mirrored, Mode};

use super::Volumes;
use super::gate::Gate;
use crate::logged::{
    Log, LogCounters, LogPlan, LogStart, LogStores, PointEnd, Replay, ReplayEnd, ReplayProgress,
    TableRefusal, TableToken, TableWrite, Warm,
};
use crate::requester::Requester;

/// How far the shard's log is.
pub(super) enum LogState<D: Device> {
    /// There is none.
    None,
    /// Its stores are there, and another shard replays it.
    Attached(Box<LogStores<D>>),
    /// It is being replayed.
    Replaying(Box<Replay<D>>),
    /// It was replayed, or could not be.
    Replayed(Box<(LogStores<D>, Option<ReplayEnd>)>),
    /// It takes changes.
    Ready(Box<Log<D>>),
}

impl<D: Device> Volumes<D> {
    /// Lets the log's store work, or a replay go on; whether there was work.
    pub(super) fn poll_log(&mut self, buffers: &Buffers) -> bool {
        let end = match &mut self.log {
            LogState::Ready(log) => return log.poll(self.now),
            LogState::Replaying(replay) => replay.poll(self.now, &mut self.jobs, buffers),
            _ => return false,
        };
        if end.is_some()
            && let LogState::Replaying(replay) = std::mem::replace(&mut self.log, LogState::None)
        {
            self.log = LogState::Replayed(Box::new((replay.into_stores(), end)));
        }
        // Its own jobs have no door to wait for.
        true
    }

    /// Has a log on the one or two stores `devices`, `None` of one that is not there; `slot` makes what they keep in
    /// each operation. Logged volumes take no change before [`Volumes::start_log`].
    pub fn attach_log(
        &mut self,
        devices: Vec<Option<D>>,
        elements: usize,
        slot: impl FnMut() -> D::Slot,
    ) {
        self.log = LogState::Attached(Box::new(LogStores::new(devices, elements, slot)));
    }

    /// Replays the log, for all shards, and makes it as `plan` says.
    pub fn replay_log(&mut self, plan: LogPlan) {
        match std::mem::replace(&mut self.log, LogState::None) {
            LogState::Attached(stores) => {
                self.log = LogState::Replaying(Box::new(Replay::new(*stores, plan)));
            }
            other => self.log = other,
        }
    }

    /// How far the replay is, while it lasts.
    pub fn replay_progress(&self) -> Option<ReplayProgress> {
        match &self.log {
            LogState::Replaying(replay) => Some(replay.progress()),
            _ => None,
        }
    }

    /// How the replay ended, once it has; once.
    pub fn replay_end(&mut self) -> Option<ReplayEnd> {
        match &mut self.log {
            LogState::Replayed(replayed) => replayed.1.take(),
            _ => None,
        }
    }

    /// The log takes changes of this shard from now on.
    ///
    /// # Panics
    /// If no log was [attached](Volumes::attach_log), or it has no region for the shard.
    pub fn start_log(&mut self, shard: usize, start: &LogStart) {
        let stores = match std::mem::replace(&mut self.log, LogState::None) {
            LogState::Attached(stores) => *stores,
            LogState::Replayed(replayed) => replayed.0,
            _ => panic!("there is no log to start"),
        };
        let log = Log::new(stores, start, shard, &self.cached, self.now);
        let warm = Warm::new(start, shard, self.cached.pages_max());
        self.warm = (!warm.is_over()).then_some(warm);
        self.log = LogState::Ready(Box::new(log));
    }

    /// Whether the first end is one that hosts are not told yet; it is the last then. Of the fault alone that lets reads have early
    /// what is not stable.
    pub(super) fn holds_back(&mut self) -> bool {
        let is_writing = matches!(&self.log, LogState::Ready(log) if log.is_writing());
        let may_change = match self.ends.front() {
            Some((Requester::Door(caller), ..)) => caller.kind != IoKind::Read,
            Some((Requester::Part(_) | Requester::Remote { .. }, ..)) => true,
            _ => false,
        };
        let is_held = is_writing && may_change;
        if is_held {
            self.ends.rotate_left(1);
        }
        is_held
    }

    /// A logged volume is mirrored from now on, as `shared` says; changes of the other node go to `namespace`. The log takes changes
    /// already.
    pub fn mirror(&mut self, volume: VolumeId, shared: &Arc<Mirrored>, namespace: NamespaceIndex) {
        self.cached.set_mirrored(volume);
        if let LogState::Ready(log) = &mut self.log {
            log.mirror(volume, Arc::clone(shared));
        }
        self.gates.push((volume, Arc::clone(shared)));
        self.close_gates();
        let place = namespace.as_mirrored().unwrap_or_default();
        if self.mirrored.len() <= place {
            self.mirrored.resize_with(place + 1, || None);
        }
        self.mirrored[place] = super::Namespace::of(volume);
    }

    /// Hosts reach mirrored volumes if this node serves them, by whichever namespace.
    pub(super) fn close_gates(&mut self) {
        for entry in self.namespaces.iter_mut().flatten() {
            let gate = self.gates.iter().find(|(of, _)| *of == entry.volume);
            let gate = gate.map(|(_, shared)| Arc::clone(shared));
            entry.gate = match (&entry.gate, gate) {
                (Gate::Backup(_), gate) => Gate::Backup(gate),
                (_, Some(gate)) => Gate::Served(gate),
                (_, None) => Gate::Open,
            };
        }
    }

    /// Tells the log which of the volumes that are being drained have requests of hosts.
    #[inline]
    pub(super) fn note_in_flight(&mut self) {
        for (volume, shared) in &self.gates {
            if shared.mode().0 == Mode::Draining
                && let LogState::Ready(log) = &mut self.log
            {
                let mut entries = self.namespaces.iter().flatten();
                let has_some = entries.any(|entry| entry.volume == *volume && entry.in_flight > 0);
                log.note_in_flight(*volume, has_some);
            }
        }
    }

    /// What a mirrored volume's shards share, by a namespace of hosts.
    pub fn gate(&self, namespace: NamespaceIndex) -> Option<&Arc<Mirrored>> {
        match &self.namespaces.get(namespace.index())?.as_ref()?.gate {
            Gate::Served(mirrored) => Some(mirrored),
            Gate::Open | Gate::Backup(_) => None,
        }
    }

    /// Whether hosts may read a namespace as a backup now.
    pub fn is_readable_backup(&self, namespace: NamespaceIndex) -> bool {
        let entry = self.namespaces.get(namespace.index());
        let entry = entry.and_then(Option::as_ref);
        entry.is_some_and(|entry| match &entry.gate {
            Gate::Backup(Some(mirrored)) => mirrored.backup().is_some(),
            _ => false,
        })
    }

    /// Changes that are to go to the other node, and below which number transfers are stable here.
    pub fn forwards(&mut self) -> Option<(&mut VecDeque<Forward>, u64)> {
        match &mut self.log {
            LogState::Ready(log) => Some(log.forwards()),
            _ => None,
        }
    }

    /// What is to be compared with the other node's.
    pub fn compares(&mut self) -> Option<&mut VecDeque<Compare>> {
        match &mut self.log {
            LogState::Ready(log) => Some(log.compares()),
            _ => None,
        }
    }

    /// What the other node says of it.
    pub fn compared(&mut self, compared: &Compared) {
        if let LogState::Ready(log) = &mut self.log {
            log.compared(compared);
        }
    }

    /// Changes that wait for room on their way to the other node.
    pub fn forwards_waiting(&self) -> usize {
        match &self.log {
            LogState::Ready(log) => log.forwards_waiting(),
            _ => 0,
        }
    }

    /// The other node has these transfers.
    pub fn confirmed(&mut self, transfers: Range<u64>) {
        if let LogState::Ready(log) = &mut self.log {
            log.confirmed(transfers);
        }
    }

    /// Wants a consistency point of all that is acknowledged by now.
    pub fn consistency_point(&mut self) {
        if let LogState::Ready(log) = &mut self.log {
            log.want_point();
        }
    }

    /// How the [consistency point](Volumes::consistency_point) that was wanted last ended, once it has.
    pub fn point_end(&self) -> Option<PointEnd> {
        match &self.log {
            LogState::Ready(log) => log.point_end(),
            _ => Some(PointEnd::NoLog),
        }
    }

    /// Begins to make a volume's table stable, on all stores that the log is on: its [end](Volumes::next_table_end) comes
    /// when they have it. The shard with the log's first region writes tables; writes end in their order.
    ///
    /// # Errors
    /// [`TableRefusal`]: nothing was begun.
    pub fn write_table(&mut self, write: &TableWrite<'_>) -> Result<TableToken, TableRefusal> {
        match &mut self.log {
            LogState::Ready(log) => log.write_table(write),
            _ => Err(TableRefusal::NotHere),
        }
    }

    /// Pages that the record of a volume's table may have: in one piece. Of the shard that writes tables.
    pub fn table_room(&self, volume: VolumeId) -> Option<u64> {
        match &self.log {
            LogState::Ready(log) => log.table_room(volume),
            _ => None,
        }
    }

    /// The next write of a table that ended. One that failed is in stable storage or is not, and the log takes no more.
    pub fn next_table_end(&mut self) -> Option<(TableToken, Result<(), Fault>)> {
        match &mut self.log {
            LogState::Ready(log) => log.next_table_end(),
            _ => None,
        }
    }

    /// What the log has done; `None` if there is none.
    pub fn log_counters(&self) -> Option<LogCounters> {
        match &self.log {
            LogState::Ready(log) => Some(log.counters(&self.cached)),
            _ => None,
        }
    }
}
