//! Virtual time: nanoseconds since a run began, the same for everything in it.

use std::cell::Cell;

use events::Ticks;

/// Nanoseconds.
pub type Nanoseconds = u64;

/// A microsecond.
pub const MICROSECOND: Nanoseconds = 1_000;
/// A millisecond.
pub const MILLISECOND: Nanoseconds = 1_000_000;
/// A second.
pub const SECOND: Nanoseconds = 1_000_000_000;

thread_local! {
    /// A run has one thread, and a thread has one run at a time.
    static NOW: Cell<Nanoseconds> = const { Cell::new(0) };
}

/// The counter that a node's shards read: virtual nanoseconds, which may go by faster or slower there than elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct VirtualTime {
    /// What it said when the run began.
    offset: Nanoseconds,
    /// Its nanoseconds in a microsecond.
    rate: u64,
}

impl VirtualTime {
    /// One that began at `offset`, and counts so many nanoseconds in a microsecond.
    pub(crate) fn new(offset: Nanoseconds, rate: u64) -> Self {
        Self { offset, rate }
    }

    /// What it says at a time of the run.
    pub(crate) fn at(&self, time: Nanoseconds) -> Nanoseconds {
        self.offset + time / 1000 * self.rate + time % 1000 * self.rate / 1000
    }
}

impl Default for VirtualTime {
    fn default() -> Self {
        Self::new(0, 1000)
    }
}

impl Ticks for VirtualTime {
    fn now(&self) -> u64 {
        self.at(now())
    }

    fn hz(&self) -> u64 {
        SECOND
    }
}

/// The time.
pub(crate) fn now() -> Nanoseconds {
    NOW.get()
}

/// Sets the time. Only the world does so.
pub(crate) fn set(now: Nanoseconds) {
    NOW.set(now);
}
