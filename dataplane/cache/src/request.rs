//! Requests: how they begin, wait, go on and end.

use std::fmt;

use block::{Fault, Io, Op, RequestId, VolumeId, WritePolicy};
use mutant::mutant;
use pages::PullUp;

use crate::PageCache;
use crate::slot::{Phase, RequestIndex};
use crate::volumes::Volume;

/// A request that was not taken.
#[derive(Debug)]
pub struct Refused {
    /// [`Fault::Busy`]: too many requests are in progress. [`Fault::Internal`]: it is
    /// not one for a cache, not inside the volume, or its run is not as it should be.
    pub fault: Fault,
    /// The request.
    pub io: Io,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.fault {
            Fault::Busy => "too many requests in progress",
            _ => "not inside the volume, or not for a cache",
        })
    }
}

impl std::error::Error for Refused {}

impl PageCache {
    /// Gives the request a slot, if it is sound.
    pub(crate) fn admit(
        &mut self,
        volume: VolumeId,
        request: RequestId,
        io: Io,
    ) -> Result<RequestIndex, Refused> {
        let refused = |fault, io| Err(Refused { fault, io });
        let Some(Volume { config, .. }) = self.volumes.get(volume) else {
            return refused(Fault::Internal, io);
        };
        let (offset, len) = match (&io.run, io.op) {
            (Some(run), _) => (run.offset(), run.len() as u64),
            (None, Op::Flush) if io.len == 0 => (0, config.len),
            (None, _) => (io.offset, io.len),
        };
        let inside = offset.checked_add(len).is_some_and(|end| end <= config.len);
        let sound = match (io.op, &io.run) {
            (Op::Read, Some(run)) => !run.is_empty() && run.missing() == run.len(),
            (Op::Write, Some(run)) => !run.is_empty() && run.is_complete(),
            (Op::Flush, None) => true,
            (Op::Deallocate, None) => {
                let block = config.block as u64;
                len > 0 && offset.is_multiple_of(block) && len.is_multiple_of(block)
            }
            _ => false,
        };
        let too_long = len > self.config.max_bytes as u64;
        if !inside || !sound || too_long && io.run.is_some() {
            return refused(Fault::Internal, io);
        }
        let Some(id) = self.free_requests.pop_front(&mut self.requests) else {
            return refused(Fault::Busy, io);
        };
        let through = config.policy == WritePolicy::Through;
        let device_cache = config.device_cache;
        let whole = offset == 0 && len == config.len || too_long;
        let slot = &mut self.requests[id];
        (slot.volume, slot.id) = (volume, request);
        (slot.offset, slot.len) = (offset, len);
        (slot.cursor, slot.pending) = (0, 0);
        slot.flush_after = device_cache && io.op == Op::Flush && !whole;
        slot.phase = match io.op {
            Op::Read => Phase::Reading,
            Op::Write => Phase::Merging {
                durable: through || io.flags.fua && !mutant!("fua-in-cache-ignored"),
                fua: io.flags.fua && device_cache,
            },
            Op::Deallocate => Phase::Deallocating,
            _ if whole => Phase::Flushing,
            _ => Phase::Settling { fua: false },
        };
        slot.run = io.run;
        Ok(id)
    }

    /// Starts the request, or queues it behind others that wait for the same.
    pub(crate) fn begin(&mut self, id: RequestIndex, memory: &PullUp<'_>) {
        if self.deallocating > 0 && self.hold_back(id) {
            return;
        }
        let slot = &self.requests[id];
        let volume = &self.volumes[slot.volume];
        match slot.phase {
            Phase::Reading if !volume.stalled_reads.is_empty() => self.stall(id),
            Phase::Merging { .. } if !volume.stalled_writes.is_empty() => self.stall(id),
            Phase::Flushing => self.begin_flush(id),
            Phase::Deallocating => self.begin_deallocation(id),
            _ => self.step(id, memory),
        }
    }

