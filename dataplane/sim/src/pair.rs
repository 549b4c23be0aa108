//! Two appliances that keep the same volumes, hosts that use whichever serves, and an arbiter that both reach, or an operator who
//! knows which of them is off.
//!
//! Appliances are killed and started, the link between them is cut, in one direction too, and bad, as are their ways to the
//! arbiter. Hosts' writes that were acknowledged are never lost, not when the one that had them is off and the other one
//! serves; what is called alike is so, byte for byte; every copy ends.

mod disks;
mod draw;
mod orders;
mod verify;

use std::net::SocketAddr;
use std::time::Duration;

use mirror::Patience;
use testkit::Random;

use crate::appliance::{Appliance, MIRROR_PORT, PairNode, PairPlan, Stopped, address};
use crate::arbiter::{Arbiter, Run};
use crate::clock::{self, MILLISECOND, Nanoseconds, SECOND};
use crate::devices::Devices;
use crate::host::{Context, Host};
use crate::oracle::{Extent, Oracle, SECTOR, Violation, VolumeRules};
use crate::plan::Plan;
use crate::trace::{Trace, event};
use crate::wire::{Node, Wire};
use crate::world::Summary;
use draw::{Event, draw, draw_events, draw_lag, good};

/// How long a phase may take.
const PHASE_MAX: Nanoseconds = 180 * SECOND;

/// What hosts know of devices: anything may fail for a while, and nothing may be wrong.
struct Lenient<'a>(&'a [Appliance; 2]);

impl Devices for Lenient<'_> {
    fn faults(&self, _: usize) -> u64 {
        0
    }

    fn is_gone(&self, _: usize) -> bool {
        false
    }

    fn stuck_until(&self, _: usize) -> Nanoseconds {
        0
    }

    fn held_until(&self, _: usize) -> Nanoseconds {
        0
    }

    fn any_held_until(&self) -> Nanoseconds {
        0
    }

    fn has_lost_log(&self, _: usize) -> bool {
        true
    }

    fn may_leave(&self, _: usize, _: Nanoseconds) -> bool {
        true
    }

    fn was_absent(&self, _: usize, _: Nanoseconds) -> bool {
        false
    }

    fn is_cached(&self, _: usize) -> bool {
        true
    }

    fn all_faults(&self) -> u64 {
        0
    }

    fn controllers(&self, host: &str) -> usize {
        let of = |appliance: &Appliance| match appliance.serves() {
            true => appliance.controllers(host),
            false => 0,
        };
        self.0.iter().map(of).sum()
    }
}

struct World {
    plan: Plan,
    events: Vec<(Nanoseconds, Event)>,
    wire: Wire,
    appliances: [Appliance; 2],
    hosts: Vec<Host>,
    oracle: Oracle,
    trace: Trace,
    random: Random,
    steps: u64,
    crashes: u64,
    /// Which one hosts use that know it.
    serving: Option<usize>,
    /// Since when.
    serving_since: Nanoseconds,
    /// By host: how long after it knows it.
    lags: Vec<Nanoseconds>,
    /// Both are promoted, so that they go on without each other.
    is_split: bool,
    /// Which one they used last.
    served: Option<usize>,
    /// Since when none serves.
    idle_since: Nanoseconds,
    /// How long the operator waits then.
    operator: Nanoseconds,
    starts_after_stop: [bool; 2],
    pair_link: usize,
    arbiter: Option<Arbiter>,
    /// What the operator has said, and knows.
    operator_knows: orders::Operator,
    /// What of which volume was changed at one node behind everybody's back: a sector.
    spoilt: Option<(usize, u64)>,
}

/// Draws what two appliances go through, and runs it to its end.
pub(crate) fn run(seed: u64, trace: &Trace) -> Result<Summary, Violation> {
    let mut random = Random::new(seed);
    let mut plan = draw(&mut random);
    let has_arbiter = random.chance(1, 2);
    let events = draw_events(&mut plan, has_arbiter, &mut random);
    if trace.prints() {
        println!("{plan:#?}\n{events:#?}");
    }
    let mut world = World::new(plan, events, has_arbiter, &mut random, trace);
    match world.run() {
        Ok(()) => Ok(world.summary()),
        Err(Violation(what)) => Err(Violation(format!("{what}\n  {}", world.describe()))),
    }
}

