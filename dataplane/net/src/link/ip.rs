//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers of received packets.
//!
//! Decision: fragments are refused and counted, not reassembled. Storage peers
//! negotiate an MSS and discover the path's MTU, so none of their segments is
//! ever fragmented; reassembly would tie up clusters for whoever sends first
//! fragments (RFC 8900 has the whole case against fragments). Atomic IPv6
//! fragments, which are none, are taken (RFC 6946).
//!
//! IPv4 options are skipped: none changes what an end host does with a packet.

use std::net::IpAddr;

use smoltcp::wire::{Ipv4Packet, Ipv6Packet};

use crate::link::checksum::Sum;

/// What the stack needs to know of an IP header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ip {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) hop_limit: u8,
    pub(crate) ecn: u8,
    /// Where this header begins and where the transport's does, from the start of the frame.
    pub(crate) l3: usize,
    pub(crate) l4: usize,
    /// Length of what follows the header, which may be less than the frame holds (padding).
    pub(crate) l4_len: usize,
}

/// Why a packet is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpError {
    Malformed,
    Truncated,
    HeadersSplit,
    ChecksumBad,
    Fragment,
    Extension,
}

const IPV4_MIN: usize = 20;
const IPV6_LEN: usize = 40;

impl Ip {
    /// Reads the IPv4 header at `l3` in `head`, the first part of a frame of `frame_len` bytes.
    #[inline]
    pub(crate) fn parse_v4(
        head: &[u8],
        l3: usize,
        frame_len: usize,
        verify: bool,
    ) -> Result<Self, IpError> {
        let bytes = head.get(l3..).unwrap_or(&[]);
        if bytes.len() < IPV4_MIN {
            return Err(short(frame_len, l3 + IPV4_MIN));
        }
        let packet = Ipv4Packet::new_unchecked(bytes);
        let header_len = packet.header_len() as usize;
        let total_len = packet.total_len() as usize;
        if packet.version() != 4 || header_len < IPV4_MIN || total_len < header_len {
            return Err(IpError::Malformed);
        }
        if l3 + total_len > frame_len {
            return Err(IpError::Truncated);
        }
        if bytes.len() < header_len {
            return Err(IpError::HeadersSplit);
        }
        if verify && !Sum::ZERO.bytes(&bytes[..header_len]).is_valid() {
            return Err(IpError::ChecksumBad);
        }
        if packet.more_frags() || packet.frag_offset() != 0 {
            return Err(IpError::Fragment);
        }
        Ok(Self {
            source: IpAddr::V4(packet.src_addr()),
            destination: IpAddr::V4(packet.dst_addr()),
            protocol: packet.next_header().into(),
            hop_limit: packet.hop_limit(),
            ecn: packet.ecn(),
            l3,
            l4: l3 + header_len,
            l4_len: total_len - header_len,
        })
    }

    /// As [`Ip::parse_v4`], for IPv6; extension headers are walked.
    pub(crate) fn parse_v6(head: &[u8], l3: usize, frame_len: usize) -> Result<Self, IpError> {
        let bytes = head.get(l3..).unwrap_or(&[]);
        if bytes.len() < IPV6_LEN {
            return Err(short(frame_len, l3 + IPV6_LEN));
        }
        let packet = Ipv6Packet::new_unchecked(bytes);
        let payload_len = packet.payload_len() as usize;
        if packet.version() != 6 {
            return Err(IpError::Malformed);
        }
        if l3 + IPV6_LEN + payload_len > frame_len {
            return Err(IpError::Truncated);
        }
        let (protocol, skipped) =
            walk_extensions(packet.next_header().into(), &bytes[IPV6_LEN..], payload_len)?;
        Ok(Self {
            source: IpAddr::V6(packet.src_addr()),
            destination: IpAddr::V6(packet.dst_addr()),
            protocol,
            hop_limit: packet.hop_limit(),
            ecn: packet.traffic_class() & 3,
            l3,
            l4: l3 + IPV6_LEN + skipped,
            l4_len: payload_len - skipped,
        })
    }

