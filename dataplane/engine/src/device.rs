//! Jobs for devices: each becomes the fewest operations that the device's
//! limits allow (rows Z9, C1), and ends when the last of them has.
//!
//! A write's logical pages become scatter-gather lists; a read's whole pages
//! are handed to the device to fill (row Z10). Where a device cannot take
//! fragments, the page is copied together first, and the copy counted (row Z14).

use std::collections::VecDeque;

use nvmf::Status;
use pages::{CopyReason, PAGE_SIZE, PageRun};
use sgl::{Divider, Element, PageCursor, Refused, RequestState};

use crate::memory::Memory;
use crate::store::{Command, Completed, Geometry, OpTable, Outcome, Store};

/// What a job does. Bytes are the volume's.
#[derive(Debug)]
pub(crate) enum Work {
    /// Fill the run.
    Read(Box<PageRun>),
    /// Store the run; past the device's own cache if `fua`.
    Write { run: Box<PageRun>, fua: bool },
    /// Make bytes read as zeros.
    WriteZeroes { offset: u64, len: u64, fua: bool },
    /// Give bytes up; advice that a device may ignore.
    Deallocate { offset: u64, len: u64 },
    /// Make all that was written non-volatile.
    Flush,
}

/// How a job ended; its run is back.
pub(crate) struct Done<T> {
    pub(crate) ticket: T,
    pub(crate) status: Status,
    pub(crate) run: Option<Box<PageRun>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    WriteZeroes,
    Deallocate,
    Flush,
}

/// A job at its device.
struct Job<T> {
    ticket: T,
    volume: usize,
    kind: Kind,
    run: Option<Box<PageRun>>,
    /// How far its bytes were made into operations.
    state: RequestState<PageCursor>,
    /// Operations at the device.
    in_flight: u32,
    /// In the list of stalled jobs.
    stalled: bool,
    /// A flush is still to follow: force unit access on a device that caches.
    then_flush: bool,
    status: Status,
}

impl<T> Job<T> {
    /// Whether no operation is to follow those at the device.
    #[inline]
    fn is_over(&self) -> bool {
        !self.status.is_success() || self.state.is_formatted() && !self.then_flush
    }
}

/// A store and how jobs are divided for it.
struct Volume {
    store: Store,
    geometry: Geometry,
    divider: Divider,
}

/// Why a job does not go on.
enum Stop {
    /// Something is short; it is tried again.
    Later,
    /// It failed.
    Failed(Status),
}

/// A shard's devices and the jobs under way at them. `T` is what the owner of
/// a job knows it by.
pub(crate) struct Devices<T> {
    volumes: Vec<Volume>,
    ops: OpTable,
    jobs: Box<[Option<Job<T>>]>,
    free: Vec<u32>,
    /// Jobs waiting for an operation, a page, or room at the device; oldest first.
    stalled: VecDeque<u32>,
    /// Jobs whose last operation ended.
    finished: VecDeque<u32>,
    /// Assemble by memcpy: the ablation.
    copy: bool,
    counters: DeviceCounters,
}

events::counters! {
    /// What became of a shard's device jobs.
    pub(crate) struct DeviceCounters {
        /// Times a job waited for an operation, a page, or room at its device.
        stalls,
        /// Jobs that wait now.
        @gauge stalled_now,
        /// Bytes copied into whole pages for devices that take no fragments.
        bounced_bytes,
    }
}

impl<T> Devices<T> {
    /// `jobs`: how many may be under way at once. `ops`: operations at the devices.
    /// `elements`: of one list.
    pub(crate) fn new(
        stores: Vec<Store>,
        jobs: usize,
        ops: usize,
        elements: usize,
        copy: bool,
    ) -> Self {
        let volume = |store: Store| {
            let geometry = store.geometry();
            let divider = Divider::new(geometry.limits(elements as u32))
                .expect("a device takes at least a block and an element");
            Volume {
                store,
                geometry,
                divider,
            }
        };
        Self {
            volumes: stores.into_iter().map(volume).collect(),
            // Jobs that find none wait.
            ops: OpTable::new(ops, elements),
            jobs: (0..jobs).map(|_| None).collect(),
            free: (0..jobs as u32).rev().collect(),
            stalled: VecDeque::with_capacity(jobs),
            finished: VecDeque::with_capacity(jobs),
            copy,
            counters: DeviceCounters::default(),
        }
    }

    pub(crate) fn geometry(&self, volume: usize) -> &Geometry {
        &self.volumes[volume].geometry
    }

