//! What can be changed while shards run.
//!
//! A [`Change`] is a plain value; [`Handle::change`](crate::Handle::change) makes it: what
//! concerns shards is handed to each of them over a ring and answered between
//! turns, step by step, so that all have done one before any begins the next.
//! A namespace is there on every shard before a host may see it, and is drained
//! on every shard before its store is free for another.

mod apply;
mod control;
mod step;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use nvmf::{AnaState, ListenerConfig};

use crate::config::{HostConfig, NamespaceConfig, SubsystemConfig};

pub(crate) use control::Changes;
pub(crate) use step::{ShardEnds, Steps};

/// Highest number of a namespace (NN of Identify Controller).
pub const NSID_MAX: u32 = nvmf::NamespaceConfig::NSID_MAX;

/// One change of what the target offers.
#[derive(Clone, Debug)]
pub enum Change {
    /// Offers a new subsystem, with the namespaces it names.
    AddSubsystem(SubsystemConfig),
    /// Ends a subsystem: its controllers end, its namespaces' stores are free for others.
    RemoveSubsystem {
        /// NQN of the subsystem.
        nqn: String,
    },
    /// Offers a store as a namespace; hosts get a Namespace Attribute Changed event (base 2.0, 5.2).
    AddNamespace {
        /// NQN of the subsystem.
        nqn: String,
        /// The namespace.
        namespace: NamespaceConfig,
    },
    /// Takes a namespace away; hosts get the same event. Requests that it has are completed,
    /// and what its cache holds is written, before the store is free for others.
    RemoveNamespace {
        /// NQN of the subsystem.
        nqn: String,
        /// Number of the namespace.
        nsid: u32,
    },
    /// Replaces who may connect, and with which keys. Controllers of hosts that may not any more end, and those of hosts
    /// that have a key now and never proved who they are.
    SetHosts {
        /// NQN of the subsystem.
        nqn: String,
        /// The hosts that may connect; `None` lets any.
        hosts: Option<Vec<HostConfig>>,
    },
    /// How hosts reach namespaces: the state of an ANA group of a subsystem that reports asymmetric access (base 2.0,
    /// 8.1); hosts get an Asymmetric Namespace Access Change event. When hosts are not to reach them any more, the change is made
    /// once nothing of what they asked before is under way.
    SetAnaState {
        /// NQN of the subsystem.
        nqn: String,
        /// For hosts that came by it; `None`: for all.
        listener: Option<SocketAddr>,
        /// Number of the group, which is its namespace's; `None`: every group, and those to come.
        group: Option<u32>,
        /// The state.
        state: AnaState,
    },
    /// Listens at one more address, for every subsystem.
    AddListener(ListenerConfig),
    /// Listens there no more. Connections that were accepted there stay.
    RemoveListener(SocketAddr),
    /// A store's device has another size: its namespaces have too; hosts get the same event
    /// as for a namespace that comes.
    Resize {
        /// Name of the store.
        store: String,
    },
}

/// Why a change was not made, or nobody knows whether it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// There is no subsystem of that NQN.
    NoSubsystem(String),
    /// There is one already.
    SubsystemExists(String),
    /// The subsystem has no namespace of that number.
    NoNamespace(String, u32),
    /// It has one already.
    NamespaceExists(String, u32),
    /// A namespace's number is 0 or above [`NSID_MAX`].
    NsidOutOfRange(u32),
    /// There is no store of that name.
    NoStore(String),
    /// The store is a namespace already: its name, the subsystem's NQN, the namespace's number.
    StoreTaken(String, String, u32),
    /// Another namespace has that UUID or NGUID: `uuid` or `nguid`, the other's subsystem's NQN,
    /// the other's number.
    IdentifierTaken(&'static str, String, u32),
    /// The subsystem does not report asymmetric namespace access.
    NoAna(String),
    /// No port has that address.
    NoAddress(IpAddr),
    /// The target listens there already.
    ListenerExists(SocketAddr),
    /// It does not listen there.
    NoListener(SocketAddr),
    /// The engine does not serve yet, or no more.
    NotServing,
    /// The engine cannot make it; why, and nothing has changed.
    Refused(String),
    /// Every shard was handed the change and not all have said in time that they
    /// made it. It is not taken back: they make it when they come to it.
    Unanswered,
}

impl std::error::Error for ChangeError {}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::NoSubsystem(nqn) => write!(f, "there is no subsystem {nqn}"),
            ChangeError::SubsystemExists(nqn) => write!(f, "there is a subsystem {nqn} already"),
            ChangeError::NoNamespace(nqn, nsid) => write!(f, "{nqn} has no namespace {nsid}"),
            ChangeError::NamespaceExists(nqn, nsid) => {
                write!(f, "{nqn} has a namespace {nsid} already")
            }
            ChangeError::NsidOutOfRange(nsid) => {
                write!(
                    f,
                    "{nsid} is not the number of a namespace: 1 to {NSID_MAX}"
                )
            }
            ChangeError::NoStore(store) => write!(f, "there is no store `{store}`"),
            ChangeError::StoreTaken(store, nqn, nsid) => {
                write!(f, "store `{store}` is namespace {nsid} of {nqn} already")
            }
            ChangeError::IdentifierTaken(field, nqn, nsid) => {
                write!(f, "namespace {nsid} of {nqn} has that {field} already")
            }
            ChangeError::NoAna(nqn) => {
                write!(f, "{nqn} does not report asymmetric namespace access")
            }
            ChangeError::NoAddress(address) => write!(f, "no port has the address {address}"),
            ChangeError::ListenerExists(address) => {
                write!(f, "the target listens at {address} already")
            }
            ChangeError::NoListener(address) => {
                write!(f, "the target does not listen at {address}")
            }
            ChangeError::NotServing => f.write_str("the program does not serve yet, or no more"),
            ChangeError::Refused(why) => f.write_str(why),
            ChangeError::Unanswered => f.write_str(
                "not every shard has made the change in time; it is not taken back, \
                those that are late make it when they come to it",
            ),
        }
    }
}
