//! What becomes of connections: tables, lists and slots follow their states.

use std::time::Duration;

use collections::TableIndex;
use pages::prefetch;

use crate::event::{CloseReason, ConnectionIndex, ListenerId};
use crate::link::neighbor::NeighborIndex;
use crate::stack::Stack;
use crate::stack::flow::FlowIndex;
use crate::stack::tcp::Origin;
use crate::tcp::{Connection, NEVER, State, TimeWaitIndex, has};

impl Stack {
    /// Sees to what a connection's new state means for the tables and timers.
    #[inline]
    pub(super) fn settle(&mut self, index: ConnectionIndex) {
        let connection = &self.connections[index];
        if connection.state == State::Established && !connection.has(has::HALF_OPEN) {
            let deadline = connection.deadline();
            return self.cx.arm(index, deadline);
        }
        self.settle_change(index);
    }

    fn settle_change(&mut self, index: ConnectionIndex) {
        let connection = &mut self.connections[index];
        if connection.has(has::HALF_OPEN) && connection.state != State::SynReceived {
            connection.clear(has::HALF_OPEN);
            self.half_open -= 1;
            if let Some(Some(socket)) = self.listeners.get_mut(connection.listener) {
                socket.half_open = socket.half_open.saturating_sub(1);
            }
        }
        match connection.state {
            State::Closed => self.reap(index),
            State::TimeWait => self.remember(index),
            // All that a peer can do now is to say its FIN: that takes no slot.
            State::FinWait2 if connection.has(has::ORPHAN) && !connection.has(has::SEND_RST) => {
                self.remember(index);
            }
            _ => {
                let deadline = connection.deadline();
                if deadline != NEVER {
                    self.cx.arm(index, deadline);
                }
            }
        }
    }

    /// The connection is over: out of the table, and out of its slot if nobody reads it any more.
    fn reap(&mut self, index: ConnectionIndex) {
        self.unhook(index);
        let connection = &self.connections[index];
        if connection.has(has::ORPHAN) {
            self.vacate(index);
        }
    }

    fn unhook(&mut self, index: ConnectionIndex) {
        let connection = &mut self.connections[index];
        if connection.has(has::UNHOOKED) {
            return;
        }
        connection.set(has::UNHOOKED);
        if index == self.train.index {
            self.train.stop();
        }
        let hash = connection.key.hash(self.table_key);
        self.table.remove(hash, FlowIndex::from(index));
        if self.cx.transmit_links.is_linked(index) {
            let list = if connection.has(has::PARKED) {
                self.neighbors.waiting(connection.neighbor)
            } else {
                &mut self.cx.ready
            };
            self.cx.transmit_links.remove(list, index);
        }
        connection.clear(has::PARKED);
        if connection.neighbor != NeighborIndex::NONE {
            self.neighbors.unbind(connection.neighbor);
            connection.neighbor = NeighborIndex::NONE;
        }
        if self.cx.hungry_links.is_linked(index) {
            self.cx.hungry_links.remove(&mut self.cx.hungry, index);
        }
        if self.cx.blocked_links.is_linked(index) {
            self.cx.blocked_links.remove(&mut self.cx.blocked, index);
        }
    }

    /// Gives the slot back; names of it are stale from now on.
    pub(super) fn vacate(&mut self, index: ConnectionIndex) {
        if self.cx.event_links.is_linked(index) {
            self.cx.event_links.remove(&mut self.cx.eventful, index);
        }
        let connection = &mut self.connections[index];
        connection.rcv.queue.clear(&mut self.cx.slices);
        connection.events = 0;
        connection.listener = ListenerId::NONE;
        connection.generation = connection.generation.wrapping_add(1);
        let was_leaving = connection.has(has::LEAVING);
        connection.clear(has::ORPHAN | has::LEAVING);
        self.slots.put(index, was_leaving);
    }

    /// The application gives the name back.
    pub(super) fn orphan(&mut self, index: ConnectionIndex) {
        let connection = &mut self.connections[index];
        if connection.has(has::ORPHAN) {
            return;
        }
        connection.events = 0;
        connection.generation = connection.generation.wrapping_add(1);
        if self.cx.event_links.is_linked(index) {
            let list = &mut self.cx.eventful;
            self.cx.event_links.remove(list, index);
        }
        connection.set(has::ORPHAN | has::LEAVING);
        self.slots.begin_leaving(index);
        if connection.state != State::Closed {
            if connection.rcv.queue.ready > 0 {
                connection.abort(&mut self.cx, CloseReason::Aborted);
            } else {
                connection.close(&mut self.cx);
                connection.set_linger(&self.cx);
            }
        }
        self.settle(index);
    }

