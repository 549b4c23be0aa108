//! What stores say of a region: its superblock, with which stores have all of it.

use std::time::Duration;

use block::{Buffers, Device, Fault, Op};
use nvlog::recovery::STORES_MAX;
use nvlog::{Layout, LogId, Members, RegionSuperblock, UNIT, WAVES};
use pages::{Cluster, Fresh};
use sgl::Element;

use super::{LogStores, SUPERBLOCK, StoresEnded, bit};
use crate::logged::LogStart;
use crate::logged::store::Ended;

/// What is said beside what a consistency point says.
type State = (Members, bool);

pub(super) struct Saying {
    log: LogId,
    region: usize,
    /// What is said, or is to be.
    superblock: RegionSuperblock,
    /// What was last said, and is stable.
    told: State,
    is_due: bool,
    /// Somebody waits until it is said.
    is_awaited: bool,
    /// The copies to write first: those of which the last write may have failed, so that the other two stay.
    first: usize,
    copies: Option<Copies>,
    /// For saying something when memory is short: until then nothing is acknowledged.
    reserve: Option<Fresh>,
    is_resting: bool,
}

/// Two copies that are being written.
struct Copies {
    wave: usize,
    is_last: bool,
    state: State,
    code: u32,
    since: Duration,
    /// By store.
    left: [u8; STORES_MAX],
    has_failed: bool,
    page: Cluster,
}

fn state(superblock: &RegionSuperblock) -> State {
    (superblock.members, superblock.is_closed)
}

impl Saying {
    pub(super) fn new(start: &LogStart, region: usize) -> Self {
        let superblock = start.regions[region];
        Self {
            log: start.log,
            region,
            superblock,
            told: state(&superblock),
            is_due: false,
            is_awaited: false,
            first: 0,
            copies: None,
            reserve: None,
            is_resting: false,
        }
    }

    /// Whether what stores say is how it is.
    pub(super) fn is_told(&self) -> bool {
        let wanted = state(&self.superblock);
        let is_said = |copies: &Copies| copies.state == wanted;
        self.told == wanted && self.copies.as_ref().is_none_or(is_said)
    }

    pub(super) fn is_due(&self) -> bool {
        self.is_due && self.copies.is_none()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.is_due || self.copies.is_some()
    }

    /// Since when copies are being written, and by which stores.
    pub(super) fn pending(&self) -> Option<(Duration, u8)> {
        let copies = self.copies.as_ref()?;
        let left = copies.left.iter().enumerate();
        let pending = left.filter(|&(_, &left)| left > 0);
        Some((
            copies.since,
            pending.fold(0, |sum, (place, _)| sum | bit(place)),
        ))
    }

    /// The store that is this one of the log's is the only one left.
    pub(super) fn is_alone(&mut self, member: Option<u8>) {
        if let Some(member) = member {
            self.superblock.members = Members::only(member);
            self.superblock.is_closed = false;
            self.is_due = true;
        }
    }

    /// The region is empty, and the program stops. One store alone has no need to say so.
    pub(super) fn close(&mut self) {
        if self.superblock.members == Members::BOTH && !self.superblock.is_closed {
            self.superblock.is_closed = true;
            self.is_due = true;
        }
        self.rest();
    }

    /// Something is logged.
    pub(super) fn reopen(&mut self) {
        if self.superblock.is_closed {
            self.superblock.is_closed = false;
            self.is_due = true;
        }
    }

    pub(super) fn rest(&mut self) {
        self.is_resting = true;
    }

    /// Holds a page as long as it may be that a store has to say that it is alone.
    pub(super) fn reserve(&mut self, is_pair: bool, buffers: &Buffers) {
        let is_needed = is_pair && !self.is_resting || self.is_due;
        match self.reserve {
            None if is_pair && is_needed => self.reserve = buffers.pages.alloc(),
            Some(_) if !is_needed => self.reserve = None,
            _ => {}
        }
    }
}

