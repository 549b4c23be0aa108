//! What the shards of a port tell each other: news of neighbours, of routers that
//! complain, of addresses that are taken. A NIC gives such a frame to whichever queue
//! it likes, and connections never leave their shard.
//!
//! Between any two shards there are two rings. A notice crosses as three messages, all
//! of them or none; when a ring is full it is lost, which costs a question or a
//! retransmission. This is off the I/O path: rings are looked at between polls.

use net::{Instant, Notice};
use pages::ring::{Crossing, Receiver, Sender};

use volume::{Ends, mesh};

use crate::link::Link;
use crate::machine::Port;

/// Messages that make a notice.
const PARTS: usize = Notice::WORDS / 2;
/// Notices that a ring has room for.
const CAPACITY: usize = 128;

events::counters! {
    /// What the shards of a port told each other.
    #[derive(Copy)]
    pub struct NoticeCounters {
        /// Notices sent to other shards.
        sent,
        /// Notices taken from other shards.
        received,
        /// Notices lost because a ring was full.
        @drop lost,
    }
}

/// A ring from another shard, and the notice that is coming in.
struct Inbox {
    ring: Receiver,
    words: [u64; Notice::WORDS],
    parts: usize,
}

/// One shard's ends of the rings to and from the others.
#[derive(Default)]
pub struct Notices {
    to: Vec<Sender>,
    from: Vec<Inbox>,
    pub(crate) counters: NoticeCounters,
}

/// The notices of so many shards, by shard.
pub fn between(shards: usize) -> Vec<Notices> {
    let of = |ends: Vec<Option<Ends>>| {
        let mut notices = Notices::default();
        for Ends { to, from } in ends.into_iter().flatten() {
            notices.to.push(to);
            notices.from.push(Inbox {
                ring: from,
                words: [0; Notice::WORDS],
                parts: 0,
            });
        }
        notices
    };
    mesh(shards, CAPACITY * PARTS).into_iter().map(of).collect()
}

impl Notices {
    /// Gives other shards the notices of this one's stacks, and these those of the others.
    pub(crate) fn exchange(&mut self, links: &mut [Link<impl Port>], now: Instant) {
        if self.to.is_empty() {
            return;
        }
        for (port, link) in links.iter_mut().enumerate() {
            while let Some(notice) = link.poll_notice() {
                self.publish(port, notice);
            }
        }
        for inbox in &mut self.from {
            while let Some((port, notice)) = inbox.next() {
                self.counters.received += 1;
                if let Some(link) = links.get_mut(port) {
                    link.notice(now, notice);
                }
            }
        }
    }

    fn publish(&mut self, port: usize, notice: Notice) {
        let words = notice.into_words();
        for ring in &mut self.to {
            if ring.room() < PARTS {
                self.counters.lost += 1;
                continue;
            }
            self.counters.sent += 1;
            for pair in words.chunks_exact(2) {
                let message = Crossing::Message {
                    tag: port as u64,
                    words: [pair[0], pair[1]],
                };
                if ring.send(message).is_err() {
                    unreachable!("room was checked, and nobody else sends");
                }
            }
        }
    }
}

impl Inbox {
    /// The next notice that is whole, and the port it is about.
    fn next(&mut self) -> Option<(usize, Notice)> {
        while let Some(crossing) = self.ring.receive() {
            let Crossing::Message { tag, words } = crossing else {
                unreachable!("only notices are sent here");
            };
            self.words[2 * self.parts..][..2].copy_from_slice(&words);
            self.parts += 1;
            if self.parts == PARTS {
                self.parts = 0;
                let notice = Notice::from_words(self.words)?;
                return Some((tag as usize, notice));
            }
        }
        None
    }
}
