//! What became of requests: by kind, by namespace.

use events::Histogram;
use serde::{Deserialize, Serialize};

use crate::Op;

events::counters! {
    /// Requests that ended.
    #[derive(Copy, Serialize, Deserialize)]
    pub struct IoCounters {
        /// Reads completed.
        reads,
        /// Writes completed.
        writes,
        /// Flushes, write-zeroes and deallocations completed.
        others,
        /// Commands completed with an error status.
        errors,
        /// Payload bytes read.
        read_bytes,
        /// Payload bytes written.
        written_bytes,
    }
}

/// What a request counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum IoKind {
    /// A read.
    Read,
    /// A write.
    Write,
    /// Anything else that goes to a device.
    Other,
}

impl IoKind {
    /// Every kind, in order.
    pub const ALL: [IoKind; 3] = [IoKind::Read, IoKind::Write, IoKind::Other];

    /// What an operation counts as.
    #[inline]
    pub const fn of(op: Op) -> IoKind {
        match op {
            Op::Read => IoKind::Read,
            Op::Write => IoKind::Write,
            Op::WriteZeroes | Op::Deallocate | Op::Flush => IoKind::Other,
        }
    }

    /// The name statistics use.
    pub const fn name(self) -> &'static str {
        match self {
            IoKind::Read => "read",
            IoKind::Write => "write",
            IoKind::Other => "other",
        }
    }
}

impl IoCounters {
    /// Counts a request that ended.
    #[inline]
    pub fn count(&mut self, kind: IoKind, bytes: u64, succeeded: bool) {
        match kind {
            _ if !succeeded => self.errors += 1,
            IoKind::Read => {
                self.reads += 1;
                self.read_bytes += bytes;
            }
            IoKind::Write => {
                self.writes += 1;
                self.written_bytes += bytes;
            }
            IoKind::Other => self.others += 1,
        }
    }

    /// Reads and writes.
    pub fn transfers(&self) -> u64 {
        self.reads + self.writes
    }
}

/// What a shard did for a namespace, since it started.
#[derive(Clone, Debug, Default)]
pub struct NamespaceCounters {
    /// Requests that ended.
    pub io: IoCounters,
    /// How long those took that succeeded, by [`IoKind`]: from the moment a request
    /// has all it needs and goes to its volume, until its end is taken from there.
    pub latency: [Histogram; IoKind::ALL.len()],
}

impl NamespaceCounters {
    /// Counts a request that ended after `nanoseconds`.
    #[inline]
    pub fn count(&mut self, kind: IoKind, bytes: u64, nanoseconds: u64, succeeded: bool) {
        self.io.count(kind, bytes, succeeded);
        if succeeded {
            self.latency[kind as usize].record(nanoseconds);
        }
    }
}
