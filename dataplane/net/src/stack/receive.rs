//! A frame's way in: Ethernet, IP, and whom it is for.

use std::net::IpAddr;

use mutant::mutant;

use crate::address::MacAddress;
use crate::frame::{RxFrame, Verdict};
use crate::link::checksum::Sum;
use crate::link::ethernet::{EtherType, Ethernet};
use crate::link::ip::{Ip, IpError};
use crate::link::protocol;
use crate::pcap::Direction;
use crate::stack::Stack;
use crate::time::Instant;

impl Stack {
    /// Takes a frame that the port received.
    #[inline(never)] // where the cost of TCP begins, for profiles
    pub fn receive(&mut self, now: Instant, frame: RxFrame<'_>) {
        self.begin(now);
        match self.brings_next(&frame) {
            Some(text) => self.take_next(frame.head, text),
            None => self.receive_other(frame),
        }
    }

    #[inline(never)]
    fn receive_other(&mut self, frame: RxFrame<'_>) {
        self.turn_to(frame.head.bytes());
        if let Some((from, segment)) = self.predicts(&frame) {
            return self.receive_predicted(frame.head, from, &segment);
        }
        let now = self.cx.now;
        let head = frame.head.bytes();
        let tail_len: usize = frame.tail.iter().map(|slice| slice.len()).sum();
        let frame_len = head.len() + tail_len;
        self.cx.counters.rx_frames += 1;
        self.cx.counters.rx_bytes += frame_len as u64;
        if let Some(tap) = &mut self.tap {
            let tail = frame.tail.iter().map(|slice| slice.bytes());
            tap.frame(now, Direction::Received, head, &mut { tail });
        }
        let Some(ethernet) = Ethernet::parse(head, frame.vlan) else {
            events::dropped!(self.cx.counters, rx_truncated);
            return;
        };
        if ethernet.destination != self.interface.mac && !ethernet.destination.is_multicast() {
            events::dropped!(self.cx.counters, rx_not_for_us);
            return;
        }
        if ethernet.vlan != self.interface.vlan {
            events::dropped!(self.cx.counters, rx_vlan_mismatch);
            return;
        }
        let l3 = ethernet.payload;
        let ip = match ethernet.protocol {
            EtherType::Ipv4 => {
                let verify = match frame.ip_checksum {
                    Verdict::Unknown => true,
                    Verdict::Good => false,
                    Verdict::Bad => {
                        events::dropped!(self.cx.counters, ip_checksum_bad);
                        return;
                    }
                };
                Ip::parse_v4(head, l3, frame_len, verify)
            }
            EtherType::Ipv6 => Ip::parse_v6(head, l3, frame_len),
            EtherType::Arp => return self.on_arp(&ethernet, &head[l3..]),
            EtherType::Other => {
                events::dropped!(self.cx.counters, rx_ethertype_unknown);
                return;
            }
        };
        match ip {
            Ok(ip) => self.on_ip(&ethernet, &ip, frame),
            Err(error) => self.count_ip_error(error),
        }
    }

    fn count_ip_error(&mut self, error: IpError) {
        let counters = &mut self.cx.counters;
        match error {
            IpError::Malformed => events::dropped!(counters, ip_malformed),
            IpError::Truncated => events::dropped!(counters, rx_truncated),
            IpError::HeadersSplit => events::dropped!(counters, rx_headers_split),
            IpError::ChecksumBad => events::dropped!(counters, ip_checksum_bad),
            IpError::Fragment => events::dropped!(counters, ip_fragments_refused),
            IpError::Extension => events::dropped!(counters, ip_extension_refused),
        }
    }

    #[inline]
    fn on_ip(&mut self, ethernet: &Ethernet, ip: &Ip, frame: RxFrame<'_>) {
        let ours = self.interface.is_ours(ip.destination);
        match ip.protocol {
            protocol::TCP if ours && !ethernet.destination.is_multicast() => {
                self.on_tcp(ethernet, ip, frame);
            }
            protocol::ICMP if ip.source.is_ipv4() => self.on_icmp(ethernet, ip, frame, ours),
            protocol::ICMPV6 if ip.source.is_ipv6() => self.on_icmp6(ethernet, ip, frame, ours),
            _ if ours && self.is_from_host(ethernet, ip) => {
                events::dropped!(self.cx.counters, ip_protocol_unknown);
                self.refuse_protocol(ethernet, ip, &frame);
            }
            _ if ours => {}
            _ => events::dropped!(self.cx.counters, ip_address_bad),
        }
    }

    /// Whether the transport's checksum is right, by the port's verdict or by summing up.
    #[inline]
    pub(super) fn l4_checksum_is_good(frame: &RxFrame<'_>, ip: &Ip, pseudo: bool) -> bool {
        match frame.l4_checksum {
            Verdict::Good => true,
            Verdict::Bad => false,
            Verdict::Unknown if mutant!("checksum-ignored") => true,
            Verdict::Unknown => {
                let start = if pseudo { ip.pseudo() } else { Sum::ZERO };
                sum_payload(start, frame, ip).is_valid()
            }
        }
    }

    /// Whether whoever sent from `address` can be answered: a host, on this link or beyond,
    /// and not ourselves. What is not is dropped without a word (RFC 1122, 3.2.1.3; RFC
    /// 4291, 2.5.2, 2.5.3 and 2.7).
    pub(super) fn can_answer(&self, address: IpAddr, mac: MacAddress) -> bool {
        mac.is_unicast() && self.interface.is_host(address) && !self.interface.has(address)
    }

    /// As [`Stack::can_answer`] of a packet's sender; one that cannot be is counted.
    pub(super) fn is_from_host(&mut self, ethernet: &Ethernet, ip: &Ip) -> bool {
        let is = self.can_answer(ip.source, ethernet.source);
        if !is {
            events::dropped!(self.cx.counters, ip_source_bad);
        }
        is
    }
}

/// Adds everything after the IP header to `sum`.
fn sum_payload(sum: Sum, frame: &RxFrame<'_>, ip: &Ip) -> Sum {
    let head = frame.head.bytes();
    let in_head = &head[ip.l4.min(head.len())..];
    let mut left = ip.l4_len;
    let mut sum = sum;
    for part in std::iter::once(in_head).chain(frame.tail.iter().map(|slice| slice.bytes())) {
        let part = &part[..part.len().min(left)];
        left -= part.len();
        sum = sum.bytes(part);
    }
    sum
}
