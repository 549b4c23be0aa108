//! Requests to the engine, and its completions.

use super::{Phase, Queue, Session, flow};
use crate::request::{Completion, Operation, Request, RequestId};
use crate::shard::Shard;
use crate::slots::{SlotIndex, SlotState, Work};
use crate::status::Status;

impl Session {
    /// The next request for the engine, if one is ready.
    pub fn next_request(&mut self, shard: &mut Shard<'_>) -> Option<Request> {
        loop {
            if self.closing().is_some() {
                return None;
            }
            let index = self.ready.pop(&shard.commands.slots)?;
            if let Some(request) = self.request(index, shard) {
                self.at_device += 1;
                shard.commands.slots[index].state = SlotState::AtDevice;
                return Some(request);
            }
            // Dataset Management without a range left.
            self.respond(index, shard);
        }
    }

    fn request(&mut self, index: SlotIndex, shard: &mut Shard<'_>) -> Option<Request> {
        let slot = &mut shard.commands.slots[index];
        let operation = match slot.work {
            Work::Read { range, fua } => Operation::Read {
                range,
                fua,
                run: slot.run.take()?,
            },
            Work::Write { range, fua } => {
                shard.ledger.stored(slot.len as usize);
                shard.counters.bytes_in += u64::from(slot.len);
                Operation::Write {
                    range,
                    fua,
                    run: slot.run.take()?,
                }
            }
            Work::WriteZeroes {
                range,
                fua,
                deallocate,
            } => Operation::WriteZeroes {
                range,
                fua,
                deallocate,
            },
            Work::Flush => Operation::Flush,
            Work::Dataset {
                ranges,
                next,
                deallocate,
            } => {
                let mut left =
                    (next..ranges).map(|n| (n, flow::non_empty(flow::dataset_range(slot, n))));
                let (n, range) = left.find_map(|(n, range)| Some((n, range?)))?;
                slot.work = Work::Dataset {
                    ranges,
                    next: n + 1,
                    deallocate,
                };
                Operation::Deallocate { range }
            }
            _ => return None,
        };
        Some(Request {
            id: RequestId {
                slot: index.0,
                generation: slot.generation,
            },
            volume: slot.volume.volume,
            nsid: slot.volume.nsid,
            block_size: slot.volume.block_size,
            operation,
        })
    }

    /// Takes an answer of the engine, and queues what goes to the host for it.
    /// After [`Session::close`] it only gives back what the request held.
    ///
    /// A read that is said to have succeeded but whose run is not complete
    /// fails. The completion of a request that is not outstanding is dropped.
    pub fn complete(&mut self, completion: Completion, shard: &mut Shard<'_>) {
        let Completion { id, status, run } = completion;
        let index = SlotIndex(id.slot);
        let slot = shard.commands.slots.get(index).filter(|slot| {
            slot.owner == self.id
                && slot.generation == id.generation
                && slot.state == SlotState::AtDevice
        });
        let Some(slot) = slot else {
            debug_assert!(false, "a completion without its request");
            if let Some(run) = run {
                shard.runs.put(run);
            }
            return;
        };
        let (work, len) = (slot.work, slot.len);
        self.at_device -= 1;
        if let Some(run) = run {
            shard.commands.slots[index].run = Some(run);
        }
        if matches!(self.phase, Phase::Closed(_)) {
            return self.release(index, shard);
        }
        if !status.is_success() {
            return self.fail(index, status, shard);
        }
        match work {
            Work::Read { .. } => {
                let run = shard.commands.slots[index].run.as_ref();
                let whole = run.is_some_and(|r| r.len() == len as usize && r.is_complete());
                if !whole {
                    return self.fail(index, Status::INTERNAL_ERROR, shard);
                }
                shard.ledger.loaded(len as usize);
                if let Queue::Io(io) = &mut self.queue {
                    io.reads += 1;
                    io.units_read += u64::from(len.div_ceil(512));
                }
                self.respond(index, shard);
            }
            Work::Dataset { .. } => {
                // The next range, if there is one.
                shard.commands.slots[index].state = SlotState::Ready;
                self.ready.push(&mut shard.commands.slots, index);
            }
            _ => {
                if let (Queue::Io(io), Work::Write { .. }) = (&mut self.queue, work) {
                    io.writes += 1;
                    io.units_written += u64::from(len.div_ceil(512));
                }
                self.respond(index, shard);
            }
        }
    }
}
