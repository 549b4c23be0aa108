//! Where things lie in a log store.

use std::fmt;

/// Bytes that everything in a log store is aligned to, whatever its blocks are: those of a page,
/// and of the largest block.
pub const UNIT: u64 = 4096;

/// Bytes of a management area.
pub const AREA: u64 = 512 << 10;

/// Management areas: two at the start of a store, two at its end.
pub const AREAS: usize = 4;

/// Bytes of a store's superblock, which a management area begins with.
pub const SUPERBLOCK: usize = 16 << 10;

/// Volumes that a store's superblock has room for.
pub const VOLUMES_MAX: usize = 254;

/// Bytes of a region's superblock. Each has a [`UNIT`] of the management area for itself.
pub const REGION_SUPERBLOCK: usize = 512;

/// Regions that there is room for, and so shards.
pub const REGIONS_MAX: usize = 64;

/// Where the tables area begins: behind the first two management areas, in front of the halves.
pub const TABLES: u64 = 2 * AREA;

/// Pages that a tables area begins with: two copies of an entry for each volume that a superblock has room for.
pub const ENTRY_PAGES: u64 = 2 * VOLUMES_MAX as u64;

/// The shortest half: a group of the longest record fits many times.
pub const HALF_MIN: u64 = 64 << 10;

/// Where things lie in a log store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the store that are used, a multiple of [`UNIT`].
    pub len: u64,
    /// Bytes of its blocks.
    pub block: u32,
    /// Regions, one for each shard of the run that writes.
    pub regions: u32,
    /// Bytes of each of a region's two halves.
    pub half_len: u64,
    /// Bytes of the tables area, a multiple of [`UNIT`]; 0, there is none.
    pub tables_len: u64,
}

/// Why a store cannot be a log store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Blocks of this size.
    Block(u32),
    /// It has this many bytes, and would need that many.
    TooSmall {
        /// Bytes that it has.
        has: u64,
        /// Bytes that it needs.
        needs: u64,
    },
    /// This many shards.
    Regions(u32),
    /// Halves of this many bytes.
    Half(u64),
    /// A tables area of this many bytes.
    Tables(u64),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Block(block) => write!(
                f,
                "a log store has blocks of 512 or 4096 bytes, not of {block}"
            ),
            Unfit::TooSmall { has, needs } => {
                write!(f, "a log store needs {needs} bytes, and this one has {has}")
            }
            Unfit::Regions(regions) => {
                write!(f, "a log has 1 to {REGIONS_MAX} regions, not {regions}")
            }
            Unfit::Half(half_len) => write!(
                f,
                "a half of a log has at least {HALF_MIN} bytes, not {half_len}"
            ),
            Unfit::Tables(tables_len) => write!(
                f,
                "the tables area of a log has at least {} bytes, and whole pages of {UNIT}, not {tables_len}",
                ENTRY_PAGES * UNIT
            ),
        }
    }
}

impl std::error::Error for Unfit {}

impl Layout {
    /// Of a store of `len` bytes for `regions` shards, with halves of `half_len` bytes, or the
    /// longest that there is room for beside a tables area of `tables_len` bytes.
    ///
    /// # Errors
    /// The store is [`Unfit`].
    pub fn new(
        len: u64,
        block: u32,
        regions: u32,
        half_len: Option<u64>,
        tables_len: u64,
    ) -> Result<Self, Unfit> {
        if !matches!(block, 512 | 4096) {
            return Err(Unfit::Block(block));
        }
        if regions == 0 || regions as usize > REGIONS_MAX {
            return Err(Unfit::Regions(regions));
        }
        let has_entries = tables_len == 0 || tables_len >= ENTRY_PAGES * UNIT;
        if !has_entries || !tables_len.is_multiple_of(UNIT) {
            return Err(Unfit::Tables(tables_len));
        }
        let len = len / UNIT * UNIT;
        let halves = 2 * u64::from(regions);
        let beside = (AREAS as u64 * AREA).saturating_add(tables_len);
        let room = len.saturating_sub(beside) / halves / UNIT * UNIT;
        let half_len = match half_len {
            Some(half_len) if half_len < HALF_MIN => return Err(Unfit::Half(half_len)),
            Some(half_len) => half_len / UNIT * UNIT,
            None => room,
        };
        if half_len < HALF_MIN || half_len > room {
            return Err(Unfit::TooSmall {
                has: len,
                needs: Self::needs(regions, half_len, tables_len),
            });
        }
        Ok(Self {
            len,
            block,
            regions,
            half_len,
            tables_len,
        })
    }

    /// Bytes that a store has to have for `regions` with halves of `half_len` bytes, and a tables area of `tables_len`.
    pub fn needs(regions: u32, half_len: u64, tables_len: u64) -> u64 {
        let half = half_len.max(HALF_MIN);
        let halves = half.saturating_mul(2 * u64::from(regions));
        let beside = (AREAS as u64 * AREA).saturating_add(tables_len);
        halves.saturating_add(beside)
    }

    /// Where management area `copy` begins, of a store of `len` bytes.
    pub fn area(len: u64, copy: usize) -> u64 {
        match copy {
            0 | 1 => copy as u64 * AREA,
            _ => len / UNIT * UNIT - (AREAS - copy) as u64 * AREA,
        }
    }

    /// Where copy `copy` of the superblock of `region` lies.
    pub fn region_superblock(len: u64, region: usize, copy: usize) -> u64 {
        Self::area(len, copy) + SUPERBLOCK as u64 + region as u64 * UNIT
    }

    /// Where half `half` of `region` begins.
    pub fn half(&self, region: usize, half: usize) -> u64 {
        TABLES + self.tables_len + (2 * region + half) as u64 * self.half_len
    }
}
