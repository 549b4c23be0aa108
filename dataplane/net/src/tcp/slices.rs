//! Received slices: in order, waiting for the reader; out of order, waiting
//! for what is missing. All of them stay in the clusters they arrived in.

use collections::{IndexTable, TableIndex, table_index};
use pages::Slice;

use crate::tcp::header::SACKS_MAX;
use crate::tcp::seq::Seq;
use crate::util::list::following;

table_index! {
    /// A slice that waits.
    struct SliceIndex(u32);
}

struct Node {
    slice: Option<Slice>,
    seq: Seq,
    next: SliceIndex,
}

/// Every node of every receive queue: one for each cluster that can wait.
pub(crate) struct SlicePool {
    nodes: IndexTable<SliceIndex, Node>,
    free: SliceIndex,
    free_count: usize,
}

impl SlicePool {
    pub(crate) fn new(count: usize) -> Self {
        let node = |i: SliceIndex| Node {
            slice: None,
            seq: Seq(0),
            next: following(i, count),
        };
        Self {
            nodes: IndexTable::new(count, node),
            free: SliceIndex::new(0),
            free_count: count,
        }
    }

    pub(crate) fn free_count(&self) -> usize {
        self.free_count
    }

    #[inline]
    fn take(&mut self, slice: Slice, seq: Seq, next: SliceIndex) -> Option<SliceIndex> {
        let index = self.free;
        let node = self.nodes.get_mut(index)?;
        self.free = std::mem::replace(&mut node.next, next);
        self.free_count -= 1;
        node.seq = seq;
        node.slice = Some(slice);
        Some(index)
    }

    #[inline]
    fn give(&mut self, index: SliceIndex) -> (Option<Slice>, SliceIndex) {
        let node = &mut self.nodes[index];
        let slice = node.slice.take();
        let next = std::mem::replace(&mut node.next, self.free);
        self.free = index;
        self.free_count += 1;
        (slice, next)
    }

    fn end(&self, index: SliceIndex) -> Seq {
        let node = &self.nodes[index];
        node.seq + node.slice.as_ref().map_or(0, |slice| slice.len() as u32)
    }
}

/// What became of a slice that was out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It waits. `freed` others are wholly contained in it and gone.
    Waits { freed: u32 },
    /// All of it waited already: a duplicate.
    Duplicate,
    /// No node is free.
    NoRoom,
}

/// One connection's received bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveQueue {
    head: SliceIndex,
    tail: SliceIndex,
    /// Sorted, without overlap.
    waiting: SliceIndex,
    waiting_tail: SliceIndex,
    /// Slices in order, out of order.
    pub(crate) ready: u32,
    pub(crate) out_of_order: u32,
    pub(crate) ready_bytes: u32,
    pub(crate) out_of_order_bytes: u32,
}

impl ReceiveQueue {
    pub(crate) const EMPTY: ReceiveQueue = ReceiveQueue {
        head: SliceIndex::NONE,
        tail: SliceIndex::NONE,
        waiting: SliceIndex::NONE,
        waiting_tail: SliceIndex::NONE,
        ready: 0,
        out_of_order: 0,
        ready_bytes: 0,
        out_of_order_bytes: 0,
    };

    /// Clusters that wait in the queue.
    pub(crate) fn pinned(&self) -> u32 {
        self.ready + self.out_of_order
    }

    /// Appends bytes in order. Whether there was a node.
    #[inline]
    pub(crate) fn push(&mut self, pool: &mut SlicePool, slice: Slice, seq: Seq) -> bool {
        let len = slice.len() as u32;
        let Some(index) = pool.take(slice, seq, SliceIndex::NONE) else {
            return false;
        };
        self.link_ready(pool, index);
        self.ready_bytes += len;
        true
    }

    #[inline]
    fn link_ready(&mut self, pool: &mut SlicePool, index: SliceIndex) {
        match self.tail {
            SliceIndex::NONE => self.head = index,
            tail => pool.nodes[tail].next = index,
        }
        self.tail = index;
        self.ready += 1;
    }

