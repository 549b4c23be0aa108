//! The control side of changes: what is offered, and the change under way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use block::NamespaceIndex;
use nvmf::{AnaState, Listener, ListenerConfig, Nsid, Target};
use sync::ring::{Receiver, Sender, ring};

use super::step::{Answer, ShardEnds, Step};
use super::{Change, ChangeError, NSID_MAX};
use crate::config::{HostConfig, NamespaceConfig, SubsystemConfig};
use crate::offer::{self, Offer, Offered, StoreInfo};
use crate::snapshot::{AnaSnapshot, NamespaceName};

/// One shard, from the control side.
struct ShardRings {
    steps: Sender<Step>,
    answers: Receiver<Answer>,
    /// How it answered the step under way.
    answer: Option<Answer>,
}

/// What is offered now, and the change under way.
pub(crate) struct Changes {
    target: Arc<Target>,
    shards: Vec<ShardRings>,
    stores: Vec<StoreInfo>,
    namespaces: Vec<Offered>,
    /// Never given twice: a host's command may name a namespace that is gone.
    next_index: u32,
    running: Option<Running>,
}

/// What is done with the target between steps of shards.
type Make = Box<dyn FnOnce(&mut Changes) -> Result<(), ChangeError> + Send>;

/// One part of a change.
enum Do {
    /// Every shard makes a step.
    Shards(Step),
    /// Hosts see what `Changes` does with the target.
    Target(Make),
}

/// A change under way.
struct Running {
    todo: VecDeque<Do>,
    /// Made by every shard if one of them refuses a step.
    undo: Vec<Step>,
    /// Shards make a step now.
    stepping: bool,
    result: Result<(), ChangeError>,
}

impl Changes {
    /// For so many shards, of whose ends the other half is returned.
    pub(crate) fn new(shards: usize, offer: Offer, target: &Arc<Target>) -> (Self, Vec<ShardEnds>) {
        let pair = |_| {
            let (steps, answers) = (ring(1), ring(1));
            let rings = ShardRings {
                steps: steps.0,
                answers: answers.1,
                answer: None,
            };
            let ends = ShardEnds {
                steps: steps.1,
                answers: answers.0,
            };
            (rings, ends)
        };
        let (shards, ends) = (0..shards).map(pair).unzip();
        let changes = Self {
            target: Arc::clone(target),
            shards,
            next_index: offer.namespaces.len() as u32,
            stores: offer.stores,
            namespaces: offer.namespaces,
            running: None,
        };
        (changes, ends)
    }

    /// The namespaces that are offered: their indexes and names.
    pub(crate) fn namespaces(&self) -> (Vec<NamespaceIndex>, Vec<NamespaceName>) {
        let list = self.namespaces.iter();
        list.map(|namespace| (namespace.index, named(namespace)))
            .unzip()
    }

    /// The namespaces that are offered, and which volumes they are.
    pub(crate) fn namespaces_on_volumes(&self) -> Vec<(NamespaceName, block::VolumeId)> {
        let list = self.namespaces.iter();
        list.map(|namespace| (named(namespace), namespace.volume))
            .collect()
    }

    /// The names of the stores that the log is on.
    pub(crate) fn logs_on_volumes(&self) -> Vec<(String, block::VolumeId)> {
        let stores = (0..).map(block::VolumeId).zip(&self.stores);
        stores
            .filter(|(_, store)| store.is_log)
            .map(|(volume, store)| (store.name.clone(), volume))
            .collect()
    }

    /// Stores that others lie on, by the names of both.
    pub(crate) fn parts_on_volumes(&self) -> Vec<(String, String, block::VolumeId)> {
        let stores = (0..).map(block::VolumeId).zip(&self.stores);
        let part = |(volume, store): (block::VolumeId, &StoreInfo)| {
            Some((store.part_of.clone()?, store.name.clone(), volume))
        };
        stores.filter_map(part).collect()
    }

    /// The stores that are open.
    pub(crate) fn stores(&self) -> &[StoreInfo] {
        &self.stores
    }

