//! Dirty pages to the device: because there are many, because a request waits
//! for them, or because of a flush.

use std::ops::Range;

use block::{Fault, Op, VolumeId};
use mutant::mutant;
use pages::{PAGE_SIZE, PageRun};

use crate::PageCache;
use crate::entry::{EntryIndex, Sectors};
use crate::operation::OperationId;
use crate::slot::{Phase, RequestIndex};
use crate::table::Entries;
use crate::volumes::Volume;

const PAGE: u64 = PAGE_SIZE as u64;

/// Pages that a volume writes at a time when it holds too many.
const GIVEN_BACK: u64 = 64;

impl PageCache {
    /// Writes the dirty part of `entry` to the device, together with what is
    /// dirty on both sides of it in the pages `within`. False if there is nothing
    /// to write, or no free operation.
    pub(crate) fn write_around(
        &mut self,
        entry: EntryIndex,
        within: Range<u64>,
        request: Option<RequestIndex>,
        fua: bool,
    ) -> bool {
        let volume = self.table.get(entry).volume;
        if !self.may_issue(volume) {
            return false;
        }
        let e = self.table.get(entry);
        let Some(part) = e.dirty.first_write(e.valid) else {
            return false;
        };
        let most = self.config.max_bytes as u64;
        let mut bytes = e.index * PAGE + part.start as u64..e.index * PAGE + part.end as u64;
        while bytes.start.is_multiple_of(PAGE) && bytes.start / PAGE > within.start {
            let before = bytes.start / PAGE - 1;
            match self.dirty_part(volume, before) {
                Some(part)
                    if part.end == PAGE_SIZE
                        && bytes.end - bytes.start + part.len() as u64 <= most =>
                {
                    bytes.start = before * PAGE + part.start as u64;
                }
                _ => break,
            }
        }
        while bytes.end.is_multiple_of(PAGE) && bytes.end / PAGE < within.end {
            match self.dirty_part(volume, bytes.end / PAGE) {
                Some(part)
                    if part.start == 0 && bytes.end - bytes.start + part.len() as u64 <= most =>
                {
                    bytes.end += part.len() as u64;
                }
                _ => break,
            }
        }
        let Some(mut run) = self.runs.take() else {
            return false;
        };
        run.begin(bytes.start, (bytes.end - bytes.start) as usize)
            .expect("no longer than a request");
        let since = self.begin_write(entry, &mut run);
        let dirty = &self.volumes[volume].dirty;
        (self.table).prefetch_ahead(dirty.first(), |entries, next| dirty.behind(entries, next));
        self.counters.written += run.pages().len() as u64;
        let slot = self.issue(volume, Op::Write, request, Some(run));
        (slot.fua, slot.since, slot.entry) = (fua, since, entry);
        true
    }

    /// The part of a page that a write of its neighbour can take along.
    fn dirty_part(&self, volume: VolumeId, index: u64) -> Option<Range<usize>> {
        let entry = self.table.get(self.table.find(volume, index)?);
        let idle = entry.is_writable() && !entry.failed;
        idle.then(|| entry.dirty.first_write(entry.valid)).flatten()
    }

    /// Makes the run a second view of the entries' bytes, which are in flight
    /// from now on: the entries may be written meanwhile, the run stays as it
    /// is. `around` is one of them. Returns the number of the oldest write among them.
    fn begin_write(&mut self, around: EntryIndex, run: &mut PageRun) -> u64 {
        let (volume, first) = (self.table.get(around).volume, run.offset() / PAGE);
        let mut oldest = u64::MAX;
        for (index, page) in (first..).zip(run.pages_mut()) {
            let id = self
                .table
                .find_likely(around, volume, index)
                .expect("a dirty page has an entry");
            let entry = self.table.get_mut(id);
            page.mirror(&entry.page);
            entry.dirty = entry.dirty.without(Sectors::touched(&page.extent()));
            entry.in_flight_since = entry.since;
            entry.in_flight = true;
            oldest = oldest.min(entry.since);
            if entry.dirty.is_empty() {
                entry.since = u64::MAX;
            }
            let failed = std::mem::take(&mut entry.failed);
            let volume = &mut self.volumes[volume];
            match failed {
                true => volume.failed.remove(self.table.entries(), id),
                false => volume.dirty.remove(self.table.entries(), id),
            }
        }
        oldest
    }

