//! Tables: what a run has to know of a volume beside its data, and where it keeps the record of what of it was
//! changed (rows R4, R7). What an entry's content and the pages of a record say is their owner's.
//!
//! Each volume has a *slot* with two copies of an *entry*. A new version overwrites the older one, so that whatever
//! becomes of the write the other one stays; the newest that is whole counts. Pages of records are a contiguous
//! extent for each volume, behind the entries.

use std::fmt;
use std::ops::Range;

use crate::bytes::{array, put, u32_at, u64_at};
use crate::layout::{ENTRY_PAGES, TABLES, UNIT, VOLUMES_MAX};
use crate::superblock::{Bad, begin, look, seal};
use crate::{LogId, NUMBERS_END, VERSION_TABLES};

const MAGIC: [u8; 8] = *b"TL-TABLE";
const NAME: usize = 32;
const CONTENT: usize = 256;

/// Bytes of an entry: a page, of which both copies have their own.
pub const ENTRY: usize = UNIT as usize;
/// Bytes of content that an entry has room for.
pub const CONTENT_MAX: usize = ENTRY - CONTENT;

/// A version of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counts the versions of the slot.
    pub sequence: u64,
    /// What the volume's store is called, as in [`Volume`](crate::Volume).
    pub name: String,
    /// What tells its drive from others.
    pub identity: [u8; 16],
    /// Pages of the tables area that its record has.
    pub record: Option<Range<u64>>,
    /// What its owner has to say; nothing, and no record: the slot is free.
    pub content: Vec<u8>,
}

impl Entry {
    /// As it is on disk.
    ///
    /// # Panics
    /// If the name is longer than 32 bytes, or the content longer than [`CONTENT_MAX`].
    pub fn encode(&self, log: LogId, slot: usize) -> Vec<u8> {
        assert!(self.name.len() <= NAME, "the name of a store is too long");
        assert!(self.content.len() <= CONTENT_MAX, "content is too long");
        let mut bytes = vec![0; ENTRY];
        begin(&mut bytes, MAGIC, VERSION_TABLES, log);
        put(&mut bytes, 32, &self.sequence.to_le_bytes());
        put(&mut bytes, 40, &(slot as u32).to_le_bytes());
        put(&mut bytes, 44, &(self.content.len() as u32).to_le_bytes());
        put(&mut bytes, 48, &self.identity);
        put(&mut bytes, 64, self.name.as_bytes());
        let record = self.record.clone().unwrap_or(0..0);
        put(&mut bytes, 96, &record.start.to_le_bytes());
        let pages = record.end - record.start;
        put(&mut bytes, 104, &pages.to_le_bytes());
        put(&mut bytes, CONTENT, &self.content);
        seal(&mut bytes);
        bytes
    }

    /// From what is on disk.
    ///
    /// # Errors
    /// It is [`Bad`]; of another slot, it is [`Bad::Foreign`].
    pub fn decode(bytes: &[u8], log: LogId, slot: usize) -> Result<Self, Bad> {
        look(bytes, MAGIC, &[VERSION_TABLES])?;
        if array(bytes, 16) != log.0 {
            return Err(Bad::OtherLog);
        }
        if u32_at(bytes, 40) as usize != slot {
            return Err(Bad::Foreign);
        }
        let name = &bytes[64..64 + NAME];
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(NAME);
        let name = std::str::from_utf8(&name[..end]).map_err(|_| Bad::Fields)?;
        let content = u32_at(bytes, 44) as usize;
        let (first, pages) = (u64_at(bytes, 96), u64_at(bytes, 104));
        let end = first.checked_add(pages).ok_or(Bad::Fields)?;
        let record = match (first, pages) {
            (0, 0) => None,
            _ => Some(first..end),
        };
        let is_record = |range: &Range<u64>| {
            let is_in_bytes = range.end.checked_mul(UNIT).is_some();
            range.start >= ENTRY_PAGES && !range.is_empty() && is_in_bytes
        };
        if content > CONTENT_MAX || !record.iter().all(is_record) {
            return Err(Bad::Fields);
        }
        let entry = Self {
            sequence: u64_at(bytes, 32),
            name: name.into(),
            identity: array(bytes, 48),
            record,
            content: bytes[CONTENT..CONTENT + content].to_vec(),
        };
        // There is one way to write each: what else is there another version has written.
        let is_it = (1..NUMBERS_END).contains(&entry.sequence) && entry.encode(log, slot) == *bytes;
        is_it.then_some(entry).ok_or(Bad::Fields)
    }

    /// Bytes of the tables area up to the end of its record.
    pub(crate) fn end(&self) -> u64 {
        let end = self.record.as_ref().map_or(0, |record| record.end);
        end * UNIT
    }

    /// Whether its slot has a table.
    pub fn is_used(&self) -> bool {
        !self.content.is_empty() || self.record.is_some()
    }
}

/// Whether an entry of whichever log begins with these bytes.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes[..8] == MAGIC
}

/// Why a table cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTable {
    /// The log has no tables area.
    NoArea,
    /// All slots are taken.
    Slots,
    /// There are not so many pages in one piece for a record.
    Pages(u64),
    /// The content is longer than [`CONTENT_MAX`].
    Content(usize),
}

impl fmt::Display for NoTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoArea => f.write_str("the log has no room for tables"),
            Self::Slots => write!(f, "all {VOLUMES_MAX} tables are taken"),
            Self::Pages(pages) => write!(
                f,
                "the tables area has no {pages} pages in one piece for a record: make it larger"
            ),
            Self::Content(len) => write!(
                f,
                "a table has at most {CONTENT_MAX} bytes of content, not {len}"
            ),
        }
    }
}

impl std::error::Error for NoTable {}

