//! Time for the state machines. It is the same for all shards of a program: a lease that one notes, others look at.

use events::{TickScale, Ticks};

/// Turns ticks into nanoseconds since the program started.
pub struct Clock<C> {
    counter: C,
    start: u64,
    begun: u64,
    scale: TickScale,
}

impl<C: Ticks> Clock<C> {
    /// Time began at tick `start`. Counters of all cores show the same, as that of every processor that has an invariant one.
    pub fn since(start: u64, counter: C) -> Self {
        Self {
            start,
            begun: counter.now(),
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

    /// Ticks since the shard was made.
    pub fn ticks(&self) -> u64 {
        self.counter.now().saturating_sub(self.begun)
    }
}
