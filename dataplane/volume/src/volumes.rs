//! From a door's request on a namespace to its device, straight or through the
//! page cache, and back.

mod gate;
mod log;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use block::{
    Buffers, Device, DeviceState, Fault, Fences, Io, IoCounters, IoKind, NamespaceCounters,
    NamespaceIndex, Op, Request, RequestId, VolumeId, WritePolicy,
};
use events::{Counter, Stage, StageClock, Ticks, tracepoint};
use mutant::mutant;
use pages::{PAGE_SIZE, PageRun};

use mirror::Mirrored;

use crate::cached::{self, Cached, JobTicket};
use crate::devices::Devices;
use crate::jobs::{Done, JobCounters, Jobs};
use crate::logged::Warm;
use crate::other_shard::RingEnds;
use crate::remote::{Context, Remote, RemoteCounters};
use crate::requester::{Caller, Ended, Ends, Origin, Requester, begin_anew};
use crate::sizes::Sizes;

use self::gate::Gate;
use self::log::LogState;

/// The end of a request that went past the cache.
type DirectEnd = (Caller, Result<(), Fault>, Option<Box<PageRun>>);

/// A shard's volumes and the requests under way at them.
pub struct Volumes<D: Device> {
    jobs: Jobs<D, JobTicket>,
    cached: Cached,
    log: LogState<D>,
    /// What was replayed and is to be in the cache.
    warm: Option<Warm>,
    remote: Remote,
    ends: Ends,
    /// By [`NamespaceIndex`], which is never given again.
    namespaces: Namespaces,
    /// Those that changes of the other node of a pair go to.
    mirrored: Namespaces,
    /// Mirrored volumes, and what their shards share.
    gates: Vec<(VolumeId, Arc<Mirrored>)>,
    /// What those that are gone counted.
    gone: IoCounters,
    /// Flushes of the shard's own that are under way.
    own_flushes: usize,
    /// Of all shards.
    fences: Arc<Fences>,
    /// Requests that wait behind a fence, in the order in which they came.
    fenced: VecDeque<(Caller, VolumeId, Io)>,
    /// Fences that had been lowered when they were last looked at.
    lowered: usize,
    /// The time, as of the last poll.
    now: Duration,
    pages_by_segments: [u64; 4],
}

/// Namespaces by their places.
type Namespaces = Vec<Option<Box<Namespace>>>;

/// A namespace, as hosts see a volume.
struct Namespace {
    volume: VolumeId,
    /// Requests not yet at their end.
    in_flight: u32,
    /// Takes no more requests: it is about to go.
    closed: bool,
    gate: Gate,
    counters: NamespaceCounters,
}

impl Namespace {
    fn of(volume: VolumeId) -> Option<Box<Self>> {
        Some(Box::new(Self {
            volume,
            in_flight: 0,
            closed: false,
            gate: Gate::Open,
            counters: NamespaceCounters::default(),
        }))
    }
}

/// The entry of a namespace, if it is there: of hosts', or of the other node's changes.
#[inline]
fn entry_of<'a>(
    (namespaces, mirrored): (&'a mut Namespaces, &'a mut Namespaces),
    namespace: NamespaceIndex,
) -> Option<&'a mut Namespace> {
    match namespace.as_mirrored() {
        None => namespaces[namespace.index()].as_deref_mut(),
        Some(place) => mirrored.get_mut(place)?.as_deref_mut(),
    }
}

/// What requests in the cache and at other shards use, of fields of which others stay free.
macro_rules! context {
    ($self:ident, $buffers:expr) => {
        &mut Context {
            cached: &mut $self.cached,
            buffers: $buffers,
            ends: &mut $self.ends,
            now: $self.now,
        }
    };
}

