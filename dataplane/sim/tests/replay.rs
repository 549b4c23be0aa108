//! A run is a function of its seed.

use sim::Scenario;

/// Seeds enough for kills, stops, cuts and devices that fail.
const SEEDS: std::ops::Range<u64> = 1..7;

#[test]
fn a_few_seeds_of_every_scenario_pass_and_are_replayed_to_the_same_digest() {
    for scenario in Scenario::ALL {
        let mut digests = Vec::new();
        for seed in SEEDS {
            let run = || match scenario.run(seed, false) {
                Ok(summary) => summary,
                Err(failure) => panic!("{} seed {seed}: {}", scenario.name(), failure.what),
            };
            let (first, second) = (run(), run());
            assert_eq!(first, second, "{} seed {seed}", scenario.name());
            assert!(first.requests > 0 && first.sectors > 0, "{first:?}");
            digests.push(first.digest);
        }
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), SEEDS.count(), "every seed is another run");
    }
}

#[test]
fn other_runs_on_other_threads_change_nothing() {
    let alone: Vec<_> = SEEDS
        .map(|seed| Scenario::Target.run(seed, false).ok())
        .collect();
    let beside: Vec<_> = SEEDS
        .map(|seed| std::thread::spawn(move || Scenario::Target.run(seed, false).ok()))
        .collect();
    for (alone, beside) in alone.into_iter().zip(beside) {
        assert!(alone.is_some());
        assert_eq!(alone, beside.join().expect("a run does not panic"));
    }
}
