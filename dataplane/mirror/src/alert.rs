//! What an operator is to know of a pair (row R6).

use crate::commands::Role;
use crate::replica::Generation;
use crate::standing::Refused;

/// What happened. Its [word](AlertEvent::word) stays the same from version to version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertEvent {
    /// Both nodes have the same.
    InSync,
    /// The other node is not heard: there is no link to it.
    PeerLost,
    /// This node goes on without the other one, which is out of date from now on.
    Severed,
    /// An operator severed the pair at the other node: this one is out of date from now on.
    SeveredThere,
    /// This node was the source, and hosts are not served until the nodes meet, or the arbiter lets it go on.
    NotServed,
    /// The source is gone, and this node is about to be it.
    TakesOver,
    /// This node's log has failed: the other one is to take over.
    HandsOver,
    /// This node was to yield, and stays the source.
    NotDemoted,
    /// Both went on without each other: nothing is overwritten.
    SplitBrain,
    /// The two replicas are left as they are, for another reason than that.
    NotAlike,
    /// The volume has another size, or other blocks, on the other node.
    VolumesDiffer,
    /// Neither node is the source.
    NoSource,
    /// The other node refuses the volume, or what it was asked for.
    PeerRefuses,
    /// An operator said that what this node's store has is the volume, of which nobody had data.
    Established,
    /// An operator said that this node gives up what it has: it is to be copied to.
    Discarded,
    /// The volume has another size now.
    Resized,
    /// It was to have another size, and does not.
    NotResized,
    /// A comparison ended, or was cut off, and nothing that differs was found.
    Verified,
    /// A comparison ended, or was cut off, and blocks that differ were found.
    Differs,
}

impl AlertEvent {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::InSync,
        Self::PeerLost,
        Self::Severed,
        Self::SeveredThere,
        Self::NotServed,
        Self::TakesOver,
        Self::HandsOver,
        Self::NotDemoted,
        Self::SplitBrain,
        Self::NotAlike,
        Self::VolumesDiffer,
        Self::NoSource,
        Self::PeerRefuses,
        Self::Established,
        Self::Discarded,
        Self::Resized,
        Self::NotResized,
        Self::Verified,
        Self::Differs,
    ];

    /// What programs know it by.
    pub const fn word(self) -> &'static str {
        match self {
            Self::InSync => "in_sync",
            Self::PeerLost => "peer_lost",
            Self::Severed => "severed",
            Self::SeveredThere => "severed_there",
            Self::NotServed => "not_served",
            Self::TakesOver => "takes_over",
            Self::HandsOver => "hands_over",
            Self::NotDemoted => "not_demoted",
            Self::SplitBrain => "split_brain",
            Self::NotAlike => "not_alike",
            Self::VolumesDiffer => "volumes_differ",
            Self::NoSource => "no_source",
            Self::PeerRefuses => "peer_refuses",
            Self::Established => "established",
            Self::Discarded => "discarded",
            Self::Resized => "resized",
            Self::NotResized => "not_resized",
            Self::Verified => "verified",
            Self::Differs => "differs",
        }
    }
}

impl From<Refused> for AlertEvent {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::SplitBrain => Self::SplitBrain,
            Refused::Unrelated
            | Refused::NoneWhole
            | Refused::NotEstablished
            | Refused::SameReplica => Self::NotAlike,
        }
    }
}

/// What an operator is to know of a volume of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// What happened.
    pub event: AlertEvent,
    /// The same in words.
    pub text: String,
    /// What this node was for the volume then.
    pub role: Role,
    /// The generation that its replica was of.
    pub generation: Generation,
}
