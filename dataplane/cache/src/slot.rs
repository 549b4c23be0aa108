//! Requests in progress, each in a slot.

use block::{Completion, Fault, RequestId, VolumeId};
use collections::{Links, Node, table_index};
use pages::PageRun;

use crate::entry::{EntryIndex, pages_of};

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The slot is not in use.
    Free,
    /// A read's run is being filled.
    Reading,
    /// A write's pages are being merged, from `cursor` on.
    Merging { durable: bool, fua: bool },
    /// All pages are merged: waits until the device has them.
    Settling { fua: bool },
    /// Waits until writes up to `target` are on the device.
    Flushing,
    /// The device's own cache is being flushed.
    FlushingDevice,
    /// Waits until nothing else has to do with the range, and the device has what is dirty of it.
    Deallocating,
    /// The device deallocates the range.
    DeallocatingDevice,
    /// It is to be handed back.
    Done,
}

table_index! {
    /// A request's slot while it is in progress.
    pub(crate) struct RequestIndex(u32);
}

pub(crate) struct RequestSlot {
    pub phase: Phase,
    pub volume: VolumeId,
    pub id: RequestId,
    pub run: Option<Box<PageRun>>,
    pub offset: u64,
    pub len: u64,
    /// Of a write: how many pages of the run are merged; 0 again once it has
    /// begun to settle.
    pub cursor: usize,
    /// Device operations that belong to the request.
    pub pending: u32,
    /// Of a flush: the last write it waits for.
    pub target: u64,
    /// Of a write: the entry of the page it is at, which must stay.
    pub pinned: Option<EntryIndex>,
    /// The device's own cache has to be flushed before the request is done.
    pub flush_after: bool,
    /// It waits for a deallocation to end.
    pub is_held: bool,
    pub error: Option<Fault>,
    links: [Links<RequestIndex>; 1],
}

impl RequestSlot {
    pub fn new() -> Self {
        Self {
            phase: Phase::Free,
            volume: VolumeId(0),
            id: RequestId(0),
            run: None,
            offset: 0,
            len: 0,
            cursor: 0,
            pending: 0,
            target: 0,
            pinned: None,
            flush_after: false,
            is_held: false,
            error: None,
            links: [Links::UNLINKED],
        }
    }

    pub fn hand_back(&mut self) -> Completion {
        self.phase = Phase::Free;
        Completion {
            id: self.id,
            result: self.error.take().map_or(Ok(()), Err),
            run: self.run.take(),
        }
    }

    /// Numbers of the pages the request covers.
    pub fn pages(&self) -> std::ops::Range<u64> {
        pages_of(self.offset, self.len)
    }

    /// Whether what it does depends on what its pages hold, or changes that.
    pub fn is_of_data(&self) -> bool {
        matches!(
            self.phase,
            Phase::Reading | Phase::Merging { .. } | Phase::Deallocating
        )
    }
}

impl Node for RequestSlot {
    type Index = RequestIndex;
    fn links(&mut self, kind: usize) -> &mut Links<RequestIndex> {
        &mut self.links[kind]
    }
    fn linked(&self, kind: usize) -> Links<RequestIndex> {
        self.links[kind]
    }
}
