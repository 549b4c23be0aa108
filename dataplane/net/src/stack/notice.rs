//! What the shards of one port have to tell each other.
//!
//! A NIC steers ARP and neighbour discovery to one queue, and ICMP errors to
//! whichever it likes. The shard that gets such a frame tells the others by
//! notices; the engine carries them.

use std::net::IpAddr;

use crate::address::MacAddress;
use crate::link::icmp::SegmentError;
use crate::link::neighbor::Heard;
use crate::stack::Stack;
use crate::time::Instant;

/// News for the other shards of the port: a plain value that can cross threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice(pub(super) News);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A neighbour said where it is.
    Neighbor { address: IpAddr, mac: MacAddress },
    /// A router complained about a segment of a connection that is not this shard's.
    Segment(SegmentError),
    /// Somebody else has an address that is not in use here yet (RFC 5227, 2.1; RFC 4862,
    /// 5.4); or had, and nobody has it now.
    Taken {
        address: IpAddr,
        by: Option<MacAddress>,
    },
}

const KEPT: usize = 64;

/// The last few notices not taken yet. Losing one costs a question or a
/// retransmission, no more.
pub(super) struct Notices {
    ring: [Option<Notice>; KEPT],
    head: usize,
    len: usize,
}

impl Notices {
    pub(super) fn new() -> Self {
        Self {
            ring: [None; KEPT],
            head: 0,
            len: 0,
        }
    }

    pub(super) fn push(&mut self, news: News) {
        self.ring[(self.head + self.len) % KEPT] = Some(Notice(news));
        if self.len < KEPT {
            self.len += 1;
        } else {
            self.head = (self.head + 1) % KEPT;
        }
    }

    fn pop(&mut self) -> Option<Notice> {
        if self.len == 0 {
            return None;
        }
        let notice = self.ring[self.head].take();
        self.head = (self.head + 1) % KEPT;
        self.len -= 1;
        notice
    }
}

impl Stack {
    /// News that the other shards of the same port should be
    /// [told](Stack::notice). A port with one shard can leave them alone.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop()
    }

    /// Takes another shard's news.
    pub fn notice(&mut self, now: Instant, notice: Notice) {
        self.begin(now);
        match notice.0 {
            News::Neighbor { address, mac } => {
                let heard = Heard {
                    solicited: true,
                    replace: true,
                    remember: true,
                };
                self.hear(address, mac, heard, false);
            }
            News::Segment(error) => self.on_segment_error(&error, false),
            News::Taken { address, by } => self.hear_claim(address, by),
        }
    }
}
