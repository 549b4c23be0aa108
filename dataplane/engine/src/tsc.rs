//! The time-stamp counter, which shards count time and stages by.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use events::Ticks;

/// The time-stamp counter of the core that looks at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tsc;

impl Ticks for Tsc {
    #[inline]
    fn now(&self) -> u64 {
        tsc()
    }

    fn hz(&self) -> u64 {
        tsc_hz()
    }
}

/// When time began for all shards: when this was first asked.
pub(crate) fn epoch() -> u64 {
    static EPOCH: OnceLock<u64> = OnceLock::new();
    *EPOCH.get_or_init(tsc)
}

/// Reads the time-stamp counter.
#[inline]
pub(crate) fn tsc() -> u64 {
    // SAFETY: every x86-64 has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Ticks per second.
pub(crate) fn tsc_hz() -> u64 {
    // SAFETY: EAL is up.
    unsafe { dpdk_sys::tl_tsc_hz() }
}
