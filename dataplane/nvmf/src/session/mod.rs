//! One TCP connection: one queue of a controller.
//!
//! ```text
//!  slices ─▶ receive ─▶ capsule ─▶ flow ─▶ device ─▶ requests
//!                                   ▲         │
//!   chunks ◀─ transmit ◀────────────┴─────────┴── completions
//! ```

mod capsule;
mod connect;
mod device;
mod flow;
mod receive;
mod transmit;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pages::{Slice, prefetch};

use crate::controller::{AdminQueue, Controller, Enabled};
use crate::pdu::{FatalError, FatalStatus, Format};
use crate::shard::{FORBEARANCE_MS, Purpose, Shard};
use crate::slots::{Fifo, Held, SlotIndex, SlotState};
use crate::status::Status;
use crate::subsystem::Namespaces;
use crate::target::Target;
use crate::units::{Cid, Cntlid, Qid, Timestamp};
use flow::Asking;
use receive::Receiver;
use transmit::Transmitter;
pub use transmit::Wire;

/// The two ends of a connection, for logs and listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Our end.
    pub local: SocketAddr,
    /// The host's end.
    pub host: SocketAddr,
}

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All taken.
    Taken,
    /// Something is short (a command slot, a page run, a page). The session
    /// keeps the rest; the engine reads no more of this connection until
    /// [`Session::resume`] or [`Session::advance`] has unblocked it.
    Blocked,
    /// The connection is closing; bytes are dropped.
    Closing,
}

/// Why a session closes its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The host sent Disconnect.
    Disconnected,
    /// A PDU was malformed or out of order; a terminate request tells the host.
    Malformed(FatalStatus),
    /// The host sent a terminate request with this FES.
    TerminatedByHost(u16),
    /// ICReq or Connect did not come in time.
    HandshakeTimeout,
    /// The host was silent longer than its Keep Alive Timeout.
    KeepAliveTimeout,
    /// Data the host owes did not come in time.
    DataTimeout,
    /// The host did not read what was sent to it.
    SendTimeout,
    /// The controller this queue belongs to was reset, shut down or ended.
    ControllerGone,
    /// The engine closed it: the TCP connection is gone.
    ConnectionLost,
}

/// How far the connection has come (NVMe/TCP 3.4, base 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// ICReq is to come.
    Initialize,
    /// Connect is to come.
    Unconnected,
    /// A queue of a controller.
    Connected,
    /// To be closed, after what is to be sent.
    Closing(CloseReason),
    /// Everything was given back but what the engine still has.
    Closed(CloseReason),
}

/// Which queue the connection is.
#[derive(Debug)]
enum Queue {
    /// None yet, or none any more.
    None,
    /// An Admin Queue.
    Admin(Box<AdminQueue>),
    /// An I/O queue.
    Io(Box<IoQueue>),
}

/// What the session of an I/O queue holds.
#[derive(Debug)]
struct IoQueue {
    controller: Arc<Controller>,
    enabled: Enabled,
    qid: Qid,
    /// As last seen.
    namespaces: Arc<Namespaces>,
    reads: u64,
    writes: u64,
    units_read: u64,
    units_written: u64,
}

/// The submission queue, of which only the numbers are left over fabrics.
#[derive(Clone, Copy, Debug)]
struct SubmissionQueue {
    /// Entries (SQSIZE + 1): commands that may be outstanding.
    entries: u16,
    /// SQ Head Pointer.
    head: u16,
    /// Whether responses tell the head.
    flow_control: bool,
    /// Commands that were taken and are not answered.
    outstanding: u16,
}

/// One connection of a host: the NVMe/TCP protocol over in-order slices.
///
/// State per connection is fixed when it becomes a queue; commands under way
/// live in the shard's [`CommandPool`](crate::CommandPool).
#[derive(Debug)]
pub struct Session {
    id: u64,
    target: Arc<Target>,
    endpoints: Endpoints,
    phase: Phase,
    format: Format,
    queue: Queue,
    sq: SubmissionQueue,
    rx: Receiver,
    tx: Transmitter,
    /// All slots of the session.
    held: Held,
    /// Writes that wait for a slot, a run and credit to send an R2T; room for
    /// as many as the queue has entries.
    asking: VecDeque<Asking>,
    /// Commands whose data goes to the host, waiting for a run.
    filling: Fifo,
    /// Requests for the engine.
    ready: Fifo,
    /// Requests the engine has.
    at_device: u16,
    /// Writes whose data the host owes.
    owed: u16,
    /// Bytes of credit that its writes hold.
    granted: u64,
    /// When the connection was accepted.
    started: Timestamp,
    /// The time of the last call that told it.
    now: Timestamp,
}

