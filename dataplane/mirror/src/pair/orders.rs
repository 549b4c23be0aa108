//! What an operator says of a pair that takes more than a moment (row R3): establishing it, severing it on purpose, ending that, and giving
//! up what this node has.
//!
//! **Established.** What the device of a node without data of the volume has becomes the volume's first state, if the other node says that it
//! has no data either, and is not about to say the same: of two that are told to at once one refuses, or both.
//!
//! **Severed by an operator.** The source goes on alone, as if it had lost the other one, and says so in each claim: two that meet
//! stay as they are until an operator says otherwise there. That is in stable storage with the generation that it goes on alone in.
//!
//! **Given up.** A node becomes one without data, with another identity, if the other one says that it is the source, serves hosts, and is
//! not about to do the same: of two that are told to at once one refuses, or both.

use std::time::Duration;

use mutant::mutant;

use super::source::Step;
use super::{After, Content, Pair, Phase, Tables, Unwilling, nature};
use crate::alert::AlertEvent;
use crate::commands::{Intent, Role};
use crate::frame::Command;
use crate::mirrored::Mode;
use crate::parameters::Refusal;
use crate::replica::ReplicaId;
use crate::standing::{Refused, Standing, Wholeness};

/// How long an order may wait until it can be begun.
const PATIENCE: Duration = Duration::from_secs(8);

/// What an operator has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The source gives up the other node.
    Sever {
        /// When that was said: seconds since 1970.
        since: u64,
        /// The arbiter is asked for that reason alone: the nodes hear each other.
        is_at_arbiter: bool,
    },
    /// What was severed comes together.
    Reestablish,
    /// What this node's device has is the volume.
    Establish {
        /// The other node has no data.
        is_let: bool,
    },
    /// What this node has is given up.
    Discard {
        /// The other node has the volume; or an operator knows better.
        is_let: bool,
    },
    /// The volume is to have another size.
    Resize {
        /// Bytes.
        len: u64,
    },
    /// What both know of the volume.
    Compare {
        /// By which the other one's answer is known.
        number: u64,
        /// What this node's was told by.
        token: Option<u64>,
    },
}

/// What is asked for, and what came of the last one.
#[derive(Default)]
pub(super) struct Orders {
    order: Option<(Order, Duration)>,
    outcome: Option<Result<(), Unwilling>>,
    /// What both know, if that was asked for last.
    pub(super) tables: Option<Tables>,
}

impl Orders {
    /// Since when the pair is severed, if it goes on alone now.
    pub(super) fn severs(&self) -> Option<u64> {
        match self.order {
            Some((Order::Sever { since, .. }, _)) => Some(since),
            _ => None,
        }
    }

    /// The nodes lose each other before an operator severs them: what the arbiter does not take note of counts.
    pub(super) fn is_overtaken(&mut self) {
        if let Some((Order::Sever { is_at_arbiter, .. }, _)) = &mut self.order {
            *is_at_arbiter = false;
        }
    }

    /// Whether the size is what was asked for last.
    pub(super) fn resizes(&self) -> bool {
        matches!(self.order, Some((Order::Resize { .. }, _)))
    }

    /// The number of the comparison that is under way.
    pub(super) fn compares(&self) -> Option<u64> {
        match self.order {
            Some((Order::Compare { number, .. }, _)) => Some(number),
            _ => None,
        }
    }

    /// What this node's tables were told by.
    pub(super) fn compares_by(&self) -> Option<u64> {
        match self.order {
            Some((Order::Compare { token, .. }, _)) => token,
            _ => None,
        }
    }

    pub(super) fn is_at_arbiter(&self) -> bool {
        matches!(
            self.order,
            Some((
                Order::Sever {
                    is_at_arbiter: true,
                    ..
                },
                _
            ))
        )
    }
}

