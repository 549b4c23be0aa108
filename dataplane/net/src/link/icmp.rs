//! ICMP for IPv4 (RFC 792), and what both versions share: errors about segments of ours.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Ipv4Packet, Ipv6Packet};

use crate::link::checksum::{Sum, update};
use crate::link::emit::Headers;
use crate::link::protocol;
use crate::tcp::Seq;
use crate::time::Instant;

pub(crate) const ECHO_LEN: usize = 8;

/// A received ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    EchoRequest,
    /// About a segment that we sent.
    Error(SegmentError),
    /// Nothing a host acts on.
    Other,
}

/// An error that quotes a TCP segment of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentError {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) seq: Seq,
    pub(crate) problem: Problem,
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The packet is larger than a link on the path carries (RFC 1191, RFC 8201).
    TooBig { mtu: usize },
    /// Nobody takes the packet there: final for a connection being opened (RFC 1122, 4.2.3.9).
    Refused,
    /// It did not get there; it may yet (RFC 1122, 4.2.3.9: soft errors).
    Unreachable,
}

/// Reads an ICMPv4 message whose checksum is right.
pub(crate) fn parse(bytes: &[u8]) -> Option<Message> {
    let packet = Icmpv4Packet::new_checked(bytes).ok()?;
    let quoted = bytes.get(8..)?;
    let problem = match (packet.msg_type(), packet.msg_code()) {
        (Icmpv4Message::EchoRequest, 0) => return Some(Message::EchoRequest),
        // RFC 1191, section 4: the next hop's MTU is in the low half of the second word.
        (Icmpv4Message::DstUnreachable, 4) => Problem::TooBig {
            mtu: u16::from_be_bytes([bytes[6], bytes[7]]) as usize,
        },
        // Protocol and port unreachable, and administrative refusals.
        (Icmpv4Message::DstUnreachable, 2 | 3 | 9 | 10 | 13) => Problem::Refused,
        (Icmpv4Message::DstUnreachable, _) | (Icmpv4Message::TimeExceeded, _) => {
            Problem::Unreachable
        }
        _ => return Some(Message::Other),
    };
    let header = Ipv4Packet::new_unchecked(quoted);
    if quoted.len() < 20 || header.version() != 4 || header.header_len() < 20 {
        return None;
    }
    let transport = quoted.get(header.header_len() as usize..)?;
    Some(quoted_segment(
        header.src_addr().into(),
        header.dst_addr().into(),
        header.next_header().into(),
        transport,
        problem,
    ))
}

/// The quoted packet of an ICMPv6 error.
pub(crate) fn quoted_v6(quoted: &[u8], problem: Problem) -> Option<Message> {
    let header = Ipv6Packet::new_unchecked(quoted);
    if quoted.len() < 40 || header.version() != 6 {
        return None;
    }
    Some(quoted_segment(
        header.src_addr().into(),
        header.dst_addr().into(),
        header.next_header().into(),
        &quoted[40..],
        problem,
    ))
}

fn quoted_segment(
    source: IpAddr,
    destination: IpAddr,
    next: u8,
    transport: &[u8],
    problem: Problem,
) -> Message {
    // RFC 792 promises eight bytes: the ports and the sequence number.
    let Some(&[a, b, c, d, s0, s1, s2, s3]) = transport.first_chunk::<8>() else {
        return Message::Other;
    };
    if next != protocol::TCP {
        return Message::Other;
    }
    Message::Error(SegmentError {
        local: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        remote: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
        seq: Seq(u32::from_be_bytes([s0, s1, s2, s3])),
        problem,
    })
}

/// Turns the eight bytes of an echo request into those of its reply. Only the
/// type changes, and the checksum with it (RFC 1624): the payload is not read.
pub(crate) fn echo_reply(headers: &mut Headers, request: &[u8; ECHO_LEN], reply_type: u8) {
    let mut bytes = *request;
    let old = u16::from_be_bytes([request[0], request[1]]);
    let checksum = u16::from_be_bytes([request[2], request[3]]);
    bytes[0] = reply_type;
    let new = u16::from_be_bytes([reply_type, request[1]]);
    bytes[2..4].copy_from_slice(&update(checksum, old, new).to_be_bytes());
    headers.extend(ECHO_LEN).copy_from_slice(&bytes);
}

/// The eight bytes of an error about the packet `quoted`. `pseudo` is the sum
/// that the version's checksum begins with.
pub(crate) fn error(
    headers: &mut Headers,
    kind: u8,
    code: u8,
    word: u32,
    quoted: &[u8],
    pseudo: Sum,
) {
    let mut bytes = [kind, code, 0, 0, 0, 0, 0, 0];
    bytes[4..8].copy_from_slice(&word.to_be_bytes());
    let checksum = pseudo.bytes(&bytes).bytes(quoted).checksum();
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    headers.extend(8).copy_from_slice(&bytes);
}

/// A token bucket for replies that anybody can cause (RFC 1812, 4.3.2.8; RFC 4443, 2.4 (f)).
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimit {
    tokens: u32,
    burst: u32,
    per_token_ns: u64,
    filled: Instant,
}

impl RateLimit {
    pub(crate) const fn new(per_second: u32, burst: u32) -> Self {
        Self {
            tokens: burst,
            burst,
            per_token_ns: 1_000_000_000 / per_second as u64,
            filled: Instant::ZERO,
        }
    }

    /// Whether one more is allowed now.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let earned = now.0.saturating_sub(self.filled.0) / self.per_token_ns;
        if earned > 0 {
            self.tokens = (u64::from(self.tokens) + earned).min(u64::from(self.burst)) as u32;
            self.filled = Instant(self.filled.0 + earned * self.per_token_ns);
        }
        let allowed = self.tokens > 0;
        self.tokens -= u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4443_2_4_f_replies_are_limited_in_rate() {
        let mut limit = RateLimit::new(10, 5);
        let start = Instant::from_millis(5000);
        assert_eq!((0..100).filter(|_| limit.allows(start)).count(), 5);
        let later = start + std::time::Duration::from_millis(350);
        assert_eq!((0..100).filter(|_| limit.allows(later)).count(), 3);
    }
}
