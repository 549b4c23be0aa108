//! A source whose log has failed can take no change, nor store what it is to know after a restart. If both nodes have the same it serves
//! hosts no more, and says so in its claims; the other one takes over, as from a source that is off, and at once.
//!
//! Nothing of this is stable at the node that failed, nor is to be: when it begins again it is a source that was not alone, which
//! serves nobody before it has heard what became of the other one. Until then it stays as it is, whatever it hears.

use super::source::Step;
use super::{Pair, Phase};
use crate::alert::AlertEvent;
use crate::commands::Role;
use crate::standing::Wholeness;

impl Pair {
    /// Hands over if this node's log has failed, and the other one is there and has the same.
    pub(super) fn look_at_log(&mut self) {
        let is_in_sync = matches!(
            self.phase,
            Phase::Source(Step::InSync | Step::Draining | Step::Drained)
        );
        let can = self.is_up && is_in_sync && !self.is_stopping && !self.severs && !self.severs_now;
        if !can || self.has_failed || !self.shared.has_failed() || self.waits_for_arbiter() {
            return;
        }
        // That it yields may be stable, though that was said to have failed: then the other one is the source, or may be.
        if self.storing.is_some() {
            return;
        }
        self.again = None;
        self.content.role = Role::Source;
        self.has_failed = true;
        let text = "this node's log has failed: the other one takes over. Mend the log's store, and start the program again";
        self.alert(AlertEvent::HandsOver, text);
        self.forget_arbiter();
        self.suspend();
    }

    /// What is to be stable cannot be. A destination whose log has failed answers what it hears all the same, and says what it has: else the
    /// source takes the link for dead again and again, and never comes to going on without it.
    pub(super) fn listen_in_vain(&mut self) {
        let is_destination = self.content.role == Role::Destination
            && matches!(self.phase, Phase::Apart | Phase::Destination(_));
        if !is_destination || !self.shared.has_failed() {
            return;
        }
        self.hear_all();
        if self.phase == Phase::Apart && self.storing.is_none() {
            self.meet();
        }
    }

    /// The nodes have met, and one of them was the source when its log failed.
    pub(super) fn decide_without_source(&mut self, role: Role) {
        if self.has_failed {
            return self.enter(Phase::Failed);
        }
        let is_whole = self.content.standing.wholeness == Wholeness::Whole;
        if role != Role::Destination || !is_whole {
            let text = "the other node's log has failed, and this one does not take over: an operator is to say which one is the source";
            self.alert(AlertEvent::NoSource, text);
            return self.enter(Phase::Sourceless);
        }
        let text = "the other node's log has failed: this one takes over";
        self.alert(AlertEvent::TakesOver, text);
        match self.leases.is_some() {
            true => {
                self.enter(Phase::TakingOver);
                self.arbitrate_now();
            }
            false => self.take_over(),
        }
    }
}
