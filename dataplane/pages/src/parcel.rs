//! Segments on their way between shards: what must cross is a message.
//!
//! Counts are not atomic, so a handle never leaves its shard. Its home keeps it
//! in an [`Abroad`] and sends a [`Parcel`], which says where the bytes are; the
//! other shard takes it in as a guest ([`GuestPool`](crate::GuestPool)), counts
//! it there, and sends a [`Return`] when it needs it no more. Only then does the
//! home let go of its handle.

use std::ptr::NonNull;

use crate::segment::Segment;

/// A segment's bytes, lent to another shard. Must be taken in, or they stay
/// with their home for good.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Parcel {
    address: usize,
    len: u32,
    origin: Return,
}

/// Tells a home that a parcel of its is not needed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Return {
    shard: u16,
    token: u32,
}

/// Segments that other shards have been lent.
pub struct Abroad {
    shard: u16,
    lent: Box<[Option<Segment>]>,
    free: Vec<u32>,
}

impl Parcel {
    /// The shard that has to be told when the bytes are not needed any more.
    pub fn home(&self) -> u16 {
        self.origin.shard
    }

    /// Length in bytes, 1 to 4096.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Always false: a segment has at least one byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    pub(crate) fn open(self) -> (NonNull<u8>, usize, Return) {
        let address = std::ptr::with_exposed_provenance_mut(self.address);
        let address = NonNull::new(address).expect("a segment's address");
        (address, self.len as usize, self.origin)
    }

    pub(crate) fn into_words(self) -> [u64; 2] {
        [
            self.address as u64,
            u64::from(self.len) << 48 | self.origin.into_word(),
        ]
    }

    pub(crate) fn from_words([address, rest]: [u64; 2]) -> Self {
        Self {
            address: address as usize,
            len: (rest >> 48) as u32,
            origin: Return::from_word(rest & ((1 << 48) - 1)),
        }
    }
}

impl Return {
    /// Where to send it.
    pub fn home(&self) -> u16 {
        self.shard
    }

    pub(crate) fn into_word(self) -> u64 {
        u64::from(self.shard) << 32 | u64::from(self.token)
    }

    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            shard: (word >> 32) as u16,
            token: word as u32,
        }
    }
}

impl Abroad {
    /// For segments of shard number `shard`, up to `count` at a time.
    pub fn new(shard: u16, count: usize) -> Self {
        Self {
            shard,
            lent: (0..count).map(|_| None).collect(),
            free: (0..count as u32).rev().collect(),
        }
    }

    /// Lends a data or zero segment to another shard.
    ///
    /// # Errors
    /// The segment comes back if too many are lent, or it is NULL.
    pub fn post(&mut self, segment: Segment) -> Result<Parcel, Segment> {
        let Some(address) = segment.address() else {
            return Err(segment);
        };
        let Some(token) = self.free.pop() else {
            return Err(segment);
        };
        let parcel = Parcel {
            address: address.as_ptr().expose_provenance(),
            len: segment.len() as u32,
            origin: Return {
                shard: self.shard,
                token,
            },
        };
        self.lent[token as usize] = Some(segment);
        Ok(parcel)
    }

    /// A parcel has come home: its segment is let go.
    ///
    /// # Panics
    /// If it is not from here, or came home before.
    pub fn take_back(&mut self, parcel: Return) {
        assert_eq!(parcel.shard, self.shard, "a parcel came to the wrong home");
        let segment = self.lent[parcel.token as usize].take();
        assert!(segment.is_some(), "a parcel came home twice");
        self.free.push(parcel.token);
    }

    /// How many more can be lent now.
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// Segments lent at the moment.
    pub fn len(&self) -> usize {
        self.lent.len() - self.free.len()
    }

    /// Whether none is lent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Abroad {
    fn drop(&mut self) {
        // Other shards may be reading what they were lent: it stays for good,
        // and with it its pool and its arena.
        for segment in self.lent.iter_mut().filter_map(Option::take) {
            std::mem::forget(segment);
        }
    }
}
