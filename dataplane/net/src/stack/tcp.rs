//! Segments to connections, listeners, and what is left of connections.

use std::net::{IpAddr, SocketAddr};

use crate::address::MacAddress;
use crate::config::is_unicast;
use crate::event::{CloseReason, ConnectError};
use crate::frame::{Payload, RxFrame};
use crate::link::ecn;
use crate::link::emit::{HOP_LIMIT, Headers};
use crate::link::ethernet::Ethernet;
use crate::link::ip::Ip;
use crate::link::protocol;
use crate::stack::Stack;
use crate::tcp::{
    Body, Connection, Cookie, FlowKey, Input, NEVER, NO_LISTENER, Outgoing, Reply, Segment, Seq,
    State, TimeWaitVerdict, UNKNOWN_RETRIES, flag, has,
};
use crate::util::list::NONE;

/// An index in the table with this bit is one of TIME-WAIT's.
const REMEMBERED: u32 = 1 << 31;
/// RFC 6056, 3.2: ephemeral ports. The range is Linux's.
const PORTS: std::ops::Range<u32> = 32_768..61_000;
/// RFC 6298: how long cookies are looked for after the last one was sent.
const COOKIES_LAST: std::time::Duration = std::time::Duration::from_secs(192);

/// Where a segment came from and where answers to it go.
#[derive(Clone, Copy)]
struct Origin {
    key: FlowKey,
    mac: MacAddress,
    local: IpAddr,
    remote: IpAddr,
}

impl Stack {
    pub(super) fn on_tcp(&mut self, ethernet: &Ethernet, ip: &Ip, frame: RxFrame<'_>) {
        if !Self::l4_checksum_is_good(&frame, ip, true) {
            self.cx.counters.tcp_checksum_bad += 1;
            return;
        }
        let head = frame.head.bytes();
        let end = (ip.l4 + ip.l4_len).min(head.len());
        let Some(mut segment) = head
            .get(ip.l4..end)
            .and_then(|bytes| Segment::parse(bytes, ip.l4_len))
        else {
            self.cx.counters.tcp_malformed += 1;
            return;
        };
        segment.ce = ip.ecn == ecn::CE;
        let origin = Origin {
            key: FlowKey::new(
                ip.destination,
                segment.destination_port,
                ip.source,
                segment.source_port,
            ),
            mac: ethernet.source,
            local: ip.destination,
            remote: ip.source,
        };
        let from = ip.l4 + segment.header_len;
        let mut body = Body::new(frame.head, from, frame.tail, segment.len as usize);
        match self.look_up(&origin.key) {
            Some(index) if index & REMEMBERED == 0 => {
                self.for_connection(index, &origin, &segment, &mut body);
            }
            Some(index) => self.for_remembered(index & !REMEMBERED, &origin, &segment),
            None => self.for_listener(&origin, &segment, &mut body, None),
        }
    }

    /// What the table has for a flow.
    #[inline]
    fn look_up(&mut self, key: &FlowKey) -> Option<u32> {
        // Segments come in trains: the last connection is likely to be the next.
        let last = &self.connections[self.last_found as usize];
        if last.key == *key && !last.has(has::UNHOOKED) {
            return Some(self.last_found);
        }
        let hash = key.hash(self.table_key);
        let (connections, time_waits) = (&self.connections, &self.time_waits);
        let found = self.table.find(hash, |index| {
            if index & REMEMBERED == 0 {
                connections[index as usize].key == *key
            } else {
                time_waits.get(index & !REMEMBERED).key == *key
            }
        })?;
        if found & REMEMBERED == 0 {
            self.last_found = found;
        }
        Some(found)
    }

    /// The connection of a flow, if there is one.
    pub(super) fn find_connection(&mut self, key: &FlowKey) -> Option<u32> {
        self.look_up(key).filter(|index| index & REMEMBERED == 0)
    }

    #[inline]
    fn for_connection(
        &mut self,
        index: u32,
        origin: &Origin,
        segment: &Segment,
        body: &mut Body<'_>,
    ) {
        let connection = &mut self.connections[index as usize];
        let una = connection.snd.una;
        let probed = connection.snd.keepalives > 0;
        if connection.state == State::SynReceived && connection.neighbor == NONE {
            // Until the handshake has proved a way, answers go where the frames come from.
            connection.headers.set_destination(origin.mac);
        }
        let reply = connection.on_segment(&mut self.cx, segment, body);
        let connection = &self.connections[index as usize];
        if connection.snd.una != una || probed && connection.snd.keepalives == 0 {
            // RFC 4861, 7.3.1: progress proves that the neighbour is there.
            if connection.neighbor != NONE {
                self.neighbors.confirm(connection.neighbor, self.cx.now);
            } else if connection.state.transmits() {
                self.bind_neighbor(index, Some(origin.mac));
            }
        }
        if reply == Reply::Reset {
            self.reset(origin, segment);
        }
        self.settle(index);
    }

