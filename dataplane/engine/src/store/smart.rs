//! Asking a controller for its health: its SMART log, now and then, without waiting for it.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spdk_sys::tl_nvme_ctrlr;

use block::{LastSmart, Smart};

/// How often a controller is asked. What heats or wears does so in minutes; a drive that sleeps between commands
/// is not kept from it.
const INTERVAL_SECONDS: u64 = 30;

/// Asks one controller.
pub(super) struct Asker {
    asked: Arc<Asked>,
    /// When to ask next, in ticks.
    due: AtomicU64,
}

/// What an answer needs; whoever asked may be gone by then.
struct Asked {
    last: LastSmart,
    /// It was not answered yet.
    is_open: AtomicBool,
}

impl Default for Asker {
    fn default() -> Self {
        let asked = Asked {
            last: LastSmart::of_drive(),
            is_open: AtomicBool::new(false),
        };
        Self {
            asked: Arc::new(asked),
            due: AtomicU64::new(0),
        }
    }
}

impl Asker {
    /// What it last said.
    pub(super) fn last(&self) -> &LastSmart {
        &self.asked.last
    }

    /// Asks again, if it is time and the last question was answered.
    ///
    /// # Safety
    /// A connected controller, whose Admin Queue no other thread polls.
    pub(super) unsafe fn ask(&self, ctrlr: NonNull<tl_nvme_ctrlr>, now: u64, hz: u64) {
        if !self.is_due(now, hz) {
            return;
        }
        let arg = Arc::into_raw(Arc::clone(&self.asked));
        // SAFETY: as the caller says; the callback gets the reference back, once.
        let code = unsafe {
            spdk_sys::tl_nvme_smart(ctrlr.as_ptr(), Some(answered), arg.cast_mut().cast())
        };
        if code < 0 {
            // SAFETY: nobody else got the reference.
            unsafe { Arc::from_raw(arg) }.note(None);
        }
    }

    /// Whether to ask now; the next time is an interval later.
    fn is_due(&self, now: u64, hz: u64) -> bool {
        if now < self.due.load(Ordering::Relaxed)
            || self.asked.is_open.swap(true, Ordering::Acquire)
        {
            return false;
        }
        self.due
            .store(now + INTERVAL_SECONDS * hz, Ordering::Relaxed);
        true
    }
}

impl Asked {
    fn note(&self, log: Option<[u8; Smart::LEN]>) {
        self.last.set(log);
        self.is_open.store(false, Ordering::Release);
    }
}

/// The controller's answer, or that there is none; on whatever thread that is found.
extern "C" fn answered(arg: *mut c_void, log: *const u8) {
    // SAFETY: the reference that the question took along.
    let asked = unsafe { Arc::from_raw(arg.cast::<Asked>().cast_const()) };
    let head = NonNull::new(log.cast_mut()).map(|log| {
        // SAFETY: 512 bytes, valid during the call.
        let log = unsafe { slice::from_raw_parts(log.as_ptr(), Smart::LEN) };
        log.try_into().expect("as many bytes as were taken")
    });
    asked.note(head);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k05_a_drive_is_asked_for_its_health_once_at_a_time_and_seldom() {
        const HZ: u64 = 1000;
        let asker = Asker::default();
        assert!(asker.is_due(5, HZ));
        // Not before it has answered, however long that takes; then at once.
        assert!(!asker.is_due(5 + 100 * HZ, HZ));
        let arg = Arc::into_raw(Arc::clone(&asker.asked));
        answered(
            arg.cast_mut().cast(),
            [0, 0x43, 1, 100, 10, 1, 0xff].as_ptr(),
        );
        assert_eq!(asker.last().get().unwrap().temperature_kelvin, 323);
        assert!(asker.is_due(5 + 100 * HZ, HZ));
        let arg = Arc::into_raw(Arc::clone(&asker.asked));
        answered(arg.cast_mut().cast(), std::ptr::null());
        assert_eq!(asker.last().get(), None);
        assert!(!asker.is_due(5 + 129 * HZ, HZ));
        assert!(asker.is_due(5 + 130 * HZ, HZ));
        assert_eq!(Arc::strong_count(&asker.asked), 1);
    }
}
