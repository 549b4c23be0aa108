//! Why a test did not pass.

use std::fmt::{self, Display};
use std::panic::Location;

/// What a test, or a step of one, comes to.
pub type Result<T> = std::result::Result<T, Failure>;

/// What a test ends with.
pub type Outcome = Result<()>;

/// Why a test did not pass.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Something else came than was expected.
    Failed {
        /// What was expected, and what came.
        what: String,
        /// The line of the test, or of the library, that says so.
        at: &'static Location<'static>,
    },
    /// The test cannot run here, for this reason.
    Skipped(String),
}

impl Failure {
    /// A failure of the caller's line.
    #[track_caller]
    pub fn new(what: impl Display) -> Self {
        Self::Failed {
            what: what.to_string(),
            at: Location::caller(),
        }
    }

    /// The same failure, of the caller's line: for steps that closures take.
    #[must_use]
    #[track_caller]
    pub(crate) fn here(self) -> Self {
        match self {
            Self::Failed { what, .. } => Self::new(what),
            skipped @ Self::Skipped(_) => skipped,
        }
    }

    /// The same failure, with what was being done before its reason.
    #[must_use]
    pub fn during(self, doing: impl Display) -> Self {
        match self {
            Self::Failed { what, at } => Self::Failed {
                what: format!("{doing}: {what}"),
                at,
            },
            skipped @ Self::Skipped(_) => skipped,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { what, at } => write!(out, "{what} ({}:{})", at.file(), at.line()),
            Self::Skipped(reason) => write!(out, "skipped: {reason}"),
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// Failures of the caller's line out of errors of any kind.
pub(crate) trait OrFail<T, E> {
    /// The value, or a failure for this reason.
    #[track_caller]
    fn or_fail(self, reason: impl FnOnce(E) -> String) -> Result<T>;
}

impl<T, E> OrFail<T, E> for std::result::Result<T, E> {
    fn or_fail(self, reason: impl FnOnce(E) -> String) -> Result<T> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(Failure::new(reason(error))),
        }
    }
}

/// Ends a test, or a step of one, with a failure whose reason is formatted.
#[macro_export]
macro_rules! fail {
    ($($reason:tt)*) => {
        return Err($crate::Failure::new(format!($($reason)*)))
    };
}

/// Fails with a formatted reason unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($reason:tt)*) => {
        if !$condition {
            $crate::fail!($($reason)*);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn step() -> Result<u8> {
        // An error of the standard library's, by `?`.
        Ok("x".parse::<u8>()?)
    }

    #[test]
    fn a_failure_is_of_the_line_that_took_the_step() {
        let (line, failed) = (line!(), step());
        let told = failed
            .expect_err("x is no number")
            .during("reading x")
            .to_string();
        let place = format!("({}:{line})", file!());
        assert_eq!(
            told,
            format!("reading x: invalid digit found in string {place}")
        );
    }
}
