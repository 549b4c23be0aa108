//! Clusters of another shard, for as long as this one refers to them.

use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

use super::Cluster;
use super::table::Pool;
use crate::arena::{Arena, PAGE_SIZE};
use crate::lending::{LentSegment, Return};
use crate::segment::Slice;

/// A fixed number of *borrowed* segments, which other shards lent, counted here
/// like clusters of this shard.
///
/// Once the last handle to a segment is dropped, it has to be returned:
/// [`BorrowedPool::next_return`] gives what to send. If a pool is dropped before
/// that, the lenders keep their segments for good; nothing is freed too early.
pub struct BorrowedPool {
    pool: NonNull<Pool>,
    /// Whose each segment is.
    origins: Box<[Cell<Option<Return>>]>,
}

impl BorrowedPool {
    /// Room for `count` segments at a time.
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

    /// Takes in a segment that was lent: its bytes as a slice that this shard may share.
    ///
    /// # Errors
    /// It comes back if the pool is full.
    pub fn borrow(&self, lent: LentSegment) -> Result<Slice, LentSegment> {
        let Some(index) = self.get().free.borrow_mut().pop() else {
            return Err(lent);
        };
        let (address, len, origin) = lent.open();
        self.origins[index as usize].set(Some(origin));
        // The lender keeps the bytes where they are, unchanged, until the return
        // comes, which is made only after the last handle here is gone.
        self.get().units[index as usize].address.set(address);
        let unit = self.get().hold(index, len as u32);
        Ok(Slice::new(Cluster { unit }, 0..len))
    }

    /// The next segment to be returned, if there is one.
    pub fn next_return(&self) -> Option<Return> {
        let to_return = self.get().to_return.as_ref()?;
        let index = to_return.borrow_mut().pop()?;
        self.get().free.borrow_mut().push(index);
        self.origins[index as usize].take()
    }

    /// How many more can be borrowed now.
    pub fn room(&self) -> usize {
        self.get().free.borrow().len()
    }

    /// Segments that some handle refers to.
    pub fn held(&self) -> usize {
        self.get().held.get()
    }
}

impl Drop for BorrowedPool {
    fn drop(&mut self) {
        self.get().owned.set(false);
        if self.held() == 0 {
            // SAFETY: made by `Pool::leak`; no owner and no handle is left.
            drop(unsafe { Box::from_raw(self.pool.as_ptr()) });
        }
    }
}
