//! What users of other replication complain about, where no other test has it by name (docs/pairs.md has the list).

#[path = "common/nodes.rs"]
mod nodes;

use std::time::Duration;

use mirror::{GRANULE, Mode};

use nodes::*;

const T1: Duration = Duration::from_secs(1);

/// "A full copy after every reboot": of two in sync either restarts, or both do, and nothing is copied; of a source that was alone meanwhile,
/// what it changed.
#[test]
fn r07_a_restart_is_no_reason_for_a_full_copy() {
    let mut nodes = in_sync();
    let mut now = T1;
    for restarts in [[true, false], [false, true], [true, true]] {
        now += 2 * T1;
        for (node, restarts) in nodes.iter_mut().zip(restarts) {
            node.copied.clear();
            if restarts {
                *node = node.restarted();
            }
        }
        meet(&mut nodes, now);
        assert!(nodes.iter().all(|node| node.pair.is_in_sync()));
        assert!(nodes.iter().all(|node| node.copied.is_empty()));
    }
    part(&mut nodes);
    go_on(&mut nodes, now + 2 * T1);
    assert_eq!(nodes[0].mode(), Mode::Alone);
    nodes[0].pair.shared().mark(&(3 * GRANULE..4 * GRANULE));
    nodes[1] = nodes[1].restarted();
    meet(&mut nodes, now + 4 * T1);
    assert!(nodes.iter().all(|node| node.pair.is_in_sync()));
    assert_eq!(nodes[0].copied, [3]);
}

/// "Both nodes outdated after a rolling reboot": each is off while the other one serves, in turn, twice. Both are whole, in sync, and one serves.
#[test]
fn s08_after_a_rolling_restart_both_have_the_same() {
    let mut nodes = in_sync();
    let mut now = 2 * T1;
    let mut source = 0;
    for granule in 0..4 {
        let (off, on) = (source, 1 - source);
        // The source yields, and is restarted; the other one goes on without it, and is changed.
        assert_eq!(nodes[off].pair.demote(), Ok(()));
        go_on(&mut nodes, now);
        assert_eq!(nodes[on].mode(), Mode::Forward);
        part(&mut nodes);
        go_on(&mut nodes, now + T1);
        assert_eq!(nodes[on].mode(), Mode::Alone);
        let changed = granule * GRANULE..(granule + 1) * GRANULE;
        nodes[on].pair.shared().mark(&changed);
        nodes[off] = nodes[off].restarted();
        nodes[on].copied.clear();
        meet(&mut nodes, now + 2 * T1);
        assert!(nodes.iter().all(|node| node.pair.is_in_sync()));
        assert_eq!(nodes[on].copied, [granule]);
        source = on;
        now += 4 * T1;
    }
    assert_eq!(nodes[source].mode(), Mode::Forward);
}

/// "The arbiter's loss as loss of data": one that has lost its data lets nobody take over, nor go on alone, until both nodes are in
/// sync and have said so; hosts are served while they hear each other.
#[test]
fn s08_an_arbiter_that_lost_its_data_decides_nothing() {
    let mut arbiter = Arbiter::reached();
    let mut nodes = in_sync_with(&mut arbiter);
    // It is lost when they have parted: the source cannot be told from one that was taken over from.
    part(&mut nodes);
    arbiter = Arbiter::reached();
    arbiter.lives[0] = false;
    go_on_with(&mut nodes, &mut arbiter, 2 * T1, 20_000);
    assert_eq!(arbiter.entry, None);
    assert!(nodes.iter().all(|node| node.mode() == Mode::Suspended));
    // They meet, and it learns again.
    arbiter.lives[0] = true;
    (nodes.iter_mut()).for_each(|node| node.pair.up(false));
    go_on_with(&mut nodes, &mut arbiter, 30 * T1, 8000);
    assert_eq!(nodes[0].mode(), Mode::Forward);
    assert_eq!(arbiter.entry.map(|entry| entry.is_alone), Some(false));
}