    /// The states of ANA groups, by subsystem, group and listener.
    pub(crate) fn ana_states(&self) -> Vec<AnaSnapshot> {
        let mut nqns: Vec<_> = self.namespaces.iter().map(|ns| &ns.nqn).collect();
        nqns.dedup();
        let listeners = self.target.listeners();
        let mut states = Vec::new();
        for nqn in nqns {
            for &ListenerConfig { listener, .. } in &listeners {
                for (nsid, state) in self.target.ana_states(nqn, listener).unwrap_or_default() {
                    states.push(AnaSnapshot {
                        subsystem: nqn.clone(),
                        nsid: nsid.0,
                        listener: listener.into(),
                        state,
                    });
                }
            }
        }
        states.sort_by(|a, b| (&a.subsystem, a.nsid).cmp(&(&b.subsystem, b.nsid)));
        states
    }

    /// Namespaces as hosts see them, with the NQNs of their subsystems.
    pub(crate) fn as_hosts_see(&self) -> Vec<(String, nvmf::NamespaceConfig)> {
        let mut nqns: Vec<_> = self.namespaces.iter().map(|ns| ns.nqn.clone()).collect();
        nqns.dedup();
        let of = |nqn: String| {
            let namespaces = self.target.namespaces(&nqn).unwrap_or_default();
            namespaces.into_iter().map(move |ns| (nqn.clone(), ns))
        };
        nqns.into_iter().flat_map(of).collect()
    }

    /// Begins a change.
    ///
    /// # Errors
    /// It does not fit what is offered, or another one is under way; nothing changes.
    pub(crate) fn begin(&mut self, change: Change) -> Result<(), ChangeError> {
        if self.running.is_some() {
            return Err(ChangeError::Refused(
                "another change is not finished: a device may be slow to end its requests".into(),
            ));
        }
        let (todo, undo) = match change {
            Change::AddSubsystem(config) => self.add_subsystem(&config)?,
            Change::RemoveSubsystem { nqn } => self.remove_subsystem(nqn)?,
            Change::AddNamespace { nqn, namespace } => self.add_namespace(nqn, &namespace)?,
            Change::RemoveNamespace { nqn, nsid } => self.remove_namespace(nqn, nsid)?,
            Change::SetHosts { nqn, hosts } => self.set_hosts(nqn, hosts)?,
            Change::SetAnaState {
                nqn,
                listener,
                group,
                state,
            } => self.set_ana_state(nqn, listener, group, state)?,
            Change::AddListener(address) => self.add_listener(address)?,
            Change::RemoveListener(address) => self.remove_listener(address)?,
            Change::Resize { store } => self.resize(&store)?,
        };
        self.running = Some(Running {
            todo: todo.into(),
            undo,
            stepping: false,
            result: Ok(()),
        });
        Ok(())
    }

    /// Goes on with the change under way; its end, once there is one.
    pub(crate) fn poll(&mut self) -> Option<Result<(), ChangeError>> {
        loop {
            let mut running = self.running.take()?;
            if running.stepping {
                if !self.has_answers() {
                    self.running = Some(running);
                    return None;
                }
                running.stepping = false;
                if self
                    .shards
                    .iter()
                    .any(|s| s.answer == Some(Answer::Refused))
                {
                    running.result = Err(ChangeError::Refused(
                        "a shard refused it; the log says why".into(),
                    ));
                    let undo = std::mem::take(&mut running.undo);
                    running.todo = undo.into_iter().map(Do::Shards).collect();
                }
            }
            match running.todo.pop_front() {
                Some(Do::Shards(step)) => {
                    self.send(step);
                    running.stepping = true;
                }
                Some(Do::Target(make)) => {
                    if let Err(error) = make(self) {
                        running.result = Err(error);
                        let undo = std::mem::take(&mut running.undo);
                        running.todo = undo.into_iter().map(Do::Shards).collect();
                    }
                }
                None => return Some(running.result),
            }
            self.running = Some(running);
        }
    }

    /// Whether every shard has answered the step under way.
    fn has_answers(&mut self) -> bool {
        for shard in &mut self.shards {
            if shard.answer.is_none() {
                shard.answer = shard.answers.receive();
            }
        }
        self.shards.iter().all(|shard| shard.answer.is_some())
    }

    fn send(&mut self, step: Step) {
        for shard in &mut self.shards {
            shard.answer = None;
            if shard.steps.send(step).is_err() {
                unreachable!("the step before was answered");
            }
        }
    }

    fn index(&mut self) -> NamespaceIndex {
        self.next_index += 1;
        NamespaceIndex(self.next_index - 1)
    }

    fn note_policy(&mut self, namespace: &Offered) {
        self.stores[namespace.volume.index()].note_policy(namespace.policy);
    }

