//! Flow control and the course of a command: who gets a run, when an R2T is
//! sent, when a command is complete.

use pages::{PAGE_SIZE, PageRun};

use super::{Queue, Session};
use crate::command::DatasetRange;
use crate::shard::{Purpose, Shard};
use crate::slots::{Slot, SlotIndex, SlotState, VolumeRef, Work};
use crate::status::Status;
use crate::units::{BlockRange, Cid, Timestamp};

/// A command that takes data which the host is still to be asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    /// When it came.
    since: Timestamp,
    work: Work,
    volume: VolumeRef,
    len: u32,
    cid: Cid,
}

impl Session {
    /// The command in `index` takes data that the host is to be asked for: now,
    /// or when those before it have been and there is what it takes.
    #[inline]
    pub(super) fn ask(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        if self.asking.is_empty() && self.ask_now(index, shard) {
            return;
        }
        let slot = &shard.commands.slots[index];
        self.asking.push_back(Asking {
            since: self.now,
            work: slot.work,
            volume: slot.volume,
            len: slot.len,
            cid: slot.cid,
        });
        self.set_aside(index, shard);
        // Those that wait take their slots for granted commands, this one too.
        self.promote(shard);
    }

    /// A command whose data goes to the host.
    pub(super) fn await_run(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        shard.commands.slots[index].since = self.now;
        shard.commands.slots[index].enter(SlotState::Waiting);
        self.filling.push(&mut shard.commands.slots, index);
        self.promote(shard);
    }

    /// Gives runs and credit to commands that wait for them, as far as they go.
    pub(super) fn promote(&mut self, shard: &mut Shard<'_>) {
        while let Some(index) = self.filling.head() {
            if !self.fill(index, shard) {
                let since = shard.commands.slots[index].since;
                shard.commands.waits(since, self.now);
                break;
            }
        }
        while let Some(&asking) = self.asking.front() {
            if !self.ask_next(&asking, shard) {
                if self.granted == 0 {
                    shard.commands.queue_up(self.id);
                    shard.commands.waits(asking.since, self.now);
                }
                break;
            }
            self.asking.pop_front();
        }
    }

    /// Asks for the data of the write that has waited longest; false if anything is short.
    fn ask_next(&mut self, asking: &Asking, shard: &mut Shard<'_>) -> bool {
        let taken = (shard.commands).take(Purpose::Ask, asking.cid, &mut self.held);
        let Some(index) = taken else {
            return false;
        };
        let slot = &mut shard.commands.slots[index];
        slot.work = asking.work;
        slot.volume = asking.volume;
        slot.len = asking.len;
        let asked = self.ask_now(index, shard);
        if !asked {
            self.set_aside(index, shard);
        }
        asked
    }

    /// Asks for data, if there is what it takes.
    #[inline]
    fn ask_now(&mut self, index: SlotIndex, shard: &mut Shard<'_>) -> bool {
        let Some(run) = shard.run_for_r2t() else {
            return false;
        };
        let Some(credit) = shard.commands.take_credit(index, self.granted) else {
            shard.runs.put(run);
            return false;
        };
        self.granted += credit;
        if self.begin(index, run, shard) {
            self.send_r2t(index, shard);
        }
        true
    }

    /// Gets the head of `filling` going; false if something is short.
    fn fill(&mut self, index: SlotIndex, shard: &mut Shard<'_>) -> bool {
        let run = match &self.queue {
            Queue::Admin(_) => shard.runs.take(),
            _ => shard.run_for_read(),
        };
        let Some(run) = run else {
            return false;
        };
        let slot = &shard.commands.slots[index];
        if !matches!(slot.work, Work::Read { .. }) {
            let pages = (slot.len as usize).div_ceil(PAGE_SIZE);
            if shard.pages.free() < pages {
                shard.runs.put(run);
                return false;
            }
        }
        self.filling.pop(&shard.commands.slots);
        if !self.begin(index, run, shard) {
            return true;
        }
        let work = shard.commands.slots[index].work;
        if let Work::Read { .. } = work {
            self.make_ready(index, shard);
            return true;
        }
        match self.build(index, shard) {
            Ok(()) => self.respond(index, shard),
            Err(status) => self.fail(index, status, shard),
        }
        true
    }

