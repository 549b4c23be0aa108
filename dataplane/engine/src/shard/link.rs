//! A shard's end of a port: its queue pair, its TCP stack, and a session for
//! each connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;

use events::{Counter, tracepoint};
use net::{ConnectionId, Event, Instant, ListenError, ListenerId, Notice, Stack, Tap};
use nvmf::{CloseReason, Endpoints, Session, Timestamp, Wire};
use pages::{Chunk, prefetch};

use super::{Common, Resources};
use crate::clock::StageClock;
use crate::port::PortQueue;
use crate::snapshot::{ConnectionSnapshot, IoCounters, Layer, Stage};
use crate::volume::{Answer, Owner};

/// Slots looked at per millisecond for session timers: 10,000 connections in 160 ms.
const SWEEP: usize = 64;

/// Waiting sessions resumed in one poll.
const RESUMED_MAX: usize = 8;

/// A connection and its session. It stays until the device is done with every
/// request of it, even when the peer is gone.
struct Peer {
    connection: ConnectionId,
    session: Session,
    /// In the link's list of sessions that wait for a resource.
    waiting: bool,
    /// Session closed; kept for completions still to come.
    gone: bool,
    /// TCP said that the connection is no more: its name can be released.
    closed: bool,
    io: IoCounters,
    /// Nanoseconds that its requests took together.
    latency_ns: u64,
    /// Bytes of the stream.
    received: u64,
    sent: u64,
}

pub(crate) struct Link {
    index: u16,
    queue: PortQueue,
    stack: Stack,
    listeners: Vec<(ListenerId, SocketAddr)>,
    peers: Box<[Option<Box<Peer>>]>,
    connections: u64,
    /// Connections whose sessions wait for a resource of the shard.
    waiting: VecDeque<ConnectionId>,
    /// What there was when they were last resumed.
    resources: Resources,
    sweep: usize,
    swept_at: Timestamp,
}

impl Link {
    pub(crate) fn new(index: u16, queue: PortQueue, stack: Stack) -> Self {
        let slots = stack.config().connections_max;
        Self {
            index,
            queue,
            stack,
            listeners: Vec::new(),
            peers: (0..slots).map(|_| None).collect(),
            connections: 0,
            waiting: VecDeque::with_capacity(slots),
            resources: Resources::default(),
            sweep: 0,
            swept_at: Timestamp(0),
        }
    }

    /// Listens if the address is this port's; whether it is.
    pub(crate) fn listen(&mut self, listener: SocketAddr) -> Result<bool, String> {
        let backlog = self.stack.config().half_open_max;
        match self.stack.listen(listener, backlog) {
            Ok(id) => {
                self.listeners.push((id, listener));
                Ok(true)
            }
            Err(ListenError::NoSuchAddress) => Ok(false),
            Err(error) => Err(format!("listener {listener}: {error}")),
        }
    }

    /// Frames from the NIC into the stack; how many.
    #[inline(never)] // a border of stages, for profiles and `ci/bench --instructions`
    pub(crate) fn receive(
        &mut self,
        common: &mut Common,
        stages: &mut StageClock,
        now: Instant,
    ) -> usize {
        let memory = &mut common.memory;
        let frames = self.queue.poll(memory);
        if frames > 0 {
            stages.end(Stage::Receive);
            self.stack.foresee(self.queue.heads(frames));
            for slot in self.stack.foreseen() {
                prefetch(&self.peers[slot]);
            }
            for i in 0..frames {
                let stack = &mut self.stack;
                self.queue
                    .frame(i, memory, |frame| stack.receive(now, frame));
            }
            self.expect();
        }
        self.stack
            .set_budget(memory.clusters.unheld(), memory.clusters.len());
        self.stack.advance(now);
        if frames > 0 {
            stages.end(Stage::Tcp);
        }
        frames
    }

    /// Asks for the memory of the sessions that the last burst was for: all at once, not each in its turn.
    fn expect(&self) {
        let peers = || (self.stack.foreseen()).filter_map(|slot| self.peers[slot].as_deref());
        peers().for_each(prefetch);
        peers().for_each(|peer| peer.session.prefetch());
    }

