//! The size of a volume of a pair, as an operator says it (row R3).

#[path = "common/nodes.rs"]
mod nodes;

use std::time::Duration;

use mirror::{AlertEvent, Content, GRANULE, Pair, Role, Standing, Unwilling};

use nodes::*;

const T: Duration = Duration::from_secs(1);
/// Bytes of devices.
const DEVICE: u64 = 60 * GRANULE;
const LARGE: u64 = 50 * GRANULE + 4096;
const SMALL: u64 = 30 * GRANULE - 4096;

/// Of a volume that has less than its device.
fn on(at: usize, len: u64, device: u64) -> Node {
    let (standing, role) = match at {
        0 => (Standing::first(replica(0), 7), Role::Source),
        _ => (Standing::blank(replica(at)), Role::Destination),
    };
    let content = Content {
        standing,
        role,
        peer: None,
        severed: None,
    };
    node_on(content, len, device, 0)
}

/// In sync, on devices that have more.
fn sized() -> [Node; 2] {
    let mut nodes = [on(0, LEN, DEVICE), on(1, LEN, DEVICE)];
    meet(&mut nodes, T);
    assert!(nodes.iter().all(|node| node.pair.is_in_sync()));
    nodes.iter_mut().for_each(|node| node.copied.clear());
    nodes
}

fn lens(nodes: &[Node; 2]) -> [u64; 2] {
    nodes.each_ref().map(|node| node.pair.len())
}

/// What hosts see.
fn shown(nodes: &[Node; 2]) -> [u64; 2] {
    nodes.each_ref().map(|node| node.pair.shared().shown())
}

/// Both are restarted.
fn stored(nodes: &[Node; 2]) -> [u64; 2] {
    nodes.each_ref().map(|node| node.restarted().pair.len())
}

#[test]
fn r03_a_volume_grows_when_what_is_new_is_on_both_nodes() {
    let mut nodes = sized();
    assert_eq!(nodes[0].pair.resize(Some(LARGE), false), Ok(()));
    assert_eq!(lens(&nodes), [LEN; 2], "nothing is changed yet");
    go_on(&mut nodes, 2 * T);
    assert_eq!(nodes[0].pair.next_outcome(), Some(Ok(())));
    let new: Vec<u64> = (40..=50).collect();
    assert_eq!(nodes[0].copied, new);
    assert_eq!(
        [lens(&nodes), shown(&nodes), stored(&nodes)],
        [[LARGE; 2]; 3]
    );
    assert!(nodes[0].has_told(AlertEvent::Resized));
    assert_eq!(nodes[0].pair.resizes_to(), None);
    // Without a number, all that there is.
    assert_eq!(nodes[0].pair.resize(None, false), Ok(()));
    go_on(&mut nodes, 3 * T);
    assert_eq!([lens(&nodes), stored(&nodes)], [[DEVICE; 2]; 2]);
    // What was partly there is copied, too.
    assert_eq!(nodes[0].copied[new.len()..], (50..60).collect::<Vec<_>>());
}

#[test]
fn r03_a_volume_shrinks_when_it_is_named_and_hosts_were_told() {
    let mut nodes = sized();
    let refused = nodes[0].pair.resize(Some(SMALL), false);
    assert_eq!(refused, Err(Unwilling::NotNamed(SMALL)));
    assert_eq!(nodes[0].pair.resize(Some(SMALL), true), Ok(()));
    go_on(&mut nodes, 2 * T);
    assert_eq!(nodes[0].pair.next_outcome(), Some(Ok(())));
    assert_eq!(
        [lens(&nodes), shown(&nodes), stored(&nodes)],
        [[SMALL; 2]; 3]
    );
    assert!(nodes[0].copied.is_empty());
    // What it grows by again may be otherwise.
    assert_eq!(nodes[0].pair.resize(Some(LEN), false), Ok(()));
    go_on(&mut nodes, 3 * T);
    assert_eq!([lens(&nodes), stored(&nodes)], [[LEN; 2]; 2]);
    assert_eq!(nodes[0].copied, (29..40).collect::<Vec<_>>());
}

