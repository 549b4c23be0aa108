//! What the connections of a shard share: pools, lists, timers, counters.

use crate::config::{CongestionAlgorithm, Offload, StackConfig};
use crate::counters::Counters;
use crate::event::ConnectionIndex;
use crate::frame::TxFrame;
use crate::tcp::budget::Budget;
use crate::tcp::chunks::ChunkPool;
use crate::tcp::flight::RecordPool;
use crate::tcp::slices::SlicePool;
use crate::time::Instant;
use crate::util::list::{Links, List};
use crate::util::wheel::Wheel;

/// The configuration in the units the code counts in: bytes, clusters, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Params {
    pub(crate) congestion: CongestionAlgorithm,
    pub(crate) initial_window_segments: u32,
    pub(crate) ecn: bool,
    pub(crate) pacing: bool,
    pub(crate) rto_min: u64,
    pub(crate) rto_max: u64,
    pub(crate) ack_delay: u64,
    pub(crate) gather_max: u64,
    pub(crate) retries_max: u8,
    pub(crate) syn_retries_max: u8,
    /// `u64::MAX`: no keep-alive.
    pub(crate) keepalive_idle: u64,
    pub(crate) keepalive_interval: u64,
    pub(crate) keepalive_probes: u8,
    pub(crate) fin_wait_2: u64,
    pub(crate) send_chunks: usize,
    pub(crate) window_max: u32,
    pub(crate) window_shift: u8,
    pub(crate) cluster_payload: u32,
    pub(crate) offload: Offload,
    /// A queue of fewer chunks than this fits one frame, however they lie.
    pub(crate) chunks_always: usize,
}

impl Params {
    fn new(config: &StackConfig) -> Self {
        let tcp = &config.tcp;
        let window_max = config.window_max_bytes as u32;
        // RFC 7323, 2.2: the least shift with which the field holds the largest window.
        let window_shift = (0..14).find(|&s| window_max >> s <= 0xffff).unwrap_or(14);
        Self {
            congestion: tcp.congestion,
            initial_window_segments: tcp.initial_window_segments,
            ecn: tcp.ecn,
            pacing: tcp.pacing,
            rto_min: tcp.rto_min.as_nanos() as u64,
            rto_max: tcp.rto_max.as_nanos() as u64,
            ack_delay: tcp.ack_delay.as_nanos() as u64,
            gather_max: tcp.gather_max.as_nanos() as u64,
            retries_max: tcp.retries_max,
            syn_retries_max: tcp.syn_retries_max,
            keepalive_idle: tcp
                .keepalive_idle
                .map_or(u64::MAX, |idle| idle.as_nanos() as u64),
            keepalive_interval: tcp.keepalive_interval.as_nanos() as u64,
            keepalive_probes: tcp.keepalive_probes,
            fin_wait_2: tcp.fin_wait_2.as_nanos() as u64,
            send_chunks: config.send_chunks_per_connection,
            window_max,
            window_shift,
            cluster_payload: config.cluster_payload as u32,
            offload: config.offload,
            chunks_always: config.offload.buffers().min(TxFrame::PIECES_MAX + 1),
        }
    }
}

/// Everything a connection works with besides itself.
pub(crate) struct Shared {
    /// The moment of the call being served.
    pub(crate) now: Instant,
    /// The same in milliseconds, as timestamps count.
    pub(crate) now_ms: u32,
    pub(crate) params: Params,
    pub(crate) counters: Counters,
    pub(crate) chunks: ChunkPool,
    pub(crate) records: RecordPool,
    pub(crate) slices: SlicePool,
    pub(crate) budget: Budget,
    pub(crate) wheel: Wheel<ConnectionIndex>,
    /// A connection is ready to transmit, or waits for a neighbour: one of these lists.
    pub(crate) transmit_links: Links<ConnectionIndex>,
    pub(crate) ready: List<ConnectionIndex>,
    pub(crate) event_links: Links<ConnectionIndex>,
    pub(crate) eventful: List<ConnectionIndex>,
    /// Connections whose window is narrower than they deserve, for want of clusters.
    pub(crate) hungry_links: Links<ConnectionIndex>,
    pub(crate) hungry: List<ConnectionIndex>,
    /// Connections that found no free chunk.
    pub(crate) blocked_links: Links<ConnectionIndex>,
    pub(crate) blocked: List<ConnectionIndex>,
}

impl Shared {
    pub(crate) fn new(config: &StackConfig) -> Self {
        let slots = config.connections_max;
        Self {
            now: Instant::ZERO,
            now_ms: 0,
            params: Params::new(config),
            counters: Counters::default(),
            chunks: ChunkPool::new(config.send_chunks_total),
            records: RecordPool::new(config.segments_in_flight_total),
            slices: SlicePool::new(config.receive_clusters),
            budget: Budget::new(config.receive_clusters, config.receive_headroom),
            wheel: Wheel::new(slots),
            transmit_links: Links::new(slots),
            ready: List::EMPTY,
            event_links: Links::new(slots),
            eventful: List::EMPTY,
            hungry_links: Links::new(slots),
            hungry: List::EMPTY,
            blocked_links: Links::new(slots),
            blocked: List::EMPTY,
        }
    }

    /// Asks for the memory that is kept of a connection besides itself.
    #[inline]
    pub(crate) fn prefetch(&self, index: ConnectionIndex) {
        self.wheel.prefetch(index);
        self.transmit_links.prefetch(index);
        self.event_links.prefetch(index);
        self.hungry_links.prefetch(index);
    }

    /// The connection has something to send.
    #[inline]
    pub(crate) fn wake(&mut self, index: ConnectionIndex) {
        if !self.transmit_links.is_linked(index) {
            self.transmit_links.push_back(&mut self.ready, index);
        }
    }

    /// The connection has something to tell.
    #[inline]
    pub(crate) fn announce(&mut self, index: ConnectionIndex) {
        if !self.event_links.is_linked(index) {
            self.event_links.push_back(&mut self.eventful, index);
        }
    }

    /// The connection's timer shall go off at `at`, or earlier as it is set to already.
    #[inline]
    pub(crate) fn arm(&mut self, index: ConnectionIndex, at: Instant) {
        if at == NEVER {
            return;
        }
        if self.wheel.deadline(index).is_none_or(|set| at < set) {
            self.wheel.set(index, at);
        }
    }
}

/// A timer that is not set.
pub(crate) const NEVER: Instant = Instant(u64::MAX);
