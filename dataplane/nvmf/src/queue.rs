//! A queue of commands: a Submission Queue with its Completion Queue (base 3.3),
//! whatever transport carries them.
//!
//! ```text
//!              take                                next_request
//!  transport ───────▶ plan ───────▶ flow ───────▶ requests ─────────▶ volumes
//!      ▲                             │  ▲             ▲                  │
//!      └────── fetch, respond ───────┘  └─────────────┴──── complete ────┘
//! ```
//!
//! Each file owns a part: `plan` says what a command is and needs, `flow` who
//! gets what it needs and when, `requests` what the volumes have to do. What
//! the queue needs of its connection is [`Transport`]; nothing else here knows that
//! there is one.

mod abort;
mod access;
mod authentication;
mod connect;
mod flow;
mod io;
mod plan;
pub(crate) mod pool;
mod requests;
pub(crate) mod slots;
mod submission;
mod transport;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use mutant::mutant;
use pages::prefetch;

use crate::controller::{AdminQueue, Controller};
use crate::listener::Listener;
use crate::resources::Resources;
use crate::secure::{PskNames, Security};
use crate::status::Status;
use crate::target::Target;
use crate::units::{Cid, Cntlid, Qid, Timestamp};
pub(crate) use abort::Aborting;
use authentication::Authentication;
pub(crate) use authentication::io_queues_are_open;
use flow::Waiting;
use io::IoQueue;
pub(crate) use plan::Taken;
use pool::{FORBEARANCE_MS, Purpose};
use requests::Requests;
use slots::{HeldSlots, QueueId, Slot, SlotIndex, SlotState};
use submission::SubmissionQueue;
pub(crate) use transport::Transport;

/// How long a command may wait for what others hold before it is refused with Command Interrupted, or a stream be blocked for
/// want of it before the command in its way is, in milliseconds: a device hangs. Hosts lose patience after 30 seconds.
pub(crate) const PATIENCE_MS: u64 = 10_000;

/// The queue that one connection is, or is to become by Connect.
///
/// Its state is fixed when it is connected; commands under way live in the
/// shard's [`CommandPool`](pool::CommandPool).
#[derive(Debug)]
pub(crate) struct Queue {
    id: QueueId,
    target: Arc<Target>,
    /// Where its connection came in.
    listener: Listener,
    role: Role,
    state: State,
    authentication: Authentication,
    /// What its connection is encrypted by.
    security: Security,
    submission: SubmissionQueue,
    /// All slots of the queue.
    held: HeldSlots,
    waiting: Waiting,
    requests: Requests,
    /// The controller that it has left, while volumes still have requests of it.
    left: Option<Arc<Controller>>,
    /// Which queue of which controller it was, once it has ended.
    was: Option<(Arc<Controller>, Qid)>,
    /// The host that a Connect named which was not let in.
    not_let_in: Option<Box<str>>,
    /// When the connection was accepted.
    started: Timestamp,
    /// The time of the last call that brought one.
    now: Timestamp,
}

/// Which queue it is.
#[derive(Debug)]
enum Role {
    /// None yet, or none any more.
    None,
    /// An Admin Queue.
    Admin(Box<AdminQueue>),
    /// An I/O Queue.
    Io(Box<IoQueue>),
}

/// How far the queue has come (base 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Connect is to come.
    Unconnected,
    /// A queue of a controller.
    Connected,
    /// It takes no more commands.
    Ended(End),
    /// Everything was given back but what the volumes still have.
    Closed(End),
}

/// Why a queue takes no more commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The host sent Disconnect.
    Disconnected,
    /// Connect did not come in time.
    ConnectTimeout,
    /// The host was silent longer than its Keep Alive Timeout.
    KeepAliveTimeout,
    /// The host could not prove who it is, or found that we cannot.
    AuthenticationFailed,
    /// The host did not prove in time who it is.
    AuthenticationTimeout,
    /// The controller was reset, shut down or ended.
    ControllerGone,
    /// The transport ended it.
    Transport,
}

