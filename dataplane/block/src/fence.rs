//! What devices still hold of sessions that are gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::io::NamespaceIndex;

/// Ranges that devices may still change on behalf of sessions that are gone.
///
/// A session that ends while a device holds a write of it raises a fence around the blocks
/// of that write, and lowers it when the device has given the write up. What changes blocks
/// behind a fence waits until then: it would otherwise be acknowledged, and overwritten
/// by what its host gave up long before (NVMe base 2.0, 3.7.2).
///
/// One for all shards. Where no fence is raised a write pays one load of a line that nobody
/// writes; the lock is taken when sessions end and while there are fences.
#[derive(Debug, Default)]
pub struct Fences {
    /// How many are raised.
    raised: AtomicUsize,
    /// How many were lowered so far.
    lowered: AtomicUsize,
    fences: Mutex<Vec<Option<Fence>>>,
}

/// Names a fence until it is lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceId(u32);

#[derive(Clone, Copy, Debug)]
struct Fence {
    namespace: NamespaceIndex,
    offset: u64,
    end: u64,
}

impl Fences {
    /// None; with room for `many` before memory is allocated.
    pub fn with_capacity(many: usize) -> Self {
        Self {
            fences: Mutex::new(Vec::with_capacity(many)),
            ..Self::default()
        }
    }

    /// Raises a fence around `len` bytes from `offset` of a namespace.
    pub fn raise(&self, namespace: NamespaceIndex, offset: u64, len: u64) -> FenceId {
        let fence = Some(Fence {
            namespace,
            offset,
            end: offset + len,
        });
        let mut fences = self.lock();
        let free = fences.iter().position(Option::is_none);
        let at = match free {
            Some(at) => {
                fences[at] = fence;
                at
            }
            None => {
                fences.push(fence);
                fences.len() - 1
            }
        };
        self.raised.fetch_add(1, Ordering::Release);
        FenceId(at as u32)
    }

    /// Lowers it: what waited may go on.
    pub fn lower(&self, id: FenceId) {
        let mut fences = self.lock();
        let fence = fences.get_mut(id.0 as usize).and_then(Option::take);
        debug_assert!(fence.is_some(), "a fence is lowered once");
        self.raised.fetch_sub(1, Ordering::Release);
        self.lowered.fetch_add(1, Ordering::Release);
    }

    /// Fences that are raised.
    #[inline]
    pub fn raised(&self) -> usize {
        self.raised.load(Ordering::Acquire)
    }

    /// Fences that were lowered so far: what waits looks again when it has changed.
    #[inline]
    pub fn lowered(&self) -> usize {
        self.lowered.load(Ordering::Acquire)
    }

    /// Whether any of `len` bytes from `offset` is behind a fence of a namespace that `is_same`.
    pub fn covers(
        &self,
        offset: u64,
        len: u64,
        mut is_same: impl FnMut(NamespaceIndex) -> bool,
    ) -> bool {
        let fences = self.lock();
        let mut raised = fences.iter().flatten();
        raised.any(|fence| {
            offset < fence.end && fence.offset < offset + len && is_same(fence.namespace)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Fence>>> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_covers_what_overlaps_it_until_it_is_lowered() {
        let fences = Fences::with_capacity(2);
        let here = |namespace| namespace == NamespaceIndex(3);
        assert!(!fences.covers(0, u64::MAX, here));
        let first = fences.raise(NamespaceIndex(3), 4096, 512);
        let second = fences.raise(NamespaceIndex(3), 4096, 4096);
        assert_eq!(fences.raised(), 2);
        for (offset, len, expected) in [
            (0, 4096, false),
            (0, 4097, true),
            (4608, 1, true),
            (8191, 1, true),
            (8192, 512, false),
        ] {
            assert_eq!(fences.covers(offset, len, here), expected, "{offset} {len}");
        }
        assert!(!fences.covers(4096, 512, |namespace| !here(namespace)));
        fences.lower(second);
        assert!(!fences.covers(4608, 1, here) && fences.covers(4096, 1, here));
        let third = fences.raise(NamespaceIndex(3), 0, 1);
        fences.lower(first);
        fences.lower(third);
        assert_eq!((fences.raised(), fences.lowered()), (0, 3));
        assert!(!fences.covers(0, u64::MAX, here));
    }
}
