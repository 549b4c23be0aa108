//! An appliance as a node of pairs: its links, its pairs, and what it keeps of them in stable storage.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use block::{NamespaceIndex, VolumeId};
use mirror::{
    Changed, Content, Door, FRAME_BYTES, FrameSize, Generation, LaneCounters, Lanes, Mailbox,
    Manager, Mirrored, MirroredVolume, Pair, PairConfig, PairKey, Patience, Peer, ReplicaId, Role,
    Standing, VerifyReport, Wholeness, counted,
};
use mutant::mutant;
use shard::{Change, Entrance, PairQuestion};
use testkit::Random;
use volume::{LogStart, TableEntry};

use super::{Appliance, Running};
use crate::arbiter::{Asked, LEASE, Told};
use crate::clock;

/// The port that nodes listen on for each other.
const MIRROR_PORT: u16 = 4421;
/// Changes of the other node that are placed at a time.
const RUNS: usize = 64;

/// A volume of a pair.
#[derive(Clone, Debug)]
pub(crate) struct PairVolume {
    /// Who has it, the first source first.
    pub(crate) nodes: [usize; 2],
    /// That one is it at first; else neither is.
    pub(crate) is_established: bool,
    /// Bytes, at first.
    pub(crate) len: u64,
    /// Bytes of the drives of both.
    pub(crate) device: u64,
    pub(crate) block: u32,
}

/// What nodes have in common.
#[derive(Clone, Debug)]
pub(crate) struct PairPlan {
    pub(crate) patience: Patience,
    /// How long a destination does not take over, if there is an arbiter.
    pub(crate) promise: Option<Duration>,
    /// Links are in TLS.
    pub(crate) tls: bool,
    /// By volume.
    pub(crate) volumes: Vec<PairVolume>,
}

/// A volume that a node has of a pair.
struct Own {
    volume: usize,
    /// Which of the node's peers has the other replica.
    peer: usize,
    /// Bytes as long as its tables do not say how many.
    len: u64,
    device: u64,
    block: u32,
}

/// A node of pairs: what outlives its runs.
pub(crate) struct Node {
    id: [u8; 16],
    /// The other nodes that it has volumes with, and where they are.
    peers: Vec<(usize, Vec<SocketAddr>)>,
    patience: Patience,
    promise: Option<Duration>,
    /// Its links are in TLS.
    tls: bool,
    /// What it knows of each volume before it has met the other one.
    first: Vec<Content>,
    /// What it knew when it was last off.
    known: Vec<Content>,
    /// And how many bytes of each there are.
    known_len: Vec<u64>,
    logs_lost: u8,
    volumes: Vec<Own>,
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

fn id(node: usize) -> [u8; 16] {
    [0xa0 + node as u8; 16]
}

/// The same on both nodes.
fn key(a: usize, b: usize) -> PairKey {
    PairKey::new([7 + (a * a + b * b) as u8; 32])
}

impl Node {
    /// `addresses`: those of a node, by port.
    pub(crate) fn new(
        node: usize,
        plan: &PairPlan,
        addresses: impl Fn(usize) -> Vec<IpAddr>,
        random: &mut Random,
    ) -> Self {
        let with = |volume: &PairVolume| match volume.nodes {
            [a, b] if a == node => Some(b),
            [a, b] if b == node => Some(a),
            _ => None,
        };
        let others: BTreeSet<_> = plan.volumes.iter().filter_map(with).collect();
        let address = |ip| SocketAddr::new(ip, MIRROR_PORT);
        let peers = others.iter().map(|&other| {
            let addresses = addresses(other).into_iter().map(address);
            (other, addresses.collect())
        });
        let peers: Vec<_> = peers.collect();
        let own = |(at, volume): (usize, &PairVolume)| {
            let other = with(volume)?;
            Some(Own {
                volume: at,
                peer: others.iter().position(|&known| known == other)?,
                len: volume.len,
                device: volume.device,
                block: volume.block,
            })
        };
        let volumes: Vec<_> = plan.volumes.iter().enumerate().filter_map(own).collect();
        let content = |own: &Own| {
            let replica = replica(node, own.volume, 0);
            let volume = &plan.volumes[own.volume];
            let (standing, role) = match volume.nodes[0] == node && volume.is_established {
                true => (Standing::first(replica, random.word()), Role::Source),
                false => (Standing::blank(replica), Role::Destination),
            };
            Content {
                standing,
                role,
                peer: None,
                severed: None,
            }
        };
        let first: Vec<_> = volumes.iter().map(content).collect();
        Self {
            id: id(node),
            peers,
            patience: plan.patience,
            promise: plan.promise,
            tls: plan.tls,
            known: first.clone(),
            known_len: volumes.iter().map(|own| own.len).collect(),
            logs_lost: 0,
            first,
            volumes,
        }
    }