/// Entries assumed before Connect says how many.
const ENTRIES_BEFORE_CONNECT: u16 = 32;

/// How long a stream may be blocked for want of resources before the command
/// in its way is refused with Command Interrupted, in milliseconds: a device
/// hangs. Hosts lose patience after 30 seconds.
const PATIENCE_MS: u64 = 10_000;

/// How long [`Session::advance`] may stay away at most, in milliseconds.
const TICK_MS: u64 = 500;

impl Session {
    /// A session on a connection just accepted.
    pub fn new(target: &Arc<Target>, endpoints: Endpoints, now: Timestamp) -> Self {
        let id = target.session_id();
        Self {
            id,
            target: Arc::clone(target),
            endpoints,
            phase: Phase::Initialize,
            format: Format::default(),
            queue: Queue::None,
            sq: SubmissionQueue {
                entries: ENTRIES_BEFORE_CONNECT,
                head: 0,
                flow_control: true,
                outstanding: 0,
            },
            rx: Receiver::new(),
            tx: Transmitter::new(),
            held: Held::by(id),
            asking: VecDeque::new(),
            filling: Fifo::EMPTY,
            ready: Fifo::EMPTY,
            at_device: 0,
            owed: 0,
            granted: 0,
            started: now,
            now,
        }
    }

    /// The two ends.
    pub fn endpoints(&self) -> Endpoints {
        self.endpoints
    }

    /// The queue this connection is, once Connect was accepted.
    pub fn queue(&self) -> Option<(Cntlid, Qid)> {
        match &self.queue {
            Queue::None => None,
            Queue::Admin(admin) => Some((admin.controller.cntlid, Qid::ADMIN)),
            Queue::Io(io) => Some((io.controller.cntlid, io.qid)),
        }
    }

    /// A command came, or is done: its controller's host is alive (base 3.9.2).
    #[inline]
    fn note_traffic(&self) {
        match &self.queue {
            Queue::None => {}
            Queue::Admin(admin) => admin.controller.note_traffic(),
            Queue::Io(io) => io.controller.note_traffic(),
        }
    }

    /// Commands the host may have outstanding.
    pub fn queue_entries(&self) -> u16 {
        self.sq.entries
    }

    /// Takes the next bytes of the stream. Payload stays in its cluster.
    ///
    /// # Errors
    /// Gives the slice back, untouched, if the session is still blocked.
    pub fn receive(
        &mut self,
        now: Timestamp,
        slice: Slice,
        shard: &mut Shard<'_>,
    ) -> Result<Progress, Slice> {
        self.now = now;
        if self.rx.is_blocked() && self.unblock(shard) == Progress::Blocked {
            return Err(slice);
        }
        Ok(self.feed(Some(slice), shard))
    }

    /// Goes on with bytes kept back and commands waiting for a run or for write
    /// credit. To be called for sessions that [`Session::is_waiting`] after
    /// resources of the shard were given back.
    pub fn resume(&mut self, now: Timestamp, shard: &mut Shard<'_>) -> Progress {
        self.now = now;
        self.promote(shard);
        if self.rx.is_blocked() {
            return self.unblock(shard);
        }
        match self.phase {
            Phase::Closing(_) | Phase::Closed(_) => Progress::Closing,
            _ => Progress::Taken,
        }
    }

    /// Asks for the memory of what the session holds apart: before it is given bytes.
    #[inline]
    pub fn prefetch(&self) {
        if let Queue::Io(io) = &self.queue {
            prefetch(&**io);
        }
    }

    /// Whether the stream itself is blocked, after [`Progress::Blocked`]:
    /// nothing can be received.
    pub fn is_blocked(&self) -> bool {
        self.rx.is_blocked()
    }

    /// Whether anything waits for a resource of the shard: the stream
    /// ([`Session::is_blocked`]), or commands that need a run or write credit.
    ///
    /// A session that waits without being blocked must go on receiving: the
    /// data that other commands of it are owed comes in the same stream, and
    /// with it the resources are given back.
    pub fn is_waiting(&self) -> bool {
        self.is_blocked() || !self.asking.is_empty() || !self.filling.is_empty()
    }

