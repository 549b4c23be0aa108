//! Fabrics commands (base 6): Connect, properties, authentication, Disconnect.

use super::{Sgl, Sqe, SqeView};
use crate::bytes::{array_at, put, put_text, u16_at};
use crate::config::NQN_LEN_MAX;
use crate::status::Status;
use crate::units::{Cid, Cntlid, Qid};

/// Opcode of all of them.
pub(super) const OPCODE: u8 = 0x7f;

/// Fabrics Command Type (FCTYPE), byte 4.
mod fctype {
    pub(super) const PROPERTY_SET: u8 = 0x00;
    pub(super) const CONNECT: u8 = 0x01;
    pub(super) const PROPERTY_GET: u8 = 0x04;
    pub(super) const AUTHENTICATION_SEND: u8 = 0x05;
    pub(super) const AUTHENTICATION_RECEIVE: u8 = 0x06;
    pub(super) const DISCONNECT: u8 = 0x08;
}

/// SECP of authentication commands, and SPSP0 and SPSP1 with it: NVMe's own protocols (base 2.0, 6.1).
const SECURITY_PROTOCOL: [u8; 3] = [0x01, 0x01, 0xe9];

/// A Fabrics command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FabricsCommand {
    /// Property Set (base 6.6).
    PropertySet {
        /// Offset of the property (OFST).
        offset: u32,
        /// Its size (ATTRIB).
        width: PropertyWidth,
        /// The value; 4-byte properties take the low half.
        value: u64,
    },
    /// Connect (base 6.3).
    Connect {
        /// Record Format (RECFMT): 0 is the one defined.
        record_format: u16,
        /// The queue to create.
        qid: Qid,
        /// Submission queue entries minus one (SQSIZE).
        sq_size: u16,
        /// SQ flow control is to be disabled (CATTR bit 2).
        no_flow_control: bool,
        /// Keep Alive Timeout in milliseconds; 0 disables it.
        keep_alive_ms: u32,
    },
    /// Property Get (base 6.5).
    PropertyGet {
        /// Offset of the property (OFST).
        offset: u32,
        /// Its size (ATTRIB).
        width: PropertyWidth,
    },
    /// Authentication Send (base 6.2).
    AuthenticationSend {
        /// Bytes of the message (TL).
        len: u32,
    },
    /// Authentication Receive (base 6.1).
    AuthenticationReceive {
        /// Bytes that there is room for (AL).
        len: u32,
    },
    /// Disconnect (base 6.4).
    Disconnect {
        /// Record Format (RECFMT): 0 is the one defined.
        record_format: u16,
    },
}

/// Size of a property in bytes (ATTRIB bits 2:0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyWidth {
    /// 4 bytes.
    Four,
    /// 8 bytes.
    Eight,
}

/// CATTR bit 2: disable SQ flow control.
const NO_FLOW_CONTROL: u8 = 1 << 2;

impl FabricsCommand {
    /// Offset of QID in Connect, for IPO.
    pub(crate) const CONNECT_QID_AT: u16 = 42;
    /// Offset of SQSIZE in Connect, for IPO.
    pub(crate) const CONNECT_SQ_SIZE_AT: u16 = 44;
    /// AUTHREQ in the response to Connect, ATR: the host is to authenticate (base 6.3).
    pub const AUTHENTICATION_REQUIRED: u32 = 1 << 17;

    /// Whether it is what a host may send that has yet to prove who it is.
    pub(crate) fn is_authentication(sqe: &SqeView<'_>) -> bool {
        let types = [fctype::AUTHENTICATION_SEND, fctype::AUTHENTICATION_RECEIVE];
        sqe.is_fabrics() && types.contains(&sqe.byte(4))
    }

