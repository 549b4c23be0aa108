//! Addresses: of interfaces, of networks, of neighbours.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Every station on the link.
    pub const BROADCAST: MacAddress = MacAddress([0xff; 6]);

    /// Whether the group bit is set (broadcast included).
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether one station can have this address.
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Self::default()
    }

    /// The group address an IPv6 multicast destination maps to (RFC 2464, section 7).
    pub const fn for_ipv6_multicast(group: Ipv6Addr) -> Self {
        let o = group.octets();
        Self([0x33, 0x33, o[12], o[13], o[14], o[15]])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Text that is no address, or no network, of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(&'static str);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for AddressError {}

impl FromStr for MacAddress {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        const WANTED: AddressError =
            AddressError("an Ethernet address is six bytes in hex, as in 02:00:00:00:00:01");
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(WANTED)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| WANTED)?;
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(WANTED),
        }
    }
}

/// An address and the length of its network's prefix, as in `192.0.2.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// `None` if the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix_len: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (prefix_len <= bits).then_some(Self {
            address,
            prefix_len,
        })
    }

    /// The address, host part included.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Length of the prefix in bits.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Whether `other` lies in this network.
    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let mask = (!0u32).checked_shl(32 - u32::from(self.prefix_len));
                (u32::from(a) ^ u32::from(b)) & mask.unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let mask = (!0u128).checked_shl(128 - u32::from(self.prefix_len));
                (u128::from(a) ^ u128::from(b)) & mask.unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// The network's directed broadcast address, where it has one.
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.address {
            // RFC 3021: networks of 31 bits have none.
            IpAddr::V4(a) if self.prefix_len < 31 => {
                Some(Ipv4Addr::from(u32::from(a) | (!0u32 >> self.prefix_len)))
            }
            _ => None,
        }
    }
}

impl Cidr {
    /// Whether a host can have `address`, as far as this network knows: not if it is the
    /// network's own, or its directed broadcast address (RFC 1122, 3.2.1.3 and 3.3.6).
    pub(crate) fn is_host(&self, address: IpAddr) -> bool {
        let (Some(broadcast), IpAddr::V4(address)) = (self.broadcast(), address) else {
            return true;
        };
        let network = u32::from(broadcast) & !(!0u32 >> self.prefix_len);
        address != broadcast && u32::from(address) != network
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl FromStr for Cidr {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        const WANTED: AddressError = AddressError(
            "an address is written with its prefix, as in 192.0.2.1/24 or 2001:db8::1/64",
        );
        let (address, prefix_len) = text.split_once('/').ok_or(WANTED)?;
        let address = address.parse().map_err(|_| WANTED)?;
        let prefix_len = prefix_len.parse().map_err(|_| WANTED)?;
        Cidr::new(address, prefix_len).ok_or(WANTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_own() {
        let net: Cidr = "192.0.2.77/26".parse().unwrap();
        assert!(net.contains("192.0.2.64".parse().unwrap()));
        assert!(!net.contains("192.0.2.128".parse().unwrap()));
        assert_eq!(net.broadcast(), Some(Ipv4Addr::new(192, 0, 2, 127)));
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("203.0.113.9".parse().unwrap()));
        assert!(!all.contains("2001:db8::1".parse().unwrap()));
        let six: Cidr = "2001:db8::5/64".parse().unwrap();
        assert!(six.contains("2001:db8::ffff".parse().unwrap()));
        assert!(!six.contains("2001:db8:0:1::1".parse().unwrap()));
        assert!("10.0.0.1/33".parse::<Cidr>().is_err());
    }

    #[test]
    fn ethernet_addresses_are_read_and_written() {
        let mac: MacAddress = "02:00:5e-00:00:0A".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:00:00:0a");
        assert!("02:00:5e:00:00".parse::<MacAddress>().is_err());
        assert!("02:00:5e:00:00:0a:00".parse::<MacAddress>().is_err());
        assert!("2:0:5e:0:0:a".parse::<MacAddress>().is_err());
    }
}
