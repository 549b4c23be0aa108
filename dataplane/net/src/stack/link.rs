//! Neighbours: asking, answering, and claiming our own addresses.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::address::MacAddress;
use crate::event::CloseReason;
use crate::link::arp::{self, Arp};
use crate::link::emit::{Link, solicited_node};
use crate::link::ethernet::Ethernet;
use crate::link::icmp6;
use crate::link::neighbor::{Action, Heard};
use crate::stack::Stack;
use crate::stack::notice::News;
use crate::tcp::{State, has};
use crate::time::Instant;

/// RFC 4862, 5.4: DupAddrDetectTransmits of 1, and RetransTimer after it.
const DAD_WAIT: Duration = Duration::from_secs(1);
/// RFC 5227, 1.1: ANNOUNCE_NUM, ANNOUNCE_INTERVAL, DEFEND_INTERVAL.
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// What is still to do before the interface is fully up.
#[derive(Default)]
pub(super) struct Start {
    pub(super) begun: bool,
    /// When duplicate address detection is over.
    dad_ends: Option<Instant>,
    announced: u8,
    announce_at: Option<Instant>,
    defended_at: Option<Instant>,
}

impl Start {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.dad_ends.into_iter().chain(self.announce_at).min()
    }
}

impl Stack {
    /// Claims the addresses: IPv4 announces, IPv6 asks first.
    pub(super) fn begin_link(&mut self) {
        self.start.begun = true;
        if self.config.owns_addresses {
            self.start.announce_at = Some(self.cx.now);
        }
        if !self.config.duplicate_address_detection {
            return;
        }
        for own in self.interface.addresses_mut() {
            if own.net.address().is_ipv6() {
                // RFC 4862, 5.4: tentative until nobody has objected.
                own.usable = false;
                self.start.dad_ends = Some(self.cx.now + DAD_WAIT);
            }
        }
        if !self.config.owns_addresses {
            // Another shard asks. Whichever hears an answer tells the others.
            return;
        }
        let (mac, vlan) = (self.interface.mac, self.interface.vlan);
        for own in self.interface.addresses() {
            let IpAddr::V6(address) = own.net.address() else {
                continue;
            };
            let from = Ipv6Addr::UNSPECIFIED;
            let group = solicited_node(address);
            self.control
                .push(icmp6::listener_report(mac, vlan, from, group));
            self.control
                .push(icmp6::solicitation(mac, vlan, from, address, None));
        }
    }

    pub(super) fn advance_link(&mut self) {
        let now = self.cx.now;
        if self.start.dad_ends.is_some_and(|end| end <= now) {
            self.start.dad_ends = None;
            for own in self.interface.addresses_mut() {
                own.usable |= own.net.address().is_ipv6() && !own.conflict;
            }
            self.start.announced = 0;
            self.start.announce_at = self.config.owns_addresses.then_some(now);
        }
        if self.start.announce_at.is_some_and(|at| at <= now) {
            self.start.announced += 1;
            self.start.announce_at =
                (self.start.announced < ANNOUNCEMENTS).then_some(now + ANNOUNCE_INTERVAL);
            self.announce();
        }
        while let Some(action) = self.neighbors.expire(now) {
            match action {
                Action::Solicit(address, known) => self.solicit(address, known),
                Action::Failed(index) => {
                    self.cx.counters.neighbor_failed += 1;
                    self.give_up_opening(index);
                }
            }
        }
    }

    /// Tells the link where our addresses are: gratuitous ARP (RFC 5227, 2.3),
    /// unsolicited advertisements (RFC 4861, 7.2.6).
    fn announce(&mut self) {
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        for own in self.interface.addresses().iter().filter(|own| own.usable) {
            let headers = match own.net.address() {
                IpAddr::V4(address) => {
                    let link = self.interface.link_to(MacAddress::BROADCAST);
                    arp::request(link, address, address)
                }
                IpAddr::V6(address) => {
                    let mac = MacAddress::for_ipv6_multicast(ALL_NODES);
                    let link = self.interface.link_to(mac);
                    icmp6::advertisement(link, address, ALL_NODES, false)
                }
            };
            self.control.push(headers);
        }
    }

