//! What two nodes do when they meet, and what an operator may say.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mirror::{
    Action, Content, GRANULE, Mirrored, Mode, Pair, PairConfig, Refusal, ReplicaId, Role, Standing,
};
use testkit::Random;

const LEN: u64 = 40 * GRANULE;
const SHARDS: usize = 2;

/// A node with one pair, its storage, and a shard or two that do what they are told at once.
struct Node {
    pair: Pair,
    stored: Vec<u8>,
    alerts: Vec<String>,
    replies: u64,
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

fn replica(node: usize) -> ReplicaId {
    ReplicaId([1 + node as u8; 16])
}

fn node(content: Content, len: u64, run: u64) -> Node {
    let shared = Arc::new(Mirrored::new(len, SHARDS));
    let mut random = Random::new(u64::from(content.standing.replica.0[0]) << 32 | run);
    let stored = content.encode(len);
    let numbers = move || random.word();
    Node {
        pair: Pair::new(config(len), content, None, shared, numbers, Duration::ZERO),
        stored,
        alerts: Vec::new(),
        replies: 0,
        run,
    }
}

fn source() -> Node {
    let content = Content {
        standing: Standing::first(replica(0), 7),
        role: Role::Source,
        peer: None,
    };
    node(content, LEN, 0)
}

fn destination(len: u64) -> Node {
    let content = Content {
        standing: Standing::blank(replica(1)),
        role: Role::Destination,
        peer: None,
    };
    node(content, len, 0)
}

impl Node {
    fn mode(&self) -> Mode {
        self.pair.shared().mode().0
    }

    /// As it is after a restart.
    fn restarted(&self) -> Node {
        let content = Content::decode(&self.stored, LEN).expect("it was written so");
        assert_eq!(content.encode(LEN), self.stored);
        node(content, LEN, self.run + 1)
    }

    /// Its shards act by the mode; granules are copied at once.
    fn work(&self) {
        let shared = self.pair.shared();
        let (mode, word) = shared.mode();
        (0..SHARDS).for_each(|shard| shared.acts_by(shard, word));
        while mode == Mode::Forward
            && let Some(granule) = shared.first_from(0)
        {
            shared.copied(granule);
        }
    }
}

/// Lets both go on for a while; what one asks, the other one hears at once.
fn go_on(nodes: &mut [Node; 2], from: Duration) {
    let mut asked: [VecDeque<(u64, u64)>; 2] = Default::default();
    for turn in 0..400 {
        let now = from + Duration::from_millis(turn);
        for at in 0..2 {
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
                        asked[1 - at].push_back((reply, token));
                        other.pair.heard(command, parameters, payload, reply);
                    }
                    Action::Answer { reply, result } => {
                        let place = asked[at].iter().position(|&(known, _)| known == reply);
                        let (_, token) = asked[at]
                            .remove(place.expect("it was asked"))
                            .expect("it is there");
                        nodes[1 - at].pair.answered(token, result);
                    }
                    Action::Store { content, token, .. } => {
                        nodes[at].stored = content;
                        nodes[at].pair.stored(token, true);
                    }
                    Action::Alert(text) => nodes[at].alerts.push(text),
                }
            }
        }
    }
}

fn meet(nodes: &mut [Node; 2], from: Duration) {
    nodes.iter_mut().for_each(|node| node.pair.up(true));
    go_on(nodes, from);
}

const T1: Duration = Duration::from_secs(1);
const T2: Duration = Duration::from_secs(2);

#[test]
fn r03_a_blank_replica_is_copied_to_and_both_have_the_same() {
    let mut nodes = [source(), destination(LEN)];
    assert_eq!(
        nodes[0].mode(),
        Mode::Alone,
        "it has met nobody: hosts are served"
    );
    assert_eq!(nodes[1].mode(), Mode::Suspended);
    meet(&mut nodes, T1);
    assert!(
        nodes.iter().all(|node| node.pair.is_in_sync()),
        "{}",
        nodes[0].pair.describe()
    );
    assert_eq!(
        (nodes[0].mode(), nodes[1].mode()),
        (Mode::Forward, Mode::Suspended)
    );
    let standings = nodes.each_ref().map(|node| &node.pair.content().standing);
    assert_eq!(standings[0].generation, standings[1].generation);
    assert_eq!((&standings[0].record, &standings[1].record), (&None, &None));
}

/// Who restarts serves nobody before it has heard of the other one, or an operator has spoken.
#[test]
fn s08_a_source_that_restarts_waits_for_the_other_one() {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, T1);
    nodes[0] = nodes[0].restarted();
    assert_eq!(nodes[0].mode(), Mode::Suspended);
    meet(&mut nodes, T2);
    assert_eq!(
        nodes[0].mode(),
        Mode::Forward,
        "{}",
        nodes[0].pair.describe()
    );
}

