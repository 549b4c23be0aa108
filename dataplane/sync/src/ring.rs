//! A lock-free ring of messages from one thread to another, each in one of
//! [`slots`](crate::slots): one sender, one receiver. What a message refers to
//! is ordered with it.

use crate::slots::{Reader, Writer, slots};

/// The end that sends.
pub struct Sender<T>(Writer<T>);

/// The end that receives.
pub struct Receiver<T>(Reader<T>);

/// A ring for up to `capacity` messages, rounded up to a power of two. Messages
/// that are never received are dropped when both ends are gone.
pub fn ring<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (writer, reader) = slots(capacity);
    (Sender(writer), Receiver(reader))
}

impl<T> Sender<T> {
    /// Sends a message.
    ///
    /// # Errors
    /// It comes back if the ring is full.
    #[inline]
    pub fn send(&mut self, message: T) -> Result<(), T> {
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

impl<T> Receiver<T> {
    /// The next message, if one has come.
    #[inline]
    pub fn receive(&mut self) -> Option<T> {
        let message = self.0.take()?;
        self.0.release();
        Some(message)
    }
}
