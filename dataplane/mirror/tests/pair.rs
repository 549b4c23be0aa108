//! What two nodes do when they meet, and what an operator may say.

#[path = "common/nodes.rs"]
mod nodes;

use std::time::Duration;

use mirror::{Action, AlertEvent, GRANULE, Mode, Refusal, Role, Unwilling};

use nodes::*;

const T1: Duration = Duration::from_secs(1);
const T2: Duration = Duration::from_secs(2);

#[test]
fn r03_a_blank_replica_is_copied_to_and_both_have_the_same() {
    let mut nodes = [source(), destination(LEN)];
    assert_eq!(
        nodes[0].mode(),
        Mode::Suspended,
        "it has met nobody, who may have later data"
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

/// Its tables may be new, and the other node's not: it serves by an operator's word, which it remembers, and overwrites nobody.
#[test]
fn s08_a_first_source_that_has_met_nobody_serves_by_an_operators_word() {
    let mut nodes = [source(), destination(LEN)];
    assert_eq!(nodes[0].pair.promote(false), Ok(()));
    go_on(&mut nodes, T1);
    assert_eq!(nodes[0].mode(), Mode::Alone);
    nodes[0] = nodes[0].restarted();
    assert_eq!(nodes[0].mode(), Mode::Alone);
    let mut in_use = [source(), destination(LEN)];
    meet(&mut in_use, T1);
    let [_, whole] = in_use;
    nodes[1] = whole;
    meet(&mut nodes, T2);
    assert!(!nodes.iter().any(|node| node.pair.is_in_sync()));
    assert!(nodes[0].has_told(AlertEvent::NotAlike));
    nodes[1] = destination(LEN);
    meet(&mut nodes, T2 * 2);
    assert!(nodes.iter().all(|node| node.pair.is_in_sync()));
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
    assert!(nodes[0].has_told(AlertEvent::Severed));
    assert!(!nodes[0].has_told(AlertEvent::PeerLost), "that says it all");
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

/// What the operator's command gets: both ends of an outage, on both nodes, with what the node was then.
#[test]
fn r06_alerts_tell_both_ends_of_an_outage_on_both_nodes() {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, T1);
    for node in &mut nodes {
        assert_eq!(node.told(), [AlertEvent::InSync]);
        node.alerts.clear();
    }
    for node in &mut nodes {
        node.pair.down();
        node.pair.gave_up();
    }
    go_on(&mut nodes, T2);
    assert_eq!(nodes[0].told(), [AlertEvent::Severed]);
    let alert = &nodes[0].alerts[0];
    let generation = nodes[0].pair.content().standing.generation;
    assert_eq!((alert.role, alert.generation), (Role::Source, generation));
    assert_eq!(nodes[1].told(), [AlertEvent::PeerLost]);
    assert_eq!(nodes[1].alerts[0].role, Role::Destination);
    // A source that was alone says after a restart that it still is.
    nodes[0] = nodes[0].restarted();
    nodes[0].pair.gave_up();
    go_on(&mut nodes, T2 + T1);
    assert_eq!(nodes[0].told(), [AlertEvent::PeerLost]);
    assert!(nodes[0].alerts[0].text.contains("serves hosts without it"));
    nodes.iter_mut().for_each(|node| node.alerts.clear());
    meet(&mut nodes, 2 * T2);
    for node in &nodes {
        assert_eq!(node.told(), [AlertEvent::InSync]);
    }
    // Whoever stops it knows.
    nodes[1].alerts.clear();
    nodes[1].pair.stop();
    nodes[1].pair.gave_up();
    assert_eq!(nodes[1].told(), []);
}

/// Programs know alerts by their words: each is one of its own, and the documentation has it.
#[test]
fn r06_the_words_of_alerts_are_documented() {
    let document = include_str!("../../../docs/pairs.md");
    let documented: Vec<_> = (document.lines())
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(word, _)| word)
        .collect();
    for event in AlertEvent::ALL {
        let rows = documented.iter().filter(|word| **word == event.word());
        assert_eq!(rows.count(), 1, "{} in docs/pairs.md", event.word());
    }
}

#[test]
fn s08_the_other_one_takes_over_and_who_returns_becomes_its_destination() {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, T1);
    nodes.iter_mut().for_each(|node| node.pair.down());
    assert_eq!(nodes[1].pair.promote(false), Ok(()));
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

/// What a node did for the source, that was killed before it had that itself, is the volume's when the node takes over: the old source
/// gets it, though it knows of nothing.
#[test]
fn s08_what_was_done_for_a_source_that_is_gone_is_copied_to_it() {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, T1);
    nodes[1]
        .pair
        .shared()
        .pend(&(7 * GRANULE..7 * GRANULE + 4096));
    nodes.iter_mut().for_each(|node| node.pair.down());
    assert_eq!(nodes[1].pair.promote(false), Ok(()));
    go_on(&mut nodes, T2);
    assert_eq!(nodes[1].pair.shared().first_from(0), Some(7));
    nodes[0] = nodes[0].restarted();
    meet(&mut nodes, T2 + T1);
    assert!(nodes.iter().all(|node| node.pair.is_in_sync()));
    assert_eq!(nodes[1].copied, [7]);
}

/// Both went on: nothing is overwritten, and both say so.
#[test]
fn s08_split_brain_is_found_at_the_first_contact() {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, T1);
    nodes[0].pair.gave_up();
    nodes.iter_mut().for_each(|node| node.pair.down());
    assert_eq!(nodes[1].pair.promote(false), Ok(()));
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
        assert!(node.has_told(AlertEvent::SplitBrain));
        assert_eq!(node.pair.shared().changed(), 1, "nothing was copied");
    }
}

