//! One TCP connection: one queue of a controller.

use std::net::SocketAddr;
use std::sync::Arc;

use pages::{Chunk, Slice};

use crate::request::{Completion, Request};
use crate::shard::Shard;
use crate::target::Target;
use crate::units::Timestamp;

/// The two ends of a connection, for logs and listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Our end.
    pub local: SocketAddr,
    /// The host's end.
    pub host: SocketAddr,
}

/// Where a session sends. The connection's TCP send queue.
pub trait Wire {
    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// Gives the chunk back if there is no room now; [`Session::transmit`] is
    /// to be called again when there is.
    fn send(&mut self, chunk: Chunk) -> Result<(), Chunk>;
}

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All taken.
    Taken,
    /// Something is short (a command slot, a page run, a page). The session
    /// keeps the rest; the engine reads no more of this connection until
    /// [`Session::resume`] says `Taken`.
    Blocked,
    /// The connection is closing; bytes are dropped.
    Closing,
}

/// Why a session closes its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The host sent Disconnect.
    Disconnected,
}

/// One connection of a host: the NVMe/TCP protocol over in-order slices.
#[derive(Debug)]
pub struct Session {
    target: Arc<Target>,
    endpoints: Endpoints,
}

impl Session {
    /// A session on a connection just accepted.
    pub fn new(target: &Arc<Target>, endpoints: Endpoints, now: Timestamp) -> Self {
        let _ = now;
        Self {
            target: Arc::clone(target),
            endpoints,
        }
    }

    /// The two ends.
    pub fn endpoints(&self) -> Endpoints {
        self.endpoints
    }

    /// The target it belongs to.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Takes the next bytes of the stream. Payload stays in its cluster.
    ///
    /// # Errors
    /// Gives the slice back, untouched, if the session is still blocked.
    pub fn receive(
        &mut self,
        now: Timestamp,
        slice: Slice,
        shard: &mut Shard<'_>,
    ) -> Result<Progress, Slice> {
        let _ = (now, slice, shard);
        Ok(Progress::Closing)
    }

    /// Goes on with bytes kept back and commands waiting for a run or for write
    /// credit. To be called for sessions that [`Session::is_waiting`] after
    /// the shard's resources were given back.
    pub fn resume(&mut self, now: Timestamp, shard: &mut Shard<'_>) -> Progress {
        let _ = (now, shard);
        Progress::Closing
    }

    /// Whether anything waits for a resource of the shard.
    pub fn is_waiting(&self) -> bool {
        false
    }

    /// The next request for the engine, if one is ready.
    pub fn next_request(&mut self, shard: &mut Shard<'_>) -> Option<Request> {
        let _ = shard;
        None
    }

    /// Takes an answer of the engine, and queues what goes to the host for it.
    /// After [`Session::close`] it only gives the run back to its pool.
    pub fn complete(&mut self, completion: Completion, shard: &mut Shard<'_>) {
        let _ = (completion, shard);
    }

    /// Requests handed out by [`Session::next_request`] and not yet completed.
    pub fn outstanding(&self) -> usize {
        0
    }

    /// Sends as much as `wire` takes. True if nothing is left to send.
    pub fn transmit(&mut self, wire: &mut impl Wire, shard: &mut Shard<'_>) -> bool {
        let _ = (wire, shard);
        true
    }

    /// Lets time pass: timeouts, asynchronous events, the end of the controller
    /// on another shard. Returns when to be called again at the latest.
    pub fn advance(&mut self, now: Timestamp, shard: &mut Shard<'_>) -> Timestamp {
        let _ = shard;
        now.plus_ms(1000)
    }

    /// Why the connection is to be closed, once it is. What is left to
    /// transmit may still be sent first.
    pub fn closing(&self) -> Option<CloseReason> {
        None
    }

    /// Gives every buffer, run and slot back, except those of requests that are
    /// outstanding: keep the session and pass their completions to
    /// [`Session::complete`] until [`Session::outstanding`] is 0.
    pub fn close(&mut self, shard: &mut Shard<'_>) {
        let _ = shard;
    }
}
