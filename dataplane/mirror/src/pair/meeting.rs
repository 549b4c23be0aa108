//! What two nodes that have met agree on: which one is the source, and what is copied.

use super::{Pair, Phase, source};
use crate::alert::AlertEvent;
use crate::commands::{Meeting, Role};
use crate::standing::{Claim, Refused, Verdict, Which, Wholeness, meet};

impl Pair {
    pub(super) fn decide(&mut self, claim: &Claim, role: Role, theirs: &Meeting) {
        self.verdict = meet(claim, &theirs.claim);
        if self.has_failed || self.verdict == Verdict::InSync && theirs.has_failed {
            return self.decide_without_source(role);
        }
        let source = match self.verdict {
            Verdict::Refused(refused) => {
                return self.leave_as_they_are(refused);
            }
            Verdict::CopyChanged { source } | Verdict::CopyAll { source } => source,
            Verdict::InSync if role == theirs.role && role == Role::Source => {
                return self.leave_as_they_are(Refused::SplitBrain);
            }
            Verdict::InSync => match (role, theirs.role) {
                (Role::Source, _) | (Role::Destination, Role::Yielding) => Which::First,
                _ => Which::Second,
            },
        };
        let (roles, is_mine) = match source {
            Which::First => ((role, theirs.role), true),
            Which::Second => ((theirs.role, role), false),
        };
        let is_given =
            self.verdict == Verdict::InSync && roles == (Role::Destination, Role::Yielding);
        // The one that was to be the source has given up what it had.
        let is_left = roles == (Role::Yielding, Role::Destination)
            && [claim.wholeness, theirs.claim.wholeness].contains(&Wholeness::Blank);
        if roles.0 != Role::Source && !is_given && !is_left {
            self.alert(
                AlertEvent::NoSource,
                "neither replica that is whole is the source: an operator is to say which one is",
            );
            return self.enter(Phase::Sourceless);
        }
        let severed = match is_mine {
            true => self.severed_at(role),
            false => theirs.severed,
        };
        if severed != 0 {
            return self.stays_severed(is_mine, severed);
        }
        match is_mine {
            true => self.enter(Phase::Source(source::Step::Hearing)),
            false => self.become_destination(),
        }
    }

    /// Nothing is overwritten.
    pub(super) fn leave_as_they_are(&mut self, refused: Refused) {
        let text = format!("the two replicas are not made alike: {refused}");
        self.alert(refused.into(), text);
        self.enter(Phase::Refused(refused));
    }
}
