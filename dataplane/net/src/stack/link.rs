//! Neighbours: asking and answering.

use std::net::{IpAddr, Ipv6Addr};

use crate::address::MacAddress;
use crate::event::CloseReason;
use crate::link::arp::{self, Arp};
use crate::link::emit::Link;
use crate::link::ethernet::Ethernet;
use crate::link::icmp6;
use crate::link::neighbor::{Action, Heard, NeighborIndex};
use crate::stack::Stack;
use crate::stack::notice::News;
use crate::tcp::{State, has};

impl Stack {
    pub(super) fn advance_link(&mut self) {
        self.advance_claims();
        let now = self.cx.now;
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
    fn give_up_opening(&mut self, neighbor: NeighborIndex) {
        let mut waiting = std::mem::take(self.neighbors.waiting(neighbor));
        while let Some(index) = self.cx.transmit_links.pop_front(&mut waiting) {
            let connection = &mut self.connections[index];
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
        // Another shard may have asked, which knows nothing yet.
        if (news || heard.solicited) && tell {
            self.notices.push(News::Neighbor { address, mac });
        }
        let Some(neighbor) = ready else { return };
        let mut waiting = std::mem::take(self.neighbors.waiting(neighbor));
        while let Some(index) = self.cx.transmit_links.pop_front(&mut waiting) {
            self.connections[index].clear(has::PARKED);
            self.cx.wake(index);
        }
    }

    /// RFC 826's reception algorithm, with the checks of RFC 5227.
    pub(super) fn on_arp(&mut self, ethernet: &Ethernet, bytes: &[u8]) {
        let Some(arp) = Arp::parse(bytes) else {
            events::dropped!(self.cx.counters, arp_malformed);
            return;
        };
        let (sender, target) = (IpAddr::V4(arp.sender), IpAddr::V4(arp.target));
        if arp.sender_mac == self.interface.mac || !arp.sender_mac.is_unicast() {
            return;
        }
        // RFC 5227, 2.1.1 and 2.4: one of ours is another's; or wanted by another, too.
        if self.interface.has(sender) {
            self.on_conflict(sender, arp.sender_mac);
            return;
        }
        if arp.request && arp.sender.is_unspecified() && self.gives_way(target, arp.sender_mac) {
            return;
        }
        let for_us = self.interface.is_ours(target);
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

    /// RFC 4861, 7.2.3 and 7.2.4; RFC 4862, 5.4.3.
    pub(super) fn on_solicitation(
        &mut self,
        ethernet: &Ethernet,
        source: Ipv6Addr,
        target: Ipv6Addr,
        source_mac: Option<MacAddress>,
    ) {
        let (detecting, from) = (source.is_unspecified(), ethernet.source);
        if detecting && source_mac.is_some() {
            events::dropped!(self.cx.counters, nd_malformed);
            return;
        }
        if self.interface.has(IpAddr::V6(source)) && from != self.interface.mac {
            self.on_conflict(IpAddr::V6(source), from);
        }
        // RFC 4861, 7.1.1: it is from a host, or from one that is still to have its address.
        if !detecting && !self.can_answer(IpAddr::V6(source), from) {
            events::dropped!(self.cx.counters, ip_source_bad);
            return;
        }
        if detecting && from != self.interface.mac && self.gives_way(IpAddr::V6(target), from) {
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
        ethernet: &Ethernet,
        target: Ipv6Addr,
        mac: Option<MacAddress>,
        solicited: bool,
        replace: bool,
    ) {
        if self.interface.has(IpAddr::V6(target)) {
            let from = mac.unwrap_or(ethernet.source);
            if from != self.interface.mac {
                self.on_conflict(IpAddr::V6(target), from);
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
}
