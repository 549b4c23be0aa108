//! NVMe over TCP: a connection, which carries one queue.
//!
//! ```text
//!  slices ─▶ receive ─▶ queue ─▶ requests
//!                        │  ▲
//!  chunks ◀─ transmit ◀──┘  └─── completions
//! ```
//!
//! `receive` reads PDUs out of the stream and hands commands and data to the queue,
//! `transmit` sends what the queue has for the host, `r2t` fetches data. Digests,
//! alignment and limits of PDUs are known here alone.
//!
//! Source: NVM Express TCP Transport Specification 1.0.

mod data_digest;
mod debt;
pub mod pdu;
mod r2t;
mod receive;
mod transmit;

use std::net::SocketAddr;
use std::sync::Arc;

use block::{Completion, Request, RequestId};
use pages::Slice;

use crate::controller::TICK_MS;
use crate::queue::slots::Slot;
use crate::queue::{Aborting, End, Queue};
use crate::resources::Resources;
use crate::secure::PskNames;
use crate::target::Target;
use crate::units::{Cntlid, Qid, Timestamp};
use pdu::{FatalError, FatalStatus};
use r2t::R2ts;
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
    /// A PDU was malformed or out of order; a terminate request says so to the host.
    Malformed(FatalStatus),
    /// The host sent a terminate request with this FES.
    TerminatedByHost(u16),
    /// ICReq or Connect did not come in time.
    HandshakeTimeout,
    /// The host was silent longer than its Keep Alive Timeout.
    KeepAliveTimeout,
    /// The host could not prove who it is, or found that we cannot.
    AuthenticationFailed,
    /// The host did not prove in time who it is.
    AuthenticationTimeout,
    /// No encrypted connection came about.
    NotSecured(HandshakeFault),
    /// The host spoke in the clear where every connection is encrypted.
    InTheClear,
    /// What came could not be opened, or was none of what may come on an encrypted connection: an alert with this description was sent.
    BadRecord(u8),
    /// As much was sent under a key, either way, as may be, and the host takes no new one (RFC 8446, 5.5): it connects again.
    KeyWornOut,
    /// The host ended an encrypted connection with this alert.
    Alerted(u8),
    /// The host named itself and was not let in (Connect Invalid Host), and went.
    NotLetIn,
    /// Data that was requested of the host did not come in time.
    DataTimeout,
    /// The host did not read what was sent to it, or not in time what was left when the queue ended.
    SendTimeout,
    /// Others waited for command slots or memory that the host held, and it sent and read nothing for a
    /// while that was too long for that.
    WantOfResources,
    /// The host acknowledged nothing any more: TCP gave it up.
    Unresponsive,
    /// The controller this queue belongs to was reset, shut down or ended.
    ControllerGone,
    /// The engine closed it: the TCP connection is gone.
    ConnectionLost,
}

/// Why no encrypted connection came about (RFC 8446, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFault {
    /// The host offers a PSK that there is none of: neither of that host for that subsystem, nor of that digest.
    UnknownIdentity,
    /// It does not have the PSK that it offers.
    WrongKey,
    /// It proves that with another hash than the key's.
    HashOfBinder,
    /// It offers no PSK, suite, group or mode that is taken.
    NothingInCommon,
    /// What it sends is no handshake.
    Malformed,
    /// It ended the handshake, with this alert.
    Alert(u8),
    /// Something of ours is at fault; the log says what.
    Internal,
    /// Others came when too many had not gone on.
    Crowded,
}

/// A connection that ends, for whoever tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure<'a> {
    /// Why it ends.
    pub reason: CloseReason,
    /// Its two ends.
    pub endpoints: Endpoints,
    /// Which queue of which controller it was, and the NQN of the host; none before Connect.
    pub queue: Option<(Cntlid, Qid, &'a str)>,
    /// The NQN that the host named when it was not let in.
    pub claimed: Option<&'a str>,
}

/// One connection of a host: the NVMe/TCP protocol over in-order slices.
///
/// State per connection is fixed when it becomes a queue; commands under way
/// live in the shard's [`CommandPool`](crate::CommandPool).
#[derive(Debug)]
pub struct Session {
    endpoints: Endpoints,
    queue: Queue,
    rx: Receiver,
    tx: Transmitter,
    /// Why the connection closes, if it is not the queue that ended.
    reason: CloseReason,
    /// Since when it has been closing.
    closing_since: Option<Timestamp>,
    /// It has been closing for too long: the host does not take what is left for it.
    forsaken: bool,
}