impl<D: Device> Volumes<D> {
    /// Volumes on `devices`, with the policy of each, for shard number `shard`;
    /// `namespaces` has the volume of each namespace, by [`NamespaceIndex`].
    /// `slot` makes what a device keeps in each operation; `fences` are those of all shards.
    pub fn new(
        shard: usize,
        devices: impl Into<Devices<D>>,
        policies: &[WritePolicy],
        namespaces: &[VolumeId],
        sizes: &Sizes,
        fences: &Arc<Fences>,
        slot: impl FnMut() -> D::Slot,
    ) -> Self {
        // A cached request may need a device for itself and for what it pushes out.
        let jobs = sizes.requests + cached::OPERATIONS;
        let ops = sizes.cached + cached::OPERATIONS;
        let jobs = Jobs::new(devices.into(), jobs, ops, sizes.elements, slot, sizes.copy);
        Self {
            cached: Cached::new(&jobs, policies, sizes),
            remote: Remote::new(shard, policies.len(), sizes),
            jobs,
            log: LogState::None,
            warm: None,
            ends: VecDeque::with_capacity(4 * sizes.requests),
            namespaces: (namespaces.iter())
                .map(|&volume| Namespace::of(volume))
                .collect(),
            mirrored: Vec::new(),
            gates: Vec::new(),
            gone: IoCounters::default(),
            own_flushes: 0,
            fences: Arc::clone(fences),
            fenced: VecDeque::with_capacity(sizes.requests),
            lowered: 0,
            now: Duration::ZERO,
            pages_by_segments: [0; 4],
        }
    }

    /// Starts a request; its end comes from [`Volumes::next_completion`].
    #[inline(never)] // a border of stages, for profiles and `ci/bench --instructions`
    pub fn start(
        &mut self,
        origin: Origin,
        request: Request,
        buffers: &Buffers,
        stages: &mut StageClock<impl Ticks>,
    ) {
        let namespace = request.namespace;
        let namespaces = (&mut self.namespaces, &mut self.mirrored);
        let Some(entry) = entry_of(namespaces, namespace).filter(|entry| !entry.closed) else {
            return self.refuse(origin, request, Fault::Gone, stages);
        };
        let begun = match entry.gate.lets_in(request.io.op, self.now) {
            Ok(begun) => begun,
            Err(fault) => return self.refuse(origin, request, fault, stages),
        };
        entry.in_flight += 1;
        let volume = entry.volume;
        let Request { id, io, .. } = request;
        if let (Op::Write, Some(run)) = (io.op, &io.run) {
            for (sum, n) in self.pages_by_segments.iter_mut().zip(run.fragments()) {
                *sum += u64::from(n);
            }
        }
        stages.end(Stage::Assemble);
        let caller = Caller {
            origin,
            id,
            kind: IoKind::of(io.op),
            bytes: io.len,
            namespace,
            begun,
            started: stages.lap(),
        };
        tracepoint::request_start(
            id.0,
            origin.slot.into(),
            namespace.0.into(),
            caller.kind as u64,
            io.len,
        );
        if io.op.changes_data() && self.fences.raised() > 0 && self.is_fenced(volume, &io) {
            self.fenced.push_back((caller, volume, io));
        } else {
            self.begin(caller, volume, io, buffers);
        }
        stages.end(Stage::Submit);
    }

    /// Hands a request to the cache or to its device.
    #[inline]
    fn begin(&mut self, caller: Caller, volume: VolumeId, io: Io, buffers: &Buffers) {
        if self.cached.holds(volume) {
            self.remote
                .start(caller, volume, io, context!(self, buffers));
            self.pump(buffers);
        } else {
            self.jobs
                .start(JobTicket::Direct(caller), volume, io, buffers);
        }
    }

    /// Moves on what is in the cache; changes for the log wait for the next poll, and share a group.
    #[inline]
    fn pump(&mut self, buffers: &Buffers) {
        self.cached.pump(&mut self.jobs, buffers, &mut self.ends);
    }

    /// Whether a device may still change some of the range for a session that is gone. One that is
    /// gone changes nothing that anybody will read.
    #[cold]
    fn is_fenced(&self, volume: VolumeId, io: &Io) -> bool {
        let of_volume = |namespace: NamespaceIndex| {
            let entry = self.namespaces.get(namespace.index());
            entry.is_some_and(|entry| entry.as_ref().is_some_and(|entry| entry.volume == volume))
        };
        let changes = !mutant!("fence-ignored") && !self.jobs.is_gone(volume, io.offset..io.end());
        changes && self.fences.covers(io.offset, io.len, of_volume)
    }

