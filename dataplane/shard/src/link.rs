//! A shard's end of a port: its queue pair, its TCP stack, and a session for
//! each connection.

mod desk;
mod ending;
mod reach;
mod secure;
mod sweep;
mod wire;
mod withhold;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use block::IoCounters;
use events::{Counter, Stage, StageClock, tracepoint};
use net::{
    AddressState, ConnectError, ConnectionId, Event, Instant, ListenError, ListenerId, Notice,
    Stack, Tap,
};
use nvmf::{Timestamp, Tls};
use pages::prefetch;
use tls::TlsPsk;
use volume::{Ended, Origin};

use crate::common::{Common, Resources};
use crate::door::{Door, DoorKind, Ending, Session};
use crate::drops::Drops;
use crate::entrance::Entrance;
use crate::machine::{Machine, Memory, Port};
use crate::reports::TurnedAway;
use crate::secure::Secure;
use crate::snapshot::{ConnectionSnapshot, Layer};

pub(crate) use reach::leading_to;
use sweep::sweep;
use wire::StackWire;

/// Waiting sessions resumed in one poll.
const RESUMED_MAX: usize = 8;

/// A connection and its session. It stays until the device is done with every
/// request of it, even when the peer is gone; TCP ends by itself after that.
struct Connection {
    id: ConnectionId,
    session: Session,
    /// What is between TCP and the session; none in the clear.
    secure: Option<Box<Secure>>,
    /// In the link's list of sessions that wait for a resource.
    waiting: bool,
    /// In the link's list of sessions that wait for an answer of the desk.
    at_desk: bool,
    /// Session closed; kept for completions still to come.
    gone: bool,
    /// It is a queue of a controller: nobody else gets its slot.
    kept: bool,
    /// Its host has answers to come, as the stack was told.
    answers: bool,
    /// TCP gave it up: the peer acknowledged nothing any more.
    is_unresponsive: bool,
    io: IoCounters,
    /// Nanoseconds that its requests took together.
    latency_ns: u64,
    /// Bytes of the stream.
    received: u64,
    sent: u64,
}

/// An address that connections come in at.
struct Listener {
    id: ListenerId,
    entrance: Entrance,
}

/// A shard's end of a port.
pub struct Link<P> {
    index: u16,
    port: P,
    stack: Stack,
    listeners: Vec<Listener>,
    /// By the stack's slots.
    connections: Box<[Option<Box<Connection>>]>,
    open: u64,
    /// Connections whose sessions wait for a resource of the shard.
    waiting: VecDeque<ConnectionId>,
    /// Connections whose hosts prove who they are, and wait for what is made of it elsewhere.
    at_desk: VecDeque<ConnectionId>,
    /// How many of those are still to be looked at, and what there were of answers when that was last seen.
    desk_looks: usize,
    desk_answers: u64,
    /// What there was when they were last resumed.
    resources: Resources,
    sweep: usize,
    swept_at: Timestamp,
    /// As of the last look.
    turned_away: TurnedAway,
    address_changes: u32,
    /// Hosts that were dropped, for the log.
    drops: Drops,
    /// Connections with other nodes.
    mirrors: Vec<ConnectionId>,
    /// Connections in whose handshakes it is proved who the host is, the oldest first; some of them are long done.
    handshakes: VecDeque<ConnectionId>,
    /// Encrypted connections with a record that is begun, or sealed and not in TCP's queue.
    unsealed: VecDeque<ConnectionId>,
}

impl<P: Port> Link<P> {
    /// Port number `index` of the shard: its queue pair, and the stack on it.
    pub fn new(index: u16, port: P, stack: Stack) -> Self {
        let slots = stack.config().connections_max;
        Self {
            index,
            port,
            stack,
            listeners: Vec::new(),
            connections: (0..slots).map(|_| None).collect(),
            open: 0,
            waiting: VecDeque::with_capacity(slots),
            at_desk: VecDeque::new(),
            unsealed: VecDeque::new(),
            desk_looks: 0,
            desk_answers: 0,
            resources: Resources::default(),
            sweep: 0,
            swept_at: Timestamp(0),
            turned_away: TurnedAway::default(),
            address_changes: 0,
            drops: Drops::new(),
            mirrors: Vec::new(),
            handshakes: VecDeque::new(),
        }
    }

