//! Requests for pages of other shards: each page of a volume behind the cache
//! has one owner, whose cache alone has it.
//!
//! A request that concerns several owners is split into parts. A part crosses
//! to its owner by reference: a write lends its segments, and the owner keeps
//! them in its cache, on their way to the device or until they are reclaimed;
//! a read is lent the owner's pages until its client has acknowledged them.

use std::collections::VecDeque;
use std::ops::Range;

use nvmf::Status;
use pages::{PageRun, PullUp, RunPool, Segment, SegmentKind, Slice, placement};

use super::cached::Cached;
use super::message::{Ask, Message, Token};
use super::peer::{Part, Peer, PeerEnds, Quota, Visit, Way};
use super::table::Table;
use super::{Answers, Asker, Sizes, Whom};
use crate::device::Work;
use crate::memory::Memory;

/// What a shard uses for every request.
pub(super) struct Here<'a> {
    pub(super) cached: &'a mut Cached,
    pub(super) memory: &'a Memory,
    pub(super) answers: &'a mut Answers,
}

/// A request of which other shards own some.
struct Split {
    asker: Asker,
    volume: u16,
    ask: Ask,
    run: Option<Box<PageRun>>,
    /// First byte of the request.
    offset: u64,
    /// What was not asked of its owner yet; of a flush, shards.
    rest: Range<u64>,
    /// Parts that are with their owners.
    outstanding: u32,
    /// In the list of those that wait.
    waiting: bool,
    status: Status,
}

/// The owners of pages, seen from one shard.
pub(super) struct Owners {
    me: usize,
    shards: usize,
    quota: Quota,
    /// By number; `None` is this shard. Empty if it owns all pages.
    peers: Vec<Option<Peer>>,
    splits: Table<Split>,
    /// Parts in our own cache.
    own: Table<Part>,
    /// Requests with parts that wait for room on the way to their owner.
    waiting: VecDeque<u32>,
    /// Owners with no room, in one pass over those that wait.
    short: Box<[bool]>,
    /// For parts in our own cache, our own and those of others.
    runs: RunPool,
    asked: u64,
    served: u64,
}

events::counters! {
    /// What a shard shares with the owners of other pages.
    pub(super) struct OwnersCounters {
        /// Parts of requests that other shards were asked for.
        parts_asked,
        /// Parts of other shards' requests served.
        parts_served,
        /// Segments that other shards refer to now.
        @gauge segments_lent,
        /// Segments of other shards referred to now.
        @gauge segments_borrowed,
    }
}

impl Owners {
    /// Every page is this shard's, until it [joins](Owners::join) others.
    pub(super) fn new(me: usize, sizes: &Sizes) -> Self {
        let shards = sizes.shards;
        let quota = quota(shards, sizes);
        Self {
            me,
            shards,
            quota,
            peers: Vec::new(),
            splits: Table::new(sizes.requests),
            own: Table::new(quota.parts),
            waiting: VecDeque::with_capacity(sizes.requests),
            short: (0..shards).map(|_| false).collect(),
            runs: RunPool::new(quota.parts * shards, sizes.max_bytes),
            asked: 0,
            served: 0,
        }
    }

    /// From now on pages belong to all shards; `ends` by shard, `None` for this one.
    pub(super) fn join(&mut self, ends: Vec<Option<PeerEnds>>) {
        let (me, quota) = (self.me, self.quota);
        let peer = |ends: Option<PeerEnds>| ends.map(|ends| Peer::new(ends, me, quota));
        self.peers = ends.into_iter().map(peer).collect();
    }

