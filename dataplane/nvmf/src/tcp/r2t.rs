//! Ready to Transfer: how data that is not in a capsule is fetched over TCP
//! (NVMe/TCP 3.3.3.1, 3.6.2.10).

use mutant::mutant;

use super::pdu::{FatalError, FatalStatus, H2cData, R2t};
use crate::queue::slots::{Slot, SlotIndex, SlotState};
use crate::units::{Timestamp, Ttag};

/// The R2Ts of a connection. One per command is out at a time, whatever MAXR2T allows.
#[derive(Debug)]
pub(super) struct R2ts {
    /// Most bytes that one requests: as many as one H2CData PDU may carry (MAXH2CDATA).
    bytes_max: u32,
    /// R2Ts that were sent and whose data has not all come.
    outstanding: u16,
}

impl R2ts {
    /// None yet; each of them may request `bytes_max` bytes.
    pub fn new(bytes_max: u32) -> Self {
        Self {
            bytes_max,
            outstanding: 0,
        }
    }

    /// Whether the host has been requested to send anything that it has not sent.
    #[inline]
    pub fn any_outstanding(&self) -> bool {
        self.outstanding > 0
    }

    /// Whether an R2T of the command is out.
    #[inline]
    pub fn is_outstanding(slot: &Slot) -> bool {
        slot.state == SlotState::Fetching && slot.requested > slot.moved
    }

    /// The next R2T of the command in `index`.
    #[inline]
    pub fn next(&self, index: SlotIndex, slot: &Slot) -> R2t {
        R2t {
            cid: slot.cid,
            ttag: Ttag(index.0),
            offset: slot.moved,
            len: self.bytes_max.min(slot.len - slot.moved)
                + if mutant!("r2t-too-long") { 4 } else { 0 },
        }
    }

    /// `r2t` of the command was sent.
    #[inline]
    pub fn sent(&mut self, r2t: &R2t, slot: &mut Slot, now: Timestamp) {
        slot.requested = r2t.offset + r2t.len;
        slot.since = now;
        self.outstanding += 1;
    }

    /// Checks `data` against the R2T of `slot` that it is for: in order, without
    /// gaps, within the R2T.
    ///
    /// # Errors
    /// What to terminate the connection with.
    #[inline]
    pub fn check(&self, data: &H2cData, slot: &Slot) -> Result<(), FatalError> {
        if slot.cid != data.cid {
            return Err(FatalError::invalid_field(8));
        }
        if data.len > self.bytes_max {
            return Err(FatalError::plain(FatalStatus::DataLimitExceeded));
        }
        let end = data.offset.checked_add(data.len);
        let end = end.filter(|&end| data.offset == slot.moved && end <= slot.requested);
        let end = end.ok_or(FatalError::plain(FatalStatus::DataOutOfRange))?;
        if data.last && end < slot.requested {
            // LAST_PDU in FLAGS, but data of the R2T is missing.
            return Err(FatalError::invalid_field(1));
        }
        Ok(())
    }

    /// All data of the command's R2T has come; whether another one is to be sent.
    #[inline]
    pub fn complete(&mut self, slot: &Slot) -> bool {
        self.outstanding -= 1;
        slot.moved < slot.len && slot.status.is_success()
    }
}
