//! Recoveries, with the power going in the middle of them, and what they have to bring back.

use std::cell::RefCell;
use std::ops::Range;

use nvlog::recovery::{self, Agreed, Begun, Buffer, Drives, Found, PART, Refusal, Replayed};
use nvlog::{Layout, LogId, RecordOp, RegionSuperblock, Superblock, Volume};
use testkit::Random;

use super::disk::{Disk, Pages, Power, SECTOR};
use super::model::{CHUNK, Call, Journal, VOLUME, VOLUMES, owner};
use super::now;

/// Drives, as a replay sees them.
pub struct Targets<'a> {
    pub drives: &'a [Disk],
    pub calls: RefCell<Vec<Call>>,
}

impl<'a> Targets<'a> {
    pub fn new(drives: &'a [Disk]) -> Self {
        Self {
            drives,
            calls: RefCell::default(),
        }
    }
}

impl Drives<Disk> for Targets<'_> {
    async fn write(
        &self,
        volume: u32,
        offset: u64,
        data: &Pages,
        range: Range<usize>,
    ) -> Result<(), Power> {
        assert!(data.len() <= PART, "{} bytes in memory", data.len());
        self.calls.borrow_mut().push(Call {
            volume: volume as usize,
            offset: offset as usize,
            len: range.len(),
            op: RecordOp::Write,
        });
        self.drives[volume as usize].put(offset, &data.to_vec(range))
    }

    async fn write_zeroes(&self, volume: u32, offset: u64, len: u64) -> Result<(), Power> {
        self.calls.borrow_mut().push(Call {
            volume: volume as usize,
            offset: offset as usize,
            len: len as usize,
            op: RecordOp::WriteZeroes,
        });
        self.drives[volume as usize].put(offset, &vec![0; len as usize])
    }

    async fn deallocate(&self, volume: u32, offset: u64, len: u64) -> Result<(), Power> {
        self.calls.borrow_mut().push(Call {
            volume: volume as usize,
            offset: offset as usize,
            len: len as usize,
            op: RecordOp::Deallocate,
        });
        self.drives[volume as usize].put(offset, &vec![0; len as usize])
    }
}

/// The superblock of a log with this layout, and the tests' volumes.
pub fn superblock(log: LogId, layout: Layout) -> Superblock {
    let volume = |i: usize| Volume {
        name: format!("volume{i}"),
        identity: [i as u8; 16],
        len: VOLUME as u64,
        block: SECTOR as u32,
        part_of: None,
    };
    Superblock {
        log,
        generation: 0,
        layout,
        placement: 1,
        member: 0,
        volumes: (0..VOLUMES).map(volume).collect(),
    }
}

/// What the store says of a log that it is on alone.
pub fn agreed(disk: &Disk) -> Result<Agreed, Refusal<Power>> {
    let view = now(recovery::look(disk, disk.len()))?;
    recovery::agree(&[Found::Seen(view)]).map_err(|(_, refusal)| refusal)
}

/// A new log, or the next run's, on a store alone.
pub fn begin(disk: &Disk, agreed: &Agreed, superblock: Superblock) -> Result<Begun, Power> {
    let stores = [Some((disk, disk.len()))];
    now(recovery::begin(&stores, agreed, superblock))
}

/// A recovery that came to its end.
pub struct Recovered {
    pub regions: Vec<RegionSuperblock>,
    pub replayed: Replayed,
    /// What the drives were told.
    pub calls: Vec<Call>,
    /// The superblock of the log that was found.
    pub was: Option<Superblock>,
}

/// One recovery. The log is as `layout` says from then on.
pub fn recover(
    (disk, drives): (&Disk, &[Disk]),
    log: LogId,
    layout: Layout,
) -> Result<Recovered, Refusal<Power>> {
    let agreed = agreed(disk)?;
    let opened = &agreed.opened;
    let targets = Targets::new(drives);
    let mut replayed = Replayed::default();
    if let Some(opened) = opened {
        let before = disk.writes();
        let replay = now(recovery::replay(
            &[Some((disk, disk.len()))],
            opened,
            &targets,
            |_| true,
        ));
        assert_eq!(disk.writes(), before, "a replay writes to the log");
        replayed = replay?;
        drives
            .iter()
            .try_for_each(Disk::sync)
            .map_err(Refusal::Failed)?;
    }
    let log = opened.as_ref().map_or(log, |opened| opened.superblock.log);
    let begun = begin(disk, &agreed, superblock(log, layout));
    Ok(Recovered {
        regions: begun.map_err(Refusal::Failed)?.regions,
        replayed,
        calls: targets.calls.take(),
        was: agreed.opened.map(|opened| opened.superblock),
    })
}

