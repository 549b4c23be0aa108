//! Where memory lies on a machine with several nodes.
//!
//! DPDK and SPDK allocate on the node of the lcore that asks, and every shard is
//! built on its own lcore; what is here does the same for the arena.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::NonNull;

/// `MPOL_PREFERRED` of <linux/mempolicy.h>.
const MPOL_PREFERRED: libc::c_int = 1;
/// Room for the nodes of any kernel.
const NODES_MAX: usize = 1024;

/// The node of an lcore.
pub(crate) fn of_lcore(lcore: u32) -> usize {
    // SAFETY: EAL is up.
    let node = unsafe { dpdk_sys::tl_lcore_socket(lcore) };
    usize::try_from(node).unwrap_or(0)
}

/// Has the pages of a mapping, none of them touched yet, come from `node` while
/// it has any. Preferred, not bound: a page from elsewhere is slow, none is death.
pub(crate) fn prefer(base: NonNull<u8>, len: usize, node: usize) {
    const BITS: usize = u64::BITS as usize;
    let mut mask = [0u64; NODES_MAX / BITS];
    let Some(word) = mask.get_mut(node / BITS) else {
        return;
    };
    *word = 1 << (node % BITS);
    // SAFETY: the range is a mapping of ours, the mask has as many bits as said; neither is kept.
    let code = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            base.as_ptr(),
            len,
            MPOL_PREFERRED,
            mask.as_ptr(),
            NODES_MAX,
            0,
        )
    };
    if code < 0 {
        // A kernel without NUMA, or a container that forbids it: what remains is the
        // kernel's own preference for the node of the thread that touches a page.
        let error = std::io::Error::last_os_error();
        log::debug!("memory is not asked for by node: {error}");
    }
}

/// How many pages of a populated mapping lie on another node than `node`; `None`
/// where the kernel does not say.
pub(crate) fn astray(base: NonNull<u8>, len: usize, page: usize, node: usize) -> Option<usize> {
    let pages: Vec<*const c_void> = (0..len)
        .step_by(page)
        .map(|at| base.as_ptr().wrapping_add(at).cast_const().cast())
        .collect();
    let mut nodes = vec![-1i32; pages.len()];
    // SAFETY: without a list of targets nothing is moved; both arrays have the length said.
    let code = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            0,
            pages.len(),
            pages.as_ptr(),
            std::ptr::null::<i32>(),
            nodes.as_mut_ptr(),
            0,
        )
    };
    // A page that is not there has a negative errno for its node.
    let elsewhere = |&&at: &&i32| usize::try_from(at).is_ok_and(|at| at != node);
    (code == 0).then(|| nodes.iter().filter(elsewhere).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k06_pages_are_where_they_are_asked_for() {
        let page = 4096;
        let layout = std::alloc::Layout::from_size_align(64 * page, page).unwrap();
        // SAFETY: the layout has a size; freed below.
        let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).unwrap();
        prefer(base, layout.size(), 0);
        for at in (0..layout.size()).step_by(page) {
            // SAFETY: inside the allocation.
            unsafe { base.as_ptr().add(at).write_volatile(1) };
        }
        // Node 0 is the only one, or has 256 KiB to give.
        if let Some(astray) = astray(base, layout.size(), page, 0) {
            assert_eq!(astray, 0);
            assert_eq!(super::astray(base, layout.size(), page, 1), Some(64));
        }
        // A node that no machine has is no reason to fail.
        prefer(base, layout.size(), 5000);
        prefer(base, layout.size(), 1000);
        // SAFETY: allocated above with this layout.
        unsafe { std::alloc::dealloc(base.as_ptr(), layout) };
    }
}
