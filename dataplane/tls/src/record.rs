//! Records (RFC 8446, 5): their header, their bounds, and what both directions have in common.

mod opener;
mod sealer;

use pages::{ClusterPool, CopyLedger};

pub use opener::{Next, Opener, Place, Room};
pub use sealer::Sealer;

/// Bytes of a record's header: content type, version, length.
pub const HEADER_LEN: usize = 5;
/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;
/// Most bytes of plaintext in a record, without content type and padding (RFC 8446, 5.1).
pub const PLAINTEXT_LEN_MAX: usize = 1 << 14;
/// Most bytes of a record behind its header (RFC 8446, 5.2).
pub const CIPHERTEXT_LEN_MAX: usize = PLAINTEXT_LEN_MAX + 256;

/// What opening and sealing take from their shard.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    /// Whole pages, for what is not opened or sealed where it is.
    pub pages: &'a ClusterPool,
    /// Where that is counted.
    pub ledger: &'a CopyLedger,
}
