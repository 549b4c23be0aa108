//! The links of a shard: over *lanes*, connections that it has opened to other nodes, it forwards what its log takes and
//! asks what pairs have to ask; on those that came in it executes what other nodes ask for (rows R1, R5, R6, R10).
//!
//! A node opens a lane from each of its shards to each of its peers, and asks over those alone. A lane that came in may be
//! at any shard; which one it is of the other node, its greeting says.

mod connection;
mod frames;
mod incoming;
mod manager;
mod out;

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use block::{NamespaceIndex, VolumeId};
use events::tracepoint;
use pages::Segment;

use crate::arbiter::Question;
use crate::commands::{CHANGES_MAX, Change, Changes, Comparison};
use crate::counters::LaneCounters;
use crate::frame::Command;
use crate::greeting::Node;
use crate::key::{LinkPsk, PairKey};
use crate::link::{Event, Patience, Payload};
use crate::mirrored::Mirrored;
use crate::pair::nature;
use out::Out;

pub use connection::Connection;
pub use frames::{FRAME_BYTES, FrameSize};
pub use incoming::Door;
pub use manager::{Asked, Mailbox, Manager};

/// Bytes of changes in a message from which on no more are added.
const MESSAGE_BYTES: u64 = 256 << 10;

/// Another node.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it is known by.
    pub id: [u8; 16],
    /// The secret that both have.
    pub key: PairKey,
    /// Connections with it are encrypted, either way; else they are in the clear, either way.
    pub tls: bool,
    /// Where it listens; the first one is tried first.
    pub addresses: Vec<SocketAddr>,
    /// How patient lanes to it are.
    pub patience: Patience,
    /// How long frames to it are.
    pub frame: Arc<FrameSize>,
}

/// A mirrored volume, as shards know it.
#[derive(Clone, Debug)]
pub struct MirroredVolume {
    /// What all shards share of it.
    pub shared: Arc<Mirrored>,
    /// The volume.
    pub volume: VolumeId,
    /// The namespace that other nodes' changes go to.
    pub namespace: NamespaceIndex,
    /// Which of the peers has the other replica.
    pub peer: usize,
    /// Bytes of a block.
    pub block: u32,
}

/// A change that is to go to the other node.
#[derive(Debug)]
pub struct Forward {
    /// Its number: one more than that of the shard's one before.
    pub transfer: u64,
    /// The volume.
    pub volume: VolumeId,
    /// What it does.
    pub change: Change,
    /// Its data.
    pub segments: Vec<Segment>,
}

/// What is to be compared with the other node's replica.
#[derive(Debug, PartialEq, Eq)]
pub struct Compare {
    /// The volume.
    pub volume: VolumeId,
    /// First byte, a multiple of [`COMPARED`](crate::COMPARED).
    pub offset: u64,
    /// Bytes, a granule's at most.
    pub len: u64,
    /// Checksums of what there is here.
    pub sums: Vec<u32>,
}

/// What came of that.
#[derive(Debug, PartialEq, Eq)]
pub struct Compared {
    /// The volume.
    pub volume: VolumeId,
    /// First byte.
    pub offset: u64,
    /// Whether the other node has the same; `None`: it does not say.
    pub is_same: Option<bool>,
}

/// What a message of ours carries.
#[derive(Debug)]
pub enum Carried {
    /// Data of changes, from where they were received.
    Changes {
        /// Which of the mirrored volumes.
        volume: usize,
        /// Their numbers.
        transfers: Range<u64>,
        /// They.
        segments: Vec<Segment>,
        /// Bytes.
        len: usize,
    },
    /// Checksums of a range.
    Comparison {
        /// Which of the mirrored volumes.
        volume: usize,
        /// The range's first byte.
        offset: u64,
    },
    /// What a pair asks for.
    Pair {
        /// Which.
        pair: usize,
        /// What it knows it by.
        token: u64,
        /// Bytes.
        bytes: Vec<u8>,
    },
}

impl Payload for Carried {
    fn len(&self) -> usize {
        match self {
            Self::Changes { len, .. } => *len,
            Self::Comparison { .. } => 0,
            Self::Pair { bytes, .. } => bytes.len(),
        }
    }

    fn checksum(&self, range: Range<usize>) -> u32 {
        let mut crc = checksum::Crc32c::default();
        match self {
            Self::Changes { segments, .. } => {
                for (segment, part) in parts(segments, range) {
                    crc.take(&segment.bytes().unwrap_or_default()[part]);
                }
            }
            Self::Comparison { .. } => {}
            Self::Pair { bytes, .. } => crc.take(&bytes[range]),
        }
        crc.end()
    }
}

