//! Processes of a test: bounded in time, ended with the value that stands for
//! them, their output kept.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::OrFail;
use crate::{Failure, Result, Test};

/// What a tool may take when nothing else is said.
const LIMIT: Duration = Duration::from_secs(120);

/// A command that has not been run.
#[derive(Clone, Debug)]
#[must_use]
pub struct Tool {
    test: Test,
    name: String,
    /// What goes before the program: the namespace it runs in, the core.
    before: Vec<OsString>,
    line: Vec<OsString>,
    limit: Duration,
}

impl Tool {
    /// A program, called by its file's name in logs and failures.
    pub fn new(test: &Test, program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let name = PathBuf::from(program)
            .file_name()
            .map_or_else(|| "tool".into(), |name| name.to_string_lossy().into_owned());
        Self {
            test: test.clone(),
            name,
            before: Vec::new(),
            line: vec![program.into()],
            limit: LIMIT,
        }
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.line.push(argument.as_ref().into());
        self
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        (self.line).extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().into()),
        );
        self
    }

    /// Runs it through another command, which replaces itself by it: its process
    /// is that of the tool.
    pub(crate) fn through<A: AsRef<OsStr>>(mut self, command: impl IntoIterator<Item = A>) -> Self {
        let command = command.into_iter().map(|word| word.as_ref().into());
        self.before.splice(0..0, command);
        self
    }

    /// The seconds it may take, 120 when nothing is said.
    pub fn within(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// What it is called in logs and failures.
    pub fn called(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    #[track_caller]
    pub fn start(self) -> Result<Process> {
        let at = self.test.log_name(&self.name);
        let [out, err] = ["out", "err"].map(|end| self.test.dir().join(format!("{at}.{end}")));
        // Whatever becomes of this process, those it started end with it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.args(&self.before).args(&self.line);
        self.test.note(format!("{at}: {command:?}"));
        command.stdin(Stdio::null());
        command
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?);
        let child = (command.spawn()).or_fail(|error| format!("{}: {error}", self.name))?;
        Ok(Process {
            test: self.test,
            name: self.name,
            child,
            out,
            err,
            deadline: Instant::now() + self.limit,
            limit: self.limit,
        })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// It cannot be started, or does not end in time.
    #[track_caller]
    pub fn run(self) -> Result<Ended> {
        self.start()?.ends()
    }

    /// Runs it to an end with status 0.
    ///
    /// # Errors
    ///
    /// It ends otherwise, or not in time.
    #[track_caller]
    pub fn succeeds(self) -> Result<Ended> {
        self.start()?.succeeds()
    }

    /// Runs it to an end with another status than 0.
    ///
    /// # Errors
    ///
    /// It succeeds, or does not end in time.
    #[track_caller]
    pub fn fails(self) -> Result<Ended> {
        let ended = self.run()?;
        if ended.status.success() {
            return Err(Failure::new(format!(
                "{}: expected it to fail, it succeeded: {}",
                ended.name,
                ended.last_words()
            )));
        }
        Ok(ended)
    }
}

/// A process that runs, or has ended. It is killed when this value goes.
#[derive(Debug)]
pub struct Process {
    test: Test,
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
    deadline: Instant,
    limit: Duration,
}

impl Process {
    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written so far, to standard output and standard error.
    pub fn output(&self) -> String {
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        read(&self.out) + &read(&self.err)
    }

    /// The last lines of that.
    pub fn last_words(&self) -> String {
        last_words(&self.output())
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by its name: `TERM`, `STOP`, `CONT`, …
    ///
    /// # Errors
    ///
    /// There is no such signal.
    #[track_caller]
    pub fn signal(&mut self, signal: &str) -> Result<()> {
        // One that has ended is not waited for until this value is asked: its number is its own.
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).output()?;
        if sent.status.success() || !self.is_running() {
            return Ok(());
        }
        Err(Failure::new(format!("{} does not get {signal}", self.name)))
    }

    /// Ends it at once.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end, as long as it may take.
    ///
    /// # Errors
    ///
    /// It does not end in time; it is killed then.
    #[track_caller]
    pub fn ends(mut self) -> Result<Ended> {
        let pause = |step: u32| Duration::from_millis(20.min(1 << step.min(5)));
        for step in 0.. {
            if let Some(status) = self.child.try_wait()? {
                let read = |path| -> Result<String> {
                    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
                };
                return Ok(Ended {
                    name: self.name.clone(),
                    status,
                    stdout: read(&self.out)?,
                    stderr: read(&self.err)?,
                });
            }
            if Instant::now() >= self.deadline {
                break;
            }
            thread::sleep(pause(step));
        }
        self.end();
        let (name, seconds) = (&self.name, self.limit.as_secs());
        Err(Failure::new(format!(
            "{name}: not done after {seconds} s: {}",
            last_words(&self.output())
        )))
    }

    /// Waits for its end with status 0.
    ///
    /// # Errors
    ///
    /// It ends otherwise, or not in time.
    #[track_caller]
    pub fn succeeds(self) -> Result<Ended> {
        let ended = self.ends()?;
        if !ended.status.success() {
            return Err(Failure::new(format!(
                "{} ended with {}: {}",
                ended.name,
                ended.status,
                ended.last_words()
            )));
        }
        Ok(ended)
    }

    /// From now on it may take so long.
    pub(crate) fn extend(&mut self, limit: Duration) {
        self.limit = limit;
        self.deadline = Instant::now() + limit;
    }

    /// Has its output shown with a failure of the test.
    pub(crate) fn show_on_failure(&self) {
        for path in [&self.out, &self.err] {
            self.test.show_on_failure(path);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// A process that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// All it wrote.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The last lines it wrote.
    pub fn last_words(&self) -> String {
        last_words(&self.output())
    }
}

/// The last lines of a text, in one line.
fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines.is_empty() {
        return "it said nothing".into();
    }
    lines[lines.len().saturating_sub(4)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_takes_too_long_is_ended_and_its_words_are_told() {
        let test = Test::scratch("process-limit");
        let slow = Tool::new(&test, "sh").args(["-c", "echo begun; exec sleep 60"]);
        let mut process = slow.within(60).start().expect("it starts");
        let id = process.id();
        crate::wait::until("it begins", || {
            Ok(if process.output().is_empty() {
                Err("nothing yet".into())
            } else {
                Ok(())
            })
        })
        .expect("it says something");
        process.extend(Duration::ZERO);
        let failure = process
            .ends()
            .expect_err("it does not end by itself")
            .to_string();
        assert!(
            failure.contains("sh: not done after 0 s: begun"),
            "{failure}"
        );
        assert!(failure.contains("process.rs:"), "{failure}");
        assert!(!PathBuf::from(format!("/proc/{id}")).exists());
    }

    #[test]
    fn a_status_is_told_with_the_last_words() {
        let test = Test::scratch("process-status");
        let tool = Tool::new(&test, "sh").args(["-c", "echo out; echo err >&2; exit 3"]);
        let failure = tool.clone().succeeds().expect_err("status 3").to_string();
        assert!(
            failure.contains("sh ended with exit status: 3: out / err"),
            "{failure}"
        );
        assert_eq!(tool.fails().expect("it fails").status.code(), Some(3));
        let fine = Tool::new(&test, "true").fails().expect_err("it succeeds");
        assert!(fine.to_string().contains("it said nothing"), "{fine}");
    }

    #[test]
    fn a_process_ends_with_its_value() {
        let test = Test::scratch("process-drop");
        let process = Tool::new(&test, "sleep")
            .arg("60")
            .start()
            .expect("it starts");
        let id = process.id();
        drop(process);
        assert!(!PathBuf::from(format!("/proc/{id}")).exists());
    }
}
