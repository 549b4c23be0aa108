//! A connection of two nodes: a greeting, then frames of a link, which outlives it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use block::{Buffers, Completion, Request};
use mutant::mutant;
use pages::{Chunk, Inline, Slice};

use super::{Carried, Lanes, Peer, parts};
use crate::greeting::{BadGreeting, Caller, Greeting, Node, OPENING, Session, caller, elsewhere};
use crate::key::{Side, link_identity};
use crate::link::Outgoing;

/// How long a greeting may take.
const GREETING: Duration = Duration::from_secs(2);

enum Stage {
    /// Of one that came in: who it is, is not known yet.
    Unknown(Vec<u8>),
    /// The lane, and the greeting. Of those that came in: the peer, and which lane of it.
    Greeting(Lane, Box<Greeting>),
    Linked(Lane),
    /// The peer was told to open another one, and ends this one.
    TurnedAway,
    Over,
}

/// What becomes of one that came in.
enum Greeted {
    /// The lane's place at the door.
    Here(usize, Box<Greeting>),
    /// The lane is at another shard: what the peer is told.
    Elsewhere(Vec<u8>),
    /// It is of no node that is known, or of one with too many lanes.
    Unknown,
    /// It is not encrypted as connections with that node are.
    NotAsHere(&'static str),
}

/// Who has proved what below it.
struct Secured {
    identity: String,
    suite: &'static str,
}

/// Which lane a connection is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// To a peer.
    Out(usize),
    /// By its place at the door.
    In(usize),
}

/// A connection of two nodes.
pub struct Connection {
    id: u64,
    remote: SocketAddr,
    stage: Stage,
    since: Duration,
    chunks: VecDeque<Chunk>,
    /// What came, and waits for runs to be placed in.
    rest: Option<Slice>,
    requests: VecDeque<Request>,
    outstanding: usize,
    is_over: bool,
    is_ours: bool,
    /// It is encrypted.
    secured: Option<Secured>,
    /// What is below it tells the peer why it ends, until then.
    tells_until: Option<Duration>,
}

impl Connection {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn opened(
        id: u64,
        out: usize,
        remote: SocketAddr,
        me: Node,
        peer: &Peer,
        history: u64,
        number: u32,
        nonce: [u8; 32],
        now: Duration,
    ) -> Self {
        let greeting = Greeting::new(Side::Opener, me, peer.id, history, number, nonce, &peer.key);
        Self::new(
            id,
            remote,
            Stage::Greeting(Lane::Out(out), Box::new(greeting)),
            now,
        )
    }

    pub(super) fn accepted(id: u64, remote: SocketAddr, now: Duration) -> Self {
        Self::new(id, remote, Stage::Unknown(Vec::with_capacity(OPENING)), now)
    }

    fn new(id: u64, remote: SocketAddr, stage: Stage, since: Duration) -> Self {
        Self {
            is_ours: matches!(stage, Stage::Greeting(Lane::Out(_), _)),
            id,
            remote,
            stage,
            since,
            chunks: VecDeque::new(),
            rest: None,
            requests: VecDeque::new(),
            outstanding: 0,
            is_over: false,
            secured: None,
            tells_until: None,
        }
    }

    /// The peer's address.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// It is encrypted, before anything was received: by the key of this identity, with this suite.
    pub fn secure(&mut self, identity: String, suite: &'static str) {
        self.secured = Some(Secured { identity, suite });
    }

    /// What is below it cannot go on, and says why to the peer, if it can.
    pub fn fail(&mut self, why: &str) {
        log::warn!("mirror: no connection with {}: {why}", self.remote);
        self.stage = Stage::Over;
        self.tells_until = Some(self.since + 2 * GREETING);
        self.is_over = true;
    }

    /// Whether it was opened here.
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Whether the peer is being told why it ends.
    pub fn tells(&self) -> bool {
        self.tells_until.is_some()
    }

