//! Writes of one size, and how long they took.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::places::{Pattern, Places};
use testkit::{Command, Completion, Random};

use crate::lane::{Work, expect_success, write};

/// What consistency points bring to a drive at a time.
const PAGE: usize = 4096;
/// Blocks of the volume.
const BLOCK: usize = 512;

/// When it ends.
pub enum End<'t> {
    /// After so many writes.
    Writes(u64),
    At(Instant),
    /// When it is so.
    When(&'t AtomicBool),
}

/// What a host does.
pub struct Load<'t> {
    bytes: usize,
    places: Places,
    slots: u64,
    is_scattered: bool,
    random: Random,
    data: Vec<u8>,
    end: End<'t>,
    /// The page of each write, in their order.
    pages: Vec<u32>,
    took: Vec<Duration>,
}

impl<'t> Load<'t> {
    /// Writes of so many bytes in the first `volume` bytes. Those of less than a page go to a page by the pattern, and to any place
    /// in it. "Sequential" means each place once, but scattered, so that no two make one operation.
    pub fn new(pattern: Pattern, bytes: usize, volume: u64, end: End<'t>) -> Self {
        let slots = volume / bytes.max(PAGE) as u64;
        let mut random = Random::new(7);
        Self {
            bytes,
            places: Places::new(pattern, slots),
            slots,
            is_scattered: pattern == Pattern::Sequential,
            data: random.bytes(bytes),
            random,
            end,
            pages: Vec::new(),
            took: Vec::new(),
        }
    }

    pub fn writes(&self) -> u64 {
        self.pages.len() as u64
    }

    /// That were modified.
    pub fn bytes(&self) -> u64 {
        self.writes() * self.bytes as u64
    }

    /// Bytes for each byte modified if data went to the other node once when written, and each page that was written since the last
    /// of so many consistency points again, whole.
    pub fn by_value(&self, points: u64) -> f64 {
        let each = self.pages.len().div_ceil(points.max(1) as usize).max(1);
        let periods = self.pages.chunks(each);
        let distinct = |pages: &[u32]| pages.iter().collect::<HashSet<_>>().len();
        let again: usize = periods.map(distinct).sum();
        1.0 + (again * PAGE) as f64 / self.bytes() as f64
    }

    pub fn took(self) -> Took {
        Took(self.took)
    }
}

impl Work<u64> for Load<'_> {
    fn next(&mut self) -> Option<(u64, Command)> {
        let goes_on = match self.end {
            End::Writes(writes) => self.writes() < writes,
            End::At(end) => Instant::now() < end,
            End::When(is_over) => !is_over.load(Ordering::Acquire),
        };
        if !goes_on {
            return None;
        }
        let mut slot = self.places.pick();
        if self.is_scattered {
            slot = scattered(slot, self.slots);
        }
        self.pages.push(slot as u32);
        let mut lba = slot * (self.bytes.max(PAGE) / BLOCK) as u64;
        if self.bytes < PAGE {
            lba += self.random.below((PAGE / self.bytes) as u64) * (self.bytes / BLOCK) as u64;
        }
        Some((lba, write(lba, self.bytes / BLOCK, self.data.clone())))
    }

    fn ended(&mut self, _: u64, done: Completion, took: Duration) -> io::Result<()> {
        self.took.push(took);
        expect_success(&done)
    }
}

/// A permutation of the places: every other one, and then those between them.
fn scattered(slot: u64, slots: u64) -> u64 {
    let half = slots.div_ceil(2);
    match slot < half {
        true => 2 * slot,
        false => 2 * (slot - half) + 1,
    }
}

/// How long writes took.
pub struct Took(Vec<Duration>);

impl Took {
    /// Of a run of so long.
    pub fn summary(mut self, ran: Duration) -> Value {
        self.0.sort_unstable();
        let us = |share: f64| {
            let last = self.0.len().saturating_sub(1);
            let took = self.0.get((last as f64 * share).round() as usize);
            took.map_or(0.0, |took| took.as_secs_f64() * 1e6)
        };
        json!({
            "writes": self.0.len(), "iops": self.0.len() as f64 / ran.as_secs_f64(),
            "p50_us": us(0.5), "p99_us": us(0.99), "p999_us": us(0.999), "longest_us": us(1.0),
        })
    }
}
