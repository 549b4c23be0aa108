//! The short way in. Segments come in trains: the next one is nearly always of
//! the connection that the last one was for, with headers of the same shape.
//! Those are recognised by comparing a few words; everything else, and
//! everything doubtful, goes the long way.

use collections::TableIndex;
use pages::Slice;

use crate::event::ConnectionIndex;
use crate::frame::{RxFrame, Verdict};
use crate::link::ecn;
use crate::link::neighbor::NeighborIndex;
use crate::stack::Stack;
use crate::tcp::{Body, FlowKey, Reply, Segment, has};

/// Ethernet without a tag; IPv4 and IPv6 without options or extensions.
const IP_AT: usize = 14;
const V4_LEN: usize = 20;
const V6_LEN: usize = 40;
const TCP: u8 = 6;

/// The connection of the last segment, and how its segments begin on the wire.
#[derive(Clone, Copy)]
pub(super) struct Train {
    pub(super) index: ConnectionIndex,
    /// Both ports as they follow each other in the header.
    ports: u32,
    /// Both addresses, if they are of IPv4.
    addresses: u64,
    /// Ethernet's type and the byte after it: version and length of the IP header.
    /// Zero, which no IP packet has, if nothing is to be taken for the next of this train.
    kind: u32,
}

const V4_KIND: u32 = 0x08_0045;
/// Traffic classes share the byte with the version: it is looked at apart.
const V6_KIND: u32 = 0x86_dd60;

impl Train {
    /// No segment is of this train.
    pub(super) fn none() -> Self {
        Self {
            index: ConnectionIndex::new(0),
            ports: 0,
            addresses: 0,
            kind: 0,
        }
    }

    pub(super) fn new(index: ConnectionIndex, key: &FlowKey) -> Self {
        let (addresses, kind) = match key.v4_addresses() {
            Some(addresses) => (addresses, V4_KIND),
            None => (0, V6_KIND),
        };
        Self {
            index,
            ports: key.wire_ports(),
            addresses,
            kind,
        }
    }

    /// The flow, if it is of IPv4.
    #[inline]
    pub(super) fn v4_flow(&self) -> V4Flow {
        V4Flow {
            addresses: self.addresses,
            ports: self.ports,
        }
    }

    /// The connection is still the last one, but nothing is taken for its next.
    pub(super) fn stop(&mut self) {
        self.kind = 0;
    }
}

/// Addresses and ports as the headers of an IPv4 flow have them: the peer's first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct V4Flow {
    pub(super) addresses: u64,
    pub(super) ports: u32,
}

impl V4Flow {
    pub(super) const NONE: V4Flow = V4Flow {
        addresses: 0,
        ports: 0,
    };
}

/// A frame's headers up to the ports of TCP.
pub(super) type V4Start = [u8; TCP_AT + 4];

/// The flow that a frame is of, if it is one of TCP over IPv4.
#[inline]
pub(super) fn v4_flow(header: &V4Start) -> V4Flow {
    V4Flow {
        addresses: wide(header, 26),
        ports: word(header, TCP_AT),
    }
}

/// Whether a frame is a TCP segment over IPv4, without options of IP and not a fragment (RFC 791, 3.1).
#[inline]
pub(super) fn is_v4_tcp(header: &V4Start) -> bool {
    word(header, 11) & 0x00ff_ffff == V4_KIND && header[23] == TCP && half(header, 20) & 0x3fff == 0
}

/// Where TCP begins in a frame, how long it is, and whether the frame was marked.
struct Found {
    tcp: usize,
    len: usize,
    ce: bool,
}

#[inline]
fn wide(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) << 32 | u64::from(word(bytes, at + 4))
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Offset of TCP in an IPv4 frame, and of the text behind a timestamp.
const TCP_AT: usize = IP_AT + V4_LEN;
const TEXT_AT: usize = TCP_AT + 32;

