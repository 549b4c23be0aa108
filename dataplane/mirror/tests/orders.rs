//! What an operator says of a pair, and what both nodes make of it (row R3).

#[path = "common/nodes.rs"]
mod nodes;

use std::time::Duration;

use mirror::{AlertEvent, BadContent, Content, GRANULE, Mode, Role, Standing, Unwilling};

use nodes::*;

const T: Duration = Duration::from_secs(1);
/// Seconds since 1970.
const NOW: u64 = 1_800_000_000;

fn severed() -> [Node; 2] {
    let mut nodes = in_sync();
    assert_eq!(nodes[0].pair.sever(NOW), Ok(()));
    go_on(&mut nodes, 2 * T);
    assert_eq!(nodes[0].pair.next_outcome(), Some(Ok(())));
    nodes
}

fn states(nodes: &[Node; 2]) -> [&'static str; 2] {
    nodes.each_ref().map(|node| node.pair.state())
}

/// The source goes on in another generation, though both hear each other; both say so.
#[test]
fn r03_a_pair_that_an_operator_severs_stays_apart_until_one_says_otherwise() {
    let mut nodes = severed();
    assert_eq!(modes(&nodes), [Mode::Alone, Mode::Suspended]);
    assert_eq!(states(&nodes), ["severed", "severed"]);
    let generations = nodes.each_ref().map(|node| {
        assert_eq!(node.pair.content().severed, Some(NOW));
        node.pair.content().standing.generation.number
    });
    assert_eq!(generations, [2, 1]);
    assert!(nodes[0].has_told(AlertEvent::Severed));
    assert_eq!(
        nodes[1].told(),
        [AlertEvent::InSync, AlertEvent::SeveredThere]
    );
    nodes[0].pair.shared().mark(&(3 * GRANULE..4 * GRANULE));
    // The link comes and goes, and both restart.
    meet(&mut nodes, 3 * T);
    assert_eq!(states(&nodes), ["severed", "severed"]);
    for at in [0, 1] {
        nodes[at] = nodes[at].restarted();
        assert_eq!(nodes[at].pair.content().severed, Some(NOW));
    }
    assert_eq!(modes(&nodes), [Mode::Alone, Mode::Suspended]);
    nodes[0].pair.shared().mark(&(3 * GRANULE..4 * GRANULE));
    meet(&mut nodes, 4 * T);
    assert_eq!(states(&nodes), ["severed", "severed"]);
    assert!(nodes[0].copied.is_empty(), "nothing is copied");
    assert_eq!(nodes[0].pair.reestablish(), Ok(()));
    go_on(&mut nodes, 5 * T);
    assert_eq!(nodes[0].pair.next_outcome(), Some(Ok(())));
    assert_eq!(states(&nodes), ["source_in_sync", "destination_in_sync"]);
    assert_eq!(nodes[0].copied, [3], "what was changed, and no more");
    for node in &mut nodes {
        assert_eq!(node.pair.content().severed, None);
        assert_eq!(node.restarted().pair.content().severed, None);
        assert_eq!(node.pair.content().standing.generation.number, 2);
    }
}

/// One that is off hears of it when it is back. It is not promoted meanwhile, unless somebody gives up what the other one has.
#[test]
fn r03_a_node_that_was_off_hears_that_the_pair_is_severed() {
    let mut nodes = in_sync();
    nodes.iter_mut().for_each(|node| node.pair.down());
    nodes[0].pair.gave_up();
    assert_eq!(nodes[0].pair.sever(NOW), Ok(()));
    go_on(&mut nodes, 2 * T);
    assert_eq!(nodes[0].pair.next_outcome(), Some(Ok(())));
    assert_eq!(nodes[1].pair.content().severed, None);
    nodes[1] = nodes[1].restarted();
    meet(&mut nodes, 3 * T);
    assert_eq!(states(&nodes), ["severed", "severed"]);
    assert_eq!(nodes[1].pair.content().severed, Some(NOW));
    nodes[1] = nodes[1].restarted();
    assert_eq!(nodes[1].pair.promote(false), Err(Unwilling::SeveredThere));
    assert_eq!(nodes[1].pair.reestablish(), Err(Unwilling::SeveredThere));
    assert_eq!(nodes[1].pair.promote(true), Ok(()));
    go_on(&mut nodes, 4 * T);
    assert_eq!(modes(&nodes), [Mode::Alone; 2]);
    // What was severed has changed nothing since: the one that was promoted is right, and no operator severed that.
    nodes[1].pair.shared().mark(&(0..GRANULE));
    meet(&mut nodes, 5 * T);
    assert_eq!(states(&nodes), ["destination_in_sync", "source_in_sync"]);
    assert!(
        nodes
            .iter()
            .all(|node| node.pair.content().severed.is_none())
    );
}

