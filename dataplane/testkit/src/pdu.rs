//! PDUs of NVMe/TCP, as a host writes and reads them.
//!
//! Source: NVM Express TCP Transport Specification 1.0, section 3.6.2.

use std::fmt;

use crate::crc32c;

/// PDU types (figure 20 of the specification).
pub mod kind {
    #![allow(missing_docs)]
    pub const IC_REQ: u8 = 0x00;
    pub const IC_RESP: u8 = 0x01;
    pub const H2C_TERM: u8 = 0x02;
    pub const C2H_TERM: u8 = 0x03;
    pub const CAPSULE_CMD: u8 = 0x04;
    pub const CAPSULE_RESP: u8 = 0x05;
    pub const H2C_DATA: u8 = 0x06;
    pub const C2H_DATA: u8 = 0x07;
    pub const R2T: u8 = 0x09;
}

/// FLAGS: a header digest follows the header.
pub const HDGST: u8 = 1 << 0;
/// FLAGS: a data digest follows the data.
pub const DDGST: u8 = 1 << 1;
/// FLAGS of data PDUs: the last one of a command, or of an R2T.
pub const LAST: u8 = 1 << 2;
/// FLAGS of C2HData: the command is done, successfully; no response follows.
pub const SUCCESS: u8 = 1 << 3;

/// Bytes of the headers that tests write by hand.
pub const CAPSULE_LEN: usize = 72;
/// Bytes of ICReq and ICResp.
pub const IC_LEN: usize = 128;
/// The longest C2HTermReq: 24 bytes of header and as many of the wrong one as there can be.
const TERM_MAX: usize = 152;

/// What both sides agreed on for the PDUs of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// Headers have a digest.
    pub header_digest: bool,
    /// Data have a digest.
    pub data_digest: bool,
    /// What the host asked for: data to it begin at a multiple of so many dwords and one.
    pub hpda: u8,
    /// What the controller asked for: data to it begin at a multiple of so many dwords and one.
    pub cpda: u8,
}

/// Something that the specification does not allow the controller to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// Returns a [`Violation`] unless the condition holds.
macro_rules! demand {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err($crate::pdu::Violation(format!($($what)+)));
        }
    };
}
pub(crate) use demand;

/// A PDU from the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Pdu {
    IcResp {
        header_digest: bool,
        data_digest: bool,
        cpda: u8,
        /// MAXH2CDATA.
        h2c_max: u32,
    },
    Resp {
        cid: u16,
        /// Status field, without the phase tag.
        status: u16,
        /// Dwords 0 and 1.
        result: u64,
        sq_head: u16,
    },
    Data {
        cid: u16,
        offset: u32,
        data: Vec<u8>,
        last: bool,
        success: bool,
    },
    R2t {
        cid: u16,
        ttag: u16,
        offset: u32,
        len: u32,
    },
    Term {
        /// FES.
        status: u16,
        /// FEI.
        information: u32,
        /// The header of the PDU that was wrong.
        header: Vec<u8>,
    },
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The PDU at the start of `b` and its length, if all of it is there.
///
/// Everything that the specification fixes is looked at; digests are verified.
pub fn read(b: &[u8], format: &Format) -> Result<Option<(Pdu, usize)>, Violation> {
    if b.len() < 8 {
        return Ok(None);
    }
    let (flags, hlen, plen) = (b[1], usize::from(b[2]), u32_at(b, 4) as usize);
    let expected = match b[0] {
        kind::IC_RESP => IC_LEN,
        kind::C2H_TERM | kind::CAPSULE_RESP | kind::C2H_DATA | kind::R2T => 24,
        other => return Err(Violation(format!("a PDU of type {other:#04x} for a host"))),
    };
    demand!(
        hlen == expected && plen >= hlen,
        "HLEN {hlen} and PLEN {plen} of a PDU of type {:#04x}",
        b[0]
    );
    if b.len() < plen {
        return Ok(None);
    }
    let b = &b[..plen];
    let is_digested = format.header_digest && !matches!(b[0], kind::IC_RESP | kind::C2H_TERM);
    demand!(
        (flags & HDGST != 0) == is_digested,
        "HDGSTF of {:02x?}",
        &b[..8]
    );
    let mut header_end = hlen;
    if is_digested {
        header_end += 4;
        demand!(plen >= header_end, "PLEN {plen} without a header digest");
        demand!(
            crc32c(&b[..hlen]) == u32_at(b, hlen),
            "the header digest of {:02x?}",
            &b[..header_end]
        );
    }
    let without_data = |name: &str| {
        demand!(plen == header_end, "PLEN {plen} of {name}");
        Ok(())
    };
    let pdu = match b[0] {
        kind::IC_RESP => {
            without_data("an ICResp")?;
            demand!(u16_at(b, 8) == 0, "PFV {} in an ICResp", u16_at(b, 8));
            demand!(b[10] <= 31, "CPDA {} in an ICResp", b[10]);
            Pdu::IcResp {
                header_digest: b[11] & 1 != 0,
                data_digest: b[11] & 2 != 0,
                cpda: b[10],
                h2c_max: u32_at(b, 12),
            }
        }
        kind::C2H_TERM => {
            demand!(plen <= TERM_MAX, "PLEN {plen} of a C2HTermReq");
            Pdu::Term {
                status: u16_at(b, 8),
                information: u32_at(b, 10),
                header: b[24..].to_vec(),
            }
        }
        kind::CAPSULE_RESP => {
            without_data("a response")?;
            Pdu::Resp {
                result: u64::from(u32_at(b, 8)) | u64::from(u32_at(b, 12)) << 32,
                sq_head: u16_at(b, 16),
                cid: u16_at(b, 20),
                status: u16_at(b, 22) >> 1,
            }
        }
        kind::C2H_DATA => read_data(b, header_end, format)?,
        _ => {
            without_data("an R2T")?;
            Pdu::R2t {
                cid: u16_at(b, 8),
                ttag: u16_at(b, 10),
                offset: u32_at(b, 12),
                len: u32_at(b, 16),
            }
        }
    };
    Ok(Some((pdu, plen)))
}