    /// Takes a request on a volume behind the cache.
    pub(super) fn start(&mut self, asker: Asker, volume: usize, work: Work, here: &mut Here<'_>) {
        let (ask, range) = match &work {
            Work::Read(run) => (Ask::Read, bytes_of(run)),
            Work::Write { run, fua } => (Ask::Write { fua: *fua }, bytes_of(run)),
            Work::WriteZeroes { offset, len, fua } => {
                (Ask::Zeroes { fua: *fua }, *offset..*offset + *len)
            }
            Work::Flush => (Ask::Flush, 0..self.shards as u64),
            // Advice, which concerns nobody.
            Work::Deallocate { .. } => (Ask::Flush, 0..0),
        };
        let volume_number = volume as u16;
        let mine = self.peers.is_empty()
            || range.is_empty()
            || ask != Ask::Flush
                && placement::by_owner(volume_number, range.clone(), self.shards)
                    .all(|(owner, _)| owner == self.me);
        if mine {
            let (memory, answers) = (here.memory, &mut *here.answers);
            let whom = Whom::Session(asker);
            return here.cached.start(whom, volume, work, memory, answers);
        }
        let split = Split {
            asker,
            volume: volume_number,
            ask,
            run: match work {
                Work::Read(run) | Work::Write { run, .. } => Some(run),
                _ => None,
            },
            offset: range.start,
            rest: range,
            outstanding: 0,
            waiting: true,
            status: Status::SUCCESS,
        };
        match self.splits.insert(split) {
            Ok(id) => {
                let first = self.waiting.is_empty();
                self.waiting.push_back(id);
                if first {
                    self.go_on(here);
                }
            }
            Err(split) => {
                let whom = Whom::Session(split.asker);
                (here.answers).push_back((whom, Status::COMMAND_INTERRUPTED, split.run));
            }
        }
    }

    /// Serves other shards, and lets what waited go on; whether there was work.
    pub(super) fn poll(&mut self, here: &mut Here<'_>) -> bool {
        let mut busy = false;
        for shard in 0..self.peers.len() {
            while let Some(message) = self.peers[shard].as_mut().and_then(Peer::receive) {
                busy = true;
                self.take(shard, message, here);
            }
            if let Some(peer) = &mut self.peers[shard] {
                while answer(peer, &self.runs) {}
                peer.send_returns();
            }
        }
        if !self.waiting.is_empty() {
            self.go_on(here);
        }
        busy
    }

    /// A part that our own cache had is done.
    pub(super) fn part_done(
        &mut self,
        id: u32,
        status: Status,
        run: Option<Box<PageRun>>,
        here: &mut Here<'_>,
    ) {
        let Some(part) = self.own.remove(id) else {
            return;
        };
        let mut status = status;
        if let Some(run) = run {
            let split = self.splits.get_mut(part.split);
            if status.is_success()
                && let Some(Split {
                    ask: Ask::Read,
                    run: Some(whole),
                    ..
                }) = split
            {
                let mut at = part.at;
                for segment in run.segments() {
                    let len = segment.len();
                    if !lay(whole, at, segment.clone(), here.memory) {
                        status = Status::INTERNAL_ERROR;
                    }
                    at += len;
                }
            }
            self.runs.put(run);
        }
        self.end_of_part(part.split, status, here);
    }

    /// What another shard asked for is done.
    pub(super) fn visit_done(
        &mut self,
        shard: u16,
        token: u16,
        status: Status,
        run: Option<Box<PageRun>>,
    ) {
        let Some(peer) = &mut self.peers[usize::from(shard)] else {
            return;
        };
        if let Some(visit) = &mut peer.visits[usize::from(token)] {
            (visit.status, visit.run) = (status, run);
        }
        peer.answers.push_back(Token(token));
        while answer(peer, &self.runs) {}
    }

    /// Whether another shard's writes pin much of what it may lend us.
    pub(super) fn is_crowded(&self) -> bool {
        self.peers.iter().flatten().any(Peer::is_crowding)
    }

    /// Requests of ours that other shards have to do with, and theirs here.
    pub(super) fn in_progress(&self) -> usize {
        let visits = |peer: &Peer| peer.visits.iter().flatten().count();
        self.splits.len() + self.peers.iter().flatten().map(visits).sum::<usize>()
    }

    /// Whether nothing is lent to any shard, nor by any to us.
    pub(super) fn is_settled(&self) -> bool {
        self.peers.iter().flatten().all(Peer::is_settled)
    }

    /// Every counter by name; `None` if this shard owns all pages.
    pub(super) fn counters(&self) -> Option<OwnersCounters> {
        if self.peers.is_empty() {
            return None;
        }
        let lent = self.peers.iter().flatten().map(Peer::segments_lent);
        let (lent, borrowed) = lent.fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
        Some(OwnersCounters {
            parts_asked: self.asked,
            parts_served: self.served,
            segments_lent: lent as u64,
            segments_borrowed: borrowed as u64,
        })
    }

