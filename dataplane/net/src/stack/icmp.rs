//! ICMP for both versions: echoes by reference, errors about our segments, errors of our own.

use std::net::IpAddr;

use pages::Slice;

use crate::event::CloseReason;
use crate::frame::RxFrame;
use crate::link::checksum::Sum;
use crate::link::emit::{HOP_LIMIT, Headers};
use crate::link::ethernet::Ethernet;
use crate::link::icmp::{self, ECHO_LEN, Message, Problem, SegmentError};
use crate::link::icmp6::{self, Message6};
use crate::link::ip::Ip;
use crate::link::{pmtu, protocol};
use crate::stack::Stack;
use crate::stack::notice::News;
use crate::tcp::{FlowKey, State};

const ECHO_REPLY: u8 = 0;
const ECHO_REPLY6: u8 = 129;

impl Stack {
    pub(super) fn on_icmp(&mut self, ethernet: &Ethernet, ip: &Ip, frame: RxFrame<'_>, ours: bool) {
        if !ours {
            // RFC 1122, 3.2.2.6: echoes to a broadcast address may be ignored.
            events::dropped!(self.cx.counters, ip_address_bad);
            return;
        }
        if !self.is_from_host(ethernet, ip) {
            return;
        }
        if !Self::l4_checksum_is_good(&frame, ip, false) {
            events::dropped!(self.cx.counters, icmp_checksum_bad);
            return;
        }
        match in_head(&frame, ip).and_then(icmp::parse) {
            Some(message) => self.on_message(ethernet, ip, &frame, message),
            None => events::dropped!(self.cx.counters, icmp_malformed),
        }
    }

    pub(super) fn on_icmp6(
        &mut self,
        ethernet: &Ethernet,
        ip: &Ip,
        frame: RxFrame<'_>,
        ours: bool,
    ) {
        let IpAddr::V6(destination) = ip.destination else {
            return;
        };
        let group = destination.is_multicast() && self.interface.is_our_group(destination);
        // Somebody may object to an address that is not in use yet.
        if !ours && !group {
            events::dropped!(self.cx.counters, ip_address_bad);
            return;
        }
        if !Self::l4_checksum_is_good(&frame, ip, true) {
            events::dropped!(self.cx.counters, icmp_checksum_bad);
            return;
        }
        let message = in_head(&frame, ip).and_then(|bytes| icmp6::parse(bytes, ip.hop_limit));
        match message {
            None => events::dropped!(self.cx.counters, nd_malformed),
            Some(Message6::Common(message)) => {
                if ours && self.is_from_host(ethernet, ip) {
                    self.on_message(ethernet, ip, &frame, message);
                }
            }
            Some(Message6::Solicitation { target, source_mac }) => {
                if let IpAddr::V6(source) = ip.source {
                    self.on_solicitation(ethernet, source, target, source_mac);
                }
            }
            Some(Message6::Advertisement {
                target,
                target_mac,
                solicited,
                replace,
            }) => {
                // RFC 4861, 7.1.2: a solicited one is not for a group.
                if solicited && group {
                    events::dropped!(self.cx.counters, nd_malformed);
                } else {
                    self.on_advertisement(ethernet, target, target_mac, solicited, replace);
                }
            }
        }
    }

    fn on_message(&mut self, ethernet: &Ethernet, ip: &Ip, frame: &RxFrame<'_>, message: Message) {
        match message {
            Message::EchoRequest => self.echo(ethernet, ip, frame),
            Message::Error(error) => {
                if error.local.ip() == ip.destination {
                    self.on_segment_error(&error, true);
                } else {
                    events::dropped!(self.cx.counters, icmp_errors_ignored);
                }
            }
            Message::Other => {}
        }
    }

    /// Sends an echo request's payload back from the clusters it lies in.
    fn echo(&mut self, ethernet: &Ethernet, ip: &Ip, frame: &RxFrame<'_>) {
        if !self.replies.allows(self.cx.now) {
            self.cx.counters.replies_limited += 1;
            return;
        }
        let Some(request) = in_head(frame, ip).and_then(|bytes| bytes.first_chunk::<ECHO_LEN>())
        else {
            events::dropped!(self.cx.counters, icmp_malformed);
            return;
        };
        let (number, kind) = match ip.source {
            IpAddr::V4(_) => (protocol::ICMP, ECHO_REPLY),
            IpAddr::V6(_) => (protocol::ICMPV6, ECHO_REPLY6),
        };
        let link = self.interface.link_to(ethernet.source);
        let mut headers = Headers::ip(
            link,
            ip.destination,
            ip.source,
            number,
            HOP_LIMIT,
            ip.l4_len,
        );
        icmp::echo_reply(&mut headers, request, kind);
        let payload = ip.l4_len - ECHO_LEN;
        let mut slices = part_of(frame, ip.l4 + ECHO_LEN, payload);
        if self.control.push_with(headers, &mut slices) {
            self.cx.counters.icmp_echo_answered += 1;
        } else {
            self.cx.counters.replies_limited += 1;
        }
    }

