//! Which node is the source: what an operator says, the agreed switch, and going on without the other one.

use std::fmt;
use std::time::Duration;

use super::source::Step;
use super::{After, Pair, Phase};
use crate::alert::AlertEvent;
use crate::commands::Role;
use crate::mirrored::Mode;
use crate::replica::ReplicaId;
use crate::standing::{NotWhole, Refused, Wholeness};

/// How long what hosts have under way may take when the node yields.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a node does not become the source, or does not yield.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwilling {
    /// Its replica is not whole.
    NotWhole,
    /// The other node is there, and is the source.
    OtherServes,
    /// The arbiter says that the other node is there.
    OtherLives,
    /// The arbiter says that the other node went on alone.
    OtherWentOn,
    /// It is not the source.
    NotSource,
    /// The other node does not have the same yet, or is not there.
    NotInSync,
    /// The replicas are being compared already.
    Verifies,
    /// An operator has severed the pair at this node, the source.
    Severed,
    /// An operator has severed the pair at the other node.
    SeveredThere,
    /// No operator has severed it.
    NotSevered,
    /// It has met no other node.
    NeverMet,
    /// It is the source, and serves nobody.
    NotServing,
    /// The replicas that are there are left as they are.
    NotAlike(Refused),
    /// It is the source: what it has is the volume's.
    IsSource,
    /// The other node is not heard as the source.
    OtherIsNoSource,
    /// The other node is not heard.
    NotHeard,
    /// The other node takes frames of so many bytes at most.
    FrameTooLong(u32),
    /// Its log has failed.
    LogFailed,
    /// The other node refuses, with these words.
    Refused(String),
    /// The arbiter does not take note.
    Arbiter(&'static str),
    /// The volume is about to have another size.
    Resizes,
    /// It has that size.
    SameSize,
    /// It is no size of a volume with blocks of so many bytes.
    NotBlocks(u32),
    /// This node's device has so many bytes.
    DeviceTooSmall(u64),
    /// This node has room for a record of so many bytes.
    NoRoom(u64),
    /// What is behind so many bytes would be lost, and the volume was not named.
    NotNamed(u64),
    /// This node has data of it.
    HasData,
    /// The other node has data of it.
    OtherHasData,
    /// What an operator said before is not done yet.
    Busy,
    /// It could not be begun in time.
    Late,
    /// The program stops.
    Stops,
}

impl fmt::Display for Unwilling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWhole => {
                "the replica is not whole: a copy into it was cut off, or never begun"
            }
            Self::OtherServes => {
                "the other node is there, and is the source: `throughline pair demote` says there that this one is to be"
            }
            Self::OtherLives => {
                "etcd says that the other node is alive: stop it first, or say --force if it is not"
            }
            Self::OtherWentOn => {
                "etcd says that the other node went on alone: it has data that this one lacks. Start it, or say --force to lose them"
            }
            Self::NotSource => "this node is not the source",
            Self::NotInSync => {
                "the other node does not have the same, or is not there: `throughline pair report` says how far it is"
            }
            Self::Verifies => "the replicas are being compared already",
            Self::Severed => {
                "an operator has severed the pair: `throughline pair reestablish` ends that"
            }
            Self::SeveredThere => {
                "an operator has severed the pair at the other node, which has data that this one lacks: `throughline pair reestablish` says there that the nodes come together again"
            }
            Self::NotSevered => {
                "no operator has severed the pair: the nodes come together by themselves, and `throughline pair report` says how far they are"
            }
            Self::NeverMet => {
                "this node has met no other one, and serves alone: leave the volume out of [pair] if that is to stay so"
            }
            Self::NotServing => {
                "this node is the source, and hosts are not served: `throughline pair report` says why, `throughline pair promote` has it go on alone"
            }
            Self::NotAlike(refused) => return refused.fmt(f),
            Self::IsSource => {
                "this node is the source, and the other one is not: what this one has is the volume's. `throughline pair demote` makes the other one the source; --force loses what this one has"
            }
            Self::OtherIsNoSource => {
                "the other node is not heard, or is not the source: what this one has may be all that there is. Bring that one up, and have it be the source (`throughline pair promote` there); --force loses what this one has"
            }
            Self::NotHeard => {
                "the other node is not heard: `throughline pair report` says since when"
            }
            Self::FrameTooLong(bytes) => {
                return write!(
                    f,
                    "the other node takes frames with {bytes} bytes of payload at most: say it there first"
                );
            }
            Self::LogFailed => {
                "this node's log has failed: mend its store, and start the program again"
            }
            Self::Refused(why) => return write!(f, "the other node refuses: {why}"),
            Self::Arbiter(why) => return write!(f, "{why}, and both nodes go on as before"),
            Self::Resizes => {
                "the volume is about to have another size: `throughline pair report` says how far that is"
            }
            Self::SameSize => "the volume has that size",
            Self::NotBlocks(block) => {
                return write!(f, "a size is in whole blocks of {block} bytes, and not 0");
            }
            Self::DeviceTooSmall(bytes) => {
                return write!(
                    f,
                    "this node's device has {bytes} bytes: make it larger first, and the other node's, too"
                );
            }
            Self::NoRoom(bytes) => {
                return write!(
                    f,
                    "this node has room for a record of what is changed of {bytes} bytes: start the program again, and it makes some for what the device has"
                );
            }
            Self::NotNamed(bytes) => {
                return write!(
                    f,
                    "what the volume has behind {bytes} bytes would be lost: say its store once more with --volume-name if that is to be"
                );
            }
            Self::HasData => {
                "the volume has been established: this node has data of it, or a part of them. `throughline pair report` says how it stands"
            }
            Self::OtherHasData => {
                "the other node has data of the volume, or a part of them: this one is copied to as soon as that one is whole"
            }
            Self::Busy => "what was asked for before is not done yet",
            Self::Late => {
                "the nodes are about to meet, or to lose each other: ask again, `throughline pair report` says how far they are"
            }
            Self::Stops => "the program stops",
        })
    }
}

