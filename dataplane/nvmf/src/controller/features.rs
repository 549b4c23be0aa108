//! Features of a controller (base 5.27.1).

use super::Controller;
use crate::command::FeatureSelect;
use crate::status::Status;

/// Granularity of the Keep Alive Timer in units of 100 ms (KAS).
pub(super) const KEEP_ALIVE_GRANULARITY: u16 = 10;

pub(super) mod fid {
    pub(crate) const ARBITRATION: u8 = 0x01;
    pub(crate) const POWER_MANAGEMENT: u8 = 0x02;
    pub(crate) const TEMPERATURE_THRESHOLD: u8 = 0x04;
    pub(crate) const ERROR_RECOVERY: u8 = 0x05;
    pub(crate) const VOLATILE_WRITE_CACHE: u8 = 0x06;
    pub(crate) const NUMBER_OF_QUEUES: u8 = 0x07;
    pub(crate) const WRITE_ATOMICITY: u8 = 0x0a;
    pub(crate) const ASYNC_EVENTS: u8 = 0x0b;
    pub(crate) const KEEP_ALIVE_TIMER: u8 = 0x0f;
    pub(crate) const HOST_BEHAVIOR: u8 = 0x16;
    pub(crate) const HOST_IDENTIFIER: u8 = 0x81;
}

/// Whether a feature is the NVM command set's, and not available of a namespace that commands do not get
/// to (base 8.1.4; NVM 4.1.3).
pub(super) fn is_of_command_set(fid: u8) -> bool {
    matches!(fid, fid::ERROR_RECOVERY | fid::WRITE_ATOMICITY)
}

/// Bytes of Host Behavior Support (base 5.27.1.18).
pub(super) const HOST_BEHAVIOR_LEN: u32 = 512;
/// Bytes of an extended Host Identifier, the only kind over fabrics.
const HOST_IDENTIFIER_LEN: u32 = 16;

/// Values that belong to the Admin Queue alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    arbitration: u32,
    temperature_threshold: u32,
    error_recovery: u32,
    write_atomicity: u32,
    /// Asynchronous Event Configuration.
    pub async_events: u32,
    /// Keep Alive Timeout in milliseconds; 0 is off.
    pub keep_alive_ms: u32,
}

impl Features {
    /// As they are after Connect.
    pub fn new(keep_alive_ms: u32) -> Self {
        Self {
            keep_alive_ms: granular(keep_alive_ms),
            ..Self::DEFAULT
        }
    }

    /// As they are after a reset; the Keep Alive Timer stays.
    pub fn reset(&mut self) {
        *self = Self {
            keep_alive_ms: self.keep_alive_ms,
            ..Self::DEFAULT
        };
    }

    const DEFAULT: Features = Features {
        arbitration: 0,
        // 70 °C; kept for hosts that set it. Drives warn by their own.
        temperature_threshold: 343,
        error_recovery: 0,
        write_atomicity: 0,
        async_events: 0,
        keep_alive_ms: 0,
    };

