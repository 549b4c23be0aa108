//! NVM subsystems: who may use them, and the namespaces they have now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use block::NamespaceIndex;
use sync::Watched;
use tls::PskTable;

use crate::ana::{AnaState, AnaStates};
use crate::command::ConnectField;
use crate::config::{
    ConfigError, DISCOVERY_NQN, Host, Hosts, NamespaceConfig, SubsystemConfig, TargetConfig,
};
use crate::listener::{Listener, ListenerConfig};
use crate::namespaces::Namespaces;
use crate::status::Status;
use crate::units::Nsid;

/// What a target offers at some time: its subsystems, and where they can be reached.
#[derive(Clone, Debug)]
pub(crate) struct Subsystems {
    config: Arc<TargetConfig>,
    list: Vec<Arc<Subsystem>>,
    listeners: Vec<ListenerConfig>,
    /// How often what the discovery log says was changed.
    changes: u64,
}

impl Subsystems {
    /// Those of `config`, which was found valid.
    pub fn new(config: Arc<TargetConfig>) -> Self {
        let subsystems = config.subsystems.iter().cloned().map(Subsystem::new);
        Self {
            list: subsystems.map(Arc::new).collect(),
            listeners: config.listeners.clone(),
            changes: 0,
            config,
        }
    }

    /// What they were made from; what is offered may have changed since.
    pub fn config(&self) -> &TargetConfig {
        &self.config
    }

    /// Where they can be reached.
    pub fn listeners(&self) -> &[ListenerConfig] {
        &self.listeners
    }

    /// Changes with everything that the discovery log says; never 0.
    pub fn generation(&self) -> u64 {
        self.changes + 1
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Subsystem>> {
        self.list.iter()
    }

    /// The subsystem named `nqn`.
    pub fn find(&self, nqn: &str) -> Option<&Arc<Subsystem>> {
        self.list.iter().find(|s| s.config.nqn == nqn)
    }

    /// The subsystems that `host` may use, for the discovery log.
    pub fn allowed(&self, host: &str) -> impl Iterator<Item = &Subsystem> {
        let allowed = move |s: &&Subsystem| s.allows(host);
        self.list.iter().map(Arc::as_ref).filter(allowed)
    }

    /// Every PSK of every host, as hosts offer them.
    pub fn psks(&self) -> PskTable {
        let mut table = PskTable::new();
        for subsystem in &self.list {
            let Hosts::Listed(hosts) = &*lock(&subsystem.hosts) else {
                continue;
            };
            for host in hosts {
                let Some(psk) = &host.psk else {
                    continue;
                };
                for nqn in [&*subsystem.config.nqn, DISCOVERY_NQN] {
                    // Names of any NQN's length fit an identity of version 1. Where they do not fit one of version 0, hosts
                    // cannot offer that either.
                    let _ = table.add(psk, &host.nqn, nqn);
                }
            }
        }
        table
    }

    /// Offers one more.
    pub fn add(&mut self, config: SubsystemConfig) {
        self.list.push(Arc::new(Subsystem::new(config)));
    }

    /// Offers the subsystem named `nqn` no more; false if there is none.
    pub fn remove(&mut self, nqn: &str) -> bool {
        let before = self.list.len();
        self.list.retain(|subsystem| subsystem.config.nqn != nqn);
        self.list.len() < before
    }

    /// Replaces where they can be reached.
    pub fn set_listeners(&mut self, listeners: Vec<ListenerConfig>) {
        self.listeners = listeners;
    }

    /// What the discovery log says is not what it was.
    pub fn changed(&mut self) {
        self.changes += 1;
    }
}

/// One NVM subsystem: what it offers now.
#[derive(Debug)]
pub(crate) struct Subsystem {
    /// What it was made from, but for hosts and namespaces.
    pub config: SubsystemConfig,
    hosts: Mutex<Hosts>,
    /// Their number is their generation; compared by queues without the lock.
    namespaces: Watched<Shown>,
}

/// The namespaces of a subsystem, as controllers see them by its listeners.
#[derive(Debug)]
struct Shown {
    /// None if the subsystem does not report asymmetric access.
    states: Option<AnaStates>,
    /// Backups that may be read.
    readable: Vec<NamespaceIndex>,
    /// By listeners that are like all others.
    anywhere: Arc<Namespaces>,
    /// By those of which something of its own was said.
    by_listener: Vec<(Listener, Arc<Namespaces>)>,
}

impl Subsystem {
    fn new(mut config: SubsystemConfig) -> Self {
        let namespaces = std::mem::take(&mut config.namespaces);
        let hosts = std::mem::replace(&mut config.hosts, Hosts::Any);
        let states = config.ana.map(AnaStates::new);
        let shown = Shown {
            anywhere: Arc::new(Namespaces::new(namespaces, states.as_ref(), None)),
            by_listener: Vec::new(),
            readable: Vec::new(),
            states,
        };
        Self {
            hosts: Mutex::new(hosts),
            config,
            namespaces: Watched::new(shown),
        }
    }