impl Session {
    /// A session on a connection just accepted.
    pub fn new(target: &Arc<Target>, endpoints: Endpoints, now: Timestamp) -> Self {
        Self {
            endpoints,
            queue: Queue::new(target, endpoints.local.into(), endpoints.host.ip(), now),
            rx: Receiver::new(),
            tx: Transmitter::new(target.config()),
            reason: CloseReason::ConnectionLost,
            closing_since: None,
            forsaken: false,
        }
    }

    /// The connection is encrypted from now on, by the PSK of these names; before anything was received.
    pub fn secure(&mut self, names: PskNames) {
        self.queue.secure(names);
    }

    /// Ends the connection: whoever carries it says why.
    pub fn fail(&mut self, reason: CloseReason, resources: &mut Resources<'_>) {
        self.shut(reason, resources);
    }

    /// The two ends.
    pub fn endpoints(&self) -> Endpoints {
        self.endpoints
    }

    /// The queue this connection is, once Connect was accepted, and its host has proved who it is if it has to.
    pub fn queue(&self) -> Option<(Cntlid, Qid)> {
        self.queue.number()
    }

    /// Commands the host may have outstanding.
    pub fn queue_entries(&self) -> u16 {
        self.queue.entries()
    }

    /// Takes the next bytes of the stream. Payload stays in its cluster.
    ///
    /// # Errors
    /// Gives the slice back, untouched, if the session is still blocked.
    pub fn receive(
        &mut self,
        now: Timestamp,
        slice: Slice,
        resources: &mut Resources<'_>,
    ) -> Result<Progress, Slice> {
        self.queue.set_now(now);
        if self.rx.is_blocked() && self.unblock(resources) == Progress::Blocked {
            return Err(slice);
        }
        Ok(self.feed(Some(slice), resources))
    }

    /// Goes on with bytes kept back and commands waiting for a run or for write
    /// credit. To be called for sessions that [`Session::is_waiting`] after
    /// resources of the shard were given back.
    pub fn resume(&mut self, now: Timestamp, resources: &mut Resources<'_>) -> Progress {
        self.queue.set_now(now);
        self.queue.look_at_desk(&mut self.tx, resources);
        self.queue.promote(&mut self.tx, resources);
        if self.rx.is_blocked() {
            return self.unblock(resources);
        }
        if self.queue.is_over() {
            Progress::Closing
        } else {
            Progress::Taken
        }
    }