    /// The identifiers `controller` has, in order.
    pub fn of(controller: &Controller) -> &'static [u8] {
        match controller.subsystem {
            None => &[fid::ASYNC_EVENTS, fid::KEEP_ALIVE_TIMER],
            Some(_) => &[
                fid::ARBITRATION,
                fid::POWER_MANAGEMENT,
                fid::TEMPERATURE_THRESHOLD,
                fid::ERROR_RECOVERY,
                fid::VOLATILE_WRITE_CACHE,
                fid::NUMBER_OF_QUEUES,
                fid::WRITE_ATOMICITY,
                fid::ASYNC_EVENTS,
                fid::KEEP_ALIVE_TIMER,
                fid::HOST_BEHAVIOR,
                fid::HOST_IDENTIFIER,
            ],
        }
    }

    /// Bytes of data that Get Features returns for `fid`; 0 if the value is dword 0.
    pub fn data_len(fid: u8) -> u32 {
        match fid {
            fid::HOST_BEHAVIOR => HOST_BEHAVIOR_LEN,
            fid::HOST_IDENTIFIER => HOST_IDENTIFIER_LEN,
            _ => 0,
        }
    }

    /// Get Features (base 5.15): dword 0.
    ///
    /// # Errors
    /// [`Status::INVALID_FIELD`] if there is no such feature.
    pub fn get(
        &self,
        fid: u8,
        select: FeatureSelect,
        controller: &Controller,
        has_cache: bool,
    ) -> Result<u32, Status> {
        if !Self::of(controller).contains(&fid) || (fid == fid::VOLATILE_WRITE_CACHE && !has_cache)
        {
            return Err(Status::INVALID_FIELD);
        }
        match select {
            FeatureSelect::Current => Ok(self.current(fid, controller)),
            // Nothing is saveable, so what is saved is the default.
            FeatureSelect::Default | FeatureSelect::Saved => Ok(Self::default(fid, controller)),
            // Bit 2: changeable; not saveable, not namespace specific.
            FeatureSelect::Capabilities => Ok(if fid == fid::HOST_IDENTIFIER {
                0
            } else {
                1 << 2
            }),
        }
    }

    fn current(&self, fid: u8, controller: &Controller) -> u32 {
        match fid {
            fid::ARBITRATION => self.arbitration,
            fid::TEMPERATURE_THRESHOLD => self.temperature_threshold,
            fid::ERROR_RECOVERY => self.error_recovery,
            fid::VOLATILE_WRITE_CACHE => controller.write_cache().into(),
            fid::NUMBER_OF_QUEUES => queues(controller.granted_queues()),
            fid::WRITE_ATOMICITY => self.write_atomicity,
            fid::ASYNC_EVENTS => self.async_events,
            fid::KEEP_ALIVE_TIMER => self.keep_alive_ms,
            _ => 0,
        }
    }

    fn default(fid: u8, controller: &Controller) -> u32 {
        match fid {
            fid::VOLATILE_WRITE_CACHE => 1,
            fid::NUMBER_OF_QUEUES => queues(
                controller
                    .subsystem
                    .as_ref()
                    .map_or(0, |s| s.config.max_queues),
            ),
            _ => Self::DEFAULT.current(fid, controller),
        }
    }

    /// Set Features (base 5.27) of one whose value is in the command: dword 0.
    ///
    /// # Errors
    /// [`Status::INVALID_FIELD`] for an unknown feature or value;
    /// [`Status::COMMAND_SEQUENCE_ERROR`] for what may not change any more.
    pub fn set(
        &mut self,
        fid: u8,
        value: u32,
        controller: &Controller,
        has_cache: bool,
    ) -> Result<u32, Status> {
        if !Self::of(controller).contains(&fid) {
            return Err(Status::INVALID_FIELD);
        }
        match fid {
            fid::ARBITRATION => self.arbitration = value,
            // One power state, 0.
            fid::POWER_MANAGEMENT if value & 0x1f == 0 => {}
            fid::TEMPERATURE_THRESHOLD => self.temperature_threshold = value & 0xffff,
            // DULBE, bit 16, is not supported.
            fid::ERROR_RECOVERY if value >> 16 & 1 == 0 => self.error_recovery = value & 0xffff,
            fid::VOLATILE_WRITE_CACHE if has_cache => controller.set_write_cache(value & 1 == 1),
            fid::NUMBER_OF_QUEUES => {
                // NSQR 15:0 and NCQR 31:16, zero's based; 65,535 is invalid.
                let (sqs, cqs) = (value & 0xffff, value >> 16);
                if sqs == 0xffff || cqs == 0xffff {
                    return Err(Status::INVALID_FIELD);
                }
                let requested = sqs.min(cqs) as u16 + 1;
                return controller.grant_queues(requested).map(queues);
            }
            fid::WRITE_ATOMICITY => self.write_atomicity = value & 1,
            fid::ASYNC_EVENTS => self.async_events = value,
            fid::KEEP_ALIVE_TIMER => self.keep_alive_ms = granular(value),
            // Connect has said who the host is (base 5.27.1.25).
            fid::HOST_IDENTIFIER => return Err(Status::COMMAND_SEQUENCE_ERROR),
            _ => return Err(Status::INVALID_FIELD),
        }
        Ok(0)
    }
}

/// Dword 0 of Number of Queues: as many submission as completion queues, zero's based.
fn queues(n: u16) -> u32 {
    let zeros_based = u32::from(n.saturating_sub(1));
    zeros_based << 16 | zeros_based
}

/// `ms` rounded up to the granularity (base 5.27.1.12).
fn granular(ms: u32) -> u32 {
    let unit = u32::from(KEEP_ALIVE_GRANULARITY) * 100;
    ms.div_ceil(unit).saturating_mul(unit)
}
