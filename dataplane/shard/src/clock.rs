//! Time for the state machines.

use events::{TickScale, Ticks};

/// Turns ticks into nanoseconds since the shard started.
pub struct Clock<C> {
    counter: C,
    start: u64,
    scale: TickScale,
}

impl<C: Ticks> Clock<C> {
    /// Time begins now.
    pub fn start(counter: C) -> Self {
        Self {
            start: counter.now(),
            scale: TickScale::of(counter.hz()),
            counter,
        }
    }

    /// Nanoseconds since the start, at a tick.
    #[inline]
    pub fn nanoseconds(&self, tick: u64) -> u64 {
        self.scale.nanoseconds(tick.saturating_sub(self.start))
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        self.nanoseconds(self.counter.now())
    }

    /// Ticks since the start.
    pub fn ticks(&self) -> u64 {
        self.counter.now().saturating_sub(self.start)
    }
}
