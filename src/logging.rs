//! Lines on standard error: for people with the seconds since the start, for
//! the journal (which stamps them itself) with their priority.

use std::io::Write;
use std::time::Instant;

use env_logger::{Env, Target};
use log::Level;

/// Starts logging; `THROUGHLINE_LOG` says how much, in env_logger's language.
pub(crate) fn start() {
    let begin = Instant::now();
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let line = move |out: &mut env_logger::fmt::Formatter, record: &log::Record<'_>| {
        if journal {
            // Priorities of syslog(3), as sd-daemon(3) takes them.
            let priority = match record.level() {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info => 6,
                Level::Debug | Level::Trace => 7,
            };
            writeln!(out, "<{priority}>{}", record.args())
        } else {
            let seconds = begin.elapsed().as_secs_f64();
            writeln!(
                out,
                "[{seconds:9.3}] {:<5} {}",
                record.level(),
                record.args()
            )
        }
    };
    env_logger::Builder::from_env(Env::new().filter_or("THROUGHLINE_LOG", "info"))
        .format(line)
        .target(Target::Stderr)
        .init();
}
