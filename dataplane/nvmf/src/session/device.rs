//! Requests to the engine, and its completions.

use super::{Phase, Queue, Session, flow};
use block::{Completion, Flags, Io, Request, RequestId};

use crate::shard::Shard;
use crate::slots::{SlotIndex, SlotState, Work};
use crate::status::Status;
use crate::units::Nsid;

impl Session {
    /// The next request for the engine, if one is ready.
    pub fn next_request(&mut self, shard: &mut Shard<'_>) -> Option<Request> {
        loop {
            if self.closing().is_some() {
                return None;
            }
            let index = self.ready.head()?;
            let io = self.next_io(index, shard);
            let slot = &mut shard.commands.slots[index];
            let is_last = match slot.work {
                Work::Dataset { ranges, next, .. } => next == ranges,
                Work::ShutDown { next } => next.is_none(),
                _ => true,
            };
            if is_last {
                slot.enter(SlotState::AtDevice);
                self.ready.pop(&shard.commands.slots);
            }
            let slot = &mut shard.commands.slots[index];
            if let Some(io) = io {
                slot.at_device += 1;
                self.at_device += 1;
                return Some(Request {
                    id: request_id(index, slot.generation),
                    namespace: slot.volume.volume,
                    io,
                });
            }
            // Dataset Management whose last ranges are empty; a shutdown with nothing cached.
            if slot.at_device == 0 {
                self.finish(index, shard);
            }
        }
    }

    /// What the command at the head of `ready` asks for next.
    fn next_io(&mut self, index: SlotIndex, shard: &mut Shard<'_>) -> Option<Io> {
        let slot = &mut shard.commands.slots[index];
        Some(match slot.work {
            Work::Read { fua, .. } => Io::read(slot.run.take()?, Flags::fua(fua)),
            Work::Write { fua, .. } => {
                shard.ledger.stored(slot.len as usize);
                shard.counters.bytes_in += u64::from(slot.len);
                Io::write(slot.run.take()?, Flags::fua(fua))
            }
            Work::WriteZeroes {
                range,
                fua,
                deallocate,
            } => {
                let size = slot.volume.block_size;
                let flags = Flags { fua, deallocate };
                Io::write_zeroes(range.offset(size), range.len(size), flags)
            }
            Work::Flush => Io::flush(),
            Work::ShutDown { next } => {
                let admin = match &self.queue {
                    Queue::Admin(admin) => Some(admin),
                    _ => None,
                };
                let cached = |first| admin?.next_cached(first);
                let flush = next.and_then(cached);
                let behind = flush.and_then(|volume| cached(Nsid(volume.nsid.0 + 1)));
                let next = behind.map(|volume| volume.nsid);
                slot.work = Work::ShutDown { next };
                slot.volume = flush?;
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
                let (range, size) = (range?, slot.volume.block_size);
                Io::deallocate(range.offset(size), range.len(size))
            }
            _ => return None,
        })
    }

    /// Takes an answer of the engine, and queues what goes to the host for it.
    /// After [`Session::close`] it only gives back what the request held.
    ///
    /// A read that is said to have succeeded but whose run is not complete
    /// fails. The completion of a request that is not outstanding is dropped.
    pub fn complete(&mut self, completion: Completion, shard: &mut Shard<'_>) {
        let Completion { id, result, run } = completion;
        let (index, generation) = slot_of(id);
        let slot = shard.commands.slots.get(index).filter(|slot| {
            slot.owner == self.id && slot.generation == generation && slot.at_device > 0
        });
        if slot.is_none() {
            debug_assert!(false, "a completion without its request");
            if let Some(run) = run {
                shard.runs.put(run);
            }
            return;
        }
        self.at_device -= 1;
        let slot = &mut shard.commands.slots[index];
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
        if matches!(self.phase, Phase::Closed(_)) {
            self.release(index, shard);
        } else if slot.state == SlotState::AtDevice {
            self.finish(index, shard);
        }
    }

    /// The engine is done with all of a command.
    fn finish(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        let slot = &mut shard.commands.slots[index];
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
            return self.fail(index, status, shard);
        }
        if let Queue::Io(io) = &mut self.queue {
            let units = u64::from(len.div_ceil(512));
            match work {
                Work::Read { .. } => {
                    io.reads += 1;
                    io.units_read += units;
                }
                Work::Write { .. } => {
                    io.writes += 1;
                    io.units_written += units;
                }
                _ => {}
            }
        }
        match work {
            Work::Read { .. } => shard.ledger.loaded(len as usize),
            Work::ShutDown { .. } => {
                if let Queue::Admin(admin) = &mut self.queue {
                    admin.flushed();
                }
            }
            _ => {}
        }
        self.respond(index, shard);
    }
}

/// What a request of the command in `slot` is known by: no later command of the slot has it.
fn request_id(slot: SlotIndex, generation: u32) -> RequestId {
    RequestId(u64::from(generation) << 16 | u64::from(slot.0))
}

/// The slot of a request, and which of its commands it was for.
fn slot_of(id: RequestId) -> (SlotIndex, u32) {
    (SlotIndex(id.0 as u16), (id.0 >> 16) as u32)
}
