//! Volumes behind the page cache: the volatile write cache an NVMe host knows
//! (rows Z11–Z13).

mod deallocate;
mod logging;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use block::{Buffers, Device, Fault, Flags, Geometry, Io, Op, RequestId, VolumeId, WritePolicy};
use cache::{CacheConfig, OperationId, PageCache, VolumeConfig};
use collections::Slab;
use events::Counter;
use mutant::mutant;
use pages::{ClusterPool, PageRun};

use crate::change::{Change, Merging};
use crate::jobs::Jobs;
use crate::requester::{Caller, Ends, Requester};
use crate::sizes::Sizes;
use deallocate::Deallocating;
pub(crate) use deallocate::LONGEST as DEALLOCATION_LONGEST;
use logging::{Drained, Logging};

/// Device operations the cache may have in flight.
pub(crate) const OPERATIONS: usize = 256;
/// Pages written back in an idle moment.
const IDLE_PAGES: usize = 32;
/// Idle moments, of a millisecond, after which pages that a device failed to write are tried again.
const RETRY: u32 = 1000;

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
pub(crate) fn counters_at_zero() -> impl Iterator<Item = Counter> {
    let counters = cache::CacheCounters::default();
    CacheRoom::default().iter().chain(counters.iter())
}

/// What a device's job for the cache is known by.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: OperationId,
    /// Of a write of what a log has: the volume's place behind the cache.
    of_logged: Option<usize>,
}

/// What a job at a device is for.
#[derive(Debug)]
pub(crate) enum JobTicket {
    /// A request that goes past the cache.
    Direct(Caller),
    /// An operation of the cache.
    Cache(Ticket),
    /// A step of the log's replay.
    Replay,
}

/// Clusters given back at a time when they are scarce.
const RELIEF: usize = 64;
/// Polls to wait when nothing could be given back at once.
const RELIEF_WAIT: u32 = 64;

/// A request in the cache.
struct Admitted {
    requester: Requester,
    volume: VolumeId,
    /// Zeros still to be written behind this part of them.
    zeros: Option<Zeros>,
    /// What a read with force unit access is still to make non-volatile (NVM 3.2.4).
    commit: Option<Commit>,
    /// The range that the device is to deallocate.
    deallocates: Option<Range<u64>>,
    /// A change that the log has.
    merging: Option<Merging>,
}

/// A range that was, or is being, read: what is dirty of it goes to the device, whose own
/// cache is flushed, before the read is over.
struct Commit {
    offset: u64,
    len: u64,
    /// What was read, meanwhile.
    read: Option<Box<PageRun>>,
    flushing: bool,
}

#[derive(Clone, Copy)]
struct Zeros {
    offset: u64,
    len: u64,
    fua: bool,
}

/// A volume behind the cache.
struct Behind {
    volume: VolumeId,
    /// Requests of it in the cache.
    admitted: usize,
    /// A consistency point waits for what was dirty of it.
    is_awaited: bool,
    /// Those that wait for others to end, oldest first; and what the log has of them.
    queued: VecDeque<(Requester, Io, Option<Merging>)>,
}

/// The cache of a shard, and which volumes are behind it.
pub(crate) struct Cached {
    cache: Option<PageCache>,
    /// What it is made by, when a volume first wants it.
    config: CacheConfig,
    /// Those that it holds; requests on others go straight to their devices.
    behind: Vec<Behind>,
    /// Where each volume is in that list.
    places: Box<[u16]>,
    /// The volume whose requests are admitted first.
    first: usize,
    admitted: Slab<Admitted>,
    /// Requests that wait for others to end.
    queued: usize,
    /// How many may.
    queued_max: usize,
    /// Which volumes are logged.
    logged: Box<[Logging]>,
    /// Changes of logged volumes that the log has not taken yet.
    changes: VecDeque<Change>,
    /// Changes that are merged, for the log to know.
    merged: VecDeque<Merging>,
    drained: Drained,
    deallocating: Deallocating,
    /// Zeros that wait for a run.
    waiting: VecDeque<u32>,
    max_bytes: usize,
    /// Polls until clusters are looked at again.
    relief_wait: u32,
    /// Since failed pages were tried again.
    idle_moments: u32,
    /// Since when the cache lacks memory, in milliseconds.
    short_since: Option<Duration>,
}

