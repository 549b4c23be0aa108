//! What an engine is made of: cores, memory, ports, stores and the target.
//!
//! The program fills these from its TOML file; a test fills them by hand.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use block::VolumeId;
use nvmf::ListenerConfig;
use shard::{MemoryConfig, SubsystemConfig};

/// Everything an engine needs to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// CPU cores, one shard each. The first also runs SPDK's management work.
    pub cores: Vec<u32>,
    /// Memory of each shard.
    pub memory: MemoryConfig,
    /// Network ports; every shard has one queue pair of each.
    pub ports: Vec<PortConfig>,
    /// SPDK's JSON configuration (the text of it), which creates bdevs.
    pub spdk_json: Option<String>,
    /// Devices by name.
    pub stores: Vec<StoreConfig>,
    /// Volumes that lie on several of them.
    pub spans: Vec<SpanConfig>,
    /// The log, if there is one.
    pub log: Option<LogConfig>,
    /// Other nodes that have the same volumes, each of which is a peer.
    pub pairs: Vec<PairConfig>,
    /// The NVMe/TCP target.
    pub target: TargetConfig,
    /// Assemble by memcpy into aligned pages: the ablation.
    pub copy: bool,
    /// PCI addresses DPDK and SPDK may take; empty means none.
    pub pci_allow: Vec<String>,
    /// MiB of hugepages DPDK and SPDK may use for themselves (rings, mbuf headers, bdevs).
    pub native_memory_mib: u32,
}

/// A network port.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// What logs and statistics call it.
    pub name: String,
    /// A device of DPDK's: a PCI address, or a virtual one with its arguments
    /// (`net_tap0,iface=tl0`); or an interface of the kernel (`eth1`).
    pub device: String,
    /// IP MTU in bytes.
    pub mtu: u16,
    /// Addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Routes: destination, prefix length, next hop.
    pub routes: Vec<(IpAddr, u8, IpAddr)>,
    /// VLAN tag of every frame.
    pub vlan: Option<u16>,
}

/// A block device.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// What namespaces call it.
    pub name: String,
    /// Where it is.
    pub device: StoreDevice,
    /// How long it may have a command before it is reset; `None`: for ever.
    pub timeout: Option<Duration>,
}

impl StoreConfig {
    /// How long a store may have a command unless it is said otherwise: longer than a drive
    /// tries to read a bad block, and less than hosts wait (Linux: 30 s).
    pub const TIMEOUT: Duration = Duration::from_secs(20);
}

/// A volume that lies on several stores, one behind the other (row R8). It is a store itself, for namespaces and pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanConfig {
    /// What namespaces call it.
    pub name: String,
    /// The stores, in their order.
    pub stores: Vec<String>,
}

impl Config {
    /// Every store by its name, in the order in which they are known by everywhere: devices, and then what lies on
    /// several of them.
    pub fn store_names(&self) -> impl Iterator<Item = &str> {
        let stores = self.stores.iter().map(|store| &store.name);
        let all = stores.chain(self.spans.iter().map(|span| &span.name));
        all.map(String::as_str)
    }

    /// What lies on that store and others.
    pub fn span_on(&self, store: &str) -> Option<&SpanConfig> {
        let has_it = |span: &&SpanConfig| span.stores.iter().any(|name| name == store);
        self.spans.iter().find(has_it)
    }

    /// The place of a store among all.
    pub(crate) fn volume_of(&self, name: &str) -> Option<VolumeId> {
        let place = self.store_names().position(|store| store == name)?;
        Some(VolumeId(place as u16))
    }
}

/// The log of acknowledged writes (rows S1, S4, S6, S7).
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The store that it is on, or the two.
    pub stores: Vec<LogStoreConfig>,
    /// Bytes of each of the two halves that a shard has; `None`: as many as there is room for.
    pub half_len: Option<u64>,
    /// Time between two consistency points, at most.
    pub interval: Duration,
    /// Once its stores have failed and it is empty, changes go straight to their drives; else they are refused.
    pub through_after_failure: bool,
}

