//! From what an operator says of subsystems and namespaces to what hosts see.

use std::sync::Arc;

use block::{Geometry, LastSmart, NamespaceIndex, Span, VolumeId, WritePolicy};
use mirror::Mirrored;
use nvmf::{BlockSize, Host, Hosts, Nsid};

use crate::config::{HostConfig, NamespaceConfig, SubsystemConfig};

/// I/O queues of one controller.
const QUEUES_MAX: u16 = 128;

/// A store that is open on every shard. Its place in the list is its volume's [`VolumeId`].
#[derive(Clone, Debug)]
pub struct StoreInfo {
    /// What namespaces call it.
    pub name: String,
    /// What it is and takes.
    pub geometry: Geometry,
    /// What its drive says of its health.
    pub smart: LastSmart,
    /// Its device's blocks, if they are other ones than those that hosts know.
    pub(crate) resized: Option<u64>,
    /// What all shards share of its volume, if that is mirrored: it has its own size.
    pub(crate) mirrored: Option<Arc<Mirrored>>,
    /// The log is on it: it is nobody's namespace.
    pub(crate) is_log: bool,
    /// It lies on several of the others.
    pub(crate) is_span: bool,
    /// What lies on it and others: it is nobody's namespace itself.
    pub(crate) part_of: Option<String>,
    /// The last in order of the policies that namespaces on it have had: shards leave no volume that was
    /// behind the cache, or logged, less than that.
    policy: WritePolicy,
}

impl StoreInfo {
    /// A store that was just opened; its device says nothing of its health.
    pub fn new(name: String, geometry: Geometry) -> Self {
        Self {
            name,
            geometry,
            smart: LastSmart::default(),
            resized: None,
            mirrored: None,
            is_log: false,
            is_span: false,
            part_of: None,
            policy: WritePolicy::Through,
        }
    }

    /// A store that lies on several of `stores`, which are nobody's namespaces any more.
    pub fn of_span(name: String, span: &Span, stores: &mut [StoreInfo]) -> Self {
        for volume in span.volumes() {
            stores[volume.index()].part_of = Some(name.clone());
        }
        let drives = span.volumes().map(|volume| &stores[volume.index()].smart);
        Self {
            smart: LastSmart::of_all(drives),
            is_span: true,
            ..Self::new(name, *span.geometry())
        }
    }

    /// The same, as the store that the log is on.
    pub fn with_the_log(self) -> Self {
        Self {
            is_log: true,
            ..self
        }
    }

    /// Bytes that hosts see.
    pub(crate) fn len(&self) -> u64 {
        let device = self.geometry.len();
        let mirrored = self.mirrored.as_ref();
        mirrored.map_or(device, |mirrored| mirrored.len().min(device))
    }

    /// Whether hosts are to see another size than they were told.
    pub(crate) fn is_resized(&self) -> bool {
        let is_other = |mirrored: &Arc<Mirrored>| mirrored.len() != mirrored.shown();
        self.resized.is_some() || self.mirrored.as_ref().is_some_and(is_other)
    }

    /// A namespace on it has this policy.
    pub(crate) fn note_policy(&mut self, policy: WritePolicy) {
        self.policy = self.policy.max(policy);
    }

    /// What a namespace of this policy gets.
    fn policy_of(&self, policy: WritePolicy) -> WritePolicy {
        match self.policy {
            WritePolicy::Logged => WritePolicy::Logged,
            _ => policy,
        }
    }
}

/// A namespace that is offered.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) nqn: String,
    pub(crate) nsid: u32,
    pub(crate) store: String,
    pub(crate) index: NamespaceIndex,
    pub(crate) volume: VolumeId,
    pub(crate) policy: WritePolicy,
    /// Read as a backup, and not served otherwise.
    pub(crate) is_backup: bool,
}

/// The volume of the store called `name`.
pub(crate) fn volume_of(stores: &[StoreInfo], name: &str) -> Option<VolumeId> {
    let place = stores.iter().position(|store| store.name == name)?;
    Some(VolumeId(place as u16))
}

