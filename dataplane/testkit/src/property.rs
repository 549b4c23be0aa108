//! Sequences of operations from seeds, on every core; one that fails is shrunk.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::Random;

/// How many operations a property test does: `THROUGHLINE_PROPTEST_OPS`, or `default`.
pub fn operations(default: usize) -> usize {
    std::env::var("THROUGHLINE_PROPTEST_OPS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

/// Runs `check` on sequences of operations that `generate` makes from a seed,
/// until `total` operations were done, on as many threads as there are cores. A
/// failing sequence is shrunk by leaving operations out; what is left is printed
/// with its seed.
///
/// `THROUGHLINE_PROPTEST_SEED` does a given seed, and that one alone.
pub fn property<Op: Clone + Debug + Send>(
    total: usize,
    generate: impl Fn(&mut Random) -> Vec<Op> + Sync,
    check: impl Fn(&[Op]) + Sync,
) {
    let fails = |operations: &[Op]| catch_unwind(AssertUnwindSafe(|| check(operations))).is_err();
    let only = std::env::var("THROUGHLINE_PROPTEST_SEED").ok();
    let only: Option<u64> = only.and_then(|seed| seed.parse().ok());
    let (next, done) = (AtomicU64::new(only.unwrap_or(1)), AtomicUsize::new(0));
    let total = only.map_or(total, |_| 1);
    let failed = Mutex::new(None);
    let work = || {
        while done.load(Relaxed) < total && failed.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Relaxed);
            let operations = generate(&mut Random::new(seed));
            if fails(&operations) {
                failed.lock().unwrap().get_or_insert((seed, operations));
            } else {
                done.fetch_add(operations.len(), Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..only.map_or(cores, |_| 1) {
            scope.spawn(work);
        }
    });
    let done = done.into_inner();
    let Some((seed, mut operations)) = failed.into_inner().unwrap() else {
        return println!("{done} operations, the last seed {}", next.into_inner() - 1);
    };
    let hook = take_hook();
    set_hook(Box::new(|_| ()));
    let mut chunk = operations.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < operations.len() {
            let mut fewer = operations.clone();
            fewer.drain(at..(at + chunk).min(operations.len()));
            match fails(&fewer) {
                true => operations = fewer,
                false => at += chunk,
            }
        }
        chunk /= 2;
    }
    set_hook(hook);
    eprintln!("THROUGHLINE_PROPTEST_SEED={seed}, shrunk to {operations:#?}");
    check(&operations);
    unreachable!("it failed before");
}
