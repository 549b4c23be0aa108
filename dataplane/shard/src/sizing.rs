//! How large a shard's pools are, and how much of them each consumer may take.

use std::time::Duration;

use nvmf::CommandPool;
use volume::Sizes;

/// Elements of one device operation; longer lists are divided (PCIe takes 250).
const ELEMENTS_MAX: usize = 256;
/// Bytes of a logged volume that are deallocated by one record: zeros take their place if the device fails to.
const DEALLOCATED_MAX: u64 = 64 << 20;
/// How long a drive that has failed to deallocate is not asked to again.
const DEALLOCATION_REST: Duration = Duration::from_secs(60);

/// Sizes of a shard's pools. Memory is fixed at start.
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    /// Receive clusters.
    pub clusters: u32,
    /// Bytes of a receive cluster: 2048, or a power of two up to 16384 (row Z1).
    pub cluster_size: u32,
    /// Whole 4 KB pages, for reads, pull-ups and control data.
    pub pages: u32,
    /// Requests that may be in flight at once.
    pub requests: u32,
    /// TCP connections.
    pub connections: u32,
}

impl MemoryConfig {
    /// Page runs: for requests in flight, and for each connection one for data
    /// that is coming, however slowly, in a capsule.
    pub fn runs(&self) -> u32 {
        self.requests + self.connections
    }

    /// Commands that hold a slot: those with a run, a few that wait for one, and
    /// some that I/O leaves to Admin Queues.
    pub fn commands(&self) -> u16 {
        (self.runs() + self.runs() / 8 + 64).min(u16::MAX.into()) as u16
    }
}

/// What the sizes of a shard's tables follow from.
pub struct Sizing<'a> {
    /// The pools.
    pub memory: &'a MemoryConfig,
    /// Shards that share the volumes.
    pub shards: usize,
    /// Largest data transfer of one command in bytes.
    pub max_io_bytes: usize,
    /// The least TCP payload that full frames bring into one cluster.
    pub cluster_payload: usize,
    /// Assemble by memcpy: the ablation.
    pub copy: bool,
    /// For the index of the cache.
    pub seed: u64,
}

impl Sizing<'_> {
    /// How much room volumes get.
    pub fn volumes(&self) -> Sizes {
        let memory = self.memory;
        Sizes {
            shards: self.shards,
            clusters: memory.clusters as usize,
            requests: memory.commands().into(),
            cached: memory.requests as usize,
            elements: (self.max_io_bytes / pages::PAGE_SIZE * pages::MAX_SEGMENTS + 8)
                .min(ELEMENTS_MAX),
            max_bytes: self.max_io_bytes,
            // A quarter of all memory may be cached pages; see also the write credit below.
            cache_clusters: (memory.clusters as usize + memory.pages as usize) / 4,
            deallocated_max: DEALLOCATED_MAX,
            deallocation_rest: DEALLOCATION_REST,
            copy: self.copy,
            seed: self.seed,
        }
    }

    /// Command slots and write credit of NVMe sessions.
    ///
    /// Writes may together pin half of the clusters; the rest is for frames on their way.
    /// A thousand hosts that stall in the middle of their writes leave to every other one a
    /// slot, a run for data in a capsule, and runs to read with.
    pub fn commands(&self) -> CommandPool {
        let memory = self.memory;
        let (requests, connections) = (memory.requests as usize, memory.connections as usize);
        CommandPool::new(
            memory.commands(),
            u64::from(memory.clusters) / 2 * self.cluster_payload as u64,
            connections + requests / 4,
        )
        .keep(connections, requests * 3 / 8)
    }
}
