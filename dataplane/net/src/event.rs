//! What the stack tells the application.

use std::fmt;
use std::net::SocketAddr;

use collections::{TableIndex, table_index};
use pages::Chunk;

table_index! {
    /// A connection's slot.
    pub(crate) struct ConnectionIndex(u32);
}

/// Names a connection until it is released. Stale names are harmless: they name nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    pub(crate) index: ConnectionIndex,
    pub(crate) generation: u32,
}

impl ConnectionId {
    /// The connection's slot, below the configured number of connections: an
    /// index for the application's own table.
    pub fn slot(self) -> usize {
        self.index.place()
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot(), self.generation)
    }
}

table_index! {
    /// Names a listener.
    pub struct ListenerId(u16);
}

/// Something the application should act on.
///
/// Events are flags on connections that have a place in a list: each stands
/// for any number of causes since it was last polled, and none can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer connected to a listener.
    Accepted {
        /// The new connection.
        connection: ConnectionId,
        /// Where it was accepted.
        listener: ListenerId,
        /// The peer.
        remote: SocketAddr,
    },
    /// [`connect`](crate::Stack::connect) succeeded.
    Connected(ConnectionId),
    /// There are bytes to [`recv`](crate::Stack::recv): take all of them.
    Readable(ConnectionId),
    /// There is room to [`send`](crate::Stack::send) again, after there was none.
    Writable(ConnectionId),
    /// The peer will send nothing more; what it sent before can still be received.
    PeerClosed(ConnectionId),
    /// The connection is gone. The last event: the application
    /// [`release`](crate::Stack::release)s the name. Bytes received in order
    /// before it went can still be taken until then.
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// What ended it.
        reason: CloseReason,
    },
}

/// Why a connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides closed, and each knows that the other has everything.
    Finished,
    /// The peer reset it.
    Reset,
    /// The peer refused to open it.
    Refused,
    /// The peer stopped answering.
    TimedOut,
    /// A router or the peer's host said that the peer cannot be reached.
    Unreachable,
    /// The application aborted it.
    Aborted,
    /// All slots were taken, and it was not [kept](crate::Stack::keep): a newer one has its place.
    Displaced,
}

/// Why a listener cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenError {
    /// Somebody listens there already.
    AddressInUse,
    /// The address is none of the stack's, nor the unspecified one.
    NoSuchAddress,
    /// Port zero cannot be listened on.
    PortZero,
    /// As many listeners as the configuration allows exist.
    TooManyListeners,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenError::AddressInUse => "there is a listener on this address and port already",
            ListenError::NoSuchAddress => "the address is not one of this interface's",
            ListenError::PortZero => "port 0 cannot be listened on",
            ListenError::TooManyListeners => "no more listeners: raise `listeners_max`",
        })
    }
}

impl std::error::Error for ListenError {}

/// Why a connection cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// No address of the right version to call from, or not the one asked for.
    NoSuchAddress,
    /// No network, route or gateway leads there.
    NoRoute,
    /// The very connection exists (or lingers in TIME-WAIT).
    AddressInUse,
    /// Every ephemeral port that is steered to this shard is taken.
    NoFreePort,
    /// As many connections as the configuration allows exist.
    TooManyConnections,
    /// The neighbour cache is full of neighbours in use.
    TooManyNeighbors,
    /// The remote address or port is not one that can be connected to.
    BadRemote,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectError::NoSuchAddress => "no such local address on this interface",
            ConnectError::NoRoute => "no route to the remote address: add a route or a gateway",
            ConnectError::AddressInUse => "the connection exists already",
            ConnectError::NoFreePort => "no free local port to this remote address",
            ConnectError::TooManyConnections => "no more connections: raise `connections_max`",
            ConnectError::TooManyNeighbors => "no more neighbours: raise `neighbors_max`",
            ConnectError::BadRemote => "a connection needs a unicast address and a port",
        })
    }
}

impl std::error::Error for ConnectError {}

/// Why a chunk was not queued; it comes back with the answer.
#[derive(Debug)]
pub enum SendError {
    /// The connection's share or the shard's pool of chunks is used up: wait
    /// for [`Event::Writable`].
    Full(Chunk),
    /// Nothing can be sent any more: closed, aborted, or no such connection.
    Closed(Chunk),
}

impl SendError {
    /// The chunk that was not queued.
    pub fn into_chunk(self) -> Chunk {
        match self {
            SendError::Full(chunk) | SendError::Closed(chunk) => chunk,
        }
    }
}

/// How much a connection can be given to send at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendRoom {
    /// Chunks, of any length.
    pub chunks: usize,
    /// Bytes in total.
    pub bytes: usize,
}
