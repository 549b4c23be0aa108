//! Latencies as they travel: their buckets, and what people ask of them.

use engine::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies of one kind of request, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub(crate) struct Latency(pub(crate) Histogram);

/// What JSON has of them. The percentiles follow from the buckets, for scripts.
#[derive(Serialize, Deserialize)]
struct Wire {
    count: u64,
    sum_ns: u64,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    p999_ns: Option<u64>,
    /// Upper end in nanoseconds, count; empty ones are left out.
    buckets: Vec<(u64, u64)>,
}

impl From<Latency> for Wire {
    fn from(Latency(histogram): Latency) -> Self {
        Self {
            count: histogram.count(),
            sum_ns: histogram.sum(),
            p50_ns: histogram.quantile(0.5),
            p99_ns: histogram.quantile(0.99),
            p999_ns: histogram.quantile(0.999),
            buckets: histogram.iter().collect(),
        }
    }
}

impl From<Wire> for Latency {
    fn from(wire: Wire) -> Self {
        Self(Histogram::from_buckets(wire.buckets, wire.sum_ns))
    }
}
