//! Ethernet II frames, with or without one 802.1Q tag.

use smoltcp::wire::{EthernetFrame, EthernetProtocol};

use crate::address::MacAddress;

const TAG: u16 = 0x8100;
pub(crate) const HEADER_LEN: usize = 14;
const TAG_LEN: usize = 4;

/// What the stack needs to know of an Ethernet header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ethernet {
    pub(crate) source: MacAddress,
    pub(crate) destination: MacAddress,
    pub(crate) protocol: EtherType,
    /// The VLAN the frame is in; priority tags (VLAN 0) count as none.
    pub(crate) vlan: Option<u16>,
    /// Where the network header begins.
    pub(crate) payload: usize,
}

/// The protocols the stack speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EtherType {
    Ipv4,
    Ipv6,
    Arp,
    Other,
}

impl Ethernet {
    /// Reads the header at the front of `head`. `stripped` is the tag that the port took off.
    #[inline]
    pub(crate) fn parse(head: &[u8], stripped: Option<u16>) -> Option<Self> {
        let frame = EthernetFrame::new_checked(head).ok()?;
        let mut protocol = u16::from(frame.ethertype());
        let mut payload = HEADER_LEN;
        let mut tci = stripped;
        if protocol == TAG {
            let tag = head.get(HEADER_LEN..HEADER_LEN + TAG_LEN)?;
            tci = Some(u16::from_be_bytes([tag[0], tag[1]]));
            protocol = u16::from_be_bytes([tag[2], tag[3]]);
            payload += TAG_LEN;
        }
        Some(Self {
            source: MacAddress(frame.src_addr().0),
            destination: MacAddress(frame.dst_addr().0),
            protocol: match EthernetProtocol::from(protocol) {
                EthernetProtocol::Ipv4 => EtherType::Ipv4,
                EthernetProtocol::Ipv6 => EtherType::Ipv6,
                EthernetProtocol::Arp => EtherType::Arp,
                EthernetProtocol::Unknown(_) => EtherType::Other,
            },
            vlan: tci.map(|tci| tci & 0x0fff).filter(|&id| id != 0),
            payload,
        })
    }
}
