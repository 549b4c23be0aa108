//! Writers are slowed as a half fills while the other one is not free: they go on as fast as the consistency point
//! does, and meet no wall at the end of the half (row S6). Changes that wait keep the clusters that they
//! came in, so that their hosts get less R2T credit and TCP less window.

use std::time::Duration;

use block::Device;

use super::{FULL_MAX, Log};
use crate::cached::Cached;

/// Changes go at full speed until this part of a half is used.
const AT_ONCE: u64 = 4;

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
