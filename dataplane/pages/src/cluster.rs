//! Counted handles to receive buffers and whole pages, and the pools they return to.
//!
//! Counts are plain cells: a pool and its clusters belong to one shard, and the
//! types are neither `Send` nor `Sync`.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::arena::{Arena, PAGE_SIZE, PageIndex, PageStructure};
use crate::segment::Slice;

/// One cluster's entry in its pool's table.
struct Unit {
    address: NonNull<u8>,
    pool: NonNull<Pool>,
    /// Of the physical page that holds the first byte; the others follow it.
    structure: NonNull<PageStructure>,
    handles: Cell<u32>,
    /// Bytes in use, from the front. Those do not change while a handle exists;
    /// the ones behind are free space that nothing refers to.
    filled: Cell<u32>,
}

const _: () = assert!(size_of::<Unit>() == 32, "two entries to a cache line");

impl Unit {
    /// The page structures of all pages the cluster lies in.
    #[inline]
    fn structures(&self, cluster_size: usize) -> impl Iterator<Item = &PageStructure> {
        (0..cluster_size.div_ceil(PAGE_SIZE)).map(|i| {
            // SAFETY: the structures of a cluster's pages lie side by side in the arena's
            // table, which lives as long as the pool.
            unsafe { self.structure.add(i).as_ref() }
        })
    }
}

struct Pool {
    arena: Rc<Arena>,
    cluster_size: usize,
    units: Box<[Unit]>,
    /// Clusters without a handle that are not lent to a port, last freed on top.
    free: RefCell<Vec<u32>>,
    /// Clusters with at least one handle.
    held: Cell<usize>,
    owned: Cell<bool>,
}

/// A fixed set of equal clusters in an arena.
///
/// A cluster is *free* (in the pool), *lent* (a port may receive into it), or
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
        let pool = Box::leak(Box::new(Pool {
            arena: Rc::clone(arena),
            cluster_size,
            units: Box::default(),
            free: RefCell::new((0..count as u32).rev().collect()),
            held: Cell::new(0),
            owned: Cell::new(true),
        }));
        let back = NonNull::from(&mut *pool);
        let first = arena.structure_of(base);
        pool.units = (0..count)
            .map(|i| Unit {
                // SAFETY: cluster `i` lies inside the `bytes` just carved.
                address: unsafe { base.add(i * cluster_size) },
                pool: back,
                // SAFETY: so its first page is one of the pages just carved.
                structure: unsafe { first.add(i * cluster_size / PAGE_SIZE) },
                handles: Cell::new(0),
                filled: Cell::new(cluster_size as u32),
            })
            .collect();
        Some(Self { pool: back })
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

    /// Clusters that no handle holds: in the pool or lent to a port. This is
    /// the number back-pressure derives from.
    pub fn unheld(&self) -> usize {
        self.len() - self.held()
    }

    /// Clusters that [`ClusterPool::alloc`] and [`ClusterPool::lend`] can still give out.
    pub fn free(&self) -> usize {
        self.get().free.borrow().len()
    }

    /// The arena the pool was carved from.
    pub fn arena(&self) -> &Rc<Arena> {
        &self.get().arena
    }

    /// First byte of the pool's clusters, which lie side by side.
    pub fn base(&self) -> Option<NonNull<u8>> {
        self.get().units.first().map(|unit| unit.address)
    }

    /// First byte of cluster `index`.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn address_of(&self, index: u32) -> NonNull<u8> {
        self.get().units[index as usize].address
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
        Some(Fresh(self.hold(index, self.get().cluster_size as u32)))
    }

    /// Lends free clusters to a port: fills `out` from the front and returns how many.
    pub fn lend(&self, out: &mut [u32]) -> usize {
        let mut free = self.get().free.borrow_mut();
        let n = out.len().min(free.len());
        let keep = free.len() - n;
        out[..n].copy_from_slice(&free[keep..]);
        free.truncate(keep);
        n
    }

    /// Takes back a lent cluster that the port received into.
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
        self.hold(index, filled as u32)
    }

    /// Takes back a lent cluster that the port did not use, to be written by the CPU.
    ///
    /// # Panics
    /// As [`ClusterPool::adopt`].
    pub fn adopt_fresh(&self, index: u32) -> Fresh {
        Fresh(self.adopt(index))
    }

    /// Takes back a lent cluster that the port never used.
    ///
    /// # Panics
    /// As [`ClusterPool::adopt`].
    pub fn reclaim(&self, index: u32) {
        drop(self.adopt(index));
    }

    fn hold(&self, index: u32, filled: u32) -> Cluster {
        let pool = self.get();
        let unit = &pool.units[index as usize];
        unit.handles.set(1);
        unit.filled.set(filled);
        unit.structures(pool.cluster_size)
            .for_each(PageStructure::hold);
        pool.held.set(pool.held.get() + 1);
        Cluster {
            unit: NonNull::from(unit),
        }
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

/// A counted handle to a cluster whose contents no longer change.
///
/// Cloning counts up, dropping the last handle frees the cluster.
pub struct Cluster {
    unit: NonNull<Unit>,
}

impl Cluster {
    fn unit(&self) -> &Unit {
        // SAFETY: a handle keeps its pool, and so the pool's table, alive.
        unsafe { self.unit.as_ref() }
    }

    fn pool(&self) -> &Pool {
        // SAFETY: as above.
        unsafe { self.unit().pool.as_ref() }
    }

    /// The cluster's number in its pool.
    pub fn index(&self) -> u32 {
        let table = self.pool().units.as_ptr() as usize;
        ((self.unit.as_ptr() as usize - table) / size_of::<Unit>()) as u32
    }

    /// First byte.
    pub fn address(&self) -> NonNull<u8> {
        self.unit().address
    }

    /// Address of the byte at `offset`.
    pub(crate) fn address_at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset <= self.size());
        // SAFETY: slices and segments lie inside their cluster.
        unsafe { self.address().add(offset) }
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.pool().cluster_size
    }

    /// How many handles share the cluster.
    pub fn handles(&self) -> u32 {
        self.unit().handles.get()
    }

    /// Whether both handles name the same cluster.
    pub fn is_same(&self, other: &Cluster) -> bool {
        self.unit == other.unit
    }

    /// The arena the cluster lies in.
    pub fn arena(&self) -> &Rc<Arena> {
        &self.pool().arena
    }

    /// The physical page that holds the byte at `offset`.
    pub fn page_at(&self, offset: usize) -> PageIndex {
        self.arena().index_of(self.structure_at(offset))
    }

    /// The page structure of that page.
    #[inline]
    pub(crate) fn structure_at(&self, offset: usize) -> &PageStructure {
        debug_assert!(offset < self.size());
        let page = (self.address().as_ptr() as usize % PAGE_SIZE + offset) / PAGE_SIZE;
        // SAFETY: the byte lies in the cluster, and the structures of a cluster's pages lie
        // side by side in the arena's table, which lives as long as the pool.
        unsafe { self.unit().structure.add(page).as_ref() }
    }

    /// How many bytes are in use, from the front: all of them, unless who wrote
    /// the cluster said less.
    pub fn filled(&self) -> usize {
        self.unit().filled.get() as usize
    }

    /// The bytes in use.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the range is this cluster's, initialised (regions start zeroed or are
        // device memory), and not written while shared handles exist: `append` writes
        // only behind `filled`.
        unsafe { std::slice::from_raw_parts(self.address().as_ptr(), self.filled()) }
    }

    /// Free space behind the bytes in use, as far as it lies in one physical page.
    pub(crate) fn room(&self) -> usize {
        let end = self.address().as_ptr() as usize + self.filled();
        (PAGE_SIZE - end % PAGE_SIZE).min(self.size() - self.filled())
    }

    /// Copies `bytes` behind the bytes in use and counts them to these.
    /// Returns the offset of the first. The only place that writes to a shared
    /// cluster: nothing can refer to a byte behind `filled` (row Z8).
    ///
    /// # Panics
    /// If there is too little free space.
    pub(crate) fn append(&self, bytes: &[u8]) -> usize {
        let at = self.filled();
        assert!(bytes.len() <= self.size() - at, "no room in the cluster");
        // SAFETY: the destination is inside the cluster and behind `filled`, where no slice
        // reaches; so it neither overlaps `bytes` nor changes under any reference.
        unsafe {
            let to = self.address().as_ptr().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.unit().filled.set((at + bytes.len()) as u32);
        at
    }

    /// A view of `range`, sharing this cluster.
    ///
    /// # Panics
    /// If `range` is not inside the cluster.
    pub fn slice(self, range: Range<usize>) -> Slice {
        Slice::new(self, range)
    }

    /// Gives up the handle without counting down, as a number that can travel
    /// through a device queue.
    pub fn into_token(self) -> u64 {
        ManuallyDrop::new(self).unit.as_ptr() as u64
    }

    /// Takes back a handle given up by [`Cluster::into_token`].
    ///
    /// # Safety
    /// `token` came from `into_token` on this thread, and is taken back once.
    pub unsafe fn from_token(token: u64) -> Self {
        // SAFETY: the caller vouches that this is the pointer `into_token` gave, never null.
        let unit = unsafe { NonNull::new_unchecked(token as *mut Unit) };
        Self { unit }
    }
}

