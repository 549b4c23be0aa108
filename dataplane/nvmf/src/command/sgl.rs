//! The one SGL descriptor of a capsule (base 4.1.2; NVMe/TCP 3.3.4).

use crate::bytes::{put, u32_at, u64_at};
use crate::status::Status;

/// Where a command's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sgl {
    /// In the capsule: Data Block descriptor, subtype Offset.
    InCapsule {
        /// Bytes from the start of the in-capsule data (ICDOFF is 0).
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// Moved by the transport: Transport Data Block descriptor. Also that of
    /// commands without data.
    Transport {
        /// Bytes.
        len: u32,
    },
}

/// Descriptor type (bits 7:4) and subtype (bits 3:0).
const DATA_BLOCK_OFFSET: u8 = 0x01;
const TRANSPORT_DATA_BLOCK: u8 = 0x5a;

impl Sgl {
    /// Reads the 16 bytes of a descriptor.
    ///
    /// # Errors
    /// [`Status::SGL_DESCRIPTOR_TYPE_INVALID`] for any other type.
    #[inline]
    pub fn read(bytes: &[u8; 16]) -> Result<Self, Status> {
        let len = u32_at(bytes, 8);
        match bytes[15] {
            TRANSPORT_DATA_BLOCK => Ok(Sgl::Transport { len }),
            DATA_BLOCK_OFFSET => Ok(Sgl::InCapsule {
                offset: u64_at(bytes, 0),
                len,
            }),
            _ => Err(Status::SGL_DESCRIPTOR_TYPE_INVALID),
        }
    }

    /// Writes the 16 bytes of a descriptor.
    pub fn write(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        match self {
            Sgl::InCapsule { offset, len } => {
                put(&mut bytes, 0, offset.to_le_bytes());
                put(&mut bytes, 8, len.to_le_bytes());
                bytes[15] = DATA_BLOCK_OFFSET;
            }
            Sgl::Transport { len } => {
                put(&mut bytes, 8, len.to_le_bytes());
                bytes[15] = TRANSPORT_DATA_BLOCK;
            }
        }
        bytes
    }

    /// Length in bytes.
    #[inline]
    pub fn data_len(self) -> u32 {
        match self {
            Sgl::InCapsule { len, .. } | Sgl::Transport { len } => len,
        }
    }
}
