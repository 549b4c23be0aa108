//! SEGMENT ARRIVES (RFC 9293, section 3.10.7), in its order.

use std::time::Duration;

use crate::event::CloseReason;
use crate::tcp::body::Body;
use crate::tcp::connection::Connection;
use crate::tcp::header::{Segment, flag};
use crate::tcp::seq::Seq;
use crate::tcp::shared::Shared;
use crate::tcp::state::{Input, State};
use crate::tcp::variables::{event, flag as has};

/// What a segment asks for that a connection cannot send itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nothing,
    /// A reset in answer to the segment: <SEQ=SEG.ACK><CTL=RST>.
    Reset,
}

/// RFC 7323, 5.5: a timestamp older than this says nothing any more.
const TS_VALID: Duration = Duration::from_secs(24 * 24 * 3600);
/// The retransmissions of a SYN-ACK that nobody remembers.
pub(crate) const UNKNOWN_RETRIES: u8 = u8::MAX;
/// How much older than the newest an overtaken acknowledgment can be: a peer's retransmission timeout.
const DISORDER_MS: i32 = 1000;
/// RFC 5961, 7: challenge ACKs per connection in a span of time. Counted by
/// connection, so that nobody learns of one by watching another (CVE-2016-5696).
const CHALLENGES_MAX: u8 = 10;
const CHALLENGE_SPAN: Duration = Duration::from_secs(5);

impl Connection {
    /// Takes a segment of this connection.
    pub(crate) fn on_segment(
        &mut self,
        cx: &mut Shared,
        segment: &Segment,
        body: &mut Body<'_>,
    ) -> Reply {
        if self.is_predicted(segment) {
            return self.on_predicted(cx, segment, body);
        }
        cx.counters.tcp_segments_received += 1;
        match self.state {
            State::Closed | State::Listen | State::TimeWait => Reply::Nothing,
            State::SynSent => self.on_segment_in_syn_sent(cx, segment),
            _ => self.on_segment_in_synchronized(cx, segment, body),
        }
    }

    /// Takes a segment that was [predicted](Connection::is_predicted).
    #[inline]
    pub(crate) fn on_predicted(
        &mut self,
        cx: &mut Shared,
        segment: &Segment,
        body: &mut Body<'_>,
    ) -> Reply {
        cx.counters.tcp_segments_received += 1;
        cx.counters.tcp_predicted += 1;
        self.heard_at = cx.now;
        self.snd.keepalives = 0;
        self.note_timestamp(cx, segment);
        self.on_ack(cx, segment);
        if segment.len > 0 {
            self.take_in_order(cx, segment, body);
        }
        Reply::Nothing
    }

    /// Header prediction (Van Jacobson, 1990): the next segment of an established
    /// connection, with nothing in it that any of the checks below would stop at.
    #[inline]
    pub(crate) fn is_predicted(&self, segment: &Segment) -> bool {
        let rcv = &self.rcv;
        let timely = match segment.timestamp {
            Some((value, _)) => {
                self.has(has::TIMESTAMPS) && value.wrapping_sub(rcv.ts_recent) as i32 >= 0
            }
            None => !self.has(has::TIMESTAMPS),
        };
        self.state == State::Established
            && segment.flags & !flag::PSH == flag::ACK
            && segment.seq == rcv.nxt
            && timely
            && rcv.queue.out_of_order == 0
            && segment.len <= rcv.window()
            && segment.ack >= self.snd.una
            && segment.ack <= self.snd.nxt
            && !segment.ce
            && !self.has(has::ORPHAN | has::SEND_RST | has::PROBING)
    }

