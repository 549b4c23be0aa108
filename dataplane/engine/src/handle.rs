//! The control side's hold on a running engine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::snapshot::{ShardSnapshot, Snapshot};

/// Stops a running engine and asks it for its counters, from any thread.
///
/// Shards look at it between polls; nothing on the I/O path waits for it.
#[derive(Clone, Default)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    ready: AtomicBool,
    /// Number of the newest question; shards answer when they see it change.
    question: AtomicU64,
    answers: Mutex<Answers>,
    answered: Condvar,
}

#[derive(Default)]
struct Answers {
    question: u64,
    tsc_hz: u64,
    shards: Vec<Option<ShardSnapshot>>,
}

impl Handle {
    /// A handle to give to [`run`](crate::run).
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the engine to stop; [`run`](crate::run) returns when it has.
    /// Safe to call from a signal handler.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }

    /// Whether the engine was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Whether every shard is polling and every listener is open.
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Acquire)
    }

    /// The counters of every shard; `None` if not all answered within `timeout`
    /// (the engine is not running, or a shard is stuck).
    pub fn snapshot(&self, timeout: Duration) -> Option<Snapshot> {
        let deadline = Instant::now() + timeout;
        let mut answers = self.answers();
        answers.question += 1;
        answers.shards.iter_mut().for_each(|shard| *shard = None);
        self.shared
            .question
            .store(answers.question, Ordering::Release);
        loop {
            if !answers.shards.is_empty() && answers.shards.iter().all(Option::is_some) {
                let shards = answers.shards.iter_mut().filter_map(Option::take).collect();
                return Some(Snapshot {
                    tsc_hz: answers.tsc_hz,
                    shards,
                });
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            answers = self
                .shared
                .answered
                .wait_timeout(answers, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Called once, before shards poll.
    pub(crate) fn expect_shards(&self, shards: usize, tsc_hz: u64) {
        let mut answers = self.answers();
        answers.shards = vec![None; shards];
        answers.tsc_hz = tsc_hz;
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.shared.ready.store(ready, Ordering::Release);
    }

    /// The newest question.
    pub(crate) fn question(&self) -> u64 {
        self.shared.question.load(Ordering::Relaxed)
    }

    /// A shard's answer to the newest question.
    pub(crate) fn answer(&self, shard: usize, snapshot: ShardSnapshot) {
        self.answers().shards[shard] = Some(snapshot);
        self.shared.answered.notify_all();
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.shared
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