/// An operator severs the pair while it is being stored that the source goes on alone: that this is by his word is stable when he hears so.
#[test]
fn r03_a_pair_is_severed_while_the_source_becomes_alone() {
    let mut nodes = in_sync();
    nodes[0].stores_nothing = true;
    nodes.iter_mut().for_each(|node| node.pair.down());
    nodes[0].pair.gave_up();
    go_on(&mut nodes, 2 * T);
    assert_eq!(nodes[0].pair.sever(NOW), Ok(()));
    nodes[0].stores_nothing = false;
    for turn in 0..4000 {
        let turn = Duration::from_millis(turn);
        go_on_with(&mut nodes, &mut Arbiter::reached(), 3 * T + turn, 1);
        if let Some(outcome) = nodes[0].pair.next_outcome() {
            assert_eq!(outcome, Ok(()));
            let stable = nodes[0].restarted();
            assert_eq!(stable.pair.content().severed, Some(NOW));
            return;
        }
    }
    panic!("nothing comes of it");
}

/// A source that is alone already is severed where it is; and split brain is said, whoever severed what.
#[test]
fn r03_a_source_that_is_alone_is_severed_too() {
    let mut nodes = in_sync();
    nodes.iter_mut().for_each(|node| node.pair.down());
    nodes[0].pair.gave_up();
    go_on(&mut nodes, 2 * T);
    let generation = nodes[0].pair.content().standing.generation;
    assert_eq!(nodes[0].pair.sever(NOW), Ok(()));
    assert_eq!(nodes[0].pair.sever(NOW), Err(Unwilling::Busy));
    go_on(&mut nodes, 3 * T);
    assert_eq!(nodes[0].pair.next_outcome(), Some(Ok(())));
    assert_eq!(nodes[0].pair.content().standing.generation, generation);
    assert_eq!(nodes[0].pair.sever(NOW), Err(Unwilling::Severed));
    assert_eq!(nodes[1].pair.promote(false), Ok(()));
    go_on(&mut nodes, 4 * T);
    for node in &nodes {
        node.pair.shared().mark(&(0..GRANULE));
    }
    meet(&mut nodes, 5 * T);
    assert_eq!(states(&nodes), ["refused", "refused"]);
    let refused = nodes[0].pair.reestablish().unwrap_err().to_string();
    assert!(refused.contains("split brain"), "{refused}");
}

#[test]
fn r03_what_cannot_be_severed_is_said() {
    let mut nodes = [source(), destination(LEN)];
    assert_eq!(nodes[0].pair.sever(NOW), Err(Unwilling::NeverMet));
    assert_eq!(nodes[1].pair.sever(NOW), Err(Unwilling::NotSource));
    meet(&mut nodes, T);
    assert_eq!(nodes[1].pair.sever(NOW), Err(Unwilling::NotSource));
    assert_eq!(nodes[0].pair.reestablish(), Err(Unwilling::NotSevered));
    nodes[0] = nodes[0].restarted();
    assert_eq!(nodes[0].pair.sever(NOW), Err(Unwilling::NotServing));
    // It hands the volume over just now: whoever asked is told that it is the source no more, or to ask again.
    meet(&mut nodes, 2 * T);
    assert_eq!(nodes[0].pair.demote(), Ok(()));
    assert_eq!(nodes[0].pair.sever(NOW), Ok(()));
    go_on_with(&mut nodes, &mut Arbiter::default(), 3 * T, 9_000);
    assert_eq!(nodes[0].pair.next_outcome(), Some(Err(Unwilling::Late)));
    assert_eq!(states(&nodes), ["destination_in_sync", "source_in_sync"]);
    nodes[1].pair.stop();
    assert_eq!(nodes[1].pair.sever(NOW), Err(Unwilling::Stops));
}

