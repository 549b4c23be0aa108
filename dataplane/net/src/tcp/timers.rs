//! Timers: when they are set, and what they do.

use std::time::Duration;

use crate::event::CloseReason;
use crate::tcp::connection::Connection;
use crate::tcp::loss::Phase;
use crate::tcp::shared::{NEVER, Shared};
use crate::tcp::state::State;
use crate::tcp::variables::{Alarm, flag as has};
use crate::time::Instant;

/// Retransmissions and probes for a connection that the application has released.
const ORPHAN_RETRIES: u8 = 8;
/// RFC 8985, 7.2: what a peer may delay an ACK (TLP.max_ack_delay). Linux and FreeBSD do for 40 ms, to a tick of their clocks.
const TAIL_ACK_DELAY: u64 = 50_000_000;

impl Connection {
    /// Sets the alarm that fits what is out (RFC 6298, 5; RFC 8985, 7.2 and 8).
    #[inline]
    pub(crate) fn set_alarm(&mut self, cx: &Shared) {
        if !self.state.is_synchronized() || self.state == State::SynReceived {
            return;
        }
        if self.snd.flight.is_empty() {
            // A window that holds everything up is probed.
            let held = self.snd.unsent > 0 && self.state.transmits();
            if !held || self.snd.usable() >= self.snd.mss.min(self.snd.unsent) {
                self.timers.clear_alarm();
            } else if self.timers.alarm != Alarm::Persist || self.timers.alarm_at == NEVER {
                self.start_persist(cx);
            }
            return;
        }
        let timeout = self.rtt.timeout(cx.params.rto_max);
        let waits = self.recovery.look_again != NEVER;
        if waits && self.recovery.look_again < cx.now + timeout {
            self.timers.alarm = Alarm::Reordering;
            self.timers.alarm_at = self.recovery.look_again;
            return;
        }
        if self.probes_tail() {
            let delay = self.tail_timeout().min(timeout);
            self.timers.set_alarm(Alarm::TailLoss, cx.now, delay);
        } else {
            self.timers.set_alarm(Alarm::Retransmit, cx.now, timeout);
        }
    }

    /// RFC 9293, 3.8.6.1: the first probe after a retransmission timeout, the
    /// others at growing intervals.
    fn start_persist(&mut self, cx: &Shared) {
        let timeout = self.rtt.timeout(cx.params.rto_max);
        self.timers.set_alarm(Alarm::Persist, cx.now, timeout);
    }

    /// RFC 8985, 7.2: with SACK, outside of recovery, and not twice in a row.
    fn probes_tail(&self) -> bool {
        self.has(has::SACK)
            && self.recovery.phase == Phase::Open
            && self.snd.flight.lost == 0
            && !self.recovery.tail_probe_is_out()
            && self.snd.retries == 0
            && self.rtt.smoothed().is_some()
    }

    /// RFC 8985, 7.2: PTO.
    fn tail_timeout(&self) -> Duration {
        let srtt = self.rtt.smoothed().unwrap_or(0);
        // A peer owes an ACK at once for two full segments (RFC 9293, 3.8.6.3), not for as many responses.
        let bytes = self.snd.nxt.since(self.snd.una);
        let may_delay = bytes < 2 * self.snd.mss || self.has(has::ACKS_LATE);
        // Never so soon that the wheel's tick and the peer's turn would be outrun.
        let delay = 2 * srtt + if may_delay { TAIL_ACK_DELAY } else { 2_000_000 };
        Duration::from_nanos(delay)
    }

    pub(crate) fn set_keepalive(&mut self, cx: &Shared) {
        if cx.params.keepalive_idle != u64::MAX {
            self.timers.idle_at = cx.now + Duration::from_nanos(cx.params.keepalive_idle);
        }
    }

    /// Nobody waits for a connection that the application gave back: a peer has as long to
    /// take what was sent, and our FIN, as it has for its own.
    pub(crate) fn set_linger(&mut self, cx: &Shared) {
        if self.state != State::Closed {
            self.timers.idle_at = cx.now + Duration::from_nanos(cx.params.fin_wait_2);
        }
    }

    /// The connection's wheel timer went off: does what is due.
    pub(crate) fn on_timer(&mut self, cx: &mut Shared) {
        let now = cx.now;
        let due = |at: &mut Instant| {
            let due = *at <= now;
            if due {
                *at = NEVER;
            }
            due
        };
        if due(&mut self.timers.ack_at) {
            cx.counters.tcp_acks_delayed += 1;
            self.ack_now(cx);
        }
        if due(&mut self.timers.pace_at) {
            cx.wake(self.index);
        }
        if due(&mut self.timers.gather_at) {
            self.on_gathered(cx);
        }
        if due(&mut self.timers.idle_at) {
            self.on_idle_timer(cx);
        }
        if self.state != State::Closed && due(&mut self.timers.alarm_at) {
            self.on_alarm(cx);
        }
    }