    /// The device has written `run`, or failed to.
    pub(crate) fn finish_device_write(
        &mut self,
        operation: OperationId,
        run: Box<PageRun>,
        result: Result<(), Fault>,
    ) {
        let slot = &self.operations[operation];
        let (volume, around) = (slot.volume, slot.entry);
        for (index, part) in Self::parts_of(&run) {
            let id = self
                .table
                .find_likely(around, volume, index)
                .expect("a page in flight has an entry");
            let entry = self.table.get_mut(id);
            entry.in_flight = false;
            if result.is_err() && !mutant!("failed-write-forgotten") {
                // Never lost: it is dirty as before, and the next flush tries again.
                entry.dirty = entry.dirty.or(Sectors::touched(&part));
                entry.since = entry.since.min(entry.in_flight_since);
                entry.failed = true;
            }
            entry.in_flight_since = u64::MAX;
            let weight = entry.weight();
            let place = &mut self.volumes[volume];
            if entry.failed {
                place.failed.push_back(self.table.entries(), id);
            } else if entry.dirty.is_empty() {
                self.dirty_pages -= 1;
                self.hold(volume, weight, 0);
            } else {
                place.queue_by_age(self.table.entries(), id);
            }
        }
        self.runs.put(run);
        if let Err(error) = result {
            self.volumes[volume].last_error = Some(error);
            let since = self.operations[operation].since;
            self.fail_flushes(volume, since, error);
        }
    }

    /// Sees that what write (or range flush) `id` has merged is on the device.
    /// False if it has to wait for pages in flight, or a free operation.
    pub(crate) fn step_settle(&mut self, id: RequestIndex) -> bool {
        let slot = &self.requests[id];
        if slot.pending > 0 {
            return true;
        }
        let (volume, pages) = (slot.volume, slot.pages());
        let Phase::Settling { fua } = slot.phase else {
            return true;
        };
        if slot.error.is_some() {
            self.finish(id);
            return true;
        }
        // What another operation has written, or is writing, may be in the
        // device's cache only.
        let bytes = slot.offset..slot.offset + slot.len;
        let others = fua
            && slot.cursor > 0
            && pages.clone().any(|index| {
                let from = bytes.start.max(index * PAGE) - index * PAGE;
                let to = bytes.end.min(index * PAGE + PAGE) - index * PAGE;
                let merged = Sectors::touched(&(from as usize..to as usize));
                let entry = self
                    .table
                    .find(volume, index)
                    .map(|entry| self.table.get(entry));
                !entry.is_some_and(|entry| entry.is_writable() && entry.dirty.has(merged))
            });
        let (mut waits, mut left) = (false, false);
        for index in pages.clone() {
            let Some(entry) = self.table.find(volume, index) else {
                continue;
            };
            if self.table.get(entry).is_writable()
                && self.write_around(entry, pages.clone(), Some(id), fua)
            {
                self.requests[id].pending += 1;
            }
            let e = self.table.get(entry);
            waits |= e.in_flight;
            left |= !e.dirty.is_empty();
        }
        let slot = &mut self.requests[id];
        slot.cursor = 0;
        // What is left may be written along with pages of another request before it is
        // this one's turn.
        slot.flush_after |= fua && (others || left || waits && slot.pending == 0);
        if slot.pending > 0 {
            return true;
        }
        if waits || left {
            return false;
        }
        if !slot.flush_after {
            self.finish(id);
            return true;
        }
        self.flush_device(id)
    }

    /// Whether writes of a volume up to number `target` are at the device.
    fn is_writing(&self, number: VolumeId, target: u64) -> bool {
        self.operations.iter().any(|operation| {
            operation.op == Some(Op::Write)
                && operation.volume == number
                && operation.since <= target
        })
    }

    /// Starts a flush: it waits for all writes complete by now, and those that
    /// failed before are tried again.
    pub(crate) fn begin_flush(&mut self, id: RequestIndex) {
        let slot = &mut self.requests[id];
        let number = slot.volume;
        let volume = &mut self.volumes[number];
        slot.target = volume.writes;
        volume.wanted = volume.writes;
        self.retry(number);
        (self.volumes[number].flushing).push_back(&mut self.requests, id);
        self.write_wanted(number);
        self.finish_flushes(number);
    }

    /// Pages of a volume that its device failed to write are to be written again.
    fn retry(&mut self, volume: VolumeId) {
        let volume = &mut self.volumes[volume];
        while let Some(entry) = volume.failed.pop_front(self.table.entries()) {
            self.table.get_mut(entry).failed = false;
            volume.queue_by_age(self.table.entries(), entry);
        }
    }

