//! What a log store holds when a run begins, and what is done with it.
//!
//! [`open`] reads superblocks; [`replay`] walks the chain of each region and hands out what its
//! groups say, oldest first; [`begin`] makes the log empty for the next run. Each is written as a
//! sequence of what is asked of a [`Store`], which answers at once (a file) or later (a device).
//!
//! Reading takes bounded memory: a group is read in parts of at most [`PART`] bytes. One that fits into
//! one part is read once; a longer one twice, to look at its checksums before anything of it is replayed.

use std::fmt;
use std::ops::Range;

use crate::VERSION;
use crate::header::{Checksums, HEADER, HEADER_MAX, Header, PAGE, Record, RecordOp};
use crate::layout::{AREAS, Layout, REGION_SUPERBLOCK, REGIONS_MAX, SUPERBLOCK, UNIT};
use crate::superblock::{Bad, RegionSuperblock, Superblock, WAVES, newest};

/// Bytes of a group that are in memory at a time.
pub const PART: usize = 128 << 10;

/// A log store, to whoever opens it.
#[expect(async_fn_in_trait, reason = "nothing here leaves its thread")]
pub trait Store {
    /// Bytes that were read.
    type Buffer: Buffer;
    /// Why the store did not do it.
    type Error;

    /// Reads `len` bytes at `at`; both are multiples of [`UNIT`], or of the store's blocks.
    async fn read(&self, at: u64, len: usize) -> Result<Self::Buffer, Self::Error>;
    /// Writes `bytes` at `at`.
    async fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Makes what was written stable.
    async fn flush(&self) -> Result<(), Self::Error>;
}

/// Bytes in memory, perhaps in several places.
pub trait Buffer {
    /// The bytes `range`, in order.
    fn slices(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]>;

    /// A copy of them.
    fn to_vec(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(range.len());
        self.slices(range).for_each(|slice| bytes.extend(slice));
        bytes
    }
}

/// Where records go.
#[expect(async_fn_in_trait, reason = "nothing here leaves its thread")]
pub trait Drives<S: Store> {
    /// Writes `range` of `data` to the volume that records call `volume`, from byte `offset`.
    async fn write(
        &self,
        volume: u32,
        offset: u64,
        data: &S::Buffer,
        range: Range<usize>,
    ) -> Result<(), S::Error>;
    /// Makes `len` bytes of it read as zeros.
    async fn write_zeroes(&self, volume: u32, offset: u64, len: u64) -> Result<(), S::Error>;
    /// How much was done, now and then.
    fn progress(&self, done: &Replayed);
}

/// Why a log cannot be opened, or replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal<E> {
    /// There is no log: the store begins with something else.
    Foreign,
    /// It is of a version that this program does not know.
    Version(u32),
    /// It was made for a store of another size: bytes then, and now.
    Size {
        /// Then.
        was: u64,
        /// Now.
        is: u64,
    },
    /// Fewer than two copies of a superblock agree: of the store's, or a region's.
    Superblocks {
        /// The region.
        region: Option<usize>,
    },
    /// Groups that had been acknowledged cannot be read.
    Lost(Loss),
    /// Records of volumes that are not there; their places in the superblock's list.
    Absent(Vec<u32>),
    /// The store failed.
    Failed(E),
}

/// Groups that had been acknowledged, and are not in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The region.
    pub region: usize,
    /// Where the first of them should be: bytes of the store.
    pub address: u64,
    /// Their numbers.
    pub groups: Range<u64>,
    /// What they changed, as far as headers can be read: volume, first byte, bytes.
    pub ranges: Vec<(u32, u64, u64)>,
}

impl<E: fmt::Display> fmt::Display for Refusal<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Foreign => f.write_str("it holds something else than a log"),
            Refusal::Version(version) => write!(
                f,
                "its log is of version {version}, and this program knows version {VERSION}"
            ),
            Refusal::Size { was, is } => write!(
                f,
                "its log was made for {was} bytes, and the store has {is} now"
            ),
            Refusal::Superblocks { region: None } => {
                f.write_str("its superblocks are damaged: no two copies agree")
            }
            Refusal::Superblocks {
                region: Some(region),
            } => write!(
                f,
                "the superblocks of region {region} are damaged: no two copies agree"
            ),
            Refusal::Lost(loss) => {
                let Range { start, end } = loss.groups;
                write!(
                    f,
                    "groups {start} to {} of region {}, which had been acknowledged, cannot be read (byte {})",
                    end - 1,
                    loss.region,
                    loss.address
                )?;
                for (volume, offset, len) in &loss.ranges {
                    write!(f, "; volume {volume}: {len} bytes from {offset}")?;
                }
                Ok(())
            }
            Refusal::Absent(volumes) => {
                write!(f, "it has records of volumes that are absent: {volumes:?}")
            }
            Refusal::Failed(error) => write!(f, "{error}"),
        }
    }
}

