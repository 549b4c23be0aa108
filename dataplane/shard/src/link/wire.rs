//! A session's bytes into the stack.

use net::{ConnectionId, Stack};
use nvmf::Wire;
use pages::Chunk;

/// A session's way into the TCP send queue.
pub(super) struct StackWire<'a> {
    pub(super) stack: &'a mut Stack,
    pub(super) connection: ConnectionId,
    pub(super) sent: u64,
}

impl Wire for StackWire<'_> {
    #[inline]
    fn send(&mut self, chunk: Chunk) -> Result<(), Chunk> {
        let len = chunk.len() as u64;
        self.stack
            .send(self.connection, chunk)
            .map_err(net::SendError::into_chunk)?;
        self.sent += len;
        Ok(())
    }

    fn taken(&self) -> u64 {
        self.sent
    }
}
