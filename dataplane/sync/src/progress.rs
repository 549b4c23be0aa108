//! How far threads have come, for others that wait for it.

use crate::primitives::{AtomicUsize, Ordering};

/// A number that only grows. A thread that sees it reach a value also sees all
/// that the threads that advanced it had done before.
#[derive(Debug)]
pub struct Progress(AtomicUsize);

impl Default for Progress {
    fn default() -> Self {
        Self(AtomicUsize::new(0))
    }
}

impl Progress {
    /// Advances by one; any number of threads may.
    pub fn step(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// Sets it to `place`, which is not lower; for a number that one thread alone advances.
    pub fn advance_to(&self, place: usize) {
        self.0.store(place, Ordering::Release);
    }

    /// Where it is now; another thread may advance it at any time.
    pub fn place(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}
