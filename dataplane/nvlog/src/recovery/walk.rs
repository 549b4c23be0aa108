//! The walk along the chain of each region.

use std::ops::Range;

use mutant::mutant;

use super::{
    Buffer, Drives, Loss, Opened, PART, RANGES_MAX, Refusal, RegionSurvey, Replayed, Store, Stores,
    Survey, VolumeSurvey,
};
use crate::header::{Checksums, HEADER, HEADER_MAX, Header, PAGE, Record, RecordOp};

/// Replays what no consistency point finished, region by region, oldest first, on `drives`. They are
/// not flushed. `is_there` says which volumes of the superblock's list there are. What one of two stores that are
/// in step lacks is read from the other one.
///
/// # Errors
/// Something that was acknowledged is lost, a volume is absent, or a device failed. What else could be
/// replayed may be on the drives; the log is as it was.
pub async fn replay<S: Store>(
    stores: &Stores<'_, S>,
    opened: &Opened,
    drives: &impl Drives<S>,
    is_there: impl Fn(u32) -> bool,
) -> Result<Replayed, Refusal<S::Error>> {
    let mut walk = Walk::new(stores, opened);
    // What one region has lost is no reason to keep from the drives what the others have.
    for region in 0..opened.regions.len() {
        if mutant!("log-region-forgotten") && region >= 2 {
            continue;
        }
        walk.region = region;
        walk.walk(drives, &is_there).await?;
    }
    if !walk.lost.is_empty() {
        return Err(Refusal::Lost(walk.lost));
    }
    match walk.absent.is_empty() {
        true => Ok(walk.done),
        false => Err(Refusal::Absent(walk.absent)),
    }
}

/// Says what a store has of a log, as [`replay`] would do it, and does nothing.
///
/// # Errors
/// [`Refusal::Failed`]: the store did.
pub async fn survey<S: Store>(store: &S, opened: &Opened) -> Result<Survey, Refusal<S::Error>> {
    let stores = [Some((store, opened.superblock.layout.len))];
    let mut walk = Walk::new(&stores, opened);
    let mut regions = Vec::new();
    for region in 0..opened.regions.len() {
        walk.region = region;
        let (before, chain) = (walk.done, walk.walk(&Nowhere, &|_| true).await?);
        let done = walk.done.since(&before);
        let lost = walk.lost.last().filter(|loss| loss.region == region);
        regions.push(RegionSurvey {
            used: chain.used,
            groups: chain.groups,
            acknowledged: chain.acknowledged,
            done,
            lost: lost.cloned(),
        });
    }
    Ok(Survey {
        regions,
        volumes: walk.volumes,
    })
}

/// Drives that are not there.
struct Nowhere;

impl<S: Store> Drives<S> for Nowhere {
    async fn write(&self, _: u32, _: u64, _: &S::Buffer, _: Range<usize>) -> Result<(), S::Error> {
        Ok(())
    }

    async fn write_zeroes(&self, _: u32, _: u64, _: u64) -> Result<(), S::Error> {
        Ok(())
    }

    async fn deallocate(&self, _: u32, _: u64, _: u64) -> Result<(), S::Error> {
        Ok(())
    }
}

/// A region's chain.
struct Walk<'a, S: Store> {
    stores: &'a Stores<'a, S>,
    /// Those that the region is read from.
    readers: Vec<usize>,
    /// Why one of them could not be read.
    failed: Option<S::Error>,
    opened: &'a Opened,
    region: usize,
    done: Replayed,
    /// By volume.
    volumes: Vec<VolumeSurvey>,
    absent: Vec<u32>,
    lost: Vec<Loss>,
}

/// A chain that was walked along.
struct Chain {
    /// Bytes of its groups in each half.
    used: [u64; 2],
    /// Their numbers.
    groups: Range<u64>,
    /// The highest that was acknowledged, as far as headers say.
    acknowledged: u64,
}