#[test]
fn r03_what_is_no_size_is_said_and_changes_nothing() {
    let mut nodes = [on(0, LEN, DEVICE), on(1, LEN, 45 * GRANULE)];
    let refuses = |pair: &mut Pair, len: u64, why: Unwilling| {
        assert_eq!(pair.resize(Some(len), true), Err(why));
    };
    refuses(&mut nodes[0].pair, LARGE, Unwilling::NotInSync);
    refuses(&mut nodes[1].pair, LARGE, Unwilling::NotSource);
    meet(&mut nodes, T);
    let pair = &mut nodes[0].pair;
    refuses(pair, LEN, Unwilling::SameSize);
    refuses(pair, LARGE + 512, Unwilling::NotBlocks(4096));
    refuses(pair, 0, Unwilling::NotBlocks(4096));
    refuses(pair, DEVICE + 4096, Unwilling::DeviceTooSmall(DEVICE));
    pair.shared().set_pages(0);
    refuses(pair, LARGE, Unwilling::NoRoom(0));
    pair.shared().set_pages(1);
    // The other one has less.
    assert_eq!(nodes[0].pair.resize(None, false), Ok(()));
    assert_eq!(nodes[0].pair.resize(None, false), Err(Unwilling::Busy));
    go_on(&mut nodes, 2 * T);
    let outcome = nodes[0].pair.next_outcome().expect("it has an end");
    let told = outcome.unwrap_err().to_string();
    assert!(told.contains("device has 2949120 bytes"), "{told}");
    assert_eq!([lens(&nodes), shown(&nodes), stored(&nodes)], [[LEN; 2]; 3]);
    assert!(nodes.iter().all(|node| node.pair.is_in_sync()));
    // Room for a record, too.
    nodes[1].pair.shared().set_device(DEVICE);
    nodes[1].pair.shared().set_pages(0);
    assert_eq!(nodes[0].pair.resize(None, false), Ok(()));
    go_on(&mut nodes, 3 * T);
    let outcome = nodes[0].pair.next_outcome().expect("it has an end");
    assert!(matches!(outcome, Err(Unwilling::Refused(_))), "{outcome:?}");
    nodes[1].pair.shared().set_pages(1);
    // One thing at a time.
    assert_eq!(nodes[0].pair.verify(false), Ok(()));
    let pair = &mut nodes[0].pair;
    refuses(pair, LARGE, Unwilling::Verifies);
    let run = pair.shared().verification().run();
    (0..2).for_each(|shard| pair.shared().verification().ends(shard, run, false));
    assert_eq!(pair.resize(None, false), Ok(()));
    go_on_with(&mut nodes, &mut Arbiter::default(), 4 * T, 1);
    let pair = &mut nodes[0].pair;
    assert_eq!(pair.resizes_to(), Some(DEVICE));
    assert_eq!(pair.demote(), Err(Unwilling::Resizes));
    assert_eq!(pair.verify(false), Err(Unwilling::Resizes));
    refuses(pair, LARGE, Unwilling::Resizes);
}

/// What becomes of a size, on the way to which the nodes are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Source,
    Destination,
    Both,
    Link,
    /// The source; and the other one is promoted.
    Promoted,
}

/// In whichever moment: when they have met again there is one size, and it is stable.
#[test]
fn r03_two_that_are_lost_on_the_way_have_one_size_when_they_meet() {
    use Lost::{Both, Destination, Link, Promoted, Source};
    let mut seen = [false; 2];
    for len in [LARGE, SMALL] {
        for lost in [Source, Destination, Both, Link, Promoted] {
            for turns in 0..16 {
                for first in [0, 1] {
                    let what = format!("{len} bytes, {turns} turns and {first}: {lost:?}");
                    let mut nodes = sized();
                    assert_eq!(nodes[0].pair.resize(Some(len), true), Ok(()));
                    go_on_with(&mut nodes, &mut Arbiter::default(), 2 * T, turns);
                    // In the middle of a turn: one of both has made it.
                    if first == 1 {
                        half_a_turn(&mut nodes, 2 * T + turns as u32 * Duration::from_millis(1));
                    }
                    for node in &mut nodes {
                        node.pair.down();
                        node.forget_asked();
                    }
                    for (at, is_lost) in [
                        (0, lost != Destination && lost != Link),
                        (1, matches!(lost, Destination | Both)),
                    ] {
                        match is_lost {
                            true => nodes[at] = nodes[at].restarted(),
                            false => nodes[at].pair.gave_up(),
                        }
                    }
                    if lost == Promoted {
                        assert_eq!(nodes[1].pair.promote(false), Ok(()));
                    }
                    go_on(&mut nodes, 3 * T);
                    if lost == Promoted {
                        nodes[1].pair.shared().mark(&(0..4096));
                    }
                    meet(&mut nodes, 4 * T);
                    go_on(&mut nodes, 5 * T);
                    for node in &nodes {
                        assert!(node.pair.is_in_sync(), "{what}: {}", node.pair.describe());
                    }
                    let [now, other] = lens(&nodes);
                    assert!(
                        now == other && [LEN, len].contains(&now),
                        "{what}: {now}, {other}"
                    );
                    assert_eq!([shown(&nodes), stored(&nodes)], [[now; 2]; 2], "{what}");
                    seen[usize::from(now == len)] = true;
                }
            }
        }
    }
    assert_eq!(seen, [true; 2], "both ends happen");
}

/// Of two that meet for the first time both have as much, or an operator has said the size of the one that has data.
#[test]
fn r08_replicas_of_other_sizes_are_refused_unless_one_has_nothing_yet_and_the_size_was_said() {
    let meets = |source: (u64, u64), destination: (u64, u64)| {
        let mut nodes = [
            on(0, source.0, source.1),
            on(1, destination.0, destination.1),
        ];
        meet(&mut nodes, T);
        let are_in_sync = nodes.each_ref().map(|node| node.pair.is_in_sync());
        assert_eq!(are_in_sync[0], are_in_sync[1]);
        assert_eq!(
            !are_in_sync[0],
            nodes
                .iter()
                .any(|node| node.has_told(AlertEvent::VolumesDiffer))
        );
        (are_in_sync[0], lens(&nodes))
    };
    assert_eq!(meets((LEN, LEN), (LEN, LEN)), (true, [LEN; 2]));
    // Devices of two sizes.
    assert_eq!(meets((LEN, LEN), (DEVICE, DEVICE)), (false, [LEN, DEVICE]));
    assert_eq!(meets((DEVICE, DEVICE), (LEN, LEN)), (false, [DEVICE, LEN]));
    // One that lost its log beside one whose volume is smaller than the device.
    assert_eq!(meets((LEN, DEVICE), (DEVICE, DEVICE)), (true, [LEN; 2]));
    assert_eq!(meets((LARGE, DEVICE), (LEN, LEN)), (false, [LARGE, LEN]));
}