    /// Tells the sender that nobody here speaks that protocol, or has that port
    /// (RFC 1122, 3.2.2.1; RFC 4443, 3.1 and 3.4).
    pub(super) fn refuse_protocol(&mut self, ethernet: &Ethernet, ip: &Ip, frame: &RxFrame<'_>) {
        const UDP: u8 = 17;
        let to_one = ethernet.destination == self.interface.mac;
        if !to_one {
            return;
        }
        if !self.errors.allows(self.cx.now) {
            self.cx.counters.replies_limited += 1;
            return;
        }
        let head = frame.head.bytes();
        // RFC 1812, 4.3.2.3: as much of it as fits 576 bytes; RFC 4443, 2.4 (c): 1280.
        let (number, most, (kind, code, word)) = match (ip.source, ip.protocol) {
            (IpAddr::V4(_), UDP) => (protocol::ICMP, 576 - 28, (3, 3, 0)),
            (IpAddr::V4(_), _) => (protocol::ICMP, 576 - 28, (3, 2, 0)),
            (IpAddr::V6(_), UDP) => (protocol::ICMPV6, 1280 - 48, (1, 4, 0)),
            // The pointer names the next-header field of a packet without extensions.
            (IpAddr::V6(_), _) => (protocol::ICMPV6, 1280 - 48, (4, 1, 6)),
        };
        let quoted_len = (ip.l4 + ip.l4_len).min(head.len()) - ip.l3;
        let quoted_len = quoted_len.min(most);
        let quoted = &head[ip.l3..ip.l3 + quoted_len];
        let link = self.interface.link_to(ethernet.source);
        let len = 8 + quoted_len;
        let mut headers = Headers::ip(link, ip.destination, ip.source, number, HOP_LIMIT, len);
        let pseudo = if ip.source.is_ipv6() {
            headers.pseudo(number, len)
        } else {
            Sum::ZERO
        };
        icmp::error(&mut headers, kind, code, word, quoted, pseudo);
        let mut slices = part_of(frame, ip.l3, quoted_len);
        if self.control.push_with(headers, &mut slices) {
            self.cx.counters.icmp_errors_sent += 1;
        } else {
            self.cx.counters.replies_limited += 1;
        }
    }

    /// An error about a segment: believed if it is about one that is out (RFC 5927, section 4).
    pub(super) fn on_segment_error(&mut self, error: &SegmentError, tell: bool) {
        let key = FlowKey::of(error.local, error.remote);
        let Some(index) = self.find_connection(&key) else {
            if tell {
                self.notices.push(News::Segment(*error));
            }
            events::dropped!(self.cx.counters, icmp_errors_ignored);
            return;
        };
        let connection = &mut self.connections[index];
        let (una, nxt) = (connection.snd.una, connection.snd.nxt);
        if error.seq < una || error.seq >= nxt {
            events::dropped!(self.cx.counters, icmp_errors_ignored);
            return;
        }
        match error.problem {
            Problem::TooBig { mtu } => {
                let ipv6 = error.remote.is_ipv6();
                let sent = connection.snd.path_mtu as usize;
                let Some(lowered) = pmtu::lowered(mtu, sent, ipv6) else {
                    if mtu < self.config.mtu {
                        // A flight that was out when the path narrowed: a word for each segment.
                        self.cx.counters.pmtu_known += 1;
                    } else {
                        events::dropped!(self.cx.counters, icmp_errors_ignored);
                    }
                    return;
                };
                self.cx.counters.pmtu_lowered += 1;
                connection.narrow_path(&mut self.cx, lowered);
                self.paths.learn(error.remote.ip(), lowered, self.cx.now);
            }
            // RFC 1122, 4.2.3.9: hard errors abort; RFC 5461, 4.1 and RFC 5927, 5.2:
            // only what is being opened, lest anybody can end a connection.
            Problem::Refused if connection.state == State::SynSent => {
                connection.finish(&mut self.cx, CloseReason::Unreachable);
            }
            Problem::Refused | Problem::Unreachable => {
                events::dropped!(self.cx.counters, icmp_errors_ignored)
            }
        }
        self.settle(index);
    }
}

/// The part of an ICMP message that lies in the frame's first buffer.
fn in_head<'a>(frame: &'a RxFrame<'_>, ip: &Ip) -> Option<&'a [u8]> {
    let head = frame.head.bytes();
    head.get(ip.l4..(ip.l4 + ip.l4_len).min(head.len()))
}

/// `len` bytes of a frame from `from` on, as slices of its clusters.
fn part_of<'a>(
    frame: &'a RxFrame<'_>,
    from: usize,
    len: usize,
) -> impl Iterator<Item = Slice> + 'a {
    let (mut skip, mut left) = (from, len);
    std::iter::once(&frame.head)
        .chain(frame.tail)
        .map(move |slice| {
            let mut slice = slice.clone();
            let skipped = skip.min(slice.len());
            skip -= skipped;
            slice.advance(skipped);
            slice.truncate(left);
            left -= slice.len();
            slice
        })
        .filter(|slice| !slice.is_empty())
}
