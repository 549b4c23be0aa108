//! The history of a volume's sectors.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use super::{End, Extent, OpId};

/// A place in the order of events.
pub(crate) type Tick = u64;

/// Not yet.
pub(crate) const NEVER: Tick = Tick::MAX;

/// What a sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Version(u32),
    Zeros,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Version(version) => write!(f, "version {version}"),
            Value::Zeros => f.write_str("zeros"),
        }
    }
}

/// A write whose data a sector may hold, now or after a crash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) write: OpId,
    pub(super) value: Value,
    /// If it was done, then before this.
    pub(super) by: Tick,
    /// Of a write whose connection was lost: it may be done later, but not on top of a write that
    /// began after this.
    pub(super) fenced: Tick,
    /// Since when the sector surely holds something later.
    pub(super) superseded: Tick,
    /// Since when something later is acknowledged: a flush that begins afterwards makes it stay.
    pub(super) covered: Tick,
    /// It cannot come back after a crash.
    pub(super) is_gone: bool,
    /// Its data was read.
    pub(super) is_seen: bool,
}

impl Entry {
    pub(super) fn new(write: OpId, value: Value) -> Self {
        Self {
            write,
            value,
            by: NEVER,
            fenced: NEVER,
            superseded: NEVER,
            covered: NEVER,
            is_gone: false,
            is_seen: false,
        }
    }
}

/// For how long what was read stays, until something later takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stays {
    /// With FUA it is not volatile (NVM 3.2.4).
    Always,
    /// No crash takes it back. A write that failed may be in the log, and come with a replay.
    UnlessFailed,
    /// A crash may.
    WhilePowered,
}

/// Of each sector, the writes whose data it may hold.
pub(super) struct History {
    /// Empty: zeros, and never written.
    sectors: Vec<Vec<Entry>>,
    /// Sectors with entries that a crash may bring back.
    loose: BTreeSet<u64>,
}

impl History {
    pub(super) fn new(sectors: u64) -> Self {
        Self {
            sectors: vec![Vec::new(); sectors as usize],
            loose: BTreeSet::new(),
        }
    }

    pub(super) fn entries(&self, sector: u64) -> &[Entry] {
        &self.sectors[sector as usize]
    }

    pub(super) fn written(&self) -> impl Iterator<Item = u64> {
        let sectors = (0..).zip(&self.sectors);
        sectors
            .filter(|(_, entries)| !entries.is_empty())
            .map(|(sector, _)| sector)
    }

    /// A write begins, and may be done from now on.
    pub(super) fn begin(&mut self, sector: u64, entry: Entry) {
        let entries = &mut self.sectors[sector as usize];
        if entries.is_empty() {
            entries.push(Entry {
                by: 0,
                ..Entry::new(OpId(0), Value::Zeros)
            });
        }
        entries.push(entry);
    }

    /// A write is acknowledged: what was done before it began is overwritten, for good if
    /// the write is durable.
    pub(super) fn acknowledge(
        &mut self,
        sector: u64,
        write: OpId,
        start: Tick,
        now: Tick,
        durable: bool,
    ) {
        for entry in &mut self.sectors[sector as usize] {
            if entry.write == write {
                entry.by = entry.by.min(now);
            } else if entry.by.min(entry.fenced) < start {
                entry.superseded = entry.superseded.min(now);
                entry.covered = entry.covered.min(now);
                entry.is_gone |= durable;
            }
        }
        self.loose.insert(sector);
    }

    /// A write is over, done or not.
    pub(super) fn over(&mut self, sector: u64, write: OpId, now: Tick) {
        for entry in &mut self.sectors[sector as usize] {
            if entry.write == write {
                entry.by = entry.by.min(now);
            }
        }
    }

    /// A write is done by now, or waits for nothing but its device: what begins from now on is later.
    pub(super) fn fence(&mut self, extent: &Extent, write: OpId, now: Tick) {
        for sector in extent.first..extent.first + extent.sectors {
            for entry in &mut self.sectors[sector as usize] {
                if entry.write == write {
                    entry.fenced = entry.fenced.min(now);
                }
            }
        }
    }

    /// The first sector whose data of a write was read.
    pub(super) fn seen(&self, extent: &Extent, write: OpId) -> Option<u64> {
        let is_it = |entry: &Entry| entry.write == write && entry.is_seen;
        let mut sectors = extent.first..extent.first + extent.sectors;
        sectors.find(|&sector| self.entries(sector).iter().any(is_it))
    }

    /// A write never left its host, or was aborted.
    pub(super) fn withdraw(&mut self, extent: &Extent, write: OpId) {
        for sector in extent.first..extent.first + extent.sectors {
            self.sectors[sector as usize].retain(|entry| entry.write != write);
        }
    }

    /// A read that began at `start`, and ends `now`, returned `value`; whether it may.
    pub(super) fn read(
        &mut self,
        sector: u64,
        value: Value,
        (start, now): (Tick, Tick),
        stays: Stays,
        ended: impl Fn(OpId) -> End,
    ) -> bool {
        let entries = &mut self.sectors[sector as usize];
        if entries.is_empty() {
            return value == Value::Zeros;
        }
        let is_it = |entry: &Entry| entry.value == value && entry.superseded > start;
        let mut those = entries.iter().filter(|entry| is_it(entry));
        let (Some(first), more) = (those.next(), those.next().is_some()) else {
            return false;
        };
        // Zeros may be of several writes.
        let only = (!more).then_some(first.write);
        let covers = only.is_some_and(|write| ended(write) == End::Succeeded);
        for entry in entries.iter_mut() {
            if Some(entry.write) == only {
                entry.by = entry.by.min(now);
                entry.is_seen = true;
            } else if !is_it(entry) && entry.by < start {
                entry.superseded = entry.superseded.min(now);
                let has_failed = matches!(ended(entry.write), End::Failed(_));
                let may_come = stays == Stays::UnlessFailed && has_failed;
                if covers && !may_come {
                    entry.covered = entry.covered.min(now);
                }
                let is_replaced = stays != Stays::WhilePowered && !may_come;
                entry.is_gone |= is_replaced && only.is_some();
                self.loose.insert(sector);
            }
        }
        true
    }

    /// A flush that began at `start` succeeded.
    pub(super) fn flush(&mut self, start: Tick, oldest_read: Tick) {
        for sector in std::mem::take(&mut self.loose) {
            for entry in &mut self.sectors[sector as usize] {
                entry.is_gone |= entry.covered < start;
            }
            self.forget(sector, oldest_read);
            let entries = &self.sectors[sector as usize];
            if entries.iter().any(|entry| entry.superseded < NEVER) {
                self.loose.insert(sector);
            }
        }
    }

    /// Drops what neither a read under way nor a crash can bring back.
    pub(super) fn forget(&mut self, sector: u64, oldest_read: Tick) {
        self.sectors[sector as usize]
            .retain(|entry| !(entry.is_gone && entry.superseded < oldest_read));
    }

    /// Nothing is under way, but these.
    pub(super) fn settle(&mut self, now: Tick, but: &HashSet<OpId>) {
        let entries = self.sectors.iter_mut().flatten();
        for entry in entries.filter(|entry| !but.contains(&entry.write)) {
            entry.by = entry.by.min(now);
        }
    }

    /// Every sector holds something that it can hold after a crash.
    pub(super) fn crash(&mut self) {
        self.loose.clear();
        for entries in &mut self.sectors {
            entries.retain(|entry| !entry.is_gone);
            for entry in entries {
                (entry.superseded, entry.covered) = (NEVER, NEVER);
            }
        }
    }
}