impl std::error::Error for Unwilling {}

impl Pair {
    /// An operator says that this node is the source, and that the other one is not. `is_forced`: whatever the arbiter says.
    ///
    /// # Errors
    /// [`Unwilling`].
    pub fn promote(&mut self, is_forced: bool) -> Result<(), Unwilling> {
        if self.content.standing.wholeness != Wholeness::Whole {
            return Err(Unwilling::NotWhole);
        }
        if self.content.role == Role::Source && self.shared.mode().0 != Mode::Suspended {
            return Ok(());
        }
        if self.shared.has_failed() {
            return Err(Unwilling::LogFailed);
        }
        if self.is_up && matches!(self.phase, Phase::Destination(_)) {
            return Err(Unwilling::OtherServes);
        }
        if self.content.severed.is_some() && !is_forced {
            return Err(Unwilling::SeveredThere);
        }
        if let Some(leases) = self.leases.as_ref().filter(|_| !is_forced) {
            leases.lets_promote(self.content.standing.replica)?;
        }
        self.take_over();
        Ok(())
    }

    /// This node is to be the source, and goes on alone.
    pub(super) fn take_over(&mut self) {
        self.begin_anew();
        self.enter(Phase::Promoting);
    }

    pub(super) fn promote_on(&mut self) {
        if !self.shared.is_quiet() {
            return;
        }
        self.content.role = Role::Source;
        self.content.severed = None;
        match self.content.peer {
            Some(_) => self.go_alone(),
            None => {
                let tag = self.alone_tag();
                self.content.standing = self.content.standing.named(tag);
                self.store(After::Alone);
            }
        }
    }

    /// An operator says that the other node is to be the source.
    ///
    /// # Errors
    /// [`Unwilling`].
    pub fn demote(&mut self) -> Result<(), Unwilling> {
        match self.phase {
            Phase::Source(Step::Draining | Step::Drained) => Ok(()),
            Phase::Source(Step::InSync) if self.resizing.is_some() => Err(Unwilling::Resizes),
            Phase::Source(Step::InSync) if self.is_up => {
                self.shared.set_mode(Mode::Draining);
                self.enter(Phase::Source(Step::Draining));
                Ok(())
            }
            Phase::Source(_) => Err(Unwilling::NotInSync),
            _ if self.content.role == Role::Source => Err(Unwilling::NotInSync),
            _ => Err(Unwilling::NotSource),
        }
    }

