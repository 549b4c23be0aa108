//! Tables, as they are written: pages of a record, then the entry, each to all stores that are in. A write counts when they
//! have all of it, and others are said to be out.

use std::collections::VecDeque;
use std::time::Duration;

use block::{Buffers, Device, Fault, Op, VolumeId};
use mirror::Changed;
use nvlog::{Tables, UNIT};
use pages::{Cluster, PAGE_SIZE};
use sgl::Element;

use super::{LogStores, TABLE, bit};
use crate::logged::store::Ended;
use crate::logged::tables::{RecordPages, TableArea, TableRefusal, TableToken, TableWrite};

/// Writes that may wait, the one that is under way among them.
const WRITES: usize = 8;
/// Pages that are in the devices' reach at a time.
const PAGES: usize = 8;

/// The tables area, and what is being written to it.
pub(super) struct Writer {
    area: TableArea,
    writes: VecDeque<Write>,
    step: Option<Step>,
    ended: VecDeque<(TableToken, Result<(), Fault>)>,
    tokens: u64,
}

/// What a write has still to do.
struct Write {
    token: TableToken,
    /// Where, and what.
    parts: VecDeque<(u64, Vec<u8>)>,
    /// Bytes of the first one that are stable.
    done: usize,
}

/// What stores are writing.
struct Step {
    code: u32,
    since: Duration,
    len: usize,
    /// Stores that have not answered: a bit for each.
    pending: u8,
    pages: Vec<Cluster>,
}

impl Writer {
    pub(super) fn new(area: &TableArea) -> Self {
        Self {
            area: area.clone(),
            writes: VecDeque::with_capacity(WRITES),
            step: None,
            ended: VecDeque::new(),
            tokens: 0,
        }
    }

    /// Writes that have not ended.
    pub(super) fn in_progress(&self) -> usize {
        self.writes.len()
    }

    /// Since when something is being written, and by which stores.
    pub(super) fn pending(&self) -> Option<(Duration, u8)> {
        let step = self.step.as_ref();
        step.map(|step| (step.since, step.pending))
    }

    fn add(&mut self, write: &TableWrite<'_>) -> Result<TableToken, TableRefusal> {
        if self.writes.len() == WRITES {
            return Err(TableRefusal::Busy);
        }
        let TableArea { tables, volumes } = &mut self.area;
        let volume = volumes.get(usize::from(write.volume.0));
        let (name, identity) = volume.ok_or(TableRefusal::NoVolume)?;
        let record = write.record.as_ref();
        let count = record.map_or(0, |record| record.changed.pages());
        let mut parts = VecDeque::new();
        match write.content {
            Some(content) => {
                let put = tables.put(name, *identity, count, content);
                let put = put.map_err(TableRefusal::No)?;
                if let (Some(record), Some(pages)) = (record, &put.record) {
                    parts.extend(part(record, pages.start, put.is_new));
                }
                parts.push_back((put.at, put.bytes));
            }
            None => {
                let pages = tables.record(name, *identity);
                let pages = pages.filter(|pages| pages.end - pages.start == count);
                let (Some(record), Some(pages)) = (record, pages) else {
                    return Err(TableRefusal::NoRecord);
                };
                parts.extend(part(record, pages.start, false));
            }
        }
        self.tokens += 1;
        let token = TableToken(self.tokens);
        match parts.is_empty() {
            true => self.ended.push_back((token, Ok(()))),
            false => self.writes.push_back(Write {
                token,
                parts,
                done: 0,
            }),
        }
        Ok(token)
    }

    /// Ends all that waits.
    fn fail(&mut self, fault: Fault) {
        let writes = self.writes.drain(..);
        self.ended
            .extend(writes.map(|write| (write.token, Err(fault))));
    }
}

/// Pages of a record that begins at page `first` of the area.
fn part(record: &RecordPages<'_>, first: u64, are_all: bool) -> Option<(u64, Vec<u8>)> {
    let all = 0..record.changed.pages();
    let pages = match are_all {
        true => all,
        false => record.pages.start..record.pages.end.min(all.end),
    };
    if pages.is_empty() {
        return None;
    }
    let at = Tables::page_at(first + pages.start);
    let image = |page| Changed::page(record.changed, page, record.replica, record.number);
    Some((at, pages.flat_map(image).collect()))
}

