//! Headers of groups, and the records in them.

use checksum::Crc32c;

use crate::bytes::{array, put, u16_at, u32_at, u64_at};
use crate::{LogId, NUMBERS_END, VERSION};

const MAGIC: [u8; 4] = *b"TLGR";
const CHECKSUM: usize = 76;

/// Bytes of a header before its first record.
pub const HEADER: usize = 80;
/// Bytes of a record before its checksums.
pub const RECORD: usize = 48;
/// Bytes of a header at most: what its records leave no room for goes into the next group.
pub const HEADER_MAX: usize = 4096;
/// Bytes of payload that have a checksum of their own: a page of the volume.
pub const PAGE: u64 = 4096;
/// Pages that one record may touch.
pub const PAGES_MAX: usize = (HEADER_MAX - HEADER - RECORD) / 4;

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordOp {
    /// The payload is the range's.
    Write = 1,
    /// The range reads as zeros.
    WriteZeroes = 2,
    /// The range is needed no more: its drive was told so, and is told again.
    Deallocate = 3,
}

impl RecordOp {
    fn of(number: u8) -> Option<Self> {
        [Self::Write, Self::WriteZeroes, Self::Deallocate]
            .into_iter()
            .find(|op| *op as u8 == number)
    }
}

/// A record: one change of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Names the change; no other record of the region has the same.
    pub transfer: u64,
    /// What in the volume is changed: 0, which is the volume itself.
    pub object: u64,
    /// The volume's place in the superblock's list.
    pub volume: u32,
    /// What is done.
    pub op: RecordOp,
    /// First byte of the volume.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Record {
    /// Bytes in the group's payload.
    pub fn payload(&self) -> u64 {
        match self.op {
            RecordOp::Write => self.len,
            RecordOp::WriteZeroes | RecordOp::Deallocate => 0,
        }
    }

    /// Checksums that go with it: one for each page of the volume that the payload touches.
    pub fn checksums(&self) -> usize {
        match self.op {
            RecordOp::Write => {
                ((self.offset + self.len).div_ceil(PAGE) - self.offset / PAGE) as usize
            }
            RecordOp::WriteZeroes | RecordOp::Deallocate => 0,
        }
    }

    /// Bytes that it takes in a header.
    pub fn size(&self) -> usize {
        RECORD + 4 * self.checksums()
    }

    /// Whether the range is one that a volume can have, and a record describe.
    fn is_sound(&self) -> bool {
        let ends = self.offset.checked_add(self.len);
        let fits = self.op != RecordOp::Write || self.len <= PAGES_MAX as u64 * PAGE;
        self.len > 0 && fits && ends.is_some_and(|end| end <= u64::MAX - PAGE)
    }
}

/// What a group is, beside its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which log it is of.
    pub log: LogId,
    /// The region.
    pub region: u16,
    /// Its half.
    pub half: u8,
    /// Of that half when it was written.
    pub epoch: u64,
    /// Number of the group in its region, from 1, one more each time.
    pub sequence: u64,
    /// The last group of the region that had been acknowledged, with all before it.
    pub acknowledged: u64,
    /// Where in the store it lies: bytes.
    pub address: u64,
    /// Checksum of the header before it.
    pub previous: u32,
    /// Bytes of the header, blocks of the log store.
    pub header_len: u32,
    /// Bytes of payload behind it, without what fills the last block up.
    pub payload_len: u32,
    /// Records.
    pub count: u16,
    /// Of the header, its records and their checksums.
    pub checksum: u32,
}

impl Header {
    /// Writes it in front of the records in `bytes`, which are the header as it will be on disk;
    /// its checksum comes back.
    pub(crate) fn seal(&self, bytes: &mut [u8]) -> u32 {
        put(bytes, 0, &MAGIC);
        put(bytes, 4, &(VERSION as u16).to_le_bytes());
        put(bytes, 6, &self.region.to_le_bytes());
        put(bytes, 8, &self.log.0);
        bytes[24] = self.half;
        put(bytes, 26, &self.count.to_le_bytes());
        put(bytes, 28, &self.header_len.to_le_bytes());
        put(bytes, 32, &self.epoch.to_le_bytes());
        put(bytes, 40, &self.sequence.to_le_bytes());
        put(bytes, 48, &self.acknowledged.to_le_bytes());
        put(bytes, 56, &self.address.to_le_bytes());
        put(bytes, 64, &self.previous.to_le_bytes());
        put(bytes, 68, &self.payload_len.to_le_bytes());
        let crc = checksum::crc32c_stored_at(bytes, CHECKSUM);
        put(bytes, CHECKSUM, &crc.to_le_bytes());
        crc
    }

