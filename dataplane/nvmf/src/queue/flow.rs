//! The course of a command: who gets a run, when data is fetched, when a command
//! is over.

mod waits;

use std::collections::VecDeque;

use pages::{PAGE_SIZE, PageRun};

use super::pool::Purpose;
use super::slots::{Credit, Fifo, Slot, SlotIndex, SlotState};
use super::{End, Queue, Role, Transport};
use crate::command::DatasetRange;
use crate::resources::Resources;
use crate::status::Status;
use crate::units::{BlockRange, Cid, Timestamp};
use crate::work::{NamespaceRef, Work};

/// Commands that were held back which are looked at in one go.
const LOOKED_AT: usize = 8;

/// Commands of a queue that wait for what the shard is short of, and the credit of
/// those that have got it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Commands whose data is to be fetched, waiting for a slot, a run and credit;
    /// room for as many as the queue has entries.
    fetches: VecDeque<WaitingCommand>,
    /// Commands of namespaces that have their share, waiting for others of it to be done; they have
    /// no slots, and no other command waits behind them. Room as above.
    held_back: VecDeque<WaitingCommand>,
    /// Commands whose data goes to the host, waiting for a run.
    pub(super) fills: Fifo,
    /// Bytes of credit that the queue's commands hold.
    credit: u64,
    /// Bytes of the reads that have runs.
    owed: u64,
}

/// A command that waits without a slot.
#[derive(Clone, Copy, Debug)]
struct WaitingCommand {
    /// When it came.
    since: Timestamp,
    work: Work,
    namespace: NamespaceRef,
    len: u32,
    cid: Cid,
    /// It is to fail so when there is a slot for that: see [`Waiting::abort_fetch`].
    fails_with: Option<Status>,
}

impl WaitingCommand {
    /// The command in `slot`, which is to be given back.
    fn of(slot: &Slot, now: Timestamp) -> Self {
        Self {
            since: now,
            work: slot.work,
            namespace: slot.namespace,
            len: slot.len,
            cid: slot.cid,
            fails_with: None,
        }
    }

    /// Goes on in `slot`, which was taken for it.
    fn resume(&self, slot: &mut Slot) {
        slot.work = self.work;
        slot.namespace = self.namespace;
        slot.len = self.len;
    }
}

impl Waiting {
    /// Makes room for the commands of a queue of so many entries.
    pub fn reserve(&mut self, entries: usize) {
        self.fetches.reserve_exact(entries);
        self.held_back.reserve_exact(entries);
    }

    pub fn is_empty(&self) -> bool {
        self.fetches.is_empty() && self.fills.is_empty() && self.held_back.is_empty()
    }

    /// Whether the data of the command `cid` waits to be fetched.
    pub fn has_fetch(&self, cid: Cid) -> bool {
        let mut waiting = self.fetches.iter().chain(&self.held_back);
        waiting.any(|command| command.cid == cid)
    }

    /// The command `cid` fails in its turn, instead of being fetched; false if it does not wait.
    pub fn abort_fetch(&mut self, cid: Cid) -> bool {
        // What its namespace has is no matter to it any more.
        let held = self.held_back.iter().position(|held| held.cid == cid);
        self.fetches
            .extend(held.and_then(|at| self.held_back.remove(at)));
        let fetch = self.fetches.iter_mut().find(|fetch| fetch.cid == cid);
        fetch.is_some_and(|fetch| {
            fetch.fails_with = Some(Status::ABORT_REQUESTED);
            true
        })
    }

    /// Commands fail in their turn with what `status` says of their namespaces.
    pub fn fail_in_turn(&mut self, status: impl Fn(NamespaceRef) -> Option<Status>) {
        for _ in 0..self.held_back.len() {
            let Some(held) = self.held_back.pop_front() else {
                break;
            };
            match status(held.namespace) {
                // What its namespace has is no matter to it any more.
                Some(_) => self.fetches.push_back(held),
                None => self.held_back.push_back(held),
            }
        }
        for fetch in &mut self.fetches {
            fetch.fails_with = fetch.fails_with.or_else(|| status(fetch.namespace));
        }
    }