/// The arbiter takes note first; without it nothing changes, and hosts are served as before.
#[test]
fn r03_a_pair_is_severed_with_the_arbiters_knowledge_or_not_at_all() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    arbiter.is_reached = [false; 2];
    assert_eq!(nodes[0].pair.sever(NOW), Ok(()));
    go_on_with(&mut nodes, &mut arbiter, 2 * T, 400);
    let refused = nodes[0].pair.next_outcome().expect("it has ended");
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("arbiter does not answer"), "{refused}");
    assert_eq!(states(&nodes), ["source_in_sync", "destination_in_sync"]);
    assert_eq!(nodes[0].mode(), Mode::Forward);
    assert_eq!(nodes[0].pair.content().severed, None);
    arbiter.is_reached = [true; 2];
    assert_eq!(nodes[0].pair.sever(NOW), Ok(()));
    go_on_with(&mut nodes, &mut arbiter, 3 * T, 1500);
    assert_eq!(nodes[0].pair.next_outcome(), Some(Ok(())));
    assert_eq!(states(&nodes), ["severed", "severed"]);
    let entry = arbiter.entry.expect("it was told");
    let standing = &nodes[0].pair.content().standing;
    assert_eq!(
        (entry.source, entry.generation, entry.is_alone),
        (standing.replica, standing.generation, true)
    );
    // The source dies: what the other one has is out of date, which both it and the arbiter know.
    nodes[1].pair.down();
    nodes[1].pair.gave_up();
    arbiter.lives[0] = false;
    let mut nodes = nodes;
    nodes[0] = nodes[0].restarted();
    nodes[1] = nodes[1].restarted();
    nodes[1].pair.set_arbiter(PROMISE);
    go_on_with(&mut nodes, &mut arbiter, 30 * T, 8_000);
    assert_eq!(nodes[1].mode(), Mode::Suspended);
}

/// It was alone by an operator's word, and the arbiter was away: it is told when it is back, though the nodes hear each other.
#[test]
fn r03_the_arbiter_hears_of_a_pair_that_was_severed_without_it() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    arbiter.is_reached = [false; 2];
    for node in &mut nodes {
        node.pair.down();
        node.pair.gave_up();
    }
    go_on_with(&mut nodes, &mut arbiter, 20 * T, 4_000);
    assert_eq!(nodes[0].mode(), Mode::Suspended);
    assert_eq!(nodes[0].pair.promote(true), Ok(()));
    go_on_with(&mut nodes, &mut arbiter, 30 * T, 400);
    assert_eq!(nodes[0].pair.sever(NOW), Ok(()));
    go_on_with(&mut nodes, &mut arbiter, 31 * T, 400);
    assert_eq!(nodes[0].pair.next_outcome(), Some(Ok(())));
    nodes.iter_mut().for_each(|node| node.pair.up(true));
    go_on_with(&mut nodes, &mut arbiter, 32 * T, 400);
    assert_eq!(states(&nodes), ["severed", "severed"]);
    assert!(arbiter.entry.is_some_and(|entry| !entry.is_alone));
    arbiter.is_reached = [true; 2];
    go_on_with(&mut nodes, &mut arbiter, 33 * T, 8_000);
    assert!(arbiter.entry.is_some_and(|entry| entry.is_alone));
}

#[test]
fn r04_what_an_operator_severed_lies_as_is_documented() {
    let nodes = severed();
    let bytes = &nodes[0].stored;
    assert_eq!(bytes[514], 1);
    assert_eq!(bytes[544..552], NOW.to_le_bytes());
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Content::decode(&bytes, LEN)
    };
    assert_eq!(changed(514, 2), Err(BadContent::Version(2)));
    for (at, byte) in [(514, 0), (515, 1), (552, 1), (639, 1)] {
        let refused = changed(at, byte);
        let is_field = matches!(refused, Err(BadContent::Field(_)));
        assert!(is_field, "byte {at}: {refused:?}");
    }
    let content = nodes[0].pair.content();
    assert_eq!(content.role, Role::Source);
    assert_eq!(
        Content::decode(bytes, LEN).unwrap().0.severed,
        content.severed
    );
}

/// Both went on alone, and each has what the other one has not.
fn split_brain() -> [Node; 2] {
    let mut nodes = in_sync();
    nodes.iter_mut().for_each(|node| node.pair.down());
    nodes[0].pair.gave_up();
    assert_eq!(nodes[1].pair.promote(false), Ok(()));
    go_on(&mut nodes, 2 * T);
    for (at, node) in nodes.iter().enumerate() {
        let at = at as u64;
        (node.pair.shared()).mark(&(at * GRANULE..(at + 1) * GRANULE));
    }
    meet(&mut nodes, 3 * T);
    assert_eq!(states(&nodes), ["refused", "refused"]);
    nodes
}

