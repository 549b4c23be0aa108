//! An allocator that counts, for tests that nothing is allocated.
//!
//! A test binary makes it its own: `#[global_allocator] static ALLOCATOR: Counting = Counting;`
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The system's allocator, counting what each thread allocates.
pub struct Counting;

thread_local! {
    static HERE: Cell<u64> = const { Cell::new(0) };
    static IS_BYSTANDER: Cell<bool> = const { Cell::new(false) };
}

static EVERYWHERE: AtomicU64 = AtomicU64::new(0);
/// Set by the process's first thread, which allocates before any other: the test harness's.
static BEGUN: AtomicBool = AtomicBool::new(false);

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HERE.set(HERE.get() + 1);
        if !BEGUN.swap(true, Ordering::Relaxed) {
            stand_by();
        }
        if !IS_BYSTANDER.get() {
            EVERYWHERE.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How many allocations this thread made so far.
pub fn here() -> u64 {
    HERE.get()
}

/// How many allocations `work` makes on this thread.
pub fn allocations(work: impl FnOnce()) -> u64 {
    let before = here();
    work();
    here() - before
}

/// This thread only watches: what it allocates is left out of [`everywhere`].
pub fn stand_by() {
    IS_BYSTANDER.set(true);
}

/// This thread's allocations are in [`everywhere`]: those of every thread are, but of the
/// process's first. That is the test harness's, which has something to say when a test takes
/// long; a test that may run on it says this.
pub fn take_part() {
    IS_BYSTANDER.set(false);
}

/// How many allocations all threads made so far, without those that [`stand_by`].
pub fn everywhere() -> u64 {
    EVERYWHERE.load(Ordering::Relaxed)
}
