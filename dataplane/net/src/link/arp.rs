//! ARP (RFC 826), with the probes and announcements of RFC 5227.

use std::net::Ipv4Addr;

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetProtocol};

use crate::address::MacAddress;
use crate::link::emit::{Headers, Link};

const LEN: usize = 28;

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arp {
    pub(crate) request: bool,
    pub(crate) sender_mac: MacAddress,
    pub(crate) sender: Ipv4Addr,
    pub(crate) target: Ipv4Addr,
}

impl Arp {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let packet = ArpPacket::new_checked(bytes).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        let request = match operation {
            ArpOperation::Request => true,
            ArpOperation::Reply => false,
            ArpOperation::Unknown(_) => return None,
        };
        Some(Self {
            request,
            sender_mac: MacAddress(source_hardware_addr.0),
            sender: source_protocol_addr,
            target: target_protocol_addr,
        })
    }
}

/// Who has `target`? Asked of everybody, or of the one who had it before.
/// With `target` its own sender, this is an announcement (RFC 5227, 2.3); with the
/// unspecified address for its sender, a probe (2.1.1).
pub(crate) fn request(link: Link, sender: Ipv4Addr, target: Ipv4Addr) -> Headers {
    emit(
        link,
        ArpOperation::Request,
        sender,
        MacAddress::default(),
        target,
    )
}

/// The answer to `asked`, for `sender`, one of our addresses.
pub(crate) fn reply(link: Link, sender: Ipv4Addr, asked: &Arp) -> Headers {
    emit(
        link,
        ArpOperation::Reply,
        sender,
        asked.sender_mac,
        asked.sender,
    )
}

fn emit(
    link: Link,
    operation: ArpOperation,
    sender: Ipv4Addr,
    target_mac: MacAddress,
    target: Ipv4Addr,
) -> Headers {
    let mut headers = Headers::ethernet(link, EthernetProtocol::Arp);
    let mut packet = ArpPacket::new_unchecked(headers.extend(LEN));
    ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(link.source.0),
        source_protocol_addr: sender,
        target_hardware_addr: EthernetAddress(target_mac.0),
        target_protocol_addr: target,
    }
    .emit(&mut packet);
    headers
}