/// A namespace as hosts see it: as large as its store.
pub(crate) fn namespace(
    nqn: &str,
    config: &NamespaceConfig,
    stores: &[StoreInfo],
    index: NamespaceIndex,
) -> Result<nvmf::NamespaceConfig, String> {
    let refuse = |why: String| format!("namespace {}: {why}", config.nsid);
    let volume = volume_of(stores, &config.store)
        .ok_or_else(|| refuse(format!("there is no store {:?}", config.store)))?;
    let store = &stores[volume.index()];
    if store.is_log {
        return Err(refuse(format!(
            "the log is on store {:?}: take another one",
            config.store
        )));
    }
    if let Some(span) = &store.part_of {
        return Err(refuse(format!(
            "store {:?} is a part of store {span:?}: take that",
            config.store
        )));
    }
    if config.write == WritePolicy::Logged && !stores.iter().any(|store| store.is_log) {
        return Err(refuse(
            "write = \"logged\" needs a log: name its store in [log] of the configuration".into(),
        ));
    }
    let (geometry, policy) = (&store.geometry, store.policy_of(config.write));
    let device = geometry.block_size;
    let block = config.block_size.unwrap_or(device);
    // Where it is smaller, blocks of the device are completed before they are written.
    if !block.max(device).is_multiple_of(block.min(device)) {
        return Err(refuse(format!(
            "blocks of {block} bytes on a device of {device}"
        )));
    }
    if block < device && policy != config.write {
        return Err(refuse(format!(
            "blocks of {block} bytes on a device of {device} are not logged, and store {:?} is until a restart",
            config.store
        )));
    }
    if block < device && policy != WritePolicy::Back {
        return Err(refuse(format!(
            "blocks of {block} bytes on a device of {device} are completed in the page cache: write = \"back\""
        )));
    }
    let block_size =
        BlockSize::from_bytes(block).ok_or_else(|| refuse(format!("blocks of {block} bytes")))?;
    Ok(nvmf::NamespaceConfig {
        nsid: Nsid(config.nsid),
        index,
        block_size,
        blocks: store.len() / u64::from(block),
        uuid: config.uuid_in(nqn),
        nguid: config.nguid_in(nqn),
        eui64: [0; 8],
        volatile_write_cache: match policy {
            WritePolicy::Through => geometry.write_cache,
            WritePolicy::Back => true,
            // What is acknowledged is in the log.
            WritePolicy::Logged => false,
        },
        // Behind the cache a deallocation is advice that the cache keeps to itself, or, if a log has it, not always takes.
        deallocated_reads_zero: geometry.unmap
            && geometry.deallocated_zeros
            && policy.max(store.policy) == WritePolicy::Through,
        is_backup: config.backup_of.is_some(),
        smart: store.smart.clone(),
    })
}

/// A subsystem as hosts see it, and an entry for each of its namespaces, whose
/// indexes begin at `index`.
pub(crate) fn subsystem(
    config: &SubsystemConfig,
    stores: &[StoreInfo],
    index: NamespaceIndex,
) -> Result<(nvmf::SubsystemConfig, Vec<Offered>), String> {
    let (mut namespaces, mut offered) = (Vec::new(), Vec::new());
    for (namespace, index) in config
        .namespaces
        .iter()
        .zip((index.0..).map(NamespaceIndex))
    {
        namespaces.push(self::namespace(&config.nqn, namespace, stores, index)?);
        offered.extend(entry(&config.nqn, namespace, stores, index));
    }
    let subsystem = nvmf::SubsystemConfig {
        nqn: config.nqn.clone(),
        serial: config.serial.clone(),
        model: config.model.clone(),
        namespaces,
        hosts: hosts(config.hosts.clone()),
        max_queues: QUEUES_MAX,
        ana: config.ana,
        cntlids: config.controller_ids.clone(),
        peers: config.peer_listeners.clone(),
    };
    Ok((subsystem, offered))
}

/// The entry of a namespace; `None` if there is no such store.
pub(crate) fn entry(
    nqn: &str,
    config: &NamespaceConfig,
    stores: &[StoreInfo],
    index: NamespaceIndex,
) -> Option<Offered> {
    Some(Offered {
        nqn: nqn.to_owned(),
        nsid: config.nsid,
        store: config.store.clone(),
        index,
        volume: volume_of(stores, &config.store)?,
        policy: config.write,
        is_backup: config.backup_of.is_some(),
    })
}

