//! Jobs for devices: each becomes the fewest commands that the device's
//! limits allow (rows Z9, C1), and ends when the last of them has.
//!
//! A write's logical pages become scatter-gather lists; a read's whole pages
//! are handed to the device to fill (row Z10). Where a device cannot take
//! fragments, the page is copied together first, and the copy counted (row Z14).

mod command;
mod parts;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use block::{
    Buffers, Command, Completed, Device, DeviceState, Fault, Geometry, Io, NotStarted, Op, OpTable,
    Span, VolumeId,
};
use collections::Slab;
use mutant::mutant;
use pages::{CopyReason, PageRun};
use sgl::{PageCursor, RequestState};

use crate::backing::{Backing, Due, LOOK, may_take};
use crate::devices::Devices;
use command::{data_command, range_command};
use parts::Whole;

/// How a job ended; its run is back.
pub(crate) struct Done<T> {
    pub(crate) ticket: T,
    pub(crate) result: Result<(), Fault>,
    pub(crate) run: Option<Box<PageRun>>,
}

/// What follows the commands for a job's bytes.
#[derive(Clone, Copy, PartialEq)]
struct Follows(u8);

impl Follows {
    const NOTHING: Self = Self(0);
    /// A flush: force unit access on a device that caches.
    const FLUSH: Self = Self(1);
    /// What lies on the next device.
    const PART: Self = Self(2);

    /// What follows at a device.
    fn of(op: Op, fua: bool, geometry: &Geometry) -> Self {
        // Of a read it makes non-volatile what was read (NVM 3.2.4).
        let is_flushed = (fua || op == Op::Flush)
            && geometry.write_cache
            && !(mutant!("fua-of-reads-ignored") && op == Op::Read)
            && !(mutant!("fua-without-flush") && op == Op::Write);
        Self(is_flushed.into())
    }

    fn add(&mut self, what: Self) {
        self.0 |= what.0;
    }

    fn remove(&mut self, what: Self) {
        self.0 &= !what.0;
    }
}

/// How much of `len` bytes a device is told.
fn len_at(op: Op, len: u64, geometry: &Geometry) -> u64 {
    match op {
        // Advice (NVM 3.2.3): a device that cannot has nothing to do.
        Op::Deallocate if !geometry.unmap => 0,
        _ => len,
    }
}

/// A job at its device.
struct Job<T> {
    ticket: T,
    /// The device, which has it all, or a part.
    volume: VolumeId,
    op: Op,
    run: Option<Box<PageRun>>,
    /// How far its bytes were made into operations.
    state: RequestState<PageCursor>,
    /// Commands at the device.
    in_flight: u32,
    /// When the last of them was given to it, or ended; of one that never had any, when it came.
    since: Duration,
    /// Whole pages that it is read into.
    pages: usize,
    /// In the list of stalled jobs.
    stalled: bool,
    /// Its device had no room for its next command.
    is_refused: bool,
    /// Since when it waits for memory.
    short_since: Option<Duration>,
    follows: Follows,
    /// Its volume lies on several devices; whether each makes its part non-volatile.
    in_parts: Option<bool>,
    result: Result<(), Fault>,
}

impl<T> Job<T> {
    #[inline]
    fn new(ticket: T, volume: VolumeId, geometry: &Geometry, io: Io, now: Duration) -> Self {
        Self {
            ticket,
            volume,
            op: io.op,
            run: io.run,
            state: RequestState::new(io.offset, len_at(io.op, io.len, geometry)),
            in_flight: 0,
            since: now,
            pages: 0,
            stalled: false,
            is_refused: false,
            short_since: None,
            follows: Follows::of(io.op, io.flags.fua, geometry),
            in_parts: None,
            result: Ok(()),
        }
    }

    /// Whether its device has, and had, nothing of it.
    fn is_untouched(&self) -> bool {
        self.in_flight == 0 && self.state.formatted() == 0 && self.result.is_ok()
    }

    /// Whether no command is to follow those at the device.
    #[inline]
    fn is_over(&self) -> bool {
        self.result.is_err() || self.state.is_formatted() && self.follows == Follows::NOTHING
    }
}

/// Why a job does not go on.
enum Stop {
    /// No operation is free, or the device has its share: it is tried again.
    Later,
    /// The device has no room: it is tried again.
    Full,
    /// Memory is short: it is tried again.
    Short,
    /// It failed.
    Failed(Fault),
}