    /// Asks owners for what is left of requests that wait, oldest first.
    fn go_on(&mut self, here: &mut Here<'_>) {
        self.short.fill(false);
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|&id| !self.ask(id, here));
        self.waiting = waiting;
    }

    /// Asks the owners of what is left of a request; false if one has no room.
    fn ask(&mut self, id: u32, here: &mut Here<'_>) -> bool {
        loop {
            let Some(split) = self.splits.get_mut(id) else {
                return true;
            };
            let next = match split.ask {
                // The rest of a request that failed is not asked for.
                _ if !split.status.is_success() => None,
                Ask::Flush => (!split.rest.is_empty()).then(|| {
                    (
                        split.rest.start as usize,
                        split.rest.start..split.rest.start + 1,
                    )
                }),
                _ => placement::by_owner(split.volume, split.rest.clone(), self.shards).next(),
            };
            let Some((owner, range)) = next else {
                split.waiting = false;
                if let (Ask::Write { .. }, Some(run)) = (split.ask, &mut split.run) {
                    // Its owners have the bytes: what is reclaimed there is free here.
                    run.clear();
                }
                self.finish(id, here);
                return true;
            };
            let asked = !self.short[owner]
                && match owner == self.me {
                    true => self.ask_here(id, &range, here),
                    false => self.ask_there(id, owner, &range),
                };
            if !asked {
                self.short[owner] = true;
                return false;
            }
            if let Some(split) = self.splits.get_mut(id) {
                split.rest.start = range.end;
                split.outstanding += 1;
            }
        }
    }

    /// Asks our own cache for bytes `range` of a request; false if there is no room.
    fn ask_here(&mut self, id: u32, range: &Range<u64>, here: &mut Here<'_>) -> bool {
        let Some(split) = self.splits.get_mut(id) else {
            return true;
        };
        let (offset, len) = (range.start, range.end - range.start);
        let at = match split.ask {
            Ask::Flush => 0,
            _ => (offset - split.offset) as usize,
        };
        if !self.own.has_room() {
            return false;
        }
        let with_run = |fill: bool| {
            let mut run = self.runs.take()?;
            let mut laid = run.begin(offset, len as usize).is_ok();
            if let (true, Some(whole)) = (fill, &split.run) {
                let mut to = 0;
                for segment in whole.parts(at..at + len as usize) {
                    let n = segment.len();
                    laid &= lay(&mut run, to, segment, here.memory);
                    to += n;
                }
            }
            if laid {
                return Some(run);
            }
            self.runs.put(run);
            None
        };
        let work = match split.ask {
            Ask::Read => with_run(false).map(Work::Read),
            Ask::Write { fua } => with_run(true).map(|run| Work::Write { run, fua }),
            Ask::Zeroes { fua } => Some(Work::WriteZeroes { offset, len, fua }),
            Ask::Flush => Some(Work::Flush),
        };
        let Some(work) = work else { return false };
        let (volume, split) = (usize::from(split.volume), id);
        let Ok(part) = (self.own).insert(Part {
            split,
            at,
            moved: 0,
        }) else {
            unreachable!("there was room");
        };
        let whom = Whom::Part(part);
        (here.cached).start(whom, volume, work, here.memory, here.answers);
        true
    }

    /// Asks another shard for bytes `range` of a request; false if there is no room.
    fn ask_there(&mut self, id: u32, owner: usize, range: &Range<u64>) -> bool {
        let (Some(split), Some(peer)) = (self.splits.get_mut(id), &mut self.peers[owner]) else {
            return true;
        };
        let (offset, len) = (range.start, range.end - range.start);
        let at = match split.ask {
            Ask::Flush => 0,
            _ => (offset - split.offset) as usize,
        };
        let bytes = at..at + len as usize;
        let written = match (split.ask, split.run.as_deref()) {
            (Ask::Write { .. }, Some(run)) => Some(run),
            _ => None,
        };
        let segments = written.map_or(0, |run| run.parts(bytes.clone()).count());
        if !peer.parts.has_room() || !peer.has_room(Way::Written, segments) {
            return false;
        }
        let part = Part {
            split: id,
            at,
            moved: 0,
        };
        let Ok(token) = peer.parts.insert(part) else {
            unreachable!("there was room");
        };
        let token = Token(token as u16);
        peer.send(Message::Ask {
            token,
            ask: split.ask,
            volume: split.volume,
            offset,
            len,
        });
        if let Some(run) = written {
            peer.send_bytes(Way::Written, token, run.parts(bytes));
        }
        self.asked += 1;
        true
    }

    /// A part is done; so may be its request.
    fn end_of_part(&mut self, id: u32, status: Status, here: &mut Here<'_>) {
        let Some(split) = self.splits.get_mut(id) else {
            return;
        };
        split.outstanding -= 1;
        if split.status.is_success() {
            split.status = status;
        }
        self.finish(id, here);
    }

    /// Answers a request of which nothing is left to wait for.
    fn finish(&mut self, id: u32, here: &mut Here<'_>) {
        let Some(split) = self.splits.get_mut(id) else {
            return;
        };
        if split.outstanding > 0 || split.waiting {
            return;
        }
        if let Some(split) = self.splits.remove(id) {
            let whom = Whom::Session(split.asker);
            here.answers.push_back((whom, split.status, split.run));
        }
    }

    /// Takes a message of another shard.
    fn take(&mut self, shard: usize, message: Message, here: &mut Here<'_>) {
        let Some(peer) = &mut self.peers[shard] else {
            return;
        };
        match message {
            Message::Ask {
                token,
                ask,
                volume,
                offset,
                len,
            } => {
                self.served += 1;
                self.visit(shard, token, ask, volume, offset..offset + len, here);
            }
            Message::Bytes {
                token,
                answer: true,
                segment,
            } => {
                let slice = peer.take_in(Way::Read, segment);
                self.answered(shard, token, Segment::data(slice), here);
            }
            Message::Bytes {
                token,
                answer: false,
                segment,
            } => {
                let slice = peer.take_in(Way::Written, segment);
                self.arrived(shard, token, Segment::data(slice), here);
            }
            Message::Hole { token, answer, len } => {
                let zeros = Segment::zero(&here.memory.zero_page, len as usize);
                match answer {
                    true => self.answered(shard, token, zeros, here),
                    false => self.arrived(shard, token, zeros, here),
                }
            }
            Message::Done { token, status } => {
                if let Some(part) = peer.parts.remove(token.0.into()) {
                    self.end_of_part(part.split, status, here);
                }
            }
            Message::Return(_) => unreachable!("taken back when it was received"),
        }
    }

    /// Another shard asks for something that we own.
    fn visit(
        &mut self,
        shard: usize,
        token: Token,
        ask: Ask,
        volume: u16,
        range: Range<u64>,
        here: &mut Here<'_>,
    ) {
        let (offset, len) = (range.start, range.end - range.start);
        let run = match ask {
            Ask::Read | Ask::Write { .. } => {
                self.runs
                    .take()
                    .and_then(|mut run| match run.begin(offset, len as usize) {
                        Ok(()) => Some(run),
                        Err(_) => {
                            self.runs.put(run);
                            None
                        }
                    })
            }
            _ => None,
        };
        let (work, run) = match (ask, run) {
            (Ask::Read, Some(run)) => (Some(Work::Read(run)), None),
            (Ask::Zeroes { fua }, _) => (Some(Work::WriteZeroes { offset, len, fua }), None),
            (Ask::Flush, _) => (Some(Work::Flush), None),
            // It starts when its bytes have come.
            (_, run) => (None, run),
        };
        let failed = work.is_none() && run.is_none();
        let Some(peer) = &mut self.peers[shard] else {
            return;
        };
        peer.visits[usize::from(token.0)] = Some(Visit {
            ask,
            volume,
            run,
            moved: 0,
            status: match failed {
                true => Status::INTERNAL_ERROR,
                false => Status::SUCCESS,
            },
        });
        if let Some(work) = work {
            let whom = Whom::Visit {
                shard: shard as u16,
                token: token.0,
            };
            (here.cached).start(whom, volume.into(), work, here.memory, here.answers);
        } else if failed {
            peer.answers.push_back(token);
        }
    }

    /// Bytes of another shard's write have come.
    fn arrived(&mut self, shard: usize, token: Token, segment: Segment, here: &mut Here<'_>) {
        let visit = self.peers[shard].as_mut();
        let visit = visit.and_then(|peer| peer.visits[usize::from(token.0)].as_mut());
        let Some(visit) = visit else { return };
        let Some(run) = &mut visit.run else { return };
        let len = segment.len();
        if visit.status.is_success() && !lay(run, visit.moved, segment, here.memory) {
            visit.status = Status::INTERNAL_ERROR;
        }
        visit.moved += len;
        if visit.moved < run.len() {
            return;
        }
        let (Ask::Write { fua }, Some(run)) = (visit.ask, visit.run.take()) else {
            return;
        };
        let (status, volume) = (visit.status, usize::from(visit.volume));
        let shard = shard as u16;
        if !status.is_success() {
            return self.visit_done(shard, token.0, status, Some(run));
        }
        let whom = Whom::Visit {
            shard,
            token: token.0,
        };
        let work = Work::Write { run, fua };
        (here.cached).start(whom, volume, work, here.memory, here.answers);
    }

    /// Bytes that we read of another shard have come.
    fn answered(&mut self, shard: usize, token: Token, segment: Segment, here: &mut Here<'_>) {
        let part = self.peers[shard].as_mut();
        let part = part.and_then(|peer| peer.parts.get_mut(token.0.into()));
        let Some(part) = part else { return };
        let Some(split) = self.splits.get_mut(part.split) else {
            return;
        };
        let at = part.at + part.moved;
        part.moved += segment.len();
        let laid = (split.run.as_mut()).is_some_and(|run| lay(run, at, segment, here.memory));
        if !laid && split.status.is_success() {
            split.status = Status::INTERNAL_ERROR;
        }
    }
}

