//! A replica's standing on disk (row R4): 512 bytes. Numbers are little-endian, the checksum is CRC32C of the 512 bytes with its own
//! four taken as zeros. What has another version, or is not as it is here, is refused.
//!
//! | | bytes | |
//! | --- | --- | --- |
//! | 0 | 8 | `TL-REPLI` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | checksum |
//! | 16 | 16 | the replica |
//! | 32 | 1 | 0: blank, 1: whole, 2: copying |
//! | 33 | 7 | zeros |
//! | 40 | 16 | copying: of which replica; else zeros |
//! | 56 | 16 | generation: number (8), tag (8) |
//! | 72 | 1 | 1: it has a record; else 0, and zeros up to 136 |
//! | 73 | 1 | record: 1, something of it was copied; else 0 |
//! | 74 | 6 | zeros |
//! | 80 | 16 | record: the other replica |
//! | 96 | 32 | record: the two generations that that may have |
//! | 128 | 8 | record: its number, by which its [pages](crate::Changed::page) are known |
//! | 136 | 8 | bytes of the volume |
//! | 144 | 368 | zeros |

use std::fmt;

use super::{Record, Standing, Wholeness};
use crate::bytes::{array, put, u32_at, u64_at};
use crate::record::Changed;
use crate::replica::{Generation, ReplicaId};

/// Bytes of a standing on disk.
pub const STANDING: usize = 512;

const MAGIC: [u8; 8] = *b"TL-REPLI";
const CHECKSUM: usize = 12;

/// A standing as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// The standing. Read from disk, all of its record counts as changed until its pages are
    /// [taken](crate::Changed::take_page).
    pub standing: Standing,
    /// The number of its record; 0 without one.
    pub record: u64,
    /// Bytes of the volume.
    pub len: u64,
}

/// Why bytes are no standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadStanding {
    /// There is none.
    None,
    /// It is of another version.
    Version(u32),
    /// It is damaged.
    Checksum,
    /// It says what cannot be.
    Field(&'static str),
}

impl fmt::Display for BadStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no replica's standing is here"),
            Self::Version(version) => write!(
                f,
                "a replica's standing of version {version}, of which this program knows {}: run the program that wrote it, or a later one",
                crate::VERSION
            ),
            Self::Checksum => f.write_str("a replica's standing that is damaged"),
            Self::Field(field) => write!(f, "a replica's standing in which {field}"),
        }
    }
}

impl std::error::Error for BadStanding {}

