//! NVM subsystems: who may use them, and the namespaces they have now.

use std::sync::Arc;

use sync::Watched;

use crate::command::ConnectField;
use crate::config::{Hosts, NamespaceConfig, SubsystemConfig, TargetConfig};
use crate::status::Status;
use crate::units::Nsid;

/// The subsystems of a target, and what all of them have in common.
#[derive(Debug)]
pub(crate) struct Subsystems {
    config: TargetConfig,
    list: Vec<Arc<Subsystem>>,
}

impl Subsystems {
    /// Those of `config`, which was found valid.
    pub fn new(config: TargetConfig) -> Self {
        let subsystems = config.subsystems.iter().cloned().map(Subsystem::new);
        Self {
            list: subsystems.map(Arc::new).collect(),
            config,
        }
    }

    /// What they were made from; namespaces may have changed since.
    pub fn config(&self) -> &TargetConfig {
        &self.config
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
}

/// One NVM subsystem: what it offers now.
#[derive(Debug)]
pub(crate) struct Subsystem {
    pub config: SubsystemConfig,
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
        Self {
            config,
            namespaces: Watched::new(Arc::new(Namespaces::new(0, namespaces))),
        }
    }

    /// Whether `host` may use it.
    pub fn allows(&self, host: &str) -> bool {
        match &self.config.hosts {
            Hosts::Any => true,
            Hosts::Listed(hosts) => hosts.iter().any(|h| h == host),
        }
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
