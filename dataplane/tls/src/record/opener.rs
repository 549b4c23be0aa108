//! Received records: from slices of ciphertext to slices of plaintext.

use pages::{Fresh, Slice};

use super::Memory;
use crate::alert::Failure;
use crate::handshake::Established;

/// Opens what a peer sends.
///
/// Slices of the stream go in ([`Opener::push`]), those of plaintext come out ([`Opener::next`]), in the same order. A record is opened once it is whole,
/// and where it lies: the plaintext is in the clusters that the ciphertext came in. Nothing of it comes out before its tag is verified.
pub struct Opener {}

/// What comes next out of an [`Opener`].
#[derive(Debug)]
pub enum Next {
    /// Plaintext: of a record that is authentic.
    Plain(Slice),
    /// Nothing until more is received.
    Wants,
    /// Nothing until there are free pages: to be asked again then.
    NoPage,
    /// The peer has new keys from here on and wants us to take new ones, too: [`Sealer::update_key`](super::Sealer::update_key), without a
    /// request. To be asked again for more.
    KeyUpdate,
    /// The peer has sent its close_notify: nothing more comes, and what was received behind it is dropped.
    Closed,
}

/// Where the plaintext of a record goes that is not opened where it is: for devices that want addresses of their own.
pub trait Place {
    /// A record of so many bytes of plaintext at most is about to be opened. `hint` is how it begins, 128 bytes at most, *not yet authentic*: to find out
    /// by where payload begins, and for nothing else.
    fn begin(&mut self, hint: &[u8], len: usize) {
        let _ = (hint, len);
    }

    /// Room for the next bytes of the record, of which there are `left`; `None` if there is none now.
    fn room(&mut self, left: usize) -> Option<Room>;
}

/// Room in a fresh buffer.
pub struct Room {
    /// The buffer.
    pub buffer: Fresh,
    /// Where plaintext is to begin in it.
    pub from: usize,
    /// Where it is to end at most.
    pub to: usize,
}

impl Opener {
    /// Opens records from the end of a handshake on. [`Established::unread`] is the caller's to push first.
    pub fn new(established: &Established) -> Self {
        let _ = established;
        unimplemented_yet()
    }

    /// Takes the next slice of the stream.
    ///
    /// # Errors
    /// It comes back while [`Opener::next`] has something to give, or has not the pages it needs.
    pub fn push(&mut self, slice: Slice, memory: Memory<'_>) -> Result<(), Slice> {
        let _ = (slice, memory);
        unimplemented_yet()
    }

    /// What comes next, opened where it lies. A part of which somebody else has a handle is opened into a fresh page (ledger: `open`).
    ///
    /// # Errors
    /// The connection is to end, and nothing comes any more.
    pub fn next(&mut self, memory: Memory<'_>) -> Result<Next, Failure> {
        let _ = memory;
        unimplemented_yet()
    }

    /// What comes next, opened into `place` (ledger: `open`).
    ///
    /// # Errors
    /// As [`Opener::next`].
    pub fn next_placed(
        &mut self,
        memory: Memory<'_>,
        place: &mut impl Place,
    ) -> Result<Next, Failure> {
        let _ = (memory, place);
        unimplemented_yet()
    }

    /// Whether the peer has sent so much under its key that it should take a new one (RFC 8446, 5.5); if it is
    /// [asked](super::Sealer::update_key) and does not, [`Opener::next`] ends the connection some records later.
    pub fn is_near_limit(&self) -> bool {
        unimplemented_yet()
    }
}

fn unimplemented_yet() -> ! {
    unreachable!("the next commit has it")
}
