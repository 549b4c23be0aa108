//! Resets of a controller that all shards share.
//!
//! A shard that finds that a command takes too long begins a *round*. Every queue pair of the
//! controller then rests: its shard does not touch it. When all do, a thread of its own resets the
//! controller, or gives it up, however long that takes; polling cores go on. The round is over when it is done.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What is done in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    Reset,
    GiveUp,
}

/// Rounds of one controller.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Odd in a round; else how many there were, twice.
    round: AtomicU32,
    /// Queue pairs that there are, and that rest.
    open: AtomicUsize,
    resting: AtomicUsize,
    /// The controller is given up.
    failed: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A queue pair's part in the rounds.
#[derive(Debug)]
pub(super) struct Turn {
    /// The last round seen the end of.
    seen: u32,
    /// The last round that it rested in.
    rested: u32,
}

/// What a queue pair may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    /// Be used.
    Work,
    /// Nothing: a round is under way.
    Rest,
    /// Be freed: the controller was given up.
    End,
}

impl Rounds {
    /// Whether a round is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.round.load(Ordering::Acquire) % 2 == 1
    }

    /// One more queue pair.
    pub(super) fn enter(&self) -> Turn {
        self.open.fetch_add(1, Ordering::AcqRel);
        Turn {
            seen: self.round.load(Ordering::Acquire) & !1,
            rested: 0,
        }
    }

    /// A queue pair less; waits for a round to end.
    pub(super) fn leave(&self, turn: &mut Turn) {
        while self.look(turn) == May::Rest {
            thread::sleep(Duration::from_millis(1));
        }
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // It has only to end.
            thread.join().ok();
        }
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    /// What a queue pair may do now. To be asked at every poll: in a round the others wait for it.
    #[inline]
    pub(super) fn look(&self, turn: &mut Turn) -> May {
        let round = self.round.load(Ordering::Acquire);
        if round == turn.seen {
            return May::Work;
        }
        self.look_again(round, turn)
    }

    #[cold]
    fn look_again(&self, round: u32, turn: &mut Turn) -> May {
        if round % 2 == 1 {
            if std::mem::replace(&mut turn.rested, round) != round {
                self.resting.fetch_add(1, Ordering::AcqRel);
            }
            return May::Rest;
        }
        turn.seen = round;
        match self.failed.load(Ordering::Acquire) {
            true => May::End,
            false => May::Work,
        }
    }

    /// Begins a round in which `work` is done on a thread of its own; its result says whether
    /// the controller still works. Nothing if a round is under way.
    pub(super) fn begin(self: &Arc<Self>, work: impl FnOnce() -> bool + Send + 'static) {
        let round = self.round.load(Ordering::Acquire);
        let next = round.wrapping_add(1);
        if round % 2 == 1
            || (self.round)
                .compare_exchange(round, next, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let rounds = Arc::clone(self);
        let body = move || {
            while rounds.resting.load(Ordering::Acquire) < rounds.open.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(1));
            }
            if !work() {
                rounds.failed.store(true, Ordering::Release);
            }
            rounds.resting.store(0, Ordering::Release);
            rounds.round.fetch_add(1, Ordering::AcqRel);
        };
        let thread = thread::Builder::new().name("reset".into()).spawn(body);
        match thread {
            Ok(thread) => {
                *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
            }
            Err(error) => {
                log::error!("no thread to reset a controller with: {error}");
                self.round.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The work is done while every queue pair rests, and none works before it is done.
    #[test]
    fn k05_a_reset_waits_until_every_queue_pair_rests() {
        let rounds = Arc::new(Rounds::default());
        let mut turns = [rounds.enter(), rounds.enter()];
        let done = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&done);
        rounds.begin(move || {
            flag.store(true, Ordering::Release);
            true
        });
        assert_eq!(rounds.look(&mut turns[0]), May::Rest);
        thread::sleep(Duration::from_millis(20));
        assert!(!done.load(Ordering::Acquire), "one still works");
        while rounds.look(&mut turns[1]) == May::Rest {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(done.load(Ordering::Acquire));
        assert_eq!(
            turns.each_mut().map(|turn| rounds.look(turn)),
            [May::Work; 2]
        );
    }

    /// A second round may begin before a queue pair has seen the end of the first.
    #[test]
    fn k05_rounds_follow_each_other() {
        let rounds = Arc::new(Rounds::default());
        let (mut quick, mut slow) = (rounds.enter(), rounds.enter());
        for _ in 0..3 {
            rounds.begin(|| true);
            assert_eq!(rounds.look(&mut quick), May::Rest);
            assert_eq!(rounds.look(&mut slow), May::Rest);
            while rounds.look(&mut quick) == May::Rest {
                thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(rounds.look(&mut slow), May::Work);
    }

    #[test]
    fn k05_a_controller_that_is_given_up_ends_every_queue_pair_once() {
        let rounds = Arc::new(Rounds::default());
        let (mut first, mut second) = (rounds.enter(), rounds.enter());
        rounds.begin(|| false);
        // Another round is not begun meanwhile.
        rounds.begin(|| panic!("a second round in the first"));
        let last = |turn: &mut Turn, other: &mut Turn| loop {
            match rounds.look(turn) {
                May::Rest => {
                    if other.rested > 0 {
                        thread::sleep(Duration::from_millis(1));
                    } else {
                        rounds.look(other);
                    }
                }
                end => break end,
            }
        };
        assert_eq!(last(&mut first, &mut second), May::End);
        assert_eq!(last(&mut second, &mut first), May::End);
        rounds.leave(&mut first);
        rounds.leave(&mut second);
        assert_eq!(rounds.open.load(Ordering::Acquire), 0);
    }
}
