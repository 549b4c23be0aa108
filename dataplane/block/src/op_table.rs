//! Device operations in flight: a fixed table, and the queue their ends arrive on.

use std::cell::{RefCell, UnsafeCell};
use std::rc::Rc;

use sgl::Element;

use crate::Fault;

/// An operation that ended.
#[derive(Clone, Copy, Debug)]
pub struct Completed {
    /// Its place in the table.
    pub op: OpIndex,
    /// What it was made for.
    pub request: u32,
    /// How it ended.
    pub result: Result<(), Fault>,
}

/// A place in an [`OpTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpIndex(u32);

type Ends = Rc<RefCell<Vec<Completed>>>;

/// Memory of one operation: stays where it is until the device is done with it.
pub struct OpEntry<S> {
    /// The device's own.
    pub slot: S,
    list: Box<[Element]>,
    index: OpIndex,
    request: u32,
    ends: Ends,
}

impl<S> OpEntry<S> {
    /// The first element of its list.
    pub fn list(&self) -> *const Element {
        self.list.as_ptr()
    }

    /// The operation ended: its end can be taken out of the table.
    pub fn complete(&self, result: Result<(), Fault>) {
        // Room for every operation was reserved: no allocation.
        self.ends.borrow_mut().push(Completed {
            op: self.index,
            request: self.request,
            result,
        });
    }
}

/// A shard's operations, at all of its devices.
pub struct OpTable<S> {
    /// In cells: devices reach them by address while the table is in use.
    ops: Box<[UnsafeCell<OpEntry<S>>]>,
    free: Vec<OpIndex>,
    ends: Ends,
}

impl<S> OpTable<S> {
    /// A table of `count` operations of at most `elements` list elements each.
    pub fn new(count: usize, elements: usize, mut slot: impl FnMut() -> S) -> Self {
        let ends = Rc::new(RefCell::new(Vec::with_capacity(count)));
        let op = |i: usize| {
            UnsafeCell::new(OpEntry {
                slot: slot(),
                list: vec![Element::new(0, 0); elements].into(),
                index: OpIndex(i as u32),
                request: 0,
                ends: Rc::clone(&ends),
            })
        };
        Self {
            ops: (0..count).map(op).collect(),
            free: (0..count as u32).rev().map(OpIndex).collect(),
            ends,
        }
    }

    /// Operations in the table.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is not one.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Operations that are free.
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Takes a free operation for `request`; [`OpTable::release`] gives it back.
    #[inline]
    pub fn take(&mut self, request: u32) -> Option<OpIndex> {
        let index = self.free.pop()?;
        self.op(index).request = request;
        Some(index)
    }

    /// Gives back an operation that ended or was never submitted.
    #[inline]
    pub fn release(&mut self, index: OpIndex) {
        debug_assert!(!self.free.contains(&index));
        self.free.push(index);
    }

    #[inline]
    fn op(&mut self, index: OpIndex) -> &mut OpEntry<S> {
        self.ops[index.0 as usize].get_mut()
    }

    /// The operation's list, to be filled before it is submitted.
    #[inline]
    pub fn list(&mut self, index: OpIndex) -> &mut [Element] {
        &mut self.op(index).list
    }

    /// The operation, for a device: valid until the table is dropped, which is
    /// when no operation is in flight. Whoever reads or writes through it sees
    /// to it that nobody else does so meanwhile; the table does only what it is
    /// called for, and only with operations that are not at a device.
    #[inline]
    pub fn at(&mut self, index: OpIndex) -> *mut OpEntry<S> {
        self.ops[index.0 as usize].get()
    }

    /// Takes an end, the newest first.
    #[inline]
    pub fn next_completed(&mut self) -> Option<Completed> {
        self.ends.borrow_mut().pop()
    }

    /// Whether some end waits to be taken.
    #[inline]
    pub fn has_completed(&self) -> bool {
        !self.ends.borrow().is_empty()
    }

    /// Ends that wait to be taken.
    #[inline]
    pub fn ended(&self) -> usize {
        self.ends.borrow().len()
    }

    /// Ends an operation that a device has, for devices that keep their
    /// operations' places and not their addresses.
    pub fn ends(&self) -> OpEnds {
        OpEnds(Rc::clone(&self.ends))
    }

    /// What the operation was taken for.
    pub fn request(&mut self, index: OpIndex) -> u32 {
        self.op(index).request
    }
}

/// Where a device that is written in safe code leaves the ends of its operations.
#[derive(Clone)]
pub struct OpEnds(Ends);

impl OpEnds {
    /// An operation ended.
    pub fn push(&self, completed: Completed) {
        self.0.borrow_mut().push(completed);
    }
}
