//! Replicas of a volume, and the generations of it that they have.

use std::fmt;

use crate::bytes::{put, u64_at};

/// Names a replica: one node's copy of one volume, for as long as its drive has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub [u8; 16]);

/// A state of a volume that goes on from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// One more than that of the generation before.
    pub number: u64,
    /// Random: tells it from others that began at the same one.
    pub tag: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.number, self.tag as u32)
    }
}

impl Generation {
    /// As frames and standings on disk have it, in 16 bytes from `at` on.
    pub(crate) fn put(self, bytes: &mut [u8], at: usize) {
        put(bytes, at, &self.number.to_le_bytes());
        put(bytes, at + 8, &self.tag.to_le_bytes());
    }

    /// What [`Generation::put`] has put there.
    pub(crate) fn at(bytes: &[u8], at: usize) -> Self {
        Self {
            number: u64_at(bytes, at),
            tag: u64_at(bytes, at + 8),
        }
    }
}
