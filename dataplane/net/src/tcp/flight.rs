//! Segments in flight: what was sent when, what of it the peer has, what is lost.
//!
//! Each connection has two lists through the shard's pool of records: one in
//! the order of sequence numbers, and one, of what is neither SACKed nor lost,
//! in the order of sending, which is the order RACK looks at (RFC 8985, 6.2).

use collections::{IndexTable, TableIndex, table_index};
use pages::prefetch;

use crate::tcp::chunks::{ChunkPool, Place};
use crate::tcp::seq::Seq;
use crate::time::Instant;
use crate::util::list::following;

/// What is known of a segment in flight.
pub(crate) mod mark {
    /// The peer has it (RFC 2018).
    pub(crate) const SACKED: u16 = 1;
    /// Taken for lost.
    pub(crate) const LOST: u16 = 2;
    /// Sent again, and that copy is not lost (yet).
    pub(crate) const RESENT: u16 = 4;
    /// Sent more than once at some time: no round-trip sample (Karn).
    pub(crate) const EVER_RESENT: u16 = 8;
    /// Our FIN; no payload.
    pub(crate) const FIN: u16 = 16;
}

table_index! {
    /// A segment's record.
    pub(crate) struct RecordIndex(u32);
}

/// A segment in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// When it was last sent.
    pub(crate) sent: Instant,
    pub(crate) seq: Seq,
    pub(crate) len: u16,
    pub(crate) marks: u16,
    /// Where its payload lies.
    pub(crate) place: Place,
    next: RecordIndex,
    newer: RecordIndex,
    older: RecordIndex,
}

impl Record {
    pub(crate) fn end(&self) -> Seq {
        self.seq + u32::from(self.len)
    }

    pub(crate) fn is(&self, marks: u16) -> bool {
        self.marks & marks != 0
    }

    /// In the time list: in flight as far as anybody knows.
    fn is_timed(&self) -> bool {
        !self.is(mark::SACKED) && (!self.is(mark::LOST) || self.is(mark::RESENT))
    }
}

/// Every record of the shard.
pub(crate) struct RecordPool {
    records: IndexTable<RecordIndex, Record>,
    free: RecordIndex,
}

impl RecordPool {
    pub(crate) fn new(count: usize) -> Self {
        let record = |i: RecordIndex| Record {
            sent: Instant::ZERO,
            seq: Seq(0),
            len: 0,
            marks: 0,
            place: Place::END,
            next: following(i, count),
            newer: RecordIndex::NONE,
            older: RecordIndex::NONE,
        };
        Self {
            records: IndexTable::new(count, record),
            free: RecordIndex::new(0),
        }
    }

    /// Asks for the memory of the first segment of `flight`.
    #[inline]
    pub(crate) fn prefetch(&self, flight: &Flight) {
        if let Some(record) = self.records.get(flight.head) {
            prefetch(record);
        }
    }

    fn take(&mut self) -> Option<RecordIndex> {
        let index = self.free;
        let record = self.records.get(index)?;
        self.free = record.next;
        Some(index)
    }

    fn give(&mut self, index: RecordIndex) {
        self.records[index].next = self.free;
        self.free = index;
    }

    #[cfg(test)]
    pub(crate) fn free_count(&self) -> usize {
        let mut count = 0;
        let mut at = self.free;
        while at != RecordIndex::NONE {
            count += 1;
            at = self.records[at].next;
        }
        count
    }
}

impl std::ops::Index<RecordIndex> for RecordPool {
    type Output = Record;
    fn index(&self, index: RecordIndex) -> &Record {
        &self.records[index]
    }
}

impl std::ops::IndexMut<RecordIndex> for RecordPool {
    fn index_mut(&mut self, index: RecordIndex) -> &mut Record {
        &mut self.records[index]
    }
}

