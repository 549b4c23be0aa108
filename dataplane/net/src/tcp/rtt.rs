//! Round-trip times and the retransmission timeout (RFC 6298).

use std::time::Duration;

/// RFC 6298, section 2: the clock's granularity, here that of the timer wheel rounded up.
const GRANULARITY_NS: u64 = 20_000;

/// The estimator of one connection. Times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rtt {
    smoothed: u64,
    variance: u64,
    /// Least seen; what RACK derives its reordering window from.
    least: u64,
    rto: u64,
    /// Consecutive timeouts.
    backoff: u8,
}

impl Rtt {
    /// RFC 6298, (2.1): before the first sample, one second.
    pub(crate) fn new() -> Self {
        Self {
            smoothed: 0,
            variance: 0,
            least: u64::MAX,
            rto: 1_000_000_000,
            backoff: 0,
        }
    }

    /// Takes a sample, of a segment sent once only (Karn's algorithm).
    #[inline]
    pub(crate) fn sample(&mut self, rtt: u64, rto_min: u64, rto_max: u64) {
        self.least = self.least.min(rtt.max(1));
        if self.smoothed == 0 {
            // (2.2)
            self.smoothed = rtt.max(1);
            self.variance = rtt / 2;
        } else {
            // (2.3), with alpha = 1/8 and beta = 1/4.
            let deviation = self.smoothed.abs_diff(rtt);
            self.variance = (3 * self.variance + deviation) / 4;
            self.smoothed = ((7 * self.smoothed + rtt) / 8).max(1);
        }
        let rto = self.smoothed + (4 * self.variance).max(GRANULARITY_NS);
        self.rto = rto.clamp(rto_min, rto_max);
        // (5.7) and Karn: a fresh sample ends the backing off.
        self.backoff = 0;
    }

    /// A sample of the least round trip alone.
    pub(crate) fn sample_least(&mut self, rtt: u64) {
        self.least = self.least.min(rtt.max(1));
    }

    /// The smoothed round-trip time, once there is one.
    #[inline]
    pub(crate) fn smoothed(&self) -> Option<u64> {
        (self.smoothed > 0).then_some(self.smoothed)
    }

    /// How much longer than the least round trip the others take: what segments wait for on the way, and at the peer.
    #[inline]
    pub(crate) fn queueing(&self) -> u64 {
        self.smoothed.saturating_sub(self.least)
    }

    pub(crate) fn least(&self) -> Option<u64> {
        (self.least != u64::MAX).then_some(self.least)
    }

    /// The timeout now, backed off.
    #[inline]
    pub(crate) fn timeout(&self, rto_max: u64) -> Duration {
        let rto = self
            .rto
            .saturating_mul(1 << u64::from(self.backoff.min(20)));
        Duration::from_nanos(rto.min(rto_max))
    }

    /// (5.5): the timer went off.
    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    pub(crate) fn reset_backoff(&mut self) {
        self.backoff = 0;
    }

    /// Starts anew on a timeout of the handshake: RFC 6298, (5.7) asks for three seconds.
    pub(crate) fn after_lost_syn(&mut self) {
        self.backoff = 0;
        if self.smoothed == 0 {
            self.rto = 3_000_000_000;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn rfc6298_2_the_timeout_follows_the_samples() {
        let mut rtt = Rtt::new();
        assert_eq!(rtt.timeout(60_000 * MS), Duration::from_secs(1));
        rtt.sample(100 * MS, MS, 60_000 * MS);
        // (2.2): RTO = R + 4 * R/2
        assert_eq!(rtt.timeout(60_000 * MS), Duration::from_millis(300));
        rtt.sample(200 * MS, MS, 60_000 * MS);
        // (2.3): RTTVAR = 3/4*50 + 1/4*100 = 62.5; SRTT = 7/8*100 + 1/8*200 = 112.5
        assert_eq!(rtt.timeout(60_000 * MS), Duration::from_micros(362_500));
    }

    #[test]
    fn rfc6298_5_5_timeouts_back_off_up_to_the_bound() {
        let mut rtt = Rtt::new();
        rtt.sample(10 * MS, 200 * MS, 60_000 * MS);
        assert_eq!(rtt.timeout(60_000 * MS), Duration::from_millis(200));
        rtt.back_off();
        rtt.back_off();
        assert_eq!(rtt.timeout(60_000 * MS), Duration::from_millis(800));
        for _ in 0..100 {
            rtt.back_off();
        }
        assert_eq!(rtt.timeout(60_000 * MS), Duration::from_secs(60));
        rtt.sample(10 * MS, 200 * MS, 60_000 * MS);
        assert_eq!(rtt.timeout(60_000 * MS), Duration::from_millis(200));
    }
}
