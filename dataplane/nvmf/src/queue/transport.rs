//! What a queue needs of the connection that its commands come in.

use super::slots::{SlotIndex, Slots};

/// A queue's way to its host (base 2.2). It hands commands over with
/// [`Queue::take`](super::Queue::take), and later does what the queue then calls for,
/// in that order.
///
/// Data of a command is in its slot's run, which was begun: what is fetched goes
/// there, what goes to the host comes from there. How the bytes move is the
/// transport's alone.
pub(crate) trait Transport {
    /// Fetches [`Slot::len`](super::slots::Slot::len) bytes from the host for the
    /// command in `index`, which is in
    /// [`SlotState::Fetching`](super::slots::SlotState::Fetching). Once all are there, or
    /// an error is in the slot's status,
    /// [`Queue::fetched`](super::Queue::fetched) is to be called.
    fn fetch(&mut self, slots: &mut Slots, index: SlotIndex);

    /// Takes a [`Transport::fetch`] back: the command in `index` fetches nothing. False if data is on
    /// the way; then [`Queue::fetched`](super::Queue::fetched) is called as soon as it has come.
    fn cancel_fetch(&mut self, slots: &mut Slots, index: SlotIndex) -> bool;

    /// Sends what the run of the command in `index` has for the host, if there is one,
    /// and then the response. Once that is done,
    /// [`Queue::responded`](super::Queue::responded) is to be called.
    fn respond(&mut self, slots: &mut Slots, index: SlotIndex);

    /// Bytes that were sent and that the host has not got yet, as far as is known: they
    /// pin the pages of commands that are over.
    fn owed(&self) -> u64;
}