    /// Its log's store is another one, in which nothing is: whoever runs it says that it is to be copied to.
    fn loses_log(&mut self, node: usize) {
        self.logs_lost += 1;
        for (own, content) in self.volumes.iter_mut().zip(&mut self.first) {
            own.len = own.device;
            *content = Content {
                standing: Standing::blank(replica(node, own.volume, self.logs_lost)),
                role: Role::Destination,
                peer: None,
                severed: None,
            };
        }
        self.known.clone_from(&self.first);
    }

    /// What its configuration says of its links from now on; it counts when it starts.
    pub(super) fn set_tls(&mut self, tls: bool) {
        self.tls = tls;
    }

    /// Whether its links are in TLS.
    pub(super) fn has_tls(&self) -> bool {
        self.tls
    }

    /// What connections of others find where it listens for them.
    pub(super) fn entrance(&self, ip: IpAddr) -> Entrance {
        let address = SocketAddr::new(ip, MIRROR_PORT);
        Entrance::of_nodes(address, self.peers.iter().map(|_| self.tls))
    }

    /// Its own place of a volume.
    fn place(&self, volume: usize) -> Option<usize> {
        self.volumes.iter().position(|own| own.volume == volume)
    }

    /// Whether it has a volume.
    pub(super) fn has(&self, volume: usize) -> bool {
        self.place(volume).is_some()
    }

    /// It goes off, and knows this.
    pub(super) fn goes_off(&mut self, running: &mut Running) {
        if let Some(manager) = running.pairs() {
            let pairs = manager.pairs().iter();
            self.known = pairs.map(|pair| pair.content().clone()).collect();
            self.known_len = manager.pairs().iter().map(Pair::len).collect();
        }
    }

    /// Bytes of the log's tables area.
    pub(super) fn tables_len(&self) -> u64 {
        let pages = self
            .volumes
            .iter()
            .map(|own| Changed::none(own.device).pages());
        (nvlog::ENTRY_PAGES + pages.sum::<u64>()) * nvlog::UNIT
    }
}

impl Appliance {
    /// It is a node of pairs from now on.
    pub(crate) fn pair_with(&mut self, node: Node) {
        self.pair = Some(node);
    }

    /// Its own place of a volume.
    fn place(&self, volume: usize) -> Option<usize> {
        self.pair.as_ref()?.place(volume)
    }

    /// The pair of a volume, in this run.
    fn pair(&mut self, volume: usize) -> Option<&mut Pair> {
        let place = self.place(volume)?;
        self.running.as_mut()?.pairs()?.pair(place)
    }

    /// Whether it serves hosts a volume.
    pub(crate) fn serves(&self, volume: usize) -> bool {
        let place = self.place(volume);
        let running = self.running.as_ref().filter(|_| self.is_serving());
        let place = place.zip(running);
        place.is_some_and(|(place, running)| running.serves(place))
    }

    /// What it knows of a volume, or knew when it was last off.
    fn content(&mut self, volume: usize) -> Option<&Content> {
        let place = self.place(volume)?;
        match self.running.as_mut().and_then(Running::pairs) {
            Some(manager) => manager.pairs().get(place).map(Pair::content),
            None => self.pair.as_ref()?.known.get(place),
        }
    }

    /// Its replica of a volume, and which generation that has.
    pub(crate) fn replica(&mut self, volume: usize) -> Option<(ReplicaId, Generation)> {
        let standing = &self.content(volume)?.standing;
        Some((standing.replica, standing.generation))
    }

