//! Another shard, as this one sees it: the rings to and from it, what it was
//! lent, and what each has asked of the other.

use std::collections::VecDeque;
use std::time::Duration;

use block::{Fault, Flags, Op, VolumeId};
use collections::Slab;
use pages::{BorrowedPool, LentSegment, LentTable, PageRun, Return, Segment, SegmentKind, Slice};
use sync::mesh::{Ends, mesh};
use sync::ring::{Receiver, Sender};

use crate::message::{CHECKSUMS, Message, Token};

/// Why segments are lent. Each has a quota of its own: data that a slow client
/// has yet to read leaves room for what others write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Written by a client of the shard that lends.
    Written,
    /// Read by a client of the shard that is lent.
    Read,
}

/// How much may be under way between two shards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    /// Parts that one asks of the other.
    pub(crate) parts: usize,
    /// Segments lent, by [`Way`].
    pub(crate) segments: [usize; 2],
    /// Segments of the longest request.
    pub(crate) longest: usize,
}

/// A part of a request, at the owner of its range.
pub(crate) struct Part {
    /// The request; none of a flush on the shard's own account.
    pub(crate) split: Option<u32>,
    pub(crate) volume: VolumeId,
    /// Where the part is in the request, in bytes.
    pub(crate) at: usize,
    /// Of a read: bytes that came.
    pub(crate) moved: usize,
}

/// A part of another shard's request, here at the owner.
pub(crate) struct RemoteRequest {
    pub(crate) op: Op,
    pub(crate) flags: Flags,
    pub(crate) volume: VolumeId,
    pub(crate) run: Option<Box<PageRun>>,
    /// Of a write: bytes that came.
    pub(crate) moved: usize,
    pub(crate) result: Result<(), Fault>,
}

/// One shard's ends of the rings that requests cross between it and another.
pub struct RingEnds(Ends<Message>);

/// Rings for `capacity` messages each between so many shards: for each shard its
/// ends, by shard; `None` in its own place.
pub(crate) fn rings(shards: usize, capacity: usize) -> Vec<Vec<Option<RingEnds>>> {
    let of = |ends: Vec<Option<Ends<Message>>>| {
        let ends = ends.into_iter();
        ends.map(|ends| ends.map(RingEnds)).collect()
    };
    mesh(shards, capacity).into_iter().map(of).collect()
}

/// What one volume has of another shard.
#[derive(Clone, Copy, Default)]
pub(crate) struct Dealings {
    /// Parts that it does for us.
    pub(crate) parts: usize,
    /// Segments that it was lent for writes.
    pub(crate) written: usize,
    /// Since when no write of the volume can be lent to it for those that it was lent before.
    pub(crate) short_since: Option<Duration>,
    /// It was asked to flush the volume, on this shard's own account.
    pub(crate) is_flushing: bool,
    /// In this pass over what waits the volume was refused more.
    pub(crate) refused: u32,
}

pub(crate) struct OtherShard {
    to: Sender<Message>,
    from: Receiver<Message>,
    /// What it was lent, by [`Way`].
    lent: [LentTable; 2],
    /// What it lent us, by [`Way`].
    borrowed: [BorrowedPool; 2],
    quota: Quota,
    /// By volume.
    pub(crate) dealings: Box<[Dealings]>,
    /// What it does for us.
    pub(crate) parts: Slab<Part>,
    /// What we do for it, by its tokens.
    pub(crate) requests: Box<[Option<RemoteRequest>]>,
    /// Those of them whose end is to be sent.
    pub(crate) ended: VecDeque<Token>,
}

impl OtherShard {
    /// The shard at the other end of `ends`; `me` is this shard's number.
    pub(crate) fn new(ends: RingEnds, me: usize, quota: Quota, volumes: usize) -> Self {
        let number = |way: Way| (2 * me + way as usize) as u16;
        let ways = [Way::Written, Way::Read];
        Self {
            to: ends.0.to,
            from: ends.0.from,
            lent: ways.map(|way| LentTable::new(number(way), quota.segments[way as usize])),
            borrowed: ways.map(|way| BorrowedPool::new(quota.segments[way as usize])),
            quota,
            dealings: (0..volumes).map(|_| Dealings::default()).collect(),
            parts: Slab::new(quota.parts),
            requests: (0..quota.parts).map(|_| None).collect(),
            ended: VecDeque::with_capacity(quota.parts),
        }
    }