#[test]
fn r03_after_split_brain_one_gives_up_what_it_has_and_is_copied_to() {
    let mut nodes = split_brain();
    let before = nodes[0].pair.content().standing.replica;
    assert_eq!(nodes[0].pair.discard(false), Ok(()));
    assert_eq!(nodes[0].mode(), Mode::Alone, "the other one is asked first");
    go_on(&mut nodes, 4 * T);
    assert_eq!(nodes[0].pair.next_outcome(), Some(Ok(())));
    assert_eq!(states(&nodes), ["destination_in_sync", "source_in_sync"]);
    assert_eq!(nodes[1].copied.len() as u64, LEN / GRANULE, "all of it");
    assert!(nodes[0].has_told(AlertEvent::Discarded));
    let after = nodes[0].pair.content().standing.replica;
    assert_ne!(before, after, "it is another replica");
    assert_eq!(modes(&nodes), [Mode::Suspended, Mode::Forward]);
}

/// Two operators, at once: the volume is not given up by both. One of the two is asked first, and refuses.
#[test]
fn r03_both_nodes_do_not_give_up_what_they_have() {
    let mut nodes = split_brain();
    for node in &mut nodes {
        assert_eq!(node.pair.discard(false), Ok(()));
    }
    go_on(&mut nodes, 4 * T);
    let outcomes = nodes.each_mut().map(|node| node.pair.next_outcome());
    let refused: Vec<String> = (outcomes.into_iter())
        .filter_map(|outcome| outcome.expect("it has ended").err())
        .map(|why| why.to_string())
        .collect();
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].contains("about to give up what it has, too"),
        "{refused:?}"
    );
    assert!(nodes.iter().all(|node| node.pair.is_in_sync()));
    let serving = modes(&nodes)
        .iter()
        .filter(|mode| **mode == Mode::Forward)
        .count();
    assert_eq!(serving, 1);
}

/// It asked, and restarts before it has given up anything: nothing is agreed on.
#[test]
fn r03_a_node_that_was_let_and_is_gone_leaves_nothing_behind() {
    let mut nodes = split_brain();
    let stored = nodes[0].stored.clone();
    assert_eq!(nodes[0].pair.discard(false), Ok(()));
    go_on_with(&mut nodes, &mut Arbiter::default(), 4 * T, 1);
    nodes[0].stored = stored;
    nodes[0] = nodes[0].restarted();
    nodes[0].pair.shared().mark(&(0..GRANULE));
    meet(&mut nodes, 5 * T);
    assert_eq!(states(&nodes), ["refused", "refused"]);
    assert_eq!(nodes[1].pair.discard(false), Ok(()));
    go_on(&mut nodes, 6 * T);
    assert_eq!(nodes[1].pair.next_outcome(), Some(Ok(())));
    assert_eq!(states(&nodes), ["source_in_sync", "destination_in_sync"]);
}

#[test]
fn r03_what_may_be_all_that_there_is_is_not_given_up_without_force() {
    let mut nodes = in_sync();
    assert_eq!(nodes[0].pair.discard(false), Err(Unwilling::IsSource));
    // The other one has everything, and may be overwritten with it.
    assert_eq!(nodes[1].pair.discard(false), Ok(()));
    go_on(&mut nodes, 2 * T);
    assert_eq!(nodes[1].pair.next_outcome(), Some(Ok(())));
    assert_eq!(states(&nodes), ["source_in_sync", "destination_in_sync"]);
    nodes.iter_mut().for_each(|node| node.pair.down());
    nodes[0].pair.gave_up();
    go_on(&mut nodes, 3 * T);
    for node in &mut nodes {
        assert_eq!(node.pair.discard(false), Err(Unwilling::OtherIsNoSource));
    }
    // By force: there is nothing left then, and nobody serves.
    assert_eq!(nodes[0].pair.discard(true), Ok(()));
    go_on(&mut nodes, 4 * T);
    assert_eq!(nodes[0].pair.next_outcome(), Some(Ok(())));
    assert_eq!(nodes[0].mode(), Mode::Suspended);
    assert_eq!(nodes[0].pair.promote(true), Err(Unwilling::NotWhole));
    nodes[0] = nodes[0].restarted();
    meet(&mut nodes, 5 * T);
    assert_eq!(states(&nodes), ["sourceless", "sourceless"]);
    nodes.iter_mut().for_each(|node| node.pair.down());
    assert_eq!(nodes[1].pair.promote(false), Ok(()));
    meet(&mut nodes, 6 * T);
    assert_eq!(states(&nodes), ["destination_in_sync", "source_in_sync"]);
}

