//! Two nodes of a pair, with storage, shards that do what they are told at once, and an arbiter.
#![allow(dead_code)] // Not every test uses all of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mirror::{
    Action, Alert, AlertEvent, Answer, Content, Entry, GRANULE, Mirrored, Mode, Pair, PairConfig,
    Question, ReplicaId, Role, Seen, Standing,
};
use testkit::Random;

pub const LEN: u64 = 40 * GRANULE;
const SHARDS: usize = 2;
/// How long a destination promises not to take over, where there is an arbiter.
pub const PROMISE: Duration = Duration::from_secs(4);
/// When two nodes first meet.
const FIRST: Duration = Duration::from_secs(1);

/// A node with one pair, its storage, and a shard or two that do what they are told at once.
pub struct Node {
    pub pair: Pair,
    pub stored: Vec<u8>,
    pub alerts: Vec<Alert>,
    /// Its shards do not look at the mode.
    pub is_late: bool,
    /// Its log has failed.
    pub stores_nothing: bool,
    /// Granules that were copied to the other node.
    pub copied: Vec<u64>,
    replies: u64,
    /// What it was asked and has not answered: its number here, and there.
    asked: VecDeque<(u64, u64)>,
    run: u64,
}

fn config(len: u64) -> PairConfig {
    PairConfig {
        volume: [9; 16],
        number: 3,
        len,
        block: 4096,
    }
}

pub fn replica(node: usize) -> ReplicaId {
    ReplicaId([1 + node as u8; 16])
}

pub fn node(content: Content, len: u64, run: u64) -> Node {
    node_on(content, len, len, run)
}

/// The same, on a device of so many bytes.
pub fn node_on(content: Content, len: u64, device: u64, run: u64) -> Node {
    let shared = Arc::new(Mirrored::new(len, device, SHARDS));
    let mut random = Random::new(u64::from(content.standing.replica.0[0]) << 32 | run);
    let stored = content.encode(len);
    let numbers = move || random.word();
    Node {
        pair: Pair::new(config(len), content, None, shared, numbers, Duration::ZERO),
        stored,
        alerts: Vec::new(),
        is_late: false,
        stores_nothing: false,
        copied: Vec::new(),
        replies: 0,
        asked: VecDeque::new(),
        run,
    }
}

pub fn source() -> Node {
    let content = Content {
        standing: Standing::first(replica(0), 7),
        role: Role::Source,
        peer: None,
        severed: None,
    };
    node(content, LEN, 0)
}

pub fn destination(len: u64) -> Node {
    let content = Content {
        standing: Standing::blank(replica(1)),
        role: Role::Destination,
        peer: None,
        severed: None,
    };
    node(content, len, 0)
}

impl Node {
    /// Whether an operator was told of it.
    pub fn has_told(&self, event: AlertEvent) -> bool {
        self.alerts.iter().any(|alert| alert.event == event)
    }

    /// What an operator was told.
    pub fn told(&self) -> Vec<AlertEvent> {
        self.alerts.iter().map(|alert| alert.event).collect()
    }

    pub fn mode(&self) -> Mode {
        self.pair.shared().mode().0
    }

    /// As it is after a restart.
    pub fn restarted(&self) -> Node {
        let device = self.pair.shared().device();
        let (content, len) = Content::decode(&self.stored, device).expect("it was written so");
        assert_eq!(content.encode(len), self.stored);
        node_on(content, len, device, self.run + 1)
    }

    /// What it was asked, and has not answered.
    pub fn owes(&self) -> usize {
        self.asked.len()
    }

    /// What it was asked before it answers to nobody.
    pub fn forget_asked(&mut self) {
        self.asked.iter_mut().for_each(|asked| asked.1 = u64::MAX);
    }

    /// Its shards act by the mode; granules are copied at once.
    fn work(&mut self) {
        if self.is_late {
            return;
        }
        let shared = self.pair.shared();
        let (mode, word) = shared.mode();
        (0..SHARDS).for_each(|shard| shared.acts_by(shard, word));
        shared.show(shared.len());
        while mode == Mode::Forward
            && let Some(granule) = shared.first_from(0)
        {
            shared.copied(granule);
            self.copied.push(granule);
        }
    }
}

/// An arbiter that answers at once those who reach it.
#[derive(Default)]
pub struct Arbiter {
    pub revision: u64,
    pub entry: Option<Entry>,
    /// Which nodes' keys are there.
    pub lives: [bool; 2],
    /// Which nodes reach it.
    pub is_reached: [bool; 2],
    /// Which nodes hear its answers late.
    pub is_late: [bool; 2],
    /// Those answers: who asked, and by what number.
    pub held: Vec<(usize, u64, Answer)>,
    /// Changes take longer than anybody waits.
    pub delays: bool,
    /// Those: in which revision.
    pub late: Vec<u64>,
}

