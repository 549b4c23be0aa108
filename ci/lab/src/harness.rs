//! Runs tests one after the other, as root, and reports as `cargo test` does.
//!
//! The harness of `cargo test` cannot decide at run time that a test cannot run
//! here, and would run them side by side: there is one set of hugepages, and
//! each program polls a core.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Failure, Outcome, Test, machine};

/// A test's name, and what it does.
pub type Named = (&'static str, fn(&Test) -> Outcome);

/// What one test may take, whatever it waits for: short, and with `--long`.
const LIMITS: [Duration; 2] = [Duration::from_secs(900), Duration::from_secs(5400)];

/// The tests of a file, in the order in which they run:
///
/// ```text
/// lab::tests![z14_file_by_r2t_without_a_copy, z06_verify_at_many_sizes];
/// ```
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        fn main() {
            $crate::harness::main(&[$((stringify!($name), $name)),*]);
        }
    };
}

/// What the command line said.
struct Options {
    filters: Vec<String>,
    exact: bool,
    list: bool,
    long: bool,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            filters: Vec::new(),
            exact: false,
            list: false,
            long: false,
        };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => options.exact = true,
                "--list" => options.list = true,
                "--long" => options.long = true,
                // What everything here does anyway, and what cargo and editors add.
                "--nocapture" | "--test-threads=1" | "--quiet" | "-q" => {}
                "--format" => drop(arguments.next()),
                flag if flag.starts_with('-') => return Err(format!("there is no option {flag}")),
                _ => options.filters.push(argument),
            }
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        let fits = |filter: &String| {
            if self.exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        self.filters.is_empty() || self.filters.iter().any(fits)
    }
}

/// Runs the tests that the command line asks for, and ends the process.
///
/// ```text
/// [NAME...]   those whose name has one of these in it; all when none is given
/// --exact     whose name is one of these
/// --long      more sizes, longer runs
/// --list      says what there is
/// ```
pub fn main(tests: &[Named]) -> ! {
    let options = Options::parse(std::env::args().skip(1)).unwrap_or_else(|wrong| {
        eprintln!("{wrong}; there are --exact, --long and --list");
        process::exit(2);
    });
    let wanted: Vec<&Named> = tests
        .iter()
        .filter(|(name, _)| options.wants(name))
        .collect();
    if options.list {
        for (name, _) in wanted {
            println!("{name}: test");
        }
        process::exit(0);
    }
    println!("\nrunning {} tests", wanted.len());
    let mut tally = Tally::new(tests.len() - wanted.len());
    // Another run on this machine comes to its end first.
    let lock = if wanted.is_empty() {
        None
    } else {
        take_turns()
    };
    match (machine::obstacle(), machine::throughline()) {
        _ if wanted.is_empty() => {}
        (Some(reason), _) => {
            for (name, _) in wanted {
                tally.end(
                    name,
                    &[],
                    Err(Failure::Skipped(reason.clone())),
                    Duration::ZERO,
                );
            }
        }
        (None, Err(failure)) => {
            for (name, _) in wanted {
                tally.end(name, &[], Err(failure.clone()), Duration::ZERO);
            }
        }
        (None, Ok(_)) => {
            for named in wanted {
                run(named, options.long, &mut tally);
            }
        }
    }
    drop(lock);
    tally.finish()
}

/// Runs something that is no test, in a directory of its own: demonstrations and measurements.
///
/// # Errors
///
/// It fails, with the ends of the programs' logs; or this machine cannot make networks.
pub fn alone(dir: &Path, work: impl FnOnce(&Test) -> Outcome) -> Outcome {
    let _lock = take_turns();
    if let Some(reason) = machine::obstacle() {
        return Err(Failure::Skipped(reason));
    }
    machine::throughline()?;
    let context = Test::new(dir.into(), false)?;
    work(&context).map_err(|failure| with_logs(failure, &context))
}

/// A failure, with what the programs said.
fn with_logs(mut failure: Failure, context: &Test) -> Failure {
    if let Failure::Failed { what, .. } = &mut failure {
        let (logs, dir) = (context.ends_of_logs(), context.dir().display());
        *what = format!("{}\n{logs}everything is in {dir}", what.trim_end());
    }
    failure
}

/// Waits until no other run on this machine is under way.
fn take_turns() -> Option<File> {
    let file = File::create(std::env::temp_dir().join("throughline-lab.lock")).ok()?;
    if file.try_lock().is_err() {
        println!("  another run is under way: this one waits for it");
        file.lock().ok()?;
    }
    Some(file)
}