/// One connection's segments in flight. Byte counts include a FIN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    head: RecordIndex,
    tail: RecordIndex,
    oldest: RecordIndex,
    newest: RecordIndex,
    /// The first record that is lost and not sent again, or one before it.
    lost_hint: RecordIndex,
    pub(crate) count: u32,
    pub(crate) sacked: u32,
    pub(crate) lost: u32,
    pub(crate) resent: u32,
}

impl Flight {
    pub(crate) const EMPTY: Flight = Flight {
        head: RecordIndex::NONE,
        tail: RecordIndex::NONE,
        oldest: RecordIndex::NONE,
        newest: RecordIndex::NONE,
        lost_hint: RecordIndex::NONE,
        count: 0,
        sacked: 0,
        lost: 0,
        resent: 0,
    };

    pub(crate) fn is_empty(&self) -> bool {
        self.head == RecordIndex::NONE
    }

    pub(crate) fn first(&self) -> Option<RecordIndex> {
        self.head.some()
    }

    pub(crate) fn last(&self) -> Option<RecordIndex> {
        self.tail.some()
    }

    /// The record sent longest ago that is still out.
    pub(crate) fn oldest(&self) -> Option<RecordIndex> {
        self.oldest.some()
    }

    pub(crate) fn newer(pool: &RecordPool, index: RecordIndex) -> Option<RecordIndex> {
        pool[index].newer.some()
    }

    pub(crate) fn next(pool: &RecordPool, index: RecordIndex) -> Option<RecordIndex> {
        pool[index].next.some()
    }

    /// Whether a segment can be recorded.
    pub(crate) fn has_room(pool: &RecordPool) -> bool {
        pool.free != RecordIndex::NONE
    }

    /// Records a segment that was just sent for the first time, at the end.
    pub(crate) fn push(
        &mut self,
        pool: &mut RecordPool,
        seq: Seq,
        len: u16,
        marks: u16,
        place: Place,
        now: Instant,
    ) {
        let Some(index) = pool.take() else {
            debug_assert!(false, "room was checked");
            return;
        };
        pool[index] = Record {
            sent: now,
            seq,
            len,
            marks,
            place,
            next: RecordIndex::NONE,
            newer: RecordIndex::NONE,
            older: RecordIndex::NONE,
        };
        match self.tail {
            RecordIndex::NONE => self.head = index,
            tail => pool[tail].next = index,
        }
        self.tail = index;
        self.count += 1;
        self.link_newest(pool, index);
    }

    /// The record was sent again just now.
    pub(crate) fn resend(&mut self, pool: &mut RecordPool, index: RecordIndex, now: Instant) {
        let record = &mut pool[index];
        if record.is_timed() {
            // Not lost: a probe of the tail.
            self.unlink(pool, index);
        }
        let record = &mut pool[index];
        record.sent = now;
        record.marks |= mark::EVER_RESENT;
        if record.is(mark::LOST) && !record.is(mark::RESENT) {
            record.marks |= mark::RESENT;
            self.resent += u32::from(record.len);
        }
        self.link_newest(pool, index);
    }

    /// Takes the record for lost.
    pub(crate) fn lose(&mut self, pool: &mut RecordPool, index: RecordIndex) {
        let record = &pool[index];
        if !record.is_timed() {
            return;
        }
        self.unlink(pool, index);
        let record = &mut pool[index];
        let len = u32::from(record.len);
        if record.is(mark::RESENT) {
            record.marks &= !mark::RESENT;
            self.resent -= len;
        } else {
            record.marks |= mark::LOST;
            self.lost += len;
        }
        let seq = record.seq;
        if self.lost_hint == RecordIndex::NONE || seq < pool[self.lost_hint].seq {
            self.lost_hint = index;
        }
    }

    /// The first record to send again.
    pub(crate) fn next_lost(&mut self, pool: &RecordPool) -> Option<RecordIndex> {
        let mut at = self.lost_hint;
        while at != RecordIndex::NONE {
            let record = &pool[at];
            if record.is(mark::LOST) && !record.is(mark::RESENT | mark::SACKED) {
                break;
            }
            at = record.next;
        }
        self.lost_hint = at;
        at.some()
    }

