//! A device as its jobs know it: how they are divided for it, what they hold of what all devices
//! share, which of them wait, and for how long it may keep them.

use std::collections::VecDeque;
use std::time::Duration;

use block::{Command, Device, DeviceState, Geometry, Op};
use mutant::mutant;
use sgl::{Chain, Divider, Element, Refused, RequestState};

/// How often devices are looked at for commands that they keep.
pub(crate) const LOOK: Duration = Duration::from_millis(250);

/// Whether a device that has `held` of something of which `left` are free may take more
/// ([`block::may_take`]).
#[inline]
pub(crate) fn may_take(held: usize, left: usize) -> bool {
    block::may_take(held, 0, left)
}

/// How often a device that ends no command in between is recovered before it is given up.
const RECOVERIES: u8 = 2;

/// A device that failed so many operations in a row does not work.
const FAULTS_MAX: u8 = 3;

/// What is due of a device that keeps its commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// [`Device::recover`].
    Recovery,
    /// [`Device::give_up`].
    GivingUp,
}

/// A device and what its jobs hold.
pub(crate) struct Backing<D> {
    pub(crate) device: D,
    pub(crate) geometry: Geometry,
    pub(crate) divider: Divider,
    /// Operations it has.
    pub(crate) operations: usize,
    /// Whole pages that its reads are filled into.
    pub(crate) pages: usize,
    /// Jobs that wait for an operation, for pages, or for room at the device; oldest first.
    pub(crate) stalled: VecDeque<u32>,
    /// When an operation of it last ended.
    pub(crate) ended_at: Duration,
    /// How long it may have a command.
    timeout: Option<Duration>,
    /// Times it was recovered since a command of it ended.
    recoveries: u8,
    /// Operations in a row that it failed.
    pub(crate) faults: u8,
}

impl<D: Device> Backing<D> {
    /// `elements`: of one list. `jobs`: how many may wait.
    pub(crate) fn new(device: D, elements: usize, jobs: usize) -> Self {
        let geometry = device.geometry();
        let divider = Divider::new(geometry.limits(elements as u32))
            .expect("a device takes at least a block and an element");
        Self {
            timeout: device.timeout(),
            device,
            geometry,
            divider,
            operations: 0,
            pages: 0,
            stalled: VecDeque::with_capacity(jobs),
            ended_at: Duration::ZERO,
            recoveries: 0,
            faults: 0,
        }
    }

    /// How the device does.
    pub(crate) fn state(&self) -> DeviceState {
        if self.device.is_gone() {
            DeviceState::Gone
        } else if self.faults >= FAULTS_MAX || self.recoveries > 0 {
            DeviceState::Failing
        } else {
            DeviceState::Works
        }
    }

    /// An operation of it ended.
    #[inline]
    pub(crate) fn ended(&mut self, now: Duration) {
        self.operations -= 1;
        self.ended_at = now;
        self.recoveries = 0;
    }

    /// The next command of a request whose bytes `chain` has, and how many elements of `list` it has.
    #[inline]
    pub(crate) fn data_command<C: Chain + ?Sized>(
        &self,
        op: Op,
        state: &mut RequestState<C::Cursor>,
        chain: &C,
        list: &mut [Element],
    ) -> Result<(Command, usize), Refused> {
        let descriptor = (self.divider)
            .format(state, chain, list)?
            .ok_or(Refused::ChainTooShort)?;
        // Blocks are powers of two (`Geometry`).
        let shift = self.geometry.block_size.trailing_zeros();
        let command = Command {
            op,
            block: descriptor.remote >> shift,
            blocks: descriptor.len >> shift,
        };
        Ok((command, descriptor.elements))
    }

    /// Whether it keeps something of a request for too long: commands, of which it was given the last, or ended
    /// one, at `since`; or room that it `is_refused`, while it ended nothing else either.
    pub(crate) fn is_late(
        &self,
        since: Duration,
        has_commands: bool,
        is_refused: bool,
        now: Duration,
    ) -> bool {
        let is_overdue = |since: Duration| {
            self.timeout
                .is_some_and(|timeout| now.saturating_sub(since) >= timeout)
        };
        has_commands && is_overdue(since) || is_refused && is_overdue(since.max(self.ended_at))
    }

    /// It has kept a command for too long: what is due is done, once for all commands.
    pub(crate) fn hurry(&mut self) -> Option<Due> {
        if self.device.is_gone() {
            return None;
        }
        if self.recoveries < RECOVERIES {
            self.recoveries += 1;
            if !mutant!("recovery-forgotten") {
                self.device.recover();
            }
            Some(Due::Recovery)
        } else {
            self.device.give_up();
            Some(Due::GivingUp)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Devices that take all they can, one after the other, and give nothing back.
    #[test]
    fn z12_devices_that_do_not_answer_leave_half_of_the_rest_each() {
        let mut left = 1024;
        for expected in [512, 256, 128, 64, 32] {
            let mut held = 0;
            while left > 0 && may_take(held, left) {
                (held, left) = (held + 1, left - 1);
            }
            assert!(left.abs_diff(expected) <= 2, "{left} instead of {expected}");
        }
    }
}
