//! A host: a machine with its own TCP, that speaks NVMe/TCP with the appliance, gives it
//! commands, and tells the oracle what came of them.

mod aborts;
mod attempts;
mod channel;
mod commands;
mod intruder;
mod network;
mod session;
mod stranger;

use std::collections::VecDeque;

use testkit::Random;

use crate::clock::{self, MICROSECOND, MILLISECOND, Nanoseconds, SECOND};
use crate::devices::Devices;
use crate::frame::Frame;
use crate::oracle::{Extent, OpId, Oracle, Violation};
use crate::plan::{HostPlan, NetworkPlan, VolumePlan, host_nqn};
use crate::trace::{Trace, event};
use crate::wire::Direction;
pub(crate) use commands::Target;
use intruder::Intruder;
use network::Network;
use session::{Given, Session};
use stranger::Stranger;

/// How long a host waits that nothing has disturbed: then the appliance is at fault.
const PATIENCE_MAX: Nanoseconds = 30 * SECOND;

/// What a host uses of the world.
pub(crate) struct Context<'a> {
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) devices: &'a dyn Devices,
    /// The appliance serves, and its devices do.
    pub(crate) is_well: bool,
}

/// What a host is after.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Goal {
    /// Commands by chance, so many more.
    Work(u32),
    /// To read these.
    Verify(VecDeque<Extent>),
    /// To shut its controller down, if it has one.
    ShutDown,
}

pub(crate) struct Host {
    index: usize,
    plan: HostPlan,
    targets: Vec<Target>,
    network: Network,
    random: Random,
    trace: Trace,
    goal: Goal,
    session: Option<Session>,
    /// Writes that were sent and whose end is not known, until the appliance knows that too; and to which one they were sent.
    lost: Vec<(Option<usize>, OpId)>,
    /// When it connects again.
    retry_at: Nanoseconds,
    /// When it gives its next command.
    next_command: Nanoseconds,
    turn_at: Nanoseconds,
    is_stalled: bool,
    is_deaf: bool,
    /// Its link is bad, or cut, by direction.
    is_bad: bool,
    is_cut: [bool; 2],
    /// The appliance that it uses; none serves.
    aim: Option<usize>,
    addresses: NetworkPlan,
    /// It is no host, but looks like one.
    stranger: Option<Strange>,
}

/// Somebody who tries to get in.
enum Strange {
    /// By what hosts prove in-band.
    Stranger(Stranger),
    /// Past TLS.
    Intruder(Intruder),
}

impl Host {
    pub(crate) fn new(
        index: usize,
        plan: &HostPlan,
        network: &NetworkPlan,
        volumes: &[VolumePlan],
        random: &mut Random,
        trace: &Trace,
    ) -> Self {
        let stranger = match (&plan.tls, &plan.guard) {
            _ if !plan.is_stranger => None,
            (Some(tls), _) => Some(Strange::Intruder(Intruder::new(tls, random.fork()))),
            (None, guard) => {
                let stranger = |guard| Strange::Stranger(Stranger::new(guard, random.fork()));
                guard.as_ref().map(stranger)
            }
        };
        Self {
            index,
            stranger,
            plan: plan.clone(),
            targets: volumes.iter().enumerate().map(Target::new).collect(),
            network: Network::new(index, network, plan.window, random.word()),
            random: random.fork(),
            trace: trace.clone(),
            goal: Goal::Work(plan.commands),
            session: None,
            lost: Vec::new(),
            retry_at: 0,
            next_command: 0,
            turn_at: 0,
            is_stalled: false,
            is_deaf: false,
            is_bad: false,
            is_cut: [false; 2],
            aim: Some(0),
            addresses: network.clone(),
        }
    }

    /// It uses that appliance from now on, or waits for one that serves.
    pub(crate) fn aim(&mut self, appliance: Option<usize>, cx: &mut Context<'_>) {
        if self.aim == appliance {
            return;
        }
        self.leave(false, "another node serves", cx);
        self.aim = appliance;
        if let Some(appliance) = appliance {
            self.network.aim(&self.addresses, appliance);
        }
        self.turn_at = clock::now();
    }

    /// What it has given to an appliance, which may do it later.
    pub(crate) fn given_to(&self, appliance: usize) -> impl Iterator<Item = OpId> {
        let session = (self.session.iter()).filter(move |_| self.aim == Some(appliance));
        let lost = (self.lost.iter()).filter(move |(to, _)| *to == Some(appliance));
        let lost = lost.map(|&(_, op)| op);
        session.flat_map(Session::given).chain(lost)
    }

