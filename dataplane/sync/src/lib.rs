//! What threads share:
//!
//! * [`ring`]: messages from one thread to another, without a lock;
//! * [`mesh`]: a ring each way between any two of several threads;
//! * [`slots`]: the ring under it, for records of several slots;
//! * [`Watched`]: a value that seldom changes, and a number to watch it by;
//! * [`Progress`]: how far threads have come, for others that wait for it.
//!
//! Each says what may be relied on, and `tests/loom.rs` explores every
//! interleaving of it; `docs/architecture.md` has where they are used. Nothing
//! on the I/O path takes the lock of a [`Watched`].

pub mod mesh;
mod progress;
pub mod ring;
pub mod slots;
mod watched;

pub use progress::Progress;
pub use watched::{Held, Watched};

/// Atomics and locks, or their models: `RUSTFLAGS="--cfg loom"` exchanges them.
mod primitives {
    #[cfg(loom)]
    pub(super) use loom::{
        cell::UnsafeCell,
        sync::{
            Arc, Mutex, MutexGuard,
            atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        },
    };
    #[cfg(not(loom))]
    pub(super) use std::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    };

    /// As loom's, which checks that no two accesses race.
    #[cfg(not(loom))]
    pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    #[cfg(not(loom))]
    impl<T> UnsafeCell<T> {
        pub(super) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        #[inline(always)]
        pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}
