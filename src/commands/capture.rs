//! `throughline capture`, and the method of the control socket behind it.

use std::fs::{self, OpenOptions};
use std::io::BufWriter;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::Duration;

use anyhow::Context;
use engine::{CaptureLimits, Captured, Handle};
use serde_json::{Map, Value, json};

use super::run::{invalid, only};
use super::{ANSWER, print};
use crate::control::{Client, ErrorObject, Gone, Methods};

pub(super) const METHOD: &str = "throughline_capture";

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
    let params = json!({
        "port": what.port,
        "file": format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd()),
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
    print(&format!("{file}: {}\n", told(&what.port, taken)))?;
    Ok(ExitCode::SUCCESS)
}

const SECONDS_MAX: u64 = 3600;

/// Adds the method to those of the control socket.
pub(super) fn add(methods: &mut Methods, handle: Handle) {
    methods.add_long(METHOD, move |params, gone| serve(&handle, &params, gone));
}

fn serve(handle: &Handle, params: &Map<String, Value>, gone: Gone) -> Result<Value, ErrorObject> {
    let asked = Asked::read(params)?;
    let cannot = |why: String| ErrorObject::new(ErrorObject::INTERNAL, why);
    let unwritable = |error| cannot(format!("Cannot write {}: {error}", asked.file));
    // Anything else might never take what is written.
    if !fs::metadata(asked.file).map_err(unwritable)?.is_file() {
        return Err(invalid("`file` is a regular file that exists"));
    }
    let opened = OpenOptions::new().write(true).open(asked.file);
    let file = BufWriter::with_capacity(1 << 20, opened.map_err(unwritable)?);
    let mut capture = handle
        .capture(asked.port, asked.snap)
        .map_err(|why| cannot(format!("No capture: {why}")))?;
    log::info!("capturing {}", asked.port);
    let taken = capture
        .write(file, asked.limits, gone)
        .inspect_err(|error| log::error!("the capture of {} ends: {error}", asked.port))
        .map_err(unwritable)?;
    log::info!("captured {}", told(asked.port, taken));
    Ok(json!({ "frames": taken.frames, "bytes": taken.bytes, "dropped": taken.dropped }))
}

fn told(port: &str, taken: Captured) -> String {
    let Captured {
        frames,
        bytes,
        dropped,
    } = taken;
    format!("{frames} frames of {port}, {bytes} bytes of them; {dropped} dropped")
}

/// The parameters.
#[derive(Debug)]
struct Asked<'a> {
    port: &'a str,
    file: &'a str,
    snap: usize,
    limits: CaptureLimits,
}

impl<'a> Asked<'a> {
    fn read(params: &'a Map<String, Value>) -> Result<Self, ErrorObject> {
        only(params, &["port", "file", "seconds", "frames", "snap"])?;
        let text = |key| {
            let text = params.get(key).and_then(Value::as_str);
            text.ok_or_else(|| invalid(&format!("`{key}` is missing, or not a string")))
        };
        let number = |key, default, least, most| match params.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => (value.as_u64().filter(|n| (least..=most).contains(n)))
                .ok_or_else(|| invalid(&format!("`{key}` is a number from {least} to {most}"))),
        };
        Ok(Self {
            port: text("port")?,
            file: text("file")?,
            snap: number("snap", 256, 14, 65_535)? as usize,
            limits: CaptureLimits {
                time: Duration::from_secs(number("seconds", 10, 1, SECONDS_MAX)?),
                frames: number("frames", u64::MAX, 1, u64::MAX)?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(params: Value) -> Result<(usize, u64, u64), String> {
        let asked = Asked::read(params.as_object().unwrap());
        let limits = |asked: Asked| {
            let CaptureLimits { time, frames } = asked.limits;
            (asked.snap, time.as_secs(), frames)
        };
        asked.map(limits).map_err(|error| error.message)
    }

    #[test]
    fn k06_what_to_capture_is_checked() {
        let given = json!({ "port": "a", "file": "f", "seconds": 3, "frames": 7, "snap": 64 });
        assert_eq!(asked(given), Ok((64, 3, 7)));
        let least = json!({ "port": "a", "file": "f", "frames": null });
        assert_eq!(asked(least), Ok((256, 10, u64::MAX)));
        for (params, why) in [
            (json!({ "file": "f" }), "`port` is missing"),
            (
                json!({ "port": "a", "file": 1 }),
                "`file` is missing, or not",
            ),
            (
                json!({ "port": "a", "file": "f", "seconds": 0 }),
                "1 to 3600",
            ),
            (
                json!({ "port": "a", "file": "f", "snap": 1 << 20 }),
                "14 to 65535",
            ),
            (
                json!({ "port": "a", "file": "f", "frames": 0 }),
                "`frames` is",
            ),
            (json!({ "port": "a", "file": "f", "x": 0 }), "not `x`"),
        ] {
            let told = asked(params).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn k06_a_capture_that_cannot_be_says_why() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("f.pcap");
        let ask = |file: &Path| {
            let params = json!({ "port": "port0", "file": file });
            serve(&Handle::new(), params.as_object().unwrap(), &|| false)
                .unwrap_err()
                .message
        };
        assert!(ask(&file).starts_with("Cannot write "));
        assert!(ask(directory.path()).contains("a regular file"));
        fs::write(&file, "").unwrap();
        assert_eq!(ask(&file), "No capture: the program is not ready yet");
    }
}
