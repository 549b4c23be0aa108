//! ICMPv6 (RFC 4443), neighbour discovery (RFC 4861), duplicate address
//! detection (RFC 4862) and multicast listener reports (RFC 3810).
//!
//! Addresses and routes are configured: router advertisements and redirects are ignored.

use std::net::Ipv6Addr;

use smoltcp::wire::{
    Icmpv6Message, Icmpv6Packet, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
};

use crate::address::MacAddress;
use crate::link::emit::{Headers, Link, solicited_node};
use crate::link::icmp::{self, Message, Problem};
use crate::link::protocol;

/// RFC 4861, 7.1: nothing from beyond the link has this hop limit.
pub(crate) const ND_HOP_LIMIT: u8 = 255;

/// A received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message6 {
    /// What ICMP has for both versions.
    Common(Message),
    Solicitation {
        target: Ipv6Addr,
        source_mac: Option<MacAddress>,
    },
    Advertisement {
        target: Ipv6Addr,
        target_mac: Option<MacAddress>,
        solicited: bool,
        replace: bool,
    },
}

/// Reads an ICMPv6 message whose checksum is right; `None` if it is malformed.
pub(crate) fn parse(bytes: &[u8], hop_limit: u8) -> Option<Message6> {
    let packet = Icmpv6Packet::new_checked(bytes).ok()?;
    let problem = match (packet.msg_type(), packet.msg_code()) {
        (Icmpv6Message::EchoRequest, 0) => return Some(Message6::Common(Message::EchoRequest)),
        (Icmpv6Message::NeighborSolicit | Icmpv6Message::NeighborAdvert, code) => {
            if hop_limit != ND_HOP_LIMIT || code != 0 {
                return None;
            }
            return parse_nd(bytes);
        }
        (Icmpv6Message::PktTooBig, _) => Problem::TooBig {
            mtu: packet.pkt_too_big_mtu() as usize,
        },
        // Administratively prohibited, port unreachable, failed policy, reject route.
        (Icmpv6Message::DstUnreachable, 1 | 4 | 5 | 6) => Problem::Refused,
        // RFC 4443, 3.4: an unrecognised next header is a protocol unreachable.
        (Icmpv6Message::ParamProblem, 1) => Problem::Refused,
        (Icmpv6Message::DstUnreachable | Icmpv6Message::TimeExceeded, _) => Problem::Unreachable,
        _ => return Some(Message6::Common(Message::Other)),
    };
    icmp::quoted_v6(bytes.get(8..)?, problem).map(Message6::Common)
}

fn parse_nd(bytes: &[u8]) -> Option<Message6> {
    // RFC 4861, 7.1.1 and 7.1.2: every option has a length that is not zero.
    let mut options = bytes.get(24..)?;
    while !options.is_empty() {
        let len = *options.get(1)? as usize * 8;
        if len == 0 {
            return None;
        }
        options = options.get(len..)?;
    }
    let packet = Icmpv6Packet::new_checked(bytes).ok()?;
    let mac = |address: Option<RawHardwareAddress>| {
        address
            .and_then(|address| address.as_bytes().try_into().ok())
            .map(MacAddress)
    };
    let message = match NdiscRepr::parse(&packet).ok()? {
        NdiscRepr::NeighborSolicit {
            target_addr,
            lladdr,
        } => Message6::Solicitation {
            target: target_addr,
            source_mac: mac(lladdr),
        },
        NdiscRepr::NeighborAdvert {
            flags,
            target_addr,
            lladdr,
        } => Message6::Advertisement {
            target: target_addr,
            target_mac: mac(lladdr),
            solicited: flags.contains(NdiscNeighborFlags::SOLICITED),
            replace: flags.contains(NdiscNeighborFlags::OVERRIDE),
        },
        _ => return Some(Message6::Common(Message::Other)),
    };
    let (Message6::Solicitation { target, .. } | Message6::Advertisement { target, .. }) = message
    else {
        return Some(message);
    };
    (!target.is_multicast()).then_some(message)
}

/// Asks who has `target`. From the unspecified address it is duplicate address
/// detection, and names no Ethernet address (RFC 4862, 5.4.2).
pub(crate) fn solicitation(
    source_mac: MacAddress,
    vlan: Option<u16>,
    source: Ipv6Addr,
    target: Ipv6Addr,
    known: Option<MacAddress>,
) -> Headers {
    let (destination, mac) = match known {
        Some(mac) => (target, mac),
        None => {
            let group = solicited_node(target);
            (group, MacAddress::for_ipv6_multicast(group))
        }
    };
    let link = Link {
        source: source_mac,
        destination: mac,
        vlan,
    };
    let repr = NdiscRepr::NeighborSolicit {
        target_addr: target,
        lladdr: (!source.is_unspecified()).then(|| RawHardwareAddress::from_bytes(&source_mac.0)),
    };
    emit_nd(link, source, destination, repr)
}

/// Says that `target`, one of our addresses, is here.
pub(crate) fn advertisement(
    link: Link,
    target: Ipv6Addr,
    destination: Ipv6Addr,
    solicited: bool,
) -> Headers {
    let flags = if solicited {
        NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE
    } else {
        NdiscNeighborFlags::OVERRIDE
    };
    let repr = NdiscRepr::NeighborAdvert {
        flags,
        target_addr: target,
        lladdr: Some(RawHardwareAddress::from_bytes(&link.source.0)),
    };
    emit_nd(link, target, destination, repr)
}

fn emit_nd(link: Link, source: Ipv6Addr, destination: Ipv6Addr, repr: NdiscRepr<'_>) -> Headers {
    let len = repr.buffer_len();
    let mut headers = Headers::ip(
        link,
        source.into(),
        destination.into(),
        protocol::ICMPV6,
        ND_HOP_LIMIT,
        len,
    );
    let pseudo = headers.pseudo(protocol::ICMPV6, len);
    let bytes = headers.extend(len);
    repr.emit(&mut Icmpv6Packet::new_unchecked(&mut *bytes));
    bytes[2..4].fill(0);
    let checksum = pseudo.bytes(bytes).checksum();
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    headers
}

/// Tells multicast routers and snooping switches that the interface listens to
/// `group` (RFC 3810, 5.2; RFC 4861, 7.2.1 needs it for solicited-node groups).
pub(crate) fn listener_report(
    source_mac: MacAddress,
    vlan: Option<u16>,
    source: Ipv6Addr,
    group: Ipv6Addr,
) -> Headers {
    const ALL_MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
    const REPORT: u8 = 143;
    const CHANGE_TO_EXCLUDE: u8 = 4;
    const LEN: usize = 8 + 20;
    let link = Link {
        source: source_mac,
        destination: MacAddress::for_ipv6_multicast(ALL_MLDV2_ROUTERS),
        vlan,
    };
    // RFC 3810, section 5: a hop limit of one, and a router alert (RFC 2711).
    let mut headers = Headers::ip(link, source.into(), ALL_MLDV2_ROUTERS.into(), 0, 1, 8 + LEN);
    let pseudo = headers.pseudo(protocol::ICMPV6, LEN);
    headers
        .extend(8)
        .copy_from_slice(&[protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0]);
    let bytes = headers.extend(LEN);
    bytes[0] = REPORT;
    bytes[7] = 1;
    bytes[8] = CHANGE_TO_EXCLUDE;
    bytes[12..28].copy_from_slice(&group.octets());
    let checksum = pseudo.bytes(bytes).checksum();
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    headers
}