    /// Lets those go on that no fence is around any more.
    #[cold]
    fn resume_fenced(&mut self, buffers: &Buffers) {
        let lowered = self.fences.lowered();
        let same = std::mem::replace(&mut self.lowered, lowered) == lowered;
        let is_gone = |(_, volume, io): &(Caller, VolumeId, Io)| {
            self.jobs.is_gone(*volume, io.offset..io.end())
        };
        if same && !self.fenced.iter().any(is_gone) {
            return;
        }
        for _ in 0..self.fenced.len() {
            let Some((caller, volume, io)) = self.fenced.pop_front() else {
                break;
            };
            match self.is_fenced(volume, &io) {
                true => self.fenced.push_back((caller, volume, io)),
                false => self.begin(caller, volume, io, buffers),
            }
        }
    }

    /// A session is gone: its requests that wait behind a fence end.
    pub fn cancel(&mut self, origin: Origin) {
        for _ in 0..self.fenced.len() {
            let Some((caller, volume, io)) = self.fenced.pop_front() else {
                break;
            };
            if caller.origin == origin {
                (self.ends).push_back((Requester::Door(caller), Err(Fault::Busy), io.run));
            } else {
                self.fenced.push_back((caller, volume, io));
            }
        }
    }

    /// Gives a request back if nothing of it was begun: it waits behind a fence, for room in the cache
    /// or on the way to other shards, or for its turn at its device. It then ends with
    /// [`Fault::Aborted`], and changes nothing. False if some of it is, or was, at a device or in
    /// the cache: it goes on.
    pub fn abort(&mut self, origin: Origin, id: RequestId) -> bool {
        let is_it = |caller: &Caller| (caller.origin, caller.id) == (origin, id);
        let fenced = (self.fenced.iter()).position(|(caller, ..)| is_it(caller));
        if let Some((caller, _, io)) = fenced.and_then(|at| self.fenced.remove(at)) {
            (self.ends).push_back((Requester::Door(caller), Err(Fault::Aborted), io.run));
            return true;
        }
        self.cached.abort(is_it, &mut self.ends)
            || self.remote.abort(is_it, &mut self.ends)
            || (self.jobs).abort(|job| matches!(job, JobTicket::Direct(caller) if is_it(caller)))
    }

    /// A request that its host had begun when the namespace went, or is not served here.
    #[cold]
    fn refuse(
        &mut self,
        origin: Origin,
        request: Request,
        fault: Fault,
        stages: &StageClock<impl Ticks>,
    ) {
        let caller = Caller {
            origin,
            id: request.id,
            kind: IoKind::of(request.io.op),
            bytes: request.io.len,
            namespace: request.namespace,
            begun: 0,
            started: stages.lap(),
        };
        let requester = Requester::Refused(caller);
        (self.ends).push_back((requester, Err(fault), request.io.run));
    }

    /// Shows `volume` as one more namespace, with this policy.
    pub fn add_namespace(
        &mut self,
        namespace: NamespaceIndex,
        volume: VolumeId,
        policy: WritePolicy,
    ) {
        (self.cached).set_policy(volume, policy, self.jobs.geometry(volume));
        if self.namespaces.len() <= namespace.index() {
            self.namespaces.resize_with(namespace.index() + 1, || None);
        }
        self.namespaces[namespace.index()] = Namespace::of(volume);
        self.close_gates();
    }

    /// A namespace that was just added is to be read as a [backup](Mirrored::backup), and not to be served otherwise.
    pub fn set_backup(&mut self, namespace: NamespaceIndex) {
        if let Some(Some(entry)) = self.namespaces.get_mut(namespace.index()) {
            entry.gate = Gate::Backup(None);
        }
        self.close_gates();
    }

