//! The destination's side of a meeting, and of what follows.

use super::{After, Pair, Phase, RECORD, nature};
use crate::commands::{Copying, Differing, Ready, Role};
use crate::frame::Command;
use crate::mirrored::Mode;
use crate::record::PER_PAGE;
use crate::standing::Verdict;

/// How far a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// What was asked for before is still under way.
    Quieting,
    /// It tells what it may have otherwise.
    Telling,
    /// It has said all, and waits for the source to begin.
    Ready,
    /// What the source copies comes, and its changes.
    Copying,
    /// Both have the same, as far as the source has said.
    InSync,
}

impl Pair {
    pub(super) fn become_destination(&mut self) {
        self.shared.let_in(0);
        self.shared.set_mode(Mode::Suspended);
        self.enter(Phase::Destination(Step::Quieting));
    }

    pub(super) fn destination_advances(&mut self, step: Step) {
        let is_quiet = self.shared.is_settled() && self.shared.is_quiet();
        if step == Step::Quieting && is_quiet {
            // It was alone, and has answered something until it saw that it is not to: nothing of that is overwritten.
            if self.has_changed_since() {
                self.shared.set_mode(Mode::Alone);
                return self.begin_anew();
            }
            // One that yields is nothing else before the other one is the source.
            if self.content.role == Role::Source {
                self.content.role = Role::Destination;
            }
            self.content.peer = self.peer();
            self.content.severed = None;
            self.take_size();
            self.page = 0;
            self.store(After::Quiet);
        }
    }

    /// Tells the next page that has something, or that this was all.
    pub(super) fn tell(&mut self) {
        let (Phase::Destination(Step::Quieting | Step::Telling), Some(theirs)) =
            (self.phase, self.theirs)
        else {
            return;
        };
        if self.phase != Phase::Destination(Step::Telling) {
            self.enter(Phase::Destination(Step::Telling));
        }
        let differing = self.shared.differing(self.config.len);
        let next = differing.first_from(self.page * PER_PAGE);
        let next = next.filter(|_| !matches!(self.verdict, Verdict::CopyAll { .. }));
        let meeting = theirs.meeting;
        if let Some(granule) = next {
            let page = granule / PER_PAGE;
            self.page = page + 1;
            let told = Differing {
                volume: theirs.number,
                page: page as u32,
                meeting,
            };
            let bytes = differing.page(page, self.content.standing.replica, RECORD);
            return self.ask(Command::DIFFERING, told.encode(), bytes.to_vec());
        }
        self.ticket = (self.random)().max(1);
        self.shared.let_in(self.ticket);
        let ready = Ready {
            volume: theirs.number,
            meeting,
            ticket: self.ticket,
        };
        self.enter(Phase::Destination(Step::Ready));
        self.ask(Command::READY, ready.encode(), Vec::new());
    }

    pub(super) fn is_of_now(&mut self, copying: &Copying, reply: u64) -> bool {
        let is_it = matches!(
            self.phase,
            Phase::Destination(Step::Ready | Step::Copying | Step::InSync)
        ) && copying.ticket == self.ticket
            && self.storing.is_none();
        if !is_it {
            self.refuse(reply, nature::STALE, "the meeting is over");
        }
        is_it
    }

    pub(super) fn heard_copy(&mut self, copying: Copying, reply: u64) {
        let Some(theirs) = self.theirs.filter(|_| self.is_of_now(&copying, reply)) else {
            return;
        };
        self.promise();
        // The source has it in stable storage.
        self.shared.clear();
        self.content.role = Role::Destination;
        let step = match copying.stays_whole {
            true => Step::InSync,
            false => {
                self.content.standing = self.content.standing.copying(theirs.claim.replica);
                Step::Copying
            }
        };
        self.store(After::Answer(reply, step));
    }

    pub(super) fn heard_copied(&mut self, copying: Copying, reply: u64) {
        if self.is_of_now(&copying, reply) {
            self.content.standing = self.content.standing.copied(copying.generation);
            self.store(After::Answer(reply, Step::InSync));
        }
    }
}
