//! Abort: commands that wait are taken back, those that a device has are not (base 5.1).
//!
//! ```text
//!  Admin Queue ── asks ──▶ controller ──▶ the command's queue ──▶ volumes, if they have it
//!       ▲                       │                  │                        │
//!       └── dword 0 of Abort ───┘◀─ response sent ─┴──── Fault::Aborted ────┘
//! ```
//!
//! The answer says that a command was aborted only once its response was sent: the host finds both.

use block::RequestId;

use super::pool::Purpose;
use super::requests::request_id;
use super::slots::{SlotIndex, SlotState};
use super::{Queue, Role, Transport};
use crate::resources::Resources;
use crate::status::Status;
use crate::units::{Cid, Qid};
use crate::work::{AbortId, Work};

/// What became of a command that is to be aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aborting {
    /// It will not be done, and its response says so.
    Done,
    /// It is done, or being done.
    Refused,
    /// The volumes have its one request: they know.
    AtVolumes(RequestId),
    /// The queue does not know it.
    Unknown,
}

/// Requests that volumes are to be asked to give back: one for each Abort there may be.
#[derive(Debug, Default)]
pub(super) struct Wanted([Option<RequestId>; 4]);

impl Wanted {
    fn push(&mut self, id: RequestId) -> bool {
        let free = self.0.iter_mut().find(|wanted| wanted.is_none());
        let found = free.is_some();
        if let Some(free) = free {
            *free = Some(id);
        }
        found
    }

    fn pop(&mut self) -> Option<RequestId> {
        self.0.iter_mut().find_map(Option::take)
    }
}

impl Queue {
    /// The next command of this queue that an Abort names.
    pub fn next_abort(&mut self) -> Option<Cid> {
        match &mut self.role {
            Role::Io(io) => io.next_abort(),
            _ => None,
        }
    }

    /// The end of an Abort for command `cid` of this queue.
    pub fn abort_ended(&mut self, cid: Cid, aborted: bool) {
        if let Role::Io(io) = &self.role {
            io.controller.end_abort(io.qid, cid, aborted);
        }
    }

    /// Volumes are to be asked to give the request `id` back; false if they cannot be now.
    pub fn want_back(&mut self, id: RequestId) -> bool {
        match &mut self.role {
            Role::Io(io) => io.wanted.push(id),
            _ => false,
        }
    }

    /// The next request that volumes are to be asked to give back.
    pub fn next_wanted(&mut self) -> Option<RequestId> {
        match &mut self.role {
            Role::Io(io) => io.wanted.pop(),
            _ => None,
        }
    }

    /// Volumes do not give the request `id` back: its command is done, or being done.
    pub fn not_given_back(&mut self, id: RequestId, resources: &Resources<'_>) {
        if let Some((_, slot)) = self.slot_of(id, resources) {
            let cid = slot.cid;
            self.abort_ended(cid, false);
        }
    }

