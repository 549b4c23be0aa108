//! Alerts of pairs, by a command of the operator's (row R6): `alert` in `[pair]`.
//!
//! A thread of its own runs it, once for each alert and one at a time, on cores that do not poll.

mod command;
mod process;
#[cfg(test)]
mod tests;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use engine::{Handle, PairAlert, PairConfig, PairVolumeConfig, pair_volumes};
use serde_json::json;

use self::command::Patience;
use crate::config::{Program, uuid_text};
use crate::text::time_text;

/// How long the thread waits for an alert before it looks whether all is over.
const TURN: Duration = Duration::from_millis(50);
/// How long a command may take, and how much of that it may when the program ends.
const LIMIT: Duration = Duration::from_secs(30);
const ENDING: Duration = Duration::from_secs(2);
/// Characters of a sentence: whatever they are, its JSON fits into a pipe that nobody reads (pipe(7): 4096 bytes at least).
const SENTENCE: usize = 500;

/// The thread that runs the command.
pub(crate) struct Alerts {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Alerts {
    /// No thread, if the configuration names no command.
    pub(crate) fn start(handle: &Handle, program: &Program) -> anyhow::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let has_one = program.alerts.iter().any(|command| !command.is_empty());
        let thread = has_one.then(|| {
            let runner = Runner {
                handle: handle.clone(),
                commands: program.alerts.clone(),
                patience: Patience {
                    limit: LIMIT,
                    ending: ENDING,
                    is_over: Arc::clone(&is_over),
                },
                pairs: program.engine.pairs.clone(),
                dropped: 0,
            };
            let programs = runner.commands.iter().filter_map(|command| command.first());
            for why in programs.filter_map(|program| runnable(Path::new(program)).err()) {
                log::warn!("no command will be run for alerts of pairs: {why}");
            }
            handle.want_pair_alerts();
            let cores = program.engine.cores.clone();
            let run = move || {
                process::leave_cores(&cores);
                runner.run();
            };
            let thread = thread::Builder::new().name("alerts".into()).spawn(run);
            thread.context("cannot start a thread")
        });
        Ok(Self {
            is_over,
            thread: thread.transpose()?,
        })
    }

    /// The engine has ended.
    pub(crate) fn end(self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
    }
}

/// Whether a file can be run, as far as its mode says; or why not.
pub(crate) fn runnable(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    match metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        true => Ok(()),
        false => Err(format!("{shown} is no executable file")),
    }
}

struct Runner {
    handle: Handle,
    /// By pair; empty: none.
    commands: Vec<Vec<String>>,
    patience: Patience,
    pairs: Vec<PairConfig>,
    /// Alerts that were dropped, as far as was said.
    dropped: u64,
}

impl Runner {
    fn run(mut self) {
        while !self.patience.is_over.load(Ordering::Acquire) {
            if let Some(alert) = self.handle.next_pair_alert(TURN) {
                self.tell(&alert);
            }
            self.tell_of_dropped();
        }
        let left = self.handle.drop_pair_alerts();
        if left > 0 {
            log::warn!("the program ends: {left} alerts of pairs were not told to a command");
        }
    }

    /// The pair of a volume, by its place among those of all pairs, and the volume.
    fn find(&self, place: usize) -> Option<(usize, &PairVolumeConfig)> {
        pair_volumes(&self.pairs).nth(place)
    }

    fn tell(&self, alert: &PairAlert) {
        let pair = self.find(alert.pair).map(|(pair, _)| &self.commands[pair]);
        let Some(command) = pair.filter(|command| !command.is_empty()) else {
            return;
        };
        let text = self.text(alert);
        let result = command::run(command, &text, &self.patience);
        self.handle.pair_alert_command_ended(result.is_ok());
        if let Err(why) = result {
            let (command, event) = (&command[0], alert.alert.event.word());
            log::warn!("{command}, run for the alert {event} of a pair: {why}");
        }
    }

    fn tell_of_dropped(&mut self) {
        let dropped = self.handle.pair_alert_counters().alerts_dropped;
        let more = dropped - std::mem::replace(&mut self.dropped, dropped);
        if more > 0 {
            log::warn!("{more} alerts of pairs were dropped: too many waited for a command");
        }
    }

    /// What the command reads: an object in a line.
    fn text(&self, said: &PairAlert) -> String {
        let (found, alert) = (self.find(said.pair), &said.alert);
        let pair = found.map(|(pair, _)| &self.pairs[pair]);
        let volume = found.map(|(_, volume)| volume);
        let text: String = alert.text.chars().take(SENTENCE).collect();
        let object = json!({
            "time": time_text(said.at),
            "node": pair.map(|pair| uuid_text(pair.node)),
            "peer": pair.map(|pair| uuid_text(pair.peer)),
            "store": volume.map(|volume| &volume.store),
            "volume": volume.map(|volume| uuid_text(volume.id)),
            "event": alert.event.word(),
            "role": alert.role.word(),
            "generation": alert.generation.to_string(),
            "text": text,
        });
        format!("{object}\n")
    }
}
