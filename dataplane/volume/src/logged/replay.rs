//! What a run begins with: the log is read, what no consistency point finished is replayed, and the log
//! is made ready. One shard does it for all, before any of them takes a request.

mod explain;
mod spans;
mod tables;
mod targets;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use block::{Buffers, Device, Fault, Flags, Io, Op, VolumeId};
use mutant::mutant;
use nvlog::recovery::{self, Agreed, Buffer, Found, Refusal, Replayed, Store, View};
use nvlog::{Layout, LogId, RegionSuperblock, Superblock};
use pages::{Cluster, PAGE_SIZE, PageRun};
use sgl::Element;

use super::{LogMember, LogStores, Lost, TableArea, TableEntry, warm};
use crate::cached::JobTicket;
use crate::jobs::Jobs;
use crate::placement;
use explain::{explain, refused};
use targets::Targets;

/// How the log is to be.
#[derive(Clone, Debug)]
pub struct LogPlan {
    /// Regions: one for each shard.
    pub shards: usize,
    /// Bytes of a half; `None`: as many as there is room for.
    pub half_len: Option<u64>,
    /// Bytes of the tables area at least; it is never made shorter than it is.
    pub tables_len: u64,
    /// The longest that changes stay in the log alone.
    pub interval: Duration,
    /// Once the log has failed and is empty, changes go straight to their drives; else they are refused.
    pub through_after_failure: bool,
    /// Bytes of the longest request.
    pub max_bytes: usize,
    /// Every volume, by [`VolumeId`].
    pub volumes: Vec<nvlog::Volume>,
    /// Which log it is, if it is a new one: chosen at random.
    pub id: LogId,
    /// The store that it is on, or the two.
    pub stores: Vec<LogStorePlan>,
}

/// A store that the log is to be on.
#[derive(Clone, Debug)]
pub struct LogStorePlan {
    /// What it is called.
    pub name: String,
    /// Its place among all stores.
    pub volume: VolumeId,
    /// What it has is given up, whatever it is. Without it nothing that was acknowledged is overwritten.
    pub discard: bool,
}

/// What the logs of all shards begin with.
#[derive(Clone, Debug)]
pub struct LogStart {
    /// Which log it is.
    pub log: LogId,
    /// The stores that it is on, as they are configured.
    pub stores: Vec<LogMember>,
    /// Those that some shard has lost.
    pub lost: Lost,
    /// Where things lie in them.
    pub layout: Layout,
    /// By shard.
    pub regions: Vec<RegionSuperblock>,
    /// The longest that changes stay in the log alone.
    pub interval: Duration,
    /// As in [`LogPlan`].
    pub through_after_failure: bool,
    /// What was replayed.
    pub replayed: Replayed,
    /// The last ranges that were, oldest first: volume, first byte, bytes.
    pub warm: Vec<(VolumeId, u64, u64)>,
    /// What was given up, by store and in words.
    pub discarded: Vec<(String, String)>,
    /// Tables of volumes.
    pub tables: Vec<TableEntry>,
    /// Tables of volumes that are not there, or have another drive, in words: they are kept as they are.
    pub tables_kept: Vec<String>,
    /// Where tables are written.
    pub table_area: TableArea,
}

/// How a replay ended: what to begin with, or a sentence that says why not and what to do.
pub type ReplayEnd = Result<LogStart, String>;

/// What the replay asks for; of the log's stores by their places.
enum Ask {
    Read {
        store: usize,
        at: u64,
        len: usize,
    },
    Write {
        store: usize,
        at: u64,
        bytes: Vec<u8>,
    },
    Flush(usize),
    /// Of a drive: from byte `offset`, the bytes `range` of pages.
    DriveWrite {
        volume: VolumeId,
        offset: u64,
        pages: LogPages,
        range: Range<usize>,
    },
    DriveZeroes {
        volume: VolumeId,
        offset: u64,
        len: u64,
    },
    DriveDeallocation {
        volume: VolumeId,
        offset: u64,
        len: u64,
    },
    DriveFlush(VolumeId),
}

/// Whole pages that were read from the log.
#[derive(Clone)]
struct LogPages(Rc<Vec<Cluster>>);

