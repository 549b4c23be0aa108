//! What OpenSSL reads from and writes to, in place of a socket.

use std::io::{self, Read, Write};

/// Bytes of the peer, and bytes for it.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    received: Vec<u8>,
    read: usize,
    pub sent: Vec<u8>,
}

impl Pipe {
    /// More of the peer.
    pub fn received(&mut self, bytes: &[u8]) {
        self.received.drain(..std::mem::take(&mut self.read));
        self.received.extend_from_slice(bytes);
    }
}

impl Read for Pipe {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let rest = &self.received[self.read..];
        if rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = rest.len().min(to.len());
        to[..n].copy_from_slice(&rest[..n]);
        self.read += n;
        Ok(n)
    }
}

impl Write for Pipe {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.sent.extend_from_slice(from);
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