    /// Whether `host` may use it.
    pub fn allows(&self, host: &str) -> bool {
        match &*lock(&self.hosts) {
            Hosts::Any => true,
            Hosts::Listed(hosts) => hosts.iter().any(|h| h.nqn == host),
        }
    }

    /// What `host` has to prove that it has before it may use it.
    pub fn keys(&self, host: &str) -> Option<Arc<auth::HostKeys>> {
        self.with_host(host, |host| host.keys.clone())
    }

    /// Whether connections of `host` have to be encrypted.
    pub fn has_psk(&self, host: &str) -> bool {
        self.with_host(host, |host| host.psk.as_ref().map(drop))
            .is_some()
    }

    /// What there is of a host that is listed.
    fn with_host<T>(&self, nqn: &str, get: impl FnOnce(&Host) -> Option<T>) -> Option<T> {
        match &*lock(&self.hosts) {
            Hosts::Any => None,
            Hosts::Listed(hosts) => get(hosts.iter().find(|host| host.nqn == nqn)?),
        }
    }

    /// Replaces who may use it.
    pub fn set_hosts(&self, hosts: Hosts) {
        *lock(&self.hosts) = hosts;
    }

    /// Replaces the namespaces, which were found valid.
    pub fn set_namespaces(&self, namespaces: Vec<NamespaceConfig>) {
        let mut shown = self.namespaces.lock();
        shown.show(&namespaces);
        self.namespaces.publish(&shown, shown.anywhere.generation);
    }

    /// Sets the state of an ANA group, or of all, by a listener, or by all.
    ///
    /// # Errors
    /// If the subsystem does not report asymmetric access, or a group is lost for good; nothing changes then.
    pub fn set_ana_state(
        &self,
        listener: Option<Listener>,
        group: Option<Nsid>,
        state: AnaState,
    ) -> Result<(), ConfigError> {
        let mut shown = self.namespaces.lock();
        let nqn = || self.config.nqn.clone();
        let Some(states) = &mut shown.states else {
            return Err(ConfigError::NoAna(nqn()));
        };
        let mut next = states.clone();
        next.say(listener, group, state);
        if let Some(nsid) = shown.leaves_loss(&next) {
            return Err(ConfigError::AnaLost { nqn: nqn(), nsid });
        }
        shown.states = Some(next);
        if let Some(listener) = listener
            && shown.by_listener.iter().all(|(own, _)| *own != listener)
        {
            let like_others = Arc::clone(&shown.anywhere);
            shown.by_listener.push((listener, like_others));
        }
        let namespaces: Vec<_> = shown.anywhere.all().cloned().collect();
        shown.show(&namespaces);
        self.namespaces.publish(&shown, shown.anywhere.generation);
        Ok(())
    }

