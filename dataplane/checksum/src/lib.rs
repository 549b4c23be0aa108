//! CRC32C (RFC 3720, B.4): header and data digests of NVMe/TCP, and what the log stores of its headers and pages.
//!
//! The checksum of a whole follows from those of its parts ([`crc32c_combine`]): one pass over a payload
//! gives a checksum of each of its pages, and the digest of all of it.

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod vector;

use crc_fast::{CrcAlgorithm, Digest};

/// x^(8·2^*i*) mod P, as a checksum has it: its first bit is the highest power's.
const POWERS: [u32; usize::BITS as usize] = powers();
/// P without x^32, the same way round.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x^(8·4096) mod P: what a page behind it does to a checksum.
const PAGE: u32 = power(4096);

/// The checksum of `bytes`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of `bytes` with the four at `at` taken as zeros, which is where it is stored.
///
/// # Panics
/// If they are not within `bytes`.
pub fn crc32c_stored_at(bytes: &[u8], at: usize) -> u32 {
    let mut crc = Crc32c::default();
    for part in [&bytes[..at], &[0; 4], &bytes[at + 4..]] {
        crc.take(part);
    }
    crc.end()
}

/// The checksum of what `crc` is of, and `bytes` behind it; 0 is that of nothing.
#[inline]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    if crc == 0 {
        return crc32c(bytes);
    }
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

/// A checksum of what comes in pieces. To make one costs as much as a short piece; it can be used again and again.
#[derive(Clone, Debug)]
pub struct Crc32c(Kind);

#[derive(Clone, Debug)]
enum Kind {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Vector(vector::Vector),
    Library(Digest),
}

impl Default for Crc32c {
    /// Of nothing.
    fn default() -> Self {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if let Some(vector) = vector::Vector::new() {
            return Self(Kind::Vector(vector));
        }
        Self(Kind::Library(Digest::new(CrcAlgorithm::Crc32Iscsi)))
    }
}

impl Crc32c {
    /// Takes the next bytes.
    #[inline]
    pub fn take(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Kind::Vector(vector) => vector.take(bytes),
            Kind::Library(digest) => digest.update(bytes),
        }
    }

    /// The checksum of what was taken; from now on it is of nothing again.
    #[inline]
    pub fn end(&mut self) -> u32 {
        match &mut self.0 {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Kind::Vector(vector) => vector.end(),
            Kind::Library(digest) => digest.finalize_reset() as u32,
        }
    }
}

/// The checksum of what `first` is of, and behind it `len` bytes, whose own is `second`.
#[inline]
pub fn crc32c_combine(first: u32, second: u32, len: usize) -> u32 {
    match (first, len) {
        (0, _) => second,
        (_, 4096) => multiply(first, PAGE) ^ second,
        _ => multiply(first, power(len)) ^ second,
    }
}

const fn powers() -> [u32; usize::BITS as usize] {
    let mut powers = [1 << (31 - 8); usize::BITS as usize];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = multiply(powers[i - 1], powers[i - 1]);
        i += 1;
    }
    powers
}

/// x^(8·`n`) mod P.
const fn power(n: usize) -> u32 {
    let (mut result, mut left) = (1 << 31, n);
    while left > 0 {
        result = multiply(result, POWERS[left.trailing_zeros() as usize]);
        left &= left - 1;
    }
    result
}

/// The product of two polynomials mod P.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut bit) = (0, 32);
    while bit > 0 {
        bit -= 1;
        // Without a branch: checksums are as good as random.
        product ^= b & (a >> bit & 1).wrapping_neg();
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        let mut random = testkit::Random::new(len as u64);
        (0..len).map(|_| random.below(256u32) as u8).collect()
    }

    #[test]
    fn k05_checksums_are_those_of_rfc_3720() {
        // B.4: 32 bytes of zeros, of ones, and counting up.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    #[test]
    fn k05_checksums_are_those_of_another_implementation() {
        for len in [0, 1, 7, 64, 72, 255, 256, 1000, 1448, 4095, 4096, 9000] {
            let bytes = bytes(len);
            assert_eq!(crc32c(&bytes), testkit::crc32c(&bytes), "{len} bytes");
            let (head, tail) = bytes.split_at(len / 3);
            assert_eq!(
                crc32c_append(crc32c(head), tail),
                crc32c(&bytes),
                "{len} bytes in two parts"
            );
        }
    }

    /// Pieces of all lengths, at all places in memory; the library's way of taking them, and that of processors with
    /// carry-less products of 512 bits, where the tests run on one.
    #[test]
    fn k05_checksums_of_pieces_are_those_of_another_implementation() {
        let mut random = testkit::Random::new(3);
        let library = Crc32c(Kind::Library(Digest::new(CrcAlgorithm::Crc32Iscsi)));
        let mut ways = [Crc32c::default(), library];
        for round in 0..if cfg!(miri) { 20 } else { 20_000 } {
            let most = *random.pick(&[3, 70, 300, 1448, 5000]);
            let (start, len) = (random.below(70usize), random.below(most + 1));
            let all = bytes(start + len);
            for crc in &mut ways {
                let mut rest = &all[start..];
                while !rest.is_empty() {
                    let n = random.below(rest.len() + 1).min(random.below(2000usize));
                    crc.take(&rest[..n]);
                    rest = &rest[n..];
                }
                let expected = testkit::crc32c(&all[start..]);
                assert_eq!(crc.end(), expected, "round {round}: {len} bytes at {start}");
            }
        }
    }

    #[test]
    fn k05_the_checksum_of_a_whole_follows_from_those_of_its_parts() {
        for (head, tail) in [
            (0, 0),
            (0, 5),
            (5, 0),
            (1, 1),
            (4096, 4096),
            (512, 4096),
            (4096, 1000),
            (3, 100_000),
        ] {
            let bytes = bytes(head + tail);
            let (first, second) = bytes.split_at(head);
            assert_eq!(
                crc32c_combine(crc32c(first), crc32c(second), tail),
                testkit::crc32c(&bytes),
                "{head} and {tail} bytes"
            );
        }
    }
}
