//! Connections that begin: SYNs, cookies, and those the application opens.

use std::net::{IpAddr, SocketAddr};

use crate::address::MacAddress;
use crate::config::is_unicast;
use crate::event::{ConnectError, ConnectionIndex, ListenerId};
use crate::link::emit::{HOP_LIMIT, Headers};
use crate::link::protocol;
use crate::stack::Stack;
use crate::stack::tcp::Origin;
use crate::tcp::{Body, Cookie, FlowKey, Input, Segment, Seq, State, UNKNOWN_RETRIES, flag, has};

/// RFC 6056, 3.2: ephemeral ports. The range is Linux's.
const PORTS: std::ops::Range<u32> = 32_768..61_000;
/// How long cookies are looked for after the last one was sent: twice as long as they are good.
const COOKIES_LAST: std::time::Duration = std::time::Duration::from_secs(192);

impl Stack {
    pub(super) fn on_syn(
        &mut self,
        listener: ListenerId,
        origin: &Origin,
        segment: &Segment,
        above: Option<Seq>,
    ) {
        let now = self.cx.now;
        // One whose last connection is in TIME-WAIT has shown that it is there, and needs
        // numbers above the old ones: a cookie has no such choice.
        let proven = above.is_some() && self.slots.free() > 0;
        if !proven && self.wants_cookie(listener, segment) {
            if !self.slots.any() {
                events::dropped!(self.cx.counters, tcp_no_slot);
                return;
            }
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
        let Some(index) = self.slots.take_free() else {
            events::dropped!(self.cx.counters, tcp_no_slot);
            return;
        };
        let mut iss = self.numbers.iss(&origin.key, now);
        if let Some(above) = above
            && iss < above
        {
            iss = above;
        }
        self.begin_connection(index, origin, iss);
        let connection = &mut self.connections[index];
        connection.listener = listener;
        connection.state = State::Listen;
        connection.step(Input::Syn);
        // RFC 3168, 6.1.1: a SYN that asks for ECN has both bits.
        if segment.flags & (flag::ECE | flag::CWR) == flag::ECE | flag::CWR {
            connection.set(has::ECN);
        }
        connection.take_syn(&mut self.cx, segment);
        connection.set(has::PASSIVE | has::ORPHAN | has::HALF_OPEN | has::SEND_SYN);
        self.slots.enter(index);
        self.half_open += 1;
        if let Some(socket) = &mut self.listeners[listener] {
            socket.half_open += 1;
        }
        self.cx.wake(index);
    }

    /// Makes a connection of an ACK that proves that its sender had our SYN-ACK.
    pub(super) fn try_cookie(
        &mut self,
        listener: ListenerId,
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
            events::dropped!(self.cx.counters, tcp_cookies_bad);
            return false;
        };
        let Some(index) = self.take_slot() else {
            // The peer thinks that it is connected: it learns that it is not.
            events::dropped!(self.cx.counters, tcp_no_slot);
            self.reset(origin, segment);
            return true;
        };
        self.cx.counters.tcp_cookies_accepted += 1;
        let iss = segment.ack - 1;
        self.begin_connection(index, origin, iss);
        let connection = &mut self.connections[index];
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
        self.slots.enter(index);
        self.for_connection(index, origin, segment, body);
        true
    }

    /// Opens a connection actively (RFC 9293, 3.10.1).
    pub(super) fn open(
        &mut self,
        remote: SocketAddr,
        local: Option<SocketAddr>,
    ) -> Result<ConnectionIndex, ConnectError> {
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
        if self.slots.free() == 0 {
            return Err(ConnectError::TooManyConnections);
        }
        let evicted = &mut self.cx.counters.neighbor_evicted;
        let neighbor = self
            .neighbors
            .bind(hop, None, self.cx.now, evicted)
            .ok_or(ConnectError::TooManyNeighbors)?;
        let index = (self.slots.take_free()).ok_or(ConnectError::TooManyConnections)?;
        let origin = Origin {
            key,
            mac: MacAddress::default(),
            local: address,
            remote: remote.ip(),
        };
        let iss = self.numbers.iss(&key, self.cx.now);
        self.begin_connection(index, &origin, iss);
        let connection = &mut self.connections[index];
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
    pub(super) fn begin_connection(&mut self, index: ConnectionIndex, origin: &Origin, iss: Seq) {
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
        let connection = &mut self.connections[index];
        connection.begin(&self.cx, origin.key, iss, ts_offset, mtu, headers);
        // What is offered to peers is what the link takes, not what the path does (RFC 6691).
        connection.rcv.mss = (self.config.mtu - connection.ip_and_tcp_len()) as u16;
        self.table
            .insert(origin.key.hash(self.table_key), index.into());
    }

    fn path_mtu(&self, remote: IpAddr) -> usize {
        let known = self.paths.get(remote, self.cx.now);
        known.unwrap_or(self.config.mtu).min(self.config.mtu)
    }

    fn mss_for(&self, remote: IpAddr) -> u16 {
        let headers = if remote.is_ipv4() { 40 } else { 60 };
        (self.config.mtu - headers) as u16
    }
}
