//! Our own addresses: claimed, announced, defended, and given up to whoever has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::MacAddress;
use crate::link::arp;
use crate::link::claim::{AddressState, Conflict, Due};
use crate::link::emit::solicited_node;
use crate::link::icmp6;
use crate::stack::Stack;
use crate::stack::notice::News;
use crate::time::Instant;

/// How far the stack is with its addresses.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) begun: bool,
    /// How often the state of an address changed.
    changes: u32,
}

impl Stack {
    /// Begins to claim the addresses.
    pub(super) fn begin_claims(&mut self) {
        self.claims.begun = true;
        self.claims.changes += 1;
        let asks = self.config.duplicate_address_detection;
        // One shard asks, and speaks. Whichever hears an answer tells the others.
        let speaks = self.config.owns_addresses;
        let now = self.cx.now;
        for own in self.interface.addresses_mut() {
            own.claim.begin(now, asks, speaks);
        }
        if !(asks && speaks) {
            return;
        }
        let (mac, vlan) = (self.interface.mac, self.interface.vlan);
        for own in self.interface.addresses() {
            if let IpAddr::V6(address) = own.net.address() {
                let group = solicited_node(address);
                let from = Ipv6Addr::UNSPECIFIED;
                (self.control).push(icmp6::listener_report(mac, vlan, from, group));
            }
        }
    }

    pub(super) fn claims_deadline(&self) -> Option<Instant> {
        let addresses = self.interface.addresses().iter();
        addresses.filter_map(|own| own.claim.next_deadline()).min()
    }

    pub(super) fn advance_claims(&mut self) {
        for i in 0..self.interface.addresses().len() {
            loop {
                let own = &mut self.interface.addresses_mut()[i];
                let (before, address) = (own.claim.state(), own.net.address());
                let due = own.claim.poll(self.cx.now);
                if own.claim.state() != before {
                    self.claims.changes += 1;
                }
                let Some(due) = due else { break };
                if !self.config.owns_addresses {
                    continue;
                }
                match due {
                    Due::Probe => self.probe(address),
                    Due::Announce => {
                        if before == AddressState::Probing {
                            self.notices.push(News::Taken { address, by: None });
                        }
                        self.announce(address);
                    }
                    Due::Calm => {}
                }
            }
        }
    }

    /// Asks the link whether somebody has an address (RFC 5227, 2.1.1; RFC 4862, 5.4.2).
    fn probe(&mut self, address: IpAddr) {
        let headers = match address {
            IpAddr::V4(address) => {
                let link = self.interface.link_to(MacAddress::BROADCAST);
                arp::request(link, Ipv4Addr::UNSPECIFIED, address)
            }
            IpAddr::V6(address) => {
                let (mac, vlan) = (self.interface.mac, self.interface.vlan);
                icmp6::solicitation(mac, vlan, Ipv6Addr::UNSPECIFIED, address, None)
            }
        };
        self.control.push(headers);
    }

    /// Tells the link where an address is: gratuitous ARP (RFC 5227, 2.3), an unsolicited
    /// advertisement (RFC 4861, 7.2.6).
    fn announce(&mut self, address: IpAddr) {
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let headers = match address {
            IpAddr::V4(address) => {
                let link = self.interface.link_to(MacAddress::BROADCAST);
                arp::request(link, address, address)
            }
            IpAddr::V6(address) => {
                let mac = MacAddress::for_ipv6_multicast(ALL_NODES);
                icmp6::advertisement(self.interface.link_to(mac), address, ALL_NODES, false)
            }
        };
        self.control.push(headers);
    }

    /// Another station uses one of our addresses. While it is not in use here, we give
    /// way (RFC 5227, 2.1.1; RFC 4862, 5.4.5); one in use is defended, at most every ten
    /// seconds, and kept (RFC 5227, 2.4 (c)): hosts are connected to it.
    pub(super) fn on_conflict(&mut self, address: IpAddr, mac: MacAddress) {
        self.cx.counters.address_conflicts += 1;
        let now = self.cx.now;
        let mut addresses = self.interface.addresses_mut().iter_mut();
        let Some(own) = addresses.find(|own| own.net.address() == address) else {
            return;
        };
        let before = own.claim.state();
        let conflict = own.claim.conflict(mac, now);
        if own.claim.state() != before {
            self.claims.changes += 1;
        }
        match conflict {
            Conflict::Defend => self.announce(address),
            Conflict::GivenWay if before == AddressState::Probing => {
                let by = Some(mac);
                self.notices.push(News::Taken { address, by });
            }
            Conflict::GivenWay | Conflict::Endure => {}
        }
    }

    /// Another station asks whether somebody has `address`. If it is one of ours that is
    /// not in use yet, both of us want it: neither gets it (RFC 5227, 2.1.1; RFC 4862,
    /// 5.4.3). Whether it was such a one.
    pub(super) fn gives_way(&mut self, address: IpAddr, mac: MacAddress) -> bool {
        let gives = self.interface.has(address) && !self.interface.is_ours(address);
        if gives {
            self.on_conflict(address, mac);
        }
        gives
    }

    /// Another shard of the port heard who has an address, or that nobody has.
    pub(super) fn hear_claim(&mut self, address: IpAddr, by: Option<MacAddress>) {
        let now = self.cx.now;
        for own in self.interface.addresses_mut() {
            if own.net.address() == address {
                own.claim.hear(by, now);
                self.claims.changes += 1;
            }
        }
    }

    /// Whether `address` is one of this interface's that is in use: not while the link is
    /// asked whether somebody has it, nor while somebody has.
    pub fn is_address_usable(&self, address: IpAddr) -> bool {
        self.interface.is_ours(address)
    }

    /// The interface's addresses, and how they stand.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, AddressState)> {
        let addresses = self.interface.addresses().iter();
        addresses.map(|own| (own.net.address(), own.claim.state()))
    }

    /// A number that is another when what [`Stack::addresses`] says is.
    #[inline]
    pub fn address_changes(&self) -> u32 {
        self.claims.changes
    }
}
