//! Device operations in flight: a fixed table, and the queue their completions arrive on.
#![allow(unsafe_code)]

use std::cell::{RefCell, UnsafeCell};
use std::ffi::c_void;
use std::rc::Rc;

use sgl::Element;
use spdk_sys::{tl_io, tl_iovec};

/// How a device operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The device did it.
    Done,
    /// The device refused with an NVMe status: code type and code.
    Status {
        /// Status code type.
        sct: u8,
        /// Status code.
        sc: u8,
    },
    /// No NVMe status: a negative errno.
    Failed(i32),
}

// A list of elements is handed to SPDK as it is.
const _: () = assert!(
    size_of::<Element>() == size_of::<tl_iovec>()
        && std::mem::offset_of!(Element, address) == std::mem::offset_of!(tl_iovec, base)
        && std::mem::offset_of!(Element, len) == std::mem::offset_of!(tl_iovec, len)
);

/// A completed operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completed {
    /// The operation's slot.
    pub(crate) op: OpIndex,
    /// The request it was made for.
    pub(crate) request: u32,
    pub(crate) outcome: Outcome,
}

/// A slot of the operation table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpIndex(u32);

/// Memory of one operation: stays where it is until the device is done with it.
struct Op {
    io: tl_io,
    list: Box<[Element]>,
    index: OpIndex,
    request: u32,
    completed: Rc<RefCell<Vec<Completed>>>,
}

/// The shard's operations.
pub(crate) struct OpTable {
    ops: Box<[UnsafeCell<Op>]>,
    free: Vec<OpIndex>,
    completed: Rc<RefCell<Vec<Completed>>>,
}

impl OpTable {
    /// A table of `count` operations of at most `elements` list elements each.
    pub(crate) fn new(count: usize, elements: usize) -> Self {
        let completed = Rc::new(RefCell::new(Vec::with_capacity(count)));
        let op = |i: usize| {
            UnsafeCell::new(Op {
                // SAFETY: `tl_io` is plain data; zero is "no callback, no list".
                io: unsafe { std::mem::zeroed() },
                list: vec![Element::new(0, 0); elements].into(),
                index: OpIndex(i as u32),
                request: 0,
                completed: Rc::clone(&completed),
            })
        };
        Self {
            ops: (0..count).map(op).collect(),
            free: (0..count as u32).rev().map(OpIndex).collect(),
            completed,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ops.len()
    }

    pub(crate) fn available(&self) -> usize {
        self.free.len()
    }

    /// Takes a free operation for `request`; [`OpTable::release`] gives it back.
    pub(crate) fn take(&mut self, request: u32) -> Option<OpIndex> {
        let index = self.free.pop()?;
        self.op(index).request = request;
        Some(index)
    }

    /// Gives back an operation that completed or was never submitted.
    pub(crate) fn release(&mut self, index: OpIndex) {
        debug_assert!(!self.free.contains(&index));
        self.free.push(index);
    }

    fn op(&mut self, index: OpIndex) -> &mut Op {
        self.ops[index.0 as usize].get_mut()
    }

    /// The operation's list, to be filled before [`OpTable::submit`].
    pub(crate) fn list(&mut self, index: OpIndex) -> &mut [Element] {
        &mut self.op(index).list
    }

    /// Calls `submit` with the operation's memory and the first `elements` of
    /// its list. On a negative result the operation was not started.
    pub(crate) fn submit(
        &mut self,
        index: OpIndex,
        elements: usize,
        submit: impl FnOnce(*mut tl_io, *const tl_iovec, u32) -> i32,
    ) -> i32 {
        let op = self.ops[index.0 as usize].get();
        // SAFETY: the slot is ours until its completion is taken; no reference into it is
        // held while `submit` runs, which may complete it at once.
        let (io, iov) = unsafe {
            (*op).io.done = Some(on_done);
            (*op).io.arg = op.cast();
            (&raw mut (*op).io, (*op).list.as_ptr().cast())
        };
        submit(io, iov, elements as u32)
    }

    /// Takes a completion, oldest last.
    pub(crate) fn next_completed(&mut self) -> Option<Completed> {
        self.completed.borrow_mut().pop()
    }

    /// Whether some completion waits to be taken.
    pub(crate) fn has_completed(&self) -> bool {
        !self.completed.borrow().is_empty()
    }
}

/// Runs on the shard's own SPDK thread, inside a poll or inside the submitting call.
unsafe extern "C" fn on_done(arg: *mut c_void, sct: i32, sc: i32, err: i32) {
    // SAFETY: `arg` is the slot given in `submit`, which lives as long as the table, on this
    // thread; the table is dropped only when no operation is in flight.
    let op = unsafe { &*arg.cast::<Op>() };
    let outcome = match (err, sct) {
        (0, _) => Outcome::Done,
        (_, 0..) => Outcome::Status {
            sct: sct as u8,
            sc: sc as u8,
        },
        _ => Outcome::Failed(err),
    };
    // Room for every operation was reserved: no allocation.
    op.completed.borrow_mut().push(Completed {
        op: op.index,
        request: op.request,
        outcome,
    });
}
