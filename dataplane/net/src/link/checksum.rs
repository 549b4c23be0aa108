//! The Internet checksum (RFC 1071), in software.

/// A ones' complement sum in progress over a run of pieces.
///
/// Pieces may have any length and start at any address: after an odd number of
/// bytes the next piece's sum is swapped into place (RFC 1071, section 2 (B)).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    value: u64,
    odd: bool,
}

impl Sum {
    pub(crate) const ZERO: Sum = Sum {
        value: 0,
        odd: false,
    };

    /// Adds bytes as they lie in the packet.
    #[inline]
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        let folded = sum_native(bytes);
        let folded = if self.odd {
            folded.swap_bytes()
        } else {
            folded
        };
        self.value += u64::from(folded);
        self.odd ^= bytes.len() % 2 == 1;
        self
    }

    /// Adds a 16-bit field. Only at even offsets.
    #[inline]
    pub(crate) fn word(mut self, word: u16) -> Self {
        debug_assert!(!self.odd);
        self.value += u64::from(word.to_be());
        self
    }

    /// The sum of addresses, protocol and length that TCP and ICMPv6 checksums begin with.
    /// Made of the sum of the addresses.
    #[inline]
    pub(crate) fn pseudo(self, protocol: u8, len: usize) -> Self {
        self.word(u16::from(protocol))
            .word((len >> 16) as u16)
            .word(len as u16)
    }

    /// The folded sum, as the number that a 16-bit field would show.
    #[inline]
    pub(crate) fn folded(self) -> u16 {
        u16::from_be(fold(self.value))
    }

    /// The checksum to put into the field.
    #[inline]
    pub(crate) fn checksum(self) -> u16 {
        !self.folded()
    }

    /// Whether bytes that include their checksum sum up to what they should.
    #[inline]
    pub(crate) fn is_valid(self) -> bool {
        self.folded() == 0xffff
    }
}

#[inline]
fn fold(mut value: u64) -> u16 {
    value = (value & 0xffff_ffff) + (value >> 32);
    value = (value & 0xffff_ffff) + (value >> 32);
    value = (value & 0xffff) + (value >> 16);
    value = (value & 0xffff) + (value >> 16);
    value as u16
}

/// Sums in the machine's byte order: the sum's bytes come out in the packet's order.
fn sum_native(bytes: &[u8]) -> u16 {
    // Four independent lanes of 32-bit words in 64-bit sums: the compiler makes vectors of it.
    let mut lanes = [0u64; 4];
    let mut blocks = bytes.chunks_exact(16);
    for block in &mut blocks {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
            let word: [u8; 4] = word.try_into().unwrap_or_default();
            *lane += u64::from(u32::from_ne_bytes(word));
        }
    }
    let mut sum = lanes.iter().map(|&lane| u64::from(fold(lane))).sum::<u64>();
    let mut words = blocks.remainder().chunks_exact(2);
    for word in &mut words {
        sum += u64::from(u16::from_ne_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        sum += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    fold(sum)
}

/// Replaces a 16-bit field's contribution to a checksum (RFC 1624, equation 3).
pub(crate) fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 by the letter: sixteen bits at a time, carries put back at once.
    fn oracle(bytes: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn rfc1071_agrees_with_the_letter_over_any_pieces(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            cuts in prop::collection::vec(0usize..400, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let sum = cuts.windows(2).fold(Sum::ZERO, |sum, cut| sum.bytes(&bytes[cut[0]..cut[1]]));
            prop_assert_eq!(sum.checksum(), oracle(&bytes));
        }

        #[test]
        fn rfc1624_update_agrees_with_summing_again(
            mut bytes in prop::collection::vec(any::<u8>(), 8..64), new in any::<u16>(),
        ) {
            let before = oracle(&bytes);
            let old = u16::from_be_bytes([bytes[2], bytes[3]]);
            bytes[2..4].copy_from_slice(&new.to_be_bytes());
            // Zero has two representations: compare what a receiver compares.
            let after = update(before, old, new);
            prop_assert!(Sum::ZERO.word(after).bytes(&bytes).is_valid());
        }
    }

    #[test]
    fn rfc1071_the_example_of_section_3() {
        let sum = Sum::ZERO.bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
    }

    #[test]
    fn all_ones_of_any_length_do_not_overflow() {
        let bytes = vec![0xff; 1 << 20];
        assert_eq!(Sum::ZERO.bytes(&bytes).folded(), 0xffff);
    }
}
