//! What other nodes ask for, at the door: changes are placed where they came, and executed as requests of the volume.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use block::{Buffers, Completion, Fault, Flags, Io, Request, RequestId};
use collections::Slab;
use mutant::mutant;
use pages::{PageRun, RunPool, Slice};

use super::manager::{Mailbox, Place};
use super::{Carried, Lanes, MirroredVolume};
use crate::commands::{CHANGES_MAX, ChangeOp, Changes, Comparison};
use crate::frame::Command;
use crate::greeting::{Caller, Node};
use crate::link::{Incoming, Link, Patience, Received, WINDOW};
use crate::pair::nature;
use crate::parameters::Refusal;
use crate::record::{GRANULE, PAGE};
use crate::verification::{differing, sums};

/// Lanes that came in and are remembered, at most.
const LANES_MAX: usize = 64;

/// Runs, as pools have them.
type Runs = VecDeque<Box<PageRun>>;

/// What a message asks for, as far as it is there.
enum Assembly {
    Changes {
        changes: Changes,
        runs: Runs,
    },
    /// Its runs are not there yet.
    Waits(Changes),
    Compare(Comparison),
    Pair {
        command: Command,
        parameters: Vec<u8>,
        payload: Vec<u8>,
    },
    /// It is not for this node to do.
    Refused(Refusal),
}

/// A message of changes whose requests are under way.
struct Execution {
    lane: usize,
    message: Incoming,
    volume: usize,
    left: usize,
    result: Result<(), Fault>,
    /// It is a read, of what is to be the same.
    compares: Option<Comparison>,
}

/// A lane that came in.
struct In {
    peer: usize,
    lane: u16,
    link: Link<Carried>,
    connection: Option<u64>,
    message: Option<(Incoming, Assembly)>,
    /// By volume.
    unsettled: BTreeMap<usize, Unsettled>,
}

/// Changes of a volume that were executed, or are, and that the source has not said to be stable there.
#[derive(Default)]
struct Unsettled {
    /// What they came with: those of another one are of a meeting that is over, and stay as they are.
    ticket: u64,
    changes: VecDeque<(u64, std::ops::Range<u64>)>,
    /// How many touch each granule.
    granules: BTreeMap<u64, u32>,
}

impl Unsettled {
    fn begin(&mut self, changes: &Changes, volume: &MirroredVolume) {
        if self.ticket != changes.ticket {
            *self = Self {
                ticket: changes.ticket,
                ..Self::default()
            };
        }
        for (transfer, change) in (changes.transfer..).zip(&changes.changes) {
            let range = change.offset..change.offset + change.len;
            volume.shared.pend(&range);
            let granules = range.start / GRANULE..range.end.div_ceil(GRANULE);
            for granule in granules.clone() {
                *self.granules.entry(granule).or_default() += 1;
            }
            self.changes.push_back((transfer, granules));
        }
    }

    /// What is stable at the source is settled.
    fn settle(&mut self, stable: u64, volume: &MirroredVolume) {
        while let Some((transfer, granules)) = self.changes.front().cloned()
            && transfer < stable
        {
            self.changes.pop_front();
            for granule in granules {
                let Some(count) = self.granules.get_mut(&granule) else {
                    continue;
                };
                *count -= 1;
                if *count == 0 {
                    self.granules.remove(&granule);
                    volume.shared.settle(granule);
                }
            }
        }
    }
}

/// What a shard does for other nodes.
pub struct Door {
    ins: Vec<In>,
    runs: RunPool,
    executions: Slab<Execution>,
    mailbox: Arc<Mailbox>,
    shard: u16,
    /// Messages that the manager has not answered.
    asked: BTreeMap<u64, (usize, Incoming)>,
    replies: u64,
}

/// Changes of other nodes under way at a time.
const EXECUTIONS: usize = 2 * WINDOW;