/// A log as its superblocks say it is.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The store's.
    pub superblock: Superblock,
    /// Those of its regions.
    pub regions: Vec<RegionSuperblock>,
    highest: Highest,
}

/// The highest numbers that any copy of a superblock has, counting or not: what comes later is higher.
#[derive(Clone, Copy, Debug, Default)]
struct Highest {
    generation: u64,
    epoch: u64,
    sequence: u64,
}

/// What was replayed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Groups.
    pub groups: u64,
    /// Records.
    pub records: u64,
    /// Bytes that they changed.
    pub bytes: u64,
    /// Bytes of groups that were begun, were not acknowledged, and are dropped.
    pub torn: u64,
    /// Bytes of the log that were read.
    pub read: u64,
}

/// Reads the superblocks of a store of `len` bytes. `None`: the store is blank.
///
/// # Errors
/// There is something that is no log of ours, or a damaged one.
pub async fn open<S: Store>(store: &S, len: u64) -> Result<Option<Opened>, Refusal<S::Error>> {
    let mut copies = [const { Err(Bad::Blank) }; AREAS];
    let is_large = len >= AREAS as u64 * crate::layout::AREA;
    for (copy, place) in copies.iter_mut().enumerate().filter(|_| is_large) {
        *place = Superblock::decode(&take(store, Layout::area(len, copy), SUPERBLOCK).await?);
    }
    let Some(superblock) = newest(&copies, |superblock| superblock.generation) else {
        return match copies {
            // What the first wave left of a log that never began.
            _ if WAVES[1].iter().all(|&copy| copies[copy] == Err(Bad::Blank)) => Ok(None),
            _ => Err(why(&copies, len)),
        };
    };
    let mut highest = Highest::default();
    for superblock in copies.iter().flatten() {
        highest.generation = highest.generation.max(superblock.generation);
    }
    if superblock.layout.len != len / UNIT * UNIT {
        return Err(Refusal::Size {
            was: superblock.layout.len,
            is: len,
        });
    }
    let mut regions = Vec::new();
    // Also of those that other runs had: no epoch of theirs is used again.
    for region in 0..REGIONS_MAX {
        let mut copies = [const { Err(Bad::Blank) }; AREAS];
        for (copy, place) in copies.iter_mut().enumerate() {
            let at = Layout::region_superblock(len, region, copy);
            let bytes = take(store, at, UNIT as usize).await?;
            *place = RegionSuperblock::decode(&bytes[..REGION_SUPERBLOCK], superblock.log, region);
        }
        for superblock in copies.iter().flatten() {
            let epoch = superblock.epochs[0].max(superblock.epochs[1]);
            highest.generation = highest.generation.max(superblock.generation);
            highest.epoch = highest.epoch.max(epoch);
            highest.sequence = highest.sequence.max(superblock.sequence);
        }
        if region < superblock.layout.regions as usize {
            let newest = newest(&copies, |superblock| superblock.generation);
            regions.push(newest.ok_or(Refusal::Superblocks {
                region: Some(region),
            })?);
        }
    }
    Ok(Some(Opened {
        superblock,
        regions,
        highest,
    }))
}

/// Why no superblock is good.
fn why<E>(copies: &[Result<Superblock, Bad>; AREAS], len: u64) -> Refusal<E> {
    let bad = |which: Bad| copies.iter().any(|copy| copy == &Err(which));
    let version = copies.iter().find_map(|copy| match copy {
        Err(Bad::Version(version)) => Some(*version),
        _ => None,
    });
    match version {
        Some(version) => Refusal::Version(version),
        None => match copies.iter().flatten().next() {
            Some(one) if one.layout.len != len / UNIT * UNIT => Refusal::Size {
                was: one.layout.len,
                is: len,
            },
            None if !bad(Bad::Checksum) && !bad(Bad::Fields) => Refusal::Foreign,
            _ => Refusal::Superblocks { region: None },
        },
    }
}

