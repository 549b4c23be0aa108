//! Bytes of a cluster that are written once more, where they lie: records of TLS are opened and sealed in place.
//!
//! A cluster's bytes do not change once it can be shared, and everybody who has a handle relies on that. TLS is the exception, and the reason
//! why it is none is that nobody else has a handle:
//!
//! * **Received.** A port receives a frame into clusters of its own, and gives them up ([`ClusterPool::adopt`](crate::ClusterPool::adopt)). What the stack keeps of one
//!   is one slice, which it moves from the frame to its queue, and from there to the session; what overlaps it in a frame that was sent again lies in
//!   the clusters of that frame, and is cut off there or dropped, so that each byte of a stream is in one slice alone. Checksums were verified
//!   before. A capture copies a frame when it comes, into memory of its own. So a session that takes a slice whose cluster has one
//!   handle has the only one.
//! * **Sent.** A page that was read for one command is held by that command and by the chunk that is sent. What is in a cache, in a log, on its way to a device, lent to
//!   another shard or queued at a port has handles of its own: [`Cluster::is_sole`] counts them. TCP and the port get the slice afterwards, and
//!   send again what it then has.
//!
//! A slice that is found to be sole may be cut; each part still is the only one of its bytes, whoever is given the others.
#![allow(unsafe_code)]

use crate::cluster::Cluster;
use crate::segment::Slice;

impl Cluster {
    /// Whether nobody has a handle beside this one and `own` others, which the caller vouches for: those by which it holds the bytes
    /// itself, and will not read them again. Never so for what another shard has lent.
    pub fn is_sole(&self, own: u32) -> bool {
        self.handles() <= 1 + own && !self.is_borrowed()
    }
}

impl Slice {
    /// The bytes, to be written once more.
    ///
    /// # Safety
    /// The slice, or the one that it was cut off, was found to be the [only one](Cluster::is_sole) of its cluster, and since then nobody was given a
    /// handle to these bytes. No reference to them is alive, and no device reads or writes them.
    pub unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range lies in the cluster and is initialised, as in `Slice::bytes`; the caller vouches for there being no other
        // reference, on this thread or, as the cluster is neither lent nor borrowed, on another one.
        unsafe { std::slice::from_raw_parts_mut(self.address().as_ptr(), self.len()) }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Arena, BorrowedPool, ClusterPool, HeapRegion, LentTable, PAGE_SIZE, Segment};

    #[test]
    fn a_cluster_is_sole_while_nobody_else_has_a_handle() {
        let arena = Arena::new(HeapRegion::new(1));
        let pool = ClusterPool::carve(&arena, 1, PAGE_SIZE).unwrap();
        let slice = pool.alloc().unwrap().freeze().slice(0..PAGE_SIZE);
        assert!(slice.cluster().is_sole(0));
        let other = slice.clone();
        assert!(!slice.cluster().is_sole(0) && slice.cluster().is_sole(1));
        drop(other);
        assert!(slice.cluster().is_sole(0));
    }

    #[test]
    fn what_is_lent_or_borrowed_is_never_sole() {
        let arena = Arena::new(HeapRegion::new(1));
        let pool = ClusterPool::carve(&arena, 1, PAGE_SIZE).unwrap();
        let slice = pool.alloc().unwrap().freeze().slice(0..PAGE_SIZE);
        let (mut table, borrowed) = (LentTable::new(0, 1), BorrowedPool::new(1));
        let lent = table.lend(Segment::data(slice.clone()), 0).unwrap();
        assert!(!slice.cluster().is_sole(0));
        let there = borrowed.borrow(lent).unwrap();
        assert!(!there.cluster().is_sole(0) && !there.cluster().is_sole(9));
        drop(there);
        let _ = table.take_back(borrowed.next_return().unwrap());
        assert!(slice.cluster().is_sole(0));
    }

    #[test]
    fn bytes_are_written_where_they_lie() {
        let arena = Arena::new(HeapRegion::new(1));
        let pool = ClusterPool::carve(&arena, 1, PAGE_SIZE).unwrap();
        let mut fresh = pool.alloc().unwrap();
        fresh.fill(1);
        let mut slice = fresh.freeze().slice(8..24);
        assert!(slice.cluster().is_sole(0));
        let mut front = slice.split_to(8);
        // SAFETY: it is the only slice of these bytes, and no reference to them is alive.
        unsafe { front.bytes_mut() }.fill(2);
        // SAFETY: as above.
        unsafe { slice.bytes_mut() }.fill(3);
        assert_eq!(
            slice.cluster().bytes()[6..26],
            [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 1, 1]
        );
    }
}