    /// Forgets the command `cid`.
    pub fn drop_fetch(&mut self, cid: Cid) {
        self.fetches.retain(|fetch| fetch.cid != cid);
        self.held_back.retain(|held| held.cid != cid);
    }

    /// Forgets the commands that have no slots.
    pub fn drop_fetches(&mut self) {
        self.fetches = VecDeque::new();
        self.held_back = VecDeque::new();
    }

    /// Forgets every command; their slots are released.
    pub fn drop_all(&mut self) {
        self.drop_fetches();
        self.fills = Fifo::EMPTY;
    }

    /// A command needs the `credit` no more that was taken out of its slot.
    #[inline]
    pub fn return_credit(&mut self, credit: Credit, resources: &mut Resources<'_>) {
        self.credit -= resources.commands.return_credit(credit);
    }

    /// The transport has all that a command read whose slot had `owed`, or it has read nothing.
    #[inline]
    pub fn settle(&mut self, owed: u32) {
        self.owed -= u64::from(owed);
    }
}

impl Queue {
    /// Has the command in `index` wait until others of its namespace, which has its share, are done.
    #[cold]
    pub(super) fn hold_back(&mut self, index: SlotIndex, resources: &mut Resources<'_>) {
        let slot = &resources.commands.slots[index];
        (self.waiting.held_back).push_back(WaitingCommand::of(slot, self.now));
        self.set_aside(index, resources);
    }

    /// Lets those go on that were held back and whose namespaces have less than their share now.
    #[cold]
    fn release_held_back(&mut self, transport: &mut impl Transport, resources: &mut Resources<'_>) {
        for _ in 0..self.waiting.held_back.len().min(LOOKED_AT) {
            let Some(held) = self.waiting.held_back.pop_front() else {
                break;
            };
            if self.waits_for_device(held.namespace, &held.work, held.len, transport, resources) {
                self.waiting.held_back.push_back(held);
                continue;
            }
            // What it waited for was its own device; from now on it is others.
            let since = self.now;
            if let Work::Write { .. } | Work::Dataset { .. } = held.work {
                let fetch = WaitingCommand { since, ..held };
                self.waiting.fetches.push_back(fetch);
                continue;
            }
            let taken = (resources.commands).take(Purpose::Io, held.cid, &mut self.held);
            let Some(index) = taken else {
                self.waiting.held_back.push_front(held);
                break;
            };
            let slot = &mut resources.commands.slots[index];
            held.resume(slot);
            if let Work::Read { .. } = held.work {
                slot.begin_wait(self.now);
                (self.waiting.fills).push(&mut resources.commands.slots, index);
            } else {
                self.start(index, transport, resources);
            }
        }
    }

    /// The data of the command in `index` is to be fetched: now, or when those
    /// before it have been and there is what it takes.
    #[inline]
    pub(super) fn fetch(
        &mut self,
        index: SlotIndex,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        if self.waiting.fetches.is_empty() && self.fetch_now(index, transport, resources) {
            return;
        }
        let slot = &resources.commands.slots[index];
        (self.waiting.fetches).push_back(WaitingCommand::of(slot, self.now));
        self.set_aside(index, resources);
        // Its slot may be what the first of those that wait needs.
        self.promote(transport, resources);
    }

    /// A command whose data goes to the host.
    pub(super) fn await_run(
        &mut self,
        index: SlotIndex,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        resources.commands.slots[index].begin_wait(self.now);
        if self.waiting.fills.is_empty()
            && !self.owes_too_much(index, transport, resources)
            && self.fill(index, transport, resources)
        {
            return;
        }
        (self.waiting.fills).push(&mut resources.commands.slots, index);
        self.promote(transport, resources);
    }