/// The segments that bytes `range` of all of them lie in, and which of their bytes those are.
fn parts(
    segments: &[Segment],
    range: Range<usize>,
) -> impl Iterator<Item = (&Segment, Range<usize>)> {
    let mut at = 0;
    segments.iter().filter_map(move |segment| {
        let start = at;
        at += segment.len();
        let part = range.start.max(start)..range.end.min(at);
        (part.start < part.end).then(|| (segment, part.start - start..part.end - start))
    })
}

/// A connection that is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// To which peer.
    pub peer: usize,
    /// Where to.
    pub remote: SocketAddr,
    /// By which of the ports that lead there.
    pub port: usize,
    /// It is to be encrypted.
    pub tls: bool,
    connection: u64,
}

/// How a lane is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    Clear,
    /// By TLS, with this suite.
    Tls(&'static str),
}

impl Security {
    /// What operators read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clear => "in the clear",
            Self::Tls(suite) => suite,
        }
    }
}

/// What a shard has of links to other nodes.
pub struct Lanes {
    me: Node,
    out: Vec<Out>,
    door: Door,
    volumes: Vec<MirroredVolume>,
    /// On one shard.
    manager: Option<Box<Manager>>,
    /// Transfers that the other node has.
    confirmed: VecDeque<Range<u64>>,
    compared: VecDeque<Compared>,
    connections: Cell<u64>,
    counters: LaneCounters,
    random: Box<dyn FnMut() -> u64>,
    now: Duration,
    is_stopping: bool,
}

impl Lanes {
    /// Of the shard that `me` names. `manager`: on one shard of the node; `random`: numbers that nobody guesses.
    pub fn new(
        me: Node,
        peers: Vec<Peer>,
        volumes: Vec<MirroredVolume>,
        door: Door,
        manager: Option<Manager>,
        random: impl FnMut() -> u64 + 'static,
        now: Duration,
    ) -> Self {
        let mut out: Vec<_> = (peers.into_iter())
            .map(|peer| Out::new(peer, me, now))
            .collect();
        if manager.is_none() {
            // The manager's lane tells whether the other node is there. Another one may come up later, when both are in sync.
            (out.iter_mut()).for_each(|out| out.link.keep_while_idle());
        }
        Self {
            me,
            out,
            door,
            volumes,
            manager: manager.map(Box::new),
            confirmed: VecDeque::new(),
            compared: VecDeque::new(),
            connections: Cell::new(0),
            counters: LaneCounters::default(),
            random: Box::new(random),
            now,
            is_stopping: false,
        }
    }

    /// None, of a shard whose node is of no pair.
    pub fn none() -> Self {
        let door = Door::new(0, 0, 0, &Mailbox::new(1));
        let me = Node {
            id: [0; 16],
            shard: 0,
        };
        Self::new(me, Vec::new(), Vec::new(), door, None, || 0, Duration::ZERO)
    }

    /// The mirrored volumes.
    pub fn volumes(&self) -> &[MirroredVolume] {
        &self.volumes
    }

    /// Whether there are no other nodes.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What connections that come in are encrypted by, of the peers where that is so.
    pub fn incoming_psks(&self) -> impl Iterator<Item = LinkPsk> {
        let peers = self.out.iter().map(|out| &out.peer).filter(|peer| peer.tls);
        peers.map(|peer| peer.key.link_psk(&peer.id, &self.me.id))
    }

    /// What a connection to a peer is encrypted by.
    pub fn outgoing_psk(&self, peer: usize) -> LinkPsk {
        let peer = &self.out[peer].peer;
        peer.key.link_psk(&self.me.id, &peer.id)
    }

    /// How the lane to a peer is encrypted: by which suite, or not at all; `None` while there is no session.
    pub fn security(&self, peer: usize) -> Option<Security> {
        let out = self.out.get(peer).filter(|out| out.link.is_up())?;
        Some(match out.suite {
            Some(suite) => Security::Tls(suite),
            None => Security::Clear,
        })
    }

    /// The manager of pairs, where it is.
    pub fn manager(&mut self) -> Option<&mut Manager> {
        self.manager.as_deref_mut()
    }

    /// As [`Manager::next_question`], where the manager is.
    pub fn next_question(&mut self) -> Option<(usize, u64, Question)> {
        self.manager.as_mut()?.next_question()
    }

    /// The node's lease at the arbiter of the pair with a peer lasts until then at least.
    pub fn leased(&mut self, peer: usize, until: Duration, now: Duration) {
        if let Some(manager) = &mut self.manager {
            manager.leased(&self.volumes, peer, until, now);
        }
    }