fn run((name, test): &Named, long: bool, tally: &mut Tally) {
    let start = Instant::now();
    let context = match Test::new(machine::target().join("lab").join(name), long) {
        Ok(context) => context,
        Err(failure) => return tally.end(name, &[], Err(failure), start.elapsed()),
    };
    let over = watch(name, LIMITS[usize::from(long)]);
    let outcome = catch_unwind(AssertUnwindSafe(|| test(&context)))
        .unwrap_or_else(|_| Err(Failure::new("it panicked: see above")));
    drop(over);
    if let Err(failure) = &outcome {
        context.note(failure);
    }
    let outcome = outcome.map_err(|failure| with_logs(failure, &context));
    tally.end(name, &context.figures(), outcome, start.elapsed());
}

/// Ends the run when a test does not end. The watch is over when what this
/// returns is dropped.
fn watch(name: &'static str, limit: Duration) -> mpsc::Sender<()> {
    let (over, ended) = mpsc::channel();
    thread::spawn(move || {
        if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            println!("FAILED\n  {name} is not done after {} s", limit.as_secs());
            process::exit(102);
        }
    });
    over
}

/// What came of it so far.
struct Tally {
    start: Instant,
    passed: usize,
    failed: usize,
    ignored: usize,
    filtered: usize,
}

impl Tally {
    fn new(filtered: usize) -> Self {
        Self {
            start: Instant::now(),
            passed: 0,
            failed: 0,
            ignored: 0,
            filtered,
        }
    }

    /// A test has ended.
    fn end(&mut self, name: &str, figures: &[String], outcome: Outcome, took: Duration) {
        println!("test {name} ... {}", verdict(figures, &outcome, took));
        match outcome {
            Ok(()) => self.passed += 1,
            Err(Failure::Skipped(_)) => self.ignored += 1,
            Err(Failure::Failed { .. }) => self.failed += 1,
        }
    }

    fn finish(self) -> ! {
        let verdict = if self.failed == 0 { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {verdict}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
            self.passed,
            self.failed,
            self.ignored,
            self.filtered,
            self.start.elapsed().as_secs_f64()
        );
        process::exit(if self.failed == 0 { 0 } else { 101 });
    }
}

/// What a test came to, in the words of `cargo test`; what more there is to say is
/// indented below.
fn verdict(figures: &[String], outcome: &Outcome, took: Duration) -> String {
    let mut lines = match outcome {
        Ok(()) => vec![format!("ok <{:.1}s>", took.as_secs_f64())],
        Err(Failure::Skipped(reason)) => vec![format!("ignored, {}", reason.replace('\n', " "))],
        Err(Failure::Failed { what, at }) => {
            let mut lines = vec!["FAILED".to_owned()];
            lines.push(format!("  at {}:{}", at.file(), at.line()));
            lines.extend(what.lines().map(|line| format!("  {line}")));
            lines
        }
    };
    lines.extend(figures.iter().map(|figure| format!("  {figure}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> Result<Options, String> {
        Options::parse(words.split_whitespace().map(String::from))
    }

    #[test]
    fn names_are_parts_unless_they_are_exact() {
        let all = options("").expect("no options");
        assert!(all.wants("z06_verify") && !all.long);
        let some = options("verify k05 --long").expect("options");
        assert!(
            some.wants("z06_verify") && some.wants("k05_x") && !some.wants("z14_y") && some.long
        );
        let exact = options("verify --exact --nocapture").expect("options");
        assert!(exact.wants("verify") && !exact.wants("z06_verify"));
        assert!(options("--lnog").is_err());
    }

    #[test]
    fn a_verdict_is_read_as_that_of_cargo_test() {
        let took = Duration::from_millis(1500);
        assert_eq!(
            verdict(&["7 frames".into()], &Ok(()), took),
            "ok <1.5s>\n  7 frames"
        );
        let skipped = Err(Failure::Skipped("no tool".into()));
        assert_eq!(verdict(&[], &skipped, took), "ignored, no tool");
        let failed = verdict(&[], &Err(Failure::new("one\ntwo")), took);
        let lines: Vec<&str> = failed.lines().collect();
        assert_eq!((lines[0], &lines[2..]), ("FAILED", &["  one", "  two"][..]));
        assert!(
            lines[1].starts_with("  at ") && lines[1].contains("harness.rs:"),
            "{failed}"
        );
    }
}
