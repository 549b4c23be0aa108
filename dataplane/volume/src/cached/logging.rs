//! What the cache does for the log: it keeps changes until the log has taken them, merges those that are stable, and
//! writes what it has of logged volumes.

use block::{Buffers, Io, Op, VolumeId, WritePolicy};

use super::Cached;
use crate::change::{Change, Merging};
use crate::requester::{Ends, Requester, begin_anew};

/// What drives of logged volumes were given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drained {
    pub(crate) writes: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Pages that such writes have brought to a drive, whole or in part, while a consistency point waited for it.
    pub(crate) awaited_pages: u64,
    /// Bytes that they deallocated.
    pub(crate) deallocated: u64,
    /// Deallocations that they failed.
    pub(crate) undone: u64,
}

/// Whether changes of a volume go through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logging {
    No,
    Yes,
    /// The log has failed, and is empty. Hosts see no volatile cache: each change is in stable storage of the
    /// drive before it is acknowledged.
    Over,
}

impl Cached {
    /// Whether changes of the volume go through the log, or went until that failed.
    pub(crate) fn is_logged(&self, volume: VolumeId) -> bool {
        self.logged[volume.index()] != Logging::No
    }

    /// The log has failed, and is empty: from now on, and until a restart, changes go straight to their drives.
    pub(crate) fn end_logging(&mut self, buffers: &Buffers, ends: &mut Ends) {
        for behind in &self.behind {
            let logging = &mut self.logged[behind.volume.index()];
            if *logging == Logging::Yes {
                *logging = Logging::Over;
                if let Some(cache) = &mut self.cache {
                    cache.set_policy(behind.volume, WritePolicy::Through);
                }
            }
        }
        while let Some(change) = self.next_change() {
            self.start(change.requester, change.volume, change.io, buffers, ends);
        }
    }

    /// Changes that wait for the log.
    pub(crate) fn changes(&self) -> usize {
        self.changes.len()
    }

    /// The first of them.
    pub(crate) fn first_change(&self) -> Option<&Change> {
        self.changes.front()
    }

    /// The first of them that came from another node goes in front of all; whether there is one.
    pub(crate) fn bring_forwarded(&mut self) -> bool {
        let is_it = |change: &Change| change.io.flags.forwarded;
        let Some(place) = self.changes.iter().position(is_it) else {
            return false;
        };
        if place > 0
            && let Some(change) = self.changes.remove(place)
        {
            self.changes.push_front(change);
        }
        true
    }

    /// Takes the first of them.
    pub(crate) fn next_change(&mut self) -> Option<Change> {
        let change = self.changes.pop_front();
        begin_anew(&mut self.changes);
        change
    }

    /// Asks for the memory that [`Cached::merge`] will look at first.
    pub(crate) fn prefetch(&self, change: &Change) {
        if let Some(cache) = &self.cache {
            cache.prefetch(change.volume, change.io.offset);
        }
    }

    /// Whether a change that is stable is merged at once: most are.
    #[inline]
    pub(crate) fn merge_now(&mut self, change: &mut Change, buffers: &Buffers) -> bool {
        change.io.op == Op::Write && self.write_now(change.volume, &mut change.io, buffers)
    }

    /// Takes a change that is stable. When it is merged, it is at its end, and `merging` comes back
    /// from [`Cached::next_merged`].
    pub(crate) fn merge(
        &mut self,
        change: Change,
        merging: Merging,
        buffers: &Buffers,
        ends: &mut Ends,
    ) {
        let Change {
            requester,
            volume,
            mut io,
        } = change;
        io.flags.fua = false;
        self.admit_in_order(requester, volume, io, Some(merging), buffers, ends);
        self.finish_all(buffers, ends);
    }

    /// A change that was merged.
    pub(crate) fn next_merged(&mut self) -> Option<Merging> {
        let merged = self.merged.pop_front();
        begin_anew(&mut self.merged);
        merged
    }

    /// Writes what is dirty of logged volumes, for a consistency point; how many those are.
    pub(crate) fn flush_logged(&mut self, buffers: &Buffers, ends: &mut Ends) -> usize {
        let mut flushes = 0;
        for place in 0..self.behind.len() {
            let volume = self.behind[place].volume;
            if self.is_logged(volume) {
                self.behind[place].is_awaited = true;
                self.admit_in_order(Requester::Log, volume, Io::flush(), None, buffers, ends);
                flushes += 1;
            }
        }
        flushes
    }

    /// Pages of logged volumes that wait to be written.
    pub(crate) fn dirty_of_logged(&self) -> usize {
        let logged = (self.behind.iter()).filter(|behind| self.is_logged(behind.volume));
        let dirty = logged.map(|behind| Some(self.cache.as_ref()?.dirty_of(behind.volume)));
        dirty.flatten().sum()
    }

    /// What drives of logged volumes were given.
    pub(crate) fn drained(&self) -> Drained {
        self.drained
    }
}
