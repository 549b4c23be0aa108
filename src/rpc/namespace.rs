//! Namespaces: `nvmf_subsystem_add_ns`, `nvmf_subsystem_remove_ns`.

use engine::{Config, NamespaceConfig, PairConfig, StoreDevice, WritePolicy};
use serde::Deserialize;
use serde_json::{Value, json};

use super::change::{Change, ChangeError, NSID_MAX};
use super::params::{self, Nguid, Params, Uuid, read, without, without_target};
use super::target::{Running, error_of};
use crate::control::ErrorObject;

/// `nvmf_subsystem_add_ns`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {
    nqn: String,
    namespace: Namespace,
}

/// The namespace. `write`, `block_size` and `backup` are our own, as in the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Namespace {
    /// Name of a store.
    bdev_name: String,
    /// 0 or none: the lowest that is free.
    nsid: Option<params::Within<0, { NSID_MAX as u64 }>>,
    uuid: Option<Uuid>,
    nguid: Option<Nguid>,
    write: Option<Write>,
    block_size: Option<u32>,
    #[serde(default)]
    backup: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Write {
    Through,
    Back,
    Logged,
}

impl Add {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        without_target(&mut params)?;
        if let Some(Value::Object(namespace)) = params.get_mut("namespace") {
            let no = [json!(false)];
            let mut without = |key, harmless: &[Value], why| without(namespace, key, harmless, why);
            let why = "a namespace is known by its UUID (`uuid`) and NGUID (`nguid`)";
            without("eui64", &[], why)?;
            without("ptpl_file", &[], "Throughline has no reservations")?;
            without("anagrpid", &[json!(0)], "Throughline has no ANA")?;
            let why = "every host that may connect sees every namespace";
            without("no_auto_visible", &no, why)?;
            without("hide_metadata", &no, "no namespace has metadata")?;
        }
        let add: Self = read(params)?;
        match add.namespace.block_size {
            None | Some(512 | 4096) => Ok(add),
            Some(size) => Err(ErrorObject::invalid_params(&format!(
                "`namespace.block_size` is 512 or 4096, not {size}; the device's when left out"
            ))),
        }
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        running.change(|config| {
            let nsid = match self.namespace.nsid {
                Some(given) if given.0 != 0 => given.0 as u32,
                _ => free_nsid(config, &self.nqn)?,
            };
            let store = self.namespace.bdev_name;
            suggest_store(config, &store)?;
            let backup_of = match self.namespace.backup {
                true => {
                    refuse_shared(config, &self.nqn)?;
                    Some(node_of(config, &store, self.namespace.write)?)
                }
                false => None,
            };
            let given = self.namespace.uuid.map(|uuid| uuid.0);
            // That of a backup is derived from the node's, too.
            let uuid = match backup_of {
                None => given.or_else(|| Some(derive(&self.nqn, nsid, &store))),
                Some(_) => given,
            };
            let namespace = NamespaceConfig {
                nsid,
                store,
                uuid,
                nguid: self.namespace.nguid.map(|nguid| nguid.0),
                write: match self.namespace.write {
                    _ if backup_of.is_some() => WritePolicy::Logged,
                    None | Some(Write::Through) => WritePolicy::Through,
                    Some(Write::Back) => WritePolicy::Back,
                    Some(Write::Logged) => WritePolicy::Logged,
                },
                block_size: self.namespace.block_size,
                backup_of,
            };
            let nqn = self.nqn;
            Ok((Some(Change::AddNamespace { nqn, namespace }), json!(nsid)))
        })
    }
}

/// A UUID that stays with the store: one that came of the number alone would, once the
/// number has another store, pass the other's data to hosts as those they had.
fn derive(nqn: &str, nsid: u32, store: &str) -> [u8; 16] {
    let name = format!("{nqn}/{nsid}/{store}");
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes()).into_bytes()
}

/// Refuses a subsystem that other nodes show, of which none has what a backup here has.
fn refuse_shared(config: &Config, nqn: &str) -> Result<(), ErrorObject> {
    let mut subsystems = config.target.subsystems.iter();
    match subsystems.find(|subsystem| subsystem.nqn == nqn) {
        Some(shared) if shared.ana.is_some() || !shared.peer_listeners.is_empty() => {
            let why = "other nodes show this subsystem: a backup is in one of this node's own";
            Err(ErrorObject::invalid_params(why))
        }
        _ => Ok(()),
    }
}

/// This node, whose volume on a store is to be read as a backup.
fn node_of(config: &Config, store: &str, write: Option<Write>) -> Result<[u8; 16], ErrorObject> {
    if write.is_some() {
        let why = "nobody writes to a backup: leave `namespace.write` out";
        return Err(ErrorObject::invalid_params(why));
    }
    let has_it = |pair: &&PairConfig| pair.volumes.iter().any(|volume| volume.store == store);
    let pair = config.pairs.iter().find(has_it);
    pair.map(|pair| pair.node).ok_or_else(|| {
        let why = format!("store \"{store}\" has no volume of a pair, of which there are backups");
        ErrorObject::invalid_params(&why)
    })
}

/// The lowest number that no namespace of the subsystem has, as SPDK gives them.
fn free_nsid(config: &Config, nqn: &str) -> Result<u32, ErrorObject> {
    let subsystem = config.target.subsystems.iter().find(|s| s.nqn == nqn);
    let Some(subsystem) = subsystem else {
        return Err(error_of(config, &ChangeError::NoSubsystem(nqn.to_owned())));
    };
    let taken = |nsid: &u32| subsystem.namespaces.iter().any(|ns| ns.nsid == *nsid);
    let full = || {
        let why = format!("{nqn} has {NSID_MAX} namespaces: take another subsystem");
        ErrorObject::invalid_params(&why)
    };
    (1..=NSID_MAX).find(|nsid| !taken(nsid)).ok_or_else(full)
}

/// Refuses a bdev's name where the store of that bdev has another.
fn suggest_store(config: &Config, name: &str) -> Result<(), ErrorObject> {
    let named = config.store_names().any(|store| store == name);
    let of_bdev = |device: &StoreDevice| matches!(device, StoreDevice::Bdev(bdev) if bdev == name);
    let store = config.stores.iter().find(|store| of_bdev(&store.device));
    match store {
        Some(store) if !named => Err(ErrorObject::invalid_params(&format!(
            "`namespace.bdev_name` is a store's name: write \"{}\" for the bdev {name}",
            store.name
        ))),
        _ => Ok(()),
    }
}

/// `nvmf_subsystem_remove_ns`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remove {
    nqn: String,
    nsid: u32,
}

impl Remove {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        without_target(&mut params)?;
        read(params)
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        let Self { nqn, nsid } = self;
        let change = Change::RemoveNamespace { nqn, nsid };
        running.change(|_| Ok((Some(change), Value::Bool(true))))
    }
}
