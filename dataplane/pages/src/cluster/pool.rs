//! Pools: fixed sets of equal clusters.

use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;

use super::table::Pool;
use super::{Cluster, Fresh};
use crate::arena::{Arena, PAGE_SIZE};
use crate::prefetch::prefetch_small;

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
        let unit = self.get().hold(index, self.get().cluster_size as u32);
        Some(Fresh(Cluster { unit }))
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
        Cluster {
            unit: self.get().hold(index, filled as u32),
        }
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

impl Arena {
    /// Carves the shared page of zeros (row Z5): one physical page that holds
    /// zeros and of which no writable handle exists. `None` if the arena has
    /// no page left.
    pub fn zero_page(self: &Rc<Self>) -> Option<Cluster> {
        let pool = ClusterPool::carve(self, 1, PAGE_SIZE)?;
        let mut page = pool.alloc()?;
        page.fill(0);
        let page = page.freeze();
        page.structure_at(0).set_zeros();
        // The pool goes; the page lives as long as a handle to it.
        Some(page)
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
