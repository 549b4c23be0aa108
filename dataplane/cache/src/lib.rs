//! The page cache: dirty and clean logical pages by <volume, page> (rows Z7–Z13).
//!
//! One per shard, and a state machine without I/O: requests go in by
//! [`PageCache::submit`], device operations come out by
//! [`PageCache::next_operation`], their results go in by [`PageCache::complete`],
//! and finished requests come out by [`PageCache::next_completion`]. Buffers
//! travel along as [`PageRun`]s and always come back. All memory is made at
//! the start.
//!
//! * Writes merge in the cache and reads are served from it, dirty data
//!   included, by reference. Nothing is copied, except by pull-ups.
//! * With [`WritePolicy::Back`] a write is complete once it is in the cache;
//!   it is on the device after a flush, or with `fua`. With
//!   [`WritePolicy::Through`] it is complete once the device has it.
//! * Partial blocks are completed from the device before they are merged
//!   (row Z11). A merge is one step, and at most one device write of a page is
//!   in flight at any time, so that writes to one block are atomic against
//!   each other.
//! * A deallocation is done by the device; what overlaps it waits meanwhile.
//! * A device write that fails leaves its data dirty, and is reported to the
//!   requests that waited for it and to the next flush, which tries again.
//! * The least recently used pages are written and reclaimed (row Z12), and no
//!   more than [`CacheConfig::clusters`] clusters are ever referred to: see
//!   [`PageCache::clusters`].

mod deallocate;
mod entry;
mod operation;
mod page;
mod pressure;
mod read;
mod request;
mod share;
mod shelf;
mod slot;
mod table;
mod volumes;
mod write;
mod write_back;

use std::fmt;

use block::{Completion, Fault, Geometry, Io, RequestId, VolumeId, WritePolicy};
use collections::{IndexTable, List, TableIndex};
use pages::{PAGE_SIZE, PageRun, PullUp, RunPool};

use entry::EntryIndex;
use operation::OperationSlot;
use shelf::Shelves;
use slot::{RequestIndex, RequestSlot};
use table::Table;
use volumes::{Volume, Volumes};

pub use operation::{Operation, OperationId};
pub use request::Refused;

/// How large a cache is. Every number is fixed at the start.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Pages it can hold, dirty and clean.
    pub pages: usize,
    /// Most clusters those pages may refer to, receive clusters and whole pages alike.
    pub clusters: usize,
    /// Dirty pages beyond this number are written back, oldest first.
    pub dirty_pages: usize,
    /// Requests in progress.
    pub requests: usize,
    /// Device operations in flight.
    pub operations: usize,
    /// Longest request and longest device operation, in bytes.
    pub max_bytes: usize,
    /// Of the index's hash: hosts that choose addresses cannot choose collisions.
    pub seed: u64,
}

/// A volume and the device behind it.
#[derive(Clone, Copy, Debug)]
pub struct VolumeConfig {
    /// Length in bytes, a multiple of `block`.
    pub len: u64,
    /// The device's block size in bytes: 512, 1024, 2048 or 4096.
    pub block: usize,
    /// When writes are complete.
    pub policy: WritePolicy,
    /// The device has a volatile cache of its own: flushes are passed on to
    /// it, and `fua` writes are marked so.
    pub device_cache: bool,
}

impl VolumeConfig {
    /// Of a device, all of which is the volume.
    pub fn of(geometry: &Geometry, policy: WritePolicy) -> Self {
        Self {
            len: geometry.len(),
            block: geometry.block_size as usize,
            policy,
            device_cache: geometry.write_cache,
        }
    }
}

/// A volume that a cache cannot hold: its block size is not one that
/// [`VolumeConfig::block`] can be, or its length is not a multiple of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnfitVolume;

impl fmt::Display for UnfitVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the page cache takes blocks of 512 to 4096 bytes, and whole ones")
    }
}

impl std::error::Error for UnfitVolume {}

events::counters! {
    /// What a cache has done since the start, in pages.
    pub struct CacheCounters {
        /// Pages of reads served from the cache.
        hits,
        /// Pages of reads that were read from the device.
        misses,
        /// Pages merged into the cache by writes.
        merged,
        /// Pages handed to the device in writes.
        written,
        /// Pages of which a block was completed from the device (row Z11).
        completed,
        /// Clean pages reclaimed.
        reclaimed,
        /// Pages rewritten because they pinned more clusters than they were worth.
        compacted,
        /// Pages that the device was told are needed no more.
        deallocated,
        /// Device operations that failed.
        failed,
    }
}