/// A shard's devices and the jobs under way at them. `T` is what whoever
/// started a job knows it by.
pub(crate) struct Jobs<D: Device, T> {
    /// By [`VolumeId`].
    backings: Vec<Backing<D>>,
    /// Volumes that lie on several of these devices: their ids come behind those.
    spans: Vec<Span>,
    /// What jobs of such volumes are parts of, by job.
    wholes: Box<[Whole]>,
    ops: OpTable<D::Slot>,
    jobs: Slab<Job<T>>,
    /// Jobs that wait for an operation, pages, or room at their device.
    stalled: usize,
    /// The device whose jobs go on first when what they wait for came back.
    first: usize,
    /// The time, as of the last poll.
    now: Duration,
    /// When devices are next looked at for commands that they keep.
    look_at: Duration,
    /// Jobs whose last command ended.
    finished: VecDeque<u32>,
    /// Assemble by memcpy: the ablation.
    copy: bool,
    /// Devices whose last operation failed.
    faulty: usize,
    counters: JobCounters,
}

events::counters! {
    /// What became of a shard's device jobs.
    pub struct JobCounters {
        /// Times a job waited for an operation, a page, or room at its device.
        stalls,
        /// Jobs that wait now.
        @gauge stalled_now,
        /// Bytes copied into whole pages for devices that take no fragments.
        bounced_bytes,
        /// Times a device that kept a command for too long was recovered.
        recoveries,
        /// Devices that were given up.
        given_up,
    }
}

impl<D: Device, T> Jobs<D, T> {
    /// `jobs`: how many may be under way at once. `ops`: operations at the devices.
    /// `elements`: of one list.
    pub(crate) fn new(
        devices: Devices<D>,
        jobs: usize,
        ops: usize,
        elements: usize,
        slot: impl FnMut() -> D::Slot,
        copy: bool,
    ) -> Self {
        let backing = |device| Backing::new(device, elements, jobs);
        Self {
            backings: devices.devices.into_iter().map(backing).collect(),
            wholes: match devices.spans.is_empty() {
                true => Box::default(),
                false => vec![Whole::default(); jobs].into(),
            },
            spans: devices.spans,
            // Jobs that find none wait.
            ops: OpTable::new(ops, elements, slot),
            jobs: Slab::new(jobs),
            stalled: 0,
            first: 0,
            now: Duration::ZERO,
            look_at: Duration::ZERO,
            finished: VecDeque::with_capacity(jobs),
            copy,
            faulty: 0,
            counters: JobCounters::default(),
        }
    }

    pub(crate) fn geometry(&self, volume: VolumeId) -> &Geometry {
        match self.backings.get(volume.index()) {
            Some(backing) => &backing.geometry,
            None => self.geometry_of_span(volume),
        }
    }

    /// How each volume's devices do, by [`VolumeId`].
    pub(crate) fn device_states(&self) -> impl Iterator<Item = DeviceState> {
        let devices = self.backings.iter().map(Backing::state);
        devices.chain(self.states_of_spans())
    }

    /// An operation of a device ended, and it failed, or others before it had.
    #[cold]
    fn note(&mut self, volume: VolumeId, result: Result<(), Fault>) {
        let faults = &mut self.backings[volume.index()].faults;
        let before = *faults;
        match result {
            Ok(()) => *faults = 0,
            Err(fault) if fault.is_of_the_device() => *faults = before.saturating_add(1),
            Err(_) => {}
        }
        self.faulty += usize::from(*faults > 0);
        self.faulty -= usize::from(before > 0);
    }

    /// The next volume, from `first` on, whose device has another size than it had; what
    /// is the same of a device as long as it is open is not looked at again.
    pub(crate) fn resized(&self, first: VolumeId) -> Option<(VolumeId, u64)> {
        let resized = |backing: &Backing<D>| {
            let open = (!backing.device.is_gone()).then(|| backing.device.geometry().blocks);
            open.filter(|&blocks| blocks != backing.geometry.blocks)
        };
        let devices = self.backings.iter().map(resized);
        let sizes = devices.chain(self.spans.iter().map(|span| self.resized_span(span)));
        let mut rest = (0..).map(VolumeId).zip(sizes).skip(first.index());
        rest.find_map(|(volume, blocks)| Some((volume, blocks?)))
    }

    /// Takes the size of a volume's device as it is now.
    pub(crate) fn resize(&mut self, volume: VolumeId) -> Geometry {
        let Some(backing) = self.backings.get_mut(volume.index()) else {
            return self.resize_span(volume);
        };
        backing.geometry.blocks = backing.device.geometry().blocks;
        backing.geometry
    }

