//! Setting up and terminating a connection: ICReq, ICResp and the terminate requests.

use super::header::{
    FatalError, FatalStatus, Flags, Format, HeaderBytes, HeaderView, PduType, TERM_DATA_MAX,
};

/// Initialize Connection Request (NVMe/TCP 3.6.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcReq {
    /// Alignment of the data the host wants to receive, in bytes: 4 to 128
    /// (HPDA, a number of dwords minus one).
    pub host_alignment: u8,
    /// The host requests header digests.
    pub header_digest: bool,
    /// The host requests data digests.
    pub data_digest: bool,
    /// Outstanding R2Ts the host takes for one command, at least 1 (MAXR2T is
    /// one less).
    pub r2ts_max: u64,
}

/// PFV: the one PDU format version there is.
const FORMAT_VERSION: u16 = 0;

impl IcReq {
    /// Decodes an ICReq PDU whose common header was checked.
    ///
    /// # Errors
    /// [`FatalStatus::UnsupportedParameter`] for another format version,
    /// [`FatalStatus::InvalidHeaderField`] for an alignment beyond 128 bytes.
    pub fn read(view: &HeaderView<'_>) -> Result<Self, FatalError> {
        if view.u16_at(8) != FORMAT_VERSION {
            return Err(FatalError {
                status: FatalStatus::UnsupportedParameter,
                information: 8,
            });
        }
        let dwords = view.bytes()[10];
        if dwords > 31 {
            return Err(FatalError::invalid_field(10));
        }
        let digests = view.bytes()[11];
        Ok(Self {
            host_alignment: (dwords + 1) * 4,
            header_digest: digests & 1 != 0,
            data_digest: digests & 2 != 0,
            r2ts_max: u64::from(view.u32_at(12)) + 1,
        })
    }

    /// Encodes an ICReq PDU's header.
    pub fn write(&self) -> HeaderBytes {
        let mut out = HeaderBytes::begin(PduType::IcReq, Flags::default(), 0, Format::default());
        out.put(
            10,
            [
                self.host_alignment / 4 - 1,
                digests(self.header_digest, self.data_digest),
            ],
        );
        let maxr2t = u32::try_from(self.r2ts_max.saturating_sub(1)).unwrap_or(u32::MAX);
        out.put(12, maxr2t.to_le_bytes());
        out.seal();
        out
    }
}

/// Initialize Connection Response (NVMe/TCP 3.6.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcResp {
    /// Header digests are used.
    pub header_digest: bool,
    /// Data digests are used.
    pub data_digest: bool,
    /// Most bytes of data in an H2CData PDU (MAXH2CDATA).
    pub h2c_data_max: u32,
}

impl IcResp {
    /// Decodes an ICResp PDU whose common header was checked;
    /// CPDA other than 0 is not produced here and is not read.
    ///
    /// # Errors
    /// As [`IcReq::read`].
    pub fn read(view: &HeaderView<'_>) -> Result<Self, FatalError> {
        if view.u16_at(8) != FORMAT_VERSION {
            return Err(FatalError {
                status: FatalStatus::UnsupportedParameter,
                information: 8,
            });
        }
        let digests = view.bytes()[11];
        Ok(Self {
            header_digest: digests & 1 != 0,
            data_digest: digests & 2 != 0,
            h2c_data_max: view.u32_at(12),
        })
    }

    /// Encodes an ICResp PDU. CPDA is 0: some hosts take no other.
    pub fn write(&self) -> HeaderBytes {
        let mut out = HeaderBytes::begin(PduType::IcResp, Flags::default(), 0, Format::default());
        out.put(11, [digests(self.header_digest, self.data_digest)]);
        out.put(12, self.h2c_data_max.to_le_bytes());
        out.seal();
        out
    }
}

/// DGST: bit 0 header, bit 1 data.
fn digests(header: bool, data: bool) -> u8 {
    u8::from(header) | u8::from(data) << 1
}

/// A terminate request of either direction (NVMe/TCP 3.6.2.4, 3.6.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermReq {
    /// FES, as a number: a host may send one that has no name here.
    pub status: u16,
    /// FEI.
    pub information: u32,
}

impl TermReq {
    /// Decodes a terminate request PDU whose common header was checked.
    pub fn read(view: &HeaderView<'_>) -> Self {
        Self {
            status: view.u16_at(8),
            information: view.u32_at(10),
        }
    }

    /// Encodes a C2HTermReq PDU about `header`, the header in error (cut after
    /// 128 bytes).
    pub fn write(&self, header: &[u8]) -> HeaderBytes {
        let mut out =
            HeaderBytes::begin(PduType::C2hTermReq, Flags::default(), 0, Format::default());
        out.put(8, self.status.to_le_bytes());
        out.put(10, self.information.to_le_bytes());
        out.append(&header[..header.len().min(TERM_DATA_MAX)]);
        out
    }
}

impl From<FatalError> for TermReq {
    fn from(error: FatalError) -> Self {
        Self {
            status: error.status as u16,
            information: error.information,
        }
    }
}
