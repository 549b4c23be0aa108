//! What was logged, and what has to be there after a recovery.

use std::ops::Range;

use nvlog::recovery::Loss;
use nvlog::{Record, RecordOp};

use super::disk::Disk;

/// Bytes of a volume, of how many there are, and of what belongs to one region.
pub const VOLUME: usize = 512 << 10;
pub const VOLUMES: usize = 2;
pub const CHUNK: usize = 256 << 10;

/// The region that a place belongs to.
pub fn owner(volume: usize, offset: usize, regions: usize) -> usize {
    (offset / CHUNK + volume) % regions
}

/// What a drive is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub volume: usize,
    pub offset: usize,
    pub len: usize,
    pub op: RecordOp,
}

/// A change and what it writes.
#[derive(Clone, Debug)]
pub struct Change {
    pub record: Record,
    pub payload: Vec<u8>,
}

impl Change {
    pub fn volume(&self) -> usize {
        self.record.volume as usize
    }

    pub fn range(&self) -> Range<usize> {
        let start = self.record.offset as usize;
        start..start + self.record.len as usize
    }

    /// What it makes of the volumes, whose drives deallocate all that they are told to.
    pub fn apply(&self, volumes: &mut [Vec<u8>]) {
        let place = &mut volumes[self.volume()][self.range()];
        match self.record.op {
            RecordOp::Write => place.copy_from_slice(&self.payload),
            RecordOp::WriteZeroes | RecordOp::Deallocate => place.fill(0),
        }
    }

    fn call(&self) -> Call {
        let Range { start, end } = self.range();
        Call {
            volume: self.volume(),
            offset: start,
            len: end - start,
            op: self.record.op,
        }
    }
}

/// A group that was written, or begun.
pub struct Logged {
    pub sequence: u64,
    pub address: u64,
    pub header: Vec<u8>,
    /// What its header says was acknowledged.
    pub said: u64,
    pub changes: Vec<Change>,
}

/// A region's groups in a run.
pub struct Journal {
    pub groups: Vec<Logged>,
    pub acknowledged: u64,
    /// What a replay begins with, by the superblock that counts.
    pub from: u64,
    /// And by the one that is being written.
    pub then: Option<u64>,
}

impl Journal {
    pub fn new(first: u64) -> Self {
        Self {
            groups: Vec::new(),
            acknowledged: first - 1,
            from: first,
            then: None,
        }
    }

    fn first(&self) -> u64 {
        self.groups
            .first()
            .map_or(self.from, |group| group.sequence)
    }

    fn after(&self, sequence: u64) -> &[Logged] {
        let n = (sequence + 1).saturating_sub(self.first()) as usize;
        &self.groups[n.min(self.groups.len())..]
    }

    /// How far the log was replayed, if `calls` are what its groups say, one after the other and wholly, from where a
    /// superblock says.
    pub fn replayed_to(&self, calls: &[Call]) -> Option<u64> {
        let starts = [Some(self.from), self.then];
        let all = starts.into_iter().flatten();
        all.filter_map(|start| self.replayed_from(start, calls))
            .max()
    }

    fn replayed_from(&self, start: u64, mut calls: &[Call]) -> Option<u64> {
        let mut end = start - 1;
        for group in self.after(start - 1) {
            let told = group.changes.iter().map(Change::call);
            // What nobody sees may be the end, or not.
            if calls.is_empty() && told.clone().next().is_some() {
                break;
            }
            for call in told {
                calls = take(calls, call)?;
            }
            end = group.sequence;
        }
        calls.is_empty().then_some(end)
    }

    /// The highest group that a header which is still there says was acknowledged.
    pub fn told(&self, disk: &Disk) -> u64 {
        let here = |group: &&Logged| disk.holds(group.address, &group.header);
        let said = self.groups.iter().filter(here).map(|group| group.said);
        said.max().unwrap_or(0)
    }

    /// Applies groups from `from` to `to`.
    pub fn apply(&self, groups: Range<u64>, volumes: &mut [Vec<u8>]) {
        for group in self.after(groups.start.saturating_sub(1)) {
            if group.sequence < groups.end {
                group
                    .changes
                    .iter()
                    .for_each(|change| change.apply(volumes));
            }
        }
    }

    /// What changed anything in groups behind `end` that were acknowledged.
    pub fn dropped(&self, end: u64) -> impl Iterator<Item = &Change> {
        let groups = self.after(end).iter();
        let groups = groups.take_while(|group| group.sequence <= self.acknowledged);
        groups.flat_map(|group| &group.changes)
    }

    /// Asserts that a loss names what can be known: every range of the lost groups whose headers are there.
    pub fn assert_named(&self, loss: &Loss, disk: &Disk) {
        assert!(loss.groups.end <= self.acknowledged + 1, "{loss:?}");
        assert!(!loss.groups.is_empty());
        let mut expected = Vec::new();
        for group in self.after(loss.groups.start - 1) {
            let is_lost = loss.groups.contains(&group.sequence);
            if is_lost && disk.holds(group.address, &group.header) {
                let records = group.changes.iter().map(|change| change.record);
                expected.extend(records.map(|record| (record.volume, record.offset, record.len)));
            }
        }
        assert_eq!(loss.ranges, expected);
    }
}

/// What is left of `calls` behind those that do what `whole` does, in parts.
fn take(mut calls: &[Call], whole: Call) -> Option<&[Call]> {
    let mut done = 0;
    while done < whole.len {
        let (first, rest) = calls.split_first()?;
        let expected = Call {
            offset: whole.offset + done,
            len: first.len,
            ..whole
        };
        if *first != expected || done + first.len > whole.len {
            return None;
        }
        (calls, done) = (rest, done + first.len);
    }
    Some(calls)
}