    /// Prefetches what the session holds in memory of its own, before it is given bytes.
    #[inline]
    pub fn prefetch(&self) {
        self.queue.prefetch();
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
    /// data that was requested for other commands of it comes in the same stream,
    /// and with it the resources are given back.
    pub fn is_waiting(&self) -> bool {
        self.is_blocked() || self.queue.is_waiting()
    }

    /// Whether it waits for an answer of the [`AuthDesk`](crate::AuthDesk): when there are more of them, it is to be resumed.
    #[inline]
    pub fn is_at_desk(&self) -> bool {
        self.queue.is_at_desk()
    }

    /// Whether no other session's data is fetched until this one's has been: it is
    /// to be resumed before others.
    pub fn is_first(&self, resources: &Resources<'_>) -> bool {
        self.queue.is_first(resources)
    }

    /// Requests handed out by [`Session::next_request`] and not yet completed.
    pub fn outstanding(&self) -> usize {
        self.queue.outstanding()
    }

    /// Whether volumes have requests of it for namespaces whose ANA groups are in a state in which commands do not
    /// get to them: it was handed out before they were. After [`Session::advance`] it hands out no more of them.
    pub fn has_withheld(&self, resources: &Resources<'_>) -> bool {
        self.queue.has_withheld(resources)
    }

    /// Of the bytes that the wire has taken, `bytes` are not acknowledged by the host. To be
    /// said before time passes ([`Session::advance`]) and before bytes are received, so that
    /// hosts that do not read are known and get no more than their share.
    #[inline]
    pub fn set_unacknowledged(&mut self, now: Timestamp, bytes: usize) {
        self.tx.debt.set(bytes as u64, now);
    }

    /// TCP has no room for what the host has to send, and has told it so. To be said before time passes: the host owes
    /// nothing meanwhile.
    pub fn hold_up(&mut self, now: Timestamp) {
        self.rx.hold_up(now);
    }

    /// Lets time pass: timeouts, asynchronous events, the end of the controller
    /// on another shard. Returns when to be called again at the latest.
    /// Requests may be ready, and something to transmit, afterwards.
    pub fn advance(&mut self, now: Timestamp, resources: &mut Resources<'_>) -> Timestamp {
        if let Some(end) = self.queue.check_timers(now) {
            if end != End::ControllerGone {
                resources.counters.timeouts += 1;
            }
            self.queue.end(end, resources);
            self.rx.discard();
        } else if let Some(reason) = self.overdue(resources) {
            resources.counters.timeouts += 1;
            self.shut(reason, resources);
        } else if self.queue.is_over() {
            self.look_at_the_end(resources);
        }
        if self.queue.is_over() {
            self.queue.yield_turn(resources);
        }
        if let Some(since) = self.rx.blocked_since() {
            resources.commands.note_wait(since, now);
            self.unblock(resources);
        }
        self.queue.advance(&mut self.tx, resources);
        self.abort_asked(resources);
        now.plus_ms(TICK_MS.into())
    }

    /// Aborts what the host's Admin Queue asked for (base 5.1).
    fn abort_asked(&mut self, resources: &mut Resources<'_>) {
        while let Some(cid) = self.queue.next_abort() {
            let is_under_way = match self.queue.abort(cid, &mut self.tx, resources) {
                Aborting::Done => true,
                Aborting::AtVolumes(id) => self.queue.want_back(id),
                Aborting::Unknown => self.abort_blocked(cid, resources),
                Aborting::Refused => false,
            };
            if !is_under_way {
                self.queue.abort_ended(cid, false);
            }
        }
    }

    /// The next request that the volumes are to be asked to give back, as an Abort names its command.
    /// If they do, it ends with [`block::Fault::Aborted`]; else [`Session::not_aborted`] is to be called.
    pub fn next_abort(&mut self) -> Option<RequestId> {
        self.queue.next_wanted()
    }

    /// The volumes have begun request `id`, and go on with it.
    pub fn not_aborted(&mut self, id: RequestId, resources: &Resources<'_>) {
        self.queue.not_given_back(id, resources);
    }

    /// The reason to close the connection, as soon as there is one. The engine transmits
    /// until [`Session::transmit`] says there is nothing left, then closes the
    /// connection and the session.
    pub fn closing(&self) -> Option<CloseReason> {
        if self.forsaken {
            return Some(CloseReason::SendTimeout);
        }
        Some(match self.queue.ended()? {
            End::Disconnected => CloseReason::Disconnected,
            End::ConnectTimeout => CloseReason::HandshakeTimeout,
            End::KeepAliveTimeout => CloseReason::KeepAliveTimeout,
            End::AuthenticationFailed => CloseReason::AuthenticationFailed,
            End::AuthenticationTimeout => CloseReason::AuthenticationTimeout,
            End::ControllerGone => CloseReason::ControllerGone,
            End::Transport => self.reason,
        })
    }

    /// Whose connection it is, and why it ends: [`CloseReason::NotLetIn`] or [`CloseReason::ConnectionLost`] if the
    /// session has not ended it.
    pub fn departure(&self) -> Departure<'_> {
        let queue = self.queue.who();
        let claimed = self.queue.not_let_in();
        let went = match claimed {
            Some(_) => CloseReason::NotLetIn,
            None => CloseReason::ConnectionLost,
        };
        Departure {
            reason: self.closing().unwrap_or(went),
            claimed,
            endpoints: self.endpoints,
            queue: queue.map(|(controller, qid)| (controller.cntlid, qid, &*controller.host)),
        }
    }

    /// Gives every buffer, run and slot back, except those of requests that are
    /// outstanding: keep the session and pass their completions to
    /// [`Session::complete`] until [`Session::outstanding`] is 0.
    ///
    /// To be called when the TCP connection is gone, for whatever reason, or has all
    /// there is to send. Then [`Session::is_forsaken`] says when to wait for the host no more.
    pub fn close(&mut self, resources: &mut Resources<'_>) {
        self.shut(CloseReason::ConnectionLost, resources);
        self.rx = Receiver::new();
        let debt = self.tx.debt;
        self.tx = Transmitter::new(self.queue.target().config());
        self.tx.debt = debt;
        self.queue.close(resources);
    }

