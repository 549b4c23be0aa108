//! The tables of a log: read when a run begins, made alike on the stores that have all of them, and copied to those that do not.
//!
//! Region 0's superblock says which stores have all of the tables, as its shard writes them.

use super::{Agreed, Buffer, PART, Refusal, STORES_MAX, Store, Stores};
use crate::LogId;
use crate::layout::{ENTRY_PAGES, TABLES, UNIT, VOLUMES_MAX};
use crate::superblock::Bad;
use crate::table::{Entry, Tables};

/// Bytes of all entries.
const ENTRIES: u64 = ENTRY_PAGES * UNIT;

/// The tables that a log has.
#[derive(Clone, Debug)]
pub struct FoundTables {
    /// Which slots and pages are whose.
    pub tables: Tables,
    /// By slot, those that are taken.
    pub entries: Vec<(usize, Entry)>,
}

/// The entries that one store has: of each slot both copies.
type Copies = Vec<[Result<Entry, Bad>; 2]>;

/// Reads the tables of the log that the stores agree on, or of the new one, which is to be `log`; of each slot the newest
/// entry that a store has which has all of them.
///
/// # Errors
/// Some entry cannot be read, or is of a later version; or no store can be read.
pub async fn tables<S: Store>(
    stores: &Stores<'_, S>,
    agreed: &Agreed,
    log: LogId,
) -> Result<FoundTables, Refusal<S::Error>> {
    let opened = agreed.opened.as_ref();
    let log = opened.map_or(log, |opened| opened.superblock.log);
    let mut found = FoundTables {
        tables: Tables::new(log, agreed.tables_len()),
        entries: Vec::new(),
    };
    let (mut all, mut failed) = (Vec::new(), None);
    for place in agreed.keepers(stores) {
        match entries(stores, place, log).await {
            Ok(copies) => all.push(copies),
            // What was acknowledged the other one has.
            Err(error) => failed = Some(error),
        }
    }
    if let (true, Some(error)) = (all.is_empty(), failed) {
        return Err(Refusal::Failed(error));
    }
    for slot in 0..VOLUMES_MAX {
        let copies = || all.iter().flat_map(|copies| &copies[slot]);
        for copy in copies() {
            if let Err(Bad::Version(version)) = copy {
                return Err(Refusal::Version(*version));
            }
        }
        match newest(&all, slot) {
            Some((_, entry)) if entry.end() > agreed.tables_len() => {
                return Err(Refusal::Table { slot });
            }
            Some((copy, entry)) => {
                found.tables.take(slot, copy, &entry);
                if entry.is_used() {
                    found.entries.push((slot, entry));
                }
            }
            // The first version of an entry leaves one copy as it was, whatever becomes of it.
            None => {
                let is_nothing = |copy: &_| matches!(copy, Err(Bad::Blank | Bad::OtherLog));
                let is_lost = |copies: &Copies| !copies[slot].iter().any(is_nothing);
                if !all.is_empty() && all.iter().all(is_lost) {
                    return Err(Refusal::Table { slot });
                }
            }
        }
    }
    Ok(found)
}

/// The newest entry of a slot that any of the stores has, and which copy of it.
fn newest(all: &[Copies], slot: usize) -> Option<(usize, Entry)> {
    let copies = all.iter().flat_map(|copies| (0..).zip(&copies[slot]));
    let good = copies.filter_map(|(copy, entry)| Some((copy, entry.as_ref().ok()?)));
    let newest = good.max_by_key(|(_, entry)| entry.sequence);
    newest.map(|(copy, entry)| (copy, entry.clone()))
}

/// Both copies of each entry, as one store has them.
async fn entries<S: Store>(
    stores: &Stores<'_, S>,
    place: usize,
    log: LogId,
) -> Result<Copies, S::Error> {
    let mut pages = Vec::new();
    if let Some((store, _)) = stores[place] {
        for from in (0..ENTRIES).step_by(PART) {
            let len = (PART as u64).min(ENTRIES - from) as usize;
            let buffer = store.read(TABLES + from, len).await?;
            for at in (0..len).step_by(UNIT as usize) {
                let slot = pages.len() / 2;
                let bytes = buffer.to_vec(at..at + UNIT as usize);
                pages.push(Entry::decode(&bytes, log, slot));
            }
        }
    }
    let mut pages = pages.into_iter();
    let mut copies = Vec::with_capacity(VOLUMES_MAX);
    while let (Some(first), Some(second)) = (pages.next(), pages.next()) {
        copies.push([first, second]);
    }
    Ok(copies)
}

