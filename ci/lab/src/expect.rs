//! Comparisons whose failure says what was expected and what came.

use std::fmt::Debug;

use crate::{Failure, Outcome};

/// `came` is `expected`.
#[track_caller]
pub fn equal<T: PartialEq + Debug>(what: &str, came: T, expected: T) -> Outcome {
    if came == expected {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{what}: expected {expected:?}, came {came:?}"
    )))
}

/// `came` is `least` or more.
#[track_caller]
pub fn at_least<T: PartialOrd + Debug>(what: &str, came: T, least: T) -> Outcome {
    if came >= least {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{what}: expected {least:?} or more, came {came:?}"
    )))
}

/// `came` is `most` or less.
#[track_caller]
pub fn at_most<T: PartialOrd + Debug>(what: &str, came: T, most: T) -> Outcome {
    if came <= most {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{what}: expected {most:?} or less, came {came:?}"
    )))
}

/// `text` has `part` in it.
#[track_caller]
pub fn contains(what: &str, text: &str, part: &str) -> Outcome {
    if text.contains(part) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{what}: expected `{part}` in it, came: {}",
        text.trim_end()
    )))
}
