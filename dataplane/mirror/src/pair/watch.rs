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
            Self::Severed => "severed\0",
            Self::Discarding => "discarding\0",
            Self::Failed => "failed\0",
            Self::TakingOver => "taking_over\0",
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
    /// How it stands, for an operator.
    pub fn describe(&self) -> String {
        let role = match self.content.role {
            Role::Source => "source",
            Role::Destination => "destination",
            Role::Yielding => "source that yields",
        };
        let phase = match self.phase {
            Phase::Apart => "apart".into(),
            Phase::Sourceless => "waits for an operator to say which one is the source".into(),
            Phase::Refused(refused) => refused.to_string(),
            Phase::Source(step) => format!("source, {step:?}"),
            Phase::Destination(step) => format!("destination, {step:?}"),
            Phase::Promoting => "is about to be the source".into(),
            Phase::Severed => "severed".into(),
            Phase::Discarding => "gives up what it has".into(),
            Phase::Failed => "its log has failed: the other node takes over".into(),
            Phase::TakingOver => "takes over when the arbiter has taken note".into(),
        };
        let (generation, changed) = (self.content.standing.generation, self.shared.changed());
        let since = (self.now - self.since).as_secs();
        let mode = self.shared.mode().0;
        let takeover = match self.may_be_taken_over() {
            Some(true) => "; the other node may take over",
            Some(false) if self.content.role == Role::Source => {
                "; the other node may not take over"
            }
            _ => "",
        };
        let backup = match self.shared.backup() {
            Some(_) => "; readable as a backup",
            None => "",
        };
        let severed = match (self.content.severed, self.content.role) {
            (None, _) => "",
            (Some(_), Role::Source) => {
                "; an operator severed the pair: `throughline pair reestablish` ends that"
            }
            (Some(_), _) => {
                "; an operator severed the pair at the other node: what there is here is out of date"
            }
        };
        let resizes = self.resizing_text();
        format!(
            "{role}, {mode:?}; {phase} since {since} s; generation {generation}; {changed} granules to be copied{takeover}{severed}{backup}{resizes}"
        )
    }

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
