//! A drive that hangs and is never given up, and hosts that keep their queues full: whoever uses another namespace goes on, or is
//! told to try again.

use sim::Scenario;

/// Of each cause one that found it: reads that passed while their namespace had little, all that was taken before another
/// namespace had had a command, reads behind others of their queue, credit that is short of two of the longest writes.
const SEEDS: [u64; 5] = [24, 53, 10, 37, 78];

#[test]
fn s04_a_drive_that_hangs_holds_up_no_host_of_another_logged_namespace() {
    for seed in SEEDS {
        if let Err(failure) = Scenario::LogHangs.run(seed, false) {
            panic!("seed {seed}: {}", failure.what);
        }
    }
}
