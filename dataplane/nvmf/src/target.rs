//! The target: subsystems and the registry of their controllers, shared by all shards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::command::{ConnectData, ConnectField, FabricsCommand};
use crate::config::{
    ADMIN_QUEUE_DEPTH, ConfigError, DISCOVERY_NQN, NamespaceConfig, TargetConfig,
    validate_namespaces,
};
use crate::controller::{Controller, Enabled};
use crate::status::Status;
use crate::subsystem::{ConnectError, Subsystem, Subsystems};
use crate::units::{Cntlid, Qid};

/// Subsystems, and the registry of their controllers.
///
/// Shared by the shards. Its locks are taken for Connect, disconnect, a changed
/// namespace and management only, never for a frame or an I/O command.
#[derive(Debug)]
pub struct Target {
    subsystems: Subsystems,
    registry: Mutex<Registry>,
    queues: AtomicU64,
}

#[derive(Debug, Default)]
struct Registry {
    controllers: BTreeMap<Cntlid, Arc<Controller>>,
    last: u16,
}

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
        Ok(Arc::new(Self {
            subsystems: Subsystems::new(config),
            registry: Mutex::default(),
            queues: AtomicU64::new(1),
        }))
    }

    /// What it was made from; namespaces may have changed since.
    pub fn config(&self) -> &TargetConfig {
        self.subsystems.config()
    }

    /// The subsystems there are.
    pub(crate) fn subsystems(&self) -> &Subsystems {
        &self.subsystems
    }

    /// Replaces the namespaces of the subsystem `nqn`: added, removed, resized.
    /// Hosts that enabled it get an asynchronous event (base 5.2, Namespace
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
        let Some(subsystem) = self.subsystems.find(nqn) else {
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

    /// A number for a new queue.
    pub(crate) fn queue_id(&self) -> u64 {
        self.queues.fetch_add(1, Ordering::Relaxed)
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
        if registry.controllers.len() >= usize::from(self.config().max_controllers) {
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
        if sq_size == 0 || sq_size >= self.config().queue_depth {
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
        let subsystem = self.subsystems.find(data.subsystem);
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

/// Locks, whatever a panicking holder may have left: all these values are
/// replaced whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