    /// Gives runs and credit to commands that wait for them, as far as they go.
    pub fn promote(&mut self, transport: &mut impl Transport, resources: &mut Resources<'_>) {
        if !self.waiting.held_back.is_empty() {
            self.release_held_back(transport, resources);
        }
        while let Some(index) = self.waiting.fills.head() {
            let slot = &resources.commands.slots[index];
            let reads = matches!(slot.work, Work::Read { .. });
            if reads
                && self.waits_for_device(slot.namespace, &slot.work, slot.len, transport, resources)
            {
                // When it came its namespace had less. Nothing waits behind it.
                self.waiting.fills.pop(&resources.commands.slots);
                self.hold_back(index, resources);
                continue;
            }
            if self.owes_too_much(index, transport, resources) {
                // It waits for its own host.
                break;
            }
            if !self.fill(index, transport, resources) {
                let since = resources.commands.slots[index].since;
                resources.commands.note_wait(since, self.now);
                if !self.is_out_of_patience(since) {
                    break;
                }
                self.waiting.fills.pop(&resources.commands.slots);
                let status = self.interrupted(resources);
                self.fail(index, status, transport, resources);
            }
        }
        while let Some(&fetch) = self.waiting.fetches.front() {
            if fetch.fails_with.is_none()
                && resources.is_greedy(fetch.namespace.index, &fetch.work, fetch.len)
            {
                // Nothing waits behind it, nor for the turn that it had.
                self.waiting.fetches.pop_front();
                self.waiting.held_back.push_back(fetch);
                self.yield_turn(resources);
                continue;
            }
            if self.fetch_next(&fetch, transport, resources) {
                self.waiting.fetches.pop_front();
                continue;
            }
            if self.waiting.credit > 0 {
                break;
            }
            resources.commands.reserve_turn(self.id);
            resources.commands.note_wait(fetch.since, self.now);
            if fetch.fails_with.is_some() || !self.is_out_of_patience(fetch.since) {
                break;
            }
            let status = self.interrupted(resources);
            if let Some(first) = self.waiting.fetches.front_mut() {
                first.fails_with = Some(status);
            }
        }
    }