    /// The request waits behind those of its volume that wait for the same.
    fn stall(&mut self, id: RequestIndex) {
        let slot = &self.requests[id];
        let volume = &mut self.volumes[slot.volume];
        self.stalled += 1;
        match slot.phase {
            Phase::Reading => volume.stalled_reads.push_back(&mut self.requests, id),
            _ => volume.stalled_writes.push_back(&mut self.requests, id),
        }
    }

    /// Advances the request as far as possible now.
    pub(crate) fn step(&mut self, id: RequestIndex, memory: &PullUp<'_>) {
        match self.requests[id].phase {
            Phase::Reading => {
                if !self.step_read(id, memory) {
                    self.stall(id);
                }
            }
            Phase::Merging { .. } => {
                if !self.step_write(id, memory) {
                    self.stall(id);
                }
            }
            Phase::Settling { .. } => {
                if !self.step_settle(id) {
                    let volume = self.requests[id].volume;
                    (self.volumes[volume].blocked).push_back(&mut self.requests, id);
                }
            }
            Phase::Deallocating => self.step_deallocation(id),
            Phase::Free
            | Phase::Flushing
            | Phase::FlushingDevice
            | Phase::DeallocatingDevice
            | Phase::Done => (),
        }
    }

    /// The request is done; its error, if any, is set.
    pub(crate) fn finish(&mut self, id: RequestIndex) {
        let slot = &mut self.requests[id];
        debug_assert_eq!(slot.pending, 0);
        slot.phase = Phase::Done;
        if let Some(entry) = slot.pinned.take() {
            self.unpin(entry);
        }
        self.done.push_back(&mut self.requests, id);
    }

    /// After an operation of `volume` completed: everything that may go on now does.
    pub(crate) fn go_on(&mut self, volume: VolumeId, memory: &PullUp<'_>) {
        for other in self.in_turn() {
            let wants_operation = self.volumes[other].share.wants_operation;
            if other == volume || wants_operation && self.may_issue(other) {
                self.volumes[other].share.wants_operation = false;
                self.unblock(other, memory);
            }
        }
        self.resume(memory);
        self.fail_if_stuck();
    }

    /// Requests of `volume` that wait for pages in flight, or for an operation, go on.
    fn unblock(&mut self, volume: VolumeId, memory: &PullUp<'_>) {
        for _ in 0..self.volumes[volume].blocked.len() {
            if let Some(id) = (self.volumes[volume].blocked).pop_front(&mut self.requests) {
                self.step(id, memory);
            }
        }
        self.write_wanted(volume);
        self.finish_flushes(volume);
        self.release_held(volume, memory);
    }

    /// All volumes; the one that is first is the last next time: none has what is left every time.
    fn in_turn(&mut self) -> impl Iterator<Item = VolumeId> + use<> {
        let volumes = self.volumes.ids_from(self.first);
        self.first = self.volumes.behind(self.first);
        volumes
    }

    /// Lets requests that waited for memory go on, those of each volume in their
    /// order, until one has to wait again. [`PageCache::complete`] does this itself;
    /// call it when others have given pages back to the pool.
    pub fn resume(&mut self, memory: &PullUp<'_>) {
        if !self.has_stalled() {
            return;
        }
        for volume in self.in_turn() {
            if self.volumes[volume].has_stalled() {
                self.volumes[volume].share.is_greedy = false;
                self.resume_reads(volume, memory);
                self.resume_writes(volume, memory);
            }
        }
        self.go_on_deallocating();
    }

    fn resume_reads(&mut self, volume: VolumeId, memory: &PullUp<'_>) {
        while let Some(id) = (self.volumes[volume].stalled_reads).pop_front(&mut self.requests) {
            if !self.step_read(id, memory) {
                let stalled = &mut self.volumes[volume].stalled_reads;
                return stalled.push_front(&mut self.requests, id);
            }
            self.stalled -= 1;
        }
    }

    fn resume_writes(&mut self, volume: VolumeId, memory: &PullUp<'_>) {
        while let Some(id) = (self.volumes[volume].stalled_writes).pop_front(&mut self.requests) {
            if !self.step_write(id, memory) {
                let stalled = &mut self.volumes[volume].stalled_writes;
                return stalled.push_front(&mut self.requests, id);
            }
            self.stalled -= 1;
        }
    }
}
