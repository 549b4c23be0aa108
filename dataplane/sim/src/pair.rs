//! Two or three appliances, each two of which keep the same volumes, hosts that use whichever serves a volume, and an arbiter that
//! all reach, or an operator who knows which of them is off. Each may be the source of some volumes and the destination of others.
//!
//! Appliances are killed and started, the links between them, one or two, are cut, in one direction too, and bad, as are their
//! ways to the arbiter. Hosts' writes that were acknowledged are never lost, not when the one that had them is off and the other
//! one serves; what is called alike is so, byte for byte; every copy ends. Where links alone are cut, and never all at once, no
//! pair is severed.

mod build;
mod disks;
mod draw;
mod establish;
mod failing;
mod lies;
mod links;
mod orders;
mod secure;
mod serving;
mod traps;
mod verify;

use std::time::Duration;

use mirror::Patience;
use testkit::Random;

use crate::appliance::{Appliance, Stopped};
use crate::arbiter::Arbiter;
use crate::clock::{self, MILLISECOND, Nanoseconds, SECOND};
use crate::devices::Devices;
use crate::host::{Context, Host};
use crate::oracle::{Extent, Oracle, SECTOR, Violation, VolumeRules};
use crate::plan::Plan;
use crate::trace::{Trace, event};
use crate::wire::{Node, Wire};
use crate::world::Summary;
use draw::{Event, Shape, draw, draw_events, draw_forgotten, draw_lag, draw_rate, good};
use establish::Unestablished;
use links::Links;
use serving::Serving;
use traps::Trap;

/// How long a phase may take.
const PHASE_MAX: Nanoseconds = 180 * SECOND;

/// What a host knows of devices: anything may fail for a while, and nothing may be wrong.
struct Lenient<'a> {
    appliances: &'a [Appliance],
    /// The one that it uses.
    volume: usize,
}

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
        let of = |appliance: &Appliance| match appliance.serves(self.volume) {
            true => appliance.controllers(host),
            false => 0,
        };
        self.appliances.iter().map(of).sum()
    }
}

struct World {
    plan: Plan,
    shape: Shape,
    events: Vec<(Nanoseconds, Event)>,
    wire: Wire,
    appliances: Vec<Appliance>,
    hosts: Vec<Host>,
    oracle: Oracle,
    trace: Trace,
    random: Random,
    steps: u64,
    crashes: u64,
    /// By volume.
    serving: Vec<Serving>,
    /// By host: how long after another node serves it knows it.
    lags: Vec<Nanoseconds>,
    /// Both are promoted, so that they go on without each other.
    is_split: bool,
    /// How long the operator waits when none serves.
    operator: Nanoseconds,
    starts_after_stop: Vec<bool>,
    links: Links,
    arbiter: Option<Arbiter>,
    /// What the operator has said, and knows.
    operator_knows: orders::Operator,
    /// What of which volume was changed at one node behind everybody's back: a sector.
    spoilt: Option<(usize, u64)>,
    trap: Option<Trap>,
    /// A volume whose drive at one node has lied, and is compared.
    lied: Option<usize>,
    /// By volume: neither node has data of it yet.
    unestablished: Vec<Option<Unestablished>>,
}

/// Draws what appliances go through, and runs it to its end; `links_alone`: nothing goes wrong but links.
pub(crate) fn run(seed: u64, links_alone: bool, trace: &Trace) -> Result<Summary, Violation> {
    let mut random = Random::new(seed);
    let mut plan = draw(&mut random);
    let has_arbiter = random.chance(1, 2);
    let mut shape = Shape::draw(&mut plan, links_alone, &mut random);
    shape.draw_first_roles(seed);
    shape.draw_tls(seed);
    let mut events = draw_events(&plan, &shape, has_arbiter, &mut random);
    if has_arbiter && !links_alone {
        draw_forgotten(&mut events, &shape, plan.active, seed);
    }
    if trace.prints() {
        println!("{plan:#?}\n{shape:#?}\n{events:#?}");
    }
    let mut world = World::new(plan, shape, events, has_arbiter, &mut random, trace);
    match world.run() {
        Ok(()) => Ok(world.summary()),
        Err(Violation(what)) => Err(Violation(format!("{what}\n  {}", world.describe()))),
    }
}

