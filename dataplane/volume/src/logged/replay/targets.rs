//! The drives that records go to.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use block::{Fault, VolumeId};
use mutant::mutant;
use nvlog::recovery::Drives;

use super::tables::Marks;
use super::{Ask, Desk, LogPages, Side, warm};

/// The drives, by what the log that is replayed calls them.
pub(super) struct Targets {
    desk: Desk,
    volumes: Vec<Option<VolumeId>>,
    written: RefCell<BTreeSet<VolumeId>>,
    /// The last ranges written.
    warm: RefCell<VecDeque<warm::Range>>,
    marks: RefCell<Marks>,
}

impl Targets {
    /// `volumes`: by number, of those that are as they were. What is changed is marked in `marks`, of those that are there.
    pub(super) fn new(desk: Desk, volumes: Vec<Option<VolumeId>>, marks: Marks) -> Self {
        Self {
            desk,
            volumes,
            written: RefCell::default(),
            warm: RefCell::default(),
            marks: RefCell::new(marks),
        }
    }

    /// Whether the volume is there.
    pub(super) fn has(&self, number: u32) -> bool {
        let volume = self.volumes.get(number as usize);
        volume.is_some_and(Option::is_some)
    }

    /// Volumes that were changed, the last ranges written, and what is marked.
    pub(super) fn into_written(self) -> (BTreeSet<VolumeId>, VecDeque<warm::Range>, Marks) {
        let warm = self.warm.into_inner();
        (self.written.into_inner(), warm, self.marks.into_inner())
    }

    /// The volume, of which a range is changed.
    fn volume(&self, number: u32, range: Range<u64>) -> Result<VolumeId, Fault> {
        let volume = self.volumes.get(number as usize).copied().flatten();
        let volume = volume.ok_or(Fault::Internal)?;
        self.written.borrow_mut().insert(volume);
        if let Some(changed) = self.marks.borrow_mut().get_mut(&volume)
            && !mutant!("log-tables-unmarked")
        {
            changed.mark(range);
        }
        Ok(volume)
    }

    fn note(&self, range: warm::Range) {
        let mut warm = self.warm.borrow_mut();
        if warm.len() == warm::RANGES_MAX {
            warm.pop_front();
        }
        warm.push_back(range);
    }
}

impl Drives<Side> for Targets {
    async fn write(
        &self,
        volume: u32,
        offset: u64,
        data: &LogPages,
        range: Range<usize>,
    ) -> Result<(), Fault> {
        let len = range.len() as u64;
        let (volume, pages) = (self.volume(volume, offset..offset + len)?, data.clone());
        self.note((volume, offset, len));
        let ask = Ask::DriveWrite {
            volume,
            offset,
            pages,
            range,
        };
        self.desk.ask(ask).await.map(drop)
    }

    async fn write_zeroes(&self, volume: u32, offset: u64, len: u64) -> Result<(), Fault> {
        let volume = self.volume(volume, offset..offset.saturating_add(len))?;
        let ask = Ask::DriveZeroes {
            volume,
            offset,
            len,
        };
        self.desk.ask(ask).await.map(drop)
    }

    async fn deallocate(&self, number: u32, offset: u64, len: u64) -> Result<(), Fault> {
        let volume = self.volume(number, offset..offset.saturating_add(len))?;
        let ask = Ask::DriveDeallocation {
            volume,
            offset,
            len,
        };
        let Err(fault) = self.desk.ask(ask).await else {
            return Ok(());
        };
        // Some of it may be done, and hosts may have seen all of it.
        log::warn!(
            "a drive failed to deallocate {len} bytes in the replay: {fault}. Zeros are written instead"
        );
        self.write_zeroes(number, offset, len).await
    }
}
