//! A connection, and what the application does to it.

use std::net::SocketAddr;

use collections::TableIndex;
use pages::{Chunk, Slice};

use crate::event::{CloseReason, ConnectionIndex, ListenerId, SendError, SendRoom};
use crate::link::emit::Headers;
use crate::link::neighbor::NeighborIndex;
use crate::tcp::congestion::{Congestion, Window};
use crate::tcp::key::FlowKey;
use crate::tcp::loss::{Phase, Recovery};
use crate::tcp::rtt::Rtt;
use crate::tcp::seq::Seq;
use crate::tcp::shared::Shared;
use crate::tcp::state::{Input, State};
use crate::tcp::variables::{Alarm, Receiver, Sender, Timers, event, flag};
use crate::time::Instant;

pub(crate) struct Connection {
    pub(crate) key: FlowKey,
    pub(crate) index: ConnectionIndex,
    pub(crate) generation: u32,
    pub(crate) flags: u32,
    pub(crate) state: State,
    pub(crate) events: u8,
    pub(crate) reason: CloseReason,
    pub(crate) listener: ListenerId,
    pub(crate) challenges: u8,
    pub(crate) challenged_at: Instant,
    pub(crate) ts_offset: u32,
    pub(crate) heard_at: Instant,
    pub(crate) snd: Sender,
    pub(crate) rcv: Receiver,
    pub(crate) rtt: Rtt,
    pub(crate) window: Window,
    pub(crate) congestion: Congestion,
    pub(crate) recovery: Recovery,
    pub(crate) timers: Timers,
    pub(crate) neighbor: NeighborIndex,
    /// Ethernet and IP headers of every segment.
    pub(crate) headers: Headers,
}

impl Connection {
    /// An unused slot.
    pub(crate) fn vacant(index: ConnectionIndex, cx: &Shared) -> Self {
        Self {
            key: FlowKey::NONE,
            index,
            generation: 0,
            flags: flag::UNHOOKED,
            state: State::Closed,
            events: 0,
            reason: CloseReason::Finished,
            listener: ListenerId::NONE,
            challenges: 0,
            challenged_at: Instant::ZERO,
            ts_offset: 0,
            heard_at: Instant::ZERO,
            snd: Sender::new(Seq(0)),
            rcv: Receiver::new(),
            rtt: Rtt::new(),
            window: Window {
                cwnd: 0,
                ssthresh: u32::MAX,
                mss: 0,
            },
            congestion: Congestion::new(cx.params.congestion),
            recovery: Recovery::new(Seq(0)),
            timers: Timers::NONE,
            neighbor: NeighborIndex::NONE,
            headers: Headers::EMPTY,
        }
    }

    /// Makes a connection of the slot, with everything as RFC 9293, 3.3.1 has it before the first segment.
    pub(crate) fn begin(
        &mut self,
        cx: &Shared,
        key: FlowKey,
        iss: Seq,
        ts_offset: u32,
        path_mtu: usize,
        headers: Headers,
    ) {
        let (index, generation) = (self.index, self.generation);
        *self = Self::vacant(index, cx);
        self.generation = generation;
        self.flags = 0;
        self.key = key;
        self.ts_offset = ts_offset;
        self.headers = headers;
        self.heard_at = cx.now;
        self.snd = Sender::new(iss);
        self.recovery = Recovery::new(iss);
        self.snd.path_mtu = path_mtu as u16;
        self.rcv.mss = (path_mtu - self.ip_and_tcp_len()) as u16;
        self.rcv.cluster_yield = u32::from(self.rcv.mss).min(cx.params.cluster_payload);
        // RFC 9293, 3.7.1: what a peer takes that says nothing.
        self.snd.peer_mss = if key.is_v4() { 536 } else { 1220 };
        self.begin_round(cx);
        self.rcv.target = INITIAL_TARGET;
        self.rcv.burst = INITIAL_BURST;
        self.update_mss(cx);
    }

    /// Asks for the memory that an acknowledgment will be about.
    #[inline]
    pub(crate) fn prefetch(&self, cx: &Shared) {
        cx.records.prefetch(&self.snd.flight);
        cx.chunks.prefetch(&self.snd.queue);
    }

    /// Lengths of an IP and a TCP header without options.
    pub(crate) fn ip_and_tcp_len(&self) -> usize {
        if self.key.is_v4() { 40 } else { 60 }
    }

    #[inline]
    pub(crate) fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    #[inline]
    pub(crate) fn set(&mut self, flags: u32) {
        self.flags |= flags;
    }

    #[inline]
    pub(crate) fn clear(&mut self, flags: u32) {
        self.flags &= !flags;
    }

