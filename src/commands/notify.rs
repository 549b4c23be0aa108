//! Telling the service manager how we are: the protocol of sd_notify(3).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Sends `state` to the service manager, if one is listening.
pub(super) fn notify(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        log::warn!(
            "cannot notify the service manager at {}: {error}",
            socket.display()
        );
    }
}

/// How long the service manager waits for a sign of life before it ends the
/// program, as sd_watchdog_enabled(3) has it; `None` if it does not.
pub(super) fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    // Meant for another process, such as the one that started this one.
    let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let period = number("WATCHDOG_USEC").filter(|&usec| ours && usec > 0)?;
    Some(Duration::from_micros(period))
}

/// Whether every shard has moved since the last look.
#[derive(Default)]
pub(super) struct Progress(Vec<u64>);

impl Progress {
    /// Looks at the shards' rounds; gives those that stand still.
    pub(super) fn stuck(&mut self, rounds: Vec<u64>) -> Vec<usize> {
        let still = |shard: &usize| self.0.get(*shard) == Some(&rounds[*shard]);
        let stuck = (0..rounds.len()).filter(still).collect();
        self.0 = rounds;
        stuck
    }
}

/// A path, or a name in the abstract namespace after an `@`.
fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(state.as_bytes(), &address)
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k06_the_service_manager_hears_it() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("notify");
        let name = format!("throughline-test-{}", std::process::id());
        let named = SocketAddr::from_abstract_name(&name).unwrap();
        let at_path = UnixDatagram::bind(&path).unwrap();
        let abstracted = UnixDatagram::bind_addr(&named).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        send(OsStr::new(&format!("@{name}")), "READY=1").unwrap();
        for socket in [at_path, abstracted] {
            let mut bytes = [0; 16];
            let count = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..count], b"READY=1");
        }
        assert!(send(OsStr::new("/nonexistent/x"), "READY=1").is_err());
    }

    #[test]
    fn k06_one_shard_that_stands_still_is_noticed() {
        let mut progress = Progress::default();
        assert_eq!(progress.stuck(vec![1, 1]), [0; 0]);
        assert_eq!(progress.stuck(vec![2, 1]), [1]);
        assert_eq!(progress.stuck(vec![2, 9]), [0]);
        assert_eq!(progress.stuck(vec![3, 10]), [0; 0]);
    }
}
