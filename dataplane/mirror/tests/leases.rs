//! Which node serves when the two do not hear each other, by an arbiter (row S8).

#[path = "common/nodes.rs"]
mod nodes;

use std::time::Duration;

use mirror::{AlertEvent, Entry, GRANULE, Mode, Role, Unwilling};

use nodes::*;

const T1: Duration = Duration::from_secs(1);
/// Everybody is patient no more.
const LATE: Duration = Duration::from_secs(20);

fn entry(node: &Node, is_alone: bool) -> Option<Entry> {
    Some(Entry {
        source: node.pair.content().standing.replica,
        generation: node.pair.content().standing.generation,
        is_alone,
    })
}

#[test]
fn s08_a_pair_in_sync_tells_the_arbiter_and_one_that_never_was_does_not() {
    let mut arbiter = Arbiter::reached();
    let nodes = in_sync_with(&mut arbiter);
    assert_eq!(arbiter.entry, entry(&nodes[0], false));
    let mut arbiter = Arbiter::reached();
    let mut nodes = [source(), destination(LEN)];
    (nodes.iter_mut()).for_each(|node| node.pair.set_arbiter(PROMISE));
    go_on_with(&mut nodes, &mut arbiter, LATE, 2000);
    assert_eq!(arbiter.entry, None);
    assert_eq!(nodes[0].mode(), Mode::Suspended, "it has met nobody");
    assert_eq!(nodes[0].pair.promote(true), Ok(()));
    go_on_with(&mut nodes, &mut arbiter, LATE * 2, 2000);
    assert_eq!((arbiter.entry, nodes[0].mode()), (None, Mode::Alone));
}

/// Of two that lost each other, and both reach the arbiter, the source goes on.
#[test]
fn s08_a_source_goes_on_alone_when_the_arbiter_knows() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    part(&mut nodes);
    go_on_with(&mut nodes, &mut arbiter, LATE, 8000);
    let modes = [nodes[0].mode(), nodes[1].mode()];
    assert_eq!(modes, [Mode::Alone, Mode::Suspended]);
    assert_eq!(arbiter.entry, entry(&nodes[0], true));
    assert_eq!(nodes[1].pair.promote(false), Err(Unwilling::OtherWentOn));
}

/// The source is gone, and its lease: the destination takes over, and no sooner.
#[test]
fn s08_a_destination_takes_over_when_the_sources_lease_is_over() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    part(&mut nodes);
    arbiter.is_reached[0] = false;
    go_on_with(&mut nodes, &mut arbiter, LATE, 3000);
    assert_eq!(nodes[1].mode(), Mode::Suspended, "its key is there");
    assert_eq!(nodes[1].pair.promote(false), Err(Unwilling::OtherLives));
    let now = LATE + 3 * T1;
    assert!(!nodes[0].pair.shared().serves(now), "it has no lease");
    assert_eq!(nodes[0].mode(), Mode::Suspended);
    arbiter.lives[0] = false;
    go_on_with(&mut nodes, &mut arbiter, now, 3000);
    let modes = [nodes[0].mode(), nodes[1].mode()];
    assert_eq!(modes, [Mode::Suspended, Mode::Alone]);
    assert_eq!(arbiter.entry, entry(&nodes[1], true));
    // The old source hears of it from whichever it reaches first.
    arbiter.is_reached[0] = true;
    go_on_with(&mut nodes, &mut arbiter, now + 4 * T1, 8000);
    assert_eq!(nodes[0].mode(), Mode::Suspended);
    (nodes.iter_mut()).for_each(|node| node.pair.up(true));
    go_on_with(&mut nodes, &mut arbiter, now + 13 * T1, 1000);
    assert_eq!(nodes[1].mode(), Mode::Forward);
    assert_eq!(nodes[0].pair.content().role, Role::Destination);
    assert_eq!(arbiter.entry, entry(&nodes[1], false));
}

/// The arbiter is away: while the nodes hear each other hosts are served, and then nobody is, until they do again.
#[test]
fn s08_without_the_arbiter_hosts_are_served_while_the_nodes_hear_each_other() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    arbiter.is_reached = [false; 2];
    go_on_with(&mut nodes, &mut arbiter, LATE, 10_000);
    let now = LATE + 10 * T1;
    assert!(nodes[0].pair.shared().serves(now));
    assert!(
        !nodes[0].pair.shared().serves(now + PROMISE),
        "for no longer than the other one has promised"
    );
    part(&mut nodes);
    go_on_with(&mut nodes, &mut arbiter, now, 8000);
    assert!(nodes.iter().all(|node| node.mode() == Mode::Suspended));
    assert!(nodes[0].has_told(AlertEvent::NotServed));
    // An operator may say so, who knows that the other one is off.
    assert_eq!(nodes[1].pair.promote(false), Ok(()));
    go_on_with(&mut nodes, &mut arbiter, now + 9 * T1, 400);
    assert_eq!(nodes[1].mode(), Mode::Alone);
}

