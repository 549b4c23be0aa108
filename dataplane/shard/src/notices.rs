//! What the shards of a port tell each other: news of neighbours, of routers that
//! complain, of addresses that are taken. A NIC gives such a frame to whichever queue
//! it likes, and connections never leave their shard.
//!
//! Between any two shards there are two rings, and a notice is one message. When a
//! ring is full it is lost, which costs a question or a retransmission. This is off
//! the I/O path: rings are looked at between polls.

use net::{Instant, Notice};
use sync::ring::{Receiver, Sender};

use volume::{Ends, mesh};

use crate::link::Link;
use crate::machine::Port;

/// Words of a message: the port, and the notice about it.
const WORDS: usize = 1 + Notice::WORDS;
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

/// One shard's ends of the rings to and from the others.
#[derive(Default)]
pub struct Notices {
    to: Vec<Sender<WORDS>>,
    from: Vec<Receiver<WORDS>>,
    pub(crate) counters: NoticeCounters,
}

/// The notices of so many shards, by shard.
pub fn between(shards: usize) -> Vec<Notices> {
    let of = |ends: Vec<Option<Ends<WORDS>>>| {
        let mut notices = Notices::default();
        for Ends { to, from } in ends.into_iter().flatten() {
            notices.to.push(to);
            notices.from.push(from);
        }
        notices
    };
    mesh(shards, CAPACITY).into_iter().map(of).collect()
}

impl Notices {
    /// Passes what this shard's stacks have heard to the other shards, and what those
    /// have heard to its stacks.
    pub(crate) fn exchange(&mut self, links: &mut [Link<impl Port>], now: Instant) {
        if self.to.is_empty() {
            return;
        }
        for (port, link) in links.iter_mut().enumerate() {
            while let Some(notice) = link.poll_notice() {
                self.publish(port, notice);
            }
        }
        for ring in &mut self.from {
            while let Some([port, words @ ..]) = ring.receive() {
                let Some(notice) = Notice::from_words(words) else {
                    continue;
                };
                self.counters.received += 1;
                if let Some(link) = links.get_mut(port as usize) {
                    link.notice(now, notice);
                }
            }
        }
    }

    fn publish(&mut self, port: usize, notice: Notice) {
        let [a, b, c, d, e, f] = notice.into_words();
        for ring in &mut self.to {
            match ring.send([port as u64, a, b, c, d, e, f]) {
                Ok(()) => self.counters.sent += 1,
                Err(_) => self.counters.lost += 1,
            }
        }
    }
}
