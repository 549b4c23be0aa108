//! Congestion control: the seam, CUBIC (RFC 9438) and NewReno (RFC 5681).
//!
//! What is common to all (loss detection, recovery, proportional rate
//! reduction, undoing) is elsewhere; an algorithm says how the window grows
//! and how far it falls.

use crate::config::CongestionAlgorithm;
use crate::time::Instant;

/// The windows an algorithm works on, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) cwnd: u32,
    pub(crate) ssthresh: u32,
    pub(crate) mss: u32,
}

impl Window {
    pub(crate) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// RFC 5681, (4): no threshold is below two segments.
    fn floor(&self, bytes: u32) -> u32 {
        bytes.max(2 * self.mss)
    }
}

/// What an algorithm decides.
pub(crate) trait CongestionControl {
    /// `acked` bytes arrived while the window was what limited the sender.
    fn on_ack(&mut self, window: &mut Window, acked: u32, srtt: u64, now: Instant);
    /// The threshold after a congestion event with `flight` bytes out.
    fn on_congestion(&mut self, window: &Window, flight: u32, now: Instant) -> u32;
    /// A retransmission timeout began.
    fn on_timeout(&mut self);
    /// The sender had nothing to send for a while; `idle` nanoseconds.
    fn on_idle(&mut self, idle: u64);
    /// The last congestion event was none.
    fn on_undo(&mut self);
}

/// The algorithm of a connection. An enum, so that the path of an ACK has no indirect call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Congestion {
    Cubic(Cubic),
    NewReno(NewReno),
}

impl Congestion {
    pub(crate) fn new(algorithm: CongestionAlgorithm) -> Self {
        match algorithm {
            CongestionAlgorithm::Cubic => Congestion::Cubic(Cubic::default()),
            CongestionAlgorithm::NewReno => Congestion::NewReno(NewReno::default()),
        }
    }
}

impl CongestionControl for Congestion {
    #[inline]
    fn on_ack(&mut self, window: &mut Window, acked: u32, srtt: u64, now: Instant) {
        match self {
            Congestion::Cubic(cubic) => cubic.on_ack(window, acked, srtt, now),
            Congestion::NewReno(reno) => reno.on_ack(window, acked, srtt, now),
        }
    }
    fn on_congestion(&mut self, window: &Window, flight: u32, now: Instant) -> u32 {
        match self {
            Congestion::Cubic(cubic) => cubic.on_congestion(window, flight, now),
            Congestion::NewReno(reno) => reno.on_congestion(window, flight, now),
        }
    }
    fn on_timeout(&mut self) {
        match self {
            Congestion::Cubic(cubic) => cubic.on_timeout(),
            Congestion::NewReno(reno) => reno.on_timeout(),
        }
    }
    fn on_idle(&mut self, idle: u64) {
        match self {
            Congestion::Cubic(cubic) => cubic.on_idle(idle),
            Congestion::NewReno(reno) => reno.on_idle(idle),
        }
    }
    fn on_undo(&mut self) {
        match self {
            Congestion::Cubic(cubic) => cubic.on_undo(),
            Congestion::NewReno(reno) => reno.on_undo(),
        }
    }
}

/// RFC 5681, 3.1: exponential growth, by at most two segments per ACK beyond
/// the first hundred (appropriate byte counting, RFC 3465, with what bursts of
/// ACKed segments need: the whole of it). Returns what is left of `acked`.
fn slow_start(window: &mut Window, acked: u32) -> u32 {
    let grown = window.cwnd.saturating_add(acked).min(window.ssthresh);
    let used = grown - window.cwnd;
    window.cwnd = grown;
    acked - used
}

/// NewReno (RFC 5681, RFC 6582).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NewReno {
    acked: u32,
}

impl CongestionControl for NewReno {
    fn on_ack(&mut self, window: &mut Window, acked: u32, _srtt: u64, _now: Instant) {
        let mut acked = acked;
        if window.in_slow_start() {
            acked = slow_start(window, acked);
        }
        // RFC 5681, 3.1: one segment per window of acknowledged bytes.
        self.acked += acked;
        if self.acked >= window.cwnd {
            self.acked -= window.cwnd;
            window.cwnd += window.mss;
        }
    }

    /// RFC 5681, (4).
    fn on_congestion(&mut self, window: &Window, flight: u32, _now: Instant) -> u32 {
        self.acked = 0;
        window.floor(flight / 2)
    }

    fn on_timeout(&mut self) {}
    fn on_idle(&mut self, _idle: u64) {}
    fn on_undo(&mut self) {}
}

