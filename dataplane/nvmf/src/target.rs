//! The target: subsystems and the registry of their controllers, shared by all shards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sync::Watched;

use crate::command::{ConnectData, ConnectField, FabricsCommand};
use crate::config::{
    ConfigError, DISCOVERY_NQN, Hosts, NamespaceConfig, SubsystemConfig, TargetConfig,
    validate_namespaces,
};
use crate::controller::{Controller, Enabled};
use crate::status::Status;
use crate::units::{Cntlid, Nsid, Qid};

/// Subsystems, and the registry of their controllers.
///
/// Shared by the shards. Its locks are taken for Connect, disconnect, a changed
/// namespace and management only, never for a frame or an I/O command.
#[derive(Debug)]
pub struct Target {
    config: TargetConfig,
    subsystems: Vec<Arc<Subsystem>>,
    registry: Mutex<Registry>,
    sessions: AtomicU64,
}

#[derive(Debug, Default)]
struct Registry {
    controllers: BTreeMap<Cntlid, Arc<Controller>>,
    last: u16,
}

/// Most entries an Admin Queue may have (base 3.1.3.8); MQES is about I/O queues.
pub(crate) const ADMIN_QUEUE_DEPTH: u16 = 4096;

/// Highest CNTLID given out (base 3.1.1: FFF0h and up are reserved).
const CNTLID_MAX: u16 = 0xffef;

/// A controller in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerInfo {
    /// Its number.
    pub cntlid: Cntlid,
    /// NQN of its subsystem.
    pub subsystem: String,
    /// NQN of its host.
    pub host: String,
    /// I/O queues connected.
    pub io_queues: u16,
}

impl Target {
    /// A target for `config`.
    ///
    /// # Errors
    /// If the configuration is not valid.
    pub fn new(config: TargetConfig) -> Result<Arc<Self>, ConfigError> {
        config.validate()?;
        let subsystems = config.subsystems.iter().cloned().map(Subsystem::new);
        Ok(Arc::new(Self {
            subsystems: subsystems.map(Arc::new).collect(),
            config,
            registry: Mutex::default(),
            sessions: AtomicU64::new(1),
        }))
    }

    /// What it was made from; namespaces may have changed since.
    pub fn config(&self) -> &TargetConfig {
        &self.config
    }

    /// Replaces the namespaces of the subsystem `nqn`: added, removed, resized.
    /// Hosts that asked for it get an asynchronous event (base 5.2, Namespace
    /// Attribute Changed). `Ok(false)` if there is no such subsystem.
    ///
    /// # Errors
    /// If the namespaces are not valid; nothing changes then.
    pub fn set_namespaces(
        &self,
        nqn: &str,
        namespaces: Vec<NamespaceConfig>,
    ) -> Result<bool, ConfigError> {
        validate_namespaces(nqn, &namespaces)?;
        let Some(subsystem) = self.subsystems.iter().find(|s| s.config.nqn == nqn) else {
            return Ok(false);
        };
        subsystem.set_namespaces(namespaces);
        Ok(true)
    }

    /// The controllers there are, in the order of their numbers.
    pub fn controllers(&self) -> Vec<ControllerInfo> {
        let registry = lock(&self.registry);
        let info = |c: &Arc<Controller>| ControllerInfo {
            cntlid: c.cntlid,
            subsystem: c.subsystem_nqn().to_owned(),
            host: c.host.clone(),
            io_queues: c.io_queues(),
        };
        registry.controllers.values().map(info).collect()
    }

    /// Ends a controller: its connections close as their shards notice.
    /// False if there is none of that number.
    pub fn end_controller(&self, cntlid: Cntlid) -> bool {
        let controller = lock(&self.registry).controllers.remove(&cntlid);
        if let Some(controller) = &controller {
            controller.end();
        }
        controller.is_some()
    }