/// A version of an entry that is to be written: to all stores of the log, once the pages of its record are stable
/// there. It counts when it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Where it goes: bytes of the store.
    pub at: u64,
    /// What.
    pub bytes: Vec<u8>,
    /// Pages of the tables area that its record has from then on.
    pub record: Option<Range<u64>>,
    /// They were not the volume's before: each of them is to be written first.
    pub is_new: bool,
}

/// What is known of a slot.
#[derive(Clone, Debug)]
struct Slot {
    sequence: u64,
    /// Which copy is the newest.
    copy: usize,
    /// Of which volume the table is.
    owner: Option<(String, [u8; 16])>,
    record: Option<Range<u64>>,
}

/// The tables area of a log: which slots and pages are whose.
#[derive(Clone, Debug)]
pub struct Tables {
    log: LogId,
    len: u64,
    slots: Vec<Option<Slot>>,
}

impl Tables {
    /// An area of `len` bytes without tables.
    pub fn new(log: LogId, len: u64) -> Self {
        Self {
            log,
            len,
            slots: vec![None; VOLUMES_MAX],
        }
    }

    /// Takes what a slot has: its newest entry, which is copy `copy`.
    pub fn take(&mut self, slot: usize, copy: usize, entry: &Entry) {
        self.slots[slot] = Some(Slot {
            sequence: entry.sequence,
            copy,
            owner: (entry.is_used()).then(|| (entry.name.clone(), entry.identity)),
            record: entry.record.clone(),
        });
    }

    /// The area is as long as this from now on; it never becomes shorter.
    pub fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Bytes of the area.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no slot has a table.
    pub fn is_empty(&self) -> bool {
        self.owners().next().is_none()
    }

    fn owners(&self) -> impl Iterator<Item = &(String, [u8; 16])> {
        let slots = self.slots.iter().flatten();
        slots.filter_map(|slot| slot.owner.as_ref())
    }

    /// Pages of the area that the record of a volume has.
    pub fn record(&self, name: &str, identity: [u8; 16]) -> Option<Range<u64>> {
        let slot = self.slot(name, identity)?;
        self.slots[slot].as_ref()?.record.clone()
    }

    fn slot(&self, name: &str, identity: [u8; 16]) -> Option<usize> {
        self.slots.iter().position(|slot| {
            let owner = slot.as_ref().and_then(|slot| slot.owner.as_ref());
            owner.is_some_and(|(its, drive)| its == name && *drive == identity)
        })
    }

    /// A new version of a volume's entry, with `content` and a record of so many `pages`. A record that has as many
    /// as before, or fewer, keeps its pages, the first ones. Without content and record the slot is free from then on.
    ///
    /// Versions are to be written one after the other: what one gives free a later one may take.
    ///
    /// # Errors
    /// [`NoTable`].
    pub fn put(
        &mut self,
        name: &str,
        identity: [u8; 16],
        pages: u64,
        content: &[u8],
    ) -> Result<Put, NoTable> {
        if self.len == 0 {
            return Err(NoTable::NoArea);
        }
        if content.len() > CONTENT_MAX {
            return Err(NoTable::Content(content.len()));
        }
        let free = |slot: &Option<Slot>| slot.as_ref().is_none_or(|slot| slot.owner.is_none());
        let place = self.slot(name, identity);
        let place = place.or_else(|| self.slots.iter().position(free));
        let place = place.ok_or(NoTable::Slots)?;
        let before = self.slots[place].as_ref();
        let had = before.and_then(|slot| slot.record.clone());
        let is_new = pages > 0 && had.as_ref().is_none_or(|had| had.end - had.start < pages);
        let record = match pages {
            0 => None,
            _ if is_new => Some(self.first_fit(pages).ok_or(NoTable::Pages(pages))?),
            _ => had.map(|had| had.start..had.start + pages),
        };
        let (sequence, copy) = before.map_or((1, 0), |slot| (slot.sequence + 1, 1 - slot.copy));
        let entry = Entry {
            sequence,
            name: name.into(),
            identity,
            record: record.clone(),
            content: content.to_vec(),
        };
        self.take(place, copy, &entry);
        Ok(Put {
            at: Self::entry_at(place, copy),
            bytes: entry.encode(self.log, place),
            record,
            is_new,
        })
    }

    /// Pages that the record of a volume may have: as many as it has, or the most that are free in one piece.
    pub fn room(&self, name: &str, identity: [u8; 16]) -> u64 {
        let (mut at, mut most) = (ENTRY_PAGES, 0);
        for range in self.taken() {
            most = range.start.saturating_sub(at).max(most);
            at = at.max(range.end);
        }
        let had = self.record(name, identity);
        let had = had.map_or(0, |had| had.end - had.start);
        had.max(most).max((self.len / UNIT).saturating_sub(at))
    }

    /// Pages of records, in their order.
    fn taken(&self) -> Vec<Range<u64>> {
        let slots = self.slots.iter().flatten();
        let mut taken: Vec<_> = slots.filter_map(|slot| slot.record.clone()).collect();
        taken.sort_by_key(|range| range.start);
        taken
    }

    /// The first pages in one piece that no record has.
    fn first_fit(&self, pages: u64) -> Option<Range<u64>> {
        let mut at = ENTRY_PAGES;
        for range in self.taken() {
            if range.start >= at.checked_add(pages)? {
                break;
            }
            at = at.max(range.end);
        }
        let end = at.checked_add(pages)?;
        (end <= self.len / UNIT).then_some(at..end)
    }

    /// Where copy `copy` of the entry of `slot` lies: bytes of the store.
    pub fn entry_at(slot: usize, copy: usize) -> u64 {
        Self::page_at((2 * slot + copy) as u64)
    }

    /// Where page `page` of the area lies.
    pub fn page_at(page: u64) -> u64 {
        TABLES + page * UNIT
    }
}
