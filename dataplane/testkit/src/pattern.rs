//! Bytes that tell where they belong.
//!
//! Blocks of a volume ([`Stamp`]) say which volume, block and version they are, every 32
//! bytes, so that whatever comes in their place is named: another block, an older version,
//! half of each, zeros. Bytes of a stream ([`stream`]) follow from the stream's number and
//! their position.

use std::fmt;

use crate::random::mix;

pub mod stream;

/// Bytes that one line takes: what a block is made of. Divides every block and sector.
pub const LINE: usize = 32;

/// What a block is.
///
/// Its bytes are lines of four little-endian words: the block; the volume and, in the upper
/// half, the version; the line's number in the block; a check of these three. A dump of it
/// can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The volume, by any number.
    pub volume: u32,
    /// The number of the block in its volume.
    pub block: u64,
    /// Which write of the block it is.
    pub version: u32,
}

/// What is in place of a line that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A line of some block: of which, and the number of the line in it.
    Line(Stamp, u64),
    /// Nothing but zeros.
    Zeros,
    /// Bytes that are no line.
    Noise,
}

/// A block that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What was expected.
    pub expected: Stamp,
    /// Where in the block the first wrong line begins, in bytes.
    pub at: usize,
    /// What is there.
    pub found: Found,
}

impl Stamp {
    fn line(self, number: u64) -> [u8; LINE] {
        let words = [
            self.block,
            u64::from(self.volume) | u64::from(self.version) << 32,
            number,
        ];
        let mut line = [0; LINE];
        for (bytes, word) in line.chunks_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        line[24..].copy_from_slice(&check(words).to_le_bytes());
        line
    }

    /// Writes the block's bytes; `out` is as long as a block.
    pub fn fill(self, out: &mut [u8]) {
        for (number, bytes) in out.chunks_mut(LINE).enumerate() {
            let line = self.line(number as u64);
            bytes.copy_from_slice(&line[..bytes.len()]);
        }
    }

    /// The block's bytes, `size` of them.
    pub fn bytes(self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        self.fill(&mut bytes);
        bytes
    }

    /// Compares `bytes` with the block's.
    pub fn check(self, bytes: &[u8]) -> Result<(), Mismatch> {
        for (number, got) in bytes.chunks(LINE).enumerate() {
            if got != &self.line(number as u64)[..got.len()] {
                return Err(Mismatch {
                    expected: self,
                    at: number * LINE,
                    found: identify(got),
                });
            }
        }
        Ok(())
    }

    /// Which block `bytes` are, if they are one block from first to last.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match identify(bytes.get(..LINE)?) {
            Found::Line(stamp, 0) if stamp.check(bytes).is_ok() => Some(stamp),
            _ => None,
        }
    }
}

/// The bytes of `count` blocks of `size` from `first` on, all of the same version.
pub fn blocks(first: Stamp, size: usize, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; size * count];
    for (block, out) in (first.block..).zip(bytes.chunks_mut(size)) {
        Stamp { block, ..first }.fill(out);
    }
    bytes
}

/// Compares `bytes` with what [`blocks`] gives; the first block that differs.
pub fn check_blocks(first: Stamp, size: usize, bytes: &[u8]) -> Result<(), Mismatch> {
    for (block, got) in (first.block..).zip(bytes.chunks(size)) {
        Stamp { block, ..first }.check(got)?;
    }
    Ok(())
}

/// What a line of bytes is.
pub fn identify(line: &[u8]) -> Found {
    if line.iter().all(|&byte| byte == 0) {
        return Found::Zeros;
    }
    let Some(line) = line.first_chunk::<LINE>() else {
        return Found::Noise;
    };
    let (words, _) = line.as_chunks::<8>();
    let [block, place, number, sum] = [0, 1, 2, 3].map(|i| u64::from_le_bytes(words[i]));
    if sum != check([block, place, number]) {
        return Found::Noise;
    }
    let stamp = Stamp {
        volume: place as u32,
        block,
        version: (place >> 32) as u32,
    };
    Found::Line(stamp, number)
}

fn check(words: [u64; 3]) -> u64 {
    // No line is all zeros, nor is its check.
    words.into_iter().fold(0x7468_726f_7567_686c, |sum, word| {
        mix(sum.rotate_left(17) ^ word)
    })
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            volume,
            block,
            version,
        } = self;
        write!(f, "block {block} of volume {volume}, version {version}")
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Line(stamp, number) => {
                write!(f, "byte {} of {stamp}", *number as u128 * LINE as u128)
            }
            Found::Zeros => f.write_str("zeros"),
            Found::Noise => f.write_str("bytes of no block"),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            expected,
            at,
            found,
        } = self;
        write!(f, "{expected}: at byte {at} there are {found}")
    }
}

impl std::error::Error for Mismatch {}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Stamp = Stamp {
        volume: 3,
        block: 70,
        version: 9,
    };

    #[test]
    fn a_block_is_itself_and_no_other() {
        for size in [512, 4096, 520] {
            let bytes = HERE.bytes(size);
            assert_eq!(HERE.check(&bytes), Ok(()));
            assert_eq!(Stamp::of(&bytes), Some(HERE));
        }
        assert_eq!(Stamp::of(&[0; 512]), None);
    }

    #[test]
    fn what_is_in_a_block_s_place_is_named() {
        let wrong = |change: &dyn Fn(&mut [u8])| {
            let mut bytes = HERE.bytes(4096);
            change(&mut bytes);
            HERE.check(&bytes).unwrap_err().to_string()
        };
        let older = Stamp { version: 8, ..HERE };
        assert_eq!(
            wrong(&|bytes| bytes[1024..].copy_from_slice(&older.bytes(4096)[1024..])),
            "block 70 of volume 3, version 9: at byte 1024 there are \
             byte 1024 of block 70 of volume 3, version 8"
        );
        let other = Stamp { block: 71, ..HERE };
        assert!(
            wrong(&|bytes| other.fill(bytes))
                .ends_with("byte 0 of block 71 of volume 3, version 9")
        );
        assert!(wrong(&|bytes| bytes[512..1024].fill(0)).ends_with("at byte 512 there are zeros"));
        assert!(
            wrong(&|bytes| bytes[100] ^= 1).ends_with("at byte 96 there are bytes of no block")
        );
        // In its block, but not in its place.
        assert!(
            wrong(&|bytes| bytes.rotate_left(512))
                .contains("at byte 0 there are byte 512 of block 70")
        );
    }

    #[test]
    fn blocks_in_a_row_are_told_apart() {
        let mut bytes = blocks(HERE, 512, 8);
        assert_eq!(check_blocks(HERE, 512, &bytes), Ok(()));
        bytes.copy_within(512..1024, 1024);
        let wrong = check_blocks(HERE, 512, &bytes).unwrap_err();
        assert_eq!((wrong.expected.block, wrong.at), (72, 0));
        assert_eq!(wrong.found, Found::Line(Stamp { block: 71, ..HERE }, 0));
    }
}
