//! From what an operator says of subsystems and namespaces to what hosts see.

use block::{Geometry, NamespaceIndex, VolumeId, WritePolicy};
use nvmf::{BlockSize, Hosts, Nsid};

use crate::config::{NamespaceConfig, SubsystemConfig};

/// I/O queues of one controller.
const QUEUES_MAX: u16 = 128;

/// A store that is open on every shard. Its place in the list is its volume's [`VolumeId`].
#[derive(Clone, Debug)]
pub struct StoreInfo {
    /// What namespaces call it.
    pub name: String,
    /// What it is and takes.
    pub geometry: Geometry,
    /// Its device's blocks, if they are other ones than those that hosts know.
    pub(crate) resized: Option<u64>,
}

impl StoreInfo {
    /// A store that was just opened.
    pub fn new(name: String, geometry: Geometry) -> Self {
        Self {
            name,
            geometry,
            resized: None,
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
    let geometry = &stores[volume.index()].geometry;
    let device = geometry.block_size;
    let block = config.block_size.unwrap_or(device);
    // Where it is smaller, blocks of the device are completed before they are written.
    if !block.max(device).is_multiple_of(block.min(device)) {
        return Err(refuse(format!(
            "blocks of {block} bytes on a device of {device}"
        )));
    }
    if block < device && config.write != WritePolicy::Back {
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
        blocks: geometry.len() / u64::from(block),
        uuid: config.uuid.unwrap_or_else(|| {
            let name = format!("{nqn}/{}", config.nsid);
            uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes()).into_bytes()
        }),
        nguid: [0; 16],
        eui64: [0; 8],
        volatile_write_cache: geometry.write_cache || config.write == WritePolicy::Back,
        deallocated_reads_zero: false,
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
    })
}

/// Who may connect: `None` lets any.
pub(crate) fn hosts(hosts: Option<Vec<String>>) -> Hosts {
    hosts.map_or(Hosts::Any, Hosts::Listed)
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
        let (mut list, mut namespaces) = (Vec::new(), Vec::new());
        for config in subsystems {
            let index = NamespaceIndex(namespaces.len() as u32);
            let (subsystem, offered) = subsystem(config, &stores, index)?;
            list.push(subsystem);
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

    /// The policy of each volume: behind the cache if a namespace on it is.
    pub fn policies(&self) -> Vec<WritePolicy> {
        let mut policies = vec![WritePolicy::Through; self.stores.len()];
        for namespace in &self.namespaces {
            if namespace.policy == WritePolicy::Back {
                policies[namespace.volume.index()] = WritePolicy::Back;
            }
        }
        policies
    }
}