/// The other one is gone: it goes on in another generation, which is stable first, and is alone after a restart, too.
#[test]
fn r06_a_source_that_is_severed_goes_on_in_another_generation() {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, T1);
    let before = nodes[0].pair.content().standing.generation;
    nodes[0].pair.gave_up();
    nodes[0].pair.advance(T2);
    assert_eq!(
        nodes[0].mode(),
        Mode::Forward,
        "no answer is given before that is stable"
    );
    go_on(&mut nodes, T2);
    assert_eq!(nodes[0].mode(), Mode::Alone);
    let after = nodes[0].pair.content().standing.generation;
    assert_eq!(after.number, before.number + 1);
    assert!(
        nodes[0]
            .alerts
            .iter()
            .any(|alert| alert.contains("severed")),
        "{:?}",
        nodes[0].alerts
    );
    assert_eq!(nodes[0].restarted().mode(), Mode::Alone);
    // And what it changed meanwhile is what the other one gets.
    nodes[0].pair.shared().mark(&(GRANULE..2 * GRANULE));
    meet(&mut nodes, T2 + T1);
    assert!(
        nodes.iter().all(|node| node.pair.is_in_sync()),
        "{}",
        nodes[0].pair.describe()
    );
    assert_eq!(nodes[1].pair.content().standing.generation, after);
}

#[test]
fn s08_the_other_one_takes_over_and_who_returns_becomes_its_destination() {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, T1);
    nodes.iter_mut().for_each(|node| node.pair.down());
    assert_eq!(nodes[1].pair.promote(), Ok(()));
    go_on(&mut nodes, T2);
    assert_eq!(nodes[1].mode(), Mode::Alone);
    // The first one was off, and does not know.
    nodes[0] = nodes[0].restarted();
    meet(&mut nodes, T2 + T1);
    assert_eq!(
        (nodes[0].mode(), nodes[1].mode()),
        (Mode::Suspended, Mode::Forward)
    );
    assert!(
        nodes.iter().all(|node| node.pair.is_in_sync()),
        "{}",
        nodes[0].pair.describe()
    );
    assert_eq!(nodes[0].pair.content().role, Role::Destination);
}

/// Both went on: nothing is overwritten, and both say so.
#[test]
fn s08_split_brain_is_found_at_the_first_contact() {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, T1);
    nodes[0].pair.gave_up();
    assert_eq!(nodes[1].pair.promote(), Ok(()));
    nodes.iter_mut().for_each(|node| node.pair.down());
    go_on(&mut nodes, T2);
    for node in &nodes {
        assert_eq!(node.mode(), Mode::Alone);
        node.pair.shared().mark(&(0..GRANULE));
    }
    meet(&mut nodes, T2 + T1);
    for node in &nodes {
        assert!(
            node.pair.describe().contains("split brain"),
            "{}",
            node.pair.describe()
        );
        assert!(
            node.alerts
                .iter()
                .any(|alert| alert.contains("split brain")),
            "{:?}",
            node.alerts
        );
        assert_eq!(node.pair.shared().changed(), 1, "nothing was copied");
    }
}

#[test]
fn r08_volumes_of_other_sizes_are_refused() {
    let mut nodes = [source(), destination(LEN + GRANULE)];
    meet(&mut nodes, T1);
    assert!(nodes.iter().all(|node| !node.pair.is_in_sync()));
    assert!(
        nodes[0]
            .alerts
            .iter()
            .any(|alert| alert.contains("make both alike")),
        "{:?}",
        nodes[0].alerts
    );
    assert_eq!(nodes[0].mode(), Mode::Alone, "hosts are served");
}

#[test]
fn r04_a_replica_that_is_not_whole_is_not_promoted() {
    let mut node = destination(LEN);
    assert!(node.pair.promote().is_err());
    assert_eq!(node.mode(), Mode::Suspended);
}

/// What asks for something of a meeting that is over is refused, and changes nothing.
#[test]
fn r05_what_is_of_another_meeting_is_refused() {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, T1);
    let stored = nodes[1].stored.clone();
    let copied = mirror::Command::COPIED;
    let mut parameters = vec![0; 40];
    parameters[8] = 1;
    nodes[1].pair.heard(copied, parameters, Vec::new(), 77);
    nodes[1].pair.heard(copied, vec![0; 39], Vec::new(), 78);
    nodes[1]
        .pair
        .heard(mirror::Command::WRITE, Vec::new(), Vec::new(), 79);
    nodes[1].pair.advance(T2);
    let mut natures = Vec::new();
    while let Some(action) = nodes[1].pair.next_action() {
        if let Action::Answer {
            reply: 77..=79,
            result: Err(Refusal { nature, .. }),
        } = action
        {
            natures.push(nature);
        }
    }
    use mirror::nature::{PARAMETERS, STALE};
    assert_eq!(natures, [STALE, PARAMETERS, PARAMETERS]);
    assert_eq!(nodes[1].stored, stored);
}
