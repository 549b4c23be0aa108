//! A controller of a host's: its connections, and the commands under way on them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use net::{ConnectionId, Event};
use testkit::{Association, Cid, Command, Completion, Config, Fault, Format, Pdu, Random};

use super::aborts::Aborts;
use super::network::Network;
use crate::appliance::SUBSYSTEM;
use crate::clock::{self, Nanoseconds};
use crate::oracle::{Extent, OpId, Oracle, Violation};
use crate::plan::{HostPlan, host_nqn};

/// A command that was given.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// What the oracle calls it: one for each range.
    pub(super) ops: Vec<OpId>,
    pub(super) at: Nanoseconds,
    /// Its data have a wrong digest.
    pub(super) is_spoiled: bool,
    /// Faults of its device when it was given.
    pub(super) faults: u64,
    /// An Abort names it.
    pub(super) is_named: bool,
    /// Of a read that verifies: to be repeated if its end does not come.
    pub(super) verifies: Option<Extent>,
}

/// A controller.
pub(super) struct Session {
    host: usize,
    association: Association,
    connections: Vec<Connection>,
    given: BTreeMap<(usize, Cid), Given>,
    completions: VecDeque<(Given, Completion)>,
    aborts: Aborts,
    began: Nanoseconds,
    /// What has nothing under way waits for nothing.
    last_progress: Nanoseconds,
    /// A shutdown is under way: a flush of each volume.
    shutdown: Option<Given>,
    /// Something happened to its connections that they may not survive.
    pub(super) is_disturbed: bool,
}

struct Connection {
    id: ConnectionId,
    is_open: bool,
}

fn time() -> Duration {
    Duration::from_nanos(clock::now())
}

impl Session {
    pub(super) fn new(host: usize, plan: &HostPlan, random: &mut Random) -> Self {
        let mut config = Config::new(SUBSYSTEM);
        config.host = host_nqn(host);
        config.host_id = [host as u8 + 1; 16];
        config.format = Format {
            header_digest: plan.header_digest,
            data_digest: plan.data_digest,
            hpda: plan.hpda,
            cpda: 0,
        };
        config.max_r2t = plan.max_r2t;
        config.entries = plan.entries;
        config.no_flow_control = plan.no_flow_control;
        config.keep_alive = plan.keep_alive;
        let mut association = Association::new(config, plan.queues);
        if let Some(guard) = plan.guard.clone() {
            let mut random = random.fork();
            let prover = move || guard.proof(host, host, &mut random);
            association = association.with_prover(Box::new(prover));
        }
        Self {
            host,
            association,
            connections: Vec::new(),
            given: BTreeMap::new(),
            completions: VecDeque::new(),
            aborts: Aborts::default(),
            began: clock::now(),
            last_progress: clock::now(),
            shutdown: None,
            is_disturbed: false,
        }
    }

    /// Whether all queues were connected.
    pub(super) fn is_ready(&self) -> bool {
        self.association.is_ready()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.given.is_empty()
            && self.completions.is_empty()
            && self.aborts.is_idle()
            && self.shutdown.is_none()
    }

    /// What the appliance has.
    pub(super) fn given(&self) -> impl Iterator<Item = OpId> {
        self.given
            .values()
            .flat_map(|given| given.ops.iter().copied())
    }

    /// Begins a shutdown; every command has ended.
    pub(super) fn shut_down(&mut self, given: Given) {
        self.association.shut_down();
        self.began = clock::now();
        self.shutdown = Some(given);
    }

    /// The shutdown, once it is complete.
    pub(super) fn take_shutdown(&mut self) -> Option<Given> {
        let is_complete = self.association.is_shut_down();
        self.shutdown.take_if(|_| is_complete)
    }