    /// Begins `run` for the command; fails the command if it is too long for one.
    fn begin(&mut self, index: SlotIndex, mut run: Box<PageRun>, shard: &mut Shard<'_>) -> bool {
        let slot = &mut shard.commands.slots[index];
        let offset = match slot.work {
            Work::Read { range, .. } | Work::Write { range, .. } => {
                range.offset(slot.volume.block_size)
            }
            _ => 0,
        };
        let begun = run.begin(offset, slot.len as usize).is_ok();
        slot.run = Some(run);
        if !begun {
            self.fail(index, Status::INTERNAL_ERROR, shard);
        }
        begun
    }

    /// Writes control data into fresh pages of the command's run.
    fn build(&mut self, index: SlotIndex, shard: &mut Shard<'_>) -> Result<(), Status> {
        let Queue::Admin(admin) = &mut self.queue else {
            return Err(Status::INTERNAL_ERROR);
        };
        let slot = &shard.commands.slots[index];
        let (work, nsid, len) = (slot.work, slot.volume.nsid, slot.len as usize);
        for at in (0..len).step_by(PAGE_SIZE) {
            let n = PAGE_SIZE.min(len - at);
            let mut page = shard.pages.alloc().ok_or(Status::INTERNAL_ERROR)?;
            admin.fill(
                work,
                nsid,
                self.target.subsystems(),
                at as u64,
                &mut page[..n],
            );
            let slice = page.freeze().slice(0..n);
            let run = shard.commands.slots[index].run.take();
            let mut run = run.ok_or(Status::INTERNAL_ERROR)?;
            let placed = run.place(at, slice, &shard.pull_up());
            shard.commands.slots[index].run = Some(run);
            placed.map_err(|_| Status::INTERNAL_ERROR)?;
        }
        admin.filled(work);
        Ok(())
    }

    /// Asks for as much of the data to come as one PDU may carry. One R2T per
    /// command is out at a time, whatever MAXR2T allows.
    fn send_r2t(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        let most = self.target.config().max_h2c_bytes;
        let slot = &mut shard.commands.slots[index];
        slot.granted = slot.moved + most.min(slot.len - slot.moved);
        slot.enter(SlotState::Asking);
        self.tx.queue(&mut shard.commands.slots, index);
    }

    /// All data of an R2T has come.
    pub(super) fn r2t_answered(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        self.owed -= 1;
        let slot = &shard.commands.slots[index];
        if slot.moved < slot.len && slot.status.is_success() {
            self.send_r2t(index, shard);
        } else {
            shard.commands.answered(index);
            self.start(index, shard);
        }
    }

    /// The command has all the data it takes: it runs.
    pub(super) fn start(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        let slot = &shard.commands.slots[index];
        if !slot.status.is_success() {
            let status = slot.status;
            return self.fail(index, status, shard);
        }
        match slot.work {
            Work::Write { .. } | Work::WriteZeroes { .. } | Work::Flush | Work::ShutDown { .. } => {
                self.make_ready(index, shard);
            }
            Work::Dataset { .. } => self.start_dataset(index, shard),
            Work::Connect { .. } => self.connect(index, shard),
            Work::Disconnect => {
                self.respond(index, shard);
                self.shut(super::CloseReason::Disconnected);
            }
            Work::Park => self.park(index, shard),
            Work::SetHostBehavior => {
                let mut acre = [0];
                gather(slot, 0, &mut acre);
                if let Queue::Admin(admin) = &mut self.queue {
                    admin.set_host_behavior(acre[0]);
                }
                self.respond(index, shard);
            }
            _ => self.respond(index, shard),
        }
    }

