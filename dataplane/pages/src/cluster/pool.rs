//! Pools: fixed sets of equal clusters.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;

use super::{Cluster, Fresh};
use crate::arena::{Arena, PAGE_SIZE, PageStructure};
use crate::prefetch::prefetch_small;

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

    /// The first handle to cluster `index`, which has none.
    pub fn hold(&self, index: u32, filled: u32) -> Cluster {
        let unit = &self.units[index as usize];
        unit.handles.set(1);
        unit.filled.set(filled);
        unit.each_structure(self.cluster_size, PageStructure::hold);
        self.held.set(self.held.get() + 1);
        Cluster {
            unit: NonNull::from(unit),
        }
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

/// A fixed set of equal clusters in an arena.
///
/// A cluster is *free* (in the pool), *posted* (a port may receive into it), or
/// *held* (some [`Cluster`] or [`Fresh`] refers to it). It becomes free again
/// when the last handle is dropped. The pool's memory outlives every handle.
pub struct ClusterPool {
    pool: NonNull<Pool>,
}

impl ClusterPool {
    /// Carves `count` clusters of `cluster_size` bytes from `arena`.
    ///
    /// `cluster_size` either divides the page size or is a multiple of it
    /// (row Z1). Returns `None` if the arena has too little left, or the size
    /// is neither.
    pub fn carve(arena: &Rc<Arena>, count: usize, cluster_size: usize) -> Option<Self> {
        let fits = cluster_size > 0
            && (PAGE_SIZE.is_multiple_of(cluster_size) || cluster_size.is_multiple_of(PAGE_SIZE));
        if !fits || u32::try_from(count).is_err() || u32::try_from(cluster_size).is_err() {
            return None;
        }
        let bytes = count.checked_mul(cluster_size)?.next_multiple_of(PAGE_SIZE);
        let base = arena.carve(bytes)?;
        let pool = Pool::leak(arena, (count, cluster_size), base, false);
        Some(Self { pool })
    }

    fn get(&self) -> &Pool {
        // SAFETY: the pool is freed only when it has neither owner nor handles; `self` is the owner.
        unsafe { self.pool.as_ref() }
    }

    /// Size of each cluster in bytes.
    pub fn cluster_size(&self) -> usize {
        self.get().cluster_size
    }

    /// Number of clusters, free or not.
    pub fn len(&self) -> usize {
        self.get().units.len()
    }

    /// Whether the pool has no cluster at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Clusters that some handle holds.
    pub fn held(&self) -> usize {
        self.get().held.get()
    }

    /// Clusters that no handle holds: in the pool or posted to a port. This is
    /// the number back-pressure derives from.
    pub fn unheld(&self) -> usize {
        self.len() - self.held()
    }

    /// Clusters that [`ClusterPool::alloc`] and [`ClusterPool::post`] can still give out.
    pub fn free(&self) -> usize {
        self.get().free.borrow().len()
    }

    /// The arena the pool was carved from.
    pub fn arena(&self) -> &Rc<Arena> {
        &self.get().arena
    }

    /// First byte of the pool's clusters, which lie side by side.
    pub fn base(&self) -> Option<NonNull<u8>> {
        self.get().units.first().map(|unit| unit.address.get())
    }

    /// First byte of cluster `index`.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn address_of(&self, index: u32) -> NonNull<u8> {
        self.get().units[index as usize].address.get()
    }

    /// The cluster whose bytes include `address`.
    pub fn index_of(&self, address: NonNull<u8>) -> Option<u32> {
        let base = self.base()?.as_ptr() as usize;
        let offset = (address.as_ptr() as usize).checked_sub(base)?;
        let index = offset / self.cluster_size();
        (index < self.len()).then_some(index as u32)
    }

    /// Takes a free cluster to be written by the CPU or a device.
    pub fn alloc(&self) -> Option<Fresh> {
        let index = self.get().free.borrow_mut().pop()?;
        Some(Fresh(
            self.get().hold(index, self.get().cluster_size as u32),
        ))
    }

    /// Posts free clusters to a port, to receive into: fills `out` from the front and
    /// returns how many.
    pub fn post(&self, out: &mut [u32]) -> usize {
        let mut free = self.get().free.borrow_mut();
        let n = out.len().min(free.len());
        let keep = free.len() - n;
        out[..n].copy_from_slice(&free[keep..]);
        free.truncate(keep);
        n
    }

    /// Takes back a posted cluster that the port received into.
    ///
    /// The port must have given up the cluster: it writes to it no more.
    ///
    /// # Panics
    /// If `index` is out of range or the cluster is held already.
    pub fn adopt(&self, index: u32) -> Cluster {
        self.adopt_filled(index, self.cluster_size())
    }

    /// As [`ClusterPool::adopt`], when the port says how much it wrote: the
    /// first `filled` bytes, protocol headers included. What lies behind is
    /// free space that a pull-up may copy into (row Z8), and no slice can reach it.
    ///
    /// # Panics
    /// As [`ClusterPool::adopt`], or if the cluster has not `filled` bytes.
    pub fn adopt_filled(&self, index: u32, filled: usize) -> Cluster {
        assert_eq!(
            self.get().units[index as usize].handles.get(),
            0,
            "a port received into a cluster that is still held"
        );
        assert!(
            filled <= self.cluster_size(),
            "a port wrote past its cluster"
        );
        self.get().hold(index, filled as u32)
    }

    /// Asks for the memory that adopting clusters looks at: of all of a burst at once, not of each in its turn.
    #[inline]
    pub fn prefetch(&self, indices: impl Iterator<Item = u32> + Clone) {
        let units = &self.get().units;
        for index in indices.clone() {
            units
                .get(index as usize)
                .into_iter()
                .for_each(prefetch_small);
        }
        for unit in indices.filter_map(|index| units.get(index as usize)) {
            // SAFETY: the structure lies in the arena's table, which lives as long as the pool.
            prefetch_small(unsafe { unit.structure.as_ref() });
        }
    }

    /// Takes back a posted cluster that the port did not use, to be written by the CPU.
    ///
    /// # Panics
    /// As [`ClusterPool::adopt`].
    pub fn adopt_fresh(&self, index: u32) -> Fresh {
        Fresh(self.adopt(index))
    }

    /// Takes back a posted cluster that the port never used.
    ///
    /// # Panics
    /// As [`ClusterPool::adopt`].
    pub fn reclaim(&self, index: u32) {
        drop(self.adopt(index));
    }
}

impl Drop for ClusterPool {
    fn drop(&mut self) {
        self.get().owned.set(false);
        if self.held() == 0 {
            // SAFETY: made by `Box::leak`; no owner and no handle is left.
            drop(unsafe { Box::from_raw(self.pool.as_ptr()) });
        }
    }
}

impl fmt::Debug for ClusterPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterPool")
            .field("len", &self.len())
            .field("cluster_size", &self.cluster_size())
            .field("held", &self.held())
            .finish()
    }
}