    /// The path carries `mtu` bytes, fewer than was thought (RFC 1191, 6.4; RFC
    /// 8201, 5.4): what is out and larger is sent again at once in smaller
    /// segments, and that is no sign of congestion.
    pub(crate) fn narrow_path(&mut self, cx: &mut Shared, mtu: usize) {
        self.snd.path_mtu = mtu as u16;
        let (phase, windows) = (self.recovery.phase, self.window);
        self.update_mss(cx);
        if self.lose_larger(cx) && phase == Phase::Open {
            self.recovery.repair(self.snd.nxt);
            self.window.ssthresh = windows.ssthresh;
        }
        cx.wake(self.index);
    }

    /// Derives the largest segment from the peer's MSS, the path and the options (RFC 6691).
    pub(crate) fn update_mss(&mut self, cx: &Shared) {
        let path = u32::from(self.snd.path_mtu) - self.ip_and_tcp_len() as u32;
        let options = if self.has(flag::TIMESTAMPS) { 12 } else { 0 };
        let mss = u32::from(self.snd.peer_mss).min(path) - options;
        self.snd.mss = mss;
        // RFC 5681, 3.1: windows scale with a segment that changed before anything was sent.
        if self.window.mss == 0 || self.snd.flight.is_empty() && self.window.ssthresh == u32::MAX {
            self.window.cwnd = self.initial_window(cx, mss);
        }
        self.window.mss = mss;
    }

    /// RFC 6928.
    pub(crate) fn initial_window(&self, cx: &Shared, mss: u32) -> u32 {
        let segments = cx.params.initial_window_segments;
        (segments * mss).min((segments * 1460).max(2 * mss))
    }

    /// The timestamp clock: a millisecond a tick, from a start of its own (RFC 7323, 5.4 and 7.1).
    #[inline]
    pub(crate) fn ts_now(&self, cx: &Shared) -> u32 {
        cx.now_ms.wrapping_add(self.ts_offset)
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.key.remote()
    }

    /// Takes the way that the state's table has for `input`, if it has one.
    pub(crate) fn step(&mut self, input: Input) -> bool {
        match self.state.next(input) {
            Some(next) => {
                self.state = next;
                true
            }
            None => false,
        }
    }

    /// Publishes an event to the application, unless it has released the connection.
    #[inline]
    pub(crate) fn publish(&mut self, cx: &mut Shared, event: u8) {
        if !self.has(flag::ORPHAN) {
            self.events |= event;
            cx.announce(self.index);
        }
    }

    /// Data waits for a neighbour: after a while that counts as a retry.
    pub(crate) fn await_neighbor(&mut self, cx: &Shared) {
        let timeout = self.rtt.timeout(cx.params.rto_max);
        let alarm = match self.state {
            State::SynSent | State::SynReceived => Alarm::Handshake,
            _ => Alarm::Retransmit,
        };
        self.timers.set_alarm(alarm, cx.now, timeout);
    }

    /// Asks for an acknowledgment with the next turn of transmission.
    #[inline]
    pub(crate) fn ack_now(&mut self, cx: &mut Shared) {
        self.set(flag::ACK_NOW);
        cx.wake(self.index);
    }

    /// Asks for one that data may carry, if some is about to leave.
    #[inline]
    pub(crate) fn ack_soon(&mut self, cx: &mut Shared) {
        self.set(flag::ACK_SOON);
        cx.wake(self.index);
    }

    /// The earliest of its timers.
    #[inline]
    pub(crate) fn deadline(&self) -> Instant {
        let t = &self.timers;
        let soon = t.ack_at.min(t.pace_at).min(t.gather_at);
        t.alarm_at.min(t.idle_at).min(soon)
    }

    /// Whether anything arrives for the application without end, or can.
    pub(crate) fn send_room(&self, cx: &Shared) -> SendRoom {
        if !self.state.can_send() || self.has(flag::FIN_QUEUED | flag::SEND_RST) {
            return SendRoom::default();
        }
        let chunks = cx.params.send_chunks - self.snd.queue.chunks();
        SendRoom {
            chunks: chunks.min(cx.chunks.free_count()),
            bytes: (SEND_BYTES_MAX - self.snd.queue.bytes()) as usize,
        }
    }

    /// Queues a chunk.
    pub(crate) fn send(&mut self, cx: &mut Shared, chunk: Chunk) -> Result<(), SendError> {
        if !self.state.can_send() || self.has(flag::FIN_QUEUED | flag::SEND_RST) {
            return Err(SendError::Closed(chunk));
        }
        if chunk.is_empty() {
            return Ok(());
        }
        let len = chunk.len();
        let room = self.send_room(cx);
        if room.chunks == 0 || room.bytes < len {
            return Err(self.refuse(cx, chunk));
        }
        if let Err(chunk) = self.snd.queue.push(&mut cx.chunks, chunk) {
            return Err(self.refuse(cx, chunk));
        }
        self.snd.unsent += len as u32;
        cx.wake(self.index);
        Ok(())
    }

