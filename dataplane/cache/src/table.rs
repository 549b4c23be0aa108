//! The cached pages, found by <volume, page number>: a fixed table with
//! open addressing, sized at the start.

use block::VolumeId;
use collections::NONE;

use crate::entry::Entry;

/// Entries and the index over them.
pub(crate) struct Table {
    entries: Box<[Entry]>,
    /// Numbers of entries not in use.
    free: Vec<u32>,
    /// Entry numbers by hash, linear probing, at most half full.
    slots: Box<[u32]>,
    seed: u64,
}

impl Table {
    /// Room for `pages` entries. `seed` is the hash's: hosts that choose addresses
    /// cannot choose collisions.
    pub fn new(pages: usize, seed: u64) -> Self {
        let slots = (pages.max(1) * 2).next_power_of_two();
        Self {
            entries: (0..pages).map(|_| Entry::new()).collect(),
            free: (0..pages as u32).rev().collect(),
            slots: vec![NONE; slots].into(),
            seed: seed | 1,
        }
    }

    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// All entries, in use or not, for their lists.
    pub fn entries(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    pub fn get(&self, id: u32) -> &Entry {
        &self.entries[id as usize]
    }

    pub fn get_mut(&mut self, id: u32) -> &mut Entry {
        &mut self.entries[id as usize]
    }

    /// The entry of page `index` of `volume`.
    pub fn find(&self, volume: VolumeId, index: u64) -> Option<u32> {
        let mut slot = self.home(volume, index);
        loop {
            match self.slots[slot] {
                NONE => return None,
                id => {
                    let entry = self.get(id);
                    if entry.index == index && entry.volume == volume {
                        return Some(id);
                    }
                }
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// Makes an entry for page `index` of `volume`, which has none; `None` if
    /// all are in use.
    pub fn insert(&mut self, volume: VolumeId, index: u64) -> Option<u32> {
        let id = self.free.pop()?;
        let entry = self.get_mut(id);
        entry.volume = volume;
        entry.index = index;
        let mut slot = self.home(volume, index);
        while self.slots[slot] != NONE {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.slots[slot] = id;
        Some(id)
    }

    /// Takes entry `id` out of the index.
    pub fn remove(&mut self, id: u32) {
        let mask = self.slots.len() - 1;
        let entry = self.get(id);
        let mut hole = self.home(entry.volume, entry.index);
        while self.slots[hole] != id {
            hole = (hole + 1) & mask;
        }
        // Move back the entries that this one had displaced.
        let mut slot = hole;
        loop {
            slot = (slot + 1) & mask;
            let other = self.slots[slot];
            if other == NONE {
                break;
            }
            let entry = self.get(other);
            let home = self.home(entry.volume, entry.index);
            if slot.wrapping_sub(home) & mask >= slot.wrapping_sub(hole) & mask {
                self.slots[hole] = other;
                hole = slot;
            }
        }
        self.slots[hole] = NONE;
        // Room for every entry was reserved at the start: no allocation.
        self.free.push(id);
    }

    fn home(&self, volume: VolumeId, index: u64) -> usize {
        let mut hash = (index ^ u64::from(volume.0) << 48 ^ self.seed).wrapping_mul(self.seed);
        hash = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash >> 32) as usize & (self.slots.len() - 1)
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