async fn take<S: Store>(store: &S, at: u64, len: usize) -> Result<Vec<u8>, Refusal<S::Error>> {
    let buffer = store.read(at, len).await.map_err(Refusal::Failed)?;
    Ok(buffer.to_vec(0..len))
}

/// Replays what no consistency point finished, region by region, oldest first, on `drives`. They are
/// not flushed. `is_there` says which volumes of the superblock's list there are.
///
/// # Errors
/// Something that was acknowledged is lost, a volume is absent, or a device failed. What was replayed until
/// then may be on the drives; the log is as it was.
pub async fn replay<S: Store>(
    store: &S,
    opened: &Opened,
    drives: &impl Drives<S>,
    is_there: impl Fn(u32) -> bool,
) -> Result<Replayed, Refusal<S::Error>> {
    let mut walk = Walk {
        store,
        opened,
        region: 0,
        done: Replayed::default(),
        absent: Vec::new(),
    };
    for region in 0..opened.regions.len() {
        if cfg!(mutant = "log-region-forgotten") && region >= 2 {
            continue;
        }
        walk.region = region;
        walk.walk(drives, &is_there).await?;
    }
    match walk.absent.is_empty() {
        true => Ok(walk.done),
        false => Err(Refusal::Absent(walk.absent)),
    }
}

/// Makes the log empty and ready for a run: `superblock` says how it lays it out, and of which
/// volumes; its generation is set here. `opened` is what was there, all of it replayed and the drives
/// flushed, or `None` of a blank store. The superblocks of its regions come back.
///
/// # Errors
/// The store failed. The log is as it was, or as it was to be.
pub async fn begin<S: Store>(
    store: &S,
    opened: Option<&Opened>,
    mut superblock: Superblock,
) -> Result<Vec<RegionSuperblock>, S::Error> {
    let highest = opened.map_or(Highest::default(), |opened| opened.highest);
    let len = superblock.layout.len;
    superblock.generation = highest.generation + 1;
    let region = RegionSuperblock {
        generation: highest.generation + 1,
        oldest: 0,
        epochs: [highest.epoch + 1, highest.epoch + 2],
        // No run has as many groups between two versions of a superblock.
        sequence: highest.sequence + (1 << 32) + 1,
        previous: 0,
    };
    let regions = superblock.layout.regions as usize;
    // Of the old layout, too, they say that there is nothing.
    for wave in WAVES {
        for copy in wave {
            for number in 0..regions {
                let at = Layout::region_superblock(len, number, copy);
                let mut unit = vec![0; UNIT as usize];
                let bytes = region.encode(superblock.log, number);
                if cfg!(mutant = "log-replayed-twice") && opened.is_some() {
                    continue;
                }
                unit[..REGION_SUPERBLOCK].copy_from_slice(&bytes);
                store.write(at, &unit).await?;
            }
        }
        store.flush().await?;
    }
    let bytes = superblock.encode();
    for wave in WAVES {
        for copy in wave {
            store.write(Layout::area(len, copy), &bytes).await?;
        }
        store.flush().await?;
    }
    Ok(vec![region; regions])
}

/// A region's chain.
struct Walk<'a, S> {
    store: &'a S,
    opened: &'a Opened,
    region: usize,
    done: Replayed,
    absent: Vec<u32>,
}

/// A group whose header is good.
struct Found {
    header: Header,
    /// As it is on disk.
    bytes: Vec<u8>,
}

impl Found {
    fn records(&self) -> impl Iterator<Item = (Record, u64, Checksums<'_>)> {
        self.header.records(&self.bytes)
    }
}