impl Clone for Cluster {
    fn clone(&self) -> Self {
        let handles = &self.unit().handles;
        handles.set(handles.get() + 1);
        Self { unit: self.unit }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let unit = self.unit();
        let left = unit.handles.get() - 1;
        unit.handles.set(left);
        if left > 0 {
            return;
        }
        let pool = self.pool();
        let held = pool.held.get() - 1;
        pool.held.set(held);
        unit.structures(pool.cluster_size)
            .for_each(PageStructure::release);
        // Capacity for every cluster was reserved at the start: no allocation.
        pool.free.borrow_mut().push(self.index());
        if held == 0 && !pool.owned.get() {
            // SAFETY: made by `Box::leak`; this was the last handle and the owner is gone.
            drop(unsafe { Box::from_raw(unit.pool.as_ptr()) });
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({}×{})", self.index(), self.handles())
    }
}

/// A cluster with one owner, who may write it; [`Fresh::freeze`] makes it shareable.
pub struct Fresh(Cluster);

impl Fresh {
    /// First byte, for a device to write to.
    pub fn address(&self) -> NonNull<u8> {
        self.0.address()
    }

    /// The cluster's number in its pool.
    pub fn index(&self) -> u32 {
        self.0.index()
    }

    /// Ends writing; the bytes do not change from here on.
    pub fn freeze(self) -> Cluster {
        self.0
    }

    /// Ends writing; only the first `filled` bytes are in use, and the rest is
    /// free space for later pull-ups.
    ///
    /// # Panics
    /// If the cluster has not `filled` bytes.
    pub fn freeze_filled(self, filled: usize) -> Cluster {
        assert!(filled <= self.0.size(), "more than the cluster holds");
        self.0.unit().filled.set(filled as u32);
        self.0
    }
}

impl Deref for Fresh {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl DerefMut for Fresh {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the only handle to this cluster is `self`, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.0.address().as_ptr(), self.0.size()) }
    }
}

#[cfg(test)]
mod tests;
