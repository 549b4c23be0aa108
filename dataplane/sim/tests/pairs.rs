//! What pairs of appliances do when links between them are cut.

use sim::Scenario;

/// Two links between each two appliances, of which one is there all the while, and volumes that go either way: no pair is
/// severed, and no lane is down for long.
#[test]
fn r09_no_pair_is_severed_while_a_link_is_there() {
    for seed in 1..=12 {
        if let Err(failure) = Scenario::PairLinks.run(seed, false) {
            panic!("seed {seed}: {}", failure.what);
        }
    }
}

/// Two or three appliances, each the source of some volumes and the destination of others.
#[test]
fn r09_each_node_is_a_source_and_a_destination() {
    for seed in 7..=18 {
        if let Err(failure) = Scenario::Pair.run(seed, false) {
            panic!("seed {seed}: {}", failure.what);
        }
    }
}
