//! Which node serves when the two do not hear each other, by an [arbiter](crate::arbiter) that both may reach.
//!
//! * A source *goes on alone* when the arbiter has taken note of it: of two that want to change the volume's key one does,
//!   and the other one sees that.
//! * A destination *takes over* when the arbiter says that it has all that hosts were told is there, and that the
//!   source's node is gone; and when the promise that it gave that one is over.
//! * A source that the other one may take over from serves as long as either cannot have happened: its node's lease
//!   lasts, counted from when the last renewal that succeeded was sent, or the other one's promise, counted from
//!   when that was asked for. Shards look at it before each answer.
//! * A source that has neither, and does not get the arbiter to take note, serves nobody, until the nodes meet again or it does.
//! * *In sync* is what the source tells the arbiter when both nodes have said so. A node that is alone never does.

use std::time::Duration;

use mutant::mutant;

use super::source::Step;
use super::{Action, Pair, Phase, Unwilling, destination};
use crate::alert::AlertEvent;
use crate::arbiter::{Answer, Entry, Question, Seen, counted};
use crate::commands::{Copying, Role};
use crate::frame::Command;
use crate::mirrored::Mode;
use crate::replica::{Generation, ReplicaId};
use crate::standing::Wholeness;

/// How often the arbiter is asked when nothing happens.
const LOOK: Duration = Duration::from_secs(1);

/// And when the nodes are in sync.
const AGAIN: Duration = Duration::from_secs(5);

/// What a pair with an arbiter knows.
pub(super) struct Leases {
    /// How long after a renewal a destination does not take over.
    promise: Duration,
    /// Until when this node's lease lasts at least.
    node_until: Duration,
    /// Until when the other node does not take over.
    promised_until: Duration,
    /// The node has another lease since, and had none for a while.
    has_lapsed: bool,
    /// A renewal that has no answer, and when it was sent.
    renewal: Option<(u64, Duration)>,
    renew_at: Duration,
    /// When the other node renewed last here; at first, when this one began, as it may have promised before.
    renewed: Duration,
    /// What the arbiter said last, if nothing was asked since that may have changed it.
    known: Option<Seen>,
    asked: Option<(u64, Question)>,
    /// A change of the key in this revision was asked for, and nobody knows whether it is made, or will be: it cannot in another one.
    late: Option<u64>,
    ask_at: Duration,
    /// The source is to go on alone.
    wants_alone: bool,
    /// The generation's tag, when it does.
    tag: u64,
    /// The arbiter has not answered in this phase, and is asked again from then on.
    again: Option<Duration>,
}

impl Leases {
    fn new(promise: Duration, now: Duration) -> Self {
        Self {
            promise,
            node_until: Duration::ZERO,
            promised_until: Duration::ZERO,
            has_lapsed: false,
            renewal: None,
            renew_at: now,
            renewed: now,
            known: None,
            asked: None,
            late: None,
            ask_at: now,
            wants_alone: false,
            tag: 0,
            again: None,
        }
    }

    /// Until when the other node cannot have taken over.
    fn until(&self) -> Duration {
        self.node_until.max(self.promised_until)
    }

    /// Nobody hears what becomes of what was asked.
    fn is_unheard(&mut self, question: Question) {
        if let Question::Set { revision, .. } = question {
            self.late = Some(revision);
        }
    }

    /// Whether what was asked before may still be made, in place of what the arbiter says.
    fn may_change(&self, seen: Seen) -> bool {
        self.late == Some(seen.revision) && !mutant!("pair-late-note-forgotten")
    }

    /// Whether the arbiter says nothing against an operator who promotes replica `me`.
    pub(super) fn lets_promote(&self, me: ReplicaId) -> Result<(), Unwilling> {
        match self.known {
            Some(Seen {
                entry: Some(entry), ..
            }) if entry.source != me && entry.is_alone => Err(Unwilling::OtherWentOn),
            Some(Seen {
                peer_lives: true, ..
            }) => Err(Unwilling::OtherLives),
            _ => Ok(()),
        }
    }
}

impl Pair {
    /// Has an arbiter from now on. A destination promises not to take over for so long after the source has renewed:
    /// both nodes have the same.
    pub fn set_arbiter(&mut self, promise: Duration) {
        self.leases = Some(Leases::new(promise, self.now));
        self.shared.set_lease(Some(Duration::ZERO));
    }

    /// Whether the arbiter says that the other node may take over, as far as this source knows; `None` if there is no arbiter.
    pub fn may_be_taken_over(&self) -> Option<bool> {
        let leases = self.leases.as_ref()?;
        let known = leases.known.filter(|&seen| !leases.may_change(seen));
        let says_so = known.is_some_and(|seen| seen.entry == Some(self.entry(false)));
        Some(self.phase == Phase::Source(Step::InSync) && says_so)
    }