    /// Fetches the data of the command that has waited longest; false if anything is short.
    fn fetch_next(
        &mut self,
        fetch: &WaitingCommand,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> bool {
        let taken = (resources.commands).take(Purpose::Fetch, fetch.cid, &mut self.held);
        let Some(index) = taken else {
            return false;
        };
        let slot = &mut resources.commands.slots[index];
        fetch.resume(slot);
        if let Some(status) = fetch.fails_with {
            slot.work = Work::Respond;
            self.fail(index, status, transport, resources);
            self.yield_turn(resources);
            return true;
        }
        let begun = self.fetch_now(index, transport, resources);
        if !begun {
            self.set_aside(index, resources);
        }
        begun
    }

    /// Fetches data, if there is what it takes.
    #[inline]
    fn fetch_now(
        &mut self,
        index: SlotIndex,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> bool {
        let Some(run) = resources.run_for_fetch() else {
            return false;
        };
        let Some(credit) = resources.commands.take_credit(index, self.waiting.credit) else {
            resources.runs.put(run);
            return false;
        };
        self.waiting.credit += credit;
        let slot = &mut resources.commands.slots[index];
        if begin(slot, run) {
            slot.enter(SlotState::Fetching);
            transport.fetch(&mut resources.commands.slots, index);
        } else {
            self.fail(index, Status::INTERNAL_ERROR, transport, resources);
        }
        true
    }

    /// Gets a command that waits for a run going: the first of them, or one that none is before;
    /// false if something is short. Every read comes through here.
    #[inline(always)]
    fn fill(
        &mut self,
        index: SlotIndex,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> bool {
        let run = match &self.role {
            Role::Admin(_) => resources.runs.take(),
            _ => resources.run_for_read(),
        };
        let Some(run) = run else {
            return false;
        };
        let slot = &mut resources.commands.slots[index];
        if !matches!(slot.work, Work::Read { .. }) {
            return self.fill_here(index, run, transport, resources);
        }
        let (len, begun) = (slot.len, begin(slot, run));
        if begun {
            slot.owed = len;
            self.waiting.owed += u64::from(len);
        }
        self.leave_fills(index, resources);
        match begun {
            true => self.make_ready(index, resources),
            false => self.fail(index, Status::INTERNAL_ERROR, transport, resources),
        }
        true
    }

    /// The same for control data, which is made here.
    fn fill_here(
        &mut self,
        index: SlotIndex,
        run: Box<PageRun>,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> bool {
        let slot = &mut resources.commands.slots[index];
        let pages = (slot.len as usize).div_ceil(PAGE_SIZE);
        if resources.pages.free() < pages {
            resources.runs.put(run);
            return false;
        }
        let begun = begin(slot, run);
        self.leave_fills(index, resources);
        let built = match begun {
            true => self.build(index, resources),
            false => Err(Status::INTERNAL_ERROR),
        };
        match built {
            Ok(()) => {
                let work = resources.commands.slots[index].work;
                self.respond(index, transport, resources);
                if let Work::AuthReceive = work {
                    self.message_is_sent(resources);
                }
            }
            Err(status) => self.fail(index, status, transport, resources),
        }
        true
    }

    /// The command in `index` has got its run, whether it had to wait for it or not.
    #[inline]
    fn leave_fills(&mut self, index: SlotIndex, resources: &Resources<'_>) {
        if self.waiting.fills.head() == Some(index) {
            self.waiting.fills.pop(&resources.commands.slots);
        }
    }

    /// Writes control data into fresh pages of the command's run.
    fn build(&mut self, index: SlotIndex, resources: &mut Resources<'_>) -> Result<(), Status> {
        let slot = &resources.commands.slots[index];
        if let Work::AuthReceive = slot.work {
            self.check_message(slot.len)?;
        }
        let (work, nsid, len) = (slot.work, slot.namespace.nsid, slot.len as usize);
        for at in (0..len).step_by(PAGE_SIZE) {
            let n = PAGE_SIZE.min(len - at);
            let mut page = resources.pages.alloc().ok_or(Status::INTERNAL_ERROR)?;
            match (&mut self.role, work) {
                (_, Work::AuthReceive) => self.fill_message(at, &mut page[..n]),
                (Role::Admin(admin), _) => {
                    let subsystems = self.target.subsystems();
                    admin.fill(work, nsid, &subsystems, at as u64, &mut page[..n]);
                }
                _ => return Err(Status::INTERNAL_ERROR),
            }
            let slice = page.freeze().slice(0..n);
            let run = resources.commands.slots[index].run.take();
            let mut run = run.ok_or(Status::INTERNAL_ERROR)?;
            let placed = run.place(at, slice, &resources.pull_up());
            resources.commands.slots[index].run = Some(run);
            placed.map_err(|_| Status::INTERNAL_ERROR)?;
        }
        if let Role::Admin(admin) = &mut self.role {
            admin.filled(work);
        }
        Ok(())
    }

    /// The data of the command in `index` has been fetched, or as much of it as is of
    /// any use.
    pub fn fetched(
        &mut self,
        index: SlotIndex,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        resources.commands.fetched(index);
        self.start(index, transport, resources);
    }

    /// The command has all the data it takes: it runs.
    pub fn start(
        &mut self,
        index: SlotIndex,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        let slot = &resources.commands.slots[index];
        if !slot.status.is_success() {
            let status = slot.status;
            return self.fail(index, status, transport, resources);
        }
        match slot.work {
            Work::Write { .. } | Work::WriteZeroes { .. } | Work::Flush | Work::ShutDown { .. } => {
                self.make_ready(index, resources);
            }
            Work::Dataset { .. } => self.start_dataset(index, transport, resources),
            Work::Connect { .. } => self.connect(index, transport, resources),
            Work::Disconnect => {
                self.respond(index, transport, resources);
                self.end(End::Disconnected, resources);
            }
            Work::AuthSend => self.auth_send(index, transport, resources),
            Work::Park => self.park(index, transport, resources),
            Work::Abort { .. } => resources.commands.slots[index].enter(SlotState::Waiting),
            Work::SetHostBehavior => {
                let mut acre = [0];
                gather(slot, 0, &mut acre);
                if let Role::Admin(admin) = &mut self.role {
                    admin.set_host_behavior(acre[0]);
                }
                self.respond(index, transport, resources);
            }
            _ => self.respond(index, transport, resources),
        }
    }

    /// The ranges of Dataset Management have come: each must be inside the
    /// namespace before any is handed out.
    fn start_dataset(
        &mut self,
        index: SlotIndex,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        let slot = &resources.commands.slots[index];
        let Work::Dataset {
            ranges, deallocate, ..
        } = slot.work
        else {
            return;
        };
        let blocks = match &mut self.role {
            Role::Io(io) => io.blocks_of(slot.namespace),
            _ => Err(Status::INVALID_NAMESPACE),
        };
        let blocks = match blocks {
            Ok(blocks) => blocks,
            Err(status) => return self.fail(index, status, transport, resources),
        };
        let outside = (0..ranges).any(|n| {
            let range = dataset_range(slot, n);
            let end = range.first.0.checked_add(range.blocks.into());
            end.is_none_or(|end| end > blocks)
        });
        if outside {
            self.fail(index, Status::LBA_OUT_OF_RANGE, transport, resources);
        } else if deallocate {
            self.make_ready(index, resources);
        } else {
            self.respond(index, transport, resources);
        }
    }

    /// Parks an asynchronous event request (base 5.2).
    fn park(
        &mut self,
        index: SlotIndex,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        let cid = resources.commands.slots[index].cid;
        let parked = match &mut self.role {
            Role::Admin(admin) => admin.events.park(cid),
            _ => false,
        };
        if !parked {
            return self.fail(
                index,
                Status::ASYNC_EVENT_LIMIT_EXCEEDED,
                transport,
                resources,
            );
        }
        self.set_aside(index, resources);
        self.send_events(transport, resources);
    }

    /// The command's requests are to be handed out.
    #[inline]
    fn make_ready(&mut self, index: SlotIndex, resources: &mut Resources<'_>) {
        // From now on its device decides how long it holds what it has.
        self.waiting.credit -= resources.commands.charge(index);
        self.requests.push(&mut resources.commands.slots, index);
    }

    /// The command is over with `status`, an error.
    pub(super) fn fail(
        &mut self,
        index: SlotIndex,
        status: Status,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        resources.counters.errors += 1;
        let slot = &mut resources.commands.slots[index];
        slot.status = status;
        self.waiting.settle(std::mem::take(&mut slot.owed));
        if let Some(run) = slot.run.take() {
            resources.runs.put(run);
        }
        self.respond(index, transport, resources);
    }

    /// The command is over: its response, after its data if it still has a
    /// run that goes to the host, is to be sent.
    pub(super) fn respond(
        &mut self,
        index: SlotIndex,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        let slot = &mut resources.commands.slots[index];
        slot.enter(SlotState::Sending);
        slot.moved = 0;
        let credit = slot.take_credit();
        if !slot.work.is_to_host()
            && let Some(run) = slot.run.take()
        {
            resources.runs.put(run);
        }
        if slot.run.is_none() {
            resources.commands.end_run(index);
        }
        self.waiting.return_credit(credit, resources);
        transport.respond(&mut resources.commands.slots, index);
    }
}

/// Begins `run` for the command in `slot`, which has it from now on; false if it is too short for that.
#[inline]
fn begin(slot: &mut Slot, mut run: Box<PageRun>) -> bool {
    let offset = match slot.work {
        Work::Read { range, .. } | Work::Write { range, .. } => {
            range.offset(slot.namespace.block_size)
        }
        _ => 0,
    };
    let begun = run.begin(offset, slot.len as usize).is_ok();
    slot.run = Some(run);
    begun
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