/// It was to hand the volume over to one that has given up what it had meanwhile: it stays the source.
#[test]
fn r03_a_source_that_yields_to_one_without_data_stays_the_source() {
    let mut nodes = in_sync();
    nodes.iter_mut().for_each(|node| node.pair.down());
    let mut content = nodes[0].pair.content().clone();
    content.role = Role::Yielding;
    nodes[0].stored = content.encode(LEN);
    nodes[0] = nodes[0].restarted();
    assert_eq!(nodes[1].pair.discard(true), Ok(()));
    go_on(&mut nodes, 2 * T);
    meet(&mut nodes, 3 * T);
    assert_eq!(states(&nodes), ["source_in_sync", "destination_in_sync"]);
}

/// Both tell each other what they know, whatever they have in common, and no host notices.
#[test]
fn r03_tables_of_both_nodes_are_compared() {
    let mut nodes = in_sync();
    let wrong = |node: &mut Node| -> Vec<String> {
        let lines = node
            .pair
            .take_tables()
            .expect("they were asked for")
            .lines();
        let wrong = lines.into_iter().filter(|line| !line.is_right);
        wrong.map(|line| line.to_string()).collect()
    };
    for at in [0, 1] {
        assert_eq!(nodes[at].pair.update_tables(), Ok(()));
        go_on(&mut nodes, 2 * T);
        assert_eq!(nodes[at].pair.next_outcome(), Some(Ok(())));
        assert_eq!(wrong(&mut nodes[at]), [""; 0]);
        assert_eq!(states(&nodes), ["source_in_sync", "destination_in_sync"]);
        assert_eq!(modes(&nodes), [Mode::Forward, Mode::Suspended]);
    }
    let mut nodes = split_brain();
    assert_eq!(nodes[1].pair.update_tables(), Ok(()));
    go_on(&mut nodes, 4 * T);
    let told = wrong(&mut nodes[1]);
    assert!(
        told.contains(&"role: source here, source there".into()),
        "{told:?}"
    );
    assert!(told.contains(&"granules changed alone: 1 here, 1 there".into()));
    let mut nodes = [source(), destination(LEN + GRANULE)];
    meet(&mut nodes, T);
    nodes.iter_mut().for_each(|node| node.pair.up(true));
    assert_eq!(nodes[0].pair.update_tables(), Ok(()));
    go_on(&mut nodes, 2 * T);
    let told = wrong(&mut nodes[0]);
    let bytes = format!("bytes: {LEN} here, {} there", LEN + GRANULE);
    assert!(told.contains(&bytes), "{told:?}");
    nodes[0].pair.down();
    assert_eq!(nodes[0].pair.update_tables(), Err(Unwilling::NotHeard));
}

/// Neither node is sent longer frames than it takes, and what an operator says counts on both at once.
#[test]
fn r03_frames_are_as_long_as_both_nodes_take_them() {
    let mut nodes = in_sync();
    let frames: [std::sync::Arc<mirror::FrameSize>; 2] = Default::default();
    for (node, frame) in nodes.iter_mut().zip(&frames) {
        node.pair.set_frames(frame);
    }
    let bytes = || frames.each_ref().map(|frame| frame.bytes());
    assert_eq!(bytes(), [4 << 20; 2]);
    assert_eq!(nodes[0].pair.set_frame_size(8192), Ok(()));
    assert_eq!(frames[0].bytes(), 8192, "at once");
    go_on(&mut nodes, 2 * T);
    assert_eq!(bytes(), [8192; 2]);
    assert_eq!(states(&nodes), ["source_in_sync", "destination_in_sync"]);
    let refused = nodes[1].pair.set_frame_size(16384);
    assert_eq!(refused, Err(Unwilling::FrameTooLong(8192)));
    assert_eq!(nodes[1].pair.set_frame_size(4096), Ok(()));
    go_on(&mut nodes, 3 * T);
    assert_eq!(bytes(), [4096; 2]);
    // It is told at the next contact, too: in claims.
    nodes[1] = nodes[1].restarted();
    nodes[1].pair.set_frames(&frames[1]);
    nodes[0]
        .pair
        .set_frames(&std::sync::Arc::new(mirror::FrameSize::new(65536)));
    meet(&mut nodes, 4 * T);
    assert_eq!(frames[1].both(), [4096, 65536]);
}