    /// Events of the stack into sessions, their requests to the volumes; whether there was work.
    #[inline(never)] // a border of stages, for profiles and `ci/bench --instructions`
    pub(crate) fn serve(
        &mut self,
        common: &mut Common,
        stages: &mut StageClock,
        now: Instant,
    ) -> bool {
        let now = Timestamp(now.as_millis());
        let mut busy = false;
        while let Some(event) = self.stack.poll_event() {
            busy = true;
            match event {
                Event::Accepted {
                    connection,
                    listener,
                    remote,
                } => self.accept(connection, listener, remote, common, now),
                Event::Readable(connection) => self.read(connection, common, stages, now),
                Event::Writable(connection) => self.write(connection, common),
                Event::PeerClosed(connection) => {
                    // A host that sends nothing more has no use for answers (NVMe/TCP 3.5):
                    // what it sent is served, then the connection ends.
                    self.read(connection, common, stages, now);
                    self.retire(connection, common);
                    self.stack.close(connection);
                }
                Event::Closed { connection, .. } => {
                    if let Some(peer) = self.peer(connection) {
                        peer.closed = true;
                        self.retire(connection, common);
                    }
                }
                Event::Connected(_) => {}
            }
        }
        busy |= self.resume(common, stages, now);
        if now > self.swept_at {
            self.swept_at = now;
            self.advance(common, stages, now);
        }
        if busy {
            stages.end(Stage::Protocol);
        }
        busy
    }

    /// A request's end, to the session that asked.
    #[inline(never)] // a border of stages, for profiles and `ci/bench --instructions`
    pub(crate) fn complete(&mut self, common: &mut Common, answer: Answer) {
        let slot = answer.owner.slot;
        let Some(peer) = self.peers[slot as usize].as_mut() else {
            unreachable!("a slot is kept until its session has no request outstanding");
        };
        let status = answer.completion.status;
        (peer.io).count(answer.kind, answer.bytes, status.is_success());
        if status.is_success() {
            peer.latency_ns += answer.nanoseconds;
        }
        tracepoint::request_complete(
            answer.completion.id.number(),
            slot.into(),
            answer.namespace.into(),
            answer.nanoseconds,
            status.field().into(),
        );
        peer.session.complete(answer.completion, &mut common.lend());
        let connection = peer.connection;
        if peer.gone {
            self.bury(connection);
        } else {
            self.write(connection, common);
        }
    }

    /// Segments out; whether there was work. Also returns clusters to the NIC.
    #[inline(never)] // a border of stages, for profiles and `ci/bench --instructions`
    pub(crate) fn transmit(
        &mut self,
        common: &mut Common,
        stages: &mut StageClock,
        now: Instant,
    ) -> bool {
        let sent = if self.stack.wants_transmit() {
            self.stack.transmit(now, &mut self.queue)
        } else {
            0
        };
        self.queue.flush();
        let memory = &mut common.memory;
        memory.receive.replenish(&memory.clusters);
        if sent > 0 {
            stages.end(Stage::Transmit);
        }
        sent > 0
    }

    /// Shows every frame to `tap`, or to nobody any more.
    pub(crate) fn set_tap(&mut self, tap: Option<Box<dyn Tap>>) {
        self.stack.set_tap(tap);
    }

    /// News for the other shards of the port.
    pub(crate) fn poll_notice(&mut self) -> Option<Notice> {
        self.stack.poll_notice()
    }

    /// Another shard's news.
    pub(crate) fn notice(&mut self, now: Instant, notice: Notice) {
        self.stack.notice(now, notice);
    }

    /// Resets every connection; the engine stops.
    pub(crate) fn abort_all(&mut self, common: &mut Common) {
        for slot in 0..self.peers.len() {
            if let Some(connection) = self.peers[slot].as_ref().map(|peer| peer.connection) {
                self.stack.abort(connection);
                self.retire(connection, common);
            }
        }
    }

