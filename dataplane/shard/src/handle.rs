//! The control side's hold on a running engine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nvmf::Target;
use sync::Watched;

use crate::capture_desk::CaptureDesk;
use crate::snapshot::{Inventory, ShardSnapshot, Snapshot};

/// Stops running shards and asks them for their counters, from any thread.
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
    /// One question at a time: a snapshot belongs to whoever asked for it.
    asking: Mutex<()>,
    /// Its number is the newest question's; shards answer when they see it change.
    /// Odd numbers ask for the connections too.
    answers: Watched<Answers>,
    answered: Condvar,
    /// What each shard counts while it polls.
    rounds: OnceLock<Box<[Rounds]>>,
    captures: CaptureDesk,
}

/// Written by one shard alone, on a cache line (and its neighbour) of its own.
#[derive(Default)]
#[repr(align(128))]
struct Rounds(AtomicU64);

#[derive(Default)]
struct Answers {
    tsc_hz: u64,
    inventory: Arc<Inventory>,
    target: Option<Arc<Target>>,
    shards: Vec<Option<ShardSnapshot>>,
}

/// How much a snapshot has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Counters of shards and namespaces.
    Counters,
    /// Every connection too.
    Connections,
}

impl Handle {
    /// A handle to give to every shard.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every shard to stop.
    /// Safe to call from a signal handler.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }

    /// Whether shards were asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Whether every shard is polling and every listener is open.
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Acquire)
    }

    /// The counters of every shard; `None` if not all answered within `timeout`
    /// (the engine is not running, or a shard is stuck).
    pub fn snapshot(&self, detail: Detail, timeout: Duration) -> Option<Snapshot> {
        let _turn = (self.shared.asking.lock()).unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + timeout;
        let mut answers = self.shared.answers.lock();
        answers.shards.iter_mut().for_each(|shard| *shard = None);
        let last = self.question();
        let question = (last & !1) + 2 + u64::from(detail == Detail::Connections);
        self.shared.answers.publish(&answers, question);
        loop {
            if !answers.shards.is_empty() && answers.shards.iter().all(Option::is_some) {
                let shards = answers.shards.iter_mut().filter_map(Option::take).collect();
                let (tsc_hz, inventory) = (answers.tsc_hz, Arc::clone(&answers.inventory));
                let target = answers.target.clone();
                drop(answers);
                return Some(Snapshot {
                    tsc_hz,
                    shards,
                    inventory,
                    controllers: target.map_or_else(Vec::new, |target| target.controllers()),
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

    /// The names of the ports, and how many shards there are.
    pub(crate) fn ports_and_shards(&self) -> (Vec<String>, usize) {
        let answers = self.shared.answers.lock();
        (answers.inventory.ports.clone(), answers.shards.len())
    }

    /// Whether a capture runs, or its file is not finished yet.
    pub fn is_capturing(&self) -> bool {
        self.shared.captures.is_busy()
    }

    pub(crate) fn captures(&self) -> &CaptureDesk {
        &self.shared.captures
    }

    /// How often each shard was between turns, which is every few dozens of
    /// polls. A number that stays says that its shard is stuck. Empty before shards poll.
    pub fn rounds(&self) -> Vec<u64> {
        let rounds = self.shared.rounds.get().into_iter().flatten();
        rounds
            .map(|shard| shard.0.load(Ordering::Relaxed))
            .collect()
    }

    /// A shard is alive. Costs a store to a line that no other shard writes.
    pub(crate) fn heartbeat(&self, shard: usize) {
        if let Some(rounds) = self.shared.rounds.get() {
            let round = &rounds[shard].0;
            round.store(round.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// Called once, before shards poll.
    pub fn expect_shards(
        &self,
        shards: usize,
        tsc_hz: u64,
        inventory: Inventory,
        target: &Arc<Target>,
    ) {
        (self.shared.rounds).get_or_init(|| (0..shards).map(|_| Rounds::default()).collect());
        let mut answers = self.shared.answers.lock();
        answers.shards = vec![None; shards];
        answers.tsc_hz = tsc_hz;
        answers.inventory = Arc::new(inventory);
        answers.target = Some(Arc::clone(target));
    }

    /// Says whether every shard polls and every listener is open.
    pub fn set_ready(&self, ready: bool) {
        self.shared.ready.store(ready, Ordering::Release);
    }

    /// The newest question.
    pub(crate) fn question(&self) -> u64 {
        self.shared.answers.number()
    }

    /// How much a question asks for.
    pub(crate) fn detail(question: u64) -> Detail {
        if question & 1 == 1 {
            Detail::Connections
        } else {
            Detail::Counters
        }
    }

    /// A shard's answer to `question`; dropped if another one was asked since.
    pub(crate) fn answer(&self, question: u64, shard: usize, snapshot: ShardSnapshot) {
        let mut answers = self.shared.answers.lock();
        if question == self.question() {
            answers.shards[shard] = Some(snapshot);
            self.shared.answered.notify_all();
        }
    }
}