    /// Its next message, returns aside.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        loop {
            match self.from.receive()? {
                Message::Return(segment) => self.take_back(segment),
                message => return Some(message),
            }
        }
    }

    /// Whether `segments` can be lent and sent now, with one message more.
    pub(crate) fn has_room(&mut self, way: Way, segments: usize) -> bool {
        self.lent[way as usize].room() >= segments && self.to.room() > segments
    }

    /// How many segments more can be lent to it.
    pub(crate) fn room_to_lend(&self, way: Way) -> usize {
        self.lent[way as usize].room()
    }

    /// Sends a message; the caller looked for room.
    pub(crate) fn send(&mut self, message: Message) {
        if let Err(message) = self.to.send(message) {
            unreachable!("no room in the ring for {message:?}");
        }
    }

    /// The same of a write, with the checksums of so many pages.
    pub(crate) fn has_room_to_write(&mut self, segments: usize, checksums: usize) -> bool {
        let messages = checksums.div_ceil(CHECKSUMS);
        self.has_room(Way::Written, segments) && self.to.room() > segments + messages
    }

    /// Sends the checksums of a write's pages; the caller looked for room.
    pub(crate) fn send_checksums(&mut self, token: Token, all: &[u32]) {
        for some in all.chunks(CHECKSUMS) {
            let mut checksums = [0; CHECKSUMS];
            checksums[..some.len()].copy_from_slice(some);
            let count = some.len() as u8;
            self.send(Message::Checksums {
                token,
                count,
                checksums,
            });
        }
    }

    /// Lends `parts` and sends them, zeros by their number; the caller looked for room.
    pub(crate) fn send_bytes(
        &mut self,
        way: Way,
        token: Token,
        volume: VolumeId,
        parts: impl Iterator<Item = Segment>,
    ) {
        let answer = way == Way::Read;
        for segment in parts {
            if segment.kind() == SegmentKind::Zero {
                let len = segment.len() as u64;
                self.send(Message::Hole { token, answer, len });
                continue;
            }
            match self.lent[way as usize].lend(segment, volume.0) {
                Ok(segment) => {
                    self.dealings[volume.index()].written += usize::from(!answer);
                    self.send(Message::Bytes {
                        token,
                        answer,
                        segment,
                    });
                }
                Err(segment) => unreachable!("{segment:?} cannot be lent"),
            }
        }
    }

    /// Takes in a segment that it lent.
    pub(crate) fn take_in(&mut self, way: Way, segment: LentSegment) -> Slice {
        match self.borrowed[way as usize].borrow(segment) {
            Ok(slice) => slice,
            // It has as many places for what it lends as there are here.
            Err(segment) => unreachable!("no place for {segment:?}"),
        }
    }

    /// Returns the segments that nothing here refers to any more.
    pub(crate) fn send_returns(&mut self) {
        for way in 0..self.borrowed.len() {
            while self.to.room() > 0
                && let Some(segment) = self.borrowed[way].next_return()
            {
                self.send(Message::Return(segment));
            }
        }
    }

    /// Whether what it lent us for its clients' writes is so much that the longest of them may make
    /// it more than a half: its writes are about to wait for us to give some back.
    pub(crate) fn is_crowding(&self) -> bool {
        let written = Way::Written as usize;
        let least = self.quota.segments[written] / 2 + self.quota.longest;
        self.borrowed[written].room() < least
    }

    /// Segments that it can still lend us.
    pub(crate) fn segments_left(&self, way: Way) -> usize {
        self.borrowed[way as usize].room()
    }

    /// Whether nothing is lent either way, and every return is sent.
    pub(crate) fn is_settled(&self) -> bool {
        let room = |way: usize| self.borrowed[way].room() == self.quota.segments[way];
        self.lent.iter().all(LentTable::is_empty) && room(0) && room(1)
    }

    /// Segments lent to it, and by it.
    pub(crate) fn segments_lent(&self) -> (usize, usize) {
        let lent = self.lent.iter().map(LentTable::len).sum();
        let held = |way: usize| self.quota.segments[way] - self.borrowed[way].room();
        (lent, held(0) + held(1))
    }

    fn take_back(&mut self, segment: Return) {
        let way = usize::from(segment.lender() % 2);
        let volume = self.lent[way].take_back(segment);
        if way == Way::Written as usize {
            self.dealings[usize::from(volume)].written -= 1;
        }
    }
}