    /// Whether no other session is asked for data until this one has been: it is
    /// to be resumed before others.
    pub fn is_first(&self, shard: &Shard<'_>) -> bool {
        shard.commands.is_first(self.id)
    }

    /// Requests handed out by [`Session::next_request`] and not yet completed.
    pub fn outstanding(&self) -> usize {
        self.at_device.into()
    }

    /// Lets time pass: timeouts, asynchronous events, the end of the controller
    /// on another shard. Returns when to be called again at the latest.
    /// Requests may be ready, and something to transmit, afterwards.
    pub fn advance(&mut self, now: Timestamp, shard: &mut Shard<'_>) -> Timestamp {
        self.now = now;
        if let Queue::Admin(admin) = &mut self.queue {
            admin.heed_traffic(now);
        }
        if let Some(reason) = self.overdue(shard) {
            if reason != CloseReason::ControllerGone {
                shard.counters.timeouts += 1;
            }
            self.shut(reason);
        }
        if self.closing().is_some() {
            shard.commands.step_back(self.id);
        }
        if self.rx.is_blocked() {
            self.unblock(shard);
        }
        self.promote(shard);
        match &mut self.queue {
            Queue::Admin(admin) => {
                admin.refresh();
                self.send_events(shard);
            }
            Queue::Io(io) => io.report(),
            Queue::None => {}
        }
        now.plus_ms(TICK_MS)
    }