    /// The namespace takes no more requests; whether those it had are at their end.
    pub fn close_namespace(&mut self, namespace: NamespaceIndex) -> bool {
        match self.namespaces.get_mut(namespace.index()) {
            Some(Some(entry)) => {
                entry.closed = true;
                entry.in_flight == 0
            }
            _ => true,
        }
    }

    /// Begins to write what is dirty of a volume; [`Volumes::is_flushing`] says when it is done.
    pub fn flush_volume(&mut self, volume: VolumeId, buffers: &Buffers) {
        if self.cached.holds(volume) {
            self.own_flushes += 1;
            self.cached.flush(volume, buffers, &mut self.ends);
            self.pump(buffers);
        }
    }

    /// Whether a flush of the shard's own is under way.
    pub fn is_flushing(&self) -> bool {
        self.own_flushes > 0
    }

    /// Forgets a namespace that was [closed](Volumes::close_namespace).
    pub fn remove_namespace(&mut self, namespace: NamespaceIndex) {
        let entry = self.namespaces.get_mut(namespace.index());
        if let Some(entry) = entry.and_then(Option::take) {
            self.gone.combine(&entry.counters.io, |sum, n| *sum += n);
        }
    }

    /// How each device does, by [`VolumeId`].
    /// Logged volumes do no better than their log; a store of the log that is out fails.
    pub fn device_states(&self) -> impl Iterator<Item = DeviceState> {
        let log = match &self.log {
            LogState::Ready(log) => Some(log),
            _ => None,
        };
        let outs = move |volume| {
            let mut outs = log.into_iter().flat_map(|log| log.outs());
            outs.find(|&(out, _)| out == volume)
        };
        let state_of_log = log.map_or(DeviceState::Works, |log| log.state());
        let volumes = (0..).map(VolumeId).zip(self.jobs.device_states());
        volumes.map(move |(volume, state)| match outs(volume) {
            Some((_, out)) => state.max(out),
            None if self.cached.is_logged(volume) => state.max(state_of_log),
            None => state,
        })
    }

    /// The next volume, from `first` on, whose device has another size than it had, and its blocks.
    pub fn resized(&self, first: VolumeId) -> Option<(VolumeId, u64)> {
        self.jobs.resized(first)
    }

    /// Takes the size of a volume's device as it is now.
    pub fn resize(&mut self, volume: VolumeId) {
        let len = self.jobs.resize(volume).len();
        self.cached.grow(volume, len);
    }

    /// Polls devices and lets what waited go on; whether there was work.
    pub fn poll(&mut self, now: Duration, buffers: &Buffers) -> bool {
        self.now = now;
        self.cached.set_now(now);
        let mut busy = self.jobs.poll(now, buffers);
        // Other shards ask for pages only where all have a cache.
        if self.cached.is_used() {
            busy |= self.remote.poll(context!(self, buffers));
            self.cached.relieve(self.remote.is_crowded(), buffers);
            self.cached.resume(buffers);
        }
        if !matches!(self.log, LogState::None) {
            busy |= self.poll_log(buffers);
        }
        if let Some(warm) = &mut self.warm {
            warm.go_on(&mut self.cached, buffers, &mut self.ends);
            if warm.is_over() {
                self.warm = None;
            }
        }
        self.pump(buffers);
        self.note_in_flight();
        if let LogState::Ready(log) = &mut self.log {
            log.pump(&mut self.cached, buffers, &mut self.ends);
            self.pump(buffers);
        }
        if !self.fenced.is_empty() {
            self.resume_fenced(buffers);
        }
        busy | self.has_completed()
    }

    /// Since when some request waits for memory that others hold; to be asked every
    /// millisecond or so.
    pub fn short_since(&mut self) -> Option<Duration> {
        let waits = [
            self.jobs.short_since(),
            self.cached.short_since(self.now),
            self.remote.short_since(self.now),
            match &self.log {
                LogState::Ready(log) => log.short_since(),
                _ => None,
            },
        ];
        waits.into_iter().flatten().min()
    }

