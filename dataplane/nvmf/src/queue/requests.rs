//! Requests to the volumes, and their completions.

use block::{Completion, Flags, Io, Request, RequestId};
use mutant::mutant;

use super::slots::{Fifo, Slot, SlotIndex, SlotState, Slots};
use super::{Queue, Role, Transport, flow};
use crate::resources::Resources;
use crate::status::Status;
use crate::units::Nsid;
use crate::work::Work;

/// Commands that have, or had, requests for the volumes.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Commands with requests to hand out.
    ready: Fifo,
    /// Requests that the volumes have.
    at_device: u16,
}

impl Requests {
    /// The command has requests to hand out.
    #[inline]
    pub fn push(&mut self, slots: &mut Slots, index: SlotIndex) {
        self.ready.push(slots, index);
    }

    /// The command in `index` hands out nothing; whether it was to.
    pub fn drop(&mut self, slots: &mut Slots, index: SlotIndex) -> bool {
        self.ready.remove(slots, index)
    }

    /// Requests handed out and not completed.
    pub fn outstanding(&self) -> usize {
        self.at_device.into()
    }

    /// Hands out nothing more.
    pub fn drop_ready(&mut self) {
        self.ready = Fifo::EMPTY;
    }
}

impl Queue {
    /// The next request for the volumes, if one is ready.
    pub fn next_request(
        &mut self,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> Option<Request> {
        loop {
            if self.is_over() {
                return None;
            }
            let index = self.requests.ready.head()?;
            let io = self.next_io(index, resources);
            let slot = &mut resources.commands.slots[index];
            let is_last = match slot.work {
                Work::Dataset { ranges, next, .. } => next == ranges,
                Work::ShutDown { next } => next.is_none(),
                _ => true,
            };
            slot.at_device += u16::from(io.is_some());
            let (generation, namespace, at_device) =
                (slot.generation, slot.namespace.index, slot.at_device);
            if is_last {
                slot.enter(SlotState::AtDevice);
                self.requests.ready.pop(&resources.commands.slots);
            }
            if let Some(io) = io {
                self.requests.at_device += 1;
                return Some(Request {
                    id: request_id(index, generation),
                    namespace,
                    io,
                });
            }
            // Dataset Management whose last ranges are empty; a shutdown with nothing cached.
            if at_device == 0 {
                self.finish(index, transport, resources);
            }
        }
    }

    /// The next operation of the first command that is ready.
    #[inline(always)] // Once for most commands.
    fn next_io(&mut self, index: SlotIndex, resources: &mut Resources<'_>) -> Option<Io> {
        let slot = &mut resources.commands.slots[index];
        Some(match slot.work {
            Work::Read { fua, .. } => Io::read(slot.run.take()?, Flags::fua(fua)),
            Work::Write { fua, .. } => {
                resources.ledger.stored(slot.len as usize);
                resources.counters.bytes_in += u64::from(slot.len);
                Io::write(slot.run.take()?, Flags::fua(fua))
            }
            Work::WriteZeroes {
                range,
                fua,
                deallocate,
            } => {
                let size = slot.namespace.block_size;
                let flags = Flags {
                    fua,
                    deallocate,
                    forwarded: false,
                };
                Io::write_zeroes(range.offset(size), range.len(size), flags)
            }
            Work::Flush => Io::flush(),
            Work::ShutDown { next } => {
                let admin = match &self.role {
                    Role::Admin(admin) => Some(admin),
                    _ => None,
                };
                let cached = |first| admin?.next_cached(first);
                let flush = next.and_then(cached);
                let behind = flush.and_then(|namespace| cached(Nsid(namespace.nsid.0 + 1)));
                let next = behind.map(|namespace| namespace.nsid);
                slot.work = Work::ShutDown { next };
                slot.namespace = flush?;
                Io::flush()
            }
            Work::Dataset {
                ranges,
                mut next,
                deallocate,
            } => {
                let mut range = None;
                while range.is_none() && next < ranges {
                    range = flow::non_empty(flow::dataset_range(slot, next));
                    next += 1;
                }
                slot.work = Work::Dataset {
                    ranges,
                    next,
                    deallocate,
                };
                let (range, size) = (range?, slot.namespace.block_size);
                Io::deallocate(range.offset(size), range.len(size))
            }
            _ => return None,
        })
    }

    /// Takes the end of a request, and has the transport send what goes to the host
    /// for it. After [`Queue::close`] it only gives back what the request held.
    ///
    /// A read that is said to have succeeded but whose run is not complete
    /// fails. The completion of a request that is not outstanding is dropped.
    pub fn complete(
        &mut self,
        completion: Completion,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        let Completion { id, result, run } = completion;
        let Some((index, _)) = self.slot_of(id, resources) else {
            debug_assert!(false, "a completion without its request");
            if let Some(run) = run {
                resources.runs.put(run);
            }
            return;
        };
        self.requests.at_device -= 1;
        let slot = &mut resources.commands.slots[index];
        slot.at_device -= 1;
        if run.is_some() {
            slot.run = run;
        }
        // The first error of several requests is the command's.
        if slot.status.is_success() {
            slot.status = Status::of(result);
        }
        if slot.at_device > 0 {
            return;
        }
        self.note_traffic();
        if self.is_over() {
            if let Some(fence) = slot.fence.take() {
                self.target.fences().lower(fence);
            }
            self.note_quiet();
        }
        if self.is_closed() {
            self.release(index, resources);
        } else if slot.state == SlotState::AtDevice {
            self.finish(index, transport, resources);
        }
    }

    /// The slot of the command that the volumes have request `id` for.
    #[inline]
    pub(super) fn slot_of<'r>(
        &self,
        id: RequestId,
        resources: &'r Resources<'_>,
    ) -> Option<(SlotIndex, &'r Slot)> {
        let (index, generation) = slot_of(id);
        let slot = resources.commands.slots.get(index)?;
        let is_it = slot.queue == self.id && slot.generation == generation && slot.at_device > 0;
        is_it.then_some((index, slot))
    }

