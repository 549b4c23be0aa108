//! Segments out: what is due, in order of urgency, until something says stop.

use std::time::Duration;

use collections::TableIndex;
use mutant::mutant;

use crate::config::Offload;
use crate::frame::{Payload, PortFull, Transmit, TxFrame};
use crate::link::ecn;
use crate::link::emit::PlainTcp;
use crate::tcp::chunks::Place;
use crate::tcp::congestion::CongestionControl;
use crate::tcp::connection::Connection;
use crate::tcp::flight::{Flight, RecordIndex, mark};
use crate::tcp::header::{Outgoing, flag};
use crate::tcp::loss::Phase;
use crate::tcp::seq::Seq;
use crate::tcp::shared::{NEVER, Shared};
use crate::tcp::state::State;
use crate::tcp::variables::{Alarm, flag as has};

/// Bytes that one connection sends before the next has its turn.
const QUANTUM: u32 = 128 * 1024;
/// Round trips below this are not paced: the bursts a poll makes are smaller than what a timer could do.
const PACED_RTT_MIN: u64 = 1_000_000;
/// What may leave ahead of the pace: bursts that hosts and switches expect.
const PACE_SLACK: Duration = Duration::from_micros(250);

/// How a turn of transmission ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing more can be sent now.
    Done,
    /// There is more, but others have their turn first.
    More,
    /// The connection sent its last segment.
    Gone,
}

/// One segment to emit.
#[derive(Clone, Copy)]
struct Draft {
    seq: Seq,
    flags: u8,
    place: Place,
    len: u32,
    /// New data, to be marked as ECN-capable (RFC 3168, 6.1.5: not what is sent again).
    new: bool,
}

impl Connection {
    /// Sends what is due. `Err`: the port is full, and nothing of this was lost.
    pub(crate) fn output(
        &mut self,
        cx: &mut Shared,
        port: &mut impl Transmit,
    ) -> Result<Turn, PortFull> {
        if self.state == State::Closed {
            return Ok(Turn::Done);
        }
        self.clear(has::TOLD);
        if self.has(has::SEND_RST) {
            cx.counters.tcp_resets_sent += 1;
            self.emit_bare(cx, port, self.snd.nxt, flag::RST | flag::ACK)?;
            return Ok(Turn::Gone);
        }
        if self.has(has::SEND_SYN) {
            self.emit_syn(cx, port)?;
        }
        let mut turn = Turn::Done;
        if self.state.transmits() {
            turn = self.output_data(cx, port)?;
            self.output_probes(cx, port)?;
        }
        if self.has(has::ACK_NOW | has::ACK_SOON)
            && self.state.is_synchronized()
            && !self.ack_waits(cx)
        {
            self.emit_bare(cx, port, self.snd.nxt, flag::ACK)?;
        }
        Ok(turn)
    }

    fn output_data(&mut self, cx: &mut Shared, port: &mut impl Transmit) -> Result<Turn, PortFull> {
        let before = self.snd.nxt;
        let resent_before = self.snd.flight.resent;
        let result = if self.snd.queue.chunks() < cx.params.chunks_always {
            self.output_segments::<false>(cx, port)
        } else {
            self.output_segments::<true>(cx, port)
        };
        // RFC 8985, 7.2: sending puts the tail loss probe off. RFC 6298, (5.1): a
        // retransmission timer that runs is left to run.
        let sent = self.snd.nxt != before || self.snd.flight.resent != resent_before;
        let runs = matches!(self.timers.alarm, Alarm::Retransmit | Alarm::Reordering);
        if self.timers.alarm_at == NEVER || sent && !runs {
            self.set_alarm(cx);
        }
        result
    }

    /// Sends what windows and pace allow. `DEEP`: a segment may be more pieces than a frame can have.
    #[inline]
    fn output_segments<const DEEP: bool>(
        &mut self,
        cx: &mut Shared,
        port: &mut impl Transmit,
    ) -> Result<Turn, PortFull> {
        let mut sent = 0;
        loop {
            if sent >= QUANTUM {
                return Ok(Turn::More);
            }
            if self.is_paced(cx) {
                return Ok(Turn::Done);
            }
            match self.output_segment::<DEEP>(cx, port)? {
                0 => return Ok(Turn::Done),
                bytes => {
                    sent += bytes;
                    self.pace(cx, bytes);
                }
            }
        }
    }