    /// Whether another job can be started.
    pub(crate) fn has_room(&self) -> bool {
        self.jobs.has_room()
    }

    /// Starts a job; its end comes from [`Jobs::next_done`].
    ///
    /// # Panics
    /// If there is no room.
    #[inline]
    pub(crate) fn start(&mut self, ticket: T, volume: VolumeId, io: Io, buffers: &Buffers) {
        let Some(backing) = self.backings.get(volume.index()) else {
            return self.start_in_parts(ticket, volume, io, buffers);
        };
        let job = Job::new(ticket, volume, &backing.geometry, io, self.now);
        let index = self.insert(job);
        self.begin(index, volume, buffers);
    }

    #[inline]
    fn insert(&mut self, job: Job<T>) -> u32 {
        let Ok(index) = self.jobs.insert(job) else {
            panic!("the caller looked for room");
        };
        index
    }

    /// A job begins at its device, or waits there.
    #[inline]
    fn begin(&mut self, index: u32, volume: VolumeId, buffers: &Buffers) {
        let first = self.backings[volume.index()].stalled.front().copied();
        if let Some(first) = first {
            // It takes no memory before those that came before it have theirs.
            let first = self.jobs.get_mut(first);
            let is_short = first.is_some_and(|first| first.short_since.is_some());
            if let Some(job) = self.jobs.get_mut(index) {
                job.short_since = is_short.then_some(self.now);
            }
            self.stall(index, VecDeque::push_back);
        } else {
            self.go_on(index, buffers);
        }
    }

    /// Ends the job that `is_it`, with [`Fault::Aborted`], if no device has or had any of it; whether
    /// there was one.
    pub(crate) fn abort(&mut self, is_it: impl Fn(&T) -> bool) -> bool {
        if mutant!("aborted-at-device") && self.abort_at_device(&is_it) {
            return true;
        }
        let Self {
            jobs,
            backings,
            wholes,
            ..
        } = self;
        let mut waits = |index: u32| {
            let job = jobs.get_mut(index);
            let is_at_first =
                |job: &Job<T>| job.in_parts.is_none() || wholes[index as usize].is_at_first(job);
            job.is_some_and(|job| is_it(&job.ticket) && job.is_untouched() && is_at_first(job))
        };
        let mut stalled = backings.iter_mut().map(|backing| &mut backing.stalled);
        let found = stalled.find_map(|stalled| {
            let at = stalled.iter().position(|&index| waits(index))?;
            stalled.remove(at)
        });
        let Some(index) = found else {
            return false;
        };
        self.stalled -= 1;
        if let Some(job) = self.jobs.get_mut(index) {
            (job.stalled, job.result) = (false, Err(Fault::Aborted));
        }
        self.finished.push_back(index);
        true
    }

    /// Says of a job that its device has that it was aborted.
    fn abort_at_device(&mut self, is_it: &impl Fn(&T) -> bool) -> bool {
        let mut all = (0..self.jobs.capacity() as u32).filter_map(|index| {
            let job = self.jobs.get_mut(index)?;
            (is_it(&job.ticket) && job.in_flight > 0).then(|| job.result = Err(Fault::Aborted))
        });
        all.next().is_some()
    }

    /// Polls devices that need it and retries what waited; whether there was work.
    pub(crate) fn poll(&mut self, now: Duration, buffers: &Buffers) -> bool {
        self.now = now;
        let mut busy = false;
        for backing in &mut self.backings {
            busy |= backing.device.poll();
        }
        if self.stalled > 0 {
            // The one that was first is the last next time: none has what is left every time.
            let first = self.first;
            self.first = (first + 1) % self.backings.len();
            for volume in (first..self.backings.len()).chain(0..first) {
                busy |= self.retry(volume, buffers);
            }
        }
        if now >= self.look_at {
            self.look_at = now + LOOK;
            self.look_for_overdue();
        }
        busy | self.has_done()
    }

    /// Jobs of a device that waited go on, in their order; whether any did.
    fn retry(&mut self, volume: usize, buffers: &Buffers) -> bool {
        let mut busy = false;
        for _ in 0..self.backings[volume].stalled.len() {
            let Some(index) = self.backings[volume].stalled.pop_front() else {
                break;
            };
            self.stalled -= 1;
            let waiting = self.stalled;
            if let Some(job) = self.jobs.get_mut(index) {
                job.stalled = false;
            }
            self.go_on(index, buffers);
            if self.stalled > waiting {
                // Still short: it keeps its place, and the others theirs.
                break;
            }
            busy = true;
        }
        busy
    }

