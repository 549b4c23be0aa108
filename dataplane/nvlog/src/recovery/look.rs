//! What a store's superblocks say, copy by copy.

use super::{Buffer, Highest, Opened, Refusal, Store, blank};
use crate::layout::{AREA, AREAS, Layout, REGION_SUPERBLOCK, REGIONS_MAX, SUPERBLOCK, UNIT};
use crate::superblock::{Bad, RegionSuperblock, Superblock, newest};

type Copies<T> = [Result<T, Bad>; AREAS];

/// A store as its superblocks say it is.
#[derive(Clone, Debug)]
pub struct View {
    len: u64,
    copies: Copies<Superblock>,
    /// Of all regions that there is room for; none, if no copy of the store's is good.
    regions: Vec<Copies<RegionSuperblock>>,
    /// It is blank, or holds what is left of a log that was being made and never began.
    pub(super) is_blank: bool,
}

/// Reads the superblocks of a store of `len` bytes.
///
/// # Errors
/// [`Refusal::Failed`]: the store did.
pub async fn look<S: Store>(store: &S, len: u64) -> Result<View, Refusal<S::Error>> {
    let mut copies = [const { Err(Bad::Blank) }; AREAS];
    let is_large = len >= AREAS as u64 * AREA;
    for (copy, place) in copies.iter_mut().enumerate().filter(|_| is_large) {
        *place = Superblock::decode(&take(store, Layout::area(len, copy), SUPERBLOCK).await?);
    }
    let mut view = View {
        len,
        copies,
        regions: Vec::new(),
        is_blank: false,
    };
    if view.superblock().is_none() {
        view.is_blank = !is_large || blank::never_began(store, len, &view.copies).await?;
    }
    let Some(log) = view.voice().map(|superblock| superblock.log) else {
        return Ok(view);
    };
    // Also of those that other runs had: no epoch of theirs is used again.
    for region in 0..REGIONS_MAX {
        let mut copies = [const { Err(Bad::Blank) }; AREAS];
        for (copy, place) in copies.iter_mut().enumerate() {
            let at = Layout::region_superblock(len, region, copy);
            let bytes = take(store, at, UNIT as usize).await?;
            *place = RegionSuperblock::decode(&bytes[..REGION_SUPERBLOCK], log, region);
        }
        view.regions.push(copies);
    }
    Ok(view)
}

/// Reads the superblocks of one store of `len` bytes, which may be one of two. `None`: the store is blank, or holds
/// what is left of a log that was being made and never began.
///
/// # Errors
/// There is something that is no log of ours, or a damaged one.
pub async fn open<S: Store>(store: &S, len: u64) -> Result<Option<Opened>, Refusal<S::Error>> {
    let view = look(store, len).await?;
    let Some(superblock) = view.superblock() else {
        return match view.is_blank {
            true => Ok(None),
            false => Err(view.why()),
        };
    };
    view.fits()?;
    let count = superblock.layout.regions as usize;
    let region = |region| {
        let refused = Refusal::Superblocks {
            region: Some(region),
        };
        view.region(region).ok_or(refused)
    };
    Ok(Some(Opened {
        superblock: superblock.clone(),
        regions: (0..count).map(region).collect::<Result<_, _>>()?,
        readers: vec![[true, false]; count],
    }))
}

async fn take<S: Store>(store: &S, at: u64, len: usize) -> Result<Vec<u8>, Refusal<S::Error>> {
    let buffer = store.read(at, len).await.map_err(Refusal::Failed)?;
    Ok(buffer.to_vec(0..len))
}

/// The newest version that any copy has, two of which need not agree.
fn loudest<T>(copies: &Copies<T>, generation: impl Fn(&T) -> u64) -> Option<&T> {
    copies.iter().flatten().max_by_key(|one| generation(one))
}

impl View {
    /// The store's superblock, if two copies agree.
    pub(super) fn superblock(&self) -> Option<Superblock> {
        newest(&self.copies, |superblock| superblock.generation)
    }

