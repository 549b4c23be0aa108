//! What a log store holds when a run begins, and what is done with it.
//!
//! [`open`] reads superblocks; [`replay`] walks the chain of each region and hands out what its
//! groups say, oldest first; [`begin`] makes the log empty for the next run. Each is written as a
//! sequence of what is asked of a [`Store`], which answers at once (a file) or later (a device).
//!
//! Reading takes bounded memory: a group is read in parts of at most [`PART`] bytes. One that fits into
//! one part is read once; a longer one twice, to look at its checksums before anything of it is replayed.

mod blank;
mod refusal;
mod survey;
mod walk;

use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::layout::{AREA, AREAS, Layout, REGION_SUPERBLOCK, REGIONS_MAX, SUPERBLOCK, UNIT};
use crate::superblock::{Bad, RegionSuperblock, Superblock, WAVES, newest};

pub use refusal::{Loss, RANGES_MAX, Refusal};
pub use survey::{RegionSurvey, Survey, VolumeSurvey};
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

/// Reads the superblocks of a store of `len` bytes. `None`: the store is blank, or holds what is left of
/// a log that was being made and never began.
///
/// # Errors
/// There is something that is no log of ours, or a damaged one.
pub async fn open<S: Store>(store: &S, len: u64) -> Result<Option<Opened>, Refusal<S::Error>> {
    let mut copies = [const { Err(Bad::Blank) }; AREAS];
    let is_large = len >= AREAS as u64 * AREA;
    for (copy, place) in copies.iter_mut().enumerate().filter(|_| is_large) {
        *place = Superblock::decode(&take(store, Layout::area(len, copy), SUPERBLOCK).await?);
    }
    let Some(superblock) = newest(&copies, |superblock| superblock.generation) else {
        return match !is_large || blank::never_began(store, len, &copies).await? {
            true => Ok(None),
            false => Err(why(&copies, len)),
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
