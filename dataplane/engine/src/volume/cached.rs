//! Volumes behind the page cache: the volatile write cache an NVMe host knows
//! (rows Z11–Z13).

use std::collections::VecDeque;

use block::{Fault, Flags, Io, Op, RequestId, VolumeId};
use cache::{CacheConfig, OperationId, PageCache, VolumeConfig};
use events::Counter;
use nvmf::Status;
use pages::{ClusterPool, PageRun};

use super::{Answers, Sizes, Ticket as AnyTicket, Whom, owners};
use crate::config::WritePolicy;
use crate::device::{Devices, Work};
use crate::memory::Memory;

/// Device operations the cache may have in flight.
pub(super) const OPERATIONS: usize = 256;
/// Pages written back in an idle moment.
const IDLE_PAGES: usize = 32;

events::counters! {
    /// What a cache holds.
    struct CacheRoom {
        /// Pages in the cache.
        @gauge pages,
        /// Pages that only memory holds.
        @gauge dirty_pages,
        /// Clusters that the cache refers to.
        @gauge clusters,
    }
}

/// What [`Cached::counters`] gives, of a cache that has done nothing.
pub(super) fn counters_at_zero() -> impl Iterator<Item = Counter> {
    let counters = cache::CacheCounters::default();
    CacheRoom::default().iter().chain(counters.iter())
}

/// What a device's job for the cache is known by.
#[derive(Debug)]
pub(super) struct Ticket(OperationId);

/// Clusters given back at a time when they are scarce.
const RELIEF: usize = 64;
/// Polls to wait when nothing could be given back at once.
const RELIEF_WAIT: u32 = 64;

/// A request in the cache.
struct Asked {
    whom: Whom,
    volume: VolumeId,
    /// Zeros still to be written behind this part of them.
    zeros: Option<Zeros>,
}

#[derive(Clone, Copy)]
struct Zeros {
    offset: u64,
    len: u64,
    fua: bool,
}

/// The cache of a shard, and which volumes are behind it.
pub(super) struct Cached {
    cache: Option<PageCache>,
    /// How many volumes there are; requests on those that the cache does not hold
    /// go straight to the device.
    volumes: usize,
    asked: Box<[Option<Asked>]>,
    free: Vec<u32>,
    /// Requests that wait for another to end.
    queued: VecDeque<(Whom, usize, Work)>,
    /// Zeros that wait for a run.
    waiting: VecDeque<u32>,
    max_bytes: usize,
    /// Polls until clusters are looked at again.
    relief_wait: u32,
}

impl Cached {
    /// A cache for the volumes whose policy asks for one.
    pub(super) fn new(
        devices: &Devices<AnyTicket>,
        policies: &[WritePolicy],
        sizes: &Sizes,
    ) -> Self {
        let wanted = policies.contains(&WritePolicy::Back);
        // Our own, and the parts that every shard, this one too, may ask for.
        let others = owners::parts(sizes) * sizes.shards;
        let requests = sizes.cached + others;
        let mut cache = wanted.then(|| {
            // Room for what requests under way pin at most, whatever was configured.
            let least = 8 * requests + 8;
            let clusters = sizes.cache_clusters.max(least);
            PageCache::new(CacheConfig {
                pages: clusters,
                clusters,
                dirty_pages: clusters / 4,
                requests,
                operations: OPERATIONS,
                max_bytes: sizes.max_bytes,
                seed: sizes.seed,
            })
        });
        for (device, policy) in policies.iter().enumerate() {
            if let (WritePolicy::Back, Some(cache)) = (policy, &mut cache) {
                let geometry = devices.geometry(device);
                let config = VolumeConfig {
                    len: geometry.blocks * u64::from(geometry.block_size),
                    block: geometry.block_size as usize,
                    policy: block::WritePolicy::Back,
                    device_cache: geometry.write_cache,
                };
                // A volume that does not fit goes straight to its device.
                cache.add_volume(volume_id(device), config).ok();
            }
        }
        Self {
            cache,
            volumes: policies.len(),
            asked: (0..requests).map(|_| None).collect(),
            free: (0..requests as u32).rev().collect(),
            queued: VecDeque::with_capacity(sizes.requests + others),
            waiting: VecDeque::with_capacity(requests),
            max_bytes: sizes.max_bytes,
            relief_wait: 0,
        }
    }

    /// Whether the volume is behind the cache.
    pub(super) fn holds(&self, volume: usize) -> bool {
        let cache = self.cache.as_ref();
        cache.is_some_and(|cache| cache.holds(volume_id(volume)))
    }

