//! `throughline run`: the engine on the main thread; signals, the control
//! socket and what the service manager is told on threads of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use engine::{Detail, Handle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::service;
use crate::alert::Alerts;
use crate::arbiter::Arbiter;
use crate::claims::{self, Claims, Holder};
use crate::config::{self, Program};
use crate::control::{Listening, serve};
use crate::host::Host;
use crate::logging;
use crate::metrics;
use crate::readiness;
use crate::rpc::{self, Rpc, Running};

/// How long the file of a capture may take to be finished when the program ends.
const CAPTURE: Duration = Duration::from_secs(5);

/// `throughline run`
pub(crate) fn run(path: &Path, copy: bool, discard_log: &[String]) -> anyhow::Result<ExitCode> {
    logging::start();
    let (mut program, source) = config::load_source(path, Host::here().cores().as_deref())?;
    program.engine.copy |= copy;
    for name in discard_log {
        discard(&mut program, name)?;
    }
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
    let _claims = claim(path, &program)?;
    let begin = Instant::now();
    let running = Running::new(Box::new(handle.clone()), program.engine.clone(), source);
    let readiness = readiness::Source::new(handle.clone(), &program);
    let rpc = rpc::Program::new(handle.clone(), readiness.clone(), begin);
    let rpc = Rpc::new(rpc, running);
    serve(&mut listening, rpc).context("cannot start the control socket's thread")?;
    if let Some(address) = program.metrics {
        serve_metrics(address, handle.clone(), readiness.clone(), begin)?;
    }
    let service = service::start(handle.clone(), readiness, &program)?;
    let alerts = Alerts::start(&handle, &program)?;
    let arbiter = Arbiter::start(&handle, &program.engine.pairs)?;
    let result = engine::run(&program.engine, &handle);
    arbiter.end();
    alerts.end();
    // The thread that reports to the service manager ends too, whatever happened, and is waited
    // for: a process that ends first has not said that it stops.
    handle.stop();
    let _ = service.join();
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

/// Has given up what one of the log's stores has, if `name` is that of one: whoever gives something up knows what.
fn discard(program: &mut Program, name: &str) -> anyhow::Result<()> {
    let log = (program.engine.log.as_mut())
        .context("--discard-log: the configuration has no [log], so nothing is given up")?;
    let names = log.names();
    let store = log.stores.iter_mut().find(|store| store.name == name);
    let store = store.with_context(|| {
        format!(
            "--discard-log {name}: the log is on store {names}. To give up what a store has (`throughline log show --config` says what that is), name it"
        )
    })?;
    store.discard = true;
    Ok(())
}

/// Claims what only one process may have.
fn claim(config: &Path, program: &Program) -> anyhow::Result<Claims> {
    let host = Host::here();
    let wanted = claims::wanted(&host, program)?;
    let holder = Holder::this(config, &program.control_socket);
    Ok(Claims::take(
        &host,
        Path::new(claims::DIRECTORY),
        &wanted,
        &holder,
    )?)
}

/// Waits until the file of a capture has what was captured, if its disk takes it.
fn finish_capture(handle: &Handle) {
    let deadline = Instant::now() + CAPTURE;
    while handle.is_capturing() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

/// The first SIGTERM or SIGINT asks the engine to stop; the second does not ask. SIGHUP, of a
/// terminal that closes or of somebody who thinks of a file to read again, ends nothing.
fn stop_on_signals(handle: Handle) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot catch signals")?;
    let watch = move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                log::info!("SIGHUP: going on; what is offered changes by the control socket");
                continue;
            }
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

/// Answers scrapes at `address`, and whether it serves.
fn serve_metrics(
    address: SocketAddr,
    handle: Handle,
    readiness: readiness::Source,
    begin: Instant,
) -> anyhow::Result<()> {
    let listener = metrics::listen(address)?;
    let ready = readiness.clone();
    let source = metrics::Source {
        metrics: Box::new(move || {
            let snapshot = rpc::counters(&handle, Detail::Counters)?;
            let uptime = begin.elapsed();
            Ok(metrics::exposition(&snapshot, uptime, &readiness.look()))
        }),
        readiness: Box::new(move || {
            let now = ready.look();
            match now.state().serves() {
                true => Ok(now.line() + "\n"),
                false => Err(now.line()),
            }
        }),
    };
    metrics::serve(listener, source).context("cannot start the thread of metrics")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::minimal_with;

    #[test]
    fn s07_a_log_is_given_up_by_the_name_of_its_store_alone() {
        let parse = |log: &str| {
            let store = "[[store]]\nname = \"log0\"\nmalloc = { size_mib = 64 }\n";
            minimal_with(&format!("cores = [1]\n{log}"), store, "")
        };
        let mut program = parse("log = { store = \"log0\" }");
        let told = discard(&mut program, "disk0").unwrap_err().to_string();
        assert!(told.contains("the log is on store log0"), "{told}");
        let is_given_up =
            |program: &Program| program.engine.log.as_ref().unwrap().stores[0].discard;
        assert!(!is_given_up(&program));
        discard(&mut program, "log0").unwrap();
        assert!(is_given_up(&program));
        let told = discard(&mut parse(""), "log0").unwrap_err().to_string();
        assert!(told.contains("no [log]"), "{told}");
    }
}