    fn refuse(&mut self, cx: &mut Shared, chunk: Chunk) -> SendError {
        self.set(flag::WANTS_ROOM);
        if cx.chunks.free_count() == 0 && !cx.blocked_links.is_linked(self.index) {
            cx.blocked_links.push_back(&mut cx.blocked, self.index);
        }
        SendError::Full(chunk)
    }

    /// Says that there is room again, once there is enough to be worth it.
    pub(crate) fn offer_room(&mut self, cx: &mut Shared) {
        if !self.has(flag::WANTS_ROOM) {
            return;
        }
        let room = self.send_room(cx);
        let enough = cx.params.send_chunks.min(64) / 2;
        if room.chunks > enough.min(cx.params.send_chunks / 2)
            && room.bytes >= SEND_BYTES_MAX as usize / 4
        {
            self.clear(flag::WANTS_ROOM);
            self.publish(cx, event::WRITABLE);
        }
    }

    /// Takes the next bytes in order.
    #[inline]
    pub(crate) fn recv(&mut self, cx: &mut Shared) -> Option<Slice> {
        let slice = self.rcv.queue.pop(&mut cx.slices)?;
        if self.state.can_receive() && self.wants_wider_window(cx) {
            self.ack_now(cx);
        }
        Some(slice)
    }

    /// Drops what is there in order.
    pub(crate) fn discard(&mut self, cx: &mut Shared) {
        self.rcv.queue.clear(&mut cx.slices);
    }

    /// The application sends nothing more (RFC 9293, 3.10.4).
    pub(crate) fn close(&mut self, cx: &mut Shared) {
        if self.has(flag::FIN_QUEUED) {
            return;
        }
        match self.state {
            State::SynSent => self.finish(cx, CloseReason::Aborted),
            // The FIN waits until the peer has our SYN.
            State::SynReceived => self.set(flag::FIN_QUEUED),
            _ => {
                if self.step(Input::Close) {
                    self.set(flag::FIN_QUEUED);
                    cx.wake(self.index);
                }
            }
        }
    }

    /// The application gives up (RFC 9293, 3.10.5).
    pub(crate) fn abort(&mut self, cx: &mut Shared, reason: CloseReason) {
        match self.state {
            State::Closed | State::Listen | State::TimeWait => {}
            State::SynSent => self.finish(cx, reason),
            _ => {
                self.reason = reason;
                self.drop_queues(cx);
                self.rcv.queue.clear(&mut cx.slices);
                self.timers = Timers::NONE;
                self.set(flag::SEND_RST);
                cx.wake(self.index);
            }
        }
    }

    fn drop_queues(&mut self, cx: &mut Shared) {
        self.snd.flight.clear(&mut cx.records);
        self.snd.queue.clear(&mut cx.chunks);
        self.snd.unsent = 0;
        self.rcv.queue.renege(&mut cx.slices, 0);
        self.rcv.sacks.clear();
        cx.budget.adjust(&mut self.rcv.grant, 0);
    }

    /// The connection is gone; what was received in order can still be read.
    pub(crate) fn finish(&mut self, cx: &mut Shared, reason: CloseReason) {
        if self.state == State::Closed {
            return;
        }
        cx.counters.tcp_closed += 1;
        if !self.step(Input::Reset) {
            self.state = State::Closed;
        }
        self.reason = reason;
        self.drop_queues(cx);
        if self.has(flag::ORPHAN) {
            self.rcv.queue.clear(&mut cx.slices);
        }
        self.clear(
            !(flag::ORPHAN
                | flag::LEAVING
                | flag::UNHOOKED
                | flag::PASSIVE
                | flag::HALF_OPEN
                | flag::PARKED),
        );
        self.timers = Timers::NONE;
        cx.wheel.cancel(self.index);
        self.events &= !event::WRITABLE;
        self.publish(cx, event::CLOSED);
    }
}

/// Bytes that can be queued: SND.NXT stays well within half the sequence space of SND.UNA.
pub(crate) const SEND_BYTES_MAX: u32 = 1 << 29;

/// Clusters of a receive window before its connection has shown what it needs.
pub(crate) const INITIAL_TARGET: u32 = 64;

/// Clusters that a peer may bring at once before it has shown what it does: its initial window.
const INITIAL_BURST: u32 = 10;

const _: () = assert!(
    size_of::<Connection>() <= 1024,
    "10,000 connections fit in 10 MB"
);
