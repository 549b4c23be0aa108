//! One cached page of a volume, and which of its blocks are valid and dirty.

use std::ops::Range;

use block::VolumeId;
use collections::{Links, Node, table_index};
use pages::{LogicalPage, PAGE_SIZE};

/// The smallest block a device has, in bytes: what validity is tracked by.
pub(crate) const SECTOR: usize = 512;

/// Numbers of the pages that so many bytes from `offset` on touch.
pub(crate) fn pages_of(offset: u64, len: u64) -> Range<u64> {
    const PAGE: u64 = PAGE_SIZE as u64;
    offset / PAGE..(offset + len).div_ceil(PAGE)
}

/// The last multiple of `block`, a power of two, that is not above `at`: a division would take longer than all else
/// that is done with it.
fn down(at: usize, block: usize) -> usize {
    debug_assert!(block.is_power_of_two());
    at & !(block - 1)
}

/// The first that is not below it.
fn up(at: usize, block: usize) -> usize {
    down(at + block - 1, block)
}

/// A set of the eight 512-byte sectors of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sectors(u8);

impl Sectors {
    pub const NONE: Sectors = Sectors(0);

    /// The sectors that have a byte in `range`.
    pub fn touched(range: &Range<usize>) -> Self {
        Self::between(range.start / SECTOR, range.end.div_ceil(SECTOR))
    }

    /// The sectors of all blocks of `block` bytes that have a byte in `range`.
    pub fn blocks(range: &Range<usize>, block: usize) -> Self {
        Self::touched(&(down(range.start, block)..up(range.end, block)))
    }

    /// The sectors of the blocks of `block` bytes that `range` covers in part.
    pub fn partial(range: &Range<usize>, block: usize) -> Self {
        let inner = up(range.start, block)..down(range.end, block);
        Self::blocks(range, block).without(match inner.is_empty() {
            true => Self::NONE,
            false => Self::touched(&inner),
        })
    }

    fn between(from: usize, to: usize) -> Self {
        Self(((1u16 << to) - (1u16 << from.min(to))) as u8)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` are in the set.
    pub fn has(self, other: Self) -> bool {
        other.without(self).is_empty()
    }

    /// How many bytes the sectors have.
    pub fn bytes(self) -> usize {
        self.0.count_ones() as usize * SECTOR
    }

    /// The bytes of the first run of sectors, from its start to before the
    /// first that is not in the set.
    pub fn first_run(self) -> Option<Range<usize>> {
        if self.is_empty() {
            return None;
        }
        let from = self.0.trailing_zeros() as usize;
        let to = from + (self.0 >> from).trailing_ones() as usize;
        Some(from * SECTOR..to * SECTOR)
    }

    /// The bytes from the first to behind the last sector of the set.
    pub fn span(self) -> Option<Range<usize>> {
        if self.is_empty() {
            return None;
        }
        let to = 8 - self.0.leading_zeros() as usize;
        Some(self.0.trailing_zeros() as usize * SECTOR..to * SECTOR)
    }

    /// The bytes of every run of sectors.
    pub fn runs(self) -> impl Iterator<Item = Range<usize>> {
        let mut rest = self;
        std::iter::from_fn(move || {
            let run = rest.first_run()?;
            rest = rest.without(Self::touched(&run));
            Some(run)
        })
    }

    /// The bytes of the first run of these dirty sectors to be written in one
    /// go. Sectors between that are `valid`, though clean, may be written again.
    pub fn first_write(self, valid: Self) -> Option<Range<usize>> {
        let from = self.first_run()?.start;
        let bridged = Self::touched(&(from..PAGE_SIZE)).and(self.or(valid));
        let reach = bridged.first_run()?;
        self.and(Self::touched(&reach)).span()
    }
}

table_index! {
    /// An entry's place in the table of them.
    pub(crate) struct EntryIndex(u32);
}

/// A cached page. Which list it is in follows from what is set:
/// dirty, not in flight and not failed is in its volume's list of dirty pages.
pub(crate) struct Entry {
    /// Sectors that are not `valid` may be NULL, or hold anything.
    pub page: LogicalPage,
    /// The page's number on its volume.
    pub index: u64,
    /// Number of the first write that is in no device write yet; `u64::MAX` if none.
    pub since: u64,
    /// As `since`, for the device writes in flight.
    pub in_flight_since: u64,
    links: [Links<EntryIndex>; 2],
    pub volume: VolumeId,
    /// When it came to the front of its volume's entries, as [`PageCache`](crate::PageCache) counts.
    pub stamp: u32,
    /// Requests and device reads that need the entry to stay.
    pub pins: u16,
    pub valid: Sectors,
    pub dirty: Sectors,
    /// A device write of some of its sectors is in flight.
    pub in_flight: bool,
    /// The last device write failed; the data is dirty still.
    pub failed: bool,
    /// Used again since it came to its place in the list of recent use.
    pub used: bool,
    /// Clusters the page refers to, shelves not counted.
    pub clusters: u8,
}

const _: () = assert!(size_of::<Entry>() <= 128, "two cache lines");

impl Entry {
    pub const LRU: usize = 0;
    pub const DIRTY: usize = 1;

    pub fn new() -> Self {
        Self {
            page: LogicalPage::new(),
            index: 0,
            since: u64::MAX,
            in_flight_since: u64::MAX,
            links: [Links::UNLINKED; 2],
            volume: VolumeId(0),
            stamp: 0,
            pins: 0,
            valid: Sectors::NONE,
            dirty: Sectors::NONE,
            in_flight: false,
            failed: false,
            used: false,
            clusters: 0,
        }
    }

    /// Whether nothing is known of the page: one that is not in use, or is about to be.
    pub fn is_vacant(&self) -> bool {
        self.valid.is_empty()
    }

    /// Whether the page can be dropped: nothing of it is dirty, in flight or pinned.
    pub fn is_reclaimable(&self) -> bool {
        self.pins == 0 && self.dirty.is_empty() && !self.in_flight
    }

    /// Whether a device write may start.
    pub fn is_writable(&self) -> bool {
        !self.dirty.is_empty() && !self.in_flight
    }
}

impl Node for Entry {
    type Index = EntryIndex;
    fn links(&mut self, kind: usize) -> &mut Links<EntryIndex> {
        &mut self.links[kind]
    }
    fn linked(&self, kind: usize) -> Links<EntryIndex> {
        self.links[kind]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z11_partial_blocks_are_those_touched_but_not_covered() {
        let sectors = |range, block| Sectors::partial(&range, block).0;
        assert_eq!(sectors(0..4096, 512), 0);
        assert_eq!(sectors(0..4096, 4096), 0);
        assert_eq!(sectors(512..1024, 512), 0);
        assert_eq!(sectors(512..1024, 4096), 0xff);
        assert_eq!(sectors(100..200, 512), 0b1);
        assert_eq!(sectors(100..1025, 512), 0b101);
        assert_eq!(sectors(512..1025, 512), 0b100);
        assert_eq!(sectors(100..4000, 1024), 0b1100_0011);
    }

    #[test]
    fn runs_and_bridges() {
        let runs: Vec<_> = Sectors(0b1011_0110).runs().collect();
        assert_eq!(runs, [512..1536, 2048..3072, 3584..4096]);
        // Sector 3 is clean but valid: one write; sector 6 is neither.
        let dirty = Sectors(0b1001_0110);
        assert_eq!(dirty.first_write(Sectors(0b0000_1000)), Some(512..2560));
        assert_eq!(dirty.first_write(Sectors::NONE), Some(512..1536));
        assert_eq!(Sectors(0b1111_1111).span(), Some(0..4096));
    }
}