    /// Fences the blocks that volumes may still change for commands of this queue.
    pub(super) fn raise_fences(&mut self, resources: &mut Resources<'_>) {
        let fences = self.target.fences();
        let mut index = self.held.first();
        while index != SlotIndex::NONE {
            let slot = &mut resources.commands.slots[index];
            if slot.at_device > 0
                && let Some((offset, len)) = changes(slot)
                && !mutant!("orphan-not-fenced")
            {
                slot.fence = Some(fences.raise(slot.namespace.index, offset, len));
            }
            index = resources.commands.slots.after(index);
        }
    }

    /// The volumes are done with all of a command.
    fn finish(
        &mut self,
        index: SlotIndex,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        let slot = &mut resources.commands.slots[index];
        let (work, len) = (slot.work, slot.len);
        if let Work::Read { .. } = work
            && slot.status.is_success()
        {
            let run = slot.run.as_ref();
            if !run.is_some_and(|r| r.len() == len as usize && r.is_complete()) {
                slot.status = Status::INTERNAL_ERROR;
            }
        }
        if !slot.status.is_success() {
            let status = slot.status;
            return self.fail(index, status, transport, resources);
        }
        if let Role::Io(io) = &mut self.role {
            io.count(&work, len);
        }
        match work {
            Work::Read { .. } => resources.ledger.loaded(len as usize),
            Work::ShutDown { .. } => {
                if let Role::Admin(admin) = &mut self.role {
                    admin.flushed();
                }
            }
            _ => {}
        }
        self.respond(index, transport, resources);
    }
}

/// Bytes that the volumes may change for the command in `slot`: offset and length.
fn changes(slot: &Slot) -> Option<(u64, u64)> {
    let size = slot.namespace.block_size;
    match slot.work {
        Work::Write { range, .. } | Work::WriteZeroes { range, .. } => {
            Some((range.offset(size), range.len(size)))
        }
        Work::Dataset { next, .. } => {
            let ranges = (0..next).map(|n| flow::dataset_range(slot, n));
            let ranges = || ranges.clone().filter_map(flow::non_empty);
            let first = ranges().map(|range| range.offset(size)).min()?;
            let end = ranges().map(|range| range.offset(size) + range.len(size));
            Some((first, end.max()? - first))
        }
        _ => None,
    }
}

/// What a request of the command in `slot` is known by: no later command of the slot has it.
pub(super) fn request_id(slot: SlotIndex, generation: u32) -> RequestId {
    RequestId(u64::from(generation) << 16 | u64::from(slot.0))
}

/// The slot of a request, and which of its commands it was for.
fn slot_of(id: RequestId) -> (SlotIndex, u32) {
    (SlotIndex(id.0 as u16), (id.0 >> 16) as u32)
}