impl LogPages {
    /// The bytes `range` of each page that has some.
    fn parts(&self, range: Range<usize>) -> impl Iterator<Item = (&Cluster, Range<usize>)> {
        let first = range.start / PAGE_SIZE;
        let last = range.end.div_ceil(PAGE_SIZE);
        (first..last).map(move |page| {
            let start = range.start.max(page * PAGE_SIZE) - page * PAGE_SIZE;
            let end = range.end.min((page + 1) * PAGE_SIZE) - page * PAGE_SIZE;
            (&self.0[page], start..end)
        })
    }
}

impl Buffer for LogPages {
    fn slices(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.parts(range).map(|(page, part)| &page.bytes()[part])
    }
}

type Answer = Result<Option<LogPages>, Fault>;

/// How far a replay is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayProgress {
    /// Bytes of the log's stores that were read.
    pub read: u64,
    /// Bytes of the halves of one, once that is known; what is damaged, or torn, is read more than once.
    pub halves: u64,
}

/// Where the replay and whoever does what it asks for meet.
#[derive(Clone, Default)]
struct Desk {
    ask: Rc<RefCell<Option<Ask>>>,
    answer: Rc<RefCell<Option<Answer>>>,
    progress: Rc<Cell<ReplayProgress>>,
}

impl Desk {
    async fn ask(&self, ask: Ask) -> Answer {
        *self.ask.borrow_mut() = Some(ask);
        poll_fn(|_| match self.answer.borrow_mut().take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }
}

/// A store of the log, as the replay sees it.
#[derive(Clone)]
struct Side {
    desk: Desk,
    store: usize,
    /// Its bytes, and those of a block.
    len: u64,
    block: u32,
}

impl Store for Side {
    type Buffer = LogPages;
    type Error = Fault;

    async fn read(&self, at: u64, len: usize) -> Result<LogPages, Fault> {
        let store = self.store;
        let pages = self.desk.ask(Ask::Read { store, at, len }).await?;
        let progress = &self.desk.progress;
        progress.update(|so_far| ReplayProgress {
            read: so_far.read + len as u64,
            ..so_far
        });
        pages.ok_or(Fault::Internal)
    }

    async fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let (store, bytes) = (self.store, bytes.to_vec());
        let ask = Ask::Write { store, at, bytes };
        self.desk.ask(ask).await.map(drop)
    }

    async fn flush(&self) -> Result<(), Fault> {
        self.desk.ask(Ask::Flush(self.store)).await.map(drop)
    }
}

/// Where things lie in the log's stores: those that are there have room for it.
fn layout(plan: &LogPlan, sides: &[Option<Side>], tables_len: u64) -> Result<Layout, String> {
    let there = || sides.iter().flatten();
    let len = there().map(|side| side.len).min().unwrap_or(0);
    // Blocks of the larger size are blocks of the other one, too.
    let block = there().map(|side| side.block).max().unwrap_or(0);
    let tables = match tables_len {
        0 => String::new(),
        _ => format!(
            ", of which {tables_len} are for tables: name a larger store, or let halves be shorter"
        ),
    };
    let layout = Layout::new(len, block, plan.shards as u32, plan.half_len, tables_len)
        .map_err(|unfit| format!("{unfit}{tables}"))?;
    let longest = (plan.max_bytes + nvlog::HEADER_MAX) as u64 + nvlog::UNIT;
    match layout.half_len < longest {
        true => Err(format!(
            "halves of {} bytes are too short: requests are as long as {} bytes",
            layout.half_len, plan.max_bytes
        )),
        false => Ok(layout),
    }
}

