//! Admin commands (base 5).

use super::{Sgl, Sqe, SqeView};
use crate::status::Status;
use crate::units::{Cid, Cntlid, Nsid, Qid};

/// An Admin command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminCommand {
    /// Get Log Page (base 5.16).
    GetLogPage {
        /// Log Page Identifier.
        lid: u8,
        /// Log Specific Parameter (LSP), 7 bits.
        specific: u8,
        /// Retain Asynchronous Event: do not clear the event (RAE).
        retain: bool,
        /// Bytes requested: a multiple of 4 (from NUMD).
        len: u64,
        /// Offset of the first byte (LPO).
        offset: u64,
        /// Command Set Identifier (CSI).
        csi: u8,
    },
    /// Identify (base 5.17).
    Identify {
        /// Controller or Namespace Structure (CNS).
        cns: u8,
        /// Controller Identifier (CNTID).
        cntlid: Cntlid,
        /// Command Set Identifier (CSI).
        csi: u8,
    },
    /// Abort (base 5.1).
    Abort {
        /// Queue of the command to abort.
        qid: Qid,
        /// The command to abort.
        cid: Cid,
    },
    /// Set Features (base 5.27).
    SetFeatures {
        /// Feature Identifier.
        fid: u8,
        /// Keep the value across resets (SV).
        save: bool,
        /// CDW11: the value.
        value: u32,
    },
    /// Get Features (base 5.15).
    GetFeatures {
        /// Feature Identifier.
        fid: u8,
        /// Which of its values.
        select: FeatureSelect,
        /// CDW11.
        value: u32,
    },
    /// Asynchronous Event Request (base 5.2).
    AsyncEventRequest,
    /// Keep Alive (base 5.18).
    KeepAlive,
}

/// Select (SEL) of Get Features (base 5.15, Figure 190).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureSelect {
    /// The value in force.
    Current,
    /// The value after a reset.
    Default,
    /// The value kept across resets.
    Saved,
    /// What may be done with the feature.
    Capabilities,
}

mod opcode {
    pub(super) const GET_LOG_PAGE: u8 = 0x02;
    pub(super) const IDENTIFY: u8 = 0x06;
    pub(super) const ABORT: u8 = 0x08;
    pub(super) const SET_FEATURES: u8 = 0x09;
    pub(super) const GET_FEATURES: u8 = 0x0a;
    pub(super) const ASYNC_EVENT_REQUEST: u8 = 0x0c;
    pub(super) const KEEP_ALIVE: u8 = 0x18;
}

/// SV in CDW10 of Set Features.
const SAVE: u32 = 1 << 31;
/// RAE in CDW10 of Get Log Page.
const RETAIN: u32 = 1 << 15;

impl AdminCommand {
    /// Opcodes that are supported, in order.
    pub const OPCODES: [u8; 7] = [
        opcode::GET_LOG_PAGE,
        opcode::IDENTIFY,
        opcode::ABORT,
        opcode::SET_FEATURES,
        opcode::GET_FEATURES,
        opcode::ASYNC_EVENT_REQUEST,
        opcode::KEEP_ALIVE,
    ];

    /// Decodes an Admin command from its submission queue entry.
    ///
    /// # Errors
    /// [`Status::INVALID_OPCODE`]; [`Status::INVALID_FIELD`] for a reserved
    /// SEL, or a log offset that is an index or not a multiple of 4.
    pub fn read(sqe: &SqeView<'_>) -> Result<Self, Status> {
        let dword10 = sqe.dword(10);
        match sqe.opcode() {
            opcode::GET_LOG_PAGE => {
                let numd = u64::from(sqe.dword(11) & 0xffff) << 16 | u64::from(dword10 >> 16);
                let offset = sqe.qword(12);
                let by_index = sqe.dword(14) >> 23 & 1 == 1;
                if by_index || !offset.is_multiple_of(4) {
                    return Err(Status::INVALID_FIELD);
                }
                Ok(AdminCommand::GetLogPage {
                    lid: dword10 as u8,
                    specific: (dword10 >> 8) as u8 & 0x7f,
                    retain: dword10 & RETAIN != 0,
                    len: (numd + 1) * 4,
                    offset,
                    csi: (sqe.dword(14) >> 24) as u8,
                })
            }
            opcode::IDENTIFY => Ok(AdminCommand::Identify {
                cns: dword10 as u8,
                cntlid: Cntlid((dword10 >> 16) as u16),
                csi: (sqe.dword(11) >> 24) as u8,
            }),
            opcode::ABORT => Ok(AdminCommand::Abort {
                qid: Qid(dword10 as u16),
                cid: Cid((dword10 >> 16) as u16),
            }),
            opcode::SET_FEATURES => Ok(AdminCommand::SetFeatures {
                fid: dword10 as u8,
                save: dword10 & SAVE != 0,
                value: sqe.dword(11),
            }),
            opcode::GET_FEATURES => Ok(AdminCommand::GetFeatures {
                fid: dword10 as u8,
                select: match dword10 >> 8 & 7 {
                    0 => FeatureSelect::Current,
                    1 => FeatureSelect::Default,
                    2 => FeatureSelect::Saved,
                    3 => FeatureSelect::Capabilities,
                    _ => return Err(Status::INVALID_FIELD),
                },
                value: sqe.dword(11),
            }),
            opcode::ASYNC_EVENT_REQUEST => Ok(AdminCommand::AsyncEventRequest),
            opcode::KEEP_ALIVE => Ok(AdminCommand::KeepAlive),
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    /// Encodes an Admin command, for hosts.
    pub fn write(self, cid: Cid, nsid: Nsid, sgl: Sgl) -> Sqe {
        let sqe = match self {
            AdminCommand::GetLogPage {
                lid,
                specific,
                retain,
                len,
                offset,
                csi,
            } => {
                let numd = len / 4 - 1;
                let retain = if retain { RETAIN } else { 0 };
                Sqe::new(opcode::GET_LOG_PAGE, cid)
                    .dword(
                        10,
                        u32::from(lid)
                            | u32::from(specific & 0x7f) << 8
                            | retain
                            | (numd as u32) << 16,
                    )
                    .dword(11, (numd >> 16) as u32)
                    .qword(12, offset)
                    .dword(14, u32::from(csi) << 24)
            }
            AdminCommand::Identify { cns, cntlid, csi } => Sqe::new(opcode::IDENTIFY, cid)
                .dword(10, u32::from(cns) | u32::from(cntlid.0) << 16)
                .dword(11, u32::from(csi) << 24),
            AdminCommand::Abort { qid, cid: aborted } => Sqe::new(opcode::ABORT, cid)
                .dword(10, u32::from(qid.0) | u32::from(aborted.0) << 16),
            AdminCommand::SetFeatures { fid, save, value } => {
                let save = if save { SAVE } else { 0 };
                Sqe::new(opcode::SET_FEATURES, cid)
                    .dword(10, u32::from(fid) | save)
                    .dword(11, value)
            }
            AdminCommand::GetFeatures { fid, select, value } => Sqe::new(opcode::GET_FEATURES, cid)
                .dword(10, u32::from(fid) | (select as u32) << 8)
                .dword(11, value),
            AdminCommand::AsyncEventRequest => Sqe::new(opcode::ASYNC_EVENT_REQUEST, cid),
            AdminCommand::KeepAlive => Sqe::new(opcode::KEEP_ALIVE, cid),
        };
        sqe.nsid(nsid).sgl(sgl)
    }
}
