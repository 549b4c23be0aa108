//! Building a shard and the target from the configuration.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use block::{Device, NamespaceIndex, VolumeId, WritePolicy};
use net::{Cidr, MacAddress, Offload, Route, Stack, StackConfig, rss};
use nvmf::{BlockSize, Hosts, Listener, Nsid, Target};
use shard::{Common, DoorKind, Doors, Inventory, Link, NamespaceName, NvmeDoor, Sizing};
use volume::{PeerEnds, Volumes};

use crate::config::{Config, NamespaceConfig, PortConfig, SubsystemConfig};
use crate::error::Error;
use crate::machine::{Core, Shard};
use crate::memory::Memory;
use crate::port::Port;
use crate::spdk::SpdkThread;
use crate::store::{Store, StoreSlot};
use crate::tsc::Tsc;

/// Payload segments that may be on their way to a NIC, by reference, per queue pair.
const TRANSMIT_SEGMENTS: u32 = 8192;
/// I/O queues of one controller.
const QUEUES_MAX: u16 = 128;

/// Every namespace, by [`NamespaceIndex`].
fn namespaces(config: &Config) -> impl Iterator<Item = (&SubsystemConfig, &NamespaceConfig)> {
    let subsystems = config.target.subsystems.iter();
    subsystems.flat_map(|subsystem| subsystem.namespaces.iter().map(move |n| (subsystem, n)))
}

/// What counters belong to.
pub(crate) fn inventory(config: &Config) -> Inventory {
    Inventory {
        ports: config.ports.iter().map(|port| port.name.clone()).collect(),
        namespaces: namespaces(config)
            .map(|(subsystem, namespace)| NamespaceName {
                subsystem: subsystem.nqn.clone(),
                nsid: namespace.nsid,
                store: namespace.store.clone(),
            })
            .collect(),
    }
}

/// The target, with each namespace as large as its store.
pub(crate) fn target(config: &Config, stores: &[Store]) -> Result<Arc<Target>, Error> {
    let mut indexes = (0..).map(NamespaceIndex);
    let subsystems = (config.target.subsystems.iter())
        .map(|subsystem| self::subsystem(config, subsystem, stores, &mut indexes))
        .collect::<Result<_, _>>()?;
    let listener = |&(address, port): &_| Listener { address, port };
    let target = &config.target;
    Target::new(nvmf::TargetConfig {
        subsystems,
        listeners: target.listeners.iter().map(listener).collect(),
        max_io_bytes: target.max_io_bytes,
        max_h2c_bytes: target.max_io_bytes,
        in_capsule_bytes: target.in_capsule_bytes,
        queue_depth: target.queue_depth,
        ..nvmf::TargetConfig::default()
    })
    .map_err(|error| Error::Target(error.to_string()))
}

