//! Frames of a port: `throughline_capture`, `throughline_stop_capture`.

mod file;

use std::fs::{self, OpenOptions};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use engine::{CaptureLimits, Captured, Handle};
use serde::Deserialize;
use serde_json::{Value, json};

use self::file::Pieces;
use super::params::{Params, Within, read};
use crate::control::{ErrorObject, Gone};

/// Longest capture in seconds.
pub(crate) const SECONDS_MAX: u64 = 3600;

/// The capture that runs.
#[derive(Default)]
pub(super) struct Running(Mutex<Option<Current>>);

struct Current {
    file: String,
    ends: bool,
}

impl Running {
    fn with<T>(&self, work: impl FnOnce(&mut Option<Current>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_to_end(&self) -> bool {
        self.with(|current| current.as_ref().is_some_and(|current| current.ends))
    }
}

/// `throughline_stop_capture`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stop {
    /// That of this file alone.
    file: Option<String>,
}

impl Stop {
    pub(super) fn read(params: Params) -> Result<Self, ErrorObject> {
        read(params)
    }

    /// Asks the capture to end; it answers whoever began it.
    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        running.with(|current| match current {
            Some(current) if self.file.is_none_or(|file| file == current.file) => {
                current.ends = true;
                Ok(Value::Bool(true))
            }
            _ => Err(ErrorObject::invalid_params("no such capture runs")),
        })
    }
}

/// `throughline_capture`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capture {
    port: String,
    file: String,
    /// What messages call the file.
    called: Option<String>,
    seconds: Option<Within<1, SECONDS_MAX>>,
    frames: Option<Within<1, { u64::MAX }>>,
    snap: Option<Within<14, 65_535>>,
}

impl Capture {
    pub(super) fn read(params: Params) -> Result<Self, ErrorObject> {
        read(params)
    }

    fn snap(&self) -> usize {
        self.snap.map_or(256, |snap| snap.0) as usize
    }

    fn limits(&self) -> CaptureLimits {
        CaptureLimits {
            time: Duration::from_secs(self.seconds.map_or(10, |seconds| seconds.0)),
            frames: self.frames.map_or(u64::MAX, |frames| frames.0),
        }
    }

    pub(super) fn answer(
        self,
        handle: &Handle,
        running: &Running,
        gone: Gone,
    ) -> Result<Value, ErrorObject> {
        let cannot = |why: String| ErrorObject::internal(why);
        let called = self.called.as_ref().unwrap_or(&self.file);
        let unwritable = |error| cannot(format!("Cannot write {called}: {error}"));
        // Anything else might never take what is written.
        if !fs::metadata(&self.file).map_err(unwritable)?.is_file() {
            let why = "`file` is a regular file that exists";
            return Err(ErrorObject::invalid_params(why));
        }
        let opened = OpenOptions::new().write(true).open(&self.file);
        let mut file = Pieces::new(opened.map_err(unwritable)?);
        let mut capture = handle
            .capture(&self.port, self.snap())
            .map_err(|why| cannot(format!("No capture: {why}")))?;
        log::info!("capturing {} to {called}", self.port);
        running.with(|current| {
            *current = Some(Current {
                file: self.file.clone(),
                ends: false,
            });
        });
        let written = capture.write(&mut file, self.limits(), || gone() || running.is_to_end());
        running.with(|current| *current = None);
        let taken = written.map_err(|error| {
            // The first piece is the header.
            let frames = file.count.saturating_sub(1);
            let why = format!(
                "Cannot write more to {called}: {error}. It has {frames} frames of {}, all \
                 whole; what came after them is lost",
                self.port
            );
            log::error!("{why}");
            cannot(why)
        })?;
        log::info!("{called}: captured {}", said(&self.port, taken));
        Ok(json!({ "frames": taken.frames, "bytes": taken.bytes, "dropped": taken.dropped }))
    }
}

/// What was captured, as a line says it.
pub(crate) fn said(port: &str, taken: Captured) -> String {
    let Captured {
        frames,
        bytes,
        dropped,
    } = taken;
    format!("{frames} frames of {port}, {bytes} bytes of them; {dropped} dropped")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn asked(params: Value) -> Result<(usize, u64, u64), String> {
        let asked = Capture::read(params.as_object().unwrap().clone());
        let limits = |asked: Capture| {
            let CaptureLimits { time, frames } = asked.limits();
            (asked.snap(), time.as_secs(), frames)
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
                "`file` is a string, not integer `1`",
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
    fn k06_a_capture_is_ended_by_its_file() {
        let running = Running::default();
        let stop = |params: Value| {
            let stop = Stop::read(params.as_object().unwrap().clone()).unwrap();
            stop.answer(&running).is_ok()
        };
        assert!(!stop(json!({})));
        let file = "f".to_owned();
        running.with(|current| *current = Some(Current { file, ends: false }));
        assert!(!stop(json!({ "file": "g" })) && !running.is_to_end());
        assert!(stop(json!({ "file": "f" })) && running.is_to_end());
        assert!(stop(json!({})));
    }

    #[test]
    fn k06_a_capture_that_cannot_be_says_why() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("f.pcap");
        let ask = |file: &Path| {
            let params = json!({ "port": "port0", "file": file });
            let capture = Capture::read(params.as_object().unwrap().clone()).unwrap();
            let answer = capture.answer(&Handle::new(), &Running::default(), &|| false);
            answer.unwrap_err().message
        };
        assert!(ask(&file).starts_with("Cannot write "));
        assert!(ask(directory.path()).contains("a regular file"));
        fs::write(&file, "").unwrap();
        assert_eq!(ask(&file), "No capture: the program is not ready yet");
    }
}