    fn for_remembered(&mut self, index: u32, origin: &Origin, segment: &Segment) {
        let now = self.cx.now;
        match self.time_waits.on_segment(index, segment, now) {
            TimeWaitVerdict::Ignore => {}
            TimeWaitVerdict::Acknowledge => {
                let ack = self.time_waits.acknowledgment(index, now);
                if self.replies.allows(now) {
                    self.answer(origin, &ack);
                } else {
                    self.cx.counters.tcp_challenge_acks_limited += 1;
                }
            }
            TimeWaitVerdict::Reuse => {
                self.cx.counters.tcp_time_wait_reused += 1;
                // RFC 9293, 3.6.1: the new numbers begin above the old ones.
                let above = self.time_waits.get(index).snd_nxt + 0x1_0000;
                self.forget(index);
                let mut nothing = Body::empty();
                self.for_listener(origin, segment, &mut nothing, Some(above));
            }
        }
    }

    /// RFC 9293, 3.10.7.1 and 3.10.7.2: no connection; is there a listener?
    fn for_listener(
        &mut self,
        origin: &Origin,
        segment: &Segment,
        body: &mut Body<'_>,
        above: Option<Seq>,
    ) {
        if segment.has(flag::RST) {
            return;
        }
        let listener = self.listener_for(origin);
        if segment.has(flag::ACK) {
            // Perhaps what a cookie of ours asked for.
            if let Some(listener) = listener
                && !segment.has(flag::SYN)
                && self.try_cookie(listener, origin, segment, body)
            {
                return;
            }
        } else if let Some(listener) = listener
            && segment.has(flag::SYN)
            && self.can_answer(origin.remote, origin.mac)
        {
            return self.on_syn(listener, origin, segment, above);
        }
        self.cx.counters.tcp_no_connection += 1;
        self.reset(origin, segment);
    }

    fn listener_for(&self, origin: &Origin) -> Option<u16> {
        let port = origin.key.local_port();
        let mut any = None;
        for (i, listener) in self.listeners.iter().enumerate() {
            let Some(listener) = listener else { continue };
            if listener.local.port() != port {
                continue;
            }
            if listener.local.ip() == origin.local {
                return Some(i as u16);
            }
            if listener.local.ip().is_unspecified()
                && listener.local.is_ipv4() == origin.local.is_ipv4()
            {
                any = Some(i as u16);
            }
        }
        any
    }

    fn on_syn(&mut self, listener: u16, origin: &Origin, segment: &Segment, above: Option<Seq>) {
        let now = self.cx.now;
        let full = match &self.listeners[listener as usize] {
            Some(socket) => socket.half_open >= socket.backlog,
            None => return,
        };
        if full || self.half_open >= self.config.half_open_max {
            // RFC 4987, 3.6: remember nothing, let the peer remember it for us.
            let own_mss = self.mss_for(origin.remote);
            let shift = self.cx.params.window_shift;
            let mut answer = self
                .numbers
                .cookie(&origin.key, segment, own_mss, shift, now);
            answer.window = (10 * u32::from(own_mss)).min(0xffff) as u16;
            self.cx.counters.tcp_cookies_sent += 1;
            self.cookie_sent = Some(now);
            self.answer(origin, &answer);
            return;
        }
        let Some(index) = self.free.pop() else {
            self.cx.counters.tcp_no_slot += 1;
            return;
        };
        let mut iss = self.numbers.iss(&origin.key, now);
        if let Some(above) = above
            && iss < above
        {
            iss = above;
        }
        self.begin_connection(index, origin, iss);
        let connection = &mut self.connections[index as usize];
        connection.listener = listener;
        connection.state = State::Listen;
        connection.step(Input::Syn);
        // RFC 3168, 6.1.1: a SYN that asks for ECN has both bits.
        if segment.flags & (flag::ECE | flag::CWR) == flag::ECE | flag::CWR {
            connection.set(has::ECN);
        }
        connection.take_syn(&mut self.cx, segment);
        connection.set(has::PASSIVE | has::ORPHAN | has::HALF_OPEN | has::SEND_SYN);
        self.half_open += 1;
        if let Some(socket) = &mut self.listeners[listener as usize] {
            socket.half_open += 1;
        }
        self.cx.wake(index);
    }