    /// Whether it has nothing left to do.
    pub(crate) fn is_done(&self) -> bool {
        if self.stranger.is_some() {
            return true;
        }
        let left = match &self.goal {
            Goal::Work(commands) => *commands as usize,
            Goal::Verify(extents) => extents.len(),
            Goal::ShutDown => return self.session.is_none(),
        };
        left == 0 && self.session.as_ref().is_none_or(Session::is_idle)
    }

    /// Whether it is none, and only looks like one.
    pub(crate) fn is_stranger(&self) -> bool {
        self.stranger.is_some()
    }

    /// Leaves what it did, and reads `extents`.
    pub(crate) fn verify(&mut self, extents: Vec<Extent>) {
        self.goal = Goal::Verify(extents.into());
        self.turn_at = clock::now();
    }

    /// Shuts its controller down.
    pub(crate) fn shut_down(&mut self) {
        self.goal = Goal::ShutDown;
        self.turn_at = clock::now();
    }

    /// It gives so many more commands, one soon after the other.
    pub(crate) fn work(&mut self, commands: u32) {
        self.plan.pause = self.plan.pause.min(10 * MILLISECOND);
        self.goal = Goal::Work(commands);
        self.turn_at = clock::now();
    }

    /// It gives no more commands.
    pub(crate) fn rest(&mut self) {
        match &mut self.stranger {
            None => {}
            Some(Strange::Stranger(stranger)) => stranger.tires(),
            Some(Strange::Intruder(intruder)) => intruder.tires(),
        }
        self.goal = Goal::Work(0);
    }

    pub(crate) fn stall(&mut self, is_stalled: bool) {
        self.is_stalled = is_stalled;
        self.turn_at = clock::now();
    }

    pub(crate) fn deafen(&mut self, is_deaf: bool) {
        self.is_deaf = is_deaf;
        self.retry_at = clock::now();
        self.turn_at = clock::now();
    }

    /// Its link is another one.
    pub(crate) fn set_bad(&mut self, is_bad: bool) {
        self.is_bad = is_bad;
        self.disturb();
    }

    /// A direction of its link is cut, or is there again.
    pub(crate) fn set_cut(&mut self, direction: Direction, is_cut: bool) {
        self.is_cut[direction as usize] = is_cut;
        self.disturb();
    }

    /// Something happened to its connections: it does not wait for them for long.
    pub(crate) fn disturb(&mut self) {
        if let Some(session) = &mut self.session {
            session.is_disturbed = true;
        }
    }

    /// A frame came.
    pub(crate) fn receive(&mut self, frame: Frame) {
        self.network.received.push_back(frame);
        self.turn_at = self
            .turn_at
            .min(clock::now() + self.random.below(2 * MICROSECOND));
    }

    /// When something happens next.
    pub(crate) fn next_time(&self) -> Nanoseconds {
        self.turn_at
    }

    /// Gives up its controller, in one way or another.
    pub(crate) fn reset(&mut self, cx: &mut Context<'_>) {
        let graceful = self.random.chance(1, 2);
        self.leave(graceful, "a reset", cx);
        self.turn_at = clock::now();
    }

    /// What it waits for, for whoever looks for what holds a run up.
    pub(crate) fn describe(&self, oracle: &Oracle) -> String {
        let session = self
            .session
            .as_ref()
            .map(|session| session.describe(oracle));
        let session = session.unwrap_or_else(|| "no controller".into());
        format!("host {}: {:?}, {session}", self.index, self.goal)
    }

    /// A turn: what came, what there is to say, what to do next; gives away the frames it sends.
    pub(crate) fn advance(
        &mut self,
        cx: &mut Context<'_>,
        send: impl FnMut(Frame),
    ) -> Result<(), Violation> {
        let now = clock::now();
        if self.turn_at > now {
            return Ok(());
        }
        self.network.receive();
        if let Some(stranger) = &mut self.stranger {
            let next = match stranger {
                Strange::Stranger(stranger) => stranger.advance(&mut self.network)?,
                Strange::Intruder(intruder) => intruder.advance(&mut self.network)?,
            };
            self.network.transmit(send);
            self.turn_at = self.network.next_deadline().unwrap_or(next).min(next);
            self.turn_at = self.turn_at.clamp(now + MICROSECOND, now + SECOND);
            return Ok(());
        }
        self.connect();
        if let Some(session) = &mut self.session {
            session.stall(self.is_stalled);
            let is_deaf = self.is_deaf;
            let lost = session.advance(&mut self.network, is_deaf)?;
            if let Some(why) = lost {
                // Whatever others do, and however silent devices are.
                if cx.is_well && session.is_ready() && !session.is_disturbed {
                    return Err(Violation(format!(
                        "host {} lost its controller though nothing goes wrong on its way: {why}",
                        self.index
                    )));
                }
                self.leave(false, &why, cx);
            }
        }
        self.complete(cx)?;
        self.fence_lost(cx);
        match self.goal {
            Goal::ShutDown => self.go_on_shutting_down(cx)?,
            _ => self.give(cx),
        }
        if let Some(session) = &mut self.session {
            session.send(&mut self.network);
        }
        self.look_at_the_clock(cx)?;
        self.network.transmit(send);
        self.turn_at = self.next_turn();
        Ok(())
    }