    /// Decodes a Fabrics command from its submission queue entry.
    ///
    /// # Errors
    /// [`Status::INVALID_OPCODE`] for a type that is not supported,
    /// [`Status::INVALID_FIELD`] for a property size that is not defined.
    pub fn read(sqe: &SqeView<'_>) -> Result<Self, Status> {
        if !sqe.is_fabrics() {
            return Err(Status::INVALID_OPCODE);
        }
        match sqe.byte(4) {
            fctype::PROPERTY_SET => Ok(FabricsCommand::PropertySet {
                offset: sqe.dword(11),
                width: width(sqe)?,
                value: sqe.qword(12),
            }),
            fctype::CONNECT => Ok(FabricsCommand::Connect {
                record_format: sqe.dword(10) as u16,
                qid: Qid((sqe.dword(10) >> 16) as u16),
                sq_size: sqe.dword(11) as u16,
                no_flow_control: sqe.byte(46) & NO_FLOW_CONTROL != 0,
                keep_alive_ms: sqe.dword(12),
            }),
            fctype::PROPERTY_GET => Ok(FabricsCommand::PropertyGet {
                offset: sqe.dword(11),
                width: width(sqe)?,
            }),
            fctype::AUTHENTICATION_SEND => Ok(FabricsCommand::AuthenticationSend {
                len: message_len(sqe)?,
            }),
            fctype::AUTHENTICATION_RECEIVE => Ok(FabricsCommand::AuthenticationReceive {
                len: message_len(sqe)?,
            }),
            fctype::DISCONNECT => Ok(FabricsCommand::Disconnect {
                record_format: sqe.dword(10) as u16,
            }),
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    /// Encodes a Fabrics command, for hosts.
    pub fn write(self, cid: Cid, sgl: Sgl) -> Sqe {
        let attribute = |width| match width {
            PropertyWidth::Four => 0,
            PropertyWidth::Eight => 1,
        };
        let of = |fctype| Sqe::new(OPCODE, cid).byte(4, fctype);
        let sqe = match self {
            FabricsCommand::PropertySet {
                offset,
                width,
                value,
            } => of(fctype::PROPERTY_SET)
                .dword(10, attribute(width))
                .dword(11, offset)
                .qword(12, value),
            FabricsCommand::Connect {
                record_format,
                qid,
                sq_size,
                no_flow_control,
                keep_alive_ms,
            } => of(fctype::CONNECT)
                .dword(10, u32::from(record_format) | u32::from(qid.0) << 16)
                .dword(11, u32::from(sq_size))
                .byte(46, if no_flow_control { NO_FLOW_CONTROL } else { 0 })
                .dword(12, keep_alive_ms),
            FabricsCommand::PropertyGet { offset, width } => of(fctype::PROPERTY_GET)
                .dword(10, attribute(width))
                .dword(11, offset),
            FabricsCommand::AuthenticationSend { len } => {
                authentication(of(fctype::AUTHENTICATION_SEND), len)
            }
            FabricsCommand::AuthenticationReceive { len } => {
                authentication(of(fctype::AUTHENTICATION_RECEIVE), len)
            }
            FabricsCommand::Disconnect { record_format } => {
                of(fctype::DISCONNECT).dword(10, u32::from(record_format))
            }
        };
        sqe.sgl(sgl)
    }
}

/// Bytes of an authentication command's data.
fn message_len(sqe: &SqeView<'_>) -> Result<u32, Status> {
    match [41, 42, 43].map(|at| sqe.byte(at)) == SECURITY_PROTOCOL {
        true => Ok(sqe.dword(11)),
        false => Err(Status::INVALID_FIELD),
    }
}

fn authentication(sqe: Sqe, len: u32) -> Sqe {
    let bytes = SECURITY_PROTOCOL.into_iter().zip(41..);
    bytes
        .fold(sqe, |sqe, (byte, at)| sqe.byte(at, byte))
        .dword(11, len)
}

fn width(sqe: &SqeView<'_>) -> Result<PropertyWidth, Status> {
    match sqe.byte(40) & 7 {
        0 => Ok(PropertyWidth::Four),
        1 => Ok(PropertyWidth::Eight),
        _ => Err(Status::INVALID_FIELD),
    }
}

/// Length of Connect's data in bytes.
const CONNECT_DATA_LEN: usize = 1024;

/// The data of Connect (base 6.3, Figure 382), names as they are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectData<'a> {
    /// Host Identifier.
    pub host_id: [u8; 16],
    /// The controller to connect to, or [`Cntlid::DYNAMIC`].
    pub cntlid: Cntlid,
    /// NVM Subsystem NQN.
    pub subsystem: &'a str,
    /// Host NQN. May be empty: some hosts have none unless one is configured.
    pub host: &'a str,
}

/// A field of Connect's data, by its offset, for IPO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ConnectField {
    /// CNTLID.
    Cntlid = 16,
    /// SUBNQN.
    Subsystem = 256,
    /// HOSTNQN.
    Host = 512,
}

impl<'a> ConnectData<'a> {
    /// Length in bytes.
    pub const LEN: usize = CONNECT_DATA_LEN;

    /// Decodes it.
    ///
    /// # Errors
    /// The field that is no NQN: not NUL-terminated, too long, not text, or
    /// an empty SUBNQN.
    pub fn read(bytes: &'a [u8; CONNECT_DATA_LEN]) -> Result<Self, ConnectField> {
        let name = |field: ConnectField| {
            let at = field as usize;
            let name = nqn(&bytes[at..at + 256]).ok_or(field)?;
            if name.is_empty() && field == ConnectField::Subsystem {
                return Err(field);
            }
            Ok(name)
        };
        Ok(Self {
            host_id: array_at(bytes, 0),
            cntlid: Cntlid(u16_at(bytes, ConnectField::Cntlid as usize)),
            subsystem: name(ConnectField::Subsystem)?,
            host: name(ConnectField::Host)?,
        })
    }

    /// Encodes it, for hosts.
    pub fn write(&self) -> [u8; CONNECT_DATA_LEN] {
        let mut bytes = [0; CONNECT_DATA_LEN];
        put(&mut bytes, 0, self.host_id);
        put(
            &mut bytes,
            ConnectField::Cntlid as usize,
            self.cntlid.0.to_le_bytes(),
        );
        put_text(
            &mut bytes,
            ConnectField::Subsystem as usize,
            256,
            self.subsystem,
            0,
        );
        put_text(&mut bytes, ConnectField::Host as usize, 256, self.host, 0);
        bytes
    }
}

/// The NQN in a field of 256 bytes (base 4.5).
fn nqn(field: &[u8]) -> Option<&str> {
    let len = field.iter().position(|&b| b == 0)?;
    let text = str::from_utf8(&field[..len]).ok()?;
    (len <= NQN_LEN_MAX).then_some(text)
}