    /// Whether it knows that the other node may take a volume over; `None` without an arbiter.
    pub(crate) fn takeover(&mut self, volume: usize) -> Option<bool> {
        self.pair(volume)?.may_be_taken_over()
    }

    /// Whether what it has of a volume is a state of it.
    pub(crate) fn is_whole(&mut self, volume: usize) -> bool {
        let content = self.content(volume);
        content.is_some_and(|content| content.standing.wholeness == Wholeness::Whole)
    }

    /// Whether it has lost its log, and was not copied to since.
    pub(crate) fn is_blank(&mut self, volume: usize) -> bool {
        let content = self.content(volume);
        content.is_some_and(|content| content.standing.wholeness == Wholeness::Blank)
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

    /// Whether it says of a volume that the other node has the same.
    pub(crate) fn is_in_sync(&mut self, volume: usize) -> bool {
        self.pair(volume).is_some_and(|pair| pair.is_in_sync())
    }

    /// Whether a volume went on without the other node, as far as this one had stored when it was last off.
    pub(crate) fn had_gone_alone(&self, volume: usize) -> bool {
        let known = |node: &Node| Some(is_alone(&node.known[node.place(volume)?]));
        self.pair.as_ref().and_then(known).unwrap_or(false)
    }

    /// Whether a volume goes on without the other node.
    pub(crate) fn goes_alone(&mut self, volume: usize) -> bool {
        self.pair(volume)
            .is_some_and(|pair| is_alone(pair.content()))
    }

    /// An operator says that it is the source of a volume; whether it can be. `is_forced`: whatever the arbiter says.
    pub(crate) fn promote(&mut self, volume: usize, is_forced: bool) -> bool {
        let pair = self.pair(volume);
        pair.is_some_and(|pair| pair.promote(is_forced).is_ok())
    }

    /// An operator says of a volume that the other node is to be its source; whether it will be, if nothing goes wrong.
    pub(crate) fn demote(&mut self, volume: usize) -> bool {
        self.pair(volume).is_some_and(|pair| pair.demote().is_ok())
    }

    /// An operator wants both replicas of a volume compared; whether that is begun.
    pub(crate) fn verify_pair(&mut self, volume: usize, mends: bool) -> bool {
        self.pair(volume)
            .is_some_and(|pair| pair.verify(mends).is_ok())
    }

    /// An operator severs a volume's pair; whether that is begun.
    pub(crate) fn sever(&mut self, volume: usize, now: u64) -> bool {
        let pair = self.pair(volume);
        pair.is_some_and(|pair| pair.sever(now).is_ok())
    }

    /// An operator says that what a volume's drive has is the volume; whether that is begun.
    pub(crate) fn establish(&mut self, volume: usize) -> bool {
        let pair = self.pair(volume);
        pair.is_some_and(|pair| pair.establish().is_ok())
    }

    /// An operator ends that; whether it is begun.
    pub(crate) fn reestablish(&mut self, volume: usize) -> bool {
        let pair = self.pair(volume);
        pair.is_some_and(|pair| pair.reestablish().is_ok())
    }

    /// An operator says of a volume that it gives up what it has, and is copied to; whether that is begun.
    pub(crate) fn discard(&mut self, volume: usize) -> bool {
        let pair = self.pair(volume);
        pair.is_some_and(|pair| pair.discard(false).is_ok())
    }

    /// An operator says how long frames are, of either length that there is: the other one takes what it likes.
    pub(crate) fn set_frame_size(&mut self, is_short: bool) {
        let bytes = if is_short {
            *FRAME_BYTES.start()
        } else {
            *FRAME_BYTES.end()
        };
        if let Some(pair) = self.pair(0) {
            let _ = pair.set_frame_size(bytes);
        }
    }

    /// An operator says that a volume is to have so many bytes; whether that is begun.
    pub(crate) fn resize(&mut self, volume: usize, len: u64) -> bool {
        let pair = self.pair(volume);
        pair.is_some_and(|pair| pair.resize(Some(len), true).is_ok())
    }

    /// Bytes that a volume has, or had when this was last off.
    pub(crate) fn volume_len(&mut self, volume: usize) -> Option<u64> {
        if let Some(pair) = self.pair(volume) {
            return Some(pair.len());
        }
        let place = self.place(volume)?;
        self.pair.as_ref()?.known_len.get(place).copied()
    }

    /// Whether a volume has one size, and hosts know it.
    pub(crate) fn has_settled_size(&mut self, volume: usize) -> bool {
        let pair = self.pair(volume);
        let len = pair.and_then(|pair| pair.resizes_to().is_none().then(|| pair.len()));
        let (Some(running), Some(len)) = (&self.running, len) else {
            return false;
        };
        let (_, namespaces) = running.handle.offered();
        let mut own = namespaces
            .iter()
            .filter(|(_, ns)| ns.nsid.0 == volume as u32 + 1);
        own.all(|(_, ns)| ns.blocks * u64::from(ns.block_size.bytes()) == len)
    }

    /// An operator wants both tables of a volume; whether they are asked for.
    pub(crate) fn update_tables(&mut self, volume: usize) -> bool {
        let pair = self.pair(volume);
        pair.is_some_and(|pair| pair.update_tables().is_ok())
    }

    /// Something was written to a volume that the other node lacks.
    pub(crate) fn mark(&self, volume: usize, bytes: Range<u64>) {
        if let (Some(running), Some(place)) = (&self.running, self.place(volume)) {
            running.mirrored[place].mark(&bytes);
        }
    }

    /// Whether what an operator has asked for last was done, once that is known.
    pub(crate) fn outcome(&mut self, volume: usize) -> Option<bool> {
        Some(self.pair(volume)?.next_outcome()?.is_ok())
    }

    /// How far the two nodes are with a volume, in a word.
    pub(crate) fn pair_state(&mut self, volume: usize) -> Option<&'static str> {
        Some(self.pair(volume)?.state())
    }

