//! Device operations in flight.

use std::ops::Range;

use block::{Fault, Flags, Io, Op, VolumeId};
use collections::{Links, Node, TableIndex, table_index};
use pages::{PAGE_SIZE, PageRun, PullUp};

use crate::PageCache;
use crate::entry::EntryIndex;
use crate::slot::{Phase, RequestIndex};

/// An operation for the device behind a volume.
#[derive(Debug)]
pub struct Operation {
    /// Names it until [`PageCache::complete`].
    pub id: OperationId,
    /// Whose device.
    pub volume: VolumeId,
    /// What to do: [`Op::Read`], [`Op::Write`], [`Op::Deallocate`] or [`Op::Flush`] of the
    /// device's own cache. The range is whole blocks; nobody else has seen the memory that a
    /// read is to fill.
    pub io: Io,
}

table_index! {
    /// Names an operation in flight: its slot.
    pub struct OperationId(u32);
}

pub(crate) struct OperationSlot {
    /// `None` while the slot is free.
    pub op: Option<Op>,
    pub fua: bool,
    /// First byte, and how many; none of a flush.
    pub offset: u64,
    pub len: u64,
    /// The request that a read's bytes are for, or that waits for a write or a flush.
    pub request: Option<RequestIndex>,
    /// Of a read: its pages' entries are pinned until it ends.
    pub pinned: bool,
    pub volume: VolumeId,
    /// Of a write: the oldest write in it.
    pub since: u64,
    /// Of a write: the entry that it began with.
    pub entry: EntryIndex,
    /// A read fills the request's own run.
    pub owns: bool,
    /// `None` while it is in the caller's hands.
    pub run: Option<Box<PageRun>>,
    links: [Links<OperationId>; 1],
}

impl OperationSlot {
    pub fn new() -> Self {
        Self {
            op: None,
            fua: false,
            offset: 0,
            len: 0,
            request: None,
            pinned: false,
            volume: VolumeId(0),
            since: u64::MAX,
            entry: EntryIndex::NONE,
            owns: false,
            run: None,
            links: [Links::UNLINKED],
        }
    }

    pub fn hand_out(&mut self, id: OperationId) -> Operation {
        let mut run = || self.run.take().expect("handed out once");
        Operation {
            id,
            volume: self.volume,
            io: match self.op {
                Some(Op::Read) => Io::read(run(), Flags::NONE),
                Some(Op::Write) => Io::write(run(), Flags::fua(self.fua)),
                Some(Op::Deallocate) => Io::deallocate(self.offset, self.len),
                _ => Io::flush(),
            },
        }
    }

    pub fn take_back(&mut self, run: Option<Box<PageRun>>) {
        let in_flight = self.op.filter(|_| self.run.is_none());
        assert!(
            in_flight.is_some_and(|op| op.moves_data() == run.is_some()),
            "an operation completed that was not in flight, or without its run"
        );
        self.run = run;
    }
}

impl Node for OperationSlot {
    type Index = OperationId;
    fn links(&mut self, kind: usize) -> &mut Links<OperationId> {
        &mut self.links[kind]
    }
    fn linked(&self, kind: usize) -> Links<OperationId> {
        self.links[kind]
    }
}

impl PageCache {
    /// Readies an operation for the device; there must be a free one.
    pub(crate) fn issue(
        &mut self,
        volume: VolumeId,
        op: Op,
        request: Option<RequestIndex>,
        run: Option<Box<PageRun>>,
    ) -> &mut OperationSlot {
        let id = self
            .free_operations
            .pop_front(&mut self.operations)
            .expect("the caller looked for a free operation");
        self.ready.push_back(&mut self.operations, id);
        self.volumes[volume].share.operations += 1;
        let slot = &mut self.operations[id];
        let bytes = run.as_deref().map(|run| (run.offset(), run.len() as u64));
        (slot.offset, slot.len) = bytes.unwrap_or_default();
        (slot.volume, slot.op, slot.request, slot.run) = (volume, Some(op), request, run);
        (slot.fua, slot.pinned, slot.since, slot.owns) = (false, false, u64::MAX, false);
        slot
    }

    /// Applies the result of operation `id`, whose run is back.
    pub(crate) fn finish_operation(
        &mut self,
        id: OperationId,
        result: Result<(), Fault>,
        memory: &PullUp<'_>,
    ) {
        let slot = &mut self.operations[id];
        let (op, request, run) = (slot.op, slot.request, slot.run.take());
        if let Some(request) = request {
            let slot = &mut self.requests[request];
            slot.pending -= 1;
            slot.error = slot.error.or(result.err());
        }
        match (op, request, run) {
            (Some(Op::Read), Some(request), Some(run)) => {
                self.finish_device_read(id, request, run, result.is_ok(), memory);
            }
            (Some(Op::Write), _, Some(run)) => self.finish_device_write(id, run, result),
            _ => (),
        }
        let slot = &mut self.operations[id];
        slot.op = None;
        self.volumes[slot.volume].share.operations -= 1;
        self.free_operations.push_front(&mut self.operations, id);
        if let Some(request) = request
            && self.requests[request].pending == 0
        {
            match self.requests[request].phase {
                Phase::FlushingDevice => self.finish(request),
                Phase::DeallocatingDevice => self.end_deallocation(request),
                _ => self.step(request, memory),
            }
        }
    }

    /// The pages of `run` on the volume, each with the part of it that the run covers.
    pub(crate) fn parts_of(run: &PageRun) -> impl Iterator<Item = (u64, Range<usize>)> {
        let first = run.offset() / PAGE_SIZE as u64;
        let pages = run.pages().iter().map(|page| page.extent());
        (first..).zip(pages)
    }
}
