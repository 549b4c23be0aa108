//! An appliance as a node of a pair: its links, its pairs, and what it keeps of them in stable storage.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use block::{NamespaceIndex, VolumeId};
use mirror::{
    Changed, Content, Door, Generation, Lanes, Mailbox, Manager, Mirrored, MirroredVolume, Pair,
    PairConfig, PairKey, Patience, Peer, ReplicaId, Role, Standing, VerifyReport, Wholeness,
};
use shard::PairQuestion;
use testkit::Random;
use volume::LogStart;

use super::{Appliance, Running};
use crate::arbiter::{LEASE, Told};
use crate::clock;

/// The port that nodes listen on for each other.
pub(crate) const MIRROR_PORT: u16 = 4421;
/// Changes of the other node that are placed at a time.
const RUNS: usize = 64;

/// What two nodes have in common.
#[derive(Clone, Debug)]
pub(crate) struct PairPlan {
    pub(crate) patience: Patience,
    /// How long a destination does not take over, if there is an arbiter.
    pub(crate) promise: Option<Duration>,
}

/// A node of a pair: what outlives its runs.
pub(crate) struct Node {
    id: [u8; 16],
    peer: [u8; 16],
    remote: SocketAddr,
    patience: Patience,
    promise: Option<Duration>,
    /// What it knows of each volume before it has met the other one.
    first: Vec<Content>,
    /// What it knew when it was last off.
    known: Vec<Content>,
    logs_lost: u8,
    /// By volume: bytes, and those of a block.
    volumes: Vec<(u64, u32)>,
}

/// Another one for each log that the node has had.
fn replica(node: usize, volume: usize, log: u8) -> ReplicaId {
    let mut id = [0x10 * (1 + node as u8) + volume as u8; 16];
    id[15] += log;
    ReplicaId(id)
}

fn name(volume: usize) -> [u8; 16] {
    [0xd0 + volume as u8; 16]
}

impl Node {
    /// Node 0 is the first source of all volumes.
    pub(crate) fn new(
        node: usize,
        plan: &PairPlan,
        volumes: Vec<(u64, u32)>,
        remote: SocketAddr,
        random: &mut Random,
    ) -> Self {
        let content = |volume: usize| {
            let replica = replica(node, volume, 0);
            let (standing, role) = match node {
                0 => (Standing::first(replica, random.word()), Role::Source),
                _ => (Standing::blank(replica), Role::Destination),
            };
            Content {
                standing,
                role,
                peer: None,
                severed: None,
            }
        };
        let first: Vec<_> = (0..volumes.len()).map(content).collect();
        Self {
            id: [0xa0 + node as u8; 16],
            peer: [0xa0 + (1 - node as u8); 16],
            remote,
            patience: plan.patience,
            promise: plan.promise,
            known: first.clone(),
            logs_lost: 0,
            first,
            volumes,
        }
    }

    /// Its log's store is another one, in which nothing is: whoever runs it says that it is to be copied to.
    fn loses_log(&mut self, node: usize) {
        self.logs_lost += 1;
        for (volume, content) in self.first.iter_mut().enumerate() {
            *content = Content {
                standing: Standing::blank(replica(node, volume, self.logs_lost)),
                role: Role::Destination,
                peer: None,
                severed: None,
            };
        }
        self.known.clone_from(&self.first);
    }

    /// What it knew of a volume when it was last off, or at first.
    pub(super) fn content(&self, volume: usize) -> &Content {
        &self.known[volume]
    }

    /// It goes off, and knows this.
    pub(super) fn goes_off(&mut self, running: &mut Running) {
        if let Some(manager) = running.pairs() {
            let pairs = manager.pairs().iter();
            self.known = pairs.map(|pair| pair.content().clone()).collect();
        }
    }

    /// Bytes of the log's tables area.
    pub(super) fn tables_len(&self) -> u64 {
        let pages = self
            .volumes
            .iter()
            .map(|&(len, _)| Changed::none(len).pages());
        (nvlog::ENTRY_PAGES + pages.sum::<u64>()) * nvlog::UNIT
    }
}

impl Appliance {
    /// It is a node of a pair from now on.
    pub(crate) fn pair_with(&mut self, node: Node) {
        self.pair = Some(node);
    }

    /// Whether it serves hosts, all its volumes.
    pub(crate) fn serves(&self) -> bool {
        self.is_serving() && self.serves_any() && self.served().all(|serves| serves)
    }

    /// Whether it serves hosts, some of its volumes.
    pub(crate) fn serves_any(&self) -> bool {
        self.served().any(|serves| serves)
    }

    /// Which of its volumes it serves hosts; none of a run that is over.
    pub(crate) fn served(&self) -> impl Iterator<Item = bool> {
        self.running.iter().flat_map(Running::served)
    }

