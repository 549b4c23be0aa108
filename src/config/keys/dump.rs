//! A program with keys leaves none of them in a core dump.
#![allow(unsafe_code)]

use std::sync::Once;

/// From now on the kernel writes no core dump of this process, whatever limits say, and lets nobody but root look into it (prctl(2),
/// PR_SET_DUMPABLE).
pub(super) fn forbid() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        // SAFETY: it sets a flag of the process and takes no address.
        let failed = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
        if failed != 0 {
            log::warn!("a core dump of this program would have its keys in it");
        }
    });
}
