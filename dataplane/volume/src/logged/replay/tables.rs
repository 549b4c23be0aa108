//! Tables, at a start: which are of whose volumes, and what the replay marks in records of what was changed. Until then the
//! log's record of a change was the bit.

use std::collections::BTreeMap;

use block::{Fault, VolumeId};
use mirror::{Changed, OnDisk, STANDING};
use nvlog::recovery::{Agreed, Buffer, FoundTables, PART, Refusal, Store, Stores};
use nvlog::{Entry, Tables, UNIT};

use super::{LogPlan, Side};
use crate::logged::tables::{TableArea, TableEntry};

/// Pages of records that are read at a time.
const PAGES: u64 = PART as u64 / UNIT;

/// What of volumes was changed by records that were replayed: of those that have records of that.
pub(super) type Marks = BTreeMap<VolumeId, Changed>;

/// The log's tables.
pub(super) struct Found {
    tables: Tables,
    of_volumes: Vec<(VolumeId, Entry, Option<OnDisk>)>,
    /// In words, of those of no volume that is there.
    pub(super) kept: Vec<String>,
}

impl Found {
    pub(super) fn new(plan: &LogPlan, found: FoundTables) -> Result<Self, String> {
        let (mut of_volumes, mut kept) = (Vec::new(), Vec::new());
        for (slot, entry) in found.entries {
            let of_name = (plan.volumes.iter()).position(|volume| volume.name == entry.name);
            let place = of_name.filter(|&place| plan.volumes[place].identity == entry.identity);
            let Some(place) = place else {
                let what = match of_name {
                    Some(_) => "has another drive than before",
                    None => "is not there",
                };
                let name = &entry.name;
                kept.push(format!("table {slot} is of store {name:?}, which {what}"));
                continue;
            };
            let standing = match &entry.record {
                Some(_) => Some(standing(&entry)?),
                None => None,
            };
            of_volumes.push((VolumeId(place as u16), entry, standing));
        }
        Ok(Self {
            tables: found.tables,
            of_volumes,
            kept,
        })
    }

    /// Nothing of any volume that has a record.
    pub(super) fn marks(&self) -> Marks {
        let with_records = self.of_volumes.iter();
        let mark = |(volume, _, standing): &(VolumeId, Entry, Option<OnDisk>)| {
            Some((*volume, Changed::none(standing.as_ref()?.len)))
        };
        with_records.filter_map(mark).collect()
    }

    /// Makes what was replayed stable in records, and these alike on the stores that have all tables. Stores that fail are gone
    /// from `stores`, if they can be spared. Gives what the run begins with.
    pub(super) async fn mark(
        self,
        stores: &mut Stores<'_, Side>,
        agreed: &Agreed,
        mut marks: Marks,
    ) -> Result<Vec<TableEntry>, Fault> {
        let mut all = Vec::new();
        for (volume, entry, standing) in self.of_volumes {
            let changed = match (standing, entry.record) {
                (Some(standing), Some(pages)) => {
                    let marks = marks.remove(&volume);
                    let record = Record {
                        first: pages.start,
                        count: pages.end - pages.start,
                        standing,
                    };
                    Some(record.mark(stores, agreed, marks).await?)
                }
                _ => None,
            };
            all.push(TableEntry {
                volume,
                content: entry.content,
                changed,
            });
        }
        Ok(all)
    }

    /// The area that the run has, of so many bytes.
    pub(super) fn area(&self, plan: &LogPlan, len: u64) -> TableArea {
        let mut tables = self.tables.clone();
        tables.grow(len);
        let volumes = plan.volumes.iter();
        let volumes = volumes.map(|volume| (volume.name.clone(), volume.identity));
        TableArea::new(tables, volumes.collect())
    }
}

/// The standing that the content of an entry with a record begins with: it says what the record's pages are known by.
fn standing(entry: &Entry) -> Result<OnDisk, String> {
    let name = &entry.name;
    let none = format!(
        "the log's table of store {name:?} has a record of what was changed, and not whose. Nothing was overwritten. Run the program that wrote it, or give up what the log has with --discard-log NAME of each log store"
    );
    let Some(bytes) = entry.content.first_chunk::<STANDING>() else {
        return Err(none);
    };
    match OnDisk::decode(bytes) {
        Ok(standing) => Ok(standing),
        Err(bad) => Err(format!("{none}: {bad}")),
    }
}

/// Why tables cannot be read.
pub(super) fn unreadable(refusal: &Refusal<Fault>) -> String {
    format!(
        "the log's tables cannot be read: {refusal}. Nothing was overwritten. Bring back the store that has them, or give up what the log has with --discard-log NAME of each log store: replicas are copied whole then"
    )
}

