//! Controller properties (base 3.1.3): CAP, VS, CC, CSTS.

use crate::command::PropertyWidth;
use crate::status::Status;

/// VS: NVM Express 2.0.0.
pub(super) const VERSION: u32 = 0x0002_0000;

mod offset {
    pub(super) const CAP: u32 = 0x00;
    pub(super) const VS: u32 = 0x08;
    pub(super) const CC: u32 = 0x14;
    pub(super) const CSTS: u32 = 0x1c;
}

const CC_EN: u32 = 1 << 0;
const CSTS_RDY: u32 = 1 << 0;
/// CSTS.SHST: shutdown processing occurring.
const CSTS_SHST_OCCURRING: u32 = 0b01 << 2;
/// CSTS.SHST: shutdown processing complete.
const CSTS_SHST_COMPLETE: u32 = 0b10 << 2;
/// CSTS.SHST, both bits.
const CSTS_SHST: u32 = 0b11 << 2;

/// The properties of one controller, and the state they stand for.
///
/// ```text
///            CC.EN = 1, quiet          CC.SHN ≠ 0               flushed, quiet
///  Disabled ─────────────────▶ Ready ────────────▶ Shutting down ─────────────▶ Shut down
///     ▲       CC.EN = 0, quiet   │                       │                          │
///     └──────────────────────────┴───────────────────────┴──────────────────────────┘
/// ```
///
/// It is quiet when nothing of what the host did before is under way. Until then CSTS.RDY stays what
/// it is (base 3.1.3.6, 3.7.2), and a shutdown is not complete: [`Properties::settle`] says that it is.
#[derive(Debug)]
pub(super) struct Properties {
    cap: u64,
    cc: u32,
    csts: u32,
    /// Every flush of a shutdown is done.
    is_flushed: bool,
}

/// What setting CC did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing that matters.
    None,
    /// The controller is to become ready.
    Enabled,
    /// The controller was reset; it is not ready once it is quiet.
    Disabled,
    /// The controller is to be shut down: see [`Properties::flushed`].
    ShutDown,
}

impl Properties {
    /// Those of a controller whose queues may have `queue_depth` entries.
    pub fn new(queue_depth: u16) -> Self {
        // CAP: MQES (zero's based), CQR, TO of 5 s, CSS bit 37: NVM command
        // set. MPSMIN and MPSMAX 0: 4 KiB, the unit of MDTS.
        let cap = u64::from(queue_depth - 1) | 1 << 16 | 10 << 24 | 1 << 37;
        Self {
            cap,
            cc: 0,
            csts: 0,
            is_flushed: false,
        }
    }

    /// Whether commands other than Fabrics are taken.
    pub fn is_ready(&self) -> bool {
        self.cc & CC_EN != 0 && self.csts & (CSTS_RDY | CSTS_SHST) == CSTS_RDY
    }

    /// Whether CSTS is to change once the controller is quiet.
    pub fn is_unsettled(&self) -> bool {
        let is_enabled = self.cc & CC_EN != 0;
        let is_ready = self.csts & CSTS_RDY != 0;
        is_enabled != is_ready || self.is_flushed && self.csts & CSTS_SHST == CSTS_SHST_OCCURRING
    }

    /// The controller is quiet. Whether it has become ready by that.
    pub fn settle(&mut self) -> bool {
        let was_ready = self.csts & CSTS_RDY != 0;
        if self.cc & CC_EN == 0 {
            self.csts = 0;
        } else {
            self.csts |= CSTS_RDY;
        }
        if self.is_flushed && self.csts & CSTS_SHST == CSTS_SHST_OCCURRING {
            self.csts = self.csts & !CSTS_SHST | CSTS_SHST_COMPLETE;
        }
        !was_ready && self.csts & CSTS_RDY != 0
    }

    /// Property Get (base 6.5).
    ///
    /// # Errors
    /// [`Status::INVALID_FIELD`] for a property that is not there, or not of that size.
    pub fn get(&self, at: u32, width: PropertyWidth) -> Result<u64, Status> {
        match (at, width) {
            (offset::CAP, PropertyWidth::Eight) => Ok(self.cap),
            (offset::VS, PropertyWidth::Four) => Ok(VERSION.into()),
            (offset::CC, PropertyWidth::Four) => Ok(self.cc.into()),
            (offset::CSTS, PropertyWidth::Four) => Ok(self.csts.into()),
            _ => Err(Status::INVALID_FIELD),
        }
    }