    /// The port's number.
    pub(crate) fn index(&self) -> usize {
        self.index.into()
    }

    /// Listens if the address is this port's; whether it is.
    pub(crate) fn listen(&mut self, entrance: Entrance) -> Result<bool, String> {
        let backlog = self.stack.config().half_open_max;
        let address = entrance.address;
        match self.stack.listen(address, backlog) {
            Ok(id) => {
                self.listeners.push(Listener { id, entrance });
                Ok(true)
            }
            Err(ListenError::NoSuchAddress) => Ok(false),
            Err(error) => Err(format!("listener {address}: {error}")),
        }
    }

    /// Opens a connection for `session`, which says the first word if its protocol wants it.
    ///
    /// # Errors
    /// As [`Stack::connect`]; the session is gone.
    pub fn connect(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        session: Session,
    ) -> Result<ConnectionId, ConnectError> {
        self.connect_by(now, remote, session, None)
    }

    /// The same; encrypted, if there is a key.
    pub(crate) fn connect_by(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        session: Session,
        key: Option<TlsPsk>,
    ) -> Result<ConnectionId, ConnectError> {
        let id = self.stack.connect(now, remote, None)?;
        self.insert(id, session, key.map(Secure::to_node));
        Ok(id)
    }

    /// Frames of the port into the stack; how many.
    #[inline(never)] // a border of stages, for profiles and `ci/bench --instructions`
    pub(crate) fn receive<M: Machine<Port = P>>(
        &mut self,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
        now: Instant,
    ) -> usize
    where
        P: Port<Memory = M::Memory>,
    {
        let memory = &common.memory;
        let frames = self.port.poll(memory);
        if frames > 0 {
            stages.end(Stage::Receive);
            self.stack.prefetch_burst(self.port.heads(frames));
            for slot in self.stack.prefetched() {
                prefetch(&self.connections[slot]);
            }
            for i in 0..frames {
                let stack = &mut self.stack;
                self.port
                    .frame(i, memory, |frame| stack.receive(now, frame));
            }
            self.prefetch_sessions();
        }
        let clusters = &memory.buffers().clusters;
        self.stack.set_budget(clusters.unheld(), clusters.len());
        self.stack.advance(now);
        if frames > 0 {
            stages.end(Stage::Tcp);
        }
        frames
    }

    /// Asks for the memory of the sessions that the last burst was for: all at once, not each in its turn.
    fn prefetch_sessions(&self) {
        let slots = || self.stack.prefetched();
        let connections = || slots().filter_map(|slot| self.connections[slot].as_deref());
        connections().for_each(prefetch);
        connections().for_each(|connection| connection.session.prefetch());
    }

