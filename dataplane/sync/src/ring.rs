//! A lock-free ring of messages from one thread to another, each a slot of
//! [`words`](crate::words): one sender, one receiver. What a message refers to
//! is ordered with it. What the words mean is its users' affair.

use crate::words::{Reader, Writer, words};

/// The end that sends.
pub struct Sender<const N: usize>(Writer<N>);

/// The end that receives.
pub struct Receiver<const N: usize>(Reader<N>);

/// A ring for up to `capacity` messages of `N` words, rounded up to a power of two.
pub fn ring<const N: usize>(capacity: usize) -> (Sender<N>, Receiver<N>) {
    let (writer, reader) = words(capacity);
    (Sender(writer), Receiver(reader))
}

impl<const N: usize> Sender<N> {
    /// Sends a message.
    ///
    /// # Errors
    /// It comes back if the ring is full.
    #[inline]
    pub fn send(&mut self, message: [u64; N]) -> Result<(), [u64; N]> {
        if !self.0.has_room(1) {
            return Err(message);
        }
        self.0.put(message);
        self.0.publish();
        Ok(())
    }

    /// How many messages can be sent now; there can only be more later.
    #[inline]
    pub fn room(&mut self) -> usize {
        self.0.room()
    }
}

impl<const N: usize> Receiver<N> {
    /// The next message, if one has come.
    #[inline]
    pub fn receive(&mut self) -> Option<[u64; N]> {
        let words = self.0.take()?;
        self.0.release();
        Some(words)
    }
}
