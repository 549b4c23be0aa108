//! A hierarchical timer wheel (Varghese and Lauck, 1987): one timer per index,
//! constant time to set, cancel and fire, no allocation after start.

use collections::{IndexTable, TableIndex, table_index};
use pages::prefetch;

use crate::time::Instant;
use crate::util::list::{Links, List};

/// A tick is 2^10 ns, about a microsecond; a timer fires in the first tick that begins at or after its time.
const TICK_BITS: u32 = 10;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Nine levels of six bits hold every tick there is: 64 bits of nanoseconds are 50 bits of ticks.
const LEVELS: usize = 9;
const _: () = assert!(SLOT_BITS * LEVELS as u32 + TICK_BITS >= 64);

table_index! {
    /// A slot of one of the levels.
    struct SlotIndex(u16);
}

impl SlotIndex {
    fn of(level: usize, digit: usize) -> Self {
        Self::new(level * SLOTS + digit)
    }

    fn level(self) -> usize {
        self.place() / SLOTS
    }

    /// The digit of that level that its ticks have.
    fn digit(self) -> usize {
        self.place() % SLOTS
    }
}

#[derive(Clone, Copy)]
struct Timer {
    tick: u64,
    /// None while it is not set.
    slot: SlotIndex,
}

pub(crate) struct Wheel<I> {
    timers: IndexTable<I, Timer>,
    links: Links<I>,
    slots: [List<I>; SLOTS * LEVELS],
    occupied: [u64; LEVELS],
    /// The tick that is being served: nothing before it is left.
    current: u64,
}

impl<I: TableIndex> Wheel<I> {
    pub(crate) fn new(count: usize) -> Self {
        let unset = Timer {
            tick: 0,
            slot: SlotIndex::NONE,
        };
        Self {
            timers: IndexTable::new(count, |_| unset),
            links: Links::new(count),
            slots: [List::EMPTY; SLOTS * LEVELS],
            occupied: [0; LEVELS],
            current: 0,
        }
    }

    /// Asks for the memory that the timer of `index` is in.
    #[inline]
    pub(crate) fn prefetch(&self, index: I) {
        prefetch(&self.timers[index]);
        self.links.prefetch(index);
    }

    /// When the timer of `index` is set to fire.
    pub(crate) fn deadline(&self, index: I) -> Option<Instant> {
        let timer = self.timers[index];
        (timer.slot != SlotIndex::NONE).then_some(Instant(timer.tick << TICK_BITS))
    }

    /// Sets (or moves) the timer of `index`.
    pub(crate) fn set(&mut self, index: I, at: Instant) {
        self.cancel(index);
        let tick = at.0.div_ceil(1 << TICK_BITS);
        self.place(index, tick);
    }

    pub(crate) fn cancel(&mut self, index: I) {
        let slot = self.timers[index].slot;
        if slot != SlotIndex::NONE {
            let list = &mut self.slots[slot.place()];
            self.links.remove(list, index);
            if list.is_empty() {
                self.occupied[slot.level()] &= !(1 << slot.digit());
            }
            self.timers[index].slot = SlotIndex::NONE;
        }
    }

    /// Takes one timer that is due at `now`; call until there is none.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<I> {
        let now = (now.0 >> TICK_BITS).max(self.current);
        loop {
            let Some((slot, start)) = self.first() else {
                self.current = now;
                return None;
            };
            if start > now {
                self.current = now;
                return None;
            }
            self.current = self.current.max(start);
            if slot.level() == 0 {
                let index = self.slots[slot.place()].front()?;
                self.cancel(index);
                return Some(index);
            }
            // The slot's time has begun: its timers spread over the levels below.
            while let Some(index) = self.slots[slot.place()].front() {
                self.cancel(index);
                self.place(index, self.timers[index].tick);
            }
        }
    }

    /// The earliest moment at which [`Wheel::pop`] may have something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let (_, start) = self.first()?;
        Some(Instant(start << TICK_BITS))
    }

    /// The earliest occupied slot, and the tick it begins at. Timers of a level
    /// are all later than those of the levels below.
    fn first(&self) -> Option<(SlotIndex, u64)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let digit = self.occupied[level].trailing_zeros() as usize;
        let shift = SLOT_BITS * level as u32;
        let above = self.current >> shift >> SLOT_BITS;
        let start = (above << SLOT_BITS | digit as u64) << shift;
        Some((SlotIndex::of(level, digit), start))
    }

    fn place(&mut self, index: I, tick: u64) {
        let tick = tick.max(self.current);
        // The level is that of the highest digit in which the time differs from now.
        let differs = (tick ^ self.current) | (SLOTS as u64 - 1);
        let level = ((63 - differs.leading_zeros()) / SLOT_BITS) as usize;
        let digit = (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let slot = SlotIndex::of(level, digit);
        self.timers[index] = Timer { tick, slot };
        self.links.push_back(&mut self.slots[slot.place()], index);
        self.occupied[level] |= 1 << digit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ConnectionIndex as Index;
    use proptest::prelude::*;

    proptest! {
        /// Against a sorted list: fires in order of ticks, never early, never late.
        #[test]
        fn fires_when_due(
            ops in prop::collection::vec((0usize..24, prop_oneof![0u64..100, 0u64..5_000, 0u64..40_000_000], 0u64..200), 1..200)
        ) {
            let mut wheel = Wheel::new(24);
            let mut model = [None::<u64>; 24];
            let mut now = 0u64;
            for (index, delay, step) in ops {
                let at = now + delay * 10_000;
                if delay % 7 == 3 {
                    wheel.cancel(Index::new(index));
                    model[index] = None;
                } else {
                    wheel.set(Index::new(index), Instant(at));
                    model[index] = Some(at.div_ceil(1 << TICK_BITS));
                }
                now += step * step * 700;
                let mut last = 0;
                while let Some(fired) = wheel.pop(Instant(now)) {
                    let tick = model[fired.place()].take().expect("a timer that was set");
                    prop_assert!(tick >= last && tick <= now >> TICK_BITS);
                    last = tick;
                }
                let due = model.iter().flatten().min().copied();
                prop_assert!(due.is_none_or(|tick| tick > now >> TICK_BITS));
                let told = wheel.next_deadline().map(|t| t.0 >> TICK_BITS);
                prop_assert_eq!(told.is_some(), due.is_some());
                if let (Some(told), Some(due)) = (told, due) {
                    prop_assert!(told <= due);
                }
            }
        }
    }

    #[test]
    fn a_timer_at_the_end_of_time_waits_for_it() {
        let mut wheel = Wheel::new(1);
        wheel.set(Index::new(0), Instant(u64::MAX - (1 << TICK_BITS)));
        assert_eq!(wheel.pop(Instant(1 << 63)), None);
        assert!(wheel.next_deadline().is_some());
        assert_eq!(wheel.pop(Instant(u64::MAX)), Some(Index::new(0)));
    }
}
