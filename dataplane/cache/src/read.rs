//! Reads: from the cache by reference, from the device what is not there.

use std::ops::Range;

use block::{Op, VolumeId};
use mutant::mutant;
use pages::{LogicalPage, PAGE_SIZE, PageRun, PullUp};

use crate::PageCache;
use crate::entry::{EntryIndex, Sectors};
use crate::operation::OperationId;
use crate::slot::{Phase, RequestIndex};

impl PageCache {
    /// Serves the pages of read `id` that the cache has, and asks the device
    /// for the others. False if it lacks memory or a free operation, and
    /// nothing is in flight that would take it further.
    pub(crate) fn step_read(&mut self, id: RequestIndex, memory: &PullUp<'_>) -> bool {
        let slot = &mut self.requests[id];
        if slot.pending > 0 {
            return true;
        }
        if slot.error.is_some() {
            self.finish(id);
            return true;
        }
        let volume = slot.volume;
        let mut run = slot
            .run
            .take()
            .expect("the run is here while nothing is pending");
        self.serve(volume, &mut run);
        let complete = match self.read_missing(id, volume, run, memory) {
            Issued::All => true,
            Issued::Short => false,
        };
        match (self.requests[id].pending, complete) {
            (0, true) => self.finish(id),
            (0, false) => return false,
            _ => (),
        }
        true
    }

    /// Refers the run's pages to those of the cache that have all their bytes.
    fn serve(&mut self, volume: VolumeId, run: &mut PageRun) {
        let first = run.offset() / PAGE_SIZE as u64;
        for (index, page) in (first..).zip(run.pages_mut()) {
            if page.missing() == 0 {
                continue;
            }
            let needed = Sectors::touched(&page.extent());
            if let Some(entry) = self.table.find(volume, index)
                && self.table.get(entry).valid.has(needed)
            {
                page.mirror(&self.table.get(entry).page);
                self.touch(entry);
                self.counters.hits += 1;
            }
        }
    }

    /// Issues device reads for every page of the run that is missing.
    fn read_missing(
        &mut self,
        id: RequestIndex,
        volume: VolumeId,
        mut run: Box<PageRun>,
        memory: &PullUp<'_>,
    ) -> Issued {
        let first = run.offset() / PAGE_SIZE as u64;
        let block = self.volumes[volume].config.block as u64;
        let whole_blocks =
            run.offset().is_multiple_of(block) && (run.len() as u64).is_multiple_of(block);
        let mut issued = Issued::All;
        let mut i = 0;
        while i < run.pages().len() {
            if run.pages()[i].missing() == 0 {
                i += 1;
                continue;
            }
            if !self.may_issue(volume) {
                issued = Issued::Short;
                break;
            }
            let (missing, pinned) = self.pin_missing(volume, &run, i);
            let pages = first + missing.start as u64..first + missing.end as u64;
            if missing == (0..run.pages().len()) && whole_blocks {
                // Everything is to be read: the device fills the request's own run.
                if !self.place_fresh(volume, &mut run, memory) {
                    self.unpin_pages(volume, pages, pinned);
                    issued = Issued::Short;
                    break;
                }
                self.issue_read(id, pinned, run, true);
                return Issued::All;
            }
            let start = (pages.start * PAGE_SIZE as u64).max(run.offset());
            let end = (pages.end * PAGE_SIZE as u64).min(run.offset() + run.len() as u64);
            let blocks = start / block * block..end.next_multiple_of(block);
            match self.blocks_to_read(volume, blocks, memory) {
                Some(blocks) => self.issue_read(id, pinned, blocks, false),
                None => {
                    self.unpin_pages(volume, pages, pinned);
                    issued = Issued::Short;
                    break;
                }
            }
            i = missing.end;
        }
        self.requests[id].run = Some(run);
        issued
    }

    /// A run over whole blocks with fresh pages to read them into.
    pub(crate) fn blocks_to_read(
        &mut self,
        volume: VolumeId,
        bytes: Range<u64>,
        memory: &PullUp<'_>,
    ) -> Option<Box<PageRun>> {
        let mut run = self.runs.take()?;
        let len = (bytes.end - bytes.start) as usize;
        if run.begin(bytes.start, len).is_err() || !self.place_fresh(volume, &mut run, memory) {
            self.runs.put(run);
            return None;
        }
        Some(run)
    }

    /// Gives the run fresh pages, reclaimed ones if need be.
    fn place_fresh(&mut self, volume: VolumeId, run: &mut PageRun, memory: &PullUp<'_>) -> bool {
        if !self.may_read_into(volume, run.pages().len(), memory.pages.free()) {
            return false;
        }
        while run.place_fresh(memory.pages).is_err() {
            if !self.reclaim() {
                return false;
            }
        }
        true
    }

    pub(crate) fn issue_read(
        &mut self,
        request: RequestIndex,
        pinned: bool,
        run: Box<PageRun>,
        owns: bool,
    ) {
        let slot = &mut self.requests[request];
        slot.pending += 1;
        let volume = slot.volume;
        let pages = run.pages().len();
        self.counters.misses += pages as u64;
        self.volumes[volume].share.reading += pages;
        let slot = self.issue(volume, Op::Read, Some(request), Some(run));
        (slot.pinned, slot.owns) = (pinned, owns);
    }

