//! What the shards of one port have to tell each other.
//!
//! A NIC steers ARP and neighbour discovery to one queue, and ICMP errors to
//! whichever it likes. The shard that gets such a frame tells the others by
//! notices; the engine carries them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::address::MacAddress;
use crate::link::icmp::{Problem, SegmentError};
use crate::link::neighbor::Heard;
use crate::stack::Stack;
use crate::tcp::Seq;
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
    /// Somebody else has an address that is tentative here (RFC 4862, 5.4).
    Taken { address: Ipv6Addr },
}

/// What a notice is, in its last word.
const NEIGHBOR: u64 = 1;
const TAKEN: u64 = 2;
const TOO_BIG: u64 = 3;
const REFUSED: u64 = 4;
const UNREACHABLE: u64 = 5;

impl Notice {
    /// Words of a notice.
    pub const WORDS: usize = 6;

    /// The notice as words, to cross a ring in.
    pub fn into_words(self) -> [u64; Notice::WORDS] {
        match self.0 {
            News::Neighbor { address, mac } => {
                let [hi, lo] = words_of(address);
                let [a, b, c, d, e, f] = mac.0;
                [
                    hi,
                    lo,
                    u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
                    0,
                    0,
                    NEIGHBOR,
                ]
            }
            News::Taken { address } => {
                let [hi, lo] = words_of(address.into());
                [hi, lo, 0, 0, 0, TAKEN]
            }
            News::Segment(error) => {
                let [a, b] = words_of(error.local.ip());
                let [c, d] = words_of(error.remote.ip());
                let (mtu, kind) = match error.problem {
                    Problem::TooBig { mtu } => (mtu as u64, TOO_BIG),
                    Problem::Refused => (0, REFUSED),
                    Problem::Unreachable => (0, UNREACHABLE),
                };
                let ports = u64::from(error.local.port()) << 16 | u64::from(error.remote.port());
                let numbers = ports << 32 | u64::from(error.seq.0);
                [a, b, c, d, numbers, mtu << 8 | kind]
            }
        }
    }

    /// The notice that these words were; `None` if they were none.
    pub fn from_words([a, b, c, d, numbers, last]: [u64; Notice::WORDS]) -> Option<Self> {
        let address = address_of([a, b]);
        let problem = match (last & 0xff, address) {
            (NEIGHBOR, address) => {
                let [_, _, mac @ ..] = c.to_be_bytes();
                let mac = MacAddress(mac);
                return Some(Notice(News::Neighbor { address, mac }));
            }
            (TAKEN, IpAddr::V6(address)) => return Some(Notice(News::Taken { address })),
            (TOO_BIG, _) => Problem::TooBig {
                mtu: (last >> 8) as usize,
            },
            (REFUSED, _) => Problem::Refused,
            (UNREACHABLE, _) => Problem::Unreachable,
            _ => return None,
        };
        Some(Notice(News::Segment(SegmentError {
            local: SocketAddr::new(address, (numbers >> 48) as u16),
            remote: SocketAddr::new(address_of([c, d]), (numbers >> 32) as u16),
            seq: Seq(numbers as u32),
            problem,
        })))
    }
}

/// IPv4 addresses mapped into IPv6.
fn words_of(address: IpAddr) -> [u64; 2] {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    };
    [(bits >> 64) as u64, bits as u64]
}

fn address_of([hi, lo]: [u64; 2]) -> IpAddr {
    let address = Ipv6Addr::from(u128::from(hi) << 64 | u128::from(lo));
    address
        .to_ipv4_mapped()
        .map_or(IpAddr::V6(address), IpAddr::V4)
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
            News::Taken { address } => self.yield_address(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|a| IpAddr::V4(a.into())),
            // A mapped IPv4 address is none of IPv6's (RFC 4291, 2.5.5.2).
            any::<u128>()
                .prop_filter("mapped", |a| a >> 32 != 0xffff)
                .prop_map(|a| IpAddr::V6(a.into())),
        ]
    }

    fn any_news() -> impl Strategy<Value = News> {
        let problem = prop_oneof![
            (0usize..65536).prop_map(|mtu| Problem::TooBig { mtu }),
            Just(Problem::Refused),
            Just(Problem::Unreachable),
        ];
        let segment = (
            any_address(),
            any_address(),
            any::<(u16, u16, u32)>(),
            problem,
        );
        prop_oneof![
            (any_address(), any::<[u8; 6]>()).prop_map(|(address, mac)| News::Neighbor {
                address,
                mac: MacAddress(mac)
            }),
            any::<u128>()
                .prop_filter("mapped", |a| a >> 32 != 0xffff)
                .prop_map(|a| News::Taken { address: a.into() }),
            segment.prop_map(|(local, remote, (from, to, seq), problem)| {
                News::Segment(SegmentError {
                    local: SocketAddr::new(local, from),
                    remote: SocketAddr::new(remote, to),
                    seq: Seq(seq),
                    problem,
                })
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_notice_comes_back_from_its_words(news in any_news()) {
            let words = Notice(news).into_words();
            prop_assert_eq!(Notice::from_words(words), Some(Notice(news)));
        }

        #[test]
        fn any_words_are_survived(words in any::<[u64; Notice::WORDS]>()) {
            let _ = Notice::from_words(words);
        }
    }
}
