//! How somebody goes about it who has no business here: several attempts at a time, one more now and then, until he is tired.

use net::{ConnectionId, Event};
use testkit::Random;

use crate::clock::{self, MILLISECOND, Nanoseconds};

/// Attempts at a time.
const MOST: usize = 5;

/// Those that are under way.
pub(super) struct Attempts<A> {
    pub(super) list: Vec<A>,
    next_at: Nanoseconds,
    /// No more are begun, and all are over.
    pub(super) is_tired: bool,
}

impl<A> Attempts<A> {
    pub(super) fn new() -> Self {
        Self {
            list: Vec::new(),
            next_at: 0,
            is_tired: false,
        }
    }

    /// Whether it is time for one more.
    pub(super) fn begins(&mut self, random: &mut Random) -> bool {
        let now = clock::now();
        let begins = now >= self.next_at && !self.is_tired && self.list.len() < MOST;
        if begins {
            self.next_at = now + random.range(1..=20u64) * MILLISECOND;
        }
        begins
    }

    /// Takes those that are over.
    pub(super) fn take_over(&mut self, is_over: impl Fn(&A) -> bool) -> Vec<A> {
        let tired = self.is_tired;
        let all = self.list.drain(..);
        let (over, on) = all.partition(|attempt| tired || is_over(attempt));
        self.list = on;
        over
    }

    /// When the next turn is due.
    pub(super) fn next_turn(&self) -> Nanoseconds {
        match self.is_tired {
            true => Nanoseconds::MAX,
            false => self.next_at.max(clock::now() + MILLISECOND),
        }
    }
}

/// Which connection is open now, or over.
pub(super) fn opened(event: &Event) -> Option<(ConnectionId, bool)> {
    match *event {
        Event::Connected(id) => Some((id, true)),
        Event::PeerClosed(id) | Event::Closed { connection: id, .. } => Some((id, false)),
        _ => None,
    }
}
