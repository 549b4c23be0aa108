//! Waiting for conditions. How long something takes depends on what else the
//! machine does, so bounds are generous: they end a test that would never end.

use std::thread;
use std::time::{Duration, Instant};

use crate::{Failure, Result};

/// Ample for what takes a moment on a machine with nothing else to do.
pub const SOON: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer, for `SOON` at most. `condition` says why
/// there is none yet; its failures end the waiting.
///
/// # Errors
///
/// What `what` was waited for, and the last reason why it is not so.
#[track_caller]
pub fn until<T>(
    what: &str,
    mut condition: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    let deadline = Instant::now() + SOON;
    loop {
        let asked = match condition() {
            Ok(asked) => asked,
            Err(failure) => return Err(failure.here()),
        };
        match asked {
            Ok(answer) => return Ok(answer),
            Err(why) if Instant::now() >= deadline => {
                let seconds = SOON.as_secs();
                return Err(Failure::new(format!("{what}: not in {seconds} s: {why}")));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_asked_until_it_holds_and_its_failure_is_the_callers() {
        let mut asked = 0;
        let third = until("the third", || {
            asked += 1;
            Ok(if asked == 3 {
                Ok(asked)
            } else {
                Err(format!("{asked}"))
            })
        });
        assert_eq!(third.expect("it comes"), 3);
        let gone = || Err(Failure::new("it is gone"));
        let (line, failed) = (line!(), until::<()>("what is gone", gone));
        let told = failed.expect_err("it never comes").to_string();
        assert!(told.ends_with(&format!("wait.rs:{line})")), "{told}");
    }
}
