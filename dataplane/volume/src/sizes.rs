//! How much room volumes get.

use std::time::Duration;

/// How much room volumes get.
pub struct Sizes {
    /// Shards that share the volumes.
    pub shards: usize,
    /// Receive clusters.
    pub clusters: usize,
    /// Requests under way at once.
    pub requests: usize,
    /// Of them, those that the cache, and a device, works on at once; others wait.
    pub cached: usize,
    /// Elements of one device list.
    pub elements: usize,
    /// Bytes of the longest request.
    pub max_bytes: usize,
    /// Clusters the cache may refer to.
    pub cache_clusters: usize,
    /// Bytes of a logged volume that are deallocated by one record, at most.
    pub deallocated_max: u64,
    /// How long a drive that has failed to deallocate is not asked to again.
    pub deallocation_rest: Duration,
    /// Assemble by memcpy.
    pub copy: bool,
    /// For the cache's index.
    pub seed: u64,
}

impl Sizes {
    /// Parts of requests that one shard may have at another at a time.
    pub(crate) fn parts(&self) -> usize {
        match self.shards {
            0 | 1 => 0,
            shards => (self.cached / (shards - 1)).clamp(8, 128),
        }
    }
}