    /// Sends one segment: something lost, or something new. Returns the bytes
    /// it took of the sequence space; none if there is nothing to send now.
    #[inline]
    fn output_segment<const DEEP: bool>(
        &mut self,
        cx: &mut Shared,
        port: &mut impl Transmit,
    ) -> Result<u32, PortFull> {
        let in_network = self.in_network();
        let room = self.window.cwnd.saturating_sub(in_network);
        if self.snd.flight.lost > self.snd.flight.resent
            && let Some(index) = self.snd.flight.next_lost(&cx.records)
        {
            return self.output_lost(cx, port, index, room, in_network);
        }
        if self.snd.unsent == 0 {
            return if self.fin_is_due() {
                self.output_fin(cx, port)
            } else {
                self.clear(has::CWND_LIMITED);
                Ok(0)
            };
        }
        self.restart_after_idle(cx);
        let mss = self.snd.mss;
        let usable = self.snd.usable();
        let most = if cx.params.offload.tso_max_bytes > 0 {
            (cx.params.offload.tso_max_bytes as u32).max(mss)
        } else {
            mss
        };
        let mut len = self.snd.unsent.min(most).min(usable);
        if len > room {
            // A full segment waits for room for a full segment.
            self.set(has::CWND_LIMITED);
            len = room;
            if len < mss.min(self.snd.unsent).min(usable) && in_network > 0 {
                return Ok(0);
            }
            len = len.max(mss.min(self.snd.unsent).min(usable));
        }
        // A port that cuts segments makes the last one what is left. (Short of the end, only full ones.)
        if len > mss && len < self.snd.unsent {
            len -= len % mss;
        }
        if len == 0 {
            return Ok(0);
        }
        // RFC 9293, 3.8.6.2.1: not what is but a small part of a window.
        let limited = len < mss && len < self.snd.unsent;
        if limited && len < self.snd.wnd_max / 2 && !self.has(has::OVERRIDE) {
            return Ok(0);
        }
        if DEEP {
            len = self.fitting(cx, len);
        }
        let last = len == self.snd.unsent;
        if last && self.gathers(cx, len) {
            return Ok(0);
        }
        if !Flight::has_room(&cx.records) {
            cx.counters.tcp_flight_exhausted += 1;
            return Ok(0);
        }
        let cwr = self.has(has::SEND_CWR) && self.has(has::ECN);
        let draft = Draft {
            seq: self.snd.nxt,
            flags: flag::ACK | if last { flag::PSH } else { 0 } | if cwr { flag::CWR } else { 0 },
            place: self.snd.queue.unsent(),
            len,
            new: true,
        };
        self.emit(cx, port, draft)?;
        self.clear(has::OVERRIDE | has::SEND_CWR | has::GATHERED);
        self.timers.gather_at = NEVER;
        self.snd.flight.push(
            &mut cx.records,
            draft.seq,
            len as u16,
            0,
            draft.place,
            cx.now,
        );
        self.snd.queue.sent(&cx.chunks, len);
        self.snd.unsent -= len;
        self.snd.nxt += len;
        self.recovery.note_sent(len);
        Ok(len)
    }

    /// How many of the next `len` bytes the port takes in one frame.
    fn fitting(&self, cx: &Shared, len: u32) -> u32 {
        let (place, mss) = (self.snd.queue.unsent(), self.snd.mss);
        let fit = cx.chunks.fitting(place, len, cx.params.offload.buffers());
        if fit < len && fit > mss {
            fit - fit % mss
        } else {
            fit
        }
    }

    /// Sends again what is lost, from where it always lay (row Z10).
    fn output_lost(
        &mut self,
        cx: &mut Shared,
        port: &mut impl Transmit,
        index: RecordIndex,
        room: u32,
        in_network: u32,
    ) -> Result<u32, PortFull> {
        let mss = self.snd.mss;
        if u32::from(cx.records[index].len) > mss {
            // Segmented by the port, or before the path became narrower.
            let flight = &mut self.snd.flight;
            if !flight.split(&mut cx.records, &cx.chunks, index, mss as u16) {
                cx.counters.tcp_flight_exhausted += 1;
                return Ok(0);
            }
        }
        let record = cx.records[index];
        let len = u32::from(record.len);
        if room < len && in_network > 0 {
            self.set(has::CWND_LIMITED);
            return Ok(0);
        }
        self.emit_again(cx, port, index)?;
        self.recovery.note_sent(len);
        Ok(len)
    }

