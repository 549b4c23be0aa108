//! The target: subsystems and the registry of their controllers, shared by all shards.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeInclusive};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use block::{Fences, NamespaceIndex};
use sync::Watched;
use tls::PskTable;

use crate::ana::AnaState;
use crate::auth_desk::AuthDesk;
use crate::command::{ConnectData, ConnectField, FabricsCommand};
use crate::config::{
    ADMIN_QUEUE_DEPTH, ConfigError, DISCOVERY_NQN, Hosts, NamespaceConfig, SubsystemConfig,
    TargetConfig, validate_namespaces,
};
use crate::controller::{Association, Controller, Enabled, Quiescence};
use crate::listener::{Listener, ListenerConfig};
use crate::queue::io_queues_are_open;
use crate::secure::{self, Security};
use crate::status::Status;
use crate::subsystem::{ConnectError, Subsystem, Subsystems, lock};
use crate::units::{Cntlid, Nsid, Qid};

/// Subsystems, and the registry of their controllers.
///
/// Shared by the shards. Its locks are taken for Connect, disconnect, a changed
/// namespace and management only, never for a frame or an I/O command.
#[derive(Debug)]
pub struct Target {
    config: Arc<TargetConfig>,
    offered: Watched<Arc<Subsystems>>,
    registry: Mutex<Registry>,
    queues: AtomicU64,
    fences: Arc<Fences>,
    auth_desk: AuthDesk,
    /// What handshakes look for keys in, and which [`Subsystems::generation`] it is of.
    psks: Mutex<(u64, Arc<PskTable>)>,
}

#[derive(Debug, Default)]
struct Registry {
    /// How many of the controllers count as the target's: hosts of the others have yet to prove who they are.
    admitted: usize,
    controllers: BTreeMap<Cntlid, Arc<Controller>>,
    /// Those that have ended, while volumes have requests of theirs.
    ending: Vec<Arc<Controller>>,
    /// The number given last, of each range that numbers are given of.
    last: BTreeMap<(u16, u16), u16>,
}

/// When a queue that is connected is one of its controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Now: the name of its host is enough.
    AtOnce,
    /// When its host has proved who it is.
    Proved,
}

impl Admission {
    fn of(subsystem: Option<&Subsystem>, host: &str) -> Self {
        match subsystem.and_then(|subsystem| subsystem.keys(host)) {
            None => Admission::AtOnce,
            Some(_) => Admission::Proved,
        }
    }
}

