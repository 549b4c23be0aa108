//! A value behind a lock, with a number that is looked at without it.

use std::sync::PoisonError;

use super::primitives::{AtomicU64, Mutex, MutexGuard, Ordering};

/// A value that seldom changes, and a number that tells that it did.
///
/// The number changes only under the lock. Who sees a number has in sight what
/// was done before it was set; who then takes the lock finds what came with it,
/// or with a later one, and the number that belongs to what it finds.
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

    /// Locks, whatever a panicking holder may have left.
    pub fn lock(&self) -> Held<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who watch: the value is `number`'s from now on.
    pub fn tell(&self, _held: &Held<'_, T>, number: u64) {
        self.number.store(number, Ordering::Release);
    }
}
