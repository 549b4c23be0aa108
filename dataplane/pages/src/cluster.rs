//! Counted handles to receive buffers and whole pages, and the pools they return to.
//!
//! Counts are plain cells: a pool and its clusters belong to one shard, and the
//! types are neither `Send` nor `Sync`.
#![allow(unsafe_code)]

mod borrowed;
mod pool;
mod table;

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::arena::{Arena, PAGE_SIZE, PageIndex, PageStructure};
use crate::prefetch::prefetch_small;
use table::{Pool, Unit};

pub use borrowed::BorrowedPool;
pub use pool::ClusterPool;

/// A counted handle to a cluster whose contents no longer change, but by whoever has the only handle
/// ([`Slice::bytes_mut`](crate::Slice::bytes_mut)).
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
        self.pool().index_of(self.unit)
    }

    /// First byte.
    pub fn address(&self) -> NonNull<u8> {
        self.unit().address.get()
    }

    /// Address of the byte at `offset`.
    pub(crate) fn address_at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset <= self.size());
        // SAFETY: slices and segments lie inside their cluster.
        unsafe { self.address().add(offset) }
    }

    /// Asks for the memory that every use of the handle looks at.
    pub(crate) fn prefetch(&self) {
        prefetch_small(self.unit());
    }

    /// Size in bytes. A borrowed cluster has no more bytes than are in use: what
    /// lies behind them belongs to the shard that lent it.
    pub fn size(&self) -> usize {
        match self.is_borrowed() {
            true => self.filled(),
            false => self.pool().cluster_size,
        }
    }

    /// Whether another shard has lent it.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.pool().is_borrowed()
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
    pub fn structure_at(&self, offset: usize) -> &PageStructure {
        debug_assert!(offset < self.size());
        let page = (self.address().as_ptr() as usize % PAGE_SIZE + offset) / PAGE_SIZE;
        // SAFETY: the byte lies in the cluster, and the structures of a cluster's pages lie
        // side by side in the arena's table, which lives as long as the pool.
        unsafe { self.unit().structure.add(page).as_ref() }
    }

    /// How many bytes are in use, from the front: all of them, unless the writer of
    /// the cluster said that there are fewer.
    pub fn filled(&self) -> usize {
        self.unit().filled.get() as usize
    }

    /// The bytes in use.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the range is this cluster's, initialised (regions start zeroed or are
        // device memory), and not written while shared handles exist: `append` writes
        // only behind `filled`, and `Slice::bytes_mut` what nobody else has.
        unsafe { std::slice::from_raw_parts(self.address().as_ptr(), self.filled()) }
    }

    /// Free space behind the bytes in use, as far as it lies in one physical page.
    pub fn room(&self) -> usize {
        let end = self.address().as_ptr() as usize + self.filled();
        (PAGE_SIZE - end % PAGE_SIZE).min(self.size() - self.filled())
    }

    /// Copies `bytes` behind the bytes in use and counts them to these.
    /// Returns the offset of the first. The only place that writes to a shared
    /// cluster: nothing can refer to a byte behind `filled` (row Z8).
    ///
    /// # Panics
    /// If there is too little free space.
    pub fn append(&self, bytes: &[u8]) -> usize {
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
    #[inline]
    fn drop(&mut self) {
        let unit = self.unit();
        let left = unit.handles.get() - 1;
        unit.handles.set(left);
        if left == 0 {
            self.give_back();
        }
    }
}

impl Cluster {
    /// The last handle is gone.
    fn give_back(&self) {
        let unit = self.unit();
        if self.pool().take_back(self.index()) {
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

/// A cluster with a single handle, through which it may be written;
/// [`Fresh::freeze`] makes it shareable.
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
