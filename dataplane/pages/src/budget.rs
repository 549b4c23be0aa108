//! The budget of clusters (row Z12): one number that everything derives from.
//!
//! Of the `N` clusters of a receive pool, at any time,
//!
//! ```text
//! port + cache + 4·operations + 4·admitted + Σ promised(c) ≤ N
//!                                          connections c
//! ```
//!
//! * `port`: clusters that the port always has to receive into.
//! * `cache`: what the page cache refers to at most, by its own bound.
//! * `operations`: logical pages in device operations at most; each refers to
//!   four clusters at most (row Z8).
//! * `admitted`: logical pages of requests whose data may be on its way,
//!   likewise. A request is admitted before its data is asked for.
//! * `promised(c)`: clusters that the bytes of connection `c`'s receive window
//!   can pin, if its queue is an [`Intake`](crate::Intake), whatever the size
//!   of its segments.
//!
//! Every term on the left bounds what can be held for its reason, so their sum
//! bounds all that can be held, and at least `port` clusters are never held:
//! memory never runs out. The first three are fixed at the start; a request or
//! a promise that would break the inequality is not made.

use std::cell::Cell;

use crate::MAX_SEGMENTS;
use crate::arena::PAGE_SIZE;
use crate::cluster::ClusterPool;

/// The fixed terms of a budget.
#[derive(Clone, Copy, Debug)]
pub struct BudgetConfig {
    /// Clusters in the pool.
    pub clusters: usize,
    /// Size of each in bytes.
    pub cluster_size: usize,
    /// Most bytes of headers before the payload of a frame.
    pub headers: usize,
    /// Clusters that stay with the port.
    pub port: usize,
    /// Most clusters that the page cache refers to.
    pub cache: usize,
    /// Most logical pages in device operations.
    pub operation_pages: usize,
    /// Small segments in a connection's queue that are not packed together yet.
    pub loose: usize,
}

/// How scarce clusters are, and what to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Nothing.
    None,
    /// Compact pages that pin more clusters than they are worth.
    Compact,
    /// Flush and reclaim the least recently used pages.
    Flush,
    /// Narrow the receive windows.
    Narrow,
}

/// Clusters kept for what one connection's window may pin. Starts with none;
/// [`Budget::withdraw`] it when the connection is gone.
#[derive(Debug, Default)]
#[must_use]
pub struct Promise {
    clusters: usize,
}

/// The budget of one shard's receive pool.
#[derive(Debug)]
pub struct Budget {
    config: BudgetConfig,
    /// Clusters neither fixed, nor admitted, nor promised.
    left: Cell<usize>,
    promised: Cell<usize>,
}

impl Budget {
    /// A budget; `None` if its fixed terms do not fit.
    pub fn new(config: BudgetConfig) -> Option<Self> {
        let fixed = config.port + config.cache + MAX_SEGMENTS * config.operation_pages;
        if config.headers >= config.cluster_size {
            return None;
        }
        Some(Self {
            left: Cell::new(config.clusters.checked_sub(fixed)?),
            promised: Cell::new(0),
            config,
        })
    }

    /// Logical pages that a request for `len` bytes covers, wherever it starts.
    pub fn pages_of(len: usize) -> usize {
        len.div_ceil(PAGE_SIZE) + 1
    }

    /// Admits a request that covers `pages` logical pages; false if there is no
    /// room now.
    #[must_use]
    pub fn admit(&self, pages: usize) -> bool {
        let clusters = MAX_SEGMENTS * pages;
        let fits = clusters <= self.left.get();
        if fits {
            self.left.set(self.left.get() - clusters);
        }
        fits
    }

    /// An admitted request of `pages` logical pages has let go of its run.
    pub fn release(&self, pages: usize) {
        self.left.set(self.left.get() + MAX_SEGMENTS * pages);
    }

    /// Clusters that `bytes` in an [`Intake`](crate::Intake) can pin at most.
    pub fn clusters_for(&self, bytes: usize) -> usize {
        crate::intake::most_clusters(bytes, self.payload(), self.config.loose)
    }

    /// Makes `promise` cover a window of `bytes` (those in the queue and those
    /// that may still come), or as many as there is room for. Returns how many
    /// bytes it covers: the most that the connection may be told. A window once
    /// told must not shrink, so `bytes` should not be less than what is.
    pub fn promise(&self, promise: &mut Promise, bytes: usize) -> usize {
        let most = promise.clusters + self.left.get();
        let wanted = self.clusters_for(bytes).min(most);
        self.left.set(most - wanted);
        self.promised
            .set(self.promised.get() + wanted - promise.clusters);
        promise.clusters = wanted;
        bytes.min(self.bytes_in(wanted))
    }

    /// Takes a promise back: the connection and its queue are gone.
    pub fn withdraw(&self, promise: Promise) {
        self.left.set(self.left.get() + promise.clusters);
        self.promised.set(self.promised.get() - promise.clusters);
    }

    /// The window in bytes that each of `connections` could have if all had the
    /// same: what a connection should ask for at most.
    pub fn fair_window(&self, connections: usize) -> usize {
        let shared = self.left.get() + self.promised.get();
        self.bytes_in(shared / connections.max(1))
    }

    /// Clusters for which no promise is made and no request admitted.
    pub fn left(&self) -> usize {
        self.left.get()
    }

    /// What the number of clusters in `pool` that nobody holds calls for.
    pub fn pressure(&self, pool: &ClusterPool) -> Pressure {
        let free = pool.unheld().saturating_sub(self.config.port);
        match self.config.clusters / free.max(1) {
            0..4 => Pressure::None,
            4..8 => Pressure::Compact,
            8..16 => Pressure::Flush,
            _ => Pressure::Narrow,
        }
    }

    /// Bytes that a promise of `clusters` covers.
    fn bytes_in(&self, clusters: usize) -> usize {
        crate::intake::most_bytes(clusters, self.payload(), self.config.loose)
    }

    fn payload(&self) -> usize {
        self.config.cluster_size - self.config.headers
    }
}