    /// Takes the next bytes in order.
    #[inline]
    pub(crate) fn pop(&mut self, pool: &mut SlicePool) -> Option<Slice> {
        if self.head == SliceIndex::NONE {
            return None;
        }
        let (slice, next) = pool.give(self.head);
        self.head = next;
        if next == SliceIndex::NONE {
            self.tail = SliceIndex::NONE;
        }
        self.ready -= 1;
        let slice = slice?;
        self.ready_bytes -= slice.len() as u32;
        Some(slice)
    }

    /// Keeps bytes beyond the next in order.
    pub(crate) fn insert(
        &mut self,
        pool: &mut SlicePool,
        mut slice: Slice,
        mut seq: Seq,
    ) -> Inserted {
        // Nearly always the newest is the last.
        let mut before = self.waiting_tail;
        if before != SliceIndex::NONE && seq < pool.nodes[before].seq {
            before = SliceIndex::NONE;
            let mut at = self.waiting;
            while at != SliceIndex::NONE && pool.nodes[at].seq <= seq {
                before = at;
                at = pool.nodes[at].next;
            }
        }
        if before != SliceIndex::NONE {
            let end = pool.end(before);
            if end > seq {
                let known = end.since(seq);
                if known as usize >= slice.len() {
                    return Inserted::Duplicate;
                }
                slice.advance(known as usize);
                seq = end;
            }
        }
        let end = seq + slice.len() as u32;
        let mut after = match before {
            SliceIndex::NONE => self.waiting,
            before => pool.nodes[before].next,
        };
        // What the new bytes contain goes; what they overlap stays, and they give way.
        let mut freed = 0;
        while after != SliceIndex::NONE && pool.nodes[after].seq < end {
            if pool.end(after) <= end {
                self.out_of_order_bytes -= pool.end(after).since(pool.nodes[after].seq);
                let (_, next) = pool.give(after);
                if self.waiting_tail == after {
                    self.waiting_tail = before;
                }
                self.out_of_order -= 1;
                freed += 1;
                after = next;
            } else {
                let keep = pool.nodes[after].seq.since(seq);
                slice.truncate(keep as usize);
                break;
            }
        }
        match before {
            SliceIndex::NONE => self.waiting = after,
            before => pool.nodes[before].next = after,
        }
        if slice.is_empty() {
            return Inserted::Duplicate;
        }
        let len = slice.len() as u32;
        let Some(index) = pool.take(slice, seq, after) else {
            return Inserted::NoRoom;
        };
        match before {
            SliceIndex::NONE => self.waiting = index,
            before => pool.nodes[before].next = index,
        }
        if after == SliceIndex::NONE {
            self.waiting_tail = index;
        }
        self.out_of_order += 1;
        self.out_of_order_bytes += len;
        Inserted::Waits { freed }
    }

    /// Moves what is next in order after `next` to the ready bytes. Returns the
    /// new next, and how many slices turned out to be duplicates.
    pub(crate) fn advance(&mut self, pool: &mut SlicePool, mut next: Seq) -> (Seq, u32) {
        let mut freed = 0;
        while self.waiting != SliceIndex::NONE {
            let index = self.waiting;
            let seq = pool.nodes[index].seq;
            if seq > next {
                break;
            }
            let end = pool.end(index);
            self.out_of_order -= 1;
            self.out_of_order_bytes -= end.since(seq);
            if end <= next {
                let (_, after) = pool.give(index);
                self.set_waiting(after);
                freed += 1;
                continue;
            }
            let node = &mut pool.nodes[index];
            let after = std::mem::replace(&mut node.next, SliceIndex::NONE);
            if let Some(slice) = &mut node.slice {
                slice.advance(next.since(seq) as usize);
            }
            node.seq = next;
            self.ready_bytes += end.since(next);
            self.set_waiting(after);
            self.link_ready(pool, index);
            next = end;
        }
        (next, freed)
    }

