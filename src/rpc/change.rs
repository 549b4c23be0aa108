//! What can be changed while the engine runs.
//!
//! A [`Change`] is a plain value. Whoever makes one first applies it to a copy of
//! the configuration, which refuses what cannot be, and then hands it to the
//! engine, whose shards apply it between polls.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use engine::{Config, NamespaceConfig, SubsystemConfig};

/// Highest number of a namespace (NN of Identify Controller).
pub(crate) const NSID_MAX: u32 = 1024;

/// One change of what the target offers.
#[derive(Clone, Debug)]
pub(crate) enum Change {
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
    /// Replaces who may connect. Controllers of hosts that may not any more end.
    SetHosts {
        /// NQN of the subsystem.
        nqn: String,
        /// NQNs of the hosts that may connect; `None` lets any.
        hosts: Option<Vec<String>>,
    },
    /// Listens at one more address, for every subsystem.
    AddListener(SocketAddr),
    /// Listens there no more. Connections that were accepted there stay.
    RemoveListener(SocketAddr),
}

/// Why a change was not made, or nobody knows whether it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeError {
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

impl Change {
    /// Makes the change in a configuration.
    ///
    /// # Errors
    /// If the change does not fit the configuration, which then stays as it is.
    pub(crate) fn apply(&self, config: &mut Config) -> Result<(), ChangeError> {
        match self {
            Change::AddSubsystem(subsystem) => add_subsystem(config, subsystem),
            Change::RemoveSubsystem { nqn } => {
                let at = position(config, nqn)?;
                config.target.subsystems.remove(at);
                Ok(())
            }
            Change::AddNamespace { nqn, namespace } => {
                let at = position(config, nqn)?;
                check_namespace(config, &config.target.subsystems[at], namespace)?;
                let subsystem = &mut config.target.subsystems[at];
                subsystem.namespaces.push(namespace.clone());
                Ok(())
            }
            Change::RemoveNamespace { nqn, nsid } => {
                let at = position(config, nqn)?;
                let namespaces = &mut config.target.subsystems[at].namespaces;
                let found = namespaces.iter().position(|ns| ns.nsid == *nsid);
                let found = found.ok_or_else(|| ChangeError::NoNamespace(nqn.clone(), *nsid))?;
                namespaces.remove(found);
                Ok(())
            }
            Change::SetHosts { nqn, hosts } => {
                let at = position(config, nqn)?;
                config.target.subsystems[at].hosts.clone_from(hosts);
                Ok(())
            }
            Change::AddListener(address) => add_listener(config, *address),
            Change::RemoveListener(address) => {
                let listeners = &mut config.target.listeners;
                let found = listeners
                    .iter()
                    .position(|&l| SocketAddr::from(l) == *address);
                listeners.remove(found.ok_or(ChangeError::NoListener(*address))?);
                Ok(())
            }
        }
    }
}

fn position(config: &Config, nqn: &str) -> Result<usize, ChangeError> {
    let found = config.target.subsystems.iter().position(|s| s.nqn == nqn);
    found.ok_or_else(|| ChangeError::NoSubsystem(nqn.to_owned()))
}

fn add_subsystem(config: &mut Config, subsystem: &SubsystemConfig) -> Result<(), ChangeError> {
    if position(config, &subsystem.nqn).is_ok() {
        return Err(ChangeError::SubsystemExists(subsystem.nqn.clone()));
    }
    let mut checked = SubsystemConfig {
        namespaces: Vec::new(),
        ..subsystem.clone()
    };
    for namespace in &subsystem.namespaces {
        check_namespace(config, &checked, namespace)?;
        checked.namespaces.push(namespace.clone());
    }
    config.target.subsystems.push(checked);
    Ok(())
}

/// Whether `subsystem`, perhaps not yet in the configuration, can have the namespace.
fn check_namespace(
    config: &Config,
    subsystem: &SubsystemConfig,
    namespace: &NamespaceConfig,
) -> Result<(), ChangeError> {
    let (nsid, store) = (namespace.nsid, &namespace.store);
    if !(1..=NSID_MAX).contains(&nsid) {
        return Err(ChangeError::NsidOutOfRange(nsid));
    }
    if subsystem.namespaces.iter().any(|ns| ns.nsid == nsid) {
        return Err(ChangeError::NamespaceExists(subsystem.nqn.clone(), nsid));
    }
    if !config.stores.iter().any(|known| known.name == *store) {
        return Err(ChangeError::NoStore(store.clone()));
    }
    for other in config.target.subsystems.iter().chain([subsystem]) {
        if let Some(taken) = other.namespaces.iter().find(|ns| ns.store == *store) {
            let nqn = other.nqn.clone();
            return Err(ChangeError::StoreTaken(store.clone(), nqn, taken.nsid));
        }
    }
    Ok(())
}

fn add_listener(config: &mut Config, address: SocketAddr) -> Result<(), ChangeError> {
    let mut own = config.ports.iter().flat_map(|port| &port.addresses);
    if !own.any(|&(own, _)| own == address.ip()) {
        return Err(ChangeError::NoAddress(address.ip()));
    }
    let listener = (address.ip(), address.port());
    if config.target.listeners.contains(&listener) {
        return Err(ChangeError::ListenerExists(address));
    }
    config.target.listeners.push(listener);
    Ok(())
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
