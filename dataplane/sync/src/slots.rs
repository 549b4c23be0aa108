//! A lock-free ring of slots: one writer, one reader.
//!
//! The writer puts values into slots, then publishes its position (release), and
//! the reader reads the position (acquire), then takes the values. The other way
//! round, a slot is written again only after the reader has published that it is
//! done with it. What the values refer to is ordered with them. The writer's end
//! shows when it is gone; then everything that it published is in sight.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use crate::primitives::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, UnsafeCell};

/// Alone in its cache lines, away from what the other side writes.
#[repr(align(128))]
struct Position(AtomicUsize);

struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Slots published so far.
    sent: Position,
    /// Slots released so far.
    received: Position,
    missed: AtomicU64,
    closed: AtomicBool,
}

// SAFETY: a slot is the writer's from the reader's release of it to its own publication of
// it, and the reader's from then on: never both have access, and each hands the slot over by
// a release that the other acquires. Values go from one thread to another: they are `Send`.
unsafe impl<T: Send> Sync for Shared<T> {}

/// The end that writes.
pub struct Writer<T> {
    shared: Arc<Shared<T>>,
    sent: usize,
    /// As far as the writer knows.
    received: usize,
}

/// The end that reads.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    received: usize,
    /// As far as the reader knows.
    sent: usize,
}

/// A ring of `capacity` slots, rounded up to a power of two.
pub fn slots<T: Send>(capacity: usize) -> (Writer<T>, Reader<T>) {
    let slots = capacity.max(1).next_power_of_two();
    let slot = |_| {
        let slot = UnsafeCell::new(MaybeUninit::<T>::uninit());
        // SAFETY: nobody else has the slot yet, and any bytes may be in it.
        slot.with_mut(|value| unsafe { value.write_bytes(0xff, 1) });
        slot
    };
    let shared = Arc::new(Shared {
        // Written once, so that the memory is there and the poll loop meets no page fault.
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

impl<T> Shared<T> {
    #[inline]
    fn slot(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[position & (self.slots.len() - 1)]
    }

    /// Drops the values of the slots from `from` to before `to`.
    ///
    /// # Safety
    /// There is a value in each, and the slots are the caller's.
    unsafe fn drop_values(&self, from: usize, to: usize) {
        let mut position = from;
        while position != to {
            self.slot(position)
                // SAFETY: as the caller says.
                .with_mut(|value| unsafe { (*value).assume_init_drop() });
            position = position.wrapping_add(1);
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let received = self.received.0.load(Ordering::Relaxed);
        let sent = self.sent.0.load(Ordering::Relaxed);
        // SAFETY: both ends are gone; what was published and not taken is between the two.
        unsafe { self.drop_values(received, sent) };
    }
}

impl<T> Writer<T> {
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

    /// Writes the next slot. The reader does not see it before [`Writer::publish`].
    ///
    /// # Panics
    /// If [`Writer::has_room`] and [`Writer::room`] did not say that there is room.
    #[inline]
    pub fn put(&mut self, value: T) {
        let used = self.sent.wrapping_sub(self.received);
        assert!(used < self.shared.slots.len(), "no room in the ring");
        let slot = self.shared.slot(self.sent);
        // SAFETY: the reader has released the slot, and does not look at it before it is
        // published. Its last value was taken.
        slot.with_mut(|place| unsafe { (*place).write(value) });
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

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        let published = self.shared.sent.0.load(Ordering::Relaxed);
        // SAFETY: what was put and not published is the writer's alone.
        unsafe { self.shared.drop_values(published, self.sent) };
        self.shared.closed.store(true, Ordering::Release);
    }
}

impl<T> Reader<T> {
    /// How many slots there are to take; there can only be more later.
    #[inline]
    pub fn look(&mut self) -> usize {
        self.sent = self.shared.sent.0.load(Ordering::Acquire);
        self.sent.wrapping_sub(self.received)
    }

    /// The value of the next slot, if there is one. The slot is the writer's
    /// again after [`Reader::release`].
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        if self.received == self.sent && self.look() == 0 {
            return None;
        }
        let slot = self.shared.slot(self.received);
        self.received = self.received.wrapping_add(1);
        // SAFETY: the slot was published and is not released yet, so it has a value, which is
        // taken once.
        Some(slot.with(|value| unsafe { (*value).assume_init_read() }))
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

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        // Values that were taken are not there to be dropped again.
        self.release();
    }
}
