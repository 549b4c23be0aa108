//! Loss detection and recovery: RACK-TLP (RFC 8985), proportional rate
//! reduction (RFC 6937), undoing (RFC 3522, RFC 3708), and NewReno (RFC 6582)
//! for peers without SACK.

use std::time::Duration;

use crate::tcp::congestion::CongestionControl;
use crate::tcp::connection::Connection;
use crate::tcp::flight::{Flight, Record, mark};
use crate::tcp::header::Segment;
use crate::tcp::loss::{Phase, Sample, TailProbe, Undo};
use crate::tcp::seq::Seq;
use crate::tcp::shared::{NEVER, Shared};
use crate::tcp::variables::flag as has;
use crate::time::Instant;

impl Connection {
    /// RFC 8985, 6.2, steps 1 to 3: RACK's variables after `record` arrived.
    pub(crate) fn rack_arrival(&mut self, cx: &Shared, record: &Record, echo: Option<u32>) {
        let rtt = cx.now.nanos_since(record.sent);
        let rack = &mut self.recovery;
        let end = record.end();
        let first = rack.rack_sent == Instant::ZERO;
        if first || end > rack.forward {
            rack.forward = end;
        } else if end < rack.forward && !record.is(mark::EVER_RESENT) {
            // Step 3: sent before what had arrived already, and sent once.
            rack.reordering = true;
        }
        if record.is(mark::EVER_RESENT) {
            // Step 2: the ACK may be for the first transmission.
            let sent = (record.sent.as_millis() as u32).wrapping_add(self.ts_offset);
            let older = echo.is_some_and(|echo| (echo.wrapping_sub(sent) as i32) < 0);
            if older || self.rtt.least().is_some_and(|least| rtt < least) {
                return;
            }
        }
        let later =
            record.sent > rack.rack_sent || record.sent == rack.rack_sent && end > rack.rack_end;
        if first || later {
            rack.rack_sent = record.sent;
            rack.rack_end = end;
            rack.rack_rtt = rtt;
        }
    }

    /// RFC 8985, 6.2, step 4: how long a segment may be late before it is lost.
    fn reordering_window(&self) -> u64 {
        let rack = &self.recovery;
        if !rack.reordering {
            let many = self.snd.flight.sacked >= 3 * self.snd.mss;
            if rack.phase != Phase::Open || many {
                return 0;
            }
        }
        let least = self.rtt.least().unwrap_or(0);
        let smoothed = self.rtt.smoothed().unwrap_or(0);
        (u64::from(rack.reo_mult) * least / 4).min(smoothed)
    }

    /// RFC 8985, 6.2, step 5: marks what is lost. Returns how long until more may be.
    fn detect_losses(&mut self, cx: &mut Shared) -> Option<Duration> {
        if self.recovery.rack_sent == Instant::ZERO {
            return None;
        }
        let window = self.reordering_window();
        let rack_end = self.recovery.rack_end;
        let mut at = self.snd.flight.oldest();
        while let Some(index) = at {
            let record = cx.records[index];
            at = Flight::newer(&cx.records, index);
            let before = record.sent < self.recovery.rack_sent
                || record.sent == self.recovery.rack_sent && record.end() < rack_end;
            if !before {
                // The list is in the order of sending: so is everything after it,
                // but for segments sent in the same instant.
                if record.sent > self.recovery.rack_sent {
                    break;
                }
                continue;
            }
            let late = self.recovery.rack_rtt + window;
            if record.sent.0 + late > cx.now.0 {
                // In the order of sending: none of those behind it is due either, and the last
                // of them will be when what was sent with the segment that arrived is.
                let last = self.recovery.rack_sent.0 + late;
                return Some(Duration::from_nanos(last - cx.now.0));
            }
            cx.counters.tcp_marked_lost += 1;
            self.snd.flight.lose(&mut cx.records, index);
        }
        None
    }

    /// The reordering timer went off (RFC 8985, 6.3).
    pub(crate) fn on_reordering_timer(&mut self, cx: &mut Shared) {
        let pipe = self.snd.pipe();
        self.recovery.look_again = self.detect_losses(cx).map_or(NEVER, |wait| cx.now + wait);
        if self.snd.flight.lost > 0 && self.recovery.phase == Phase::Open {
            self.enter_recovery(cx, pipe);
        }
        if self.recovery.phase == Phase::Recovery {
            self.reduce_proportionally(0);
        }
        self.set_alarm(cx);
        cx.wake(self.index);
    }

