//! A lock on a file that says who holds it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A process that holds locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// Its configuration file.
    pub(crate) config: PathBuf,
    /// Its control socket.
    pub(crate) socket: PathBuf,
}

/// Why there is no lock.
#[derive(Debug)]
pub(super) enum LockError {
    /// Somebody holds it: who, if that is known.
    Taken(Option<Holder>),
    /// The system refused.
    Io(io::Error),
}

/// A lock that is held; its file goes with it.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    pub(super) fn take(directory: &Path, key: &str, holder: &Holder) -> Result<Self, LockError> {
        let mut builder = DirBuilder::new();
        (builder.recursive(true).mode(0o755).create(directory)).map_err(LockError::Io)?;
        let path = directory.join(key);
        let mut options = OpenOptions::new();
        let options = (options.read(true).write(true).create(true)).mode(0o644);
        loop {
            let file = options.open(&path).map_err(LockError::Io)?;
            lock(&file)?;
            let mut lock = Self {
                path: path.clone(),
                file,
            };
            // Whoever held it may have removed the file since it was opened.
            if lock.is_current() {
                lock.file.set_len(0).map_err(LockError::Io)?;
                (lock.file.write_all(holder.text().as_bytes())).map_err(LockError::Io)?;
                return Ok(lock);
            }
        }
    }

    /// Whether it could be taken.
    pub(super) fn probe(directory: &Path, key: &str) -> Result<(), LockError> {
        match File::open(directory.join(key)) {
            Ok(file) => lock(&file),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(LockError::Io(error)),
        }
    }

    fn is_current(&self) -> bool {
        let named = fs::metadata(&self.path).map(|named| (named.dev(), named.ino()));
        let held = (self.file.metadata()).map(|held| (held.dev(), held.ino()));
        named.ok().zip(held.ok()).is_some_and(|(a, b)| a == b)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nobody else may remove it while it is locked.
        if self.is_current() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn lock(file: &File) -> Result<(), LockError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(LockError::Taken(Holder::of(file))),
        Err(TryLockError::Error(error)) => Err(LockError::Io(error)),
    }
}

impl Holder {
    /// This process.
    pub(crate) fn this(config: &Path, socket: &Path) -> Self {
        Self {
            pid: std::process::id(),
            config: fs::canonicalize(config).unwrap_or_else(|_| config.to_owned()),
            socket: socket.to_owned(),
        }
    }

    fn text(&self) -> String {
        let (config, socket) = (self.config.display(), self.socket.display());
        format!("pid {}\nconfig {config}\nsocket {socket}\n", self.pid)
    }

    /// What the holder wrote: at once, but not in one step with the lock.
    fn of(mut file: &File) -> Option<Self> {
        for _ in 0..10 {
            let mut text = String::new();
            let read = io::Seek::rewind(&mut file).and_then(|()| file.read_to_string(&mut text));
            if read.is_ok()
                && let Some(holder) = Self::parse(&text)
            {
                return Some(holder);
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name| text.lines().find_map(|line| line.strip_prefix(name));
        Some(Self {
            pid: value("pid ")?.parse().ok()?,
            config: value("config ")?.into(),
            // The last line: what is not whole has no end of it.
            socket: value("socket ").filter(|_| text.ends_with('\n'))?.into(),
        })
    }
}
