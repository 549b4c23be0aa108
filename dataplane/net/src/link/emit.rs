//! Headers of outgoing frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet,
};

use crate::address::MacAddress;
use crate::config::Offload;
use crate::frame::{Payload, TxFrame, TxOffload};
use crate::link::checksum::Sum;
use crate::link::protocol;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// The hop limit of everything but neighbour discovery (RFC 1700: 64).
pub(crate) const HOP_LIMIT: u8 = 64;

/// Where frames go on the link, and from where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) source: MacAddress,
    pub(crate) destination: MacAddress,
    pub(crate) vlan: Option<u16>,
}

/// A TCP header as nearly every segment has it: with a timestamp for its only
/// option (RFC 7323, appendix A), or with none.
pub(crate) struct PlainTcp {
    /// The source's, then the destination's.
    pub(crate) ports: u32,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) timestamp: Option<(u32, u32)>,
}

impl PlainTcp {
    /// Writes the header, without its checksum; how long it is.
    #[inline]
    fn emit(&self, room: &mut [u8; 32]) -> usize {
        room[..4].copy_from_slice(&self.ports.to_be_bytes());
        room[4..8].copy_from_slice(&self.seq.to_be_bytes());
        room[8..12].copy_from_slice(&self.ack.to_be_bytes());
        room[13] = self.flags;
        room[14..16].copy_from_slice(&self.window.to_be_bytes());
        // The checksum, and the urgent pointer.
        room[16..20].fill(0);
        let Some((value, echo)) = self.timestamp else {
            room[12] = 5 << 4;
            return 20;
        };
        room[12] = 8 << 4;
        room[20..24].copy_from_slice(&[1, 1, 8, 10]);
        room[24..28].copy_from_slice(&value.to_be_bytes());
        room[28..].copy_from_slice(&echo.to_be_bytes());
        32
    }
}

/// A frame's headers under construction.
#[derive(Clone, Copy)]
pub(crate) struct Headers {
    bytes: [u8; TxFrame::HEADERS_MAX],
    len: u8,
    l2_len: u8,
    l3_len: u8,
    /// The sum of both addresses: most of every pseudo-header's.
    addresses: Sum,
}

impl Headers {
    pub(crate) const EMPTY: Headers = Headers {
        bytes: [0; TxFrame::HEADERS_MAX],
        len: 0,
        l2_len: 0,
        l3_len: 0,
        addresses: Sum::ZERO,
    };

    pub(crate) fn ethernet(link: Link, protocol: EthernetProtocol) -> Self {
        let mut headers = Self::EMPTY;
        let mut frame = EthernetFrame::new_unchecked(&mut headers.bytes[..]);
        frame.set_dst_addr(EthernetAddress(link.destination.0));
        frame.set_src_addr(EthernetAddress(link.source.0));
        headers.l2_len = match link.vlan {
            None => {
                frame.set_ethertype(protocol);
                14
            }
            Some(id) => {
                frame.set_ethertype(EthernetProtocol::Unknown(0x8100));
                headers.bytes[14..16].copy_from_slice(&id.to_be_bytes());
                headers.bytes[16..18].copy_from_slice(&u16::from(protocol).to_be_bytes());
                18
            }
        };
        headers.len = headers.l2_len;
        headers
    }

