//! A connection's received bytes in order, in few clusters whatever the size of
//! the segments they came in (row Z12).

use std::collections::VecDeque;

use crate::ledger::{CopyLedger, CopyReason};
use crate::segment::Slice;

/// Slices in order. Those of full frames stay as they are; of small ones, all
/// but a few are packed into the free space behind the slice before them.
///
/// Call two neighbours *loose* if the second would have fit behind the first.
/// At most `loose` of them are left as they are: the next is packed, and its
/// bytes counted as [`CopyReason::Compaction`]. Of neighbours that are not
/// loose, the second did not fit, so two clusters carry more bytes than the
/// payload `C` that one can. `B` bytes are therefore in at most `2·B/C + 2 +
/// loose` clusters: one for the last, one for the first, which may have been
/// taken in part, and the loose ones.
///
/// That holds if the port says how much it wrote
/// ([`ClusterPool::adopt_filled`](crate::ClusterPool::adopt_filled)), and the
/// slices are all of a frame's payload, which ends where the frame does but for
/// the padding of the shortest.
pub struct Intake {
    slices: VecDeque<Queued>,
    bytes: usize,
    loose: usize,
    loose_max: usize,
}

struct Queued {
    slice: Slice,
    /// It would have fit behind the one before it.
    loose: bool,
}

/// Clusters that `bytes` can be in, with `payload` bytes to a cluster.
pub(crate) fn most_clusters(bytes: usize, payload: usize, loose: usize) -> usize {
    (2 * bytes).div_ceil(payload) + 2 + loose
}

/// Bytes that are in no more than `clusters` clusters.
pub(crate) fn most_bytes(clusters: usize, payload: usize, loose: usize) -> usize {
    clusters.saturating_sub(2 + loose) * payload / 2
}

impl Intake {
    /// An empty queue for up to `slices` slices, of which `loose` may be small
    /// ones not packed.
    pub fn new(slices: usize, loose: usize) -> Self {
        Self {
            slices: VecDeque::with_capacity(slices),
            bytes: 0,
            loose: 0,
            loose_max: loose,
        }
    }

    /// Adds `slice` behind the others.
    ///
    /// # Errors
    /// Gives it back if the queue is full.
    pub fn push(&mut self, slice: Slice, ledger: &CopyLedger) -> Result<(), Slice> {
        if slice.is_empty() {
            return Ok(());
        }
        let len = slice.len();
        let loose = match self.slices.back_mut() {
            Some(last) if last.slice.can_grow(len) => {
                if self.loose == self.loose_max {
                    let copied = last.slice.grow(slice.bytes());
                    ledger.copied(CopyReason::Compaction, copied);
                    self.bytes += len;
                    return Ok(());
                }
                true
            }
            _ => false,
        };
        if self.slices.len() == self.slices.capacity() {
            return Err(slice);
        }
        self.slices.push_back(Queued { slice, loose });
        self.loose += usize::from(loose);
        self.bytes += len;
        Ok(())
    }

    /// Takes up to `n` bytes from the front, without copying: those of the
    /// first slice, or a part of them.
    pub fn take(&mut self, n: usize) -> Option<Slice> {
        let first = self.slices.front_mut()?;
        if n == 0 {
            return None;
        }
        if n < first.slice.len() {
            self.bytes -= n;
            return Some(first.slice.split_to(n));
        }
        let Queued { slice, loose } = self.slices.pop_front()?;
        self.loose -= usize::from(loose);
        self.bytes -= slice.len();
        if let Some(next) = self.slices.front_mut() {
            // It has no neighbour before it any more.
            self.loose -= usize::from(std::mem::take(&mut next.loose));
        }
        Some(slice)
    }

    /// Bytes in the queue.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Slices in the queue; no more clusters are pinned.
    pub fn len(&self) -> usize {
        self.slices.len()
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }
}
