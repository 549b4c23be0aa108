//! Cycles by stage of the path that a frame takes.

use crate::tracepoint;

/// A stage of the path a frame takes, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// Taking frames from the port.
    Receive,
    /// TCP and below.
    Tcp,
    /// PDUs.
    Protocol,
    /// Logical pages.
    Assemble,
    /// Handing lists to the device.
    Submit,
    /// Taking completions from the device.
    Complete,
    /// Building segments and handing frames to the port.
    Transmit,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 7] = [
        Stage::Receive,
        Stage::Tcp,
        Stage::Protocol,
        Stage::Assemble,
        Stage::Submit,
        Stage::Complete,
        Stage::Transmit,
    ];

    /// The name statistics use.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Receive => "receive",
            Stage::Tcp => "tcp",
            Stage::Protocol => "protocol",
            Stage::Assemble => "assemble",
            Stage::Submit => "submit",
            Stage::Complete => "complete",
            Stage::Transmit => "transmit",
        }
    }
}

/// A counter of ticks that never goes back: the time-stamp counter, or a
/// simulation's virtual time.
pub trait Ticks: Copy {
    /// The counter now.
    fn now(&self) -> u64;

    /// Ticks per second.
    fn hz(&self) -> u64;
}

/// Nanoseconds per tick, 32.32 fixed point: turns ticks into time without a division.
#[derive(Clone, Copy, Debug)]
pub struct TickScale(u64);

impl TickScale {
    /// The scale of a counter of `hz` ticks per second.
    pub fn of(hz: u64) -> Self {
        Self(((1_000_000_000u128 << 32) / u128::from(hz.max(1))) as u64)
    }

    /// Nanoseconds that `ticks` take.
    #[inline]
    pub fn nanoseconds(self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.0)) >> 32) as u64
    }
}

/// Adds up ticks by stage. A lap ends one stage and begins the next, so that
/// one counter read serves both.
pub struct StageClock<C> {
    counter: C,
    by_stage: [u64; Stage::ALL.len()],
    lap: u64,
    scale: TickScale,
}

impl<C: Ticks> StageClock<C> {
    /// No ticks yet.
    pub fn new(counter: C) -> Self {
        Self {
            by_stage: [0; Stage::ALL.len()],
            lap: counter.now(),
            scale: TickScale::of(counter.hz()),
            counter,
        }
    }

    /// Begins a lap, and says when; what came before belongs to no stage.
    #[inline]
    pub fn begin(&mut self) -> u64 {
        self.lap = self.counter.now();
        self.lap
    }

    /// Ends the lap: it was spent on `stage`, which every caller knows when it is
    /// compiled, so that one tracepoint is left of the seven.
    #[inline(always)]
    pub fn end(&mut self, stage: Stage) {
        let now = self.counter.now();
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
    pub fn lap(&self) -> u64 {
        self.lap
    }

    /// Nanoseconds from `tick` to the end of the last lap.
    #[inline]
    pub fn since(&self, tick: u64) -> u64 {
        self.scale.nanoseconds(self.lap.saturating_sub(tick))
    }

    /// Ticks by stage, in the order of [`Stage::ALL`].
    pub fn by_stage(&self) -> [u64; Stage::ALL.len()] {
        self.by_stage
    }
}