    /// Shows those backups that may be read, and no others.
    pub fn show_backups(&self, is_readable: impl Fn(NamespaceIndex) -> bool) {
        let shown = self.namespaces();
        let mut backups = shown.all().filter(|ns| ns.is_backup);
        if backups.all(|ns| shown.get(ns.nsid).is_some() == is_readable(ns.index)) {
            return;
        }
        let mut shown = self.namespaces.lock();
        let namespaces: Vec<_> = shown.anywhere.all().cloned().collect();
        let backups = namespaces.iter().filter(|ns| ns.is_backup);
        let readable = backups.filter(|ns| is_readable(ns.index));
        shown.readable = readable.map(|ns| ns.index).collect();
        shown.show(&namespaces);
        self.namespaces.publish(&shown, shown.anywhere.generation);
    }

    /// The namespaces now, and the states of their groups by listeners that are like all others.
    pub fn namespaces(&self) -> Arc<Namespaces> {
        Arc::clone(&self.namespaces.lock().anywhere)
    }

    /// The namespaces now, as controllers see them that were connected to by `listener`.
    pub fn namespaces_at(&self, listener: Listener) -> Arc<Namespaces> {
        let shown = self.namespaces.lock();
        let mut own = shown.by_listener.iter();
        let own = own.find(|(own, _)| *own == listener);
        Arc::clone(own.map_or(&shown.anywhere, |(_, namespaces)| namespaces))
    }

    /// Whether `seen` is what there is now. Takes no lock.
    #[inline]
    pub fn is_current(&self, seen: &Namespaces) -> bool {
        self.namespaces.number() == seen.generation
    }
}

impl Shown {
    /// Shows `namespaces` from now on, in the states that were said.
    fn show(&mut self, namespaces: &[NamespaceConfig]) {
        let (states, readable) = (self.states.as_ref(), &self.readable);
        let next = |listener, before: &Namespaces| {
            Arc::new(Namespaces::after(
                before,
                namespaces.to_vec(),
                states,
                readable,
                listener,
            ))
        };
        for (listener, shown) in &mut self.by_listener {
            *shown = next(Some(*listener), shown);
        }
        self.anywhere = next(None, &self.anywhere);
    }

    /// A group that is lost for good by some listener, and would not be by `next`: the state
    /// "shall not transition to any other" (base 8.1.3.4).
    fn leaves_loss(&self, next: &AnaStates) -> Option<Nsid> {
        let lost = |listener, namespaces: &Namespaces| {
            let mut nsids = namespaces.iter().map(|ns| ns.nsid);
            nsids.find(|&nsid| {
                let now = namespaces.group(nsid).map(|group| group.state);
                now == Some(AnaState::PersistentLoss)
                    && next.of(listener, nsid) != AnaState::PersistentLoss
            })
        };
        let mut own = self.by_listener.iter();
        own.find_map(|(listener, namespaces)| lost(Some(*listener), namespaces))
            .or_else(|| lost(None, &self.anywhere))
    }
}

/// The status of a Connect that is refused, and the result that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectError {
    pub status: Status,
    /// Dword 0: IPO, and IATTR in bit 16 (base 6.3, Figure 385).
    pub result: u32,
}

impl ConnectError {
    /// Invalid Parameters: the field at `offset` of the command.
    pub fn command(offset: u16) -> Self {
        Self {
            status: Status::CONNECT_INVALID_PARAMETERS,
            result: u32::from(offset),
        }
    }

    /// Invalid Parameters: `field` of the data.
    pub fn data(field: ConnectField) -> Self {
        Self {
            status: Status::CONNECT_INVALID_PARAMETERS,
            result: 1 << 16 | field as u32,
        }
    }
}

impl From<Status> for ConnectError {
    fn from(status: Status) -> Self {
        Self { status, result: 0 }
    }
}

/// Locks, whatever a panicking holder may have left: all these values are
/// replaced whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
