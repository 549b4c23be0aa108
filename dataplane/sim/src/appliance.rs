//! An appliance: shards that share ports and devices, from their start to their stop
//! or until they are killed.

mod build;
mod changes;
mod logs;
mod pair;
mod stop;
mod tables;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use block::WritePolicy;
use nvmf::{ListenerConfig, Target};
use pages::Arena;
use shard::{Entrance, Handle, SubsystemConfig};
use testkit::Random;

use crate::clock::{self, MICROSECOND, MILLISECOND, Nanoseconds, VirtualTime};
use crate::device::Machine;
use crate::disk::Disk;
use crate::dma::Reach;
use crate::frame::Frame;
use crate::guard;
use crate::oracle::Oracle;
use crate::plan::{AppliancePlan, LogPlan, Moment, NetworkPlan, VolumePlan};
use crate::port::Nic;
use crate::secure::TlsPlan;
use crate::trace::{Trace, event};
use crate::wire::Node;
pub(crate) use build::{address, at_port, stack_config};
use changes::Offering;
use logs::{Logs, Remedy};
pub(crate) use pair::{Node as PairNode, PairPlan, PairVolume};
use stop::Stage;
use tables::Tables;
use volume::LogStart;

pub(crate) type Shard = shard::Shard<Machine>;

/// The longest that an idle shard is not polled: its timers are late by no more.
const IDLE_MAX: Nanoseconds = 10 * MILLISECOND;

/// Of so many turns, in one the guest gets a key or loses it.
const GUEST_CHANGES: u64 = 2000;

/// The subsystem that all hosts connect to.
pub(crate) const SUBSYSTEM: &str = "nqn.2026-01.com.example:sim";
/// The port that it listens on.
pub(crate) const TCP_PORT: u16 = 4420;

/// An appliance, on or off, with the devices that outlive it.
pub(crate) struct Appliance {
    index: usize,
    plan: AppliancePlan,
    network: NetworkPlan,
    volumes: Vec<VolumePlan>,
    log: Option<LogPlan>,
    logs: Logs,
    /// Where the log has room for them.
    tables: Option<Tables>,
    /// By volume; behind them those of the log, if there is one, and what else volumes lie on.
    disks: Vec<Rc<RefCell<Disk>>>,
    /// By port.
    nics: Vec<Nic>,
    /// How its time goes by.
    clock: VirtualTime,
    random: Random,
    trace: Trace,
    running: Option<Running>,
    /// Times that it was turned on.
    started: usize,
    has_left_dirty: bool,
    offering: Offering,
    /// As [`Appliance::log_writes`], when it last began to serve.
    log_writes_at_start: (u64, u64),
    /// What it keeps of a pair.
    pair: Option<PairNode>,
    /// Its log was made, and has taken changes.
    has_had_a_log: bool,
}

/// One start of an appliance.
struct Running {
    shards: Vec<Shard>,
    turns: Vec<Turn>,
    handle: Handle,
    target: Arc<Target>,
    arenas: Vec<Rc<Arena>>,
    /// It was killed: what it still does reaches no device.
    is_dead: Rc<Cell<bool>>,
    listeners: Vec<Entrance>,
    /// Where hosts come in.
    listener: ListenerConfig,
    /// What it offers when it starts.
    subsystem: SubsystemConfig,
    stopping: Option<Stopping>,
    /// The first shard replays the log: none takes requests.
    is_replaying: bool,
    /// What its log began with, until somebody looks.
    begun: Option<LogStart>,
    /// Why it could not be replayed.
    refused: Option<String>,
    /// What shards share of the volumes of a pair.
    mirrored: Vec<Arc<mirror::Mirrored>>,
    /// None of its threads runs until then.
    paused_until: Nanoseconds,
}

/// When a shard is polled next.
struct Turn {
    at: Nanoseconds,
    /// How long it waits if it finds nothing to do.
    idle: Nanoseconds,
    /// Whatever comes.
    not_before: Nanoseconds,
}

/// A stop under way.
struct Stopping {
    stages: Vec<Stage>,
    deadline: Nanoseconds,
}

/// What became of a stop.
pub(crate) enum Stopped {
    NotYet,
    /// Everything was given back.
    Done,
    /// A device kept what it had: the process ended without it.
    Abandoned,
    /// Something was not.
    Wrong(String),
}

