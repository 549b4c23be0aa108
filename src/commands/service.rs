//! What the log and the service manager hear of a program that runs: that it serves, and what
//! of it; what changes; that every shard polls; that it stops.

use std::net::{IpAddr, SocketAddr};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use engine::Handle;

use super::notify::{Progress, notify, watchdog};
use crate::config::{Program, ranges};
use crate::readiness::{Readiness, Source, State};

/// Between looks at how everything is.
const LOOK: Duration = Duration::from_millis(100);
/// Between looks at shards, where no watchdog wants them oftener.
const STUCK: Duration = Duration::from_millis(2500);
/// While it does not serve yet, the service manager is asked this often for so much more time:
/// waiting for a link is no failure to start.
const ASK: Duration = Duration::from_secs(5);
const MORE: &str = "EXTEND_TIMEOUT_USEC=60000000";

/// Reports on a thread of its own, until the engine stops.
pub(super) fn start(
    handle: Handle,
    source: Source,
    program: &Program,
) -> anyhow::Result<JoinHandle<()>> {
    let summary = Summary::new(program);
    let cores = program.engine.cores.clone();
    thread::Builder::new()
        .name("service".into())
        .spawn(move || watch(&handle, &source, Reporter::new(summary), &cores))
        .context("cannot start a thread")
}

fn watch(handle: &Handle, source: &Source, mut reporter: Reporter, cores: &[u32]) {
    // Several looks in a period: one that comes late on a busy machine costs nothing.
    let watchdog = watchdog().map(|period| period / 4);
    while !(handle.is_ready() && source.has_claimed()) {
        if handle.is_stopping() {
            return;
        }
        handle.tend();
        thread::sleep(Duration::from_millis(5));
    }
    let mut progress = Progress::default();
    let begin = Instant::now();
    let (mut look_at, mut progress_at, mut ask_at) = (begin, begin, begin);
    while !handle.is_stopping() {
        let now = Instant::now();
        if now >= progress_at {
            progress_at = now + watchdog.unwrap_or(STUCK);
            let stuck = progress.stuck(handle.rounds());
            if stuck.is_empty() && watchdog.is_some() {
                notify("WATCHDOG=1");
            }
            source.set_stuck(stuck.iter().map(|&shard| cores[shard]).collect());
        }
        if now >= look_at {
            look_at = now + LOOK;
            let readiness = source.look();
            // What a stop takes down is not told as broken.
            if !handle.is_stopping() {
                reporter.report(readiness);
            }
        }
        if !reporter.has_served && now >= ask_at {
            ask_at = now + ASK;
            notify(MORE);
        }
        handle.tend();
        thread::sleep(Duration::from_millis(20));
    }
    notify("STOPPING=1");
}

/// What was reported last.
struct Reporter {
    summary: Summary,
    reported: Option<Readiness>,
    /// READY=1 was said, which is once and for all.
    has_served: bool,
}

impl Reporter {
    fn new(summary: Summary) -> Self {
        Self {
            summary,
            reported: None,
            has_served: false,
        }
    }

    fn report(&mut self, now: Readiness) {
        if self.reported.as_ref() == Some(&now) {
            return;
        }
        let before = self.reported.take().unwrap_or_default();
        let (broken, mended) = now.since(&before);
        for why in broken {
            log::error!("{why}");
        }
        for name in mended {
            log::info!("{name} works again");
        }
        let (state, status) = (now.state(), self.status(&now));
        match state {
            State::Ready => log::info!("{status}"),
            State::Degraded => log::warn!("{status}"),
            State::Unready => log::error!("{status}"),
        }
        let mut news = format!("STATUS={status}");
        if state.serves() && !self.has_served {
            self.has_served = true;
            news.insert_str(0, "READY=1\n");
        }
        notify(&news);
        self.reported = Some(now);
    }

    /// State, what is served, and what is wrong, in one line.
    fn status(&self, now: &Readiness) -> String {
        match now.state() {
            State::Unready => now.line(),
            state => {
                let served = self.summary.served(now);
                let reasons = now.reasons();
                let but = if reasons.is_empty() { "" } else { "; " };
                format!("{state}: {served}{but}{}", reasons.join("; "))
            }
        }
    }
}

/// What the configuration offers.
struct Summary {
    /// Addresses, and the ports that have them; one of all ports has none.
    listeners: Vec<(SocketAddr, Option<usize>)>,
    rest: String,
}

impl Summary {
    fn new(program: &Program) -> Self {
        let engine = &program.engine;
        let port_of = |address: IpAddr| {
            let has = |&(own, _): &_| own == address;
            (engine.ports.iter()).position(|port| port.addresses.iter().any(has))
        };
        let listeners = engine.target.listeners.iter();
        let subsystems = engine.target.subsystems.iter();
        let namespaces: usize = subsystems.map(|s| s.namespaces.len()).sum();
        Self {
            listeners: listeners
                .map(|listener| (listener.address(), port_of(listener.listener.address)))
                .collect(),
            rest: format!(
                "{namespaces} namespace(s), polling on {}, control socket {}{}",
                ranges(&engine.cores),
                program.control_socket.display(),
                if engine.copy {
                    ", COPYING every page (--copy)"
                } else {
                    ""
                },
            ),
        }
    }

    /// Without addresses that nobody reaches.
    fn served(&self, now: &Readiness) -> String {
        let works = |port: &Option<usize>| {
            port.and_then(|port| now.ports.get(port))
                .is_none_or(|port| port.wrong.is_none())
        };
        let mut listeners = self.listeners.iter().collect::<Vec<_>>();
        listeners.retain(|(at, port)| works(port) && now.is_reached(at.ip()));
        let listeners = listeners.iter();
        let listeners: Vec<String> = listeners.map(|(at, _)| at.to_string()).collect();
        format!("NVMe/TCP on {}, {}", listeners.join(", "), self.rest)
    }
}
