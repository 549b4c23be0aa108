//! What a shard lends to its sessions: pools, ledger, credit, counters.

use pages::{ClusterPool, CopyLedger};

use crate::stand_in::RunPool;

/// A shard's resources, borrowed for one call.
pub struct Shard<'a> {
    /// Page runs for data in both directions.
    pub runs: &'a mut RunPool,
    /// Whole pages for pull-ups and for control data (identify, log pages).
    pub pages: &'a ClusterPool,
    /// Where copies are counted.
    pub ledger: &'a CopyLedger,
    /// Slots for commands under way, shared by the shard's sessions.
    pub commands: &'a mut CommandPool,
}

/// The shard's command slots and write credit, and its counters.
#[derive(Debug, Default)]
pub struct CommandPool {}

impl CommandPool {
    /// A pool of `slots` command slots (1 to 65,535) whose writes may together
    /// pin `write_bytes` of receive buffers: R2Ts are sent only within that credit.
    pub fn new(slots: u16, write_bytes: u64) -> Self {
        let _ = (slots, write_bytes);
        Self {}
    }

    /// Slots in use.
    pub fn in_use(&self) -> usize {
        0
    }
}