    /// Since when it waits for something that has not come; `excused` says until when a volume
    /// could not be expected to end anything.
    pub(super) fn waits_since(&self, excused: impl Fn(&Given) -> Nanoseconds) -> Nanoseconds {
        match self.association.is_ready() {
            false => self.began,
            true => {
                let since = |given: &Given| given.at.max(excused(given));
                let given = self.given.values().map(since);
                let oldest = given.chain(self.aborts.waits_since()).min();
                oldest.unwrap_or(clock::now())
            }
        }
    }

    /// Since when no command has ended.
    pub(super) fn last_progress(&self) -> Nanoseconds {
        self.last_progress
    }

    pub(super) fn stall(&mut self, is_stalled: bool) {
        for host in self.association.hosts() {
            host.conduct.stalled = is_stalled;
        }
    }

    pub(super) fn next_deadline(&mut self) -> Option<Nanoseconds> {
        // The Admin Queue alone has a timer.
        let deadline = self.association.admin().next_deadline()?;
        Some(deadline.as_nanos() as Nanoseconds)
    }

    /// Takes what came. `Some`: the controller is lost, and why.
    pub(super) fn advance(
        &mut self,
        network: &mut Network,
        is_deaf: bool,
    ) -> Result<Option<String>, Violation> {
        let lost = self.take_events(network);
        if !is_deaf {
            self.read(network)?;
        }
        if let Err(setback) = self.association.drive(time()) {
            return Ok(Some(setback.to_string()));
        }
        while self.connections.len() < self.association.connections() {
            match network.connect() {
                Ok(id) => self.connections.push(Connection { id, is_open: false }),
                Err(error) => return Ok(Some(error.to_string())),
            }
        }
        if self.association.unasked() > 0 {
            let host = self.host;
            return Err(Violation(format!(
                "a queue of host {host} was let in without a proof"
            )));
        }
        if self.association.is_ready() {
            self.take_completions()?;
        }
        Ok(lost)
    }

    fn take_events(&mut self, network: &mut Network) -> Option<String> {
        let mut lost = None;
        while let Some(event) = network.events.pop_front() {
            let (id, end) = match event {
                Event::Connected(id) => (id, None),
                Event::PeerClosed(id) => (id, Some("closed by the controller".to_owned())),
                Event::Closed { connection, reason } => (connection, Some(format!("{reason:?}"))),
                _ => continue,
            };
            let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else {
                continue;
            };
            match end {
                None => connection.is_open = true,
                Some(why) => lost = Some(why),
            }
        }
        lost
    }

    fn read(&mut self, network: &mut Network) -> Result<(), Violation> {
        for (queue, connection) in self.connections.iter().enumerate() {
            let host = self.association.host(queue);
            while let Some(slice) = network.recv(connection.id) {
                host.receive(slice.bytes()).map_err(|violation| {
                    Violation(format!("host {} queue {queue}: {violation}", self.host))
                })?;
            }
            while let Some(pdu) = host.next_pdu() {
                if let Pdu::Term { .. } = pdu {
                    return Err(Violation(format!(
                        "host {} queue {queue}: the controller ends the connection: {pdu:?}",
                        self.host
                    )));
                }
            }
        }
        Ok(())
    }

    fn take_completions(&mut self) -> Result<(), Violation> {
        for queue in 0..self.connections.len() {
            while let Some(completion) = self.association.host(queue).next_completion() {
                self.last_progress = clock::now();
                match queue {
                    0 => self.aborts.answered(&completion)?,
                    _ => self.aborts.ended(queue, &completion)?,
                }
                if let Some(given) = self.given.remove(&(queue, completion.cid)) {
                    if given.is_spoiled {
                        // It may have ended before its data was asked for.
                        self.association.host(queue).behave();
                    }
                    self.completions.push_back((given, completion));
                }
            }
        }
        Ok(())
    }

