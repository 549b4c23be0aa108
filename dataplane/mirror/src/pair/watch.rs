//! What those who watch a pair are told: alerts, the words of its states, tracepoints.

use std::time::Duration;

use events::tracepoint::{self, Name};

use super::{Action, Pair, Phase, destination, source};
use crate::alert::{Alert, AlertEvent};
use crate::commands::Role;
use crate::mirrored::Mode;

impl Phase {
    fn name(self) -> Name {
        use {destination::Step as To, source::Step as From};
        Name::new(match self {
            Self::Apart => "apart\0",
            Self::Sourceless => "sourceless\0",
            Self::Refused(_) => "refused\0",
            Self::Promoting => "promoting\0",
            Self::Source(From::Hearing) => "source_hearing\0",
            Self::Source(From::Marked) => "source_marked\0",
            Self::Source(From::Beginning) => "source_beginning\0",
            Self::Source(From::Begun) => "source_begun\0",
            Self::Source(From::Copying) => "source_copying\0",
            Self::Source(From::Copied) => "source_copied\0",
            Self::Source(From::Ending) => "source_ending\0",
            Self::Source(From::Ended) => "source_ended\0",
            Self::Source(From::InSync) => "source_in_sync\0",
            Self::Source(From::Draining) => "source_draining\0",
            Self::Source(From::Drained) => "source_drained\0",
            Self::Destination(To::Quieting) => "destination_quieting\0",
            Self::Destination(To::Telling) => "destination_telling\0",
            Self::Destination(To::Ready) => "destination_ready\0",
            Self::Destination(To::Copying) => "destination_copying\0",
            Self::Destination(To::InSync) => "destination_in_sync\0",
        })
    }
}

impl Pair {
    /// The state it is in, in a word.
    pub fn state(&self) -> &'static str {
        self.phase.name().text()
    }

    /// How long it has been in that.
    pub fn in_state(&self) -> Duration {
        self.now.saturating_sub(self.since)
    }

    /// It is in another state than before.
    pub(super) fn entered(&mut self, before: Phase) {
        tracepoint::pair_state(self.config.number.into(), self.phase.name());
        // A source that was to yield, and did not, was in sync all the while.
        let is_news = before != Phase::Source(source::Step::Draining) && before != self.phase;
        if self.is_in_sync() && is_news {
            self.alert(AlertEvent::InSync, "both nodes have the same: in sync");
        }
    }

    pub(super) fn alert(&mut self, event: AlertEvent, text: impl Into<String>) {
        self.actions.push_back(Action::Alert(Alert {
            event,
            text: text.into(),
            role: self.content.role,
            generation: self.content.standing.generation,
        }));
    }

    /// The other node is not heard, and what follows is told by nobody else.
    pub(super) fn alert_lost(&mut self) {
        let severs = matches!(self.phase, Phase::Source(step) if step.forwards());
        if severs || self.is_stopping {
            return;
        }
        let what = match (self.content.role, self.leases.is_some()) {
            _ if self.shared.mode().0 == Mode::Alone => "this one serves hosts without it",
            (Role::Destination, true) => {
                "hosts are not served here, and this one takes over when the arbiter lets it"
            }
            (Role::Destination, false) => {
                "hosts are not served here, and this one takes over if an operator promotes it"
            }
            _ => "hosts are not served here until it is",
        };
        self.alert(
            AlertEvent::PeerLost,
            format!("the other node is not heard: {what}"),
        );
    }
}