    fn subsystem(&self, nqn: &str) -> Result<(), ChangeError> {
        match self.target.namespaces(nqn) {
            Some(_) => Ok(()),
            None => Err(ChangeError::NoSubsystem(nqn.to_owned())),
        }
    }

    /// Whether a namespace's store is there and free.
    fn check_store(&self, namespace: &NamespaceConfig) -> Result<(), ChangeError> {
        if !(1..=NSID_MAX).contains(&namespace.nsid) {
            return Err(ChangeError::NsidOutOfRange(namespace.nsid));
        }
        let store = &namespace.store;
        if offer::volume_of(&self.stores, store).is_none() {
            return Err(ChangeError::NoStore(store.clone()));
        }
        // A volume is one namespace, and one more that it is read by as a backup.
        let is_same = |other: &&Offered| {
            other.store == *store && other.is_backup == namespace.backup_of.is_some()
        };
        match self.namespaces.iter().find(is_same) {
            None => Ok(()),
            Some(other) => Err(ChangeError::StoreTaken(
                store.clone(),
                other.nqn.clone(),
                other.nsid,
            )),
        }
    }

    fn add_subsystem(&mut self, config: &SubsystemConfig) -> Result<Plan, ChangeError> {
        if self.subsystem(&config.nqn).is_ok() {
            return Err(ChangeError::SubsystemExists(config.nqn.clone()));
        }
        for (i, namespace) in config.namespaces.iter().enumerate() {
            self.check_store(namespace)?;
            let mut before = config.namespaces[..i].iter();
            let is_backup = |namespace: &NamespaceConfig| namespace.backup_of.is_some();
            if before.any(|other| {
                other.store == namespace.store && is_backup(other) == is_backup(namespace)
            }) {
                let (store, nqn) = (namespace.store.clone(), config.nqn.clone());
                return Err(ChangeError::StoreTaken(store, nqn, namespace.nsid));
            }
        }
        let first = NamespaceIndex(self.next_index);
        let (subsystem, offered) =
            offer::subsystem(config, &self.stores, first).map_err(ChangeError::Refused)?;
        self.next_index += offered.len() as u32;
        offered.iter().for_each(|ns| self.note_policy(ns));
        let undo = offered.iter().map(|ns| Step::RemoveNamespace(ns.index));
        let undo = undo.collect();
        let mut todo: Vec<_> = offered.iter().map(add_step).collect();
        todo.push(Do::Target(Box::new(move |changes| {
            (changes.target.add_subsystem(subsystem)).map_err(refused)?;
            changes.namespaces.extend(offered);
            Ok(())
        })));
        Ok((todo, undo))
    }

    fn remove_subsystem(&self, nqn: String) -> Result<Plan, ChangeError> {
        self.subsystem(&nqn)?;
        let namespaces: Vec<_> = (self.namespaces.iter())
            .filter(|ns| ns.nqn == nqn)
            .cloned()
            .collect();
        let mut todo = vec![Do::Target(Box::new(move |changes: &mut Changes| {
            changes.target.remove_subsystem(&nqn);
            Ok(())
        }) as Box<_>)];
        namespaces.iter().for_each(|ns| todo.extend(drain(ns)));
        Ok((todo, Vec::new()))
    }

    fn add_namespace(
        &mut self,
        nqn: String,
        config: &NamespaceConfig,
    ) -> Result<Plan, ChangeError> {
        self.subsystem(&nqn)?;
        let mut own = self.namespaces.iter().filter(|ns| ns.nqn == nqn);
        if own.any(|ns| ns.nsid == config.nsid) {
            return Err(ChangeError::NamespaceExists(nqn, config.nsid));
        }
        self.check_store(config)?;
        let index = self.index();
        let namespace =
            offer::namespace(&nqn, config, &self.stores, index).map_err(ChangeError::Refused)?;
        let Some(offered) = offer::entry(&nqn, config, &self.stores, index) else {
            return Err(ChangeError::NoStore(config.store.clone()));
        };
        self.note_policy(&offered);
        let todo = vec![
            add_step(&offered),
            Do::Target(Box::new(move |changes| {
                changes.edit_namespaces(&nqn, |list| list.push(namespace))?;
                changes.namespaces.push(offered);
                Ok(())
            })),
        ];
        Ok((todo, vec![Step::RemoveNamespace(index)]))
    }

