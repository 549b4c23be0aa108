//! Capsules and data: CapsuleCmd, CapsuleResp, R2T, H2CData and C2HData.

use super::header::{FatalError, Flags, Format, HeaderBytes, HeaderView, PduType};
use crate::bytes::{array_at, put, u16_at, u32_at};
use crate::command::SqeView;
use crate::status::Status;
use crate::units::{Cid, Ttag};

/// Command Capsule (NVMe/TCP 3.6.2.6): a submission queue entry, data may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapsuleCmd {
    /// The submission queue entry.
    pub sqe: [u8; 64],
    /// Bytes of in-capsule data behind it.
    pub data_len: u32,
}

impl CapsuleCmd {
    /// The submission queue entry of a command capsule, where it lies.
    #[inline]
    pub(crate) fn entry<'a>(view: &HeaderView<'a>) -> SqeView<'a> {
        let (entry, _) = view.bytes()[8..]
            .split_first_chunk()
            .expect("a whole header was checked");
        SqeView::new(entry)
    }

    /// Decodes a CapsuleCmd PDU whose common header was checked.
    pub fn read(view: &HeaderView<'_>) -> Self {
        Self {
            sqe: array_at(view.bytes(), 8),
            data_len: view.data_len(),
        }
    }

    /// Encodes a CapsuleCmd PDU's header, with its digest.
    pub fn write(&self, format: Format) -> HeaderBytes {
        let mut out =
            HeaderBytes::begin(PduType::CapsuleCmd, Flags::default(), self.data_len, format);
        out.put(8, self.sqe);
        out.seal();
        out
    }
}

/// Response Capsule (NVMe/TCP 3.6.2.7): a completion queue entry (base 3.3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapsuleResp {
    /// Dwords 0 and 1: specific to the command.
    pub result: u64,
    /// SQ Head Pointer (SQHD); `None` when SQ flow control is disabled.
    pub sq_head: Option<u16>,
    /// The command.
    pub cid: Cid,
    /// How it ended.
    pub status: Status,
}

impl CapsuleResp {
    /// SQHD of a queue without SQ flow control (base 6.3).
    const NO_SQ_HEAD: u16 = 0xffff;

    /// Decodes a CapsuleResp PDU whose common header was checked.
    pub fn read(view: &HeaderView<'_>) -> Self {
        let cqe = &view.bytes()[8..];
        let sq_head = u16_at(cqe, 8);
        Self {
            result: u64::from_le_bytes(array_at(cqe, 0)),
            sq_head: (sq_head != Self::NO_SQ_HEAD).then_some(sq_head),
            cid: Cid(u16_at(cqe, 12)),
            status: Status::from_field(u16_at(cqe, 14) >> 1),
        }
    }

    /// Encodes a CapsuleResp PDU. SQID is reserved over fabrics, and the Phase Tag is 0.
    #[inline]
    pub fn write(&self, format: Format) -> HeaderBytes {
        let mut out = HeaderBytes::begin(PduType::CapsuleResp, Flags::default(), 0, format);
        let mut cqe = [0; 16];
        put(&mut cqe, 0, self.result.to_le_bytes());
        put(
            &mut cqe,
            8,
            self.sq_head.unwrap_or(Self::NO_SQ_HEAD).to_le_bytes(),
        );
        put(&mut cqe, 12, self.cid.0.to_le_bytes());
        put(&mut cqe, 14, (self.status.field() << 1).to_le_bytes());
        out.put(8, cqe);
        out.seal();
        out
    }
}

/// Ready to Transfer (NVMe/TCP 3.6.2.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct R2t {
    /// The command.
    pub cid: Cid,
    /// The controller's tag, to come back in H2CData.
    pub ttag: Ttag,
    /// Offset of the first byte requested (R2TO).
    pub offset: u32,
    /// Bytes requested, at least 1 (R2TL).
    pub len: u32,
}

impl R2t {
    /// Decodes an R2T PDU whose common header was checked.
    ///
    /// # Errors
    /// If it requests no bytes.
    pub fn read(view: &HeaderView<'_>) -> Result<Self, FatalError> {
        let len = view.u32_at(16);
        if len == 0 {
            return Err(FatalError::invalid_field(16));
        }
        Ok(Self {
            cid: Cid(view.u16_at(8)),
            ttag: Ttag(view.u16_at(10)),
            offset: view.u32_at(12),
            len,
        })
    }