impl Door {
    /// Of shard `shard`; changes are at most `max_bytes` long, and `runs` of them wait for their log at a time.
    pub fn new(shard: u16, runs: usize, max_bytes: usize, mailbox: &Arc<Mailbox>) -> Self {
        Self {
            ins: Vec::new(),
            runs: RunPool::new(runs.max(CHANGES_MAX), max_bytes),
            executions: Slab::new(EXECUTIONS),
            mailbox: Arc::clone(mailbox),
            shard,
            asked: BTreeMap::new(),
            replies: 0,
        }
    }

    /// A lane's link, and the connection that has its session.
    pub(super) fn link(&mut self, at: usize) -> (&mut Link<Carried>, &mut Option<u64>) {
        let lane = &mut self.ins[at];
        (&mut lane.link, &mut lane.connection)
    }

    /// Whether what a caller remembers of a lane is at another shard, and nothing of it here.
    pub(super) fn is_elsewhere(&self, peer: usize, caller: &Caller) -> bool {
        let place = self.mailbox.place(peer, caller.node.shard);
        place.is_some_and(|place| {
            place.shard != self.shard && place.history == caller.history && caller.history != 0
        })
    }

    /// A lane has a session at this shard.
    pub(super) fn is_here(&self, at: usize) {
        let lane = &self.ins[at];
        let place = Place {
            shard: self.shard,
            history: lane.link.history(),
        };
        self.mailbox.set_place(lane.peer, lane.lane, place);
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Link<Carried>> {
        self.ins.iter().map(|lane| &lane.link)
    }

    /// The place of a lane of a peer, which may be new; `None` if there are too many.
    pub(super) fn lane(
        &mut self,
        peer: usize,
        me: Node,
        id: [u8; 16],
        patience: Patience,
        now: Duration,
    ) -> Option<usize> {
        let known = self
            .ins
            .iter()
            .position(|lane| (lane.peer, lane.lane) == (peer, me.shard));
        if known.is_some() || self.ins.len() >= LANES_MAX {
            return known;
        }
        self.ins.push(In {
            peer,
            lane: me.shard,
            link: Link::new(me, id, crate::frame::PAYLOAD_MAX, patience, now),
            connection: None,
            message: None,
            unsettled: BTreeMap::new(),
        });
        Some(self.ins.len() - 1)
    }

    pub(super) fn advance(&mut self, now: Duration) {
        for lane in &mut self.ins {
            lane.link.advance(now);
            // It asks for nothing: what happens to it, happens to its connection.
            while lane.link.next_event().is_some() {}
        }
    }

    pub(super) fn stop(&mut self, now: Duration) {
        for lane in &mut self.ins {
            lane.link.sever(now);
            if let Some((_, Assembly::Changes { runs, .. })) = lane.message.take() {
                runs.into_iter().for_each(|run| self.runs.put(run));
            }
        }
    }

    /// What the manager has answered.
    pub(super) fn take_replies(&mut self, shard: u16) {
        for (reply, result) in self.mailbox.replies(shard) {
            if let Some((at, message)) = self.asked.remove(&reply) {
                self.ins[at].link.answer(message, result);
            }
        }
    }

    /// A request ended.
    pub(super) fn ended(&mut self, completion: Completion, volumes: &[MirroredVolume]) {
        let id = completion.id.0 as u32;
        let compares = (self.executions.get_mut(id)).and_then(|it| it.compares.as_ref());
        let differs = match (compares, &completion.run) {
            (Some(theirs), Some(run)) if completion.result.is_ok() => {
                let range = theirs.offset..theirs.offset + theirs.len;
                differing(&range, &sums(run), &theirs.sums)
            }
            _ => Vec::new(),
        };
        if let Some(run) = completion.run {
            self.runs.put(run);
        }
        let Some(execution) = self.executions.get_mut(id) else {
            return;
        };
        execution.left -= 1;
        execution.result = execution.result.and(completion.result);
        if execution.left > 0 {
            return;
        }
        let Some(execution) = self.executions.remove(id) else {
            return;
        };
        volumes[execution.volume].shared.executed();
        let result = execution.result.map_err(|fault| Refusal {
            nature: nature::DEVICE,
            text: format!("the volume did not take it: {fault}"),
        });
        let result = match differs.is_empty() || mutant!("pair-verify-blind") {
            true => result,
            false => Err(Refusal {
                nature: nature::DIFFERS,
                text: format!("bytes {differs:?} are not the same"),
            }),
        };
        self.ins[execution.lane]
            .link
            .answer(execution.message, result);
    }
}

fn refusal(nature: u16, text: &str) -> Assembly {
    Assembly::Refused(Refusal {
        nature,
        text: text.into(),
    })
}

impl Lanes {
    /// Takes bytes of a lane that came in; what is left of them when runs are short.
    pub(super) fn take_in(
        &mut self,
        at: usize,
        mut slice: Slice,
        buffers: &Buffers,
        requests: &mut VecDeque<Request>,
    ) -> Option<Slice> {
        loop {
            let lane = &mut self.door.ins[at];
            if let Some((_, Assembly::Waits(_))) = &lane.message
                && !self.begin_placing(at)
            {
                return Some(slice);
            }
            let lane = &mut self.door.ins[at];
            let (taken, received) = lane.link.receive(slice.bytes(), self.now);
            let is_over = taken == slice.len();
            let part = match is_over {
                true => slice.clone(),
                false if taken > 0 => slice.split_to(taken),
                false => slice.clone(),
            };
            match received {
                Received::Nothing if is_over => return None,
                Received::Nothing if taken == 0 => return None,
                Received::Nothing => {}
                Received::Begins {
                    message,
                    command,
                    parameters,
                    payload,
                } => {
                    let assembly = self.begins(at, command, parameters, payload);
                    let lane = &mut self.door.ins[at];
                    let before = lane.message.replace((message, assembly));
                    if let Some((_, Assembly::Changes { runs, .. })) = before {
                        runs.into_iter().for_each(|run| self.door.runs.put(run));
                    }
                }
                Received::Payload { message, at: place } => {
                    let lane = &mut self.door.ins[at];
                    if let Some((_, assembly)) =
                        lane.message.as_mut().filter(|known| known.0 == message)
                    {
                        place_in(assembly, place, part, buffers);
                    }
                }
                Received::Complete(message) => self.complete(at, message, requests),
            }
            if is_over {
                // What was complete with the last byte may still be said.
                let lane = &mut self.door.ins[at];
                while let (_, received) = lane.link.receive(&[], self.now)
                    && received != Received::Nothing
                {
                    if let Received::Complete(message) = received {
                        self.complete(at, message, requests);
                        break;
                    }
                }
                return None;
            }
        }
    }