/// The whole of it. `sides`: as they are configured; `None` of one that is not there.
async fn run(desk: Desk, plan: LogPlan, mut sides: Vec<Option<Side>>) -> ReplayEnd {
    let (mut found, mut discarded) = (Vec::new(), Vec::new());
    for (side, store) in sides.iter_mut().zip(&plan.stores) {
        let (view, given_up) = match side {
            Some(one) => match look(one, store.discard).await {
                Ok((view, given_up)) => (Some(view), given_up),
                Err(refusal) if plan.stores.len() == 1 => return Err(explain(&refusal, &[])),
                Err(refusal) => {
                    log::error!("log store {} cannot be read: {refusal}", store.name);
                    *side = None;
                    (None, None)
                }
            },
            None => (None, None),
        };
        found.push(match (view, store.discard) {
            (view, true) => Found::GivenUp(view),
            (Some(view), false) => Found::Seen(view),
            (None, false) => Found::Absent,
        });
        if store.discard {
            let what = given_up.unwrap_or_else(|| "all of it, unseen: it is not there".into());
            discarded.push((store.name.clone(), what));
        }
    }
    let mut agreed = recovery::agree(&found).map_err(|(i, refusal)| refused(&refusal, i, &plan))?;
    if let Some(opened) = &agreed.opened {
        let log: Vec<_> = plan.stores.iter().map(|store| store.name.clone()).collect();
        spans::check(&opened.superblock.volumes, &plan.volumes, &log)?;
    }
    let tables_len = plan.tables_len.max(agreed.tables_len());
    let layout = layout(&plan, &sides, tables_len)?;
    let places = sides.iter().map(Option::as_ref);
    let mut stores: Vec<_> = places.map(|side| Some((side?, side?.len))).collect();
    if let Some(opened) = &mut agreed.opened {
        if mutant!("log-map-of-this-run") {
            opened.regions.truncate(plan.shards);
        }
        let layout = &opened.superblock.layout;
        let halves = u64::from(layout.regions) * 2 * layout.half_len;
        (desk.progress).update(|so_far| ReplayProgress { halves, ..so_far });
    }
    let log = (agreed.opened.as_ref()).map_or(plan.id, |opened| opened.superblock.log);
    let found = recovery::tables(&stores, &agreed, log).await;
    let found = found.map_err(|refusal| tables::unreadable(&refusal))?;
    let mut found = tables::Found::new(&plan, found)?;
    let tables_kept = std::mem::take(&mut found.kept);
    let table_area = found.area(&plan, tables_len);
    let (replayed, warm, marks) = replay(&desk, &plan, &stores, &agreed, found.marks()).await?;
    let tables = found.mark(&mut stores, &agreed, marks).await;
    let tables = tables.map_err(|fault| format!("the log store failed: {fault}"))?;
    let superblock = Superblock {
        log,
        generation: 0,
        layout,
        placement: placement::VERSION,
        member: 0,
        volumes: plan.volumes,
    };
    let begun = recovery::begin(&stores, &agreed, superblock).await;
    let begun = begun.map_err(|fault| format!("the log store failed: {fault}"))?;
    let member = |(i, store): (usize, LogStorePlan)| LogMember {
        name: store.name,
        volume: store.volume,
        len: sides[i].as_ref().map_or(0, |side| side.len),
        member: begun.members[i],
    };
    Ok(LogStart {
        log,
        stores: plan.stores.into_iter().enumerate().map(member).collect(),
        lost: Lost::default(),
        layout,
        regions: begun.regions,
        interval: plan.interval,
        through_after_failure: plan.through_after_failure,
        replayed,
        warm: warm.into(),
        discarded,
        tables,
        tables_kept,
        table_area,
    })
}

/// Replays what the stores agree on; what that was, the last ranges written, and what it changed, in `marks`.
async fn replay(
    desk: &Desk,
    plan: &LogPlan,
    stores: &recovery::Stores<'_, Side>,
    agreed: &Agreed,
    marks: tables::Marks,
) -> Result<(Replayed, VecDeque<warm::Range>, tables::Marks), String> {
    let Some(opened) = &agreed.opened else {
        return Ok(Default::default());
    };
    let known = &opened.superblock.volumes;
    let find = |old: &nvlog::Volume| {
        let place = (plan.volumes.iter()).position(|new| new.name == old.name)?;
        let new = &plan.volumes[place];
        let is_it = new.identity == old.identity && new.len >= old.len && new.block == old.block;
        is_it.then_some(VolumeId(place as u16))
    };
    let targets = Targets::new(desk.clone(), known.iter().map(find).collect(), marks);
    let is_there = |number: u32| targets.has(number);
    let result = recovery::replay(stores, opened, &targets, is_there).await;
    // What could be replayed is on the drives, whether the log is begun anew now or given up later.
    let (written, warm, marks) = targets.into_written();
    for volume in written
        .into_iter()
        .filter(|_| !mutant!("log-replay-not-flushed"))
    {
        let flushed = desk.ask(Ask::DriveFlush(volume)).await;
        flushed.map_err(|fault| format!("a drive failed in the replay: {fault}"))?;
    }
    match result {
        Ok(replayed) => Ok((replayed, warm, marks)),
        Err(refusal) => Err(explain(&refusal, known)),
    }
}