/// What has to be true after a recovery of what a run has left.
pub struct Expected<'a> {
    pub journals: &'a [Journal],
    /// What the run began with.
    pub base: &'a [Vec<u8>],
    /// An earlier recovery came as far as to make the log empty, or may have.
    pub may_be_empty: bool,
    /// The store has lied.
    pub lied: bool,
}

impl Expected<'_> {
    /// Asserts that everything is there; how many acknowledged groups of the end are not, because of a lie.
    /// `told`: what headers said before the recovery.
    pub fn check(&self, recovered: &Recovered, drives: &[Disk], told: &[u64]) -> u64 {
        let seen: Vec<Vec<u8>> = drives.iter().map(|drive| drive.bytes(0..VOLUME)).collect();
        let mut volumes = self.base.to_vec();
        let mut dropped = 0;
        for (number, journal) in self.journals.iter().enumerate() {
            let is_ours =
                |call: &&Call| owner(call.volume, call.offset, self.journals.len()) == number;
            let calls: Vec<Call> = recovered.calls.iter().filter(is_ours).copied().collect();
            let least = match self.lied {
                true => told[number],
                false => journal.acknowledged,
            };
            let end = match journal.replayed_to(&calls) {
                // A recovery before has done it, as far as it had to.
                _ if self.may_be_empty && calls.is_empty() => {
                    let last = journal.groups.last().map_or(least, |group| group.sequence);
                    let mut is_right =
                        |end: &u64| self.differs(number, *end, &seen, &mut volumes).is_none();
                    (least..=last).find(&mut is_right).unwrap_or(least)
                }
                Some(end) => end,
                None => panic!("region {number}: {calls:?} is not what the log says"),
            };
            assert!(
                end >= least,
                "region {number}: replayed to {end}, acknowledged {least}"
            );
            let differs = self.differs(number, end, &seen, &mut volumes);
            assert_eq!(differs, None, "region {number}: volume and first byte");
            dropped += journal.acknowledged.saturating_sub(end);
        }
        dropped
    }

    /// The first place of a region where drives that hold `seen` are not as if its groups had been applied up to `end`.
    /// `volumes`: what the run began with, and perhaps fewer groups of the region.
    fn differs(
        &self,
        number: usize,
        end: u64,
        seen: &[Vec<u8>],
        volumes: &mut [Vec<u8>],
    ) -> Option<(usize, usize)> {
        let journal = &self.journals[number];
        journal.apply(0..end + 1, volumes);
        // What was acknowledged and is lost with a lie nobody can know of may have come to its drive before.
        for change in journal.dropped(end) {
            let (volume, range) = (change.volume(), change.range());
            volumes[volume][range.clone()].copy_from_slice(&seen[volume][range]);
        }
        let places =
            (0..VOLUMES).flat_map(|volume| (0..VOLUME).step_by(CHUNK).map(move |at| (volume, at)));
        let mut mine =
            places.filter(|&(volume, at)| owner(volume, at, self.journals.len()) == number);
        let (volume, at) = mine.find(|&(volume, at)| {
            seen[volume][at..at + CHUNK] != volumes[volume][at..at + CHUNK]
        })?;
        let sector =
            |at: &usize| seen[volume][*at..at + SECTOR] != volumes[volume][*at..at + SECTOR];
        let at = (at..at + CHUNK).step_by(SECTOR).find(sector)?;
        Some((volume, at))
    }

    /// What headers that are there say was acknowledged, by region.
    pub fn told(&self, disk: &Disk) -> Vec<u64> {
        self.journals
            .iter()
            .map(|journal| journal.told(disk))
            .collect()
    }
}

/// Recovers until it comes to its end, with the power going `times` times. The layouts are chosen by `layout`.
pub fn recover_at_last(
    random: &mut Random,
    supply: &super::disk::Supply,
    (disk, drives): (&Disk, &[Disk]),
    log: LogId,
    layout: impl Fn(&mut Random) -> Layout,
) -> (Result<Recovered, Refusal<Power>>, Layout, u64) {
    let mut interrupted = 0;
    loop {
        let lasts = (interrupted < 3 && random.one_in(2)).then(|| random.below(60));
        supply.lasts(lasts);
        let layout = layout(random);
        let result = recover((disk, drives), log, layout);
        supply.lasts(None);
        if !matches!(result, Err(Refusal::Failed(Power))) {
            return (result, layout, interrupted);
        }
        interrupted += 1;
        disk.power_on(random);
        drives.iter().for_each(|drive| drive.power_on(random));
    }
}