    /// What a message asks for.
    fn begins(
        &mut self,
        at: usize,
        command: Command,
        parameters: Vec<u8>,
        payload: usize,
    ) -> Assembly {
        if command == Command::VERIFY {
            return self.begins_to_compare(at, &parameters, payload);
        }
        if command != Command::WRITE {
            return match payload <= PAGE {
                true => Assembly::Pair {
                    command,
                    parameters,
                    payload: vec![0; payload],
                },
                false => refusal(
                    nature::PARAMETERS,
                    "there is more payload than the command has",
                ),
            };
        }
        let changes = match Changes::decode(&parameters, payload) {
            Ok(changes) => changes,
            Err(bad) => return refusal(nature::PARAMETERS, &bad.to_string()),
        };
        let Some(volume) = self.volume_of(at, changes.volume) else {
            return refusal(nature::VOLUME, "the volume is not known");
        };
        let (block, reach) = (u64::from(volume.block), volume.shared.reach());
        let fits = changes.changes.iter().all(|change| {
            let end = change.offset + change.len;
            end <= reach && change.offset.is_multiple_of(block) && end.is_multiple_of(block)
        });
        if !fits {
            return refusal(
                nature::PARAMETERS,
                "a range is not inside the volume, or not of its blocks",
            );
        }
        let longest = changes.changes.iter().map(|change| change.payload()).max();
        if longest > Some(self.door.runs.max_bytes() as u64) {
            return refusal(
                nature::PARAMETERS,
                "a change is longer than this node takes: give both nodes the same max_io_kib",
            );
        }
        Assembly::Waits(changes)
    }

