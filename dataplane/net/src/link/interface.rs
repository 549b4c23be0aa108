//! The interface: its addresses, and which way packets go.

use std::net::{IpAddr, Ipv6Addr};

use crate::address::{Cidr, MacAddress};
use crate::config::{Route, StackConfig, is_unicast};
use crate::link::claim::Claim;
use crate::link::emit::{Link, solicited_node};

/// Addresses, networks and routes of one port.
pub(crate) struct Interface {
    pub(crate) mac: MacAddress,
    pub(crate) vlan: Option<u16>,
    addresses: Box<[Address]>,
    /// Longest prefix first.
    routes: Box<[Route]>,
}

/// One address of the interface.
pub(crate) struct Address {
    pub(crate) net: Cidr,
    /// Whether it is to be used.
    pub(crate) claim: Claim,
}

impl Interface {
    pub(crate) fn new(config: &StackConfig) -> Self {
        let mut routes = config.routes.clone();
        routes.sort_by_key(|route| std::cmp::Reverse(route.to.prefix_len()));
        Self {
            mac: config.mac,
            vlan: config.vlan,
            addresses: config
                .addresses
                .iter()
                .map(|&net| Address {
                    net,
                    claim: Claim::new(net.address().is_ipv4()),
                })
                .collect(),
            routes: routes.into_boxed_slice(),
        }
    }

    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    pub(crate) fn addresses_mut(&mut self) -> &mut [Address] {
        &mut self.addresses
    }

    /// Whether `address` is one of ours and in use.
    #[inline]
    pub(crate) fn is_ours(&self, address: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|own| own.net.address() == address && own.claim.is_usable())
    }

    /// Whether `address` is one of ours, in use or not.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|own| own.net.address() == address)
    }

    /// Whether `group` is one that the interface listens to.
    pub(crate) fn is_our_group(&self, group: Ipv6Addr) -> bool {
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        group == ALL_NODES
            || self.addresses.iter().any(|own| match own.net.address() {
                IpAddr::V6(address) => solicited_node(address) == group,
                IpAddr::V4(_) => false,
            })
    }

    /// Whether a host can have `address`, as far as this link knows.
    pub(crate) fn is_host(&self, address: IpAddr) -> bool {
        is_unicast(address) && self.addresses.iter().all(|own| own.net.is_host(address))
    }

    /// The neighbour to which packets for `remote` are handed.
    pub(crate) fn next_hop(&self, remote: IpAddr) -> Option<IpAddr> {
        if self.addresses.iter().any(|own| own.net.contains(remote)) || is_link_local(remote) {
            return Some(remote);
        }
        let route = self.routes.iter().find(|route| route.to.contains(remote))?;
        Some(route.via)
    }

    /// The address to call `remote` from: one in the next hop's network, of the same scope.
    pub(crate) fn source_for(&self, remote: IpAddr) -> Option<IpAddr> {
        let hop = self.next_hop(remote)?;
        let fits = |own: &&Address| {
            own.claim.is_usable()
                && own.net.address().is_ipv4() == remote.is_ipv4()
                && is_link_local(own.net.address()) == is_link_local(remote)
        };
        let candidates = || self.addresses.iter().filter(fits);
        candidates()
            .find(|own| own.net.contains(hop))
            .or_else(|| candidates().next())
            .map(|own| own.net.address())
    }

    pub(crate) fn link_to(&self, destination: MacAddress) -> Link {
        Link {
            source: self.mac,
            destination,
            vlan: self.vlan,
        }
    }
}

pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface() -> Interface {
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        let mut config = StackConfig::new(mac, "192.0.2.1/24".parse().unwrap(), [0; 32]);
        for address in ["198.51.100.5/28", "2001:db8::1/64", "fe80::1/64"] {
            config.addresses.push(address.parse().unwrap());
        }
        for (to, via) in [
            ("0.0.0.0/0", "192.0.2.254"),
            ("203.0.113.0/24", "198.51.100.1"),
            ("::/0", "fe80::99"),
        ] {
            config.routes.push(Route {
                to: to.parse().unwrap(),
                via: via.parse().unwrap(),
            });
        }
        config.validate().unwrap();
        Interface::new(&config)
    }

    #[test]
    fn the_longest_prefix_wins() {
        let interface = interface();
        let hop = |to: &str| interface.next_hop(to.parse().unwrap()).unwrap().to_string();
        assert_eq!(hop("192.0.2.7"), "192.0.2.7");
        assert_eq!(hop("203.0.113.80"), "198.51.100.1");
        assert_eq!(hop("8.8.8.8"), "192.0.2.254");
        assert_eq!(hop("2001:db8:5::1"), "fe80::99");
    }

    #[test]
    fn packets_leave_from_an_address_of_the_same_network_and_scope() {
        let interface = interface();
        let source = |to: &str| {
            let source = interface.source_for(to.parse().unwrap());
            source.unwrap().to_string()
        };
        assert_eq!(source("203.0.113.80"), "198.51.100.5");
        assert_eq!(source("8.8.8.8"), "192.0.2.1");
        assert_eq!(source("2001:db8:5::1"), "2001:db8::1");
        assert_eq!(source("fe80::7"), "fe80::1");
    }

    #[test]
    fn addresses_of_groups_networks_and_nobody_are_no_hosts() {
        let interface = interface();
        for (address, host) in [
            ("192.0.2.255", false),
            ("192.0.2.0", false),
            ("198.51.100.0", false),
            ("198.51.100.16", true),
            ("255.255.255.255", false),
            ("240.0.0.1", false),
            ("0.1.2.3", false),
            ("224.0.0.1", false),
            ("127.0.0.1", false),
            ("::ffff:192.0.2.7", false),
            ("ff02::1", false),
            ("::1", false),
            ("::", false),
            ("2001:db8::7", true),
            ("fe80::7", true),
            ("192.0.2.7", true),
            ("198.51.100.15", false),
        ] {
            assert_eq!(interface.is_host(address.parse().unwrap()), host);
        }
    }
}