impl Pair {
    /// An operator severs the pair at its source, `now` in seconds since 1970: the source goes on alone until one
    /// [says otherwise](Pair::reestablish). [`Pair::next_outcome`] tells when that is stable, or why not.
    ///
    /// # Errors
    /// [`Unwilling`].
    pub fn sever(&mut self, now: u64) -> Result<(), Unwilling> {
        let forwards = matches!(self.phase, Phase::Source(step) if step.forwards());
        match self.content.role {
            Role::Source if self.content.severed.is_some() => Err(Unwilling::Severed),
            Role::Source if self.peer().is_none() => Err(Unwilling::NeverMet),
            Role::Source if !forwards && self.shared.mode().0 == Mode::Suspended => {
                Err(Unwilling::NotServing)
            }
            Role::Source => self.take_order(Order::Sever {
                since: now.max(1),
                is_at_arbiter: false,
            }),
            _ => Err(Unwilling::NotSource),
        }
    }

    /// An operator ends that: what was changed meanwhile is copied when the nodes meet. [`Pair::next_outcome`] tells when that is
    /// stable.
    ///
    /// # Errors
    /// [`Unwilling`].
    pub fn reestablish(&mut self) -> Result<(), Unwilling> {
        match (self.content.severed, self.content.role, self.phase) {
            (None, ..) => Err(Unwilling::NotSevered),
            (_, Role::Source, Phase::Refused(refused)) => Err(Unwilling::NotAlike(refused)),
            (_, Role::Source, _) => self.take_order(Order::Reestablish),
            _ => Err(Unwilling::SeveredThere),
        }
    }

    /// An operator says that what this node's device has is the volume, of which neither node has data yet: it is the source then, and the other
    /// one, which is asked first, is copied to. [`Pair::next_outcome`] tells when that is stable, or why not.
    ///
    /// # Errors
    /// [`Unwilling`].
    pub fn establish(&mut self) -> Result<(), Unwilling> {
        self.may_establish()?;
        let is_let = mutant!("pair-establish-unasked");
        self.take_order(Order::Establish { is_let })
    }

    /// Whether neither node has data, as far as this one knows.
    fn may_establish(&self) -> Result<(), Unwilling> {
        if self.content.standing.wholeness != Wholeness::Blank {
            return Err(Unwilling::HasData);
        }
        let theirs = self.theirs.filter(|_| self.is_up);
        match (theirs, self.phase) {
            (Some(_), Phase::Refused(Refused::NotEstablished)) => Ok(()),
            (Some(_), Phase::Refused(refused)) => Err(Unwilling::NotAlike(refused)),
            (Some(theirs), _) if theirs.claim.wholeness != Wholeness::Blank => {
                Err(Unwilling::OtherHasData)
            }
            _ => Err(Unwilling::NotHeard),
        }
    }

    /// An operator says that this node is to give up what it has, and to be copied to; the other one, which is the source, is asked first.
    /// `is_forced`: whatever that is, and whether it is there. [`Pair::next_outcome`] tells when that is stable, or why not.
    ///
    /// # Errors
    /// [`Unwilling`].
    pub fn discard(&mut self, is_forced: bool) -> Result<(), Unwilling> {
        if !is_forced {
            self.may_discard()?;
        }
        let is_let = is_forced || mutant!("pair-discard-unasked");
        self.take_order(Order::Discard { is_let })
    }

    /// Whether the other node is the source, as far as this one knows.
    fn may_discard(&self) -> Result<(), Unwilling> {
        let theirs = self.theirs.filter(|_| self.is_up);
        let is_source = theirs.is_some_and(|theirs| {
            theirs.role == Role::Source && theirs.claim.wholeness == Wholeness::Whole
        });
        match self.phase {
            Phase::Destination(_) | Phase::Refused(_) if is_source => Ok(()),
            Phase::Severed if is_source && self.content.role != Role::Source => Ok(()),
            Phase::Source(_) => Err(Unwilling::IsSource),
            _ => Err(Unwilling::OtherIsNoSource),
        }
    }