    /// Whether nothing is left to send and no session waits for a device.
    pub(crate) fn is_quiet(&self) -> bool {
        self.connections == 0 && !self.stack.wants_transmit()
    }

    /// Takes back what the NIC held; the port is closed.
    pub(crate) fn finish(&mut self) {
        self.queue.stop();
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections
    }

    pub(crate) fn counters(&self) -> [Layer; 2] {
        let layer = |name, counters: Vec<Counter>| Layer {
            name,
            port: Some(self.index.into()),
            counters,
        };
        [
            layer("tcp", self.stack.stats().iter().collect()),
            layer("port", self.queue.counters().iter().collect()),
        ]
    }

    /// Adds the connections in these slots to `list`; false if there are no such slots.
    pub(crate) fn list(&self, slots: Range<usize>, list: &mut Vec<ConnectionSnapshot>) -> bool {
        let end = slots.end.min(self.peers.len());
        let Some(peers) = self.peers.get(slots.start..end).filter(|p| !p.is_empty()) else {
            return false;
        };
        for peer in peers.iter().flatten() {
            let queue = peer.session.queue();
            list.push(ConnectionSnapshot {
                port: self.index.into(),
                peer: peer.session.endpoints().host,
                cntlid: queue.map(|(cntlid, _)| cntlid.0),
                qid: queue.map_or(0, |(_, qid)| qid.0),
                queue_depth: peer.session.queue_entries(),
                outstanding: peer.session.outstanding() as u64,
                io: peer.io,
                latency_ns: peer.latency_ns,
                bytes_received: peer.received,
                bytes_sent: peer.sent,
                tcp: (self.stack.connection_info(peer.connection)).unwrap_or_default(),
            });
        }
        true
    }

    fn peer(&mut self, connection: ConnectionId) -> Option<&mut Peer> {
        let peer = self.peers[connection.slot()].as_deref_mut()?;
        (peer.connection == connection).then_some(peer)
    }

    fn accept(
        &mut self,
        connection: ConnectionId,
        listener: ListenerId,
        host: SocketAddr,
        common: &Common,
        now: Timestamp,
    ) {
        let Some(&(_, local)) = self.listeners.iter().find(|(id, _)| *id == listener) else {
            self.stack.abort(connection);
            return self.stack.release(connection);
        };
        let session = Session::new(&common.target, Endpoints { local, host }, now);
        let peer = Peer {
            connection,
            session,
            waiting: false,
            gone: false,
            closed: false,
            io: IoCounters::default(),
            latency_ns: 0,
            received: 0,
            sent: 0,
        };
        tracepoint::connection_open(connection.slot() as u64, host.port().into());
        self.peers[connection.slot()] = Some(Box::new(peer));
        self.connections += 1;
    }

    /// Everything in order into the session, unless it is waiting for something.
    fn read(
        &mut self,
        connection: ConnectionId,
        common: &mut Common,
        stages: &mut StageClock,
        now: Timestamp,
    ) {
        let Some(peer) = self.peers[connection.slot()].as_deref_mut() else {
            return;
        };
        if peer.connection != connection || peer.gone {
            return;
        }
        let mut shard = common.lend();
        while !peer.session.is_blocked()
            && let Some(slice) = self.stack.recv(connection)
        {
            peer.received += slice.len() as u64;
            // A session that is not blocked takes every slice.
            let _ = peer.session.receive(now, slice, &mut shard);
        }
        self.after(connection, common, stages);
    }

    /// What a session has for the volumes, the wire and the wait list.
    fn after(&mut self, connection: ConnectionId, common: &mut Common, stages: &mut StageClock) {
        let index = self.index;
        let Some(peer) = self.peers[connection.slot()].as_deref_mut() else {
            return;
        };
        while let Some(request) = peer.session.next_request(&mut common.lend()) {
            stages.end(Stage::Protocol);
            let owner = Owner {
                link: index,
                slot: connection.slot() as u32,
            };
            common.volumes.start(owner, request, &common.memory, stages);
        }
        if peer.session.is_waiting() && !peer.waiting {
            peer.waiting = true;
            self.waiting.push_back(connection);
        }
        self.write(connection, common);
    }

