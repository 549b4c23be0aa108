//! Writes: merged into the cache, partial blocks completed from the device.

use block::{VolumeId, WritePolicy};
use pages::{LogicalPage, OutOfPages, PAGE_SIZE, PageRun, PullUp};

use crate::PageCache;
use crate::entry::{EntryIndex, Sectors};
use crate::slot::{Phase, RequestIndex};

enum Merged {
    All,
    /// A block is being read from the device.
    Waits,
    /// Memory or operations ran out.
    Stalled,
}

impl PageCache {
    /// Merges a write of one page at once, if nothing is in its way: what [`PageCache::submit`] and
    /// [`PageCache::next_completion`] do, without a request in between. True if it is complete; `run` is empty
    /// then, as the cache took its bytes. If not, `run` is as it was, and is to be submitted.
    pub fn write_now(&mut self, volume: VolumeId, run: &mut PageRun, memory: &PullUp<'_>) -> bool {
        let Some(place) = self.volumes.get(volume) else {
            return false;
        };
        let (offset, len) = (run.offset(), run.len() as u64);
        let inside = (offset.checked_add(len)).is_some_and(|end| end <= place.config.len);
        let [page] = run.pages_mut() else {
            return false;
        };
        let is_waited_for = place.config.policy == WritePolicy::Through;
        let may_wait = self.deallocating > 0;
        if is_waited_for
            || may_wait
            || !place.stalled_writes.is_empty()
            || !inside
            || page.missing() > 0
        {
            return false;
        }
        let partial = Sectors::partial(&page.extent(), place.config.block);
        let index = offset / PAGE_SIZE as u64;
        let found = self.table.find(volume, index);
        let is_held = found.is_some_and(|entry| self.table.get(entry).is_held());
        if !is_held && !self.may_hold(volume, 1) {
            return false;
        }
        let Some(entry) = found.or_else(|| self.new_entry(volume, index)) else {
            return false;
        };
        self.table.get_mut(entry).pins += 1;
        let is_merged = self.make_room_for(entry, memory)
            && self.table.get(entry).valid.has(partial)
            && self.merge(entry, page, memory).is_ok();
        self.unpin(entry);
        if is_merged {
            run.clear();
            self.write_excess();
        }
        is_merged
    }

    /// Merges the pages of write `id`, as far as it goes. False if it lacks
    /// memory or a free operation and waits for nothing.
    pub(crate) fn step_write(&mut self, id: RequestIndex, memory: &PullUp<'_>) -> bool {
        let slot = &mut self.requests[id];
        if slot.pending > 0 {
            return true;
        }
        if slot.error.is_some() {
            self.finish(id);
            return true;
        }
        let mut run = slot.run.take().expect("a write has its run");
        let merged = self.merge_pages(id, &mut run, memory);
        let slot = &mut self.requests[id];
        let merged = match merged {
            Merged::Waits => true,
            Merged::Stalled => false,
            Merged::All => {
                run.clear();
                true
            }
        };
        let complete = run.is_empty();
        slot.run = Some(run);
        if complete {
            match slot.phase {
                Phase::Merging { durable: true, fua } => {
                    slot.phase = Phase::Settling { fua };
                    self.step(id, memory);
                }
                _ => self.finish(id),
            }
            self.write_excess();
        }
        merged
    }

