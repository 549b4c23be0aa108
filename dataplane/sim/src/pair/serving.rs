//! Which node serves each volume, what nodes ask the arbiter, and what the operator does.

use std::collections::HashSet;

use super::World;
use crate::arbiter::Run;
use crate::clock::{self, Nanoseconds};
use crate::oracle::{OpId, Violation};
use crate::trace::event;

/// Which node serves a volume.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Serving {
    /// It.
    pub(super) by: Option<usize>,
    /// Since when.
    pub(super) since: Nanoseconds,
    /// Which one hosts used last.
    used: Option<usize>,
    /// Since when none does.
    idle_since: Nanoseconds,
}

impl World {
    /// Hosts use the one that serves, as their paths tell them, sooner or later.
    pub(super) fn look_who_serves(&mut self) -> Result<(), Violation> {
        for volume in 0..self.serving.len() {
            let nodes = self.shape.nodes[volume];
            let serves = nodes.map(|at| self.appliances[at].serves(volume));
            if serves == [true, true] && !self.is_split {
                return Err(Violation(format!("both nodes serve volume {volume}")));
            }
            let by = nodes.into_iter().zip(serves);
            let by = by.filter(|&(_, serves)| serves).map(|(at, _)| at).next();
            let before = self.serving[volume];
            if by.is_none() && before.by.is_some() {
                self.serving[volume].idle_since = clock::now();
            }
            if by.is_some() && by != before.by {
                event!(
                    self.trace,
                    "serves",
                    [volume, by.unwrap_or(9)],
                    "volume {volume}: {by:?}"
                );
                self.disturb();
            }
            if let Some(at) = by
                && by != before.used
            {
                // What was under way at the other one is over: it was killed, or refuses it. What hosts gave this one before it
                // served, it may do yet: it has waited for data.
                if before.used.is_some() {
                    let there = self.given_to(|node| node == at);
                    self.oracle.settle_volume(volume, &there);
                }
                self.serving[volume].used = by;
            }
            if by.is_none() {
                self.disturb();
            }
            if by != before.by {
                (self.serving[volume].by, self.serving[volume].since) = (by, clock::now());
            }
        }
        Ok(())
    }

    /// What hosts have given to some of the nodes.
    pub(super) fn given_to(&self, is_it: impl Fn(usize) -> bool) -> HashSet<OpId> {
        let nodes = (0..self.appliances.len()).filter(|&node| is_it(node));
        nodes
            .flat_map(|node| self.hosts.iter().flat_map(move |host| host.given_to(node)))
            .collect()
    }

    /// Volumes of a node that nobody serves.
    pub(super) fn unserved_of(&self, at: usize) -> Vec<usize> {
        let volumes = self.serving.iter().zip(&self.shape.nodes).enumerate();
        let those =
            volumes.filter(|(_, (serving, nodes))| serving.by.is_none() && nodes.contains(&at));
        those.map(|(volume, _)| volume).collect()
    }

    /// What nodes ask the arbiter, and what it tells them.
    pub(super) fn arbitrate(&mut self) {
        let Some(arbiter) = &mut self.arbiter else {
            return;
        };
        for (node, appliance) in self.appliances.iter_mut().enumerate() {
            let Some(run) = appliance.run_number() else {
                continue;
            };
            if appliance.paused_until().is_some() {
                continue;
            }
            let from = Run { node, run };
            arbiter.renew(from);
            while let Some((of, question)) = appliance.next_question() {
                event!(self.trace, "asks", [node], "node {node}: {question:?}");
                arbiter.ask(from, of, question);
            }
        }
        while let Some((to, told)) = arbiter.next() {
            if let Some(until) = self.appliances[to.node].paused_until() {
                arbiter.put_off(until, to, told);
            } else if self.appliances[to.node].run_number() == Some(to.run) {
                event!(self.trace, "told", [to.node], "node {}: {told:?}", to.node);
                self.appliances[to.node].told(told);
            }
        }
    }

    /// When none serves a volume for a while and one of its nodes is off, the operator says that the other one is the source, if
    /// that one has all that was acknowledged.
    pub(super) fn operate(&mut self) {
        if self.events.is_empty() {
            (0..self.appliances.len()).for_each(|at| self.reestablish(at));
        }
        for volume in 0..self.serving.len() {
            let serving = &self.serving[volume];
            if serving.by.is_some() || clock::now() < serving.idle_since + self.operator {
                continue;
            }
            let [a, b] = self.shape.nodes[volume];
            for (at, other) in [(a, b), (b, a)] {
                let other = &mut self.appliances[other];
                let is_blank = other.is_blank(volume);
                // Whatever an arbiter says: what it means is gone.
                if self.arbiter.is_some() && !is_blank {
                    continue;
                }
                let is_known = is_blank || !other.is_running() && !other.had_gone_alone(volume);
                let it = &mut self.appliances[at];
                if is_known && it.is_serving() && it.promote(volume, is_blank) {
                    event!(
                        self.trace,
                        "promote",
                        [volume, at],
                        "appliance {at}, volume {volume}"
                    );
                    self.serving[volume].idle_since = clock::now();
                }
            }
        }
    }
}
