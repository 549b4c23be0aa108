//! A log is made empty and ready for a run.

use mutant::mutant;

use super::{Agreed, Highest, STORES_MAX, Store, Stores, tables};
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
/// all of it replayed and the drives flushed. Tables stay as they are; a store that does not have all of them gets them. A
/// store that fails here is out.
///
/// # Errors
/// All stores failed, or those that have the tables. The log is as it was, or as it was to be.
///
/// # Panics
/// If the tables area would be shorter than it was, or no store is among them that has the tables.
pub async fn begin<S: Store>(
    stores: &Stores<'_, S>,
    agreed: &Agreed,
    mut superblock: Superblock,
) -> Result<Begun, S::Error> {
    let highest = agreed.highest;
    let tables_len = superblock.layout.tables_len;
    let is_kept = agreed.tables_len() == 0 || !agreed.keepers(stores).is_empty();
    assert!(
        is_kept && tables_len >= agreed.tables_len(),
        "tables would be lost"
    );
    // One that is behind is the first to say that there is nothing: what it has left must not be taken for the log.
    let mut order: Vec<usize> = (0..stores.len()).filter(|&i| stores[i].is_some()).collect();
    order.sort_by_key(|&i| !agreed.behind[i]);
    superblock.generation = highest.generation + 1;
    if agreed.is_parted {
        superblock.generation += PARTED;
    }
    let mut ready = Ready::of(agreed, stores);
    let copies = keep_tables(stores, agreed, &mut superblock, &mut order, &mut ready).await?;
    if order.len() > 1 && agreed.are_new != [false; STORES_MAX] {
        make_ready(stores, agreed, &superblock, &mut order, &mut ready).await?;
        superblock.generation = superblock.generation.max(2);
        if order.len() == 1 {
            // What the one that failed may say by now does not count.
            superblock.generation += PARTED;
        }
    }
    if let Some((from, to)) = copies.filter(|(_, to)| order.contains(to)) {
        let copied = tables::copy(stores, agreed, (from, to), superblock.log).await?;
        if copied.is_err() {
            order.retain(|&i| i != to);
        }
    }
    loop {
        let members = match order[..] {
            [one] => Members::only(agreed.members[one]),
            _ => Members::BOTH,
        };
        let region = empty(highest, superblock.generation, members);
        let mut failed = None;
        for &i in &order {
            let begun = match std::mem::replace(&mut ready.are_alike[i], true) {
                false => make_alike(stores, i, agreed).await,
                true => Ok(()),
            };
            let begun = match begun {
                Ok(()) => begin_one(stores, i, agreed, &superblock, region, &mut ready).await,
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

/// How far stores are.
#[derive(Default)]
struct Ready {
    /// All four copies of each superblock are alike.
    are_alike: [bool; STORES_MAX],
    /// What is in the tables area are entries, or zeros.
    has_area: [bool; STORES_MAX],
}

impl Ready {
    fn of<S: Store>(agreed: &Agreed, stores: &Stores<'_, S>) -> Self {
        let mut ready = Self::default();
        let keepers = agreed.keepers(stores);
        // One that was out, or has no area yet, gets the tables before it is one of those that have them.
        for place in 0..stores.len() {
            let has_area = !keepers.is_empty() && !agreed.are_new[place];
            ready.has_area[place] = has_area || keepers.contains(&place);
        }
        ready
    }
}

/// Makes tables alike on the stores that have all of them. Where only one of two has, the log begins on it alone first: then
/// nothing counts that is overwritten on the other one, nor what that has. From where to where tables are to be copied.
async fn keep_tables<S: Store>(
    stores: &Stores<'_, S>,
    agreed: &Agreed,
    superblock: &mut Superblock,
    order: &mut Vec<usize>,
    ready: &mut Ready,
) -> Result<Option<(usize, usize)>, S::Error> {
    let keepers = agreed.keepers(stores);
    if let Err((failed, error)) = tables::make_alike(stores, &keepers, superblock.log).await {
        // The other one has them, too.
        order.retain(|&i| i != failed);
        superblock.generation += PARTED;
        return if order.is_empty() {
            Err(error)
        } else {
            Ok(None)
        };
    }
    let other = order.iter().copied().find(|i| !keepers.contains(i));
    let (&[keeper], Some(other)) = (&keepers[..], other) else {
        return Ok(None);
    };
    if agreed.behind[keeper] {
        // The other one had alone what this one has not.
        superblock.generation += PARTED;
    }
    let alone = Members::only(agreed.members[keeper]);
    let region = empty(agreed.highest, superblock.generation, alone);
    make_alike(stores, keeper, agreed).await?;
    ready.are_alike[keeper] = true;
    begin_one(stores, keeper, agreed, superblock, region, ready).await?;
    superblock.generation += 1;
    Ok(Some((keeper, other)))
}

/// Makes stores that have nothing of the log into its own, as the first of a log is made: whenever the power goes, such
/// a store counts as blank or is one of the log's. Two that are new both say that the other one has as much, and that
/// the log is closed: either may be found with the other one blank, and none may go on without the other one.
async fn make_ready<S: Store>(
    stores: &Stores<'_, S>,
    agreed: &Agreed,
    superblock: &Superblock,
    order: &mut Vec<usize>,
    ready: &mut Ready,
) -> Result<(), S::Error> {
    for i in order.clone().into_iter().filter(|&i| agreed.are_new[i]) {
        let mut superblock = superblock.clone();
        superblock.generation = 1;
        let mut region = empty(Highest::default(), 1, Members::BOTH);
        match order[..] {
            [_] => region.members = Members::only(agreed.members[i]),
            _ => region.is_closed = agreed.opened.is_none(),
        }
        match begin_one(stores, i, agreed, &superblock, region, ready).await {
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
    ready: &mut Ready,
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
                if mutant!("log-replayed-twice") && agreed.opened.is_some() {
                    continue;
                }
                unit[..REGION_SUPERBLOCK].copy_from_slice(&bytes);
                store.write(at, &unit).await?;
            }
        }
        store.flush().await?;
    }
    // Where halves were, too: nothing of them counts any more.
    if superblock.layout.tables_len > 0 && !std::mem::replace(&mut ready.has_area[place], true) {
        tables::make_blank(store).await?;
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