    /// The peer reports that it has the record out of order. Whether that is news.
    pub(crate) fn sack(&mut self, pool: &mut RecordPool, index: RecordIndex) -> bool {
        let record = &pool[index];
        if record.is(mark::SACKED) {
            return false;
        }
        if record.is_timed() {
            self.unlink(pool, index);
        }
        let record = &mut pool[index];
        let len = u32::from(record.len);
        if record.is(mark::LOST) {
            self.lost -= len;
        }
        if record.is(mark::RESENT) {
            self.resent -= len;
        }
        record.marks &= !(mark::LOST | mark::RESENT);
        record.marks |= mark::SACKED;
        self.sacked += len;
        true
    }

    /// The peer may have dropped what it SACKed: all of it is to be sent again (RFC 2018, section 8).
    pub(crate) fn forget_sacks(&mut self, pool: &mut RecordPool) {
        let mut at = self.head;
        while at != RecordIndex::NONE {
            let record = &mut pool[at];
            if record.is(mark::SACKED) {
                let len = u32::from(record.len);
                record.marks &= !mark::SACKED;
                record.marks |= mark::LOST;
                self.sacked -= len;
                self.lost += len;
            }
            at = pool[at].next;
        }
        self.lost_hint = self.head;
    }

    /// Nothing was lost: what was taken for lost and not sent again is in flight as before.
    pub(crate) fn unlose(&mut self, pool: &mut RecordPool) {
        let mut at = self.head;
        while at != RecordIndex::NONE {
            let record = &mut pool[at];
            if record.is(mark::LOST) && !record.is(mark::RESENT) {
                record.marks &= !mark::LOST;
                self.lost -= u32::from(record.len);
                self.link_sorted(pool, at);
            }
            at = pool[at].next;
        }
        self.lost_hint = RecordIndex::NONE;
    }

    /// Takes the first record out of the flight and returns it.
    pub(crate) fn pop(&mut self, pool: &mut RecordPool) -> Option<Record> {
        let index = self.first()?;
        let record = pool[index];
        if record.is_timed() {
            self.unlink(pool, index);
        }
        let len = u32::from(record.len);
        self.sacked -= if record.is(mark::SACKED) { len } else { 0 };
        self.lost -= if record.is(mark::LOST) { len } else { 0 };
        self.resent -= if record.is(mark::RESENT) { len } else { 0 };
        if self.lost_hint == index {
            self.lost_hint = record.next;
        }
        self.head = record.next;
        if self.head == RecordIndex::NONE {
            self.tail = RecordIndex::NONE;
        }
        self.count -= 1;
        pool.give(index);
        Some(record)
    }

    /// Takes the records out that are next, end at or before `ack`, and were sent
    /// once and are not known of otherwise: nearly always all of them. Returns the
    /// first, the last, and how many bytes they have together.
    pub(crate) fn pop_plain(
        &mut self,
        pool: &mut RecordPool,
        ack: Seq,
    ) -> Option<(Record, Record, u32)> {
        let head = self.first()?;
        let is_plain = |record: &Record| record.marks == 0 && record.end() <= ack;
        let first = pool[head];
        if !is_plain(&first) {
            return None;
        }
        let (mut last, mut count) = (head, 1);
        let mut hinted = head == self.lost_hint;
        let mut record = &pool[head];
        // Side by side in both lists: so are all that were sent in this order.
        while record.next == record.newer && record.next != RecordIndex::NONE {
            let next = &pool[record.next];
            if !is_plain(next) {
                break;
            }
            last = record.next;
            hinted |= last == self.lost_hint;
            count += 1;
            record = next;
        }
        let record = *record;
        match first.older {
            RecordIndex::NONE => self.oldest = record.newer,
            older => pool[older].newer = record.newer,
        }
        match record.newer {
            RecordIndex::NONE => self.newest = first.older,
            newer => pool[newer].older = first.older,
        }
        if hinted {
            self.lost_hint = record.next;
        }
        self.head = record.next;
        if self.head == RecordIndex::NONE {
            self.tail = RecordIndex::NONE;
        }
        self.count -= count;
        // They hang together already.
        pool[last].next = pool.free;
        pool.free = head;
        Some((first, record, record.end().since(first.seq)))
    }