    /// Takes the next slice of the stream; not called while it [waits](Connection::is_waiting).
    pub fn receive(&mut self, slice: Slice, buffers: &Buffers, lanes: &mut Lanes) {
        debug_assert!(self.rest.is_none(), "it waits");
        let mut slice = slice;
        if !matches!(self.stage, Stage::Linked(_)) {
            let taken = self.greet(slice.bytes(), lanes);
            slice.advance(taken);
        }
        self.take(slice, buffers, lanes);
    }

    /// Bytes of the greeting; how many those were.
    fn greet(&mut self, bytes: &[u8], lanes: &mut Lanes) -> usize {
        let mut taken = 0;
        let mut opening = Vec::new();
        if let Stage::Unknown(known) = &mut self.stage {
            taken = bytes.len().min(OPENING - known.len());
            known.extend_from_slice(&bytes[..taken]);
            let Ok(whole) = <&[u8; OPENING]>::try_from(&known[..]) else {
                return taken;
            };
            let caller = caller(whole);
            opening = std::mem::take(known);
            self.stage = match lanes.greets(caller, self.secured.as_ref()) {
                Greeted::Here(at, greeting) => Stage::Greeting(Lane::In(at), greeting),
                Greeted::Elsewhere(told) => {
                    self.say(&told, None);
                    Stage::TurnedAway
                }
                Greeted::Unknown => {
                    log::warn!(
                        "mirror: a connection from {} is of no node that is known here",
                        self.remote
                    );
                    Stage::Over
                }
                Greeted::NotAsHere(why) => {
                    log::warn!("mirror: no connection with {}: {why}", self.remote);
                    Stage::Over
                }
            };
        }
        let Stage::Greeting(lane, greeting) = &mut self.stage else {
            return bytes.len();
        };
        let lane = *lane;
        if let Lane::Out(at) = lane
            && !lanes.out[at].answers(self.id, lanes.now)
        {
            self.stage = Stage::Over;
            return bytes.len();
        }
        let mut result = Ok((0, None));
        if !opening.is_empty() {
            result = greeting.receive(&opening);
        }
        if let Ok((_, None)) = result {
            result = greeting.receive(&bytes[taken..]).map(|(n, session)| {
                taken += n;
                (n, session)
            });
        }
        match result {
            Ok((_, None)) => taken,
            Ok((_, Some(session))) => {
                self.say_greeting();
                self.attach(lane, session, lanes);
                taken
            }
            Err(BadGreeting::Elsewhere) => {
                if let Lane::Out(at) = lane {
                    lanes.out[at].is_elsewhere(self.id, lanes.now);
                }
                self.stage = Stage::Over;
                bytes.len()
            }
            Err(bad) => {
                log::warn!("mirror: the greeting with {} failed: {bad}", self.remote);
                self.stage = Stage::Over;
                bytes.len()
            }
        }
    }

    fn attach(&mut self, lane: Lane, session: Session, lanes: &mut Lanes) {
        let now = lanes.now;
        let link = match lane {
            Lane::Out(at) => &mut lanes.out[at].link,
            Lane::In(at) => lanes.door.link(at).0,
        };
        self.stage = match link.attach(session, now) {
            Ok(()) => Stage::Linked(lane),
            Err(stale) => {
                log::info!("mirror: {stale}");
                Stage::Over
            }
        };
        match (lane, &self.stage) {
            (Lane::Out(at), Stage::Linked(_)) => {
                lanes.out[at].begins(self.id);
                lanes.out[at].suite = self.secured.as_ref().map(|it| it.suite);
            }
            (Lane::In(at), Stage::Linked(_)) => {
                *lanes.door.link(at).1 = Some(self.id);
                lanes.door.is_here(at);
            }
            _ => {}
        }
        if let Lane::Out(at) = lane {
            lanes.take_events(at);
        }
    }