    /// Makes a connection of an ACK that proves that its sender had our SYN-ACK.
    fn try_cookie(
        &mut self,
        listener: u16,
        origin: &Origin,
        segment: &Segment,
        body: &mut Body<'_>,
    ) -> bool {
        let now = self.cx.now;
        if self
            .cookie_sent
            .is_none_or(|sent| now.since(sent) > COOKIES_LAST)
        {
            return false;
        }
        let Some(cookie) = self.numbers.open(&origin.key, segment, now) else {
            self.cx.counters.tcp_cookies_bad += 1;
            return false;
        };
        let Some(index) = self.free.pop() else {
            // The peer will try again with its data.
            self.cx.counters.tcp_no_slot += 1;
            return true;
        };
        self.cx.counters.tcp_cookies_accepted += 1;
        let iss = segment.ack - 1;
        self.begin_connection(index, origin, iss);
        let connection = &mut self.connections[index as usize];
        connection.listener = listener;
        let mut syn = *segment;
        syn.flags = flag::SYN;
        syn.seq = segment.seq - 1;
        let Cookie {
            mss,
            window_scale,
            sack,
            ecn,
        } = cookie;
        syn.mss = Some(mss);
        syn.window_scale = window_scale;
        syn.sack_permitted = sack;
        if ecn {
            connection.set(has::ECN);
        }
        connection.state = State::SynReceived;
        connection.take_syn(&mut self.cx, &syn);
        connection.snd.nxt = iss + 1;
        connection.first_window(&mut self.cx);
        connection.snd.retries = UNKNOWN_RETRIES;
        connection.set(has::PASSIVE | has::ORPHAN);
        self.for_connection(index, origin, segment, body);
        true
    }

    /// Opens a connection actively (RFC 9293, 3.10.1).
    pub(super) fn open(
        &mut self,
        remote: SocketAddr,
        local: Option<SocketAddr>,
    ) -> Result<u32, ConnectError> {
        if remote.port() == 0
            || !is_unicast(remote.ip())
            || !self.interface.is_host(remote.ip())
            || self.interface.is_ours(remote.ip())
        {
            return Err(ConnectError::BadRemote);
        }
        let hop = self
            .interface
            .next_hop(remote.ip())
            .ok_or(ConnectError::NoRoute)?;
        let wanted = local
            .map(|local| local.ip())
            .filter(|ip| !ip.is_unspecified());
        let address = match wanted {
            Some(address) if self.interface.is_ours(address) => address,
            Some(_) => return Err(ConnectError::NoSuchAddress),
            None => self
                .interface
                .source_for(remote.ip())
                .ok_or(ConnectError::NoSuchAddress)?,
        };
        if address.is_ipv4() != remote.is_ipv4() {
            return Err(ConnectError::NoSuchAddress);
        }
        let key = match local.map_or(0, |local| local.port()) {
            0 => self.choose_port(address, remote)?,
            port => {
                let key = FlowKey::of(SocketAddr::new(address, port), remote);
                if self.look_up(&key).is_some() {
                    return Err(ConnectError::AddressInUse);
                }
                key
            }
        };
        if self.free.is_empty() {
            return Err(ConnectError::TooManyConnections);
        }
        let evicted = &mut self.cx.counters.neighbor_evicted;
        let neighbor = self
            .neighbors
            .bind(hop, None, self.cx.now, evicted)
            .ok_or(ConnectError::TooManyNeighbors)?;
        let index = self.free.pop().ok_or(ConnectError::TooManyConnections)?;
        let origin = Origin {
            key,
            mac: MacAddress::default(),
            local: address,
            remote: remote.ip(),
        };
        let iss = self.numbers.iss(&key, self.cx.now);
        self.begin_connection(index, &origin, iss);
        let connection = &mut self.connections[index as usize];
        connection.neighbor = neighbor;
        connection.step(Input::Connect);
        connection.set(has::SEND_SYN);
        if self.cx.params.ecn {
            connection.set(has::ECN);
        }
        self.cx.wake(index);
        Ok(index)
    }

