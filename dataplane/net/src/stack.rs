//! The stack of one port of one shard.

use std::net::SocketAddr;

use pages::{Chunk, Slice};

use crate::config::{ConfigError, StackConfig};
use crate::counters::Counters;
use crate::event::{
    ConnectError, ConnectionId, Event, ListenError, ListenerId, SendError, SendRoom,
};
use crate::frame::{RxFrame, Transmit};
use crate::time::Instant;

/// The network stack of one port of one shard: frames and time in, frames and events out.
///
/// A poll loop turns it like this:
///
/// ```ignore
/// stack.set_budget(pool.unheld(), pool.len());
/// for frame in port.receive_burst() {
///     stack.receive(now, frame);
/// }
/// stack.advance(now);
/// while let Some(event) = stack.poll_event() {
///     // recv until it gives nothing, send, close …
/// }
/// stack.transmit(now, &mut port);
/// // idle until stack.next_deadline() at the latest
/// ```
pub struct Stack {
    config: StackConfig,
    counters: Counters,
}

impl Stack {
    /// Validates the configuration and allocates everything the stack will ever use.
    pub fn new(config: StackConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            config,
            counters: Counters::default(),
        })
    }

    /// Takes a frame that the port received.
    pub fn receive(&mut self, now: Instant, frame: RxFrame<'_>) {
        let _ = (now, frame);
        self.counters.rx_frames += 1;
    }

    /// Runs the timers that are due.
    pub fn advance(&mut self, now: Instant) {
        let _ = now;
    }

    /// When [`Stack::advance`] has something to do at the earliest; `None`: never, unless a frame comes.
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Sends what is due until nothing is left or the port is full; returns the number of frames.
    pub fn transmit(&mut self, now: Instant, port: &mut impl Transmit) -> usize {
        let _ = (now, port);
        0
    }

    /// Whether [`Stack::transmit`] has something to send.
    pub fn wants_transmit(&self) -> bool {
        false
    }

    /// Accepts connections to `local`; the unspecified address stands for all
    /// of the interface's of its version. At most `backlog` connections can be
    /// half-open or wait for their [`Event::Accepted`] to be polled.
    pub fn listen(&mut self, local: SocketAddr, backlog: usize) -> Result<ListenerId, ListenError> {
        let _ = (local, backlog);
        Err(ListenError::NoSuchAddress)
    }

    /// Stops accepting. Connections accepted before go on.
    pub fn unlisten(&mut self, listener: ListenerId) {
        let _ = listener;
    }

    /// Begins to open a connection to `remote`. `local` chooses the address
    /// and port to call from; an unspecified address or port zero leaves the
    /// choice to the stack. [`Event::Connected`] or [`Event::Closed`] follows.
    pub fn connect(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local: Option<SocketAddr>,
    ) -> Result<ConnectionId, ConnectError> {
        let _ = (now, remote, local);
        Err(ConnectError::NoRoute)
    }

    /// The next event, if any.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// The next bytes in order, still in the cluster that the port received them into.
    pub fn recv(&mut self, connection: ConnectionId) -> Option<Slice> {
        let _ = connection;
        None
    }

    /// How much can be given to [`Stack::send`] now. All zero if nothing can be sent any more.
    pub fn send_room(&self, connection: ConnectionId) -> SendRoom {
        let _ = connection;
        SendRoom::default()
    }

    /// Queues `chunk`. The stack keeps its cluster until the peer has
    /// acknowledged the bytes, and retransmits from there.
    pub fn send(&mut self, connection: ConnectionId, chunk: Chunk) -> Result<(), SendError> {
        let _ = connection;
        Err(SendError::Closed(chunk))
    }

    /// Sends nothing more after what is queued: a FIN follows it. What the
    /// peer still sends can be received.
    pub fn close(&mut self, connection: ConnectionId) {
        let _ = connection;
    }

    /// Gives the connection up at once: a reset is sent, queues are emptied.
    pub fn abort(&mut self, connection: ConnectionId) {
        let _ = connection;
    }

    /// Gives the name back: no event about it follows. A connection that is
    /// not closed yet is closed in the background; bytes it still receives are
    /// answered with a reset (RFC 9293, 3.10.7.4).
    pub fn release(&mut self, connection: ConnectionId) {
        let _ = connection;
    }

    /// Says how many clusters of the receive pool nobody holds
    /// (`ClusterPool::unheld`), out of how many. Windows are accounted in
    /// clusters: what is promised to all peers together never exceeds `unheld`
    /// less the headroom. Cheap: call it in every turn of the poll loop.
    pub fn set_budget(&mut self, unheld: usize, total: usize) {
        let _ = (unheld, total);
    }

    /// The counters.
    pub fn stats(&self) -> &Counters {
        &self.counters
    }

    /// The configuration.
    pub fn config(&self) -> &StackConfig {
        &self.config
    }
}