    /// Recovers devices that keep a command for longer than they may, or gives them up.
    #[cold]
    fn look_for_overdue(&mut self) {
        for (volume, backing) in (0..).map(VolumeId).zip(&mut self.backings) {
            if backing.operations == 0 && backing.stalled.is_empty() {
                continue;
            }
            let now = self.now;
            let is_late = |job: &mut Job<T>| {
                job.volume == volume
                    && backing.is_late(job.since, job.in_flight > 0, job.is_refused, now)
            };
            if !self.jobs.iter_mut().any(is_late) {
                continue;
            }
            match backing.hurry() {
                None => continue,
                Some(Due::Recovery) => self.counters.recoveries += 1,
                Some(Due::GivingUp) => self.counters.given_up += 1,
            }
            // It has as long again.
            for job in self.jobs.iter_mut().filter(|job| job.volume == volume) {
                job.since = now;
            }
        }
    }

    /// Whether the device went away for good that a range of the volume lies on.
    pub(crate) fn is_gone(&self, volume: VolumeId, range: Range<u64>) -> bool {
        match self.backings.get(volume.index()) {
            Some(backing) => backing.device.is_gone(),
            None => self.is_gone_of_span(volume, range),
        }
    }

    /// Operations that devices have ended, and that nobody has looked at.
    #[inline]
    pub(crate) fn ended(&self) -> usize {
        self.ops.ended()
    }

    pub(crate) fn has_done(&self) -> bool {
        !self.finished.is_empty() || self.ops.has_completed()
    }

    /// The next job that ended.
    #[inline]
    pub(crate) fn next_done(&mut self, buffers: &Buffers) -> Option<Done<T>> {
        while self.finished.is_empty() {
            let completed = self.ops.next_completed()?;
            self.completed(completed, buffers);
        }
        let index = self.finished.pop_front()?;
        let Job {
            ticket,
            volume,
            result,
            run,
            pages,
            ..
        } = self.jobs.remove(index)?;
        self.backings[volume.index()].pages -= pages;
        Some(Done {
            ticket,
            result,
            run,
        })
    }

    /// Jobs not yet handed back.
    pub(crate) fn in_flight(&self) -> usize {
        self.jobs.len()
    }

    pub(crate) fn ops_len(&self) -> usize {
        self.ops.len()
    }

    pub(crate) fn ops_available(&self) -> usize {
        self.ops.available()
    }

    /// Since when the job that has stalled for longest waits for memory, if it is memory that
    /// it waits for.
    pub(crate) fn short_since(&mut self) -> Option<Duration> {
        let Self { backings, jobs, .. } = self;
        let first = backings
            .iter()
            .filter_map(|backing| backing.stalled.front());
        first
            .filter_map(|&index| jobs.get_mut(index)?.short_since)
            .min()
    }

    pub(crate) fn counters(&self) -> JobCounters {
        JobCounters {
            stalled_now: self.stalled as u64,
            ..self.counters.clone()
        }
    }

    /// Hands over commands until all bytes are at the device or something is short.
    fn go_on(&mut self, index: u32, buffers: &Buffers) {
        let result = self.prepare(index, buffers).and_then(|()| {
            while self.submit_next(index, buffers)? {}
            Ok(())
        });
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        match result {
            Ok(()) => {}
            Err(stop @ (Stop::Later | Stop::Full | Stop::Short)) => {
                job.is_refused = matches!(stop, Stop::Full);
                let since = job.short_since.unwrap_or(self.now);
                job.short_since = matches!(stop, Stop::Short).then_some(since);
                // Before those that came later: what has memory never waits for others to have theirs.
                self.stall(index, VecDeque::push_front);
            }
            Err(Stop::Failed(fault)) => {
                job.result = Err(fault);
                if job.in_flight == 0 {
                    self.finished.push_back(index);
                }
            }
        }
    }

    /// A job waits; `push` puts it before those that wait for its device, or behind them.
    fn stall(&mut self, index: u32, push: fn(&mut VecDeque<u32>, u32)) {
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        job.stalled = true;
        self.stalled += 1;
        self.counters.stalls += 1;
        push(&mut self.backings[job.volume.index()].stalled, index);
    }

