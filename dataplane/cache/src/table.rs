//! The cached pages, found by <volume, page number>: a fixed table with
//! open addressing, sized at the start.

use block::VolumeId;
use collections::{IndexTable, TableIndex};

use crate::entry::{Entry, EntryIndex};

/// Pages side by side whose slots are: a run of pages is looked for in one cache line.
const TOGETHER: u64 = 4;

/// Which entry, if any, and the hash by which it came here: others are told apart without a look at theirs.
#[derive(Clone, Copy)]
struct Slot {
    id: EntryIndex,
    hash: u32,
}

impl Slot {
    const EMPTY: Slot = Slot {
        id: EntryIndex::NONE,
        hash: 0,
    };
}

pub(crate) type Entries = IndexTable<EntryIndex, Entry>;

/// Entries and the index over them.
pub(crate) struct Table {
    entries: Entries,
    /// Those not in use.
    free: Vec<EntryIndex>,
    /// By hash, linear probing, at most half full.
    slots: Box<[Slot]>,
    seed: u64,
}

impl Table {
    /// Room for `pages` entries. `seed` is the hash's: hosts that choose addresses
    /// cannot choose collisions.
    pub fn new(pages: usize, seed: u64) -> Self {
        let entries = Entries::new(pages, |_| Entry::new());
        let slots = (pages.max(1) * 2).next_power_of_two();
        Self {
            free: entries.indexes().rev().collect(),
            entries,
            slots: vec![Slot::EMPTY; slots].into(),
            seed: seed | 1,
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// The entry after `id`, in use or not; after the last comes the first again.
    pub fn after(&self, id: EntryIndex) -> EntryIndex {
        self.entries.after(id, 1)
    }

    pub fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// All entries, in use or not, for their lists.
    pub fn entries(&mut self) -> &mut Entries {
        &mut self.entries
    }

    pub fn get(&self, id: EntryIndex) -> &Entry {
        &self.entries[id]
    }

    pub fn get_mut(&mut self, id: EntryIndex) -> &mut Entry {
        &mut self.entries[id]
    }

    /// The entry of page `index` of `volume`.
    pub fn find(&self, volume: VolumeId, index: u64) -> Option<EntryIndex> {
        let hash = self.hash(volume, index);
        let mut at = self.home(hash);
        loop {
            let slot = self.slots[at];
            if slot.id == EntryIndex::NONE {
                return None;
            }
            if slot.hash == hash {
                let entry = self.get(slot.id);
                if entry.index == index && entry.volume == volume {
                    return Some(slot.id);
                }
            }
            at = self.behind(at);
        }
    }

    /// As [`Table::find`], of a page whose entry most often is `likely`.
    #[inline]
    pub fn find_likely(
        &self,
        likely: EntryIndex,
        volume: VolumeId,
        index: u64,
    ) -> Option<EntryIndex> {
        let entry = self.get(likely);
        // One that is not in use keeps what it was; but then it has nothing.
        let is_it = entry.index == index && entry.volume == volume && !entry.is_vacant();
        if is_it {
            Some(likely)
        } else {
            self.find(volume, index)
        }
    }

    /// Asks for the memory that [`Table::find`] will look at.
    pub fn prefetch(&self, volume: VolumeId, index: u64) {
        pages::prefetch(&self.slots[self.home(self.hash(volume, index))]);
    }

    /// Asks for what the next steps of whoever goes through a list will look at: of entry `next`, which is there, and of
    /// the one `after` it, which is not.
    pub fn prefetch_ahead(
        &self,
        next: Option<EntryIndex>,
        after: impl FnOnce(&Entries, EntryIndex) -> Option<EntryIndex>,
    ) {
        let Some(next) = next else { return };
        let entry = self.get(next);
        entry.page.prefetch();
        self.prefetch(entry.volume, entry.index);
        if let Some(after) = after(&self.entries, next) {
            pages::prefetch(self.get(after));
        }
    }

    /// Makes an entry for page `index` of `volume`, which has none; `None` if
    /// all are in use.
    pub fn insert(&mut self, volume: VolumeId, index: u64) -> Option<EntryIndex> {
        let id = self.free.pop()?;
        let entry = self.get_mut(id);
        entry.volume = volume;
        entry.index = index;
        let hash = self.hash(volume, index);
        let mut at = self.home(hash);
        while self.slots[at].id != EntryIndex::NONE {
            at = self.behind(at);
        }
        self.slots[at] = Slot { id, hash };
        Some(id)
    }

    /// Takes entry `id` out of the index.
    pub fn remove(&mut self, id: EntryIndex) {
        let mask = self.slots.len() - 1;
        let entry = self.get(id);
        let mut hole = self.home(self.hash(entry.volume, entry.index));
        while self.slots[hole].id != id {
            hole = self.behind(hole);
        }
        // Move back the entries that this one had displaced.
        let mut at = hole;
        loop {
            at = self.behind(at);
            let other = self.slots[at];
            if other.id == EntryIndex::NONE {
                break;
            }
            let home = self.home(other.hash);
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = other;
                hole = at;
            }
        }
        self.slots[hole] = Slot::EMPTY;
        // Room for every entry was reserved at the start: no allocation.
        self.free.push(id);
    }

    fn hash(&self, volume: VolumeId, index: u64) -> u32 {
        let together = index / TOGETHER;
        let mut hash = (together ^ u64::from(volume.0) << 48 ^ self.seed).wrapping_mul(self.seed);
        hash = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash >> 32) as u32 & !(TOGETHER as u32 - 1) | (index % TOGETHER) as u32
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn behind(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_until_they_are_removed() {
        let mut table = Table::new(64, 7);
        let mut model = std::collections::HashMap::new();
        let mut random = testkit::Random::new(1);
        for _ in 0..if cfg!(miri) { 100 } else { 20_000 } {
            let volume = VolumeId(random.below(2));
            let index = random.below(60);
            match model.remove(&(volume, index)) {
                Some(id) => table.remove(id),
                None => {
                    if let Some(id) = table.insert(volume, index) {
                        model.insert((volume, index), id);
                    }
                }
            }
            assert_eq!(table.len(), model.len());
            for index in 0..60 {
                for volume in [0, 1].map(VolumeId) {
                    let expected = model.get(&(volume, index)).copied();
                    assert_eq!(table.find(volume, index), expected);
                }
            }
        }
    }
}