impl OnDisk {
    /// As bytes.
    pub fn encode(&self) -> [u8; STANDING] {
        let standing = &self.standing;
        let mut bytes = [0; STANDING];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &u32::from(crate::VERSION).to_le_bytes());
        put(&mut bytes, 16, &standing.replica.0);
        bytes[32] = match standing.wholeness {
            Wholeness::Blank => 0,
            Wholeness::Whole => 1,
            Wholeness::Copying { from } => {
                put(&mut bytes, 40, &from.0);
                2
            }
        };
        standing.generation.put(&mut bytes, 56);
        if let Some(record) = &standing.record {
            (bytes[72], bytes[73]) = (1, record.copies.into());
            put(&mut bytes, 80, &record.peer.0);
            record.common[0].put(&mut bytes, 96);
            record.common[1].put(&mut bytes, 112);
            put(&mut bytes, 128, &self.record.to_le_bytes());
        }
        put(&mut bytes, 136, &self.len.to_le_bytes());
        let crc = checksum::crc32c(&bytes);
        put(&mut bytes, CHECKSUM, &crc.to_le_bytes());
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`BadStanding`].
    pub fn decode(bytes: &[u8; STANDING]) -> Result<Self, BadStanding> {
        if bytes[..8] != MAGIC {
            return Err(BadStanding::None);
        }
        let version = u32_at(bytes, 8);
        if version != u32::from(crate::VERSION) {
            return Err(BadStanding::Version(version));
        }
        if checksum::crc32c_stored_at(bytes, CHECKSUM) != u32_at(bytes, CHECKSUM) {
            return Err(BadStanding::Checksum);
        }
        let len = u64_at(bytes, 136);
        let wholeness = match bytes[32] {
            0 => Wholeness::Blank,
            1 => Wholeness::Whole,
            2 => Wholeness::Copying {
                from: ReplicaId(array(bytes, 40)),
            },
            _ => {
                return Err(BadStanding::Field(
                    "it is neither blank, nor whole, nor copying",
                ));
            }
        };
        let record = (bytes[72] == 1).then(|| Record {
            peer: ReplicaId(array(bytes, 80)),
            common: [Generation::at(bytes, 96), Generation::at(bytes, 112)],
            copies: bytes[73] == 1,
            changed: Changed::all(len),
        });
        let standing = Standing {
            replica: ReplicaId(array(bytes, 16)),
            wholeness,
            generation: Generation::at(bytes, 56),
            record,
        };
        let on_disk = Self {
            standing,
            record: u64_at(bytes, 128),
            len,
        };
        // One way to write each: what else there is was not written by this version.
        match on_disk.encode() == *bytes {
            true => Ok(on_disk),
            false => Err(BadStanding::Field("something stands where zeros are to be")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::GRANULE;

    const LEN: u64 = 9 * GRANULE;

    fn alone() -> OnDisk {
        let peer = ReplicaId([0xb2; 16]);
        let first = Standing::first(ReplicaId([0xa1; 16]), 0x1122);
        let mut standing = first.alone(peer, 0x3344, LEN).expect("it is whole");
        let record = standing.record.as_mut().expect("a record");
        (record.copies, record.changed) = (true, Changed::all(LEN));
        OnDisk {
            standing,
            record: 0x5566,
            len: LEN,
        }
    }

    #[test]
    fn r04_a_standing_is_read_as_it_was_written() {
        let blank = Standing::blank(ReplicaId([1; 16]));
        let copying = blank.copying(ReplicaId([2; 16]));
        for standing in [blank, copying, Standing::first(ReplicaId([3; 16]), 7)] {
            let on_disk = OnDisk {
                standing,
                record: 0,
                len: LEN,
            };
            assert_eq!(OnDisk::decode(&on_disk.encode()), Ok(on_disk));
        }
        assert_eq!(OnDisk::decode(&alone().encode()), Ok(alone()));
    }

    /// Byte by byte, as the table says.
    #[test]
    fn r04_a_standing_lies_as_is_documented() {
        let bytes = alone().encode();
        let expected: [(usize, &[u8]); 10] = [
            (0, b"TL-REPLI\x01\0\0\0"),
            (16, &[0xa1; 16]),
            (32, &[1, 0, 0, 0, 0, 0, 0, 0]),
            (40, &[0; 16]),
            (56, &[2, 0, 0, 0, 0, 0, 0, 0, 0x44, 0x33, 0, 0, 0, 0, 0, 0]),
            (72, &[1, 1, 0, 0, 0, 0, 0, 0]),
            (80, &[0xb2; 16]),
            (96, &[1, 0, 0, 0, 0, 0, 0, 0, 0x22, 0x11, 0, 0, 0, 0, 0, 0]),
            (112, &[1, 0, 0, 0, 0, 0, 0, 0, 0x22, 0x11, 0, 0, 0, 0, 0, 0]),
            (128, &[0x66, 0x55, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0]),
        ];
        for (at, field) in expected {
            assert_eq!(&bytes[at..at + field.len()], field, "at {at}");
        }
        assert!(bytes[144..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn r04_what_is_no_standing_is_refused() {
        let good = alone().encode();
        let changed = |at: usize, byte: u8, reseals: bool| {
            let mut bytes = good;
            bytes[at] = byte;
            if reseals {
                put(&mut bytes, CHECKSUM, &[0; 4]);
                let crc = testkit::crc32c(&bytes);
                put(&mut bytes, CHECKSUM, &crc.to_le_bytes());
            }
            OnDisk::decode(&bytes)
        };
        assert_eq!(changed(0, 0, true), Err(BadStanding::None));
        assert_eq!(changed(8, 2, true), Err(BadStanding::Version(2)));
        for (at, &byte) in good.iter().enumerate().skip(12) {
            assert_eq!(
                changed(at, !byte, false),
                Err(BadStanding::Checksum),
                "byte {at}"
            );
        }
        for at in [32, 33, 40, 72, 73, 74, 144, 511] {
            let refused = changed(at, 9, true);
            assert!(
                matches!(refused, Err(BadStanding::Field(_))),
                "byte {at}: {refused:?}"
            );
        }
    }
}
