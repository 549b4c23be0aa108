//! Memory pressure (row Z12): reclaim, then compaction, then write-back.

use block::VolumeId;
use pages::{CopyReason, MAX_SEGMENTS, PAGE_SIZE, PullUp};

use crate::PageCache;
use crate::entry::{EntryIndex, Sectors};
use crate::page;
use crate::volumes::Volume;

/// How many pages a search looks at before it gives up. Those that it skips are in
/// flight; when their operation completes, the search is made again.
const LOOKED_AT: usize = 64;

/// Clusters that a page can refer to: one for each segment (row Z8).
const MOST: usize = MAX_SEGMENTS;

impl PageCache {
    /// An entry for a page that has none; reclaims one if all are in use.
    pub(crate) fn new_entry(&mut self, volume: VolumeId, index: u64) -> Option<EntryIndex> {
        if !self.table.has_free() && !self.reclaim() {
            return None;
        }
        let entry = self.table.insert(volume, index)?;
        self.push_front(entry);
        Some(entry)
    }

    /// Marks the page as used again. Reclaim looks at the mark, so that a hit
    /// touches no other page's entry.
    pub(crate) fn touch(&mut self, entry: EntryIndex) {
        self.table.get_mut(entry).used = true;
    }

    fn push_front(&mut self, entry: EntryIndex) {
        self.clock = self.clock.wrapping_add(1);
        let e = self.table.get_mut(entry);
        e.stamp = self.clock;
        let volume = e.volume;
        (self.volumes[volume].lru).push_front(self.table.entries(), entry);
    }

    fn move_to_front(&mut self, entry: EntryIndex) {
        let e = self.table.get_mut(entry);
        e.used = false;
        let volume = e.volume;
        (self.volumes[volume].lru).remove(self.table.entries(), entry);
        self.push_front(entry);
    }

    /// Counts the clusters of an entry whose page has changed.
    pub(crate) fn recount(&mut self, entry: EntryIndex) {
        let e = self.table.get_mut(entry);
        let weight = e.weight();
        let old = std::mem::replace(&mut e.clusters, page::clusters(&e.page));
        self.clusters = self.clusters + usize::from(e.clusters) - usize::from(old);
        if e.is_held() {
            let (volume, new) = (e.volume, e.weight());
            self.hold(volume, weight, new);
        }
        debug_assert!(self.clusters() <= self.config.clusters);
    }

    /// Drops a page that is clean, and that no request and no operation needs.
    pub(crate) fn evict(&mut self, entry: EntryIndex) {
        let e = self.table.get_mut(entry);
        debug_assert!(e.is_reclaimable());
        e.page.clear();
        e.valid = Sectors::NONE;
        e.used = false;
        let volume = e.volume;
        self.recount(entry);
        (self.volumes[volume].lru).remove(self.table.entries(), entry);
        self.table.remove(entry);
        let lru = &self.volumes[volume].lru;
        (self.table).prefetch_ahead(lru.last(), |entries, next| lru.before(entries, next));
    }

    /// Reclaims the least recently used clean page; dirty ones that are older
    /// are written, to be reclaimed next. False if none can be reclaimed now.
    pub(crate) fn reclaim(&mut self) -> bool {
        self.reclaim_clean(true)
    }

    fn reclaim_clean(&mut self, write_dirty: bool) -> bool {
        self.searches = self.searches.wrapping_add(1);
        while let Some(volume) = self.oldest_not_searched() {
            if self.reclaim_of(volume, write_dirty) {
                return true;
            }
            self.volumes[volume].searched = self.searches;
        }
        false
    }

    /// The volume of the least recently used page: what one's device does not end is in the way of
    /// no other.
    fn oldest_not_searched(&self) -> Option<VolumeId> {
        let age = |volume: &Volume| {
            let last = volume.lru.last()?;
            let is_left = volume.searched != self.searches;
            is_left.then(|| self.clock.wrapping_sub(self.table.get(last).stamp))
        };
        let volumes = self.volumes.ids().zip(self.volumes.iter());
        let aged = volumes.filter_map(|(id, volume)| Some((age(volume)?, id)));
        aged.max().map(|(_, volume)| volume)
    }

    fn reclaim_of(&mut self, volume: VolumeId, write_dirty: bool) -> bool {
        let mut next = self.volumes[volume].lru.last();
        let mut looked_at = 0;
        while let Some(entry) = next.filter(|_| looked_at < LOOKED_AT) {
            next = (self.volumes[volume].lru).before(self.table.entries(), entry);
            let e = self.table.get(entry);
            if e.used {
                // Once for every use: this ends.
                self.move_to_front(entry);
                next = next.or(self.volumes[volume].lru.last());
                continue;
            }
            looked_at += 1;
            if e.is_reclaimable() {
                self.evict(entry);
                self.counters.reclaimed += 1;
                return true;
            }
            if e.failed {
                // Not now, and not in the way of others.
                self.move_to_front(entry);
            } else if write_dirty && e.is_writable() && e.pins == 0 {
                self.write_to_reclaim(entry);
            }
        }
        false
    }