    /// Says what time it is, and lets everything go on; to be called at every turn of the shard.
    pub fn advance(&mut self, now: Duration) {
        self.now = now;
        for at in 0..self.out.len() {
            let out = &mut self.out[at];
            out.link.set_frame_size(out.peer.frame.bytes());
            out.link.advance(now);
            out.advance(now);
            self.take_events(at);
        }
        self.door.advance(now);
        self.door.take_replies(self.me.shard);
        if let Some(manager) = &mut self.manager {
            manager.advance(&self.volumes, now);
            while let Some((pair, command, parameters, bytes, token)) = manager.next_ask() {
                let peer = self.volumes[pair].peer;
                let carried = Carried::Pair { pair, token, bytes };
                if self.out[peer]
                    .link
                    .send(command, parameters, carried, now)
                    .is_err()
                {
                    manager.lost(pair, token);
                }
            }
        }
    }

    /// What they have done.
    pub fn counters(&self) -> LaneCounters {
        let mut sum = self.counters.clone();
        sum.lanes = self.out.len() as u64;
        for (link, suite) in self.out.iter().map(|out| (&out.link, out.suite)) {
            sum.combine(link.counters(), |sum, n| *sum += n);
            sum.lanes_up += u64::from(link.is_up());
            sum.lanes_encrypted += u64::from(link.is_up() && suite.is_some());
            sum.messages_unanswered += link.unanswered() as u64;
        }
        for link in self.door.links() {
            sum.combine(link.counters(), |sum, n| *sum += n);
            sum.lanes_in_up += u64::from(link.is_up());
        }
        sum
    }

    fn take_events(&mut self, at: usize) {
        while let Some(event) = self.out[at].link.next_event() {
            match event {
                Event::Up { anew } => {
                    tracepoint::lane_up(self.me.shard.into(), at as u64, anew.into());
                    if let Some(manager) = &mut self.manager {
                        manager.up(&self.volumes, at, anew);
                    }
                }
                Event::Down(why) => {
                    self.out[at].ends(self.now);
                    tracepoint::lane_down(self.me.shard.into(), at as u64, why.name());
                    log::info!("mirror: lane {} to peer {at} is down: {why}", self.me.shard);
                    if let Some(manager) = &mut self.manager {
                        manager.down(&self.volumes, at);
                    }
                }
                Event::Answered {
                    payload:
                        Carried::Changes {
                            volume, transfers, ..
                        },
                    result,
                    ..
                } => match result {
                    Ok(()) => self.confirmed.push_back(transfers),
                    Err(refusal) => {
                        self.counters.messages_refused += 1;
                        log::warn!(
                            "mirror: the other node refuses changes of volume {volume}: {refusal}"
                        );
                        self.volumes[volume].shared.breaks();
                    }
                },
                Event::Answered {
                    payload: Carried::Comparison { volume, offset },
                    result,
                    ..
                } => {
                    let is_same = match result {
                        Ok(()) => Some(true),
                        Err(refusal) if refusal.nature == nature::DIFFERS => Some(false),
                        Err(_) => None,
                    };
                    self.was_compared(volume, offset, is_same);
                }
                Event::Answered {
                    payload: Carried::Pair { pair, token, .. },
                    result,
                    ..
                } => {
                    self.counters.messages_refused += u64::from(result.is_err());
                    if let Some(manager) = &mut self.manager {
                        manager.answered(pair, token, result);
                    }
                }
                Event::Lost { payload, .. } => self.lose(payload),
                Event::GaveUp => {
                    self.counters.given_up += 1;
                    for (_, payload) in self.out[at].link.sever(self.now) {
                        self.lose(payload);
                    }
                    for volume in self.volumes.iter().filter(|volume| volume.peer == at) {
                        volume.shared.breaks();
                    }
                    if let Some(manager) = &mut self.manager {
                        manager.gave_up(&self.volumes, at);
                    }
                }
            }
        }
    }

    /// Nobody knows what became of it.
    fn lose(&mut self, payload: Carried) {
        match payload {
            Carried::Changes { volume, .. } => self.volumes[volume].shared.breaks(),
            Carried::Comparison { volume, offset } => self.was_compared(volume, offset, None),
            Carried::Pair { pair, token, .. } => {
                if let Some(manager) = &mut self.manager {
                    manager.lost(pair, token);
                }
            }
        }
    }

    fn was_compared(&mut self, volume: usize, offset: u64, is_same: Option<bool>) {
        self.compared.push_back(Compared {
            volume: self.volumes[volume].volume,
            offset,
            is_same,
        });
    }