impl Queue {
    /// A queue of `target` on a connection of `peer` that `listener` just accepted.
    pub fn new(target: &Arc<Target>, listener: Listener, peer: IpAddr, now: Timestamp) -> Self {
        let id = QueueId(target.queue_id());
        Self {
            id,
            target: Arc::clone(target),
            listener,
            role: Role::None,
            state: State::Unconnected,
            authentication: Authentication::of(peer),
            security: None,
            submission: SubmissionQueue::new(),
            held: HeldSlots::by(id),
            waiting: Waiting::default(),
            requests: Requests::default(),
            left: None,
            was: None,
            not_let_in: None,
            started: now,
            now,
        }
    }

    /// The target it belongs to.
    #[inline]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its connection is encrypted by the PSK of these names, before anything has come.
    pub fn secure(&mut self, names: PskNames) {
        self.security = Some(Arc::new(names));
    }

    /// Whether it is the queue that `slot` belongs to.
    #[inline]
    pub fn owns(&self, slot: &Slot) -> bool {
        slot.queue == self.id
    }

    /// Its controller and number, once Connect was accepted, and its host has proved who it is if it has to.
    pub fn number(&self) -> Option<(Cntlid, Qid)> {
        match &self.role {
            Role::None => None,
            _ if self.authentication.is_owed() => None,
            Role::Admin(admin) => Some((admin.controller.cntlid, Qid::ADMIN)),
            Role::Io(io) => Some((io.controller.cntlid, io.qid)),
        }
    }

    /// Its controller and number, even if it has ended.
    pub fn who(&self) -> Option<(&Controller, Qid)> {
        match &self.role {
            Role::Admin(admin) => Some((&admin.controller, Qid::ADMIN)),
            Role::Io(io) => Some((&io.controller, io.qid)),
            Role::None => self
                .was
                .as_ref()
                .map(|(controller, qid)| (&**controller, *qid)),
        }
    }

    /// The host that it was to be a queue of, if that was not let in.
    pub fn not_let_in(&self) -> Option<&str> {
        self.not_let_in.as_deref()
    }

    /// Commands the host may have outstanding.
    pub fn entries(&self) -> u16 {
        self.submission.entries()
    }

    /// Whether Connect was accepted, and the queue has not ended.
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Why it takes no more commands; `None` while it does.
    #[inline]
    pub fn ended(&self) -> Option<End> {
        match self.state {
            State::Ended(end) | State::Closed(end) => Some(end),
            _ => None,
        }
    }

