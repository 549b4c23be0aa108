//! What each shard does of a change.

use std::net::SocketAddr;

use block::{NamespaceIndex, VolumeId, WritePolicy};
use sync::ring::{Receiver, Sender};

use crate::entrance::Entrance;

/// One step of a change, to be made by every shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A volume is one more namespace.
    AddNamespace {
        index: NamespaceIndex,
        volume: VolumeId,
        policy: WritePolicy,
        is_backup: bool,
    },
    /// A namespace takes no more requests; done when it has none.
    CloseNamespace(NamespaceIndex),
    /// What is dirty of a volume is written; done when it is.
    FlushVolume(VolumeId),
    /// A closed namespace is no more.
    RemoveNamespace(NamespaceIndex),
    /// Sessions look which namespaces are withheld from their hosts: what waits for those ends. Done when volumes
    /// have nothing more of it.
    Withhold,
    /// A volume's device has another size.
    Resize(VolumeId),
    /// Listens at an address.
    Listen(Entrance),
    /// Listens there no more.
    Unlisten(SocketAddr),
}

/// How a shard answers a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is made.
    Done,
    /// It cannot be made; the log says why.
    Refused,
}

/// A shard's ends of the rings that steps and answers cross.
pub(crate) struct ShardEnds {
    pub(crate) steps: Receiver<Step>,
    pub(crate) answers: Sender<Answer>,
}

/// The steps that a shard makes, one after the other.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) ends: Option<ShardEnds>,
    /// Begun, and not yet done.
    pub(crate) pending: Option<Step>,
}
