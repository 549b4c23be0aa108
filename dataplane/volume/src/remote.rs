//! Requests for pages of other shards: each page of a volume behind the cache
//! has one owner, whose cache alone has it.
//!
//! A request that concerns several owners is split into parts. A part crosses
//! to its owner by reference: a write lends its segments, and the owner keeps
//! them in its cache, on their way to the device or until they are reclaimed;
//! a read is lent the owner's pages until its client has acknowledged them.
//!
//! What this shard asks of others is here, and in [`ask`]; what it does for them, in [`serve`].

mod ask;
mod serve;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use block::{Buffers, Fault, Flags, Io, Op, VolumeId};
use collections::Slab;
use mutant::mutant;
use pages::{PageRun, PullUp, RunPool, Segment, SegmentKind, Slice};

use ask::NotAsked;

use crate::cached::{Cached, DEALLOCATION_LONGEST};
use crate::message::{Message, Token};
use crate::other_shard::{self, OtherShard, Part, Quota, RingEnds, Way};
use crate::placement;
use crate::requester::{Caller, Ends, Requester};
use crate::sizes::Sizes;

/// What a shard uses for every request.
pub(crate) struct Context<'a> {
    pub(crate) cached: &'a mut Cached,
    pub(crate) buffers: &'a Buffers,
    pub(crate) ends: &'a mut Ends,
    pub(crate) now: Duration,
}

/// What of a request was not asked of its owner yet.
#[derive(Clone)]
enum Rest {
    /// Bytes of the volume.
    Bytes(Range<u64>),
    /// Of a flush, which concerns every shard: those still to be asked.
    Shards(Range<usize>),
}

/// A request of which other shards own some.
struct Split {
    caller: Caller,
    volume: VolumeId,
    op: Op,
    flags: Flags,
    run: Option<Box<PageRun>>,
    /// First byte of the request.
    offset: u64,
    rest: Rest,
    /// Parts that are with their owners.
    outstanding: u32,
    /// In the list of those that wait.
    waiting: bool,
    /// When the rest is left: of advice.
    until: Duration,
    result: Result<(), Fault>,
}

impl Split {
    /// The owner to ask next, and for which bytes: none of a flush.
    fn next(&self, shards: usize, now: Duration) -> Option<(usize, Range<u64>)> {
        match &self.rest {
            _ if now >= self.until => None,
            // The rest of a request that failed is not asked for.
            _ if self.result.is_err() => None,
            Rest::Bytes(bytes) => placement::by_owner(self.volume, bytes.clone(), shards).next(),
            Rest::Shards(shards) => (!shards.is_empty()).then_some((shards.start, 0..0)),
        }
    }

    /// Whether nobody was asked for any of it.
    fn is_untouched(&self) -> bool {
        let is_whole = match &self.rest {
            Rest::Bytes(bytes) => bytes.start == self.offset,
            Rest::Shards(shards) => shards.start == 0,
        };
        is_whole && self.outstanding == 0 && self.result.is_ok()
    }

    /// What [`Split::next`] gave is with its owner.
    fn asked(&mut self, range: &Range<u64>) {
        match &mut self.rest {
            Rest::Bytes(bytes) => bytes.start = range.end,
            Rest::Shards(shards) => shards.start += 1,
        }
        self.outstanding += 1;
    }

    /// Where bytes of the volume are in the request.
    fn place_of(&self, range: &Range<u64>) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        (range.start - self.offset) as usize..(range.end - self.offset) as usize
    }
}

/// The other shards that own pages, seen from one shard.
pub(crate) struct Remote {
    me: usize,
    shards: usize,
    quota: Quota,
    /// How many volumes there are.
    volumes: usize,
    /// By number; `None` is this shard. Empty if it owns all pages.
    others: Vec<Option<OtherShard>>,
    splits: Slab<Split>,
    /// Parts in our own cache.
    own: Slab<Part>,
    /// How many of them each volume has.
    own_of: Box<[usize]>,
    /// Requests with parts that wait for room on the way to their owner.
    waiting: VecDeque<u32>,
    /// Owners with no room for anybody, in one pass over those that wait.
    short: Box<[bool]>,
    /// The number of that pass.
    pass: u32,
    /// For parts in our own cache, our own and those of others.
    runs: RunPool,
    asked: u64,
    served: u64,
    /// Segments of the longest read.
    longest: usize,
    /// Since when other shards cannot lend us what we read, in milliseconds.
    short_since: Option<Duration>,
}