/// The dirty and clean pages of one shard.
pub struct PageCache {
    config: CacheConfig,
    table: Table,
    volumes: Volumes,
    /// Two volumes or more were added.
    is_shared: bool,
    /// Entries that came to the front of their list so far.
    clock: u32,
    /// Searches for a page to reclaim so far.
    searches: u32,
    requests: IndexTable<RequestIndex, RequestSlot>,
    operations: IndexTable<OperationId, OperationSlot>,
    runs: RunPool,
    free_requests: List<RequestIndex>,
    free_operations: List<OperationId>,
    /// Operations to be handed out.
    ready: List<OperationId>,
    /// Operations in the caller's hands.
    in_flight: usize,
    /// Requests to be handed back.
    done: List<RequestIndex>,
    /// Requests that lack something to go on.
    stalled: usize,
    /// Deallocations under way.
    deallocating: usize,
    /// The volume whose requests go on first when what they wait for came back.
    first: VolumeId,
    /// Clusters that entries refer to, those on shelves not counted.
    clusters: usize,
    shelves: Shelves,
    /// The entry that compaction looked at last.
    hand: EntryIndex,
    dirty_pages: usize,
    /// The sum of what volumes hold ([`Share::pages`]).
    held_pages: usize,
    counters: CacheCounters,
}

impl PageCache {
    /// An empty cache.
    ///
    /// # Panics
    /// If `config` is too small to go on in every case: fewer than eight
    /// clusters or two pages per request and eight more, or no operation.
    pub fn new(config: CacheConfig) -> Self {
        assert!(config.operations >= 2 && config.requests > 0 && config.max_bytes > 0);
        assert!(config.pages >= 2 * config.requests + 8, "too few pages");
        assert!(
            config.clusters >= 8 * config.requests + 8,
            "too few clusters"
        );
        let mut requests = IndexTable::new(config.requests, |_| RequestSlot::new());
        let mut operations = IndexTable::new(config.operations, |_| OperationSlot::new());
        let mut free_requests = List::new(0);
        let mut free_operations = List::new(0);
        for id in requests.indexes() {
            free_requests.push_back(&mut requests, id);
        }
        for id in operations.indexes() {
            free_operations.push_back(&mut operations, id);
        }
        Self {
            table: Table::new(config.pages, config.seed),
            volumes: Volumes::default(),
            is_shared: false,
            clock: 0,
            searches: 0,
            requests,
            operations,
            // A block more at either end, for requests that start or end inside one.
            runs: RunPool::new(config.operations, config.max_bytes + 2 * PAGE_SIZE),
            free_requests,
            free_operations,
            ready: List::new(0),
            in_flight: 0,
            done: List::new(0),
            stalled: 0,
            deallocating: 0,
            first: VolumeId(0),
            clusters: 0,
            shelves: Shelves::new(config.clusters),
            hand: EntryIndex::new(0),
            dirty_pages: 0,
            held_pages: 0,
            counters: CacheCounters::default(),
            config,
        }
    }

    /// Adds a volume, at start-up; those that are not added are refused every request.
    ///
    /// # Errors
    /// [`UnfitVolume`]; the cache is as before.
    ///
    /// # Panics
    /// If the volume was added before.
    pub fn add_volume(
        &mut self,
        volume: VolumeId,
        config: VolumeConfig,
    ) -> Result<(), UnfitVolume> {
        if !matches!(config.block, 512 | 1024 | 2048 | 4096)
            || !config.len.is_multiple_of(config.block as u64)
        {
            return Err(UnfitVolume);
        }
        assert!(!self.holds(volume), "a volume is added once");
        self.is_shared = self.volumes.iter().any(|volume| volume.held);
        self.volumes.add(volume, config);
        Ok(())
    }

    /// Whether the volume was added.
    pub fn holds(&self, volume: VolumeId) -> bool {
        self.volumes.get(volume).is_some()
    }

    /// Changes when writes to `volume` are complete, from the next one on.
    /// What is dirty stays so until it is flushed.
    pub fn set_policy(&mut self, volume: VolumeId, policy: WritePolicy) {
        self.volumes[volume].config.policy = policy;
    }

    /// The device behind `volume` has grown: requests may reach as far as `len` bytes. A length
    /// that is shorter, or no multiple of its blocks, changes nothing.
    pub fn grow(&mut self, volume: VolumeId, len: u64) {
        let config = &mut self.volumes[volume].config;
        if len > config.len && len.is_multiple_of(config.block as u64) {
            config.len = len;
        }
    }