    /// RFC 9293, 3.10.7.3.
    fn on_segment_in_syn_sent(&mut self, cx: &mut Shared, segment: &Segment) -> Reply {
        let acks = segment.has(flag::ACK);
        if acks && (segment.ack <= self.snd.iss || segment.ack > self.snd.nxt) {
            // First: an acknowledgment of something else.
            events::dropped!(cx.counters, tcp_ack_unacceptable);
            return Reply::Reset;
        }
        if segment.has(flag::RST) {
            // Second. A reset without an acknowledgment could be anybody's (RFC 5961, 3.2).
            if acks {
                cx.counters.tcp_resets_received += 1;
                self.finish(cx, CloseReason::Refused);
            }
            return Reply::Nothing;
        }
        if !segment.has(flag::SYN) {
            return Reply::Nothing;
        }
        self.take_syn(cx, segment);
        if !acks {
            // Simultaneous open (RFC 9293, 3.5, figure 8).
            self.step(Input::Syn);
            self.set(has::SEND_SYN);
            cx.wake(self.index);
            return Reply::Nothing;
        }
        self.step(Input::SynAck);
        // RFC 3168, 6.1.1.1: a SYN-ACK agrees with ECE alone.
        if segment.flags & (flag::ECE | flag::CWR) != flag::ECE {
            self.clear(has::ECN);
        }
        self.snd.una = segment.ack;
        self.snd.wnd = u32::from(segment.window);
        self.become_established(cx, segment);
        self.ack_now(cx);
        cx.counters.tcp_connected += 1;
        self.publish(cx, event::CONNECTED);
        Reply::Nothing
    }

    /// Takes over what a SYN says: initial sequence number and options.
    pub(crate) fn take_syn(&mut self, cx: &mut Shared, segment: &Segment) {
        // What our SYN promised, if we sent one, holds from the peer's number on.
        let promised = self.rcv.window();
        self.rcv.irs = segment.seq;
        self.rcv.nxt = segment.seq + 1;
        self.rcv.edge = self.rcv.nxt + promised;
        self.rcv.last_ack = self.rcv.nxt;
        self.rcv.refused = self.rcv.irs;
        if let Some(mss) = segment.mss {
            // Segments below this make more work than they bring; RFC 879 has no
            // least, and Linux's is the same (tcp_min_snd_mss).
            self.snd.peer_mss = mss.max(48);
        }
        // RFC 7323, 2.2 and 3.2; RFC 2018, section 2: what both SYNs have holds.
        match segment.window_scale {
            Some(shift) => {
                self.set(has::SCALING);
                self.snd.shift = shift;
                self.rcv.shift = cx.params.window_shift;
            }
            None => self.clear(has::SCALING),
        }
        match segment.timestamp {
            Some((value, _)) => {
                self.set(has::TIMESTAMPS);
                self.rcv.ts_recent = value;
                self.rcv.ts_recent_at = cx.now;
            }
            None => self.clear(has::TIMESTAMPS),
        }
        if segment.sack_permitted {
            self.set(has::SACK);
        } else {
            self.clear(has::SACK);
        }
        self.snd.wl1 = segment.seq;
        self.snd.wl2 = segment.ack;
        self.update_mss(cx);
    }

    /// Both sides have each other's SYN now; `segment` brought the news.
    pub(crate) fn become_established(&mut self, cx: &mut Shared, segment: &Segment) {
        self.snd.wnd_max = self.snd.wnd;
        self.snd.wl1 = segment.seq;
        self.snd.wl2 = segment.ack;
        if self.snd.retries == UNKNOWN_RETRIES {
            // A cookie: nobody knows when the SYN-ACK left, or how often.
        } else if self.snd.retries == 0 {
            // A SYN sent once is a sample (Karn).
            let rtt = cx.now.nanos_since(self.snd.last_sent);
            self.rtt.sample(rtt, cx.params.rto_min, cx.params.rto_max);
        } else {
            // RFC 6298, (5.7); RFC 5681, 3.1: a lost SYN makes for a window of one segment.
            self.rtt.after_lost_syn();
            self.window.cwnd = self.window.mss;
        }
        self.snd.retries = 0;
        self.begin_round(cx);
        self.clear(has::SEND_SYN);
        self.timers.clear_alarm();
        self.heard_at = cx.now;
        self.set_keepalive(cx);
        if self.has(has::FIN_QUEUED) {
            // The application closed while the handshake went on.
            self.step(Input::Close);
        }
        cx.wake(self.index);
    }