    fn on_alarm(&mut self, cx: &mut Shared) {
        match self.timers.alarm {
            Alarm::Handshake => self.on_handshake_timer(cx),
            Alarm::Reordering => self.on_reordering_timer(cx),
            Alarm::TailLoss => {
                self.set(has::SEND_TAIL);
                self.timers.set_alarm(
                    Alarm::Retransmit,
                    cx.now,
                    self.rtt.timeout(cx.params.rto_max),
                );
                cx.wake(self.index);
            }
            Alarm::Persist => self.on_persist_timer(cx),
            Alarm::Retransmit => {
                if !self.count_retry(cx) {
                    return;
                }
                if self.snd.flight.is_empty() {
                    // Data waits for a neighbour that does not answer.
                    cx.wake(self.index);
                } else {
                    self.suspect_black_hole(cx);
                    self.on_timeout(cx);
                }
                self.timers.set_alarm(
                    Alarm::Retransmit,
                    cx.now,
                    self.rtt.timeout(cx.params.rto_max),
                );
            }
        }
    }

    /// RFC 9293, 3.8.3: after R2 retransmissions the peer is given up. Whether it is not, yet.
    fn count_retry(&mut self, cx: &mut Shared) -> bool {
        // Nobody waits for an orphan; a peer must not keep its memory.
        let most = if self.has(has::ORPHAN) {
            cx.params.retries_max.min(ORPHAN_RETRIES)
        } else {
            cx.params.retries_max
        };
        if self.snd.retries >= most {
            cx.counters.tcp_timed_out += 1;
            self.finish(cx, CloseReason::TimedOut);
            return false;
        }
        self.snd.retries += 1;
        true
    }

    fn on_handshake_timer(&mut self, cx: &mut Shared) {
        if self.snd.retries >= cx.params.syn_retries_max {
            if self.has(has::PASSIVE) {
                cx.counters.tcp_half_open_expired += 1;
            }
            cx.counters.tcp_timed_out += 1;
            self.finish(cx, CloseReason::TimedOut);
            return;
        }
        self.snd.retries += 1;
        self.rtt.back_off();
        if self.snd.retries >= 2 {
            // RFC 3168, 6.1.1.1: a SYN that asks for ECN may be what is dropped.
            self.clear(has::ECN);
        }
        self.set(has::SEND_SYN);
        self.timers.set_alarm(
            Alarm::Handshake,
            cx.now,
            self.rtt.timeout(cx.params.rto_max),
        );
        cx.wake(self.index);
    }

    /// RFC 9293, 3.8.6.1. A peer that answers is probed without end; one that
    /// does not is given up like any other (MUST-36 and R2).
    fn on_persist_timer(&mut self, cx: &mut Shared) {
        if !self.count_retry(cx) {
            return;
        }
        self.rtt.back_off();
        if self.snd.usable() > 0 {
            self.set(has::OVERRIDE);
        } else {
            self.set(has::SEND_PROBE);
        }
        self.start_persist(cx);
        cx.wake(self.index);
    }

    /// Keep-alive (RFC 9293, 3.8.4), or the end of a FIN-WAIT-2 that the peer does not end,
    /// or of a peer that takes for ever what it was sent before we closed.
    fn on_idle_timer(&mut self, cx: &mut Shared) {
        if self.has(has::LEAVING) {
            cx.counters.tcp_timed_out += 1;
            self.abort(cx, CloseReason::TimedOut);
            return;
        }
        let idle = cx.now.nanos_since(self.heard_at);
        if self.state == State::FinWait2 {
            if idle >= cx.params.fin_wait_2 {
                cx.counters.tcp_timed_out += 1;
                self.finish(cx, CloseReason::TimedOut);
            } else {
                self.timers.idle_at = self.heard_at + Duration::from_nanos(cx.params.fin_wait_2);
            }
            return;
        }
        if idle < cx.params.keepalive_idle {
            self.timers.idle_at = self.heard_at + Duration::from_nanos(cx.params.keepalive_idle);
            return;
        }
        // While data is out, its retransmissions are probes enough.
        if self.snd.flight.is_empty() && self.state.is_synchronized() {
            if self.snd.keepalives >= cx.params.keepalive_probes {
                cx.counters.tcp_timed_out += 1;
                self.abort(cx, CloseReason::TimedOut);
                return;
            }
            self.snd.keepalives += 1;
            self.set(has::SEND_KEEPALIVE);
            cx.wake(self.index);
        }
        self.timers.idle_at = cx.now + Duration::from_nanos(cx.params.keepalive_interval);
    }

    /// Full segments that vanish again and again while a router may keep its
    /// "too big" to itself: try with smaller ones (RFC 8899, 4.3; RFC 2923, 2.1).
    fn suspect_black_hole(&mut self, cx: &mut Shared) {
        const RETRIES: u8 = 3;
        const SAFE_MTU: u16 = 1280;
        let first = self.snd.flight.first().map(|first| cx.records[first].len);
        let full = first.is_some_and(|len| u32::from(len) >= self.snd.mss);
        let least = if self.key.is_v4() { 576 } else { SAFE_MTU };
        if self.snd.retries < RETRIES || !full || self.snd.path_mtu <= least {
            return;
        }
        cx.counters.pmtu_black_holes += 1;
        self.snd.path_mtu = if self.snd.path_mtu > SAFE_MTU {
            SAFE_MTU
        } else {
            least
        };
        self.update_mss(cx);
    }
}