impl World {
    fn new(
        plan: Plan,
        mut events: Vec<(Nanoseconds, Event)>,
        has_arbiter: bool,
        random: &mut Random,
        trace: &Trace,
    ) -> Self {
        clock::set(0);
        let mut qualities: Vec<_> = plan.hosts.iter().map(|host| host.link).collect();
        let pair_link = qualities.len();
        qualities.push(good());
        let mut wire = Wire::new(2, &qualities, random.fork(), trace);
        wire.join_appliances(pair_link);
        let fast = random.range(1..=10u32);
        let patience = Patience {
            answer: Duration::from_millis(150) * fast,
            tries: 2,
            alive: Duration::from_millis(50) * fast,
            silence: Duration::from_millis(150) * fast,
            absence: Duration::from_millis(400) * fast,
        };
        let promise = Duration::from_millis(random.range(200..=800u64)) * fast;
        let pair = PairPlan {
            patience,
            promise: has_arbiter.then_some(promise),
        };
        let volumes: Vec<_> = (plan.volumes.iter())
            .map(|volume| (volume.disk.geometry.len(), volume.disk.geometry.block_size))
            .collect();
        let appliances = [0, 1].map(|index: usize| {
            let mut appliance = Appliance::new(
                index,
                &plan.appliance,
                &plan.network,
                &plan.volumes,
                plan.log.as_ref(),
                random,
                trace,
            );
            let ip = address(&plan.network, Node::Appliance(1 - index));
            let remote = SocketAddr::new(ip, MIRROR_PORT);
            appliance.pair_with(PairNode::new(index, &pair, volumes.clone(), remote, random));
            appliance
        });
        let hosts = (plan.hosts.iter().enumerate())
            .map(|(i, host)| Host::new(i, host, &plan.network, &plan.volumes, random, trace))
            .collect();
        let rules = |volume: &crate::plan::VolumePlan| VolumeRules {
            sectors: volume.disk.geometry.len() / SECTOR as u64,
            is_volatile: false,
            is_logged: true,
            deallocates_to_zeros: false,
        };
        let rules: Vec<_> = plan.volumes.iter().map(rules).collect();
        events.reverse();
        Self {
            events,
            wire,
            appliances,
            hosts,
            oracle: Oracle::new(&rules),
            trace: trace.clone(),
            steps: 0,
            crashes: 0,
            serving: None,
            serving_since: 0,
            lags: plan.hosts.iter().map(|_| draw_lag(random)).collect(),
            is_split: false,
            served: None,
            idle_since: 0,
            operator: random.below(2 * SECOND),
            random: random.fork(),
            starts_after_stop: [false; 2],
            pair_link,
            operator_knows: orders::Operator::new(plan.volumes.len()),
            spoilt: None,
            arbiter: has_arbiter.then(|| Arbiter::new(plan.volumes.len(), random.fork())),
            plan,
        }
    }

    fn summary(&self) -> Summary {
        Summary {
            digest: self.trace.digest(),
            steps: self.steps,
            nanoseconds: clock::now(),
            requests: self.oracle.requests(),
            sectors: self.oracle.compared(),
            crashes: self.crashes,
        }
    }

    fn describe(&mut self) -> String {
        let mut text = String::new();
        for appliance in &mut self.appliances {
            text += &format!(
                "{}\n{}\n  ",
                appliance.describe(),
                appliance.describe_pairs()
            );
        }
        text
    }

    fn run(&mut self) -> Result<(), Violation> {
        self.appliances.iter_mut().for_each(Appliance::start);
        let deadline = PHASE_MAX;
        self.run_until("the work", deadline, |world| {
            world.events.is_empty() && world.are_on() && world.hosts.iter().all(Host::is_done)
        })?;
        self.lags.fill(0);
        self.come_in_sync()?;
        self.verify()?;
        for _ in 0..self.random.range(1..=2u32) {
            // The one that serves is lost, and the other one has everything.
            let Some(source) = self.serving else {
                return Err(Violation("in sync, and none serves".into()));
            };
            self.kill(source, true)?;
            self.verify()?;
            if self.serving != Some(1 - source) {
                return Err(Violation("the other one does not serve".into()));
            }
            self.start(source);
            self.come_in_sync()?;
        }
        if self.arbiter.is_none() && self.random.chance(1, 2) {
            self.split_brain()?;
        }
        self.verify()?;
        self.verify_replicas()?;
        self.hosts.iter_mut().for_each(Host::rest);
        self.stop_both()?;
        self.compare()
    }

