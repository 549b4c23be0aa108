//! Where queues and whoever does the arithmetic of authentication meet.
//!
//! A queue leaves a message of its host here, with the transaction that it belongs to; somebody else, off the polling cores, takes
//! it, works on it, and leaves the answer with the transaction. Queues look at a number to see whether there are answers. What
//! connections have to be done before they are encrypted is left here too: an [`Errand`] of whoever carries them.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use auth::{Controller, HostKeys, Names, Policy, Step};

use crate::subsystem::lock;

/// The desk of a target. Its lock is held for moments, and never while anything is computed.
#[derive(Debug)]
pub struct AuthDesk {
    policy: Arc<Policy>,
    jobs: Mutex<Jobs>,
    work: Condvar,
    /// How many were answered.
    answers: AtomicU64,
}

/// What is to be done, by the address that it came from: each address has its turn, so that thousands of connections of one do
/// not keep the others waiting.
#[derive(Debug, Default)]
struct Jobs {
    by_peer: BTreeMap<IpAddr, VecDeque<Job>>,
    /// Whose turn it was.
    last: Option<IpAddr>,
}

/// Something that is done off the polling cores, with fresh randomness; whether anybody looks for what came of it.
pub type Errand = Box<dyn FnOnce(&mut dyn FnMut(&mut [u8])) -> bool + Send>;

struct Job(Errand);

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

/// One transaction: its queue has one end, the desk the other while there is a message of it.
pub(crate) struct Seat {
    /// Locked by whoever works on it alone.
    transaction: Mutex<Controller>,
    answer: Mutex<Option<Step>>,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seat")
    }
}

impl Seat {
    /// The answer to the message that was left at the desk, once.
    pub fn answer(&self) -> Option<Step> {
        lock(&self.answer).take()
    }
}

impl AuthDesk {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy: Arc::new(policy),
            jobs: Mutex::default(),
            work: Condvar::new(),
            answers: AtomicU64::new(0),
        }
    }

    /// A transaction that a host begins.
    pub(crate) fn begin(&self, names: Names, keys: Arc<HostKeys>) -> Arc<Seat> {
        let transaction = Controller::new(names, keys, Arc::clone(&self.policy));
        Arc::new(Seat {
            transaction: Mutex::new(transaction),
            answer: Mutex::new(None),
        })
    }

    /// Leaves a message, which came from `peer`: one of a transaction at a time.
    pub(crate) fn leave(&self, peer: IpAddr, seat: &Arc<Seat>, message: Vec<u8>) {
        let seat = Arc::clone(seat);
        self.ask(
            peer,
            Box::new(move |random| {
                // Nobody waits for what a queue asked that is gone.
                if Arc::strong_count(&seat) == 1 {
                    return false;
                }
                let step = lock(&seat.transaction).take(&message, random);
                *lock(&seat.answer) = Some(step);
                true
            }),
        );
    }

    /// Leaves something to be done for a connection of `peer`, whose turn it is when those of others have had theirs.
    pub fn ask(&self, peer: IpAddr, errand: Errand) {
        let mut jobs = lock(&self.jobs);
        let of_peer = jobs.by_peer.entry(peer).or_default();
        of_peer.push_back(Job(errand));
        drop(jobs);
        self.work.notify_one();
    }

    /// How many answers there were. Takes no lock.
    #[inline]
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Acquire)
    }

    /// Does one thing that was left here, with fresh randomness; false if there is none.
    pub fn work(&self, random: &mut dyn FnMut(&mut [u8])) -> bool {
        let Some(Job(errand)) = lock(&self.jobs).next() else {
            return false;
        };
        if errand(random) {
            self.answers.fetch_add(1, Ordering::Release);
        }
        true
    }

    /// Waits until there is a message, or `patience` is over.
    pub fn wait(&self, patience: Duration) {
        let jobs = lock(&self.jobs);
        let is_idle = |jobs: &mut Jobs| jobs.by_peer.is_empty();
        let waited = self.work.wait_timeout_while(jobs, patience, is_idle);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Jobs {
    /// The oldest message of the address behind the one that had its turn last.
    fn next(&mut self) -> Option<Job> {
        let behind = self.last.and_then(|last| {
            let behind = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
            self.by_peer.range(behind).next()
        });
        let peer = *behind.or_else(|| self.by_peer.iter().next())?.0;
        self.last = Some(peer);
        let of_peer = self.by_peer.get_mut(&peer)?;
        let job = of_peer.pop_front();
        if of_peer.is_empty() {
            self.by_peer.remove(&peer);
        }
        job
    }
}

#[cfg(test)]
mod tests {
    use auth::{Hash, Key};

    use super::*;

    fn seat(desk: &AuthDesk) -> Arc<Seat> {
        let names = Names {
            host: "nqn.host".into(),
            subsystem: "nqn.subsystem".into(),
        };
        let host = Key::new(&[1; 32], Some(Hash::Sha256)).unwrap();
        let controller = None;
        desk.begin(names, Arc::new(HostKeys { host, controller }))
    }

    #[test]
    fn a_thousand_messages_of_one_address_are_one_turn_before_that_of_another() {
        let desk = AuthDesk::new(Policy::default());
        let [crowd, alone] = [1, 2].map(|n| IpAddr::from([192, 0, 2, n]));
        let seats: Vec<_> = (0..1000).map(|_| seat(&desk)).collect();
        for seat in &seats {
            desk.leave(crowd, seat, vec![0]);
        }
        let other = seat(&desk);
        desk.leave(alone, &other, vec![0]);
        let mut random = |bytes: &mut [u8]| bytes.fill(1);
        assert!(desk.work(&mut random) && other.answer().is_none());
        assert!(desk.work(&mut random) && other.answer().is_some());
        assert!(other.answer().is_none(), "once");
        assert_eq!(desk.answers(), 2);
        // Those that are gone cost nothing.
        drop(seats);
        while desk.work(&mut random) {}
        assert_eq!(desk.answers(), 2);
        desk.wait(Duration::ZERO);
    }
}