    /// Connects, if it is time to.
    fn connect(&mut self) {
        if self.session.is_some() || clock::now() < self.retry_at || self.is_done() {
            return;
        }
        if self.aim.is_none() {
            self.retry_at = clock::now() + 10 * MILLISECOND;
            return;
        }
        if self.is_deaf {
            // It would hear no answer.
            self.retry_at = clock::now() + SECOND;
            return;
        }
        event!(self.trace, "connect", [self.index], "host {}", self.index);
        let tls = self.plan.tls.as_ref();
        let tls = tls.filter(|tls| tls.has_key(self.index));
        let key = tls.map(|tls| (tls.key(self.index, self.index), tls.update_one_in));
        self.network.set_key(key);
        let mut session = Session::new(self.index, &self.plan, &mut self.random);
        let is_cut = self.is_cut.contains(&true);
        session.is_disturbed = self.is_bad || is_cut || self.is_stalled;
        self.session = Some(session);
    }

    /// Its connections are gone, or are to go. What was under way has an unknown end.
    fn leave(&mut self, graceful: bool, why: &str, cx: &mut Context<'_>) {
        let Some(session) = self.session.take() else {
            return;
        };
        let lost = session.leave(graceful, &mut self.network);
        event!(
            self.trace,
            "leave",
            [self.index, lost.len(), graceful],
            "host {} with {} commands under way: {why}",
            self.index,
            lost.len()
        );
        for (given, was_sent) in lost {
            for &op in &given.ops {
                cx.oracle.lose(op, was_sent);
            }
            if was_sent {
                let sent = given.ops.iter().map(|&op| (self.aim, op));
                self.lost.extend(sent);
            }
            // What was to be verified still is.
            if let (Goal::Verify(extents), Some(extent)) = (&mut self.goal, given.verifies) {
                extents.push_back(extent);
            }
        }
        self.retry_at = clock::now() + self.random.range(1..=50u64) * MILLISECOND;
    }

    /// Once the one controller that the appliance has of it is the one that it uses, what it gives
    /// from now on comes after all that was lost.
    fn fence_lost(&mut self, cx: &mut Context<'_>) {
        let is_ready = self.session.as_ref().is_some_and(Session::is_ready);
        if !self.lost.is_empty() && is_ready && cx.devices.controllers(&host_nqn(self.index)) == 1 {
            for (_, op) in self.lost.drain(..) {
                cx.oracle.fence(op);
            }
        }
    }

    /// Gives up what takes too long.
    fn look_at_the_clock(&mut self, cx: &mut Context<'_>) -> Result<(), Violation> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        if self.is_deaf {
            // It does not look for answers, and misses none.
            return Ok(());
        }
        let stuck_until = |given: &Given| {
            let volumes = given.ops.iter().map(|&op| cx.oracle.volume_of(op));
            let until = volumes.map(|volume| cx.devices.stuck_until(volume));
            until.max().unwrap_or(0)
        };
        let waits = clock::now() - session.waits_since(stuck_until);
        let patience = match session.is_disturbed {
            true => self.plan.patience,
            false => PATIENCE_MAX,
        };
        if waits < patience {
            if clock::now() - session.waits_since(|_| 0) >= PATIENCE_MAX {
                self.leave(false, "a device takes too long", cx);
            }
            return Ok(());
        }
        if !session.is_disturbed {
            return Err(Violation(format!(
                "nothing ended in {} s: {}",
                patience / SECOND,
                self.describe(cx.oracle)
            )));
        }
        self.leave(false, "it takes too long", cx);
        Ok(())
    }

    fn next_turn(&mut self) -> Nanoseconds {
        let now = clock::now();
        let mut next = now + SECOND;
        let mut at_most = |time: Nanoseconds| next = next.min(time);
        if let Some(deadline) = self.network.next_deadline() {
            at_most(deadline);
        }
        let is_done = self.is_done();
        match &mut self.session {
            None if !is_done => at_most(self.retry_at),
            None => {}
            Some(session) => {
                if let Some(deadline) = session.next_deadline() {
                    at_most(deadline);
                }
                if matches!(self.goal, Goal::Work(1..)) && !session.queues_with_room().is_empty() {
                    at_most(self.next_command);
                }
            }
        }
        next.max(now + MICROSECOND)
    }
}