    /// Whether it says of all its volumes that the other node has the same.
    pub(crate) fn is_in_sync(&mut self) -> bool {
        let pairs = self.running.as_mut().and_then(Running::pairs);
        pairs.is_some_and(|manager| manager.pairs().iter().all(mirror::Pair::is_in_sync))
    }

    /// Whether some volume went on without the other node, as far as it has stored.
    pub(crate) fn has_gone_alone(&self) -> bool {
        let Some(node) = &self.pair else { return false };
        (0..self.volumes.len()).any(|volume| {
            let content = node.content(volume);
            content.role == Role::Source && content.is_alone()
        })
    }

    /// What it knows of its volumes, or knew when it was last off.
    fn contents(&mut self) -> Vec<&Content> {
        let manager = self.running.as_mut().and_then(Running::pairs);
        match (manager, &self.pair) {
            (Some(manager), _) => manager.pairs().iter().map(Pair::content).collect(),
            (None, Some(node)) => node.known.iter().collect(),
            (None, None) => Vec::new(),
        }
    }

    /// Its replicas, and which generations they have, by volume.
    pub(crate) fn replicas(&mut self) -> Vec<(ReplicaId, Generation)> {
        let contents = self.contents().into_iter();
        let standings = contents.map(|content| &content.standing);
        standings
            .map(|standing| (standing.replica, standing.generation))
            .collect()
    }

    /// Whether all its volumes are states of them.
    pub(crate) fn is_whole(&mut self) -> bool {
        let is_whole = |content: &&Content| content.standing.wholeness == Wholeness::Whole;
        self.contents().iter().all(is_whole)
    }

    /// Whether it has lost its log, and was not copied to since.
    pub(crate) fn is_blank(&mut self) -> bool {
        let is_blank = |content: &&Content| content.standing.wholeness == Wholeness::Blank;
        self.contents().iter().any(is_blank)
    }

    /// While it is off, its log's store is replaced by an empty one.
    pub(crate) fn lose_log(&mut self) {
        for log in self.logs() {
            log.borrow_mut().replace();
        }
        if let Some(node) = &mut self.pair {
            node.loses_log(self.index);
        }
    }

    /// An operator says that it is the source; whether it can be. `is_forced`: whatever the arbiter says.
    pub(crate) fn promote(&mut self, is_forced: bool) -> bool {
        let Some(manager) = self.running.as_mut().and_then(Running::pairs) else {
            return false;
        };
        (0..manager.pairs().len())
            .all(|pair| (manager.pair(pair)).is_some_and(|pair| pair.promote(is_forced).is_ok()))
    }

    /// An operator says of a volume that the other node is to be its source; whether it will be, if nothing goes wrong.
    pub(crate) fn demote(&mut self, volume: usize) -> bool {
        let pair = self.pair_of(volume);
        pair.is_some_and(|pair| pair.demote().is_ok())
    }

    /// An operator wants both replicas of a volume compared; whether that is begun.
    pub(crate) fn verify_pair(&mut self, volume: usize, mends: bool) -> bool {
        let pair = self.pair_of(volume);
        pair.is_some_and(|pair| pair.verify(mends).is_ok())
    }

    fn pair_of(&mut self, volume: usize) -> Option<&mut Pair> {
        let manager = self.running.as_mut().and_then(Running::pairs)?;
        manager.pair(volume)
    }

    /// An operator severs a volume's pair; whether that is begun.
    pub(crate) fn sever(&mut self, volume: usize, now: u64) -> bool {
        let pair = self.pair_of(volume);
        pair.is_some_and(|pair| pair.sever(now).is_ok())
    }

    /// An operator ends that; whether it is begun.
    pub(crate) fn reestablish(&mut self, volume: usize) -> bool {
        let pair = self.pair_of(volume);
        pair.is_some_and(|pair| pair.reestablish().is_ok())
    }

    /// An operator says of a volume that it gives up what it has, and is copied to; whether that is begun.
    pub(crate) fn discard(&mut self, volume: usize) -> bool {
        let pair = self.pair_of(volume);
        pair.is_some_and(|pair| pair.discard(false).is_ok())
    }

    /// Something was written to a volume that the other node lacks.
    pub(crate) fn mark(&self, volume: usize, bytes: Range<u64>) {
        if let Some(running) = &self.running {
            running.mirrored[volume].mark(&bytes);
        }
    }

    /// Whether what an operator has asked for last was done, once that is known.
    pub(crate) fn outcome(&mut self, volume: usize) -> Option<bool> {
        Some(self.pair_of(volume)?.next_outcome()?.is_ok())
    }

