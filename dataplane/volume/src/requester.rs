//! Where requests come from, and where their ends go.

use std::collections::VecDeque;

use block::{Completion, Fault, IoKind, NamespaceIndex, RequestId, VolumeId};
use pages::PageRun;

/// Where a request came from: a session of a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The port's place in the shard's list.
    pub link: u16,
    /// The session's place at that port.
    pub slot: u32,
}

/// Where the end of a door's request goes, and what it is counted as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) origin: Origin,
    pub(crate) id: RequestId,
    pub(crate) kind: IoKind,
    pub(crate) bytes: u64,
    pub(crate) namespace: NamespaceIndex,
    /// Of a mirrored volume: how often its service had been suspended when it came; of a backup, which time it was there.
    pub(crate) begun: u16,
    /// When it came, in ticks.
    pub(crate) started: u64,
}

/// A request's end, and what it is counted as.
pub struct Ended {
    /// The session that asked.
    pub origin: Origin,
    /// Its end.
    pub completion: Completion,
    /// What it counts as.
    pub kind: IoKind,
    /// Payload bytes.
    pub bytes: u64,
    /// The namespace it was for.
    pub namespace: NamespaceIndex,
    /// From the request's start to the lap in which its end was taken.
    pub nanoseconds: u64,
}

/// On whose account a request is in the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Requester {
    /// A door's request, all of it.
    Door(Caller),
    /// A part of a door's request.
    Part(u32),
    /// A part of another shard's request.
    Remote { shard: u16, token: u16 },
    /// A door's request that came too late.
    Refused(Caller),
    /// The shard's own flush.
    Shard,
    /// A flush of the log's, for a consistency point.
    Log,
    /// A record of a deallocation that takes several.
    Piece(u32),
    /// A read of what was replayed, into the cache.
    Warm,
    /// A read of a granule, for the other node of a pair.
    Copy(VolumeId, u64),
    /// A read of what is to be compared with the other node's.
    Verify(VolumeId),
}

/// The end of a request: its run comes back.
pub(crate) type End = (Requester, Result<(), Fault>, Option<Box<PageRun>>);

/// Requests that ended, on their way to their requesters.
pub(crate) type Ends = VecDeque<End>;

/// A queue that is empty begins at its front again: what comes next lies where the last one has just been, and
/// not where nothing was since the queue went through all of its room.
#[inline]
pub(crate) fn begin_anew<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() {
        queue.clear();
    }
}

impl Caller {
    pub(crate) fn ended(
        &self,
        result: Result<(), Fault>,
        run: Option<Box<PageRun>>,
        nanoseconds: u64,
    ) -> Ended {
        let id = self.id;
        Ended {
            origin: self.origin,
            completion: Completion { id, result, run },
            kind: self.kind,
            bytes: self.bytes,
            namespace: self.namespace,
            nanoseconds,
        }
    }
}
