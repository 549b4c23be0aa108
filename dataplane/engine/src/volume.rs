//! From a request on a volume to operations of its device, and back.
//!
//! A write's logical pages become scatter-gather lists, divided to the device's
//! limits (rows Z9, C1); a read's whole pages are handed to the device to fill
//! (row Z10). Where a device cannot take fragments the page is copied together
//! first, and the copy counted (row Z14).

use std::collections::VecDeque;

use nvmf::{Completion, Operation, Request, RequestId, Status};
use pages::{CopyReason, LogicalPage, PAGE_SIZE, PageRun};
use sgl::{Divider, PageCursor, Refused, RequestState};

use crate::clock::StageClock;
use crate::memory::Memory;
use crate::snapshot::{IoCounters, Stage};
use crate::store::{Command, Completed, Geometry, OpIndex, OpTable, Outcome, Store};

/// The session a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) link: u16,
    pub(crate) slot: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    WriteZeroes,
    Deallocate,
    Flush,
}

/// A request at its device.
struct Pending {
    owner: Owner,
    id: RequestId,
    volume: usize,
    kind: Kind,
    run: Option<Box<PageRun>>,
    /// How far the request's bytes were made into operations.
    state: RequestState<PageCursor>,
    /// Operations at the device.
    in_flight: u32,
    /// In the list of stalled requests.
    stalled: bool,
    /// A flush is still to follow: force unit access on a device that caches.
    then_flush: bool,
    status: Status,
}

/// A store and how requests are divided for it.
struct Volume {
    store: Store,
    geometry: Geometry,
    divider: Divider,
}

/// Why a request did not go on.
enum Stop {
    /// Something is short; it is tried again.
    Later,
    /// It failed.
    Failed(Status),
}

/// A shard's volumes and the requests under way at them.
pub(crate) struct Volumes {
    volumes: Vec<Volume>,
    ops: OpTable,
    pending: Box<[Option<Pending>]>,
    free: Vec<u32>,
    /// Requests waiting for an operation, a page, or room at the device; oldest first.
    stalled: VecDeque<u32>,
    /// Requests whose last operation ended.
    finished: VecDeque<u32>,
    /// Assemble by memcpy: the ablation.
    copy: bool,
    io: IoCounters,
    pages_by_segments: [u64; 4],
    stalls: u64,
    bounced_pages: u64,
}