    fn take(&mut self, mut slice: Slice, buffers: &Buffers, lanes: &mut Lanes) {
        let now = lanes.now;
        match self.stage {
            Stage::Linked(Lane::Out(at)) => {
                while let (taken, _) = lanes.out[at].link.receive(slice.bytes(), now)
                    && taken > 0
                {
                    slice.advance(taken);
                    if slice.is_empty() {
                        break;
                    }
                }
                lanes.take_events(at);
            }
            Stage::Linked(Lane::In(at)) => {
                let left = lanes.take_in(at, slice, buffers, &mut self.requests);
                self.rest = left;
            }
            _ => {}
        }
    }

    /// Goes on, if there is what it waited for.
    pub fn resume(&mut self, buffers: &Buffers, lanes: &mut Lanes) {
        if let Some(rest) = self.rest.take() {
            self.take(rest, buffers, lanes);
        }
    }

    /// Whether it takes no more of the stream, as runs are short.
    pub fn is_waiting(&self) -> bool {
        self.rest.is_some()
    }

    /// The next request it has for a volume.
    pub fn next_request(&mut self) -> Option<Request> {
        let request = self.requests.pop_front()?;
        self.outstanding += 1;
        Some(request)
    }

    /// Takes the end of a request.
    pub fn complete(&mut self, completion: Completion, lanes: &mut Lanes) {
        self.outstanding -= 1;
        lanes.door.ended(completion, &lanes.volumes);
    }

    /// Requests at volumes.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    fn say(&mut self, bytes: &[u8], buffers: Option<&Buffers>) {
        let page = buffers.filter(|_| bytes.len() > 2 * Inline::CAPACITY);
        if let Some(page) = page.and_then(|buffers| buffers.pages.alloc()) {
            let page = page.freeze_filled(0);
            let n = page.append(bytes);
            self.chunks.push_back(Chunk::Slice(page.slice(0..n)));
            return self.say(&bytes[n..], None);
        }
        let pieces = bytes.chunks(Inline::CAPACITY).filter_map(Inline::new);
        self.chunks.extend(pieces.map(Chunk::Inline));
    }

    fn say_greeting(&mut self) {
        if let Stage::Greeting(_, greeting) = &mut self.stage {
            let bytes = greeting.transmit();
            self.say(&bytes, None);
        }
    }

    /// Sends what it has, by `send`, which gives back what there is no room for; whether all was sent.
    pub fn transmit(
        &mut self,
        send: impl FnMut(Chunk) -> Result<(), Chunk>,
        buffers: &Buffers,
        lanes: &mut Lanes,
    ) -> bool {
        self.look(lanes);
        let is_done = self.send(send, buffers, lanes);
        self.look(lanes);
        is_done
    }

    fn send(
        &mut self,
        mut send: impl FnMut(Chunk) -> Result<(), Chunk>,
        buffers: &Buffers,
        lanes: &mut Lanes,
    ) -> bool {
        loop {
            while let Some(chunk) = self.chunks.pop_front() {
                if let Err(chunk) = send(chunk) {
                    self.chunks.push_front(chunk);
                    return false;
                }
            }
            let now = lanes.now;
            let lane = match self.stage {
                Stage::Greeting(..) => {
                    self.say_greeting();
                    match self.chunks.is_empty() {
                        true => return true,
                        false => continue,
                    }
                }
                Stage::Linked(lane) if lanes.is_current(lane, self.id) => lane,
                _ => return true,
            };
            let link = match lane {
                Lane::Out(at) => &mut lanes.out[at].link,
                Lane::In(at) => lanes.door.link(at).0,
            };
            let Some(Outgoing { head, payload }) = link.transmit(now) else {
                return true;
            };
            let mut slices = Vec::new();
            let mut told = Vec::new();
            match payload {
                Some((Carried::Changes { segments, .. }, range)) => {
                    let parts = parts(segments, range);
                    slices
                        .extend(parts.filter_map(|(segment, part)| segment.part(part).to_slice()));
                }
                Some((Carried::Pair { bytes, .. }, range)) => told.extend_from_slice(&bytes[range]),
                Some((Carried::Comparison { .. }, _)) | None => {}
            }
            self.say(&head, Some(buffers));
            self.say(&told, Some(buffers));
            self.chunks.extend(slices.into_iter().map(Chunk::Slice));
        }
    }

    /// Takes note of whether the connection is to end.
    pub fn look(&mut self, lanes: &mut Lanes) {
        let is_late = lanes.now >= self.since + GREETING;
        self.tells_until.take_if(|until| lanes.now >= *until);
        self.is_over = match self.stage {
            Stage::Over => true,
            Stage::Greeting(Lane::Out(at), _) => is_late || !lanes.out[at].tries(self.id),
            Stage::Unknown(_) | Stage::Greeting(..) | Stage::TurnedAway => is_late,
            Stage::Linked(lane) => !lanes.is_current(lane, self.id),
        };
    }

    /// Whether it is.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The connection is gone.
    pub fn close(&mut self, lanes: &mut Lanes) {
        let now = lanes.now;
        if let Some(at) = lanes.out.iter().position(|out| out.has_session(self.id)) {
            lanes.out[at].link.closed(now);
            lanes.take_events(at);
        }
        // Whatever has become of it since it was opened.
        (lanes.out.iter_mut()).any(|out| out.failed(self.id, now));
        if let Stage::Linked(lane @ Lane::In(at)) = self.stage
            && lanes.is_current(lane, self.id)
        {
            let (link, connection) = lanes.door.link(at);
            *connection = None;
            link.closed(now);
        }
        self.stage = Stage::Over;
        self.chunks.clear();
        self.rest = None;
        // What was not begun ends here.
        for request in self.requests.drain(..) {
            let completion = Completion {
                id: request.id,
                result: Err(block::Fault::Aborted),
                run: request.io.run,
            };
            lanes.door.ended(completion, &lanes.volumes);
        }
    }
}