    /// The sum of the pseudo-header for everything after the IP header (RFC 9293, 3.1; RFC 8200, 8.1).
    #[inline]
    pub(crate) fn pseudo(&self) -> Sum {
        let add = |sum: Sum, address| match address {
            IpAddr::V4(address) => sum.bytes(&address.octets()),
            IpAddr::V6(address) => sum.bytes(&address.octets()),
        };
        add(add(Sum::ZERO, self.source), self.destination).pseudo(self.protocol, self.l4_len)
    }
}

fn short(frame_len: usize, wanted: usize) -> IpError {
    if frame_len < wanted {
        IpError::Truncated
    } else {
        IpError::HeadersSplit
    }
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION: u8 = 60;
/// RFC 8200, section 4.1: each once, destination options twice. More is abuse.
const EXTENSIONS_MAX: usize = 5;

/// Follows the chain of extension headers: the transport's number, and the bytes before it.
fn walk_extensions(mut next: u8, bytes: &[u8], len: usize) -> Result<(u8, usize), IpError> {
    let mut at = 0;
    for hop in 0..=EXTENSIONS_MAX {
        let extension = match next {
            HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION => bytes.get(at..at + 8),
            NO_NEXT_HEADER => return Err(IpError::Extension),
            _ => return Ok((next, at)),
        };
        let extension = extension.ok_or(IpError::HeadersSplit)?;
        // RFC 8200, section 4.3: hop-by-hop options come first or not at all.
        if next == HOP_BY_HOP && hop > 0 {
            return Err(IpError::Extension);
        }
        // RFC 5095: a routing header that still names segments is not for a host.
        if next == ROUTING && extension[3] != 0 {
            return Err(IpError::Extension);
        }
        if next == FRAGMENT {
            let offset_and_more = u16::from_be_bytes([extension[2], extension[3]]) & !0b110;
            if offset_and_more != 0 {
                return Err(IpError::Fragment);
            }
            at += 8;
        } else {
            let extension_len = (extension[1] as usize + 1) * 8;
            if next != ROUTING {
                let options = bytes.get(at + 2..at + extension_len);
                check_options(options.ok_or(IpError::HeadersSplit)?)?;
            }
            at += extension_len;
        }
        next = extension[0];
        if at > len {
            return Err(IpError::Malformed);
        }
    }
    Err(IpError::Extension)
}

/// RFC 8200, section 4.2: an unknown option says by its highest bits whether
/// the packet may be taken all the same.
fn check_options(mut options: &[u8]) -> Result<(), IpError> {
    while let [kind, rest @ ..] = options {
        if *kind == 0 {
            options = rest;
            continue;
        }
        let [len, rest @ ..] = rest else {
            return Err(IpError::Malformed);
        };
        // Padding and router alert are known; others must be skippable.
        if kind >> 6 != 0 {
            return Err(IpError::Extension);
        }
        options = rest.get(*len as usize..).ok_or(IpError::Malformed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8200_4_extension_headers_are_walked() {
        // Hop-by-hop with padding, then destination options, then TCP.
        let mut bytes = vec![DESTINATION, 0, 1, 4, 0, 0, 0, 0];
        bytes.extend([6, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0; 20]);
        assert_eq!(walk_extensions(HOP_BY_HOP, &bytes, 36), Ok((6, 16)));
    }

    #[test]
    fn rfc8200_4_2_options_that_must_be_understood_are_refused() {
        let bytes = [6, 0, 0xc2, 4, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            walk_extensions(HOP_BY_HOP, &bytes, 10),
            Err(IpError::Extension)
        );
    }

    #[test]
    fn rfc6946_atomic_fragments_are_whole_packets() {
        let atomic = [6, 0, 0, 0, 0, 0, 0, 7];
        assert_eq!(walk_extensions(FRAGMENT, &atomic, 8), Ok((6, 8)));
        let first = [6, 0, 0, 1, 0, 0, 0, 7];
        assert_eq!(walk_extensions(FRAGMENT, &first, 8), Err(IpError::Fragment));
    }

    #[test]
    fn rfc5095_source_routes_are_refused() {
        let bytes = [6, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(walk_extensions(ROUTING, &bytes, 8), Err(IpError::Extension));
    }

    #[test]
    fn chains_end() {
        let bytes = [DESTINATION, 0, 0, 0, 0, 0, 0, 0].repeat(20);
        assert_eq!(
            walk_extensions(DESTINATION, &bytes, 160),
            Err(IpError::Extension)
        );
    }
}
