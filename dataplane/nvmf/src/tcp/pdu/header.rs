//! The common header (NVMe/TCP 3.6.1) and what must hold for every PDU.

use pages::Inline;

use crate::bytes::{crc32c, put, u16_at, u32_at};

/// Length of a header or data digest in bytes.
pub(crate) const DIGEST_LEN: usize = 4;

/// Type of a PDU (NVMe/TCP 3.6.1, Figure 17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PduType {
    /// Initialize Connection Request, host to controller.
    IcReq = 0x00,
    /// Initialize Connection Response, controller to host.
    IcResp = 0x01,
    /// Host to Controller Terminate Connection Request.
    H2cTermReq = 0x02,
    /// Controller to Host Terminate Connection Request.
    C2hTermReq = 0x03,
    /// Command Capsule, host to controller.
    CapsuleCmd = 0x04,
    /// Response Capsule, controller to host.
    CapsuleResp = 0x05,
    /// Host to Controller Data Transfer.
    H2cData = 0x06,
    /// Controller to Host Data Transfer.
    C2hData = 0x07,
    /// Ready to Transfer, controller to host.
    R2t = 0x09,
}

impl PduType {
    /// The type numbered `byte`.
    #[inline]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x00 => PduType::IcReq,
            0x01 => PduType::IcResp,
            0x02 => PduType::H2cTermReq,
            0x03 => PduType::C2hTermReq,
            0x04 => PduType::CapsuleCmd,
            0x05 => PduType::CapsuleResp,
            0x06 => PduType::H2cData,
            0x07 => PduType::C2hData,
            0x09 => PduType::R2t,
            _ => return None,
        })
    }

    /// HLEN of this type in bytes.
    #[inline]
    pub const fn header_len(self) -> usize {
        match self {
            PduType::IcReq | PduType::IcResp => 128,
            PduType::CapsuleCmd => 72,
            _ => 24,
        }
    }

    /// Whether the host sends it.
    #[inline]
    pub const fn is_from_host(self) -> bool {
        matches!(
            self,
            PduType::IcReq | PduType::H2cTermReq | PduType::CapsuleCmd | PduType::H2cData
        )
    }

    /// Whether digests apply to it at all: not to connection set-up and
    /// termination (NVMe/TCP 3.3.2).
    #[inline]
    const fn has_digests(self) -> bool {
        !matches!(
            self,
            PduType::IcReq | PduType::IcResp | PduType::H2cTermReq | PduType::C2hTermReq
        )
    }

    /// Whether it may carry data.
    const fn may_have_data(self) -> bool {
        matches!(
            self,
            PduType::CapsuleCmd | PduType::H2cData | PduType::C2hData
        )
    }
}

/// FLAGS of the common header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// HDGSTF: a header digest follows the header.
    pub const HEADER_DIGEST: Flags = Flags(1 << 0);
    /// DDGSTF: a data digest follows the data.
    pub const DATA_DIGEST: Flags = Flags(1 << 1);
    /// LAST_PDU: the last data PDU of a command or of an R2T.
    pub const LAST: Flags = Flags(1 << 2);
    /// SUCCESS: the command is complete; no response capsule follows.
    pub const SUCCESS: Flags = Flags(1 << 3);

    /// Whether all of `other` are set.
    #[inline]
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and, if `set`, `other`.
    #[inline]
    pub fn with(self, other: Flags, set: bool) -> Flags {
        if set { Flags(self.0 | other.0) } else { self }
    }
}

/// What ICReq and ICResp agreed on (NVMe/TCP 3.6.2.2, 3.6.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Header digests in both directions.
    pub header_digest: bool,
    /// Data digests in both directions.
    pub data_digest: bool,
    /// Data of the PDUs we send starts at a multiple of this: 4 to 128 bytes
    /// (from HPDA).
    pub alignment: u8,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            alignment: 4,
        }
    }
}

impl Format {
    /// Bytes of header and header digest of a PDU of type `pdu_type`.
    #[inline]
    pub fn header_len(self, pdu_type: PduType) -> usize {
        let digest = self.header_digest && pdu_type.has_digests();
        pdu_type.header_len() + if digest { DIGEST_LEN } else { 0 }
    }
}

/// Fatal Error Status (NVMe/TCP 3.6.2.5, Figure 23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum FatalStatus {
    /// A field of the header is invalid; FEI is its offset.
    InvalidHeaderField = 1,
    /// A PDU that may not come now.
    SequenceError = 2,
    /// The header digest does not match; FEI is the received one.
    HeaderDigestError = 3,
    /// Data outside the range of its R2T.
    DataOutOfRange = 4,
    /// More data than MAXH2CDATA in a PDU (from a host: more R2Ts than MAXR2T).
    DataLimitExceeded = 5,
    /// A parameter is not supported; FEI is its offset.
    UnsupportedParameter = 6,
}