    /// What came of what an operator has asked for.
    pub fn next_outcome(&mut self) -> Option<Result<(), Unwilling>> {
        self.orders.outcome.take()
    }

    pub(super) fn take_order(&mut self, order: Order) -> Result<(), Unwilling> {
        if self.is_stopping {
            return Err(Unwilling::Stops);
        }
        if self.orders.order.is_some() {
            return Err(Unwilling::Busy);
        }
        self.orders.order = Some((order, self.now + PATIENCE));
        self.orders.outcome = None;
        Ok(())
    }

    pub(super) fn end_order(&mut self, outcome: Result<(), Unwilling>) {
        if self.orders.order.take().is_some() {
            self.orders.outcome = Some(outcome);
        }
    }

    /// Does what is asked for, if it can be done now; whether nothing else is to be done at this turn.
    pub(super) fn carries_out_order(&mut self) -> bool {
        let Some((order, until)) = self.orders.order else {
            return false;
        };
        let is_alone = self.shared.mode().0 == Mode::Alone;
        match (order, self.phase) {
            (_, _) if self.is_stopping => self.end_order(Err(Unwilling::Stops)),
            (Order::Sever { .. }, Phase::Source(Step::Draining | Step::Drained)) => {}
            (Order::Sever { since, .. }, Phase::Source(step)) if step.forwards() => {
                let is_at_arbiter = self.leases.is_some();
                let order = Order::Sever {
                    since,
                    is_at_arbiter,
                };
                self.orders.order = Some((order, until));
                self.go_on_without();
                return true;
            }
            (Order::Sever { since, .. }, Phase::Apart | Phase::Sourceless | Phase::Refused(_))
                if is_alone =>
            {
                self.content.severed = Some(since);
                self.store(After::Ordered);
                return true;
            }
            (Order::Reestablish, _) => {
                self.content.severed = None;
                self.store(After::Ordered);
                return true;
            }
            (Order::Discard { is_let: true }, _) => {
                self.gives_up();
                return true;
            }
            (Order::Establish { is_let: true }, _) => {
                self.begins_volume();
                return true;
            }
            (Order::Establish { .. }, _)
                if self.asked.is_none() && self.may_establish().is_ok() =>
            {
                self.ask_leave(Command::ESTABLISH);
            }
            (Order::Discard { .. }, _) if self.asked.is_none() && self.may_discard().is_ok() => {
                self.ask_leave(Command::DISCARD);
            }
            (
                Order::Compare {
                    number,
                    token: None,
                },
                _,
            ) => {
                let token = Some(self.tell_tables(number, 0));
                self.orders.order = Some((Order::Compare { number, token }, until));
            }
            (Order::Resize { .. }, _) if self.resizing.is_some() => {}
            (Order::Resize { len }, Phase::Source(Step::InSync)) if self.asked.is_none() => {
                self.begin_to_resize(len);
            }
            _ if self.now >= until => self.end_order(Err(Unwilling::Late)),
            _ => {}
        }
        false
    }

    /// Asks the other node, which is heard, whether it lets this one do what an operator wants.
    fn ask_leave(&mut self, command: Command) {
        if let Some(theirs) = self.theirs {
            let (volume, meeting) = (theirs.number, theirs.meeting);
            let intent = Intent { volume, meeting };
            self.ask(command, intent.encode(), Vec::new());
        }
    }

    /// The other node has answered whether it keeps what it has, or has nothing.
    pub(super) fn is_let(&mut self, result: Result<(), Refusal>) {
        let order = self.orders.order.as_mut().map(|(order, _)| order);
        let Some(Order::Discard { is_let } | Order::Establish { is_let }) = order else {
            return;
        };
        match result {
            Ok(()) => *is_let = true,
            Err(refusal) => self.end_order(Err(Unwilling::Refused(refusal.text))),
        }
    }