    /// What an ACK means for losses and for the congestion window. `pipe` is
    /// what was in the network before it.
    pub(crate) fn recover(
        &mut self,
        cx: &mut Shared,
        segment: &Segment,
        sample: &Sample,
        pipe: u32,
    ) {
        self.adapt_reordering_window(sample);
        self.note_tail_probe(cx, segment, sample);
        self.try_undo(cx, sample);
        let mut wait = None;
        if !self.has(has::SACK) {
            self.detect_losses_without_sack(cx, sample);
        } else if !self.snd.flight.is_empty() {
            wait = self.detect_losses(cx);
        }
        self.recovery.look_again = wait.map_or(NEVER, |wait| cx.now + wait);
        if self.recovery.phase != Phase::Open
            && sample.advanced
            && self.snd.una >= self.recovery.point
        {
            self.leave_recovery();
        }
        if self.recovery.phase == Phase::Open {
            if self.snd.flight.lost > 0 {
                self.enter_recovery(cx, pipe);
            } else if sample.echoed && self.snd.una > self.recovery.ecn_point {
                self.reduce_for_mark(cx, pipe);
            }
        }
        match self.recovery.phase {
            Phase::Recovery => {
                // Without SACK a duplicate ACK is all that tells of an arrival.
                let unnamed = sample.repeated && !self.has(has::SACK);
                let unnamed = if unnamed { self.snd.mss } else { 0 };
                self.reduce_proportionally(sample.delivered + unnamed);
            }
            Phase::Open | Phase::Loss => {
                // RFC 7661's rule, simply: a window that was not filled does not grow.
                let filled = self.has(has::CWND_LIMITED)
                    || self.window.in_slow_start()
                        && 2 * u64::from(pipe) >= u64::from(self.window.cwnd);
                if filled && sample.delivered > 0 && !sample.echoed {
                    let srtt = self.rtt.smoothed().unwrap_or(0);
                    let delivered = sample.delivered;
                    self.congestion
                        .on_ack(&mut self.window, delivered, srtt, cx.now);
                }
            }
        }
    }

    /// RFC 6675, (4.1) and (4.2), with RACK in the place of duplicate ACK counts.
    fn enter_recovery(&mut self, cx: &mut Shared, pipe: u32) {
        cx.counters.tcp_recoveries += 1;
        self.reduce(cx, pipe);
        let flight = self.snd.nxt.since(self.snd.una);
        let recovery = &mut self.recovery;
        recovery.phase = Phase::Recovery;
        recovery.point = self.snd.nxt;
        recovery.prr_flight = flight.max(1);
        recovery.prr_delivered = 0;
        recovery.prr_out = 0;
        cx.wake(self.index);
    }

    /// A congestion event: remembers what to go back to, and lowers the threshold.
    fn reduce(&mut self, cx: &mut Shared, pipe: u32) {
        self.recovery.undo = Some(Undo {
            cwnd: self.window.cwnd,
            ssthresh: self.window.ssthresh,
            marker: self.snd.una,
            resent: 0,
            stamp: None,
        });
        self.window.ssthresh = self.congestion.on_congestion(&self.window, pipe, cx.now);
        self.set(has::SEND_CWR);
    }

    fn leave_recovery(&mut self) {
        if self.recovery.phase == Phase::Recovery {
            self.window.cwnd = self.window.ssthresh;
        }
        self.recovery.phase = Phase::Open;
        self.recovery.repeated = 0;
    }

    /// RFC 3168, 6.1.2: a mark is taken like a loss, once per window.
    fn reduce_for_mark(&mut self, cx: &mut Shared, pipe: u32) {
        cx.counters.tcp_ecn_reductions += 1;
        self.reduce(cx, pipe);
        self.recovery.undo = None;
        self.window.cwnd = self.window.ssthresh;
        self.recovery.ecn_point = self.snd.nxt;
    }