impl Volumes {
    /// `requests`: how many may be under way at once. `elements`: of one list.
    pub(crate) fn new(stores: Vec<Store>, requests: usize, elements: usize, copy: bool) -> Self {
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
            // One operation for most requests; divided requests wait for more.
            ops: OpTable::new(requests, elements),
            pending: (0..requests).map(|_| None).collect(),
            free: (0..requests as u32).rev().collect(),
            stalled: VecDeque::with_capacity(requests),
            finished: VecDeque::with_capacity(requests),
            copy,
            io: IoCounters::default(),
            pages_by_segments: [0; 4],
            stalls: 0,
            bounced_pages: 0,
        }
    }

    /// Starts a request; its completion comes from [`Volumes::next_completion`].
    pub(crate) fn start(
        &mut self,
        owner: Owner,
        request: Request,
        memory: &Memory,
        stages: &mut StageClock,
    ) {
        let block = u64::from(request.block_size.bytes());
        let (kind, range, fua, run) = match request.operation {
            Operation::Read { range, fua, run } => (Kind::Read, Some(range), fua, Some(run)),
            Operation::Write { range, fua, run } => (Kind::Write, Some(range), fua, Some(run)),
            Operation::WriteZeroes { range, fua, .. } => {
                (Kind::WriteZeroes, Some(range), fua, None)
            }
            Operation::Deallocate { range } => (Kind::Deallocate, Some(range), false, None),
            Operation::Flush => (Kind::Flush, None, false, None),
        };
        let (first, len) = range.map_or((0, 0), |range| {
            (range.first().0 * block, u64::from(range.blocks()) * block)
        });
        let volume = request.volume.0 as usize;
        let geometry = &self.volumes[volume].geometry;
        // Deallocation is advice (NVM 3.2.3): a device that cannot has nothing to do.
        let len = if kind == Kind::Deallocate && !geometry.unmap {
            0
        } else {
            len
        };
        let caches = geometry.write_cache;
        let index = self.free.pop().expect("as many requests as command slots");
        self.pending[index as usize] = Some(Pending {
            owner,
            id: request.id,
            volume,
            kind,
            run,
            state: RequestState::new(first, len),
            in_flight: 0,
            stalled: false,
            then_flush: caches && (fua && kind != Kind::Read || kind == Kind::Flush),
            status: Status::SUCCESS,
        });
        match self.prepare(index, memory) {
            Ok(()) => {
                stages.end(Stage::Assemble);
                self.go_on(index, memory);
            }
            Err(stop) => self.stop(index, stop),
        }
        stages.end(Stage::Submit);
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
            let before = self.stalled.len();
            if let Some(pending) = &mut self.pending[index as usize] {
                pending.stalled = false;
            }
            match self.prepare(index, memory) {
                Ok(()) => self.go_on(index, memory),
                Err(stop) => self.stop(index, stop),
            }
            if self.stalled.len() > before {
                // Still short: keep its place and try the others later.
                self.stalled.rotate_right(1);
                break;
            }
            busy = true;
        }
        busy | self.has_completed()
    }

    pub(crate) fn has_completed(&self) -> bool {
        !self.finished.is_empty() || self.ops.has_completed()
    }

    /// The next request that ended.
    pub(crate) fn next_completion(&mut self, memory: &Memory) -> Option<(Owner, Completion)> {
        while self.finished.is_empty() {
            let completed = self.ops.next_completed()?;
            self.completed(completed, memory);
        }
        let index = self.finished.pop_front()?;
        let mut pending = self.pending[index as usize].take()?;
        self.free.push(index);
        self.account(&pending);
        if self.copy
            && pending.kind == Kind::Read
            && let Some(run) = &mut pending.run
        {
            // The copying engine's second memcpy; without a page it goes out as it is.
            let _ = run.flatten(&memory.pages, &memory.ledger, CopyReason::Ablation, |_| {
                true
            });
        }
        let Pending {
            owner,
            id,
            status,
            run,
            ..
        } = pending;
        Some((owner, Completion { id, status, run }))
    }

    /// Requests not yet completed.
    pub(crate) fn in_flight(&self) -> usize {
        self.pending.len() - self.free.len()
    }

    pub(crate) fn requests_max(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn ops_len(&self) -> usize {
        self.ops.len()
    }

    pub(crate) fn ops_available(&self) -> usize {
        self.ops.available()
    }

    pub(crate) fn io(&self) -> IoCounters {
        self.io
    }

    pub(crate) fn pages_by_segments(&self) -> [u64; 4] {
        self.pages_by_segments
    }

    pub(crate) fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("stalls", self.stalls),
            ("bounced_pages", self.bounced_pages),
            ("stalled_now", self.stalled.len() as u64),
        ]
        .into_iter()
    }

    /// What a request needs before its first operation.
    fn prepare(&mut self, index: u32, memory: &Memory) -> Result<(), Stop> {
        let Some(pending) = &mut self.pending[index as usize] else {
            return Ok(());
        };
        let volume = &self.volumes[pending.volume];
        if volume.store.is_gone() {
            return Err(Stop::Failed(Status::NAMESPACE_NOT_READY));
        }
        let Some(run) = &mut pending.run else {
            return Ok(());
        };
        match pending.kind {
            Kind::Read => run.place_fresh(&memory.pages).map_err(|_| Stop::Later),
            _ if self.copy => run
                .flatten(
                    &memory.pages,
                    &memory.ledger,
                    CopyReason::Ablation,
                    is_fragmented,
                )
                .map(drop)
                .map_err(|_| Stop::Later),
            _ => Ok(()),
        }
    }

    /// Hands over operations until all bytes are at the device or something is short.
    fn go_on(&mut self, index: u32, memory: &Memory) {
        loop {
            match self.submit_next(index, memory) {
                Ok(true) => {}
                Ok(false) => return,
                Err(stop) => return self.stop(index, stop),
            }
        }
    }

    fn stop(&mut self, index: u32, stop: Stop) {
        let Some(pending) = &mut self.pending[index as usize] else {
            return;
        };
        match stop {
            Stop::Later => {
                self.stalls += 1;
                pending.stalled = true;
                self.stalled.push_back(index);
            }
            Stop::Failed(status) => {
                pending.status = status;
                if pending.in_flight == 0 {
                    self.finished.push_back(index);
                }
            }
        }
    }

    /// One operation more; `Ok(false)` when there is none to add.
    fn submit_next(&mut self, index: u32, memory: &Memory) -> Result<bool, Stop> {
        let Some(pending) = &mut self.pending[index as usize] else {
            return Ok(false);
        };
        if !pending.status.is_success() {
            if pending.in_flight == 0 {
                self.finished.push_back(index);
            }
            return Ok(false);
        }
        let flush_only = pending.state.is_formatted();
        if flush_only && !(pending.then_flush && pending.in_flight == 0) {
            if pending.in_flight == 0 {
                self.finished.push_back(index);
            }
            return Ok(false);
        }
        let op = self.ops.take(index).ok_or(Stop::Later)?;
        let before = pending.state;
        let volume = &self.volumes[pending.volume];
        let formatted = match pending.kind {
            _ if flush_only => Ok((Command::Flush, 0)),
            Kind::Read | Kind::Write => data_command(pending, volume, &mut self.ops, op),
            _ => Ok(range_command(pending, volume, &mut self.ops, op, memory)),
        };
        let (command, elements) = match formatted {
            Ok(formatted) => formatted,
            Err(refused) => {
                self.ops.release(op);
                return self.bounce(index, refused, memory).map(|()| true);
            }
        };
        #[cfg(test)]
        crate::spy::listed(command, &self.ops.list(op)[..elements]);
        let code = volume.store.submit(&mut self.ops, op, elements, command);
        if code < 0 {
            pending.state = before;
            self.ops.release(op);
            return Err(match code {
                code if code == -libc::ENOMEM || code == -libc::EAGAIN => Stop::Later,
                code => Stop::Failed(status_of(Outcome::Failed(code), pending.kind)),
            });
        }
        if flush_only {
            pending.then_flush = false;
        }
        pending.in_flight += 1;
        Ok(true)
    }

    /// The device cannot take the pages as they lie: copies each that is
    /// fragmented into a whole page, as every other system does for all of them.
    fn bounce(&mut self, index: u32, refused: Refused, memory: &Memory) -> Result<(), Stop> {
        let Some(pending) = &mut self.pending[index as usize] else {
            return Ok(());
        };
        let hopeless = matches!(
            refused,
            Refused::PartialBlock | Refused::ChainTooShort | Refused::Null { .. }
        );
        let (Some(run), false) = (&mut pending.run, hopeless) else {
            return Err(Stop::Failed(Status::INTERNAL_ERROR));
        };
        match run.flatten(
            &memory.pages,
            &memory.ledger,
            CopyReason::DeviceBounce,
            is_fragmented,
        ) {
            // Nothing to mend: the device's limits are tighter than whole pages.
            Ok(0) => Err(Stop::Failed(Status::INTERNAL_ERROR)),
            Ok(pages) => {
                self.bounced_pages += pages as u64;
                Ok(())
            }
            Err(_) => Err(Stop::Later),
        }
    }

    fn completed(&mut self, completed: Completed, memory: &Memory) {
        self.ops.release(completed.op);
        let Some(pending) = &mut self.pending[completed.request as usize] else {
            return;
        };
        pending.in_flight -= 1;
        if pending.status.is_success() {
            pending.status = status_of(completed.outcome, pending.kind);
        }
        if pending.in_flight > 0 || pending.stalled {
            // It goes on, or ends, from there.
            return;
        }
        self.go_on(completed.request, memory);
    }

    fn account(&mut self, pending: &Pending) {
        let bytes = pending.state.len();
        if !pending.status.is_success() {
            self.io.errors += 1;
            return;
        }
        match pending.kind {
            Kind::Read => {
                self.io.reads += 1;
                self.io.read_bytes += bytes;
            }
            Kind::Write => {
                self.io.writes += 1;
                self.io.written_bytes += bytes;
                let fragments = pending.run.as_ref().map_or([0; 4], |run| run.fragments());
                for (sum, n) in self.pages_by_segments.iter_mut().zip(fragments) {
                    *sum += u64::from(n);
                }
            }
            _ => self.io.others += 1,
        }
    }
}

