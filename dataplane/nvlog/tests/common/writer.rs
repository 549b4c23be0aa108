//! A run that writes: shards with several groups under way, a cache that brings what is stable to the drives when it
//! likes, and consistency points.

use std::collections::BTreeSet;

use nvlog::recovery::PART;
use nvlog::{Crcs, Layout, LogId, Record, RecordOp, Region, RegionSuperblock, UNIT, WAVES};
use testkit::Random;

use super::disk::{Disk, Power, SECTOR};
use super::model::{CHUNK, Change, Journal, Logged, VOLUME, VOLUMES, owner};

/// Groups that a shard writes at a time.
const GROUPS: usize = 4;

/// A group that is being written, as the device knows it.
struct Flying {
    sequence: u64,
    write: u64,
}

/// How far a consistency point is.
enum Point {
    /// The other half is active.
    Switched(usize),
    /// The drives have what was in the half; so many steps of the superblock are stable.
    Superblock(RegionSuperblock, usize),
}

struct Shard {
    region: Region,
    flying: Vec<Flying>,
    point: Option<Point>,
    wants_point: bool,
    /// Places of what is in the cache alone.
    dirty: BTreeSet<(usize, usize)>,
}

/// What a run did, for those who ask whether a test tests anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Did {
    pub groups: u64,
    pub idle: u64,
    pub switched: u64,
    pub freed: u64,
    pub out_of_order: u64,
    /// Records that are longer than what is read at a time.
    pub long: u64,
}

/// A run.
pub struct Run<'a> {
    log: LogId,
    layout: Layout,
    disk: &'a Disk,
    drives: &'a [Disk],
    shards: Vec<Shard>,
    pub journals: Vec<Journal>,
    /// What was acknowledged.
    pub cache: Vec<Vec<u8>>,
    pub did: Did,
    /// The longest payload of a record.
    most: u64,
}

impl<'a> Run<'a> {
    pub fn new(
        log: LogId,
        layout: Layout,
        regions: &[RegionSuperblock],
        (disk, drives): (&'a Disk, &'a [Disk]),
    ) -> Self {
        let shard = |(number, superblock): (usize, &RegionSuperblock)| Shard {
            region: Region::new(log, &layout, number, superblock),
            flying: Vec::new(),
            point: None,
            wants_point: false,
            dirty: BTreeSet::new(),
        };
        Self {
            log,
            layout,
            disk,
            drives,
            shards: regions.iter().enumerate().map(shard).collect(),
            journals: regions
                .iter()
                .map(|region| Journal::new(region.sequence))
                .collect(),
            cache: drives.iter().map(|drive| drive.bytes(0..VOLUME)).collect(),
            did: Did::default(),
            most: (layout.half_len / 2).min(200 << 10),
        }
    }

    /// Does something.
    pub fn step(&mut self, random: &mut Random) -> Result<(), Power> {
        let number = random.below(self.shards.len());
        let shard = &mut self.shards[number];
        match random.below(20) {
            0..8 if shard.flying.len() < GROUPS => self.write(number, random),
            0..14 if !shard.flying.is_empty() => {
                let which = random.below(shard.flying.len());
                self.end(number, which)
            }
            14..16 => self.write_back(number, random.range(1..40)),
            _ if shard.flying.is_empty() && shard.region.is_untold() && random.one_in(2) => {
                self.idle(number)
            }
            _ => {
                let wants = shard.wants_point || random.one_in(4);
                self.point(number, wants)
            }
        }
    }

    fn change(&self, number: usize, random: &mut Random) -> Change {
        let op = match random.below(12) {
            0 => RecordOp::WriteZeroes,
            1 => RecordOp::Deallocate,
            _ => RecordOp::Write,
        };
        let most = match random.below(12) {
            0 => self.most,
            1 | 2 => 20 << 10,
            _ => 5 << 10,
        };
        let (volume, offset) = loop {
            let volume = random.below(VOLUMES);
            let offset = random.below(VOLUME / SECTOR) * SECTOR;
            if owner(volume, offset, self.shards.len()) == number {
                break (volume, offset);
            }
        };
        let room = (CHUNK - offset % CHUNK).min(most as usize) / SECTOR;
        let len = random.range(1..=room) * SECTOR;
        let payload = match op {
            RecordOp::Write => random.bytes(len),
            _ => Vec::new(),
        };
        let record = Record {
            transfer: 0,
            object: 0,
            volume: volume as u32,
            op,
            offset: offset as u64,
            len: len as u64,
        };
        Change { record, payload }
    }

    /// Writes a group of changes.
    fn write(&mut self, number: usize, random: &mut Random) -> Result<(), Power> {
        let mut changes = Vec::new();
        for _ in 0..random.range(1..8) {
            let change = self.change(number, random);
            let region = &mut self.shards[number].region;
            if !region.has_room(&change.record) {
                break;
            }
            let (mut crcs, mut all) = (Crcs::new(change.record.offset), Vec::new());
            crcs.take(&change.payload, |crc| all.push(crc));
            all.extend(crcs.end());
            region.add(&change.record, &all);
            changes.push(change);
        }
        match changes.is_empty() {
            true => self.shards[number].wants_point = true,
            false => self.send(number, changes)?,
        }
        Ok(())
    }

