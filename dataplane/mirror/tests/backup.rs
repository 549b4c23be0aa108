//! When what a destination has may be read for a backup (row R7): as long as it is a state of the volume that nobody changes.

#[path = "common/nodes.rs"]
mod nodes;

use std::time::Duration;

use mirror::{Content, GRANULE, Mode, Role, Standing};

use nodes::*;

const T: Duration = Duration::from_secs(1);
/// Seconds since 1970.
const NOW: u64 = 1_800_000_000;

fn apart() -> [Node; 2] {
    let mut nodes = in_sync();
    part(&mut nodes);
    go_on(&mut nodes, 2 * T);
    nodes
}

/// Whether each node lets what it has be read.
fn readable(nodes: &[Node; 2]) -> [bool; 2] {
    nodes.each_ref().map(|node| {
        let is_readable = node.pair.shared().backup().is_some();
        let is_said = node.pair.describe().contains("readable as a backup");
        assert_eq!(is_readable, is_said, "{}", node.pair.describe());
        is_readable
    })
}

#[test]
fn r07_what_a_severed_node_has_may_be_read_until_the_copy_begins() {
    let mut nodes = in_sync();
    assert_eq!(readable(&nodes), [false; 2], "it is what hosts are served");
    assert_eq!(nodes[0].pair.sever(NOW), Ok(()));
    go_on(&mut nodes, 2 * T);
    assert_eq!(readable(&nodes), [false, true]);
    let first = nodes[1].pair.shared().backup();
    nodes[0].pair.shared().mark(&(3 * GRANULE..4 * GRANULE));
    nodes[0].copied.clear();
    // It stays so, and is so after a restart, before the other node is heard and behind that.
    nodes[1] = nodes[1].restarted();
    go_on(&mut nodes, 3 * T);
    assert_eq!(readable(&nodes), [false, true]);
    meet(&mut nodes, 4 * T);
    assert_eq!(readable(&nodes), [false, true]);
    assert_eq!(nodes[0].pair.reestablish(), Ok(()));
    // Before the first change is let in it is over, and a read that began before is not answered.
    let shared = nodes[1].pair.shared().clone();
    let before = shared.backup();
    assert_eq!(before, first);
    for turn in 0..400 {
        go_on_with(
            &mut nodes,
            &mut Arbiter::default(),
            5 * T + turn * T / 1000,
            1,
        );
        if shared.backup().is_some() {
            assert!(!nodes[0].pair.state().contains("copying"));
            assert_eq!(shared.backup(), before, "one time");
        }
    }
    assert_eq!(readable(&nodes), [false; 2]);
    assert!(nodes[1].pair.is_in_sync());
    assert_eq!(nodes[0].copied, [3]);
    // The next time is another one.
    assert_eq!(nodes[0].pair.sever(NOW), Ok(()));
    go_on(&mut nodes, 7 * T);
    assert!(shared.backup().is_some() && shared.backup() != before);
}

#[test]
fn r07_an_outage_is_one_after_a_while() {
    let mut nodes = apart();
    assert_eq!(nodes[0].mode(), Mode::Alone);
    assert_eq!(readable(&nodes), [false; 2], "it may be back at once");
    go_on(&mut nodes, 13 * T);
    assert_eq!(readable(&nodes), [false, true]);
    // It is promoted, and hosts change what it has.
    assert_eq!(nodes[1].pair.promote(true), Ok(()));
    go_on(&mut nodes, 14 * T);
    assert_eq!(nodes[1].mode(), Mode::Alone);
    assert_eq!(readable(&nodes), [false; 2]);
    // Split brain: neither is out of date.
    nodes[0].pair.shared().mark(&(0..GRANULE));
    nodes[1].pair.shared().mark(&(0..GRANULE));
    meet(&mut nodes, 15 * T);
    go_on(&mut nodes, 40 * T);
    assert_eq!(readable(&nodes), [false; 2]);
}

/// What was copied in part, or never, is no state of the volume.
#[test]
fn r07_a_copy_that_was_cut_off_is_not_read() {
    let whole = nodes_content(Standing::first(replica(1), 7));
    let copying = nodes_content(Standing::first(replica(1), 7).copying(replica(0)));
    let blank = nodes_content(Standing::blank(replica(1)));
    for (content, expected) in [(whole, true), (copying, false), (blank, false)] {
        let mut nodes = [source(), node(content, LEN, 1)];
        go_on(&mut nodes, 20 * T);
        assert_eq!(readable(&nodes), [false, expected]);
    }
}

fn nodes_content(standing: Standing) -> Content {
    Content {
        standing,
        role: Role::Destination,
        peer: Some(replica(0)),
        severed: Some(NOW),
    }
}

/// Something of a host's may still be under way at one that served in this run.
#[test]
fn r07_a_node_that_served_hosts_is_copied_to_before_it_is_read() {
    let mut nodes = [source(), destination(LEN)];
    meet(&mut nodes, T);
    assert_eq!(nodes[0].pair.demote(), Ok(()));
    go_on(&mut nodes, 2 * T);
    assert_eq!(nodes[0].pair.content().role, Role::Destination);
    // It has heard from the other one that all is there.
    assert_eq!(nodes[1].pair.sever(NOW), Ok(()));
    go_on(&mut nodes, 3 * T);
    assert_eq!(readable(&nodes), [true, false]);
}
