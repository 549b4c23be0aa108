//! The pools of one shard that requests draw on.

use std::rc::Rc;

use pages::{Cluster, ClusterPool, CopyLedger, PullUp, RunPool};

/// What a shard's requests are made of. Sizes are fixed at start.
pub struct Buffers {
    /// Receive clusters.
    pub clusters: ClusterPool,
    /// Whole pages: reads, pull-ups, control data.
    pub pages: ClusterPool,
    /// Page runs.
    pub runs: RunPool,
    /// How many runs there are.
    pub runs_len: usize,
    /// Where every payload byte that the CPU copies is counted (row Z14).
    pub ledger: Rc<CopyLedger>,
    /// The shared page of zeros (row Z5).
    pub zero_page: Cluster,
}

impl Buffers {
    /// What merging needs: pages to pull up into, and the ledger.
    #[inline]
    pub fn pull_up(&self) -> PullUp<'_> {
        PullUp::new(&self.pages, &self.ledger)
    }
}
