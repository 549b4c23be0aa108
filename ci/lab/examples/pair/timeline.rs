//! What happened when, and how fast a host was.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

/// Seconds of a bin.
const BIN: f64 = 0.1;

/// From the first command on.
pub struct Timeline {
    begun: Instant,
    /// Bytes that were acknowledged, by tenths of a second.
    bins: Mutex<Vec<u64>>,
    acknowledged: AtomicU64,
    events: Mutex<Vec<(f64, String)>>,
    /// MiB that are still to be copied.
    left: Mutex<Vec<(f64, f64)>>,
}

impl Timeline {
    pub fn begin() -> Self {
        Self {
            begun: Instant::now(),
            bins: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            events: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// Seconds since the beginning.
    pub fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// A write was acknowledged.
    pub fn acknowledge(&self, bytes: usize) {
        let at = (self.now() / BIN) as usize;
        let mut bins = self.bins.lock().expect("nobody panicked");
        if bins.len() <= at {
            bins.resize(at + 1, 0);
        }
        bins[at] += bytes as u64;
        self.acknowledged.fetch_add(bytes as u64, Ordering::Release);
    }

    /// Bytes so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Something happened; when.
    pub fn event(&self, what: &str) -> f64 {
        let now = self.now();
        println!("  {now:5.1} s  {what}");
        let mut events = self.events.lock().expect("nobody panicked");
        events.push((now, what.into()));
        now
    }

    /// So much is to be copied.
    pub fn left(&self, mib: f64) {
        let mut left = self.left.lock().expect("nobody panicked");
        left.push((self.now(), mib));
    }

    /// All of it.
    pub fn to_json(&self) -> Value {
        let mib = |bytes: &u64| *bytes as f64 / BIN / f64::from(1 << 20);
        let bins = self.bins.lock().expect("nobody panicked");
        let rates: Vec<_> = bins.iter().map(mib).collect();
        let events = self.events.lock().expect("nobody panicked");
        let events: Vec<_> = (events.iter())
            .map(|(at, what)| json!({ "at_s": at, "what": what }))
            .collect();
        let left = self.left.lock().expect("nobody panicked");
        let left: Vec<_> = (left.iter())
            .map(|(at, mib)| json!({ "at_s": at, "mib": mib }))
            .collect();
        json!({ "bin_s": BIN, "mib_per_second": rates, "events": events, "left": left })
    }
}