impl Lanes {
    fn is_current(&mut self, lane: Lane, id: u64) -> bool {
        match lane {
            Lane::Out(at) => self.out[at].has_session(id) && self.out[at].link.is_up(),
            Lane::In(at) => {
                let (link, connection) = self.door.link(at);
                *connection == Some(id) && link.is_up()
            }
        }
    }

    /// What becomes of one that came in and says that it is `caller`.
    fn greets(&mut self, caller: Caller, secured: Option<&Secured>) -> Greeted {
        let node = caller.node;
        let Some(peer) = self.out.iter().position(|out| out.peer.id == node.id) else {
            return Greeted::Unknown;
        };
        let is_same = |known: &Secured| known.identity == link_identity(&node.id, &self.me.id);
        match (self.out[peer].peer.tls, secured) {
            (false, None) => {}
            (true, Some(secured)) if is_same(secured) => {}
            (true, None) if mutant!("link-in-clear-let-in") => {}
            (true, None) => {
                return Greeted::NotAsHere(
                    "it is in the clear, and those of that node are to be in TLS: write the same `tls` in [pair] of both nodes",
                );
            }
            (false, Some(_)) => {
                return Greeted::NotAsHere(
                    "it is in TLS, and those of that node are not to be: write the same `tls` in [pair] of both nodes",
                );
            }
            (true, Some(_)) => {
                return Greeted::NotAsHere(
                    "it greets as another node than the one whose key it has",
                );
            }
        }
        let number = ((self.random)() as u32).max(1);
        if self.door.is_elsewhere(peer, &caller) && !mutant!("pair-links-any-shard") {
            return Greeted::Elsewhere(elsewhere(number, &caller));
        }
        let me = Node {
            id: self.me.id,
            shard: node.shard,
        };
        let patience = self.out[peer].peer.patience;
        let Some(at) = self.door.lane(peer, me, node.id, patience, self.now) else {
            return Greeted::Unknown;
        };
        let nonce = self.nonce();
        let history = self.door.link(at).0.history();
        let key = &self.out[peer].peer.key;
        let greeting = Greeting::new(Side::Acceptor, me, node.id, history, number, nonce, key);
        Greeted::Here(at, Box::new(greeting))
    }
}
