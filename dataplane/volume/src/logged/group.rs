//! Groups: records of what waits, and their data as it lies, to the log's stores (row S1).

use block::{Buffers, Device, Fault, Op};
use events::tracepoint;
use nvlog::{Group, Record, RecordOp};
use pages::{Cluster, CopyReason, MAX_SEGMENTS, PAGE_SIZE, PageRun, Segment};
use sgl::Element;

use super::point::Why;
use super::{ELEMENTS, GROUP_BYTES, GROUP_RECORDS, GROUPS, IDLE, Log, Logged, Writing, is_early};
use crate::cached::Cached;
use crate::change::Change;
use crate::requester::Ends;

/// What a group is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// It says that those before it were acknowledged.
    Nothing,
    All,
    /// Changes that came from another node.
    Forwarded,
}

impl Of {
    fn takes(self, change: &Change) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Forwarded => change.io.flags.forwarded,
        }
    }
}

impl<D: Device> Log<D> {
    /// Makes groups of what waits, and writes them.
    pub(super) fn write(&mut self, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        // Nobody waits: what comes next waits as long as any.
        if cached.changes() == 0 {
            (self.short_since, self.full_since) = (None, None);
        }
        loop {
            let waiting = cached.changes();
            let is_idle = self.free.len() == GROUPS;
            if waiting == 0 || self.free.is_empty() || !is_idle && waiting < GROUP_RECORDS {
                break;
            }
            let of = match self.holds_own(cached) {
                false => Of::All,
                true if self.forwarding.is_both() && cached.bring_forwarded() => Of::Forwarded,
                true => break,
            };
            if !self.write_group(of, cached, buffers, ends) {
                break;
            }
        }
        // Changes may wait for much longer: for a half, or a drive.
        if self.free.len() == GROUPS
            && !self.is_stopping
            && self.region.is_untold()
            && self.now >= self.wrote_at + IDLE
        {
            self.write_group(Of::Nothing, cached, buffers, ends);
        }
    }

    /// Writes one group of what waits, or of nothing; false if it has to wait for something.
    fn write_group(
        &mut self,
        of: Of,
        cached: &mut Cached,
        buffers: &Buffers,
        ends: &mut Ends,
    ) -> bool {
        let empty = Record {
            transfer: 0,
            object: 0,
            volume: 0,
            op: RecordOp::Deallocate,
            offset: 0,
            len: 0,
        };
        let of_changes = of != Of::Nothing;
        let change = cached.first_change().filter(|change| of.takes(change));
        let first = change.map_or(empty, record_of);
        if !self.has_room(&first, of_changes) {
            self.point.want(Why::Full);
            return false;
        }
        // What a device does not take as it lies is copied into whole pages.
        let most = match self.stores.is_particular() {
            true => buffers.pages.free().saturating_sub(3) * PAGE_SIZE,
            false => usize::MAX,
        };
        let page = buffers
            .pages
            .alloc()
            .filter(|_| first.payload() <= most as u64);
        let Some(page) = page else {
            self.short_since = self.short_since.or(Some(self.now));
            return false;
        };
        if of_changes {
            self.short_since = None;
        }
        let Some(ticket) = self.free.pop() else {
            return false;
        };
        let half = self.region.active();
        // The header's place.
        let elements = &mut self.writing[ticket as usize].elements;
        elements.push(Element::new(0, 0));
        let mut payload = 0;
        while let Some(change) = cached.first_change().filter(|change| of.takes(change)) {
            let record = record_of(change);
            let listed = self.writing[ticket as usize].elements.len();
            let is_enough = payload + record.payload() > GROUP_BYTES.min(most as u64)
                || listed + segments_max(change) + 1 > ELEMENTS;
            if !self.region.has_room_to_tell(&record) || is_enough && self.region.count() > 0 {
                break;
            }
            if self.region.count() > 0 && self.leaves_no_room(change, payload) {
                break;
            }
            let Some(change) = cached.next_change() else {
                break;
            };
            let Ok(transfer) = self.forwarding.takes(&change) else {
                ends.push_back(change.ended(Err(Fault::Elsewhere)));
                continue;
            };
            self.list(ticket, &record, &change);
            self.region.add(&record, &self.checksums);
            payload += record.payload();
            self.unmerged[half] += 1;
            self.writing[ticket as usize].changes.push(Logged {
                change,
                half,
                transfer,
            });
        }
        let (group, header) = self.region.seal();
        let writing = &mut self.writing[ticket as usize];
        let page = page.freeze_filled(0);
        page.append(header);
        let address = page.address().as_ptr() as u64;
        (writing.sequence, writing.sent) = (group.sequence, self.now);
        writing.elements[0] = Element::new(address, group.header_len as u64);
        if group.padding > 0 {
            let zeros = buffers.zero_page.address().as_ptr() as u64;
            (writing.elements).push(Element::new(zeros, group.padding as u64));
        }
        writing.pages.push(page);
        self.count(&group);
        buffers
            .ledger
            .copied(CopyReason::LogHeader, group.header_len);
        self.wrote_at = self.now;
        self.send(ticket, &group, buffers);
        true
    }

