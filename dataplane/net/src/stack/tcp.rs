//! Segments to connections, listeners, and what is left of connections.

use std::net::IpAddr;

use collections::TableIndex;

use crate::address::MacAddress;
use crate::event::{ConnectionIndex, ListenerId};
use crate::frame::{Payload, RxFrame};
use crate::link::ecn;
use crate::link::emit::{HOP_LIMIT, Headers};
use crate::link::ethernet::Ethernet;
use crate::link::ip::Ip;
use crate::link::neighbor::NeighborIndex;
use crate::link::protocol;
use crate::stack::Stack;
use crate::stack::fast::Train;
use crate::stack::flow::Flow;
use crate::tcp::{
    Body, FlowKey, Outgoing, Reply, Segment, Seq, State, TimeWaitIndex, TimeWaitVerdict, flag, has,
};

/// Where a segment came from and where answers to it go.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) key: FlowKey,
    pub(super) mac: MacAddress,
    pub(super) local: IpAddr,
    pub(super) remote: IpAddr,
}

impl Stack {
    pub(super) fn on_tcp(&mut self, ethernet: &Ethernet, ip: &Ip, frame: RxFrame<'_>) {
        if !Self::l4_checksum_is_good(&frame, ip, true) {
            events::dropped!(self.cx.counters, tcp_checksum_bad);
            return;
        }
        let head = frame.head.bytes();
        let end = (ip.l4 + ip.l4_len).min(head.len());
        let Some(mut segment) = head
            .get(ip.l4..end)
            .and_then(|bytes| Segment::parse(bytes, ip.l4_len))
        else {
            events::dropped!(self.cx.counters, tcp_malformed);
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
            Some(Flow::Connection(index)) => {
                self.for_connection(index, &origin, &segment, &mut body);
            }
            Some(Flow::Remembered(index)) => self.for_remembered(index, &origin, &segment),
            // Connections are of hosts: their segments need not be asked where they are from.
            None if self.is_from_host(ethernet, ip) => {
                self.for_listener(&origin, &segment, &mut body, None);
            }
            None => {}
        }
    }

    /// What the table has for a flow.
    #[inline]
    pub(super) fn look_up(&mut self, key: &FlowKey) -> Option<Flow> {
        // Segments come in trains: the last connection is likely to be the next.
        let last = self.train.index;
        let connection = &self.connections[last];
        if connection.key == *key && !connection.has(has::UNHOOKED) {
            self.follow(last, key);
            return Some(Flow::Connection(last));
        }
        let hash = key.hash(self.table_key);
        let (connections, time_waits) = (&self.connections, &self.time_waits);
        let found = self.table.find(hash, |index| match index.flow() {
            Flow::Connection(index) => connections[index].key == *key,
            Flow::Remembered(index) => time_waits.get(index).key == *key,
        })?;
        let found = found.flow();
        if let Flow::Connection(index) = found {
            self.follow(index, key);
        }
        Some(found)
    }

    /// The next frame is likely to be of this connection, too.
    pub(super) fn follow(&mut self, index: ConnectionIndex, key: &FlowKey) {
        self.train = Train::new(index, key);
        if self.tap.is_some() {
            // The tap is shown every frame, on the long way.
            self.train.stop();
        }
    }

    /// The connection of a flow, if there is one.
    pub(super) fn find_connection(&mut self, key: &FlowKey) -> Option<ConnectionIndex> {
        self.look_up(key)?.connection()
    }

    #[inline]
    pub(super) fn for_connection(
        &mut self,
        index: ConnectionIndex,
        origin: &Origin,
        segment: &Segment,
        body: &mut Body<'_>,
    ) {
        let connection = &mut self.connections[index];
        let una = connection.snd.una;
        let probed = connection.snd.keepalives > 0;
        if connection.state == State::SynReceived && connection.neighbor == NeighborIndex::NONE {
            // Until the handshake has proved a way, answers go where the frames come from.
            connection.headers.set_destination(origin.mac);
        }
        let reply = connection.on_segment(&mut self.cx, segment, body);
        let connection = &self.connections[index];
        if connection.snd.una != una || probed && connection.snd.keepalives == 0 {
            // RFC 4861, 7.3.1: progress proves that the neighbour is there.
            if connection.neighbor != NeighborIndex::NONE {
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

    fn for_remembered(&mut self, index: TimeWaitIndex, origin: &Origin, segment: &Segment) {
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
            TimeWaitVerdict::Forget => self.forget(index),
            TimeWaitVerdict::Reset => {
                events::dropped!(self.cx.counters, tcp_data_after_close);
                self.forget(index);
                self.reset(origin, segment);
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
        {
            return self.on_syn(listener, origin, segment, above);
        }
        events::dropped!(self.cx.counters, tcp_no_connection);
        self.reset(origin, segment);
    }

    fn listener_for(&self, origin: &Origin) -> Option<ListenerId> {
        let port = origin.key.local_port();
        let mut any = None;
        for (id, listener) in self.listeners.indexes().zip(self.listeners.iter()) {
            let Some(listener) = listener else { continue };
            if listener.local.port() != port {
                continue;
            }
            if listener.local.ip() == origin.local {
                return Some(id);
            }
            if listener.local.ip().is_unspecified()
                && listener.local.is_ipv4() == origin.local.is_ipv4()
            {
                any = Some(id);
            }
        }
        any
    }

    /// Finds the neighbour that a connection sends through from now on.
    pub(super) fn bind_neighbor(&mut self, index: ConnectionIndex, heard: Option<MacAddress>) {
        let connection = &mut self.connections[index];
        let Some(hop) = self.interface.next_hop(connection.remote().ip()) else {
            return;
        };
        let evicted = &mut self.cx.counters.neighbor_evicted;
        // Without room in the cache it goes on with the address its frames come from.
        if let Some(neighbor) = self.neighbors.bind(hop, heard, self.cx.now, evicted) {
            connection.neighbor = neighbor;
        }
    }

    /// RFC 9293, 3.10.7.1: a reset that the sender of `segment` will believe.
    pub(super) fn reset(&mut self, origin: &Origin, segment: &Segment) {
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
    pub(super) fn answer(&mut self, origin: &Origin, header: &Outgoing) {
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
