//! Writers are slowed as a half fills while the other one is not free: they go on as fast as the consistency point
//! does, and meet no wall at the end of the half (row S6). Changes that wait keep the clusters that they
//! came in, so that their hosts get less R2T credit and TCP less window.

use std::time::Duration;

use block::Device;
use mutant::mutant;

use super::{FULL_MAX, Log};
use crate::cached::Cached;
use crate::change::Change;

/// Changes go at full speed until this part of a half is used.
const AT_ONCE: u64 = 4;

/// Of what a node has as a source, this part of a half at most waits for the other node, where it is a destination, too.
const UNCONFIRMED: u64 = 4;
/// And this part of a half is its own at most, while the other half is in use.
const OWN: u64 = 2;

/// How far a consistency point is: changes or flushes that it waits for, and the pages that the drives of those were given.
pub(super) type Progress = (usize, u64);

/// A consistency point, as seen by those who wait for it.
#[derive(Default)]
pub(super) struct Pace {
    /// When it left its half.
    began: Duration,
    /// Pages that its drives were to be given, once that is known, and how many they had been given before.
    pages: Option<(u64, u64)>,
    /// Changes wait for it.
    waits: bool,
    /// Some drive has failed it: it is tried again and again.
    has_failed: bool,
    /// How far it was, and when that last changed.
    got_on: (Progress, Duration),
}

impl Pace {
    /// One begins: groups go to the other half from now on.
    pub(super) fn began(&mut self, now: Duration) {
        *self = Self {
            began: now,
            ..Self::default()
        };
    }

    /// A drive has failed it.
    pub(super) fn failed(&mut self) {
        self.has_failed = true;
    }

    /// Whether nobody should wait for it: for as long as changes wait for a half that is full, it got no further, or a
    /// drive has failed it. What drives are given that it does not wait for is no matter.
    pub(super) fn is_stuck(&mut self, now: Duration, progress: Progress) -> bool {
        if progress != self.got_on.0 {
            self.got_on = (progress, now);
        }
        let since = match self.has_failed {
            true => self.began,
            false => self.began.max(self.got_on.1),
        };
        now >= since + FULL_MAX
    }

    /// When it began.
    pub(super) fn since(&self) -> Duration {
        self.began
    }

    /// Its drives are about to be given what is dirty.
    pub(super) fn flushes(&mut self, cached: &Cached) {
        let dirty = cached.dirty_of_logged() as u64;
        self.pages = Some((dirty, cached.drained().awaited_pages));
    }

    /// Bytes of a half of `size` that may be used by now: all of it when drives have all, or when it has gone
    /// on for as long as changes wait for a full one.
    fn allowed(&self, size: u64, now: Duration, cached: &Cached) -> u64 {
        let at_once = size / AT_ONCE;
        let part = |done: u64, all: u64| (size - at_once).min((size - at_once) / all.max(1) * done);
        let elapsed = now.saturating_sub(self.began);
        let by_time = part(elapsed.as_millis() as u64, FULL_MAX.as_millis() as u64);
        let by_pages = self.pages.map_or(0, |(pages, before)| {
            part(cached.drained().awaited_pages - before, pages)
        });
        at_once + by_time.max(by_pages)
    }
}

impl<D: Device> Log<D> {
    /// Whether changes of this node's hosts wait.
    pub(super) fn holds_own(&mut self, cached: &Cached) -> bool {
        cached
            .first_change()
            .is_some_and(|first| self.leaves_no_room(first, 0))
            || self.is_paced(cached)
    }

    /// Whether a change, behind `payload` bytes of its group, would take room that changes of another node are to have. A half is not
    /// free before the other node has all that is in it, and that may wait for the same here: so of equal halves two or three nodes
    /// never wait for each other in a circle.
    pub(super) fn leaves_no_room(&self, change: &Change, payload: u64) -> bool {
        let is_own = !change.io.flags.forwarded && !mutant!("pair-links-own-first");
        if !is_own || !self.forwarding.is_both() {
            return false;
        }
        let (used, size) = self.region.fill();
        let len = change.io.len;
        let unconfirmed = self.forwarding.unconfirmed_bytes();
        let own = (size / OWN).min(size.saturating_sub(2 * self.forwarding.longest()));
        unconfirmed > 0 && unconfirmed + len > size / UNCONFIRMED
            || !self.region.can_switch_later() && used + payload + len > own
    }

    /// Whether changes wait, so that the half lasts for as long as the consistency point takes.
    pub(super) fn is_paced(&mut self, cached: &Cached) -> bool {
        let (used, size) = self.region.fill();
        // What is full is not for this one to hold.
        let may_hold = !self.region.can_switch() && !self.is_stopping && used < size;
        let is_held = may_hold && used >= self.pace.allowed(size, self.now, cached);
        if is_held && !self.pace.waits {
            self.counters.paced += 1;
        }
        self.pace.waits = is_held;
        is_held
    }
}
