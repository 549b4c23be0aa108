//! In-band authentication of a queue's host (base 2.0, 8.13): Authentication Send and Receive.
//!
//! A queue whose host owes a proof takes nothing else, is not a queue of its controller for anybody else yet, and has its time for
//! that. Messages go to the desk ([`crate::AuthDesk`]): Authentication Send ends when the message was looked at there, so that what
//! it led to holds for the host's next command. The command waits without a slot.

use std::net::IpAddr;
use std::sync::Arc;

use auth::{MESSAGE_LEN_MAX, Names, Step, Verdict};
use mutant::mutant;

use super::plan::{Plan, Transfer, data_in};
use super::pool::Purpose;
use super::slots::SlotIndex;
use super::{End, Queue, Role, Transport, flow};
use crate::auth_desk::Seat;
use crate::command::{Sgl, SqeView};
use crate::config::ADMIN_IN_CAPSULE_BYTES;
use crate::resources::Resources;
use crate::status::Status;
use crate::units::{Cid, Timestamp};
use crate::work::Work;

/// What a queue knows of its host's proof.
#[derive(Debug)]
pub(super) struct Authentication {
    /// Where the connection comes from.
    peer: IpAddr,
    /// Since when the host owes a proof; none if it has given it, or need not.
    owed_since: Option<Timestamp>,
    transaction: Option<Transaction>,
}

/// A transaction under way.
#[derive(Debug)]
struct Transaction {
    seat: Arc<Seat>,
    since: Timestamp,
    /// The Authentication Send whose message is at the desk.
    sending: Option<Cid>,
    /// What the host is to receive next.
    step: Option<Step>,
}

impl Authentication {
    /// None is owed yet.
    pub fn of(peer: IpAddr) -> Self {
        Self {
            peer,
            owed_since: None,
            transaction: None,
        }
    }

    /// Whether the host owes a proof.
    #[inline]
    pub fn is_owed(&self) -> bool {
        self.owed_since.is_some()
    }

    /// The host owes one from now on.
    pub fn owe(&mut self, now: Timestamp) {
        self.owed_since = Some(now);
    }

    /// Whether it has taken `ms` over it.
    pub fn is_overdue(&self, now: Timestamp, ms: u32) -> bool {
        let begun = self.transaction.as_ref().map(|begun| begun.since);
        let since = self.owed_since.or(begun);
        since.is_some_and(|since| now >= since.plus_ms(ms.into()))
    }

    /// Whether a message of it is at the desk.
    pub fn is_at_desk(&self) -> bool {
        let transaction = self.transaction.as_ref();
        transaction.is_some_and(|transaction| transaction.sending.is_some())
    }
}

impl Queue {
    /// Who the host says it is, and the keys that there are for that; none if nobody needs to prove anything.
    fn host_keys(&self) -> Option<(Names, Arc<auth::HostKeys>)> {
        let controller = match &self.role {
            Role::Admin(admin) => &admin.controller,
            Role::Io(io) => &io.controller,
            Role::None => return None,
        };
        let subsystem = controller.subsystem.as_ref()?;
        let names = Names {
            host: controller.host.clone(),
            subsystem: subsystem.config.nqn.clone(),
        };
        Some((names, subsystem.keys(&controller.host)?))
    }

    /// Whether there is anything to prove for its host.
    pub(super) fn may_authenticate(&self) -> bool {
        self.host_keys().is_some()
    }

    /// Authentication Send of `len` bytes.
    pub(super) fn plan_auth_send(
        &self,
        sqe: &SqeView<'_>,
        len: u32,
        capsule_len: u32,
    ) -> Result<Plan, Status> {
        if len == 0 || len as usize > MESSAGE_LEN_MAX {
            return Err(Status::INVALID_FIELD);
        }
        let in_capsule_bytes = match &self.role {
            Role::Io(_) => self.target.config().in_capsule_bytes,
            _ => ADMIN_IN_CAPSULE_BYTES,
        };
        // SPDK's hosts send the data of Fabrics commands in capsules on every queue, whatever IOCCSZ says.
        let transfer = data_in(sqe, len, ADMIN_IN_CAPSULE_BYTES, capsule_len)?;
        // Fetching takes what others wait for. Strangers get nothing of it that they can do without.
        if let Transfer::FromHost { in_capsule, .. } = transfer
            && !in_capsule
            && self.authentication.is_owed()
            && in_capsule_bytes as usize >= MESSAGE_LEN_MAX
        {
            return Err(Status::SGL_DESCRIPTOR_TYPE_INVALID);
        }
        Ok(Plan::of(Work::AuthSend, transfer))
    }

    /// Authentication Receive, for which the host has `len` bytes of room.
    pub(super) fn plan_auth_receive(&self, sqe: &SqeView<'_>, len: u32) -> Result<Plan, Status> {
        if len == 0 || len > ADMIN_IN_CAPSULE_BYTES {
            return Err(Status::INVALID_FIELD);
        }
        match sqe.sgl()? {
            Sgl::Transport { len: room } if room == len => {}
            Sgl::Transport { .. } => return Err(Status::DATA_SGL_LENGTH_INVALID),
            Sgl::InCapsule { .. } => return Err(Status::SGL_DESCRIPTOR_TYPE_INVALID),
        }
        self.outgoing(len)?;
        Ok(Plan::of(Work::AuthReceive, Transfer::ToHost { len }))
    }