    /// Asks for comparisons, as many as there is room for.
    pub fn compare(&mut self, compares: &mut VecDeque<Compare>) {
        while let Some(Compare {
            volume,
            offset,
            len,
            sums,
        }) = compares.pop_front()
        {
            let Some(at) = self.volumes.iter().position(|known| known.volume == volume) else {
                continue;
            };
            let (ticket, number) = self.volumes[at].shared.ticket();
            let parameters = Comparison {
                volume: number,
                ticket,
                offset,
                len,
                sums,
            };
            let link = &mut self.out[self.volumes[at].peer].link;
            let carried = Carried::Comparison { volume: at, offset };
            let is_sent = !self.is_stopping
                && link.has_room()
                && (link.send(Command::VERIFY, parameters.encode(), carried, self.now)).is_ok();
            if !is_sent {
                self.was_compared(at, offset, None);
            }
        }
    }

    /// What came of one.
    pub fn next_compared(&mut self) -> Option<Compared> {
        self.compared.pop_front()
    }

    /// Sends what of `forwards` there is room for, in order. Changes with numbers less than `stable` are stable.
    pub fn forward(&mut self, forwards: &mut VecDeque<Forward>, stable: u64) {
        if self.is_stopping {
            for forward in forwards.drain(..) {
                let volume = self
                    .volumes
                    .iter()
                    .find(|known| known.volume == forward.volume);
                volume.into_iter().for_each(|volume| volume.shared.breaks());
            }
            return;
        }
        while let Some(first) = forwards.front() {
            let Some(at) = self
                .volumes
                .iter()
                .position(|known| known.volume == first.volume)
            else {
                forwards.pop_front();
                continue;
            };
            let peer = self.volumes[at].peer;
            if !self.out[peer].link.has_room() {
                return;
            }
            let (volume, start) = (first.volume, first.transfer);
            let (ticket, number) = self.volumes[at].shared.ticket();
            let (mut changes, mut all, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some(next) = forwards.front()
                && next.volume == volume
                && next.transfer == start + changes.len() as u64
                && changes.len() < CHANGES_MAX
                && bytes < MESSAGE_BYTES
                && let Some(Forward {
                    change, segments, ..
                }) = forwards.pop_front()
            {
                bytes += change.payload();
                changes.push(change);
                all.extend(segments);
            }
            let transfers = start..start + changes.len() as u64;
            self.counters.changes_sent += changes.len() as u64;
            self.counters.change_bytes_sent += bytes;
            let parameters = Changes {
                volume: number,
                ticket,
                transfer: start,
                stable,
                changes,
            };
            let carried = Carried::Changes {
                volume: at,
                transfers,
                segments: all,
                len: bytes as usize,
            };
            let link = &mut self.out[peer].link;
            if link
                .send(Command::WRITE, parameters.encode(), carried, self.now)
                .is_err()
            {
                self.volumes[at].shared.breaks();
            }
        }
    }

    /// Transfers that the other node has.
    pub fn next_confirmed(&mut self) -> Option<Range<u64>> {
        self.confirmed.pop_front()
    }

    /// A connection that is to be opened. `ports`: how many ports lead to an address.
    pub fn next_connection(
        &mut self,
        ports: impl Fn(SocketAddr) -> usize,
    ) -> Option<(Opening, Connection)> {
        let now = self.now;
        let peer = match self.is_stopping {
            true => None,
            false => self.out.iter().position(|out| out.wants(now)),
        }?;
        let connection = self.next_number();
        let (remote, port) = self.out[peer].next(connection, now, ports)?;
        let nonce = self.nonce();
        let number = ((self.random)() as u32).max(1);
        let out = &self.out[peer];
        let opened = Connection::opened(
            connection,
            peer,
            remote,
            self.me,
            &out.peer,
            out.link.history(),
            number,
            nonce,
            now,
        );
        let opening = Opening {
            peer,
            remote,
            port,
            tls: out.peer.tls,
            connection,
        };
        Some((opening, opened))
    }

    /// A connection could not be opened.
    pub fn not_opened(&mut self, opening: &Opening) {
        self.out[opening.peer].failed(opening.connection, self.now);
    }

    /// A connection that came in.
    pub fn accept(&self, remote: SocketAddr) -> Connection {
        Connection::accepted(self.next_number(), remote, self.now)
    }

    fn next_number(&self) -> u64 {
        let number = self.connections.get();
        self.connections.set(number + 1);
        number
    }

    fn nonce(&mut self) -> [u8; 32] {
        let mut nonce = [0; 32];
        for bytes in nonce.chunks_mut(8) {
            bytes.copy_from_slice(&(self.random)().to_le_bytes());
        }
        nonce
    }

    /// The shard stops: what has no answer gets none.
    pub fn stop(&mut self) {
        for at in 0..self.out.len() {
            self.out[at].stop();
            for (_, payload) in self.out[at].link.sever(self.now) {
                self.lose(payload);
            }
        }
        if let Some(manager) = &mut self.manager {
            manager.stop();
        }
        self.is_stopping = true;
        self.door.stop(self.now);
    }
}