    fn remove_namespace(&self, nqn: String, nsid: u32) -> Result<Plan, ChangeError> {
        self.subsystem(&nqn)?;
        let mut own = self.namespaces.iter().filter(|ns| ns.nqn == nqn);
        let Some(offered) = own.find(|ns| ns.nsid == nsid).cloned() else {
            return Err(ChangeError::NoNamespace(nqn, nsid));
        };
        let hide = move |changes: &mut Changes| {
            changes.edit_namespaces(&nqn, |list| list.retain(|ns| ns.nsid.0 != nsid))
        };
        let mut todo = vec![Do::Target(Box::new(hide))];
        todo.extend(drain(&offered));
        Ok((todo, Vec::new()))
    }

    fn set_hosts(&self, nqn: String, hosts: Option<Vec<HostConfig>>) -> Result<Plan, ChangeError> {
        self.subsystem(&nqn)?;
        let todo = vec![Do::Target(Box::new(move |changes: &mut Changes| {
            let made = changes.target.set_hosts(&nqn, offer::hosts(hosts));
            made.map(drop).map_err(refused)
        }) as Box<_>)];
        Ok((todo, Vec::new()))
    }

    fn set_ana_state(
        &self,
        nqn: String,
        address: Option<SocketAddr>,
        group: Option<u32>,
        state: AnaState,
    ) -> Result<Plan, ChangeError> {
        self.subsystem(&nqn)?;
        if let Some(address) = address
            && !self.listens(address)
        {
            return Err(ChangeError::NoListener(address));
        }
        let mut own = self.namespaces.iter().filter(|ns| ns.nqn == nqn);
        if let Some(group) = group
            && !own.any(|ns| ns.nsid == group)
        {
            return Err(ChangeError::NoNamespace(nqn, group));
        }
        let set = move |changes: &mut Changes| {
            let (listener, group) = (address.map(Listener::from), group.map(Nsid));
            let set = (changes.target).set_ana_state(&nqn, listener, group, state);
            set.map(drop).map_err(|error| match error {
                nvmf::ConfigError::NoAna(nqn) => ChangeError::NoAna(nqn),
                error => refused(error),
            })
        };
        let todo = vec![
            Do::Target(Box::new(set) as Box<_>),
            Do::Shards(Step::Withhold),
        ];
        Ok((todo, Vec::new()))
    }

    /// Whether the target listens there.
    fn listens(&self, address: SocketAddr) -> bool {
        let listeners = self.target.listeners();
        listeners.iter().any(|known| known.address() == address)
    }

    fn add_listener(&self, listener: ListenerConfig) -> Result<Plan, ChangeError> {
        let address = listener.address();
        if self.listens(address) {
            return Err(ChangeError::ListenerExists(address));
        }
        let todo = vec![
            Do::Shards(Step::Listen(listener.into())),
            Do::Target(Box::new(move |changes| {
                let mut listeners = changes.target.listeners();
                listeners.push(listener);
                changes.target.set_listeners(listeners);
                Ok(())
            })),
        ];
        Ok((todo, vec![Step::Unlisten(address)]))
    }

    fn remove_listener(&self, address: SocketAddr) -> Result<Plan, ChangeError> {
        if !self.listens(address) {
            return Err(ChangeError::NoListener(address));
        }
        let todo = vec![
            Do::Target(Box::new(move |changes: &mut Changes| {
                let mut listeners = changes.target.listeners();
                listeners.retain(|listener| listener.address() != address);
                changes.target.set_listeners(listeners);
                Ok(())
            }) as Box<_>),
            Do::Shards(Step::Unlisten(address)),
        ];
        Ok((todo, Vec::new()))
    }

    fn resize(&self, store: &str) -> Result<Plan, ChangeError> {
        let Some(volume) = offer::volume_of(&self.stores, store) else {
            return Err(ChangeError::NoStore(store.to_owned()));
        };
        let info = &self.stores[volume.index()];
        let Some(blocks) = info.resized else {
            // The volume alone has another size: shards know it.
            let publish = move |changes: &mut Changes| changes.show_size(volume);
            let todo = vec![Do::Target(Box::new(publish) as Box<_>)];
            return Ok((
                if info.is_resized() { todo } else { Vec::new() },
                Vec::new(),
            ));
        };
        let publish = move |changes: &mut Changes| {
            let info = &mut changes.stores[volume.index()];
            info.geometry.blocks = blocks;
            info.resized = None;
            if let Some(mirrored) = &info.mirrored {
                mirrored.set_device(info.geometry.len());
            }
            changes.show_size(volume)
        };
        let grows = blocks > self.stores[volume.index()].geometry.blocks;
        let (step, publish) = (
            Do::Shards(Step::Resize(volume)),
            Do::Target(Box::new(publish) as Box<_>),
        );
        // Hosts may use blocks once every shard knows them, and none that are gone.
        let todo = match grows {
            true => vec![step, publish],
            false => vec![publish, step],
        };
        Ok((todo, Vec::new()))
    }