/// A record of what was changed of a volume, on disk.
struct Record {
    first: u64,
    count: u64,
    standing: OnDisk,
}

/// A record as one store has it.
struct Read {
    place: usize,
    changed: Changed,
    /// By page, whether it is what it should be.
    are_good: Vec<bool>,
}

impl Record {
    async fn mark(
        &self,
        stores: &mut Stores<'_, Side>,
        agreed: &Agreed,
        marks: Option<Changed>,
    ) -> Result<Changed, Fault> {
        let mut all = Vec::new();
        for place in 0..stores.len() {
            if stores[place].is_none() || agreed.tables_of(place) == 0 {
                continue;
            }
            match self.read(stores, agreed, place).await {
                Ok(read) => all.push(read),
                Err(fault) => spare(stores, agreed, place, fault)?,
            }
        }
        let mut sum = merged(self.standing.len, &mut all);
        sum.extend(marks.iter());
        for read in &all {
            if stores[read.place].is_some()
                && let Err(fault) = self.write(stores, agreed, read, &sum).await
            {
                spare(stores, agreed, read.place, fault)?;
            }
        }
        Ok(sum)
    }

    fn replica(&self) -> mirror::ReplicaId {
        self.standing.standing.replica
    }

    async fn read(
        &self,
        stores: &Stores<'_, Side>,
        agreed: &Agreed,
        place: usize,
    ) -> Result<Read, Fault> {
        let mut read = Read {
            place,
            changed: Changed::all(self.standing.len),
            are_good: Vec::new(),
        };
        // Pages that it has: of another count than its volume's, they are of nothing that is known.
        let mut has = read.changed.pages();
        if has != self.count || Tables::page_at(self.first + has) > end_of(agreed, place) {
            has = 0;
        }
        if let Some((side, _)) = stores[place] {
            let mut page = 0;
            while page < has {
                let n = PAGES.min(has - page);
                let at = Tables::page_at(self.first + page);
                let buffer = side.read(at, (n * UNIT) as usize).await?;
                for i in 0..n {
                    let bytes = buffer.to_vec((i * UNIT) as usize..((i + 1) * UNIT) as usize);
                    let is_good = bytes.first_chunk().is_some_and(|bytes| {
                        let (replica, number) = (self.replica(), self.standing.record);
                        (read.changed).take_page(bytes, page + i, replica, number)
                    });
                    read.are_good.push(is_good);
                }
                page += n;
            }
        }
        read.are_good.resize(read.changed.pages() as usize, false);
        Ok(read)
    }

    /// Writes what a store has otherwise.
    async fn write(
        &self,
        stores: &Stores<'_, Side>,
        agreed: &Agreed,
        read: &Read,
        sum: &Changed,
    ) -> Result<(), Fault> {
        let Some((side, _)) = stores[read.place] else {
            return Ok(());
        };
        let end = end_of(agreed, read.place).saturating_sub(Tables::page_at(self.first));
        let mut is_changed = false;
        for page in 0..sum.pages().min(self.count).min(end / UNIT) {
            let image =
                |changed: &Changed| changed.page(page, self.replica(), self.standing.record);
            let wanted = image(sum);
            if !read.are_good[page as usize] || image(&read.changed) != wanted {
                side.write(Tables::page_at(self.first + page), &wanted)
                    .await?;
                is_changed = true;
            }
        }
        match is_changed {
            true => side.flush().await,
            false => Ok(()),
        }
    }
}

/// Where the tables area of a store ends.
fn end_of(agreed: &Agreed, place: usize) -> u64 {
    nvlog::TABLES + agreed.tables_of(place)
}

/// A store failed: the log begins without it, if the other one has all.
fn spare(
    stores: &mut Stores<'_, Side>,
    agreed: &Agreed,
    place: usize,
    fault: Fault,
) -> Result<(), Fault> {
    let other = 1 - place;
    let is_there = stores.get(other).is_some_and(Option::is_some);
    if !is_there || !agreed.has_all(other) {
        return Err(fault);
    }
    log::error!("a log store failed when its tables were read or marked: {fault}");
    stores[place] = None;
    Ok(())
}

/// What any store says was changed. What one alone says is not was not acknowledged; of a page that is good on none, all
/// is.
fn merged(len: u64, all: &mut [Read]) -> Changed {
    let mut sum = Changed::none(len);
    for page in 0..sum.pages() {
        let is_good = |read: &Read| read.are_good[page as usize];
        if !all.iter().any(is_good) {
            continue;
        }
        for read in all.iter_mut().filter(|read| !read.are_good[page as usize]) {
            read.changed.clear_page(page);
        }
    }
    if all.is_empty() {
        sum = Changed::all(len);
    }
    sum.extend(all.iter().map(|read| &read.changed));
    sum
}
