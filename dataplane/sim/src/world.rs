//! A run: everything that is in it, and the order in which it happens.

use std::cell::RefCell;
use std::rc::Rc;

use crate::appliance::{Appliance, Stopped};
use crate::clock::{self, MILLISECOND, Nanoseconds, SECOND};
use crate::devices::Devices;
use crate::disk::Disk;
use crate::host::{Context, Host};
use crate::oracle::{Extent, Oracle, Violation, VolumeRules};
use crate::plan::{Ambush, Event, LastBlow, Plan};
use crate::trace::{Trace, event};
use crate::wire::{Node, Wire};
use block::WritePolicy;
use testkit::Random;

/// How long a phase without trouble may take, beyond what hosts wait at most.
const PHASE_MAX: Nanoseconds = 120 * SECOND;

/// Hosts, links, an appliance, and what was promised.
pub(crate) struct World {
    plan: Plan,
    events: std::vec::IntoIter<(Nanoseconds, Event)>,
    next_event: Option<(Nanoseconds, Event)>,
    wire: Wire,
    appliance: Appliance,
    hosts: Vec<Host>,
    oracle: Oracle,
    trace: Trace,
    steps: u64,
    /// The appliance is to start when its stop has ended.
    starts_after_stop: bool,
    /// What happens because of what became of its log, soonest first.
    soon: Vec<(Nanoseconds, Event)>,
    ambushes: Vec<Ambush>,
    /// A log store that lies was found out, or lied about what nobody can know: nothing more is promised.
    is_over: bool,
    crashes: u64,
}

/// What a run was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Of everything that happened.
    pub digest: u64,
    /// Steps of the world.
    pub steps: u64,
    /// Virtual time.
    pub nanoseconds: Nanoseconds,
    /// Requests of hosts.
    pub requests: u64,
    /// Sectors that were read and compared.
    pub sectors: u64,
    /// Times the appliance was killed, in a replay or at any other step.
    pub crashes: u64,
}

impl World {
    pub(crate) fn new(plan: Plan, random: &mut Random, trace: &Trace) -> Self {
        clock::set(0);
        let qualities: Vec<_> = plan.hosts.iter().map(|host| host.link).collect();
        let wire = Wire::new(1, &qualities, random.fork(), trace);
        let appliance = Appliance::new(
            0,
            &plan.appliance,
            &plan.network,
            &plan.volumes,
            plan.log.as_ref(),
            random,
            trace,
        );
        let hosts = (plan.hosts.iter().enumerate())
            .map(|(i, host)| Host::new(i, host, &plan.network, &plan.volumes, random, trace))
            .collect();
        let rules = |volume: &crate::plan::VolumePlan| VolumeRules {
            sectors: volume.disk.geometry.len() / crate::oracle::SECTOR as u64,
            is_volatile: volume.is_volatile(),
            is_logged: volume.policy == WritePolicy::Logged,
            deallocates_to_zeros: volume.deallocates_to_zeros(),
        };
        let rules: Vec<_> = plan.volumes.iter().map(rules).collect();
        let mut events = plan.events.clone().into_iter();
        let log = plan.log.as_ref();
        let ambushes = log.map_or(Vec::new(), |log| log.ambushes.clone());
        Self {
            next_event: events.next(),
            events,
            wire,
            appliance,
            hosts,
            oracle: Oracle::new(&rules),
            trace: trace.clone(),
            steps: 0,
            starts_after_stop: false,
            soon: Vec::new(),
            ambushes,
            is_over: false,
            crashes: 0,
            plan,
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            digest: self.trace.digest(),
            steps: self.steps,
            nanoseconds: clock::now(),
            requests: self.oracle.requests(),
            sectors: self.oracle.compared(),
            crashes: self.crashes,
        }
    }

    /// Where everything stands.
    pub(crate) fn describe(&self) -> String {
        self.appliance.describe()
    }