    /// Drops the first `bytes`, fewer than it has, from the first record: the peer has them.
    pub(crate) fn trim(&mut self, pool: &mut RecordPool, chunks: &ChunkPool, bytes: u16) {
        let Some(index) = self.first() else { return };
        let record = &mut pool[index];
        record.seq += u32::from(bytes);
        record.len -= bytes;
        record.place = chunks.advance(record.place, u32::from(bytes));
        let bytes = u32::from(bytes);
        let marks = record.marks;
        self.sacked -= if marks & mark::SACKED != 0 { bytes } else { 0 };
        self.lost -= if marks & mark::LOST != 0 { bytes } else { 0 };
        self.resent -= if marks & mark::RESENT != 0 { bytes } else { 0 };
    }

    /// Cuts a record in two after `bytes`, fewer than it has. Whether there was room.
    pub(crate) fn split(
        &mut self,
        pool: &mut RecordPool,
        chunks: &ChunkPool,
        index: RecordIndex,
        bytes: u16,
    ) -> bool {
        debug_assert!(bytes > 0 && bytes < pool[index].len);
        let Some(tail) = pool.take() else {
            return false;
        };
        let head = &mut pool[index];
        let mut second = *head;
        head.len = bytes;
        head.next = tail;
        second.seq += u32::from(bytes);
        second.len -= bytes;
        second.place = chunks.advance(second.place, u32::from(bytes));
        let timed = head.is_timed();
        if timed {
            second.older = index;
            let newer = std::mem::replace(&mut head.newer, tail);
            match newer {
                RecordIndex::NONE => self.newest = tail,
                newer => pool[newer].older = tail,
            }
        }
        pool[tail] = second;
        if self.tail == index {
            self.tail = tail;
        }
        self.count += 1;
        true
    }

    /// Frees every record.
    pub(crate) fn clear(&mut self, pool: &mut RecordPool) {
        while self.pop(pool).is_some() {}
    }

    fn link_newest(&mut self, pool: &mut RecordPool, index: RecordIndex) {
        pool[index].older = self.newest;
        pool[index].newer = RecordIndex::NONE;
        match self.newest {
            RecordIndex::NONE => self.oldest = index,
            newest => pool[newest].newer = index,
        }
        self.newest = index;
    }

    /// Puts a record back where the time of its sending belongs.
    fn link_sorted(&mut self, pool: &mut RecordPool, index: RecordIndex) {
        let sent = pool[index].sent;
        let mut newer = self.oldest;
        while newer != RecordIndex::NONE && pool[newer].sent <= sent {
            newer = pool[newer].newer;
        }
        if newer == RecordIndex::NONE {
            return self.link_newest(pool, index);
        }
        let older = std::mem::replace(&mut pool[newer].older, index);
        pool[index].newer = newer;
        pool[index].older = older;
        match older {
            RecordIndex::NONE => self.oldest = index,
            older => pool[older].newer = index,
        }
    }

