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

/// The counter that shards read: virtual nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct VirtualTime;

impl Ticks for VirtualTime {
    fn now(&self) -> u64 {
        now()
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