    /// Granules of all volumes that are to be copied to other nodes.
    pub(crate) fn granules_to_copy(&self) -> u64 {
        let running = self.running.iter();
        let mirrored = running.flat_map(|running| &running.mirrored);
        mirrored.map(|shared| shared.changed()).sum()
    }

    /// How the comparison of a volume stands that was begun last in this run.
    pub(crate) fn verification(&self, volume: usize) -> Option<VerifyReport> {
        let (running, place) = (self.running.as_ref()?, self.place(volume)?);
        running.mirrored.get(place)?.verification().report()
    }

    /// What its lanes have done in this run.
    pub(crate) fn lanes(&mut self) -> Vec<LaneCounters> {
        let running = self
            .running
            .iter_mut()
            .filter(|running| !running.is_replaying);
        let shards = running.flat_map(|running| &mut running.shards);
        shards.map(|shard| shard.lanes().counters()).collect()
    }

    /// What the configuration says of its links from now on; it counts at the next start.
    pub(crate) fn set_link_tls(&mut self, tls: bool) {
        if let Some(node) = &mut self.pair {
            node.set_tls(tls);
        }
    }

    /// What the arbiter is to be asked next.
    pub(crate) fn next_question(&self) -> Option<(Asked, PairQuestion)> {
        let (running, node) = (self.running.as_ref()?, self.pair.as_ref()?);
        let next = |peer| running.handle.next_pair_question(peer, Duration::ZERO);
        let question = (0..node.peers.len()).find_map(next)?;
        let own = &node.volumes[question.pair];
        let asked = Asked {
            volume: own.volume,
            peer: node.peers[own.peer].0,
        };
        Some((asked, question))
    }

    /// Which of its runs this is, while it serves.
    pub(crate) fn run_number(&self) -> Option<u64> {
        self.is_serving().then_some(self.started as u64)
    }

