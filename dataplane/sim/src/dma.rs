//! What devices do to memory: the one place that reads and writes it by address.
#![allow(unsafe_code)]

use std::ptr;

use block::{OpIndex, OpTable};
use pages::Arena;
use sgl::Element;

/// The memory that devices may reach: the arenas of an appliance's shards.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// First address and length of each.
    ranges: Vec<(u64, u64)>,
}

impl Reach {
    /// Devices may reach `arena`. It stays mapped as long as an operation can be at a device:
    /// who builds appliances ends those first ([`crate::disk::Disk::kill`]).
    pub(crate) fn add(&mut self, arena: &Arena) {
        (self.ranges).push((
            arena.base().as_ptr().expose_provenance() as u64,
            arena.len() as u64,
        ));
    }

    fn holds(&self, element: &Element) -> bool {
        self.ranges.iter().any(|&(base, len)| {
            element.address >= base
                && element.len <= len
                && element.address - base <= len - element.len
        })
    }
}

/// The list of an operation that a device has.
///
/// What it names stays where it is, and is the device's, until the operation has ended:
/// that is what [`block::Device::submit`] is promised.
pub(crate) struct List(Box<[Element]>);

impl List {
    /// The first `elements` of the operation's list. `Err`: an element lies outside memory
    /// that devices may reach.
    pub(crate) fn of<S>(
        ops: &mut OpTable<S>,
        op: OpIndex,
        elements: usize,
        reach: &Reach,
    ) -> Result<Self, Element> {
        let list: Box<[Element]> = ops.list(op)[..elements].into();
        match list.iter().find(|element| !reach.holds(element)) {
            Some(outside) => Err(*outside),
            None => Ok(Self(list)),
        }
    }

    pub(crate) fn elements(&self) -> &[Element] {
        &self.0
    }

    /// Bytes that it describes.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|element| element.len).sum()
    }

    /// Copies bytes of the list, from byte `at` on, to `out`.
    pub(crate) fn gather(&self, at: usize, out: &mut [u8]) {
        self.each_part(at, out.len(), |address, part| {
            // SAFETY: the element lies in an arena of a shard that has the operation under
            // way (`List::of`), which is mapped and initialised; nobody writes to it while
            // this thread, the only one, is here.
            unsafe {
                ptr::copy_nonoverlapping(
                    ptr::with_exposed_provenance(address),
                    out[part.start..].as_mut_ptr(),
                    part.len(),
                );
            }
        });
    }

    /// Copies `bytes` to the list, from byte `at` on.
    pub(crate) fn scatter(&self, at: usize, bytes: &[u8]) {
        self.each_part(at, bytes.len(), |address, part| {
            // SAFETY: as above, and the pages of a read are the device's until it ends: no
            // reference to their bytes lives across a poll.
            unsafe {
                ptr::copy_nonoverlapping(
                    bytes[part.clone()].as_ptr(),
                    ptr::with_exposed_provenance_mut(address),
                    part.len(),
                );
            }
        });
    }

    /// Calls `each` with the address, and the place in the `len` bytes, of every part.
    fn each_part(
        &self,
        at: usize,
        len: usize,
        mut each: impl FnMut(usize, std::ops::Range<usize>),
    ) {
        let (mut skip, mut done) = (at, 0);
        for element in &self.0 {
            let size = element.len as usize;
            if skip >= size {
                skip -= size;
                continue;
            }
            let n = (size - skip).min(len - done);
            each(element.address as usize + skip, done..done + n);
            (skip, done) = (0, done + n);
            if done == len {
                return;
            }
        }
        assert_eq!(done, len, "bytes beyond the list");
    }
}