    /// Bytes that can still be lent to reads of cached volumes; `None` if there are no such volumes.
    #[inline]
    pub fn read_bytes_left(&self, buffers: &Buffers) -> Option<u64> {
        if !self.cached.is_used() {
            return None;
        }
        let clusters = buffers.clusters.unheld() * buffers.clusters.cluster_size();
        let segments = self.remote.segments_left();
        let lent = segments.map_or(usize::MAX, |segments| segments * PAGE_SIZE);
        Some(clusters.min(lent) as u64)
    }

    /// When there is nothing better to do: some of what is dirty goes to its device.
    pub fn idle(&mut self, buffers: &Buffers) {
        self.cached.write_back();
        self.pump(buffers);
    }

    /// Operations that devices have ended since they were last looked at.
    #[inline]
    pub fn ended(&self) -> usize {
        self.jobs.ended()
    }

    /// Whether some request may have ended.
    pub fn has_completed(&self) -> bool {
        !self.ends.is_empty() || self.jobs.has_done()
    }

    /// The next request of a session that ended.
    #[inline]
    pub fn next_completion(
        &mut self,
        buffers: &Buffers,
        stages: &StageClock<impl Ticks>,
    ) -> Option<Ended> {
        loop {
            if mutant!("log-read-early") && self.holds_back() {
                return None;
            }
            let end = self.ends.pop_front();
            if end.is_some() {
                begin_anew(&mut self.ends);
            }
            let (caller, result, run) = match end {
                // Nothing is before what a device ended: it does not have to queue.
                None => match self.next_done(buffers)? {
                    Some(direct) => direct,
                    None => continue,
                },
                Some((Requester::Door(caller), result, run)) => (caller, result, run),
                Some((Requester::Refused(caller), result, run)) => {
                    return Some(caller.ended(result, run, stages.since(caller.started)));
                }
                Some((requester, result, run)) => {
                    self.end_of_other(requester, result, run, buffers);
                    continue;
                }
            };
            return Some(self.account(&caller, result, run, stages));
        }
    }

    /// Something ended that no session asked for, or a part of what one did.
    fn end_of_other(
        &mut self,
        requester: Requester,
        result: Result<(), Fault>,
        run: Option<Box<PageRun>>,
        buffers: &Buffers,
    ) {
        match requester {
            Requester::Door(_) | Requester::Refused(_) => {}
            Requester::Part(part) => {
                (self.remote).part_done(part, result, run, context!(self, buffers));
            }
            Requester::Remote { shard, token } => self.remote.served(shard, token, result, run),
            Requester::Piece(id) => self.cached.piece_ended(id, result, &mut self.ends),
            Requester::Warm => {
                if let Some(run) = run {
                    buffers.runs.put(run);
                }
                if let Some(warm) = &mut self.warm {
                    warm.ended();
                }
            }
            Requester::Copy(volume, granule) => match &mut self.log {
                LogState::Ready(log) => log.copy_read(volume, granule, result, run, buffers),
                _ => run.into_iter().for_each(|run| buffers.runs.put(run)),
            },
            Requester::Verify(volume) => match &mut self.log {
                LogState::Ready(log) => log.verify_read(volume, result, run, buffers),
                _ => run.into_iter().for_each(|run| buffers.runs.put(run)),
            },
            Requester::Log => {
                if let LogState::Ready(log) = &mut self.log {
                    log.flushed(result);
                }
            }
            Requester::Shard => {
                self.own_flushes -= 1;
                if let Err(fault) = result {
                    ::log::error!(
                        "flushing the page cache failed: {fault}; dirty pages are lost with this process"
                    );
                }
            }
        }
    }

    /// Takes the next finished job of a device: a session's request ends with it, or the cache knows
    /// what does; `None` if there is none.
    #[inline]
    fn next_done(&mut self, buffers: &Buffers) -> Option<Option<DirectEnd>> {
        let Done {
            ticket,
            result,
            run,
        } = self.jobs.next_done(buffers)?;
        match ticket {
            JobTicket::Direct(caller) => Some(Some((caller, result, run))),
            JobTicket::Cache(ticket) => {
                self.cached.complete(ticket, result, run, buffers);
                self.pump(buffers);
                Some(None)
            }
            JobTicket::Replay => {
                if let LogState::Replaying(replay) = &mut self.log {
                    replay.job_done(result, run, buffers);
                }
                Some(None)
            }
        }
    }