    /// Whether the host has not acknowledged in time what it was sent before the session was closed:
    /// TCP is to forget it. To be asked now and then, after [`Session::set_unacknowledged`].
    pub fn is_forsaken(&mut self, now: Timestamp, resources: &mut Resources<'_>) -> bool {
        self.queue.set_now(now);
        self.look_at_the_end(resources);
        self.forsaken
    }

    /// The next request for the volumes, if one is ready.
    #[inline]
    pub fn next_request(&mut self, resources: &mut Resources<'_>) -> Option<Request> {
        self.queue.next_request(&mut self.tx, resources)
    }

    /// Takes the end of a request, and queues what goes to the host for it.
    /// After [`Session::close`] it only gives back what the request held.
    ///
    /// A read that is said to have succeeded but whose run is not complete
    /// fails. The completion of a request that is not outstanding is dropped.
    #[inline]
    pub fn complete(&mut self, completion: Completion, resources: &mut Resources<'_>) {
        self.queue.complete(completion, &mut self.tx, resources);
    }

    /// Gives the host up that does not read the end of what there is for it: before the session
    /// closes, or after.
    fn look_at_the_end(&mut self, resources: &mut Resources<'_>) {
        let now = self.queue.now();
        let since = *self.closing_since.get_or_insert(now);
        let late = now >= since.plus_ms(self.queue.patience_ms());
        // What the wire did not even take counts as well.
        let is_left = self.tx.debt.bytes() > 0 || !self.queue.is_closed();
        if !self.forsaken && (late && is_left || self.is_unread(resources)) {
            resources.counters.timeouts += 1;
            self.forsaken = true;
        }
    }

    /// Whether the host has not read for too long, though there is something for it.
    fn is_unread(&self, resources: &Resources<'_>) -> bool {
        let data_ms = self.queue.data_ms(resources);
        let late = |since: Timestamp| self.queue.now() >= since.plus_ms(data_ms);
        self.tx.debt.since().is_some_and(late)
    }

    /// Whether the host does not read, or does not send what it has to.
    fn overdue(&self, resources: &Resources<'_>) -> Option<CloseReason> {
        if !self.queue.is_connected() {
            return None;
        }
        let data_ms = self.queue.data_ms(resources);
        let late = |since: Timestamp| self.rx.is_late(since, data_ms, self.queue.now());
        let reason = |reason| match data_ms < self.queue.patience_ms() {
            true => CloseReason::WantOfResources,
            false => reason,
        };
        if self.is_unread(resources) {
            return Some(reason(CloseReason::SendTimeout));
        }
        if self.rx.is_blocked() {
            // It is not the host that data waits for.
            return None;
        }
        let late_inside = self.rx.inside_since().is_some_and(late);
        let late_data = || {
            let freed = self.rx.freed();
            let late = |slot: &Slot| R2ts::is_outstanding(slot) && late(slot.since.max(freed));
            self.tx.r2ts.any_outstanding() && self.queue.any_fetch(late, resources)
        };
        (late_inside || late_data()).then(|| reason(CloseReason::DataTimeout))
    }

    /// Stops taking bytes, and ends the queue. The first reason stays.
    fn shut(&mut self, reason: CloseReason, resources: &mut Resources<'_>) {
        if !self.queue.is_over() {
            self.reason = reason;
        }
        self.rx.discard();
        self.queue.end(End::Transport, resources);
    }

    /// Terminates the connection for a malformed PDU with `header`
    /// (NVMe/TCP 3.5.2).
    fn terminate(&mut self, error: FatalError, header: &[u8], resources: &mut Resources<'_>) {
        if !self.queue.is_over() {
            count_malformed(resources, error.status);
            self.tx.terminate(error, header);
            self.shut(CloseReason::Malformed(error.status), resources);
        }
    }
}

/// Counts a connection that is terminated for a malformed PDU.
fn count_malformed(resources: &mut Resources<'_>, status: FatalStatus) {
    let counters = &mut *resources.counters;
    *match status {
        FatalStatus::InvalidHeaderField => &mut counters.invalid_header_field,
        FatalStatus::SequenceError => &mut counters.sequence_error,
        FatalStatus::HeaderDigestError => &mut counters.header_digest_error,
        FatalStatus::DataOutOfRange => &mut counters.data_out_of_range,
        FatalStatus::DataLimitExceeded => &mut counters.data_limit_exceeded,
        FatalStatus::UnsupportedParameter => &mut counters.unsupported_parameter,
    } += 1;
}
