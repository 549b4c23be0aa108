//! The time-stamp counter: time for the state machines, cycles by stage for the operator.

use events::tracepoint;

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

/// Nanoseconds per tick, 32.32 fixed point: turns ticks into time without a division.
#[derive(Clone, Copy)]
pub(crate) struct Scale(u64);

impl Scale {
    fn here() -> Self {
        let hz = tsc_hz().max(1);
        Self(((1_000_000_000u128 << 32) / u128::from(hz)) as u64)
    }

    #[inline]
    fn nanoseconds(self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.0)) >> 32) as u64
    }
}

/// Turns ticks into nanoseconds since the shard started.
pub(crate) struct Clock {
    start: u64,
    scale: Scale,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            start: tsc(),
            scale: Scale::here(),
        }
    }

    pub(crate) fn nanoseconds(&self, tsc: u64) -> u64 {
        self.scale.nanoseconds(tsc.saturating_sub(self.start))
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
    scale: Scale,
}

impl StageClock {
    pub(crate) fn new() -> Self {
        Self {
            by_stage: [0; Stage::ALL.len()],
            lap: tsc(),
            scale: Scale::here(),
        }
    }

    /// Begins a lap; what came before is nobody's.
    #[inline]
    pub(crate) fn begin(&mut self) -> u64 {
        self.lap = tsc();
        self.lap
    }

    /// Ends the lap: it was spent on `stage`, which every caller knows when it is
    /// compiled, so that one tracepoint is left of the seven.
    #[inline(always)]
    pub(crate) fn end(&mut self, stage: Stage) {
        let now = tsc();
        let cycles = now - self.lap;
        self.by_stage[stage as usize] += cycles;
        self.lap = now;
        match stage {
            Stage::Receive => tracepoint::stage_receive(cycles),
            Stage::Tcp => tracepoint::stage_tcp(cycles),
            Stage::Protocol => tracepoint::stage_protocol(cycles),
            Stage::Assemble => tracepoint::stage_assemble(cycles),
            Stage::Submit => tracepoint::stage_submit(cycles),
            Stage::Complete => tracepoint::stage_complete(cycles),
            Stage::Transmit => tracepoint::stage_transmit(cycles),
        }
    }

    /// When the last lap ended, in ticks.
    #[inline]
    pub(crate) fn lap(&self) -> u64 {
        self.lap
    }

    /// Nanoseconds from `tick` to the end of the last lap.
    #[inline]
    pub(crate) fn since(&self, tick: u64) -> u64 {
        self.scale.nanoseconds(self.lap.saturating_sub(tick))
    }

    pub(crate) fn by_stage(&self) -> [u64; Stage::ALL.len()] {
        self.by_stage
    }
}