    fn on_segment_in_synchronized(
        &mut self,
        cx: &mut Shared,
        segment: &Segment,
        body: &mut Body<'_>,
    ) -> Reply {
        if self.has(has::SEND_RST) {
            return Reply::Nothing;
        }
        let rst = segment.has(flag::RST);
        // RFC 7323, 5.3 (R1): an old timestamp is an old segment, unless it resets.
        if self.has(has::TIMESTAMPS) && !rst && !self.is_timely(cx, segment) {
            events::dropped!(cx.counters, tcp_paws_refused);
            if segment.timestamp.is_some() {
                self.ack_now(cx);
            }
            return Reply::Nothing;
        }
        // RFC 5961, 4.2: a SYN is answered with a challenge wherever it points.
        if segment.has(flag::SYN) && !rst {
            if self.state == State::SynReceived && segment.seq == self.rcv.irs {
                if segment.has(flag::ACK) && segment.ack == self.snd.nxt {
                    // The other half of a simultaneous open (RFC 9293, 3.5, figure 8).
                    self.establish_from_syn_received(cx, segment);
                } else {
                    // Its SYN again: our SYN-ACK was lost.
                    self.set(has::SEND_SYN);
                    cx.wake(self.index);
                }
                return Reply::Nothing;
            }
            self.challenge(cx);
            return Reply::Nothing;
        }
        // First: the sequence number (RFC 9293, 3.10.7.4).
        if !self.is_acceptable(segment) {
            events::dropped!(cx.counters, tcp_out_of_window);
            if !rst {
                self.note_duplicate(segment.seq, segment.len);
                self.ack_now(cx);
            }
            return Reply::Nothing;
        }
        // Second: the reset (RFC 5961, 3.2).
        if rst {
            self.on_reset(cx, segment);
            return Reply::Nothing;
        }
        // Fifth: the acknowledgment.
        if !segment.has(flag::ACK) {
            return Reply::Nothing;
        }
        if self.state == State::SynReceived {
            if segment.ack != self.snd.nxt {
                events::dropped!(cx.counters, tcp_ack_unacceptable);
                return Reply::Reset;
            }
            self.establish_from_syn_received(cx, segment);
        }
        // RFC 5961, 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT.
        let top = self.snd.nxt + u32::from(self.has(has::PROBING));
        if segment.ack > top || segment.ack < self.snd.una - self.snd.wnd_max {
            events::dropped!(cx.counters, tcp_ack_unacceptable);
            self.challenge(cx);
            return Reply::Nothing;
        }
        self.heard_at = cx.now;
        self.snd.keepalives = 0;
        self.note_timestamp(cx, segment);
        self.note_congestion(cx, segment);
        self.on_ack(cx, segment);
        if self.state == State::Closed {
            return Reply::Nothing;
        }
        // Seventh: the text. Eighth: the FIN.
        let end = segment.seq + segment.len;
        if body.len() > 0 {
            self.take_text(cx, segment, body);
        }
        if segment.has(flag::FIN) && self.state != State::Closed {
            if self.rcv.nxt == end {
                self.take_fin(cx);
            } else {
                self.ack_now(cx);
            }
        }
        Reply::Nothing
    }

    fn establish_from_syn_received(&mut self, cx: &mut Shared, segment: &Segment) {
        self.step(Input::AckOfSyn);
        self.snd.una = segment.ack;
        self.snd.wnd = u32::from(segment.window) << self.snd.shift;
        self.become_established(cx, segment);
        if self.has(has::PASSIVE) {
            // From here on the application knows of it.
            self.clear(has::ORPHAN);
            cx.counters.tcp_accepted += 1;
            self.publish(cx, event::ACCEPTED);
        } else {
            self.ack_now(cx);
            cx.counters.tcp_connected += 1;
            self.publish(cx, event::CONNECTED);
        }
    }