    /// A change's data, on the list of the group that it is to be part of, and the checksums of its pages.
    #[inline]
    fn list(&mut self, ticket: u32, record: &Record, change: &Change) {
        let writing = &mut self.writing[ticket as usize];
        self.checksums.clear();
        if let (RecordOp::Write, Some(run)) = (record.op, &change.io.run) {
            // A data digest has been verified of them, and they were made on the way.
            self.checksums.extend(run.checksums());
            let are_made = self.checksums.len() >= record.checksums();
            if !are_made {
                self.checksums.clear();
                self.crcs.begin(record.offset);
                self.counters.checksummed_bytes += record.len;
            }
            for segment in run.segments() {
                let address = segment.address().map_or(0, |a| a.as_ptr() as u64);
                let element = Element::new(address, segment.len() as u64);
                writing.elements.push(element);
                if !are_made {
                    let bytes = segment.bytes().unwrap_or_default();
                    (self.crcs).take(bytes, |crc| self.checksums.push(crc));
                }
            }
            self.checksums.extend(self.crcs.end());
        }
    }

    /// Whether the half has room for a record; behind changes there stays room to say that they were acknowledged.
    fn has_room(&mut self, record: &Record, is_change: bool) -> bool {
        if !is_change {
            return self.region.has_room(record);
        }
        let has_room = self.region.has_room_to_tell(record);
        self.counters.full += u64::from(!has_room && self.full_since.is_none());
        self.full_since = match has_room {
            true => None,
            false => self.full_since.or(Some(self.now)),
        };
        has_room
    }

    /// Gives a group to the device, copied together if it cannot be taken as it lies.
    fn send(&mut self, ticket: u32, group: &Group, buffers: &Buffers) {
        let writing = &mut self.writing[ticket as usize];
        let (at, len) = (group.address, group.total() as u64);
        if !self.stores.takes(at, len, &writing.elements) {
            bounce(writing, group, buffers);
            self.counters.bounced_bytes += group.payload_len as u64;
        }
        let elements = std::mem::take(&mut writing.elements);
        self.stores.write(ticket, at, len, elements);
        if is_early() {
            self.keep(ticket);
            (self.stable).extend(self.writing[ticket as usize].changes.drain(..));
        }
    }

    fn count(&mut self, group: &Group) {
        let (shard, bytes) = (self.number as u64, group.total() as u64);
        tracepoint::log_group_start(shard, group.sequence, group.count.into(), bytes);
        self.counters.groups += 1;
        self.counters.records += u64::from(group.count);
        self.counters.payload_bytes += group.payload_len as u64;
        self.counters.overhead_bytes += (group.header_len + group.padding) as u64;
    }
}

/// The record of a change.
fn record_of(change: &Change) -> Record {
    let op = match change.io.op {
        Op::WriteZeroes => RecordOp::WriteZeroes,
        Op::Deallocate => RecordOp::Deallocate,
        _ => RecordOp::Write,
    };
    Record {
        transfer: 0,
        object: 0,
        volume: change.volume.0.into(),
        op,
        offset: change.io.offset,
        len: change.io.len,
    }
}

/// Elements that a change adds to a list at most.
fn segments_max(change: &Change) -> usize {
    let run = change.io.run.as_deref();
    run.map_or(0, |run| run.pages().len() * MAX_SEGMENTS)
}

/// Copies a group together into whole pages, of which there are enough.
fn bounce(writing: &mut Writing, group: &Group, buffers: &Buffers) {
    let mut whole: Vec<Cluster> = Vec::new();
    let header = writing.pages.iter().map(Cluster::bytes);
    let runs = (writing.changes.iter()).filter_map(|logged| logged.change.io.run.as_deref());
    let payload = runs.flat_map(PageRun::segments).filter_map(Segment::bytes);
    let padding = &buffers.zero_page.bytes()[..group.padding];
    for mut bytes in header.chain(payload).chain([padding]) {
        while !bytes.is_empty() {
            if whole.last().is_none_or(|page| page.filled() == PAGE_SIZE) {
                let page = buffers.pages.alloc().expect("pages were looked for");
                whole.push(page.freeze_filled(0));
            }
            if let Some(page) = whole.last() {
                let n = bytes.len().min(PAGE_SIZE - page.filled());
                page.append(&bytes[..n]);
                bytes = &bytes[n..];
            }
        }
    }
    (buffers.ledger).copied(CopyReason::DeviceBounce, group.payload_len);
    writing.elements.clear();
    let element =
        |page: &Cluster| Element::new(page.address().as_ptr() as u64, page.filled() as u64);
    writing.elements.extend(whole.iter().map(element));
    writing.pages = whole;
}