    /// Runs everything to its end.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        self.appliance.start();
        let deadline = self.plan.healed_at + PHASE_MAX;
        self.run_until("the work", deadline, |world| {
            world.next_event.is_none()
                && world.appliance.is_running()
                && !world.appliance.is_stopping()
                && !world.appliance.is_changing()
                && world.hosts.iter().all(Host::is_done)
        })?;
        match self.plan.last_blow {
            LastBlow::None => {}
            LastBlow::Power => self.lose_power()?,
            LastBlow::ShutdownThenPower => {
                self.shut_down_hosts()?;
                self.lose_power()?;
            }
        }
        self.verify()?;
        // What was stopped as it should be has lost nothing.
        self.stop()?;
        self.start();
        self.verify()?;
        self.lose_power()?;
        self.verify()?;
        self.stop()
    }

    /// Turns the appliance on.
    fn start(&mut self) {
        if !self.is_over {
            self.appliance.start();
        }
    }

    /// What was in memory is gone.
    fn crash(&mut self) {
        /// How long after a group the next one says that it was acknowledged, and longer than a shard is held up.
        const SAID: Nanoseconds = 200 * MILLISECOND;
        self.appliance.crashed(&self.oracle);
        self.oracle.crash();
        self.crashes += 1;
        // That the last group was never written nobody can know.
        let logs = self.appliance.logs().iter();
        let lied_at = logs.filter_map(|log| log.borrow().lied_at()).max();
        let lied_at = lied_at.filter(|_| !self.appliance.has_two_logs());
        self.is_over |= lied_at.is_some_and(|at| clock::now() < at + SAID);
    }

    /// Kills the appliance, with its devices' power, and starts it again.
    fn lose_power(&mut self) -> Result<(), Violation> {
        self.appliance.kill(true).map_err(Violation)?;
        self.crash();
        self.disturb();
        self.start();
        Ok(())
    }

    /// Every host shuts its controller down: what it had acknowledged is not volatile then.
    fn shut_down_hosts(&mut self) -> Result<(), Violation> {
        self.hosts.iter_mut().for_each(Host::shut_down);
        let deadline = clock::now() + PHASE_MAX;
        self.run_until("the shutdown of controllers", deadline, |world| {
            world.hosts.iter().all(Host::is_done)
        })
    }

    /// Reads everything that was ever written.
    fn verify(&mut self) -> Result<(), Violation> {
        event!(self.trace, "verify", [self.steps], "");
        let most = u64::from(self.plan.appliance.max_io_bytes) / crate::oracle::SECTOR as u64;
        let volumes = 0..self.plan.volumes.len();
        // Extents grow to whole blocks at both ends.
        let extents: Vec<Extent> = volumes
            .filter(|&volume| !Devices::is_gone(&self.appliance, volume))
            .flat_map(|volume| self.oracle.written(volume, most.saturating_sub(14).max(1)))
            .collect();
        let readers = self.hosts.iter_mut().filter(|host| !host.is_stranger());
        let readers: Vec<_> = readers.collect();
        let hosts = readers.len();
        for (i, host) in readers.into_iter().enumerate() {
            host.verify(extents.iter().copied().skip(i).step_by(hosts).collect());
        }
        let deadline = clock::now() + PHASE_MAX;
        self.run_until("reading everything", deadline, |world| {
            world.hosts.iter().all(Host::is_done)
        })
    }

    /// Stops the appliance, and waits until it has.
    fn stop(&mut self) -> Result<(), Violation> {
        self.hosts.iter_mut().for_each(Host::rest);
        self.disturb();
        let deadline = clock::now() + PHASE_MAX;
        // It may have been killed when everything was read.
        let has_started = |world: &World| world.soon.is_empty() && !world.appliance.is_replaying();
        self.run_until("the start", deadline, has_started)?;
        self.appliance.stop();
        self.run_until("the stop", deadline, |world| !world.appliance.is_running())
    }

    fn disturb(&mut self) {
        self.hosts.iter_mut().for_each(Host::disturb);
    }

    fn run_until(
        &mut self,
        what: &str,
        deadline: Nanoseconds,
        done: impl Fn(&World) -> bool,
    ) -> Result<(), Violation> {
        while !done(self) && !self.is_over {
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

    /// The next thing that happens.
    fn step(&mut self) -> Result<(), Violation> {
        self.steps += 1;
        let event = self.next_event.as_ref().map(|&(at, _)| at);
        let soon = self.soon.first().map(|&(at, _)| at);
        let times = [
            event,
            soon,
            self.wire.next_time(),
            self.appliance.next_time(),
        ];
        let hosts = self.hosts.iter().map(Host::next_time);
        let next = times.into_iter().flatten().chain(hosts).min();
        let now = clock::now().max(next.unwrap_or(clock::now() + MILLISECOND));
        clock::set(now);
        if self.next_event.as_ref().is_some_and(|&(at, _)| at <= now)
            && let Some((_, event)) = self.next_event.take()
        {
            self.next_event = self.events.next();
            return self.happen(event);
        }
        if soon.is_some_and(|at| at <= now) {
            let (_, event) = self.soon.remove(0);
            return self.happen(event);
        }
        while let Some((to, frame)) = self.wire.arrive() {
            match to {
                Node::Appliance(_) => self.appliance.receive(0, frame),
                Node::Second(_) => {}
                Node::Host(host) => self.hosts[host].receive(frame),
            }
        }
        let wire = &mut self.wire;
        self.appliance.advance(|from, frame| wire.send(from, frame));
        if self.appliance.has_disturbed() {
            self.disturb();
        }
        self.look_for_ambushes();
        if let Some(what) = self.appliance.breach() {
            return Err(Violation(what));
        }
        if self.appliance.is_stopping() {
            self.look_at_the_stop()?;
        }
        if let Some(why) = self.appliance.refused() {
            self.look_at_the_refusal(why)?;
        }
        let mut cx = Context {
            oracle: &mut self.oracle,
            devices: &self.appliance,
            is_well: self.appliance.is_serving() && !self.appliance.has_lost_a_device(),
        };
        for (i, host) in self.hosts.iter_mut().enumerate() {
            let wire = &mut self.wire;
            host.advance(&mut cx, |frame| wire.send(Node::Host(i), frame))?;
        }
        Ok(())
    }

    /// Draws near what waits for the moment that has come.
    fn look_for_ambushes(&mut self) {
        let now = clock::now();
        let is_kill = |(_, event): &(_, Event)| matches!(event, Event::Kill { .. });
        if self.soon.iter().any(is_kill) {
            return;
        }
        let has_come = |ambush: &Ambush| self.appliance.has_come(ambush.moment);
        if let Some(which) = self.ambushes.iter().position(has_come) {
            let events = self.ambushes.remove(which).events.into_iter();
            self.soon
                .extend(events.map(|(after, event)| (now + after, event)));
            self.soon.sort_by_key(|&(at, _)| at);
        }
    }

    /// A log cannot be replayed: whoever runs the appliance tries again, if it was a device.
    fn look_at_the_refusal(&mut self, why: String) -> Result<(), Violation> {
        event!(self.trace, "refused", [self.steps], "{why}");
        let lied = |log: &Rc<RefCell<Disk>>| log.borrow().lied_at().is_some();
        let is_found_out = !self.appliance.has_two_logs() && self.appliance.logs().iter().any(lied);
        if is_found_out || self.appliance.was_lied_to_at_first() {
            // It was found out, and nothing is lost without a word.
            self.is_over = true;
            return self.appliance.kill(false).map_err(Violation);
        }
        if !self.appliance.may_try_again() {
            return Err(Violation(format!("the log is refused: {why}")));
        }
        self.appliance.kill(false).map_err(Violation)?;
        self.appliance.start_again();
        Ok(())
    }

    fn look_at_the_stop(&mut self) -> Result<(), Violation> {
        match self.appliance.finish_stop() {
            Stopped::NotYet => Ok(()),
            Stopped::Wrong(what) => Err(Violation(what)),
            // The process ends, though a device does not.
            Stopped::Abandoned => {
                self.appliance.kill(false).map_err(Violation)?;
                self.crash();
                self.disturb();
                if std::mem::take(&mut self.starts_after_stop) {
                    self.start();
                }
                Ok(())
            }
            Stopped::Done => {
                self.oracle.settle();
                if self.appliance.has_left_dirty() {
                    // What a device does not take is lost with the memory it is in.
                    self.crash();
                }
                self.disturb();
                if std::mem::take(&mut self.starts_after_stop) {
                    self.start();
                }
                Ok(())
            }
        }
    }

    /// Something goes wrong, or right again.
    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        event!(self.trace, "event", [self.steps], "{event:?}");
        match event {
            Event::Link { host, quality } => {
                self.wire.set_quality(host, quality);
                self.hosts[host].set_bad(quality != self.plan.hosts[host].link);
            }
            Event::Cut {
                host,
                direction,
                is_cut,
            } => {
                self.wire.cut(host, direction, is_cut);
                self.hosts[host].set_cut(direction, is_cut);
            }
            Event::Disk { disk, trouble } => {
                self.appliance.disks()[disk]
                    .borrow_mut()
                    .set_trouble(trouble);
            }
            Event::Gone { disk } => self.appliance.disks()[disk].borrow_mut().leave(),
            Event::Kill { power } => {
                self.starts_after_stop = false;
                if self.appliance.is_running() {
                    self.appliance.kill(power).map_err(Violation)?;
                    self.crash();
                }
                self.disturb();
            }
            // It has nothing to lose yet.
            Event::Stop if self.appliance.is_replaying() => {
                self.appliance.kill(false).map_err(Violation)?;
                self.disturb();
            }
            Event::Stop => {
                if !self.appliance.is_stopping() {
                    self.appliance.stop();
                }
                self.disturb();
            }
            Event::Start => {
                if self.appliance.is_stopping() {
                    self.starts_after_stop = true;
                } else if !self.appliance.is_running() {
                    self.start();
                }
                self.disturb();
            }
            Event::Reset { host } => {
                let mut cx = Context {
                    oracle: &mut self.oracle,
                    devices: &self.appliance,
                    is_well: false,
                };
                self.hosts[host].reset(&mut cx);
            }
            Event::Stall { host, is_stalled } => {
                self.hosts[host].stall(is_stalled);
                self.hosts[host].disturb();
            }
            Event::Deaf { host, is_deaf } => {
                self.hosts[host].deafen(is_deaf);
                self.hosts[host].disturb();
            }
            Event::Offer(change) => {
                self.appliance.change_offer(change);
            }
        }
        Ok(())
    }
}
