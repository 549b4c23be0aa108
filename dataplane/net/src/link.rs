//! Below TCP: Ethernet, IP, ARP and neighbour discovery, ICMP.

pub(crate) mod arp;
pub(crate) mod checksum;
pub(crate) mod claim;
pub(crate) mod control;
pub(crate) mod emit;
pub(crate) mod ethernet;
pub(crate) mod icmp;
pub(crate) mod icmp6;
pub(crate) mod interface;
pub(crate) mod ip;
pub(crate) mod neighbor;
pub(crate) mod pmtu;

/// Protocol numbers (IANA).
pub(crate) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const ICMPV6: u8 = 58;
}

/// The two bits of ECN in an IP header (RFC 3168, section 5).
pub(crate) mod ecn {
    pub(crate) const NOT_ECT: u8 = 0b00;
    pub(crate) const ECT0: u8 = 0b10;
    pub(crate) const CE: u8 = 0b11;
}
