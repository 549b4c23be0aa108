//! The I/O path takes nothing from the allocator.
#![allow(missing_docs)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use support::host::{Options, Queue, pattern};
use support::{NQN, network, target, with_engine};

/// Counts what the polling thread asks for.
struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static POLLS: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: passes every call on to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if POLLS.get() {
            ASKED.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Thousands of reads and writes, in-capsule and R2T, digests on: the polling
/// thread allocates nothing for them.
#[test]
fn k04_no_allocation_per_frame_or_io() {
    network();
    POLLS.set(true);
    with_engine(&support::config(512), |_| {
        let options = Options {
            header_digest: true,
            data_digest: true,
        };
        let (_admin, mut io) = Queue::controller(target(), options, NQN).unwrap();
        let mut round = |rounds: u64| {
            for i in 0..rounds {
                for (len, in_capsule) in [(4096, true), (4096, false), (131_072, false)] {
                    let data = pattern(i, len);
                    assert_eq!(io.write(i * 8, 512, &data, in_capsule).unwrap(), 0);
                    assert!(io.read(i * 8, 512, len).unwrap().1 == data);
                }
            }
        };
        round(10);
        let before = ASKED.load(Ordering::Relaxed);
        assert!(before > 0, "start-up is counted");
        round(1000);
        assert_eq!(
            ASKED.load(Ordering::Relaxed) - before,
            0,
            "allocations on the I/O path"
        );
    });
}