/// What the arbiter did and never answered is seen at the next look.
#[test]
fn s08_an_answer_that_is_lost_is_asked_for_again() {
    for node in 0..2 {
        let mut arbiter = Arbiter::reached();
        let mut nodes = in_sync_with(&mut arbiter);
        part(&mut nodes);
        arbiter.lives[1 - node] = false;
        arbiter.is_reached[1 - node] = false;
        let before = arbiter.revision;
        let mut now = LATE;
        // It hears what there is, and not that it was changed.
        while arbiter.revision == before {
            go_on_with(&mut nodes, &mut arbiter, now, 1);
            now += Duration::from_millis(1);
        }
        let made = arbiter.entry;
        nodes[node] = nodes[node].restarted();
        nodes[node].pair.set_arbiter(PROMISE);
        go_on_with(&mut nodes, &mut arbiter, now, 12_000);
        assert_eq!(nodes[node].mode(), Mode::Alone, "node {node}");
        assert_eq!(arbiter.entry, entry(&nodes[node], true));
        assert_ne!(arbiter.entry, made);
    }
}

/// A change that the source asked for and heard nothing of may be made later, when the nodes have met: nobody says that the other one may
/// take over before it cannot.
#[test]
fn s08_a_note_that_comes_late_keeps_nobody_from_taking_over() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    part(&mut nodes);
    arbiter.delays = true;
    go_on_with(&mut nodes, &mut arbiter, LATE, 8000);
    assert!(arbiter.late.contains(&arbiter.revision));
    (nodes.iter_mut()).for_each(|node| node.pair.up(true));
    arbiter.is_reached[0] = false;
    go_on_with(&mut nodes, &mut arbiter, LATE + Duration::from_secs(8), 400);
    assert!(nodes[0].pair.is_in_sync());
    (arbiter.is_reached[0], arbiter.delays) = (true, false);
    for turn in 0..2000 {
        let now = LATE + LATE + Duration::from_millis(turn);
        go_on_with(&mut nodes, &mut arbiter, now, 1);
        let may_come = arbiter.late.contains(&arbiter.revision);
        assert!(!may_come || nodes[0].pair.may_be_taken_over() == Some(false));
    }
    assert_eq!(nodes[0].pair.may_be_taken_over(), Some(true));
}

/// So may one that it still waits for, if the nodes meet without having lost their link.
#[test]
fn s08_a_note_that_is_under_way_keeps_nobody_from_taking_over() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    // The other one does not run for a while, until the lease is over.
    nodes[0].pair.shared().breaks();
    (arbiter.delays, arbiter.is_late[0]) = (true, true);
    for turn in 0..8000 {
        goes_on(
            &mut nodes,
            0,
            &mut arbiter,
            2 * T1 + Duration::from_millis(turn),
        );
        // What was only looked for comes.
        if arbiter.late.is_empty()
            && let Some((node, token, answer)) = arbiter.held.pop()
        {
            nodes[node].pair.arbitrated(token, answer);
        }
    }
    assert_eq!(nodes[0].mode(), Mode::Suspended);
    assert_eq!(arbiter.late, [arbiter.revision]);
    for turn in 0..2000 {
        if turn == 400 {
            assert!(nodes[0].pair.is_in_sync());
            (arbiter.delays, arbiter.is_late) = (false, [false; 2]);
            for (node, token, answer) in std::mem::take(&mut arbiter.held) {
                nodes[node].pair.arbitrated(token, answer);
            }
        }
        go_on_with(
            &mut nodes,
            &mut arbiter,
            LATE + Duration::from_millis(turn),
            1,
        );
        let may_come = arbiter.late.contains(&arbiter.revision);
        assert!(!may_come || nodes[0].pair.may_be_taken_over() == Some(false));
    }
    assert_eq!(nodes[0].pair.may_be_taken_over(), Some(true));
}