fn subsystem(
    config: &Config,
    subsystem: &SubsystemConfig,
    stores: &[Store],
    indexes: &mut impl Iterator<Item = NamespaceIndex>,
) -> Result<nvmf::SubsystemConfig, Error> {
    let mut namespace = |namespace: &NamespaceConfig| {
        let refuse = |why: String| Error::Target(format!("namespace {}: {why}", namespace.nsid));
        let store = store_of(config, namespace)
            .ok_or_else(|| refuse(format!("there is no store {:?}", namespace.store)))?;
        let geometry = stores[store.index()].geometry();
        let device = geometry.block_size;
        let block = namespace.block_size.unwrap_or(device);
        // Where it is smaller, blocks of the device are completed before they are written.
        if !block.max(device).is_multiple_of(block.min(device)) {
            return Err(refuse(format!(
                "blocks of {block} bytes on a device of {device}"
            )));
        }
        if block < device && namespace.write != WritePolicy::Back {
            return Err(refuse(format!(
                "blocks of {block} bytes on a device of {device} are completed in the page cache: write = \"back\""
            )));
        }
        Ok(nvmf::NamespaceConfig {
            nsid: Nsid(namespace.nsid),
            index: indexes.next().unwrap_or(NamespaceIndex(u32::MAX)),
            block_size: BlockSize::from_bytes(block)
                .ok_or_else(|| refuse(format!("blocks of {block} bytes")))?,
            blocks: geometry.blocks * u64::from(device) / u64::from(block),
            uuid: namespace.uuid.unwrap_or_else(|| {
                let name = format!("{}/{}", subsystem.nqn, namespace.nsid);
                uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes()).into_bytes()
            }),
            nguid: [0; 16],
            eui64: [0; 8],
            volatile_write_cache: geometry.write_cache || namespace.write == WritePolicy::Back,
            deallocated_reads_zero: false,
        })
    };
    Ok(nvmf::SubsystemConfig {
        nqn: subsystem.nqn.clone(),
        serial: subsystem.serial.clone(),
        model: subsystem.model.clone(),
        namespaces: subsystem
            .namespaces
            .iter()
            .map(&mut namespace)
            .collect::<Result<_, _>>()?,
        hosts: subsystem.hosts.clone().map_or(Hosts::Any, Hosts::Listed),
        max_queues: QUEUES_MAX,
    })
}

/// The volume of a namespace: its store's place in the configuration.
fn store_of(config: &Config, namespace: &NamespaceConfig) -> Option<VolumeId> {
    let place = (config.stores.iter()).position(|store| store.name == namespace.store)?;
    Some(VolumeId(place as u16))
}

/// A shard, listening, with its queues set up; its ports are not started.
#[allow(clippy::too_many_arguments)]
pub(crate) fn shard(
    config: &Config,
    ports: &[Port],
    target: &Arc<Target>,
    secret: &[u8; 32],
    index: usize,
    core: u32,
    spdk: SpdkThread,
    stores: Vec<Store>,
) -> Result<Shard, Error> {
    let max_io = config.target.max_io_bytes as usize;
    let memory = Memory::new(
        index,
        core,
        &config.memory,
        max_io,
        Port::cluster_shift(ports),
    )?;
    let mut links = Vec::new();
    for (i, (port, port_config)) in ports.iter().zip(&config.ports).enumerate() {
        let queue = port.queue(index as u16, &memory, TRANSMIT_SEGMENTS)?;
        let stack = stack(config, port, port_config, secret, index)?;
        links.push(Link::new(i as u16, queue, stack));
    }
    let sizing = Sizing {
        memory: &config.memory,
        shards: config.cores.len(),
        max_io_bytes: max_io,
        cluster_payload: payload_of(config, ports),
        copy: config.copy,
        seed: u64::from_ne_bytes(secret[..8].try_into().expect("eight bytes")),
    };
    // `target` has refused a namespace without a store.
    let volumes: Vec<_> = namespaces(config)
        .filter_map(|(_, namespace)| store_of(config, namespace))
        .collect();
    let common = Common {
        volumes: Volumes::new(
            index,
            stores,
            &policies(config),
            &volumes,
            &sizing.volumes(),
            StoreSlot::new,
        ),
        doors: Doors {
            nvme: NvmeDoor {
                commands: sizing.commands(),
                counters: nvmf::Counters::default(),
                target: Arc::clone(target),
            },
        },
        memory,
    };
    let mut shard = Shard::new(index, core, common, links, Core::new(spdk), Tsc);
    let listeners: Vec<_> = (config.target.listeners.iter())
        .map(|&(address, port)| (SocketAddr::new(address, port), DoorKind::Nvme))
        .collect();
    shard.listen(&listeners).map_err(Error::Target)?;
    Ok(shard)
}

/// The rings that requests cross, if pages are cached and have owners: for each
/// shard its ends, by shard, or none.
pub(crate) fn rings(config: &Config) -> Vec<Vec<Option<PeerEnds>>> {
    let shards = config.cores.len();
    if shards < 2 || !policies(config).contains(&WritePolicy::Back) {
        return (0..shards).map(|_| Vec::new()).collect();
    }
    volume::rings(shards, config.target.max_io_bytes as usize)
}