    /// Whether the page may come to refer to as many clusters as a page can,
    /// with all others as they are: then the bound holds whatever is merged.
    pub(crate) fn has_room_for(&self, entry: EntryIndex) -> bool {
        let own = usize::from(self.table.get(entry).clusters);
        self.clusters() - own + MOST <= self.config.clusters
    }

    /// As [`PageCache::has_room_for`], and makes room if there is none: by
    /// reclaiming clean pages, then by compaction; and starts to write dirty
    /// ones. False if that has to be waited for.
    pub(crate) fn make_room_for(&mut self, entry: EntryIndex, memory: &PullUp<'_>) -> bool {
        while !self.has_room_for(entry) {
            self.shelves.tidy();
            if !self.has_room_for(entry)
                && !self.reclaim_clean(false)
                && !self.compact(memory)
                && !self.reclaim()
            {
                return false;
            }
        }
        true
    }

    /// Rewrites one page that pins at least twice the bytes that it is worth.
    /// False if none was found among the next few.
    fn compact(&mut self, memory: &PullUp<'_>) -> bool {
        for _ in 0..LOOKED_AT {
            self.hand = self.table.after(self.hand);
            let e = self.table.get(self.hand);
            let worth = e.valid.bytes();
            let busy = e.pins > 0 || e.in_flight;
            if busy || e.clusters == 0 || worth == 0 || page::pinned_bytes(&e.page) < 2 * worth {
                continue;
            }
            if self.compact_page(self.hand, memory) {
                self.counters.compacted += 1;
                return true;
            }
        }
        false
    }

    /// Small pages go to a shelf, larger ones become whole. False if the page
    /// would pin no less, or there is no memory to copy to.
    fn compact_page(&mut self, entry: EntryIndex, memory: &PullUp<'_>) -> bool {
        let e = self.table.get_mut(entry);
        let span = e.valid.span().unwrap_or_default();
        if span.len() <= PAGE_SIZE / 2 {
            // A new shelf is one cluster more before this page is one less: that
            // is within the bound, because a page's own are given up first.
            let room = self.shelves.has_room(span.len());
            let full = self.clusters + self.shelves.len() >= self.config.clusters;
            if !room && (full || !self.shelves.grow(memory)) {
                return false;
            }
            let e = self.table.get_mut(entry);
            self.shelves.place(&mut e.page, e.valid, memory);
        } else {
            let few = e.clusters < 2;
            if few || e.page.make_whole(CopyReason::Compaction, memory).is_err() {
                return false;
            }
        }
        self.recount(entry);
        true
    }

    /// Frees at least `clusters` clusters for other uses (row Z12): those of clean
    /// pages, then by compaction. Those of dirty pages become free when their device
    /// writes complete. Returns how many became free at once.
    pub fn give_back(&mut self, clusters: usize, memory: &PullUp<'_>) -> usize {
        let before = self.clusters();
        while before.saturating_sub(self.clusters()) < clusters {
            self.shelves.tidy();
            if !self.reclaim_clean(false) && !self.compact(memory) && !self.reclaim() {
                break;
            }
        }
        before.saturating_sub(self.clusters())
    }

    /// Drops every page that is clean, and that no request and no operation needs.
    /// Returns how many are left.
    pub fn drop_clean(&mut self) -> usize {
        for volume in self.volumes.ids() {
            let mut next = self.volumes[volume].lru.last();
            while let Some(entry) = next {
                next = (self.volumes[volume].lru).before(self.table.entries(), entry);
                if self.table.get(entry).is_reclaimable() {
                    self.evict(entry);
                }
            }
        }
        while self.shelves.tidy() {}
        self.pages()
    }

    /// Fails the writes of a volume that wait for room when nothing is in flight and nothing can
    /// be written because its device fails. What is dirty stays so.
    pub(crate) fn fail_if_stuck(&mut self) {
        if !self.has_stalled() {
            return;
        }
        let idle = self.free_operations.len() == self.config.operations;
        let full = !self.table.has_free() || self.clusters() + MOST > self.config.clusters;
        for volume in self.volumes.ids() {
            let of = &self.volumes[volume];
            let (busy, failed) = (of.share.operations > 0, !of.failed.is_empty());
            if busy || !failed || of.stalled_writes.is_empty() {
                continue;
            }
            // What others give back makes room for one that has not had its share.
            if idle && full || !self.may_hold(volume, 1) {
                self.fail_stalled(volume);
            }
        }
    }

    fn fail_stalled(&mut self, volume: VolumeId) {
        let error = self.volumes[volume].last_error;
        while let Some(id) = (self.volumes[volume].stalled_writes).pop_front(&mut self.requests) {
            self.stalled -= 1;
            self.requests[id].error = error;
            self.finish(id);
        }
    }
}