    /// Whether another job can be started.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Starts a job; its end comes from [`Devices::next_done`].
    ///
    /// # Panics
    /// If there is no room.
    pub(crate) fn start(&mut self, ticket: T, volume: usize, work: Work, memory: &Memory) {
        let geometry = &self.volumes[volume].geometry;
        let (kind, offset, len, fua, run) = match work {
            Work::Read(run) => (Kind::Read, run.offset(), run.len() as u64, false, Some(run)),
            Work::Write { run, fua } => {
                (Kind::Write, run.offset(), run.len() as u64, fua, Some(run))
            }
            Work::WriteZeroes { offset, len, fua } => (Kind::WriteZeroes, offset, len, fua, None),
            // Advice (NVM 3.2.3): a device that cannot has nothing to do.
            Work::Deallocate { offset, .. } if !geometry.unmap => {
                (Kind::Deallocate, offset, 0, false, None)
            }
            Work::Deallocate { offset, len } => (Kind::Deallocate, offset, len, false, None),
            Work::Flush => (Kind::Flush, 0, 0, true, None),
        };
        let index = self.free.pop().expect("the caller looked for room");
        self.jobs[index as usize] = Some(Job {
            ticket,
            volume,
            kind,
            run,
            state: RequestState::new(offset, len),
            in_flight: 0,
            stalled: false,
            then_flush: fua && geometry.write_cache,
            status: Status::SUCCESS,
        });
        self.go_on(index, memory);
    }

    /// Polls devices that need it and retries what waited; whether there was work.
    pub(crate) fn poll(&mut self, memory: &Memory) -> bool {
        let mut busy = false;
        for volume in &mut self.volumes {
            busy |= volume.store.poll();
        }
        for _ in 0..self.stalled.len() {
            let Some(index) = self.stalled.pop_front() else {
                break;
            };
            let waiting = self.stalled.len();
            if let Some(job) = &mut self.jobs[index as usize] {
                job.stalled = false;
            }
            self.go_on(index, memory);
            if self.stalled.len() > waiting {
                // Still short: it keeps its place, and the others theirs.
                self.stalled.rotate_right(1);
                break;
            }
            busy = true;
        }
        busy | self.has_done()
    }

    pub(crate) fn has_done(&self) -> bool {
        !self.finished.is_empty() || self.ops.has_completed()
    }

    /// The next job that ended.
    pub(crate) fn next_done(&mut self, memory: &Memory) -> Option<Done<T>> {
        while self.finished.is_empty() {
            let completed = self.ops.next_completed()?;
            self.completed(completed, memory);
        }
        let index = self.finished.pop_front()?;
        let Job {
            ticket,
            status,
            run,
            ..
        } = self.jobs[index as usize].take()?;
        self.free.push(index);
        Some(Done {
            ticket,
            status,
            run,
        })
    }

    /// Jobs not yet handed back.
    pub(crate) fn in_flight(&self) -> usize {
        self.jobs.len() - self.free.len()
    }

    pub(crate) fn ops_len(&self) -> usize {
        self.ops.len()
    }

    pub(crate) fn ops_available(&self) -> usize {
        self.ops.available()
    }

    pub(crate) fn counters(&self) -> DeviceCounters {
        DeviceCounters {
            stalled_now: self.stalled.len() as u64,
            ..self.counters.clone()
        }
    }

    /// Hands over operations until all bytes are at the device or something is short.
    fn go_on(&mut self, index: u32, memory: &Memory) {
        let result = self.prepare(index, memory).and_then(|()| {
            while self.submit_next(index, memory)? {}
            Ok(())
        });
        let Some(job) = &mut self.jobs[index as usize] else {
            return;
        };
        match result {
            Ok(()) => {}
            Err(Stop::Later) => {
                self.counters.stalls += 1;
                job.stalled = true;
                self.stalled.push_back(index);
            }
            Err(Stop::Failed(status)) => {
                job.status = status;
                if job.in_flight == 0 {
                    self.finished.push_back(index);
                }
            }
        }
    }