    /// Whether `bytes`, four of them, are what every header begins with.
    pub fn begins<'a>(bytes: impl Iterator<Item = &'a [u8]>) -> bool {
        bytes.flatten().eq(&MAGIC)
    }

    /// How long the header that begins with `bytes`, 80 of them, says that it is, if it can be one.
    pub fn length(bytes: &[u8], block: u32) -> Option<usize> {
        let len = u32_at(bytes, 28) as usize;
        let is_one = bytes[..4] == MAGIC && u16_at(bytes, 4) == VERSION as u16;
        let fits = (HEADER..=HEADER_MAX).contains(&len) && len.is_multiple_of(block as usize);
        (is_one && fits).then_some(len)
    }

    /// From the whole header as it is on disk; `None` if its checksum is wrong, or what it says cannot be.
    pub fn decode(bytes: &[u8], block: u32) -> Option<Self> {
        let len = Self::length(bytes.get(..HEADER)?, block)?;
        let bytes = bytes.get(..len)?;
        let crc = u32_at(bytes, CHECKSUM);
        if crc != checksum::crc32c_stored_at(bytes, CHECKSUM) {
            return None;
        }
        let header = Self {
            log: LogId(array(bytes, 8)),
            region: u16_at(bytes, 6),
            half: bytes[24],
            epoch: u64_at(bytes, 32),
            sequence: u64_at(bytes, 40),
            acknowledged: u64_at(bytes, 48),
            address: u64_at(bytes, 56),
            previous: u32_at(bytes, 64),
            header_len: len as u32,
            payload_len: u32_at(bytes, 68),
            count: u16_at(bytes, 26),
            checksum: crc,
        };
        if header.acknowledged >= header.sequence || header.sequence >= NUMBERS_END {
            return None;
        }
        let (mut payload, mut transfer) = (0, header.sequence << 8);
        for record in Records::of(bytes, header.count) {
            let (record, ..) = record?;
            if record.transfer != transfer {
                return None;
            }
            (payload, transfer) = (payload + record.payload(), transfer + 1);
        }
        (payload == u64::from(header.payload_len)).then_some(header)
    }

    /// Bytes of the group in the store: header, payload, and what fills the last block up.
    pub fn total(&self, block: u32) -> u64 {
        u64::from(self.header_len) + u64::from(self.payload_len).next_multiple_of(block.into())
    }

    /// Its records, with where their payload is in the group's and their checksums; `bytes` is the
    /// header that it was decoded from.
    pub fn records<'a>(
        &self,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = (Record, u64, Checksums<'a>)> {
        Records::of(&bytes[..self.header_len as usize], self.count).flatten()
    }
}

/// Checksums of a record's pages, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Checksums<'a>(&'a [u8]);

impl Checksums<'_> {
    /// They.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.chunks_exact(4).map(|crc| u32_at(crc, 0))
    }
}

struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    payload: u64,
    left: u16,
}

impl<'a> Records<'a> {
    fn of(header: &'a [u8], count: u16) -> Self {
        Self {
            bytes: header,
            at: HEADER,
            payload: 0,
            left: count,
        }
    }

    fn read(&mut self) -> Option<(Record, u64, Checksums<'a>)> {
        let bytes = self.bytes.get(self.at..)?;
        let fields = bytes.get(..RECORD)?;
        let record = Record {
            transfer: u64_at(fields, 0),
            object: u64_at(fields, 8),
            volume: u32_at(fields, 16),
            op: RecordOp::of(fields[20])?,
            offset: u64_at(fields, 24),
            len: u64_at(fields, 32),
        };
        let place = u64::from(u32_at(fields, 40));
        let known = fields[21] == 0 && record.object == 0 && record.is_sound();
        if !known || place != self.payload || usize::from(u16_at(fields, 22)) != record.checksums()
        {
            return None;
        }
        let checksums = Checksums(bytes.get(RECORD..record.size())?);
        self.at += record.size();
        self.payload += record.payload();
        Some((record, place, checksums))
    }
}

impl<'a> Iterator for Records<'a> {
    /// `None` of one that cannot be, which is the last.
    type Item = Option<(Record, u64, Checksums<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = self.read();
        if record.is_none() {
            self.left = 0;
        }
        Some(record)
    }
}

/// Writes `record` and its checksums at `at` of a header.
pub(crate) fn put_record(bytes: &mut [u8], at: usize, record: &Record, place: u32, crcs: &[u32]) {
    debug_assert!(record.is_sound() && crcs.len() == record.checksums());
    put(bytes, at, &record.transfer.to_le_bytes());
    put(bytes, at + 8, &record.object.to_le_bytes());
    put(bytes, at + 16, &record.volume.to_le_bytes());
    bytes[at + 20] = record.op as u8;
    bytes[at + 21] = 0;
    put(bytes, at + 22, &(crcs.len() as u16).to_le_bytes());
    put(bytes, at + 24, &record.offset.to_le_bytes());
    put(bytes, at + 32, &record.len.to_le_bytes());
    put(bytes, at + 40, &place.to_le_bytes());
    put(bytes, at + 44, &[0; 4]);
    for (crc, at) in crcs.iter().zip((at + RECORD..).step_by(4)) {
        put(bytes, at, &crc.to_le_bytes());
    }
}

/// The checksums of a record's pages, of its payload as it comes, slice by slice.
#[derive(Clone, Debug)]
pub struct Crcs {
    /// Bytes until the page of the volume ends.
    left: u64,
    crc: Crc32c,
    any: bool,
}

impl Crcs {
    /// Of a record whose first byte is `offset` of the volume.
    pub fn new(offset: u64) -> Self {
        Self {
            left: PAGE - offset % PAGE,
            crc: Crc32c::default(),
            any: false,
        }
    }

    /// Of another record, once the last one has [ended](Crcs::end): cheaper than to make one for each.
    pub fn begin(&mut self, offset: u64) {
        self.left = PAGE - offset % PAGE;
    }

    /// Takes the next bytes; `page` is given the checksum of each page that they complete.
    pub fn take(&mut self, mut bytes: &[u8], mut page: impl FnMut(u32)) {
        while !bytes.is_empty() {
            let n = (bytes.len() as u64).min(self.left) as usize;
            self.crc.take(&bytes[..n]);
            self.any = true;
            self.left -= n as u64;
            bytes = &bytes[n..];
            if self.left == 0 {
                page(self.crc.end());
                (self.left, self.any) = (PAGE, false);
            }
        }
    }

    /// The checksum of the last page, if the record ends in the middle of one.
    pub fn end(&mut self) -> Option<u32> {
        std::mem::take(&mut self.any).then(|| self.crc.end())
    }
}
