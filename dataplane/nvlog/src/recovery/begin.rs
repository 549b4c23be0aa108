//! A log is made empty and ready for a run.

use super::{Agreed, Highest, STORES_MAX, Store, Stores};
use crate::layout::{Layout, REGION_SUPERBLOCK, UNIT};
use crate::superblock::{Members, RegionSuperblock, Superblock, WAVES};

/// How much higher the generations are of a store that a start lets go on without one that may have as much: higher than
/// any that the other one may have come to.
pub(super) const PARTED: u64 = 1 << 40;

/// A log that has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The superblocks of its regions.
    pub regions: Vec<RegionSuperblock>,
    /// Which of the log's stores each is, by their places among those that are configured; `None`: it is out.
    pub members: [Option<u8>; STORES_MAX],
}

/// Makes the log empty and ready for a run, on all stores that are there: `superblock` says how it lays it out, and
/// of which volumes; its generation, its store's length and which store it is are set here. `agreed` is what was there,
/// all of it replayed and the drives flushed. A store that fails here is out.
///
/// # Errors
/// All stores failed. The log is as it was, or as it was to be.
pub async fn begin<S: Store>(
    stores: &Stores<'_, S>,
    agreed: &Agreed,
    mut superblock: Superblock,
) -> Result<Begun, S::Error> {
    let highest = agreed.highest;
    // One that is behind is the first to say that there is nothing: what it has left must not be taken for the log.
    let mut order: Vec<usize> = (0..stores.len()).filter(|&i| stores[i].is_some()).collect();
    order.sort_by_key(|&i| !agreed.behind[i]);
    superblock.generation = highest.generation + 1;
    if order.len() > 1 && agreed.are_new != [false; STORES_MAX] {
        make_ready(stores, agreed, &superblock, &mut order).await?;
        superblock.generation = superblock.generation.max(2);
        if order.len() == 1 {
            // What the one that failed may say by now does not count.
            superblock.generation += PARTED;
        }
    }
    if agreed.is_parted {
        superblock.generation += PARTED;
    }
    let mut are_alike = [false; STORES_MAX];
    loop {
        let members = match order[..] {
            [one] => Members::only(agreed.members[one]),
            _ => Members::BOTH,
        };
        let region = empty(highest, superblock.generation, members);
        let mut failed = None;
        for &i in &order {
            let begun = match std::mem::replace(&mut are_alike[i], true) {
                false => make_alike(stores, i, agreed).await,
                true => Ok(()),
            };
            let begun = match begun {
                Ok(()) => begin_one(stores, i, agreed, &superblock, region).await,
                failed => failed,
            };
            if let Err(error) = begun {
                failed = Some((i, error));
                break;
            }
        }
        match failed {
            None => {
                let member = |i: usize| order.contains(&i).then_some(agreed.members[i]);
                return Ok(Begun {
                    regions: vec![region; superblock.layout.regions as usize],
                    members: [0, 1].map(member),
                });
            }
            Some((_, error)) if order.len() == 1 => return Err(error),
            Some((out, _)) => order.retain(|&i| i != out),
        }
        superblock.generation += PARTED;
    }
}

/// Makes stores that have nothing of the log into its own, as the first of a log is made: whenever the power goes, such
/// a store counts as blank or is one of the log's. Two that are new both say that the other one has as much, and that
/// the log is closed: either may be found with the other one blank, and none may go on without the other one.
async fn make_ready<S: Store>(
    stores: &Stores<'_, S>,
    agreed: &Agreed,
    superblock: &Superblock,
    order: &mut Vec<usize>,
) -> Result<(), S::Error> {
    for i in order.clone().into_iter().filter(|&i| agreed.are_new[i]) {
        let mut superblock = superblock.clone();
        superblock.generation = 1;
        let mut region = empty(Highest::default(), 1, Members::BOTH);
        match order[..] {
            [_] => region.members = Members::only(agreed.members[i]),
            _ => region.is_closed = agreed.opened.is_none(),
        }
        match begin_one(stores, i, agreed, &superblock, region).await {
            Err(error) if order.len() == 1 => return Err(error),
            Err(_) => order.retain(|&other| other != i),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The superblock of a region that has nothing.
fn empty(highest: Highest, generation: u64, members: Members) -> RegionSuperblock {
    RegionSuperblock {
        generation,
        oldest: 0,
        epochs: [highest.epoch + 1, highest.epoch + 2],
        // No run has as many groups between two versions of a superblock.
        sequence: highest.sequence + (1 << 32) + 1,
        previous: 0,
        members,
        is_closed: false,
    }
}

/// Makes all four copies of each superblock of a store alike, as two are.
async fn make_alike<S: Store>(
    stores: &Stores<'_, S>,
    place: usize,
    agreed: &Agreed,
) -> Result<(), S::Error> {
    let (Some((store, _)), false) = (stores[place], agreed.unlike[place].is_empty()) else {
        return Ok(());
    };
    for (at, bytes) in &agreed.unlike[place] {
        store.write(*at, bytes).await?;
    }
    store.flush().await
}

/// Writes all superblocks of one store.
async fn begin_one<S: Store>(
    stores: &Stores<'_, S>,
    place: usize,
    agreed: &Agreed,
    superblock: &Superblock,
    region: RegionSuperblock,
) -> Result<(), S::Error> {
    let Some((store, len)) = stores[place] else {
        return Ok(());
    };
    // Of the old layout, too, they say that there is nothing; and of regions that are no more, that no store is alone.
    let regions = agreed.regions_ever[place].max(superblock.layout.regions as usize);
    for wave in WAVES {
        for copy in wave {
            for number in 0..regions {
                let at = Layout::region_superblock(len, number, copy);
                let mut unit = vec![0; UNIT as usize];
                let bytes = region.encode(superblock.log, number);
                if cfg!(mutant = "log-replayed-twice") && agreed.opened.is_some() {
                    continue;
                }
                unit[..REGION_SUPERBLOCK].copy_from_slice(&bytes);
                store.write(at, &unit).await?;
            }
        }
        store.flush().await?;
    }
    let mut superblock = superblock.clone();
    superblock.member = agreed.members[place];
    superblock.layout.len = len / UNIT * UNIT;
    let bytes = superblock.encode();
    for wave in WAVES {
        for copy in wave {
            store.write(Layout::area(len, copy), &bytes).await?;
        }
        store.flush().await?;
    }
    Ok(())
}