    /// This replica as the source, as it is.
    fn entry(&self, is_alone: bool) -> Entry {
        let standing = &self.content.standing;
        Entry {
            source: standing.replica,
            generation: standing.generation,
            is_alone,
        }
    }

    /// The node's lease at the arbiter lasts until then at least, as it hears `now`.
    pub fn leased(&mut self, until: Duration, now: Duration) {
        if let Some(leases) = &mut self.leases {
            leases.has_lapsed |= now >= leases.until();
            leases.node_until = leases.node_until.max(until);
        }
    }

    /// The tag of the generation that this node goes on alone in.
    pub(super) fn alone_tag(&mut self) -> u64 {
        let known = self.leases.as_mut().map(|leases| {
            leases.wants_alone = false;
            std::mem::take(&mut leases.tag)
        });
        known
            .filter(|&tag| tag != 0)
            .unwrap_or_else(|| (self.random)())
    }

    /// The source is to go on alone, if the arbiter takes note of it.
    pub(super) fn want_alone(&mut self) {
        if let Some(leases) = &mut self.leases {
            (leases.wants_alone, leases.ask_at) = (true, self.now);
            // What it said is not what counts now.
            leases.known = None;
        }
    }

    /// Whether that is so, and nothing else is to be done until it is known.
    pub(super) fn waits_for_arbiter(&self) -> bool {
        let wants = self.leases.as_ref().is_some_and(|it| it.wants_alone);
        wants && matches!(self.phase, Phase::Source(_))
    }

    /// Serves as long as it may, and sees to it that it may for longer.
    pub(super) fn keep_lease(&mut self) {
        let Some(leases) = &mut self.leases else {
            return;
        };
        let until = leases.until();
        let has_lapsed = std::mem::take(&mut leases.has_lapsed) || self.now >= until;
        let is_over = has_lapsed && !mutant!("pair-lapse-ignored");
        let forwards = matches!(self.phase, Phase::Source(step) if step.forwards());
        // Whatever becomes of the lease: the other one may have taken over since.
        if forwards && is_over {
            return self.is_left_alone("this node's lease is over");
        }
        self.shared.set_lease(Some(until));
        let (has_renewal, renew_at) = (leases.renewal.is_some(), leases.renew_at);
        let is_known = matches!(self.phase, Phase::Source(step) if step.is_known());
        let is_due = !has_renewal && self.now >= renew_at;
        if !is_known || !self.is_up || !is_due {
            return;
        }
        let Some(renewal) = self.copying(false) else {
            return;
        };
        let token = self.post(Command::RENEW, renewal.encode(), Vec::new());
        if let Some(leases) = &mut self.leases {
            leases.renewal = Some((token, self.now));
            leases.renew_at = self.now + leases.promise / 4;
        }
    }

    /// The other node hears that this one is the source: the first renewal.
    pub(super) fn begins_to_renew(&mut self) {
        if let (Some(leases), Some((token, _))) = (&mut self.leases, self.asked) {
            leases.renewal = Some((token, self.now));
        }
    }

    /// A message of ours has an answer, or will have none: it may have been a renewal.
    pub(super) fn renewed(&mut self, token: u64, is_good: bool) {
        if let Some(leases) = &mut self.leases
            && let Some((_, sent)) = leases.renewal.take_if(|renewal| renewal.0 == token)
            && is_good
        {
            let until = sent + counted(leases.promise);
            leases.promised_until = leases.promised_until.max(until);
        }
    }

    /// Nobody will answer what was asked of the other node.
    pub(super) fn forget_renewal(&mut self) {
        if let Some(leases) = &mut self.leases {
            leases.renewal = None;
        }
    }

    /// The source is there: this node takes over no sooner than it has promised.
    pub(super) fn promise(&mut self) {
        if let Some(leases) = &mut self.leases {
            leases.renewed = self.now;
        }
    }

    /// The source renews.
    pub(super) fn heard_renewal(&mut self, copying: Copying, reply: u64) {
        if self.is_of_now(&copying, reply) {
            self.promise();
            self.answer(reply, Ok(()));
        }
    }

    /// The nodes meet: what the arbiter was asked before is not what they agree on, whatever it answers.
    pub(super) fn forget_arbiter(&mut self) {
        if let Some(leases) = &mut self.leases {
            if let Some((_, question)) = leases.asked.take() {
                leases.is_unheard(question);
            }
            leases.known = None;
        }
    }