/// Whether a page's bytes lie elsewhere than at their offset in one whole page.
fn is_fragmented(page: &LogicalPage) -> bool {
    let [only] = page.segments() else { return true };
    let address = only
        .address()
        .map_or(0, |address| address.as_ptr() as usize);
    address % PAGE_SIZE != page.extent().start
}

/// The next operation of a read or write: its list is made of the run's segments.
fn data_command(
    pending: &mut Pending,
    volume: &Volume,
    ops: &mut OpTable,
    op: OpIndex,
) -> Result<(Command, usize), Refused> {
    let run = pending.run.as_deref().ok_or(Refused::ChainTooShort)?;
    let descriptor = volume
        .divider
        .format(&mut pending.state, run, ops.list(op))?
        .ok_or(Refused::ChainTooShort)?;
    let size = u64::from(volume.geometry.block_size);
    let (block, blocks) = (descriptor.remote / size, descriptor.len / size);
    let command = match pending.kind {
        Kind::Read => Command::Read { block, blocks },
        _ => Command::Write { block, blocks },
    };
    Ok((command, descriptor.elements))
}

/// The next operation of a request without data. A device that cannot write
/// zeros itself is given lists of the page of zeros.
fn range_command(
    pending: &mut Pending,
    volume: &Volume,
    ops: &mut OpTable,
    op: OpIndex,
    memory: &Memory,
) -> (Command, usize) {
    let size = u64::from(volume.geometry.block_size);
    let first = pending.state.remote() + pending.state.formatted();
    let block = first / size;
    let rest = pending.state.remaining();
    if pending.kind == Kind::Deallocate {
        pending.state.skip(rest);
        return (
            Command::Unmap {
                block,
                blocks: rest / size,
            },
            0,
        );
    }
    if volume.geometry.write_zeroes {
        pending.state.skip(rest);
        return (
            Command::WriteZeroes {
                block,
                blocks: rest / size,
            },
            0,
        );
    }
    let page = PAGE_SIZE as u64;
    let list = ops.list(op);
    let most = (list.len() as u64 * page)
        .min(u64::from(volume.geometry.max_bytes))
        .min(u64::from(volume.geometry.max_elements) * page);
    let len = rest.min(most / size * size);
    let elements = len.div_ceil(page) as usize;
    for (i, element) in list[..elements].iter_mut().enumerate() {
        let n = (len - i as u64 * page).min(page);
        *element = sgl::Element::new(memory.zero_page.address().as_ptr() as u64, n);
    }
    pending.state.skip(len);
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