    fn are_on(&self) -> bool {
        let is_on = |appliance: &Appliance| appliance.is_serving();
        self.appliances.iter().all(is_on)
    }

    /// Every copy ends.
    fn come_in_sync(&mut self) -> Result<(), Violation> {
        let deadline = clock::now() + PHASE_MAX;
        self.run_until("the copy", deadline, |world| {
            world.are_on() && !world.operator_knows.waits() && world.is_in_sync()
        })
    }

    fn is_in_sync(&mut self) -> bool {
        let is_known = self.arbiter.as_ref().is_none_or(|arbiter| {
            let mut appliances = self.appliances.iter_mut();
            let source = appliances.find(|appliance| appliance.serves());
            source.is_some_and(|source| arbiter.knows(&source.replicas()))
        });
        is_known && self.appliances.iter_mut().all(Appliance::is_in_sync)
    }

    fn verify(&mut self) -> Result<(), Violation> {
        event!(self.trace, "verify", [self.steps], "");
        let most = u64::from(self.plan.appliance.max_io_bytes) / SECTOR as u64;
        let extents: Vec<Extent> = (0..self.plan.volumes.len())
            .flat_map(|volume| self.oracle.written(volume, most.saturating_sub(14).max(1)))
            .collect();
        let hosts = self.hosts.len();
        for (i, host) in self.hosts.iter_mut().enumerate() {
            host.verify(extents.iter().copied().skip(i).step_by(hosts).collect());
        }
        let deadline = clock::now() + PHASE_MAX;
        self.run_until("reading everything", deadline, |world| {
            world.hosts.iter().all(Host::is_done)
        })
    }

    fn stop_both(&mut self) -> Result<(), Violation> {
        let deadline = clock::now() + PHASE_MAX;
        self.disturb();
        self.appliances.iter_mut().for_each(Appliance::stop);
        self.run_until("the stop", deadline, |world| {
            world
                .appliances
                .iter()
                .all(|appliance| !appliance.is_running())
        })
    }

    /// Both drives have the same.
    fn compare(&self) -> Result<(), Violation> {
        for volume in 0..self.plan.volumes.len() {
            let [first, second] =
                [0, 1].map(|at: usize| self.appliances[at].disks()[volume].borrow());
            let sectors = self.plan.volumes[volume].disk.geometry.len() / SECTOR as u64;
            for sector in 0..sectors as usize {
                if first.sector(sector) != second.sector(sector) {
                    return Err(Violation(format!(
                        "volume {volume} sector {sector}: the two replicas are called alike, and differ"
                    )));
                }
            }
        }
        Ok(())
    }

    fn disturb(&mut self) {
        self.hosts.iter_mut().for_each(Host::disturb);
    }