    /// Moves a connection out of its slot into what is remembered of such that are over, in
    /// TIME-WAIT or FIN-WAIT-2, and ends it as far as the application is concerned.
    fn remember(&mut self, index: ConnectionIndex) {
        if !self.time_waits.has_room()
            && let Some(oldest) = self.time_waits.oldest()
        {
            self.cx.counters.tcp_time_wait_evicted += 1;
            self.forget(oldest);
        }
        let now = self.cx.now;
        let connection = &self.connections[index];
        let (key, owes) = (connection.key, connection.has(has::ACK_NOW | has::ACK_SOON));
        let mac = connection.headers.destination();
        let remembered = self.time_waits.remember(connection, now);
        self.connections[index].finish(&mut self.cx, CloseReason::Finished);
        self.reap(index);
        let Some(remembered) = remembered else { return };
        let hash = key.hash(self.table_key);
        self.table.insert(hash, FlowIndex::from(remembered));
        if owes {
            let origin = Origin {
                key,
                mac,
                local: key.local().ip(),
                remote: key.remote().ip(),
            };
            let ack = self.time_waits.acknowledgment(remembered, now);
            self.answer(&origin, &ack);
        }
    }

    pub(super) fn forget(&mut self, remembered: TimeWaitIndex) {
        let hash = self.time_waits.get(remembered).key.hash(self.table_key);
        self.table.remove(hash, FlowIndex::from(remembered));
        self.time_waits.forget(remembered);
    }

    pub(super) fn advance_time_waits(&mut self) {
        while let Some(remembered) = self.time_waits.expired(self.cx.now) {
            self.forget(remembered);
        }
    }

    /// Takes back the grants of silent connections while clusters are short: a
    /// hand goes round, a few connections at a time.
    pub(super) fn reclaim_grants(&mut self) {
        const SILENT: Duration = Duration::from_millis(100);
        const PAUSE: Duration = Duration::from_millis(1);
        const AT_ONCE: usize = 256;
        let now = self.cx.now;
        if !self.cx.budget.is_short() || now < self.reclaim_at {
            return;
        }
        self.reclaim_at = now + PAUSE;
        let count = self.connections.len();
        for _ in 0..AT_ONCE.min(count) {
            self.reclaim_hand = self.connections.after(self.reclaim_hand, 1);
            let ahead = &self.connections[self.connections.after(self.reclaim_hand, 8)];
            prefetch(&ahead.rcv.grant);
            prefetch(&ahead.heard_at);
            let connection = &mut self.connections[self.reclaim_hand];
            if connection.rcv.grant > 0 && now.since(connection.heard_at) > SILENT {
                self.cx.budget.adjust(&mut connection.rcv.grant, 0);
            }
        }
    }

    /// Widens windows that were kept narrow, now that clusters are free.
    pub(super) fn feed_hungry(&mut self) {
        const AT_ONCE: usize = 64;
        for _ in 0..AT_ONCE {
            if self.cx.budget.free() == 0 {
                return;
            }
            let Some(index) = self.cx.hungry_links.pop_front(&mut self.cx.hungry) else {
                return;
            };
            let connection: &mut Connection = &mut self.connections[index];
            if !connection.wants_wider_window(&self.cx) {
                if connection.rcv.window() < u32::from(connection.rcv.mss) {
                    // Not enough yet: it stays in line.
                    connection.go_hungry(&mut self.cx);
                    return;
                }
                continue;
            }
            connection.ack_now(&mut self.cx);
        }
    }

    /// Tells connections that found no free chunk that there are some.
    pub(super) fn unblock(&mut self) {
        const AT_ONCE: usize = 64;
        for _ in 0..AT_ONCE {
            if self.cx.chunks.free_count() < 64.min(self.config.send_chunks_total / 2) {
                return;
            }
            let Some(index) = self.cx.blocked_links.pop_front(&mut self.cx.blocked) else {
                return;
            };
            self.connections[index].offer_room(&mut self.cx);
        }
    }
}
