//! A shard's log, from its store to its first change.

use std::time::Duration;

use block::{Device, Fault};
use volume::{
    LogCounters, LogPlan, LogStart, ReplayEnd, ReplayProgress, TableRefusal, TableToken, TableWrite,
};

use crate::handle::Handle;
use crate::machine::{Machine, Memory};
use crate::poll::Shard;

impl<M: Machine> Shard<M> {
    /// Has a log on the one or two `stores`, `None` of one that is not there; `elements` of one list, `slot` makes what
    /// they keep in each operation.
    pub fn attach_log(
        &mut self,
        stores: Vec<Option<M::Device>>,
        elements: usize,
        slot: impl FnMut() -> <M::Device as Device>::Slot,
    ) {
        self.common.volumes.attach_log(stores, elements, slot);
    }

    /// Replays the log, for all shards, which have [attached](Shard::attach_log) it and take no request
    /// yet. The shard is polled by [`Shard::poll_replay`] until that has ended.
    pub fn replay_log(&mut self, plan: LogPlan) {
        self.common.volumes.replay_log(plan);
    }

    /// Lets the replay go on; how it ended, once.
    pub fn poll_replay(&mut self) -> Option<ReplayEnd> {
        let now = Duration::from_nanos(self.now().0);
        let common = &mut self.common;
        self.machine.enter();
        self.machine.poll();
        let buffers = common.memory.buffers();
        common.volumes.poll(now, buffers);
        let ended = common.volumes.next_completion(buffers, &self.stages);
        debug_assert!(ended.is_none(), "no door has asked for anything");
        common.volumes.replay_end()
    }

    /// How far the replay is, while it lasts.
    pub fn replay_progress(&self) -> Option<ReplayProgress> {
        self.common.volumes.replay_progress()
    }

    /// The log takes the shard's changes from now on.
    pub fn start_log(&mut self, start: &LogStart) {
        self.common.volumes.start_log(self.index, start);
    }

    /// What the shard's log has done; `None` if there is none.
    pub fn log_counters(&self) -> Option<LogCounters> {
        self.common.volumes.log_counters()
    }

    /// As [`volume::Volumes::write_table`].
    ///
    /// # Errors
    /// [`TableRefusal`]: nothing was begun.
    pub fn write_table(&mut self, write: &TableWrite<'_>) -> Result<TableToken, TableRefusal> {
        self.common.volumes.write_table(write)
    }

    /// The next write of a table that ended.
    pub fn next_table_end(&mut self) -> Option<(TableToken, Result<(), Fault>)> {
        self.common.volumes.next_table_end()
    }

    /// Wants a consistency point if the control side has asked for one, and answers when it has ended.
    pub(crate) fn point(&mut self, handle: &Handle) {
        let (desk, volumes) = (handle.points(), &mut self.common.volumes);
        let number = desk.number();
        if number != self.point_seen {
            self.point_seen = number;
            self.is_point_wanted = true;
            volumes.consistency_point();
        }
        if self.is_point_wanted
            && let Some(end) = volumes.point_end()
        {
            self.is_point_wanted = false;
            desk.answer(number, self.index, end);
        }
    }
}
