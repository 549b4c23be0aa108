//! An appliance as a node of a pair: its links, its pairs, and what it keeps of them in stable storage.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use block::{NamespaceIndex, VolumeId};
use mirror::{
    Changed, Content, Door, Lanes, Mailbox, Manager, Mirrored, MirroredVolume, Mode, Pair,
    PairConfig, PairKey, Patience, Peer, ReplicaId, Role, Standing,
};
use testkit::Random;
use volume::LogStart;

use super::Running;

/// The port that nodes listen on for each other.
pub(crate) const MIRROR_PORT: u16 = 4421;
/// Changes of the other node that are placed at a time.
const RUNS: usize = 64;

/// What two nodes have in common.
#[derive(Clone, Debug)]
pub(crate) struct PairPlan {
    pub(crate) patience: Patience,
}

/// A node of a pair: what outlives its runs.
pub(crate) struct Node {
    id: [u8; 16],
    peer: [u8; 16],
    remote: SocketAddr,
    patience: Patience,
    /// What it knows of each volume before it has met the other one.
    first: Vec<Content>,
    /// What it knew when it was last off.
    known: Vec<Content>,
    /// By volume: bytes, and those of a block.
    volumes: Vec<(u64, u32)>,
}

fn replica(node: usize, volume: usize) -> ReplicaId {
    ReplicaId([0x10 * (1 + node as u8) + volume as u8; 16])
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
            let replica = replica(node, volume);
            let (standing, role) = match node {
                0 => (Standing::first(replica, random.word()), Role::Source),
                _ => (Standing::blank(replica), Role::Destination),
            };
            Content {
                standing,
                role,
                peer: None,
            }
        };
        let first: Vec<_> = (0..volumes.len()).map(content).collect();
        Self {
            id: [0xa0 + node as u8; 16],
            peer: [0xa0 + (1 - node as u8); 16],
            remote,
            patience: plan.patience,
            known: first.clone(),
            first,
            volumes,
        }
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
            let pair = Pair::new(
                config,
                content,
                changed,
                Arc::clone(&volume.shared),
                numbers,
                now,
            );
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

    /// Whether it serves hosts, all volumes of the pair.
    pub(super) fn serves_pairs(&self) -> bool {
        let serves = |shared: &Arc<Mirrored>| shared.mode().0 != Mode::Suspended;
        !self.mirrored.is_empty() && self.mirrored.iter().all(serves)
    }

    /// Whether it serves hosts, some volume of the pair.
    pub(super) fn serves_any(&self) -> bool {
        let serves = |shared: &Arc<Mirrored>| shared.mode().0 != Mode::Suspended;
        self.mirrored.iter().any(serves)
    }

    pub(super) fn pairs(&mut self) -> Option<&mut Manager> {
        self.shards[0].lanes().manager()
    }
}
