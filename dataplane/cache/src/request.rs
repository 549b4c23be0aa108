//! Requests in progress.

use pages::{PAGE_SIZE, PageRun, PullUp};
use std::fmt;

use crate::list::{Links, Node};
use crate::operation::DeviceError;
use crate::{PageCache, VolumeId};

/// What is asked of the cache. Runs name bytes of the volume by
/// [`PageRun::offset`] and [`PageRun::len`].
#[derive(Debug)]
pub enum Request {
    /// Fill the run, which has begun and is all NULL, with the volume's bytes.
    Read {
        /// Comes back complete.
        run: Box<PageRun>,
    },
    /// Write the run's bytes, all of which are there.
    Write {
        /// Comes back with its bytes gone: the cache took the references.
        run: Box<PageRun>,
        /// Complete only once the device has it for good.
        fua: bool,
    },
    /// Complete once the device has for good all that was complete before.
    Flush,
    /// As [`Request::Flush`], for `len` bytes from byte `offset` on.
    FlushRange {
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
}

/// A finished request.
#[derive(Debug)]
pub struct Completion {
    /// As given to [`PageCache::submit`].
    pub tag: u64,
    /// The request's run.
    pub run: Option<Box<PageRun>>,
    /// Of a failed write, any part may have been written. Of a failed flush,
    /// what is not on the device is still in the cache.
    pub result: Result<(), DeviceError>,
}

/// A request that was not taken.
#[derive(Debug)]
pub struct RefusedRequest {
    /// Too many requests are in progress; otherwise it is not inside the
    /// volume, or its run is not as the request needs it.
    pub busy: bool,
    /// The request.
    pub request: Request,
}

impl fmt::Display for RefusedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.busy {
            true => "too many requests in progress",
            false => "not inside the volume",
        })
    }
}

impl std::error::Error for RefusedRequest {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Free,
    Read,
    /// Merges its pages from `cursor` on.
    Write {
        durable: bool,
        fua: bool,
    },
    /// All pages merged: waits until the device has them.
    Settle {
        fua: bool,
    },
    /// Waits until writes up to `target` are on the device.
    Flush,
    /// The device's own cache is being flushed.
    DeviceFlush,
}

pub(crate) struct RequestSlot {
    pub kind: Kind,
    pub volume: u16,
    tag: u64,
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
    pub pinned: Option<u32>,
    /// The device's own cache has to be flushed before the request is done.
    pub flush_after: bool,
    pub error: Option<DeviceError>,
    links: [Links; 1],
}

impl RequestSlot {
    pub fn new() -> Self {
        Self {
            kind: Kind::Free,
            volume: 0,
            tag: 0,
            run: None,
            offset: 0,
            len: 0,
            cursor: 0,
            pending: 0,
            target: 0,
            pinned: None,
            flush_after: false,
            error: None,
            links: [Links::UNLINKED],
        }
    }

    pub fn hand_back(&mut self) -> Completion {
        self.kind = Kind::Free;
        Completion {
            tag: self.tag,
            run: self.run.take(),
            result: self.error.take().map_or(Ok(()), Err),
        }
    }

    /// Numbers of the pages the request covers.
    pub fn pages(&self) -> std::ops::Range<u64> {
        let page = PAGE_SIZE as u64;
        self.offset / page..(self.offset + self.len).div_ceil(page)
    }
}

impl Node for RequestSlot {
    fn links(&mut self, kind: usize) -> &mut Links {
        &mut self.links[kind]
    }
    fn linked(&self, kind: usize) -> Links {
        self.links[kind]
    }
}

