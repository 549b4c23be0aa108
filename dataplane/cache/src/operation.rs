//! Device operations in flight.

use pages::{PAGE_SIZE, PageRun, PullUp};
use std::ops::Range;

use crate::list::{Links, Node};
use crate::request::Kind;
use crate::{PageCache, VolumeId};

/// What the device said, in the words of whoever drives it; the cache hands it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceError(pub i32);

/// An operation for the device behind a volume.
#[derive(Debug)]
pub struct Operation {
    /// Tells operations in flight apart.
    pub id: OperationId,
    /// Whose device.
    pub volume: VolumeId,
    /// What to do.
    pub action: Action,
}

/// The number of an operation in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OperationId(pub u32);

/// What the device is to do. The run names whole blocks of the volume by
/// [`PageRun::offset`] and [`PageRun::len`], and its segments are the memory.
#[derive(Debug)]
pub enum Action {
    /// Fill the run's segments, which nobody else has seen.
    Read(Box<PageRun>),
    /// Write the run's segments; if `fua`, past the device's own cache.
    Write {
        /// The bytes.
        run: Box<PageRun>,
        /// Past the device's own cache.
        fua: bool,
    },
    /// Flush the device's own cache.
    Flush,
}

/// Whom an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Free,
    /// A request's bytes. `pinned`: the pages' entries wait for them too.
    Read {
        request: u32,
        pinned: bool,
    },
    /// Dirty pages; a request may wait for them.
    Write {
        request: Option<u32>,
        fua: bool,
    },
    /// The last part of a flush.
    Flush {
        request: u32,
    },
}

pub(crate) struct OperationSlot {
    pub purpose: Purpose,
    pub volume: u16,
    /// Of a write: the oldest write in it.
    pub since: u64,
    /// A read fills the request's own run.
    pub owns: bool,
    /// `None` while it is in the caller's hands.
    pub run: Option<Box<PageRun>>,
    links: [Links; 1],
}

impl OperationSlot {
    pub fn new() -> Self {
        Self {
            purpose: Purpose::Free,
            volume: 0,
            since: u64::MAX,
            owns: false,
            run: None,
            links: [Links::UNLINKED],
        }
    }

    pub fn hand_out(&mut self, id: u32) -> Operation {
        let mut run = || self.run.take().expect("handed out once");
        Operation {
            id: OperationId(id),
            volume: VolumeId(self.volume),
            action: match self.purpose {
                Purpose::Read { .. } => Action::Read(run()),
                Purpose::Write { fua, .. } => Action::Write { run: run(), fua },
                Purpose::Flush { .. } => Action::Flush,
                Purpose::Free => unreachable!("only operations in use are ready"),
            },
        }
    }

    pub fn take_back(&mut self, action: Action) {
        assert!(
            self.run.is_none() && self.purpose != Purpose::Free,
            "an operation completed that was not in flight"
        );
        self.run = match action {
            Action::Read(run) | Action::Write { run, .. } => Some(run),
            Action::Flush => None,
        };
    }
}

impl Node for OperationSlot {
    fn links(&mut self, kind: usize) -> &mut Links {
        &mut self.links[kind]
    }
    fn linked(&self, kind: usize) -> Links {
        self.links[kind]
    }
}

impl PageCache {
    /// Readies an operation for the device; there must be a free one.
    pub(crate) fn issue(
        &mut self,
        volume: u16,
        purpose: Purpose,
        run: Option<Box<PageRun>>,
    ) -> u32 {
        let id = self
            .free_operations
            .pop_front(&mut self.operations)
            .expect("the caller looked for a free operation");
        let slot = &mut self.operations[id as usize];
        (slot.volume, slot.purpose, slot.run) = (volume, purpose, run);
        (slot.since, slot.owns) = (u64::MAX, false);
        self.ready.push_back(&mut self.operations, id);
        id
    }

    /// Applies the result of operation `id`, whose run is back.
    pub(crate) fn finish_operation(
        &mut self,
        id: u32,
        result: Result<(), DeviceError>,
        memory: &PullUp<'_>,
    ) {
        let slot = &mut self.operations[id as usize];
        let (purpose, run) = (slot.purpose, slot.run.take());
        let request = match purpose {
            Purpose::Read { request, .. } | Purpose::Flush { request } => Some(request),
            Purpose::Write { request, .. } => request,
            Purpose::Free => None,
        };
        if let Some(request) = request {
            let slot = &mut self.requests[request as usize];
            slot.pending -= 1;
            slot.error = slot.error.or(result.err());
        }
        match (purpose, run) {
            (Purpose::Read { request, pinned }, Some(run)) => {
                self.finish_device_read(id, request, pinned, run, result.is_ok(), memory);
            }
            (Purpose::Write { .. }, Some(run)) => self.finish_device_write(id, run, result),
            _ => (),
        }
        let slot = &mut self.operations[id as usize];
        slot.purpose = Purpose::Free;
        self.free_operations.push_back(&mut self.operations, id);
        if let Some(request) = request
            && self.requests[request as usize].pending == 0
        {
            match self.requests[request as usize].kind {
                Kind::DeviceFlush => self.finish(request),
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
