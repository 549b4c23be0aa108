//! The time-stamp counter: time for the state machines, cycles by stage for the operator.

use crate::snapshot::Stage;

/// Reads the time-stamp counter.
#[inline]
#[allow(unsafe_code)]
pub(crate) fn tsc() -> u64 {
    // SAFETY: every x86-64 has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Ticks per second.
#[allow(unsafe_code)]
pub(crate) fn tsc_hz() -> u64 {
    // SAFETY: EAL is up.
    unsafe { dpdk_sys::tl_tsc_hz() }
}

/// Turns ticks into nanoseconds since the shard started, without a division.
pub(crate) struct Clock {
    start: u64,
    /// Nanoseconds per tick, 32.32 fixed point.
    scale: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let hz = tsc_hz().max(1);
        Self {
            start: tsc(),
            scale: ((1_000_000_000u128 << 32) / u128::from(hz)) as u64,
        }
    }

    pub(crate) fn nanoseconds(&self, tsc: u64) -> u64 {
        let ticks = tsc.saturating_sub(self.start);
        ((u128::from(ticks) * u128::from(self.scale)) >> 32) as u64
    }

    pub(crate) fn ticks(&self) -> u64 {
        tsc().saturating_sub(self.start)
    }
}

/// Adds up ticks by stage. A lap ends one stage and begins the next, so that
/// one counter read serves both.
pub(crate) struct StageClock {
    by_stage: [u64; Stage::ALL.len()],
    lap: u64,
}

impl StageClock {
    pub(crate) fn new() -> Self {
        Self {
            by_stage: [0; Stage::ALL.len()],
            lap: tsc(),
        }
    }

    /// Begins a lap; what came before is nobody's.
    #[inline]
    pub(crate) fn begin(&mut self) -> u64 {
        self.lap = tsc();
        self.lap
    }

    /// Ends the lap: it was spent on `stage`.
    #[inline]
    pub(crate) fn end(&mut self, stage: Stage) {
        let now = tsc();
        self.by_stage[stage as usize] += now - self.lap;
        self.lap = now;
    }

    pub(crate) fn by_stage(&self) -> [u64; Stage::ALL.len()] {
        self.by_stage
    }
}