impl Appliance {
    pub(crate) fn new<'a>(
        index: usize,
        plan: &AppliancePlan,
        network: &NetworkPlan,
        volumes: &'a [VolumePlan],
        log: Option<&'a LogPlan>,
        random: &mut Random,
        trace: &Trace,
    ) -> Self {
        let first = |volume: &'a VolumePlan| volume.parts.first().unwrap_or(&volume.disk);
        let configs = volumes.iter().map(first);
        let more = volumes
            .iter()
            .flat_map(|volume| volume.parts.iter().skip(1));
        let lies = log.is_some_and(LogPlan::lies);
        let of_log = log.map(|log| [Some(&log.disk), log.mirror.as_ref()]);
        let of_log = of_log.into_iter().flatten().flatten();
        let disks: Vec<_> = (configs.chain(of_log).chain(more).enumerate())
            .map(|(i, config)| {
                let disk = Disk::new(i, config.clone(), random.fork(), trace);
                Rc::new(RefCell::new(disk))
            })
            .collect();
        let logged = (volumes.iter().enumerate())
            .filter(|(_, volume)| volume.policy == WritePolicy::Logged)
            .map(|(i, volume)| (i, build::volume_id(volumes, disks.len(), i), volume));
        let has_tables = log.is_some_and(|log| log.tables_len > 0);
        Self {
            index,
            tables: has_tables.then(|| Tables::new(logged)),
            plan: plan.clone(),
            network: network.clone(),
            volumes: volumes.to_vec(),
            log: log.cloned(),
            logs: Logs::new(log.map_or(0, LogPlan::disks), lies),
            disks,
            nics: build::nics(plan),
            clock: VirtualTime::default(),
            random: random.fork(),
            trace: trace.clone(),
            running: None,
            started: 0,
            has_left_dirty: false,
            offering: Offering::new(volumes.len()),
            log_writes_at_start: (0, 0),
            pair: None,
            has_had_a_log: false,
        }
    }

    /// The devices that the log is on.
    pub(crate) fn logs(&self) -> &[Rc<RefCell<Disk>>] {
        let first = self.volumes.len();
        &self.disks[first..first + self.logs.count]
    }

    /// How often it was started.
    pub(crate) fn runs(&self) -> usize {
        self.started
    }

    /// Whether a command of its log's has failed since it was started.
    pub(crate) fn has_failed_logs(&self) -> bool {
        self.logs().iter().any(|log| log.borrow().has_failed())
    }

    /// Whether one device of the log alone may lie, or be in trouble, and nobody sees it.
    pub(crate) fn has_two_logs(&self) -> bool {
        self.logs().len() > 1
    }

    /// Devices of the log that it uses since it started.
    pub(crate) fn logs_in_use(&self) -> impl Iterator<Item = &Rc<RefCell<Disk>>> {
        let places = self.logs.configured().into_iter();
        let there = places.filter(|&place| self.logs.absent != Some(place));
        there.filter_map(|place| self.logs().get(place))
    }

    /// Whether it serves, and this has become of its log since.
    pub(crate) fn has_come(&self, moment: Moment) -> bool {
        let (writes, superblocks) = self.log_writes();
        self.is_serving()
            && match moment {
                Moment::Failure => self.logs_in_use().any(|disk| disk.borrow().has_failed()),
                Moment::Write(count) => writes >= self.log_writes_at_start.0 + count,
                Moment::Superblock(count) => superblocks >= self.log_writes_at_start.1 + count,
            }
    }

    /// Writes that the log's devices were given so far, and those of them that were of superblocks.
    fn log_writes(&self) -> (u64, u64) {
        let writes = self.logs().iter().map(|disk| disk.borrow().log_writes());
        writes.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// The devices of logged volumes.
    pub(crate) fn logged(&self) -> impl Iterator<Item = &Rc<RefCell<Disk>>> {
        let logged = (0..self.volumes.len()).filter(|&volume| self.is_logged(volume));
        logged.flat_map(|volume| self.disks_of(volume))
    }

    /// What a volume lies on.
    pub(crate) fn disks_of(&self, volume: usize) -> impl Iterator<Item = &Rc<RefCell<Disk>>> {
        build::places(&self.volumes, self.logs.count, volume).map(|place| &self.disks[place])
    }

    pub(crate) fn is_logged(&self, volume: usize) -> bool {
        self.volumes[volume].policy == WritePolicy::Logged
    }

    /// Whether a device is in trouble, or has been since the appliance started.
    pub(crate) fn had_trouble(&self) -> bool {
        self.disks.iter().any(|disk| disk.borrow().had_trouble())
    }

    /// Whether a device is gone: what was dirty for it keeps its memory until another start.
    pub(crate) fn has_lost_a_device(&self) -> bool {
        self.disks.iter().any(|disk| disk.borrow().is_gone())
    }

    pub(crate) fn volumes(&self) -> usize {
        self.volumes.len()
    }

    pub(crate) fn disks(&self) -> &[Rc<RefCell<Disk>>] {
        &self.disks
    }

    /// What it did at a device that must not be, or did not do of a change.
    pub(crate) fn breach(&self) -> Option<String> {
        let breach = |disk: &Rc<RefCell<Disk>>| disk.borrow().breach().map(str::to_owned);
        let of_tables = self.tables.as_ref().and_then(Tables::breach);
        let breach = self.disks.iter().find_map(breach);
        let breach = breach.or(of_tables.map(str::to_owned));
        breach.or_else(|| self.wrong_change())
    }

    /// Whether a volume is behind the page cache, or may be.
    pub(crate) fn is_cached(&self, volume: usize) -> bool {
        self.volumes[volume].is_cached()
    }

    /// Whether its last stop left pages that no device took.
    pub(crate) fn has_left_dirty(&self) -> bool {
        self.has_left_dirty
    }

    /// Controllers that it has of a host.
    pub(crate) fn controllers(&self, host: &str) -> usize {
        let running = self.running.iter();
        let controllers = running.flat_map(|running| running.target.controllers());
        controllers.filter(|known| known.host == host).count()
    }

    /// Its time goes by as this clock says.
    pub(crate) fn set_clock(&mut self, clock: VirtualTime) {
        self.clock = clock;
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether it takes requests.
    pub(crate) fn is_serving(&self) -> bool {
        (self.running.as_ref())
            .is_some_and(|running| running.stopping.is_none() && !running.is_replaying)
    }

    /// Whether it replays its log.
    pub(crate) fn is_replaying(&self) -> bool {
        (self.running.as_ref()).is_some_and(|running| running.is_replaying)
    }

    /// Why its log could not be replayed: it ends.
    pub(crate) fn refused(&mut self) -> Option<String> {
        self.running.as_mut()?.refused.take()
    }

    /// Whether a store lied while the log was first made, of which nothing was acknowledged.
    pub(crate) fn was_lied_to_at_first(&self) -> bool {
        let lied = |log: &Rc<RefCell<Disk>>| log.borrow().lied_at().is_some();
        !self.has_had_a_log && self.logs().iter().any(lied)
    }

    /// Whether another start may do better than the one that refused, which is killed then.
    pub(crate) fn may_try_again(&mut self) -> bool {
        let had_trouble = self.had_trouble();
        let remedy = self.logs.refused(had_trouble, &mut self.random);
        matches!(remedy, Remedy::Again)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| running.stopping.is_some())
    }

    /// Turns it on, with the stores of its log as they are found.
    pub(crate) fn start(&mut self) {
        self.logs.draw(&mut self.random);
        self.start_again();
    }

    /// Turns it on.
    pub(crate) fn start_again(&mut self) {
        assert!(self.running.is_none(), "it is on already");
        event!(
            self.trace,
            "start",
            [self.index],
            "appliance {}",
            self.index
        );
        self.nics.iter().for_each(Nic::clear);
        if let Some(&shards) = self
            .plan
            .starts
            .get(self.started % self.plan.starts.len().max(1))
        {
            self.plan.shards = shards;
            self.nics = build::nics(&self.plan);
        }
        self.started += 1;
        for disk in &self.disks {
            disk.borrow_mut().attach();
        }
        let running = self.build();
        let mut reach = Reach::default();
        running.arenas.iter().for_each(|arena| reach.add(arena));
        for disk in &self.disks {
            disk.borrow_mut().set_reach(reach.clone());
        }
        self.running = Some(running);
    }

    /// Kills it: what it had under way at devices is done in part, and everything else is gone.
    /// What was in its memory is taken apart without reaching anything; the error says what
    /// of it could not be.
    pub(crate) fn kill(&mut self, power: bool) -> Result<(), String> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        if let Some(node) = &mut self.pair {
            node.goes_off(&mut running);
        }
        self.note_logs(&running, false);
        self.offering.end();
        event!(
            self.trace,
            "kill",
            [self.index, power],
            "appliance {}, power {power}",
            self.index
        );
        for disk in &self.disks {
            disk.borrow_mut().kill(power);
        }
        self.nics.iter().for_each(Nic::clear);
        let result = running.take_apart(clock::now());
        self.nics.iter().for_each(Nic::clear);
        for disk in &self.disks {
            disk.borrow_mut().set_reach(Reach::default());
        }
        result
    }

    /// It was killed, and what was promised until then is known.
    pub(crate) fn crashed(&mut self, oracle: &Oracle) {
        if let Some(tables) = &mut self.tables {
            tables.crashed(oracle);
        }
    }

    /// Takes note of what a run said of the log's stores.
    fn note_logs(&mut self, running: &Running, is_stopped: bool) {
        if self.logs.count < 2 {
            return;
        }
        if running.is_replaying {
            return self.logs.blur();
        }
        let said = running.shards.iter().map(|shard| {
            let snapshot = shard.snapshot(Vec::new());
            let layers = snapshot.counters.iter().filter(|layer| layer.name == "log");
            let mut counters = layers.flat_map(|layer| &layer.counters);
            let out = counters.find(|counter| counter.name == "out");
            out.map_or(0, |counter| counter.value)
        });
        let failed = self.logs().iter().map(|disk| disk.borrow().has_failed());
        let (said, failed): (Vec<_>, Vec<_>) = (said.collect(), failed.collect());
        self.logs.ended(said, &failed, is_stopped);
    }

    /// None of its threads runs until then, as those of a process that was stopped by a signal.
    pub(crate) fn pause(&mut self, until: Nanoseconds) {
        if let Some(running) = &mut self.running {
            running.paused_until = running.paused_until.max(until);
            for turn in &mut running.turns {
                turn.not_before = until + self.random.below(10 * MILLISECOND);
                turn.at = turn.at.max(turn.not_before);
            }
        }
    }

    /// Until when none of its threads runs, if that is so.
    pub(crate) fn paused_until(&self) -> Option<Nanoseconds> {
        let until = self.running.as_ref()?.paused_until;
        (until > clock::now()).then_some(until)
    }

    /// A frame came in by a port.
    pub(crate) fn receive(&mut self, port: usize, frame: Frame) {
        let Some(running) = &mut self.running else {
            return;
        };
        if let Some(queue) = self.nics[port].receive(frame) {
            running.wake(queue, self.random.below(3 * MICROSECOND));
        }
    }

    /// When something happens next.
    pub(crate) fn next_time(&self) -> Option<Nanoseconds> {
        let turns = self.running.iter().flat_map(|running| &running.turns);
        let disks = self
            .disks
            .iter()
            .filter_map(|disk| disk.borrow().next_time());
        turns.map(|turn| turn.at).chain(disks).min()
    }

    /// Does what is due: devices, then shards, in order; gives away the frames that they sent.
    pub(crate) fn advance(&mut self, mut send: impl FnMut(Node, Frame)) {
        let now = clock::now();
        let mut woken = Vec::new();
        for disk in &self.disks {
            disk.borrow_mut().advance(&mut woken);
        }
        self.go_on_changing();
        let log_writes = self.log_writes();
        let Some(running) = &mut self.running else {
            return;
        };
        for shard in woken {
            running.wake(shard, self.random.below(3 * MICROSECOND));
        }
        let has_tls = self.plan.tls.is_some() || self.pair.as_ref().is_some_and(PairNode::has_tls);
        if self.plan.guard.is_some() || has_tls {
            running.prove(&mut self.random);
        }
        if let Some(tls) = &self.plan.tls
            && self.random.one_in(GUEST_CHANGES)
        {
            running.change_guest(tls, self.random.chance(1, 2));
        }
        for index in 0..running.shards.len() {
            if running.turns[index].at > now {
                continue;
            }
            if running.is_replaying && index > 0 {
                running.turns[index].at = now + IDLE_MAX;
                continue;
            }
            let was_replaying = running.is_replaying;
            let busy = running.poll(index, &mut self.random);
            if was_replaying
                && !running.is_replaying
                && let Some(node) = &self.pair
                && let Some(start) = running.begun.clone()
            {
                running.pair(
                    node,
                    &start,
                    self.plan.max_io_bytes as usize,
                    &mut self.random,
                );
            }
            if was_replaying && !running.is_replaying {
                self.logs.begun();
                self.has_had_a_log = true;
                if let (Some(tables), Some(start)) = (&mut self.tables, running.begun.take()) {
                    tables.begun(&start);
                }
                self.log_writes_at_start = log_writes;
            }
            for (port, nic) in self.nics.iter().enumerate() {
                let from = build::at_port(self.index, port);
                nic.take_sent(index)
                    .into_iter()
                    .for_each(|frame| send(from, frame));
            }
            if let Some(tables) = self.tables.as_mut().filter(|_| !running.is_replaying) {
                tables.look(&running.shards);
                let log = self.log.as_ref();
                let has_area = log.is_some_and(|log| self.started > log.tables_from);
                if index == 0 && has_area && running.stopping.is_none() {
                    tables.turn(&mut running.shards[0], &mut self.random);
                }
            }
            let turn = &mut running.turns[index];
            turn.idle = match busy {
                true => 5 * MICROSECOND,
                false => (turn.idle * 2).min(IDLE_MAX),
            };
            let held_up = self.plan.held_up_one_in;
            turn.at = now + turn.idle / 2 + self.random.below(turn.idle);
            if held_up > 0 && self.random.one_in(held_up) {
                turn.at = now + self.random.below(20 * MILLISECOND);
            } else if busy {
                // It may have said something to the others.
                for other in (0..running.shards.len()).filter(|&other| other != index) {
                    running.wake(other, MICROSECOND + self.random.below(5 * MICROSECOND));
                }
            }
        }
    }

    /// Pools and counters, for whoever looks for what holds a run up.
    pub(crate) fn describe(&self) -> String {
        let Some(running) = &self.running else {
            return "the appliance is off".into();
        };
        let mut text = format!("appliance {}:", self.index);
        for shard in &running.shards {
            let snapshot = shard.snapshot(Vec::new());
            let pools = (snapshot.pools.iter())
                .map(|pool| format!("{} {}/{}", pool.name, pool.free, pool.size));
            let counters = (snapshot
                .counters
                .iter()
                .filter(|layer| ["cache", "log", "mirror"].contains(&layer.name)))
            .flat_map(|layer| &layer.counters)
            .map(|counter| format!("{} {}", counter.name, counter.value));
            text += &format!(
                "\n    shard {}: {} requests, {} slots, {} connections; free: {}; cache: {}",
                shard.index(),
                shard.requests_in_flight(),
                shard.command_slots_in_use(),
                snapshot.connections,
                pools.collect::<Vec<_>>().join(", "),
                counters.collect::<Vec<_>>().join(", "),
            );
        }
        text
    }
}

