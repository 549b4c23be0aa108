//! What each shard does of a change.

use std::net::SocketAddr;

use block::{NamespaceIndex, VolumeId, WritePolicy};

use crate::door::DoorKind;

/// One step of a change, to be made by every shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A volume is one more namespace.
    AddNamespace {
        index: NamespaceIndex,
        volume: VolumeId,
        policy: WritePolicy,
    },
    /// A namespace takes no more requests; done when it has none.
    CloseNamespace(NamespaceIndex),
    /// What is dirty of a volume is written; done when it is.
    FlushVolume(VolumeId),
    /// A closed namespace is no more.
    RemoveNamespace(NamespaceIndex),
    /// A volume's device has another size.
    Resize(VolumeId),
    /// Listens at an address.
    Listen(SocketAddr, DoorKind),
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
