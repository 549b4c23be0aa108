//! A mirrored pair in namespaces, an etcd, and hosts: what `ci/demo --pair` and `ci/bench --pair` run.
//!
//! ```text
//! pair demo DIR IMAGE PLACE   IMAGE is written, the source killed, and what follows; volumes and logs are files in PLACE; DIR/report.json
//! pair bench DIR [quick]      bytes on the link, latencies, cycles, the rate of a copy; DIR/report.json
//! ```
//!
//! DIR is emptied. The exit status is 0 only if everything that was compared matched.
#![allow(missing_docs)]

use std::path::Path;
use std::process::ExitCode;

mod bench;
mod demo;
mod lane;
mod load;
mod multipath;
mod timeline;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["demo", dir, image, place] => lab::harness::alone(Path::new(dir), |test| {
            demo::run(test, Path::new(image), Path::new(place))
        }),
        ["bench", dir] => lab::harness::alone(Path::new(dir), |test| bench::run(test, false)),
        ["bench", dir, "quick"] => {
            lab::harness::alone(Path::new(dir), |test| bench::run(test, true))
        }
        _ => {
            eprintln!("pair demo DIR IMAGE PLACE | pair bench DIR [quick]");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
