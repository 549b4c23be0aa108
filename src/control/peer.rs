//! Who is at the other end, and whether they are still there, without reading
//! what they say next.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// Whether the other end is closed. A client that only says nothing more
/// (`shutdown`) is still there, and waits.
pub(super) fn has_hung_up(stream: &UnixStream) -> bool {
    let mut poll = libc::pollfd {
        fd: stream.as_raw_fd(),
        events: 0,
        revents: 0,
    };
    // SAFETY: one entry, ours, for the length of the call, which does not wait.
    let found = unsafe { libc::poll(&raw mut poll, 1, 0) };
    found > 0 && poll.revents & (libc::POLLHUP | libc::POLLERR) != 0
}

/// The process that connected, as `name (pid)`; unix(7), SO_PEERCRED.
pub(super) fn process(stream: &UnixStream) -> Option<String> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `peer`, which has as many.
    let failed = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    };
    if failed != 0 || peer.pid <= 0 {
        return None;
    }
    let name = std::fs::read_to_string(format!("/proc/{}/comm", peer.pid));
    let name = name.map_or_else(|_| "gone".to_owned(), |name| name.trim().to_owned());
    Some(format!("{name} ({})", peer.pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;

    #[test]
    fn k06_a_client_that_waits_is_told_from_one_that_is_gone() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert!(!has_hung_up(&ours));
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!has_hung_up(&ours));
        drop(theirs);
        assert!(has_hung_up(&ours));
    }

    #[test]
    fn k06_a_clients_process_is_known() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let known = process(&ours).unwrap();
        assert!(
            known.ends_with(&format!("({})", std::process::id())),
            "{known}"
        );
    }
}
