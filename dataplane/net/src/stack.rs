//! The stack of one port of one shard.

mod address;
mod burst;
mod fast;
mod flow;
mod icmp;
mod info;
mod lifecycle;
mod link;
mod notice;
mod open;
mod receive;
mod slots;
mod station;
mod tcp;
mod transmit;

use std::net::SocketAddr;

use collections::{IndexTable, TableIndex};
use pages::{Chunk, Slice};

use crate::config::{ConfigError, StackConfig};
use crate::counters::Counters;
use crate::event::{
    CloseReason, ConnectError, ConnectionId, ConnectionIndex, Event, ListenError, ListenerId,
    SendError, SendRoom,
};
use crate::link::control::ControlQueue;
use crate::link::icmp::RateLimit;
use crate::link::interface::Interface;
use crate::link::neighbor::Neighbors;
use crate::link::pmtu::PathMtus;
use crate::pcap::Tap;
use crate::tcp::{Connection, Numbers, Shared, State, TimeWaits, event, has};
use crate::time::Instant;
use crate::util::siphash::SipKey;
use crate::util::table::Table;

use burst::Burst;
use fast::Train;
pub use info::{ConnectionInfo, Reach};
pub use notice::Notice;

/// The network stack of one port of one shard: frames and time in, frames and events out.
///
/// A poll loop turns it like this:
///
/// ```
/// # use net::*;
/// # struct Port;
/// # impl Port { fn receive_burst(&mut self) -> Vec<RxFrame<'static>> { Vec::new() } }
/// # impl Transmit for Port {
/// #     fn transmit(&mut self, _: TxFrame<'_>) -> Result<(), PortFull> { Ok(()) }
/// # }
/// # let mut port = Port;
/// # let config = StackConfig::new(
/// #     "02:00:00:00:00:01".parse().unwrap(), "192.0.2.1/24".parse().unwrap(), [7; 32]);
/// # let (unheld, total, now) = (4096, 4096, Instant::ZERO);
/// # let mut stack = Stack::new(config).unwrap();
/// # let listener = stack.listen("192.0.2.1:4420".parse().unwrap(), 64).unwrap();
/// stack.set_budget(unheld, total);
/// for frame in port.receive_burst() {
///     stack.receive(now, frame);
/// }
/// stack.advance(now);
/// while let Some(event) = stack.poll_event() {
///     match event {
///         Event::Readable(connection) => while let Some(slice) = stack.recv(connection) {
///             // the slice's bytes are still where the port put them
///             drop(slice);
///         },
///         Event::PeerClosed(connection) => stack.close(connection),
///         Event::Closed { connection, .. } => stack.release(connection),
///         _ => {}
///     }
/// }
/// stack.transmit(now, &mut port);
/// // idle until stack.next_deadline() at the latest
/// ```
pub struct Stack {
    config: StackConfig,
    cx: Shared,
    connections: IndexTable<ConnectionIndex, Connection>,
    slots: slots::Slots,
    /// Flow keys to connections, and to what is remembered of them in TIME-WAIT.
    table: Table<flow::FlowIndex>,
    table_key: SipKey,
    train: Train,
    burst: Burst,
    /// Our Ethernet address as a number.
    station: u64,
    time_waits: TimeWaits,
    listeners: IndexTable<ListenerId, Option<Listener>>,
    half_open: usize,
    /// The hand that goes round silent connections when clusters are short.
    reclaim_hand: ConnectionIndex,
    reclaim_at: Instant,
    /// When a cookie was sent last: otherwise no ACK is looked at as one.
    cookie_sent: Option<Instant>,
    numbers: Numbers,
    next_port: u16,
    interface: Interface,
    neighbors: Neighbors,
    paths: PathMtus,
    control: ControlQueue,
    replies: RateLimit,
    errors: RateLimit,
    claims: address::Claims,
    notices: notice::Notices,
    tap: Option<Box<dyn Tap>>,
}

/// A socket that accepts.
struct Listener {
    local: SocketAddr,
    backlog: usize,
    half_open: usize,
}

impl Stack {
    /// Validates the configuration and allocates everything the stack will ever use.
    pub fn new(config: StackConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let (table_secret, number_secret) = config.secret.split_at(16);
        let key = |half: &[u8]| SipKey::new(half.first_chunk().unwrap_or(&[0; 16]));
        let cx = Shared::new(&config);
        let connections = IndexTable::new(config.connections_max, |i| Connection::vacant(i, &cx));
        Ok(Self {
            slots: slots::Slots::new(&connections),
            connections,
            table: Table::new(config.connections_max + config.time_wait_max),
            table_key: key(table_secret),
            train: Train::none(),
            burst: Burst::NONE,
            station: station::number(config.mac),
            time_waits: TimeWaits::new(config.time_wait_max, &config.tcp),
            listeners: IndexTable::new(config.listeners_max, |_| None),
            half_open: 0,
            reclaim_hand: ConnectionIndex::new(0),
            reclaim_at: Instant::ZERO,
            cookie_sent: None,
            numbers: Numbers::new(key(number_secret)),
            next_port: 0,
            interface: Interface::new(&config),
            neighbors: Neighbors::new(config.neighbors_max, key(table_secret)),
            paths: PathMtus::new(),
            control: ControlQueue::new(),
            replies: RateLimit::new(1000, 200),
            errors: RateLimit::new(100, 50),
            claims: address::Claims::default(),
            notices: notice::Notices::new(),
            tap: None,
            cx,
            config,
        })
    }

