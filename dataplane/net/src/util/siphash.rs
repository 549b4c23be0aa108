//! SipHash (Aumasson and Bernstein, 2012): a keyed hash that peers cannot steer.

/// A 128-bit key.
#[derive(Clone, Copy)]
pub(crate) struct SipKey(u64, u64);

impl SipKey {
    pub(crate) fn new(bytes: &[u8; 16]) -> Self {
        let (a, b) = bytes.split_at(8);
        let word = |half: &[u8]| {
            half.iter()
                .rev()
                .fold(0, |word, &byte| word << 8 | u64::from(byte))
        };
        Self(word(a), word(b))
    }

    /// SipHash-1-3 of whole words: for tables.
    #[inline]
    pub(crate) fn quick(self, words: &[u64]) -> u64 {
        self.hash::<1, 3>(words)
    }

    /// SipHash-2-4 of whole words: where a peer sees (part of) the result.
    pub(crate) fn strong(self, words: &[u64]) -> u64 {
        self.hash::<2, 4>(words)
    }

    #[inline]
    fn hash<const C: usize, const D: usize>(self, words: &[u64]) -> u64 {
        let mut state = State {
            v0: self.0 ^ 0x736f6d6570736575,
            v1: self.1 ^ 0x646f72616e646f6d,
            v2: self.0 ^ 0x6c7967656e657261,
            v3: self.1 ^ 0x7465646279746573,
        };
        for &word in words {
            state.absorb::<C>(word);
        }
        // The last word carries the length in bytes modulo 256.
        state.absorb::<C>((words.len() as u64 * 8) << 56);
        state.v2 ^= 0xff;
        for _ in 0..D {
            state.round();
        }
        state.v0 ^ state.v1 ^ state.v2 ^ state.v3
    }
}

struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline]
    fn absorb<const C: usize>(&mut self, word: u64) {
        self.v3 ^= word;
        for _ in 0..C {
            self.round();
        }
        self.v0 ^= word;
    }

    #[inline]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(deprecated)]
    fn agrees_with_the_standard_library_and_the_reference_vectors() {
        use std::hash::{Hasher, SipHasher};
        let bytes: [u8; 16] = core::array::from_fn(|i| i as u8);
        let key = SipKey::new(&bytes);
        // Reference vectors of the SipHash-2-4 distribution: empty input, eight bytes 00..07.
        assert_eq!(key.strong(&[]), 0x726fdb47dd0e0e31);
        assert_eq!(key.strong(&[0x0706050403020100]), 0x93f5f5799a932462);
        for words in [&[1u64, 2, 3][..], &[u64::MAX], &[7; 5]] {
            let mut oracle = SipHasher::new_with_keys(0x0706050403020100, 0x0f0e0d0c0b0a0908);
            words
                .iter()
                .for_each(|word| oracle.write(&word.to_le_bytes()));
            assert_eq!(key.strong(words), oracle.finish());
        }
        assert_ne!(key.quick(&[1, 2]), key.quick(&[2, 1]));
    }
}