    /// What a job needs before its first operation. Later its pages must stay
    /// as they are: the device reads them.
    fn prepare(&mut self, index: u32, memory: &Memory) -> Result<(), Stop> {
        let Some(job) = &mut self.jobs[index as usize] else {
            return Ok(());
        };
        let volume = &self.volumes[job.volume];
        if volume.store.is_gone() {
            return Err(Stop::Failed(Status::NAMESPACE_NOT_READY));
        }
        let Some(run) = job
            .run
            .as_deref_mut()
            .filter(|_| job.state.formatted() == 0)
        else {
            return Ok(());
        };
        let whole = |run: &mut PageRun, reason| {
            run.make_whole(reason, &memory.pull_up())
                .map_err(|_| Stop::Later)
        };
        match job.kind {
            Kind::Read if run.missing() > 0 => {
                run.place_fresh(&memory.pages).map_err(|_| Stop::Later)
            }
            Kind::Write if self.copy => whole(run, CopyReason::Ablation).map(drop),
            // A device that cannot take the pages as they lie gets each as a whole one,
            // as every other system does for all of them.
            Kind::Write
                if volume.geometry.is_particular()
                    && volume.divider.count(&job.state, run, usize::MAX).is_err() =>
            {
                self.counters.bounced_bytes += whole(run, CopyReason::DeviceBounce)? as u64;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One operation more; `Ok(false)` when there is none to add.
    fn submit_next(&mut self, index: u32, memory: &Memory) -> Result<bool, Stop> {
        let Some(job) = &mut self.jobs[index as usize] else {
            return Ok(false);
        };
        let flush = job.state.is_formatted();
        if job.is_over() || flush && job.in_flight > 0 {
            if job.in_flight == 0 {
                self.finished.push_back(index);
            }
            return Ok(false);
        }
        let op = self.ops.take(index).ok_or(Stop::Later)?;
        let before = job.state;
        let volume = &self.volumes[job.volume];
        let formatted = match job.kind {
            _ if flush => Ok((Command::Flush, 0)),
            Kind::Read | Kind::Write => data_command(job, volume, self.ops.list(op)),
            _ => Ok(range_command(job, volume, self.ops.list(op), memory)),
        };
        let (command, elements) = match formatted {
            Ok(formatted) => formatted,
            Err(refused) => {
                self.ops.release(op);
                log::error!("a request fits no list of its device: {refused}");
                return Err(Stop::Failed(Status::INTERNAL_ERROR));
            }
        };
        #[cfg(test)]
        crate::spy::listed(command, &self.ops.list(op)[..elements]);
        let code = volume.store.submit(&mut self.ops, op, elements, command);
        if code < 0 {
            job.state = before;
            self.ops.release(op);
            return Err(match code {
                code if code == -libc::ENOMEM || code == -libc::EAGAIN => Stop::Later,
                code => Stop::Failed(status_of(Outcome::Failed(code), job.kind)),
            });
        }
        if flush {
            job.then_flush = false;
        }
        job.in_flight += 1;
        Ok(true)
    }

    fn completed(&mut self, completed: Completed, memory: &Memory) {
        self.ops.release(completed.op);
        let Some(job) = &mut self.jobs[completed.request as usize] else {
            return;
        };
        job.in_flight -= 1;
        if job.status.is_success() {
            job.status = status_of(completed.outcome, job.kind);
        }
        // A stalled job goes on, or ends, from its list.
        if job.in_flight == 0 && !job.stalled {
            match job.is_over() {
                true => self.finished.push_back(completed.request),
                false => self.go_on(completed.request, memory),
            }
        }
    }
}

/// The next operation of a read or write: its list is made of the run's segments.
fn data_command<T>(
    job: &mut Job<T>,
    volume: &Volume,
    list: &mut [Element],
) -> Result<(Command, usize), Refused> {
    let run = job.run.as_deref().ok_or(Refused::ChainTooShort)?;
    let descriptor = volume
        .divider
        .format(&mut job.state, run, list)?
        .ok_or(Refused::ChainTooShort)?;
    // Blocks are powers of two (`Store::open`).
    let shift = volume.geometry.block_size.trailing_zeros();
    let (block, blocks) = (descriptor.remote >> shift, descriptor.len >> shift);
    let command = match job.kind {
        Kind::Read => Command::Read { block, blocks },
        _ => Command::Write { block, blocks },
    };
    Ok((command, descriptor.elements))
}

/// The next operation of a job without data. A device that cannot write zeros
/// itself is given lists of the page of zeros.
fn range_command<T>(
    job: &mut Job<T>,
    volume: &Volume,
    list: &mut [Element],
    memory: &Memory,
) -> (Command, usize) {
    let geometry = &volume.geometry;
    let size = u64::from(geometry.block_size);
    let block = (job.state.remote() + job.state.formatted()) / size;
    let rest = job.state.remaining();
    let blocks = rest / size;
    if job.kind == Kind::Deallocate || geometry.write_zeroes {
        job.state.skip(rest);
        let command = match job.kind {
            Kind::Deallocate => Command::Unmap { block, blocks },
            _ => Command::WriteZeroes { block, blocks },
        };
        return (command, 0);
    }
    let page = PAGE_SIZE as u64;
    let most = (list.len() as u64 * page)
        .min(u64::from(geometry.max_bytes))
        .min(u64::from(geometry.max_elements) * page);
    let len = rest.min(most / size * size);
    let elements = len.div_ceil(page) as usize;
    let zeros = memory.zero_page.address().as_ptr() as u64;
    for (i, element) in list[..elements].iter_mut().enumerate() {
        *element = Element::new(zeros, (len - i as u64 * page).min(page));
    }
    job.state.skip(len);
    (
        Command::Write {
            block,
            blocks: len / size,
        },
        elements,
    )
}

/// The status a host is told for what its device said.
fn status_of(outcome: Outcome, kind: Kind) -> Status {
    match outcome {
        Outcome::Done => Status::SUCCESS,
        Outcome::Status { sct, sc } => Status::from_field(u16::from(sct) << 8 | u16::from(sc)),
        Outcome::Failed(code) => match -code {
            libc::ENOMEM | libc::EAGAIN => Status::COMMAND_INTERRUPTED,
            libc::ENXIO | libc::ENODEV | libc::ECANCELED => Status::NAMESPACE_NOT_READY,
            libc::ENOSPC => Status::CAPACITY_EXCEEDED,
            libc::EIO if kind == Kind::Read => Status::UNRECOVERED_READ_ERROR,
            libc::EIO => Status::WRITE_FAULT,
            _ => Status::INTERNAL_ERROR,
        },
    }
}
