//! A shard's memory: one arena on the heap, and the pools carved from it as the
//! appliance's are from hugepages.

use std::cell::RefCell;
use std::rc::Rc;

use block::Buffers;
use pages::{Arena, ClusterPool, CopyLedger, HeapRegion, PAGE_SIZE, RunPool};
use shard::MemoryConfig;

/// Everything a shard allocates from.
pub struct Memory {
    buffers: Buffers,
    arena: Rc<Arena>,
    /// Clusters posted to the ports.
    spare: RefCell<Vec<u32>>,
}

impl Memory {
    /// Lays out a shard's memory.
    pub(crate) fn new(config: &MemoryConfig, max_io_bytes: usize) -> Self {
        let cluster_size = config.cluster_size as usize;
        let clusters = config.clusters as usize;
        // The page of zeros, and one behind everything, so that no two arenas touch: what
        // is contiguous must not depend on where the heap has them.
        let pages = 2 + config.pages as usize + (clusters * cluster_size).div_ceil(PAGE_SIZE);
        let arena = Arena::new(HeapRegion::new(pages));
        let carve =
            |count, size| ClusterPool::carve(&arena, count, size).expect("the arena has room");
        let zero_page = arena.zero_page().expect("the arena has room");
        let pages = carve(config.pages as usize, PAGE_SIZE);
        let clusters = carve(clusters, cluster_size);
        let buffers = Buffers {
            clusters,
            pages,
            runs_len: config.runs() as usize,
            runs: RunPool::new(config.runs() as usize, max_io_bytes),
            ledger: Rc::new(CopyLedger::new()),
            zero_page,
        };
        let mut memory = Self {
            buffers,
            arena,
            spare: RefCell::default(),
        };
        shard::Memory::replenish(&mut memory);
        memory
    }

    pub(crate) fn arena(&self) -> &Rc<Arena> {
        &self.arena
    }

    /// A free cluster for a frame to be received into.
    pub(crate) fn take(&self) -> Option<u32> {
        self.spare.borrow_mut().pop()
    }

    /// Gives back a cluster that [`Memory::take`] gave and nothing was received into.
    pub(crate) fn put_back(&self, cluster: u32) {
        self.spare.borrow_mut().push(cluster);
    }
}

impl shard::Memory for Memory {
    fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    fn replenish(&mut self) {
        let mut posted = [0; 64];
        loop {
            let n = self.buffers.clusters.post(&mut posted);
            if n == 0 {
                return;
            }
            self.spare.get_mut().extend_from_slice(&posted[..n]);
        }
    }
}