    /// What the arbiter is to be asked for, if anything.
    pub(super) fn arbitrate(&mut self) {
        let Some(leases) = &self.leases else { return };
        if leases.asked.is_some() || self.now < leases.ask_at || self.is_stopping {
            return;
        }
        let next = leases.ask_at + AGAIN;
        let question = match leases.known {
            None => Some(Question::Look),
            Some(seen) => self.wanted(seen),
        };
        // Nodes that do not hear each other look again; others now and then: what was asked long ago may be done late.
        let is_due = self.phase == Phase::Source(Step::InSync) && self.now >= next;
        let looks = self.misses_other() || is_due || self.phase == Phase::TakingOver;
        let question = question.or(looks.then_some(Question::Look));
        if let Some(question) = question {
            self.ask_arbiter(question);
        }
    }

    /// Whether the arbiter is not to be asked yet, as it did not answer just now.
    pub(super) fn is_too_soon(&self) -> bool {
        let again = self.leases.as_ref().and_then(|leases| leases.again);
        again.is_some_and(|again| self.now < again)
    }

    /// It is in another phase.
    pub(super) fn forget_unanswered(&mut self) {
        if let Some(leases) = &mut self.leases {
            leases.again = None;
        }
    }

    /// What there is to be said does not wait for the next look, nor for what the arbiter was asked to take note of before: nobody
    /// knows when that is done.
    pub(super) fn arbitrate_now(&mut self) {
        let asked = self.leases.as_ref().and_then(|leases| leases.asked);
        if matches!(asked, Some((_, Question::Set { .. }))) {
            self.forget_arbiter();
        }
        if let Some(leases) = &mut self.leases {
            leases.ask_at = self.now;
        }
    }

    /// Whether nothing is heard of the other node, or it is not to be met.
    fn misses_other(&self) -> bool {
        if self.content.severed.is_some() && self.shared.mode().0 == Mode::Alone {
            return true;
        }
        let is_open = matches!(
            self.phase,
            Phase::Apart | Phase::Destination(destination::Step::InSync)
        );
        is_open && !self.is_up
    }

    /// What the arbiter is to take note of.
    fn wanted(&mut self, seen: Seen) -> Option<Question> {
        let set = |entry, unless_peer_lives| Question::Set {
            revision: seen.revision,
            entry,
            unless_peer_lives,
        };
        let me = self.content.standing.replica;
        let wants_alone = self.leases.as_ref().is_some_and(|it| it.wants_alone);
        let is_mine = seen.entry.is_some_and(|entry| entry.source == me);
        match self.phase {
            _ if self.has_failed => None,
            // It has said itself that it serves no more, whatever its node's key says.
            Phase::TakingOver => self.has_all(seen).then(|| set(self.alone(), false)),
            Phase::Source(_) if wants_alone => is_mine.then(|| set(self.alone(), false)),
            Phase::Source(Step::InSync) => {
                let entry = self.entry(false);
                // Another revision, in which what was asked before cannot be made.
                let may_change = (self.leases.as_ref()).is_some_and(|it| it.may_change(seen));
                (seen.entry != Some(entry) || may_change).then(|| set(entry, false))
            }
            _ if !self.misses_other() => None,
            // By an operator's word.
            _ if self.shared.mode().0 == Mode::Alone => seen
                .entry
                .filter(|&entry| self.content.is_alone() && (is_mine || !entry.is_alone))
                .filter(|&entry| entry != self.entry(true))
                .map(|_| set(self.entry(true), false)),
            _ if self.content.role == Role::Destination => {
                let is_free = self.is_free(seen) || mutant!("pair-promoted-without-lease");
                let unless_peer_lives = !mutant!("pair-promoted-without-lease");
                (is_free && self.has_all(seen)).then(|| set(self.alone(), unless_peer_lives))
            }
            // What the other one does, if it is there after all, the revision tells.
            _ => {
                let promise = self.leases.as_ref().map(|leases| leases.promise);
                let is_late = promise.is_some_and(|promise| self.now >= self.since + promise);
                (is_mine && is_late).then(|| set(self.alone(), false))
            }
        }
    }

    /// Whether nothing keeps a destination from being the source.
    fn is_free(&self, seen: Seen) -> bool {
        let promised = self.leases.as_ref();
        let promised = promised.is_some_and(|it| self.now < it.renewed + it.promise);
        !promised && !seen.peer_lives
    }

    /// Whether the arbiter says that a destination has all that hosts were told is there.
    fn has_all(&self, seen: Seen) -> bool {
        let standing = &self.content.standing;
        let has_all = seen.entry.is_some_and(|entry| {
            // In this generation the source answers nothing alone, whichever of the two it is: when the roles were changed, what
            // was asked before may be done after.
            let is_known =
                entry.source == standing.replica || Some(entry.source) == self.content.peer;
            let is_alike = is_known && !entry.is_alone && entry.generation == standing.generation;
            // It asked to take over before, and never heard that it may.
            let is_late = entry.source == standing.replica
                && entry.is_alone
                && entry.generation.number == standing.generation.number + 1;
            is_alike || is_late
        });
        let is_new = seen.entry.is_none() && mutant!("pair-arbiter-seeded");
        (has_all || is_new)
            && standing.wholeness == Wholeness::Whole
            && self.content.severed.is_none()
    }

