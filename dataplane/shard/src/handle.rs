//! The control side's hold on a running engine.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use block::{DeviceState, NamespaceIndex, Smart, VolumeId};
use mirror::Answer;
use net::AddressState;
use nvmf::Target;
use sync::Watched;

use crate::addresses::{Addresses, PortAddress};
use crate::alert_desk::{AlertCounters, AlertDesk, PairAlert};
use crate::capture_desk::CaptureDesk;
use crate::change::{Change, ChangeError, Changes, ShardEnds};
use crate::health::{Health, PortState, Seen};
use crate::offer::{Offer, StoreInfo};
use crate::pair_desk::{PairDesk, PairOrder, PairOutcome, PairQuestion, PairReport};
use crate::point_desk::{PointDesk, PointDone, PointError};
use crate::reports::{Reports, TurnedAway};
use crate::snapshot::{AnaSnapshot, Inventory, NamespaceName, ShardSnapshot, Snapshot};

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
    points: PointDesk,
    pairs: PairDesk,
    alerts: AlertDesk,
    reports: Reports,
    addresses: Addresses,
    seen: Mutex<Seen>,
    /// One change at a time: its end belongs to whoever asked for it.
    changing: Mutex<()>,
    /// From when shards are expected on.
    changes: Mutex<Option<Changes>>,
    /// By shard, until it takes its own.
    change_ends: Mutex<Vec<Option<ShardEnds>>>,
}

/// Written by one shard alone, on a cache line (and its neighbour) of its own.
#[derive(Default)]
#[repr(align(128))]
struct Rounds(AtomicU64);

#[derive(Default)]
struct Answers {
    tsc_hz: u64,
    ports: Vec<String>,
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

    pub(crate) fn pairs(&self) -> &PairDesk {
        &self.shared.pairs
    }

    pub(crate) fn alerts(&self) -> &AlertDesk {
        &self.shared.alerts
    }

    /// Alerts of pairs are kept for [`Handle::next_pair_alert`] from now on, some dozens of them.
    pub fn want_pair_alerts(&self) {
        self.shared.alerts.want();
    }

    /// The next alert of a pair; waits for it so long at most.
    pub fn next_pair_alert(&self, timeout: Duration) -> Option<PairAlert> {
        self.shared.alerts.next(timeout)
    }

    /// The operator's command was run for an alert.
    pub fn pair_alert_command_ended(&self, is_good: bool) {
        self.shared.alerts.ran(is_good);
    }

    /// Nobody takes alerts of pairs any more; how many wait.
    pub fn drop_pair_alerts(&self) -> usize {
        self.shared.alerts.drop_waiting()
    }

    /// What became of alerts of pairs.
    pub fn pair_alert_counters(&self) -> AlertCounters {
        self.shared.alerts.counters()
    }

    /// There are pairs, of volumes on these stores, with these nodes.
    pub fn expect_pairs(&self, names: Vec<(String, [u8; 16])>) {
        self.shared.pairs.expect(names);
    }

    /// A volume is mirrored, which shards are about to serve: hosts see as much of it as it has.
    pub fn expect_mirrored(&self, volume: VolumeId, shared: &Arc<mirror::Mirrored>) {
        if let Some(changes) = lock(&self.shared.changes).as_mut()
            && let Err(error) = changes.mirror(volume, shared)
        {
            log::error!("hosts do not see the size of a mirrored volume: {error}");
        }
    }

    /// How volumes of pairs stand (row R3).
    pub fn pair_reports(&self) -> Vec<PairReport> {
        self.shared.pairs.reports()
    }

    /// Has an operator's order about the volume of a pair on store `name` carried out (row R3).
    ///
    /// # Errors
    /// A sentence: there is no such volume, or why that is not to be.
    pub fn order_pair(&self, name: &str, order: PairOrder, timeout: Duration) -> PairOutcome {
        self.shared.pairs.order(name, order, timeout)
    }