impl FatalStatus {
    /// Every status, in the order of its number.
    pub const ALL: [FatalStatus; 6] = [
        FatalStatus::InvalidHeaderField,
        FatalStatus::SequenceError,
        FatalStatus::HeaderDigestError,
        FatalStatus::DataOutOfRange,
        FatalStatus::DataLimitExceeded,
        FatalStatus::UnsupportedParameter,
    ];

    /// The name counters and logs use.
    pub const fn name(self) -> &'static str {
        match self {
            FatalStatus::InvalidHeaderField => "invalid_header_field",
            FatalStatus::SequenceError => "sequence_error",
            FatalStatus::HeaderDigestError => "header_digest_error",
            FatalStatus::DataOutOfRange => "data_out_of_range",
            FatalStatus::DataLimitExceeded => "data_limit_exceeded",
            FatalStatus::UnsupportedParameter => "unsupported_parameter",
        }
    }
}

/// An error that ends the connection (NVMe/TCP 3.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FatalError {
    /// FES.
    pub status: FatalStatus,
    /// FEI: where in the header, or which digest.
    pub information: u32,
}

impl FatalError {
    /// The field at `offset` is invalid.
    pub const fn invalid_field(offset: u32) -> Self {
        Self {
            status: FatalStatus::InvalidHeaderField,
            information: offset,
        }
    }

    /// An error whose FEI says nothing.
    pub const fn plain(status: FatalStatus) -> Self {
        Self {
            status,
            information: 0,
        }
    }
}

/// A PDU header whose common fields are consistent.
#[derive(Clone, Copy, Debug)]
pub struct HeaderView<'a> {
    /// Exactly HLEN bytes.
    bytes: &'a [u8],
    pdu_type: PduType,
    data_offset: u8,
    data_len: u32,
}

/// Offset of FLAGS in the common header.
const FLAGS_AT: u32 = 1;
/// Offset of HLEN.
const HLEN_AT: u32 = 2;
/// Offset of PDO.
const PDO_AT: u32 = 3;
/// Offset of PLEN.
const PLEN_AT: u32 = 4;

impl<'a> HeaderView<'a> {
    /// Length of the common header in bytes.
    pub const COMMON_LEN: usize = 8;
    /// Longest header with its digest, in bytes.
    pub const LEN_MAX: usize = 128;

    /// Checks the header at the start of `bytes`, which must hold
    /// [`Format::header_len`] bytes: type, HLEN, flags, PDO, PLEN and header digest.
    ///
    /// # Errors
    /// What to terminate the connection with.
    #[inline]
    pub fn check(bytes: &'a [u8], format: Format) -> Result<Self, FatalError> {
        let pdu_type = bytes.first().copied().and_then(PduType::from_byte);
        let pdu_type = pdu_type.ok_or(FatalError::invalid_field(0))?;
        let hlen = pdu_type.header_len();
        let whole = format.header_len(pdu_type);
        if bytes.len() < whole || bytes[2] as usize != hlen {
            return Err(FatalError::invalid_field(HLEN_AT));
        }
        let flags = Flags(bytes[1]);
        if flags.has(Flags::HEADER_DIGEST) != (whole > hlen) {
            return Err(FatalError::invalid_field(FLAGS_AT));
        }
        // The digest comes first among what is left: with a damaged header
        // nothing else in it means anything.
        if whole > hlen {
            let received = u32_at(bytes, hlen);
            if received != crc32c(0, &bytes[..hlen]) {
                return Err(FatalError {
                    status: FatalStatus::HeaderDigestError,
                    information: received,
                });
            }
        }
        let plen = u32_at(bytes, 4) as usize;
        let pdo = bytes[3] as usize;
        let mut data_offset = whole;
        let mut data_len = 0;
        if !pdu_type.may_have_data() {
            // A terminate request carries the header in error behind its own.
            let terminate = matches!(pdu_type, PduType::H2cTermReq | PduType::C2hTermReq);
            if terminate && (whole..=whole + TERM_DATA_MAX).contains(&plen) {
                data_len = plen - whole;
            } else if plen != whole {
                return Err(FatalError::invalid_field(PLEN_AT));
            }
        } else if plen != whole {
            // PDO: behind the header, on a dword (CPDA is 0 in our ICResp).
            if pdo < whole || !pdo.is_multiple_of(4) {
                return Err(FatalError::invalid_field(PDO_AT));
            }
            if flags.has(Flags::DATA_DIGEST) != format.data_digest {
                return Err(FatalError::invalid_field(FLAGS_AT));
            }
            let trailer = if format.data_digest { DIGEST_LEN } else { 0 };
            match plen.checked_sub(pdo + trailer) {
                Some(n) if n > 0 => data_len = n,
                _ => return Err(FatalError::invalid_field(PLEN_AT)),
            }
            data_offset = pdo;
        } else if !matches!(pdu_type, PduType::CapsuleCmd) {
            // H2CData and C2HData without data mean nothing.
            return Err(FatalError::invalid_field(PLEN_AT));
        }
        Ok(Self {
            bytes: &bytes[..hlen],
            pdu_type,
            data_offset: data_offset as u8,
            data_len: data_len as u32,
        })
    }