impl Running {
    /// A turn of the shard that replays the log; whether there was work.
    fn replay_step(&mut self) -> bool {
        match self.shards[0].poll_replay() {
            None => true,
            Some(Err(why)) => {
                self.refused = Some(why);
                false
            }
            Some(Ok(start)) => {
                self.is_replaying = false;
                self.begun = Some(start.clone());
                for shard in &mut self.shards {
                    shard.start_log(&start);
                    shard
                        .listen(&self.listeners)
                        .expect("the ports have the addresses");
                }
                self.handle.set_ready(true);
                for index in 0..self.shards.len() {
                    self.wake(index, MICROSECOND);
                }
                true
            }
        }
    }

    /// Works on messages of hosts that prove who they are: some of them, sooner or later.
    fn prove(&mut self, random: &mut Random) {
        let target = Arc::clone(&self.target);
        let mut more = random.range(0..=2u32);
        while more > 0 && target.auth_desk().work(&mut guard::fill(random)) {
            more -= 1;
            let after = random.below(100 * MICROSECOND);
            (0..self.shards.len()).for_each(|shard| self.wake(shard, after));
        }
    }

    /// The guest has a key from now on, or has none, and may not connect at all where everybody needs one.
    fn change_guest(&self, tls: &TlsPlan, has_key: bool) {
        let hosts = self.subsystem.hosts.iter().flatten();
        let host = |host: &shard::HostConfig| nvmf::Host {
            nqn: host.nqn.clone(),
            keys: host.keys.as_ref().map(|keys| Arc::clone(&keys.keys)),
            psk: host.psk.as_ref().map(|psk| Arc::clone(&psk.psk)),
        };
        let hosts = hosts.map(host).chain([tls.guest(has_key)]).collect();
        let is_set = (self.target).set_hosts(SUBSYSTEM, nvmf::Hosts::Listed(hosts));
        assert_eq!(is_set, Ok(true), "the subsystem is there");
    }

    /// Polls a shard no later than `after` from now.
    fn wake(&mut self, shard: usize, after: Nanoseconds) {
        let turn = &mut self.turns[shard];
        turn.at = turn.at.min(clock::now() + after).max(turn.not_before);
        turn.idle = 5 * MICROSECOND;
    }

    /// One turn of a shard; whether there was work.
    fn poll(&mut self, index: usize, random: &mut Random) -> bool {
        if self.stopping.is_some() {
            return self.stop_step(index);
        }
        if self.is_replaying {
            return self.replay_step();
        }
        let shard = &mut self.shards[index];
        let busy = shard.poll();
        if random.one_in(4) {
            shard.housekeep(&self.handle);
            if index == 0 && !self.mirrored.is_empty() {
                self.show_sizes();
            }
        }
        busy
    }
}
