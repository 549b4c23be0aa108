//! When what a destination has may be read, for a backup: it is a state of the volume, and out of date.
//!
//! It is as long as nothing is let in that changes it: while an operator has severed the pair, and after the other node has not been
//! heard for [`AFTER`]. What it has then is what hosts were told is there at that time, and perhaps more of what was under way.
//! [`Mirrored`](crate::Mirrored) ends it by itself before anything may be changed.

use std::time::Duration;

use super::{Pair, Phase};
use crate::commands::Role;
use crate::standing::Wholeness;

/// How long the nodes have been without each other before that: one that starts again, or a link that is mended, is none of
/// a backup's business.
const AFTER: Duration = Duration::from_secs(10);

impl Pair {
    /// Lets what this node has be read, or not any more.
    pub(super) fn keep_backup(&mut self) {
        let waits = matches!(
            self.phase,
            Phase::Apart | Phase::Sourceless | Phase::Refused(_) | Phase::Destination(_)
        );
        let unheard = self.unheard.unwrap_or(self.now);
        self.unheard = (waits && !self.is_up).then_some(unheard);
        let is_outage = self.unheard.is_some() && self.now >= unheard + AFTER;
        let is_state = self.content.role == Role::Destination
            && self.content.standing.wholeness == Wholeness::Whole
            && self.storing.is_none();
        if is_outage && is_state && matches!(self.phase, Phase::Destination(_)) {
            // The other one gave this one up long ago: nothing of their meeting is let in any more.
            self.begin_anew();
        }
        let is_left_alone = match self.phase {
            Phase::Severed => true,
            Phase::Apart => is_outage || self.content.severed.is_some(),
            Phase::Sourceless | Phase::Refused(_) => is_outage,
            Phase::Source(_)
            | Phase::Destination(_)
            | Phase::Promoting
            | Phase::TakingOver
            | Phase::Failed
            | Phase::Discarding => false,
        };
        match is_state && is_left_alone {
            true => self.shared.begin_backup(),
            false => self.shared.end_backup(),
        }
    }
}