    /// Sends a record again, lost or not.
    fn emit_again(
        &mut self,
        cx: &mut Shared,
        port: &mut impl Transmit,
        index: RecordIndex,
    ) -> Result<(), PortFull> {
        let record = cx.records[index];
        let is_fin = record.is(mark::FIN);
        let draft = Draft {
            seq: record.seq + u32::from(mutant!("resent-one-off")),
            flags: flag::ACK | if is_fin { flag::FIN } else { flag::PSH },
            place: record.place,
            len: if is_fin { 0 } else { u32::from(record.len) },
            new: false,
        };
        self.emit_rare(cx, port, draft)?;
        cx.counters.tcp_retransmitted += 1;
        self.snd.retransmitted = self.snd.retransmitted.wrapping_add(1);
        events::tracepoint::retransmit(self.index.place() as u64, record.len.into());
        self.snd.flight.resend(&mut cx.records, index, cx.now);
        self.note_resent(cx);
        Ok(())
    }

    fn output_fin(&mut self, cx: &mut Shared, port: &mut impl Transmit) -> Result<u32, PortFull> {
        if !Flight::has_room(&cx.records) {
            cx.counters.tcp_flight_exhausted += 1;
            return Ok(0);
        }
        let seq = self.snd.nxt;
        let draft = Draft {
            seq,
            flags: flag::ACK | flag::FIN,
            place: Place::END,
            len: 0,
            new: false,
        };
        self.emit_rare(cx, port, draft)?;
        self.set(has::FIN_SENT);
        let flight = &mut self.snd.flight;
        flight.push(&mut cx.records, seq, 1, mark::FIN, Place::END, cx.now);
        self.snd.nxt += 1;
        Ok(1)
    }

    /// Probes: of the tail, of a closed window, of a silent peer.
    fn output_probes(&mut self, cx: &mut Shared, port: &mut impl Transmit) -> Result<(), PortFull> {
        if !self.has(has::SEND_TAIL | has::SEND_PROBE | has::SEND_KEEPALIVE) {
            return Ok(());
        }
        if self.has(has::SEND_TAIL) {
            self.output_tail_probe(cx, port)?;
        }
        if self.has(has::SEND_PROBE) && self.snd.unsent > 0 {
            // RFC 9293, 3.8.6.1: a byte of new data, whatever the window says.
            let draft = Draft {
                seq: self.snd.nxt,
                flags: flag::ACK | flag::PSH,
                place: self.snd.queue.unsent(),
                len: 1,
                new: false,
            };
            self.emit_rare(cx, port, draft)?;
            cx.counters.tcp_window_probes += 1;
            self.set(has::PROBING);
        }
        if self.has(has::SEND_KEEPALIVE) {
            // RFC 9293, 3.8.4: a sequence number that the peer must answer.
            self.emit_bare(cx, port, self.snd.una - 1, flag::ACK)?;
            cx.counters.tcp_keepalive_probes += 1;
        }
        self.clear(has::SEND_PROBE | has::SEND_KEEPALIVE);
        Ok(())
    }

    /// RFC 8985, 7.3: new data if there is any and the window takes it, else the last segment again.
    fn output_tail_probe(
        &mut self,
        cx: &mut Shared,
        port: &mut impl Transmit,
    ) -> Result<(), PortFull> {
        let Some(last) = self.snd.flight.last() else {
            self.clear(has::SEND_TAIL);
            return Ok(());
        };
        let mss = self.snd.mss;
        let end = cx.records[last].end();
        if self.snd.unsent > 0 && self.snd.usable() >= mss.min(self.snd.unsent) {
            let cwnd = self.window.cwnd;
            self.window.cwnd = cwnd.max(self.snd.pipe() + mss);
            let sent = self.output_segment::<true>(cx, port);
            self.window.cwnd = cwnd;
            if sent? > 0 {
                self.tail_probe_sent(self.snd.nxt, false);
            }
        } else if !cx.records[last].is(mark::SACKED) {
            let len = cx.records[last].len;
            let mut probe = last;
            let flight = &mut self.snd.flight;
            let at = len.saturating_sub(mss as u16);
            if at > 0 && flight.split(&mut cx.records, &cx.chunks, last, at) {
                probe = Flight::next(&cx.records, last).unwrap_or(last);
            }
            self.emit_again(cx, port, probe)?;
            self.tail_probe_sent(end, true);
        }
        cx.counters.tcp_tail_loss_probes += 1;
        self.clear(has::SEND_TAIL);
        // RFC 8985, 7.3: the retransmission timeout starts now.
        self.timers.set_alarm(
            Alarm::Retransmit,
            cx.now,
            self.rtt.timeout(cx.params.rto_max),
        );
        Ok(())
    }

