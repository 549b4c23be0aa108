//! What the target asks of the engine, and what the engine answers.

use pages::PageRun;

use crate::status::Status;
use crate::units::{BlockRange, BlockSize, Nsid, VolumeId};

/// Names a request until its completion. Unique in its session, and never
/// mistaken for an earlier request in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    pub(crate) slot: u16,
    pub(crate) generation: u32,
}

impl RequestId {
    /// What tracepoints call it: unlike any other request's that is under way in the shard.
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 16 | u64::from(self.slot)
    }
}

/// One operation on a volume.
#[derive(Debug)]
pub struct Request {
    /// To be given back in the [`Completion`].
    pub id: RequestId,
    /// The volume, from the namespace's configuration.
    pub volume: VolumeId,
    /// The namespace the host named.
    pub nsid: Nsid,
    /// Size of the namespace's blocks.
    pub block_size: BlockSize,
    /// What to do.
    pub operation: Operation,
}

/// What a [`Request`] asks for. Ranges have been checked against the namespace's size.
#[derive(Debug)]
pub enum Operation {
    /// Fill `run` from `range`.
    Read {
        /// Blocks to read.
        range: BlockRange,
        /// Whether data must come from, or be in, non-volatile media.
        fua: bool,
        /// Begun on the bytes of `range`, empty.
        run: Box<PageRun>,
    },
    /// Store `run` at `range`.
    Write {
        /// Blocks to write.
        range: BlockRange,
        /// Whether to complete only when non-volatile. Also set while the host
        /// has the volatile write cache switched off.
        fua: bool,
        /// The data, complete.
        run: Box<PageRun>,
    },
    /// Make `range` read back as zeros.
    WriteZeroes {
        /// Blocks to clear.
        range: BlockRange,
        /// As for writes.
        fua: bool,
        /// Whether the blocks should be deallocated if they then read as zeros.
        deallocate: bool,
    },
    /// The host needs `range` no more. Advisory: success without doing anything is right.
    Deallocate {
        /// Blocks to give up.
        range: BlockRange,
    },
    /// Make everything written so far non-volatile.
    Flush,
}

/// How a request ended. The run comes back whether it went well or not.
#[derive(Debug)]
pub struct Completion {
    /// The request's.
    pub id: RequestId,
    /// How it ended.
    pub status: Status,
    /// The run that came with the request, if one did; complete after a successful read.
    pub run: Option<Box<PageRun>>,
}
