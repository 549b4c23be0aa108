//! Streams whose bytes follow from the stream's number and their position.

use std::fmt;

use crate::random::mix;

/// The byte of `stream` at `position`.
pub fn byte_at(stream: u64, position: u64) -> u8 {
    word(stream, position / 8).to_le_bytes()[(position % 8) as usize]
}

fn word(stream: u64, index: u64) -> u64 {
    mix(mix(stream.wrapping_add(1)) ^ index)
}

/// Writes the bytes of `stream` from `position` on.
pub fn fill(stream: u64, position: u64, out: &mut [u8]) {
    let mut at = position;
    let mut rest = out;
    while !rest.is_empty() {
        let word = word(stream, at / 8).to_le_bytes();
        let word = &word[(at % 8) as usize..];
        let n = word.len().min(rest.len());
        rest[..n].copy_from_slice(&word[..n]);
        rest = &mut rest[n..];
        at += n as u64;
    }
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
    let mut at = position;
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = word(stream, at / 8).to_le_bytes();
        let word = &word[(at % 8) as usize..];
        let n = word.len().min(rest.len());
        if let Some(off) = (0..n).find(|&i| word[i] != rest[i]) {
            return Err(Wrong {
                stream,
                position: at + off as u64,
            });
        }
        rest = &rest[n..];
        at += n as u64;
    }
    Ok(())
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
        // Shifted, or of another stream, it is wrong from the start on or nearly.
        for (stream, position) in [(5, 1001), (5, 1008), (6, 1000)] {
            let wrong = check(stream, position, &bytes(5, 1000, 100)).unwrap_err();
            assert!(wrong.position < position + 3);
        }
    }
}