    /// This replica, as it goes on alone.
    fn alone(&mut self) -> Entry {
        let tag = (self.random)().max(1);
        if let Some(leases) = &mut self.leases {
            leases.tag = tag;
        }
        let now = self.entry(true);
        Entry {
            generation: Generation {
                number: now.generation.number + 1,
                tag,
            },
            ..now
        }
    }

    fn ask_arbiter(&mut self, question: Question) {
        let token = self.token();
        if let Some(leases) = &mut self.leases {
            leases.asked = Some((token, question));
            leases.ask_at = self.now + LOOK;
        }
        self.actions
            .push_back(Action::Arbitrate { question, token });
    }

    /// The arbiter has answered what was asked of it, or does not.
    pub fn arbitrated(&mut self, token: u64, answer: Answer) {
        let Some(leases) = &mut self.leases else {
            return;
        };
        let Some((_, question)) = leases.asked.take_if(|asked| asked.0 == token) else {
            return;
        };
        match (answer, question) {
            (Answer::Seen(seen), _) => {
                leases.known = Some(seen);
                // Whoever wants something does not wait for the next look.
                let wants = leases.wants_alone || self.phase == Phase::TakingOver;
                if matches!(question, Question::Look) && wants {
                    leases.ask_at = self.now;
                }
                if self.waits_for_arbiter() {
                    self.saw(seen);
                }
            }
            (Answer::Made(revision), Question::Set { entry, .. }) => {
                leases.known = Some(Seen {
                    revision,
                    entry: Some(entry),
                    peer_lives: false,
                });
                if entry.is_alone {
                    self.may_go_alone();
                }
            }
            (Answer::Unreachable | Answer::Made(_), _) => {
                leases.known = None;
                leases.is_unheard(question);
                if self.waits_for_arbiter() {
                    self.is_not_answered();
                }
            }
        }
    }

    /// What there is at the arbiter, when the source wants to go on alone: its own, or it must not.
    fn saw(&mut self, seen: Seen) {
        let me = self.content.standing.replica;
        match seen.entry {
            Some(entry) if entry.source == me => {}
            Some(_) => self.may_not_go_alone("the other node has taken over"),
            None => self.may_not_go_alone("the arbiter knows nothing of the volume"),
        }
    }

    /// The source wanted to go on alone, and nobody knows whether it may. Where hosts are not served already it need not meet the other one
    /// again before it asks once more.
    fn is_not_answered(&mut self) {
        let why = "the arbiter does not answer";
        let hears = self.phase == Phase::Source(Step::Hearing) && !self.orders.is_at_arbiter();
        let Some(leases) = self.leases.as_mut().filter(|_| hears) else {
            return self.may_not_go_alone(why);
        };
        leases.wants_alone = false;
        if leases.again.replace(self.now + LOOK).is_none() {
            self.alert_not_served(why);
        }
    }

    /// The source wanted to go on alone, as it lost the other one, or an operator said so.
    fn may_not_go_alone(&mut self, why: &'static str) {
        if !self.orders.is_at_arbiter() {
            return self.is_left_alone(why);
        }
        // The nodes hear each other, and go on.
        if let Some(leases) = &mut self.leases {
            leases.wants_alone = false;
        }
        self.end_order(Err(Unwilling::Arbiter(why)));
    }

    /// The source lost the other one, and may not go on: hosts are not served.
    fn is_left_alone(&mut self, why: &str) {
        if let Some(leases) = &mut self.leases {
            leases.wants_alone = false;
        }
        self.alert_not_served(why);
        self.suspend();
    }

    fn alert_not_served(&mut self, why: &str) {
        let text = format!("the other node does not answer, and {why}: hosts are not served");
        self.alert(AlertEvent::NotServed, text);
    }

    /// The arbiter has taken note that this node goes on alone.
    fn may_go_alone(&mut self) {
        let is_source = self.content.role != Role::Destination;
        let is_suspended = self.shared.mode().0 == Mode::Suspended;
        match self.phase {
            Phase::Source(_) if self.waits_for_arbiter() => self.severs_now = true,
            Phase::Apart if is_source => self.severs_now = is_suspended,
            Phase::Apart | Phase::Destination(destination::Step::InSync) if !is_source => {
                let text = "the other node is gone: this one takes over";
                self.alert(AlertEvent::TakesOver, text);
                self.take_over();
            }
            Phase::TakingOver => self.take_over(),
            // They have met meanwhile: what they agree on is told next.
            _ => {}
        }
    }
}
