//! How far threads have come, for others that wait for it.

use super::primitives::{AtomicUsize, Ordering};

/// A number that only grows. Whoever sees it has everything in sight that was
/// done before it was reached, by all who helped to reach it.
#[derive(Debug)]
pub struct Progress(AtomicUsize);

impl Default for Progress {
    fn default() -> Self {
        Self(AtomicUsize::new(0))
    }
}

impl Progress {
    /// One step, by one of many.
    pub fn step(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// Jumps to `place`; for the one thread that leads.
    pub fn advance_to(&self, place: usize) {
        self.0.store(place, Ordering::Release);
    }

    /// Where it is now, or was a moment ago.
    pub fn place(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}