events::counters! {
    /// What a shard shares with the owners of other pages.
    pub(crate) struct RemoteCounters {
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

impl Remote {
    /// Every page is this shard's, until it [joins](Remote::join) others.
    pub(crate) fn new(me: usize, volumes: usize, sizes: &Sizes) -> Self {
        let shards = sizes.shards;
        let quota = quota(shards, sizes);
        Self {
            me,
            shards,
            quota,
            volumes,
            others: Vec::new(),
            splits: Slab::new(sizes.requests),
            own: Slab::new(quota.parts),
            own_of: (0..volumes).map(|_| 0).collect(),
            waiting: VecDeque::with_capacity(sizes.requests),
            short: (0..shards).map(|_| false).collect(),
            pass: 0,
            runs: RunPool::new(quota.parts * shards, sizes.max_bytes),
            asked: 0,
            served: 0,
            longest: quota.longest,
            short_since: None,
        }
    }

    /// From now on pages belong to all shards; `ends` by shard, `None` for this one.
    pub(crate) fn join(&mut self, ends: Vec<Option<RingEnds>>) {
        let (me, quota, volumes) = (self.me, self.quota, self.volumes);
        let other =
            |ends: Option<RingEnds>| ends.map(|ends| OtherShard::new(ends, me, quota, volumes));
        self.others = ends.into_iter().map(other).collect();
    }

    /// Takes a request on a volume behind the cache.
    pub(crate) fn start(&mut self, caller: Caller, volume: VolumeId, io: Io, cx: &mut Context<'_>) {
        if self.is_mine(volume, &io, cx.cached) {
            let requester = Requester::Door(caller);
            return (cx.cached).start(requester, volume, io, cx.buffers, cx.ends);
        }
        let split = Split {
            caller,
            volume,
            op: io.op,
            flags: io.flags,
            offset: io.offset,
            rest: match io.op {
                Op::Flush if mutant!("flush-of-one-shard") => Rest::Shards(0..1),
                Op::Flush => Rest::Shards(0..self.shards),
                _ => Rest::Bytes(io.offset..io.end()),
            },
            run: io.run,
            outstanding: 0,
            waiting: true,
            until: match io.op {
                Op::Deallocate => cx.now + DEALLOCATION_LONGEST,
                _ => Duration::MAX,
            },
            result: Ok(()),
        };
        match self.splits.insert(split) {
            Ok(id) => {
                let first = self.waiting.is_empty();
                self.waiting.push_back(id);
                if first {
                    self.go_on(cx);
                }
            }
            Err(split) => {
                let requester = Requester::Door(split.caller);
                (cx.ends).push_back((requester, Err(Fault::Busy), split.run));
            }
        }
    }

    /// Gives back a request of which no owner was asked for anything.
    pub(crate) fn abort(&mut self, is_it: impl Fn(&Caller) -> bool, ends: &mut Ends) -> bool {
        let splits = &mut self.splits;
        let mut is_untouched = |id: u32| {
            let split = splits.get_mut(id);
            split.is_some_and(|split| is_it(&split.caller) && split.is_untouched())
        };
        let found = self.waiting.iter().position(|&id| is_untouched(id));
        let id = found.and_then(|at| self.waiting.remove(at));
        let Some(split) = id.and_then(|id| self.splits.remove(id)) else {
            return false;
        };
        ends.push_back((
            Requester::Door(split.caller),
            Err(Fault::Aborted),
            split.run,
        ));
        true
    }

    /// Whether no other shard has to do with a request.
    fn is_mine(&self, volume: VolumeId, io: &Io, cached: &Cached) -> bool {
        let own = |range: Range<u64>| {
            placement::by_owner(volume, range, self.shards).all(|(owner, _)| owner == self.me)
        };
        self.others.is_empty()
            || match io.op {
                Op::Flush => false,
                // Advice that nobody takes.
                Op::Deallocate if !cached.deallocates(volume) => true,
                Op::Read | Op::Write | Op::WriteZeroes | Op::Deallocate => own(io.offset..io.end()),
            }
    }

    /// Serves other shards, and lets what waited go on; whether there was work.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let mut busy = false;
        for shard in 0..self.others.len() {
            while let Some(message) = self.others[shard].as_mut().and_then(OtherShard::receive) {
                busy = true;
                self.take(shard, message, cx);
            }
            if let Some(other) = &mut self.others[shard] {
                while serve::send_end(other, &self.runs) {}
                other.send_returns();
            }
        }
        if !self.waiting.is_empty() {
            self.go_on(cx);
        }
        busy
    }

    /// A part that our own cache had is done.
    pub(crate) fn part_done(
        &mut self,
        id: u32,
        result: Result<(), Fault>,
        run: Option<Box<PageRun>>,
        cx: &mut Context<'_>,
    ) {
        let Some(part) = self.own.remove(id) else {
            return;
        };
        self.own_of[part.volume.index()] -= 1;
        let mut result = result;
        if let Some(run) = run {
            let split = part.split.and_then(|split| self.splits.get_mut(split));
            if result.is_ok()
                && let Some(Split {
                    op: Op::Read,
                    run: Some(whole),
                    ..
                }) = split
            {
                let mut at = part.at;
                for segment in run.segments() {
                    let len = segment.len();
                    if !place_segment(whole, at, segment.clone(), cx.buffers) {
                        result = Err(Fault::Internal);
                    }
                    at += len;
                }
            }
            self.runs.put(run);
        }
        self.end_of_part(&part, result, cx);
    }

    /// Whether another shard's writes pin much of what it may lend us.
    pub(crate) fn is_crowded(&self) -> bool {
        self.others.iter().flatten().any(OtherShard::is_crowding)
    }

    /// Since when some other shard has too little left to lend us for a read, and has parts to do
    /// for us.
    pub(crate) fn short_since(&mut self, now: Duration) -> Option<Duration> {
        let longest = self.longest;
        let mut busy = (self.others.iter().flatten()).filter(|other| !other.parts.is_empty());
        let is_short = busy.any(|other| other.segments_left(Way::Read) < longest);
        self.short_since = is_short.then(|| self.short_since.unwrap_or(now));
        self.short_since
    }

    /// Segments that the other shard which can lend us least can lend for reads.
    pub(crate) fn segments_left(&self) -> Option<usize> {
        let others = self.others.iter().flatten();
        others.map(|other| other.segments_left(Way::Read)).min()
    }

    /// Requests of ours that other shards have to do with, and theirs here.
    pub(crate) fn in_progress(&self) -> usize {
        let theirs = |other: &OtherShard| other.requests.iter().flatten().count();
        self.splits.len() + self.others.iter().flatten().map(theirs).sum::<usize>()
    }

    /// Whether nothing is lent to any shard, nor by any to us.
    pub(crate) fn is_settled(&self) -> bool {
        self.others.iter().flatten().all(OtherShard::is_settled)
    }

    /// Every counter by name; `None` if this shard owns all pages.
    pub(crate) fn counters(&self) -> Option<RemoteCounters> {
        if self.others.is_empty() {
            return None;
        }
        let lent = self.others.iter().flatten().map(OtherShard::segments_lent);
        let (lent, borrowed) = lent.fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
        Some(RemoteCounters {
            parts_asked: self.asked,
            parts_served: self.served,
            segments_lent: lent as u64,
            segments_borrowed: borrowed as u64,
        })
    }

    /// Asks owners for what is left of requests that wait, oldest first.
    fn go_on(&mut self, cx: &mut Context<'_>) {
        self.short.fill(false);
        self.pass = self.pass.wrapping_add(1);
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|&id| !self.ask(id, cx));
        self.waiting = waiting;
    }

    /// Asks the owners of what is left of a request; false if one has no room.
    fn ask(&mut self, id: u32, cx: &mut Context<'_>) -> bool {
        loop {
            let Some(split) = self.splits.get_mut(id) else {
                return true;
            };
            let Some((owner, range)) = split.next(self.shards, cx.now) else {
                split.waiting = false;
                if let (Op::Write, Some(run)) = (split.op, &mut split.run) {
                    // Its owners have the bytes: what is reclaimed there is free here.
                    run.clear();
                }
                self.finish(id, cx);
                return true;
            };
            if self.short[owner] {
                return false;
            }
            let asked = match owner == self.me {
                true => self.ask_here(id, &range, cx),
                false => self.ask_there(id, owner, &range, cx),
            };
            match asked {
                Ok(()) => {}
                Err(NotAsked::Greedy) => return false,
                Err(NotAsked::Short) => {
                    self.short[owner] = true;
                    return false;
                }
            }
            if let Some(split) = self.splits.get_mut(id) {
                split.asked(&range);
            }
        }
    }

    /// Bytes that we read of another shard have come.
    fn bytes_read(&mut self, shard: usize, token: Token, segment: Segment, cx: &mut Context<'_>) {
        let part = self.others[shard].as_mut();
        let part = part.and_then(|other| other.parts.get_mut(token.0.into()));
        let Some(part) = part else { return };
        let Some(split) = part.split.and_then(|split| self.splits.get_mut(split)) else {
            return;
        };
        let at = part.at + part.moved;
        part.moved += segment.len();
        let placed =
            (split.run.as_mut()).is_some_and(|run| place_segment(run, at, segment, cx.buffers));
        if !placed && split.result.is_ok() {
            split.result = Err(Fault::Internal);
        }
    }

    /// A part is done; so may be its request.
    fn end_of_part(&mut self, part: &Part, result: Result<(), Fault>, cx: &mut Context<'_>) {
        let Some(id) = part.split else { return };
        let Some(split) = self.splits.get_mut(id) else {
            return;
        };
        split.outstanding -= 1;
        if split.result.is_ok() {
            split.result = result;
        }
        self.finish(id, cx);
    }

    /// Ends a request of which nothing is left to wait for.
    fn finish(&mut self, id: u32, cx: &mut Context<'_>) {
        let Some(split) = self.splits.get_mut(id) else {
            return;
        };
        if split.outstanding > 0 || split.waiting {
            return;
        }
        if let Some(split) = self.splits.remove(id) {
            let requester = Requester::Door(split.caller);
            cx.ends.push_back((requester, split.result, split.run));
        }
    }

    /// Takes a message of another shard.
    fn take(&mut self, shard: usize, message: Message, cx: &mut Context<'_>) {
        let Some(other) = &mut self.others[shard] else {
            return;
        };
        match message {
            Message::Request {
                token,
                op,
                flags,
                volume,
                offset,
                len,
            } => {
                self.served += 1;
                let request = serve::Asked {
                    op,
                    flags,
                    volume,
                    range: offset..offset + len,
                };
                self.serve(shard, token, request, cx);
            }
            Message::Checksums {
                token,
                count,
                checksums,
            } => self.checksums_written(shard, token, &checksums[..count.into()]),
            Message::Bytes {
                token,
                answer: true,
                segment,
            } => {
                let slice = other.take_in(Way::Read, segment);
                self.bytes_read(shard, token, Segment::data(slice), cx);
            }
            Message::Bytes {
                token,
                answer: false,
                segment,
            } => {
                let slice = other.take_in(Way::Written, segment);
                self.bytes_written(shard, token, Segment::data(slice), cx);
            }
            Message::Hole { token, answer, len } => {
                let zeros = Segment::zero(&cx.buffers.zero_page, len as usize);
                match answer {
                    true => self.bytes_read(shard, token, zeros, cx),
                    false => self.bytes_written(shard, token, zeros, cx),
                }
            }
            Message::Done { token, result } => {
                let Some(part) = other.parts.remove(token.0.into()) else {
                    return;
                };
                other.dealings[part.volume.index()].parts -= 1;
                match part.split {
                    Some(_) => self.end_of_part(&part, result, cx),
                    None => self.flushed(shard, part.volume, result, cx),
                }
            }
            Message::Return(_) => unreachable!("taken back when it was received"),
        }
    }
}