/// C2HData (3.6.2.9): a whole one.
fn read_data(b: &[u8], header_end: usize, format: &Format) -> Result<Pdu, Violation> {
    let (flags, pdo, len) = (b[1], usize::from(b[3]), u32_at(b, 16) as usize);
    demand!(
        pdo >= header_end,
        "PDO {pdo} inside the header of a C2HData"
    );
    let step = 4 * (usize::from(format.hpda) + 1);
    demand!(pdo % step == 0, "PDO {pdo}, where HPDA is {}", format.hpda);
    let is_digested = format.data_digest && len > 0;
    demand!(
        (flags & DDGST != 0) == is_digested,
        "DDGSTF of a C2HData of {len} bytes"
    );
    let end = pdo + len;
    demand!(
        b.len() == end + if is_digested { 4 } else { 0 },
        "PLEN {} of a C2HData with {len} bytes from {pdo} on",
        b.len()
    );
    demand!(
        b[header_end..pdo].iter().all(|&byte| byte == 0),
        "padding of a C2HData that is not zero"
    );
    let data = &b[pdo..end];
    if is_digested {
        demand!(
            crc32c(data) == u32_at(b, end),
            "the data digest of a C2HData of {len} bytes"
        );
    }
    let (last, success) = (flags & LAST != 0, flags & SUCCESS != 0);
    demand!(
        last || !success,
        "SUCCESS in a C2HData that is not the last"
    );
    Ok(Pdu::Data {
        cid: u16_at(b, 8),
        offset: u32_at(b, 12),
        data: data.to_vec(),
        last,
        success,
    })
}

impl Format {
    /// Appends a PDU: a common header, `fields`, `data`, padding and digests as agreed.
    pub fn write(&self, out: &mut Vec<u8>, pdu_type: u8, flags: u8, fields: &[u8], data: &[u8]) {
        let start = out.len();
        let hlen = 8 + fields.len();
        let header_end = hlen + if self.header_digest { 4 } else { 0 };
        let digested = self.data_digest && !data.is_empty();
        let pdo = match data.is_empty() {
            true => 0,
            false => header_end.next_multiple_of(4 * (usize::from(self.cpda) + 1)),
        };
        let plen = header_end.max(pdo) + data.len() + if digested { 4 } else { 0 };
        let mut flags = flags;
        flags |= if self.header_digest { HDGST } else { 0 };
        flags |= if digested { DDGST } else { 0 };
        out.reserve(plen);
        out.extend_from_slice(&[pdu_type, flags, hlen as u8, pdo as u8]);
        out.extend_from_slice(&(plen as u32).to_le_bytes());
        out.extend_from_slice(fields);
        if self.header_digest {
            let sum = crc32c(&out[start..]);
            out.extend_from_slice(&sum.to_le_bytes());
        }
        out.resize(out.len().max(start + pdo), 0);
        out.extend_from_slice(data);
        if digested {
            out.extend_from_slice(&crc32c(data).to_le_bytes());
        }
    }

    /// A command capsule (3.6.2.6) with `data` in it.
    pub fn capsule(&self, out: &mut Vec<u8>, sqe: &[u8; 64], data: &[u8]) {
        self.write(out, kind::CAPSULE_CMD, 0, sqe, data);
    }

    /// H2CData (3.6.2.8).
    pub fn h2c_data(
        &self,
        out: &mut Vec<u8>,
        cid: u16,
        ttag: u16,
        offset: u32,
        data: &[u8],
        last: bool,
    ) {
        let mut fields = [0; 16];
        fields[..2].copy_from_slice(&cid.to_le_bytes());
        fields[2..4].copy_from_slice(&ttag.to_le_bytes());
        fields[4..8].copy_from_slice(&offset.to_le_bytes());
        fields[8..12].copy_from_slice(&(data.len() as u32).to_le_bytes());
        let flags = if last { LAST } else { 0 };
        self.write(out, kind::H2C_DATA, flags, &fields, data);
    }
}

/// ICReq (3.6.2.2): what `format` asks for, and MAXR2T, which is 0 for one R2T at a time.
pub fn ic_req(format: &Format, max_r2t: u32) -> [u8; IC_LEN] {
    let mut pdu = [0; IC_LEN];
    pdu[0] = kind::IC_REQ;
    pdu[2] = IC_LEN as u8;
    pdu[4] = IC_LEN as u8;
    pdu[10] = format.hpda;
    pdu[11] = u8::from(format.header_digest) | u8::from(format.data_digest) << 1;
    pdu[12..16].copy_from_slice(&max_r2t.to_le_bytes());
    pdu
}
