//! What is offered changes while the appliance runs, and comes back.

use block::WritePolicy;
use testkit::Random;

use super::{Event, Plan};
use crate::clock::{MILLISECOND, Nanoseconds};

/// A change of what the appliance offers. Each that takes something away is followed by the
/// one that gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfferChange {
    RemoveNamespace {
        volume: usize,
    },
    AddNamespace {
        volume: usize,
        policy: WritePolicy,
    },
    RemoveSubsystem,
    AddSubsystem,
    /// Controllers of this host end, and it may connect no more; others may.
    RefuseHost {
        host: usize,
    },
    AllowHosts,
    RemoveListener,
    AddListener,
}

impl OfferChange {
    /// Whether connections survive it.
    pub(crate) fn keeps_connections(self) -> bool {
        use OfferChange::*;
        matches!(self, RemoveNamespace { .. } | AddNamespace { .. })
    }
}

impl Plan {
    /// Draws changes for some plans. They are drawn apart, so that plans without any are what they would be if there
    /// were none.
    pub(crate) fn draw_changes(&mut self, random: &mut Random) {
        if !random.chance(1, 4) {
            return;
        }
        let mut last = 0;
        for _ in 0..random.range(1..=4u32) {
            let at = random.below(self.active);
            let most = *random.pick(&[5u64, 100, 1000]);
            let until = at + random.range(1..=most) * MILLISECOND;
            self.draw_change(random, at, until);
            last = last.max(until);
        }
        self.events.sort_by_key(|&(at, _)| at);
        self.healed_at = self.healed_at.max(last);
    }

    fn draw_change(&mut self, random: &mut Random, at: Nanoseconds, until: Nanoseconds) {
        let volume = random.below(self.volumes.len());
        let host = random.below(self.hosts.len());
        let (takes, gives) = match random.below(8u32) {
            0..=4 => {
                let policy = self.draw_policy(random, volume);
                (
                    OfferChange::RemoveNamespace { volume },
                    OfferChange::AddNamespace { volume, policy },
                )
            }
            5 => (OfferChange::RemoveSubsystem, OfferChange::AddSubsystem),
            6 => (OfferChange::RefuseHost { host }, OfferChange::AllowHosts),
            _ => (OfferChange::RemoveListener, OfferChange::AddListener),
        };
        self.events.push((at, Event::Offer(takes)));
        self.events.push((until, Event::Offer(gives)));
    }

    /// How a namespace comes back: most often as it was.
    fn draw_policy(&mut self, random: &mut Random, volume: usize) -> WritePolicy {
        let plan = &mut self.volumes[volume];
        let policy = *random.pick(&[WritePolicy::Through, WritePolicy::Back]);
        // Blocks smaller than the device's are completed in the cache.
        let fits = plan.block >= plan.disk.geometry.block_size || policy == WritePolicy::Back;
        if !fits || random.chance(1, 2) {
            return plan.policy;
        }
        plan.later.push(policy);
        policy
    }
}
