//! What the shards of a port tell each other: news of neighbours, of routers that
//! complain, of addresses that are taken. A NIC gives such a frame to whichever queue
//! it likes, and connections never leave their shard.
//!
//! Between any two shards there are two rings, and a notice is one message. When a
//! ring is full it is lost, which costs a question or a retransmission. This is off
//! the I/O path: rings are looked at between polls.

use net::{Instant, Notice};
use sync::mesh::{Ends, mesh};
use sync::ring::{Receiver, Sender};

use crate::link::Link;
use crate::machine::Port;

/// The number of a port, and a notice about it.
type Message = (usize, Notice);

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
    to: Vec<Sender<Message>>,
    from: Vec<Receiver<Message>>,
    pub(crate) counters: NoticeCounters,
}

/// The notices of so many shards, by shard.
pub fn between(shards: usize) -> Vec<Notices> {
    let of = |ends: Vec<Option<Ends<Message>>>| {
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
        for ring in &mut self.from {
            while let Some((port, notice)) = ring.receive() {
                self.counters.received += 1;
                if let Some(link) = links.get_mut(port) {
                    link.notice(now, notice);
                }
            }
        }
    }

    fn publish(&mut self, port: usize, notice: Notice) {
        for ring in &mut self.to {
            match ring.send((port, notice)) {
                Ok(()) => self.counters.sent += 1,
                Err(_) => self.counters.lost += 1,
            }
        }
    }
}