    /// An operator wants to know whether both nodes have the same, which [`Mirrored::verification`](crate::Mirrored::verification) says
    /// then. `mends`: what differs is copied to the other node.
    ///
    /// # Errors
    /// [`Unwilling`].
    pub fn verify(&mut self, mends: bool) -> Result<(), Unwilling> {
        match self.phase {
            Phase::Source(Step::InSync) if self.resizing.is_some() => Err(Unwilling::Resizes),
            Phase::Source(Step::InSync) if self.is_up => {
                let granules = self.config.len.div_ceil(crate::GRANULE);
                let begins = self.shared.verification().begin(granules, mends);
                begins.then_some(()).ok_or(Unwilling::Verifies)
            }
            Phase::Source(_) => Err(Unwilling::NotInSync),
            _ if self.content.role == Role::Source => Err(Unwilling::NotInSync),
            _ => Err(Unwilling::NotSource),
        }
    }

    /// Tells how a comparison ended, once it has.
    pub(super) fn tell_of_verification(&mut self) {
        let verification = self.shared.verification();
        let run = verification.run();
        if run == self.verified || !verification.is_over() {
            return;
        }
        let Some(report) = verification.report() else {
            return;
        };
        self.verified = run;
        let event = match report.differing {
            0 => AlertEvent::Verified,
            _ => AlertEvent::Differs,
        };
        self.alert(event, report.to_string());
    }

    /// What hosts asked for before has ended at both, or takes too long.
    pub(super) fn drain(&mut self) {
        if self.shared.is_settled() {
            self.content.role = Role::Yielding;
            self.enter(Phase::Source(Step::Drained));
            return self.store(After::Yielding);
        }
        if self.now >= self.since + DRAIN {
            self.shared.set_mode(Mode::Forward);
            self.enter(Phase::Source(Step::InSync));
            let text = format!(
                "this node stays the source: what hosts have under way has not ended after {} s",
                DRAIN.as_secs()
            );
            self.alert(AlertEvent::NotDemoted, text);
        }
    }

    /// That this node yields is stable: the other one becomes the source when they meet.
    pub(super) fn yields(&mut self) {
        if self.phase == Phase::Source(Step::Drained) && !self.severs {
            self.shared.set_mode(Mode::Suspended);
            self.begin_anew();
        }
    }

    /// Goes on without the other one, if nothing else keeps that from being the source.
    pub(super) fn go_on_without(&mut self) {
        match self.leases.is_some() {
            true if self.is_stopping => self.suspend(),
            true => self.want_alone(),
            false => self.go_alone(),
        }
    }

    /// Hosts are not served until the nodes have met, or the arbiter lets this one go on.
    pub(super) fn suspend(&mut self) {
        self.shared.set_mode(Mode::Suspended);
        self.begin_anew();
    }

    /// Goes on without the other one.
    pub(super) fn go_alone(&mut self) {
        let Some(peer) = self.peer() else {
            return;
        };
        let tag = self.alone_tag();
        match self.content.standing.alone(peer, tag, self.config.len) {
            Ok(standing) => {
                // What this node did for the other one is its own now.
                self.shared.join_pending();
                self.content.role = Role::Source;
                self.content.standing = standing;
                // It may have given up what it had since they were in sync, and be another replica.
                self.content.peer = Some(peer);
                if let Some(since) = self.orders.severs() {
                    self.content.severed = Some(since);
                }
                self.store(After::Alone);
            }
            Err(NotWhole) => self.begin_anew(),
        }
    }

    pub(super) fn is_alone(&mut self) {
        self.shared.set_mode(Mode::Alone);
        self.severs = false;
        let generation = self.content.standing.generation;
        let until = match self.content.severed {
            Some(_) => ". An operator said so: it stays so until `throughline pair reestablish`",
            None => "",
        };
        let text = format!(
            "the pair is severed: this node goes on without the other one, which is out of date since generation {generation}{until}"
        );
        self.alert(AlertEvent::Severed, text);
        self.begin_anew();
        self.has_severed();
    }

    pub(super) fn peer(&self) -> Option<ReplicaId> {
        let theirs = self.theirs.map(|theirs| theirs.claim.replica);
        theirs.or(self.content.peer)
    }
}