/// Sends the answer to the visit that ended first, if there is one and room for it.
fn answer(peer: &mut Peer, runs: &RunPool) -> bool {
    let Some(&token) = peer.answers.front() else {
        return false;
    };
    let Some(visit) = &mut peer.visits[usize::from(token.0)] else {
        unreachable!("a visit stays until it is answered");
    };
    let status = visit.status;
    let read = match (visit.ask, &visit.run) {
        (Ask::Read, Some(run)) if status.is_success() => run.segments().count(),
        _ => 0,
    };
    if !peer.has_room(Way::Read, read) {
        return false;
    }
    peer.answers.pop_front();
    let run = peer.visits[usize::from(token.0)]
        .take()
        .and_then(|visit| visit.run);
    if let Some(run) = run {
        if read > 0 {
            peer.send_bytes(Way::Read, token, run.segments().cloned());
        }
        runs.put(run);
    }
    peer.send(Message::Done { token, status });
    true
}

/// Puts a segment at `at` in the run, zeros as zeros; false if it does not fit there.
fn lay(run: &mut PageRun, at: usize, segment: Segment, memory: &Memory) -> bool {
    let pull_up: PullUp<'_> = memory.pull_up();
    let (kind, len) = (segment.kind(), segment.len());
    match segment.to_slice() {
        _ if kind == SegmentKind::Zero => run
            .place_zeros(at, len, &memory.zero_page, &pull_up)
            .is_ok(),
        Some(slice) => place(run, at, slice, &pull_up),
        None => false,
    }
}