/// A node that did not run for a while has another lease before it looks at the one that it had: the other one may have
/// taken over in between.
#[test]
fn s08_a_lease_that_was_over_does_not_count_again() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    assert_eq!(nodes[0].mode(), Mode::Forward);
    let now = LATE + LATE;
    nodes[0].pair.leased(now + PROMISE, now);
    arbiter.is_reached = [false; 2];
    go_on_with(&mut nodes, &mut arbiter, now, 1);
    assert_eq!(nodes[0].mode(), Mode::Suspended);
    // One that follows another is another matter.
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    let now = T1 + Duration::from_millis(400);
    nodes[0].pair.leased(now + PROMISE, now);
    go_on_with(&mut nodes, &mut arbiter, now, 1);
    assert_eq!(nodes[0].mode(), Mode::Forward);
}

/// What the arbiter says late, of before the nodes met again, counts no more: the source serves meanwhile.
#[test]
fn s08_leave_to_take_over_that_comes_after_the_nodes_have_met_is_none() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    part(&mut nodes);
    (arbiter.lives[0], arbiter.is_reached[0]) = (false, false);
    go_on_with(&mut nodes, &mut arbiter, LATE, 1);
    let before = arbiter.revision;
    arbiter.is_late[1] = true;
    let mut now = LATE;
    while arbiter.revision == before {
        now += Duration::from_millis(1);
        go_on_with(&mut nodes, &mut arbiter, now, 1);
        // What it only looked for comes.
        let looked = arbiter.held.pop_if(|_| arbiter.revision == before);
        if let Some((node, token, answer)) = looked {
            nodes[node].pair.arbitrated(token, answer);
        }
    }
    assert_eq!(arbiter.entry.map(|entry| entry.is_alone), Some(true));
    nodes[0] = nodes[0].restarted();
    nodes[0].pair.set_arbiter(PROMISE);
    (arbiter.lives[0], arbiter.is_reached[0]) = (true, true);
    (nodes.iter_mut()).for_each(|node| node.pair.up(true));
    go_on_with(&mut nodes, &mut arbiter, now + T1, 2000);
    assert_eq!(nodes[0].mode(), Mode::Forward);
    assert_eq!(arbiter.entry, entry(&nodes[0], false));
    arbiter.is_late[1] = false;
    for (node, token, answer) in std::mem::take(&mut arbiter.held) {
        nodes[node].pair.arbitrated(token, answer);
    }
    for turn in 0..1000 {
        let now = now + 4 * T1 + Duration::from_millis(turn);
        go_on_with(&mut nodes, &mut arbiter, now, 1);
        assert_eq!(
            [nodes[0].mode(), nodes[1].mode()],
            [Mode::Forward, Mode::Suspended]
        );
    }
}

/// What a node asked for as a source may be done when the other one is it again: in that generation neither answered alone.
#[test]
fn s08_a_destination_that_the_arbiter_still_calls_the_source_takes_over() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    part(&mut nodes);
    arbiter.entry = entry(&nodes[1], false);
    arbiter.revision += 1;
    (arbiter.lives[0], arbiter.is_reached[0]) = (false, false);
    go_on_with(&mut nodes, &mut arbiter, LATE, 8000);
    assert_eq!(nodes[1].mode(), Mode::Alone);
    assert_eq!(nodes[0].mode(), Mode::Suspended);
    assert_eq!(arbiter.entry, entry(&nodes[1], true));
}

/// A node that lacks what hosts were told is there never takes over.
#[test]
fn s08_nobody_takes_over_from_a_source_that_went_on_alone() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    part(&mut nodes);
    go_on_with(&mut nodes, &mut arbiter, LATE, 3000);
    nodes[0].pair.shared().mark(&(0..GRANULE));
    arbiter.lives[0] = false;
    go_on_with(&mut nodes, &mut arbiter, LATE + 3 * T1, 20_000);
    assert_eq!(nodes[1].mode(), Mode::Suspended);
    nodes[1] = nodes[1].restarted();
    nodes[1].pair.set_arbiter(PROMISE);
    go_on_with(&mut nodes, &mut arbiter, LATE + 30 * T1, 20_000);
    assert_eq!(nodes[1].mode(), Mode::Suspended);
    // By an operator, who knows that those are lost.
    assert_eq!(nodes[1].pair.promote(true), Ok(()));
    go_on_with(&mut nodes, &mut arbiter, LATE + 51 * T1, 400);
    assert_eq!(nodes[1].mode(), Mode::Alone);
}
