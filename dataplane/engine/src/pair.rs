//! Mirrored pairs, when the log was replayed: what this node knows of their volumes, and its shards' links to the other nodes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use block::NamespaceIndex;
use mirror::{
    Changed, Content, Door, FrameSize, Lanes, Mailbox, Manager, Mirrored, MirroredVolume, Node,
    Pair, PairKey, Patience, Peer, ReplicaId, Role, Standing, room_of,
};
use volume::LogStart;

use crate::build::secret;
use crate::config::{Config, FirstRole, PairConfig, PairVolumeConfig, pair_volumes};
use crate::error::Error;
use crate::machine::Shard;

/// Changes of the other node that a shard has in work at a time.
const RUNS: usize = 128;

/// Bytes of the log's tables area: entries, and of each volume a record and room for one that is larger.
pub(crate) fn tables_len(config: &Config, stores: &[(u64, u32)]) -> u64 {
    if config.pairs.is_empty() {
        return 0;
    }
    let pages = pair_volumes(&config.pairs).filter_map(|(_, volume)| {
        let (device, _) = stores[config.volume_of(&volume.store)?.index()];
        let pages = |len| Changed::none(len).pages();
        Some(pages(device) + pages(room_of(device)))
    });
    let entries = 2 * nvlog::VOLUMES_MAX as u64;
    (entries + pages.sum::<u64>()) * nvlog::UNIT
}

/// What operators call them, in that order: the store, and the other node.
pub(crate) fn names(config: &Config) -> Vec<(String, [u8; 16])> {
    let name = |(peer, volume): (usize, &PairVolumeConfig)| {
        (volume.store.clone(), config.pairs[peer].peer)
    };
    pair_volumes(&config.pairs).map(name).collect()
}

/// Numbers that nobody guesses.
fn random() -> u64 {
    u64::from_ne_bytes(secret()[..8].try_into().expect("eight bytes"))
}

/// Pairs, and the names of their volumes on both nodes.
type Pairs = Vec<([u8; 16], Pair)>;

/// What all shards of a node have of its pairs.
pub(crate) struct Started {
    volumes: Vec<MirroredVolume>,
    mailbox: Arc<Mailbox>,
    /// Until the first shard takes it.
    manager: Mutex<Option<Pairs>>,
    node: [u8; 16],
    peers: Vec<Peer>,
    max_bytes: usize,
}

impl Started {
    /// As the log's tables say, or for the first time.
    pub(crate) fn new(
        config: &Config,
        node: [u8; 16],
        start: &LogStart,
        stores: &[(u64, u32)],
    ) -> Result<Self, Error> {
        let shards = config.cores.len();
        let frames: Vec<_> = (config.pairs.iter())
            .map(|pair| Arc::new(FrameSize::new(pair.frame_bytes)))
            .collect();
        let (mut mirrored, mut pairs) = (Vec::new(), Vec::new());
        for (peer, volume) in pair_volumes(&config.pairs) {
            let number = mirrored.len() as u16;
            let Some(place) = config.volume_of(&volume.store) else {
                continue;
            };
            let (device, block) = stores[place.index()];
            let table = start.tables.iter().find(|table| table.volume == place);
            let (content, len) = match table {
                Some(table) => {
                    Content::decode(&table.content, device).map_err(|bad| Error::Log {
                        store: volume.store.clone(),
                        why: format!("what it says of the pair's volume cannot be used: {bad}"),
                    })?
                }
                None => (first_content(volume.first_role), device),
            };
            let shared = Arc::new(Mirrored::new(len, device, shards));
            let arbiter = config.pairs[peer].arbiter.as_ref();
            let of_pair = mirror::PairConfig {
                volume: volume.id,
                number,
                len,
                block,
            };
            let changed = table.and_then(|table| table.changed.as_ref());
            let now = Duration::ZERO;
            let mut own = Pair::new(of_pair, content, changed, Arc::clone(&shared), random, now);
            own.set_frames(&frames[peer]);
            if let Some(arbiter) = arbiter {
                own.set_arbiter(arbiter.lease);
            }
            pairs.push((volume.id, own));
            mirrored.push(MirroredVolume {
                shared,
                volume: place,
                namespace: NamespaceIndex::mirrored(number),
                peer,
                block,
            });
        }
        let peer = |(pair, frame): (&PairConfig, &Arc<FrameSize>)| Peer {
            id: pair.peer,
            key: PairKey::new(pair.key),
            tls: pair.tls,
            addresses: pair.peer_listen.clone(),
            patience: Patience::default(),
            frame: Arc::clone(frame),
        };
        Ok(Self {
            volumes: mirrored,
            mailbox: Mailbox::new(shards),
            manager: Mutex::new(Some(pairs)),
            node,
            peers: config.pairs.iter().zip(&frames).map(peer).collect(),
            max_bytes: config.target.max_io_bytes as usize,
        })
    }

    /// Their volumes.
    pub(crate) fn volumes(&self) -> &[MirroredVolume] {
        &self.volumes
    }

    /// Joins a shard, whose log takes changes.
    pub(crate) fn join(&self, shard: &mut Shard, index: usize) {
        for volume in &self.volumes {
            shard.mirror_volume(volume);
        }
        let pairs = match index {
            0 => self
                .manager
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
            _ => None,
        };
        let me = Node {
            id: self.node,
            shard: index as u16,
        };
        shard.set_lanes(Lanes::new(
            me,
            self.peers.clone(),
            self.volumes.clone(),
            Door::new(me.shard, RUNS, self.max_bytes, &self.mailbox),
            pairs.map(|pairs| Manager::new(pairs, &self.mailbox)),
            random,
            Duration::from_nanos(shard.now().0),
        ));
    }
}

/// What is known of a volume that was never part of a pair.
fn first_content(role: FirstRole) -> Content {
    let mut id = [0; 16];
    id.copy_from_slice(&secret()[..16]);
    let replica = ReplicaId(id);
    let (standing, role) = match role {
        FirstRole::Source => (Standing::first(replica, random()), Role::Source),
        FirstRole::Destination => (Standing::blank(replica), Role::Destination),
    };
    Content {
        standing,
        role,
        peer: None,
        severed: None,
    }
}
