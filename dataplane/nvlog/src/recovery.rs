//! What a log store holds when a run begins, and what is done with it.
//!
//! [`look`] reads superblocks, and [`agree`] says which log it is that the stores are of; [`replay`] walks the chain
//! of each region and hands out what its groups say, oldest first; [`tables`] reads what outlives that; [`begin`] makes
//! the log empty for the next run.
//! Each is written as a sequence of what is asked of a [`Store`], which answers at once (a file) or later (a
//! device).
//!
//! Reading takes bounded memory: a group is read in parts of at most [`PART`] bytes. One that fits into
//! one part is read once; a longer one twice, to look at its checksums before anything of it is replayed.

mod agree;
mod begin;
mod blank;
mod look;
mod refusal;
mod survey;
mod tables;
mod walk;

use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::superblock::{RegionSuperblock, Superblock};

pub use agree::{Agreed, Found, agree};
pub use begin::{Begun, begin};
pub use look::{View, look, open};
pub use refusal::{Loss, RANGES_MAX, Refusal};
pub use survey::{RegionSurvey, Survey, VolumeSurvey};
pub use tables::{FoundTables, tables};
pub use walk::{replay, survey};

/// Bytes of a group that are in memory at a time.
pub const PART: usize = 128 << 10;

/// A log store, to whoever opens it.
#[expect(async_fn_in_trait, reason = "nothing here leaves its thread")]
pub trait Store {
    /// Bytes that were read.
    type Buffer: Buffer;
    /// Why the store did not do it.
    type Error;

    /// Reads `len` bytes at `at`; both are multiples of [`UNIT`](crate::UNIT), or of the store's blocks.
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
    /// Deallocates `len` bytes of it, as was done before.
    async fn deallocate(&self, volume: u32, offset: u64, len: u64) -> Result<(), S::Error>;
}

/// The result of what is asked of a [`Store`] that answers at once, such as a file.
///
/// # Panics
/// If it does not.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the store does not answer at once"),
    }
}

/// Stores that a log is on at most.
pub const STORES_MAX: usize = 2;

/// The stores that a log is on, or is to be, as they are configured, with their bytes; `None`: it is not there.
pub type Stores<'a, S> = [Option<(&'a S, u64)>];

/// A log as its superblocks say it is.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The store's; of two, that of the one that knows more.
    pub superblock: Superblock,
    /// Those of its regions.
    pub regions: Vec<RegionSuperblock>,
    /// Of each region, the stores that its groups are read from, by their places among those that are configured.
    readers: Vec<[bool; STORES_MAX]>,
}

/// The highest numbers that any copy of a superblock has, counting or not: what comes later is higher.
#[derive(Clone, Copy, Debug, Default)]
struct Highest {
    generation: u64,
    epoch: u64,
    sequence: u64,
}

impl Highest {
    fn max(self, other: Self) -> Self {
        Self {
            generation: self.generation.max(other.generation),
            epoch: self.epoch.max(other.epoch),
            sequence: self.sequence.max(other.sequence),
        }
    }
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
    /// Acknowledged groups that a store did not have, or not as they were, and that were read from the other one:
    /// by the place of the store that lacked them.
    pub mended: [u64; STORES_MAX],
}
