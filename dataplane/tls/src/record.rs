//! Records (RFC 8446, 5): their header, their bounds, and what both directions have in common.

mod inner;
mod opener;
mod sealer;

use pages::{ClusterPool, CopyLedger};
use zeroize::Zeroize;

use crate::aead::{Direction, Gcm};
use crate::suite::{Secret, Suite};

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

/// How much may be sealed under one key (RFC 8446, 5.5), in blocks of 16 bytes, with one more for each record.
///
/// For AES-GCM 5.5 allows 2^24.5 *full-size* records; that is 2^34.5 blocks, and blocks are what the bound is about: of smaller records there
/// may be more. It is counted in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From here on a key is updated, or the peer asked to.
    pub update_at: u64,
    /// Here the connection ends, if the peer was asked and did not; and here a key is updated whose peer may not follow.
    pub end_at: u64,
}

impl Limits {
    /// Bytes under a key when it is updated, at most.
    pub const BYTES_MAX: u64 = 1 << 38;

    /// Keys are updated once so many bytes were sealed under them, and no later than RFC 8446 wants it. It is for both sides: a peer that is asked
    /// may still send what it has begun, and as much as RFC 8446 lets it.
    pub fn of_bytes(bytes: u64) -> Self {
        let default = Self::default();
        Self {
            update_at: (bytes / 16).clamp(1, default.update_at),
            ..default
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            update_at: 1 << 34,
            // 2^34.5, rounded down.
            end_at: 24_296_003_999,
        }
    }
}

/// Content types (RFC 8446, 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum ContentType {
    Alert = 21,
    Handshake = 22,
    ApplicationData = 23,
}

/// The traffic key of one direction.
struct TrafficKey {
    suite: Suite,
    direction: Direction,
    secret: Secret,
    gcm: Gcm,
    /// Of the next record.
    sequence: u64,
    /// What was opened or sealed under the key.
    blocks: u64,
    limits: Limits,
}

impl TrafficKey {
    fn new(suite: Suite, secret: &Secret, sequence: u64, direction: Direction) -> Self {
        Self {
            suite,
            direction,
            secret: secret.clone(),
            gcm: Gcm::new(suite, secret, direction),
            sequence,
            blocks: 0,
            limits: Limits::default(),
        }
    }

    /// Begins the next record, of `len` bytes behind its header.
    fn begin(&mut self, header: &[u8; HEADER_LEN], len: usize) {
        self.gcm.begin(self.sequence, header);
        self.sequence += 1;
        self.blocks += 1 + len.div_ceil(16) as u64;
    }

    /// Takes the key that follows (RFC 8446, 7.2).
    fn update(&mut self) {
        let next = self.secret.next(self.suite);
        self.secret.zeroize();
        self.secret = next;
        self.gcm = Gcm::new(self.suite, &self.secret, self.direction);
        self.sequence = 0;
        self.blocks = 0;
    }

    fn is_near_limit(&self) -> bool {
        self.blocks >= self.limits.update_at
    }
}
