//! A lane that a shard opens: the ways to the other node, which of them are tried, and which connection has the session.
//!
//! A *way* is an address of the other node, and one of the ports by which it is reached. Ways are tried in turn: the first one
//! at first, and the one behind that whose session ended afterwards. One that does not answer soon holds the next one up no
//! longer; the first that answers gets the session. What TCP and neighbour discovery lost at first they ask for again after a second:
//! a connection that has no answer by then makes room for another one.

use std::net::SocketAddr;
use std::time::Duration;

use mutant::mutant;

use super::{Carried, Peer};
use crate::greeting::Node;
use crate::link::Link;

/// Connections in a row that the other node wants to have at another of its shards, at most.
const ELSEWHERE_MAX: u32 = 64;

/// A connection that is opened, or greets.
struct Attempt {
    connection: u64,
    way: usize,
    since: Duration,
}

/// A lane that the shard has opened, or is about to.
pub(super) struct Out {
    pub(super) peer: Peer,
    pub(super) link: Link<Carried>,
    /// What its session is encrypted by, or was.
    pub(super) suite: Option<&'static str>,
    /// The connection that has the session.
    session: Option<Attempt>,
    attempts: Vec<Attempt>,
    /// The attempt that the other node has answered, and when: others are not needed, unless that one leads to nothing.
    answered: Option<(u64, Duration)>,
    next_at: Duration,
    next_way: usize,
    elsewhere: u32,
    /// Connections that had no answer in time, since the last session.
    late: u32,
}

impl Out {
    pub(super) fn new(peer: Peer, me: Node, now: Duration) -> Self {
        Self {
            link: Link::new(me, peer.id, crate::frame::PAYLOAD_MAX, peer.patience, now),
            peer,
            suite: None,
            session: None,
            attempts: Vec::new(),
            answered: None,
            next_at: now,
            next_way: 0,
            elsewhere: 0,
            late: 0,
        }
    }

    /// Connections that have no answer are waited for no longer: for a third of the time that an answer may take, and if that was too
    /// short for longer.
    pub(super) fn advance(&mut self, now: Duration) {
        let patience = (self.peer.patience.answer / 3) * (1 << self.late.min(2));
        let answered = self.answered.map(|(connection, _)| connection);
        let before = self.attempts.len();
        self.attempts.retain(|attempt| {
            now < attempt.since + patience || answered == Some(attempt.connection)
        });
        self.late += u32::from(self.attempts.len() < before);
    }

    /// The way that is to be tried now, if one is: its address, and the port. `ports`: how many there are to an address.
    pub(super) fn next(
        &mut self,
        connection: u64,
        now: Duration,
        ports: impl Fn(SocketAddr) -> usize,
    ) -> Option<(SocketAddr, usize)> {
        let ways = self.peer.addresses.iter().flat_map(|&address| {
            let ports = ports(address).max(1);
            (0..ports).map(move |port| (address, port))
        });
        let ways: Vec<_> = ways.collect();
        self.next_at = now + self.peer.patience.next_way();
        let in_turn = (0..ways.len()).map(|n| (self.next_way + n) % ways.len());
        let is_tried = |way: &usize| self.attempts.iter().any(|attempt| attempt.way == *way);
        let way = match mutant!("pair-links-first-way") {
            true => Some(0).filter(|way| !is_tried(way))?,
            false => in_turn.into_iter().find(|way| !is_tried(way))?,
        };
        self.next_way = way + 1;
        self.attempts.push(Attempt {
            connection,
            way,
            since: now,
        });
        Some(ways[way])
    }

    /// Whether a connection is to be opened, if there is a way that is not tried.
    pub(super) fn wants(&self, now: Duration) -> bool {
        self.session.is_none() && now >= self.next_at && !self.peer.addresses.is_empty()
    }

    /// Whether a connection that has no session is still wanted.
    pub(super) fn tries(&self, connection: u64) -> bool {
        self.place(connection).is_some()
    }

