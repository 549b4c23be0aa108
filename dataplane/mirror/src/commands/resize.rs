//! What a source asks of the other node when the volume is to have another size (row R3).

use super::BadParameters;
use crate::bytes::{put, u16_at, u64_at};

const RESIZE: usize = 24;

/// Parameters of [`Command::RESIZE`](crate::Command::RESIZE). The receiver refuses with [`nature::VOLUME`](crate::nature::VOLUME) what its
/// device, or its record of what was changed, has no room for; and with [`nature::STALE`](crate::nature::STALE) what is not of its meeting.
///
/// | | bytes | |
/// | --- | --- | --- |
/// | 0 | 2 | volume |
/// | 2 | 1 | 1: it is asked whether that can be, and takes changes of so many bytes then; 2: it is to be stable that it is |
/// | 3 | 5 | 0 |
/// | 8 | 8 | ticket: that of the receiver's last *ready* |
/// | 16 | 8 | bytes that the volume is to have; not 0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// The volume.
    pub volume: u16,
    /// It has that size from now on; else whether it may have.
    pub is_made: bool,
    /// The receiver's ticket.
    pub ticket: u64,
    /// Bytes.
    pub len: u64,
}

impl Resize {
    /// As parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; RESIZE];
        put(&mut bytes, 0, &self.volume.to_le_bytes());
        bytes[2] = 1 + u8::from(self.is_made);
        put(&mut bytes, 8, &self.ticket.to_le_bytes());
        put(&mut bytes, 16, &self.len.to_le_bytes());
        bytes
    }

    /// From parameters.
    ///
    /// # Errors
    /// [`BadParameters`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadParameters> {
        if bytes.len() != RESIZE {
            return Err(BadParameters("a size is not told as sizes are"));
        }
        let resize = Self {
            volume: u16_at(bytes, 0),
            is_made: bytes[2] == 2,
            ticket: u64_at(bytes, 8),
            len: u64_at(bytes, 16),
        };
        if resize.len == 0 {
            return Err(BadParameters("a volume is to have no byte"));
        }
        match resize.encode() == bytes {
            true => Ok(resize),
            false => Err(BadParameters("something stands where zeros are to be")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte, as the table says; and nothing else means the same.
    #[test]
    fn r03_a_size_is_told_as_is_documented() {
        let mut resize = Resize {
            volume: 0x0102,
            is_made: false,
            ticket: 0x1122,
            len: 1 << 32,
        };
        let bytes = resize.encode();
        let expected = [
            2, 1, 1, 0, 0, 0, 0, 0, 0x22, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(Resize::decode(&bytes), Ok(resize));
        resize.is_made = true;
        let bytes = resize.encode();
        assert_eq!(bytes[2], 2);
        assert_eq!(Resize::decode(&bytes), Ok(resize));
        for (at, byte) in [(2, 0), (2, 3), (3, 1), (7, 1)] {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            assert!(Resize::decode(&bytes).is_err(), "byte {at}: {byte}");
        }
        let none = Resize { len: 0, ..resize };
        assert!(Resize::decode(&none.encode()).is_err());
        assert!(Resize::decode(&bytes[..23]).is_err());
    }
}
