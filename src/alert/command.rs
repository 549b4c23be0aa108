//! Runs a command with a text on its standard input, for so long at most.

use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::process;

/// Between looks at whether the command has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long a command may take.
pub(super) struct Patience {
    pub(super) limit: Duration,
    /// From when all is over.
    pub(super) ending: Duration,
    pub(super) is_over: Arc<AtomicBool>,
}

/// Runs `command` with `text`, which is short, until it ends; why it did not do well.
pub(super) fn run(command: &[String], text: &str, patience: &Patience) -> Result<(), String> {
    let begin = Instant::now();
    let (program, arguments) = command.split_first().ok_or("there is no command")?;
    process::keep_descriptors();
    let mut child = Command::new(program)
        .args(arguments)
        // What it says to the service manager is not what this program says.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::piped())
        // Where the log goes.
        .stdout(std::io::stderr())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(text.as_bytes()) {
            // It needs not read.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                log::debug!("{program} does not take its input: {error}");
            }
            _ => {}
        }
    }
    wait(&mut child, begin, patience)
}

fn wait(child: &mut Child, begin: Instant, patience: &Patience) -> Result<(), String> {
    let mut end = begin + patience.limit;
    let mut is_ending = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("it ended with {status}")),
            Ok(None) => {}
            Err(error) => return Err(format!("its end is not known: {error}")),
        }
        let now = Instant::now();
        if !is_ending && patience.is_over.load(Ordering::Acquire) {
            is_ending = true;
            end = end.min(now + patience.ending);
        }
        if now >= end {
            process::kill_group(child);
            let _ = child.wait();
            let seconds = begin.elapsed().as_secs_f64();
            return Err(format!("it had not ended after {seconds:.1} s: killed"));
        }
        thread::sleep(LOOK);
    }
}