    /// A volume by its number, if it is one that the peer of the lane mirrors.
    fn volume_of(&self, at: usize, number: u16) -> Option<&MirroredVolume> {
        let volume = self.volumes.get(usize::from(number));
        volume.filter(|volume| volume.peer == self.door.ins[at].peer)
    }

    /// A comparison that can be made, or why not.
    fn begins_to_compare(&self, at: usize, parameters: &[u8], payload: usize) -> Assembly {
        let comparison = match Comparison::decode(parameters) {
            Ok(comparison) if payload == 0 => comparison,
            Ok(_) => return refusal(nature::PARAMETERS, "a comparison has no payload"),
            Err(bad) => return refusal(nature::PARAMETERS, &bad.to_string()),
        };
        let Some(volume) = self.volume_of(at, comparison.volume) else {
            return refusal(nature::VOLUME, "the volume is not known");
        };
        let end = comparison.offset + comparison.len;
        let fits = end <= volume.shared.reach() && end.is_multiple_of(u64::from(volume.block));
        match fits && comparison.len <= self.door.runs.max_bytes() as u64 {
            true => Assembly::Compare(comparison),
            false => refusal(
                nature::PARAMETERS,
                "a range is not inside the volume, not of its blocks, or longer than this node takes",
            ),
        }
    }

    /// Takes the runs for what is to be placed, if there are enough.
    fn begin_placing(&mut self, at: usize) -> bool {
        let lane = &mut self.door.ins[at];
        let Some((message, Assembly::Waits(changes))) = &lane.message else {
            return true;
        };
        let writes = || {
            changes
                .changes
                .iter()
                .filter(|change| change.op == ChangeOp::Write)
        };
        if self.door.runs.available() < writes().count() || !self.door.executions.has_room() {
            return false;
        }
        let run = |change: &crate::commands::Change| {
            let mut run = self.door.runs.take()?;
            run.begin(change.offset, change.len as usize).ok()?;
            Some(run)
        };
        let runs = writes().filter_map(run).collect();
        let assembly = Assembly::Changes {
            changes: changes.clone(),
            runs,
        };
        lane.message = Some((*message, assembly));
        true
    }

    /// A message is there, intact.
    fn complete(&mut self, at: usize, message: Incoming, requests: &mut VecDeque<Request>) {
        let lane = &mut self.door.ins[at];
        let Some((_, assembly)) = lane.message.take_if(|known| known.0 == message) else {
            return;
        };
        match assembly {
            Assembly::Refused(refusal) => lane.link.answer(message, Err(refusal)),
            Assembly::Pair {
                command,
                parameters,
                payload,
            } => {
                let reply = u64::from(self.door.shard) << 48 | self.door.replies;
                self.door.replies += 1;
                self.door.asked.insert(reply, (at, message));
                let peer = lane.peer;
                self.door
                    .mailbox
                    .hear(peer, command, parameters, payload, reply);
            }
            // Of no data.
            Assembly::Waits(changes) => {
                self.execute(at, message, &changes, Runs::new(), requests);
            }
            Assembly::Changes { changes, runs } => {
                self.execute(at, message, &changes, runs, requests)
            }
            Assembly::Compare(comparison) => self.compare_here(at, message, comparison, requests),
        }
    }