impl<S: Store> Walk<'_, S> {
    fn block(&self) -> u64 {
        self.opened.superblock.layout.block.into()
    }

    /// Where a half of the region lies.
    fn half(&self, half: usize) -> Range<u64> {
        let layout = &self.opened.superblock.layout;
        let start = layout.half(self.region, half);
        start..start + layout.half_len
    }

    async fn read(&mut self, at: u64, len: usize) -> Result<S::Buffer, Refusal<S::Error>> {
        self.done.read += len as u64;
        self.store.read(at, len).await.map_err(Refusal::Failed)
    }

    async fn walk(
        &mut self,
        drives: &impl Drives<S>,
        is_there: &impl Fn(u32) -> bool,
    ) -> Result<(), Refusal<S::Error>> {
        let start = self.opened.regions[self.region];
        let (mut next, mut previous) = (start.sequence, start.previous);
        let oldest = usize::from(start.oldest);
        for half in [oldest, 1 - oldest] {
            let Range { start, end } = self.half(half);
            let mut at = start;
            while at < end
                && let Some(found) = self.group(half, at..end).await?
                && (found.header.sequence, found.header.previous) == (next, previous)
                && self.play(&found, drives, is_there).await?
            {
                (next, previous) = (next + 1, found.header.checksum);
                at += found.header.total(self.block() as u32);
                drives.progress(&self.done);
            }
            self.look_behind(half, at..end, next).await?;
        }
        Ok(())
    }

    /// The group at the start of `room`, if there is one that was written there in this epoch.
    async fn group(
        &mut self,
        half: usize,
        room: Range<u64>,
    ) -> Result<Option<Found>, Refusal<S::Error>> {
        let len = HEADER_MAX.min((room.end - room.start) as usize);
        let buffer = self.read(room.start, len).await?;
        Ok(self.header(half, &buffer, 0..len, room.start))
    }

    /// The header that `range` of what was read begins with, which lies at `address`, if it is of this
    /// half and epoch.
    fn header(
        &self,
        half: usize,
        buffer: &S::Buffer,
        range: Range<usize>,
        address: u64,
    ) -> Option<Found> {
        if range.len() < HEADER || !Header::begins(buffer.slices(range.start..range.start + 4)) {
            return None;
        }
        let block = self.block() as u32;
        let fields = buffer.to_vec(range.start..range.start + HEADER);
        let whole = Header::length(&fields, block).filter(|&whole| whole <= range.len())?;
        let bytes = buffer.to_vec(range.start..range.start + whole);
        let header = Header::decode(&bytes, block)?;
        let is_ours = header.log == self.opened.superblock.log
            && usize::from(header.region) == self.region
            && usize::from(header.half) == half
            && header.epoch == self.opened.regions[self.region].epochs[half]
            && header.address == address
            && address + header.total(block) <= self.half(half).end;
        is_ours.then_some(Found { header, bytes })
    }

    /// Replays a group if its checksums are right; whether they are.
    async fn play(
        &mut self,
        found: &Found,
        drives: &impl Drives<S>,
        is_there: &impl Fn(u32) -> bool,
    ) -> Result<bool, Refusal<S::Error>> {
        let payload_len = found.header.payload_len as usize;
        let payload = found.header.address + u64::from(found.header.header_len);
        let len = payload_len.next_multiple_of(self.block() as usize);
        let mut check = Check::new(found);
        let (mut at, mut kept) = (0, None);
        while at < len {
            let n = (len - at).min(PART);
            let buffer = self.read(payload + at as u64, n).await?;
            let is_good = check.take(buffer.slices(0..n.min(payload_len - at)));
            if !is_good && !cfg!(mutant = "log-checksum-ignored") {
                return Ok(false);
            }
            kept = (len <= PART).then_some(buffer);
            at += n;
        }
        self.done.groups += 1;
        for (record, place, _) in found.records() {
            if !is_there(record.volume) {
                if !self.absent.contains(&record.volume) {
                    self.absent.push(record.volume);
                }
                continue;
            }
            self.done.records += 1;
            self.done.bytes += record.len;
            self.apply(&record, payload + place, kept.as_ref(), place, drives)
                .await?;
        }
        Ok(true)
    }

    /// Does what a record says. Its payload lies at `from` of the store; and from `place` of `kept`.
    async fn apply(
        &mut self,
        record: &Record,
        from: u64,
        kept: Option<&S::Buffer>,
        place: u64,
        drives: &impl Drives<S>,
    ) -> Result<(), Refusal<S::Error>> {
        let Record {
            volume,
            offset,
            len,
            ..
        } = *record;
        let applied = match (record.op, kept) {
            (RecordOp::Deallocate, _) => Ok(()),
            (RecordOp::WriteZeroes, _) => drives.write_zeroes(volume, offset, len).await,
            (RecordOp::Write, Some(buffer)) => {
                let range = place as usize..(place + len) as usize;
                drives.write(volume, offset, buffer, range).await
            }
            (RecordOp::Write, None) => return self.apply_parts(record, from, drives).await,
        };
        applied.map_err(Refusal::Failed)
    }

    /// Reads the payload of a record once more, in parts.
    async fn apply_parts(
        &mut self,
        record: &Record,
        from: u64,
        drives: &impl Drives<S>,
    ) -> Result<(), Refusal<S::Error>> {
        let block = self.block();
        let mut done = 0;
        while done < record.len {
            // Reads are of whole blocks of the log, writes of whole pages of the volume but at its ends.
            let before = (from + done) % block;
            let page = PAGE - (record.offset + done) % PAGE;
            let most = page + (PART as u64 - before - page) / PAGE * PAGE;
            let n = (record.len - done).min(most);
            let len = (before + n).next_multiple_of(block) as usize;
            let buffer = self.read(from + done - before, len).await?;
            let range = before as usize..(before + n) as usize;
            drives
                .write(record.volume, record.offset + done, &buffer, range)
                .await
                .map_err(Refusal::Failed)?;
            done += n;
        }
        Ok(())
    }

    /// Looks through what lies behind the chain, which ends before group `next`: groups there that
    /// say it was acknowledged show that it is lost.
    async fn look_behind(
        &mut self,
        half: usize,
        room: Range<u64>,
        next: u64,
    ) -> Result<(), Refusal<S::Error>> {
        let (mut at, mut acknowledged) = (room.start, 0);
        let mut ranges = Vec::new();
        while at < room.end {
            // The length of a header more, for one that begins at the end of the part.
            let rest = room.end - at;
            let len = rest.min((PART + HEADER_MAX) as u64) as usize;
            let buffer = self.read(at, len).await?;
            let part = rest.min(PART as u64);
            for from in (0..part).step_by(self.block() as usize) {
                let found = self.header(half, &buffer, from as usize..len, at + from);
                let Some(found) = found.filter(|found| found.header.sequence >= next) else {
                    continue;
                };
                self.done.torn += found.header.total(self.block() as u32);
                acknowledged = acknowledged.max(found.header.acknowledged);
                let range = |(record, ..): (Record, _, _)| {
                    let Record {
                        volume,
                        offset,
                        len,
                        ..
                    } = record;
                    (found.header.sequence, (volume, offset, len))
                };
                let room = RANGES_MAX.saturating_sub(ranges.len());
                ranges.extend(found.records().map(range).take(room));
            }
            at += part;
        }
        if acknowledged < next || cfg!(mutant = "log-loss-ignored") {
            return Ok(());
        }
        ranges.retain(|&(sequence, _)| sequence <= acknowledged);
        Err(Refusal::Lost(Loss {
            region: self.region,
            address: room.start,
            groups: next..acknowledged + 1,
            ranges: ranges.into_iter().map(|(_, range)| range).collect(),
        }))
    }
}

