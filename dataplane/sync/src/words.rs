//! A lock-free ring of words: one writer, one reader.
//!
//! Words are atomic, so that no byte is ever read while it is written, whatever
//! happens; the order is kept by the two positions: the writer puts slots, then
//! publishes its position (release), and the reader reads the position
//! (acquire), then the slots. The other way round, a slot is written again only
//! after the reader has published that it is done with it. What the words refer
//! to is ordered with them. The writer's end tells when it is gone; then
//! everything that it published is in sight.

use crate::primitives::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Alone in its cache lines, away from what the other side writes.
#[repr(align(128))]
struct Position(AtomicUsize);

struct Shared<const N: usize> {
    slots: Box<[[AtomicU64; N]]>,
    /// Slots published so far.
    sent: Position,
    /// Slots released so far.
    received: Position,
    missed: AtomicU64,
    closed: AtomicBool,
}

/// The end that writes.
pub struct Writer<const N: usize> {
    shared: Arc<Shared<N>>,
    sent: usize,
    /// As far as the writer knows.
    received: usize,
}

/// The end that reads.
pub struct Reader<const N: usize> {
    shared: Arc<Shared<N>>,
    received: usize,
    /// As far as the reader knows.
    sent: usize,
}

/// A ring of `capacity` slots of `N` words, rounded up to a power of two.
pub fn words<const N: usize>(capacity: usize) -> (Writer<N>, Reader<N>) {
    let slots = capacity.max(1).next_power_of_two();
    // Not zero, so that the memory is there and the poll loop meets no page fault.
    let slot = |_| std::array::from_fn(|_| AtomicU64::new(u64::MAX));
    let shared = Arc::new(Shared {
        slots: (0..slots).map(slot).collect(),
        sent: Position(AtomicUsize::new(0)),
        received: Position(AtomicUsize::new(0)),
        missed: AtomicU64::new(0),
        closed: AtomicBool::new(false),
    });
    let writer = Writer {
        shared: Arc::clone(&shared),
        sent: 0,
        received: 0,
    };
    let reader = Reader {
        shared,
        received: 0,
        sent: 0,
    };
    (writer, reader)
}

impl<const N: usize> Shared<N> {
    #[inline]
    fn slot(&self, position: usize) -> &[AtomicU64; N] {
        &self.slots[position & (self.slots.len() - 1)]
    }
}

impl<const N: usize> Writer<N> {
    /// Whether `slots` can be put now. Looks at what the reader writes only if
    /// it has to.
    #[inline]
    pub fn has_room(&mut self, slots: usize) -> bool {
        let used = self.sent.wrapping_sub(self.received);
        self.shared.slots.len() - used >= slots || self.room() >= slots
    }

    /// How many slots can be put now; there can only be more later.
    #[inline]
    pub fn room(&mut self) -> usize {
        self.received = self.shared.received.0.load(Ordering::Acquire);
        self.shared.slots.len() - self.sent.wrapping_sub(self.received)
    }

    /// Writes the next slot, for which there is room. The reader does not see it
    /// before [`Writer::publish`].
    #[inline]
    pub fn put(&mut self, words: [u64; N]) {
        debug_assert!(self.sent.wrapping_sub(self.received) < self.shared.slots.len());
        let slot = self.shared.slot(self.sent);
        for (word, value) in slot.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.sent = self.sent.wrapping_add(1);
    }

    /// Shows the reader all that was put.
    #[inline]
    pub fn publish(&mut self) {
        self.shared.sent.0.store(self.sent, Ordering::Release);
    }

    /// Counts something for which there was no room.
    pub fn miss(&mut self) {
        let missed = self.shared.missed.load(Ordering::Relaxed);
        self.shared.missed.store(missed + 1, Ordering::Relaxed);
    }
}

impl<const N: usize> Drop for Writer<N> {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
    }
}

impl<const N: usize> Reader<N> {
    /// How many slots there are to take; there can only be more later.
    #[inline]
    pub fn look(&mut self) -> usize {
        self.sent = self.shared.sent.0.load(Ordering::Acquire);
        self.sent.wrapping_sub(self.received)
    }

    /// The next slot, if there is one. It is the writer's again after
    /// [`Reader::release`].
    #[inline]
    pub fn take(&mut self) -> Option<[u64; N]> {
        if self.received == self.sent && self.look() == 0 {
            return None;
        }
        let slot = self.shared.slot(self.received);
        let words = std::array::from_fn(|i| slot[i].load(Ordering::Relaxed));
        self.received = self.received.wrapping_add(1);
        Some(words)
    }

    /// Gives the writer back all slots that were taken.
    #[inline]
    pub fn release(&mut self) {
        let received = &self.shared.received.0;
        received.store(self.received, Ordering::Release);
    }

    /// What there was no room for, so far; all of it once the writer is gone.
    pub fn missed(&self) -> u64 {
        self.shared.missed.load(Ordering::Relaxed)
    }

    /// Whether the writer is gone: what [`Reader::look`] finds then is the last.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }
}
