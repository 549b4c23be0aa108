//! Why a log cannot be used.

use std::fmt;
use std::ops::Range;

use crate::{VERSION, VERSION_SPANS};

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
    /// No copy of a table's entry is as it was written.
    Table {
        /// Its slot.
        slot: usize,
    },
    /// Groups that had been acknowledged cannot be read: what each region lost.
    Lost(Vec<Loss>),
    /// Records of volumes that are not there; their places in the superblock's list.
    Absent(Vec<u32>),
    /// One of two stores that were in step, and the other one is not there: it may have gone on without this one.
    OneOfTwo {
        /// The program had stopped as it should.
        is_closed: bool,
    },
    /// Each of the two stores went on without the other.
    Diverged,
    /// Both stores are the same one of two: one is a copy.
    Twice,
    /// It is of another log than the other store.
    OtherLog,
    /// It is not there, and no other store has a log.
    Missing,
    /// The store failed.
    Failed(E),
}

/// Ranges that a [`Loss`] names at most.
pub const RANGES_MAX: usize = 1000;

/// Groups of a region that had been acknowledged, and are not in the log, or behind one that is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The region.
    pub region: usize,
    /// Where the first of them should be: bytes of the store.
    pub address: u64,
    /// Their numbers.
    pub groups: Range<u64>,
    /// What they changed, as far as headers can be read: volume, first byte, bytes. The first
    /// [`RANGES_MAX`] of them.
    pub ranges: Vec<(u32, u64, u64)>,
    /// How many more there may be.
    pub more: usize,
}

impl<E: fmt::Display> fmt::Display for Refusal<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Foreign => f.write_str("it holds something else than a log"),
            Refusal::Version(version) => write!(
                f,
                "its log is of version {version}, and this program knows versions {VERSION} to {VERSION_SPANS}: run the one that wrote it, or a later one"
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
            Refusal::Table { slot } => write!(
                f,
                "table {slot} is damaged: neither copy of its entry is as it was written"
            ),
            Refusal::Lost(losses) => {
                for (i, loss) in losses.iter().enumerate() {
                    write!(f, "{}{loss}", if i > 0 { ". " } else { "" })?;
                }
                Ok(())
            }
            Refusal::Absent(volumes) => {
                write!(f, "it has records of volumes that are absent: {volumes:?}")
            }
            Refusal::OneOfTwo { .. } => f.write_str(
                "it is one of two stores that were in step, and the other one is not there: that one may have gone on alone",
            ),
            Refusal::Diverged => f.write_str("its two stores went on without each other"),
            Refusal::Twice => {
                f.write_str("it says that it is the same one of two as the other store: one is a copy")
            }
            Refusal::OtherLog => f.write_str("it holds another log than the other store"),
            Refusal::Missing => f.write_str("it is not there, and no other store has a log"),
            Refusal::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.groups;
        write!(
            f,
            "groups {start} to {} of region {}, which had been acknowledged, cannot be read (byte {})",
            end - 1,
            self.region,
            self.address
        )?;
        for (volume, offset, len) in &self.ranges {
            write!(f, "; volume {volume}: {len} bytes from {offset}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "; and {more} more ranges"),
        }
    }
}
