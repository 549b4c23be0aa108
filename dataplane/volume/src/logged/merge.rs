//! What is stable goes to the cache, in the order of the log.

use std::collections::VecDeque;

use block::{Buffers, Device, VolumeId};
use collections::Slab;

use super::{Log, Logged, Merged};
use crate::cached::Cached;
use crate::change::{Change, Merging};
use crate::requester::{Ends, begin_anew};

impl<D: Device> Log<D> {
    /// Hands what is stable to the cache. What overlaps a change that is still being merged waits for it, as zeros are
    /// merged piece by piece, and deallocations when their drive has done them; what does not goes on.
    pub(super) fn merge(&mut self, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        self.take_merged(cached);
        if !self.held.is_empty() {
            self.merge_held(cached, buffers, ends);
        }
        if self.forwarding.is_used() {
            self.merge_confirmed(cached, buffers, ends);
        }
        for Logged { change, .. } in &self.stable {
            cached.prefetch(change);
        }
        while let Some(logged) = self.stable.front_mut() {
            let waits = !self.merging.is_empty()
                && waits(logged, &mut self.merging, &self.held, self.held.len());
            if !waits && cached.merge_now(&mut logged.change, buffers) {
                // Where it stands: most end here, and moving one costs as much as all this.
                let Change { requester, io, .. } = &mut logged.change;
                self.unmerged[logged.half] -= 1;
                ends.push_back((*requester, Ok(()), io.run.take()));
                self.stable.pop_front();
                begin_anew(&mut self.stable);
                continue;
            }
            let Some(logged) = self.stable.pop_front() else {
                return;
            };
            begin_anew(&mut self.stable);
            if waits || !self.may_merge(logged.change.volume, cached) {
                self.held.push_back(logged);
            } else if let Err(logged) = self.hand_over(logged, cached, buffers, ends) {
                return self.stable.push_front(logged);
            }
        }
    }

    /// What waits for the other node of a pair goes out of the way, and what waits no more goes on.
    fn merge_confirmed(&mut self, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        for _ in 0..self.stable.len() {
            let Some(logged) = self.stable.pop_front() else {
                break;
            };
            if let Some(logged) = self.forwarding.holds(logged) {
                self.stable.push_back(logged);
            }
        }
        while let Some(logged) = self.forwarding.next_released() {
            self.forwarding.mark_if_released(&logged);
            let before = self.held.len();
            let waits = waits(&logged, &mut self.merging, &self.held, before);
            let left = match waits || !self.may_merge(logged.change.volume, cached) {
                true => Err(logged),
                false => self.hand_over(logged, cached, buffers, ends),
            };
            if let Err(logged) = left {
                self.held.push_back(logged);
            }
        }
    }

    /// Those that waited go on, if what they waited for is merged.
    fn merge_held(&mut self, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        let mut still = 0;
        for _ in 0..self.held.len() {
            let Some(logged) = self.held.pop_front() else {
                return;
            };
            let waits = !self.may_merge(logged.change.volume, cached)
                || waits(&logged, &mut self.merging, &self.held, still);
            let left = match waits {
                true => Err(logged),
                false => self.hand_over(logged, cached, buffers, ends),
            };
            if let Err(logged) = left {
                self.held.push_back(logged);
                still += 1;
            }
        }
    }

    /// Whether a volume's changes that are being merged leave as many to those of others: a drive that does not answer is in
    /// nobody else's way.
    fn may_merge(&self, volume: VolumeId, cached: &Cached) -> bool {
        cached.may_take(self.merging_of[volume.index()], 1, self.merging.room())
    }

    /// Hands a change to the cache, if there is room.
    fn hand_over(
        &mut self,
        logged: Logged,
        cached: &mut Cached,
        buffers: &Buffers,
        ends: &mut Ends,
    ) -> Result<(), Logged> {
        let Logged {
            change,
            half,
            transfer,
        } = logged;
        let range = (half, change.volume, change.io.offset, change.io.end());
        let Ok(place) = self.merging.insert(range) else {
            return Err(Logged {
                change,
                half,
                transfer,
            });
        };
        self.merging_of[change.volume.index()] += 1;
        cached.merge(change, Merging { place }, buffers, ends);
        self.take_merged(cached);
        Ok(())
    }

    /// Takes note of what the cache has merged.
    fn take_merged(&mut self, cached: &mut Cached) {
        while let Some(Merging { place }) = cached.next_merged() {
            if let Some((half, volume, ..)) = self.merging.remove(place) {
                self.unmerged[half] -= 1;
                self.merging_of[volume.index()] -= 1;
            }
        }
    }
}

/// Whether a change has to wait for one that is being merged, or for one of the last `before` that wait.
fn waits(
    logged: &Logged,
    merging: &mut Slab<Merged>,
    held: &VecDeque<Logged>,
    before: usize,
) -> bool {
    let (volume, io) = (logged.change.volume, &logged.change.io);
    let (from, to) = (io.offset, io.end());
    let overlaps =
        |other: VolumeId, start: u64, end: u64| other == volume && from < end && start < to;
    let mut merging = merging.iter_mut();
    merging.any(|&mut (_, other, start, end)| overlaps(other, start, end))
        || (held.iter().rev().take(before))
            .any(|Logged { change, .. }| overlaps(change.volume, change.io.offset, change.io.end()))
}