/// Neither node has data, and nobody serves hosts; what an operator says on one is asked of the other one first.
fn unestablished() -> [Node; 2] {
    let blank = |at: usize| Content {
        standing: Standing::blank(replica(at)),
        role: Role::Destination,
        peer: None,
        severed: None,
    };
    let mut nodes = [0, 1].map(|at| node(blank(at), LEN, 0));
    meet(&mut nodes, T);
    nodes
}

#[test]
fn r03_a_pair_is_established_at_the_node_that_an_operator_says() {
    let mut nodes = unestablished();
    assert_eq!(states(&nodes), ["refused", "refused"]);
    assert_eq!(modes(&nodes), [Mode::Suspended; 2]);
    let told = nodes[0].pair.describe();
    assert!(told.contains("throughline pair establish"), "{told}");
    assert_eq!(nodes[0].pair.promote(false), Err(Unwilling::NotWhole));
    assert_eq!(nodes[1].pair.establish(), Ok(()));
    go_on(&mut nodes, 2 * T);
    assert_eq!(nodes[1].pair.next_outcome(), Some(Ok(())));
    assert_eq!(states(&nodes), ["destination_in_sync", "source_in_sync"]);
    assert_eq!(nodes[1].copied.len() as u64, LEN / GRANULE, "all of it");
    assert_eq!(
        nodes[1].told(),
        [
            AlertEvent::NotAlike,
            AlertEvent::Established,
            AlertEvent::InSync
        ]
    );
    for at in [0, 1] {
        assert_eq!(nodes[at].pair.establish(), Err(Unwilling::HasData));
        nodes[at] = nodes[at].restarted();
    }
    meet(&mut nodes, 3 * T);
    assert_eq!(states(&nodes), ["destination_in_sync", "source_in_sync"]);
}

/// Of two that are told to at once neither overwrites the other one, whatever is lost between them.
#[test]
fn r03_both_nodes_do_not_establish_what_they_have() {
    let mut nodes = unestablished();
    for node in &mut nodes {
        assert_eq!(node.pair.establish(), Ok(()));
    }
    go_on(&mut nodes, 2 * T);
    let outcomes = nodes.each_mut().map(|node| node.pair.next_outcome());
    let done = outcomes.iter().filter(|it| matches!(it, Some(Ok(()))));
    assert!(done.count() < 2, "{outcomes:?}");
    let refused = outcomes.iter().flatten().find_map(|it| it.clone().err());
    let refused = refused.expect("one is refused").to_string();
    assert!(refused.contains("say so on one of them"), "{refused}");
}

/// Nothing that the other node has is overwritten by what an operator says here.
#[test]
fn r03_what_cannot_be_established_is_said() {
    let mut nodes = unestablished();
    nodes.iter_mut().for_each(|node| node.pair.down());
    assert_eq!(nodes[0].pair.establish(), Err(Unwilling::NotHeard));
    let mut nodes = [source(), destination(LEN)];
    assert_eq!(nodes[0].pair.establish(), Err(Unwilling::HasData));
    assert_eq!(nodes[1].pair.establish(), Err(Unwilling::NotHeard));
    // The other one has data that are not copied as long as an operator says so.
    let mut nodes = severed();
    nodes[1] = destination(LEN);
    meet(&mut nodes, 3 * T);
    assert_eq!(nodes[1].pair.establish(), Err(Unwilling::OtherHasData));
    // It is asked, and has data by the time that it hears it.
    let mut nodes = unestablished();
    assert_eq!(nodes[0].pair.establish(), Ok(()));
    nodes[1] = source();
    meet(&mut nodes, 3 * T);
    go_on_with(&mut nodes, &mut Arbiter::default(), 4 * T, 9_000);
    let outcome = nodes[0].pair.next_outcome();
    assert!(matches!(outcome, Some(Err(_))), "{outcome:?}");
    assert_eq!(nodes[0].pair.content().role, Role::Destination);
}

/// The other one has become another replica, and is lost before it was copied to: the source goes on alone, and knows that after a restart.
#[test]
fn r03_a_source_that_loses_one_that_gave_up_serves_after_a_restart() {
    for turns in 1..30 {
        let mut nodes = in_sync();
        assert_eq!(nodes[1].pair.discard(false), Ok(()));
        go_on_with(&mut nodes, &mut Arbiter::default(), 2 * T, turns);
        part(&mut nodes);
        go_on(&mut nodes, 3 * T);
        assert_eq!(nodes[0].mode(), Mode::Alone, "after {turns}");
        let restarted = nodes[0].restarted();
        assert_eq!(restarted.mode(), Mode::Alone, "after {turns}");
    }
}
