//! A mirrored pair in namespaces, an etcd, and hosts: what `ci/demo --pair` and `ci/bench --pair` run.
//!
//! ```text
//! pair demo DIR IMAGE PLACE   IMAGE is written, the source killed, and what follows; volumes and logs are files in PLACE; DIR/report.json
//! pair bench DIR [tls] [quick] [NVMF_TGT]
//!                             with a link in the clear, or in TLS: bytes on it, latencies, cycles, the rate of a copy; beside SPDK's raid1 with a current one's
//!                             program; DIR/report.json
//! ```
//!
//! DIR is emptied. The exit status is 0 only if everything that was compared matched.
#![allow(missing_docs)]

use std::path::Path;
use std::process::ExitCode;

mod bench;
mod beside;
mod demo;
mod lane;
mod load;
mod multipath;
mod peer;
mod timeline;
mod wire;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["demo", dir, image, place] => lab::harness::alone(Path::new(dir), |test| {
            demo::run(test, Path::new(image), Path::new(place))
        }),
        ["bench", dir, ref rest @ ..] => {
            let is_in_tls = rest.first() == Some(&"tls");
            let rest = &rest[usize::from(is_in_tls)..];
            let is_quick = rest.first() == Some(&"quick");
            let peer = rest.get(usize::from(is_quick)).map(Path::new);
            lab::harness::alone(Path::new(dir), |test| {
                bench::run(test, is_in_tls, is_quick, peer)
            })
        }
        _ => {
            eprintln!("pair demo DIR IMAGE PLACE | pair bench DIR [tls] [quick] [NVMF_TGT]");
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
