//! The program itself: `throughline_get_version`, `throughline_get_stats`,
//! `throughline_stop`, `throughline_get_config`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::{Detail, Handle, Snapshot};
use serde::Deserialize;
use serde_json::{Value, json};

use super::capture;
use super::target::Running;
use crate::control::ErrorObject;
use crate::readiness::Source;
use crate::stats::Stats;

/// How long shards may take to give their counters.
const SNAPSHOT: Duration = Duration::from_secs(4);

/// The program that answers.
pub(crate) struct Program {
    pub(super) handle: Handle,
    readiness: Source,
    pub(super) capture: capture::Running,
    begin: Instant,
    /// Somebody asked it to stop.
    stopping: AtomicBool,
}

impl Program {
    /// The program that started at `begin`.
    pub(crate) fn new(handle: Handle, readiness: Source, begin: Instant) -> Self {
        Self {
            handle,
            readiness,
            capture: capture::Running::default(),
            begin,
            stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn version() -> Value {
        json!({ "name": "throughline", "version": env!("CARGO_PKG_VERSION") })
    }

    pub(super) fn stop(&self) -> Value {
        log::info!("stopping, asked by the control socket");
        self.stopping.store(true, Ordering::Release);
        Value::Bool(true)
    }

    /// The engine is stopped once the answer is on its way, since the process goes with it.
    pub(super) fn replied(&self) {
        if self.stopping.load(Ordering::Acquire) {
            self.handle.stop();
        }
    }
}

/// `throughline_get_stats`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GetStats {
    /// Every connection too.
    #[serde(default)]
    connections: bool,
}

impl GetStats {
    pub(super) fn answer(self, program: &Program) -> Result<Value, ErrorObject> {
        let detail = match self.connections {
            true => Detail::Connections,
            false => Detail::Counters,
        };
        let handle = &program.handle;
        let snapshot = counters(handle, detail).map_err(ErrorObject::internal)?;
        let stats = Stats::new(
            &snapshot,
            program.begin.elapsed(),
            &program.readiness.look(),
        );
        serde_json::to_value(stats).map_err(|error| ErrorObject::internal(error.to_string()))
    }
}

/// `throughline_get_config`: the file the program was started with, with what was
/// changed since; where it is; and the digests of the files that it may replace.
pub(super) fn get_config(running: &Running) -> Result<Value, ErrorObject> {
    let (file, toml, known) = running.file()?;
    Ok(json!({ "file": file, "toml": toml, "known": known }))
}

/// The engine's counters; `Err` says why there are none.
pub(crate) fn counters(handle: &Handle, detail: Detail) -> Result<Snapshot, String> {
    handle.snapshot(detail, SNAPSHOT).ok_or_else(|| {
        let why = if handle.is_ready() {
            "a shard did not answer"
        } else {
            "not ready yet"
        };
        format!("No counters: {why}")
    })
}