    /// The arbiter tells it something.
    pub(crate) fn told(&mut self, told: Told) {
        let (Some(running), Some(node)) = (&mut self.running, &self.pair) else {
            return;
        };
        let now = Duration::from_nanos(running.shards[0].now().0);
        match told {
            Told::Answer(question, answer) => {
                running.handle.pair_question_answered(&question, answer);
            }
            Told::Leased(sent) => {
                let from = match mutant!("pair-lease-from-answer") {
                    true => clock::now(),
                    false => sent,
                };
                // By the node's own clock, as everything it counts.
                let since = self.clock.at(clock::now()) - self.clock.at(from);
                let left = counted(Duration::from_nanos(LEASE))
                    .saturating_sub(Duration::from_nanos(since));
                let until = now + left;
                for peer in 0..node.peers.len() {
                    running.shards[0].lanes().leased(peer, until, now);
                }
            }
        }
    }

    pub(crate) fn describe_pairs(&mut self) -> String {
        let Some(manager) = self.running.as_mut().and_then(Running::pairs) else {
            return String::new();
        };
        let pairs: Vec<_> = manager.pairs().iter().map(Pair::describe).collect();
        pairs.join("\n    ")
    }
}

fn is_alone(content: &Content) -> bool {
    content.role == Role::Source && content.is_alone()
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
        let table = |own: &Own| {
            let is_it = |table: &&TableEntry| usize::from(table.volume.0) == own.volume;
            start.tables.iter().find(is_it)
        };
        let content = |(own, first): (&Own, &Content)| match table(own) {
            Some(table) => Content::decode(&table.content, own.device).expect("it was written so"),
            None => (first.clone(), own.len),
        };
        let found: Vec<_> = node.volumes.iter().zip(&node.first).map(content).collect();
        let volumes = node
            .volumes
            .iter()
            .enumerate()
            .zip(&found)
            .map(|((at, own), (_, len))| MirroredVolume {
                shared: Arc::new(Mirrored::new(*len, own.device, count)),
                volume: VolumeId(own.volume as u16),
                namespace: NamespaceIndex::mirrored(at as u16),
                peer: own.peer,
                block: own.block,
            });
        let volumes: Vec<MirroredVolume> = volumes.collect();
        let frames: Vec<Arc<FrameSize>> = node.peers.iter().map(|_| Arc::default()).collect();
        let pairs = volumes.iter().enumerate().map(|(at, volume)| {
            let name = name(volume.volume.0.into());
            let config = PairConfig {
                volume: name,
                number: at as u16,
                len: found[at].1,
                block: volume.block,
            };
            let content = found[at].0.clone();
            let changed = table(&node.volumes[at]).and_then(|table| table.changed.as_ref());
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
            pair.set_frames(&frames[volume.peer]);
            if let Some(promise) = node.promise {
                pair.set_arbiter(promise);
            }
            (name, pair)
        });
        let mut manager = Some(Manager::new(pairs.collect(), &mailbox));
        let me = usize::from(node.id[0] - id(0)[0]);
        let peer =
            |((other, addresses), frame): (&(usize, Vec<SocketAddr>), &Arc<FrameSize>)| Peer {
                id: id(*other),
                key: key(me, *other),
                tls: node.tls,
                addresses: addresses.clone(),
                patience: node.patience,
                frame: Arc::clone(frame),
            };
        let peers: Vec<_> = node.peers.iter().zip(&frames).map(peer).collect();
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
                peers.clone(),
                volumes.clone(),
                door,
                manager.take(),
                move || random.word(),
                now,
            ));
        }
        for volume in &volumes {
            self.handle.expect_mirrored(volume.volume, &volume.shared);
        }
        self.mirrored = volumes.into_iter().map(|volume| volume.shared).collect();
    }

    /// Hosts are told of volumes that have another size.
    pub(super) fn show_sizes(&mut self) {
        if let Some(store) = self.handle.resized() {
            // It is made at once, as no shard has a step of it; or another one is under way.
            let _ = self.handle.begin_change(Change::Resize { store });
            self.handle.poll_change();
        }
    }

    /// Whether it serves hosts the volume that is its own one of that place.
    fn serves(&self, place: usize) -> bool {
        let now = self.shards.first().map_or(0, |shard| shard.now().0);
        let shared = self.mirrored.get(place);
        shared.is_some_and(|shared| shared.serves(Duration::from_nanos(now)))
    }

    pub(super) fn pairs(&mut self) -> Option<&mut Manager> {
        self.shards[0].lanes().manager()
    }
}
