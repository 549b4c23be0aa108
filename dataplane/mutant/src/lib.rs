//! Faults that are put in on purpose, one at a time, to see whether a test finds them: `ci/sim --mutants`.
//!
//! Each is behind a [`mutant!`] at the place where the fault would be. A program that is built with `--cfg mutants` has all of them in it,
//! and does the one that the environment variable `THROUGHLINE_MUTANT` names. In any other program there is none.
#![forbid(unsafe_code)]

use std::env;
use std::sync::OnceLock;

/// Whether the program is to do this fault. Without `--cfg mutants` it is `false` for the compiler.
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        cfg!(mutants) && {
            static IS_CHOSEN: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
            *IS_CHOSEN.get_or_init(|| $crate::is_chosen($name))
        }
    };
}

/// Whether the environment names this fault.
#[must_use]
pub fn is_chosen(name: &str) -> bool {
    static CHOSEN: OnceLock<String> = OnceLock::new();
    CHOSEN.get_or_init(|| env::var("THROUGHLINE_MUTANT").unwrap_or_default()) == name
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_program_of_every_day_has_none() {
        assert!(cfg!(mutants) || !mutant!("lost-completion"));
        assert!(!crate::is_chosen("no-such-fault"));
    }
}