    /// Takes a request on a volume that the cache [`Cached::holds`].
    pub(super) fn start(
        &mut self,
        whom: Whom,
        volume: usize,
        work: Work,
        memory: &Memory,
        answers: &mut Answers,
    ) {
        // In order: nothing overtakes what waits.
        if self.free.is_empty() || !self.queued.is_empty() {
            return self.queued.push_back((whom, volume, work));
        }
        self.admit(whom, volume, work, memory, answers);
    }

    fn admit(
        &mut self,
        whom: Whom,
        volume: usize,
        work: Work,
        memory: &Memory,
        answers: &mut Answers,
    ) {
        let Some(tag) = self.free.pop() else {
            unreachable!("there is room");
        };
        let volume = volume_id(volume);
        let (request, zeros) = match work {
            Work::Read(run) => (Io::read(run, Flags::NONE), None),
            Work::Write { run, fua } => (Io::write(run, Flags::fua(fua)), None),
            Work::Flush => (Io::flush(), None),
            Work::WriteZeroes { offset, len, fua } => {
                self.asked[tag as usize] = Some(Asked {
                    whom,
                    volume,
                    zeros: Some(Zeros { offset, len, fua }),
                });
                return self.waiting.push_back(tag);
            }
            // Advice (NVM 3.2.3), which a cache in between may keep to itself.
            Work::Deallocate { .. } => {
                self.free.push(tag);
                return answers.push_back((whom, Status::SUCCESS, None));
            }
        };
        self.asked[tag as usize] = Some(Asked {
            whom,
            volume,
            zeros,
        });
        self.submit(tag, volume, request, memory, answers);
    }

    /// Lets what waited for memory go on.
    pub(super) fn resume(&mut self, memory: &Memory) {
        if let Some(cache) = &mut self.cache
            && cache.is_short_of_memory()
        {
            cache.resume(&memory.pull_up());
        }
    }

    /// Moves operations to devices and finished requests to `answers`.
    pub(super) fn pump(
        &mut self,
        devices: &mut Devices<AnyTicket>,
        memory: &Memory,
        answers: &mut Answers,
    ) {
        while !self.free.is_empty()
            && let Some((whom, volume, work)) = self.queued.pop_front()
        {
            self.admit(whom, volume, work, memory, answers);
        }
        self.write_zeros(memory, answers);
        while devices.has_room()
            && let Some(operation) = self.cache.as_mut().and_then(PageCache::next_operation)
        {
            let fua = operation.io.flags.fua;
            let work = match (operation.io.op, operation.io.run) {
                (Op::Read, Some(run)) => Work::Read(run),
                (Op::Write, Some(run)) => Work::Write { run, fua },
                _ => Work::Flush,
            };
            let ticket = AnyTicket::Cache(Ticket(operation.id));
            devices.start(ticket, operation.volume.index(), work, memory);
        }
        while let Some(done) = self.cache.as_mut().and_then(PageCache::next_completion) {
            let status = status_of(done.result);
            self.finish(done.id.0 as u32, status, done.run, memory, answers);
        }
    }

    /// An operation of the cache came back from its device.
    pub(super) fn complete(
        &mut self,
        ticket: Ticket,
        status: Status,
        run: Option<Box<PageRun>>,
        memory: &Memory,
    ) {
        let result = match status.is_success() {
            true => Ok(()),
            false => Err(Fault::Device {
                code_type: status.code_type(),
                code: status.code(),
            }),
        };
        if let Some(cache) = &mut self.cache {
            cache.complete(ticket.0, run, result, &memory.pull_up());
        }
    }

    /// Writes some of what is dirty.
    pub(super) fn write_back(&mut self) {
        if let Some(cache) = &mut self.cache
            && cache.dirty_pages() > 0
        {
            cache.write_back(IDLE_PAGES);
        }
    }

    /// Before clusters run out the cache gives some back (row Z12): when frames, or
    /// whole pages, have a quarter of them left, well before TCP closes its windows
    /// to keep an eighth; or `crowded`: what other shards may lend us is half used up.
    pub(super) fn relieve(&mut self, crowded: bool, memory: &Memory) {
        let Some(cache) = &mut self.cache else { return };
        if self.relief_wait > 0 {
            self.relief_wait -= 1;
            return;
        }
        let scarce = |pool: &ClusterPool| pool.unheld() < pool.len() / 4;
        if (crowded || scarce(&memory.clusters) || scarce(&memory.pages))
            && cache.give_back(RELIEF, &memory.pull_up()) == 0
        {
            self.relief_wait = RELIEF_WAIT;
        }
    }

