//! `throughline check`: is this machine ready, and if not, what to do.

mod devices;
mod identify;
mod log;
mod memory;
mod numa;
mod span;
#[cfg(test)]
mod tests;
mod usage;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

pub(crate) use self::devices::{USER_DRIVERS, driver_serves};
use crate::alert::runnable;
use crate::claims;
use crate::config::{self, Program};
use crate::control::{Client, Listening};
use crate::host::Host;
use crate::metrics;
use crate::readiness::State;
use crate::stats::Stats;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Works, and could be better.
    Hint,
    /// Prevents `throughline run`.
    No,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    pub(crate) topic: String,
    pub(crate) what: String,
    /// What to do about it; empty when all is well.
    pub(crate) remedy: String,
}

/// Everything that was found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) ready: bool,
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    fn add(
        &mut self,
        level: Level,
        topic: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (what, remedy) = (what.into(), remedy.into());
        self.findings.push(Finding {
            level,
            topic: topic.to_owned(),
            what,
            remedy,
        });
    }

    fn ok(&mut self, topic: &str, what: impl Into<String>) {
        self.add(Level::Ok, topic, what, "");
    }

    fn hint(&mut self, topic: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Hint, topic, what, remedy);
    }

    fn no(&mut self, topic: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::No, topic, what, remedy);
    }

    fn finish(mut self) -> Self {
        self.ready = self
            .findings
            .iter()
            .all(|finding| finding.level != Level::No);
        self
    }
}

/// Is the machine ready for any configuration?
pub(crate) fn machine(host: &Host) -> Report {
    let mut report = Report::default();
    user(host, &mut report);
    processor(host, &mut report);
    memory::reserved(host, &mut report);
    devices::iommu(host, &mut report);
    devices::candidates(host, &mut report);
    report.finish()
}

/// Is the machine ready for this configuration?
pub(crate) fn program(host: &Host, program: &Program) -> Report {
    let mut report = Report::default();
    if let Some(warnings) = &program.warnings {
        report.hint("config", warnings.to_string().trim_end(), "");
    }
    user(host, &mut report);
    processor(host, &mut report);
    cores(host, &program.engine.cores, &mut report);
    memory::enough(host, program, &mut report);
    devices::iommu(host, &mut report);
    for port in &program.engine.ports {
        devices::port(host, port, &mut report);
    }
    for store in &program.engine.stores {
        devices::store(host, store, &mut report);
    }
    for span in &program.engine.spans {
        span::store(host, program, span, &mut report);
    }
    log::store(host, program, &mut report);
    for command in program.alerts.iter().filter_map(|alert| alert.first()) {
        alert(Path::new(command), &mut report);
    }
    numa::placement(host, program, &mut report);
    report.finish()
}

/// A configuration that cannot be read is an answer too.
pub(crate) fn unreadable(error: &config::Error) -> Report {
    let mut report = Report::default();
    report.no("config", error.to_string().trim_end(), "");
    report.finish()
}

/// Is the command for alerts there?
fn alert(command: &Path, report: &mut Report) {
    match runnable(command) {
        Ok(()) => report.ok("alert", format!("{} can be run", command.display())),
        Err(why) => report.hint(
            "alert",
            format!("no command will be run for alerts of pairs: {why}"),
            "put it there and make it executable (chmod +x), or correct `alert` in [pair]",
        ),
    }
}

fn user(host: &Host, report: &mut Report) {
    if host.is_root() {
        report.ok("user", "root");
    } else {
        let what = "not root: physical addresses, devices and hugepages are out of reach";
        report.no("user", what, "run it as root, or by systemd");
    }
}

fn processor(host: &Host, report: &mut Report) {
    // What every build of ours is compiled for: x86-64-v2.
    let missing: Vec<&str> = ["sse4_2", "ssse3", "popcnt"]
        .into_iter()
        .filter(|flag| !host.has_cpu_flag(flag))
        .collect();
    if !missing.is_empty() {
        let what = format!("the processor lacks {}", missing.join(", "));
        report.no(
            "processor",
            what,
            "use an x86-64-v2 processor (2009 or later)",
        );
    }
    if !host.has_cpu_flag("constant_tsc") {
        let what = "the time-stamp counter may change its pace: cycle counts will mislead";
        report.hint("processor", what, "use a processor with constant_tsc");
    }
}