    /// An Ethernet and an IP header. The length fields are for `payload_len`
    /// bytes after the IP header; [`Headers::set_payload_len`] changes them.
    pub(crate) fn ip(
        link: Link,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        hop_limit: u8,
        payload_len: usize,
    ) -> Self {
        let mut headers = match destination {
            IpAddr::V4(_) => Self::ethernet(link, EthernetProtocol::Ipv4),
            IpAddr::V6(_) => Self::ethernet(link, EthernetProtocol::Ipv6),
        };
        let l3 = &mut headers.bytes[headers.l2_len as usize..];
        match (source, destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut packet = Ipv6Packet::new_unchecked(l3);
                packet.set_version(6);
                packet.set_traffic_class(0);
                packet.set_flow_label(0);
                packet.set_next_header(IpProtocol::from(protocol));
                packet.set_hop_limit(hop_limit);
                packet.set_src_addr(source);
                packet.set_dst_addr(destination);
                headers.l3_len = IPV6_LEN as u8;
            }
            (source, destination) => {
                let mut packet = Ipv4Packet::new_unchecked(l3);
                packet.set_version(4);
                packet.set_header_len(IPV4_LEN as u8);
                // RFC 1191: every packet may find out the path's MTU. An
                // identification of zero is fine for what is never fragmented (RFC 6864, 4.1).
                packet.clear_flags();
                packet.set_dont_frag(true);
                packet.set_hop_limit(hop_limit);
                packet.set_next_header(IpProtocol::from(protocol));
                packet.set_src_addr(v4_or_unspecified(source));
                packet.set_dst_addr(v4_or_unspecified(destination));
                headers.l3_len = IPV4_LEN as u8;
            }
        }
        headers.len = headers.l2_len + headers.l3_len;
        let l3 = headers.l2_len as usize;
        let addresses = if headers.is_ipv6() {
            l3 + 8..l3 + 40
        } else {
            l3 + 12..l3 + 20
        };
        headers.addresses = Sum::ZERO.bytes(&headers.bytes[addresses]);
        headers.set_payload_len(payload_len);
        headers
    }

    /// Sets the length of what follows the IP header, and the IPv4 header's checksum.
    #[inline(never)]
    pub(crate) fn set_payload_len(&mut self, payload_len: usize) {
        self.set_lengths(payload_len);
        if !self.is_ipv6() {
            let l3 = self.l2_len as usize;
            let sum = Sum::ZERO.bytes(&self.bytes[l3..l3 + IPV4_LEN]);
            let mut packet = Ipv4Packet::new_unchecked(&mut self.bytes[l3..]);
            packet.set_checksum(sum.checksum());
        }
    }

    /// Sets the length, and the IPv4 header's checksum to zero.
    #[inline]
    fn set_lengths(&mut self, payload_len: usize) {
        let is_ipv6 = self.is_ipv6();
        let l3 = self.bytes[self.l2_len as usize..].first_chunk_mut::<IPV4_LEN>();
        let Some(l3) = l3 else { return };
        if is_ipv6 {
            // RFC 8200, section 3: the payload's length.
            l3[4..6].copy_from_slice(&(payload_len as u16).to_be_bytes());
        } else {
            // RFC 791, 3.1: the total length, and the checksum.
            let total_len = (IPV4_LEN + payload_len) as u16;
            l3[2..4].copy_from_slice(&total_len.to_be_bytes());
            l3[10..12].fill(0);
        }
    }

    /// The sum of the pseudo-header for `l4_len` bytes of `protocol`.
    pub(crate) fn pseudo(&self, protocol: u8, l4_len: usize) -> Sum {
        self.addresses.pseudo(protocol, l4_len)
    }

    pub(crate) fn is_ipv6(&self) -> bool {
        self.l3_len as usize == IPV6_LEN
    }

    /// Sets where the frame goes on the link.
    #[inline]
    pub(crate) fn set_destination(&mut self, mac: MacAddress) {
        self.bytes[..6].copy_from_slice(&mac.0);
    }

    /// Sets where the frame comes from on the link.
    pub(crate) fn set_source(&mut self, mac: MacAddress) {
        self.bytes[6..12].copy_from_slice(&mac.0);
    }

    /// Where the frame goes on the link.
    pub(crate) fn destination(&self) -> MacAddress {
        let mut mac = MacAddress::default();
        mac.0.copy_from_slice(&self.bytes[..6]);
        mac
    }

    /// Sets the ECN bits. The IPv4 checksum is right again after [`Headers::set_payload_len`].
    #[inline]
    pub(crate) fn set_ecn(&mut self, ecn: u8) {
        let l3 = self.l2_len as usize;
        if self.is_ipv6() {
            self.bytes[l3 + 1] = self.bytes[l3 + 1] & !0x30 | ecn << 4;
        } else {
            self.bytes[l3 + 1] = self.bytes[l3 + 1] & !3 | ecn;
        }
    }

    /// Completes a TCP segment whose header ends these headers: lengths and
    /// checksums, or what the port needs to complete them itself.
    pub(crate) fn finish_tcp(
        &mut self,
        tcp_len: usize,
        payload: &Payload<'_>,
        offload: &Offload,
        tso_mss: Option<u16>,
    ) -> TxOffload {
        let l4 = self.len as usize - tcp_len;
        self.complete(l4..l4 + tcp_len, payload, offload, tso_mss)
    }

    /// Writes a TCP header behind these headers, which stay what they are: the
    /// next one is written over it. Returns all of them, complete.
    #[inline(always)]
    pub(crate) fn with_tcp(
        &mut self,
        tcp: &PlainTcp,
        payload: &Payload<'_>,
        offload: &Offload,
        tso_mss: Option<u16>,
    ) -> (&[u8], TxOffload) {
        let l4 = self.len as usize;
        let tcp_len = match self.bytes[l4..].first_chunk_mut() {
            Some(room) => tcp.emit(room),
            None => 0,
        };
        let offload = self.complete(l4..l4 + tcp_len, payload, offload, tso_mss);
        (&self.bytes[..l4 + tcp_len], offload)
    }

    /// Completes a TCP segment whose header lies at `tcp`.
    #[inline(always)]
    fn complete(
        &mut self,
        tcp: Range<usize>,
        payload: &Payload<'_>,
        offload: &Offload,
        tso_mss: Option<u16>,
    ) -> TxOffload {
        let tcp_len = tcp.len();
        let l4_len = tcp_len + payload.len();
        let ip_checksum = offload.tx_ip_checksum && !self.is_ipv6();
        if ip_checksum {
            self.set_lengths(l4_len);
        } else {
            self.set_payload_len(l4_len);
        }
        let sum = if offload.tx_l4_checksum {
            // What DPDK asks for (rte_ipv4_phdr_cksum): the pseudo-header's sum,
            // without the length if there will be several.
            let len = if tso_mss.is_some() { 0 } else { l4_len };
            self.pseudo(protocol::TCP, len).folded()
        } else {
            self.sum_up(tcp.clone(), payload)
        };
        self.bytes[tcp][16..18].copy_from_slice(&sum.to_be_bytes());
        TxOffload {
            l2_len: self.l2_len,
            l3_len: self.l3_len,
            l4_len: tcp_len as u8,
            ipv6: self.is_ipv6(),
            ip_checksum,
            l4_checksum: offload.tx_l4_checksum,
            tso_mss,
        }
    }

    /// The checksum of a TCP segment, in software.
    #[inline(never)]
    fn sum_up(&self, tcp: Range<usize>, payload: &Payload<'_>) -> u16 {
        let sum = self
            .pseudo(protocol::TCP, tcp.len() + payload.len())
            .bytes(&self.bytes[tcp]);
        payload
            .pieces()
            .fold(sum, |sum, piece| sum.bytes(piece.bytes()))
            .checksum()
    }

    /// Makes room for `len` more zeroed bytes and returns it.
    pub(crate) fn extend(&mut self, len: usize) -> &mut [u8] {
        let from = self.len as usize;
        self.len += len as u8;
        let room = &mut self.bytes[from..from + len];
        room.fill(0);
        room
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

fn v4_or_unspecified(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        // Never built from addresses of both versions.
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

/// The solicited-node group of an address (RFC 4291, section 2.7.1).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}
