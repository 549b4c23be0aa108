//! Slots: who has one, and who gives it up when there are too few.
//!
//! What costs a peer nothing must not cost a host its place (RFC 4987, section 2): a SYN,
//! a handshake, a connection that is silent or that we closed. Only connections that the
//! application [keeps](Stack::keep) have their slot for as long as they like. The others
//! stand in line: one that has proved that it is there, by the last ACK of a handshake,
//! takes the place of the oldest of them if there is no other.

use collections::IndexTable;

use crate::event::{CloseReason, ConnectionId, ConnectionIndex, ListenerId};
use crate::stack::Stack;
use crate::stack::tcp::Origin;
use crate::tcp::{Connection, Outgoing, Segment, State, event, flag, has};
use crate::util::list::{Links, List};

/// The slots of the connections, by who may take them.
pub(super) struct Slots {
    free: Vec<ConnectionIndex>,
    links: Links<ConnectionIndex>,
    /// Opened by peers, and not kept: oldest first.
    newcomers: List<ConnectionIndex>,
    /// Given back by the application while the peer has not heard all: oldest first.
    leaving: List<ConnectionIndex>,
    /// Names of connections that lost their slot, for the application to hear of.
    displaced: Vec<(ConnectionId, CloseReason)>,
}

impl Slots {
    pub(super) fn new(connections: &IndexTable<ConnectionIndex, Connection>) -> Self {
        let count = connections.len();
        Self {
            free: connections.indexes().rev().collect(),
            links: Links::new(count),
            newcomers: List::EMPTY,
            leaving: List::EMPTY,
            displaced: Vec::with_capacity(count),
        }
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn take_free(&mut self) -> Option<ConnectionIndex> {
        self.free.pop()
    }

    /// Whether a newcomer can have one.
    pub(super) fn any(&self) -> bool {
        !(self.free.is_empty() && self.leaving.is_empty() && self.newcomers.is_empty())
    }

    /// A peer's connection has a slot as long as nobody needs it more.
    pub(super) fn enter(&mut self, index: ConnectionIndex) {
        self.links.push_back(&mut self.newcomers, index);
    }

    /// The application gave the connection back.
    pub(super) fn begin_leaving(&mut self, index: ConnectionIndex) {
        if self.links.is_linked(index) {
            self.links.remove(&mut self.newcomers, index);
        }
        self.links.push_back(&mut self.leaving, index);
    }

    /// The slot is nobody's.
    pub(super) fn put(&mut self, index: ConnectionIndex, was_leaving: bool) {
        if self.links.is_linked(index) {
            let list = if was_leaving {
                &mut self.leaving
            } else {
                &mut self.newcomers
            };
            self.links.remove(list, index);
        }
        self.free.push(index);
    }

    pub(super) fn next_displaced(&mut self) -> Option<(ConnectionId, CloseReason)> {
        self.displaced.pop()
    }
}

impl Stack {
    /// The connection is one that the application knows and wants: it keeps its slot until
    /// it is closed or [released](Stack::release). Those that peers opened and that nobody
    /// keeps end as [`CloseReason::Displaced`], the oldest first, when all slots are taken
    /// and another peer completes a handshake.
    pub fn keep(&mut self, connection: ConnectionId) {
        if let Some(index) = self.find(connection) {
            let slots = &mut self.slots;
            if slots.links.is_linked(index) {
                slots.links.remove(&mut slots.newcomers, index);
            }
        }
    }

    /// What comes on the connection is read at once and is of a few bytes, and the application wants to hear it even when there
    /// is hardly any memory: else a peer that says that it is alive is taken for one that is gone.
    pub fn heed(&mut self, connection: ConnectionId) {
        if let Some(index) = self.find(connection) {
            self.connections[index].set(has::HEARD);
        }
    }

    /// Whether a SYN is better remembered by the one who sent it (RFC 4987, 3.6): a
    /// listener has its backlog, or the slots left are for peers that are there. But a
    /// cookie without timestamps forgets window scaling and SACK: such a SYN is remembered
    /// here as long as that takes nobody's slot.
    pub(super) fn wants_cookie(&self, listener: ListenerId, syn: &Segment) -> bool {
        let backlog = match &self.listeners[listener] {
            Some(listener) => listener.half_open >= listener.backlog,
            None => false,
        };
        backlog
            || self.half_open >= self.config.half_open_max
            || self.slots.free() == 0
            || syn.timestamp.is_some()
                && self.connection_count() >= self.connections.len().div_ceil(4) * 3
    }

    /// A slot for a peer that completed its handshake: a free one, or that of the oldest
    /// connection that was closed here or is not kept.
    pub(super) fn take_slot(&mut self) -> Option<ConnectionIndex> {
        if let Some(index) = self.slots.take_free() {
            return Some(index);
        }
        let leaving = self.slots.leaving.front();
        self.displace(leaving.or(self.slots.newcomers.front())?);
        self.slots.take_free()
    }

    /// Ends a connection at once, so that another can have its slot.
    fn displace(&mut self, index: ConnectionIndex) {
        let connection = &self.connections[index];
        let known = !connection.has(has::ORPHAN) && connection.events & event::ACCEPTED == 0;
        self.cx.counters.tcp_displaced += u64::from(connection.state != State::Closed);
        // One who sent a SYN perhaps never meant to; it is not told that nobody knows of it.
        if connection.state.is_synchronized() && !connection.has(has::HALF_OPEN) {
            self.reset_displaced(index);
        }
        self.connections[index].finish(&mut self.cx, CloseReason::Displaced);
        let connection = &self.connections[index];
        if known {
            let name = (self.id(index), connection.reason);
            self.slots.displaced.push(name);
        }
        let orphan = connection.has(has::ORPHAN);
        self.settle(index);
        if !orphan {
            self.vacate(index);
        }
    }

    fn reset_displaced(&mut self, index: ConnectionIndex) {
        let connection = &self.connections[index];
        let (key, mac) = (connection.key, connection.headers.destination());
        let (local, remote) = (key.local(), key.remote());
        let flags = flag::RST | flag::ACK;
        let mut header = Outgoing::new(local.port(), remote.port(), connection.snd.nxt, flags);
        header.ack = connection.rcv.nxt;
        let origin = Origin {
            key,
            mac,
            local: local.ip(),
            remote: remote.ip(),
        };
        self.cx.counters.tcp_resets_sent += 1;
        self.answer(&origin, &header);
    }
}
