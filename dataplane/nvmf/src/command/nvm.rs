//! Commands of the NVM command set (NVM 3.2).

use super::{Sgl, Sqe, SqeView};
use crate::bytes::{put, u32_at, u64_at};
use crate::status::Status;
use crate::units::{BlockRange, Cid, Lba, Nsid};

/// An I/O command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NvmCommand {
    /// Flush (base 7.1).
    Flush,
    /// Write (NVM 3.2.6).
    Write {
        /// Blocks to write.
        range: BlockRange,
        /// Force Unit Access.
        fua: bool,
    },
    /// Read (NVM 3.2.4).
    Read {
        /// Blocks to read.
        range: BlockRange,
        /// Force Unit Access.
        fua: bool,
    },
    /// Write Zeroes (NVM 3.2.8).
    WriteZeroes {
        /// Blocks to clear.
        range: BlockRange,
        /// Force Unit Access.
        fua: bool,
        /// Deallocate (DEAC).
        deallocate: bool,
    },
    /// Dataset Management (NVM 3.2.3).
    DatasetManagement {
        /// Ranges in its data, 1 to 256.
        ranges: u16,
        /// Attribute Deallocate (AD); the other attributes are hints.
        deallocate: bool,
    },
}

mod opcode {
    pub(super) const FLUSH: u8 = 0x00;
    pub(super) const WRITE: u8 = 0x01;
    pub(super) const READ: u8 = 0x02;
    pub(super) const WRITE_ZEROES: u8 = 0x08;
    pub(super) const DATASET_MANAGEMENT: u8 = 0x09;
}

/// FUA in CDW12.
const FUA: u32 = 1 << 30;
/// DEAC in CDW12 of Write Zeroes.
const DEAC: u32 = 1 << 25;
/// AD in CDW11 of Dataset Management.
const AD: u32 = 1 << 2;

impl NvmCommand {
    /// Opcodes that are supported, in order.
    pub const OPCODES: [u8; 5] = [
        opcode::FLUSH,
        opcode::WRITE,
        opcode::READ,
        opcode::WRITE_ZEROES,
        opcode::DATASET_MANAGEMENT,
    ];

    /// Decodes an I/O command from its submission queue entry.
    ///
    /// Hints (DSM, Limited Retry) and protection information fields are
    /// ignored: no namespace has protection information.
    ///
    /// # Errors
    /// [`Status::INVALID_OPCODE`], [`Status::INVALID_FIELD`] for directives,
    /// [`Status::LBA_OUT_OF_RANGE`] if the range overflows.
    #[inline]
    pub fn read(sqe: &SqeView<'_>) -> Result<Self, Status> {
        let control = sqe.dword(12);
        let fua = control & FUA != 0;
        match sqe.opcode() {
            opcode::READ => Ok(NvmCommand::Read {
                range: range(sqe)?,
                fua,
            }),
            opcode::WRITE => {
                // DTYPE, bits 23:20: no directives are supported.
                if control >> 20 & 0xf != 0 {
                    return Err(Status::INVALID_FIELD);
                }
                let range = range(sqe)?;
                Ok(NvmCommand::Write { range, fua })
            }
            opcode::FLUSH => Ok(NvmCommand::Flush),
            opcode::WRITE_ZEROES => Ok(NvmCommand::WriteZeroes {
                range: range(sqe)?,
                fua,
                deallocate: control & DEAC != 0,
            }),
            opcode::DATASET_MANAGEMENT => Ok(NvmCommand::DatasetManagement {
                ranges: (sqe.dword(10) & 0xff) as u16 + 1,
                deallocate: sqe.dword(11) & AD != 0,
            }),
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    /// Encodes an I/O command, for hosts.
    pub fn write(self, cid: Cid, nsid: Nsid, sgl: Sgl) -> Sqe {
        let with = |opcode, range: BlockRange, control: u32| {
            Sqe::new(opcode, cid)
                .qword(10, range.first().0)
                .dword(12, control | (range.blocks() - 1))
        };
        let flag = |bit, set| if set { bit } else { 0 };
        let sqe = match self {
            NvmCommand::Flush => Sqe::new(opcode::FLUSH, cid),
            NvmCommand::Write { range, fua } => with(opcode::WRITE, range, flag(FUA, fua)),
            NvmCommand::Read { range, fua } => with(opcode::READ, range, flag(FUA, fua)),
            NvmCommand::WriteZeroes {
                range,
                fua,
                deallocate,
            } => with(
                opcode::WRITE_ZEROES,
                range,
                flag(FUA, fua) | flag(DEAC, deallocate),
            ),
            NvmCommand::DatasetManagement { ranges, deallocate } => {
                Sqe::new(opcode::DATASET_MANAGEMENT, cid)
                    .dword(10, u32::from(ranges) - 1)
                    .dword(11, flag(AD, deallocate))
            }
        };
        sqe.nsid(nsid).sgl(sgl)
    }
}

/// SLBA in CDW10 and 11, NLB (zero's based) in CDW12.
#[inline]
fn range(sqe: &SqeView<'_>) -> Result<BlockRange, Status> {
    let blocks = (sqe.dword(12) & 0xffff) + 1;
    BlockRange::new(Lba(sqe.qword(10)), blocks).ok_or(Status::LBA_OUT_OF_RANGE)
}

/// A range of Dataset Management's data (NVM 3.2.3, Figure 41).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatasetRange {
    /// First block.
    pub first: Lba,
    /// Blocks; none is allowed and means nothing.
    pub blocks: u32,
}

impl DatasetRange {
    /// Length of one in bytes.
    pub const LEN: usize = 16;

    /// Decodes one; context attributes are hints and are ignored.
    pub fn read(bytes: &[u8; Self::LEN]) -> Self {
        Self {
            first: Lba(u64_at(bytes, 8)),
            blocks: u32_at(bytes, 4),
        }
    }

    /// Encodes one, for hosts.
    pub fn write(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        put(&mut bytes, 4, self.blocks.to_le_bytes());
        put(&mut bytes, 8, self.first.0.to_le_bytes());
        bytes
    }
}