/// A mirrored pair (rows R1 to R11): another node, and what both have.
#[derive(Clone, Debug)]
pub struct PairConfig {
    /// What this node is known by: the same in each pair.
    pub node: [u8; 16],
    /// Where it listens for the other one; pairs may have addresses in common.
    pub listen: Vec<SocketAddr>,
    /// What the other one is known by.
    pub peer: [u8; 16],
    /// Where that listens; the first one is tried first.
    pub peer_listen: Vec<SocketAddr>,
    /// The secret that both have.
    pub key: [u8; 32],
    /// Connections with it are in TLS, either way; else they are in the clear, either way.
    pub tls: bool,
    /// Bytes of payload that frames to and from it have at most.
    pub frame_bytes: u32,
    /// What both have.
    pub volumes: Vec<PairVolumeConfig>,
    /// What tells which one serves when they do not hear each other.
    pub arbiter: Option<ArbiterConfig>,
}

/// Volumes of all pairs, each with its pair's place: what names them everywhere is their order.
pub fn pair_volumes(pairs: &[PairConfig]) -> impl Iterator<Item = (usize, &PairVolumeConfig)> {
    let pairs = pairs.iter().enumerate();
    pairs.flat_map(|(peer, pair)| pair.volumes.iter().map(move |volume| (peer, volume)))
}

/// An etcd that both nodes of a pair reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArbiterConfig {
    /// `http://ADDRESS:PORT` or `https://ADDRESS:PORT`, tried in turn.
    pub etcd: Vec<String>,
    /// For those of `https`.
    pub tls: Option<ArbiterTls>,
    /// How long after this node was last heard of the other one may take over: whole seconds, on both nodes the same.
    pub lease: Duration,
}

/// How an etcd proves who it is, and this node to it: files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArbiterTls {
    /// Certificates of whoever signs the etcds'.
    pub ca_file: PathBuf,
    /// This node's certificate, and its key, if the etcds want one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A volume of a pair.
#[derive(Clone, Debug)]
pub struct PairVolumeConfig {
    /// The store that this node has it on.
    pub store: String,
    /// What both nodes know it by.
    pub id: [u8; 16],
    /// What this node is for it before it has met the other one.
    pub first_role: FirstRole,
}

/// What a node is for a volume of a pair at its first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstRole {
    /// What it has is the volume.
    Source,
    /// What it has is overwritten, unless an operator [establishes](shard::PairOrder::Establish) the pair here.
    Destination,
}

/// A store that the log is on.
#[derive(Clone, Debug)]
pub struct LogStoreConfig {
    /// Its name.
    pub name: String,
    /// What it has of the log is given up at the start, whatever it is.
    pub discard: bool,
}

impl LogConfig {
    /// Whether it is on the store called `name`.
    pub fn is_on(&self, name: &str) -> bool {
        self.stores.iter().any(|store| store.name == name)
    }

    /// The names of its stores.
    pub fn names(&self) -> String {
        let names: Vec<_> = (self.stores.iter())
            .map(|store| store.name.as_str())
            .collect();
        names.join(" and ")
    }
}

/// A store of which is known, before it is there, what it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownStore {
    /// What namespaces call it.
    pub name: String,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
}

/// How a store is reached (row K5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreDevice {
    /// A bdev that the SPDK configuration creates.
    Bdev(String),
    /// A namespace of an NVMe controller, by `spdk_nvme`: the transport id
    /// (`trtype:PCIe traddr:0000:00:04.0`) and the namespace's number there.
    Nvme {
        /// SPDK transport id string.
        transport_id: String,
        /// Namespace id on that controller.
        nsid: u32,
    },
}

/// A secret out of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    /// What hosts' keys name it by.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What it has.
    pub secret: Secret,
}

/// What a key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// DH-HMAC-CHAP: `DHHC-1:…`.
    Dhchap(auth::Key),
    /// TLS: `NVMeTLSkey-1:…`.
    Psk(Arc<tls::ConfiguredPsk>),
}

/// The NVMe/TCP target.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// Where it listens.
    pub listeners: Vec<ListenerConfig>,
    /// Largest data transfer of one command in bytes: 4 KiB times a power of two.
    pub max_io_bytes: u32,
    /// Largest in-capsule data in bytes.
    pub in_capsule_bytes: u32,
    /// Entries of an I/O queue.
    pub queue_depth: u16,
    /// Keys that hosts' are of, by name.
    pub keys: Vec<KeyConfig>,
    /// How much of TLS goes under one key.
    pub tls_limits: tls::Limits,
    /// Hosts take new keys on a connection (KeyUpdate).
    pub tls_key_update: bool,
    /// How hosts with keys prove who they are.
    pub authentication: auth::Policy,
    /// Subsystems.
    pub subsystems: Vec<SubsystemConfig>,
}
