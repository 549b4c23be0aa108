//! Deallocations: the device is told that a range is needed no more, and then the cache has nothing of it either.
//!
//! While one is under way nothing else is done with a page of its range: it waits for the requests that came
//! before it, and those that come later are held until it has ended, in their order.
//!
//! What is dirty of the range is written first, though nobody wants it any more. A device may leave any part of a range
//! as it is (NVM 3.2.3), and answers with what it was given last then: that has to be what was written last, not
//! something older.

use std::iter;
use std::ops::Range;

use block::{Op, VolumeId};
use collections::List;
use mutant::mutant;
use pages::{PAGE_SIZE, PullUp};

use crate::PageCache;
use crate::entry::{EntryIndex, Sectors, pages_of};
use crate::slot::{Phase, RequestIndex};

const PAGE: u64 = PAGE_SIZE as u64;

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl PageCache {
    /// Holds the request if it has to wait for a deallocation to end; whether it does.
    pub(crate) fn hold_back(&mut self, id: RequestIndex) -> bool {
        let slot = &self.requests[id];
        if !slot.is_of_data() {
            return false;
        }
        let (volume, pages) = (slot.volume, slot.pages());
        let of = &self.volumes[volume];
        // Nothing overtakes what is held already.
        let holds =
            self.has_some_of(&of.deallocating, &pages) || self.has_some_of(&of.held_back, &pages);
        if holds && !mutant!("log-deallocation-overtaken") {
            self.requests[id].is_held = true;
            (self.volumes[volume].held_back).push_back(&mut self.requests, id);
            return true;
        }
        false
    }

    /// Whether a request in the list has to do with the pages.
    fn has_some_of(&self, list: &List<RequestIndex>, pages: &Range<u64>) -> bool {
        let mut all = iter::successors(list.first(), |&id| list.behind(&self.requests, id));
        all.any(|id| overlap(&self.requests[id].pages(), pages))
    }

    /// Starts a deallocation.
    pub(crate) fn begin_deallocation(&mut self, id: RequestIndex) {
        self.deallocating += 1;
        let volume = self.requests[id].volume;
        (self.volumes[volume].deallocating).push_back(&mut self.requests, id);
        self.step_deallocation(id);
    }

    /// Lets deallocations go on that waited for others, or for an operation.
    pub(crate) fn go_on_deallocating(&mut self) {
        if self.deallocating == 0 {
            return;
        }
        for volume in self.volumes.ids() {
            let mut next = self.volumes[volume].deallocating.first();
            while let Some(id) = next {
                next = (self.volumes[volume].deallocating).behind(&self.requests, id);
                self.step_deallocation(id);
            }
        }
    }

    /// Takes a deallocation as far as it goes now.
    pub(crate) fn step_deallocation(&mut self, id: RequestIndex) {
        let slot = &self.requests[id];
        if slot.phase != Phase::Deallocating || slot.pending > 0 {
            return;
        }
        if slot.error.is_some() {
            return self.end_deallocation(id);
        }
        let (volume, pages) = (slot.volume, slot.pages());
        if self.is_in_use(id, volume, &pages)
            || !self.write_dirty(id, volume, &pages)
            || !self.may_issue(volume)
        {
            return;
        }
        let slot = &mut self.requests[id];
        slot.phase = Phase::DeallocatingDevice;
        slot.pending += 1;
        let (offset, len) = (slot.offset, slot.len);
        let slot = self.issue(volume, Op::Deallocate, Some(id), None);
        (slot.offset, slot.len) = (offset, len);
    }

    /// Whether requests that came before `id`, or operations, have to do with the pages.
    fn is_in_use(&self, id: RequestIndex, volume: VolumeId, pages: &Range<u64>) -> bool {
        let at_device = self.operations.iter().any(|operation| {
            let is_under_way = operation.op.is_some() && operation.volume == volume;
            is_under_way && overlap(&pages_of(operation.offset, operation.len), pages)
        });
        let mut requests = self.requests.indexes().zip(self.requests.iter());
        at_device
            || requests.any(|(other, slot)| {
                let is_before = other != id && slot.volume == volume && !slot.is_held;
                is_before && slot.is_of_data() && overlap(&slot.pages(), pages)
            })
    }

    /// Begins to write what is dirty of pages of which nothing is in flight; whether nothing is.
    fn write_dirty(&mut self, id: RequestIndex, volume: VolumeId, pages: &Range<u64>) -> bool {
        if self.dirty_of(volume) == 0 {
            return true;
        }
        let mut is_clean = true;
        self.for_entries(volume, pages, |cache, entry| {
            if cache.table.get(entry).is_writable()
                && cache.write_around(entry, pages.clone(), Some(id), false)
            {
                cache.requests[id].pending += 1;
            }
            let entry = cache.table.get(entry);
            is_clean &= entry.dirty.is_empty() && !entry.in_flight;
        });
        is_clean
    }

    /// Goes through the volume's entries in a range: of a range that is larger than the cache through all that it has.
    fn for_entries(
        &mut self,
        volume: VolumeId,
        pages: &Range<u64>,
        mut each: impl FnMut(&mut Self, EntryIndex),
    ) {
        if pages.end - pages.start <= self.volumes[volume].lru.len() as u64 {
            for index in pages.clone() {
                if let Some(entry) = self.table.find(volume, index) {
                    each(self, entry);
                }
            }
            return;
        }
        let mut next = self.volumes[volume].lru.first();
        while let Some(entry) = next {
            next = (self.volumes[volume].lru).behind(self.table.entries(), entry);
            if pages.contains(&self.table.get(entry).index) {
                each(self, entry);
            }
        }
    }

    /// The device has done it, or something has failed before.
    pub(crate) fn end_deallocation(&mut self, id: RequestIndex) {
        let slot = &self.requests[id];
        let (volume, offset, len) = (slot.volume, slot.offset, slot.len);
        if slot.error.is_none() {
            self.counters.deallocated += len.div_ceil(PAGE);
            self.drop_range(volume, offset..offset + len);
        }
        self.deallocating -= 1;
        let place = &mut self.volumes[volume];
        place.deallocating.remove(&mut self.requests, id);
        place.lets_go = true;
        self.finish(id);
    }

    /// Forgets what the cache has of a range, which is clean and of which nothing is needed.
    fn drop_range(&mut self, volume: VolumeId, bytes: Range<u64>) {
        let pages = pages_of(bytes.start, bytes.end - bytes.start);
        self.for_entries(volume, &pages, |cache, id| {
            let entry = cache.table.get_mut(id);
            let start = entry.index * PAGE;
            let from = bytes.start.max(start) - start;
            let to = bytes.end.min(start + PAGE) - start;
            let dropped = Sectors::touched(&(from as usize..to as usize));
            debug_assert!(entry.is_reclaimable());
            entry.valid = entry.valid.without(dropped);
            if entry.valid.is_empty() {
                cache.evict(id);
            }
        });
    }

    /// Requests that were held go on, if what they waited for has ended.
    pub(crate) fn release_held(&mut self, volume: VolumeId, memory: &PullUp<'_>) {
        if !std::mem::take(&mut self.volumes[volume].lets_go) {
            return;
        }
        let mut held = std::mem::replace(&mut self.volumes[volume].held_back, List::new(0));
        while let Some(id) = held.pop_front(&mut self.requests) {
            self.requests[id].is_held = false;
            self.begin(id, memory);
        }
    }
}