/// CUBIC (RFC 9438). Windows in bytes, times in nanoseconds, as integers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cubic {
    /// W_max, in bytes.
    w_max: u32,
    prior_w_max: u32,
    /// When the epoch began; none before the first ACK of one.
    epoch: Option<Instant>,
    /// K, in milliseconds.
    k_ms: u32,
    /// The window at the epoch's start, and the Reno-friendly estimate W_est.
    w_epoch: u32,
    w_est: u32,
    est_acked: u32,
    /// Bytes acknowledged towards the next growth.
    acked: u32,
}

/// RFC 9438, 4.6: beta_cubic = 0.7.
const BETA_NUM: u64 = 7;
const BETA_DEN: u64 = 10;

impl Cubic {
    fn begin_epoch(&mut self, window: &Window, now: Instant) {
        self.epoch = Some(now);
        self.w_epoch = window.cwnd;
        self.w_est = window.cwnd;
        self.est_acked = 0;
        self.acked = 0;
        if self.w_max <= window.cwnd {
            // 4.2: past the old maximum, the plateau is here.
            self.w_max = window.cwnd;
            self.k_ms = 0;
        } else {
            // K = cbrt((W_max - cwnd_epoch) / C), in seconds with windows in segments; C = 0.4.
            let gap = u64::from(self.w_max - window.cwnd) * 1_000_000_000 / u64::from(window.mss);
            self.k_ms = cube_root(gap * 10 / 4) as u32;
        }
    }

    /// W_cubic(t) in bytes (RFC 9438, figure 1), `t_ms` after the epoch's start.
    fn w_cubic(&self, t_ms: u64, mss: u32) -> u64 {
        let d = t_ms.min(1_000_000) as i64 - i64::from(self.k_ms);
        // C * d^3 segments, d in seconds: d_ms^3 * 0.4 / 10^9.
        let cubed = i128::from(d) * i128::from(d) * i128::from(d);
        let bytes = cubed * 4 * i128::from(mss) / 10 / 1_000_000_000;
        (i128::from(self.w_max) + bytes).clamp(0, 1 << 40) as u64
    }
}

impl CongestionControl for Cubic {
    fn on_ack(&mut self, window: &mut Window, acked: u32, srtt: u64, now: Instant) {
        let mut acked = acked;
        if window.in_slow_start() {
            acked = slow_start(window, acked);
            if acked == 0 {
                return;
            }
        }
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => {
                self.begin_epoch(window, now);
                now
            }
        };
        let cwnd = u64::from(window.cwnd);
        // 4.3: W_est grows by alpha_cubic segments per window; alpha = 3(1-b)/(1+b) = 9/17,
        // and 1 once it has reached the window before the event.
        self.est_acked += acked;
        let reached = self.w_est >= self.prior_w_max;
        let (num, den) = if reached { (1, 1) } else { (9, 17) };
        let grown = u64::from(self.est_acked) * u64::from(window.mss) * num / (cwnd * den).max(1);
        if grown > 0 {
            self.w_est = self.w_est.saturating_add(grown as u32);
            self.est_acked = 0;
        }
        let t_ms = (now.nanos_since(epoch) + srtt) / 1_000_000;
        let w_now = self.w_cubic(t_ms.saturating_sub(srtt / 1_000_000), window.mss);
        if w_now < u64::from(self.w_est) {
            // 4.3: the Reno-friendly region.
            window.cwnd = window.cwnd.max(self.w_est);
            return;
        }
        // 4.4, 4.5: towards W_cubic(t + RTT), at most half as much again per round trip.
        let target = self.w_cubic(t_ms, window.mss).clamp(cwnd, cwnd * 3 / 2);
        self.acked += acked;
        let step = u64::from(self.acked) * (target - cwnd) / cwnd.max(1);
        if step > 0 {
            window.cwnd = window.cwnd.saturating_add(step as u32);
            self.acked = 0;
        }
    }

    fn on_congestion(&mut self, window: &Window, flight: u32, _now: Instant) -> u32 {
        self.epoch = None;
        self.prior_w_max = self.w_max.max(window.cwnd);
        // 4.7: fast convergence releases bandwidth to newcomers.
        self.w_max = if window.cwnd < self.w_max {
            (u64::from(window.cwnd) * (BETA_DEN + BETA_NUM) / (2 * BETA_DEN)) as u32
        } else {
            window.cwnd
        };
        self.prior_w_max = window.cwnd;
        // 4.6, with flight_size in place of cwnd where the window was not filled.
        let base = u64::from(window.cwnd.min(flight.max(window.mss) * 2));
        window.floor((base * BETA_NUM / BETA_DEN) as u32)
    }

    fn on_timeout(&mut self) {
        // 4.8: the next epoch starts after slow start, with K = 0 from there.
        self.epoch = None;
    }

    fn on_idle(&mut self, idle: u64) {
        // 4.2: time without data is not time in which the window may grow.
        if let Some(epoch) = &mut self.epoch {
            *epoch = Instant(epoch.0 + idle);
        }
    }

    fn on_undo(&mut self) {
        self.w_max = self.w_max.max(self.prior_w_max);
        self.epoch = None;
    }
}

