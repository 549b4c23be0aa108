//! The fuzz target's harness with a generator in place of the fuzzer.

mod rig;

use std::collections::BTreeMap;

use rig::Random;
use rig::chaos::{Script, play};

#[test]
fn random_hosts_break_nothing_and_leak_nothing() {
    let mut sum = BTreeMap::<&str, u64>::new();
    for seed in 0..2000u64 {
        let mut random = Random::new(seed);
        let len = 200 + random.below(3000);
        let bytes = random.bytes(len);
        let outcome = std::panic::catch_unwind(|| play(&mut Script::new(&bytes)));
        match outcome {
            Ok(counters) => {
                for counter in counters.iter() {
                    *sum.entry(counter.name).or_default() += counter.value;
                }
            }
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // It got everywhere: else it is no test.
    for name in [
        "reads",
        "writes",
        "io_others",
        "r2ts",
        "blocked",
        "interrupted",
        "timeouts",
        "connects_refused",
        "data_digest_errors",
        "header_digest_error",
        "invalid_header_field",
        "sequence_error",
        "data_out_of_range",
    ] {
        assert!(sum[name] > 0, "no {name}: {sum:#?}");
    }
}