    /// That, or what any copy says. Two agree after every crash: this is what damage has left.
    pub(super) fn voice(&self) -> Option<Superblock> {
        let loudest = loudest(&self.copies, |superblock| superblock.generation);
        self.superblock().or(loudest.cloned())
    }

    /// A region's superblock, if two copies agree.
    pub(super) fn region(&self, region: usize) -> Option<RegionSuperblock> {
        newest(self.regions.get(region)?, |superblock| {
            superblock.generation
        })
    }

    /// That, or what any copy says.
    pub(super) fn region_voice(&self, region: usize) -> Option<RegionSuperblock> {
        let copies = self.regions.get(region)?;
        let loudest = loudest(copies, |superblock| superblock.generation);
        self.region(region).or(loudest.copied())
    }

    /// Copies that are not as two others, or three, and how they are to be: where, and what. Once they are, the next
    /// version leaves two copies of this one wherever it is cut off, or fails.
    pub(super) fn unlike(&self) -> Vec<(u64, Vec<u8>)> {
        let mut unlike = Vec::new();
        let Some(superblock) = self.superblock() else {
            return unlike;
        };
        for (copy, has) in self.copies.iter().enumerate() {
            if has.as_ref() != Ok(&superblock) {
                unlike.push((Layout::area(self.len, copy), superblock.encode().to_vec()));
            }
        }
        for (number, copies) in self.regions.iter().enumerate() {
            let Some(region) = self.region(number) else {
                continue;
            };
            for (copy, has) in copies.iter().enumerate() {
                if has.as_ref() != Ok(&region) {
                    let mut unit = vec![0; UNIT as usize];
                    unit[..REGION_SUPERBLOCK]
                        .copy_from_slice(&region.encode(superblock.log, number));
                    unlike.push((Layout::region_superblock(self.len, number, copy), unit));
                }
            }
        }
        unlike
    }

    /// Whether the log never wrote where a region's superblock is.
    pub(super) fn is_region_blank(&self, region: usize) -> bool {
        let is_blank = |copy: &Result<_, Bad>| matches!(copy, Err(Bad::Blank | Bad::OtherLog));
        let copies = self.regions.get(region);
        copies.is_some_and(|copies| copies.iter().all(is_blank))
    }

    /// How many regions the log has had at most, as far as this store says.
    pub(super) fn regions_ever(&self) -> usize {
        let mut regions = (0..self.regions.len()).rev();
        let last = regions.find(|&region| !self.is_region_blank(region));
        last.map_or(0, |last| last + 1)
    }

    /// Whether it has the size that its superblock says.
    pub(super) fn fits<E>(&self) -> Result<(), Refusal<E>> {
        let (was, is) = match self.voice() {
            Some(superblock) => (superblock.layout.len, self.len),
            None => return Ok(()),
        };
        match was == is / UNIT * UNIT {
            true => Ok(()),
            false => Err(Refusal::Size { was, is }),
        }
    }

    /// The highest numbers of any copy.
    pub(super) fn highest(&self) -> Highest {
        let mut highest = Highest::default();
        for superblock in self.copies.iter().flatten() {
            highest.generation = highest.generation.max(superblock.generation);
        }
        for superblock in self.regions.iter().flatten().flatten() {
            highest = highest.max(Highest {
                generation: superblock.generation,
                epoch: superblock.epochs[0].max(superblock.epochs[1]),
                sequence: superblock.sequence,
            });
        }
        highest
    }

    /// Why no superblock is good.
    pub(super) fn why<E>(&self) -> Refusal<E> {
        let bad = |which: Bad| self.copies.iter().any(|copy| copy == &Err(which));
        let version = self.copies.iter().find_map(|copy| match copy {
            Err(Bad::Version(version)) => Some(*version),
            _ => None,
        });
        match version {
            Some(version) => Refusal::Version(version),
            None => match self.fits() {
                Err(size) => size,
                Ok(()) if self.voice().is_some() => Refusal::Superblocks { region: None },
                Ok(()) if !bad(Bad::Checksum) && !bad(Bad::Fields) => Refusal::Foreign,
                Ok(()) => Refusal::Superblocks { region: None },
            },
        }
    }
}