impl<D: Device> LogStores<D> {
    /// Says this of the region, on all stores that are in; its end comes as that of [`SUPERBLOCK`].
    pub(in crate::logged) fn say(&mut self, superblock: RegionSuperblock) {
        if let Some(saying) = &mut self.saying {
            let (members, is_closed) = state(&saying.superblock);
            // What was said meanwhile that no consistency point knows of counts, too.
            let generation = saying.superblock.generation;
            saying.superblock = RegionSuperblock {
                generation,
                members,
                is_closed,
                ..superblock
            };
            (saying.is_due, saying.is_awaited) = (true, true);
        }
    }

    /// Begins to say what is due.
    pub(super) fn begin_copies(&mut self, buffers: &Buffers) {
        let (code, since) = (self.code(SUPERBLOCK), self.now);
        let Some(saying) = &mut self.saying else {
            return;
        };
        let fresh = buffers.pages.alloc().or_else(|| saying.reserve.take());
        let Some(mut fresh) = fresh else {
            return;
        };
        saying.superblock.generation += 1;
        let bytes = saying.superblock.encode(saying.log, saying.region);
        fresh[..bytes.len()].copy_from_slice(&bytes);
        fresh[bytes.len()..UNIT as usize].fill(0);
        saying.is_due = false;
        saying.copies = Some(Copies {
            wave: saying.first,
            is_last: false,
            state: state(&saying.superblock),
            code,
            since,
            left: [0; STORES_MAX],
            has_failed: false,
            page: fresh.freeze_filled(UNIT as usize),
        });
        self.write_copies();
    }

    /// Writes two copies to each store that is in.
    fn write_copies(&mut self) {
        let Some(Saying {
            copies: Some(copies),
            region,
            ..
        }) = &mut self.saying
        else {
            return;
        };
        let address = copies.page.address().as_ptr() as u64;
        for (place, side) in self.sides.iter_mut().enumerate() {
            let Some(side) = side.as_mut().filter(|side| side.is_in) else {
                continue;
            };
            let len = side.begun.as_ref().map_or(0, |begun| begun.len);
            for copy in WAVES[copies.wave] {
                copies.left[place] += 1;
                let at = Layout::region_superblock(len, *region, copy);
                let mut elements = self.spare.pop().unwrap_or_default();
                elements.push(Element::new(address, UNIT));
                (side.store).start(copies.code, Op::Write, at, UNIT, elements);
            }
        }
    }

    /// A copy is stable on a store, or not.
    pub(super) fn copy_ended(&mut self, place: usize, ended: Ended) {
        self.spare.push(ended.elements);
        let Some(saying) = &mut self.saying else {
            return;
        };
        let copies = saying.copies.as_mut();
        let Some(copies) = copies.filter(|copies| copies.code == ended.ticket) else {
            return;
        };
        copies.left[place] -= 1;
        match ended.result {
            Ok(()) => self.settle_copies(),
            Err(fault) => {
                copies.has_failed = true;
                saying.first = copies.wave;
                self.lose(place, fault, "failed to write a superblock");
            }
        }
    }

    /// Goes on when all stores that are in have two copies.
    pub(super) fn settle_copies(&mut self) {
        let ins = self.ins();
        let (code, since) = (self.code(SUPERBLOCK), self.now);
        let Some(saying) = &mut self.saying else {
            return;
        };
        let Some(copies) = &mut saying.copies else {
            return;
        };
        let mut left = copies.left.iter().enumerate();
        if left.any(|(place, &left)| left > 0 && ins & bit(place) != 0) {
            return;
        }
        let result = if saying.is_due {
            // Something else is said now.
            None
        } else if copies.has_failed {
            Some(Err(self.failed.unwrap_or(Fault::Internal)))
        } else if !copies.is_last {
            (copies.wave, copies.is_last) = (1 - copies.wave, true);
            (copies.code, copies.since) = (code, since);
            return self.write_copies();
        } else {
            saying.told = copies.state;
            Some(Ok(()))
        };
        if copies.left != [0; STORES_MAX] {
            self.kept.push((Some(copies.page.clone()), None));
        }
        saying.copies = None;
        if let Some(result) = result
            && std::mem::take(&mut saying.is_awaited)
        {
            self.ended.push_back(StoresEnded {
                ticket: SUPERBLOCK,
                result,
                elements: Vec::new(),
                is_kept: false,
            });
        }
        self.settle();
    }
}