    /// Lets all groups end. Consistency points stay as they are.
    pub fn settle(&mut self) -> Result<(), Power> {
        for number in 0..self.shards.len() {
            while !self.shards[number].flying.is_empty() {
                self.end(number, 0)?;
            }
        }
        self.disk.sync()
    }

    /// Writes a group that says what was acknowledged.
    fn idle(&mut self, number: usize) -> Result<(), Power> {
        let shard = &mut self.shards[number];
        let none = Record {
            transfer: 0,
            object: 0,
            volume: 0,
            op: RecordOp::Deallocate,
            offset: 0,
            len: 1,
        };
        if !shard.region.has_room(&none) {
            shard.wants_point = true;
            return Ok(());
        }
        self.did.idle += 1;
        self.send(number, Vec::new())?;
        self.end(number, 0)
    }

    fn send(&mut self, number: usize, changes: Vec<Change>) -> Result<(), Power> {
        let (shard, journal) = (&mut self.shards[number], &mut self.journals[number]);
        let (group, header) = shard.region.seal();
        let mut bytes = header.to_vec();
        journal.groups.push(Logged {
            sequence: group.sequence,
            address: group.address,
            header: bytes.clone(),
            said: journal.acknowledged,
            changes: Vec::new(),
        });
        changes
            .iter()
            .for_each(|change| bytes.extend(&change.payload));
        assert_eq!(bytes.len(), group.header_len + group.payload_len);
        bytes.resize(group.total(), 0);
        let long = |change: &&Change| change.payload.len() > PART;
        self.did.groups += 1;
        self.did.long += changes.iter().filter(long).count() as u64;
        journal.groups.last_mut().expect("one").changes = changes;
        let write = self.disk.start(group.address, &bytes)?;
        let sequence = group.sequence;
        shard.flying.push(Flying { sequence, write });
        Ok(())
    }

    /// A group has ended, and is flushed.
    fn end(&mut self, number: usize, which: usize) -> Result<(), Power> {
        let shard = &mut self.shards[number];
        let flying = shard.flying.remove(which);
        self.did.out_of_order += u64::from(which > 0);
        self.disk.end(flying.write);
        self.disk.sync()?;
        let before = shard.region.acknowledged();
        let acknowledged = shard.region.stable(flying.sequence);
        let journal = &mut self.journals[number];
        journal.apply(before + 1..acknowledged + 1, &mut self.cache);
        journal.acknowledged = acknowledged;
        for group in journal.groups.iter().rev() {
            if group.sequence <= before {
                break;
            }
            for change in group
                .changes
                .iter()
                .filter(|_| group.sequence <= acknowledged)
            {
                let sectors = change.range().step_by(SECTOR);
                let places = sectors.map(|offset| (change.volume(), offset));
                shard.dirty.extend(places);
            }
        }
        Ok(())
    }

    /// The cache writes some of what it has; the drive keeps it in its own.
    fn write_back(&mut self, number: usize, most: usize) -> Result<(), Power> {
        for _ in 0..most {
            let dirty = &mut self.shards[number].dirty;
            let Some((volume, start)) = dirty.pop_first() else {
                break;
            };
            let mut end = start + SECTOR;
            while dirty.remove(&(volume, end)) {
                end += SECTOR;
            }
            self.drives[volume].put(start as u64, &self.cache[volume][start..end])?;
        }
        Ok(())
    }

    /// One step of a consistency point.
    fn point(&mut self, number: usize, wants: bool) -> Result<(), Power> {
        let (disk, log, layout) = (self.disk, self.log, self.layout);
        let shard = &mut self.shards[number];
        match shard.point {
            None => {
                if wants && shard.region.can_switch() && shard.region.fill().0 > 0 {
                    shard.point = Some(Point::Switched(shard.region.switch()));
                    shard.wants_point = false;
                    self.did.switched += 1;
                }
            }
            Some(Point::Switched(half)) => {
                if shard.region.is_settled(half) {
                    self.write_back(number, usize::MAX)?;
                    self.drives.iter().try_for_each(Disk::sync)?;
                    let shard = &mut self.shards[number];
                    let superblock = shard.region.without_the_other();
                    self.journals[number].then = Some(superblock.sequence);
                    shard.point = Some(Point::Superblock(superblock, 0));
                }
            }
            Some(Point::Superblock(superblock, wave)) => {
                let mut unit = superblock.encode(log, number).to_vec();
                unit.resize(UNIT as usize, 0);
                let mut writes = Vec::new();
                for copy in WAVES[wave] {
                    let at = Layout::region_superblock(layout.len, number, copy);
                    writes.push(disk.start(at, &unit)?);
                }
                writes.into_iter().for_each(|write| disk.end(write));
                disk.sync()?;
                shard.point = Some(Point::Superblock(superblock, wave + 1));
                if wave + 1 == WAVES.len() {
                    shard.region.freed();
                    shard.point = None;
                    let journal = &mut self.journals[number];
                    (journal.from, journal.then) = (superblock.sequence, None);
                    self.did.freed += 1;
                }
            }
        }
        Ok(())
    }
}