    /// The ranges of Dataset Management have come: each must be inside the
    /// namespace before any is handed out.
    fn start_dataset(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        let slot = &shard.commands.slots[index];
        let Work::Dataset {
            ranges, deallocate, ..
        } = slot.work
        else {
            return;
        };
        let blocks = match &mut self.queue {
            Queue::Io(io) => io.blocks_of(slot.volume),
            _ => None,
        };
        let Some(blocks) = blocks else {
            return self.fail(index, Status::INVALID_NAMESPACE, shard);
        };
        let outside = (0..ranges).any(|n| {
            let range = dataset_range(slot, n);
            let end = range.first.0.checked_add(range.blocks.into());
            end.is_none_or(|end| end > blocks)
        });
        if outside {
            self.fail(index, Status::LBA_OUT_OF_RANGE, shard);
        } else if deallocate {
            self.make_ready(index, shard);
        } else {
            self.respond(index, shard);
        }
    }

    /// Parks an asynchronous event request (base 5.2).
    fn park(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        let cid = shard.commands.slots[index].cid;
        let parked = match &mut self.queue {
            Queue::Admin(admin) => admin.events.park(cid),
            _ => false,
        };
        if !parked {
            return self.fail(index, Status::ASYNC_EVENT_LIMIT_EXCEEDED, shard);
        }
        self.set_aside(index, shard);
        self.send_events(shard);
    }

    fn make_ready(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        shard.commands.slots[index].enter(SlotState::Ready);
        self.ready.push(&mut shard.commands.slots, index);
    }

    /// The command is over with `status`, an error.
    pub(super) fn fail(&mut self, index: SlotIndex, status: Status, shard: &mut Shard<'_>) {
        shard.counters.errors += 1;
        shard.commands.slots[index].status = status;
        if let Some(run) = shard.commands.slots[index].run.take() {
            shard.runs.put(run);
        }
        self.respond(index, shard);
    }

    /// The command is over: its response, after its data if it still has a
    /// run that goes to the host, is to be sent.
    pub(super) fn respond(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        self.granted -= shard.commands.return_credit(index);
        let slot = &mut shard.commands.slots[index];
        if !slot.work.is_to_host()
            && let Some(run) = slot.run.take()
        {
            shard.runs.put(run);
        }
        slot.enter(SlotState::Sending);
        slot.moved = 0;
        self.tx.queue(&mut shard.commands.slots, index);
    }

    /// Responds to a command that never got a slot.
    pub(super) fn refuse(&mut self, cid: Cid, shard: &mut Shard<'_>) {
        let status = self.interrupted(shard);
        shard.counters.errors += 1;
        self.tx.refuse(cid, status);
    }

    /// The status of a command that the shard has no resources for.
    pub(super) fn interrupted(&self, shard: &mut Shard<'_>) -> Status {
        shard.counters.interrupted += 1;
        let delays = match &self.queue {
            Queue::Io(io) => io.controller.retry_delays(),
            Queue::Admin(admin) => admin.controller.retry_delays(),
            Queue::None => false,
        };
        if delays {
            Status::COMMAND_INTERRUPTED.with_retry_delay()
        } else {
            Status::COMMAND_INTERRUPTED
        }
    }
}

/// Range `n` of Dataset Management.
pub(super) fn dataset_range(slot: &Slot, n: u16) -> DatasetRange {
    let mut bytes = [0; DatasetRange::LEN];
    gather(slot, usize::from(n) * DatasetRange::LEN, &mut bytes);
    DatasetRange::read(&bytes)
}

/// The range as one to deallocate; `None` if it is empty.
pub(super) fn non_empty(range: DatasetRange) -> Option<BlockRange> {
    BlockRange::new(range.first, range.blocks)
}

/// Reads control data of a command, from `at` on, wherever it lies.
pub(super) fn gather(slot: &Slot, at: usize, out: &mut [u8]) {
    let Some(run) = &slot.run else { return };
    let mut rest = out;
    for slice in run.slices(at..at + rest.len()) {
        let (head, tail) = rest.split_at_mut(slice.len());
        head.copy_from_slice(slice.bytes());
        rest = tail;
    }
}
