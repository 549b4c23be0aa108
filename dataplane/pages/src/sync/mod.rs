//! What threads share. Each of the three says what may be relied on, and
//! `tests/loom.rs` explores every interleaving of it; `docs/architecture.md`
//! has where they are used. Nothing on the I/O path takes the lock of a
//! [`Watched`].

mod progress;
mod watched;
pub mod words;

pub use progress::Progress;
pub use watched::{Held, Watched};

/// Atomics and locks, or their models: `RUSTFLAGS="--cfg loom"` exchanges them.
mod primitives {
    #[cfg(loom)]
    pub(super) use loom::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    };
    #[cfg(not(loom))]
    pub(super) use std::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    };
}
