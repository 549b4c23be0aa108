//! `throughline run`: the engine on the main thread; signals, the control
//! socket and what the service manager is told on threads of their own.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use engine::{Detail, Handle, Snapshot};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::capture;
use super::notify::{Progress, notify, watchdog};
use crate::check::Host;
use crate::config::{self, Program, ranges};
use crate::control::{ErrorObject, Listening, Methods, serve};
use crate::logging;
use crate::metrics;
use crate::stats::Stats;

/// How long shards may take to give their counters.
const SNAPSHOT: Duration = Duration::from_secs(4);
/// How long the file of a capture may take to be finished when the program ends.
const CAPTURE: Duration = Duration::from_secs(5);

/// `throughline run`
pub(crate) fn run(path: &Path, copy: bool) -> anyhow::Result<ExitCode> {
    logging::start();
    let mut program = config::load(path, Host::here().cores().as_deref())?;
    program.engine.copy |= copy;
    if let Some(warnings) = &program.warnings {
        log::warn!("{}", warnings.to_string().trim_end());
    }
    log::info!(
        "throughline {} starts with {}",
        env!("CARGO_PKG_VERSION"),
        path.display()
    );
    // These threads exist before DPDK pins this one to its core, and stay unpinned.
    let handle = Handle::new();
    stop_on_signals(handle.clone())?;
    let mut listening = Listening::open(&program.control_socket)?;
    let begin = Instant::now();
    serve(&mut listening, methods(handle.clone(), begin))
        .context("cannot start the control socket's thread")?;
    if let Some(address) = program.metrics {
        serve_metrics(address, handle.clone(), begin)?;
    }
    let cores = program.engine.cores.clone();
    tell_service_manager(handle.clone(), summary(&program), cores)?;
    let result = engine::run(&program.engine, &handle);
    // The thread that tells the service manager ends too, whatever happened.
    handle.stop();
    finish_capture(&handle);
    drop(listening);
    match result {
        Ok(()) => {
            log::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(anyhow::Error::new(error).context(format!(
            "cannot run (`throughline check --config {}` may tell more)",
            path.display()
        ))),
    }
}

/// Waits until the file of a capture has what was captured, if its disk takes it.
fn finish_capture(handle: &Handle) {
    let deadline = Instant::now() + CAPTURE;
    while handle.is_capturing() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

/// The first SIGTERM or SIGINT asks the engine to stop; the second does not ask.
fn stop_on_signals(handle: Handle) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot catch signals")?;
    let watch = move || {
        for signal in signals.forever() {
            if handle.is_stopping() {
                log::error!("a second signal: ending at once, without finishing what is in flight");
                signal_hook::low_level::exit(128 + signal);
            }
            log::info!("stopping; a second signal forces the end");
            handle.stop();
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .context("cannot start a thread")?;
    Ok(())
}

/// What the ready line says.
fn summary(program: &Program) -> String {
    let engine = &program.engine;
    let listeners = engine.target.listeners.iter();
    let listeners: Vec<String> = listeners
        .map(|&listener| std::net::SocketAddr::from(listener).to_string())
        .collect();
    let namespaces: usize = engine
        .target
        .subsystems
        .iter()
        .map(|s| s.namespaces.len())
        .sum();
    format!(
        "ready: NVMe/TCP on {}, {namespaces} namespace(s), polling on {}, control socket {}{}",
        listeners.join(", "),
        ranges(&engine.cores),
        program.control_socket.display(),
        if engine.copy {
            ", COPYING every page (--copy)"
        } else {
            ""
        },
    )
}

/// Says when we are ready, that every shard polls, and when we stop.
fn tell_service_manager(handle: Handle, summary: String, cores: Vec<u32>) -> anyhow::Result<()> {
    // Several looks in a period: one that comes late on a busy machine costs nothing.
    let every = watchdog().map(|period| period / 4);
    let tell = move || {
        while !handle.is_ready() {
            if handle.is_stopping() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        log::info!("{summary}");
        notify(&format!("READY=1\nSTATUS={summary}"));
        let mut progress = Progress::default();
        let mut was_stuck = Vec::new();
        let mut look_at = Instant::now();
        while !handle.is_stopping() {
            thread::sleep(Duration::from_millis(20));
            let Some(every) = every.filter(|_| Instant::now() >= look_at) else {
                continue;
            };
            look_at = Instant::now() + every;
            let stuck = progress.stuck(handle.rounds());
            if stuck.is_empty() {
                notify("WATCHDOG=1");
            } else if stuck != was_stuck {
                let stuck: Vec<u32> = stuck.iter().map(|&shard| cores[shard]).collect();
                log::error!("no poll since the last look on {}", ranges(&stuck));
            }
            was_stuck = stuck;
        }
        notify("STOPPING=1");
    };
    thread::Builder::new()
        .name("service".into())
        .spawn(tell)
        .context("cannot start a thread")?;
    Ok(())
}

/// Answers scrapes at `address`.
fn serve_metrics(address: SocketAddr, handle: Handle, begin: Instant) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!(
            "cannot listen for scrapes at {address}: set another `metrics` in [control], or none"
        )
    })?;
    let source = move || {
        let snapshot = counters(&handle, Detail::Counters)?;
        let uptime = begin.elapsed();
        Ok(metrics::exposition(&snapshot, uptime, handle.is_ready()))
    };
    metrics::serve(listener, Box::new(source)).context("cannot start the thread of metrics")
}

/// The engine's counters; `Err` says why there are none.
fn counters(handle: &Handle, detail: Detail) -> Result<Snapshot, String> {
    handle.snapshot(detail, SNAPSHOT).ok_or_else(|| {
        let why = if handle.is_ready() {
            "a shard did not answer"
        } else {
            "not ready yet"
        };
        format!("No counters: {why}")
    })
}

/// What the control socket offers.
fn methods(handle: Handle, begin: Instant) -> Methods {
    let mut methods = Methods::default();
    methods.add("throughline_get_version", |params| {
        none(&params)?;
        Ok(json!({ "name": "throughline", "version": env!("CARGO_PKG_VERSION") }))
    });
    let asked = handle.clone();
    methods.add("throughline_get_stats", move |params| {
        let detail = match params.get("connections") {
            Some(Value::Bool(true)) => Detail::Connections,
            Some(Value::Bool(false)) | None => Detail::Counters,
            Some(_) => return Err(invalid("`connections` is true or false")),
        };
        only(&params, &["connections"])?;
        let snapshot =
            counters(&asked, detail).map_err(|why| ErrorObject::new(ErrorObject::INTERNAL, why))?;
        serde_json::to_value(Stats::new(&snapshot, begin.elapsed(), asked.is_ready()))
            .map_err(|error| ErrorObject::new(ErrorObject::INTERNAL, error.to_string()))
    });
    capture::add(&mut methods, handle.clone());
    // The engine is stopped once the answer is on its way, since the process goes with it.
    let wanted = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = wanted.clone();
    methods.add("throughline_stop", move |params| {
        none(&params)?;
        log::info!("stopping, asked by the control socket");
        stop.store(true, std::sync::atomic::Ordering::Release);
        Ok(Value::Bool(true))
    });
    methods.after_reply(move || {
        if wanted.load(std::sync::atomic::Ordering::Acquire) {
            handle.stop();
        }
    });
    methods
}

fn none(params: &serde_json::Map<String, Value>) -> Result<(), ErrorObject> {
    only(params, &[])
}

/// Refuses parameters that a method does not know.
pub(super) fn only(
    params: &serde_json::Map<String, Value>,
    known: &[&str],
) -> Result<(), ErrorObject> {
    match params.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) if known.is_empty() => {
            Err(invalid(&format!("this method takes none, not `{key}`")))
        }
        Some(key) => Err(invalid(&format!(
            "this method knows {known:?}, not `{key}`"
        ))),
    }
}

pub(super) fn invalid(why: &str) -> ErrorObject {
    let why = format!("Invalid parameters: {why}");
    ErrorObject::new(ErrorObject::INVALID_PARAMS, why)
}