    /// RFC 6937, section 3, with the slow start reduction bound.
    fn reduce_proportionally(&mut self, delivered: u32) {
        let (pipe, ssthresh) = (self.in_network(), self.window.ssthresh);
        let prr = &mut self.recovery;
        prr.prr_delivered = prr.prr_delivered.saturating_add(delivered);
        let send = if pipe > ssthresh {
            let share = u64::from(prr.prr_delivered) * u64::from(ssthresh);
            (share.div_ceil(u64::from(prr.prr_flight)) as u32).saturating_sub(prr.prr_out)
        } else {
            let limit = prr.prr_delivered.saturating_sub(prr.prr_out).max(delivered);
            (ssthresh - pipe).min(limit + self.snd.mss)
        };
        // The first retransmission always leaves (RFC 6675, (4.3)).
        let send = if prr.prr_out == 0 {
            send.max(self.snd.mss)
        } else {
            send
        };
        self.window.cwnd = pipe + send;
    }

    /// A segment was sent again: what it takes to find out later that it need not have been.
    pub(crate) fn note_resent(&mut self, cx: &Shared) {
        let stamp = self.ts_now(cx);
        if let Some(undo) = &mut self.recovery.undo {
            undo.resent += 1;
            undo.stamp.get_or_insert(stamp);
        }
    }

    /// Undoes the last reduction if everything that was sent again had arrived
    /// before (RFC 3708), or if the ACK answers what was sent first (RFC 3522).
    fn try_undo(&mut self, cx: &mut Shared, sample: &Sample) {
        let Some(undo) = &mut self.recovery.undo else {
            return;
        };
        if let Some((from, to)) = sample.duplicate
            && from >= undo.marker
            && undo.resent > 0
        {
            let segments = to.since(from).div_ceil(self.snd.mss.max(1)).max(1);
            undo.resent = undo.resent.saturating_sub(segments);
            if undo.resent == 0 && undo.stamp.is_some() {
                self.undo(cx);
                return;
            }
        }
        let Some(undo) = &self.recovery.undo else {
            return;
        };
        let first = |(echo, stamp): (u32, u32)| (echo.wrapping_sub(stamp) as i32) < 0;
        let answers_first = sample.echo.zip(undo.stamp).is_some_and(first);
        if sample.advanced && sample.resent && answers_first {
            self.undo(cx);
        }
    }

    fn undo(&mut self, cx: &mut Shared) {
        let Some(undo) = self.recovery.undo.take() else {
            return;
        };
        cx.counters.tcp_spurious_recoveries += 1;
        self.window.cwnd = self.window.cwnd.max(undo.cwnd);
        self.window.ssthresh = self.window.ssthresh.max(undo.ssthresh);
        self.congestion.on_undo();
        self.snd.flight.unlose(&mut cx.records);
        self.recovery.phase = Phase::Open;
        self.recovery.repeated = 0;
        // A path that reorders this much deserves a wider window at once: RFC 8985
        // widens it step by step, which the shortest round trip of a path that
        // lets some segments jump the queue makes very small steps.
        self.recovery.reordering = true;
        self.recovery.reo_mult = self.recovery.reo_mult.saturating_mul(2);
        self.recovery.reo_persist = 16;
        cx.wake(self.index);
    }

    /// RFC 8985, 6.2, step 4: the reordering window widens by a quarter of the
    /// least round trip with every round that had a D-SACK, and narrows after
    /// sixteen recoveries without one.
    fn adapt_reordering_window(&mut self, sample: &Sample) {
        let rack = &mut self.recovery;
        if rack.dsack_round.is_some_and(|end| self.snd.una >= end) {
            rack.dsack_round = None;
        }
        if sample.duplicate.is_some() && rack.dsack_round.is_none() {
            rack.dsack_round = Some(self.snd.nxt);
            rack.reo_mult = rack.reo_mult.saturating_add(1);
            rack.reo_persist = 16;
        } else if rack.phase == Phase::Recovery && self.snd.una >= rack.point {
            rack.reo_persist = rack.reo_persist.saturating_sub(1);
            if rack.reo_persist == 0 {
                rack.reo_mult = 1;
            }
        }
    }

