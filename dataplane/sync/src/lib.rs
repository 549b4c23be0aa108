//! What threads share:
//!
//! * [`ring`]: messages from one thread to another, without a lock;
//! * [`words`]: the ring of words under it, for records of any length;
//! * [`Watched`]: a value that seldom changes, and a number to watch it by;
//! * [`Progress`]: how far threads have come, for others that wait for it.
//!
//! Each says what may be relied on, and `tests/loom.rs` explores every
//! interleaving of it; `docs/architecture.md` has where they are used. Nothing
//! on the I/O path takes the lock of a [`Watched`].

mod progress;
pub mod ring;
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
