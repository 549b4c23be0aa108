//! What a device is, and what it is told.

use std::time::Duration;

use sgl::Limits;

use crate::{Fault, Op, OpIndex, OpTable};

/// One operation of a device. Blocks are the device's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// What to do.
    pub op: Op,
    /// First block; 0 of a flush.
    pub block: u64,
    /// Blocks; 0 of a flush, which concerns all.
    pub blocks: u64,
}

impl Command {
    /// Make all that was written non-volatile.
    pub const FLUSH: Command = Command {
        op: Op::Flush,
        block: 0,
        blocks: 0,
    };
}

/// Why a device did not start a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStarted {
    /// It has no room now: to be tried again later.
    Full,
    /// It never will.
    Failed(Fault),
}

/// What a device is and takes.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Bytes of a block, a power of two.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// Metadata bytes of a block; devices with any are refused.
    pub metadata: u32,
    /// Bytes that element addresses are multiples of.
    pub alignment: u32,
    /// Elements must meet at page borders (NVMe PRP lists).
    pub prp: bool,
    /// Elements of one command's list.
    pub max_elements: u32,
    /// Bytes of one command.
    pub max_bytes: u32,
    /// Writes can be lost with power until a flush.
    pub write_cache: bool,
    /// Takes [`Op::WriteZeroes`].
    pub write_zeroes: bool,
    /// Takes [`Op::Deallocate`].
    pub unmap: bool,
    /// Blocks that were deallocated read as zeros.
    pub deallocated_zeros: bool,
}

impl Geometry {
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }

    /// Whether there is not one block.
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Whether some scatter-gather lists are refused, however short.
    pub fn is_particular(&self) -> bool {
        self.alignment > 1 || self.prp || self.max_elements < pages::MAX_SEGMENTS as u32
    }

    /// As limits for a divider whose lists have room for `elements`.
    pub fn limits(&self, elements: u32) -> Limits {
        Limits {
            max_transfer: self.max_bytes.into(),
            max_segments: self.max_elements.min(elements),
            block: self.block_size.into(),
            alignment: self.alignment.into(),
            inner_edge: if self.prp { pages::PAGE_SIZE as u64 } else { 1 },
            ..Limits::NONE
        }
    }
}

/// How a device does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceState {
    /// Nothing is known against it.
    #[default]
    Works,
    /// Whatever is asked of it fails, or is not answered.
    Failing,
    /// It went away.
    Gone,
}

/// A shard's way to a device that stores blocks.
pub trait Device {
    /// What the device needs in each operation beside its list.
    type Slot;

    /// What it is and takes. Size may grow or shrink while it is open.
    fn geometry(&self) -> Geometry;

    /// Whether it went away for good.
    fn is_gone(&self) -> bool;

    /// How long it may have a command; `None`: for ever.
    fn timeout(&self) -> Option<Duration>;

    /// It has had a command for longer than it may: whoever drives it takes back what it has, as a
    /// controller reset does (NVMe base 2.0, 3.7.2). Does not wait for that. Afterwards each of its
    /// commands has ended, and changes nothing later; or is given to it once more; or the
    /// device [is gone](Device::is_gone).
    fn recover(&mut self);

    /// It did not answer after it was recovered either: it is gone from now on.
    fn give_up(&mut self);

    /// Lets it work, and takes completions that come by polling; whether there were any.
    fn poll(&mut self) -> bool;

    /// Starts `command` with the first `elements` of the operation's list. The
    /// end comes out of the table, at once or later.
    ///
    /// # Errors
    /// It was not started, and no end comes.
    fn submit(
        &mut self,
        ops: &mut OpTable<Self::Slot>,
        op: OpIndex,
        elements: usize,
        command: Command,
    ) -> Result<(), NotStarted>;
}