    /// Whether it takes no more commands.
    #[inline]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Ended(_) | State::Closed(_))
    }

    /// Whether [`Queue::close`] was called.
    #[inline]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// The time of the last call that brought one.
    #[inline]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// It is `now`, until the next call.
    #[inline]
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Prefetches what the queue holds in memory of its own, before it is given commands.
    #[inline]
    pub fn prefetch(&self) {
        if let Role::Io(io) = &self.role {
            prefetch(&**io);
        }
    }

    /// Whether commands wait for a run, a slot or write credit.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether no other queue's data is fetched until this one's has been.
    pub fn is_first(&self, resources: &Resources<'_>) -> bool {
        resources.commands.is_first(self.id)
    }

    /// Requests that the volumes have.
    pub fn outstanding(&self) -> usize {
        self.requests.outstanding()
    }

    /// SQHD, as the next response carries it; `None` with SQ flow control disabled.
    #[inline]
    pub fn sq_head(&self) -> Option<u16> {
        self.submission.head()
    }

    /// The response to the command in `index` is on its way: the command is over.
    #[inline]
    pub fn responded(&mut self, index: SlotIndex, resources: &mut Resources<'_>) {
        self.submission.advance();
        let slot = &resources.commands.slots[index];
        if slot.status == Status::ABORT_REQUESTED {
            self.abort_responded(slot.cid);
        }
        self.release(index, resources);
    }

    /// The response to a command that never got a slot, with `status`, is on its way.
    pub fn refused(&mut self, cid: Cid, status: Status) {
        self.submission.advance();
        if status == Status::ABORT_REQUESTED {
            self.abort_responded(cid);
        }
    }

    /// The status of a command that the shard has no resources for.
    pub fn interrupted(&self, resources: &mut Resources<'_>) -> Status {
        resources.counters.interrupted += 1;
        let delays = match &self.role {
            Role::Io(io) => io.controller.retry_delays(),
            Role::Admin(admin) => admin.controller.retry_delays(),
            Role::None => false,
        };
        if delays {
            Status::COMMAND_INTERRUPTED.with_retry_delay()
        } else {
            Status::COMMAND_INTERRUPTED
        }
    }

    /// Which of the queue's timers has run out, or whether its controller is gone.
    pub fn check_timers(&mut self, now: Timestamp) -> Option<End> {
        self.now = now;
        if let Role::Admin(admin) = &mut self.role {
            admin.touch_keep_alive_by_traffic(now);
        }
        match (&self.state, &self.role) {
            (State::Unconnected, _) => {
                let connect_ms = self.target.config().handshake_ms;
                (now >= self.started.plus_ms(connect_ms.into())).then_some(End::ConnectTimeout)
            }
            (State::Connected, _) if self.is_overdue_to_authenticate(now) => {
                Some(End::AuthenticationTimeout)
            }
            (State::Connected, Role::Admin(admin)) if admin.controller.has_ended() => {
                Some(End::ControllerGone)
            }
            // A host has nothing to keep alive before it has proved who it is, for which it has its time.
            (State::Connected, Role::Admin(_)) if self.authentication.is_owed() => None,
            (State::Connected, Role::Admin(admin)) if admin.is_overdue(now) => {
                Some(End::KeepAliveTimeout)
            }
            (State::Connected, Role::Io(io)) if !io.is_valid() => Some(End::ControllerGone),
            _ => None,
        }
    }

    fn is_overdue_to_authenticate(&self, now: Timestamp) -> bool {
        let authentication_ms = self.target.config().authentication_ms;
        self.authentication.is_overdue(now, authentication_ms)
    }

    /// Whether the desk has a message of its host.
    pub fn is_at_desk(&self) -> bool {
        self.authentication.is_at_desk()
    }

    /// How long a host may take in any case over what it has to send or to read.
    pub fn patience_ms(&self) -> u64 {
        self.target.config().data_ms.into()
    }

    /// How long its host may be silent while it has what others need, in milliseconds.
    pub fn data_ms(&self, resources: &Resources<'_>) -> u64 {
        let data_ms = self.patience_ms();
        if resources.commands.is_starved(self.now) {
            data_ms.min(FORBEARANCE_MS)
        } else {
            data_ms
        }
    }

    /// Whether the data of any command is being fetched, and `late` is true of
    /// [`Slot::since`].
    pub fn any_fetch(&self, late: impl Fn(&Slot) -> bool, resources: &Resources<'_>) -> bool {
        let slots = &resources.commands.slots;
        let mut index = self.held.first();
        while index != SlotIndex::NONE {
            let slot = &slots[index];
            if slot.state == SlotState::Fetching && late(slot) {
                return true;
            }
            index = slots.after(index);
        }
        false
    }

    /// Goes on with whatever waits, and completes asynchronous events that are due.
    pub fn advance(&mut self, transport: &mut impl Transport, resources: &mut Resources<'_>) {
        self.look_at_desk(transport, resources);
        self.withdraw(transport, resources);
        self.promote(transport, resources);
        match &mut self.role {
            Role::Admin(admin) => {
                admin.settle(&self.target, self.now);
                admin.refresh(&self.target);
                self.send_events(transport, resources);
                self.end_aborts(transport, resources);
            }
            Role::Io(io) => io.publish_usage(),
            Role::None => {}
        }
    }

    /// Takes no more commands, and leaves the controller: an Admin Queue takes it
    /// along (base 3.3.1.2). The first reason stays. What volumes still have of it is
    /// fenced: nobody's later write is overwritten by it.
    pub fn end(&mut self, end: End, resources: &mut Resources<'_>) {
        if !self.is_over() {
            self.state = State::Ended(end);
        }
        self.waiting.drop_fetches();
        match std::mem::replace(&mut self.role, Role::None) {
            Role::None => {}
            Role::Admin(admin) => {
                self.target.remove_controller(&admin.controller);
                self.was = Some((admin.controller, Qid::ADMIN));
            }
            Role::Io(mut io) => {
                self.raise_fences(resources);
                let has_joined = io.disconnect();
                self.was = Some((Arc::clone(&io.controller), io.qid));
                if has_joined {
                    self.left = Some(io.controller);
                    self.note_quiet();
                }
            }
        }
    }

    /// Once volumes have nothing more of a queue that has ended, its controller need not wait for it.
    fn note_quiet(&mut self) {
        if self.requests.outstanding() == 0
            && let Some(controller) = self.left.take()
        {
            self.target.queue_is_quiet(&controller);
        }
    }

    /// Lets others fetch first: nothing more is fetched here.
    pub fn yield_turn(&self, resources: &mut Resources<'_>) {
        resources.commands.yield_turn(self.id);
    }

    /// Gives everything back, except what the volumes still have: see
    /// [`Queue::outstanding`].
    pub fn close(&mut self, resources: &mut Resources<'_>) {
        self.end(End::Transport, resources);
        self.state = State::Closed(self.ended().unwrap_or(End::Transport));
        self.yield_turn(resources);
        self.waiting.drop_all();
        self.requests.drop_ready();
        let mut index = self.held.first();
        while index != SlotIndex::NONE {
            let next = resources.commands.slots.after(index);
            if resources.commands.slots[index].at_device == 0 && !mutant!("slot-kept") {
                self.release(index, resources);
            }
            index = next;
        }
    }

    /// A command came, or is done: its controller's host is alive (base 3.9.2).
    #[inline]
    fn note_traffic(&self) {
        match &self.role {
            Role::None => {}
            // Anybody may have sent it.
            _ if self.authentication.is_owed() => {}
            Role::Admin(admin) => admin.controller.note_traffic(),
            Role::Io(io) => io.controller.note_traffic(),
        }
    }

    /// Frees a slot with everything it has.
    fn release(&mut self, index: SlotIndex, resources: &mut Resources<'_>) {
        let slot = &mut resources.commands.slots[index];
        let (credit, owed) = (slot.take_credit(), std::mem::take(&mut slot.owed));
        if let Some(run) = slot.run.take() {
            resources.runs.put(run);
        }
        self.waiting.settle(owed);
        self.waiting.return_credit(credit, resources);
        resources.commands.free(index, &mut self.held);
        self.submission.end(1);
    }

    /// Frees the slot of a command whose response comes later.
    fn set_aside(&mut self, index: SlotIndex, resources: &mut Resources<'_>) {
        resources.commands.free(index, &mut self.held);
    }

    /// Completes parked requests for events that are due; with no slot for that, later.
    fn send_events(&mut self, transport: &mut impl Transport, resources: &mut Resources<'_>) {
        while let Role::Admin(admin) = &mut self.role
            && let Some((cid, notice)) = admin.events.due(admin.event_config())
            && let Some(index) = (resources.commands).take(Purpose::Admin, cid, &mut self.held)
        {
            admin.events.reported(notice);
            resources.commands.slots[index].result = notice.completion().into();
            self.respond(index, transport, resources);
        }
    }

    /// After a reset parked requests are void, and are not completed.
    fn drop_parked(&mut self) {
        if let Role::Admin(admin) = &mut self.role {
            self.submission.end(admin.events.unpark_all());
        }
    }
}