    /// The other node wants to give up what it has.
    pub(super) fn heard_discard(&mut self, discard: Intent, reply: u64) {
        if discard.meeting != self.mine {
            return self.refuse(reply, nature::STALE, "the meeting is over");
        }
        let serves = matches!(self.shared.mode().0, Mode::Alone | Mode::Forward);
        if self.content.role != Role::Source || !serves {
            let text = "it is not the source, or does not serve hosts";
            return self.refuse(reply, nature::SOURCE, text);
        }
        if matches!(self.orders.order, Some((Order::Discard { .. }, _))) {
            let text = "it is about to give up what it has, too: say so on one of them";
            return self.refuse(reply, nature::SOURCE, text);
        }
        self.answer(reply, Ok(()));
    }

    /// The other node says that what its device has is to be the volume.
    pub(super) fn heard_establish(&mut self, establish: Intent, reply: u64) {
        if establish.meeting != self.mine {
            return self.refuse(reply, nature::STALE, "the meeting is over");
        }
        if self.content.standing.wholeness != Wholeness::Blank {
            let text = "it has data of the volume";
            return self.refuse(reply, nature::SOURCE, text);
        }
        if matches!(self.orders.order, Some((Order::Establish { .. }, _))) {
            let text = "what its own store has is about to be the volume: say so on one of them";
            return self.refuse(reply, nature::SOURCE, text);
        }
        self.answer(reply, Ok(()));
    }

    /// What the device has is the volume from now on.
    fn begins_volume(&mut self) {
        let replica = self.content.standing.replica;
        self.content.standing = Standing::first(replica, (self.random)());
        self.content.role = Role::Source;
        let text =
            "what this node's store has is the volume from now on, and the other node is copied to";
        self.alert(AlertEvent::Established, text);
        self.store(After::Ordered);
    }

    /// Hosts are served no more; when nothing is under way, there is nothing here any more.
    fn gives_up(&mut self) {
        if self.phase != Phase::Discarding {
            self.shared.set_mode(Mode::Suspended);
            self.begin_anew();
            self.enter(Phase::Discarding);
        }
        if !self.shared.is_settled() || !self.shared.is_quiet() {
            return;
        }
        let mut id = [0; 16];
        (id.chunks_mut(8)).for_each(|half| half.copy_from_slice(&(self.random)().to_le_bytes()));
        self.content = Content {
            standing: match mutant!("pair-discard-keeps-record") {
                true => self.content.standing.clone(),
                false => Standing::blank(ReplicaId(id)),
            },
            role: Role::Destination,
            peer: self.content.peer,
            severed: None,
        };
        self.shared.clear();
        let text = "this node has given up what it had, and is to be copied to";
        self.alert(AlertEvent::Discarded, text);
        self.store(After::Ordered);
    }

    /// What an operator has asked for is stable: the other node hears of it.
    pub(super) fn order_stored(&mut self) {
        self.begin_anew();
        self.end_order(Ok(()));
    }

    /// That this node goes on alone is stable, and that an operator has said so, if one had before that was to be stored: who says so
    /// meanwhile waits for more.
    pub(super) fn has_severed(&mut self) {
        let since = self.orders.severs();
        if since.is_some() && self.content.severed == since {
            self.end_order(Ok(()));
        }
    }

    /// What this node says in a claim with that role.
    pub(super) fn severed_at(&self, role: Role) -> u64 {
        match role {
            Role::Source => self.content.severed.unwrap_or(0),
            _ => 0,
        }
    }

    /// The nodes meet, and an operator has severed the pair at the one that is the source.
    pub(super) fn stays_severed(&mut self, is_mine: bool, severed: u64) {
        self.enter(Phase::Severed);
        if is_mine {
            return;
        }
        self.shared.set_mode(Mode::Suspended);
        let before = self.content.clone();
        if self.content.role == Role::Source {
            self.content.role = Role::Destination;
        }
        self.content.severed = Some(severed);
        if self.content != before {
            let text = "an operator severed the pair at the other node: this one is out of date from now on";
            self.alert(AlertEvent::SeveredThere, text);
            self.store(After::Nothing);
        }
    }
}