    /// Encodes an R2T PDU's header, with its digest.
    #[inline]
    pub fn write(&self, format: Format) -> HeaderBytes {
        let mut out = HeaderBytes::begin(PduType::R2t, Flags::default(), 0, format);
        out.put(8, self.cid.0.to_le_bytes());
        out.put(10, self.ttag.0.to_le_bytes());
        out.put(12, self.offset.to_le_bytes());
        out.put(16, self.len.to_le_bytes());
        out.seal();
        out
    }
}

/// Host to Controller Data Transfer (NVMe/TCP 3.6.2.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H2cData {
    /// The command (CCCID).
    pub cid: Cid,
    /// The tag of the R2T that requested it.
    pub ttag: Ttag,
    /// Offset of its first byte in the command's data (DATAO).
    pub offset: u32,
    /// Bytes of data, at least 1 (DATAL).
    pub len: u32,
    /// LAST_PDU: no more data follows for its R2T.
    pub last: bool,
}

/// Offset of DATAL.
const DATAL_AT: usize = 16;

impl H2cData {
    /// Decodes an H2CData PDU whose common header was checked.
    ///
    /// # Errors
    /// If DATAL is not what PLEN says.
    #[inline]
    pub fn read(view: &HeaderView<'_>) -> Result<Self, FatalError> {
        let len = u32_at(view.bytes(), DATAL_AT);
        if len != view.data_len() {
            return Err(FatalError::invalid_field(DATAL_AT as u32));
        }
        Ok(Self {
            cid: Cid(view.u16_at(8)),
            ttag: Ttag(view.u16_at(10)),
            offset: view.u32_at(12),
            len,
            last: view.flags().has(Flags::LAST),
        })
    }

    /// Encodes an H2CData PDU's header, with its digest.
    pub fn write(&self, format: Format) -> HeaderBytes {
        let flags = Flags::default().with(Flags::LAST, self.last);
        let mut out = HeaderBytes::begin(PduType::H2cData, flags, self.len, format);
        out.put(8, self.cid.0.to_le_bytes());
        out.put(10, self.ttag.0.to_le_bytes());
        out.put(12, self.offset.to_le_bytes());
        out.put(DATAL_AT, self.len.to_le_bytes());
        out.seal();
        out
    }
}

/// Controller to Host Data Transfer (NVMe/TCP 3.6.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct C2hData {
    /// The command (CCCID).
    pub cid: Cid,
    /// Offset of its first byte in the command's data (DATAO).
    pub offset: u32,
    /// Bytes of data, at least 1 (DATAL).
    pub len: u32,
    /// LAST_PDU: no more data follows for its command.
    pub last: bool,
    /// SUCCESS: it stands for the response capsule, too; only if `last`.
    pub success: bool,
}

impl C2hData {
    /// Decodes a C2HData PDU whose common header was checked.
    ///
    /// # Errors
    /// If DATAL is not what PLEN says, or SUCCESS is set without LAST_PDU.
    pub fn read(view: &HeaderView<'_>) -> Result<Self, FatalError> {
        let len = u32_at(view.bytes(), DATAL_AT);
        if len != view.data_len() {
            return Err(FatalError::invalid_field(DATAL_AT as u32));
        }
        let last = view.flags().has(Flags::LAST);
        let success = view.flags().has(Flags::SUCCESS);
        if success && !last {
            return Err(FatalError::invalid_field(1));
        }
        Ok(Self {
            cid: Cid(view.u16_at(8)),
            offset: view.u32_at(12),
            len,
            last,
            success,
        })
    }

    /// Encodes a C2HData PDU's header, with its digest.
    #[inline]
    pub fn write(&self, format: Format) -> HeaderBytes {
        let flags = Flags::default()
            .with(Flags::LAST, self.last)
            .with(Flags::SUCCESS, self.last && self.success);
        let mut out = HeaderBytes::begin(PduType::C2hData, flags, self.len, format);
        out.put(8, self.cid.0.to_le_bytes());
        out.put(12, self.offset.to_le_bytes());
        out.put(DATAL_AT, self.len.to_le_bytes());
        out.seal();
        out
    }
}
