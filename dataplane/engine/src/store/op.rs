//! What SPDK keeps in each operation, and how it says that one ended.
#![allow(unsafe_code)]

use std::ffi::c_void;

use block::{Fault, NotStarted, Op, OpEntry, OpIndex, OpTable};
use sgl::Element;
use spdk_sys::{tl_io, tl_iovec};

// A list of elements is handed to SPDK as it is.
const _: () = assert!(
    size_of::<Element>() == size_of::<tl_iovec>()
        && std::mem::offset_of!(Element, address) == std::mem::offset_of!(tl_iovec, base)
        && std::mem::offset_of!(Element, len) == std::mem::offset_of!(tl_iovec, len)
);

/// SPDK's part of an operation.
pub(crate) struct StoreSlot {
    io: tl_io,
    /// Tells what an errno means.
    op: Op,
}

impl StoreSlot {
    /// Of an operation that is free.
    pub(crate) fn new() -> Self {
        Self {
            // SAFETY: `tl_io` is plain data; zero is "no callback, no list".
            io: unsafe { std::mem::zeroed() },
            op: Op::Flush,
        }
    }
}

type Entry = OpEntry<StoreSlot>;

/// Calls `submit` with the operation's memory and the first `elements` of its
/// list. On a negative result the operation was not started.
#[inline]
pub(super) fn submit(
    ops: &mut OpTable<StoreSlot>,
    index: OpIndex,
    op: Op,
    elements: usize,
    submit: impl FnOnce(*mut tl_io, *const tl_iovec, u32) -> i32,
) -> Result<(), NotStarted> {
    let entry: *mut Entry = ops.at(index);
    // SAFETY: the entry is ours until its end is taken; no reference into it is
    // held while `submit` runs, which may end it at once.
    let (io, iov) = unsafe {
        (*entry).slot.op = op;
        (*entry).slot.io.done = Some(on_done);
        (*entry).slot.io.arg = entry.cast();
        (&raw mut (*entry).slot.io, (*entry).list().cast())
    };
    match submit(io, iov, elements as u32) {
        0.. => Ok(()),
        code if code == -libc::ENOMEM || code == -libc::EAGAIN => Err(NotStarted::Full),
        code => Err(NotStarted::Failed(fault_of(code, op))),
    }
}

/// What a negative errno of SPDK's says of an operation.
fn fault_of(code: i32, op: Op) -> Fault {
    match -code {
        libc::ENOMEM | libc::EAGAIN => Fault::Busy,
        libc::ENXIO | libc::ENODEV | libc::ECANCELED => Fault::Gone,
        libc::ENOSPC => Fault::NoSpace,
        libc::EIO if op == Op::Read => Fault::ReadError,
        libc::EIO => Fault::WriteError,
        _ => Fault::Internal,
    }
}

/// Runs on the shard's own SPDK thread, inside a poll or inside the submitting call.
unsafe extern "C" fn on_done(arg: *mut c_void, sct: i32, sc: i32, err: i32) {
    // SAFETY: `arg` is the entry given in `submit`, which lives as long as the table, on this
    // thread; the table is dropped only when no operation is in flight.
    let entry = unsafe { &*arg.cast::<Entry>() };
    entry.complete(match (err, sct) {
        (0, _) => Ok(()),
        (_, 0..) => Err(Fault::Device {
            code_type: sct as u8,
            code: sc as u8,
        }),
        _ => Err(fault_of(err, entry.slot.op)),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_errno_says_depends_on_the_operation() {
        let faults = [
            (libc::ENOMEM, Op::Write, Fault::Busy),
            (libc::ENXIO, Op::Read, Fault::Gone),
            (libc::ENOSPC, Op::Write, Fault::NoSpace),
            (libc::EIO, Op::Read, Fault::ReadError),
            (libc::EIO, Op::Flush, Fault::WriteError),
            (libc::EINVAL, Op::Write, Fault::Internal),
        ];
        for (errno, op, fault) in faults {
            assert_eq!(fault_of(-errno, op), fault);
        }
    }
}