fn cores(host: &Host, cores: &[u32], report: &mut Report) {
    let Some(online) = host.cores() else { return };
    let missing: Vec<u32> = cores
        .iter()
        .copied()
        .filter(|core| !online.contains(core))
        .collect();
    if !missing.is_empty() {
        let what = format!("{} is not online", config::ranges(&missing));
        report.no(
            "cores",
            what,
            format!("write `cores` out of {}", config::ranges(&online)),
        );
        return;
    }
    report.ok(
        "cores",
        format!("{} of {}", config::ranges(cores), config::ranges(&online)),
    );
    if online.iter().all(|core| cores.contains(core)) {
        let what = "shards poll on every core there is: nothing is left for the rest of the system";
        report.hint("cores", what, "leave core 0 out of `cores`");
    }
    let shared = cores.iter().find_map(|&core| {
        let sibling = host
            .siblings(core)
            .into_iter()
            .find(|sibling| cores.contains(sibling))?;
        (core < sibling).then_some((core, sibling))
    });
    if let Some((core, sibling)) = shared {
        let what = format!("cores {core} and {sibling} are two threads of one physical core");
        report.hint("cores", what, "give every shard a physical core");
    }
    let isolated = host.isolated_cores();
    let open: Vec<u32> = cores
        .iter()
        .copied()
        .filter(|core| !isolated.contains(core))
        .collect();
    if !open.is_empty() {
        let list = open
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(",");
        report.hint(
            "cores",
            format!("other work may run on {}", config::ranges(&open)),
            format!("boot with isolcpus={list} nohz_full={list} rcu_nocbs={list}"),
        );
    }
}

/// Tries what `run` does before anything is taken, by the code that `run` does it with.
pub(crate) fn trial(program: &Program, mut report: Report) -> Report {
    let engine = &program.engine;
    if let Err(error) = engine.check_target(&program.known_stores) {
        report.no("target", error.to_string(), "");
    }
    for port in &engine.ports {
        let topic = format!("port {}", port.name);
        let told = |finding: &Finding| finding.level == Level::No && finding.topic == topic;
        // What /sys told already came with its remedy.
        if !report.findings.iter().any(told)
            && let Err(error) = engine.check_port(port)
        {
            report.no(&topic, error.to_string(), "");
        }
    }
    for store in &engine.stores {
        devices::reach(store, &mut report);
    }
    claims(program, &mut report);
    control(&program.control_socket, &mut report);
    if let Some(address) = program.metrics {
        match metrics::listen(address) {
            Ok(_) => report.ok("metrics", format!("{address} can be listened at")),
            Err(error) => report.no("metrics", error.to_string(), ""),
        }
    }
    report.finish()
}

/// Is what only one process may have free for us?
fn claims(program: &Program, report: &mut Report) {
    let host = Host::here();
    let wanted = match claims::wanted(&host, program) {
        Ok(wanted) => wanted,
        Err(refusal) => return report.no("claims", refusal.to_string(), ""),
    };
    for one in &wanted {
        if let Err(refusal) = one.probe(&host, Path::new(claims::DIRECTORY)) {
            report.no("claims", refusal.to_string(), "");
        }
    }
}

fn control(socket: &Path, report: &mut Report) {
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let shown = socket.display();
    if !directory.is_dir() {
        let remedy = format!("mkdir -p {}", directory.display());
        report.no(
            "control",
            format!("the directory of {shown} does not exist"),
            remedy,
        );
        return;
    }
    match Listening::probe(socket) {
        Ok(()) => report.ok("control", format!("{shown} can be made")),
        Err(error) => {
            report.no("control", error.to_string(), "");
            running(socket, report);
        }
    }
}

/// Says how a program does that runs already.
fn running(socket: &Path, report: &mut Report) {
    /// Of a shard that is busy, and some.
    const PATIENCE: Duration = Duration::from_secs(6);
    let asked = Client::connect(socket)
        .and_then(|client| client.call("throughline_get_stats", json!({}), PATIENCE));
    let Ok(Ok(stats)) = asked.map(serde_json::from_value::<Stats>) else {
        return;
    };
    let what = format!("throughline runs there, and is {}", stats.state);
    match stats.state {
        State::Ready => report.ok("running", what),
        _ => {
            let reasons = stats.reasons.join("\n");
            report.hint("running", format!("{what}:\n{reasons}"), "");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics = self
            .findings
            .iter()
            .map(|finding| finding.topic.chars().count());
        let width = topics.max().unwrap_or(0);
        let margin = " ".repeat(width + 10);
        for finding in &self.findings {
            let mark = match finding.level {
                Level::Ok => "ok",
                Level::Hint => "hint",
                Level::No => "NO",
            };
            let gap = " ".repeat(width - finding.topic.chars().count());
            let what = finding.what.replace('\n', &format!("\n{margin}"));
            writeln!(f, "  {mark:<4}  {}{gap}  {what}", finding.topic)?;
            if !finding.remedy.is_empty() {
                writeln!(f, "{margin}→ {}", finding.remedy)?;
            }
        }
        let count = self
            .findings
            .iter()
            .filter(|finding| finding.level == Level::No)
            .count();
        match count {
            0 => writeln!(f, "\nReady."),
            1 => writeln!(
                f,
                "\nNot ready: the one NO above prevents `throughline run`."
            ),
            _ => writeln!(
                f,
                "\nNot ready: the {count} NOs above prevent `throughline run`."
            ),
        }
    }
}