    /// Property Set (base 6.6). Only CC can be set.
    ///
    /// # Errors
    /// [`Status::INVALID_FIELD`] for any other property, and when enabling
    /// with a command set, arbitration or page size that CAP does not offer.
    pub fn set(&mut self, at: u32, width: PropertyWidth, value: u64) -> Result<Change, Status> {
        if (at, width) != (offset::CC, PropertyWidth::Four) {
            return Err(Status::INVALID_FIELD);
        }
        let (old, new) = (self.cc, value as u32);
        let starts = old & CC_EN == 0 && new & CC_EN != 0;
        // CSS 6:4, MPS 10:7, AMS 13:11: all zero is what CAP offers.
        if starts && new & 0x3ff0 != 0 {
            return Err(Status::INVALID_FIELD);
        }
        self.cc = new;
        if starts {
            // Enabled too early, it starts from not ready nevertheless.
            self.csts = 0;
            return Ok(Change::Enabled);
        }
        if old & CC_EN != 0 && new & CC_EN == 0 {
            self.csts &= CSTS_RDY;
            return Ok(Change::Disabled);
        }
        // SHN, bits 15:14: normal or abrupt.
        if new >> 14 & 0b11 != 0 && self.csts & CSTS_SHST == 0 {
            self.csts |= CSTS_SHST_OCCURRING;
            self.is_flushed = false;
            return Ok(Change::ShutDown);
        }
        Ok(Change::None)
    }

    /// All that was written is non-volatile: shutdown processing is complete (base 3.6.2) once the
    /// controller is quiet, unless it is reset before.
    pub fn flushed(&mut self) {
        self.is_flushed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PropertyWidth::{Eight, Four};

    #[test]
    fn base_3_5_the_controller_state_follows_cc() {
        let mut p = Properties::new(128);
        assert_eq!(p.get(0x1c, Four), Ok(0));
        assert!(!p.is_ready());
        assert_eq!(p.set(0x14, Four, 0x0046_0001), Ok(Change::Enabled));
        assert_eq!(p.get(0x1c, Four), Ok(0));
        assert!(!p.is_ready() && p.is_unsettled());
        assert!(p.settle());
        assert_eq!(p.get(0x1c, Four), Ok(1));
        assert!(p.is_ready() && !p.is_unsettled());
        assert_eq!(p.set(0x14, Four, 0x0046_0001), Ok(Change::None));
        assert_eq!(p.set(0x14, Four, 0x0046_4001), Ok(Change::ShutDown));
        assert_eq!(p.get(0x1c, Four), Ok(0b0101));
        assert!(!p.is_ready());
        assert!(!p.is_unsettled());
        p.flushed();
        assert_eq!(p.get(0x1c, Four), Ok(0b0101));
        assert!(p.is_unsettled() && !p.settle());
        assert_eq!(p.get(0x1c, Four), Ok(0b1001));
        assert!(!p.is_ready() && !p.is_unsettled());
        assert_eq!(p.set(0x14, Four, 0), Ok(Change::Disabled));
        assert_eq!(p.get(0x1c, Four), Ok(1));
        assert!(!p.is_ready() && p.is_unsettled());
        p.flushed();
        assert!(!p.settle());
        assert_eq!(p.get(0x1c, Four), Ok(0));
        assert_eq!(p.set(0x14, Four, 0x0046_0001), Ok(Change::Enabled));
        assert!(p.settle() && p.is_ready());
    }

    #[test]
    fn base_3_7_2_enabled_before_it_is_quiet_a_controller_is_not_ready() {
        let mut p = Properties::new(128);
        p.set(0x14, Four, 1).unwrap();
        p.settle();
        assert_eq!(p.set(0x14, Four, 0), Ok(Change::Disabled));
        assert_eq!(p.get(0x1c, Four), Ok(1));
        assert_eq!(p.set(0x14, Four, 1), Ok(Change::Enabled));
        assert_eq!(p.get(0x1c, Four), Ok(0));
        assert!(!p.is_ready() && p.is_unsettled());
        assert!(p.settle() && p.is_ready());
    }

    #[test]
    fn properties_that_are_not_there_are_invalid_fields() {
        let mut p = Properties::new(128);
        assert_eq!(p.get(0, Four), Err(Status::INVALID_FIELD));
        assert_eq!(p.get(0x20, Four), Err(Status::INVALID_FIELD));
        assert_eq!(p.set(0x1c, Four, 1), Err(Status::INVALID_FIELD));
        assert_eq!(p.set(0x14, Four, 0x11), Err(Status::INVALID_FIELD));
        assert_eq!(p.get(0x14, Four), Ok(0));
    }

    #[test]
    fn cap_says_what_is_offered() {
        let cap = Properties::new(128).get(0, Eight).unwrap();
        assert_eq!(cap & 0xffff, 127);
        assert_eq!(cap >> 37 & 1, 1);
        assert_eq!(cap >> 48 & 0xff, 0);
    }
}
