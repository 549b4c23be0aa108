//! The source's side of a meeting, and of what follows.

use mutant::mutant;

use std::time::Duration;

use super::{After, Pair, Phase, nature};
use crate::commands::{Copying, Differing, Ready, Role};
use crate::frame::Command;
use crate::mirrored::Mode;
use crate::record::{Changed, PAGE, PER_PAGE};
use crate::standing::Verdict;

/// How long hosts that are not served wait for what the destination has to tell: then it is as good as gone.
const HEARING: Duration = Duration::from_secs(5);

/// How far a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The destination tells what it may have otherwise.
    Hearing,
    /// That is part of the record, and stable.
    Marked,
    /// The destination is told that a copy begins.
    Beginning,
    /// It knows.
    Begun,
    /// Changes go to both, and what is marked is copied.
    Copying,
    /// Everything is copied, which is stable.
    Copied,
    /// The destination is told so.
    Ending,
    /// It knows.
    Ended,
    /// Both have the same.
    InSync,
    /// Hosts are served no more; what they asked for before is about to end.
    Draining,
    /// It has, and that this node yields is about to be stable.
    Drained,
}

impl Step {
    /// Whether the destination knows that this node is the source.
    pub(super) fn is_known(self) -> bool {
        self == Self::Begun || self.forwards()
    }

    /// Whether changes may be on their way to the destination.
    pub(super) fn forwards(self) -> bool {
        !matches!(
            self,
            Self::Hearing | Self::Marked | Self::Beginning | Self::Begun
        )
    }
}

impl Pair {
    /// Whether what the destination has is a state of the volume all the while.
    fn stays_whole(&self) -> bool {
        self.verdict == Verdict::InSync
    }

    /// What tells the destination of this meeting.
    pub(super) fn copying(&self, stays_whole: bool) -> Option<Copying> {
        Some(Copying {
            volume: self.theirs?.number,
            stays_whole,
            ticket: self.ticket,
            generation: self.content.standing.generation,
        })
    }

    fn say(&mut self, command: Command) {
        let stays_whole = command == Command::COPY && self.stays_whole();
        if let Some(copying) = self.copying(stays_whole) {
            self.ask(command, copying.encode(), Vec::new());
        }
    }

    pub(super) fn heard_differing(&mut self, differing: Differing, payload: &[u8], reply: u64) {
        let pages = self.config.len.div_ceil(crate::GRANULE).div_ceil(PER_PAGE);
        let page: Option<&[u8; PAGE]> = payload.try_into().ok();
        let (Some(page), true) = (page, u64::from(differing.page) < pages) else {
            return self.refuse(reply, nature::PARAMETERS, "a page of a record is none");
        };
        // It may be heard before this node has decided.
        let (true, Some(theirs)) = (differing.meeting == self.mine, self.theirs) else {
            return self.refuse(reply, nature::STALE, "the meeting is over");
        };
        let told = self
            .told
            .get_or_insert_with(|| Changed::none(self.config.len));
        told.take_page(page, differing.page.into(), theirs.claim.replica, 0);
        self.answer(reply, Ok(()));
    }

    pub(super) fn heard_ready(&mut self, ready: Ready, reply: u64) {
        if ready.meeting != self.mine {
            return self.refuse(reply, nature::STALE, "the meeting is over");
        }
        self.ticket = ready.ticket;
        self.answer(reply, Ok(()));
    }

    pub(super) fn source_advances(&mut self, step: Step) {
        match step {
            // A shard that had not seen that the meeting before is over would take what nobody confirms for being on its way still.
            Step::Hearing if self.ticket != 0 && self.shared.is_settled() => self.mark(),
            // Hosts wait for one that has its own troubles: a log that has failed, or drives that hang.
            Step::Hearing
                if self.now >= self.since + HEARING
                    && self.shared.mode().0 == Mode::Suspended
                    && !self.is_too_soon() =>
            {
                self.go_on_without();
            }
            Step::Copying if self.shared.is_settled() && self.shared.changed() == 0 => {
                if self.stays_whole() {
                    self.shared.set_mode(Mode::Forward);
                    return self.enter(Phase::Source(Step::InSync));
                }
                if let Some(standing) = self.standing().ends_copy() {
                    self.content.standing = standing;
                    self.store(After::Source(Step::Copied));
                }
            }
            Step::InSync => self.resize_on(),
            Step::Draining => self.drain(),
            Step::Ended => match self.standing().in_sync() {
                Some(standing) => {
                    self.content.standing = standing;
                    self.store(After::Source(Step::InSync));
                }
                None => self.enter(Phase::Source(Step::Copying)),
            },
            _ => {}
        }
    }

    /// All that may differ becomes part of the record.
    fn mark(&mut self) {
        let Some(theirs) = self.theirs else { return };
        let len = self.config.len;
        if let Verdict::CopyAll { .. } = self.verdict {
            match self.content.standing.copies_all(&theirs.claim, len) {
                Ok(standing) => self.content.standing = standing,
                Err(_) => return self.begin_anew(),
            }
            self.shared.join(&Changed::all(len));
        }
        self.shared.join_pending();
        if let Some(told) = self.told.take().filter(|_| !mutant!("pair-told-ignored")) {
            self.shared.join(&told);
        }
        self.content.peer = Some(theirs.claim.replica);
        self.content.role = Role::Source;
        self.content.severed = None;
        self.store(After::Source(Step::Marked));
    }

    pub(super) fn source_stored(&mut self, step: Step) {
        if !matches!(self.phase, Phase::Source(_)) {
            return;
        }
        self.enter(Phase::Source(step));
        match step {
            Step::Marked => {
                self.enter(Phase::Source(Step::Beginning));
                self.say(Command::COPY);
                self.begins_to_renew();
            }
            Step::Begun => self.forward(),
            Step::Copied => {
                self.enter(Phase::Source(Step::Ending));
                self.say(Command::COPIED);
            }
            _ => {}
        }
    }

    pub(super) fn source_answered(&mut self, command: Command) {
        match (command, self.phase) {
            (Command::COPY, Phase::Source(Step::Beginning)) if self.stays_whole() => self.forward(),
            (Command::COPY, Phase::Source(Step::Beginning)) => {
                if let Some(theirs) = &self.theirs {
                    self.content.standing = self.content.standing.copies(&theirs.claim);
                }
                self.store(After::Source(Step::Begun));
            }
            (Command::COPIED, Phase::Source(Step::Ending)) => {
                self.enter(Phase::Source(Step::Ended))
            }
            _ => {}
        }
    }

    fn forward(&mut self) {
        let Some(theirs) = &self.theirs else { return };
        self.shared.set_ticket(self.ticket, theirs.number);
        // What was under way when the nodes lost each other was answered to nobody. The other one may be without it and
        // be promoted: hosts do not see it before both have it.
        let is_seen = self.stays_whole() && self.shared.changed() > 0;
        self.shared
            .set_mode(match is_seen && !mutant!("pair-seen-early") {
                true => Mode::Draining,
                false => Mode::Forward,
            });
        self.enter(Phase::Source(Step::Copying));
    }
}