#[test]
fn r08_volumes_of_other_sizes_are_refused() {
    let mut nodes = [source(), destination(LEN + GRANULE)];
    meet(&mut nodes, T1);
    assert!(nodes.iter().all(|node| !node.pair.is_in_sync()));
    assert!(nodes[0].has_told(AlertEvent::VolumesDiffer));
    assert_eq!(
        nodes[0].mode(),
        Mode::Suspended,
        "it has not met a replica of its volume"
    );
}

#[test]
fn r04_a_replica_that_is_not_whole_is_not_promoted() {
    let mut node = destination(LEN);
    assert!(node.pair.promote(false).is_err());
    assert_eq!(node.mode(), Mode::Suspended);
}

/// Planned: the source ends what hosts asked for, and the other one is the source then. No generation ends, nothing is copied.
#[test]
fn r03_the_source_yields_to_the_other_one() {
    let mut nodes = [source(), destination(LEN)];
    assert_eq!(nodes[1].pair.demote(), Err(Unwilling::NotSource));
    assert_eq!(nodes[0].pair.demote(), Err(Unwilling::NotInSync));
    meet(&mut nodes, T1);
    let generation = nodes[0].pair.content().standing.generation;
    assert_eq!(nodes[1].pair.promote(false), Err(Unwilling::OtherServes));
    assert_eq!(nodes[0].pair.demote(), Ok(()));
    assert_eq!(nodes[0].mode(), Mode::Draining);
    assert!(!nodes[0].pair.shared().serves(T2));
    go_on(&mut nodes, T2);
    let modes = [nodes[0].mode(), nodes[1].mode()];
    assert_eq!(modes, [Mode::Suspended, Mode::Forward]);
    let roles = nodes.each_ref().map(|node| node.pair.content().role);
    assert_eq!(roles, [Role::Destination, Role::Source]);
    for node in &nodes {
        assert!(node.pair.is_in_sync(), "{}", node.pair.describe());
        assert_eq!(node.pair.content().standing.generation, generation);
    }
}

/// It is off before the other one has heard of it: whoever is asked to may be the source, and they agree on that.
#[test]
fn r03_a_source_that_yields_stays_so_until_the_other_one_knows() {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, T1);
    nodes[0].pair.demote().unwrap();
    let mut yields = false;
    for turn in 0..20 {
        let pair = &mut nodes[0].pair;
        let (_, word) = pair.shared().mode();
        (0..2).for_each(|shard| pair.shared().acts_by(shard, word));
        pair.advance(T2 + Duration::from_millis(turn));
        while let Some(action) = pair.next_action() {
            if let Action::Store { content, token, .. } = action {
                nodes[0].stored = content;
                nodes[0].pair.stored(token, true);
                yields = true;
                break;
            }
        }
        if yields {
            break;
        }
    }
    assert_eq!(nodes[0].pair.content().role, Role::Yielding);
    nodes[0] = nodes[0].restarted();
    assert_eq!(nodes[0].mode(), Mode::Suspended, "nobody serves meanwhile");
    nodes[1].pair.gave_up();
    nodes[1] = nodes[1].restarted();
    meet(&mut nodes, T2 + T1);
    let modes = [nodes[0].mode(), nodes[1].mode()];
    assert_eq!(modes, [Mode::Suspended, Mode::Forward]);
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

/// The first change that a node answers alone may come behind its claim, which says that there is none, and even when it has decided:
/// that is split brain all the same.
#[test]
fn s08_split_brain_is_found_whenever_the_first_change_comes() {
    for turns in 1..20 {
        let mut nodes = [source(), destination(LEN)];
        meet(&mut nodes, T1);
        nodes[0].pair.gave_up();
        nodes.iter_mut().for_each(|node| node.pair.down());
        assert_eq!(nodes[1].pair.promote(false), Ok(()));
        go_on(&mut nodes, T2);
        for node in &mut nodes {
            node.copied.clear();
            node.pair.up(true);
        }
        let (arbiter, now) = (&mut Arbiter::default(), T2 + T1);
        go_on_with(&mut nodes, arbiter, now, turns);
        // Until then what hosts have under way is done, and answered.
        let is_over = |node: &Node| node.pair.content().role == Role::Destination;
        if nodes.iter().any(is_over) {
            assert!(turns > 2, "they have hardly met");
            break;
        }
        for (at, node) in (1..).zip(&nodes) {
            (node.pair.shared()).mark(&(at * GRANULE..(at + 1) * GRANULE));
        }
        go_on_with(&mut nodes, arbiter, now, 400);
        for node in &nodes {
            let state = node.pair.state();
            assert_eq!((state, node.mode()), ("refused", Mode::Alone), "{turns}");
            assert!(node.copied.is_empty(), "nothing is overwritten");
        }
    }
}

/// A shard that still acts by the meeting before would wait for answers that nobody gives.
#[test]
fn r06_a_source_forwards_when_every_shard_has_seen_the_end_of_the_meeting_before() {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, T1);
    assert!(nodes[0].pair.is_in_sync());
    nodes[0].is_late = true;
    nodes[0].pair.gave_up();
    meet(&mut nodes, T2);
    assert_eq!(nodes[0].pair.state(), "source_hearing");
    assert_eq!(nodes[0].mode(), Mode::Alone);
    nodes[0].is_late = false;
    go_on(&mut nodes, 3 * T1);
    assert_eq!(nodes[0].pair.state(), "source_in_sync");
}