    /// RFC 6056, 3.3.3, restricted to ports whose return flow is steered to this shard.
    fn choose_port(
        &mut self,
        address: IpAddr,
        remote: SocketAddr,
    ) -> Result<FlowKey, ConnectError> {
        let count = PORTS.end - PORTS.start;
        let offset = self
            .numbers
            .port_offset(&FlowKey::of(SocketAddr::new(address, 0), remote));
        for i in 0..count {
            let step = (u32::from(self.next_port) + i) % count;
            let port = (PORTS.start + offset.wrapping_add(step) % count) as u16;
            let local = SocketAddr::new(address, port);
            if let Some(steering) = &self.config.steering
                && steering.queue_of(remote, local) != steering.queue
            {
                continue;
            }
            let key = FlowKey::of(local, remote);
            if self.look_up(&key).is_none() {
                self.next_port = ((step + 1) % count) as u16;
                return Ok(key);
            }
        }
        Err(ConnectError::NoFreePort)
    }

    /// Makes a connection of a free slot and puts it into the table.
    fn begin_connection(&mut self, index: u32, origin: &Origin, iss: Seq) {
        let mtu = self.path_mtu(origin.remote);
        let link = self.interface.link_to(origin.mac);
        let headers = Headers::ip(
            link,
            origin.local,
            origin.remote,
            protocol::TCP,
            HOP_LIMIT,
            0,
        );
        let ts_offset = self.numbers.ts_offset(&origin.key);
        let connection = &mut self.connections[index as usize];
        connection.begin(&self.cx, origin.key, iss, ts_offset, mtu, headers);
        // What is offered to peers is what the link takes, not what the path does (RFC 6691).
        connection.rcv.mss = (self.config.mtu - connection.ip_and_tcp_len()) as u16;
        self.table.insert(origin.key.hash(self.table_key), index);
    }

    fn path_mtu(&self, remote: IpAddr) -> usize {
        let known = self.paths.get(remote, self.cx.now);
        known.unwrap_or(self.config.mtu).min(self.config.mtu)
    }

    fn mss_for(&self, remote: IpAddr) -> u16 {
        let headers = if remote.is_ipv4() { 40 } else { 60 };
        (self.config.mtu - headers) as u16
    }

    /// Finds the neighbour that a connection sends through from now on.
    fn bind_neighbor(&mut self, index: u32, heard: Option<MacAddress>) {
        let connection = &mut self.connections[index as usize];
        let Some(hop) = self.interface.next_hop(connection.remote().ip()) else {
            return;
        };
        let evicted = &mut self.cx.counters.neighbor_evicted;
        // Without room in the cache it goes on with the address its frames come from.
        if let Some(neighbor) = self.neighbors.bind(hop, heard, self.cx.now, evicted) {
            connection.neighbor = neighbor;
        }
    }

    /// Sees to what a connection's new state means for the tables and timers.
    #[inline]
    pub(super) fn settle(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if connection.has(has::HALF_OPEN) && connection.state != State::SynReceived {
            connection.clear(has::HALF_OPEN);
            self.half_open -= 1;
            if let Some(Some(socket)) = self.listeners.get_mut(connection.listener as usize) {
                socket.half_open = socket.half_open.saturating_sub(1);
            }
        }
        match connection.state {
            State::Closed => self.bury(index),
            State::TimeWait => self.remember(index),
            _ => {
                let deadline = connection.deadline();
                if deadline != NEVER {
                    self.cx.arm(index, deadline);
                }
            }
        }
    }

    /// The connection is over: out of the table, and out of its slot if nobody reads it any more.
    fn bury(&mut self, index: u32) {
        self.unhook(index);
        let connection = &self.connections[index as usize];
        if connection.has(has::ORPHAN) {
            self.vacate(index);
        }
    }

    fn unhook(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if connection.has(has::UNHOOKED) {
            return;
        }
        connection.set(has::UNHOOKED);
        let hash = connection.key.hash(self.table_key);
        self.table.remove(hash, index);
        if self.cx.transmit_links.is_linked(index) {
            let list = if connection.has(has::PARKED) {
                self.neighbors.waiting(connection.neighbor)
            } else {
                &mut self.cx.ready
            };
            self.cx.transmit_links.remove(list, index);
        }
        connection.clear(has::PARKED);
        if connection.neighbor != NONE {
            self.neighbors.unbind(connection.neighbor);
            connection.neighbor = NONE;
        }
        if self.cx.hungry_links.is_linked(index) {
            self.cx.hungry_links.remove(&mut self.cx.hungry, index);
        }
        if self.cx.blocked_links.is_linked(index) {
            self.cx.blocked_links.remove(&mut self.cx.blocked, index);
        }
    }

