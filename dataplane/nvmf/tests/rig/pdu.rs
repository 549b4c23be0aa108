//! What the controller sends, read byte by byte.

use super::host::Manners;

/// CRC32C bit by bit: polynomial 1EDC6F41h reflected.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

/// A PDU from the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pdu {
    IcResp {
        header_digest: bool,
        data_digest: bool,
        h2c_max: u32,
    },
    Resp {
        cid: u16,
        status: u16,
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
        status: u16,
        information: u32,
        header: Vec<u8>,
    },
}

/// The PDU at the start of `b` and its length, if all of it is there.
///
/// Everything that the specification fixes is asserted.
pub fn read(b: &[u8], manners: &Manners) -> Option<(Pdu, usize)> {
    if b.len() < 8 {
        return None;
    }
    let u16_at = |at: usize| u16::from_le_bytes([b[at], b[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
    let (flags, hlen, pdo, plen) = (b[1], b[2] as usize, b[3] as usize, u32_at(4) as usize);
    if b.len() < plen {
        return None;
    }
    let digests = !matches!(b[0], 1 | 3);
    let hd = digests && manners.header_digest;
    assert_eq!(flags & 1 == 1, hd, "HDGSTF of {:x?}", &b[..8]);
    if hd {
        assert_eq!(crc32c(&b[..hlen]), u32_at(hlen), "header digest");
    }
    let end_of_header = hlen + if hd { 4 } else { 0 };
    let pdu = match b[0] {
        1 => {
            assert_eq!((hlen, plen), (128, 128));
            assert_eq!((u16_at(8), b[10]), (0, 0), "PFV and CPDA");
            Pdu::IcResp {
                header_digest: b[11] & 1 == 1,
                data_digest: b[11] & 2 == 2,
                h2c_max: u32_at(12),
            }
        }
        3 => {
            assert_eq!(hlen, 24);
            assert!(plen <= 152);
            Pdu::Term {
                status: u16_at(8),
                information: u32_at(10),
                header: b[24..plen].to_vec(),
            }
        }
        5 => {
            assert_eq!((hlen, plen), (24, end_of_header));
            Pdu::Resp {
                result: u64::from_le_bytes(b[8..16].try_into().unwrap()),
                sq_head: u16_at(16),
                cid: u16_at(20),
                status: u16_at(22) >> 1,
            }
        }
        7 => {
            assert_eq!(hlen, 24);
            assert!(pdo >= end_of_header);
            assert_eq!(pdo % (4 * (usize::from(manners.hpda) + 1)), 0, "HPDA");
            let len = u32_at(16) as usize;
            let dd = manners.data_digest;
            assert_eq!(flags >> 1 & 1 == 1, dd, "DDGSTF");
            assert_eq!(plen, pdo + len + if dd { 4 } else { 0 });
            assert!(b[end_of_header..pdo].iter().all(|&b| b == 0), "padding");
            if dd {
                assert_eq!(crc32c(&b[pdo..pdo + len]), u32_at(pdo + len), "data digest");
            }
            Pdu::Data {
                cid: u16_at(8),
                offset: u32_at(12),
                data: b[pdo..pdo + len].to_vec(),
                last: flags & 4 != 0,
                success: flags & 8 != 0,
            }
        }
        9 => {
            assert_eq!((hlen, plen), (24, end_of_header));
            Pdu::R2t {
                cid: u16_at(8),
                ttag: u16_at(10),
                offset: u32_at(12),
                len: u32_at(16),
            }
        }
        other => panic!("a PDU of type {other} for a host"),
    };
    Some((pdu, plen))
}
