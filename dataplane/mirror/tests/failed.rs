//! A source whose log has failed hands over by itself (rows R6, S8).

#[path = "common/nodes.rs"]
mod nodes;

use std::time::Duration;

use mirror::{AlertEvent, Mode, Role, Unwilling};

use nodes::*;

const T1: Duration = Duration::from_secs(1);

/// The other one serves soon; the one that failed serves nobody in this run, and is copied to when it begins again.
#[test]
fn s08_a_source_whose_log_fails_hands_over() {
    let mut nodes = in_sync();
    nodes[0].pair.shared().log_failed();
    let stored = nodes[0].stored.clone();
    go_on(&mut nodes, 2 * T1);
    assert_eq!(modes(&nodes), [Mode::Suspended, Mode::Alone]);
    assert!(nodes[0].has_told(AlertEvent::HandsOver));
    assert!(nodes[1].has_told(AlertEvent::TakesOver));
    assert_eq!(nodes[0].pair.promote(true), Err(Unwilling::LogFailed));
    assert_eq!(nodes[0].stored, stored, "nothing can be written there");
    nodes[0] = nodes[0].restarted();
    meet(&mut nodes, 3 * T1);
    assert_eq!(modes(&nodes), [Mode::Suspended, Mode::Forward]);
    assert!(nodes.iter().all(|node| node.pair.is_in_sync()));
    assert_eq!(nodes[0].pair.content().role, Role::Destination);
}

/// One that does not hear the other one goes on as it is, and hands over when they meet.
#[test]
fn s08_a_source_whose_log_fails_hands_over_to_one_that_has_the_same_alone() {
    let mut nodes = in_sync();
    nodes.iter_mut().for_each(|node| node.pair.down());
    nodes[0].pair.shared().log_failed();
    go_on(&mut nodes, 2 * T1);
    assert_eq!(modes(&nodes), [Mode::Forward, Mode::Suspended]);
    meet(&mut nodes, 3 * T1);
    assert_eq!(modes(&nodes), [Mode::Suspended, Mode::Alone]);
    // One that went on alone has what the other one lacks.
    let mut nodes = in_sync();
    assert_eq!(nodes[0].pair.sever(7), Ok(()));
    go_on(&mut nodes, 2 * T1);
    nodes[0].pair.shared().log_failed();
    go_on(&mut nodes, 3 * T1);
    assert_eq!(modes(&nodes), [Mode::Alone, Mode::Suspended]);
}

/// With an arbiter, as soon as that has taken note, though the node's key is there; and not at all if it does not.
#[test]
fn s08_a_source_whose_log_fails_hands_over_with_the_arbiters_knowledge() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    nodes[0].pair.shared().log_failed();
    arbiter.is_reached = [false; 2];
    go_on_with(&mut nodes, &mut arbiter, 2 * T1, 5000);
    assert_eq!(modes(&nodes), [Mode::Suspended; 2]);
    arbiter.is_reached = [true; 2];
    go_on_with(&mut nodes, &mut arbiter, 7 * T1, 1500);
    assert_eq!(modes(&nodes), [Mode::Suspended, Mode::Alone]);
    let entry = arbiter.entry.expect("it knows the volume");
    assert_eq!((entry.source, entry.is_alone), (replica(1), true));
}

/// Another run of the one that failed, which can serve, is not taken for the one before.
#[test]
fn s08_a_source_that_failed_and_began_again_may_stay_the_source() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    nodes[0].pair.shared().log_failed();
    arbiter.is_reached = [false; 2];
    go_on_with(&mut nodes, &mut arbiter, 2 * T1, 400);
    assert_eq!(nodes[1].pair.state(), "taking_over");
    nodes[0] = nodes[0].restarted();
    nodes[0].pair.set_arbiter(PROMISE);
    (nodes.iter_mut()).for_each(|node| node.pair.up(true));
    arbiter.is_reached = [true; 2];
    go_on_with(&mut nodes, &mut arbiter, 3 * T1, 3000);
    assert_eq!(modes(&nodes), [Mode::Forward, Mode::Suspended]);
}

/// A destination that hears the source, and can store nothing, keeps hosts waiting for a while and no longer.
#[test]
fn s08_a_destination_whose_log_has_failed_is_as_good_as_gone() {
    for has_arbiter in [false, true] {
        let mut arbiter = Arbiter::reached();
        let mut nodes = match has_arbiter {
            true => in_sync_with(&mut arbiter),
            false => in_sync(),
        };
        nodes[0] = nodes[0].restarted();
        if has_arbiter {
            nodes[0].pair.set_arbiter(PROMISE);
        }
        nodes[1].pair.down();
        nodes[1].stores_nothing = true;
        nodes[1].pair.shared().log_failed();
        nodes.iter_mut().for_each(|node| node.pair.up(true));
        go_on_with(&mut nodes, &mut arbiter, 2 * T1, 2000);
        // What else the source asks is answered, and so is another meeting: the link is not taken for dead.
        assert_eq!(
            (nodes[0].pair.state(), nodes[1].owes()),
            ("source_hearing", 0)
        );
        nodes[0].pair.down();
        nodes[0].pair.up(true);
        go_on_with(&mut nodes, &mut arbiter, 4 * T1, 2000);
        assert_eq!(
            (nodes[0].pair.state(), nodes[1].owes()),
            ("source_hearing", 0)
        );
        assert_eq!(nodes[0].mode(), Mode::Suspended);
        go_on_with(&mut nodes, &mut arbiter, 6 * T1, 2000);
        assert_eq!(modes(&nodes), [Mode::Alone, Mode::Suspended]);
        nodes[0].pair.down();
        nodes[0].pair.gave_up();
        nodes[1] = nodes[1].restarted();
        if has_arbiter {
            nodes[1].pair.set_arbiter(PROMISE);
        }
        nodes.iter_mut().for_each(|node| node.pair.up(true));
        go_on_with(&mut nodes, &mut arbiter, 9 * T1, 4000);
        assert!(nodes.iter().all(|node| node.pair.is_in_sync()));
    }
}

/// Nobody is served, and the arbiter does not answer: it is asked again soon, and tells so once.
#[test]
fn s08_a_source_whose_destination_has_failed_asks_the_arbiter_again_soon() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    nodes[0] = nodes[0].restarted();
    nodes[0].pair.set_arbiter(PROMISE);
    nodes[1].pair.down();
    nodes[1].stores_nothing = true;
    nodes[1].pair.shared().log_failed();
    nodes.iter_mut().for_each(|node| node.pair.up(true));
    arbiter.is_reached = [false; 2];
    go_on_with(&mut nodes, &mut arbiter, 2 * T1, 7000);
    assert_eq!(modes(&nodes), [Mode::Suspended; 2]);
    assert_eq!(nodes[0].pair.state(), "source_hearing");
    let told = nodes[0].told();
    let not_served = told.iter().filter(|&&it| it == AlertEvent::NotServed);
    assert_eq!(not_served.count(), 1);
    arbiter.is_reached = [true; 2];
    go_on_with(&mut nodes, &mut arbiter, 9 * T1, 1500);
    assert_eq!(modes(&nodes), [Mode::Alone, Mode::Suspended]);
}
