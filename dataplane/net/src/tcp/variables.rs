//! A connection's variables (RFC 9293, section 3.3.1), its flags and its timers.

use std::time::Duration;

use crate::tcp::chunks::SendQueue;
use crate::tcp::flight::Flight;
use crate::tcp::seq::Seq;
use crate::tcp::shared::NEVER;
use crate::tcp::slices::{ReceiveQueue, SackBlocks};
use crate::time::Instant;

/// What a connection has to do, has agreed on, has seen.
pub(crate) mod flag {
    /// An acknowledgment is due at once.
    pub(crate) const ACK_NOW: u32 = 1 << 0;
    /// A SYN (with an ACK, if passive) is to be sent.
    pub(crate) const SEND_SYN: u32 = 1 << 1;
    /// A reset is to be sent, and then the connection is gone.
    pub(crate) const SEND_RST: u32 = 1 << 2;
    /// A byte is to be sent into a closed window.
    pub(crate) const SEND_PROBE: u32 = 1 << 3;
    /// A keep-alive probe is to be sent.
    pub(crate) const SEND_KEEPALIVE: u32 = 1 << 4;
    /// A tail loss probe is to be sent.
    pub(crate) const SEND_TAIL: u32 = 1 << 5;
    /// The application closed: a FIN follows the queued data.
    pub(crate) const FIN_QUEUED: u32 = 1 << 6;
    pub(crate) const FIN_SENT: u32 = 1 << 7;
    /// The peer's FIN was received in order.
    pub(crate) const PEER_CLOSED: u32 = 1 << 8;
    /// Agreed on: SACK (RFC 2018), timestamps (RFC 7323), ECN (RFC 3168).
    pub(crate) const SACK: u32 = 1 << 9;
    pub(crate) const TIMESTAMPS: u32 = 1 << 10;
    pub(crate) const ECN: u32 = 1 << 11;
    /// Agreed on: window scaling (RFC 7323).
    pub(crate) const SCALING: u32 = 1 << 12;
    /// A congestion mark came: echo it until the peer says CWR.
    pub(crate) const ECHO_CE: u32 = 1 << 13;
    /// The window was reduced for an echo: say CWR with the next new data.
    pub(crate) const SEND_CWR: u32 = 1 << 14;
    /// Opened by the peer.
    pub(crate) const PASSIVE: u32 = 1 << 15;
    /// The application gave the name back; nobody reads or hears of it any more.
    pub(crate) const ORPHAN: u32 = 1 << 16;
    /// A byte beyond the window was sent and not acknowledged.
    pub(crate) const PROBING: u32 = 1 << 17;
    /// Sending stopped at the congestion window.
    pub(crate) const CWND_LIMITED: u32 = 1 << 18;
    /// The application found no room, and wants to hear when there is some.
    pub(crate) const WANTS_ROOM: u32 = 1 << 19;
    /// Counts as half-open.
    pub(crate) const HALF_OPEN: u32 = 1 << 20;
    /// Taken out of the connection table.
    pub(crate) const UNHOOKED: u32 = 1 << 21;
    /// Waits for a neighbour's Ethernet address.
    pub(crate) const PARKED: u32 = 1 << 23;
    /// The window was looked at in this turn of transmission.
    pub(crate) const TOLD: u32 = 1 << 24;
    /// The application closed and gave the name back: the slot goes to the first who needs it.
    pub(crate) const LEAVING: u32 = 1 << 25;
    /// What it brings keeps others alive: it is taken when there is hardly any room.
    pub(crate) const HEARD: u32 = 1 << 26;
    /// An acknowledgment is due for what was received in order: data that is about to leave may carry it.
    pub(crate) const ACK_SOON: u32 = 1 << 27;
    /// What was gathered has waited for as long as it may.
    pub(crate) const GATHERED: u32 = 1 << 28;
    /// The application is about to answer something.
    pub(crate) const ANSWERS: u32 = 1 << 29;
    /// The peer had what it was probed for: it acknowledges late, though it owes it at once.
    pub(crate) const ACKS_LATE: u32 = 1 << 30;
    /// What a segment is not taken the shortest way for; but timestamps it must have.
    pub(crate) const UNUSUAL: u32 = TIMESTAMPS | ORPHAN | SEND_RST | PROBING;
    /// Send what fits a small window, to get past silly windows (RFC 9293, 3.8.6.2.1).
    pub(crate) const OVERRIDE: u32 = 1 << 22;
}

/// Events that wait to be polled.
pub(crate) mod event {
    pub(crate) const ACCEPTED: u8 = 1;
    pub(crate) const CONNECTED: u8 = 2;
    pub(crate) const READABLE: u8 = 4;
    pub(crate) const WRITABLE: u8 = 8;
    pub(crate) const PEER_CLOSED: u8 = 16;
    pub(crate) const CLOSED: u8 = 32;
}

