//! A region as its shard writes it: groups into the active half, the other one freed meanwhile.

use std::collections::VecDeque;

use crate::LogId;
use crate::header::{HEADER, HEADER_MAX, Header, Record, put_record};
use crate::layout::Layout;
use crate::superblock::{Members, RegionSuperblock};

/// A group that is about to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number, for [`Region::stable`].
    pub sequence: u64,
    /// Where in the store it goes: bytes.
    pub address: u64,
    /// Bytes of its header.
    pub header_len: usize,
    /// Bytes of payload.
    pub payload_len: usize,
    /// Bytes of zeros behind the payload, which fill its last block up.
    pub padding: usize,
    /// Records.
    pub count: u16,
}

impl Group {
    /// Bytes that are written.
    pub fn total(&self) -> usize {
        self.header_len + self.payload_len + self.padding
    }
}

/// A group that is being written.
struct Written {
    sequence: u64,
    half: usize,
    is_stable: bool,
}

/// One of the two halves.
#[derive(Clone, Copy)]
struct Half {
    address: u64,
    epoch: u64,
    /// The first group that it has, or will have: its number, and the checksum of the header before.
    first: (u64, u32),
    /// Nothing in it is needed, and its superblock says so.
    is_free: bool,
}

/// A region and how far it is written.
pub struct Region {
    log: LogId,
    number: usize,
    block: u32,
    half_len: u64,
    halves: [Half; 2],
    active: usize,
    /// Bytes of the active half that are used.
    used: u64,
    /// Of the last group.
    sequence: u64,
    previous: u32,
    /// The last group acknowledged, with all before it.
    acknowledged: u64,
    /// What the last header said of it.
    said: u64,
    /// The last group that has records.
    records: u64,
    in_flight: VecDeque<Written>,
    generation: u64,
    members: Members,
    /// The header in the making, and its records.
    header: Box<[u8; HEADER_MAX]>,
    at: usize,
    count: u16,
    payload: usize,
}

/// Groups that may be written at a time; each is small memory, and the caller has fewer.
const IN_FLIGHT_MAX: usize = 64;

impl Region {
    /// Region `number` as its superblock says it is: empty.
    pub fn new(log: LogId, layout: &Layout, number: usize, superblock: &RegionSuperblock) -> Self {
        let active = usize::from(superblock.oldest);
        let half = |half: usize| Half {
            address: layout.half(number, half),
            epoch: superblock.epochs[half],
            first: (superblock.sequence, superblock.previous),
            is_free: half != active,
        };
        Self {
            log,
            number,
            block: layout.block,
            half_len: layout.half_len,
            halves: [half(0), half(1)],
            active,
            used: 0,
            sequence: superblock.sequence - 1,
            previous: superblock.previous,
            acknowledged: superblock.sequence - 1,
            said: superblock.sequence - 1,
            records: superblock.sequence - 1,
            in_flight: VecDeque::with_capacity(IN_FLIGHT_MAX),
            generation: superblock.generation,
            members: superblock.members,
            header: Box::new([0; HEADER_MAX]),
            at: HEADER,
            count: 0,
            payload: 0,
        }
    }

    /// Whether a group with the records so far, and `record`, has room for it in its header and in
    /// the half.
    pub fn has_room(&self, record: &Record) -> bool {
        self.has_room_and(record, 0)
    }

    /// The same, and behind it for a header without records, which says that it was acknowledged.
    pub fn has_room_to_tell(&self, record: &Record) -> bool {
        self.has_room_and(record, self.block.into())
    }

    fn has_room_and(&self, record: &Record, more: u64) -> bool {
        let header = self.in_blocks((self.at + record.size()) as u64);
        let len = header + self.in_blocks(self.payload as u64 + record.payload());
        header <= HEADER_MAX as u64 && self.used + len + more <= self.half_len
    }

    /// Bytes of the blocks that `len` bytes take; those of a block are a power of two, and no division is needed.
    fn in_blocks(&self, len: u64) -> u64 {
        let last = u64::from(self.block) - 1;
        (len + last) & !last
    }

    /// Adds a record to the next group; `crcs` are of its pages. The transfer that names it comes
    /// back.
    ///
    /// # Panics
    /// If there is [no room](Region::has_room).
    pub fn add(&mut self, record: &Record, crcs: &[u32]) -> u64 {
        assert!(self.has_room(record), "no room for a record");
        let transfer = (self.sequence + 1) << 8 | u64::from(self.count);
        let record = Record {
            transfer,
            ..*record
        };
        put_record(
            &mut self.header[..],
            self.at,
            &record,
            self.payload as u32,
            crcs,
        );
        self.at += record.size();
        self.payload += record.payload() as usize;
        self.count += 1;
        transfer
    }

