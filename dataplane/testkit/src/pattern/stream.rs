//! Streams whose bytes follow from the stream's number and their position.

use std::fmt;

use crate::random::mix;

/// The byte of `stream` at `position`.
pub fn byte_at(stream: u64, position: u64) -> u8 {
    Words::of(stream).at(position / 8)[(position % 8) as usize]
}

/// A stream as words of eight bytes.
#[derive(Clone, Copy)]
struct Words(u64);

impl Words {
    fn of(stream: u64) -> Self {
        Self(mix(stream.wrapping_add(1)))
    }

    #[inline]
    fn at(self, index: u64) -> [u8; 8] {
        mix(self.0 ^ index).to_le_bytes()
    }
}

/// How many of `len` bytes from `position` on come before the next whole word.
fn before_a_word(position: u64, len: usize) -> usize {
    ((8 - position % 8) % 8).min(len as u64) as usize
}

/// Writes the bytes of `stream` from `position` on.
pub fn fill(stream: u64, position: u64, out: &mut [u8]) {
    let words = Words::of(stream);
    let (first, rest) = out.split_at_mut(before_a_word(position, out.len()));
    if !first.is_empty() {
        let at = (position % 8) as usize;
        first.copy_from_slice(&words.at(position / 8)[at..at + first.len()]);
    }
    let index = (position + first.len() as u64) / 8;
    let (whole, last) = rest.as_chunks_mut::<8>();
    for (index, out) in (index..).zip(whole.iter_mut()) {
        *out = words.at(index);
    }
    let index = index + whole.len() as u64;
    last.copy_from_slice(&words.at(index)[..last.len()]);
}

/// `len` bytes of `stream` from `position` on.
pub fn bytes(stream: u64, position: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(stream, position, &mut bytes);
    bytes
}

/// A stream that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The stream.
    pub stream: u64,
    /// The position of the first wrong byte.
    pub position: u64,
}

/// Compares `bytes` with those of `stream` from `position` on.
pub fn check(stream: u64, position: u64, bytes: &[u8]) -> Result<(), Wrong> {
    let words = Words::of(stream);
    let (first, rest) = bytes.split_at(before_a_word(position, bytes.len()));
    let index = (position + first.len() as u64) / 8;
    let (whole, last) = rest.as_chunks::<8>();
    let at = (position % 8) as usize;
    let is_right = (first.is_empty() || first == &words.at(position / 8)[at..at + first.len()])
        && (index..)
            .zip(whole)
            .all(|(index, word)| *word == words.at(index))
        && last == &words.at(index + whole.len() as u64)[..last.len()];
    if is_right {
        return Ok(());
    }
    let off = (0..bytes.len()).find(|&i| bytes[i] != byte_at(stream, position + i as u64));
    Err(Wrong {
        stream,
        position: position + off.expect("a byte that is wrong") as u64,
    })
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, position } = self;
        write!(f, "stream {stream} is wrong at byte {position}")
    }
}

impl std::error::Error for Wrong {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_in_whatever_pieces() {
        let whole = bytes(5, 3, 100);
        for (i, &byte) in whole.iter().enumerate() {
            assert_eq!(byte, byte_at(5, 3 + i as u64));
        }
        for cut in 0..whole.len() {
            assert_eq!(bytes(5, 3 + cut as u64, 100 - cut), whole[cut..]);
            assert_eq!(check(5, 3, &whole[..cut]), Ok(()));
        }
    }

    #[test]
    fn the_first_wrong_byte_is_named() {
        let mut got = bytes(5, 1000, 100);
        got[77] ^= 1;
        assert_eq!(
            check(5, 1000, &got).unwrap_err().to_string(),
            "stream 5 is wrong at byte 1077"
        );
        for at in 0..30 {
            let mut got = bytes(5, 1003, 30);
            got[at] ^= 0x40;
            let wrong = check(5, 1003, &got).unwrap_err();
            assert_eq!(wrong.position, 1003 + at as u64);
        }
        // Shifted, or of another stream, it is wrong from the start on or nearly.
        for (stream, position) in [(5, 1001), (5, 1008), (6, 1000)] {
            let wrong = check(stream, position, &bytes(5, 1000, 100)).unwrap_err();
            assert!(wrong.position < position + 3);
        }
    }
}
