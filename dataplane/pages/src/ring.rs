//! A lock-free ring of messages from one shard to another, each a slot of
//! [`words`](crate::sync::words): one sender, one receiver. What a message
//! refers to is ordered with it.

use crate::parcel::{Parcel, Return};
use crate::sync::words::{Reader, Writer, words};

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

/// The end that sends.
pub struct Sender(Writer<WORDS>);

/// The end that receives.
pub struct Receiver(Reader<WORDS>);

/// A ring for up to `capacity` messages, rounded up to a power of two.
pub fn ring(capacity: usize) -> (Sender, Receiver) {
    let (writer, reader) = words(capacity);
    (Sender(writer), Receiver(reader))
}

impl Sender {
    /// Sends a message.
    ///
    /// # Errors
    /// It comes back if the ring is full.
    pub fn send(&mut self, message: Crossing) -> Result<(), Crossing> {
        if !self.0.has_room(1) {
            return Err(message);
        }
        self.0.put(message.into_words());
        self.0.publish();
        Ok(())
    }

    /// How many messages can be sent now; there can only be more later.
    pub fn room(&mut self) -> usize {
        self.0.room()
    }
}

impl Receiver {
    /// The next message, if one has come.
    pub fn receive(&mut self) -> Option<Crossing> {
        let words = self.0.take()?;
        self.0.release();
        Some(Crossing::from_words(words))
    }
}