impl<D: Device> LogStores<D> {
    /// Begins to make a table stable.
    pub(in crate::logged) fn write_table(
        &mut self,
        write: &TableWrite<'_>,
    ) -> Result<TableToken, TableRefusal> {
        let writer = self.tables.as_mut().ok_or(TableRefusal::NotHere)?;
        let token = writer.add(write)?;
        if let Some(fault) = self.failed.filter(|_| writer.step.is_none()) {
            writer.fail(fault);
        }
        Ok(token)
    }

    /// Pages that the record of a volume may have.
    pub(in crate::logged) fn table_room(&self, volume: VolumeId) -> Option<u64> {
        let TableArea { tables, volumes } = &self.tables.as_ref()?.area;
        let (name, identity) = volumes.get(usize::from(volume.0))?;
        Some(tables.room(name, *identity))
    }

    /// The next write that ended.
    pub(in crate::logged) fn next_table_end(&mut self) -> Option<(TableToken, Result<(), Fault>)> {
        self.tables.as_mut()?.ended.pop_front()
    }

    /// Writes what comes next, if nothing is being written and there are pages.
    pub(super) fn advance_table(&mut self, buffers: &Buffers) {
        let (code, since, ins) = (self.code(TABLE), self.now, self.ins());
        let (Some(writer), None) = (&mut self.tables, self.failed) else {
            return;
        };
        let (None, Some(write)) = (&writer.step, writer.writes.front()) else {
            return;
        };
        let Some((at, bytes)) = write.parts.front() else {
            return;
        };
        let mut pages = Vec::with_capacity(PAGES);
        for part in bytes[write.done..].chunks(PAGE_SIZE).take(PAGES) {
            // With fewer it takes longer.
            let Some(mut page) = buffers.pages.alloc() else {
                break;
            };
            page[..part.len()].copy_from_slice(part);
            pages.push(page.freeze_filled(part.len()));
        }
        if pages.is_empty() {
            return;
        }
        let (at, len) = (at + write.done as u64, pages.len() * PAGE_SIZE);
        for side in self.sides.iter_mut().flatten().filter(|side| side.is_in) {
            let mut elements = self.spare.pop().unwrap_or_default();
            let addresses = pages.iter().map(|page| page.address().as_ptr() as u64);
            elements.extend(addresses.map(|address| Element::new(address, UNIT)));
            (side.store).start(code, Op::Write, at, len as u64, elements);
        }
        writer.step = Some(Step {
            code,
            since,
            len,
            pending: ins,
            pages,
        });
        if let Some(saying) = &mut self.saying {
            saying.reopen();
        }
    }

    /// A store has what was being written, or not.
    pub(super) fn table_ended(&mut self, place: usize, ended: Ended) {
        self.spare.push(ended.elements);
        let step = self.tables.as_mut().and_then(|writer| writer.step.as_mut());
        let Some(step) = step.filter(|step| step.code == ended.ticket) else {
            return;
        };
        step.pending &= !bit(place);
        match ended.result {
            Ok(()) => self.settle_table(),
            Err(fault) => self.lose(place, fault, "failed to write a table"),
        }
    }

    /// Ends what all stores that are in have, once that others are out is said.
    pub(super) fn settle_table(&mut self) {
        let (ins, failed) = (self.ins(), self.failed);
        let is_told = self.saying.as_ref().is_none_or(super::Saying::is_told);
        let Some(writer) = &mut self.tables else {
            return;
        };
        let may_end = failed.is_some() || is_told;
        let is_over = |step: &mut Step| step.pending & ins == 0 && may_end;
        if let Some(step) = writer.step.take_if(is_over) {
            if step.pending != 0 {
                let pages = step.pages.into_iter();
                self.kept.extend(pages.map(|page| (Some(page), None)));
            }
            if let (None, Some(write)) = (failed, writer.writes.front_mut()) {
                write.done += step.len;
                if (write.parts.front()).is_none_or(|(_, bytes)| write.done >= bytes.len()) {
                    write.parts.pop_front();
                    write.done = 0;
                }
                if write.parts.is_empty() {
                    writer.ended.push_back((write.token, Ok(())));
                    writer.writes.pop_front();
                }
            }
        }
        if let (Some(fault), None) = (failed, &writer.step) {
            writer.fail(fault);
        }
    }
}