/// Fences that there is room for before memory is allocated for more.
const FENCES: usize = 1024;

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
        let config = Arc::new(config);
        Ok(Arc::new(Self {
            offered: Watched::new(Arc::new(Subsystems::new(Arc::clone(&config)))),
            auth_desk: AuthDesk::new(config.authentication.clone()),
            config,
            psks: Mutex::default(),
            registry: Mutex::default(),
            queues: AtomicU64::new(1),
            fences: Arc::new(Fences::with_capacity(FENCES)),
        }))
    }

    /// What sessions that are gone may still change: for the volumes of every shard.
    pub fn fences(&self) -> &Arc<Fences> {
        &self.fences
    }

    /// Where messages of hosts that prove who they are wait to be looked at.
    pub fn auth_desk(&self) -> &AuthDesk {
        &self.auth_desk
    }

    /// The keys that hosts may prove by TLS as things stand: those of each host for its subsystems, and all of them for the discovery
    /// service. To be asked for off the polling cores: deriving them takes its time.
    pub fn psks(&self) -> Arc<PskTable> {
        let subsystems = self.subsystems();
        let mut psks = lock(&self.psks);
        let (generation, table) = &mut *psks;
        if *generation != subsystems.generation() {
            *table = Arc::new(subsystems.psks());
            *generation = subsystems.generation();
        }
        Arc::clone(table)
    }

    /// What it was made from; what is offered may have changed since.
    pub fn config(&self) -> &TargetConfig {
        &self.config
    }

    /// What is offered now.
    pub(crate) fn subsystems(&self) -> Arc<Subsystems> {
        Arc::clone(&self.offered.lock())
    }

    /// Replaces what is offered.
    fn offer(&self, change: impl FnOnce(&mut Subsystems)) {
        let mut offered = self.offered.lock();
        let mut next = Subsystems::clone(&offered);
        change(&mut next);
        next.changed();
        *offered = Arc::new(next);
        let number = self.offered.number() + 1;
        self.offered.publish(&offered, number);
    }

    /// Offers one more subsystem.
    ///
    /// # Errors
    /// If it is not valid, or there is one of that NQN; nothing changes then.
    pub fn add_subsystem(&self, config: SubsystemConfig) -> Result<(), ConfigError> {
        config.validate()?;
        self.config.validate_ana(&config)?;
        if config.nqn == DISCOVERY_NQN || self.subsystems().find(&config.nqn).is_some() {
            return Err(ConfigError::NqnTaken(config.nqn));
        }
        self.offer(|offered| offered.add(config));
        Ok(())
    }

    /// Ends the subsystem `nqn` and its controllers. False if there is none.
    pub fn remove_subsystem(&self, nqn: &str) -> bool {
        let Some(subsystem) = self.subsystems().find(nqn).cloned() else {
            return false;
        };
        self.offer(|offered| {
            offered.remove(nqn);
        });
        self.end_controllers(&subsystem, |_| true);
        true
    }

    /// Replaces who may use the subsystem `nqn`; controllers of hosts that may not
    /// any more end, and those of hosts that have to prove now who they are and never did, or have to be encrypted
    /// and are not. What a host has proved with a key that it had before stays. `Ok(false)` if there is no such
    /// subsystem.
    ///
    /// # Errors
    /// If a host's NQN is not valid; nothing changes then.
    pub fn set_hosts(&self, nqn: &str, hosts: Hosts) -> Result<bool, ConfigError> {
        hosts.validate()?;
        let Some(subsystem) = self.subsystems().find(nqn).cloned() else {
            return Ok(false);
        };
        subsystem.set_hosts(hosts);
        self.offer(|_| ());
        self.end_controllers(&subsystem, |controller| {
            let host = &controller.host;
            let has_to = || controller.is_admitted() && !controller.is_authenticated();
            let is_bare = || !controller.is_secure && subsystem.has_psk(host);
            !subsystem.allows(host) || has_to() && subsystem.keys(host).is_some() || is_bare()
        });
        Ok(true)
    }

    /// Replaces the addresses that the discovery log names.
    pub fn set_listeners(&self, listeners: Vec<ListenerConfig>) {
        self.offer(|offered| offered.set_listeners(listeners));
    }

    /// The addresses that the discovery log names.
    pub fn listeners(&self) -> Vec<ListenerConfig> {
        self.subsystems().listeners().to_vec()
    }

    /// The namespaces of the subsystem `nqn`, backups that are not shown included; `None` if there is no such subsystem.
    pub fn namespaces(&self, nqn: &str) -> Option<Vec<NamespaceConfig>> {
        let namespaces = self.subsystems().find(nqn)?.namespaces();
        Some(namespaces.all().cloned().collect())
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
        let subsystems = self.subsystems();
        let Some(subsystem) = subsystems.find(nqn) else {
            return Ok(false);
        };
        subsystem.set_namespaces(namespaces);
        Ok(true)
    }

    /// Sets the state of an ANA group of the subsystem `nqn`, or of all its groups, those of namespaces to come
    /// included: by one listener, or by all. What was set last holds. Hosts that enabled it get an
    /// asynchronous event (base 8.1.3.6), unless the state is [`AnaState::Change`]. `Ok(false)` if there is no
    /// such subsystem.
    ///
    /// # Errors
    /// If the subsystem does not report asymmetric access, or a group is in [`AnaState::PersistentLoss`] and would
    /// not be any more; nothing changes then.
    pub fn set_ana_state(
        &self,
        nqn: &str,
        listener: Option<Listener>,
        group: Option<Nsid>,
        state: AnaState,
    ) -> Result<bool, ConfigError> {
        let subsystems = self.subsystems();
        let Some(subsystem) = subsystems.find(nqn) else {
            return Ok(false);
        };
        subsystem.set_ana_state(listener, group, state)?;
        Ok(true)
    }

    /// Sets the states of namespaces of which `wanted` has one, by all listeners, in all subsystems that report asymmetric
    /// access, if they are in another; as [`Target::set_ana_state`] does. Namespaces that are lost for good stay so.
    pub fn set_ana_states(&self, wanted: impl Fn(NamespaceIndex) -> Option<AnaState>) {
        for subsystem in self.subsystems().iter() {
            let namespaces = subsystem.namespaces();
            for ns in namespaces.iter() {
                let (state, group) = (wanted(ns.index), namespaces.group(ns.nsid));
                if let (Some(state), Some(group)) = (state, group)
                    && ![state, AnaState::PersistentLoss].contains(&group.state)
                {
                    // It reports asymmetric access, and the group is not lost.
                    let _ = subsystem.set_ana_state(None, Some(ns.nsid), state);
                }
            }
        }
    }

    /// Shows hosts those backups that may be read, in all subsystems, and hides the others: they come and go as other namespaces do
    /// (base 5.2, Namespace Attribute Changed).
    pub fn show_backups(&self, is_readable: impl Fn(NamespaceIndex) -> bool) {
        for subsystem in self.subsystems().iter() {
            subsystem.show_backups(&is_readable);
        }
    }

    /// The ANA groups of the subsystem `nqn` that have a namespace, by number, and their states by `listener`;
    /// `None` if there is no such subsystem, or it does not report asymmetric access.
    pub fn ana_states(&self, nqn: &str, listener: Listener) -> Option<Vec<(Nsid, AnaState)>> {
        let namespaces = self.subsystems().find(nqn)?.namespaces_at(listener);
        let state = |ns: &NamespaceConfig| Some((ns.nsid, namespaces.group(ns.nsid)?.state));
        namespaces
            .has_groups()
            .then(|| namespaces.iter().filter_map(state).collect())
    }

    /// Ends the controllers of a subsystem that are `unwanted`: their connections close as
    /// their shards notice. A Connect that found the host allowed just before is among them: the
    /// registry is locked there too.
    fn end_controllers(&self, subsystem: &Arc<Subsystem>, unwanted: impl Fn(&Controller) -> bool) {
        let mut registry = lock(&self.registry);
        let Registry {
            admitted,
            controllers,
            ending,
            ..
        } = &mut *registry;
        controllers.retain(|_, controller| {
            let ours = controller.subsystem.as_ref();
            let ends =
                ours.is_some_and(|ours| Arc::ptr_eq(ours, subsystem)) && unwanted(controller);
            if ends {
                *admitted -= usize::from(controller.is_admitted());
                end(controller, ending);
            }
            !ends
        });
    }

    /// The controllers of hosts that need not prove who they are, or have, in the order of their numbers; those that have ended come behind
    /// them for as long as a shard does not know that.
    pub fn controllers(&self) -> Vec<ControllerInfo> {
        let registry = lock(&self.registry);
        let info = |c: &Arc<Controller>| ControllerInfo {
            cntlid: c.cntlid,
            subsystem: c.subsystem_nqn().to_owned(),
            host: c.host.clone(),
            io_queues: c.io_queues(),
        };
        let is_open = |c: &&Arc<Controller>| c.quiescence() == Quiescence::Open;
        let ending = registry.ending.iter().filter(is_open);
        let admitted = |c: &&Arc<Controller>| c.is_admitted();
        (registry.controllers.values().chain(ending))
            .filter(admitted)
            .map(info)
            .collect()
    }

    /// What is left of the controller's queues, and of controllers that its host had before
    /// in the same subsystem.
    pub(crate) fn quiescence(&self, controller: &Controller) -> Quiescence {
        let registry = lock(&self.registry);
        let subsystem = |c: &Controller| c.subsystem.as_ref().map(Arc::as_ptr);
        let is_before = |ended: &&Arc<Controller>| {
            (&ended.host, ended.host_id) == (&controller.host, controller.host_id)
                && subsystem(ended) == subsystem(controller)
        };
        let before = registry.ending.iter().filter(is_before);
        before
            .map(|ended| ended.quiescence())
            .fold(controller.quiescence(), Ord::max)
    }

    /// Volumes have nothing more of an I/O queue of `controller` that has ended.
    pub(crate) fn queue_is_quiet(&self, controller: &Arc<Controller>) {
        controller.queue_is_quiet();
        if controller.has_ended() && controller.quiescence() == Quiescence::Quiet {
            let mut registry = lock(&self.registry);
            registry.ending.retain(|c| !Arc::ptr_eq(c, controller));
        }
    }

    /// A number for a new queue.
    pub(crate) fn queue_id(&self) -> u64 {
        self.queues.fetch_add(1, Ordering::Relaxed)
    }

    /// Creates a controller for a Connect to the Admin Queue that came in by `listener` (base 6.3).
    pub(crate) fn connect_admin(
        &self,
        data: &ConnectData<'_>,
        sq_size: u16,
        listener: Listener,
        security: &Security,
    ) -> Result<(Arc<Controller>, Admission), ConnectError> {
        if sq_size == 0 || sq_size >= ADMIN_QUEUE_DEPTH {
            return Err(ConnectError::command(FabricsCommand::CONNECT_SQ_SIZE_AT));
        }
        let subsystem = self.subsystem_for(data, security)?;
        if data.cntlid != Cntlid::DYNAMIC {
            return Err(ConnectError::data(ConnectField::Cntlid));
        }
        let mut registry = lock(&self.registry);
        // Again, now that nobody ends controllers: the subsystem is there, and the host may use it.
        self.subsystem_for(data, security)?;
        let admission = Admission::of(subsystem.as_deref(), data.host);
        if registry.admitted >= usize::from(self.config().max_controllers) {
            return Err(Status::CONNECT_CONTROLLER_BUSY.into());
        }
        let cntlids = subsystem.as_ref().map(|s| s.config.cntlids.clone());
        let cntlids = cntlids.unwrap_or(SubsystemConfig::CNTLIDS);
        let cntlid = registry.next_cntlid(&cntlids);
        let cntlid = cntlid.or_else(|| registry.displace(&cntlids));
        let cntlid = cntlid.ok_or(Status::CONNECT_CONTROLLER_BUSY)?;
        let association = Association {
            listener,
            host: data.host.to_owned(),
            host_id: data.host_id,
            is_secure: security.is_some(),
        };
        let controller = Arc::new(Controller::new(cntlid, subsystem, association));
        if admission == Admission::AtOnce {
            controller.admit(false);
            registry.admitted += 1;
        }
        registry.controllers.insert(cntlid, Arc::clone(&controller));
        Ok((controller, admission))
    }

    /// The host of `controller` has proved who it is: from now on it counts; false if it has ended, or there are as
    /// many as there may be.
    pub(crate) fn admit(&self, controller: &Arc<Controller>) -> bool {
        let mut registry = lock(&self.registry);
        let registered = registry.controllers.get(&controller.cntlid);
        let is_there = registered.is_some_and(|c| Arc::ptr_eq(c, controller));
        if !is_there || registry.admitted >= usize::from(self.config().max_controllers) {
            return false;
        }
        controller.admit(true);
        registry.admitted += 1;
        true
    }

    /// Adds an I/O queue to the controller that a Connect names (base 6.3).
    pub(crate) fn connect_io(
        &self,
        data: &ConnectData<'_>,
        qid: Qid,
        sq_size: u16,
        security: &Security,
    ) -> Result<(Arc<Controller>, Enabled, Admission), ConnectError> {
        if sq_size == 0 || sq_size >= self.config().queue_depth {
            return Err(ConnectError::command(FabricsCommand::CONNECT_SQ_SIZE_AT));
        }
        let subsystem = self.subsystem_for(data, security)?;
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
        secure::check_io(security, controller.is_secure)?;
        let admission = match io_queues_are_open() {
            true => Admission::AtOnce,
            false => Admission::of(subsystem.as_deref(), data.host),
        };
        // A queue of somebody who may be anybody takes no number from the host's own.
        let enabled = match admission {
            Admission::AtOnce => controller.add_queue(qid)?,
            Admission::Proved => controller.may_add_queue(qid)?,
        };
        Ok((controller, enabled, admission))
    }

    /// Removes a controller whose Admin Queue is gone.
    pub(crate) fn remove_controller(&self, controller: &Arc<Controller>) {
        let mut registry = lock(&self.registry);
        let registered = registry.controllers.get(&controller.cntlid);
        if registered.is_some_and(|c| Arc::ptr_eq(c, controller)) {
            registry.controllers.remove(&controller.cntlid);
            registry.admitted -= usize::from(controller.is_admitted());
            end(controller, &mut registry.ending);
        }
    }

    /// The subsystem that Connect names on such a connection; `None` is the discovery subsystem.
    fn subsystem_for(
        &self,
        data: &ConnectData<'_>,
        security: &Security,
    ) -> Result<Option<Arc<Subsystem>>, ConnectError> {
        if data.subsystem == DISCOVERY_NQN {
            secure::check(security, data, None)?;
            return Ok(None);
        }
        let subsystems = self.subsystems();
        let subsystem = subsystems.find(data.subsystem);
        let subsystem = subsystem.ok_or(ConnectError::data(ConnectField::Subsystem))?;
        if !subsystem.allows(data.host) {
            return Err(Status::CONNECT_INVALID_HOST.into());
        }
        secure::check(security, data, Some(subsystem))?;
        Ok(Some(Arc::clone(subsystem)))
    }
}