    /// RFC 5681, 4.1: after a pause the path is sounded out again.
    #[inline]
    fn restart_after_idle(&mut self, cx: &Shared) {
        if !self.snd.flight.is_empty() {
            return;
        }
        let idle = cx.now.since(self.snd.last_sent);
        if idle > self.rtt.timeout(cx.params.rto_max) {
            let restart = self.initial_window(cx, self.snd.mss);
            self.window.cwnd = self.window.cwnd.min(restart.max(self.snd.mss));
            self.congestion.on_idle(idle.as_nanos() as u64);
        }
    }

    /// Whether the pace says to wait; then a timer is set.
    #[inline]
    fn is_paced(&mut self, cx: &Shared) -> bool {
        if self.snd.paced_until <= cx.now + PACE_SLACK {
            return false;
        }
        self.timers.pace_at = self.snd.paced_until - PACE_SLACK;
        true
    }

    /// Spreads the window over the round trip, a little faster than it asks for:
    /// twice in slow start and a fifth more after it, as Linux does.
    #[inline]
    fn pace(&mut self, cx: &Shared, bytes: u32) {
        let Some(srtt) = self.rtt.smoothed() else {
            return;
        };
        if !cx.params.pacing || srtt < PACED_RTT_MIN || self.recovery.phase == Phase::Loss {
            return;
        }
        let (num, den) = if self.window.in_slow_start() {
            (1, 2)
        } else {
            (5, 6)
        };
        let cwnd = u64::from(self.window.cwnd.max(self.snd.mss));
        let takes = u64::from(bytes) * srtt / cwnd * num / den;
        self.snd.paced_until = self.snd.paced_until.max(cx.now) + Duration::from_nanos(takes);
    }

    fn emit_syn(&mut self, cx: &mut Shared, port: &mut impl Transmit) -> Result<(), PortFull> {
        let passive = self.state == State::SynReceived;
        let mut header = self.header(self.snd.iss, flag::SYN);
        if passive {
            header.flags |= flag::ACK;
            header.ack = self.rcv.nxt;
            // RFC 3168, 6.1.1.
            header.flags |= if self.has(has::ECN) { flag::ECE } else { 0 };
        } else {
            header.flags |= if self.has(has::ECN) {
                flag::ECE | flag::CWR
            } else {
                0
            };
        }
        header.window = self.first_window(cx);
        header.mss = Some(self.rcv.mss);
        header.window_scale =
            (!passive || self.has(has::SCALING)).then_some(cx.params.window_shift);
        header.sack_permitted = !passive || self.has(has::SACK);
        if !passive || self.has(has::TIMESTAMPS) {
            let echo = if passive { self.rcv.ts_recent } else { 0 };
            header.timestamp = Some((self.ts_now(cx), echo));
        }
        let offload = &cx.params.offload;
        let len = self.send_header(port, offload, &header)?;
        cx.counters.count_sent(len);
        self.snd.nxt = self.snd.iss + 1;
        self.snd.last_sent = cx.now;
        self.clear(has::SEND_SYN | has::ACK_NOW | has::ACK_SOON);
        if self.timers.alarm_at == NEVER {
            self.timers.set_alarm(
                Alarm::Handshake,
                cx.now,
                self.rtt.timeout(cx.params.rto_max),
            );
        }
        Ok(())
    }

    /// Sends a segment without payload.
    pub(crate) fn emit_bare(
        &mut self,
        cx: &mut Shared,
        port: &mut impl Transmit,
        seq: Seq,
        flags: u8,
    ) -> Result<(), PortFull> {
        let draft = Draft {
            seq,
            flags,
            place: Place::END,
            len: 0,
            new: false,
        };
        self.emit_rare(cx, port, draft)
    }