    /// PDU-Type.
    #[inline]
    pub fn pdu_type(&self) -> PduType {
        self.pdu_type
    }

    /// FLAGS.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(self.bytes[1])
    }

    /// Where the data begins, or would: bytes from the start of the PDU.
    #[inline]
    pub fn data_offset(&self) -> usize {
        self.data_offset as usize
    }

    /// Bytes of data, without padding and digests.
    #[inline]
    pub fn data_len(&self) -> u32 {
        self.data_len
    }

    /// The header, without its digest.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub(super) fn u16_at(&self, at: usize) -> u16 {
        u16_at(self.bytes, at)
    }

    #[inline]
    pub(super) fn u32_at(&self, at: usize) -> u32 {
        u32_at(self.bytes, at)
    }
}

/// Most bytes of the header in error that a terminate request carries
/// (NVMe/TCP 3.6.2.4: PLEN is at most 152).
pub(crate) const TERM_DATA_MAX: usize = 128;

/// A header ready to be sent: with its digest, and padded up to its data.
#[derive(Clone, Copy)]
pub struct HeaderBytes {
    bytes: [u8; HeaderBytes::CAPACITY],
    len: u8,
}

impl HeaderBytes {
    /// Room for the longest: a terminate request with the header in error.
    pub const CAPACITY: usize = 24 + TERM_DATA_MAX;

    /// A header of `pdu_type` with type-specific bytes still zero, for
    /// `data_len` bytes of data. [`HeaderBytes::seal`] adds the digest.
    #[inline]
    pub(super) fn begin(pdu_type: PduType, flags: Flags, data_len: u32, format: Format) -> Self {
        let whole = format.header_len(pdu_type);
        let hlen = pdu_type.header_len();
        let mut header = Self {
            bytes: [0; Self::CAPACITY],
            len: whole as u8,
        };
        let mut plen = whole as u32;
        let mut flags = flags.with(Flags::HEADER_DIGEST, whole > hlen);
        if data_len > 0 && pdu_type.may_have_data() {
            let pdo = whole.next_multiple_of(usize::from(format.alignment.max(4)));
            header.bytes[3] = pdo as u8;
            header.len = pdo as u8;
            flags = flags.with(Flags::DATA_DIGEST, format.data_digest);
            plen = pdo as u32 + data_len;
            plen += if format.data_digest {
                DIGEST_LEN as u32
            } else {
                0
            };
        }
        header.bytes[0] = pdu_type as u8;
        header.bytes[1] = flags.0;
        header.bytes[2] = hlen as u8;
        put(&mut header.bytes, 4, plen.to_le_bytes());
        header
    }

    #[inline]
    pub(super) fn put(&mut self, at: usize, field: impl AsRef<[u8]>) {
        put(&mut self.bytes, at, field);
    }

    /// Adds `data` behind the header, for terminate requests, and to PLEN.
    pub(super) fn append(&mut self, data: &[u8]) {
        let start = self.len as usize;
        self.put(start, data);
        self.len += data.len() as u8;
        let plen = u32::from(self.len);
        self.put(4, plen.to_le_bytes());
    }

    /// Adds the header digest if the header has one.
    #[inline]
    pub(super) fn seal(&mut self) {
        if Flags(self.bytes[1]).has(Flags::HEADER_DIGEST) {
            let hlen = self.bytes[2] as usize;
            let digest = crc32c(0, &self.bytes[..hlen]);
            self.put(hlen, digest.to_le_bytes());
        }
    }

    /// The bytes to send.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// The same by value, if they are no more than that takes.
    #[inline]
    pub(crate) fn inline(&self) -> Option<Inline> {
        let first = self.bytes.first_chunk()?;
        let fits = usize::from(self.len) <= Inline::CAPACITY;
        fits.then(|| Inline::first(self.len.into(), first))
    }
}
