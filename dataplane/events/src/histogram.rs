//! Latencies in log-linear buckets: eight to every power of two, so that a
//! bucket is at most an eighth wider than its lower end.

/// Bits that choose among the buckets of one power of two.
const FINE: u32 = 3;
/// Latencies up to 2^FIRST nanoseconds share linear buckets.
const FIRST: u32 = 8;
/// Latencies beyond 2^LAST nanoseconds (over two minutes) share the last bucket.
const LAST: u32 = 37;
/// How many buckets a histogram has.
pub const BUCKETS: usize = ((LAST - FIRST + 1) as usize) << FINE;

/// Counts of latencies in nanoseconds. A latency is in the first bucket whose
/// upper end is not below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            sum: 0,
        }
    }
}

/// The bucket of a latency.
#[inline]
fn bucket(nanoseconds: u64) -> usize {
    // Ends are inclusive, as those of Prometheus are.
    let value = nanoseconds.saturating_sub(1);
    if value < 1 << FIRST {
        return (value >> (FIRST - FINE)) as usize;
    }
    let power = value.ilog2();
    let fine = (value >> (power - FINE)) as usize & ((1 << FINE) - 1);
    ((((power - FIRST + 1) << FINE) as usize) + fine).min(BUCKETS - 1)
}

/// The upper end of a bucket, which belongs to it.
fn upper(bucket: usize) -> u64 {
    let (power, fine) = ((bucket >> FINE) as u32, (bucket & ((1 << FINE) - 1)) as u64);
    match power {
        0 => (fine + 1) << (FIRST - FINE),
        _ => ((1 << FINE) + fine + 1) << (FIRST + power - 1 - FINE),
    }
}

impl Histogram {
    /// Counts a latency.
    #[inline]
    pub fn record(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds)] += 1;
        self.sum = self.sum.wrapping_add(nanoseconds);
    }

    /// How many latencies were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum in nanoseconds.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The mean in nanoseconds; `None` if nothing was counted.
    pub fn mean(&self) -> Option<u64> {
        self.sum.checked_div(self.count())
    }

    /// The upper end of the bucket below which `share` of all latencies are;
    /// `None` if nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        self.counts
            .iter()
            .position(|&n| {
                seen += n;
                seen >= rank
            })
            .map(upper)
    }

    /// How many latencies are at most 2^`power` nanoseconds, exactly; 2^8 to 2^37.
    pub fn at_most_power(&self, power: u32) -> u64 {
        let end = ((power.clamp(FIRST, LAST) - FIRST + 1) as usize) << FINE;
        self.counts[..end.min(BUCKETS)].iter().sum()
    }

    /// Buckets that are not empty: upper end in nanoseconds, count.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        let buckets = self.counts.iter().enumerate();
        buckets
            .filter(|(_, n)| **n > 0)
            .map(|(at, n)| (upper(at), *n))
    }

    /// A histogram of what [`Histogram::iter`] gave, and the sum.
    pub fn from_buckets(buckets: impl IntoIterator<Item = (u64, u64)>, sum: u64) -> Self {
        let mut histogram = Self {
            sum,
            ..Self::default()
        };
        for (upper, n) in buckets {
            histogram.counts[bucket(upper)] += n;
        }
        histogram
    }

    /// Combines each number with another's: sums, differences.
    pub fn combine(&mut self, other: &Self, mut combine: impl FnMut(&mut u64, &u64)) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            combine(mine, theirs);
        }
        combine(&mut self.sum, &other.sum);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_follow_each_other() {
        assert_eq!((bucket(0), bucket(1), bucket(32), bucket(33)), (0, 0, 0, 1));
        for at in 0..BUCKETS {
            assert_eq!(bucket(upper(at)), at);
            if at + 1 < BUCKETS {
                assert_eq!(bucket(upper(at) + 1), at + 1);
            }
        }
        assert_eq!(upper(BUCKETS - 1), 1 << LAST);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_nothing_and_of_one() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile(0.5), histogram.mean()), (None, None));
        histogram.record(1000);
        assert_eq!(histogram.quantile(0.5), histogram.quantile(0.999));
        assert_eq!(histogram.mean(), Some(1000));
    }

    proptest! {
        #[test]
        fn a_quantile_is_near_the_exact_one(
            mut latencies in prop::collection::vec(1_000u64..1_000_000_000, 1..300),
            share in 0.01f64..1.0,
        ) {
            let mut histogram = Histogram::default();
            latencies.iter().for_each(|&latency| histogram.record(latency));
            latencies.sort_unstable();
            let rank = ((latencies.len() as f64 * share).ceil() as usize).max(1);
            let exact = latencies[rank - 1];
            let told = histogram.quantile(share).unwrap();
            prop_assert!(told >= exact && told <= exact + exact / 8, "{told} for {exact}");
        }

        #[test]
        fn powers_of_two_are_counted_exactly(
            latencies in prop::collection::vec(any::<u64>().prop_map(|x| x >> (x % 64)), 0..300),
            power in 8u32..37,
        ) {
            let mut histogram = Histogram::default();
            latencies.iter().for_each(|&latency| histogram.record(latency));
            let exact = latencies.iter().filter(|&&latency| latency <= 1 << power).count();
            prop_assert_eq!(histogram.at_most_power(power), exact as u64);
        }

        #[test]
        fn a_histogram_survives_the_wire_and_differences_come_back(
            first in prop::collection::vec(1u64..1 << 40, 0..50),
            more in prop::collection::vec(1u64..1 << 40, 0..50),
        ) {
            let of = |latencies: &[u64]| {
                let mut histogram = Histogram::default();
                latencies.iter().for_each(|&latency| histogram.record(latency));
                histogram
            };
            let (earlier, later) = (of(&first), of(&more));
            let mut both = earlier.clone();
            both.combine(&later, |sum, n| *sum = sum.wrapping_add(*n));
            let mut difference = both.clone();
            difference.combine(&earlier, |sum, n| *sum = sum.wrapping_sub(*n));
            prop_assert_eq!(&difference, &later);
            prop_assert_eq!(Histogram::from_buckets(both.iter(), both.sum()), both);
        }
    }
}