/// How a store looks; and what is given up, in words, if it is to be.
async fn look(side: &Side, discards: bool) -> Result<(View, Option<String>), Refusal<Fault>> {
    let view = recovery::look(side, side.len).await?;
    let given_up = match discards {
        true => Some(discard(side).await?),
        false => None,
    };
    Ok((view, given_up))
}

/// What there is to be given up, in words.
async fn discard(side: &Side) -> Result<String, Refusal<Fault>> {
    let opened = match recovery::open(side, side.len).await {
        Ok(opened) => opened,
        Err(refusal @ Refusal::Failed(_)) => return Err(refusal),
        Err(refusal) => return Ok(format!("all of it: {refusal}")),
    };
    let Some(opened) = opened else {
        return Ok("nothing: the store is blank".into());
    };
    let survey = recovery::survey(side, &opened).await?;
    let total = survey.total();
    let mut text = format!("{} records of {} bytes", total.records, total.bytes);
    for (volume, has) in opened.superblock.volumes.iter().zip(&survey.volumes) {
        if has.records > 0 {
            let (name, records, bytes) = (&volume.name, has.records, has.bytes);
            text += &format!("; of store {name:?} {records} records of {bytes} bytes");
        }
    }
    if opened.superblock.layout.tables_len > 0 {
        text += "; the tables of its volumes";
    }
    for loss in survey.losses() {
        text += &format!("; damaged: {loss}");
    }
    Ok(text)
}

/// What is under way for the replay.
enum UnderWay {
    Nothing,
    /// It waits for pages, a run, or room for a job.
    Waits(Ask),
    /// Pages are read into from a store of the log, or written from.
    Log {
        store: usize,
        pages: Vec<Cluster>,
        reads: bool,
    },
    /// A job at a drive; and what of the same is still to be written.
    Drive {
        rest: Option<Ask>,
    },
}

/// A replay, as its shard lets it go on.
pub(crate) struct Replay<D: Device> {
    stores: LogStores<D>,
    desk: Desk,
    future: Pin<Box<dyn Future<Output = ReplayEnd>>>,
    under_way: UnderWay,
}

impl<D: Device> Replay<D> {
    pub(crate) fn new(mut stores: LogStores<D>, plan: LogPlan) -> Self {
        let desk = Desk::default();
        let count = stores.count();
        let side = |store: usize| {
            let geometry = *stores.one(store)?.geometry();
            Some(Side {
                desk: desk.clone(),
                store,
                len: geometry.len(),
                block: geometry.block_size,
            })
        };
        let sides = (0..count).map(side).collect();
        let future = run(desk.clone(), plan, sides);
        Self {
            stores,
            desk,
            future: Box::pin(future),
            under_way: UnderWay::Nothing,
        }
    }

    /// Its stores, when it has ended.
    pub(crate) fn into_stores(self) -> LogStores<D> {
        self.stores
    }