    /// The same of every volume, though no host asks for it: a device that works again
    /// gets its data, and the memory that they pin is free for others. To be called now
    /// and then.
    pub fn retry_failed(&mut self) {
        for volume in self.volumes.ids() {
            self.retry(volume);
        }
    }

    /// Writes what flushes of a volume wait for.
    pub(crate) fn write_wanted(&mut self, volume: VolumeId) {
        while let Some(entry) = self.volumes[volume].dirty.first()
            && self.table.get(entry).since <= self.volumes[volume].wanted
            && self.write_around(entry, 0..u64::MAX, None, false)
        {}
    }

    /// Lets flushes of a volume go on for which nothing is left to be written.
    pub(crate) fn finish_flushes(&mut self, number: VolumeId) {
        let mut next = self.volumes[number].flushing.first();
        while let Some(id) = next {
            let volume = &self.volumes[number];
            next = volume.flushing.behind(&self.requests, id);
            let target = self.requests[id].target;
            let dirty = volume.dirty.first();
            let is_dirty = dirty.is_some_and(|entry| self.table.get(entry).since <= target);
            if is_dirty || self.is_writing(number, target) && !mutant!("flush-before-writes") {
                continue;
            }
            let failed = self.requests[id].error.is_some();
            if failed || !volume.config.device_cache {
                (self.volumes[number].flushing).remove(&mut self.requests, id);
                self.finish(id);
            } else if self.may_issue(number) {
                (self.volumes[number].flushing).remove(&mut self.requests, id);
                self.flush_device(id);
            }
        }
    }

    /// Has the device flush its own cache for request `id`; false if no operation is free.
    fn flush_device(&mut self, id: RequestIndex) -> bool {
        let volume = self.requests[id].volume;
        if !self.may_issue(volume) {
            return false;
        }
        let slot = &mut self.requests[id];
        slot.phase = Phase::FlushingDevice;
        slot.pending += 1;
        self.issue(volume, Op::Flush, Some(id), None);
        true
    }

    fn fail_flushes(&mut self, volume: VolumeId, since: u64, error: Fault) {
        let flushing = &self.volumes[volume].flushing;
        let mut next = flushing.first();
        while let Some(id) = next {
            next = flushing.behind(&self.requests, id);
            let slot = &mut self.requests[id];
            if slot.target >= since {
                slot.error = slot.error.or(Some(error));
            }
        }
    }

    /// Writes the oldest dirty pages of every volume, `pages` of them or a little more.
    pub(crate) fn write_oldest(&mut self, pages: usize) {
        let enough = self.counters.written + pages as u64;
        for volume in self.volumes.ids() {
            self.write_some(volume, enough);
        }
    }

    /// Writes the oldest dirty pages of a volume, one after the other, until `enough` were written.
    fn write_some(&mut self, volume: VolumeId, enough: u64) {
        while self.counters.written < enough
            && let Some(entry) = self.volumes[volume].dirty.first()
            && self.may_issue_early(volume)
            && self.write_around(entry, 0..u64::MAX, None, false)
        {}
    }

    /// Writes some of the oldest dirty pages of a volume, which is to hold less.
    pub(crate) fn write_oldest_of(&mut self, volume: VolumeId) {
        self.write_some(volume, self.counters.written + GIVEN_BACK);
    }

    /// Writes what is dirty beyond [`crate::CacheConfig::dirty_pages`].
    pub(crate) fn write_excess(&mut self) {
        let queued: usize = self.volumes.iter().map(|volume| volume.dirty.len()).sum();
        if queued > self.config.dirty_pages {
            self.write_oldest(queued - self.config.dirty_pages);
        }
    }

    /// Starts to write one page that is to be reclaimed.
    pub(crate) fn write_to_reclaim(&mut self, entry: EntryIndex) -> bool {
        self.may_issue_early(self.table.get(entry).volume)
            && self.write_around(entry, 0..u64::MAX, None, false)
    }
}

impl Volume {
    /// Puts a dirty page among the others by the age of its oldest write,
    /// which is most often one of the youngest or of the oldest.
    fn queue_by_age(&mut self, entries: &mut Entries, id: EntryIndex) {
        let since = entries[id].since;
        let older = |other: EntryIndex| entries[other].since <= since;
        if self.dirty.first().is_none_or(|first| !older(first)) {
            return self.dirty.push_front(entries, id);
        }
        let mut place = self.dirty.last();
        while let Some(other) = place.filter(|&other| !older(other)) {
            place = self.dirty.before(entries, other);
        }
        if let Some(place) = place {
            self.dirty.insert_behind(entries, place, id);
        }
    }
}