    /// A number for a new session.
    pub(crate) fn session_id(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// The subsystems that `host` may use, for the discovery log.
    pub(crate) fn subsystems_for(&self, host: &str) -> impl Iterator<Item = &Subsystem> {
        let allowed = move |s: &&Subsystem| s.allows(host);
        self.subsystems.iter().map(Arc::as_ref).filter(allowed)
    }

    /// Creates a controller for a Connect to the Admin Queue (base 6.3).
    pub(crate) fn connect_admin(
        &self,
        data: &ConnectData<'_>,
        sq_size: u16,
    ) -> Result<Arc<Controller>, ConnectError> {
        if sq_size == 0 || sq_size >= ADMIN_QUEUE_DEPTH {
            return Err(ConnectError::command(FabricsCommand::CONNECT_SQ_SIZE_AT));
        }
        let subsystem = self.subsystem_for(data)?;
        if data.cntlid != Cntlid::DYNAMIC {
            return Err(ConnectError::data(ConnectField::Cntlid));
        }
        let mut registry = lock(&self.registry);
        if registry.controllers.len() >= usize::from(self.config.max_controllers) {
            return Err(Status::CONNECT_CONTROLLER_BUSY.into());
        }
        let cntlid = registry.next_cntlid();
        let controller = Arc::new(Controller::new(cntlid, subsystem, data.host, data.host_id));
        registry.controllers.insert(cntlid, Arc::clone(&controller));
        Ok(controller)
    }

    /// Adds an I/O queue to the controller that a Connect names (base 6.3).
    pub(crate) fn connect_io(
        &self,
        data: &ConnectData<'_>,
        qid: Qid,
        sq_size: u16,
    ) -> Result<(Arc<Controller>, Enabled), ConnectError> {
        if sq_size == 0 || sq_size >= self.config.queue_depth {
            return Err(ConnectError::command(FabricsCommand::CONNECT_SQ_SIZE_AT));
        }
        let subsystem = self.subsystem_for(data)?;
        let controller = lock(&self.registry).controllers.get(&data.cntlid).cloned();
        let same_subsystem = |c: &Arc<Controller>| match (&c.subsystem, &subsystem) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            // A discovery controller has no I/O queues.
            _ => false,
        };
        let controller = controller
            .filter(same_subsystem)
            .ok_or(ConnectError::data(ConnectField::Cntlid))?;
        if controller.host != data.host || controller.host_id != data.host_id {
            return Err(ConnectError::data(ConnectField::Host));
        }
        let enabled = controller.add_queue(qid)?;
        Ok((controller, enabled))
    }

    /// Removes a controller whose Admin Queue is gone.
    pub(crate) fn remove_controller(&self, controller: &Arc<Controller>) {
        controller.end();
        let mut registry = lock(&self.registry);
        let registered = registry.controllers.get(&controller.cntlid);
        if registered.is_some_and(|c| Arc::ptr_eq(c, controller)) {
            registry.controllers.remove(&controller.cntlid);
        }
    }

    /// The subsystem that Connect names; `None` is the discovery subsystem.
    fn subsystem_for(
        &self,
        data: &ConnectData<'_>,
    ) -> Result<Option<Arc<Subsystem>>, ConnectError> {
        if data.subsystem == DISCOVERY_NQN {
            return Ok(None);
        }
        let named = |s: &&Arc<Subsystem>| s.config.nqn == data.subsystem;
        let subsystem = self.subsystems.iter().find(named);
        let subsystem = subsystem.ok_or(ConnectError::data(ConnectField::Subsystem))?;
        if !subsystem.allows(data.host) {
            return Err(Status::CONNECT_INVALID_HOST.into());
        }
        Ok(Some(Arc::clone(subsystem)))
    }
}

impl Registry {
    /// A number not in use; there is one, as controllers are fewer.
    fn next_cntlid(&mut self) -> Cntlid {
        loop {
            self.last = if self.last >= CNTLID_MAX {
                1
            } else {
                self.last + 1
            };
            if !self.controllers.contains_key(&Cntlid(self.last)) {
                return Cntlid(self.last);
            }
        }
    }
}

/// Why a Connect is refused, with the result its completion carries.
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

/// One NVM subsystem: what it offers now.
#[derive(Debug)]
pub(crate) struct Subsystem {
    pub config: SubsystemConfig,
    /// Their number is their generation; compared by sessions without the lock.
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

    fn allows(&self, host: &str) -> bool {
        match &self.config.hosts {
            Hosts::Any => true,
            Hosts::Listed(hosts) => hosts.iter().any(|h| h == host),
        }
    }

    fn set_namespaces(&self, namespaces: Vec<NamespaceConfig>) {
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

/// Locks, whatever a panicking holder may have left: all these values are
/// replaced whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