    /// Lets it go on; its end, once.
    pub(crate) fn poll(
        &mut self,
        now: Duration,
        jobs: &mut Jobs<D, JobTicket>,
        buffers: &Buffers,
    ) -> Option<ReplayEnd> {
        for place in 0..self.stores.count() {
            if let Some(store) = self.stores.one(place) {
                store.poll(now);
            }
        }
        if let UnderWay::Log { store, .. } = self.under_way
            && let Some(ended) = self.stores.one(store).and_then(|store| store.next_ended())
            && let UnderWay::Log { pages, reads, .. } = self.take()
        {
            let pages = reads.then(|| LogPages(Rc::new(pages)));
            self.answer(ended.result.map(|()| pages));
        }
        loop {
            match self.take() {
                UnderWay::Nothing => {
                    let mut context = task::Context::from_waker(Waker::noop());
                    if let Poll::Ready(end) = self.future.as_mut().poll(&mut context) {
                        return Some(end);
                    }
                    let ask = self.desk.ask.borrow_mut().take()?;
                    self.under_way = UnderWay::Waits(ask);
                }
                UnderWay::Waits(ask) => {
                    self.under_way = self.begin(ask, jobs, buffers);
                    if matches!(self.under_way, UnderWay::Waits(_)) {
                        return None;
                    }
                }
                other => {
                    self.under_way = other;
                    return None;
                }
            }
        }
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> ReplayProgress {
        self.desk.progress.get()
    }

    fn take(&mut self) -> UnderWay {
        std::mem::replace(&mut self.under_way, UnderWay::Nothing)
    }

    /// Gives what was asked for to whoever asked, who goes on at the next poll.
    fn answer(&mut self, answer: Answer) {
        self.under_way = UnderWay::Nothing;
        *self.desk.answer.borrow_mut() = Some(answer);
    }

    /// A job at a drive ended.
    pub(crate) fn job_done(
        &mut self,
        result: Result<(), Fault>,
        run: Option<Box<PageRun>>,
        buffers: &Buffers,
    ) {
        if let Some(run) = run {
            buffers.runs.put(run);
        }
        match self.take() {
            UnderWay::Drive { rest: Some(rest) } if result.is_ok() => {
                self.under_way = UnderWay::Waits(rest);
            }
            _ => self.answer(result.map(|()| None)),
        }
    }

    /// Starts what was asked for, if there is what it takes.
    fn begin(&mut self, ask: Ask, jobs: &mut Jobs<D, JobTicket>, buffers: &Buffers) -> UnderWay {
        let (store, at, len, op) = match &ask {
            Ask::Read { store, at, len } => (*store, *at, *len, Op::Read),
            Ask::Write { store, at, bytes } => (*store, *at, bytes.len(), Op::Write),
            Ask::Flush(store) => (*store, 0, 0, Op::Flush),
            _ if !jobs.has_room() => return UnderWay::Waits(ask),
            _ => return begin_job(ask, jobs, buffers),
        };
        let count = len.div_ceil(PAGE_SIZE);
        if buffers.pages.free() < count {
            return UnderWay::Waits(ask);
        }
        let mut elements = Vec::with_capacity(count);
        let mut pages = Vec::with_capacity(count);
        for from in (0..len).step_by(PAGE_SIZE) {
            let Some(mut page) = buffers.pages.alloc() else {
                return UnderWay::Waits(ask);
            };
            let n = PAGE_SIZE.min(len - from);
            if let Ask::Write { bytes, .. } = &ask {
                page[..n].copy_from_slice(&bytes[from..from + n]);
            }
            elements.push(Element::new(page.address().as_ptr() as u64, n as u64));
            pages.push(page.freeze());
        }
        if let Some(one) = self.stores.one(store) {
            one.start(0, op, at, len as u64, elements);
        }
        let reads = op == Op::Read;
        UnderWay::Log {
            store,
            pages,
            reads,
        }
    }
}

/// Starts what was asked for at a drive; the caller looked for room.
fn begin_job<D: Device>(ask: Ask, jobs: &mut Jobs<D, JobTicket>, buffers: &Buffers) -> UnderWay {
    let (volume, io, rest) = match ask {
        Ask::DriveFlush(volume) => (volume, Io::flush(), None),
        Ask::DriveZeroes {
            volume,
            offset,
            len,
        } => (volume, Io::write_zeroes(offset, len, Flags::NONE), None),
        Ask::DriveDeallocation {
            volume,
            offset,
            len,
        } => {
            let geometry = jobs.geometry(volume);
            let io = match geometry.unmap && geometry.deallocated_zeros {
                true => Io::deallocate(offset, len),
                // It could when that was logged.
                false => Io::write_zeroes(offset, len, Flags::NONE),
            };
            (volume, io, None)
        }
        Ask::DriveWrite {
            volume,
            offset,
            pages,
            range,
        } => {
            let Some(mut run) = buffers.runs.take() else {
                let ask = Ask::DriveWrite {
                    volume,
                    offset,
                    pages,
                    range,
                };
                return UnderWay::Waits(ask);
            };
            let most = buffers.runs.max_bytes() - (offset % PAGE_SIZE as u64) as usize;
            let n = range.len().min(most);
            run.begin(offset, n).expect("no longer than a run");
            let mut to = 0;
            for (page, part) in pages.parts(range.start..range.start + n) {
                let len = part.len();
                run.place(to, page.clone().slice(part), &buffers.pull_up())
                    .expect("two places in a page at most");
                to += len;
            }
            let rest = (n < range.len()).then_some(Ask::DriveWrite {
                volume,
                offset: offset + n as u64,
                pages,
                range: range.start + n..range.end,
            });
            (volume, Io::write(run, Flags::NONE), rest)
        }
        Ask::Read { .. } | Ask::Write { .. } | Ask::Flush(_) => {
            unreachable!("these are of the log's store")
        }
    };
    jobs.start(JobTicket::Replay, volume, io, buffers);
    UnderWay::Drive { rest }
}
