//! SPDK threads and one-shot callbacks.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};

use crate::error::Error;

/// An SPDK thread that the calling OS thread polls.
pub(crate) struct SpdkThread {
    thread: NonNull<spdk_sys::tl_spdk_thread>,
}

impl SpdkThread {
    /// Creates a thread for the calling lcore and makes it current.
    pub(crate) fn create(name: &str, lcore: u32) -> Result<Self, Error> {
        let name = CString::new(name).expect("thread names have no NUL");
        // SAFETY: the name is copied; the SPDK thread library is up.
        let thread = unsafe { spdk_sys::tl_spdk_thread_create(name.as_ptr(), lcore) };
        let thread = NonNull::new(thread).ok_or(Error::Spdk {
            what: "creating a thread",
            code: -libc::ENOMEM,
        })?;
        let thread = Self { thread };
        thread.enter();
        Ok(thread)
    }

    /// Makes it the current SPDK thread.
    pub(crate) fn enter(&self) {
        // SAFETY: the thread lives until `exit`.
        unsafe { spdk_sys::tl_spdk_thread_set(self.thread.as_ptr()) }
    }

    /// Runs its messages and pollers once; whether there was work.
    pub(crate) fn poll(&self) -> bool {
        // SAFETY: only the OS thread that created it polls it.
        unsafe { spdk_sys::tl_spdk_thread_poll(self.thread.as_ptr(), 0) > 0 }
    }
}

impl Drop for SpdkThread {
    /// Everything the thread opened is closed by now.
    fn drop(&mut self) {
        self.enter();
        // SAFETY: the thread is current, is polled until it has exited, and is then
        // neither current nor used again.
        unsafe {
            spdk_sys::tl_spdk_thread_exit(self.thread.as_ptr());
            while !spdk_sys::tl_spdk_thread_exited(self.thread.as_ptr()) {
                self.poll();
            }
            spdk_sys::tl_spdk_thread_set(ptr::null_mut());
            spdk_sys::tl_spdk_thread_destroy(self.thread.as_ptr());
        }
    }
}

/// Where a one-shot SPDK callback leaves its result.
#[derive(Default)]
pub(crate) struct Done(Cell<Option<i32>>);

impl Done {
    /// The callback to hand to SPDK, together with [`Done::arg`].
    pub(crate) unsafe extern "C" fn call(arg: *mut c_void, code: i32) {
        // SAFETY: `arg` is a `Done` that `wait` keeps alive until this was called.
        unsafe { &*arg.cast::<Done>() }.0.set(Some(code));
    }

    pub(crate) fn arg(&self) -> *mut c_void {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// Polls `thread` until the callback came; its result.
    pub(crate) fn wait(&self, thread: &SpdkThread) -> i32 {
        loop {
            if let Some(code) = self.0.get() {
                return code;
            }
            thread.poll();
        }
    }
}