    /// What a job needs before its first command. Later its pages must stay
    /// as they are: the device reads them.
    fn prepare(&mut self, index: u32, buffers: &Buffers) -> Result<(), Stop> {
        let Some(job) = self.jobs.get_mut(index) else {
            return Ok(());
        };
        let backing = &mut self.backings[job.volume.index()];
        if backing.device.is_gone() {
            return Err(Stop::Failed(Fault::Gone));
        }
        let Some(run) = job
            .run
            .as_deref_mut()
            .filter(|_| job.state.formatted() == 0)
        else {
            return Ok(());
        };
        let whole = |run: &mut PageRun, reason| {
            run.make_whole(reason, &buffers.pull_up())
                .map_err(|_| Stop::Short)
        };
        match job.op {
            Op::Read if run.missing() > 0 => {
                let free = buffers.pages.free();
                if !may_take(backing.pages, free) {
                    return Err(if free == 0 { Stop::Short } else { Stop::Later });
                }
                let pages = run.place_fresh(&buffers.pages).map_err(|_| Stop::Short)?;
                job.pages = pages;
                backing.pages += pages;
                Ok(())
            }
            Op::Write if self.copy => whole(run, CopyReason::Ablation).map(drop),
            // A device that cannot take the pages as they lie gets each as a whole one,
            // as every other system does for all of them.
            Op::Write
                if backing.geometry.is_particular()
                    && backing.divider.count(&job.state, run, usize::MAX).is_err() =>
            {
                self.counters.bounced_bytes += whole(run, CopyReason::DeviceBounce)? as u64;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One command more; `Ok(false)` when there is none to add.
    fn submit_next(&mut self, index: u32, buffers: &Buffers) -> Result<bool, Stop> {
        let Some(job) = self.jobs.get_mut(index) else {
            return Ok(false);
        };
        let flush = job.state.is_formatted();
        if job.is_over() || flush && job.in_flight > 0 {
            if job.in_flight == 0 {
                self.finished.push_back(index);
            }
            return Ok(false);
        }
        let backing = &mut self.backings[job.volume.index()];
        if !may_take(backing.operations, self.ops.available()) {
            return Err(Stop::Later);
        }
        let op = self.ops.take(index).ok_or(Stop::Later)?;
        let before = job.state;
        let formatted = match job.op {
            _ if flush && job.follows == Follows::PART => {
                self.ops.release(op);
                return self.next_part(index, buffers);
            }
            _ if flush => Ok((Command::FLUSH, 0)),
            Op::Read | Op::Write => data_command(job, backing, self.ops.list(op)),
            _ => Ok(range_command(
                job,
                &backing.geometry,
                self.ops.list(op),
                buffers,
            )),
        };
        let (command, elements) = match formatted {
            Ok(formatted) => formatted,
            Err(refused) => {
                self.ops.release(op);
                log::error!("a request fits no list of its device: {refused}");
                return Err(Stop::Failed(Fault::Internal));
            }
        };
        if let Err(error) = backing.device.submit(&mut self.ops, op, elements, command) {
            job.state = before;
            self.ops.release(op);
            return Err(match error {
                NotStarted::Full => Stop::Full,
                NotStarted::Failed(fault) => {
                    let volume = job.volume;
                    self.note(volume, Err(fault));
                    Stop::Failed(fault)
                }
            });
        }
        if flush {
            job.follows.remove(Follows::FLUSH);
        }
        job.is_refused = false;
        job.in_flight += 1;
        job.since = self.now;
        backing.operations += 1;
        Ok(true)
    }

    #[inline]
    fn completed(&mut self, completed: Completed, buffers: &Buffers) {
        self.ops.release(completed.op);
        let Some(job) = self.jobs.get_mut(completed.request) else {
            return;
        };
        if mutant!("lost-completion") && job.op == Op::Write && job.in_flight > 2 {
            return;
        }
        job.in_flight -= 1;
        job.since = self.now;
        self.backings[job.volume.index()].ended(self.now);
        if job.result.is_ok() {
            job.result = completed.result;
        }
        let volume = job.volume;
        // A stalled job goes on, or ends, from its list.
        let (goes_on, is_over) = (job.in_flight == 0 && !job.stalled, job.is_over());
        if completed.result.is_err() || self.faulty > 0 {
            self.note(volume, completed.result);
        }
        match is_over {
            _ if !goes_on => {}
            true => self.finished.push_back(completed.request),
            false => self.go_on(completed.request, buffers),
        }
    }
}