    /// What the arbiter of the pair with a peer is to be asked next; waits for it so long at most.
    pub fn next_pair_question(&self, peer: usize, timeout: Duration) -> Option<PairQuestion> {
        self.shared.pairs.next_question(peer, timeout)
    }

    /// The arbiter has answered, or does not.
    pub fn pair_question_answered(&self, question: &PairQuestion, answer: Answer) {
        self.shared.pairs.answered(question, answer);
    }

    /// The node's lease at the arbiter lasts until then at least: counted from when its renewal was sent.
    pub fn leased(&self, peer: usize, until: Instant) {
        self.shared.pairs.leased(peer, until);
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
                let mut shards: Vec<_> =
                    answers.shards.iter_mut().filter_map(Option::take).collect();
                let (tsc_hz, ports) = (answers.tsc_hz, answers.ports.clone());
                let target = answers.target.clone();
                drop(answers);
                let (indexes, namespaces) = self.namespaces();
                for shard in &mut shards {
                    shard.in_order_of(&indexes);
                }
                return Some(Snapshot {
                    tsc_hz,
                    shards,
                    inventory: Arc::new(Inventory { ports, namespaces }),
                    controllers: target.map_or_else(Vec::new, |target| target.controllers()),
                    ana: self.ana_states(),
                    drives: self.drives(),
                    pairs: self.pair_reports(),
                    alerts: self.pair_alert_counters(),
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

    /// The namespaces that are offered.
    fn namespaces(&self) -> (Vec<NamespaceIndex>, Vec<NamespaceName>) {
        let changes = lock(&self.shared.changes);
        changes
            .as_ref()
            .map(Changes::namespaces)
            .unwrap_or_default()
    }

    /// The states of ANA groups: by subsystem, group and listener.
    pub fn ana_states(&self) -> Vec<AnaSnapshot> {
        let changes = lock(&self.shared.changes);
        changes
            .as_ref()
            .map(Changes::ana_states)
            .unwrap_or_default()
    }

    /// How ports and namespaces are; empty before shards are expected.
    pub fn health(&self) -> Health {
        let (ports, _) = self.ports_and_shards();
        let (namespaces, logs, parts) = (lock(&self.shared.changes).as_ref())
            .map(|changes| {
                let (logs, parts) = (changes.logs_on_volumes(), changes.parts_on_volumes());
                (changes.namespaces_on_volumes(), logs, parts)
            })
            .unwrap_or_default();
        let is_pair = logs.len() > 1;
        let seen = lock(&self.shared.seen);
        Health {
            ports: (ports.into_iter().enumerate())
                .map(|(at, name)| (name, seen.port(at)))
                .collect(),
            namespaces: (namespaces.into_iter())
                .map(|(name, volume)| (name, seen.device(volume)))
                .collect(),
            parts: (parts.into_iter())
                .map(|(span, name, volume)| (span, name, seen.device(volume)))
                .collect(),
            logs: (logs.into_iter())
                .filter(|_| is_pair)
                .map(|(name, volume)| (name, seen.device(volume)))
                .collect(),
        }
    }

    /// Port number `port` is so; whether it was not.
    pub fn note_port(&self, port: usize, state: PortState) -> bool {
        lock(&self.shared.seen).note_port(port, state)
    }

    /// A device is so, as a shard sees it; whether that could be noted without a wait.
    pub(crate) fn note_device(&self, shard: usize, volume: VolumeId, state: DeviceState) -> bool {
        let seen = self.shared.seen.try_lock();
        seen.is_ok_and(|mut seen| {
            seen.note_device(shard, volume, state);
            true
        })
    }

    /// The names of the ports, and how many shards there are.
    pub(crate) fn ports_and_shards(&self) -> (Vec<String>, usize) {
        let answers = self.shared.answers.lock();
        (answers.ports.clone(), answers.shards.len())
    }

    /// Whether a capture runs, or its file is not finished yet.
    pub fn is_capturing(&self) -> bool {
        self.shared.captures.is_busy()
    }

    pub(crate) fn captures(&self) -> &CaptureDesk {
        &self.shared.captures
    }

    /// How often each shard was between turns, which is every few dozens of
    /// polls. A number that stays says that its shard is stuck; who sees a later one sees what the shard did before. Empty before shards poll.
    pub fn rounds(&self) -> Vec<u64> {
        let rounds = self.shared.rounds.get().into_iter().flatten();
        rounds
            .map(|shard| shard.0.load(Ordering::Acquire))
            .collect()
    }

    /// A shard is alive. Costs a store to a line that no other shard writes.
    pub(crate) fn heartbeat(&self, shard: usize) {
        if let Some(rounds) = self.shared.rounds.get() {
            let round = &rounds[shard].0;
            round.store(round.load(Ordering::Relaxed) + 1, Ordering::Release);
        }
    }

    /// Called once, before shards poll.
    pub fn expect_shards(
        &self,
        shards: usize,
        tsc_hz: u64,
        ports: Vec<String>,
        offer: Offer,
        target: &Arc<Target>,
    ) {
        (self.shared.rounds).get_or_init(|| (0..shards).map(|_| Rounds::default()).collect());
        let (changes, ends) = Changes::new(shards, offer, target);
        *lock(&self.shared.change_ends) = ends.into_iter().map(Some).collect();
        let mut answers = self.shared.answers.lock();
        answers.shards = vec![None; shards];
        answers.tsc_hz = tsc_hz;
        answers.ports = ports;
        answers.target = Some(Arc::clone(target));
        drop(answers);
        *lock(&self.shared.changes) = Some(changes);
    }

    /// Makes a change on every shard: what hosts may use is there before they see it,
    /// and drained before it is free for others.
    ///
    /// # Errors
    /// Nothing has changed, but for [`ChangeError::Unanswered`]: then it goes on in
    /// [`Handle::tend`], and no other change begins before it is made.
    pub fn change(&self, change: Change, timeout: Duration) -> Result<(), ChangeError> {
        let _turn = lock(&self.shared.changing);
        let deadline = Instant::now() + timeout;
        // One that was left behind may have come to its end.
        self.poll_change();
        self.begin_change(change)?;
        loop {
            if let Some(result) = self.poll_change() {
                return result;
            }
            if Instant::now() >= deadline {
                return Err(ChangeError::Unanswered);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Has every shard make a consistency point: what was acknowledged before is on its drives then.
    ///
    /// # Errors
    /// Why it is not. Nothing is lost: the log has it.
    pub fn consistency_point(&self, timeout: Duration) -> Result<PointDone, PointError> {
        let _turn = lock(&self.shared.points.turn);
        let deadline = Instant::now() + timeout;
        self.begin_point()?;
        loop {
            if let Some(result) = self.poll_point() {
                return result;
            }
            if self.is_stopping() {
                return Err(PointError::NotServing);
            }
            if Instant::now() >= deadline {
                return Err(self.points().late());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Asks shards for a consistency point; [`Handle::poll_point`] says how it went.
    pub(crate) fn begin_point(&self) -> Result<(), PointError> {
        if !self.is_ready() {
            return Err(PointError::NotServing);
        }
        self.points().ask(self.ports_and_shards().1);
        Ok(())
    }

    /// How the consistency point went, once all shards have come to its end.
    pub(crate) fn poll_point(&self) -> Option<Result<PointDone, PointError>> {
        self.points().poll()
    }

    pub(crate) fn points(&self) -> &PointDesk {
        &self.shared.points
    }

    /// A shard has turned so many more peers away.
    pub(crate) fn turned_away(&self, more: TurnedAway) {
        self.shared.reports.add(more);
    }

    /// The addresses of a shard's port stand so now.
    pub(crate) fn addresses_stand(
        &self,
        shard: usize,
        port: usize,
        now: Vec<(IpAddr, AddressState)>,
    ) {
        self.shared.addresses.say(shard, port, now);
    }

    /// The addresses of all ports, and how they stand: none before shards poll.
    pub fn addresses(&self) -> Vec<PortAddress> {
        self.shared.addresses.all()
    }

    /// The addresses that another station has, or uses too.
    pub fn address_conflicts(&self) -> Vec<PortAddress> {
        let mut all = self.addresses();
        all.retain(|one| {
            matches!(
                one.state,
                AddressState::Taken(_) | AddressState::Contested(_)
            )
        });
        all
    }

    /// To be called now and then while shards run, by a thread that has nothing to wait
    /// for: changes that were left behind go on, hosts are told of devices that have
    /// another size, and the log of hosts that were turned away and of addresses that
    /// somebody else has.
    pub fn tend(&self) {
        if let Some(line) = self.shared.reports.poll(Instant::now()) {
            log::warn!("{line}");
        }
        for (level, line) in self.shared.addresses.poll(|| self.ports_and_shards().0) {
            log::log!(level, "{line}");
        }
        let Ok(_turn) = self.shared.changing.try_lock() else {
            return;
        };
        if let Some(Err(error)) = self.poll_change() {
            log::error!("a change was not made: {error}");
        }
        if let Some(store) = self.resized() {
            let name = store.clone();
            match self.begin_change(Change::Resize { store }) {
                Ok(()) => {
                    log::info!(
                        "store `{name}`: its device, or the volume on it, has another size: hosts are told"
                    )
                }
                Err(error) => log::debug!("not yet: {error}"),
            }
        }
    }

    /// Begins a change; [`Handle::poll_change`] makes it.
    ///
    /// # Errors
    /// It does not fit what is offered, or another is under way.
    pub fn begin_change(&self, change: Change) -> Result<(), ChangeError> {
        match &mut *lock(&self.shared.changes) {
            Some(changes) if self.is_ready() => changes.begin(change),
            _ => Err(ChangeError::NotServing),
        }
    }

    /// Goes on with the change under way; its end, once there is one.
    pub fn poll_change(&self) -> Option<Result<(), ChangeError>> {
        lock(&self.shared.changes).as_mut()?.poll()
    }

    /// A store whose device was resized: to be told to hosts by [`Change::Resize`].
    pub fn resized(&self) -> Option<String> {
        lock(&self.shared.changes).as_ref()?.resized()
    }

    /// The stores that are open, and namespaces as hosts see them with their subsystems' NQNs.
    pub fn offered(&self) -> (Vec<StoreInfo>, Vec<(String, nvmf::NamespaceConfig)>) {
        let changes = lock(&self.shared.changes);
        let Some(changes) = changes.as_ref() else {
            return Default::default();
        };
        (changes.stores().to_vec(), changes.as_hosts_see())
    }

    /// What the drives of stores last said of their health.
    fn drives(&self) -> Vec<(String, Smart)> {
        let changes = lock(&self.shared.changes);
        let stores = changes.as_ref().map_or(&[][..], Changes::stores);
        let smart = |store: &StoreInfo| Some((store.name.clone(), store.smart.get()?));
        // One that lies on several has said nothing that they have not.
        let drives = stores.iter().filter(|store| !store.is_span);
        drives.filter_map(smart).collect()
    }

    /// A shard's ends of the rings that changes cross; each has them once.
    pub(crate) fn take_change_ends(&self, shard: usize) -> Option<ShardEnds> {
        lock(&self.shared.change_ends).get_mut(shard)?.take()
    }

    /// A device has so many blocks now.
    pub(crate) fn note_resized(&self, volume: VolumeId, blocks: u64) {
        // What is not noted now is seen again at the next look.
        if let Ok(mut changes) = self.shared.changes.try_lock()
            && let Some(changes) = changes.as_mut()
        {
            changes.note_resized(volume, blocks);
        }
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

/// Locks, whatever a panicking holder may have left: these values are whole between calls.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