    fn merge_pages(&mut self, id: RequestIndex, run: &mut PageRun, memory: &PullUp<'_>) -> Merged {
        let first = run.offset() / PAGE_SIZE as u64;
        let (volume, mut cursor) = {
            let slot = &self.requests[id];
            (slot.volume, slot.cursor)
        };
        let block = self.volumes[volume].config.block;
        while cursor < run.pages().len() {
            let index = first + cursor as u64;
            if !self.may_hold(volume, 1) && !self.is_held(volume, index) {
                // It gives some back first.
                self.write_oldest_of(volume);
                return Merged::Stalled;
            }
            let Some(entry) = self.pin_for_write(id, volume, index) else {
                return Merged::Stalled;
            };
            if !self.make_room_for(entry, memory) {
                return Merged::Stalled;
            }
            // Row Z11: a block that is written in part must be there in whole. All of
            // the page is read: it costs the device no more, and without gaps
            // around the block nothing needs to be pulled up.
            let extent = run.pages()[cursor].extent();
            let partial = Sectors::partial(&extent, block);
            if !self.table.get(entry).valid.has(partial) {
                let start = index * PAGE_SIZE as u64;
                let end = self.volumes[volume].config.len;
                let bytes = start..end.min(start + PAGE_SIZE as u64);
                if !self.may_issue(volume) {
                    return Merged::Stalled;
                }
                return match self.blocks_to_read(volume, bytes, memory) {
                    Some(blocks) => {
                        self.counters.completed += 1;
                        self.issue_read(id, false, blocks, false);
                        Merged::Waits
                    }
                    None => Merged::Stalled,
                };
            }
            while self
                .merge(entry, &mut run.pages_mut()[cursor], memory)
                .is_err()
            {
                if !self.reclaim() {
                    return Merged::Stalled;
                }
            }
            cursor += 1;
            self.requests[id].cursor = cursor;
            self.requests[id].pinned = None;
            self.unpin(entry);
        }
        Merged::All
    }

    /// Whether the page counts for its volume already.
    fn is_held(&self, volume: VolumeId, index: u64) -> bool {
        let entry = self.table.find(volume, index);
        entry.is_some_and(|entry| self.table.get(entry).is_held())
    }

    /// The page's entry, kept for the request while it is at that page.
    fn pin_for_write(
        &mut self,
        id: RequestIndex,
        volume: VolumeId,
        index: u64,
    ) -> Option<EntryIndex> {
        if let Some(entry) = self.requests[id].pinned {
            return Some(entry);
        }
        let found = self.table.find(volume, index);
        let entry = found.or_else(|| self.new_entry(volume, index))?;
        self.table.get_mut(entry).pins += 1;
        self.requests[id].pinned = Some(entry);
        Some(entry)
    }

    /// Lays `page` over the entry's, in one step: no read sees half of it.
    fn merge(
        &mut self,
        entry: EntryIndex,
        page: &mut LogicalPage,
        memory: &PullUp<'_>,
    ) -> Result<(), OutOfPages> {
        let extent = page.extent();
        let e = self.table.get_mut(entry);
        if extent == (0..PAGE_SIZE) {
            std::mem::swap(&mut e.page, page);
        } else {
            let mut merged = e.page.clone();
            let mut at = extent.start;
            for segment in page.segments() {
                merged
                    .write_over_gaps(at, segment.clone(), memory)
                    .map_err(|_| OutOfPages)?;
                at += segment.len();
            }
            e.page = merged;
        }
        let block = self.volumes[e.volume].config.block;
        let touched = Sectors::blocks(&extent, block);
        e.used = !e.valid.is_empty();
        debug_assert!(e.valid.has(Sectors::partial(&extent, block)));
        e.valid = e.valid.or(touched);
        self.recount(entry);
        self.mark_dirty(entry, touched);
        self.counters.merged += 1;
        Ok(())
    }

    /// The sectors were written just now.
    fn mark_dirty(&mut self, entry: EntryIndex, sectors: Sectors) {
        let e = self.table.get_mut(entry);
        let volume = &mut self.volumes[e.volume];
        volume.writes += 1;
        if e.dirty.is_empty() {
            e.since = volume.writes;
            if !e.in_flight {
                self.dirty_pages += 1;
                volume.dirty.push_back(self.table.entries(), entry);
                let e = self.table.get(entry);
                let (volume, weight) = (e.volume, e.weight());
                self.hold(volume, 0, weight);
            }
        }
        let e = self.table.get_mut(entry);
        e.dirty = e.dirty.or(sectors);
    }
}
