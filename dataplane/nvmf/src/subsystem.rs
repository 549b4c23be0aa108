//! NVM subsystems: who may use them, and the namespaces they have now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sync::Watched;

use crate::command::ConnectField;
use crate::config::{Hosts, Listener, NamespaceConfig, SubsystemConfig, TargetConfig};
use crate::status::Status;
use crate::units::Nsid;

/// What a target offers at some time: its subsystems, and where they can be reached.
#[derive(Clone, Debug)]
pub(crate) struct Subsystems {
    config: Arc<TargetConfig>,
    list: Vec<Arc<Subsystem>>,
    listeners: Vec<Listener>,
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
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Changes with everything that the discovery log says; never 0.
    pub fn generation(&self) -> u64 {
        self.changes + 1
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
    pub fn set_listeners(&mut self, listeners: Vec<Listener>) {
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
    namespaces: Watched<Arc<Namespaces>>,
}

/// The namespaces of a subsystem at some time, by number.
#[derive(Debug)]
pub(crate) struct Namespaces {
    generation: u64,
    by_nsid: Box<[Option<NamespaceConfig>]>,
}

impl Subsystem {
    fn new(mut config: SubsystemConfig) -> Self {
        let namespaces = std::mem::take(&mut config.namespaces);
        let hosts = std::mem::replace(&mut config.hosts, Hosts::Any);
        Self {
            hosts: Mutex::new(hosts),
            config,
            namespaces: Watched::new(Arc::new(Namespaces::new(0, namespaces))),
        }
    }

    /// Whether `host` may use it.
    pub fn allows(&self, host: &str) -> bool {
        match &*lock(&self.hosts) {
            Hosts::Any => true,
            Hosts::Listed(hosts) => hosts.iter().any(|h| h == host),
        }
    }

    /// Replaces who may use it.
    pub fn set_hosts(&self, hosts: Hosts) {
        *lock(&self.hosts) = hosts;
    }

    /// Replaces the namespaces, which were found valid.
    pub fn set_namespaces(&self, namespaces: Vec<NamespaceConfig>) {
        let mut current = self.namespaces.lock();
        let generation = current.generation + 1;
        *current = Arc::new(Namespaces::new(generation, namespaces));
        self.namespaces.publish(&current, generation);
    }

    /// The namespaces now.
    pub fn namespaces(&self) -> Arc<Namespaces> {
        Arc::clone(&self.namespaces.lock())
    }

    /// Whether `seen` is what there is now. Takes no lock.
    #[inline]
    pub fn is_current(&self, seen: &Namespaces) -> bool {
        self.namespaces.number() == seen.generation
    }
}

impl Namespaces {
    fn new(generation: u64, namespaces: Vec<NamespaceConfig>) -> Self {
        let highest = namespaces.iter().map(|ns| ns.nsid.0).max().unwrap_or(0);
        let mut by_nsid = vec![None; highest as usize].into_boxed_slice();
        for ns in namespaces {
            let at = ns.nsid.0 as usize - 1;
            by_nsid[at] = Some(ns);
        }
        Self {
            generation,
            by_nsid,
        }
    }

    /// The namespace `nsid`, if it is active.
    #[inline]
    pub fn get(&self, nsid: Nsid) -> Option<&NamespaceConfig> {
        let at = (nsid.0 as usize).checked_sub(1)?;
        self.by_nsid.get(at)?.as_ref()
    }

    /// The active namespaces, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &NamespaceConfig> {
        self.by_nsid.iter().flatten()
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