    /// RFC 9293, 3.10.7.4, the table of acceptable segments; with the allowance
    /// for acknowledgments when the window is closed.
    fn is_acceptable(&self, segment: &Segment) -> bool {
        let (nxt, edge) = (self.rcv.nxt, self.rcv.edge);
        if edge == nxt {
            return segment.seq == nxt;
        }
        let starts = segment.seq >= nxt && segment.seq < edge;
        let len = segment.seq_len();
        let last = segment.seq + len.wrapping_sub(1);
        starts || len > 0 && last >= nxt && last < edge
            // A pure acknowledgment from just behind the edge of a full window.
            || len == 0 && segment.seq == edge
    }

    fn is_timely(&self, cx: &Shared, segment: &Segment) -> bool {
        match segment.timestamp {
            Some((value, _)) => {
                let age = self.rcv.ts_recent.wrapping_sub(value) as i32;
                age <= 0
                    || cx.now.since(self.rcv.ts_recent_at) > TS_VALID
                    || age <= DISORDER_MS && self.is_disordered_ack(segment)
            }
            // RFC 7323, 3.2: once agreed on, every segment has one; others are dropped.
            None => false,
        }
    }

    /// A pure acknowledgment that another one overtook. Nothing in it can be
    /// mistaken for old data, and its SACK blocks are worth having; Linux lets
    /// such pass too (tcp_disordered_ack).
    fn is_disordered_ack(&self, segment: &Segment) -> bool {
        segment.flags & !flag::ECE == flag::ACK
            && segment.len == 0
            && segment.seq == self.rcv.nxt
            && segment.ack <= self.snd.una
    }

    /// RFC 7323, 4.3 (2): the timestamp to echo is that of the segment at the
    /// left edge of what was last acknowledged.
    #[inline]
    fn note_timestamp(&mut self, cx: &Shared, segment: &Segment) {
        if let Some((value, _)) = segment.timestamp
            && self.has(has::TIMESTAMPS)
            && segment.seq <= self.rcv.last_ack
            && value.wrapping_sub(self.rcv.ts_recent) as i32 >= 0
        {
            self.rcv.ts_recent = value;
            self.rcv.ts_recent_at = cx.now;
        }
    }

    /// RFC 3168, 6.1.3: echo a mark until the sender says that it has reduced its window.
    fn note_congestion(&mut self, cx: &mut Shared, segment: &Segment) {
        if !self.has(has::ECN) {
            return;
        }
        if segment.has(flag::CWR) {
            self.clear(has::ECHO_CE);
        }
        if segment.ce {
            cx.counters.tcp_ce_received += 1;
            self.set(has::ECHO_CE);
            self.ack_now(cx);
        }
    }

    /// RFC 5961, 3.2: only the very next sequence number resets; others in the
    /// window are asked again.
    fn on_reset(&mut self, cx: &mut Shared, segment: &Segment) {
        if segment.seq != self.rcv.nxt {
            self.challenge(cx);
            return;
        }
        cx.counters.tcp_resets_received += 1;
        let reason = match self.state {
            State::SynReceived => CloseReason::Refused,
            // Everything was said and acknowledged on our side.
            State::Closing | State::LastAck => CloseReason::Finished,
            _ => CloseReason::Reset,
        };
        self.finish(cx, reason);
    }

    /// Sends an ACK that says where we are, within a limit.
    pub(crate) fn challenge(&mut self, cx: &mut Shared) {
        if cx.now.since(self.challenged_at) >= CHALLENGE_SPAN {
            self.challenged_at = cx.now;
            self.challenges = 0;
        }
        if self.challenges >= CHALLENGES_MAX {
            cx.counters.tcp_challenge_acks_limited += 1;
            return;
        }
        self.challenges += 1;
        cx.counters.tcp_challenge_acks += 1;
        self.ack_now(cx);
    }

    /// RFC 2883: bytes that had arrived before are reported.
    pub(crate) fn note_duplicate(&mut self, from: Seq, len: u32) {
        let to = from + len;
        if self.has(has::SACK) && len > 0 && to <= self.rcv.nxt {
            self.rcv.sacks.duplicate(from, to);
        }
    }
}