/// Where a chain ends, and what says that it went on.
struct Behind {
    /// Where the next group should be.
    address: u64,
    /// Its number.
    next: u64,
    /// The highest group that some header behind says was acknowledged.
    acknowledged: u64,
    /// Bytes of groups there.
    torn: u64,
    /// What groups behind changed, by their numbers, which ascend.
    ranges: Vec<(u64, (u32, u64, u64))>,
    /// Changes further behind that there is no room to name.
    more: usize,
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

impl<'a, S: Store> Walk<'a, S> {
    fn new(stores: &'a Stores<'a, S>, opened: &'a Opened) -> Self {
        Self {
            stores,
            readers: Vec::new(),
            failed: None,
            opened,
            region: 0,
            done: Replayed::default(),
            volumes: vec![VolumeSurvey::default(); opened.superblock.volumes.len()],
            absent: Vec::new(),
            lost: Vec::new(),
        }
    }

    fn block(&self) -> u64 {
        self.opened.superblock.layout.block.into()
    }

    /// Where a half of the region lies.
    fn half(&self, half: usize) -> Range<u64> {
        let layout = &self.opened.superblock.layout;
        let start = layout.half(self.region, half);
        start..start + layout.half_len
    }

    /// Reads from a store; `None` if it does not let itself be read.
    async fn read(&mut self, from: usize, at: u64, len: usize) -> Option<S::Buffer> {
        self.done.read += len as u64;
        let (store, _) = self.stores.get(from).copied().flatten()?;
        match store.read(at, len).await {
            Ok(buffer) => Some(buffer),
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    async fn walk(
        &mut self,
        drives: &impl Drives<S>,
        is_there: &impl Fn(u32) -> bool,
    ) -> Result<Chain, Refusal<S::Error>> {
        let start = self.opened.regions[self.region];
        let reads = self.opened.readers[self.region];
        self.readers = (0..reads.len()).filter(|&i| reads[i]).collect();
        let (mut next, mut previous) = (start.sequence, start.previous);
        let oldest = usize::from(start.oldest);
        let halves = [oldest, 1 - oldest];
        let mut ends = halves.map(|half| self.half(half).start);
        let mut address = ends[0];
        let mut acknowledged = 0;
        // Numbers of groups that a store lacked.
        let mut lacked = Vec::new();
        for (half, at) in halves.into_iter().zip(&mut ends) {
            let end = self.half(half).end;
            while *at < end
                && let Some((from, found)) = self
                    .next(half, *at..end, (next, previous), drives, is_there)
                    .await?
            {
                if from > 0 {
                    lacked.push(next);
                }
                (next, previous) = (next + 1, found.header.checksum);
                acknowledged = found.header.acknowledged;
                *at += found.header.total(self.block() as u32);
                address = *at;
            }
        }
        let behind = self.behind(halves, ends, address, next).await?;
        let mut used = [0; 2];
        for (half, at) in halves.into_iter().zip(ends) {
            used[half] = at - self.half(half).start;
        }
        let chain = Chain {
            used,
            groups: start.sequence..next,
            acknowledged: behind.acknowledged.max(acknowledged),
        };
        // What a crash has left on one alone was not acknowledged.
        lacked.retain(|&sequence| sequence <= chain.acknowledged);
        if let Some(&first) = self.readers.first() {
            self.done.mended[first] += lacked.len() as u64;
        }
        self.lost.extend(behind.loss(self.region));
        Ok(chain)
    }

    /// Replays the group at the start of `room`, if it is the one that follows, from the first store that has it
    /// as it was: which of them that is, and the group.
    async fn next(
        &mut self,
        half: usize,
        room: Range<u64>,
        follows: (u64, u32),
        drives: &impl Drives<S>,
        is_there: &impl Fn(u32) -> bool,
    ) -> Result<Option<(usize, Found)>, Refusal<S::Error>> {
        self.failed = None;
        for i in 0..self.readers.len() {
            let from = self.readers[i];
            if let Some(found) = self.group(from, half, room.clone()).await
                && (found.header.sequence, found.header.previous) == follows
                && self.play(from, &found, drives, is_there).await?
            {
                return Ok(Some((i, found)));
            }
            if mutant!("log-two-lies-unmended") {
                break;
            }
        }
        match self.failed.take() {
            Some(error) => Err(Refusal::Failed(error)),
            None => Ok(None),
        }
    }

    /// What lies behind the chain, whose halves end at `ends`, in the store that has more.
    async fn behind(
        &mut self,
        halves: [usize; 2],
        ends: [u64; 2],
        address: u64,
        next: u64,
    ) -> Result<Behind, Refusal<S::Error>> {
        let mut most: Option<Behind> = None;
        for i in 0..self.readers.len() {
            let from = self.readers[i];
            let mut behind = Behind {
                address,
                next,
                acknowledged: 0,
                torn: 0,
                ranges: Vec::new(),
                more: 0,
            };
            let mut is_read = true;
            for (half, at) in halves.into_iter().zip(ends) {
                let room = at..self.half(half).end;
                is_read = is_read && self.look_behind(from, half, room, &mut behind).await;
            }
            let has_more = |most: &Behind| {
                let of = |behind: &Behind| (behind.acknowledged, behind.torn);
                of(&behind) > of(most)
            };
            if is_read && most.as_ref().is_none_or(has_more) {
                most = Some(behind);
            }
        }
        match (most, self.failed.take()) {
            (Some(most), _) => {
                self.done.torn += most.torn;
                Ok(most)
            }
            (None, Some(error)) => Err(Refusal::Failed(error)),
            // Nobody has the region.
            (None, None) => Err(Refusal::Missing),
        }
    }

    /// The group at the start of `room`, if there is one that was written there in this epoch.
    async fn group(&mut self, from: usize, half: usize, room: Range<u64>) -> Option<Found> {
        let len = HEADER_MAX.min((room.end - room.start) as usize);
        let buffer = self.read(from, room.start, len).await?;
        self.header(half, &buffer, 0..len, room.start)
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

    /// Replays a group if its checksums are right, and it can be read; whether that is so.
    async fn play(
        &mut self,
        from: usize,
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
            let Some(buffer) = self.read(from, payload + at as u64, n).await else {
                return Ok(false);
            };
            let is_good = check.take(buffer.slices(0..n.min(payload_len - at)));
            if !is_good && !mutant!("log-checksum-ignored") {
                return Ok(false);
            }
            kept = (len <= PART).then_some(buffer);
            at += n;
        }
        for (record, place, _) in found.records() {
            if is_there(record.volume) {
                let kept = kept.as_ref().map(|kept| (kept, place));
                let is_done = self
                    .apply(from, &record, payload + place, kept, drives)
                    .await?;
                if !is_done {
                    return Ok(false);
                }
            }
        }
        self.count(found, is_there);
        Ok(true)
    }

    fn count(&mut self, found: &Found, is_there: &impl Fn(u32) -> bool) {
        self.done.groups += 1;
        for (record, ..) in found.records() {
            if let Some(volume) = self.volumes.get_mut(record.volume as usize) {
                volume.records += 1;
                volume.zeroes += u64::from(record.op == RecordOp::WriteZeroes);
                volume.deallocations += u64::from(record.op == RecordOp::Deallocate);
                volume.bytes = volume.bytes.saturating_add(record.len);
            }
            if is_there(record.volume) {
                self.done.records += 1;
                self.done.bytes = self.done.bytes.saturating_add(record.len);
            } else if !self.absent.contains(&record.volume) {
                self.absent.push(record.volume);
            }
        }
    }

    /// Does what a record says; false if its payload cannot be read. That lies at `at` of store `from`; and from some
    /// place on in what was kept of it.
    async fn apply(
        &mut self,
        from: usize,
        record: &Record,
        at: u64,
        kept: Option<(&S::Buffer, u64)>,
        drives: &impl Drives<S>,
    ) -> Result<bool, Refusal<S::Error>> {
        let Record {
            volume,
            offset,
            len,
            ..
        } = *record;
        let applied = match (record.op, kept) {
            (RecordOp::Deallocate, _) if mutant!("log-deallocation-forgotten") => Ok(()),
            (RecordOp::Deallocate, _) => drives.deallocate(volume, offset, len).await,
            (RecordOp::WriteZeroes, _) => drives.write_zeroes(volume, offset, len).await,
            (RecordOp::Write, Some((buffer, place))) => {
                let range = place as usize..(place + len) as usize;
                drives.write(volume, offset, buffer, range).await
            }
            (RecordOp::Write, None) => return self.apply_parts(from, record, at, drives).await,
        };
        applied.map(|()| true).map_err(Refusal::Failed)
    }

    /// Reads the payload of a record once more, in parts; false if it cannot be read.
    async fn apply_parts(
        &mut self,
        from: usize,
        record: &Record,
        at: u64,
        drives: &impl Drives<S>,
    ) -> Result<bool, Refusal<S::Error>> {
        let block = self.block();
        let mut done = 0;
        while done < record.len {
            // Reads are of whole blocks of the log, writes of whole pages of the volume but at its ends.
            let before = (at + done) % block;
            let page = PAGE - (record.offset + done) % PAGE;
            let most = page + (PART as u64 - before - page) / PAGE * PAGE;
            let n = (record.len - done).min(most);
            let len = (before + n).next_multiple_of(block) as usize;
            let Some(buffer) = self.read(from, at + done - before, len).await else {
                return Ok(false);
            };
            let range = before as usize..(before + n) as usize;
            drives
                .write(record.volume, record.offset + done, &buffer, range)
                .await
                .map_err(Refusal::Failed)?;
            done += n;
        }
        Ok(true)
    }

    /// Looks through what lies behind the chain in a half: groups there that say that the next one was
    /// acknowledged show that it is lost. False if it cannot be read.
    async fn look_behind(
        &mut self,
        store: usize,
        half: usize,
        room: Range<u64>,
        behind: &mut Behind,
    ) -> bool {
        let mut at = room.start;
        while at < room.end {
            // The length of a header more, for one that begins at the end of the part.
            let rest = room.end - at;
            let len = rest.min((PART + HEADER_MAX) as u64) as usize;
            let Some(buffer) = self.read(store, at, len).await else {
                return false;
            };
            let part = rest.min(PART as u64);
            for from in (0..part).step_by(self.block() as usize) {
                let found = self.header(half, &buffer, from as usize..len, at + from);
                if let Some(found) = found.filter(|found| found.header.sequence >= behind.next) {
                    behind.torn += found.header.total(self.block() as u32);
                    behind.add(&found);
                }
            }
            at += part;
        }
        true
    }
}

impl Behind {
    fn add(&mut self, found: &Found) {
        let sequence = found.header.sequence;
        self.acknowledged = self.acknowledged.max(found.header.acknowledged);
        for (record, ..) in found.records() {
            if self.ranges.len() < RANGES_MAX {
                let range = (record.volume, record.offset, record.len);
                self.ranges.push((sequence, range));
            } else {
                self.more += 1;
            }
        }
    }

    fn loss(mut self, region: usize) -> Option<Loss> {
        let Self {
            next, acknowledged, ..
        } = self;
        if acknowledged < next || mutant!("log-loss-ignored") {
            return None;
        }
        let count = self.ranges.len();
        self.ranges
            .retain(|&(sequence, _)| sequence <= acknowledged);
        // What is behind one that was not acknowledged was not either.
        let more = if self.ranges.len() == count {
            self.more
        } else {
            0
        };
        Some(Loss {
            region,
            address: self.address,
            groups: next..acknowledged + 1,
            ranges: self.ranges.into_iter().map(|(_, range)| range).collect(),
            more,
        })
    }
}

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
                self.crc = checksum::crc32c_append(self.crc, &slice[..n]);
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