/// The send sequence variables, and what hangs on them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) iss: Seq,
    pub(crate) una: Seq,
    pub(crate) nxt: Seq,
    /// SND.WND in bytes, and the largest the peer ever offered.
    pub(crate) wnd: u32,
    pub(crate) wnd_max: u32,
    pub(crate) wl1: Seq,
    pub(crate) wl2: Seq,
    /// How the fourth word of the peer's next header reads if nothing changes:
    /// a timestamp, ACK alone, the same window. Zero: not known.
    pub(crate) word: u32,
    /// The peer's window shift.
    pub(crate) shift: u8,
    /// Consecutive retransmissions (R1, R2 of RFC 9293, 3.8.3), or probes, without an answer.
    pub(crate) retries: u8,
    pub(crate) keepalives: u8,
    /// The peer's MSS option, and the MTU of the path to it.
    pub(crate) peer_mss: u16,
    pub(crate) path_mtu: u16,
    /// Payload bytes of a full segment.
    pub(crate) mss: u32,
    /// Bytes of the queue that were never sent.
    pub(crate) unsent: u32,
    /// Segments sent again.
    pub(crate) retransmitted: u32,
    pub(crate) queue: SendQueue,
    pub(crate) flight: Flight,
    pub(crate) last_sent: Instant,
    /// When pacing allows the next segment.
    pub(crate) paced_until: Instant,
}

/// The receive sequence variables, and what hangs on them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiver {
    pub(crate) irs: Seq,
    pub(crate) nxt: Seq,
    /// The right edge of the widest window the peer was told: RCV.NXT + RCV.WND.
    pub(crate) edge: Seq,
    pub(crate) queue: ReceiveQueue,
    pub(crate) sacks: SackBlocks,
    /// Clusters set aside for the window (see `Budget`).
    pub(crate) grant: u32,
    /// Clusters that the connection should have, waiting and promised together.
    pub(crate) target: u32,
    /// Payload bytes that a cluster brings, as seen lately.
    pub(crate) cluster_yield: u32,
    /// Clusters that a round brings, as seen lately.
    pub(crate) burst: u32,
    pub(crate) shift: u8,
    /// Our largest segment, and the largest that came.
    pub(crate) mss: u16,
    pub(crate) segment: u16,
    /// Bytes received since the last acknowledgment.
    pub(crate) unacked: u32,
    /// Segments to acknowledge at once: the peer is in slow start.
    pub(crate) quick: u8,
    pub(crate) last_ack: Seq,
    /// RCV.NXT when what came next was last dropped for want of clusters.
    pub(crate) refused: Seq,
    pub(crate) ts_recent: u32,
    pub(crate) ts_recent_at: Instant,
    /// The round of window growth: when it ends, and what it brought.
    pub(crate) round_ends: Instant,
    pub(crate) round_bytes: u32,
}

/// Why the retransmission timer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// A SYN or SYN-ACK to send again.
    Handshake,
    /// RFC 6298.
    Retransmit,
    /// RFC 8985, 7.
    TailLoss,
    /// RFC 8985, 6.2: what may be reordered is lost by then.
    Reordering,
    /// RFC 9293, 3.8.6.1.
    Persist,
}

/// A connection's timers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timers {
    pub(crate) alarm: Alarm,
    pub(crate) alarm_at: Instant,
    pub(crate) ack_at: Instant,
    /// Keep-alive, or the end of FIN-WAIT-2.
    pub(crate) idle_at: Instant,
    pub(crate) pace_at: Instant,
    /// Until when output that fills no segment waits for more.
    pub(crate) gather_at: Instant,
}

impl Sender {
    pub(crate) fn new(iss: Seq) -> Self {
        Self {
            iss,
            una: iss,
            nxt: iss,
            wnd: 0,
            wnd_max: 0,
            wl1: Seq(0),
            wl2: Seq(0),
            word: 0,
            shift: 0,
            retries: 0,
            keepalives: 0,
            peer_mss: 536,
            path_mtu: 576,
            mss: 536,
            unsent: 0,
            retransmitted: 0,
            queue: SendQueue::EMPTY,
            flight: Flight::EMPTY,
            last_sent: Instant::ZERO,
            paced_until: Instant::ZERO,
        }
    }

    /// Bytes in the network as far as anybody knows (RFC 6675: pipe).
    #[inline]
    pub(crate) fn pipe(&self) -> u32 {
        let f = &self.flight;
        (self.nxt.since(self.una) + f.resent).saturating_sub(f.sacked + f.lost)
    }

    /// Bytes that the peer's window has room for.
    #[inline]
    pub(crate) fn usable(&self) -> u32 {
        self.wnd.saturating_sub(self.nxt.since(self.una))
    }
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self {
            irs: Seq(0),
            nxt: Seq(0),
            edge: Seq(0),
            queue: ReceiveQueue::EMPTY,
            sacks: SackBlocks::default(),
            grant: 0,
            target: 0,
            cluster_yield: 0,
            burst: 0,
            shift: 0,
            mss: 536,
            segment: 0,
            unacked: 0,
            quick: 16,
            last_ack: Seq(0),
            refused: Seq(0),
            ts_recent: 0,
            ts_recent_at: Instant::ZERO,
            round_ends: Instant::ZERO,
            round_bytes: 0,
        }
    }

    /// RCV.WND.
    #[inline]
    pub(crate) fn window(&self) -> u32 {
        self.edge.since(self.nxt)
    }
}

impl Timers {
    pub(crate) const NONE: Timers = Timers {
        alarm: Alarm::Retransmit,
        alarm_at: NEVER,
        ack_at: NEVER,
        idle_at: NEVER,
        pace_at: NEVER,
        gather_at: NEVER,
    };

    pub(crate) fn set_alarm(&mut self, alarm: Alarm, now: Instant, delay: Duration) {
        self.alarm = alarm;
        self.alarm_at = now + delay;
    }

    pub(crate) fn clear_alarm(&mut self) {
        self.alarm_at = NEVER;
    }
}