/// The policy of each store: behind the cache if a namespace on it is.
fn policies(config: &Config) -> Vec<WritePolicy> {
    let namespaces = || config.target.subsystems.iter().flat_map(|s| &s.namespaces);
    let is_back =
        |store: &str| namespaces().any(|n| n.store == store && n.write == WritePolicy::Back);
    (config.stores.iter())
        .map(|store| match is_back(&store.name) {
            true => WritePolicy::Back,
            false => WritePolicy::Through,
        })
        .collect()
}

/// Random bytes for hashes and sequence numbers.
pub(crate) fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    // The system's random source cannot fail once the system is up.
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut secret))
        .expect("/dev/urandom");
    secret
}

/// The least TCP payload that full frames of a port bring into one cluster.
fn payload_of(config: &Config, ports: &[Port]) -> usize {
    let payloads =
        (ports.iter().zip(&config.ports)).map(|(port, c)| port.payload_of_cluster(c.mtu));
    payloads
        .min()
        .unwrap_or(config.memory.cluster_size as usize)
}

fn stack(
    config: &Config,
    port: &Port,
    port_config: &PortConfig,
    secret: &[u8; 32],
    shard: usize,
) -> Result<Stack, Error> {
    let refuse = |why: String| Error::PortConfig {
        name: port_config.name.clone(),
        why,
    };
    let cidr = |&(address, prefix): &_| {
        Cidr::new(address, prefix).ok_or_else(|| {
            refuse(format!(
                "{address}/{prefix} is no network: the prefix is too long"
            ))
        })
    };
    let addresses = port_config
        .addresses
        .iter()
        .map(cidr)
        .collect::<Result<Vec<_>, _>>()?;
    let first = *addresses
        .first()
        .ok_or_else(|| refuse("has no address".into()))?;
    let routes = (port_config.routes.iter())
        .map(|&(to, prefix, via)| {
            Ok(Route {
                to: cidr(&(to, prefix))?,
                via,
            })
        })
        .collect::<Result<_, Error>>()?;
    let clusters = config.memory.clusters as usize;
    let connections = config.memory.connections as usize;
    let queues = config.cores.len() as u16;
    let checksums = port.has(dpdk_sys::TL_OFFLOAD_TX_TCP_CSUM);
    Stack::new(StackConfig {
        mtu: port_config.mtu.into(),
        vlan: port_config.vlan,
        addresses,
        routes,
        offload: Offload {
            rx_ip_checksum: port.has(dpdk_sys::TL_OFFLOAD_RX_IP_CSUM),
            rx_l4_checksum: port.has(dpdk_sys::TL_OFFLOAD_RX_L4_CSUM),
            tx_ip_checksum: port.has(dpdk_sys::TL_OFFLOAD_TX_IP_CSUM),
            tx_l4_checksum: checksums,
            tso_max_bytes: if checksums && port.has(dpdk_sys::TL_OFFLOAD_TX_TSO) {
                port.segmented_max(port_config.mtu)
            } else {
                0
            },
            buffers_max: port.buffers_max(),
        },
        connections_max: connections,
        half_open_max: connections.min(1024),
        receive_clusters: clusters,
        cluster_payload: port.payload_of_cluster(port_config.mtu),
        // What the NIC's ring holds armed, and room for frames without data.
        receive_headroom: (clusters / 8).clamp(1, 4096),
        steering: (queues > 1).then(|| rss::Steering {
            key: rss::SYMMETRIC_KEY,
            table: (0..128).map(|i| i % queues).collect(),
            queue: shard as u16,
        }),
        owns_addresses: shard == 0,
        ..StackConfig::new(MacAddress(port.mac), first, *secret)
    })
    .map_err(|error| refuse(error.to_string()))
}