    /// RFC 6582 and RFC 5681, 3.2, for peers without SACK.
    fn detect_losses_without_sack(&mut self, cx: &mut Shared, sample: &Sample) {
        let recovery = &mut self.recovery;
        let lose_first = if sample.advanced {
            // (3): a partial acknowledgment tells of the next hole.
            recovery.repeated = 0;
            recovery.phase == Phase::Recovery && self.snd.una < recovery.point
        } else if sample.repeated {
            recovery.repeated += 1;
            recovery.phase == Phase::Open && recovery.repeated == 3
        } else {
            false
        };
        if lose_first && let Some(index) = self.snd.flight.first() {
            cx.counters.tcp_marked_lost += 1;
            self.snd.flight.lose(&mut cx.records, index);
        }
    }

    /// Bytes in the network, less those that duplicate ACKs of a peer without
    /// SACK say have left it (RFC 5681, 3.2, (4)).
    #[inline]
    pub(crate) fn in_network(&self) -> u32 {
        let pipe = self.snd.pipe();
        if self.has(has::SACK) || self.recovery.repeated == 0 {
            return pipe;
        }
        pipe.saturating_sub(self.recovery.repeated.min(self.snd.flight.count) * self.snd.mss)
    }

    /// RFC 8985, 7.4: what an ACK says about a tail loss probe.
    fn note_tail_probe(&mut self, cx: &mut Shared, segment: &Segment, sample: &Sample) {
        let Some(probe) = self.recovery.tail else {
            return;
        };
        if segment.ack < probe.end {
            return;
        }
        let reported = sample.duplicate.is_some_and(|(_, to)| to == probe.end);
        if !probe.resent || reported {
            self.recovery.tail = None;
            if probe.resent {
                self.set(has::ACKS_LATE);
            }
        } else if segment.ack > probe.end {
            // The probe repaired a loss that nobody else would have told of.
            self.recovery.tail = None;
            self.clear(has::ACKS_LATE);
            cx.counters.tcp_tail_losses_repaired += 1;
            if self.recovery.phase == Phase::Open {
                let pipe = self.snd.pipe();
                self.reduce(cx, pipe);
                self.recovery.undo = None;
                self.window.cwnd = self.window.ssthresh;
            }
        } else if !sample.advanced && !sample.sacked && segment.sack_count == 0 {
            self.recovery.tail = None;
        }
    }

    /// Takes every segment that is larger than the path's for lost. Whether there was one.
    pub(crate) fn lose_larger(&mut self, cx: &mut Shared) -> bool {
        let mut any = false;
        let mut at = self.snd.flight.oldest();
        while let Some(index) = at {
            at = Flight::newer(&cx.records, index);
            if u32::from(cx.records[index].len) > self.snd.mss {
                self.snd.flight.lose(&mut cx.records, index);
                any = true;
            }
        }
        any
    }

    /// A tail loss probe was sent; it ends at `end`.
    pub(crate) fn tail_probe_sent(&mut self, end: Seq, resent: bool) {
        self.recovery.tail = Some(TailProbe { end, resent });
    }

    /// RFC 6298, section 5, and RFC 8985, 6.3: the retransmission timer went off.
    pub(crate) fn on_timeout(&mut self, cx: &mut Shared) {
        cx.counters.tcp_timeouts += 1;
        self.rtt.back_off();
        self.recovery.tail = None;
        let pipe = self.snd.pipe();
        let first = self.snd.flight.first();
        if first.is_some_and(|first| cx.records[first].is(mark::SACKED)) {
            // RFC 2018, section 8: what was SACKed first of all and is not
            // acknowledged now is not there any more.
            cx.counters.tcp_sack_reneging += 1;
            self.snd.flight.forget_sacks(&mut cx.records);
        }
        if self.recovery.phase == Phase::Open {
            self.reduce(cx, pipe);
        } else if self.recovery.undo.is_none() {
            // RFC 5681, 3.1: the threshold stays for what was retransmitted already.
            self.window.ssthresh = self.window.ssthresh.max(2 * self.snd.mss);
        }
        self.congestion.on_timeout();
        self.window.cwnd = self.snd.mss;
        self.recovery.phase = Phase::Loss;
        self.recovery.point = self.snd.nxt;
        self.recovery.repeated = 0;
        // Everything out is lost; what arrives late will say so (undo).
        let mut at = self.snd.flight.oldest();
        while let Some(index) = at {
            at = Flight::newer(&cx.records, index);
            cx.counters.tcp_marked_lost += 1;
            self.snd.flight.lose(&mut cx.records, index);
        }
        cx.wake(self.index);
    }
}