/// Who may connect: `None` lets any.
pub(crate) fn hosts(hosts: Option<Vec<HostConfig>>) -> Hosts {
    let host = |HostConfig { nqn, keys, psk }| Host {
        nqn,
        keys: keys.map(|keys| keys.keys),
        psk: psk.map(|psk| psk.psk),
    };
    match hosts {
        None => Hosts::Any,
        Some(hosts) => Hosts::Listed(hosts.into_iter().map(host).collect()),
    }
}

/// What an engine offers when it starts.
pub struct Offer {
    pub(crate) stores: Vec<StoreInfo>,
    pub(crate) namespaces: Vec<Offered>,
    /// The subsystems, for the target.
    pub subsystems: Vec<nvmf::SubsystemConfig>,
}

impl Offer {
    /// `subsystems` over `stores`.
    ///
    /// # Errors
    /// A sentence: what does not fit, and what to write instead.
    pub fn new(subsystems: &[SubsystemConfig], stores: Vec<StoreInfo>) -> Result<Self, String> {
        let mut stores = stores;
        let (mut list, mut namespaces) = (Vec::new(), Vec::<Offered>::new());
        for config in subsystems {
            let index = NamespaceIndex(namespaces.len() as u32);
            let (subsystem, offered) = subsystem(config, &stores, index)?;
            list.push(subsystem);
            for namespace in &offered {
                stores[namespace.volume.index()].note_policy(namespace.policy);
            }
            namespaces.extend(offered);
        }
        Ok(Self {
            stores,
            namespaces,
            subsystems: list,
        })
    }

    /// The volume of each namespace, by [`NamespaceIndex`].
    pub fn volumes(&self) -> Vec<VolumeId> {
        self.namespaces.iter().map(|ns| ns.volume).collect()
    }

    /// Namespaces that are read as backups.
    pub fn backups(&self) -> Vec<NamespaceIndex> {
        let backups = self.namespaces.iter().filter(|ns| ns.is_backup);
        backups.map(|ns| ns.index).collect()
    }