    /// Asks who has `address`; the one who had it, if known.
    pub(super) fn solicit(&mut self, address: IpAddr, known: Option<MacAddress>) {
        let Some(source) = self.interface.source_for(address) else {
            return;
        };
        let headers = match (source, address) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let to = known.unwrap_or(MacAddress::BROADCAST);
                arp::request(self.interface.link_to(to), source, target)
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let (mac, vlan) = (self.interface.mac, self.interface.vlan);
                icmp6::solicitation(mac, vlan, source, target, known)
            }
            _ => return,
        };
        self.cx.counters.neighbor_solicited += 1;
        self.control.push(headers);
    }

    /// Connections that are being opened through a neighbour that does not
    /// answer fail; others keep waiting, as they would for a silent peer.
    fn give_up_opening(&mut self, neighbor: u32) {
        let mut waiting = std::mem::take(self.neighbors.waiting(neighbor));
        while let Some(index) = self.cx.transmit_links.pop_front(&mut waiting) {
            let connection = &mut self.connections[index as usize];
            connection.clear(has::PARKED);
            if connection.state == State::SynSent {
                connection.finish(&mut self.cx, CloseReason::Unreachable);
                self.settle(index);
            } else {
                // Back in line: it parks again, and the asking goes on.
                self.cx.wake(index);
            }
        }
    }

    /// A neighbour said where it is.
    pub(super) fn hear(&mut self, address: IpAddr, mac: MacAddress, heard: Heard, tell: bool) {
        if self.interface.next_hop(address) != Some(address) || !self.interface.is_host(address) {
            return;
        }
        let now = self.cx.now;
        let evicted = &mut self.cx.counters.neighbor_evicted;
        let (ready, news) = self.neighbors.hear(address, mac, heard, now, evicted);
        if news && tell {
            self.notices.push(News::Neighbor { address, mac });
        }
        let Some(neighbor) = ready else { return };
        let mut waiting = std::mem::take(self.neighbors.waiting(neighbor));
        while let Some(index) = self.cx.transmit_links.pop_front(&mut waiting) {
            self.connections[index as usize].clear(has::PARKED);
            self.cx.wake(index);
        }
    }

    /// RFC 826's reception algorithm, with the checks of RFC 5227.
    pub(super) fn on_arp(&mut self, ethernet: &Ethernet, bytes: &[u8]) {
        let Some(arp) = Arp::parse(bytes) else {
            events::dropped!(self.cx.counters, arp_malformed);
            return;
        };
        let sender = IpAddr::V4(arp.sender);
        if self.interface.is_ours(sender) && arp.sender_mac != self.interface.mac {
            self.defend(sender);
            return;
        }
        if self.interface.is_ours(sender) || !arp.sender_mac.is_unicast() {
            return;
        }
        let for_us = self.interface.is_ours(IpAddr::V4(arp.target));
        if !arp.sender.is_unspecified() {
            if !self.interface.is_host(sender) {
                events::dropped!(self.cx.counters, ip_source_bad);
                return;
            }
            let to_us = ethernet.destination == self.interface.mac;
            let heard = Heard {
                solicited: for_us && !arp.request && to_us,
                replace: true,
                // RFC 826: remember who asks for us; it is about to talk to us.
                remember: for_us && (arp.request || to_us),
            };
            self.hear(sender, arp.sender_mac, heard, true);
        }
        if arp.request && for_us {
            self.cx.counters.arp_answered += 1;
            let link = self.interface.link_to(arp.sender_mac);
            if !self.control.push(arp::reply(link, arp.target, &arp)) {
                self.cx.counters.replies_limited += 1;
            }
        }
    }

    /// RFC 5227, 2.4 (c): an address in use is defended, at most every ten seconds.
    fn defend(&mut self, address: IpAddr) {
        self.cx.counters.address_conflicts += 1;
        let now = self.cx.now;
        let last = self.start.defended_at;
        if last.is_some_and(|last| now.since(last) < DEFEND_INTERVAL) {
            return;
        }
        self.start.defended_at = Some(now);
        if let IpAddr::V4(address) = address {
            let link = self.interface.link_to(MacAddress::BROADCAST);
            self.control.push(arp::request(link, address, address));
        }
    }

    /// RFC 4861, 7.2.3 and 7.2.4; RFC 4862, 5.4.3.
    pub(super) fn on_solicitation(
        &mut self,
        ethernet: &Ethernet,
        source: Ipv6Addr,
        target: Ipv6Addr,
        source_mac: Option<MacAddress>,
    ) {
        let detecting = source.is_unspecified();
        if detecting && source_mac.is_some() {
            events::dropped!(self.cx.counters, nd_malformed);
            return;
        }
        // RFC 4861, 7.1.1: it is from a host, or from one that is still to have its address.
        if !detecting && !self.can_answer(IpAddr::V6(source), ethernet.source) {
            events::dropped!(self.cx.counters, ip_source_bad);
            return;
        }
        if detecting && ethernet.source != self.interface.mac && self.give_way(target) {
            return;
        }
        if !self.interface.is_ours(IpAddr::V6(target)) {
            return;
        }
        if let Some(mac) = source_mac {
            let heard = Heard {
                solicited: false,
                replace: true,
                remember: true,
            };
            self.hear(IpAddr::V6(source), mac, heard, true);
        }
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let (to, mac) = if detecting {
            (ALL_NODES, MacAddress::for_ipv6_multicast(ALL_NODES))
        } else {
            (source, source_mac.unwrap_or(ethernet.source))
        };
        self.cx.counters.nd_answered += 1;
        let link: Link = self.interface.link_to(mac);
        let answer = icmp6::advertisement(link, target, to, !detecting);
        if !self.control.push(answer) {
            self.cx.counters.replies_limited += 1;
        }
    }

    /// RFC 4861, 7.2.5; RFC 4862, 5.4.4.
    pub(super) fn on_advertisement(
        &mut self,
        target: Ipv6Addr,
        mac: Option<MacAddress>,
        solicited: bool,
        replace: bool,
    ) {
        if self.give_way(target) {
            return;
        }
        if self.interface.is_ours(IpAddr::V6(target)) {
            if mac.is_some_and(|mac| mac != self.interface.mac) {
                self.cx.counters.address_conflicts += 1;
            }
            return;
        }
        if let Some(mac) = mac {
            let heard = Heard {
                solicited,
                replace,
                remember: false,
            };
            self.hear(IpAddr::V6(target), mac, heard, true);
        }
    }

    /// Somebody has, or wants, an address that is still tentative here: it is
    /// never used (RFC 4862, 5.4.5). Whether it was such a one.
    fn give_way(&mut self, target: Ipv6Addr) -> bool {
        let address = IpAddr::V6(target);
        let own = self.interface.addresses_mut().iter_mut();
        let mut tentative = own.filter(|own| own.net.address() == address && !own.usable);
        match tentative.next() {
            Some(own) => {
                if !own.conflict {
                    own.conflict = true;
                    self.cx.counters.address_conflicts += 1;
                    self.notices.push(News::Taken { address: target });
                }
                true
            }
            None => false,
        }
    }

    /// Another shard of the port heard that somebody has a tentative address.
    pub(super) fn yield_address(&mut self, taken: Ipv6Addr) {
        for own in self.interface.addresses_mut() {
            if own.net.address() == IpAddr::V6(taken) {
                (own.usable, own.conflict) = (false, true);
            }
        }
    }

    /// Whether `address` of this interface can be used: false while duplicate
    /// address detection runs, and for good if somebody else has it.
    pub fn is_address_usable(&self, address: IpAddr) -> bool {
        self.interface.is_ours(address)
    }
}