    /// What the session has to say, as far as there is room; then closes if it is done.
    fn write(&mut self, connection: ConnectionId, common: &mut Common) {
        let Some(peer) = self.peers[connection.slot()].as_deref_mut() else {
            return;
        };
        if peer.connection != connection || peer.gone {
            return;
        }
        let mut wire = StackWire {
            stack: &mut self.stack,
            connection,
            sent: 0,
        };
        let done = peer.session.transmit(&mut wire, &mut common.lend());
        peer.sent += wire.sent;
        if done && let Some(reason) = peer.session.closing() {
            match reason {
                // It would not take a farewell either, and what it sent is freed at once.
                CloseReason::DataTimeout | CloseReason::SendTimeout => {
                    self.stack.abort(connection);
                }
                _ => self.stack.close(connection),
            }
            self.retire(connection, common);
        }
    }

    /// Lets waiting sessions go on, oldest first, when resources were given back.
    /// One that still waits goes behind the others: a queue that can never have
    /// enough must not keep its own admin queue, and everybody else, waiting. But
    /// the one that no other may overtake is looked at each time.
    fn resume(&mut self, common: &mut Common, stages: &mut StageClock, now: Timestamp) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let resources = common.resources();
        if std::mem::replace(&mut self.resources, resources) == resources {
            return false;
        }
        let mut first = None;
        for _ in 0..self.waiting.len().min(RESUMED_MAX) {
            let Some(connection) = self.waiting.pop_front() else {
                break;
            };
            let Some(peer) = self.peer(connection) else {
                continue;
            };
            peer.waiting = false;
            if peer.gone {
                continue;
            }
            peer.session.resume(now, &mut common.lend());
            self.read(connection, common, stages, now);
            if let Some(peer) = self.peer(connection)
                && peer.waiting
                && peer.session.is_first(&common.lend())
            {
                first = self.waiting.pop_back();
            }
        }
        if let Some(first) = first {
            self.waiting.push_front(first);
        }
        true
    }

    /// Session timers, a few slots at a time.
    fn advance(&mut self, common: &mut Common, stages: &mut StageClock, now: Timestamp) {
        for _ in 0..SWEEP.min(self.peers.len()) {
            let slot = self.sweep;
            self.sweep = (slot + 1) % self.peers.len();
            if let Some(ahead) = &self.peers[(slot + 3) % self.peers.len()] {
                prefetch(&**ahead);
            }
            let Some(peer) = self.peers[slot].as_deref_mut() else {
                continue;
            };
            if peer.gone {
                continue;
            }
            peer.session.advance(now, &mut common.lend());
            let connection = peer.connection;
            self.after(connection, common, stages);
        }
    }

    /// Ends a session; the slot is kept while the device works for it.
    fn retire(&mut self, connection: ConnectionId, common: &mut Common) {
        let Some(peer) = self.peer(connection) else {
            return;
        };
        if !peer.gone {
            peer.gone = true;
            peer.session.close(&mut common.lend());
        }
        self.bury(connection);
    }

    /// Frees the slot of a session that is gone, once neither TCP nor a device needs it.
    fn bury(&mut self, connection: ConnectionId) {
        let Some(peer) = self.peer(connection) else {
            return;
        };
        if peer.gone && peer.closed && peer.session.outstanding() == 0 {
            let host = peer.session.endpoints().host;
            tracepoint::connection_close(connection.slot() as u64, host.port().into());
            self.peers[connection.slot()] = None;
            self.connections -= 1;
            self.stack.release(connection);
        }
    }
}

/// A session's way into the TCP send queue.
struct StackWire<'a> {
    stack: &'a mut Stack,
    connection: ConnectionId,
    sent: u64,
}

impl Wire for StackWire<'_> {
    fn send(&mut self, chunk: Chunk) -> Result<(), Chunk> {
        let len = chunk.len() as u64;
        self.stack
            .send(self.connection, chunk)
            .map_err(net::SendError::into_chunk)?;
        self.sent += len;
        Ok(())
    }
}
