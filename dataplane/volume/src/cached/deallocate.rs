//! Deallocations of logged volumes (NVM 3.2.3): a record like others, and done by the drive when that is stable.
//!
//! They are advice. It is taken of drives whose deallocated blocks read as zeros, so that a replay, in which the drive does
//! it once more, ends as the run did. Of others nothing is done, and nothing logged. A drive that fails one may have done
//! any part of it: a record that writes zeros to all of the range follows, and the drive is not asked again for a while.

use std::ops::Range;
use std::time::Duration;

use block::{Fault, Flags, Geometry, Io, VolumeId};
use collections::Slab;
use mutant::mutant;

use super::{Cached, Logging};
use crate::change::Change;
use crate::requester::{Ends, Requester};
use crate::sizes::Sizes;

/// The longest that a deallocation goes on: less than hosts wait. The drive keeps what is left of the range then.
pub(crate) const LONGEST: Duration = Duration::from_secs(5);

/// What drives are asked to deallocate.
pub(super) struct Deallocating {
    /// When each volume's drive may be asked; `None`, never.
    from: Box<[Option<Duration>]>,
    /// Volumes of which another node has a replica: what their drive would leave as it is, the other one's may not.
    mirrored: Box<[bool]>,
    /// Bytes of one record at most.
    most: u64,
    /// How long a drive that has failed one is not asked for another.
    rest: Duration,
    wholes: Slab<Whole>,
    now: Duration,
}

/// A request that takes records one after the other.
struct Whole {
    requester: Requester,
    volume: VolumeId,
    /// What was not asked for yet.
    rest: Range<u64>,
    until: Duration,
}

impl Deallocating {
    pub(super) fn new(volumes: usize, requests: usize, sizes: &Sizes) -> Self {
        Self {
            from: (0..volumes).map(|_| None).collect(),
            mirrored: (0..volumes).map(|_| false).collect(),
            most: sizes.deallocated_max,
            rest: sizes.deallocation_rest,
            wholes: Slab::new(requests),
            now: Duration::ZERO,
        }
    }

    /// Takes note of what the volume's drive can do.
    pub(super) fn look(&mut self, volume: VolumeId, geometry: &Geometry) {
        let can = geometry.unmap && geometry.deallocated_zeros;
        let from = &mut self.from[volume.index()];
        *from = can.then(|| from.unwrap_or_default());
    }

    /// Requests that take more than one record.
    pub(super) fn in_progress(&self) -> usize {
        self.wholes.len()
    }
}

impl Cached {
    /// The time, as of the last poll.
    pub(crate) fn set_now(&mut self, now: Duration) {
        self.deallocating.now = now;
    }

    /// Whether a volume's drive is asked to deallocate.
    pub(crate) fn deallocates(&self, volume: VolumeId) -> bool {
        let from = self.deallocating.from[volume.index()];
        let may = from.is_some_and(|from| self.deallocating.now >= from);
        may && !self.deallocating.mirrored[volume.index()]
            && self.logged[volume.index()] == Logging::Yes
    }

    /// The volume's drive is not asked to deallocate any more, as another node has a replica of it.
    pub(crate) fn set_mirrored(&mut self, volume: VolumeId) {
        self.deallocating.mirrored[volume.index()] = true;
    }

    /// Takes a deallocation of a logged volume.
    pub(super) fn start_deallocation(
        &mut self,
        requester: Requester,
        volume: VolumeId,
        io: &Io,
        ends: &mut Ends,
    ) {
        if !self.deallocates(volume) || io.len == 0 {
            return ends.push_back((requester, Ok(()), None));
        }
        if io.len <= self.deallocating.most {
            return self.log_deallocation(requester, volume, io.offset..io.end());
        }
        let whole = Whole {
            requester,
            volume,
            rest: io.offset..io.end(),
            until: self.deallocating.now + LONGEST,
        };
        match self.deallocating.wholes.insert(whole) {
            Ok(id) => self.go_on_with(id, ends),
            Err(whole) => ends.push_back((whole.requester, Err(Fault::Busy), None)),
        }
    }

    fn log_deallocation(&mut self, requester: Requester, volume: VolumeId, range: Range<u64>) {
        self.changes.push_back(Change {
            requester,
            volume,
            io: Io::deallocate(range.start, range.end - range.start),
        });
    }

    /// A record of a request that takes several is at its end.
    pub(crate) fn piece_ended(&mut self, id: u32, result: Result<(), Fault>, ends: &mut Ends) {
        match result {
            Ok(()) => self.go_on_with(id, ends),
            Err(_) => self.end_whole(id, result, ends),
        }
    }

    /// The next record, if there is to be one.
    fn go_on_with(&mut self, id: u32, ends: &mut Ends) {
        let (now, most) = (self.deallocating.now, self.deallocating.most);
        let Some(whole) = self.deallocating.wholes.get_mut(id) else {
            return;
        };
        let (volume, rest) = (whole.volume, whole.rest.clone());
        let is_late = now >= whole.until;
        let end = rest.end.min(rest.start + most);
        whole.rest.start = end;
        if rest.is_empty() || is_late || !self.deallocates(volume) {
            return self.end_whole(id, Ok(()), ends);
        }
        self.log_deallocation(Requester::Piece(id), volume, rest.start..end);
    }

    fn end_whole(&mut self, id: u32, result: Result<(), Fault>, ends: &mut Ends) {
        if let Some(whole) = self.deallocating.wholes.remove(id) {
            ends.push_back((whole.requester, result, None));
        }
    }

    /// The drive has done it, or failed to.
    pub(super) fn deallocated(
        &mut self,
        requester: Requester,
        volume: VolumeId,
        range: Range<u64>,
        result: Result<(), Fault>,
        ends: &mut Ends,
    ) {
        let len = range.end - range.start;
        let Err(fault) = result else {
            self.drained.deallocated += len;
            return ends.push_back((requester, Ok(()), None));
        };
        self.drained.undone += 1;
        let deallocating = &mut self.deallocating;
        log::warn!(
            "a drive failed to deallocate {len} bytes: {fault}. Zeros are written instead, and it is asked for no other within {:?}",
            deallocating.rest
        );
        deallocating.from[volume.index()] = Some(deallocating.now + deallocating.rest);
        if mutant!("log-deallocation-failed-kept") {
            return ends.push_back((requester, Ok(()), None));
        }
        // Of the host's it can be aborted no more: the drive may have done some of it.
        let requester = match requester {
            Requester::Door(_) => {
                let whole = Whole {
                    requester,
                    volume,
                    rest: range.end..range.end,
                    until: deallocating.now,
                };
                (deallocating.wholes.insert(whole))
                    .map_or_else(|whole| whole.requester, Requester::Piece)
            }
            other => other,
        };
        let io = Io::write_zeroes(range.start, len, Flags::NONE);
        self.changes.push_back(Change {
            requester,
            volume,
            io,
        });
    }
}