    /// Takes a request to read, write, flush or deallocate. It comes back, with its run, from
    /// [`PageCache::next_completion`] under the same `id`, perhaps at once.
    ///
    /// A read fills its run. The run of a write comes back without its bytes: the
    /// cache took the references. If a write fails, any part of it may have been
    /// written; if a flush fails, what is not on the device is still in the cache.
    /// A flush of no range is one of the whole volume. If a deallocation, which is of whole
    /// blocks, fails, any part of it may have been done.
    ///
    /// # Errors
    /// The request comes back at once if the cache has too many in progress, if it
    /// does not lie inside the volume, or if it is one of zeros.
    pub fn submit(
        &mut self,
        volume: VolumeId,
        id: RequestId,
        io: Io,
        memory: &PullUp<'_>,
    ) -> Result<(), Refused> {
        let slot = self.admit(volume, id, io)?;
        self.begin(slot, memory);
        self.fail_if_stuck();
        self.go_on_deallocating();
        Ok(())
    }

    /// The next operation for a device to do.
    pub fn next_operation(&mut self) -> Option<Operation> {
        let id = self.ready.pop_front(&mut self.operations)?;
        self.in_flight += 1;
        Some(self.operations[id].hand_out(id))
    }

    /// Takes the result of an operation, and its run back.
    ///
    /// # Panics
    /// If the operation is not in the caller's hands, or its run is missing.
    pub fn complete(
        &mut self,
        id: OperationId,
        run: Option<Box<PageRun>>,
        result: Result<(), Fault>,
        memory: &PullUp<'_>,
    ) {
        self.in_flight -= 1;
        self.counters.failed += u64::from(result.is_err());
        let slot = &mut self.operations[id];
        slot.take_back(run);
        let volume = slot.volume;
        self.finish_operation(id, result, memory);
        self.go_on(volume, memory);
        self.go_on_deallocating();
    }

    /// The next finished request.
    pub fn next_completion(&mut self) -> Option<Completion> {
        let id = self.done.pop_front(&mut self.requests)?;
        let completion = self.requests[id].hand_back();
        self.free_requests.push_front(&mut self.requests, id);
        Some(completion)
    }

    /// Asks for the memory that a request at byte `offset` will look at first.
    pub fn prefetch(&self, volume: VolumeId, offset: u64) {
        self.table.prefetch(volume, offset / PAGE_SIZE as u64);
    }

    /// Starts to write back up to `pages` of the oldest dirty pages, and more
    /// where they are side by side: for when there is nothing better to do.
    pub fn write_back(&mut self, pages: usize) {
        self.write_oldest(pages);
    }

    /// Clusters that the cache refers to. Never more than
    /// [`CacheConfig::clusters`]: a page has at most four segments (row Z8), so
    /// before anything is merged into a page, there must be room for four
    /// clusters in place of those it has; if reclaiming, compaction and
    /// write-back do not make it, the request waits.
    ///
    /// Device operations in flight may refer to clusters that have been
    /// overwritten since: at most four for each page of theirs.
    pub fn clusters(&self) -> usize {
        self.clusters + self.shelves.len()
    }

    /// Pages held, dirty and clean.
    pub fn pages(&self) -> usize {
        self.table.len()
    }

    /// Pages that the device does not have yet, those in flight included.
    pub fn dirty_pages(&self) -> usize {
        self.dirty_pages
    }

    /// Pages of a volume that wait to be written.
    pub fn dirty_of(&self, volume: VolumeId) -> usize {
        let volume = self.volumes.get(volume);
        volume.map_or(0, |volume| volume.dirty.len() + volume.failed.len())
    }

    /// What the cache has done so far.
    pub fn counters(&self) -> &CacheCounters {
        &self.counters
    }

    /// Requests in progress.
    pub fn requests(&self) -> usize {
        self.config.requests - self.free_requests.len()
    }

    /// Whether some request waits for memory, or for an operation.
    pub fn has_stalled(&self) -> bool {
        self.stalled > 0
    }

    /// Whether some request waits for memory that others hold: the sign to narrow the receive
    /// window (row Z12). Not for what its own volume holds.
    pub fn is_short_of_memory(&self) -> bool {
        let is_short = |volume: &Volume| volume.has_stalled() && !volume.share.is_greedy;
        self.has_stalled() && self.volumes.iter().any(is_short)
    }
}