    /// Whether a connection has the session.
    pub(super) fn has_session(&self, connection: u64) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.connection == connection)
    }

    fn place(&self, connection: u64) -> Option<usize> {
        let mut attempts = self.attempts.iter();
        attempts.position(|attempt| attempt.connection == connection)
    }

    /// The other node answers on a connection; whether that is to go on.
    pub(super) fn answers(&mut self, connection: u64, now: Duration) -> bool {
        let patience = self.peer.patience.next_way();
        let is_other = |&(other, since): &(u64, Duration)| {
            other != connection && now < since + patience && self.tries(other)
        };
        if !self.tries(connection) || self.answered.as_ref().is_some_and(is_other) {
            return false;
        }
        if self.answered.is_none_or(|(known, _)| known != connection) {
            self.answered = Some((connection, now));
        }
        true
    }

    /// A connection gets the session, as the link has it.
    pub(super) fn begins(&mut self, connection: u64) {
        self.session = self
            .place(connection)
            .map(|place| self.attempts.swap_remove(place));
        self.attempts.clear();
        (self.answered, self.elsewhere, self.late) = (None, 0, 0);
    }

    /// There is no session any more: the next way is tried.
    pub(super) fn ends(&mut self, now: Duration) {
        if let Some(session) = self.session.take() {
            self.next_way = session.way + 1;
            self.next_at = now + self.peer.patience.again();
        }
    }

    /// A connection without a session has ended; whether it was one of this lane's.
    pub(super) fn failed(&mut self, connection: u64, now: Duration) -> bool {
        let Some(place) = self.place(connection) else {
            return false;
        };
        self.attempts.swap_remove(place);
        let again = now + self.peer.patience.again();
        self.next_at = match self.attempts.is_empty() {
            true => again,
            false => self.next_at.min(again),
        };
        true
    }

    /// The other node has the lane at another of its shards, and the connection came in at this one: another one is opened.
    pub(super) fn is_elsewhere(&mut self, connection: u64, now: Duration) {
        let way = self.place(connection).map(|place| self.attempts[place].way);
        self.failed(connection, now);
        self.elsewhere += 1;
        match way {
            Some(way) if self.elsewhere < ELSEWHERE_MAX => {
                (self.next_way, self.next_at) = (way, now);
            }
            _ => self.elsewhere = 0,
        }
    }

    /// No connection is opened any more.
    pub(super) fn stop(&mut self) {
        self.attempts.clear();
        self.next_at = Duration::MAX;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::key::PairKey;
    use crate::link::Patience;

    const MS: Duration = Duration::from_millis(1);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 4421))
    }

    fn out(addresses: u8) -> Out {
        let peer = Peer {
            id: [2; 16],
            key: PairKey::new([7; 32]),
            tls: true,
            addresses: (1..=addresses).map(address).collect(),
            patience: Patience::default(),
            frame: Arc::default(),
        };
        let me = Node {
            id: [1; 16],
            shard: 0,
        };
        Out::new(peer, me, Duration::ZERO)
    }

    #[test]
    fn r09_ways_are_tried_in_turn_and_a_silent_one_holds_up_no_other() {
        let mut out = out(2);
        let one = |_: SocketAddr| 1;
        assert!(out.wants(Duration::ZERO));
        assert_eq!(out.next(1, Duration::ZERO, one), Some((address(1), 0)));
        assert!(!out.wants(249 * MS), "it is given a moment");
        assert!(out.wants(250 * MS));
        assert_eq!(out.next(2, 250 * MS, one), Some((address(2), 0)));
        // Each way once at a time, and no longer than it may take.
        out.advance(499 * MS);
        assert_eq!(out.next(3, 499 * MS, one), None);
        out.advance(500 * MS);
        assert!(!out.tries(1) && out.tries(2));
        assert_eq!(out.next(1, 500 * MS, one), Some((address(1), 0)));
        // The first that answers has it, and the other one is not needed.
        assert!(out.answers(2, 600 * MS));
        assert!(!out.answers(1, 601 * MS));
        out.begins(2);
        assert!(out.has_session(2) && !out.tries(1) && !out.wants(700 * MS));
        // It ends: the way behind it is next, soon.
        out.ends(5000 * MS);
        assert!(!out.wants(5099 * MS) && out.wants(5100 * MS));
        assert_eq!(out.next(4, 5100 * MS, one), Some((address(1), 0)));
        // One that is refused leaves the turn to the next one at once.
        assert!(out.failed(4, 5101 * MS) && out.wants(5201 * MS));
        assert_eq!(out.next(5, 5201 * MS, one), Some((address(2), 0)));
    }

    #[test]
    fn r09_who_answers_and_then_says_nothing_more_gives_way() {
        let mut out = out(2);
        out.next(1, Duration::ZERO, |_| 1);
        out.next(2, 250 * MS, |_| 1);
        assert!(out.answers(1, 251 * MS));
        assert!(out.answers(2, 501 * MS));
        assert!(out.answers(2, 502 * MS), "it goes on");
        assert!(!out.answers(1, 503 * MS));
    }

    #[test]
    fn r09_an_address_is_tried_by_each_port_that_leads_there() {
        let mut out = out(2);
        let ports = |remote: SocketAddr| match remote == address(1) {
            true => 2,
            false => 0,
        };
        let mut ways = Vec::new();
        for connection in 0..3 {
            ways.extend(out.next(connection, 250 * MS * connection as u32, ports));
        }
        // Where none leads, that is to be said by who opens it.
        assert_eq!(ways, [(address(1), 0), (address(1), 1), (address(2), 0)]);
    }

    #[test]
    fn r09_a_lane_that_is_at_another_shard_is_sought_by_the_same_way() {
        let mut out = out(2);
        for connection in 0..u64::from(ELSEWHERE_MAX) {
            let way = out.next(connection, 7 * MS, |_| 1);
            assert_eq!(way, Some((address(1), 0)), "connection {connection}");
            out.is_elsewhere(connection, 7 * MS);
            let is_last = connection + 1 == ELSEWHERE_MAX.into();
            assert_eq!(out.wants(7 * MS), !is_last, "connection {connection}");
        }
        assert!(out.wants(107 * MS), "not given up, and not in a hurry");
    }
}
