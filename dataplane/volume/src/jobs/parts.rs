//! Jobs of volumes that lie on several devices (row R8): a job is at one of them at a time. It is divided
//! at their borders, and goes on with the next device when the one before has done its part, so that each
//! device has its own queue, its own patience and its own faults.

use std::ops::Range;

use block::{Buffers, Device, DeviceState, Geometry, Io, Op, Span, VolumeId};
use mutant::mutant;
use pages::PAGE_SIZE;
use sgl::RequestState;

use super::{Follows, Job, Jobs, Stop};

/// What a job is part of.
#[derive(Clone, Debug, Default)]
pub(super) struct Whole {
    /// The volume, by its place among those that lie on several devices.
    span: usize,
    /// Bytes of the request.
    range: Range<u64>,
    /// Where its rest begins; of a flush: the place of the next device.
    rest: u64,
}

impl Whole {
    /// Whether nothing before the part under way was at a device.
    pub(super) fn is_at_first<T>(&self, job: &Job<T>) -> bool {
        match job.op {
            Op::Flush => self.rest == 1,
            _ => self.rest == self.range.start + job.state.len(),
        }
    }
}

/// What a device is to do of a request.
struct Piece {
    volume: VolumeId,
    offset: u64,
    len: u64,
    /// Byte of the request that it begins with.
    at: u64,
    is_followed: bool,
}

/// The next piece of a request.
fn piece(span: &Span, whole: &mut Whole, op: Op) -> Piece {
    if op == Op::Flush {
        let place = whole.rest as usize;
        whole.rest += 1;
        let mut volumes = span.volumes().skip(place);
        let volume = volumes.next().unwrap_or(span.last());
        return Piece {
            volume,
            offset: 0,
            len: 0,
            at: 0,
            is_followed: volumes.len() > 0 && !mutant!("span-flush-of-one"),
        };
    }
    let mut part = span.part(whole.rest..whole.range.end);
    if mutant!("span-border-ignored") {
        (part.range.end, part.is_followed) = (whole.range.end, false);
    }
    let at = whole.rest - whole.range.start;
    whole.rest = part.range.end;
    Piece {
        volume: part.volume,
        offset: part.offset,
        len: part.range.end - part.range.start,
        at,
        is_followed: part.is_followed,
    }
}

impl<D: Device, T> Jobs<D, T> {
    /// Where a volume lies that is on several devices.
    fn span(&self, volume: VolumeId) -> &Span {
        &self.spans[volume.index() - self.backings.len()]
    }

    /// What a volume is and takes that lies on several devices.
    #[cold]
    pub(super) fn geometry_of_span(&self, volume: VolumeId) -> &Geometry {
        self.span(volume).geometry()
    }

    /// How volumes do that lie on several devices: as the one of those that is worst off.
    pub(super) fn states_of_spans(&self) -> impl Iterator<Item = DeviceState> {
        let state_of = |volume: VolumeId| self.backings[volume.index()].state();
        let worst = move |span: &Span| span.volumes().map(state_of).max();
        self.spans
            .iter()
            .map(move |span| worst(span).unwrap_or_default())
    }

    /// Whether all devices went away for good that a range lies on.
    pub(super) fn is_gone_of_span(&self, volume: VolumeId, range: Range<u64>) -> bool {
        let is_gone = |volume: VolumeId| self.backings[volume.index()].device.is_gone();
        self.span(volume).devices_of(range).all(is_gone)
    }

    /// The blocks of a volume that lies on several devices, if that is not what they were: the last has
    /// become larger, or smaller.
    pub(super) fn resized_span(&self, span: &Span) -> Option<u64> {
        let last = &self.backings[span.last().index()].device;
        let blocks = (!last.is_gone()).then(|| span.blocks_with(last.geometry().blocks));
        blocks.filter(|&blocks| blocks != span.geometry().blocks)
    }

    /// Takes the size of the last device as it is now.
    pub(super) fn resize_span(&mut self, volume: VolumeId) -> Geometry {
        let span = &mut self.spans[volume.index() - self.backings.len()];
        let last = self.backings[span.last().index()].device.geometry();
        span.resize(last.blocks);
        *span.geometry()
    }

    /// Starts a job of a volume that lies on several devices.
    pub(super) fn start_in_parts(
        &mut self,
        ticket: T,
        volume: VolumeId,
        io: Io,
        buffers: &Buffers,
    ) {
        let place = volume.index() - self.backings.len();
        let mut whole = Whole {
            span: place,
            range: io.offset..io.offset + io.len,
            rest: match io.op {
                Op::Flush => 0,
                _ => io.offset,
            },
        };
        let first = piece(&self.spans[place], &mut whole, io.op);
        let geometry = &self.backings[first.volume.index()].geometry;
        let fua = io.flags.fua;
        let io = Io {
            offset: first.offset,
            len: first.len,
            ..io
        };
        let mut job = Job::new(ticket, first.volume, geometry, io, self.now);
        job.in_parts = Some(fua);
        if first.is_followed {
            job.follows.add(Follows::PART);
        }
        let index = self.insert(job);
        self.wholes[index as usize] = whole;
        self.begin(index, first.volume, buffers);
    }

    /// A device has done its part of a job: it goes to the next one, with what it has.
    #[cold]
    pub(super) fn next_part(&mut self, index: u32, buffers: &Buffers) -> Result<bool, Stop> {
        let Some(job) = self.jobs.get_mut(index) else {
            return Ok(false);
        };
        let fua = job.in_parts.unwrap_or_default();
        let whole = &mut self.wholes[index as usize];
        let next = piece(&self.spans[whole.span], whole, job.op);
        // Borders are those of pages.
        let first = whole.range.start / PAGE_SIZE as u64;
        let page = (whole.range.start + next.at) / PAGE_SIZE as u64 - first;
        self.backings[job.volume.index()].pages -= job.pages;
        let backing = &mut self.backings[next.volume.index()];
        backing.pages += job.pages;
        let len = super::len_at(job.op, next.len, &backing.geometry);
        job.volume = next.volume;
        job.state = RequestState::from_page(page as u32, next.offset, len);
        job.follows = Follows::of(job.op, fua, &backing.geometry);
        if next.is_followed {
            job.follows.add(Follows::PART);
        }
        job.since = self.now;
        job.is_refused = false;
        self.prepare(index, buffers)?;
        Ok(true)
    }
}