    /// Reads what is to be compared.
    fn compare_here(
        &mut self,
        at: usize,
        message: Incoming,
        comparison: Comparison,
        requests: &mut VecDeque<Request>,
    ) {
        let number = usize::from(comparison.volume);
        let volume = &self.volumes[number];
        let refuse = |nature, text: &str| {
            let text = text.into();
            Err(Refusal { nature, text })
        };
        let link = &mut self.door.ins[at].link;
        if !self.door.executions.has_room() {
            return link.answer(message, refuse(nature::BUSY, "too much is under way"));
        }
        let Some(mut run) = self.door.runs.take() else {
            return link.answer(message, refuse(nature::BUSY, "no memory to read it to"));
        };
        if (run.begin(comparison.offset, comparison.len as usize)).is_err() {
            self.door.runs.put(run);
            return link.answer(message, refuse(nature::PARAMETERS, "the range is too long"));
        }
        if !volume.shared.lets_in(comparison.ticket) {
            self.door.runs.put(run);
            return link.answer(message, refuse(nature::STALE, "the meeting is over"));
        }
        let execution = Execution {
            lane: at,
            message,
            volume: number,
            left: 1,
            result: Ok(()),
            compares: Some(comparison),
        };
        let Ok(id) = self.door.executions.insert(execution) else {
            unreachable!("there is room");
        };
        requests.push_back(Request {
            id: RequestId(id.into()),
            namespace: volume.namespace,
            io: Io::read(run, Flags::NONE),
        });
    }

    fn execute(
        &mut self,
        at: usize,
        message: Incoming,
        changes: &Changes,
        runs: Runs,
        requests: &mut VecDeque<Request>,
    ) {
        let number = usize::from(changes.volume);
        let volume = &self.volumes[number];
        let lane = &mut self.door.ins[at];
        let is_whole = runs.iter().all(|run| run.is_complete());
        let execution = Execution {
            lane: at,
            message,
            volume: number,
            left: changes.changes.len(),
            result: Ok(()),
            compares: None,
        };
        let why = match () {
            () if !is_whole => Some((nature::DEVICE, "no memory to place it in")),
            () if !volume.shared.lets_in(changes.ticket) => {
                Some((nature::STALE, "the meeting is over"))
            }
            () => None,
        };
        if let Some((nature, text)) = why {
            runs.into_iter().for_each(|run| self.door.runs.put(run));
            let text = text.into();
            return lane.link.answer(message, Err(Refusal { nature, text }));
        }
        let unsettled = lane.unsettled.entry(number).or_default();
        unsettled.begin(changes, volume);
        unsettled.settle(changes.stable, volume);
        let Ok(id) = self.door.executions.insert(execution) else {
            unreachable!("there is room");
        };
        let mut runs = runs.into_iter();
        for change in &changes.changes {
            let io = match change.op {
                ChangeOp::Write => match runs.next() {
                    Some(run) => Io::write(run, Flags::FORWARDED),
                    None => unreachable!("each write has a run"),
                },
                ChangeOp::WriteZeroes => {
                    Io::write_zeroes(change.offset, change.len, Flags::FORWARDED)
                }
            };
            requests.push_back(Request {
                id: RequestId(id.into()),
                namespace: volume.namespace,
                io,
            });
        }
    }
}

/// Places bytes of a message's payload; what does not fit leaves the run incomplete.
fn place_in(assembly: &mut Assembly, at: usize, part: Slice, buffers: &Buffers) {
    match assembly {
        Assembly::Pair { payload, .. } => {
            let bytes = part.bytes();
            payload[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Assembly::Changes { runs, .. } => {
            let (mut start, mut part, mut at) = (0, part, at);
            for run in runs {
                let end = start + run.len();
                if !part.is_empty() && at < end {
                    let n = part.len().min(end - at);
                    let whole = n == part.len();
                    let piece = match whole {
                        true => part.clone(),
                        false => part.split_to(n),
                    };
                    // A run that lacks something is refused when the message is complete.
                    let _ = run.place(at - start, piece, &buffers.pull_up());
                    at += n;
                    if whole {
                        return;
                    }
                }
                start = end;
            }
        }
        Assembly::Waits(_) | Assembly::Compare(_) | Assembly::Refused(_) => {}
    }
}