    /// Aborts some command that is under way and that no Abort names; which one.
    pub(super) fn abort(&mut self, random: &mut Random) -> Option<(usize, Cid)> {
        if !self.aborts.has_room() || self.association.admin().room() == 0 {
            return None;
        }
        let given = self.given.iter().filter(|(_, given)| !given.is_named);
        let under_way: Vec<_> = given.map(|(&key, _)| key).collect();
        if under_way.is_empty() {
            return None;
        }
        let (queue, cid) = *random.pick(&under_way);
        let abort = Command::abort(queue as u16, cid);
        let own = self.association.admin().command(abort);
        self.aborts.begin(own, queue, cid);
        if let Some(given) = self.given.get_mut(&(queue, cid)) {
            given.is_named = true;
        }
        Some((queue, cid))
    }

    pub(super) fn next_completion(&mut self) -> Option<(Given, Completion)> {
        self.completions.pop_front()
    }

    /// Queues that take another command now: none beside one whose data will have a wrong digest,
    /// which could become the other's.
    pub(super) fn queues_with_room(&mut self) -> Vec<usize> {
        if !self.association.is_ready() {
            return Vec::new();
        }
        let spoiled = |queue: usize| {
            let mut given = self.given.range((queue, 0)..=(queue, Cid::MAX));
            given.any(|(_, given)| given.is_spoiled)
        };
        let queues = 1..self.association.connections();
        let queues: Vec<_> = queues.filter(|&queue| !spoiled(queue)).collect();
        let has_room = |queue: &usize| self.association.host(*queue).room() > 0;
        queues.into_iter().filter(has_room).collect()
    }

    /// The most bytes of one command; and of its data in a capsule.
    pub(super) fn limits(&self) -> (usize, usize) {
        let controller = self.association.controller();
        let most = match controller.max_transfer {
            0 => usize::MAX,
            most => most,
        };
        (most, controller.in_capsule)
    }

    /// Whether the next data PDU of a queue is that of the next command on it, and has a digest.
    pub(super) fn can_spoil(&mut self, queue: usize) -> bool {
        let host = self.association.host(queue);
        host.outstanding() == 0 && host.format().data_digest
    }

    pub(super) fn give(&mut self, queue: usize, command: Command, given: Given) {
        let host = self.association.host(queue);
        if given.is_spoiled {
            host.misbehave(Fault::DataDigest);
        }
        let cid = host.command(command);
        self.given.insert((queue, cid), given);
    }

    /// Gives what there is to say to TCP.
    pub(super) fn send(&mut self, network: &mut Network) {
        for (queue, connection) in self.connections.iter().enumerate() {
            if !connection.is_open {
                continue;
            }
            let host = self.association.host(queue);
            let n = network.send(connection.id, host.outgoing());
            host.consume(n);
        }
    }

    /// Ends all connections; the commands that had not ended, and whether they were sent.
    pub(super) fn leave(mut self, graceful: bool, network: &mut Network) -> Vec<(Given, bool)> {
        let mut lost = Vec::new();
        for queue in 0..self.association.connections() {
            for command in self.association.host(queue).take_outstanding() {
                if let Some(given) = self.given.remove(&(queue, command.cid)) {
                    lost.push((given, command.was_sent));
                }
            }
        }
        lost.extend(self.shutdown.take().map(|given| (given, true)));
        // Ended, and not looked at: as if the end had not come.
        lost.extend(self.completions.drain(..).map(|(given, _)| (given, true)));
        for connection in &self.connections {
            network.end(connection.id, graceful);
        }
        lost
    }

    pub(super) fn describe(&self, oracle: &Oracle) -> String {
        let ready = if self.association.is_ready() {
            "ready"
        } else {
            "connecting"
        };
        let mut text = format!(
            "{ready}, {} of {} connections open, {} commands under way, last end at {:.6}",
            self.connections.iter().filter(|c| c.is_open).count(),
            self.connections.len(),
            self.given.len(),
            self.last_progress() as f64 / 1e9,
        );
        for ((queue, cid), given) in self.given.iter().take(8) {
            let ops: Vec<_> = given.ops.iter().map(|&op| oracle.describe(op)).collect();
            text += &format!("\n    queue {queue} CID {cid}: {}", ops.join(", "));
        }
        text
    }
}