    /// Shares pages with other shards from now on; `ends` by shard.
    pub fn join(&mut self, ends: Vec<Option<RingEnds>>) {
        self.remote.join(ends);
    }

    /// Drops what the cache has, gives back what other shards lent, and takes back what
    /// they were lent; whether all is where it belongs.
    pub fn drain(&mut self, now: Duration, buffers: &Buffers) -> bool {
        self.cached.drop_clean();
        self.poll(now, buffers);
        self.remote.is_settled()
    }

    /// Asks for everything dirty to be written; the shard stops.
    pub fn flush(&mut self, buffers: &Buffers) {
        self.own_flushes += self.cached.flush_all(buffers, &mut self.ends);
        if let Some(warm) = &mut self.warm {
            warm.cease();
        }
        if let LogState::Ready(log) = &mut self.log {
            log.stop();
        }
        self.pump(buffers);
    }

    /// Pages that only memory holds.
    pub fn dirty_pages(&self) -> usize {
        self.cached.dirty_pages()
    }

    /// Requests and device jobs not yet at their end.
    pub fn in_flight(&self) -> usize {
        self.jobs.in_flight()
            + self.cached.in_progress()
            + self.remote.in_progress()
            + self.fenced.len()
            + self.ends.len()
            + match &self.log {
                LogState::Ready(log) => log.in_progress(),
                LogState::Replaying(_) => 1,
                LogState::None | LogState::Attached(_) | LogState::Replayed(..) => 0,
            }
    }

    /// Operations at devices: how many there are, and how many are free.
    pub fn operations(&self) -> (usize, usize) {
        (self.jobs.ops_len(), self.jobs.ops_available())
    }

    /// Of each namespace that there is.
    pub fn namespaces(&self) -> impl Iterator<Item = (NamespaceIndex, &NamespaceCounters)> {
        let entries = (0..).map(NamespaceIndex).zip(&self.namespaces);
        entries.filter_map(|(index, entry)| Some((index, &entry.as_ref()?.counters)))
    }

    /// The sum over all namespaces that there are or were.
    pub fn io(&self) -> IoCounters {
        let mut sum = self.gone;
        for (_, counters) in self.namespaces() {
            sum.combine(&counters.io, |sum, n| *sum += n);
        }
        sum
    }

    /// Logical pages written, by number of segments: 1, 2, 3, 4.
    pub fn pages_by_segments(&self) -> [u64; 4] {
        self.pages_by_segments
    }

    /// What became of jobs for devices.
    pub fn job_counters(&self) -> JobCounters {
        self.jobs.counters()
    }

    /// Of the cache and of pages that shards share; `None` if no volume is behind a cache.
    pub fn cache_counters(&self) -> Option<Vec<Counter>> {
        let mut counters = self.cached.counters()?;
        if let Some(remote) = self.remote.counters() {
            counters.extend(remote.iter());
        }
        Some(counters)
    }

    #[inline(always)] // Once for each request.
    fn account(
        &mut self,
        caller: &Caller,
        mut result: Result<(), Fault>,
        run: Option<Box<PageRun>>,
        stages: &StageClock<impl Ticks>,
    ) -> Ended {
        let nanoseconds = stages.since(caller.started);
        let namespaces = (&mut self.namespaces, &mut self.mirrored);
        if let Some(entry) = entry_of(namespaces, caller.namespace) {
            entry.in_flight -= 1;
            if let Err(fault) = entry.gate.lets_out(caller.begun, self.now) {
                result = Err(fault);
            }
            (entry.counters).count(caller.kind, caller.bytes, nanoseconds, result.is_ok());
        }
        caller.ended(result, run, nanoseconds)
    }
}

/// What [`Volumes::cache_counters`] gives, of a cache that has done nothing.
pub fn cache_counters_at_zero() -> Vec<Counter> {
    let remote = RemoteCounters::default();
    cached::counters_at_zero().chain(remote.iter()).collect()
}