    fn run_until(
        &mut self,
        what: &str,
        deadline: Nanoseconds,
        mut done: impl FnMut(&mut World) -> bool,
    ) -> Result<(), Violation> {
        while !done(self) {
            self.step()?;
            if clock::now() > deadline {
                let hosts: Vec<_> = (self.hosts.iter())
                    .map(|host| host.describe(&self.oracle))
                    .collect();
                return Err(Violation(format!(
                    "{what} has not ended after {} s\n{}",
                    PHASE_MAX / SECOND,
                    hosts.join("\n")
                )));
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.steps += 1;
        let times = [
            self.events.last().map(|&(at, _)| at),
            self.wire.next_time(),
            self.appliances[0].next_time(),
            self.appliances[1].next_time(),
            self.arbiter.as_ref().and_then(Arbiter::next_time),
        ];
        let hosts = self.hosts.iter().map(Host::next_time);
        let next = times.into_iter().flatten().chain(hosts).min();
        let now = clock::now().max(next.unwrap_or(clock::now() + MILLISECOND));
        clock::set(now);
        if self.events.last().is_some_and(|&(at, _)| at <= now)
            && let Some((_, event)) = self.events.pop()
        {
            return self.happen(event);
        }
        while let Some((to, frame)) = self.wire.arrive() {
            match to {
                Node::Appliance(appliance) => self.appliances[appliance].receive(frame),
                Node::Host(host) => self.hosts[host].receive(frame),
            }
        }
        for (at, appliance) in self.appliances.iter_mut().enumerate() {
            let wire = &mut self.wire;
            appliance.advance(|frame| wire.send(Node::Appliance(at), frame));
            if let Some(what) = appliance.breach() {
                return Err(Violation(what));
            }
            if let Some(why) = appliance.refused() {
                event!(self.trace, "refused", [at], "appliance {at}: {why}");
                if !appliance.may_try_again() {
                    return Err(Violation(format!("the log is refused: {why}")));
                }
                appliance.kill(false).map_err(Violation)?;
                appliance.start_again();
            }
        }
        for at in 0..2 {
            self.look_at_the_stop(at)?;
        }
        self.look_at_comparisons()?;
        self.look_at_orders()?;
        self.arbitrate();
        self.look_who_serves()?;
        self.operate();
        let mut cx = Context {
            oracle: &mut self.oracle,
            devices: &Lenient(&self.appliances),
            is_well: false,
        };
        for (i, host) in self.hosts.iter_mut().enumerate() {
            let wire = &mut self.wire;
            let lag = self.lags[i];
            let is_known = lag == 0 || self.serving.is_some();
            if is_known && clock::now() >= self.serving_since + lag {
                host.aim(self.serving, &mut cx);
            }
            host.advance(&mut cx, |frame| wire.send(Node::Host(i), frame))?;
        }
        Ok(())
    }

    /// Hosts use the one that serves, as their paths tell them, sooner or later.
    fn look_who_serves(&mut self) -> Result<(), Violation> {
        let [first, second] = &self.appliances;
        if first
            .served()
            .zip(second.served())
            .any(|both| both == (true, true))
            && !self.is_split
        {
            return Err(Violation("both nodes serve a volume".into()));
        }
        let serving = self.appliances.iter().position(Appliance::serves);
        if serving.is_none() && self.serving.is_some() {
            self.idle_since = clock::now();
        }
        if serving.is_some() && serving != self.serving {
            event!(self.trace, "serves", [serving.unwrap_or(9)], "{serving:?}");
            self.disturb();
        }
        if serving.is_some() && serving != self.served {
            // What was under way at the other one is over: it was killed, or refuses it.
            self.oracle.settle();
            self.served = serving;
        }
        if serving.is_none() {
            self.disturb();
        }
        if serving != self.serving {
            (self.serving, self.serving_since) = (serving, clock::now());
        }
        Ok(())
    }

    /// What nodes ask the arbiter, and what it tells them.
    fn arbitrate(&mut self) {
        let Some(arbiter) = &mut self.arbiter else {
            return;
        };
        for (node, appliance) in self.appliances.iter_mut().enumerate() {
            let Some(run) = appliance.run_number() else {
                continue;
            };
            if appliance.paused_until().is_some() {
                continue;
            }
            let from = Run { node, run };
            arbiter.renew(from);
            while let Some(question) = appliance.next_question() {
                event!(self.trace, "asks", [node], "node {node}: {question:?}");
                arbiter.ask(from, question);
            }
        }
        while let Some((to, told)) = arbiter.next() {
            if let Some(until) = self.appliances[to.node].paused_until() {
                arbiter.put_off(until, to, told);
            } else if self.appliances[to.node].run_number() == Some(to.run) {
                event!(self.trace, "told", [to.node], "node {}: {told:?}", to.node);
                self.appliances[to.node].told(told);
            }
        }
    }

    /// When none serves for a while and one is off, the operator says that the other one is the source, if that one has all that
    /// was acknowledged.
    fn operate(&mut self) {
        if self.events.is_empty() {
            (0..2).for_each(|at| self.reestablish(at));
        }
        if self.serving.is_some() || clock::now() < self.idle_since + self.operator {
            return;
        }
        // Each serves some: hosts of the simulation use one at a time.
        if self.appliances.iter().all(Appliance::serves_any) {
            for volume in 0..self.plan.volumes.len() {
                self.appliances[1].demote(volume);
            }
        }
        for at in 0..2 {
            let other = &mut self.appliances[1 - at];
            let is_blank = other.is_blank();
            // Whatever an arbiter says: what it means is gone.
            if self.arbiter.is_some() && !is_blank {
                continue;
            }
            let is_known = is_blank || !other.is_running() && !other.has_gone_alone();
            if is_known && self.appliances[at].is_serving() && self.appliances[at].promote(is_blank)
            {
                event!(self.trace, "promote", [at], "appliance {at}");
                self.idle_since = clock::now();
            }
        }
    }

    fn kill(&mut self, at: usize, power: bool) -> Result<(), Violation> {
        if !self.appliances[at].is_running() || self.appliances[at].is_replaying() {
            return Ok(());
        }
        self.starts_after_stop[at] = false;
        self.operator_knows.forget(at);
        let served = self.appliances[at].serves_any();
        self.appliances[at].kill(power).map_err(Violation)?;
        if served {
            self.oracle.crash();
        }
        self.crashes += 1;
        self.disturb();
        Ok(())
    }

    /// Not the log of the only one that has all that was acknowledged.
    fn lose_log(&mut self, at: usize) {
        let it = &self.appliances[at];
        if !it.is_running() && !it.has_gone_alone() && self.appliances[1 - at].is_whole() {
            self.appliances[at].lose_log();
        }
    }

    fn start(&mut self, at: usize) {
        if self.appliances[at].is_stopping() {
            self.starts_after_stop[at] = true;
        } else if !self.appliances[at].is_running() {
            self.appliances[at].start();
        }
        self.disturb();
    }

    fn look_at_the_stop(&mut self, at: usize) -> Result<(), Violation> {
        if !self.appliances[at].is_stopping() {
            return Ok(());
        }
        match self.appliances[at].finish_stop() {
            Stopped::NotYet => return Ok(()),
            Stopped::Wrong(what) => return Err(Violation(what)),
            Stopped::Abandoned => {
                self.appliances[at].kill(false).map_err(Violation)?;
                if self.serving.is_none() {
                    self.oracle.crash();
                }
            }
            // It serves none since it was told to stop, or never did.
            Stopped::Done if self.serving.is_none() => self.oracle.settle(),
            Stopped::Done => {}
        }
        self.disturb();
        if std::mem::take(&mut self.starts_after_stop[at]) {
            self.start(at);
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        event!(self.trace, "event", [self.steps], "{event:?}");
        match event {
            Event::Kill { appliance, power } => self.kill(appliance, power)?,
            Event::Start { appliance } => self.start(appliance),
            Event::Stop { appliance } => {
                let it = &mut self.appliances[appliance];
                if it.is_serving() && it.paused_until().is_none() {
                    it.stop();
                }
            }
            Event::Pause { appliance, length } => {
                let it = &mut self.appliances[appliance];
                if it.is_serving() {
                    it.pause(clock::now() + length);
                }
            }
            Event::Cut { direction, is_cut } => self.wire.cut(self.pair_link, direction, is_cut),
            Event::Link(quality) => self.wire.set_quality(self.pair_link, quality),
            Event::Disk {
                appliance,
                disk,
                trouble,
            } => {
                let disk = &self.appliances[appliance].disks()[disk];
                disk.borrow_mut().set_trouble(trouble);
            }
            Event::LoseLog { appliance } => self.lose_log(appliance),
            Event::Demote { appliance } => {
                for volume in 0..self.plan.volumes.len() {
                    self.appliances[appliance].demote(volume);
                }
            }
            Event::Sever { appliance } => self.sever(appliance),
            Event::Discard { appliance } => self.discard(appliance),
            Event::Reestablish { appliance } => self.reestablish(appliance),
            Event::Verify => {
                for volume in 0..self.plan.volumes.len() {
                    for appliance in &mut self.appliances {
                        appliance.verify_pair(volume, false);
                    }
                }
            }
            Event::ArbiterCut { appliance, is_cut } => {
                if let Some(arbiter) = &mut self.arbiter {
                    arbiter.cut(appliance, is_cut);
                }
            }
            Event::Arbiter { is_down } => {
                if let Some(arbiter) = &mut self.arbiter {
                    arbiter.set_down(is_down);
                }
            }
        }
        self.disturb();
        Ok(())
    }
}
