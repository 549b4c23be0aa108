//! The clusters of a pool, and how many handles each has: what handles and owners share.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::arena::{Arena, PAGE_SIZE, PageStructure};

/// One cluster's entry in its pool's table.
pub(super) struct Unit {
    /// Fixed, except for borrowed clusters.
    pub address: Cell<NonNull<u8>>,
    pub pool: NonNull<Pool>,
    /// Of the physical page that holds the first byte; the others follow it.
    pub structure: NonNull<PageStructure>,
    pub handles: Cell<u32>,
    /// Bytes in use, from the front. Those do not change while a handle exists;
    /// the ones behind are free space that nothing refers to.
    pub filled: Cell<u32>,
}

const _: () = assert!(size_of::<Unit>() == 32, "two entries to a cache line");

impl Unit {
    /// Does `what` to the page structures of all pages the cluster lies in.
    #[inline]
    fn each_structure(&self, cluster_size: usize, what: impl Fn(&PageStructure)) {
        // SAFETY: a cluster lies in one page at least.
        what(unsafe { self.structure.as_ref() });
        if cluster_size > PAGE_SIZE {
            for i in 1..cluster_size / PAGE_SIZE {
                // SAFETY: the structures of a cluster's pages lie side by side in the arena's
                // table, which lives as long as the pool.
                what(unsafe { self.structure.add(i).as_ref() });
            }
        }
    }
}

pub(super) struct Pool {
    pub arena: Rc<Arena>,
    pub cluster_size: usize,
    pub units: Box<[Unit]>,
    /// Clusters without a handle that are not posted to a port, last freed on top.
    pub free: RefCell<Vec<u32>>,
    /// Clusters with at least one handle.
    pub held: Cell<usize>,
    pub owned: Cell<bool>,
    /// In a pool of borrowed clusters: those without a handle that were not returned yet.
    pub to_return: Option<RefCell<Vec<u32>>>,
}

impl Pool {
    /// A pool of `count` clusters side by side from `base` on, whose first page
    /// has the structure `first`. Not freed before [`Pool::take_back`] says so,
    /// or its owner finds that nothing is held.
    ///
    /// The clusters lie in pages of `arena`, or nowhere yet if they are `borrowed`.
    pub fn leak(
        arena: &Rc<Arena>,
        (count, cluster_size): (usize, usize),
        base: NonNull<u8>,
        borrowed: bool,
    ) -> NonNull<Pool> {
        let pool = NonNull::from(Box::leak(Box::new(Pool {
            arena: Rc::clone(arena),
            cluster_size,
            units: Box::default(),
            free: RefCell::new((0..count as u32).rev().collect()),
            held: Cell::new(0),
            owned: Cell::new(true),
            to_return: borrowed.then(|| RefCell::new(Vec::with_capacity(count))),
        })));
        let first = arena.structure_of(base);
        let units = (0..count)
            .map(|i| Unit {
                address: Cell::new(match borrowed {
                    true => NonNull::dangling(),
                    // SAFETY: cluster `i` lies inside the bytes carved for the pool.
                    false => unsafe { base.add(i * cluster_size) },
                }),
                pool,
                // SAFETY: the arena's table has a structure for each page of the pool.
                structure: unsafe { first.add(i * cluster_size / PAGE_SIZE) },
                handles: Cell::new(0),
                filled: Cell::new(cluster_size as u32),
            })
            .collect();
        // SAFETY: just made, and nobody else has the pointer yet.
        unsafe { (*pool.as_ptr()).units = units };
        pool
    }

    pub fn is_borrowed(&self) -> bool {
        self.to_return.is_some()
    }

    /// The number of a unit of this pool.
    pub fn index_of(&self, unit: NonNull<Unit>) -> u32 {
        let offset = unit.as_ptr() as usize - self.units.as_ptr() as usize;
        (offset / size_of::<Unit>()) as u32
    }

    /// Cluster `index`, which has no handle, is held by one from now on: by whoever has this entry.
    pub fn hold(&self, index: u32, filled: u32) -> NonNull<Unit> {
        let unit = &self.units[index as usize];
        unit.handles.set(1);
        unit.filled.set(filled);
        unit.each_structure(self.cluster_size, PageStructure::hold);
        self.held.set(self.held.get() + 1);
        NonNull::from(unit)
    }

    /// Cluster `index` has no handle any more. True if the pool has neither
    /// handles nor owner: it is to be freed.
    #[inline]
    pub fn take_back(&self, index: u32) -> bool {
        let held = self.held.get() - 1;
        self.held.set(held);
        self.units[index as usize].each_structure(self.cluster_size, PageStructure::release);
        // Capacity for every cluster was reserved at the start: no allocation.
        match &self.to_return {
            Some(to_return) => to_return.borrow_mut().push(index),
            None => self.free.borrow_mut().push(index),
        }
        held == 0 && !self.owned.get()
    }
}
