//! An open-addressing hash table from keyed hashes to indexes, sized at start.
//!
//! The keys live with what the indexes name; a caller passes the comparison.

use collections::TableIndex;
use pages::prefetch;

#[derive(Clone, Copy)]
struct Slot<I> {
    hash: u32,
    index: I,
}

impl<I: TableIndex> Slot<I> {
    const EMPTY: Self = Slot {
        hash: 0,
        index: I::NONE,
    };
}

/// Maps hashes to indexes; linear probing, deletion by shifting back.
pub(crate) struct Table<I> {
    slots: Box<[Slot<I>]>,
    mask: usize,
    len: usize,
}

impl<I: TableIndex> Table<I> {
    /// A table for up to `entries`, at most half full.
    pub(crate) fn new(entries: usize) -> Self {
        let size = (entries * 2).next_power_of_two().max(8);
        Self {
            slots: vec![Slot::EMPTY; size].into_boxed_slice(),
            mask: size - 1,
            len: 0,
        }
    }

    /// Asks for the memory that [`Table::find`] will look at.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        prefetch(&self.slots[hash as u32 as usize & self.mask]);
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(I) -> bool) -> Option<I> {
        let hash = hash as u32;
        let mut at = hash as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot.index == I::NONE {
                return None;
            }
            if slot.hash == hash && is_it(slot.index) {
                return Some(slot.index);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Adds an entry; the caller knows that it is not there and that `entries` are not exceeded.
    pub(crate) fn insert(&mut self, hash: u64, index: I) {
        debug_assert!(self.len * 2 <= self.mask + 1);
        let hash = hash as u32;
        let mut at = hash as usize & self.mask;
        while self.slots[at].index != I::NONE {
            at = (at + 1) & self.mask;
        }
        self.slots[at] = Slot { hash, index };
        self.len += 1;
    }

    /// Removes the entry of `index`, if it is there.
    pub(crate) fn remove(&mut self, hash: u64, index: I) {
        let mut hole = hash as u32 as usize & self.mask;
        loop {
            let slot = self.slots[hole];
            if slot.index == I::NONE {
                return;
            }
            if slot.index == index {
                break;
            }
            hole = (hole + 1) & self.mask;
        }
        self.len -= 1;
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let slot = self.slots[at];
            if slot.index == I::NONE {
                break;
            }
            // An entry may move into the hole unless its home lies after it.
            let home = slot.hash as usize & self.mask;
            if (at.wrapping_sub(home) & self.mask) >= (at.wrapping_sub(hole) & self.mask) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = Slot::EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ConnectionIndex as Index;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn behaves_like_a_map(ops in prop::collection::vec((any::<bool>(), 0usize..48, 0u64..12), 0..400)) {
            // Few distinct hashes, so that probe runs collide and wrap.
            let spread = |h: u64| h.wrapping_mul(0x3b) | 56;
            let mut table = Table::new(64);
            let mut model: HashMap<Index, u64> = HashMap::new();
            for (add, index, hash) in ops {
                let index = Index::new(index);
                if add {
                    if model.len() < 64 && !model.contains_key(&index) {
                        table.insert(spread(hash), index);
                        model.insert(index, hash);
                    }
                } else if let Some(hash) = model.remove(&index) {
                    table.remove(spread(hash), index);
                }
                for (&index, &hash) in &model {
                    prop_assert_eq!(table.find(spread(hash), |i| i == index), Some(index));
                }
                prop_assert_eq!(table.len, model.len());
            }
        }
    }
}