impl Arbiter {
    /// One that both nodes reach, and whose keys are there.
    pub fn reached() -> Self {
        Self {
            is_reached: [true; 2],
            lives: [true; 2],
            ..Self::default()
        }
    }

    fn answer(&mut self, node: usize, question: Question) -> Answer {
        if !self.is_reached[node] {
            return Answer::Unreachable;
        }
        if let (true, Question::Set { revision, .. }) = (self.delays, question) {
            self.late.push(revision);
            return Answer::Unreachable;
        }
        let peer_lives = self.lives[1 - node];
        let seen = Answer::Seen(Seen {
            revision: self.revision,
            entry: self.entry,
            peer_lives,
        });
        if let Question::Set {
            revision,
            entry,
            unless_peer_lives,
        } = question
            && revision == self.revision
            && !(unless_peer_lives && peer_lives)
        {
            self.revision += 1;
            self.entry = Some(entry);
            return Answer::Made(self.revision);
        }
        seen
    }
}

/// Lets both go on for a while; what one asks, the other one hears at once.
pub fn go_on(nodes: &mut [Node; 2], from: Duration) {
    go_on_with(nodes, &mut Arbiter::default(), from, 400);
}

/// The same, with an arbiter, for so many milliseconds. What one asks of the other one is heard while their `up` says so.
pub fn go_on_with(nodes: &mut [Node; 2], arbiter: &mut Arbiter, from: Duration, turns: u64) {
    for turn in 0..turns {
        let now = from + Duration::from_millis(turn);
        for at in 0..2 {
            goes_on(nodes, at, arbiter, now);
        }
    }
}

/// The first one alone goes on.
pub fn half_a_turn(nodes: &mut [Node; 2], now: Duration) {
    goes_on(nodes, 0, &mut Arbiter::default(), now);
}

/// One of them goes on, the other one does not.
pub fn goes_on(nodes: &mut [Node; 2], at: usize, arbiter: &mut Arbiter, now: Duration) {
    nodes[at].work();
    nodes[at].pair.advance(now);
    while let Some(action) = nodes[at].pair.next_action() {
        match action {
            Action::Ask {
                command,
                parameters,
                payload,
                token,
            } => {
                let other = &mut nodes[1 - at];
                let reply = other.replies;
                other.replies += 1;
                other.asked.push_back((reply, token));
                other.pair.heard(command, parameters, payload, reply);
            }
            Action::Answer { reply, result } => {
                let asked = &mut nodes[at].asked;
                let place = asked.iter().position(|&(known, _)| known == reply);
                let (_, token) = asked
                    .remove(place.expect("it was asked"))
                    .expect("it is there");
                nodes[1 - at].pair.answered(token, result);
            }
            Action::Store { token, .. } if nodes[at].stores_nothing => {
                nodes[at].pair.stored(token, false);
            }
            Action::Store { content, token, .. } => {
                nodes[at].stored = content;
                nodes[at].pair.stored(token, true);
            }
            Action::Arbitrate { question, token } => {
                let answer = arbiter.answer(at, question);
                match arbiter.is_late[at] {
                    true => arbiter.held.push((at, token, answer)),
                    false => nodes[at].pair.arbitrated(token, answer),
                }
            }
            Action::Alert(alert) => nodes[at].alerts.push(alert),
        }
    }
}

pub fn meet(nodes: &mut [Node; 2], from: Duration) {
    nodes.iter_mut().for_each(|node| node.pair.up(true));
    go_on(nodes, from);
}

/// Two nodes that have met, and have the same.
pub fn in_sync() -> [Node; 2] {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, FIRST);
    assert!(nodes.iter().all(|node| node.pair.is_in_sync()));
    nodes
}

/// The same, of which the arbiter knows it.
pub fn in_sync_with(arbiter: &mut Arbiter) -> [Node; 2] {
    let mut nodes = [source(), destination(LEN)];
    for node in &mut nodes {
        node.pair.set_arbiter(PROMISE);
        node.pair.up(true);
    }
    go_on_with(&mut nodes, arbiter, FIRST, 400);
    assert!(nodes.iter().all(|node| node.pair.is_in_sync()));
    nodes
}

/// They hear each other no more.
pub fn part(nodes: &mut [Node; 2]) {
    for node in nodes {
        node.pair.down();
        node.pair.gave_up();
    }
}

pub fn modes(nodes: &[Node; 2]) -> [Mode; 2] {
    nodes.each_ref().map(Node::mode)
}
