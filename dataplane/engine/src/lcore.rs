//! EAL's lcores: one shard runs on each.
#![allow(unsafe_code)]

use std::ffi::c_void;

use crate::error::Error;

/// Every lcore, the main one first.
pub(crate) fn all() -> Vec<u32> {
    let main = main();
    let mut lcores = vec![main];
    let mut next = dpdk_sys::TL_LCORE_NONE;
    loop {
        // SAFETY: EAL is up.
        next = unsafe { dpdk_sys::tl_lcore_next(next) };
        if next == dpdk_sys::TL_LCORE_NONE {
            return lcores;
        }
        if next != main {
            lcores.push(next);
        }
    }
}

/// The lcore that started EAL.
pub(crate) fn main() -> u32 {
    // SAFETY: EAL is up.
    unsafe { dpdk_sys::tl_lcore_main() }
}

/// Runs `work` on each worker lcore and `here` on the calling one; returns when all are done.
pub(crate) fn scope<W: Fn() + Sync>(
    workers: &[(u32, W)],
    here: impl FnOnce(),
) -> Result<(), Error> {
    let mut launched = Vec::new();
    let mut refused = None;
    for (lcore, work) in workers {
        let arg = std::ptr::from_ref(work).cast_mut().cast::<c_void>();
        // SAFETY: `work` is `Sync` and outlives the lcore's run: it is waited for below.
        let code = unsafe { dpdk_sys::tl_lcore_launch(*lcore, Some(call::<W>), arg) };
        if code < 0 {
            refused = Some(Error::Cores(format!("core {lcore} could not be started")));
            break;
        }
        launched.push(*lcore);
    }
    if refused.is_none() {
        here();
    }
    for lcore in launched {
        // SAFETY: launched above.
        unsafe { dpdk_sys::tl_lcore_wait(lcore) };
    }
    refused.map_or(Ok(()), Err)
}

unsafe extern "C" fn call<W: Fn()>(arg: *mut c_void) -> i32 {
    // SAFETY: `scope` passes a `W` that it keeps until this returns.
    let work = unsafe { &*arg.cast::<W>() };
    work();
    0
}