impl Stack {
    /// Whether the frame brings the next bytes of its train, over IPv4 with a
    /// timestamp, and nothing else: what storage peers send most. How many bytes.
    #[inline(always)]
    pub(super) fn brings_next(&self, frame: &RxFrame<'_>) -> Option<u32> {
        let bytes = frame.head.bytes();
        let header = bytes.first_chunk::<TEXT_AT>()?;
        let (train, kind) = (&self.train, word(header, 11) & 0x00ff_ffff);
        let len = half(header, 16) as usize;
        let ours = kind == V4_KIND
            && train.kind == V4_KIND
            && wide(header, 26) == train.addresses
            && word(header, TCP_AT) == train.ports
            && wide(header, 0) >> 16 == self.station
            && half(header, 22) & 0xff == u16::from(TCP)
            && half(header, 20) & 0x3fff == 0
            && header[15] & 3 != ecn::CE
            && frame.vlan == self.interface.vlan
            && frame.tail.is_empty()
            && frame.l4_checksum == Verdict::Good
            && frame.ip_checksum == Verdict::Good
            && IP_AT + len <= bytes.len();
        // Without a byte of text it wraps, and is beyond any window.
        let text = len.wrapping_sub(TEXT_AT - IP_AT) as u32;
        let connection = self.connections.get(train.index)?;
        (ours && connection.is_next(&self.cx, header.last_chunk()?, text)).then_some(text)
    }

    /// Takes such a frame.
    #[inline(always)]
    pub(super) fn take_next(&mut self, head: Slice, text: u32) {
        let connection = &mut self.connections[self.train.index];
        self.cx.counters.rx_frames += 1;
        self.cx.counters.rx_bytes += head.len() as u64;
        connection.take_next(&mut self.cx, head, TEXT_AT, text);
    }

    /// The header of a segment that header prediction knows, over either IP, if that
    /// is what the frame has; and where its text begins.
    #[inline]
    pub(super) fn predicts(&self, frame: &RxFrame<'_>) -> Option<(usize, Segment)> {
        let bytes = frame.head.bytes();
        let found = self.find_next(frame, bytes)?;
        let tcp = bytes.get(found.tcp..found.tcp + found.len)?;
        let mut segment = Segment::parse_plain(tcp)?;
        segment.ce = found.ce;
        let connection = self.connections.get(self.train.index)?;
        debug_assert!(!connection.has(has::UNHOOKED));
        (connection.neighbor != NeighborIndex::NONE && connection.is_predicted(&segment))
            .then_some((found.tcp + segment.header_len, segment))
    }

    /// Takes such a segment.
    pub(super) fn receive_predicted(&mut self, head: Slice, from: usize, segment: &Segment) {
        self.cx.counters.rx_frames += 1;
        self.cx.counters.rx_bytes += head.len() as u64;
        let index = self.train.index;
        let connection = &mut self.connections[index];
        let una = connection.snd.una;
        let mut body = Body::new(head, from, &[], segment.len as usize);
        let reply = connection.on_predicted(&mut self.cx, segment, &mut body);
        debug_assert_eq!(reply, Reply::Nothing);
        if connection.snd.una != una {
            self.neighbors.confirm(connection.neighbor, self.cx.now);
        }
        self.settle(index);
    }

    #[inline]
    fn find_next(&self, frame: &RxFrame<'_>, bytes: &[u8]) -> Option<Found> {
        let header = bytes.first_chunk::<{ IP_AT + V4_LEN + 20 }>()?;
        let train = &self.train;
        let kind = word(header, 11) & 0x00ff_ffff;
        let ours = kind == train.kind
            && wide(header, 0) >> 16 == self.station
            && frame.vlan == self.interface.vlan
            && frame.tail.is_empty()
            && frame.l4_checksum == Verdict::Good;
        if !ours {
            return None;
        }
        if kind != V4_KIND {
            return self.find_next_v6(bytes);
        }
        let fragment = half(header, 20) & 0x3fff;
        let len = half(header, 16) as usize;
        let same = wide(header, 26) == train.addresses
            && word(header, 34) == train.ports
            && header[23] == TCP
            && fragment == 0
            && frame.ip_checksum == Verdict::Good
            && len >= V4_LEN
            && IP_AT + len <= bytes.len();
        same.then_some(Found {
            tcp: IP_AT + V4_LEN,
            len: len.wrapping_sub(V4_LEN),
            ce: header[15] & 3 == ecn::CE,
        })
    }

    fn find_next_v6(&self, bytes: &[u8]) -> Option<Found> {
        let header = bytes.first_chunk::<{ IP_AT + V6_LEN + 20 }>()?;
        let key = &self.connections[self.train.index].key;
        let len = half(header, 18) as usize;
        let same = word(header, 11) & 0x00ff_ffff == V6_KIND
            && header[20] == TCP
            && word(header, IP_AT + V6_LEN) == self.train.ports
            && key.is_between_v6(&header[22..54])
            && IP_AT + V6_LEN + len <= bytes.len();
        same.then_some(Found {
            tcp: IP_AT + V6_LEN,
            len,
            ce: header[15] >> 4 & 3 == ecn::CE,
        })
    }
}