impl Cached {
    /// A cache for the volumes whose policy asks for one.
    pub(crate) fn new<D: Device>(
        jobs: &Jobs<D, JobTicket>,
        policies: &[WritePolicy],
        sizes: &Sizes,
    ) -> Self {
        // Our own, and the parts that every shard, this one too, may ask for.
        let others = sizes.parts() * sizes.shards;
        let requests = sizes.cached + others;
        // Room for what requests under way pin at most, whatever was configured.
        let clusters = sizes.cache_clusters.max(8 * requests + 8);
        let mut cached = Self {
            cache: None,
            config: CacheConfig {
                pages: clusters,
                clusters,
                dirty_pages: clusters / 4,
                requests,
                operations: OPERATIONS,
                max_bytes: sizes.max_bytes,
                seed: sizes.seed,
            },
            behind: Vec::new(),
            places: policies.iter().map(|_| 0).collect(),
            first: 0,
            admitted: Slab::new(requests),
            queued: 0,
            queued_max: sizes.requests + others,
            logged: policies.iter().map(|_| Logging::No).collect(),
            changes: VecDeque::with_capacity(sizes.requests + others),
            merged: VecDeque::with_capacity(requests),
            drained: Drained::default(),
            deallocating: Deallocating::new(policies.len(), sizes.requests + others, sizes),
            waiting: VecDeque::with_capacity(requests),
            max_bytes: sizes.max_bytes,
            relief_wait: 0,
            idle_moments: 0,
            short_since: None,
        };
        for (volume, &policy) in (0..).map(VolumeId).zip(policies) {
            cached.set_policy(volume, policy, jobs.geometry(volume));
        }
        cached
    }

    /// Says when writes to a volume are complete. Once behind the cache a volume stays
    /// there, where the policy may be to write through. Allocates when the first
    /// volume wants the cache.
    pub(crate) fn set_policy(
        &mut self,
        volume: VolumeId,
        policy: WritePolicy,
        geometry: &Geometry,
    ) {
        // What is in the log is replayed on top of what was written past it: once logged, a volume stays so.
        let logging = &mut self.logged[volume.index()];
        if policy == WritePolicy::Logged && *logging == Logging::No {
            *logging = Logging::Yes;
        }
        self.deallocating.look(volume, geometry);
        let policy = match *logging {
            Logging::Yes => WritePolicy::Logged,
            Logging::Over => WritePolicy::Through,
            Logging::No => policy,
        };
        match (&mut self.cache, policy) {
            (Some(cache), _) if cache.holds(volume) => cache.set_policy(volume, policy),
            (_, WritePolicy::Through) => {}
            (cache, WritePolicy::Back | WritePolicy::Logged) => {
                let config = VolumeConfig::of(geometry, policy);
                let cache = cache.get_or_insert_with(|| PageCache::new(self.config));
                // A volume that does not fit goes straight to its device.
                if cache.add_volume(volume, config).is_ok() {
                    self.places[volume.index()] = self.behind.len() as u16;
                    self.behind.push(Behind {
                        volume,
                        admitted: 0,
                        is_awaited: false,
                        queued: VecDeque::with_capacity(self.queued_max),
                    });
                }
            }
        }
    }

    /// A volume's device has grown.
    pub(crate) fn grow(&mut self, volume: VolumeId, len: u64) {
        if let Some(cache) = &mut self.cache
            && cache.holds(volume)
        {
            cache.grow(volume, len);
        }
    }

    /// Whether any volume is behind the cache.
    #[inline]
    pub(crate) fn is_used(&self) -> bool {
        self.cache.is_some()
    }