    /// Copies every frame, received or sent, to `tap`, or to nobody any more.
    pub fn set_tap(&mut self, tap: Option<Box<dyn Tap>>) {
        self.tap = tap;
        self.train.stop();
    }

    /// Runs the timers that are due.
    pub fn advance(&mut self, now: Instant) {
        self.begin(now);
        while let Some(index) = self.cx.wheel.pop(now) {
            self.connections[index].on_timer(&mut self.cx);
            self.settle(index);
        }
        self.advance_link();
        self.advance_time_waits();
        self.reclaim_grants();
        self.feed_hungry();
        self.unblock();
    }

    /// When [`Stack::advance`] has something to do at the earliest; `None`: never, unless a frame comes.
    ///
    /// What [`Stack::transmit`] has to do at once does not count: see [`Stack::wants_transmit`].
    pub fn next_deadline(&self) -> Option<Instant> {
        [
            self.cx.wheel.next_deadline(),
            self.neighbors.next_deadline(),
            self.time_waits.next_deadline(),
            self.claims_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether [`Stack::transmit`] has something to send.
    pub fn wants_transmit(&self) -> bool {
        !self.cx.ready.is_empty() || !self.control.is_empty()
    }

    /// Accepts connections to `local`; the unspecified address stands for all
    /// of the interface's of its version. Beyond `backlog` half-open connections, or when
    /// three quarters of all slots are taken, SYNs are answered with cookies.
    pub fn listen(&mut self, local: SocketAddr, backlog: usize) -> Result<ListenerId, ListenError> {
        if local.port() == 0 {
            return Err(ListenError::PortZero);
        }
        let own = |address| {
            let addresses = self.interface.addresses();
            addresses.iter().any(|own| own.net.address() == address)
        };
        if !local.ip().is_unspecified() && !own(local.ip()) {
            return Err(ListenError::NoSuchAddress);
        }
        let taken = |listener: &Listener| listener.local == local;
        if self.listeners.iter().flatten().any(taken) {
            return Err(ListenError::AddressInUse);
        }
        let free = self.listeners.position(Option::is_none);
        let id = free.ok_or(ListenError::TooManyListeners)?;
        self.listeners[id] = Some(Listener {
            local,
            backlog,
            half_open: 0,
        });
        Ok(id)
    }

    /// Stops accepting. Connections accepted before go on.
    pub fn unlisten(&mut self, listener: ListenerId) {
        if let Some(slot) = self.listeners.get_mut(listener) {
            *slot = None;
        }
    }

    /// Begins to open a connection to `remote`. `local` chooses the address
    /// and port to call from; an unspecified address or port zero leaves the
    /// choice to the stack. [`Event::Connected`] or [`Event::Closed`] follows.
    pub fn connect(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local: Option<SocketAddr>,
    ) -> Result<ConnectionId, ConnectError> {
        self.begin(now);
        let index = self.open(remote, local)?;
        Ok(self.id(index))
    }

    /// The next event, if any.
    pub fn poll_event(&mut self) -> Option<Event> {
        // Before anything of the connections that have these slots now.
        if let Some((connection, reason)) = self.slots.next_displaced() {
            return Some(Event::Closed { connection, reason });
        }
        while let Some(index) = self.cx.eventful.front() {
            let connection = &mut self.connections[index];
            let next = connection.events & connection.events.wrapping_neg();
            connection.events &= !next;
            if connection.events == 0 {
                let list = &mut self.cx.eventful;
                self.cx.event_links.remove(list, index);
            }
            let id = ConnectionId {
                index,
                generation: connection.generation,
            };
            return Some(match next {
                event::ACCEPTED => Event::Accepted {
                    connection: id,
                    listener: connection.listener,
                    remote: connection.remote(),
                },
                event::CONNECTED => Event::Connected(id),
                event::READABLE => Event::Readable(id),
                event::WRITABLE => Event::Writable(id),
                event::PEER_CLOSED => Event::PeerClosed(id),
                event::CLOSED => Event::Closed {
                    connection: id,
                    reason: connection.reason,
                },
                _ => continue,
            });
        }
        None
    }

    /// The next bytes in order, still in the cluster that the port received them into.
    #[inline]
    pub fn recv(&mut self, connection: ConnectionId) -> Option<Slice> {
        let index = self.find(connection)?;
        self.connections[index].recv(&mut self.cx)
    }

    /// Drops all that [`Stack::recv`] would give.
    #[cold]
    #[inline(never)]
    pub fn discard(&mut self, connection: ConnectionId) {
        if let Some(index) = self.find(connection) {
            self.connections[index].discard(&mut self.cx);
        }
    }

    /// How much can be given to [`Stack::send`] now. All zero if nothing can be sent any more.
    pub fn send_room(&self, connection: ConnectionId) -> SendRoom {
        match self.find(connection) {
            Some(index) => self.connections[index].send_room(&self.cx),
            None => SendRoom::default(),
        }
    }

    /// Queues `chunk`. The stack keeps its cluster until the peer has
    /// acknowledged the bytes, and retransmits from there.
    #[inline]
    pub fn send(&mut self, connection: ConnectionId, chunk: Chunk) -> Result<(), SendError> {
        match self.find(connection) {
            Some(index) => self.connections[index].send(&mut self.cx, chunk),
            None => Err(SendError::Closed(chunk)),
        }
    }

    /// Says whether an answer to something that was received is to come: it may carry the acknowledgment of that, too.
    #[inline]
    pub fn set_answers(&mut self, connection: ConnectionId, answers: bool) {
        if let Some(index) = self.find(connection) {
            let connection = &mut self.connections[index];
            if answers {
                connection.set(has::ANSWERS);
            } else {
                connection.clear(has::ANSWERS);
            }
        }
    }

    /// Sends nothing more after what is queued: a FIN follows it. What the
    /// peer still sends can be received.
    pub fn close(&mut self, connection: ConnectionId) {
        if let Some(index) = self.find(connection) {
            self.connections[index].close(&mut self.cx);
            self.settle(index);
        }
    }

    /// Gives the connection up at once: a reset is sent, queues are emptied.
    /// [`Event::Closed`] follows.
    pub fn abort(&mut self, connection: ConnectionId) {
        if let Some(index) = self.find(connection) {
            self.connections[index].abort(&mut self.cx, CloseReason::Aborted);
            self.settle(index);
        }
    }

    /// Gives every connection up at once, those too whose names were given back.
    pub fn abort_all(&mut self) {
        for index in self.connections.indexes() {
            if self.connections[index].state != State::Closed {
                self.connections[index].abort(&mut self.cx, CloseReason::Aborted);
                self.settle(index);
            }
        }
    }

    /// Gives the name back: no event about it follows. A connection that is not closed yet
    /// is closed in the background. If there are bytes that nobody read, it is reset; so it
    /// is if more arrive, once the peer has all that was sent (RFC 9293, 3.6.1 and
    /// 3.10.7.4; RFC 2525, 2.17).
    pub fn release(&mut self, connection: ConnectionId) {
        if let Some(index) = self.find(connection) {
            self.orphan(index);
        }
    }

    /// Where the peer of a connection is, and which of our addresses it talks to.
    pub fn endpoints(&self, connection: ConnectionId) -> Option<(SocketAddr, SocketAddr)> {
        let key = &self.connections[self.find(connection)?].key;
        Some((key.local(), key.remote()))
    }

    /// Says how many clusters of the receive pool nobody holds
    /// (`ClusterPool::unheld`), out of how many. Windows are accounted in
    /// clusters: what is set aside for all peers together never exceeds
    /// `unheld` less the headroom, and what is beyond it is not taken. Cheap: call it in every turn of the poll loop.
    #[inline]
    pub fn set_budget(&mut self, unheld: usize, total: usize) {
        self.cx.budget.set_unheld(unheld.min(total));
    }

    /// Clusters promised to peers by the windows advertised to them.
    pub fn clusters_promised(&self) -> usize {
        self.cx.budget.granted() as usize
    }

    /// Connections that exist, half-open ones included, TIME-WAIT not.
    pub fn connection_count(&self) -> usize {
        self.connections.len() - self.slots.free()
    }

    /// The counters.
    pub fn stats(&self) -> &Counters {
        &self.cx.counters
    }

    /// The configuration.
    pub fn config(&self) -> &StackConfig {
        &self.config
    }

    /// Every entry point says what time it is.
    #[inline]
    fn begin(&mut self, now: Instant) {
        debug_assert!(now >= self.cx.now, "time went back");
        if now != self.cx.now {
            self.cx.now = now;
            self.cx.now_ms = now.as_millis() as u32;
        }
        if !self.claims.begun {
            self.begin_claims();
        }
    }

    #[inline]
    fn find(&self, id: ConnectionId) -> Option<ConnectionIndex> {
        let connection = self.connections.get(id.index)?;
        (connection.generation == id.generation).then_some(id.index)
    }

    fn id(&self, index: ConnectionIndex) -> ConnectionId {
        ConnectionId {
            index,
            generation: self.connections[index].generation,
        }
    }
}