    fn set_waiting(&mut self, first: SliceIndex) {
        self.waiting = first;
        if first == SliceIndex::NONE {
            self.waiting_tail = SliceIndex::NONE;
        }
    }

    /// Gives up the slices that are furthest out of order, all but the first
    /// `keep`; the peer will send them again (RFC 2018, section 8 allows it).
    /// Returns how many, and where what is left ends.
    pub(crate) fn renege(&mut self, pool: &mut SlicePool, keep: u32) -> (u32, Option<Seq>) {
        let mut before = SliceIndex::NONE;
        let mut at = self.waiting;
        for _ in 0..keep {
            if at == SliceIndex::NONE {
                return (0, None);
            }
            before = at;
            at = pool.nodes[at].next;
        }
        let mut freed = 0;
        while at != SliceIndex::NONE {
            self.out_of_order_bytes -= pool.end(at).since(pool.nodes[at].seq);
            (_, at) = pool.give(at);
            freed += 1;
        }
        self.out_of_order -= freed;
        self.waiting_tail = before;
        if before == SliceIndex::NONE {
            self.waiting = SliceIndex::NONE;
            return (freed, None);
        }
        pool.nodes[before].next = SliceIndex::NONE;
        (freed, Some(pool.end(before)))
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, pool: &mut SlicePool) {
        while self.pop(pool).is_some() {}
        self.renege(pool, 0);
    }
}

/// The blocks to report to the peer, the one that changed last first (RFC 2018, section 4).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SackBlocks {
    blocks: [(Seq, Seq); SACKS_MAX],
    count: u8,
    /// A duplicate to report once, before the others (RFC 2883).
    duplicate: Option<(Seq, Seq)>,
}

