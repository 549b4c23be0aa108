//! What a test is given: a directory of its own, its log, and what to show of
//! it when it fails.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::{Failure, Outcome, Result};

/// Bytes in a mebibyte.
pub const MIB: u64 = 1 << 20;

/// The test that runs. Copies are the same test.
#[derive(Clone, Debug)]
pub struct Test(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    long: bool,
    logs: Cell<u32>,
    shown: RefCell<Vec<PathBuf>>,
    figures: RefCell<Vec<String>>,
}

impl Test {
    /// A test whose files are in `dir`, which is emptied. `long`: it may take
    /// minutes.
    pub(crate) fn new(dir: PathBuf, long: bool) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(Self(Rc::new(Inner {
            dir,
            long,
            logs: Cell::new(0),
            shown: RefCell::default(),
            figures: RefCell::default(),
        })))
    }

    /// For tests of this crate itself.
    #[cfg(test)]
    pub(crate) fn scratch(name: &str) -> Self {
        let dir = crate::machine::target().join("lab/scratch").join(name);
        Self::new(dir, false).expect("a directory")
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Whether it may take minutes: more sizes, longer runs.
    pub fn long(&self) -> bool {
        self.0.long
    }

    /// A line in the test's log.
    pub fn note(&self, line: impl Display) {
        let path = self.dir().join("test.log");
        let log = OpenOptions::new().create(true).append(true).open(path);
        if let Ok(mut log) = log {
            // A log that cannot be written fails no test.
            let _ = writeln!(log, "{line}");
        }
    }

    /// A figure that is printed beside the test's name.
    pub fn figure(&self, text: impl Display) {
        self.note(&text);
        self.0.figures.borrow_mut().push(text.to_string());
    }

    /// Skips the test unless this machine has the command.
    ///
    /// # Errors
    ///
    /// The reason to skip it.
    pub fn needs(&self, command: &str) -> Outcome {
        if crate::machine::has(command) {
            return Ok(());
        }
        Err(Failure::Skipped(format!(
            "there is no {command} here: run ci/setup"
        )))
    }

    /// A file of so many bytes that nobody has written before.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn fresh_file(&self, bytes: u64) -> Result<PathBuf> {
        let path = self.dir().join(self.log_name("random"));
        let mut random = File::open("/dev/urandom")?.take(bytes);
        std::io::copy(&mut random, &mut File::create(&path)?)?;
        Ok(path)
    }

    /// The name for a file of the test, in the order in which they were made.
    pub(crate) fn log_name(&self, of: &str) -> String {
        self.0.logs.set(self.0.logs.get() + 1);
        format!("{:02}-{of}", self.0.logs.get())
    }

    /// The end of this file is shown when the test fails.
    pub(crate) fn show_on_failure(&self, path: &Path) {
        self.0.shown.borrow_mut().push(path.into());
    }

    pub(crate) fn figures(&self) -> Vec<String> {
        self.0.figures.take()
    }

    /// The ends of the logs that matter, of the last two programs at most.
    pub(crate) fn ends_of_logs(&self) -> String {
        const LOGS: usize = 4;
        const LINES: usize = 12;
        let mut text = String::new();
        let shown = self.0.shown.borrow();
        for path in &shown[shown.len().saturating_sub(LOGS)..] {
            let log = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
            let lines: Vec<&str> = log.lines().collect();
            if lines.is_empty() {
                continue;
            }
            text += &format!("{}:\n", path.display());
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                text += &format!("  {line}\n");
            }
        }
        text
    }
}

/// Two files hold the same bytes.
///
/// # Errors
///
/// Where they differ.
#[track_caller]
pub fn same_bytes(came: &Path, expected: &Path) -> Outcome {
    let [came, expected] = [fs::read(came)?, fs::read(expected)?];
    crate::expect::equal("bytes that came back", came.len(), expected.len())?;
    let differs = came.iter().zip(&expected).position(|(a, b)| a != b);
    if let Some(at) = differs {
        let of = came.iter().zip(&expected).filter(|(a, b)| a != b).count();
        let (len, a, b) = (came.len(), came[at], expected[at]);
        return Err(Failure::new(format!(
            "the file came back different: {of} of {len} bytes, the first at {at}: expected {b:#04x}, came {a:#04x}"
        )));
    }
    Ok(())
}