impl Agreed {
    /// Bytes of the tables area of the log; 0, there is none.
    pub fn tables_len(&self) -> u64 {
        // One that has none of them may have begun to have an area.
        self.tables.into_iter().fold(0, u64::max)
    }

    /// Bytes of the tables that the store at `place` has all of.
    pub fn tables_of(&self, place: usize) -> u64 {
        self.tables[place]
    }

    /// Whether the store at `place` has all of the log, and of its tables.
    pub fn has_all(&self, place: usize) -> bool {
        !self.behind[place] && (self.tables_len() == 0 || self.tables[place] > 0)
    }

    /// The stores that are there and have all of the tables.
    pub(super) fn keepers<S: Store>(&self, stores: &Stores<'_, S>) -> Vec<usize> {
        let there = (0..stores.len()).filter(|&place| stores[place].is_some());
        there.filter(|&place| self.tables[place] > 0).collect()
    }
}

/// Makes entries alike on the stores that have all of them: what a crash has left on one alone was not acknowledged, but
/// is taken from now on.
pub(super) async fn make_alike<S: Store>(
    stores: &Stores<'_, S>,
    keepers: &[usize],
    log: LogId,
) -> Result<(), (usize, S::Error)> {
    if keepers.len() < STORES_MAX {
        return Ok(());
    }
    let mut all = Vec::new();
    for &place in keepers {
        let copies = entries(stores, place, log).await;
        all.push(copies.map_err(|error| (place, error))?);
    }
    for (i, &place) in keepers.iter().enumerate() {
        let Some((store, _)) = stores[place] else {
            continue;
        };
        let mut is_changed = false;
        for slot in 0..VOLUMES_MAX {
            let Some((copy, entry)) = newest(&all, slot) else {
                continue;
            };
            if all[i][slot][copy].as_ref() != Ok(&entry) {
                let at = Tables::entry_at(slot, copy);
                let written = store.write(at, &entry.encode(log, slot)).await;
                written.map_err(|error| (place, error))?;
                is_changed = true;
            }
        }
        if is_changed {
            store.flush().await.map_err(|error| (place, error))?;
        }
    }
    Ok(())
}

/// Copies all tables from one store to another. An error of the other one is `Ok(Err(_))`.
///
/// # Errors
/// The one that has them failed.
pub(super) async fn copy<S: Store>(
    stores: &Stores<'_, S>,
    agreed: &Agreed,
    (from, to): (usize, usize),
    log: LogId,
) -> Result<Result<(), S::Error>, S::Error> {
    let (Some((source, _)), Some((target, _))) = (stores[from], stores[to]) else {
        return Ok(Ok(()));
    };
    let found = [entries(stores, from, log).await?];
    let newest = (0..VOLUMES_MAX).filter_map(|slot| newest(&found, slot));
    let entries = newest.filter(|(_, entry)| entry.end() <= agreed.tables_of(from));
    let records = entries.filter_map(|(_, entry)| entry.record);
    for range in std::iter::once(0..ENTRY_PAGES).chain(records) {
        let mut at = Tables::page_at(range.start);
        let end = Tables::page_at(range.end);
        while at < end {
            let len = (PART as u64).min(end - at);
            let buffer = source.read(at, len as usize).await?;
            let bytes = buffer.to_vec(0..len as usize);
            if let Err(error) = target.write(at, &bytes).await {
                return Ok(Err(error));
            }
            at += len;
        }
    }
    Ok(target.flush().await)
}

/// Makes all entries zeros: what was there before was something else.
pub(super) async fn make_blank<S: Store>(store: &S) -> Result<(), S::Error> {
    let zeros = vec![0; PART];
    for from in (0..ENTRIES).step_by(PART) {
        let len = (PART as u64).min(ENTRIES - from) as usize;
        store.write(TABLES + from, &zeros[..len]).await?;
    }
    store.flush().await
}
