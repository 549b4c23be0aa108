//! What only one process may have: ports' interfaces and NICs, stores' drives, block devices
//! and files. `run` claims it as long as it lives, `check` tries; whoever comes second is told
//! who has it.
//!
//! A claim is a lock (flock(2)) on a file in [`DIRECTORY`], named after the thing itself and
//! not after how somebody spelled it. The kernel lets go of it with the process, however that
//! ends: files that a killed one leaves mean nothing. A block device is held exclusively
//! (`O_EXCL`, open(2)) as well, which keeps it from mount, mkfs and other programs.

mod device;
mod lock;
#[cfg(test)]
mod tests;
mod wanted;

use std::fs::File;
use std::path::Path;

pub(crate) use self::lock::Holder;
use self::lock::{Lock, LockError};
pub(crate) use self::wanted::{Wanted, wanted};
use crate::host::Host;

/// Where the locks are.
pub(crate) const DIRECTORY: &str = "/run/throughline";

/// What is claimed, until this value goes or the process does.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    _held: Vec<(Lock, Option<File>)>,
}

/// Why something cannot be had.
#[derive(Debug)]
pub(crate) struct Refusal(String);

impl std::error::Error for Refusal {}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Claims {
    /// Claims all of it, or nothing.
    ///
    /// # Errors
    /// The first that cannot be had: who has it, and what to do.
    pub(crate) fn take(
        host: &Host,
        directory: &Path,
        wanted: &[Wanted],
        holder: &Holder,
    ) -> Result<Self, Refusal> {
        let mut held = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let lock = Lock::take(directory, &wanted.key, holder);
            let lock = lock.map_err(|error| wanted.refused(directory, error))?;
            held.push((lock, wanted.exclusive(host)?));
        }
        Ok(Self { _held: held })
    }
}

impl Wanted {
    /// Whether [`Claims::take`] would have it; nothing is left behind.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn probe(&self, host: &Host, directory: &Path) -> Result<(), Refusal> {
        Lock::probe(directory, &self.key).map_err(|error| self.refused(directory, error))?;
        self.exclusive(host).map(drop)
    }

    /// The block device, kept from everybody else.
    fn exclusive(&self, host: &Host) -> Result<Option<File>, Refusal> {
        let Some(device) = &self.device else {
            return Ok(None);
        };
        device.claim(host).map_err(|why| {
            let (owner, what) = (&self.owner, &self.what);
            Refusal(format!("{owner}: {what}: {why}, or name another device"))
        })
    }

    fn refused(&self, directory: &Path, error: LockError) -> Refusal {
        let Self { owner, what, .. } = self;
        Refusal(match error {
            LockError::Taken(Some(holder)) => format!(
                "{owner}: {what} is in use by throughline, process {} ({}): stop it \
                 (throughline stop --socket {}), or name another device",
                holder.pid,
                holder.config.display(),
                holder.socket.display()
            ),
            LockError::Taken(None) => format!(
                "{owner}: {what} is in use by another process, which holds {}: stop it, or name \
                 another device",
                directory.join(&self.key).display()
            ),
            LockError::Io(error) => format!(
                "{owner}: cannot claim {what} in {}: {error}; root must be able to write there",
                directory.display()
            ),
        })
    }
}