impl SackBlocks {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && self.duplicate.is_none()
    }

    /// Bytes from `from` to `to` arrived out of order.
    pub(crate) fn add(&mut self, mut from: Seq, mut to: Seq) {
        let old = *self;
        self.count = 1;
        for &(f, t) in &old.blocks[..old.count as usize] {
            if f <= to && from <= t {
                from = from.min(f);
                to = to.max(t);
            } else if (self.count as usize) < SACKS_MAX {
                self.blocks[self.count as usize] = (f, t);
                self.count += 1;
            }
        }
        self.blocks[0] = (from, to);
    }

    /// Everything before `next` is in order now.
    pub(crate) fn advance(&mut self, next: Seq) {
        self.retain(|from, _| from > next);
    }

    /// Nothing at or after `end` waits any more.
    pub(crate) fn cut(&mut self, end: Seq) {
        self.retain(|_, to| to <= end);
    }

    fn retain(&mut self, keep: impl Fn(Seq, Seq) -> bool) {
        let mut kept = 0;
        for i in 0..self.count as usize {
            let (from, to) = self.blocks[i];
            if keep(from, to) {
                self.blocks[kept] = (from, to);
                kept += 1;
            }
        }
        self.count = kept as u8;
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// These bytes had arrived before.
    pub(crate) fn duplicate(&mut self, from: Seq, to: Seq) {
        self.duplicate = Some((from, to));
    }

    /// The blocks for the next ACK; a duplicate is reported once.
    pub(crate) fn report(&self, out: &mut [(Seq, Seq); SACKS_MAX]) -> usize {
        let mut count = 0;
        let waiting = self.blocks[..self.count as usize].iter();
        for &block in self.duplicate.iter().chain(waiting).take(SACKS_MAX) {
            out[count] = block;
            count += 1;
        }
        count
    }

    pub(crate) fn reported(&mut self) {
        self.duplicate = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pages::{Arena, ClusterPool, HeapRegion};
    use proptest::prelude::*;

    proptest! {
        /// Ranges of a known stream in any order, overlapping at will: what is
        /// read is the stream, and every cluster and node comes back.
        #[test]
        fn z06_any_order_gives_the_stream(ranges in prop::collection::vec((0u32..200, 1u32..40, 0u8..20), 1..150)) {
            let arena = Arena::new(HeapRegion::new(64));
            let clusters = ClusterPool::carve(&arena, 64, 2048).unwrap();
            let byte = |at: u32| (at * 7 + at / 256) as u8;
            let mut pool = SlicePool::new(24);
            let mut queue = ReceiveQueue::EMPTY;
            let base = Seq(u32::MAX - 100);
            let (mut next, mut read, mut have) = (base, 0u32, vec![false; 300]);
            for (from, len, other) in ranges {
                let mut fresh = clusters.alloc().unwrap();
                for i in 0..len {
                    fresh[i as usize] = byte(from + i);
                }
                let mut slice = fresh.freeze().slice(0..len as usize);
                let mut seq = base + from;
                if seq < next {
                    let known = next.since(seq).min(len);
                    slice.advance(known as usize);
                    seq += known;
                }
                if slice.is_empty() {
                    continue;
                }
                let end = seq + slice.len() as u32;
                if seq == next {
                    if queue.push(&mut pool, slice, seq) {
                        next = end;
                        (next, _) = queue.advance(&mut pool, next);
                        (seq.since(base)..end.since(base)).for_each(|i| have[i as usize] = true);
                    }
                } else {
                    match queue.insert(&mut pool, slice, seq) {
                        Inserted::NoRoom => prop_assert_eq!(pool.free_count(), 0),
                        _ => (seq.since(base)..end.since(base)).for_each(|i| have[i as usize] = true),
                    }
                }
                if other == 0 {
                    let (_, end) = queue.renege(&mut pool, 1);
                    let end = end.unwrap_or(next).since(base);
                    if queue.out_of_order <= 1 {
                        (end..300).for_each(|i| have[i as usize] = false);
                    }
                }
                if other < 5 {
                    while let Some(slice) = queue.pop(&mut pool) {
                        for &b in slice.bytes() {
                            prop_assert_eq!(b, byte(read));
                            read += 1;
                        }
                    }
                    prop_assert_eq!(read, next.since(base));
                }
                let whole = have.iter().position(|&h| !h).unwrap() as u32;
                prop_assert!(next.since(base) >= read && next.since(base) <= whole);
                prop_assert_eq!(queue.pinned() as usize, 24 - pool.free_count());
                prop_assert_eq!(queue.ready_bytes, next.since(base) - read);
            }
            queue.clear(&mut pool);
            prop_assert_eq!((pool.free_count(), clusters.held()), (24, 0));
        }
    }

    #[test]
    fn rfc2018_4_the_block_that_changed_last_comes_first() {
        let mut blocks = SackBlocks::default();
        blocks.add(Seq(100), Seq(200));
        blocks.add(Seq(300), Seq(400));
        blocks.add(Seq(500), Seq(600));
        blocks.add(Seq(200), Seq(300));
        let mut out = Default::default();
        assert_eq!(blocks.report(&mut out), 2);
        assert_eq!(out[0], (Seq(100), Seq(400)));
        assert_eq!(out[1], (Seq(500), Seq(600)));
        blocks.advance(Seq(400));
        assert_eq!(blocks.report(&mut out), 1);
    }

    #[test]
    fn rfc2883_4_a_duplicate_is_reported_once_and_first() {
        let mut blocks = SackBlocks::default();
        blocks.add(Seq(100), Seq(200));
        blocks.duplicate(Seq(10), Seq(20));
        let mut out = Default::default();
        assert_eq!(blocks.report(&mut out), 2);
        assert_eq!(out[..2], [(Seq(10), Seq(20)), (Seq(100), Seq(200))]);
        blocks.reported();
        assert_eq!(blocks.report(&mut out), 1);
    }
}