impl PageCache {
    /// Gives the request a slot, if it is sound.
    pub(crate) fn admit(
        &mut self,
        volume: VolumeId,
        request: Request,
        tag: u64,
    ) -> Result<u32, RefusedRequest> {
        let config = &self.volumes[usize::from(volume.0)].config;
        let (offset, len) = match &request {
            Request::Read { run } | Request::Write { run, .. } => (run.offset(), run.len() as u64),
            Request::Flush => (0, config.len),
            Request::FlushRange { offset, len } => (*offset, *len),
        };
        let inside = offset.checked_add(len).is_some_and(|end| end <= config.len);
        let sound = match &request {
            Request::Read { run } => !run.is_empty() && run.missing() == run.len(),
            Request::Write { run, .. } => !run.is_empty() && run.is_complete(),
            _ => true,
        };
        if !inside || !sound || len > self.config.max_bytes as u64 && request.has_run() {
            let busy = false;
            return Err(RefusedRequest { busy, request });
        }
        let Some(id) = self.free_requests.pop_front(&mut self.requests) else {
            let busy = true;
            return Err(RefusedRequest { busy, request });
        };
        let through = config.policy == crate::WritePolicy::Through;
        let device_cache = config.device_cache;
        let whole = offset == 0 && len == config.len || len > self.config.max_bytes as u64;
        let slot = &mut self.requests[id as usize];
        (slot.volume, slot.tag) = (volume.0, tag);
        (slot.offset, slot.len) = (offset, len);
        (slot.cursor, slot.pending) = (0, 0);
        slot.flush_after = device_cache && matches!(request, Request::FlushRange { .. });
        (slot.run, slot.kind) = match request {
            Request::Read { run } => (Some(run), Kind::Read),
            Request::Write { run, fua } => (
                Some(run),
                Kind::Write {
                    durable: through || fua,
                    fua: fua && device_cache,
                },
            ),
            Request::Flush => (None, Kind::Flush),
            Request::FlushRange { .. } if whole => (None, Kind::Flush),
            Request::FlushRange { .. } => (None, Kind::Settle { fua: false }),
        };
        Ok(id)
    }

    /// Starts the request, or queues it behind others that wait for the same.
    pub(crate) fn begin(&mut self, id: u32, memory: &PullUp<'_>) {
        match self.requests[id as usize].kind {
            Kind::Read if !self.stalled_reads.is_empty() => {
                self.stalled_reads.push_back(&mut self.requests, id);
            }
            Kind::Write { .. } if !self.stalled_writes.is_empty() => {
                self.stalled_writes.push_back(&mut self.requests, id);
            }
            Kind::Flush => self.begin_flush(id),
            _ => self.step(id, memory),
        }
    }

    /// Takes the request as far as it goes now.
    pub(crate) fn step(&mut self, id: u32, memory: &PullUp<'_>) {
        match self.requests[id as usize].kind {
            Kind::Read => {
                if !self.step_read(id, memory) {
                    self.stalled_reads.push_back(&mut self.requests, id);
                }
            }
            Kind::Write { .. } => {
                if !self.step_write(id, memory) {
                    self.stalled_writes.push_back(&mut self.requests, id);
                }
            }
            Kind::Settle { .. } => {
                if !self.step_settle(id) {
                    self.blocked.push_back(&mut self.requests, id);
                }
            }
            Kind::Free | Kind::Flush | Kind::DeviceFlush => (),
        }
    }

    /// The request is done; its error, if any, is set.
    pub(crate) fn finish(&mut self, id: u32) {
        let slot = &mut self.requests[id as usize];
        debug_assert_eq!(slot.pending, 0);
        if let Some(entry) = slot.pinned.take() {
            self.unpin(entry);
        }
        self.done.push_back(&mut self.requests, id);
    }

    /// After an operation completed: everything that may go on now does.
    pub(crate) fn go_on(&mut self, memory: &PullUp<'_>) {
        for _ in 0..self.blocked.len() {
            if let Some(id) = self.blocked.pop_front(&mut self.requests) {
                self.step(id, memory);
            }
        }
        self.write_wanted();
        self.finish_flushes();
        self.resume(memory);
        self.fail_if_stuck();
    }

    /// Lets requests that waited for memory go on, in their order, until one
    /// has to wait again. [`PageCache::complete`] does this itself; call it when
    /// others have given pages back to the pool.
    pub fn resume(&mut self, memory: &PullUp<'_>) {
        while let Some(id) = self.stalled_reads.pop_front(&mut self.requests) {
            if !self.step_read(id, memory) {
                self.stalled_reads.push_front(&mut self.requests, id);
                break;
            }
        }
        while let Some(id) = self.stalled_writes.pop_front(&mut self.requests) {
            if !self.step_write(id, memory) {
                self.stalled_writes.push_front(&mut self.requests, id);
                break;
            }
        }
    }
}

impl Request {
    fn has_run(&self) -> bool {
        matches!(self, Request::Read { .. } | Request::Write { .. })
    }
}
