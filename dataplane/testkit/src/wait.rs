//! Waiting that ends.

use std::thread;
use std::time::{Duration, Instant};

/// Calls `turn` until it is true. Panics with `what` if it is not after `turns` calls.
///
/// For loops that make progress themselves: `turn` polls, then says whether it is done.
#[track_caller]
pub fn poll_until(what: &str, turns: usize, mut turn: impl FnMut() -> bool) {
    poll_for(what, turns, || turn().then_some(()));
}

/// As [`poll_until`]: calls `turn` until it gives something, which is returned.
#[track_caller]
pub fn poll_for<T>(what: &str, turns: usize, mut turn: impl FnMut() -> Option<T>) -> T {
    for _ in 0..turns {
        if let Some(result) = turn() {
            return result;
        }
    }
    panic!("waited {turns} turns for this: {what}");
}

/// As [`poll_for`], for what takes time: devices, other threads that are as busy. Calls
/// `turn` without pause, and panics with `what` if it gives nothing within `patience`.
#[track_caller]
pub fn spin<T>(what: &str, patience: Duration, mut turn: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(result) = turn() {
            return result;
        }
        assert!(
            begun.elapsed() < patience,
            "waited {patience:?} for this: {what}"
        );
    }
}

/// Waits until `done` is true, which others make it: threads, programs, devices. Panics with
/// `what` if it is not within `patience`.
#[track_caller]
pub fn eventually(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(
            begun.elapsed() < patience,
            "waited {patience:?} for this: {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_returned_at_once() {
        let mut turns = 0;
        let got = poll_for("the third turn", 3, || {
            turns += 1;
            (turns == 3).then_some("here")
        });
        assert_eq!((got, turns), ("here", 3));
        eventually("what is so already", Duration::ZERO, || true);
        spin("what is there already", Duration::ZERO, || Some(()));
    }

    #[test]
    #[should_panic(expected = "waited 5 turns for this: a completion")]
    fn what_does_not_come_is_named() {
        poll_until("a completion", 5, || false);
    }

    #[test]
    #[should_panic(expected = "waited 2ms for this: a device")]
    fn what_takes_too_long_is_named() {
        spin("a device", Duration::from_millis(2), || None::<()>);
    }

    #[test]
    #[should_panic(expected = "waited 1ms for this: the engine")]
    fn what_others_do_not_do_is_named() {
        eventually("the engine", Duration::from_millis(1), || false);
    }
}