    #[inline]
    fn header(&self, seq: Seq, flags: u8) -> Outgoing {
        Outgoing::new(self.key.local_port(), self.key.remote_port(), seq, flags)
    }

    /// [`Connection::emit`] for what is rare: its one other caller has it inlined.
    #[inline(never)]
    fn emit_rare(
        &mut self,
        cx: &mut Shared,
        port: &mut impl Transmit,
        draft: Draft,
    ) -> Result<(), PortFull> {
        self.emit(cx, port, draft)
    }

    /// Builds a segment of a synchronized connection and hands it to the port.
    /// Every one acknowledges, and tells the window.
    #[inline(always)]
    fn emit(
        &mut self,
        cx: &mut Shared,
        port: &mut impl Transmit,
        draft: Draft,
    ) -> Result<(), PortFull> {
        let window = self.window_field(cx);
        let timestamp = self
            .has(has::TIMESTAMPS)
            .then(|| (self.ts_now(cx), self.rcv.ts_recent));
        let mut flags = draft.flags;
        if self.has(has::ECHO_CE) {
            flags |= flag::ECE;
        }
        let bare = draft.len == 0;
        let reports = bare && !self.rcv.sacks.is_empty();
        let len = if reports {
            let mut header = self.header(draft.seq, flags);
            header.ack = self.rcv.nxt;
            header.window = window;
            header.timestamp = timestamp;
            header.sack_count = self.rcv.sacks.report(&mut header.sacks);
            let offload = &cx.params.offload;
            self.send_header(port, offload, &header)?
        } else {
            if self.has(has::ECN) {
                let capable = draft.new;
                self.headers
                    .set_ecn(if capable { ecn::ECT0 } else { ecn::NOT_ECT });
            }
            let header = PlainTcp {
                ports: self.key.own_ports(),
                seq: draft.seq.0,
                ack: self.rcv.nxt.0,
                flags,
                window,
                timestamp,
            };
            let tso = (draft.len > self.snd.mss).then_some(self.snd.mss as u16);
            let payload = if bare {
                Payload::EMPTY
            } else {
                Payload::queue(cx.chunks.run(draft.place, draft.len), draft.len as usize)
            };
            let offload = &cx.params.offload;
            let (headers, offload) = self.headers.with_tcp(&header, &payload, offload, tso);
            let frame = TxFrame {
                headers,
                payload,
                offload,
            };
            let len = frame.len();
            port.transmit(frame)?;
            len
        };
        cx.counters.count_sent(len);
        cx.counters.tcp_bare_sent += u64::from(bare);
        if window == 0 {
            cx.counters.tcp_zero_windows_sent += 1;
        }
        self.snd.last_sent = cx.now;
        self.rcv.last_ack = self.rcv.nxt;
        self.rcv.unacked = 0;
        self.timers.ack_at = NEVER;
        if reports || self.rcv.sacks.is_empty() {
            // With blocks to report, data does not do for an ACK.
            self.clear(has::ACK_NOW | has::ACK_SOON);
            self.rcv.sacks.reported();
        }
        Ok(())
    }

    /// The window that a segment tells of; it is looked at once in a turn.
    #[inline]
    fn window_field(&mut self, cx: &mut Shared) -> u16 {
        let window = if self.has(has::TOLD) || !self.state.can_receive() {
            self.rcv.window()
        } else {
            self.set(has::TOLD);
            self.advertise(cx)
        };
        (window >> self.rcv.shift).min(0xffff) as u16
    }

    /// Sends a segment without payload, whatever options it has.
    fn send_header(
        &self,
        port: &mut impl Transmit,
        offload: &Offload,
        header: &Outgoing,
    ) -> Result<usize, PortFull> {
        let mut headers = self.headers;
        headers.set_ecn(ecn::NOT_ECT);
        let tcp_len = header.len();
        header.emit(headers.extend(tcp_len));
        let offload = headers.finish_tcp(tcp_len, &Payload::EMPTY, offload, None);
        let frame = TxFrame {
            headers: headers.bytes(),
            payload: Payload::EMPTY,
            offload,
        };
        let len = frame.len();
        port.transmit(frame)?;
        Ok(len)
    }
}
