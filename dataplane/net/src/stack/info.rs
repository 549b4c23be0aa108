//! What there is to tell of a connection, when somebody asks.

use std::net::IpAddr;
use std::time::Duration;

use super::Stack;
use crate::event::ConnectionId;

/// How a connection is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Smoothed round-trip time; zero before the first sample.
    pub round_trip: Duration,
    /// Congestion window in bytes.
    pub congestion_window: u32,
    /// The window that the peer offers, in bytes.
    pub peer_window: u32,
    /// Bytes sent and not yet acknowledged.
    pub in_flight: u32,
    /// Bytes queued: in flight, or not sent yet.
    pub queued: u32,
    /// Segments sent again.
    pub retransmitted: u32,
}

/// How packets get to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// It is in a network of the interface's.
    OnLink,
    /// A router takes them.
    Routed,
}

impl Stack {
    /// How packets get to an address by this interface, if they do.
    pub fn reach(&self, remote: IpAddr) -> Option<Reach> {
        let hop = self.interface.next_hop(remote)?;
        Some(match hop == remote {
            true => Reach::OnLink,
            false => Reach::Routed,
        })
    }

    /// Bytes queued that the peer has not acknowledged, sent or not; 0 if the connection is no more.
    #[inline]
    pub fn unacknowledged(&self, connection: ConnectionId) -> usize {
        let connection = self.find(connection).map(|at| &self.connections[at]);
        connection.map_or(0, |connection| connection.snd.queue.bytes() as usize)
    }

    /// Whether the peer of a connection can send no full segment, because it was told of no room for one, or because what it
    /// sent was dropped for want of room: it is not its fault that nothing comes.
    #[inline]
    pub fn is_held_up(&self, connection: ConnectionId) -> bool {
        let connection = self.find(connection).map(|at| &self.connections[at]);
        connection.is_some_and(|connection| connection.is_held_up(&self.cx))
    }

    /// Chunks that all connections together can still queue: more of them once a peer has
    /// acknowledged some.
    #[inline]
    pub fn chunks_free(&self) -> usize {
        self.cx.chunks.free_count()
    }

    /// How a connection is doing; `None` if it is no more.
    pub fn connection_info(&self, connection: ConnectionId) -> Option<ConnectionInfo> {
        let connection = &self.connections[self.find(connection)?];
        let sender = &connection.snd;
        Some(ConnectionInfo {
            round_trip: Duration::from_nanos(connection.rtt.smoothed().unwrap_or(0)),
            congestion_window: connection.window.cwnd,
            peer_window: sender.wnd,
            in_flight: sender.nxt.since(sender.una),
            queued: sender.queue.bytes(),
            retransmitted: sender.retransmitted,
        })
    }
}