    /// How far the two nodes are with a volume, in a word.
    pub(crate) fn pair_state(&mut self, volume: usize) -> Option<&'static str> {
        Some(self.pair_of(volume)?.state())
    }

    /// Granules of all volumes that are to be copied to the other node.
    pub(crate) fn granules_to_copy(&self) -> u64 {
        let running = self.running.iter();
        let mirrored = running.flat_map(|running| &running.mirrored);
        mirrored.map(|shared| shared.changed()).sum()
    }

    /// How the comparison of a volume stands that was begun last in this run.
    pub(crate) fn verification(&self, volume: usize) -> Option<VerifyReport> {
        let running = self.running.as_ref()?;
        running.mirrored.get(volume)?.verification().report()
    }

    /// What the arbiter is to be asked next.
    pub(crate) fn next_question(&self) -> Option<PairQuestion> {
        let running = self.running.as_ref()?;
        running.handle.next_pair_question(Duration::ZERO)
    }

    /// Which of its runs this is, while it serves.
    pub(crate) fn run_number(&self) -> Option<u64> {
        self.is_serving().then_some(self.started as u64)
    }

    /// The arbiter tells it something.
    pub(crate) fn told(&mut self, told: Told) {
        let Some(running) = &mut self.running else {
            return;
        };
        let now = Duration::from_nanos(running.shards[0].now().0);
        match told {
            Told::Answer(question, answer) => {
                running.handle.pair_question_answered(&question, answer);
            }
            Told::Leased(until) => {
                let left = match cfg!(mutant = "pair-lease-from-answer") {
                    true => LEASE,
                    false => until.saturating_sub(clock::now()),
                };
                if let Some(manager) = running.pairs() {
                    manager.leased(now + Duration::from_nanos(left), now);
                }
            }
        }
    }

    pub(crate) fn describe_pairs(&mut self) -> String {
        let Some(manager) = self.running.as_mut().and_then(Running::pairs) else {
            return String::new();
        };
        let pairs: Vec<_> = manager.pairs().iter().map(mirror::Pair::describe).collect();
        pairs.join("\n    ")
    }
}

impl Running {
    /// Joins the shards to the pair.
    pub(super) fn pair(
        &mut self,
        node: &Node,
        start: &LogStart,
        max_bytes: usize,
        random: &mut Random,
    ) {
        let count = self.shards.len();
        let mailbox = Mailbox::new(count);
        let now = Duration::from_nanos(self.shards[0].now().0);
        let volumes = node
            .volumes
            .iter()
            .enumerate()
            .map(|(at, &(len, block))| MirroredVolume {
                shared: Arc::new(Mirrored::new(len, count)),
                volume: VolumeId(at as u16),
                namespace: NamespaceIndex::mirrored(at as u16),
                peer: 0,
                len,
                block,
            });
        let volumes: Vec<MirroredVolume> = volumes.collect();
        let pairs = volumes.iter().enumerate().map(|(at, volume)| {
            let config = PairConfig {
                volume: name(at),
                number: at as u16,
                len: volume.len,
                block: volume.block,
            };
            let table = start
                .tables
                .iter()
                .find(|table| table.volume == volume.volume);
            let content = match table {
                Some(table) => {
                    Content::decode(&table.content, volume.len).expect("it was written so")
                }
                None => node.first[at].clone(),
            };
            let changed = table.and_then(|table| table.changed.as_ref());
            let mut random = random.fork();
            let numbers = move || random.word();
            let mut pair = Pair::new(
                config,
                content,
                changed,
                Arc::clone(&volume.shared),
                numbers,
                now,
            );
            if let Some(promise) = node.promise {
                pair.set_arbiter(promise);
            }
            (name(at), pair)
        });
        let mut manager = Some(Manager::new(pairs.collect(), &mailbox));
        let peer = Peer {
            id: node.peer,
            key: PairKey::new([7; 32]),
            addresses: vec![node.remote],
            patience: node.patience,
        };
        for (at, shard) in self.shards.iter_mut().enumerate() {
            for volume in &volumes {
                shard.mirror_volume(volume);
            }
            let now = Duration::from_nanos(shard.now().0);
            let mut random = random.fork();
            let door = Door::new(at as u16, RUNS, max_bytes, &mailbox);
            shard.set_lanes(Lanes::new(
                mirror::Node {
                    id: node.id,
                    shard: at as u16,
                },
                vec![peer.clone()],
                volumes.clone(),
                door,
                manager.take(),
                move || random.word(),
                now,
            ));
        }
        self.mirrored = volumes.into_iter().map(|volume| volume.shared).collect();
    }

    /// Which of the pair's volumes it serves hosts.
    pub(super) fn served(&self) -> impl Iterator<Item = bool> {
        let now = self.shards.first().map_or(0, |shard| shard.now().0);
        let now = Duration::from_nanos(now);
        self.mirrored.iter().map(move |shared| shared.serves(now))
    }

    pub(super) fn pairs(&mut self) -> Option<&mut Manager> {
        self.shards[0].lanes().manager()
    }
}