/// Puts a segment at `at` in the run, zeros as zeros; false if it does not fit there.
fn place_segment(run: &mut PageRun, at: usize, segment: Segment, buffers: &Buffers) -> bool {
    let pull_up: PullUp<'_> = buffers.pull_up();
    let (kind, len) = (segment.kind(), segment.len());
    match segment.to_slice() {
        _ if kind == SegmentKind::Zero => run
            .place_zeros(at, len, &buffers.zero_page, &pull_up)
            .is_ok(),
        Some(slice) => place(run, at, slice, &pull_up),
        None => false,
    }
}

fn place(run: &mut PageRun, at: usize, slice: Slice, pull_up: &PullUp<'_>) -> bool {
    run.place(at, slice, pull_up).is_ok()
}

/// What each pair of shards may have under way: together a quarter of the
/// clusters for writes, and a quarter of what there is for reads.
fn quota(shards: usize, sizes: &Sizes) -> Quota {
    let others = shards.max(2) - 1;
    let longest = segments_of(sizes.max_bytes);
    let most = |segments: usize, least: usize| (segments / others).max(least * longest);
    Quota {
        parts: sizes.parts(),
        segments: [
            // A write of one volume must find room that is no more than others leave.
            most(sizes.clusters / 4, 4),
            most(sizes.cache_clusters, 2),
        ],
        longest,
    }
}

/// Segments of a request of `bytes` bytes, at most (row Z8).
fn segments_of(bytes: usize) -> usize {
    (bytes / pages::PAGE_SIZE + 2) * pages::MAX_SEGMENTS
}

/// The rings that requests of up to `max_bytes` bytes cross between so many shards:
/// for each shard its ends, by shard; `None` in its own place.
pub fn rings(shards: usize, max_bytes: usize) -> Vec<Vec<Option<RingEnds>>> {
    if shards < 2 {
        // It owns every page, and has nobody to ask.
        return (0..shards).map(|_| Vec::new()).collect();
    }
    // A few of the longest requests.
    other_shard::rings(shards, 4 * (segments_of(max_bytes) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_alone_has_no_rings_and_owns_every_page() {
        let alone = rings(1, 1 << 17);
        assert_eq!((alone.len(), alone[0].len()), (1, 0));
        for (shard, ends) in rings(3, 1 << 17).iter().enumerate() {
            assert_eq!(ends.len(), 3);
            let own = ends.iter().enumerate().filter(|(_, ends)| ends.is_none());
            assert_eq!(own.map(|(i, _)| i).collect::<Vec<_>>(), [shard]);
        }
    }
}