    /// Gives the slot back; names of it are stale from now on.
    fn vacate(&mut self, index: u32) {
        if self.cx.event_links.is_linked(index) {
            self.cx.event_links.remove(&mut self.cx.eventful, index);
        }
        let connection = &mut self.connections[index as usize];
        connection.rcv.queue.clear(&mut self.cx.slices);
        connection.events = 0;
        connection.listener = NO_LISTENER;
        connection.generation = connection.generation.wrapping_add(1);
        connection.clear(has::ORPHAN);
        self.free.push(index);
    }

    /// The application gives the name back.
    pub(super) fn orphan(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.has(has::ORPHAN) {
            return;
        }
        connection.events = 0;
        connection.generation = connection.generation.wrapping_add(1);
        if self.cx.event_links.is_linked(index as u32) {
            let list = &mut self.cx.eventful;
            self.cx.event_links.remove(list, index as u32);
        }
        connection.set(has::ORPHAN);
        if connection.state != State::Closed {
            if connection.rcv.queue.ready > 0 {
                connection.abort(&mut self.cx, CloseReason::Aborted);
            } else {
                connection.close(&mut self.cx);
            }
        }
        self.settle(index as u32);
    }

    /// Moves a connection into TIME-WAIT, and ends it as far as the application is concerned.
    fn remember(&mut self, index: u32) {
        if !self.time_waits.has_room()
            && let Some(oldest) = self.time_waits.oldest()
        {
            self.cx.counters.tcp_time_wait_evicted += 1;
            self.forget(oldest);
        }
        let now = self.cx.now;
        let connection = &self.connections[index as usize];
        let (key, owes) = (connection.key, connection.has(has::ACK_NOW));
        let mac = connection.headers.destination();
        let remembered = self.time_waits.remember(connection, now);
        self.connections[index as usize].finish(&mut self.cx, CloseReason::Finished);
        self.bury(index);
        let Some(remembered) = remembered else { return };
        let hash = key.hash(self.table_key);
        self.table.insert(hash, remembered | REMEMBERED);
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

    fn forget(&mut self, remembered: u32) {
        let hash = self.time_waits.get(remembered).key.hash(self.table_key);
        self.table.remove(hash, remembered | REMEMBERED);
        self.time_waits.forget(remembered);
    }

    pub(super) fn advance_time_waits(&mut self) {
        while let Some(remembered) = self.time_waits.expired(self.cx.now) {
            self.forget(remembered);
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
            let connection: &mut Connection = &mut self.connections[index as usize];
            if connection.wants_wider_window(&self.cx) {
                connection.ack_now(&mut self.cx);
            }
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
            self.connections[index as usize].offer_room(&mut self.cx);
        }
    }

    /// RFC 9293, 3.10.7.1: a reset that the sender of `segment` will believe.
    fn reset(&mut self, origin: &Origin, segment: &Segment) {
        if segment.has(flag::RST) || !self.can_answer(origin.remote, origin.mac) {
            return;
        }
        if !self.replies.allows(self.cx.now) {
            self.cx.counters.replies_limited += 1;
            return;
        }
        let key = &origin.key;
        let (local, remote) = (key.local_port(), key.remote_port());
        let header = if segment.has(flag::ACK) {
            Outgoing::new(local, remote, segment.ack, flag::RST)
        } else {
            let mut header = Outgoing::new(local, remote, Seq(0), flag::RST | flag::ACK);
            header.ack = segment.seq + segment.seq_len();
            header
        };
        self.cx.counters.tcp_resets_sent += 1;
        self.answer(origin, &header);
    }

    /// Sends a segment that belongs to no connection back where another came from.
    fn answer(&mut self, origin: &Origin, header: &Outgoing) {
        let link = self.interface.link_to(origin.mac);
        let len = header.len();
        let mut headers = Headers::ip(
            link,
            origin.local,
            origin.remote,
            protocol::TCP,
            HOP_LIMIT,
            len,
        );
        header.emit(headers.extend(len));
        headers.finish_tcp(len, &Payload::EMPTY, &Default::default(), None);
        if !self.control.push(headers) {
            self.cx.counters.replies_limited += 1;
        }
    }
}
