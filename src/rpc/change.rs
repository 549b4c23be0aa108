//! Changes as the configuration knows them.
//!
//! Whoever makes a [`Change`] first applies it to a copy of the configuration,
//! which refuses what cannot be, and then hands it to the engine, whose shards
//! make it between polls.

use std::net::SocketAddr;

use engine::{Config, ListenerConfig, NamespaceConfig, SubsystemConfig};

pub(crate) use engine::{Change, ChangeError, NSID_MAX};

/// Makes the change in a configuration.
///
/// # Errors
/// If the change does not fit the configuration, which then stays as it is.
pub(crate) fn apply(change: &Change, config: &mut Config) -> Result<(), ChangeError> {
    match change {
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
        // Configured is how groups begin; how they are is the running target's.
        Change::SetAnaState {
            nqn,
            listener,
            group,
            ..
        } => check_ana(config, nqn, *listener, *group),
        // Sizes are the devices', not the configuration's.
        Change::Resize { .. } => Ok(()),
        Change::AddListener(listener) => add_listener(config, *listener),
        Change::RemoveListener(address) => {
            let listeners = &mut config.target.listeners;
            let found = listeners
                .iter()
                .position(|known| known.address() == *address);
            listeners.remove(found.ok_or(ChangeError::NoListener(*address))?);
            Ok(())
        }
    }
}

fn position(config: &Config, nqn: &str) -> Result<usize, ChangeError> {
    let found = config.target.subsystems.iter().position(|s| s.nqn == nqn);
    found.ok_or_else(|| ChangeError::NoSubsystem(nqn.to_owned()))
}

/// Whether there are a subsystem that reports asymmetric access, the listener and the group.
fn check_ana(
    config: &Config,
    nqn: &str,
    listener: Option<SocketAddr>,
    group: Option<u32>,
) -> Result<(), ChangeError> {
    let subsystem = &config.target.subsystems[position(config, nqn)?];
    if subsystem.ana.is_none() {
        return Err(ChangeError::NoAna(nqn.to_owned()));
    }
    if let Some(group) = group
        && !subsystem.namespaces.iter().any(|ns| ns.nsid == group)
    {
        return Err(ChangeError::NoNamespace(nqn.to_owned(), group));
    }
    let mut listeners = config.target.listeners.iter();
    match listener {
        Some(listener) if !listeners.any(|own| own.address() == listener) => {
            Err(ChangeError::NoListener(listener))
        }
        _ => Ok(()),
    }
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
    if !config.store_names().any(|known| known == store) {
        return Err(ChangeError::NoStore(store.clone()));
    }
    for other in config.target.subsystems.iter().chain([subsystem]) {
        // A volume is one namespace, and one more that it is read by as a backup.
        let is_same = |ns: &&NamespaceConfig| {
            ns.store == *store && ns.backup_of.is_some() == namespace.backup_of.is_some()
        };
        if let Some(taken) = other.namespaces.iter().find(is_same) {
            let nqn = other.nqn.clone();
            return Err(ChangeError::StoreTaken(store.clone(), nqn, taken.nsid));
        }
        // Hosts know namespaces by them, whatever subsystem they are in.
        let ids = |nqn: &str, ns: &NamespaceConfig| (ns.uuid_in(nqn), ns.nguid_in(nqn));
        let (uuid, nguid) = ids(&subsystem.nqn, namespace);
        for ns in &other.namespaces {
            let taken = ids(&other.nqn, ns);
            if taken.0 == uuid || taken.1 == nguid {
                let field = if taken.0 == uuid { "uuid" } else { "nguid" };
                let nqn = other.nqn.clone();
                return Err(ChangeError::IdentifierTaken(field, nqn, ns.nsid));
            }
        }
    }
    Ok(())
}

fn add_listener(config: &mut Config, listener: ListenerConfig) -> Result<(), ChangeError> {
    let address = listener.address();
    let mut own = config.ports.iter().flat_map(|port| &port.addresses);
    if !own.any(|&(own, _)| own == address.ip()) {
        return Err(ChangeError::NoAddress(address.ip()));
    }
    let mut listeners = config.target.listeners.iter();
    if listeners.any(|known| known.address() == address) {
        return Err(ChangeError::ListenerExists(address));
    }
    config.target.listeners.push(listener);
    Ok(())
}
