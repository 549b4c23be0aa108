//! A value behind a lock, with a number that is looked at without it.

use std::sync::PoisonError;

use crate::primitives::{AtomicU64, Mutex, MutexGuard, Ordering};

/// A value that seldom changes, and a number that shows that it did.
///
/// The number changes only under the lock. A thread that sees a number also
/// sees everything that was done before that number was published; if it then
/// takes the lock, it finds the value published with that number or with a
/// later one, and [`Watched::number`] is the number of the value it finds.
#[derive(Debug, Default)]
pub struct Watched<T> {
    number: AtomicU64,
    value: Mutex<T>,
}

/// The value while it is locked.
pub type Held<'a, T> = MutexGuard<'a, T>;

impl<T> Watched<T> {
    /// `value`, with number 0.
    pub fn new(value: T) -> Self {
        Self {
            number: AtomicU64::new(0),
            value: Mutex::new(value),
        }
    }

    /// The number, without the lock: one load.
    #[inline]
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Locks the value. A lock poisoned by a panic is taken nevertheless: the
    /// value is as the panicking thread left it.
    pub fn lock(&self) -> Held<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the value under `number`: those who watch see it from now on.
    pub fn publish(&self, _held: &Held<'_, T>, number: u64) {
        self.number.store(number, Ordering::Release);
    }
}