    /// Hosts see a volume's namespaces as large as they are.
    fn show_size(&mut self, volume: block::VolumeId) -> Result<(), ChangeError> {
        let info = &self.stores[volume.index()];
        let (device, mirrored) = (info.geometry.len(), info.mirrored.clone());
        // It may become another one meanwhile.
        let size = mirrored.as_ref().map(|mirrored| mirrored.len());
        let len = size.map_or(device, |size| size.min(device));
        let of_volume = self.namespaces.iter().filter(|ns| ns.volume == volume);
        for namespace in of_volume.cloned().collect::<Vec<_>>() {
            self.edit_namespaces(&namespace.nqn, |list| {
                let own = list.iter_mut().find(|ns| ns.index == namespace.index);
                if let Some(own) = own {
                    own.blocks = len / u64::from(own.block_size.bytes());
                }
            })?;
        }
        if let (Some(mirrored), Some(size)) = (mirrored, size) {
            mirrored.show(size);
        }
        Ok(())
    }

    /// A volume is mirrored from now on, before hosts are served: it has its own size.
    pub(crate) fn mirror(
        &mut self,
        volume: block::VolumeId,
        shared: &Arc<mirror::Mirrored>,
    ) -> Result<(), ChangeError> {
        if let Some(info) = self.stores.get_mut(volume.index()) {
            info.mirrored = Some(Arc::clone(shared));
            self.show_size(volume)?;
        }
        Ok(())
    }

    /// A shard says that a store's device has so many blocks now.
    pub(crate) fn note_resized(&mut self, volume: block::VolumeId, blocks: u64) {
        if let Some(store) = self.stores.get_mut(volume.index()) {
            store.resized = (blocks != store.geometry.blocks).then_some(blocks);
        }
    }

    /// The first store whose device was resized, and whose namespaces were not yet.
    pub(crate) fn resized(&self) -> Option<String> {
        let store = self.stores.iter().find(|store| store.is_resized())?;
        Some(store.name.clone())
    }

    /// Shows hosts the namespaces of a subsystem as `edit` leaves them.
    fn edit_namespaces(
        &self,
        nqn: &str,
        edit: impl FnOnce(&mut Vec<nvmf::NamespaceConfig>),
    ) -> Result<(), ChangeError> {
        let mut list = (self.target.namespaces(nqn))
            .ok_or_else(|| ChangeError::NoSubsystem(nqn.to_owned()))?;
        edit(&mut list);
        (self.target.set_namespaces(nqn, list))
            .map(drop)
            .map_err(refused)
    }
}

/// What is to be done, in order, and what undoes it.
type Plan = (Vec<Do>, Vec<Step>);

fn refused(error: nvmf::ConfigError) -> ChangeError {
    ChangeError::Refused(error.to_string())
}

fn add_step(namespace: &Offered) -> Do {
    Do::Shards(Step::AddNamespace {
        index: namespace.index,
        volume: namespace.volume,
        policy: namespace.policy,
        is_backup: namespace.is_backup,
    })
}

/// A namespace that hosts see no more: its requests end, and what is dirty is
/// written, before its store is free.
fn drain(namespace: &Offered) -> [Do; 4] {
    let index = namespace.index;
    [
        Do::Shards(Step::CloseNamespace(index)),
        Do::Shards(Step::FlushVolume(namespace.volume)),
        Do::Shards(Step::RemoveNamespace(index)),
        Do::Target(Box::new(move |changes: &mut Changes| {
            changes.namespaces.retain(|ns| ns.index != index);
            Ok(())
        })),
    ]
}

fn named(namespace: &Offered) -> NamespaceName {
    NamespaceName {
        subsystem: namespace.nqn.clone(),
        nsid: namespace.nsid,
        store: namespace.store.clone(),
    }
}
