//! Clusters of another shard, for as long as this one refers to them.

use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

use super::Cluster;
use super::pool::Pool;
use crate::arena::{Arena, PAGE_SIZE};
use crate::parcel::{Parcel, Return};
use crate::segment::Slice;

/// A fixed number of *guests*: segments that other shards handed over, counted
/// here like clusters of this shard.
///
/// When the last handle to a guest is dropped, its home has to be told:
/// [`GuestPool::next_return`] gives what to send. A pool that is dropped before
/// that leaves its guests' homes to keep them for good; nothing is freed too early.
pub struct GuestPool {
    pool: NonNull<Pool>,
    /// Where each guest came from.
    origins: Box<[Cell<Option<Return>>]>,
}

impl GuestPool {
    /// Room for `count` guests at a time.
    pub fn new(count: usize) -> Self {
        let arena: Rc<Arena> = Arena::without_memory(count);
        let pool = Pool::leak(&arena, (count, PAGE_SIZE), arena.base(), true);
        Self {
            pool,
            origins: (0..count).map(|_| Cell::new(None)).collect(),
        }
    }

    fn get(&self) -> &Pool {
        // SAFETY: the pool is freed only when it has neither owner nor handles; `self` is the owner.
        unsafe { self.pool.as_ref() }
    }

    /// Takes a parcel in: its bytes as a slice that this shard may share.
    ///
    /// # Errors
    /// The parcel comes back if there are too many guests.
    pub fn receive(&self, parcel: Parcel) -> Result<Slice, Parcel> {
        let Some(index) = self.get().free.borrow_mut().pop() else {
            return Err(parcel);
        };
        let (address, len, origin) = parcel.open();
        self.origins[index as usize].set(Some(origin));
        // The home keeps the bytes where they are, unchanged, until the return
        // comes, which is made only after the last handle here is gone.
        self.get().units[index as usize].address.set(address);
        let cluster: Cluster = self.get().hold(index, len as u32);
        Ok(cluster.slice(0..len))
    }

    /// The next guest to be sent home, if one has left.
    pub fn next_return(&self) -> Option<Return> {
        let leaving = self.get().leaving.as_ref()?;
        let index = leaving.borrow_mut().pop()?;
        self.get().free.borrow_mut().push(index);
        self.origins[index as usize].take()
    }

    /// How many more can be taken in now.
    pub fn room(&self) -> usize {
        self.get().free.borrow().len()
    }

    /// Guests that some handle refers to.
    pub fn held(&self) -> usize {
        self.get().held.get()
    }
}

impl Drop for GuestPool {
    fn drop(&mut self) {
        self.get().owned.set(false);
        if self.held() == 0 {
            // SAFETY: made by `Pool::leak`; no owner and no handle is left.
            drop(unsafe { Box::from_raw(self.pool.as_ptr()) });
        }
    }
}