    /// Takes the command `cid` back, if it waits for anything but a device.
    pub fn abort(
        &mut self,
        cid: Cid,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> Aborting {
        if self.abort_without_slot(cid, transport, resources) {
            return Aborting::Done;
        }
        let mut index = self.held.first();
        while index != SlotIndex::NONE {
            let slot = &resources.commands.slots[index];
            let is_it = slot.cid == cid && slot.state != SlotState::Sending;
            if is_it && !matches!(slot.work, Work::Abort { .. } | Work::Connect { .. }) {
                return self.take_back(index, Status::ABORT_REQUESTED, transport, resources);
            }
            index = resources.commands.slots.after(index);
        }
        Aborting::Unknown
    }

    /// A parked asynchronous event request, or a write that waits for its data to be fetched.
    fn abort_without_slot(
        &mut self,
        cid: Cid,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> bool {
        let is_parked = match &self.role {
            Role::Admin(admin) => admin.events.is_parked(cid),
            _ => false,
        };
        if !is_parked && !self.waiting.has_fetch(cid) {
            return false;
        }
        // Its response needs a slot. Without one a write keeps its place, to fail there.
        let Some(index) = (resources.commands).take(Purpose::Admin, cid, &mut self.held) else {
            return self.waiting.abort_fetch(cid);
        };
        if let Role::Admin(admin) = &mut self.role {
            admin.events.unpark(cid);
        }
        self.waiting.drop_fetch(cid);
        // The turn was for what waited; whatever else does asks for it again.
        self.yield_turn(resources);
        self.fail(index, Status::ABORT_REQUESTED, transport, resources);
        true
    }

    /// Ends the command in `index` with `status`, if it waits for anything but a device.
    pub(super) fn take_back(
        &mut self,
        index: SlotIndex,
        status: Status,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> Aborting {
        let slots = &mut resources.commands.slots;
        let slot = &mut slots[index];
        if !slot.status.is_success() {
            return Aborting::Refused;
        }
        let is_out = match slot.state {
            SlotState::Waiting => self.waiting.fills.remove(slots, index),
            // Dataset Management may have ranges at a device already, a shutdown flushes.
            SlotState::Ready => slot.at_device == 0 && self.requests.drop(slots, index),
            SlotState::Fetching => transport.cancel_fetch(slots, index),
            SlotState::Receiving => false,
            SlotState::AtDevice => {
                let is_one = matches!(
                    slot.work,
                    Work::Read { .. } | Work::Write { .. } | Work::WriteZeroes { .. } | Work::Flush
                );
                return match is_one && slot.at_device == 1 {
                    true => Aborting::AtVolumes(request_id(index, slot.generation)),
                    false => Aborting::Refused,
                };
            }
            SlotState::Free | SlotState::Sending => return Aborting::Refused,
        };
        if is_out {
            resources.commands.fetched(index);
            self.fail(index, status, transport, resources);
            return Aborting::Done;
        }
        match resources.commands.slots[index].state {
            SlotState::Receiving | SlotState::Fetching => {
                self.drop_data_on_the_way(index, status, resources);
                Aborting::Done
            }
            _ => Aborting::Refused,
        }
    }

    /// Data of the command are on their way: they are dropped as they come, and the command fails
    /// when all have.
    ///
    /// An R2T obliges the host to send what it requests (NVMe/TCP 3.3.3.1), whatever it asked of the
    /// Admin Queue meanwhile. Until that has come its transfer tag, which is the slot's number, is nobody
    /// else's; and the command is not completed, so that the host does not give its CID to another
    /// (base 3.3.3.1): no H2CData of an aborted command meets a later one. A host that sends nothing more is
    /// disconnected for that, as ever.
    fn drop_data_on_the_way(
        &mut self,
        index: SlotIndex,
        status: Status,
        resources: &mut Resources<'_>,
    ) {
        let slot = &mut resources.commands.slots[index];
        slot.status = status;
        if let Some(run) = slot.run.take() {
            resources.runs.put(run);
        }
    }

    /// The response to command `cid` is sent, and says that it was aborted.
    #[cold]
    pub(super) fn abort_responded(&mut self, cid: Cid) {
        self.abort_ended(cid, true);
    }

    /// An Abort came: aborts a command of this queue at once, or asks the queue that has it. Dword 0
    /// of the completion, if it is known; else what to wait for.
    ///
    /// # Errors
    /// [`Status::ABORT_LIMIT_EXCEEDED`].
    pub(super) fn begin_abort(
        &mut self,
        qid: Qid,
        cid: Cid,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) -> Result<Result<u64, AbortId>, Status> {
        if qid == Qid::ADMIN {
            let aborted = self.abort(cid, transport, resources) == Aborting::Done;
            return Ok(Ok(u64::from(!aborted)));
        }
        match &self.role {
            Role::Admin(admin) => match admin.controller.ask_abort(qid, cid)? {
                Some(id) => Ok(Err(id)),
                None => Ok(Ok(NOT_ABORTED)),
            },
            _ => Ok(Ok(NOT_ABORTED)),
        }
    }

    /// Completes Abort commands whose ends are known.
    pub(super) fn end_aborts(
        &mut self,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        let mut index = self.held.first();
        while index != SlotIndex::NONE {
            let next = resources.commands.slots.after(index);
            let slot = &mut resources.commands.slots[index];
            if let (Work::Abort { id }, SlotState::Waiting, Role::Admin(admin)) =
                (slot.work, slot.state, &self.role)
                && let Some(aborted) = admin.controller.take_abort(id)
            {
                slot.result = u64::from(!aborted);
                self.respond(index, transport, resources);
            }
            index = next;
        }
    }

    /// After a reset Abort commands are void, and are not completed.
    pub(super) fn drop_aborts(&mut self, resources: &mut Resources<'_>) {
        let mut index = self.held.first();
        while index != SlotIndex::NONE {
            let next = resources.commands.slots.after(index);
            let slot = &resources.commands.slots[index];
            if let (Work::Abort { id }, SlotState::Waiting, Role::Admin(admin)) =
                (slot.work, slot.state, &self.role)
            {
                admin.controller.forget_abort(id);
                self.release(index, resources);
            }
            index = next;
        }
    }
}

/// Dword 0 of an Abort whose command was not aborted (base 5.1).
pub(super) const NOT_ABORTED: u64 = 1;