    /// The adjacent missing pages of the run from `i` on: either each has an entry,
    /// which is pinned now, or none has one or can get one. For a page without an
    /// entry the device is up to date, and the bytes read go to the request alone.
    fn pin_missing(&mut self, volume: VolumeId, run: &PageRun, i: usize) -> (Range<usize>, bool) {
        let first = run.offset() / PAGE_SIZE as u64;
        let pinned = self.pin(volume, first + i as u64);
        let mut end = i + 1;
        while run.pages().get(end).is_some_and(|page| page.missing() > 0) {
            let index = first + end as u64;
            let pinned_too = self.pin(volume, index);
            if pinned_too != pinned {
                self.unpin_pages(volume, index..index + 1, pinned_too);
                break;
            }
            end += 1;
        }
        (i..end, pinned)
    }

    /// Pins the page's entry, and makes one if there is none. False if none is free.
    fn pin(&mut self, volume: VolumeId, index: u64) -> bool {
        let entry = match self.table.find(volume, index) {
            Some(entry) => {
                self.touch(entry);
                entry
            }
            None if !self.may_hold(volume, 1) => return false,
            None => match self.new_entry(volume, index) {
                Some(entry) => entry,
                None => return false,
            },
        };
        self.table.get_mut(entry).pins += 1;
        self.hold(volume, 0, 1);
        true
    }

    fn unpin_pages(&mut self, volume: VolumeId, pages: Range<u64>, pinned: bool) {
        for index in pages.filter(|_| pinned) {
            if let Some(entry) = self.table.find(volume, index) {
                self.unpin_read(entry);
            }
        }
    }

    /// Unpins an entry that a read had pinned.
    fn unpin_read(&mut self, entry: EntryIndex) {
        let volume = self.table.get(entry).volume;
        self.hold(volume, 1, 0);
        self.unpin(entry);
    }

    /// Unpins an entry. One without a valid byte is dropped.
    pub(crate) fn unpin(&mut self, entry: EntryIndex) {
        let e = self.table.get_mut(entry);
        e.pins -= 1;
        if e.pins == 0 && e.valid.is_empty() {
            self.evict(entry);
        }
    }

    /// The device has read `run`: its bytes go to the request, under what the
    /// cache has, and into the cache.
    pub(crate) fn finish_device_read(
        &mut self,
        operation: OperationId,
        request: RequestIndex,
        mut run: Box<PageRun>,
        ok: bool,
        memory: &PullUp<'_>,
    ) {
        let slot = &self.operations[operation];
        let (volume, pinned, owns) = (slot.volume, slot.pinned, slot.owns);
        let reads = self.requests[request].phase == Phase::Reading;
        let mut target = self.requests[request].run.take();
        let first = run.offset() / PAGE_SIZE as u64;
        self.volumes[volume].share.reading -= run.pages().len();
        for i in 0..run.pages().len() {
            let index = first + i as u64;
            // What a write waits for is pinned by the write.
            let entry = self.table.find(volume, index).filter(|_| pinned || !reads);
            if let Some(entry) = entry.filter(|_| ok) {
                self.fill(entry, &run.pages()[i], memory);
            }
            if ok && owns {
                self.overlay(entry, &mut run.pages_mut()[i], memory);
            } else if ok
                && reads
                && let Some(target) = &mut target
            {
                let i_there = (index - target.offset() / PAGE_SIZE as u64) as usize;
                let page = &mut target.pages_mut()[i_there];
                page.mirror(&run.pages()[i]);
                self.overlay(entry, page, memory);
            }
            if let Some(entry) = entry.filter(|_| pinned) {
                self.unpin_read(entry);
            }
        }
        if !owns {
            self.requests[request].run = target;
            self.runs.put(run);
            return;
        }
        if !ok {
            let (offset, len) = (run.offset(), run.len());
            run.begin(offset, len).expect("as long as it was");
        }
        self.requests[request].run = Some(run);
    }

    /// Lays what the cache has, which may be newer, over the bytes read.
    /// Without memory for that the page becomes NULL, to be read again.
    fn overlay(&self, entry: Option<EntryIndex>, page: &mut LogicalPage, memory: &PullUp<'_>) {
        let Some(entry) = entry.map(|entry| self.table.get(entry)) else {
            return;
        };
        if entry.valid.has(Sectors::touched(&page.extent())) {
            return page.mirror(&entry.page);
        }
        for run in entry.valid.runs() {
            let from = run.start.max(page.extent().start);
            let to = run.end.min(page.extent().end).max(from);
            let mut at = from;
            for segment in entry.page.parts(from..to) {
                let next = at + segment.len();
                if page.write(at, segment, memory).is_err() {
                    return page.clear();
                }
                at = next;
            }
        }
    }

    /// Takes the bytes read into the cache, where it has none that may be
    /// newer. Without memory for that, it does without.
    fn fill(&mut self, entry: EntryIndex, page: &LogicalPage, memory: &PullUp<'_>) {
        if !self.has_room_for(entry) {
            return;
        }
        let e = self.table.get_mut(entry);
        let touched = Sectors::touched(&page.extent());
        let older = match mutant!("read-over-newer") {
            true => touched,
            false => touched.without(e.valid),
        };
        for run in older.runs() {
            let mut at = run.start;
            let sectors = Sectors::touched(&run);
            for segment in page.parts(run) {
                let next = at + segment.len();
                if e.page.write_over_gaps(at, segment, memory).is_err() {
                    self.recount(entry);
                    return;
                }
                at = next;
            }
            e.valid = e.valid.or(sectors);
        }
        self.recount(entry);
    }
}

/// Whether a read got as far as it could.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Issued {
    /// A device read was issued for every missing page.
    All,
    /// Memory or operations ran out.
    Short,
}