    /// Why the connection is to be closed, once it is. The engine transmits
    /// until [`Session::transmit`] says there is nothing left, then closes the
    /// connection and the session.
    pub fn closing(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Closing(reason) | Phase::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Gives every buffer, run and slot back, except those of requests that are
    /// outstanding: keep the session and pass their completions to
    /// [`Session::complete`] until [`Session::outstanding`] is 0.
    ///
    /// To be called when the TCP connection is gone, for whatever reason.
    pub fn close(&mut self, shard: &mut Shard<'_>) {
        self.shut(CloseReason::ConnectionLost);
        let reason = self.closing().unwrap_or(CloseReason::ConnectionLost);
        self.phase = Phase::Closed(reason);
        self.rx = Receiver::new();
        self.tx = Transmitter::new();
        shard.commands.step_back(self.id);
        self.filling = Fifo::EMPTY;
        self.ready = Fifo::EMPTY;
        self.owed = 0;
        let mut index = self.held.first();
        while index != SlotIndex::NONE {
            let next = shard.commands.slots.after(index);
            if shard.commands.slots[index].at_device == 0 {
                self.release(index, shard);
            }
            index = next;
        }
    }

    /// Which timer has run out, or whether the controller is gone.
    fn overdue(&self, shard: &Shard<'_>) -> Option<CloseReason> {
        let config = self.target.config();
        let data_ms = match shard.commands.is_starved(self.now) {
            // Others wait for what this host holds.
            true => u64::from(config.data_ms).min(FORBEARANCE_MS),
            false => config.data_ms.into(),
        };
        let late = |since: Timestamp| self.now >= since.plus_ms(data_ms);
        match (&self.phase, &self.queue) {
            (Phase::Initialize | Phase::Unconnected, _) => (self.now
                >= self.started.plus_ms(config.handshake_ms.into()))
            .then_some(CloseReason::HandshakeTimeout),
            (Phase::Connected, Queue::Admin(admin)) if admin.controller.has_ended() => {
                Some(CloseReason::ControllerGone)
            }
            (Phase::Connected, Queue::Admin(admin)) if admin.is_overdue(self.now) => {
                Some(CloseReason::KeepAliveTimeout)
            }
            (Phase::Connected, Queue::Io(io)) if !io.controller.is_still(io.enabled) => {
                Some(CloseReason::ControllerGone)
            }
            (Phase::Connected, _) => {
                if self.tx.stalled().is_some_and(late) {
                    return Some(CloseReason::SendTimeout);
                }
                if self.rx.is_blocked() {
                    // It is not the host that data waits for.
                    return None;
                }
                let inside = self.rx.inside_since().is_some_and(late);
                let owes = inside || self.owed > 0 && self.owes(late, shard);
                owes.then_some(CloseReason::DataTimeout)
            }
            _ => None,
        }
    }

    /// Whether the host is late with the data of any write.
    fn owes(&self, late: impl Fn(Timestamp) -> bool, shard: &Shard<'_>) -> bool {
        let slots = &shard.commands.slots;
        let mut index = self.held.first();
        while index != SlotIndex::NONE {
            let slot = &slots[index];
            if slot.state == SlotState::Owed && late(slot.since.max(self.rx.freed())) {
                return true;
            }
            index = slots.after(index);
        }
        false
    }

    /// Stops taking bytes, and leaves the controller: an Admin Queue takes it
    /// along (base 3.3.1.2). The first reason stays.
    fn shut(&mut self, reason: CloseReason) {
        if !matches!(self.phase, Phase::Closing(_) | Phase::Closed(_)) {
            self.phase = Phase::Closing(reason);
        }
        self.rx.let_go();
        self.asking = VecDeque::new();
        match std::mem::replace(&mut self.queue, Queue::None) {
            Queue::None => {}
            Queue::Admin(admin) => self.target.remove_controller(&admin.controller),
            Queue::Io(mut io) => {
                io.report();
                io.controller.remove_queue(io.qid, io.enabled);
            }
        }
    }

    /// Terminates the connection for a malformed PDU with `header`
    /// (NVMe/TCP 3.5.2).
    fn terminate(&mut self, error: FatalError, header: &[u8], shard: &mut Shard<'_>) {
        if self.closing().is_none() {
            shard.counters.count_malformed(error.status);
            self.tx.terminate(error, header);
            self.shut(CloseReason::Malformed(error.status));
        }
    }

    /// Frees a slot with everything it has.
    fn release(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        self.granted -= shard.commands.return_credit(index);
        if let Some(run) = shard.commands.slots[index].run.take() {
            shard.runs.put(run);
        }
        shard.commands.free(index, &mut self.held);
        self.sq.outstanding -= 1;
    }

    /// Frees the slot of a command that is to be answered later.
    fn set_aside(&mut self, index: SlotIndex, shard: &mut Shard<'_>) {
        shard.commands.free(index, &mut self.held);
    }

    /// Completes parked requests for events that are due; with no slot for that, later.
    fn send_events(&mut self, shard: &mut Shard<'_>) {
        while let Queue::Admin(admin) = &mut self.queue
            && let Some((cid, event)) = admin.events.due(admin.event_config())
            && let Some(index) = shard.commands.take(Purpose::Admin, cid, &mut self.held)
        {
            admin.events.told();
            shard.commands.slots[index].result = event.into();
            self.respond(index, shard);
        }
    }

    /// The parked request `cid` is aborted; whether there was one, and a slot for that.
    fn abort_parked(&mut self, cid: Cid, shard: &mut Shard<'_>) -> bool {
        let Queue::Admin(admin) = &mut self.queue else {
            return false;
        };
        let Some(index) = shard.commands.take(Purpose::Admin, cid, &mut self.held) else {
            return false;
        };
        let parked = admin.events.unpark(cid);
        if parked {
            self.fail(index, Status::ABORT_REQUESTED, shard);
        } else {
            self.set_aside(index, shard);
        }
        parked
    }

    /// After a reset parked requests are void, and are not completed.
    fn drop_parked(&mut self) {
        if let Queue::Admin(admin) = &mut self.queue {
            self.sq.outstanding -= admin.events.unpark_all();
        }
    }
}

impl IoQueue {
    /// The namespaces as they are now.
    #[inline]
    fn namespaces(&mut self) -> &Namespaces {
        if let Some(subsystem) = &self.controller.subsystem
            && !subsystem.is_current(&self.namespaces)
        {
            self.namespaces = subsystem.namespaces();
        }
        &self.namespaces
    }

    /// Adds what was moved to the controller's sum.
    fn report(&mut self) {
        let usage = &self.controller.usage;
        for (mine, sum) in [
            (&mut self.reads, &usage.reads),
            (&mut self.writes, &usage.writes),
            (&mut self.units_read, &usage.units_read),
            (&mut self.units_written, &usage.units_written),
        ] {
            if *mine > 0 {
                sum.fetch_add(std::mem::take(mine), Ordering::Relaxed);
            }
        }
    }
}
