//! SPDK up and down again, and I/O that is waited for.
#![allow(dead_code)]

use crate::common::{Arena, ok};
use spdk_sys as s;
use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::Mutex;
use std::time::Duration;
use testkit::spin;

/// How long SPDK has for anything that is asked of it.
pub const PATIENCE: Duration = Duration::from_secs(60);

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub fn text(bytes: &[c_char]) -> String {
    bytes
        .iter()
        .take_while(|&&byte| byte != 0)
        .map(|&byte| byte as u8 as char)
        .collect()
}

unsafe extern "C" fn on_log(_level: i32, _file: *const c_char, _line: i32, text: *const c_char) {
    // SAFETY: the shim passes a NUL-terminated line.
    let line = unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned();
    LOG.lock().expect("log").push(line);
}

unsafe extern "C" fn on_done(arg: *mut c_void, rc: i32) {
    // SAFETY: arg is the Option<i32> of the caller that is polling for it.
    unsafe { *arg.cast::<Option<i32>>() = Some(rc) };
}

/// SPDK with one thread, polled by hand.
pub struct Spdk {
    thread: *mut s::tl_spdk_thread,
}

impl Spdk {
    pub fn start(arena: &Arena, config: &str) -> Self {
        // SAFETY: once per process, after the EAL; the arena stays.
        let thread = unsafe {
            ok(s::tl_spdk_env_init());
            s::tl_spdk_log_level(2);
            s::tl_spdk_log_hook(Some(on_log));
            ok(s::tl_spdk_mem_register(arena.base.cast(), arena.len));
            ok(s::tl_spdk_threads_init());
            s::tl_spdk_thread_create(c"app".as_ptr(), 0)
        };
        assert!(!thread.is_null());
        let spdk = Self { thread };
        let mut rc: Option<i32> = None;
        // SAFETY: rc lives until it is set.
        unsafe {
            s::tl_spdk_thread_set(thread);
            s::tl_spdk_start(
                config.as_ptr().cast(),
                config.len() as u64,
                Some(on_done),
                (&raw mut rc).cast(),
            );
            spin("SPDK's start", PATIENCE, || {
                spdk.poll();
                (&raw const rc).read_volatile()
            });
        }
        assert_eq!(rc, Some(0), "configuration: {:?}", spdk.log());
        // The IOVA SPDK uses is the one DPDK knows.
        // SAFETY: looks an address up.
        let both = unsafe {
            (
                s::tl_spdk_vtophys(arena.at(4096).cast()),
                dpdk_sys::tl_iova(arena.at(4096).cast()),
            )
        };
        assert_eq!(both.0, both.1);
        spdk
    }

    pub fn poll(&self) {
        // SAFETY: this OS thread is the one that polls it.
        unsafe { s::tl_spdk_thread_poll(self.thread, 0) };
    }

    pub fn log(&self) -> Vec<String> {
        LOG.lock().expect("log").clone()
    }

    /// Polls until the I/O is done: its status code type, status code and errno.
    pub fn wait(&self, io: &mut Io) -> (i32, i32, i32) {
        spin("the end of an I/O", PATIENCE, || {
            let result = io.result();
            if result.is_none() {
                self.poll();
            }
            result
        })
    }

    /// Takes everything down in order, EAL included.
    pub fn stop(self) {
        let mut rc: Option<i32> = None;
        // SAFETY: nothing is open any more; rc lives until it is set.
        unsafe {
            s::tl_spdk_stop(Some(on_done), (&raw mut rc).cast());
            spin("SPDK's end", PATIENCE, || {
                self.poll();
                (&raw const rc).read_volatile()
            });
            s::tl_spdk_thread_set(self.thread);
            ok(s::tl_spdk_thread_exit(self.thread));
            spin("the end of an SPDK thread", PATIENCE, || {
                self.poll();
                s::tl_spdk_thread_exited(self.thread).then_some(())
            });
            s::tl_spdk_thread_set(ptr::null_mut());
            s::tl_spdk_thread_destroy(self.thread);
            s::tl_spdk_threads_fini();
            s::tl_spdk_env_fini();
            assert_eq!(dpdk_sys::tl_eal_cleanup(), 0);
        }
    }
}

/// One I/O at a fixed address, with its result.
pub struct Io(Box<State>);

struct State {
    io: s::tl_io,
    result: Option<(i32, i32, i32)>,
}

unsafe extern "C" fn on_io(arg: *mut c_void, sct: i32, sc: i32, err: i32) {
    // SAFETY: arg is the boxed state of an Io that is being waited for.
    unsafe { (*arg.cast::<State>()).result = Some((sct, sc, err)) };
}

impl Io {
    pub fn new() -> Self {
        Self(Box::new(State {
            io: s::tl_io::default(),
            result: None,
        }))
    }

    /// Ready for the next submission.
    pub fn raw(&mut self) -> *mut s::tl_io {
        let state: *mut State = &mut *self.0;
        // SAFETY: the box is ours; nothing is in flight on it.
        unsafe {
            (*state).result = None;
            (*state).io = s::tl_io {
                done: Some(on_io),
                arg: state.cast(),
                ..Default::default()
            };
            &raw mut (*state).io
        }
    }

    pub fn result(&mut self) -> Option<(i32, i32, i32)> {
        // SAFETY: the box is ours; the callback runs on this thread.
        unsafe { (&raw const self.0.result).read_volatile() }
    }
}
