//! `throughline capture`: the command; what the running program does is `rpc`'s.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use engine::Captured;
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{ANSWER, print};
use crate::control::Client;
use crate::rpc::{SECONDS_MAX, captured};

const METHOD: &str = "throughline_capture";
const END: &str = "throughline_stop_capture";

/// What to capture.
#[derive(clap::Args)]
pub(crate) struct Frames {
    /// The port, by its name in the configuration (port0 is the first without one)
    #[arg(long, short, value_name = "NAME")]
    port: String,
    /// The file to write, for tcpdump and Wireshark; one that exists is overwritten
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// End after so many seconds, an hour at most
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// End with so many frames
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
    /// Bytes to take of each frame, 14 to 65535; 256 hold every header
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    snap: u64,
}

/// `throughline capture`
pub(crate) fn capture(socket: &Path, what: &Frames) -> anyhow::Result<ExitCode> {
    let client = Client::connect(socket)?;
    // What the program sees of the file system may be less (PrivateTmp=, ProtectHome=):
    // it writes to the file that is open here.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&what.file)
        .with_context(|| format!("cannot write {}", what.file.display()))?;
    let opened = format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd());
    end_on_signals(socket, &opened)?;
    let params = json!({
        "port": what.port,
        "file": opened,
        "called": what.file.display().to_string(),
        "seconds": what.seconds,
        "frames": what.frames,
        "snap": what.snap,
    });
    let timeout = Duration::from_secs(what.seconds.min(SECONDS_MAX)) + ANSWER;
    let answer = client.call(METHOD, params, timeout)?;
    let count = |key| answer.get(key).and_then(Value::as_u64).unwrap_or_default();
    let taken = Captured {
        frames: count("frames"),
        bytes: count("bytes"),
        dropped: count("dropped"),
    };
    let file = what.file.display();
    print(&format!("{file}: {}\n", captured(&what.port, taken)))?;
    Ok(ExitCode::SUCCESS)
}

/// The first of these signals asks the program to end the capture, and what it answers is
/// printed as ever; the second does not ask.
fn end_on_signals(socket: &Path, file: &str) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot catch signals")?;
    let (socket, file) = (socket.to_owned(), file.to_owned());
    let watch = move || {
        let mut seen = false;
        for signal in signals.forever() {
            let ended = (!seen).then(|| {
                let client = Client::connect(&socket)?;
                client.call(END, json!({ "file": file }), ANSWER)
            });
            seen = true;
            if !matches!(ended, Some(Ok(_))) {
                signal_hook::low_level::exit(128 + signal);
            }
        }
    };
    (thread::Builder::new().name("signals".into()))
        .spawn(watch)
        .context("cannot start a thread")?;
    Ok(())
}