    /// Records in the next group so far.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Ends the group and begins the next: where it goes, and its header, [`Group::header_len`]
    /// bytes, which the payload follows in the order of the records. Without records it says no
    /// more than which groups are acknowledged.
    pub fn seal(&mut self) -> (Group, &[u8]) {
        let header_len = self.in_blocks(self.at as u64) as usize;
        self.header[self.at..header_len].fill(0);
        let padded = self.in_blocks(self.payload as u64) as usize;
        self.sequence += 1;
        let half = &self.halves[self.active];
        let group = Group {
            sequence: self.sequence,
            address: half.address + self.used,
            header_len,
            payload_len: self.payload,
            padding: padded - self.payload,
            count: self.count,
        };
        let header = Header {
            log: self.log,
            region: self.number as u16,
            half: self.active as u8,
            epoch: half.epoch,
            sequence: group.sequence,
            acknowledged: self.acknowledged,
            address: group.address,
            previous: self.previous,
            header_len: header_len as u32,
            payload_len: group.payload_len as u32,
            count: self.count,
            checksum: 0,
        };
        self.header[..HEADER].fill(0);
        self.previous = header.seal(&mut self.header[..header_len]);
        self.said = self.acknowledged;
        if self.count > 0 {
            self.records = self.sequence;
        }
        self.used += group.total() as u64;
        self.in_flight.push_back(Written {
            sequence: group.sequence,
            half: self.active,
            is_stable: false,
        });
        (self.at, self.count, self.payload) = (HEADER, 0, 0);
        (group, &self.header[..header_len])
    }

    /// Group `sequence` is stable. Groups are acknowledged in their order: the last that may be now,
    /// with all before it.
    pub fn stable(&mut self, sequence: u64) -> u64 {
        for group in &mut self.in_flight {
            group.is_stable |= group.sequence == sequence;
        }
        while let Some(first) = self.in_flight.front()
            && first.is_stable
        {
            self.acknowledged = first.sequence;
            self.in_flight.pop_front();
        }
        self.acknowledged
    }

    /// Groups that are being written.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The last group acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether the last records were acknowledged, and no header says so: when there is nothing to
    /// write, a group [without records](Region::seal) does.
    pub fn is_untold(&self) -> bool {
        self.records > self.said && self.acknowledged >= self.records
    }

    /// Bytes of the active half that are used, of how many.
    pub fn fill(&self) -> (u64, u64) {
        (self.used, self.half_len)
    }

    /// The half that groups are written to.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Whether the other half can take groups.
    pub fn can_switch(&self) -> bool {
        self.halves[1 - self.active].is_free && self.count == 0
    }

    /// The same, once the group that is being made is.
    pub fn can_switch_later(&self) -> bool {
        self.halves[1 - self.active].is_free
    }

    /// A consistency point begins: groups go to the other half from now on. The one that they
    /// went to comes back.
    ///
    /// # Panics
    /// If it [cannot](Region::can_switch).
    pub fn switch(&mut self) -> usize {
        assert!(self.can_switch(), "the other half is in use");
        let old = self.active;
        self.active = 1 - old;
        let half = &mut self.halves[self.active];
        half.is_free = false;
        half.first = (self.sequence + 1, self.previous);
        self.used = 0;
        old
    }

    /// Whether every group in the half is acknowledged.
    pub fn is_settled(&self, half: usize) -> bool {
        self.in_flight.iter().all(|group| group.half != half)
    }

    /// What the superblock is to say when all that is in the half that is not active is on the
    /// drives: it is needed no more. When that is stable, [`Region::freed`].
    pub fn without_the_other(&mut self) -> RegionSuperblock {
        let (active, other) = (self.active, 1 - self.active);
        debug_assert!(self.is_settled(other) && !self.halves[other].is_free);
        self.generation += 1;
        // Greater than any epoch so far: the active half's is.
        let epoch = self.halves[active].epoch + 1;
        let mut epochs = [epoch; 2];
        epochs[active] = self.halves[active].epoch;
        let (sequence, previous) = self.halves[active].first;
        RegionSuperblock {
            generation: self.generation,
            oldest: active as u8,
            epochs,
            sequence,
            previous,
            members: self.members,
            is_closed: false,
        }
    }

    /// What the superblock is to say when everything that was acknowledged is on the drives, and the rest was
    /// given up: both halves are empty. The region is not used any more.
    pub fn emptied(&mut self) -> RegionSuperblock {
        self.generation += 1;
        let epoch = self.halves[0].epoch.max(self.halves[1].epoch) + 1;
        RegionSuperblock {
            generation: self.generation,
            oldest: 0,
            epochs: [epoch, epoch + 1],
            sequence: self.sequence + 1,
            previous: self.previous,
            members: self.members,
            is_closed: false,
        }
    }

    /// That superblock is stable: the other half can be used again.
    pub fn freed(&mut self) {
        let other = 1 - self.active;
        self.halves[other].epoch = self.halves[self.active].epoch + 1;
        self.halves[other].is_free = true;
    }
}
