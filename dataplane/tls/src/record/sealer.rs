//! Sent records: from chunks of plaintext to chunks of ciphertext.

use pages::Chunk;

use super::Memory;
use crate::alert::Alert;
use crate::handshake::Established;

/// Seals what we send.
///
/// Chunks of plaintext go in ([`Sealer::push`]) until a record is full, or [ended](Sealer::flush); those of ciphertext come out
/// ([`Sealer::next`]) and are for TCP to keep until they are acknowledged: what it sends again is the very same bytes.
pub struct Sealer {}

impl Sealer {
    /// Seals records from the end of a handshake on.
    pub fn new(established: &Established) -> Self {
        let _ = established;
        unimplemented_yet()
    }

    /// Takes the next bytes of plaintext. A slice is sealed where it lies if nobody else has a handle to its cluster, but for `own` of them:
    /// those by which the caller holds the page itself and *will not read it again*, as a read that is done once it is sent. Else it is
    /// sealed into a fresh page (ledger: `seal`).
    ///
    /// # Errors
    /// It comes back as long as what was pushed before is not all sealed: take what [`Sealer::next`] gives, and push it again.
    pub fn push(&mut self, chunk: Chunk, own: u32, memory: Memory<'_>) -> Result<(), Chunk> {
        let _ = (chunk, own, memory);
        unimplemented_yet()
    }

    /// Ends the record that is begun: there is no more to send for now.
    pub fn flush(&mut self) {
        unimplemented_yet()
    }

    /// The next bytes of ciphertext. `None` while [`Sealer::is_empty`] is false: what is begun waits for its end, or for free pages.
    pub fn next(&mut self, memory: Memory<'_>) -> Option<Chunk> {
        let _ = memory;
        unimplemented_yet()
    }

    /// Whether it holds nothing: no record that is begun, and no ciphertext.
    pub fn is_empty(&self) -> bool {
        unimplemented_yet()
    }

    /// Sends a KeyUpdate, and takes a new key for what is behind it (RFC 8446, 4.6.3). With `request` the peer is asked to do the same.
    pub fn update_key(&mut self, request: bool) {
        let _ = request;
        unimplemented_yet()
    }

    /// Whether so much was sealed under the key that a new one should be taken (RFC 8446, 5.5). The sealer takes one by itself;
    /// who knows that the peer cannot follow closes before.
    pub fn is_near_limit(&self) -> bool {
        unimplemented_yet()
    }

    /// Sends an alert, the last that is sealed. [`Alert::CloseNotify`] is the farewell, and comes behind what was pushed before; any other one comes at
    /// once, and what is not sealed is dropped.
    pub fn alert(&mut self, alert: Alert) {
        let _ = alert;
        unimplemented_yet()
    }
}

fn unimplemented_yet() -> ! {
    unreachable!("the next commit has it")
}