/// The integer cube root, rounded down (Hacker's Delight, figure 11-4).
fn cube_root(mut x: u64) -> u64 {
    let mut root = 0u64;
    let mut shift = 63;
    loop {
        root *= 2;
        let less = 3 * root * (root + 1);
        if x >> shift > less {
            x -= (less + 1) << shift;
            root += 1;
        }
        if shift == 0 {
            return root;
        }
        shift -= 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MSS: u32 = 1000;

    fn window(cwnd: u32, ssthresh: u32) -> Window {
        Window {
            cwnd,
            ssthresh,
            mss: MSS,
        }
    }

    #[test]
    fn cube_roots_are_right() {
        for root in [0u64, 1, 2, 3, 10, 1000, 65535, 2_000_000] {
            let cube = root * root * root;
            assert_eq!(cube_root(cube), root);
            assert_eq!(cube_root(cube + 1), if root == 0 { 1 } else { root });
            if root > 1 {
                assert_eq!(cube_root(cube - 1), root - 1);
            }
        }
    }

    #[test]
    fn rfc5681_3_1_slow_start_then_one_segment_per_window() {
        let mut reno = NewReno::default();
        let mut w = window(10 * MSS, 20 * MSS);
        reno.on_ack(&mut w, 10 * MSS, 0, Instant::ZERO);
        assert_eq!(w.cwnd, 20 * MSS);
        for _ in 0..20 {
            reno.on_ack(&mut w, MSS, 0, Instant::ZERO);
        }
        assert_eq!(w.cwnd, 21 * MSS);
        assert_eq!(reno.on_congestion(&w, 21 * MSS, Instant::ZERO), 10_500);
        assert_eq!(reno.on_congestion(&w, MSS, Instant::ZERO), 2 * MSS);
    }

    #[test]
    fn rfc9438_4_6_the_window_falls_to_seven_tenths() {
        let mut cubic = Cubic::default();
        let w = window(100 * MSS, u32::MAX);
        assert_eq!(cubic.on_congestion(&w, 100 * MSS, Instant::ZERO), 70 * MSS);
    }

    /// Against the formula in floating point, a round trip at a time.
    #[test]
    fn rfc9438_4_2_the_window_follows_the_cubic_function() {
        let rtt = 100_000_000;
        let mut cubic = Cubic::default();
        let mut w = window(1000 * MSS, 1000 * MSS);
        let ssthresh = cubic.on_congestion(&w, 1000 * MSS, Instant::ZERO);
        w.cwnd = ssthresh;
        w.ssthresh = ssthresh;
        let k = (300.0f64 / 0.4).cbrt();
        let mut now = Instant::ZERO;
        for round in 0..150 {
            for _ in 0..w.cwnd / (2 * MSS) {
                cubic.on_ack(&mut w, 2 * MSS, rtt, now);
            }
            let t = f64::from(round + 1) * 0.1;
            let expected = 0.4 * (t - k).powi(3) + 1000.0;
            let seen = f64::from(w.cwnd) / f64::from(MSS);
            assert!(
                (seen - expected).abs() < expected * 0.02,
                "after {t:.1} s: {seen} segments, expected {expected}"
            );
            now += Duration::from_nanos(rtt);
        }
    }

    #[test]
    fn rfc9438_4_3_short_round_trips_are_reno_friendly() {
        let rtt = 100_000;
        let mut cubic = Cubic::default();
        let mut w = window(20 * MSS, 20 * MSS);
        let ssthresh = cubic.on_congestion(&w, 20 * MSS, Instant::ZERO);
        w.cwnd = ssthresh;
        w.ssthresh = ssthresh;
        let mut now = Instant::ZERO;
        for _ in 0..40 {
            for _ in 0..w.cwnd / MSS {
                cubic.on_ack(&mut w, MSS, rtt, now);
            }
            now += Duration::from_nanos(rtt);
        }
        // Four milliseconds: the cubic function has hardly moved, Reno-friendliness
        // has added about a segment every two round trips.
        assert!(w.cwnd > 28 * MSS, "{}", w.cwnd);
    }
}
