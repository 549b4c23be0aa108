//! Submission queue entries: a view over the 64 bytes, and a value for each
//! command that is understood.
//!
//! Source: NVM Express Base Specification 2.0, 3.3.3.1 (Submission Queue
//! Entry), 4.1.2 (SGL), chapters 5 (Admin) and 6 (Fabrics); NVM Command Set
//! Specification 1.0, chapter 3.

mod admin;
mod fabrics;
mod nvm;
mod sgl;

pub use admin::{AdminCommand, FeatureSelect};
pub use fabrics::{ConnectData, ConnectField, FabricsCommand, PropertyWidth};
pub use nvm::{DatasetRange, NvmCommand};
pub use sgl::Sgl;

use crate::bytes::{array_at, put, u16_at, u32_at, u64_at};
use crate::status::Status;
use crate::units::{Cid, Nsid};

/// Length of a submission queue entry in bytes.
pub const SQE_LEN: usize = 64;

/// A submission queue entry (base 3.3.3.1).
#[derive(Clone, Copy, Debug)]
pub struct SqeView<'a>(&'a [u8; SQE_LEN]);

/// PSDT in CDW0 for commands over fabrics: SGLs, and MPTR is an address (base 4.1).
const PSDT_SGL: u8 = 0b01;

impl<'a> SqeView<'a> {
    /// The entry in `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8; SQE_LEN]) -> Self {
        Self(bytes)
    }

    /// Opcode (OPC).
    #[inline]
    pub fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// Command Identifier (CID).
    #[inline]
    pub fn cid(&self) -> Cid {
        Cid(u16_at(self.0, 2))
    }

    /// Namespace Identifier (NSID).
    #[inline]
    pub fn nsid(&self) -> Nsid {
        Nsid(u32_at(self.0, 4))
    }

    /// Whether it is a Fabrics command (base 6).
    #[inline]
    pub fn is_fabrics(&self) -> bool {
        self.opcode() == fabrics::OPCODE
    }

    /// Refuses what no command here may have: fused operations, and data
    /// pointers that are not SGLs.
    ///
    /// # Errors
    /// [`Status::INVALID_FIELD`].
    #[inline]
    pub fn check(&self) -> Result<(), Status> {
        // FUSE in bits 1:0, PSDT in bits 7:6.
        if self.0[1] & 0b11 != 0 || self.0[1] >> 6 != PSDT_SGL {
            return Err(Status::INVALID_FIELD);
        }
        Ok(())
    }

    /// The data pointer (DPTR), always SGL Entry 1.
    ///
    /// # Errors
    /// If the descriptor is of a type a capsule may not have.
    #[inline]
    pub fn sgl(&self) -> Result<Sgl, Status> {
        Sgl::read(&array_at(self.0, 24))
    }

    /// Command Dword `n`, 0 to 15.
    #[inline]
    pub fn dword(&self, n: usize) -> u32 {
        u32_at(self.0, n * 4)
    }

    /// Command Dwords `n` (low) and `n + 1`.
    #[inline]
    pub fn qword(&self, n: usize) -> u64 {
        u64_at(self.0, n * 4)
    }

    pub(crate) fn byte(&self, at: usize) -> u8 {
        self.0[at]
    }
}

/// An entry under construction, for the host side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sqe([u8; SQE_LEN]);

impl Sqe {
    /// An entry with `opcode` and `cid`, PSDT set, the rest zero.
    pub fn new(opcode: u8, cid: Cid) -> Self {
        let mut bytes = [0; SQE_LEN];
        bytes[0] = opcode;
        bytes[1] = PSDT_SGL << 6;
        put(&mut bytes, 2, cid.0.to_le_bytes());
        Self(bytes)
    }

    /// With NSID.
    pub fn nsid(mut self, nsid: Nsid) -> Self {
        put(&mut self.0, 4, nsid.0.to_le_bytes());
        self
    }

    /// With SGL Entry 1.
    pub fn sgl(mut self, sgl: Sgl) -> Self {
        put(&mut self.0, 24, sgl.write());
        self
    }

    /// With Command Dword `n`.
    pub fn dword(mut self, n: usize, value: u32) -> Self {
        put(&mut self.0, n * 4, value.to_le_bytes());
        self
    }

    /// With Command Dwords `n` (low) and `n + 1`.
    pub fn qword(mut self, n: usize, value: u64) -> Self {
        put(&mut self.0, n * 4, value.to_le_bytes());
        self
    }

    pub(crate) fn byte(mut self, at: usize, value: u8) -> Self {
        self.0[at] = value;
        self
    }

    /// The entry.
    pub fn bytes(self) -> [u8; SQE_LEN] {
        self.0
    }

    /// A view of it.
    pub fn view(&self) -> SqeView<'_> {
        SqeView(&self.0)
    }
}