/// Ends a controller that was taken out of the registry; it is among those `ending` while anything
/// of it is left.
fn end(controller: &Arc<Controller>, ending: &mut Vec<Arc<Controller>>) {
    controller.end();
    if controller.quiescence() != Quiescence::Quiet {
        ending.push(Arc::clone(controller));
    }
}

impl Registry {
    /// A number of `cntlids` that is not in use, and was not for as long as may be; none if all are.
    fn next_cntlid(&mut self, cntlids: &RangeInclusive<u16>) -> Option<Cntlid> {
        let (first, end) = (*cntlids.start(), *cntlids.end());
        let last = self.last.entry((first, end)).or_insert(end);
        for _ in cntlids.clone() {
            *last = if *last >= end { first } else { *last + 1 };
            let cntlid = Cntlid(*last);
            let is_ending = |c: &Arc<Controller>| c.cntlid == cntlid;
            if !self.controllers.contains_key(&cntlid) && !self.ending.iter().any(is_ending) {
                return Some(cntlid);
            }
        }
        None
    }

    /// The number of a controller whose host has yet to prove who it is: it ends for one that comes now. Of those that
    /// there are it is the one that has been there for the longest time, as numbers are given in turn.
    fn displace(&mut self, cntlids: &RangeInclusive<u16>) -> Option<Cntlid> {
        let range = (*cntlids.start(), *cntlids.end());
        let last = Cntlid(self.last.get(&range).copied().unwrap_or(range.1));
        let (first, end) = (Cntlid(range.0), Cntlid(range.1));
        let behind = (Bound::Excluded(last), Bound::Included(end));
        let behind = self.controllers.range(behind);
        let mut all = behind.chain(self.controllers.range(first..=last));
        let (&cntlid, controller) = all.find(|(_, controller)| !controller.is_admitted())?;
        controller.end();
        self.controllers.remove(&cntlid);
        self.last.insert(range, cntlid.0);
        Some(cntlid)
    }
}