    /// The policy of each volume: behind the cache if a namespace on it is.
    pub fn policies(&self) -> Vec<WritePolicy> {
        let mut policies = vec![WritePolicy::Through; self.stores.len()];
        for namespace in &self.namespaces {
            let policy = &mut policies[namespace.volume.index()];
            if namespace.policy > *policy {
                *policy = namespace.policy;
            }
        }
        policies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NQN: &str = "nqn.2026-01.com.example:a";

    const GEOMETRY: Geometry = Geometry {
        block_size: 512,
        blocks: 1000,
        metadata: 0,
        alignment: 1,
        prp: false,
        max_elements: 16,
        max_bytes: 1 << 17,
        write_cache: false,
        write_zeroes: true,
        unmap: true,
        deallocated_zeros: true,
    };

    fn config() -> NamespaceConfig {
        NamespaceConfig {
            nsid: 7,
            store: "disk0".into(),
            uuid: None,
            nguid: None,
            write: WritePolicy::Through,
            block_size: None,
            backup_of: None,
        }
    }

    /// What hosts know a namespace by hangs on the configuration alone: it is the same after a
    /// restart, and on another machine.
    #[test]
    fn k05_a_namespace_has_the_same_identifiers_wherever_it_is_served() {
        let stores = [StoreInfo::new("disk0".into(), GEOMETRY)];
        let mut config = config();
        let seen = |config: &NamespaceConfig, nqn| {
            namespace(nqn, config, &stores, NamespaceIndex(0)).unwrap()
        };
        let derived = seen(&config, NQN);
        // Version 5 (RFC 9562, 5.5) of "nqn.2026-01.com.example:a/7" as a URL; its octet 8 turned.
        let uuid = 0xc60d_5ce1_e7bf_5f3f_b507_2bc6_3fce_cbe0_u128.to_be_bytes();
        assert_eq!((derived.uuid, derived.nguid), (uuid, nvmf::nguid_of(uuid)));
        assert_ne!(derived.nguid, [0; 16]);
        let other = seen(&config, "nqn.2026-01.com.example:b");
        assert_ne!((other.uuid, other.nguid), (derived.uuid, derived.nguid));
        // Another node shows something else as a backup.
        let backup = |node| NamespaceConfig {
            backup_of: Some([node; 16]),
            ..config.clone()
        };
        let (one, two) = (seen(&backup(1), NQN), seen(&backup(2), NQN));
        assert!(one.is_backup && one.uuid != two.uuid && one.uuid != derived.uuid);
        config.uuid = Some([7; 16]);
        assert_eq!(seen(&config, NQN).nguid, nvmf::nguid_of([7; 16]));
        config.nguid = Some([9; 16]);
        assert_eq!(seen(&config, NQN).nguid, [9; 16]);
    }

    #[test]
    fn r08_a_volume_on_several_stores_is_one_namespace_and_they_are_none() {
        let info =
            |name: &str, blocks| StoreInfo::new(name.into(), Geometry { blocks, ..GEOMETRY });
        let mut stores = vec![info("a", 1000), info("b", 500)];
        let members = [
            (VolumeId(1), stores[1].geometry),
            (VolumeId(0), stores[0].geometry),
        ];
        let span = Span::new(&members).unwrap();
        let big = StoreInfo::of_span("big".into(), &span, &mut stores);
        stores.push(big);
        let on = |store: &str| {
            let config = NamespaceConfig {
                store: store.into(),
                ..config()
            };
            namespace(NQN, &config, &stores, NamespaceIndex(0))
        };
        assert_eq!(on("big").unwrap().blocks, 384 + 1000);
        for part in ["a", "b"] {
            let why = on(part).unwrap_err();
            assert!(why.contains("is a part of store \"big\""), "{why}");
        }
    }

    /// DLFEAT (NVM 4.1.5.1).
    #[test]
    fn k05_deallocated_blocks_are_said_to_be_zeros_where_the_device_says_so() {
        let said = |unmap, deallocated_zeros, write| {
            let geometry = Geometry {
                unmap,
                deallocated_zeros,
                ..GEOMETRY
            };
            let log = StoreInfo::new("log0".into(), GEOMETRY).with_the_log();
            let stores = [StoreInfo::new("disk0".into(), geometry), log];
            let config = NamespaceConfig { write, ..config() };
            let seen = namespace(NQN, &config, &stores, NamespaceIndex(0));
            seen.unwrap().deallocated_reads_zero
        };
        assert!(said(true, true, WritePolicy::Through));
        assert!(!said(true, false, WritePolicy::Through));
        assert!(!said(false, true, WritePolicy::Through));
        assert!(!said(true, true, WritePolicy::Back));
        assert!(!said(true, true, WritePolicy::Logged));
    }

    /// A volume that was behind the cache stays there, and one that was logged is logged, whatever its next
    /// namespace is to be: hosts are told what they get.
    #[test]
    fn k05_what_a_store_was_before_is_minded_when_its_namespace_comes_back() {
        let device = Geometry {
            block_size: 4096,
            ..GEOMETRY
        };
        let again = |before, write, block_size| {
            let log = StoreInfo::new("log0".into(), GEOMETRY).with_the_log();
            let mut stores = [StoreInfo::new("disk0".into(), device), log];
            stores[0].note_policy(before);
            let config = NamespaceConfig {
                write,
                block_size,
                ..config()
            };
            namespace(NQN, &config, &stores, NamespaceIndex(1))
        };
        use WritePolicy::{Back, Logged, Through};
        // The cache keeps deallocations to itself (NVM 4.1.5.1, DLFEAT).
        assert!(
            again(Through, Through, None)
                .unwrap()
                .deallocated_reads_zero
        );
        assert!(!again(Back, Through, None).unwrap().deallocated_reads_zero);
        assert!(!again(Logged, Through, None).unwrap().deallocated_reads_zero);
        // What is acknowledged is in the log (base 5.17.2.1, VWC).
        assert!(!again(Logged, Back, None).unwrap().volatile_write_cache);
        assert!(again(Back, Back, None).unwrap().volatile_write_cache);
        // Parts of the device's blocks could not be replayed.
        assert!(again(Back, Back, Some(512)).is_ok());
        let refused = again(Logged, Back, Some(512)).unwrap_err();
        assert!(refused.contains("until a restart"), "{refused}");
    }
}
