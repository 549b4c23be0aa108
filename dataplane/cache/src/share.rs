//! What one volume may hold of what all volumes behind the cache draw on (row Z12).
//!
//! A device that does not answer, or whose writes fail, keeps dirty pages, operations and the pages
//! of its reads. Where there are two volumes or more none takes more of them than it leaves; what it
//! asks for beyond that waits in lists of its own.

use block::VolumeId;

use crate::PageCache;
use crate::entry::Entry;

/// What a volume holds until its device has done something for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    /// Clusters of its dirty pages, and pages without any valid byte that its reads pin: what
    /// cannot be reclaimed.
    pub pages: usize,
    /// Operations.
    pub operations: usize,
    /// Fresh pages that the device reads into.
    pub reading: usize,
    /// Something was refused because others may need what is left.
    pub is_greedy: bool,
    /// An operation was refused: it is asked for again when some have come back.
    pub wants_operation: bool,
}

impl PageCache {
    fn may_take(&self, held: usize, more: usize, left: usize) -> bool {
        !self.is_shared || block::may_take(held, more, left)
    }

    /// Whether the volume may come to hold `more` pages that cannot be reclaimed.
    pub(crate) fn may_hold(&mut self, volume: VolumeId, more: usize) -> bool {
        let most = self.config.pages.min(self.config.clusters);
        let left = most.saturating_sub(self.held_pages);
        let share = &self.volumes[volume].share;
        let may = self.may_take(share.pages, more, left);
        self.volumes[volume].share.is_greedy |= !may;
        may
    }

    /// Whether an operation is free, and the volume may have it.
    pub(crate) fn may_issue(&mut self, volume: VolumeId) -> bool {
        let left = self.free_operations.len();
        let share = &self.volumes[volume].share;
        let may = self.may_take(share.operations, 1, left);
        let share = &mut self.volumes[volume].share;
        share.is_greedy |= !may;
        share.wants_operation |= !may || left == 0;
        may && left > 0
    }

    /// The same of an operation that nothing waits for yet: some are left for what does.
    pub(crate) fn may_issue_early(&mut self, volume: VolumeId) -> bool {
        let reserved = self.config.operations / 4;
        let has_none = self.volumes[volume].share.operations == 0;
        (has_none || self.free_operations.len() > reserved) && self.may_issue(volume)
    }

    /// Whether the volume's device may read into `more` fresh pages, of which `left` are free.
    pub(crate) fn may_read_into(&mut self, volume: VolumeId, more: usize, left: usize) -> bool {
        let share = &self.volumes[volume].share;
        let may = self.may_take(share.reading, more, left);
        self.volumes[volume].share.is_greedy |= !may;
        may
    }

    /// So much less, and so much more, of what a volume has cannot be reclaimed.
    pub(crate) fn hold(&mut self, volume: VolumeId, less: usize, more: usize) {
        let share = &mut self.volumes[volume].share;
        share.pages = share.pages + more - less;
        self.held_pages = self.held_pages + more - less;
    }
}

impl Entry {
    /// Whether the device does not have all of it.
    pub fn is_held(&self) -> bool {
        !self.dirty.is_empty() || self.in_flight
    }

    /// What it counts for while it is. Of a shelf it has a part only, but may be what keeps it.
    pub fn weight(&self) -> usize {
        usize::from(self.clusters).max(1)
    }
}