/// Ranges that a [`Loss`] names at most.
const RANGES_MAX: usize = 1000;

/// Compares a group's payload with its checksums, as it comes.
struct Check {
    /// Bytes and checksum of each page, in the order of the payload.
    pages: Vec<(u64, u32)>,
    page: usize,
    left: u64,
    crc: u32,
}

impl Check {
    fn new(found: &Found) -> Self {
        let mut pages = Vec::new();
        for (record, _, checksums) in found.records() {
            let (mut at, end) = (record.offset, record.offset + record.len);
            for crc in checksums.iter() {
                let until = end.min((at / PAGE + 1) * PAGE);
                pages.push((until - at, crc));
                at = until;
            }
        }
        Self {
            left: pages.first().map_or(0, |&(len, _)| len),
            pages,
            page: 0,
            crc: 0,
        }
    }

    /// Takes the next bytes; false if a page that they complete is not what it was.
    fn take<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>) -> bool {
        let mut is_good = true;
        for mut slice in slices {
            while !slice.is_empty() && self.page < self.pages.len() {
                let n = (slice.len() as u64).min(self.left) as usize;
                self.crc = crc32c::crc32c_append(self.crc, &slice[..n]);
                self.left -= n as u64;
                slice = &slice[n..];
                if self.left == 0 {
                    is_good &= std::mem::take(&mut self.crc) == self.pages[self.page].1;
                    self.page += 1;
                    self.left = self.pages.get(self.page).map_or(0, |&(len, _)| len);
                }
            }
        }
        is_good
    }
}