    /// Lets go of every clean page; the engine stops.
    pub(super) fn forget(&mut self) {
        if let Some(cache) = &mut self.cache {
            cache.forget();
        }
    }

    /// Flushes every volume, for nobody but the engine.
    pub(super) fn flush_all(&mut self, memory: &Memory, answers: &mut Answers) {
        for volume in 0..self.volumes {
            if self.holds(volume) {
                self.start(Whom::Engine, volume, Work::Flush, memory, answers);
            }
        }
    }

    /// Pages that only memory holds.
    pub(super) fn dirty_pages(&self) -> usize {
        self.cache.as_ref().map_or(0, PageCache::dirty_pages)
    }

    /// Requests in the cache.
    pub(super) fn in_progress(&self) -> usize {
        self.asked.len() - self.free.len() + self.queued.len()
    }

    /// Every counter by name; `None` if no volume is behind a cache.
    pub(super) fn counters(&self) -> Option<Vec<Counter>> {
        let cache = self.cache.as_ref()?;
        let room = CacheRoom {
            pages: cache.pages() as u64,
            dirty_pages: cache.dirty_pages() as u64,
            clusters: cache.clusters() as u64,
        };
        Some(room.iter().chain(cache.counters().iter()).collect())
    }

    /// Zeros go through the cache as references to the page of zeros, a run at a time.
    fn write_zeros(&mut self, memory: &Memory, answers: &mut Answers) {
        while let Some(&tag) = self.waiting.front() {
            let Some(Asked {
                volume,
                zeros: Some(zeros),
                ..
            }) = &mut self.asked[tag as usize]
            else {
                self.waiting.pop_front();
                continue;
            };
            let Some(mut run) = memory.runs.take() else {
                return;
            };
            let (volume, fua) = (*volume, zeros.fua);
            let len = zeros.len.min(self.max_bytes as u64) as usize;
            let filled = run.begin(zeros.offset, len).is_ok()
                && run
                    .place_zeros(0, len, &memory.zero_page, &memory.pull_up())
                    .is_ok();
            zeros.offset += len as u64;
            zeros.len -= len as u64;
            self.waiting.pop_front();
            if filled {
                let io = Io::write(run, Flags::fua(fua));
                self.submit(tag, volume, io, memory, answers);
            } else {
                self.finish(tag, Status::INTERNAL_ERROR, Some(run), memory, answers);
            }
        }
    }

    fn submit(
        &mut self,
        tag: u32,
        volume: VolumeId,
        io: Io,
        memory: &Memory,
        answers: &mut Answers,
    ) {
        let Some(cache) = &mut self.cache else { return };
        let id = RequestId(tag.into());
        if let Err(refused) = cache.submit(volume, id, io, &memory.pull_up()) {
            let status = status_of(Err(refused.fault));
            self.finish(tag, status, refused.io.run, memory, answers);
        }
    }

    /// A request came back from the cache: on with its zeros, or its answer.
    fn finish(
        &mut self,
        tag: u32,
        status: Status,
        run: Option<Box<PageRun>>,
        memory: &Memory,
        answers: &mut Answers,
    ) {
        let Some(asked) = &mut self.asked[tag as usize] else {
            return;
        };
        let mut run = run;
        if let Some(zeros) = asked.zeros {
            // The run was the cache's own, not the session's.
            if let Some(run) = run.take() {
                memory.runs.put(run);
            }
            if status.is_success() && zeros.len > 0 {
                return self.waiting.push_back(tag);
            }
        }
        let whom = asked.whom;
        self.asked[tag as usize] = None;
        self.free.push(tag);
        answers.push_back((whom, status, run));
    }
}

/// The cache knows a volume by its place in the list of stores.
fn volume_id(device: usize) -> VolumeId {
    VolumeId(device as u16)
}

fn status_of(result: Result<(), Fault>) -> Status {
    match result {
        Ok(()) => Status::SUCCESS,
        Err(Fault::Busy) => Status::COMMAND_INTERRUPTED,
        Err(Fault::Device { code_type, code }) => {
            Status::from_field(u16::from(code_type) << 8 | u16::from(code))
        }
        Err(_) => Status::INTERNAL_ERROR,
    }
}