    /// Whether the volume is behind the cache.
    pub(crate) fn holds(&self, volume: VolumeId) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.holds(volume))
    }

    /// Takes a request on a volume that the cache [`Cached::holds`].
    pub(crate) fn start(
        &mut self,
        requester: Requester,
        volume: VolumeId,
        io: Io,
        buffers: &Buffers,
        ends: &mut Ends,
    ) {
        let mut io = io;
        match (self.logged[volume.index()], io.op) {
            (Logging::No, Op::Write)
                if !io.flags.fua && self.write_now(volume, &mut io, buffers) =>
            {
                return ends.push_back((requester, Ok(()), io.run));
            }
            (Logging::No, _) => {}
            (Logging::Yes, Op::Write | Op::WriteZeroes) => {
                return self.changes.push_back(Change {
                    requester,
                    volume,
                    io,
                });
            }
            (Logging::Yes, Op::Deallocate) if !mutant!("log-deallocation-unlogged") => {
                return self.start_deallocation(requester, volume, &io, ends);
            }
            (Logging::Over, Op::Write | Op::WriteZeroes) => io.flags.fua = true,
            // What was acknowledged is stable, and what the cache has.
            (_, Op::Flush) if !io.flags.fua => return ends.push_back((requester, Ok(()), None)),
            (_, Op::Flush) => io.flags.fua = false,
            (_, Op::Read | Op::Deallocate) => io.flags.fua = false,
        }
        self.admit_in_order(requester, volume, io, None, buffers, ends);
    }

    /// Whether a write that needs no wait is merged.
    #[inline]
    fn write_now(&mut self, volume: VolumeId, io: &mut Io, buffers: &Buffers) -> bool {
        let is_first = self.behind[self.place(volume)].queued.is_empty();
        match (&mut self.cache, &mut io.run) {
            (Some(cache), Some(run)) if is_first => {
                cache.write_now(volume, run, &buffers.pull_up())
            }
            _ => false,
        }
    }

    /// In order: nothing overtakes what waits for the same volume.
    fn admit_in_order(
        &mut self,
        requester: Requester,
        volume: VolumeId,
        io: Io,
        merging: Option<Merging>,
        buffers: &Buffers,
        ends: &mut Ends,
    ) {
        let place = self.place(volume);
        if !self.may_admit(place) || !self.behind[place].queued.is_empty() {
            self.queued += 1;
            return (self.behind[place].queued).push_back((requester, io, merging));
        }
        self.admit(requester, volume, io, merging, buffers, ends);
    }

    /// Volumes, behind it or not.
    pub(crate) fn volumes(&self) -> usize {
        self.places.len()
    }

    /// Requests that it works on at once.
    pub(crate) fn room(&self) -> usize {
        self.admitted.capacity()
    }

    /// Pages that the cache may have.
    pub(crate) fn pages_max(&self) -> usize {
        self.config.pages
    }

    fn place(&self, volume: VolumeId) -> usize {
        self.places[volume.index()].into()
    }

    /// Whether there is room in the cache for one more request of a volume.
    fn may_admit(&self, place: usize) -> bool {
        let left = self.admitted.room();
        left > 0 && self.may_take(self.behind[place].admitted, 1, left)
    }

    /// Whether a volume that has `held` of what all volumes behind the cache share may take `more`.
    #[inline]
    pub(crate) fn may_take(&self, held: usize, more: usize, left: usize) -> bool {
        self.behind.len() < 2 || block::may_take(held, more, left)
    }

    /// Admits what waited: the volume that is first is the last next time.
    fn admit_queued(&mut self, buffers: &Buffers, ends: &mut Ends) {
        let (first, len) = (self.first, self.behind.len());
        self.first = (first + 1) % len;
        for place in (first..len).chain(0..first) {
            while self.may_admit(place)
                && let Some((requester, io, merging)) = self.behind[place].queued.pop_front()
            {
                self.queued -= 1;
                let volume = self.behind[place].volume;
                self.admit(requester, volume, io, merging, buffers, ends);
            }
        }
    }

    fn admit(
        &mut self,
        requester: Requester,
        volume: VolumeId,
        io: Io,
        merging: Option<Merging>,
        buffers: &Buffers,
        ends: &mut Ends,
    ) {
        let zeros = match io.op {
            Op::Read | Op::Write | Op::Flush => None,
            Op::Deallocate if merging.is_some() || mutant!("log-deallocation-unlogged") => None,
            Op::WriteZeroes => Some(Zeros {
                offset: io.offset,
                len: io.len,
                fua: io.flags.fua,
            }),
            // Advice (NVM 3.2.3), which a cache in between may keep to itself if no log has it.
            Op::Deallocate => return ends.push_back((requester, Ok(()), io.run)),
        };
        let commits = io.op == Op::Read && io.flags.fua && !mutant!("fua-of-reads-ignored");
        let admitted = Admitted {
            requester,
            volume,
            zeros,
            commit: commits.then_some(Commit {
                offset: io.offset,
                len: io.len,
                read: None,
                flushing: false,
            }),
            deallocates: (io.op == Op::Deallocate).then(|| io.offset..io.end()),
            merging,
        };
        let Ok(tag) = self.admitted.insert(admitted) else {
            unreachable!("there is room");
        };
        let place = self.place(volume);
        self.behind[place].admitted += 1;
        match zeros {
            None => self.submit(tag, volume, io, buffers, ends),
            Some(_) => self.waiting.push_back(tag),
        }
    }

    /// Gives back a request that waits for others to end.
    pub(crate) fn abort(&mut self, is_it: impl Fn(&Caller) -> bool, ends: &mut Ends) -> bool {
        let is_it = |requester: &Requester| matches!(requester, Requester::Door(c) if is_it(c));
        let mut queues = self.behind.iter_mut().map(|behind| &mut behind.queued);
        let found = queues.find_map(|queued| {
            let waits = |(who, _, merging): &(Requester, _, Option<Merging>)| {
                is_it(who) && merging.is_none()
            };
            let at = queued.iter().position(waits)?;
            queued.remove(at)
        });
        if let Some((requester, io, _)) = found {
            self.queued -= 1;
            ends.push_back((requester, Err(Fault::Aborted), io.run));
            return true;
        }
        let found = (self.changes.iter()).position(|change| is_it(&change.requester));
        let Some(change) = found.and_then(|at| self.changes.remove(at)) else {
            return false;
        };
        ends.push_back(change.ended(Err(Fault::Aborted)));
        true
    }

    /// Lets what waited for memory go on.
    pub(crate) fn resume(&mut self, buffers: &Buffers) {
        if let Some(cache) = &mut self.cache
            && cache.has_stalled()
        {
            cache.resume(&buffers.pull_up());
        }
    }

    /// Since when requests in the cache wait for memory.
    pub(crate) fn short_since(&mut self, now: Duration) -> Option<Duration> {
        let cache = self.cache.as_ref();
        let is_short = cache.is_some_and(PageCache::is_short_of_memory);
        self.short_since = is_short.then(|| self.short_since.unwrap_or(now));
        self.short_since
    }

    /// Moves operations to devices and finished requests to `ends`.
    pub(crate) fn pump<D: Device>(
        &mut self,
        jobs: &mut Jobs<D, JobTicket>,
        buffers: &Buffers,
        ends: &mut Ends,
    ) {
        if self.queued > 0 {
            self.admit_queued(buffers, ends);
        }
        self.write_zeros(buffers, ends);
        while jobs.has_room()
            && let Some(operation) = self.cache.as_mut().and_then(PageCache::next_operation)
        {
            let is_of_logged = self.is_logged(operation.volume) && operation.io.op == Op::Write;
            let of_logged = is_of_logged.then(|| self.place(operation.volume));
            if is_of_logged {
                self.drained.writes += 1;
                self.drained.bytes += operation.io.len;
            }
            let id = operation.id;
            let ticket = JobTicket::Cache(Ticket { id, of_logged });
            jobs.start(ticket, operation.volume, operation.io, buffers);
        }
        self.finish_all(buffers, ends);
    }

    /// Takes back what the cache is done with.
    fn finish_all(&mut self, buffers: &Buffers, ends: &mut Ends) {
        while let Some(done) = self.cache.as_mut().and_then(PageCache::next_completion) {
            self.finish(done.id.0 as u32, done.result, done.run, buffers, ends);
        }
    }

    /// An operation of the cache came back from its device.
    pub(crate) fn complete(
        &mut self,
        ticket: Ticket,
        result: Result<(), Fault>,
        run: Option<Box<PageRun>>,
        buffers: &Buffers,
    ) {
        if let (Some(place), Some(run), Ok(())) = (ticket.of_logged, &run, result)
            && self.behind[place].is_awaited
        {
            self.drained.awaited_pages += run.pages().len() as u64;
        }
        if let Some(cache) = &mut self.cache {
            cache.complete(ticket.id, run, result, &buffers.pull_up());
        }
    }

    /// Writes some of what is dirty.
    pub(crate) fn write_back(&mut self) {
        if let Some(cache) = &mut self.cache
            && cache.dirty_pages() > 0
        {
            self.idle_moments += 1;
            if self.idle_moments >= RETRY {
                self.idle_moments = 0;
                cache.retry_failed();
            }
            cache.write_back(IDLE_PAGES);
        }
    }

    /// Before clusters run out the cache gives some back (row Z12): when frames, or
    /// whole pages, have a quarter of them left, well before TCP closes its windows
    /// to keep an eighth; or `crowded`: what other shards may lend us is half used up.
    pub(crate) fn relieve(&mut self, crowded: bool, buffers: &Buffers) {
        let Some(cache) = &mut self.cache else { return };
        if self.relief_wait > 0 {
            self.relief_wait -= 1;
            return;
        }
        let scarce = |pool: &ClusterPool| pool.unheld() < pool.len() / 4;
        if (crowded || scarce(&buffers.clusters) || scarce(&buffers.pages))
            && cache.give_back(RELIEF, &buffers.pull_up()) == 0
        {
            self.relief_wait = RELIEF_WAIT;
        }
    }

    /// Drops every clean page; the shard stops.
    pub(crate) fn drop_clean(&mut self) {
        if let Some(cache) = &mut self.cache {
            cache.drop_clean();
        }
    }

    /// Writes what is dirty of a volume that the cache holds, logged or not; on the shard's own account.
    pub(crate) fn flush(&mut self, volume: VolumeId, buffers: &Buffers, ends: &mut Ends) {
        self.admit_in_order(Requester::Shard, volume, Io::flush(), None, buffers, ends);
    }

    /// Flushes every volume that is not logged, on the shard's own account; how many those are.
    pub(crate) fn flush_all(&mut self, buffers: &Buffers, ends: &mut Ends) -> usize {
        let mut flushes = 0;
        for place in 0..self.behind.len() {
            let volume = self.behind[place].volume;
            if self.logged[volume.index()] == Logging::No {
                self.flush(volume, buffers, ends);
                flushes += 1;
            }
        }
        flushes
    }

    /// Pages that only memory holds.
    pub(crate) fn dirty_pages(&self) -> usize {
        self.cache.as_ref().map_or(0, PageCache::dirty_pages)
    }

    /// Requests in the cache.
    pub(crate) fn in_progress(&self) -> usize {
        self.admitted.len() + self.queued + self.changes.len() + self.deallocating.in_progress()
    }

    /// Every counter by name; `None` if no volume is behind a cache.
    pub(crate) fn counters(&self) -> Option<Vec<Counter>> {
        let cache = self.cache.as_ref()?;
        let room = CacheRoom {
            pages: cache.pages() as u64,
            dirty_pages: cache.dirty_pages() as u64,
            clusters: cache.clusters() as u64,
        };
        Some(room.iter().chain(cache.counters().iter()).collect())
    }

    /// Zeros go through the cache as references to the page of zeros, a run at a time.
    fn write_zeros(&mut self, buffers: &Buffers, ends: &mut Ends) {
        while let Some(&tag) = self.waiting.front() {
            let Some(Admitted {
                volume,
                zeros: Some(zeros),
                ..
            }) = self.admitted.get_mut(tag)
            else {
                self.waiting.pop_front();
                continue;
            };
            let Some(mut run) = buffers.runs.take() else {
                return;
            };
            let (volume, fua) = (*volume, zeros.fua);
            let len = zeros.len.min(self.max_bytes as u64) as usize;
            let filled = run.begin(zeros.offset, len).is_ok()
                && run
                    .place_zeros(0, len, &buffers.zero_page, &buffers.pull_up())
                    .is_ok();
            zeros.offset += len as u64;
            zeros.len -= len as u64;
            self.waiting.pop_front();
            if filled {
                let io = Io::write(run, Flags::fua(fua));
                self.submit(tag, volume, io, buffers, ends);
            } else {
                self.finish(tag, Err(Fault::Internal), Some(run), buffers, ends);
            }
        }
    }

    fn submit(&mut self, tag: u32, volume: VolumeId, io: Io, buffers: &Buffers, ends: &mut Ends) {
        let Some(cache) = &mut self.cache else { return };
        let id = RequestId(tag.into());
        if let Err(refused) = cache.submit(volume, id, io, &buffers.pull_up()) {
            self.finish(tag, Err(refused.fault), refused.io.run, buffers, ends);
        }
    }

    /// A request came back from the cache: on with its zeros, or with what it read; or its end.
    fn finish(
        &mut self,
        tag: u32,
        result: Result<(), Fault>,
        run: Option<Box<PageRun>>,
        buffers: &Buffers,
        ends: &mut Ends,
    ) {
        let Some(admitted) = self.admitted.get_mut(tag) else {
            return;
        };
        let mut run = run;
        if let Some(zeros) = admitted.zeros {
            // The run was the cache's own, not the requester's.
            if let Some(run) = run.take() {
                buffers.runs.put(run);
            }
            if result.is_ok() && zeros.len > 0 && !mutant!("zeroes-without-tail") {
                return self.waiting.push_back(tag);
            }
        }
        if let Some(commit) = &mut admitted.commit {
            if result.is_ok() && !commit.flushing {
                (commit.flushing, commit.read) = (true, run);
                let (volume, flush) = (admitted.volume, Io::flush_range(commit.offset, commit.len));
                return self.submit(tag, volume, flush, buffers, ends);
            }
            run = run.or(commit.read.take());
        }
        let (requester, volume) = (admitted.requester, admitted.volume);
        let deallocates = admitted.deallocates.take();
        self.merged.extend(admitted.merging);
        self.admitted.remove(tag);
        let place = self.place(volume);
        self.behind[place].admitted -= 1;
        self.behind[place].is_awaited &= !matches!(requester, Requester::Log);
        match deallocates {
            Some(range) => self.deallocated(requester, volume, range, result, ends),
            None => ends.push_back((requester, result, run)),
        }
    }
}
