//! What a sender is given: header bytes by value, payload by reference (row Z10, FIG. 5).

use std::fmt;

use crate::segment::Slice;

/// Protocol bytes carried by value: a PDU header, a digest. Never payload.
#[derive(Clone, Copy)]
pub struct Inline {
    len: u8,
    bytes: [u8; Inline::CAPACITY],
}

impl Inline {
    /// Most bytes one value holds; longer headers take several.
    pub const CAPACITY: usize = 47;

    /// Holds a copy of `bytes`; `None` if there are more than [`Inline::CAPACITY`].
    #[inline]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut held = [0; Self::CAPACITY];
        held.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self {
            len: bytes.len() as u8,
            bytes: held,
        })
    }

    /// The first `len` of `bytes`, at most all; copied whole, which takes less than a copy of some length.
    #[inline]
    pub fn first(len: usize, bytes: &[u8; Self::CAPACITY]) -> Self {
        Self {
            len: len.min(Self::CAPACITY) as u8,
            bytes: *bytes,
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

/// One link of an outgoing chain.
#[derive(Clone)]
pub enum Chunk {
    /// Protocol bytes, by value.
    Inline(Inline),
    /// Payload, by reference: the same cluster until the last retransmission.
    Slice(Slice),
}

impl Chunk {
    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Chunk::Inline(inline) => inline.len.into(),
            Chunk::Slice(slice) => slice.len(),
        }
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Inline(inline) => inline.bytes(),
            Chunk::Slice(slice) => slice.bytes(),
        }
    }
}

impl From<Slice> for Chunk {
    fn from(slice: Slice) -> Self {
        Chunk::Slice(slice)
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Chunk::Inline(inline) => write!(f, "inline+{}", inline.bytes().len()),
            Chunk::Slice(slice) => slice.fmt(f),
        }
    }
}