    /// Events of the stack into sessions, their requests to the volumes; whether there was work.
    #[inline(never)] // a border of stages, for profiles and `ci/bench --instructions`
    pub(crate) fn serve<M: Machine<Port = P>>(
        &mut self,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
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
                Event::Connected(connection) => self.connected(connection, common),
                Event::Readable(connection) => self.read(connection, common, stages, now),
                Event::Writable(connection) => self.write(connection, common),
                Event::PeerClosed(connection) => {
                    // A host that sends nothing more has no use for answers (NVMe/TCP 3.5):
                    // what it sent is served, then the connection ends.
                    self.read(connection, common, stages, now);
                    self.part(connection, common);
                }
                Event::Closed { connection, reason } => {
                    if let Some(open) = self.connection(connection) {
                        open.is_unresponsive = reason == net::CloseReason::TimedOut;
                        self.detach(connection, common);
                    }
                }
            }
        }
        busy |= self.resume(common, stages, now);
        busy |= self.look_at_desk(common, stages, now);
        if now > self.swept_at {
            let slots = sweep(self.connections.len(), now.0 - self.swept_at.0);
            self.swept_at = now;
            common.note_waits(now);
            self.advance(slots, common, stages, now);
        }
        if busy {
            stages.end(Stage::Protocol);
        }
        busy
    }

    /// A request's end, to the session that asked.
    #[inline(never)] // a border of stages, for profiles and `ci/bench --instructions`
    pub(crate) fn complete<M: Machine>(&mut self, common: &mut Common<M>, ended: Ended) {
        let slot = ended.origin.slot;
        let Some(connection) = self.connections[slot as usize].as_mut() else {
            unreachable!("a slot is kept until its session has no request outstanding");
        };
        let result = ended.completion.result;
        (connection.io).count(ended.kind, ended.bytes, result.is_ok());
        if result.is_ok() {
            connection.latency_ns += ended.nanoseconds;
        }
        tracepoint::request_complete(
            ended.completion.id.0,
            slot.into(),
            ended.namespace.0.into(),
            ended.nanoseconds,
            nvmf::Status::of(result).field().into(),
        );
        let (buffers, doors) = common.for_doors();
        connection
            .session
            .complete(ended.completion, buffers, doors);
        let id = connection.id;
        if connection.gone {
            self.reap(id);
        } else {
            self.write(id, common);
        }
    }

    /// Segments out; whether there was work. Also returns clusters to the NIC.
    #[inline(never)] // a border of stages, for profiles and `ci/bench --instructions`
    pub(crate) fn transmit<M: Machine<Port = P>>(
        &mut self,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
        now: Instant,
    ) -> bool {
        if !self.unsealed.is_empty() {
            self.seal(common);
            stages.end(Stage::Protocol);
        }
        let sent = if self.stack.wants_transmit() {
            self.stack.transmit(now, &mut self.port)
        } else {
            0
        };
        self.port.flush();
        common.memory.replenish();
        if sent > 0 {
            stages.end(Stage::Transmit);
        }
        sent > 0
    }

    /// Its queue pair.
    #[cfg(test)]
    pub(crate) fn port_mut(&mut self) -> &mut P {
        &mut self.port
    }

    /// Takes notice of another device behind the port.
    pub(crate) fn look_at_port(&mut self, now: Instant) {
        if let Some(mac) = self.port.replaced() {
            self.stack.set_mac_address(now, mac);
        }
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

    /// Peers turned away since the last call, if there were any.
    pub(crate) fn turned_away(&mut self) -> Option<TurnedAway> {
        let now = TurnedAway::of(self.stack.stats());
        let before = std::mem::replace(&mut self.turned_away, now);
        (now != before).then(|| now.since(before))
    }

    /// How the port's addresses stand, if that has changed since the last call.
    pub(crate) fn addresses(&mut self) -> Option<Vec<(IpAddr, AddressState)>> {
        let now = self.stack.address_changes();
        let before = std::mem::replace(&mut self.address_changes, now);
        (now != before).then(|| self.stack.addresses().collect())
    }

    /// Whether nothing is left to send and no session waits for a device.
    pub(crate) fn is_quiet(&self) -> bool {
        self.open == 0 && !self.stack.wants_transmit()
    }

    /// Listens at an address no more. Connections that came in there stay.
    pub(crate) fn unlisten(&mut self, address: SocketAddr) {
        while let Some(at) = (self.listeners.iter()).position(|l| l.entrance.address == address) {
            self.stack.unlisten(self.listeners.swap_remove(at).id);
        }
    }

    /// The next line for the log about hosts that were dropped.
    pub(crate) fn next_drop(&mut self, now: Instant) -> Option<String> {
        self.drops.line(Timestamp(now.as_millis()))
    }

    /// Takes back what the port held; it is closed.
    pub(crate) fn stop(&mut self) {
        self.port.stop();
    }

    /// Slots of the stack that are not free.
    #[cfg(test)]
    pub(crate) fn slots_taken(&self) -> usize {
        self.stack.connection_count()
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> u64 {
        self.open
    }

    pub(crate) fn counters(&self) -> [Layer; 2] {
        let layer = |name, counters: Vec<Counter>| Layer {
            name,
            port: Some(self.index.into()),
            counters,
        };
        [
            layer("tcp", self.stack.stats().iter().collect()),
            layer("port", self.port.counters().iter().collect()),
        ]
    }

    /// Adds the connections in these slots to `list`; false if there are no such slots.
    pub(crate) fn list(&self, slots: Range<usize>, list: &mut Vec<ConnectionSnapshot>) -> bool {
        let end = slots.end.min(self.connections.len());
        let Some(connections) =
            (self.connections.get(slots.start..end)).filter(|slots| !slots.is_empty())
        else {
            return false;
        };
        for connection in connections.iter().flatten() {
            let queue = connection.session.queue();
            list.push(ConnectionSnapshot {
                port: self.index.into(),
                peer: connection.session.remote(),
                cntlid: queue.map(|(cntlid, _, _)| cntlid),
                qid: queue.map_or(0, |(_, qid, _)| qid),
                queue_depth: queue.map_or(0, |(_, _, entries)| entries),
                outstanding: connection.session.outstanding() as u64,
                io: connection.io,
                latency_ns: connection.latency_ns,
                bytes_received: connection.received,
                bytes_sent: connection.sent,
                tcp: (self.stack.connection_info(connection.id)).unwrap_or_default(),
            });
        }
        true
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let connection = self.connections[id.slot()].as_deref_mut()?;
        (connection.id == id).then_some(connection)
    }

    fn accept<M: Machine>(
        &mut self,
        id: ConnectionId,
        listener: ListenerId,
        remote: SocketAddr,
        common: &Common<M>,
        now: Timestamp,
    ) {
        let Some(listener) = self.listeners.iter().find(|known| known.id == listener) else {
            self.stack.abort(id);
            return self.stack.release(id);
        };
        let Entrance { address, door, tls } = listener.entrance;
        let session = Session::accept(door, address, remote, &common.doors, now);
        let secure = match door {
            DoorKind::Mirror => Some(Secure::of_node(tls)),
            _ => (tls != Tls::Off).then(|| Secure::new(tls)),
        };
        self.insert(id, session, secure);
    }

    fn insert(&mut self, id: ConnectionId, session: Session, secure: Option<Secure>) {
        if matches!(session, Session::Mirror(_)) {
            self.mirrors.push(id);
        }
        tracepoint::connection_open(id.slot() as u64, session.remote().port().into());
        self.connections[id.slot()] = Some(Box::new(Connection {
            id,
            session,
            secure: secure.map(Box::new),
            waiting: false,
            at_desk: false,
            gone: false,
            kept: false,
            answers: false,
            is_unresponsive: false,
            io: IoCounters::default(),
            latency_ns: 0,
            received: 0,
            sent: 0,
        }));
        self.open += 1;
    }

    /// Everything in order into the session, unless it is waiting for something.
    fn read<M: Machine>(
        &mut self,
        id: ConnectionId,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
        now: Timestamp,
    ) {
        let Some(connection) = self.connections[id.slot()].as_deref_mut() else {
            return;
        };
        if connection.id != id || connection.gone {
            return;
        }
        if connection.secure.is_some() {
            return self.read_secure(id, common, stages, now);
        }
        let (buffers, doors) = common.for_doors();
        while !connection.session.is_blocked()
            && let Some(slice) = self.stack.recv(id)
        {
            connection.received += slice.len() as u64;
            connection.session.receive(now, slice, buffers, doors);
        }
        if connection.session.is_waiting() {
            // Perhaps for its own host, which has read since that was last looked at.
            let unacknowledged = self.stack.unacknowledged(id);
            connection.session.set_unacknowledged(now, unacknowledged);
            connection.session.resume(now, buffers, doors);
        }
        self.after(id, common, stages);
    }

    /// What a session has for the volumes, the wire and the wait list.
    fn after<M: Machine>(
        &mut self,
        id: ConnectionId,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
    ) {
        let index = self.index;
        let Some(connection) = self.connections[id.slot()].as_deref_mut() else {
            return;
        };
        loop {
            let (buffers, doors) = common.for_doors();
            let Some(request) = connection.session.next_request(buffers, doors) else {
                break;
            };
            stages.end(Stage::Protocol);
            let origin = Origin {
                link: index,
                slot: id.slot() as u32,
            };
            common.start(origin, request, stages);
        }
        if !connection.kept
            && let Some((_, qid, _)) = connection.session.queue()
        {
            connection.kept = true;
            self.stack.keep(id);
            if qid == 0 {
                // Keep Alive commands come on it.
                self.stack.heed(id);
            }
        }
        if connection.session.is_waiting() && !connection.waiting {
            connection.waiting = true;
            self.waiting.push_back(id);
        }
        if connection.session.is_at_desk() && !connection.at_desk {
            connection.at_desk = true;
            self.at_desk.push_back(id);
        }
        self.write(id, common);
    }

    /// What the shard has for other nodes, to their connections.
    pub(crate) fn mirror<M: Machine>(
        &mut self,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
        now: Timestamp,
    ) {
        for at in (0..self.mirrors.len()).rev() {
            let id = self.mirrors[at];
            match self.connection(id).map(|open| open.session.is_waiting()) {
                Some(true) => self.read(id, common, stages, now),
                Some(false) => self.write(id, common),
                None => _ = self.mirrors.swap_remove(at),
            }
        }
    }

    /// What the session has to say, as far as there is room; then closes if it is done.
    fn write<M: Machine>(&mut self, id: ConnectionId, common: &mut Common<M>) {
        let Some(connection) = self.connections[id.slot()].as_deref_mut() else {
            return;
        };
        if connection.id != id || connection.gone {
            return;
        }
        let (buffers, doors) = common.for_doors();
        let done = if connection.secure.is_some() {
            let done = secure::send(&mut self.stack, connection, buffers, doors);
            secure::note(
                connection,
                &mut self.waiting,
                &mut self.at_desk,
                &mut self.unsealed,
            );
            done
        } else {
            let mut wire = StackWire {
                stack: &mut self.stack,
                connection: id,
                sent: 0,
            };
            let done = connection.session.transmit(&mut wire, buffers, doors);
            connection.sent += wire.sent;
            done
        };
        let answers = connection.session.outstanding() > 0;
        if connection.answers != answers {
            connection.answers = answers;
            self.stack.set_answers(id, answers);
        }
        if let Some(ending) = connection.session.ending()
            && (done || ending == Ending::Abort)
        {
            match ending {
                Ending::Abort => self.stack.abort(id),
                Ending::Close => self.stack.close(id),
            }
            self.detach(id, common);
        }
    }

    /// Lets waiting sessions go on, oldest first, when resources were given back.
    /// One that still waits goes behind the others: a queue that can never have
    /// enough must not keep its own admin queue, and everybody else, waiting. But
    /// the one that no other may overtake is looked at each time.
    fn resume<M: Machine>(
        &mut self,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
        now: Timestamp,
    ) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let resources = common.resources(self.stack.chunks_free());
        if std::mem::replace(&mut self.resources, resources) == resources {
            return false;
        }
        let mut first = None;
        for _ in 0..self.waiting.len().min(RESUMED_MAX) {
            let Some(id) = self.waiting.pop_front() else {
                break;
            };
            let connection = self.connections[id.slot()].as_deref_mut();
            let Some(connection) = connection.filter(|connection| connection.id == id) else {
                continue;
            };
            connection.waiting = false;
            if connection.gone {
                continue;
            }
            let unacknowledged = self.stack.unacknowledged(id);
            connection.session.set_unacknowledged(now, unacknowledged);
            let (buffers, doors) = common.for_doors();
            connection.session.resume(now, buffers, doors);
            self.read(id, common, stages, now);
            let (buffers, doors) = common.for_doors();
            if let Some(connection) = self.connection(id)
                && connection.waiting
                && connection.session.is_first(buffers, doors)
            {
                first = self.waiting.pop_back();
            }
        }
        if let Some(first) = first {
            self.waiting.push_front(first);
        }
        true
    }
}