fn place(run: &mut PageRun, at: usize, slice: Slice, pull_up: &PullUp<'_>) -> bool {
    run.place(at, slice, pull_up).is_ok()
}

fn bytes_of(run: &PageRun) -> Range<u64> {
    run.offset()..run.offset() + run.len() as u64
}

/// Parts that one shard may have at another at a time.
pub(super) fn parts(sizes: &Sizes) -> usize {
    match sizes.shards {
        0 | 1 => 0,
        shards => (sizes.cached / (shards - 1)).clamp(8, 128),
    }
}

/// What each pair of shards may have under way: together a quarter of the
/// clusters for writes, and a quarter of what there is for reads.
fn quota(shards: usize, sizes: &Sizes) -> Quota {
    let others = shards.max(2) - 1;
    // Two of the longest requests must find room.
    let least = 2 * segments_of(sizes.max_bytes);
    let most = |segments: usize| (segments / others).max(least);
    Quota {
        parts: parts(sizes),
        segments: [most(sizes.clusters / 4), most(sizes.cache_clusters)],
    }
}

/// Segments of a request of `bytes` bytes, at most (row Z8).
fn segments_of(bytes: usize) -> usize {
    (bytes / pages::PAGE_SIZE + 2) * pages::MAX_SEGMENTS
}

/// Messages that a ring between two shards has room for: a few of the longest requests.
pub(crate) fn ring_capacity(max_bytes: usize) -> usize {
    4 * (segments_of(max_bytes) + 1)
}