impl World {
    fn new(
        plan: Plan,
        shape: Shape,
        mut events: Vec<(Nanoseconds, Event)>,
        has_arbiter: bool,
        random: &mut Random,
        trace: &Trace,
    ) -> Self {
        clock::set(0);
        let qualities: Vec<_> = plan.hosts.iter().map(|host| host.link).collect();
        let mut wire = Wire::new(shape.appliances, &qualities, random.fork(), trace);
        wire.join_appliances(shape.ports, good());
        let fast = random.range(1..=10u32);
        let patience = Patience {
            answer: Duration::from_millis(150) * fast,
            tries: 2,
            alive: Duration::from_millis(50) * fast,
            silence: Duration::from_millis(150) * fast,
            absence: Duration::from_millis(400) * fast,
        };
        let promise = Duration::from_millis(random.range(200..=800u64)) * fast;
        let promise = has_arbiter.then_some(promise);
        let appliances = build::appliances(&plan, &shape, patience, promise, random, trace);
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
        let nodes = shape.appliances;
        let arbiter = has_arbiter.then(|| {
            let rate = draw_rate(&shape, random);
            Arbiter::new(nodes, plan.volumes.len(), rate, random.fork())
        });
        Self {
            events,
            wire,
            appliances,
            hosts,
            oracle: Oracle::new(&rules),
            trace: trace.clone(),
            steps: 0,
            crashes: 0,
            serving: plan.volumes.iter().map(|_| Serving::default()).collect(),
            lags: plan.hosts.iter().map(|_| draw_lag(random)).collect(),
            is_split: false,
            operator: random.below(2 * SECOND),
            random: random.fork(),
            starts_after_stop: vec![false; nodes],
            links: Links::new(patience),
            operator_knows: orders::Operator::new(nodes, plan.volumes.len()),
            spoilt: None,
            trap: None,
            lied: None,
            unestablished: shape.unestablished.clone(),
            arbiter,
            plan,
            shape,
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
        let events = std::mem::take(&mut self.events);
        self.correct_tls()?;
        if self.shape.links_alone {
            // What happens to links, happens to pairs in sync.
            self.come_in_sync()?;
        }
        let now = clock::now();
        let later = events.into_iter().map(|(at, event)| (at + now, event));
        self.events = later.collect();
        if self.shape.links_alone {
            self.begin_to_watch_links();
        }
        let deadline = clock::now() + PHASE_MAX;
        self.run_until("the work", deadline, |world| {
            let is_over = world.events.is_empty() && world.trap.is_none();
            is_over && world.are_on() && world.hosts.iter().all(Host::is_done)
        })?;
        self.cease_to_watch_links();
        self.lags.fill(0);
        self.come_in_sync()?;
        self.verify()?;
        for _ in 0..self.random.range(1..=2u32) {
            // One that did not run for a while may have lost a volume since.
            self.come_in_sync()?;
            // One that serves is lost, and the others have everything.
            let volume = self.random.below(self.serving.len());
            let Some(source) = self.serving[volume].by else {
                return Err(Violation("in sync, and none serves".into()));
            };
            if self.random.one_in(3) {
                self.fail_log(source)?;
            } else {
                self.kill(source, true)?;
            }
            self.verify()?;
            if self
                .serving
                .iter()
                .any(|serving| serving.by == Some(source))
            {
                return Err(Violation("the others do not serve".into()));
            }
            self.start(source);
            self.come_in_sync()?;
        }
        if self.arbiter.is_none() && self.random.chance(1, 2) {
            self.split_brain()?;
        }
        self.verify()?;
        match self.random.one_in(3) {
            true => self.outlive_lies()?,
            false => self.verify_replicas()?,
        }
        self.hosts.iter_mut().for_each(Host::rest);
        self.stop_all()?;
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
            world.are_on()
                && !world.operator_knows.waits()
                && world.is_in_sync()
                && world.sizes_have_settled()
        })
    }

    fn is_in_sync(&mut self) -> bool {
        (0..self.serving.len()).all(|volume| {
            let nodes = self.shape.nodes[volume];
            let source = self.appliances.iter_mut().find(|it| it.serves(volume));
            let known = source.and_then(|it| Some((it.replica(volume)?, it.takeover(volume)?)));
            let knows = |arbiter: &Arbiter| {
                known.is_some_and(|(replica, takeover)| takeover && arbiter.knows(volume, replica))
            };
            self.arbiter.as_ref().is_none_or(knows)
                && nodes
                    .iter()
                    .all(|&at| self.appliances[at].is_in_sync(volume))
        })
    }

    fn verify(&mut self) -> Result<(), Violation> {
        event!(self.trace, "verify", [self.steps], "");
        let most = u64::from(self.plan.appliance.max_io_bytes) / SECTOR as u64;
        for volume in 0..self.plan.volumes.len() {
            let extents = self.oracle.written(volume, most.saturating_sub(14).max(1));
            let hosts = self.hosts.iter_mut().zip(&self.plan.hosts);
            let hosts = hosts.filter(|(_, host)| host.only == Some(volume));
            let mut hosts: Vec<_> = hosts.map(|(host, _)| host).collect();
            let count = hosts.len();
            for (i, host) in hosts.iter_mut().enumerate() {
                let own: Vec<Extent> = extents.iter().copied().skip(i).step_by(count).collect();
                host.verify(own);
            }
        }
        let deadline = clock::now() + PHASE_MAX;
        self.run_until("reading everything", deadline, |world| {
            world.hosts.iter().all(Host::is_done)
        })
    }

    fn stop_all(&mut self) -> Result<(), Violation> {
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
    fn compare(&mut self) -> Result<(), Violation> {
        for volume in 0..self.plan.volumes.len() {
            let nodes = self.shape.nodes[volume];
            let lens = nodes.map(|at| self.appliances[at].volume_len(volume));
            if lens[0] != lens[1] {
                return Err(Violation(format!(
                    "volume {volume} has two sizes: {lens:?}"
                )));
            }
            let [first, second] = nodes.map(|at| self.appliances[at].disks()[volume].borrow());
            let sectors = lens[0].unwrap_or(0) / SECTOR as u64;
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
            self.arbiter.as_ref().and_then(Arbiter::next_time),
            self.trap_time(),
        ];
        let hosts = self.hosts.iter().map(Host::next_time);
        let appliances = self.appliances.iter().filter_map(Appliance::next_time);
        let next = (times.into_iter().flatten().chain(hosts))
            .chain(appliances)
            .min();
        let now = clock::now().max(next.unwrap_or(clock::now() + MILLISECOND));
        clock::set(now);
        if self.events.last().is_some_and(|&(at, _)| at <= now)
            && let Some((_, event)) = self.events.pop()
        {
            return self.happen(event);
        }
        while let Some((to, frame)) = self.wire.arrive() {
            match to {
                Node::Appliance(appliance) => self.appliances[appliance].receive(0, frame),
                Node::Second(appliance) => self.appliances[appliance].receive(1, frame),
                Node::Host(host) => self.hosts[host].receive(frame),
            }
        }
        for (at, appliance) in self.appliances.iter_mut().enumerate() {
            let wire = &mut self.wire;
            appliance.advance(|from, frame| wire.send(from, frame));
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
        for at in 0..self.appliances.len() {
            self.look_at_the_stop(at)?;
        }
        self.look_at_trap()?;
        self.look_at_comparisons()?;
        self.establish()?;
        self.look_at_orders()?;
        self.look_at_links()?;
        self.arbitrate();
        self.look_who_serves()?;
        self.operate();
        for (i, host) in self.hosts.iter_mut().enumerate() {
            let volume = self.plan.hosts[i].only.unwrap_or(0);
            let mut cx = Context {
                oracle: &mut self.oracle,
                devices: &Lenient {
                    appliances: &self.appliances,
                    volume,
                },
                is_well: false,
            };
            let wire = &mut self.wire;
            let (lag, serving) = (self.lags[i], &self.serving[volume]);
            let is_known = lag == 0 || serving.by.is_some();
            if is_known && clock::now() >= serving.since + lag {
                host.aim(serving.by, &mut cx);
            }
            host.advance(&mut cx, |frame| wire.send(Node::Host(i), frame))?;
        }
        Ok(())
    }

    fn kill(&mut self, at: usize, power: bool) -> Result<(), Violation> {
        if !self.appliances[at].is_running() || self.appliances[at].is_replaying() {
            return Ok(());
        }
        self.starts_after_stop[at] = false;
        self.operator_knows.forget(at);
        let volumes = 0..self.serving.len();
        let served: Vec<_> = volumes
            .filter(|&of| self.appliances[at].serves(of))
            .collect();
        self.appliances[at].kill(power).map_err(Violation)?;
        let elsewhere = self.given_to(|node| node != at);
        for volume in served {
            self.oracle.crash_volume(volume, &elsewhere);
        }
        self.crashes += 1;
        self.disturb();
        Ok(())
    }

    /// Not the log of the only one that has all that was acknowledged.
    fn lose_log(&mut self, at: usize) {
        let is_safe = (0..self.serving.len()).all(|volume| match self.shape.nodes[volume] {
            [a, b] if a == at || b == at => {
                let other = if a == at { b } else { a };
                let is_other_whole = self.appliances[other].is_whole(volume);
                is_other_whole && !self.appliances[at].had_gone_alone(volume)
            }
            _ => true,
        });
        if is_safe && !self.appliances[at].is_running() {
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
                let elsewhere = self.given_to(|node| node != at);
                for volume in self.unserved_of(at) {
                    self.oracle.crash_volume(volume, &elsewhere);
                }
            }
            // It serves none since it was told to stop, or never did.
            Stopped::Done => {
                let elsewhere = self.given_to(|node| node != at);
                for volume in self.unserved_of(at) {
                    self.oracle.settle_volume(volume, &elsewhere);
                }
            }
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
            Event::Cut {
                link,
                direction,
                is_cut,
            } => self.wire.cut(self.wire.link(link), direction, is_cut),
            Event::Link { link, quality } => self.wire.set_quality(self.wire.link(link), quality),
            Event::Disk {
                appliance,
                disk,
                trouble,
            } => {
                let disk = &self.appliances[appliance].disks()[disk];
                disk.borrow_mut().set_trouble(trouble);
            }
            Event::LoseLog { appliance } => self.lose_log(appliance),
            Event::Trap => self.set_trap(),
            Event::Demote { appliance } => {
                for volume in 0..self.plan.volumes.len() {
                    self.appliances[appliance].demote(volume);
                }
            }
            Event::Sever { appliance } => self.sever(appliance),
            Event::Resize { appliance, eighths } => self.resize(appliance, eighths),
            Event::Discard { appliance } => self.discard(appliance),
            Event::Tables { appliance } => self.update_tables(appliance),
            Event::Frames {
                appliance,
                is_short,
            } => {
                self.appliances[appliance].set_frame_size(is_short);
            }
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
            Event::ArbiterForgets => {
                if let Some(arbiter) = &mut self.arbiter {
                    arbiter.forget();
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