    /// The message that the host is to receive, if it has `len` bytes of room.
    fn outgoing(&self, len: u32) -> Result<&[u8], Status> {
        let transaction = self.authentication.transaction.as_ref();
        let step = transaction.and_then(|transaction| transaction.step.as_ref());
        let message = step.and_then(|step| step.message.as_deref());
        let message = message.ok_or(Status::COMMAND_SEQUENCE_ERROR)?;
        match message.len() <= len as usize {
            true => Ok(message),
            false => Err(Status::INVALID_FIELD),
        }
    }

    /// The data of an Authentication Send has come: it goes to the desk.
    pub(super) fn auth_send(
        &mut self,
        index: SlotIndex,
        transport: &mut impl Transport,
        resources: &mut Resources<'_>,
    ) {
        if self.authentication.is_at_desk() {
            let status = Status::COMMAND_SEQUENCE_ERROR;
            return self.fail(index, status, transport, resources);
        }
        let slot = &mut resources.commands.slots[index];
        let mut message = vec![0; slot.len as usize];
        flow::gather(slot, 0, &mut message);
        let cid = slot.cid;
        if self.authentication.transaction.is_none() {
            let Some((names, keys)) = self.host_keys() else {
                return self.fail(index, Status::INVALID_OPCODE, transport, resources);
            };
            self.authentication.transaction = Some(Transaction {
                seat: self.target.auth_desk().begin(names, keys),
                since: self.now,
                sending: None,
                step: None,
            });
        }
        if let Some(run) = resources.commands.slots[index].run.take() {
            resources.runs.put(run);
        }
        let credit = resources.commands.slots[index].take_credit();
        self.waiting.return_credit(credit, resources);
        resources.commands.end_run(index);
        self.set_aside(index, resources);
        if let Some(transaction) = &mut self.authentication.transaction {
            transaction.step = None;
            transaction.sending = Some(cid);
            let desk = self.target.auth_desk();
            desk.leave(self.authentication.peer, &transaction.seat, message);
        }
    }

    /// Looks whether the desk has an answer, and ends the command that waits for it.
    pub fn look_at_desk(&mut self, transport: &mut impl Transport, resources: &mut Resources<'_>) {
        if self.is_over() {
            return;
        }
        let Some(transaction) = &mut self.authentication.transaction else {
            return;
        };
        let Some(cid) = transaction.sending else {
            return;
        };
        if transaction.step.is_none() {
            transaction.step = transaction.seat.answer();
        }
        let Some(step) = &transaction.step else {
            return;
        };
        // Without a message, what it came to holds at once.
        let verdict = step.verdict.filter(|_| step.message.is_none());
        let taken = (resources.commands).take(Purpose::Admin, cid, &mut self.held);
        let Some(index) = taken else {
            return;
        };
        transaction.sending = None;
        if verdict == Some(Verdict::Authenticated) {
            self.conclude(Verdict::Authenticated, resources);
        }
        self.respond(index, transport, resources);
        if verdict == Some(Verdict::Failed) {
            self.conclude(Verdict::Failed, resources);
        }
    }

    /// Writes the message that the host receives into `page`, and zeros behind it.
    pub(super) fn fill_message(&self, at: usize, page: &mut [u8]) {
        page.fill(0);
        if let Ok(message) = self.outgoing(u32::MAX) {
            let rest = message.get(at..).unwrap_or_default();
            let len = rest.len().min(page.len());
            page[..len].copy_from_slice(&rest[..len]);
        }
    }

    /// Whether the message is there that an Authentication Receive waited for a run with.
    pub(super) fn check_message(&self, len: u32) -> Result<(), Status> {
        self.outgoing(len).map(drop)
    }

    /// The host is sent the message: what it came to holds from now on.
    pub(super) fn message_is_sent(&mut self, resources: &mut Resources<'_>) {
        let transaction = self.authentication.transaction.as_mut();
        let step = transaction.and_then(|transaction| transaction.step.take());
        if let Some(verdict) = step.and_then(|step| step.verdict) {
            self.conclude(verdict, resources);
        }
    }

    fn conclude(&mut self, verdict: Verdict, resources: &mut Resources<'_>) {
        self.authentication.transaction = None;
        match verdict {
            Verdict::Authenticated => {
                resources.counters.authenticated += 1;
                if self.authentication.owed_since.take().is_some() && !self.join() {
                    self.end(End::ControllerGone, resources);
                }
            }
            Verdict::Failed => {
                resources.counters.authentication_failures += 1;
                self.end(End::AuthenticationFailed, resources);
            }
        }
    }

    /// The host has proved who it is: the queue is one of its controller; false if that cannot be any more.
    fn join(&mut self) -> bool {
        let (joined, entries) = match &mut self.role {
            Role::Admin(admin) => {
                admin.touch_keep_alive(self.now);
                (self.target.admit(&admin.controller), 0)
            }
            Role::Io(io) => (io.join(), usize::from(self.submission.entries())),
            Role::None => (false, 0),
        };
        if joined {
            self.waiting.reserve(entries);
        }
        joined
    }
}

/// Whether a host with a key need not prove on an I/O queue that it has it.
pub(crate) fn io_queues_are_open() -> bool {
    mutant!("chap-io-queue-open")
}