    fn unlink(&mut self, pool: &mut RecordPool, index: RecordIndex) {
        let Record { newer, older, .. } = pool[index];
        match older {
            RecordIndex::NONE => self.oldest = newer,
            older => pool[older].newer = newer,
        }
        match newer {
            RecordIndex::NONE => self.newest = older,
            newer => pool[newer].older = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(flight: &Flight, pool: &RecordPool) {
        let (mut sacked, mut lost, mut resent, mut count, mut timed) = (0, 0, 0, 0, 0);
        let mut at = flight.first();
        while let Some(index) = at {
            let record = &pool[index];
            let len = u32::from(record.len);
            sacked += if record.is(mark::SACKED) { len } else { 0 };
            lost += if record.is(mark::LOST) { len } else { 0 };
            resent += if record.is(mark::RESENT) { len } else { 0 };
            timed += u32::from(record.is_timed());
            count += 1;
            at = Flight::next(pool, index);
        }
        assert_eq!(
            (sacked, lost, resent, count),
            (flight.sacked, flight.lost, flight.resent, flight.count)
        );
        let mut at = flight.oldest();
        let mut sent = Instant::ZERO;
        while let Some(index) = at {
            assert!(pool[index].sent >= sent && pool[index].is_timed());
            sent = pool[index].sent;
            timed -= 1;
            at = Flight::newer(pool, index);
        }
        assert_eq!(timed, 0, "the time list is whole");
    }

    proptest! {
        #[test]
        fn the_lists_and_the_sums_agree(ops in prop::collection::vec((0u8..10, any::<u16>()), 1..200)) {
            let mut pool = RecordPool::new(32);
            let chunks = ChunkPool::new(1);
            let mut flight = Flight::EMPTY;
            let mut seq = Seq(u32::MAX - 5000);
            for (step, (op, n)) in ops.into_iter().enumerate() {
                let now = Instant(step as u64);
                let pick = |flight: &Flight, pool: &RecordPool| {
                    let mut at = flight.first()?;
                    for _ in 0..u32::from(n) % flight.count {
                        at = Flight::next(pool, at)?;
                    }
                    Some(at)
                };
                let picked = pick(&flight, &pool);
                match (op, picked) {
                    (0, _) if Flight::has_room(&pool) => {
                        let len = n % 1400 + 2;
                        flight.push(&mut pool, seq, len, 0, Place::END, now);
                        seq += u32::from(len);
                    }
                    (1, Some(i)) => flight.lose(&mut pool, i),
                    (2, Some(i)) => { flight.sack(&mut pool, i); }
                    (3, Some(_)) => if let Some(i) = flight.next_lost(&pool) { flight.resend(&mut pool, i, now) },
                    (4, Some(_)) => { flight.pop(&mut pool); }
                    (8 | 9, Some(i)) => {
                        let (ack, before) = (pool[i].end(), flight.count);
                        let mut model = Vec::new();
                        let mut at = flight.first();
                        while let Some(i) = at.filter(|&i| pool[i].marks == 0 && pool[i].end() <= ack) {
                            model.push(pool[i]);
                            at = Flight::next(&pool, i);
                        }
                        let popped = flight.pop_plain(&mut pool, ack);
                        prop_assert_eq!(popped.is_some(), !model.is_empty());
                        if let Some((first, last, len)) = popped {
                            let count = (before - flight.count) as usize;
                            prop_assert!(count <= model.len());
                            prop_assert_eq!((first.seq, last.seq), (model[0].seq, model[count - 1].seq));
                            prop_assert_eq!(len, model[..count].iter().map(|r| u32::from(r.len)).sum::<u32>());
                        }
                    }
                    (5, Some(i)) if pool[i].len > 2 => { flight.split(&mut pool, &chunks, i, 1); }
                    (7, Some(_)) if n < 4000 => flight.unlose(&mut pool),
                    (6, Some(i)) if pool[i].is_timed() => flight.resend(&mut pool, i, now),
                    _ => {}
                }
                check(&flight, &pool);
                let mut lost = flight.first();
                while let Some(i) = lost {
                    if pool[i].is(mark::LOST) && !pool[i].is(mark::RESENT) { break }
                    lost = Flight::next(&pool, i);
                }
                prop_assert_eq!(flight.next_lost(&pool), lost);
            }
            flight.clear(&mut pool);
            prop_assert_eq!(pool.free_count(), 32);
        }
    }
}
