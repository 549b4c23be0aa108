//! Segments that one shard lends to another: what must cross is a message.
//!
//! Counts are not atomic, so a handle never leaves its shard. The lender keeps
//! it in a [`LentTable`] and sends a [`LentSegment`], which says where the bytes
//! are; the other shard takes it into a [`BorrowedPool`](crate::BorrowedPool),
//! counts it there, and sends a [`Return`] once nothing refers to it any more.
//! Only then does the lender drop its handle.

use std::ptr::NonNull;

use collections::Slab;
use mutant::mutant;

use crate::segment::Segment;

/// A segment's bytes, lent to another shard. It must be taken into a
/// [`BorrowedPool`](crate::BorrowedPool) there, or the lender keeps them for good.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct LentSegment {
    address: usize,
    len: u32,
    origin: Return,
}

/// Names a lent segment to its lender, which may have it back.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Return {
    lender: u16,
    slot: u32,
}

/// The segments that a shard has lent.
pub struct LentTable {
    lender: u16,
    lent: Slab<Segment>,
    /// For whom each was lent.
    holders: Box<[u16]>,
}

impl LentSegment {
    /// The number of the [`LentTable`] that the [`Return`] is for.
    pub fn lender(&self) -> u16 {
        self.origin.lender
    }

    /// Length in bytes, 1 to 4096.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Always false: a segment has at least one byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    pub(crate) fn open(self) -> (NonNull<u8>, usize, Return) {
        let address = std::ptr::with_exposed_provenance_mut(self.address);
        let address = NonNull::new(address).expect("a segment's address");
        (address, self.len as usize, self.origin)
    }
}

impl Return {
    /// The number of the [`LentTable`] that it is for.
    pub fn lender(&self) -> u16 {
        self.lender
    }
}

impl LentTable {
    /// Number `lender` of its shard's tables, for up to `count` segments at a time.
    pub fn new(lender: u16, count: usize) -> Self {
        Self {
            lender,
            lent: Slab::new(count),
            holders: (0..count).map(|_| 0).collect(),
        }
    }

    /// Lends a data or zero segment to another shard, for `holder`: a number of the caller's, by
    /// which it counts what it has lent.
    ///
    /// # Errors
    /// The segment comes back if too many are lent, or it is NULL.
    pub fn lend(&mut self, segment: Segment, holder: u16) -> Result<LentSegment, Segment> {
        let Some(address) = segment.address() else {
            return Err(segment);
        };
        let len = segment.len() as u32;
        let slot = match mutant!("lent-and-freed") {
            true => self.lent.insert(Segment::null(segment.len()))?,
            false => self.lent.insert(segment)?,
        };
        self.holders[slot as usize] = holder;
        Ok(LentSegment {
            address: address.as_ptr().expose_provenance(),
            len,
            origin: Return {
                lender: self.lender,
                slot,
            },
        })
    }

    /// The borrower has returned a segment: its handle is dropped. For whom it was lent.
    ///
    /// # Panics
    /// If the segment was not lent from here, or was returned before.
    pub fn take_back(&mut self, returned: Return) -> u16 {
        assert_eq!(
            returned.lender, self.lender,
            "a segment was returned to another table"
        );
        let segment = self.lent.remove(returned.slot);
        assert!(segment.is_some(), "a segment was returned twice");
        self.holders[returned.slot as usize]
    }

    /// How many more can be lent now.
    pub fn room(&self) -> usize {
        self.lent.room()
    }

    /// Segments lent at the moment.
    pub fn len(&self) -> usize {
        self.lent.len()
    }

    /// Whether none is lent.
    pub fn is_empty(&self) -> bool {
        self.lent.is_empty()
    }
}

impl Drop for LentTable {
    fn drop(&mut self) {
        // Other shards may be reading what they were lent: it stays for good,
        // and with it its pool and its arena.
        for segment in self.lent.drain() {
            std::mem::forget(segment);
        }
    }
}
