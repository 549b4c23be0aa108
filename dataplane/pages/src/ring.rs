//! A lock-free ring from one shard to another: one sender, one receiver.
//!
//! Slots are atomic words, so that no byte is ever read while it is written,
//! whatever happens; the order is kept by the two positions: the sender writes
//! the words, then publishes its position (release), and the receiver reads the
//! position (acquire), then the words. The other way round, a slot is written
//! again only after the receiver has published that it is done with it. What a
//! message refers to is ordered with it.
//!
//! `tests/loom.rs` explores every interleaving of it.

use crate::parcel::{Parcel, Return};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering};

/// What crosses from one shard to another.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Crossing {
    /// Anything in two words, told apart by `tag`.
    Message {
        /// What it is about.
        tag: u64,
        /// What it says.
        words: [u64; 2],
    },
    /// A segment, lent.
    Parcel {
        /// What it is for.
        tag: u64,
        /// The segment.
        parcel: Parcel,
    },
    /// A segment, given back.
    Return(Return),
}

const WORDS: usize = 4;

impl Crossing {
    fn into_words(self) -> [u64; WORDS] {
        match self {
            Crossing::Message { tag, words: [a, b] } => [0, tag, a, b],
            Crossing::Parcel { tag, parcel } => {
                let [a, b] = parcel.into_words();
                [1, tag, a, b]
            }
            Crossing::Return(parcel) => [2, 0, parcel.into_word(), 0],
        }
    }

    fn from_words([kind, tag, a, b]: [u64; WORDS]) -> Self {
        match kind {
            1 => Crossing::Parcel {
                tag,
                parcel: Parcel::from_words([a, b]),
            },
            2 => Crossing::Return(Return::from_word(a)),
            _ => Crossing::Message { tag, words: [a, b] },
        }
    }
}

/// Alone in its cache lines, away from what the other side writes.
#[repr(align(128))]
struct Position(AtomicUsize);

struct Shared {
    slots: Box<[[AtomicU64; WORDS]]>,
    /// Messages sent so far.
    sent: Position,
    /// Messages received so far.
    received: Position,
}

/// The end that sends.
pub struct Sender {
    shared: Arc<Shared>,
    sent: usize,
    /// As far as the sender knows.
    received: usize,
}

/// The end that receives.
pub struct Receiver {
    shared: Arc<Shared>,
    received: usize,
    /// As far as the receiver knows.
    sent: usize,
}

/// A ring for up to `capacity` messages, rounded up to a power of two.
pub fn ring(capacity: usize) -> (Sender, Receiver) {
    let slots = capacity.max(1).next_power_of_two();
    let shared = Arc::new(Shared {
        slots: (0..slots).map(|_| Default::default()).collect(),
        sent: Position(AtomicUsize::new(0)),
        received: Position(AtomicUsize::new(0)),
    });
    let sender = Sender {
        shared: Arc::clone(&shared),
        sent: 0,
        received: 0,
    };
    let receiver = Receiver {
        shared,
        received: 0,
        sent: 0,
    };
    (sender, receiver)
}

impl Shared {
    fn slot(&self, position: usize) -> &[AtomicU64; WORDS] {
        &self.slots[position & (self.slots.len() - 1)]
    }
}

impl Sender {
    /// Sends a message.
    ///
    /// # Errors
    /// It comes back if the ring is full.
    pub fn send(&mut self, message: Crossing) -> Result<(), Crossing> {
        let full = self.sent.wrapping_sub(self.received) == self.shared.slots.len();
        if full && self.room() == 0 {
            return Err(message);
        }
        let slot = self.shared.slot(self.sent);
        for (word, value) in slot.iter().zip(message.into_words()) {
            word.store(value, Ordering::Relaxed);
        }
        self.sent = self.sent.wrapping_add(1);
        self.shared.sent.0.store(self.sent, Ordering::Release);
        Ok(())
    }

    /// How many messages can be sent now; there can only be more later.
    pub fn room(&mut self) -> usize {
        self.received = self.shared.received.0.load(Ordering::Acquire);
        self.shared.slots.len() - self.sent.wrapping_sub(self.received)
    }
}

impl Receiver {
    /// The next message, if one has come.
    pub fn receive(&mut self) -> Option<Crossing> {
        if self.received == self.sent {
            self.sent = self.shared.sent.0.load(Ordering::Acquire);
            if self.received == self.sent {
                return None;
            }
        }
        let slot = self.shared.slot(self.received);
        let words = std::array::from_fn(|i| slot[i].load(Ordering::Relaxed));
        self.received = self.received.wrapping_add(1);
        self.shared
            .received
            .0
            .store(self.received, Ordering::Release);
        Some(Crossing::from_words(words))
    }
}
