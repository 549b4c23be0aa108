//! The shape of page runs this crate is written against, until `pages` has them.

use pages::{ClusterPool, CopyLedger};

/// The chain of logical pages that a request covers.
#[derive(Debug, Default)]
pub struct PageRun {}

/// The shard's page runs.
#[derive(Debug, Default)]
pub struct RunPool {}

/// What a pull-up needs: whole pages, and the ledger that counts it.
#[derive(Clone, Copy, Debug)]
pub struct PullUp<'a> {
    /// Whole pages.
    pub pages: &'a ClusterPool,
    /// Where the copy is counted.
    pub ledger: &'a CopyLedger,
}
