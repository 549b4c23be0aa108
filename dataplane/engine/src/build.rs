//! Building a shard and the target from the configuration.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use block::{Device, Geometry, NamespaceIndex, Span, SpanError, VolumeId, WritePolicy};
use net::{Cidr, MacAddress, Offload, Route, Stack, StackConfig, rss};
use nvmf::{ListenerConfig, Target};
use shard::{
    Common, Doors, Entrance, Link, MirrorDoor, NvmeDoor, Offer, SharedHandshakes, Sizing,
    StoreInfo, TlsDoor,
};
use volume::{Devices, RingEnds, Volumes};

use crate::config::{
    Config, KnownStore, LogConfig, LogStoreConfig, PortConfig, SpanConfig, StoreConfig, StoreDevice,
};
use crate::error::Error;
use crate::machine::{Core, Shard};
use crate::memory::Memory;
use crate::port::Port;
use crate::spdk::SpdkThread;
use crate::store::{Controller, Store, StoreSlot};
use crate::tsc::{Tsc, epoch};

/// Payload segments that may be on their way to a NIC, by reference, per queue pair.
const TRANSMIT_SEGMENTS: u32 = 8192;

/// What a shard knows of namespaces and volumes when it begins.
pub(crate) struct VolumePlan {
    /// The volume of each namespace.
    volumes: Vec<VolumeId>,
    /// The policy of each volume.
    policies: Vec<WritePolicy>,
    /// Namespaces that are read as backups.
    backups: Vec<NamespaceIndex>,
    /// Volumes that lie on several stores: as the first shard has found those.
    spans: Vec<Span>,
}

impl VolumePlan {
    pub(crate) fn new(offer: &Offer, spans: Vec<Span>) -> Self {
        Self {
            spans,
            volumes: offer.volumes(),
            policies: offer.policies(),
            backups: offer.backups(),
        }
    }
}

/// A shard's stores, and its way to those that the log is on, as they are configured: one of two may not be there.
pub(crate) struct Stores {
    pub(crate) volumes: Vec<Store>,
    pub(crate) logs: Vec<Option<Store>>,
}

/// NVMe controllers by transport id.
pub(crate) type Controllers = HashMap<String, Arc<Controller>>;

impl Stores {
    /// Opens every store on the calling shard's SPDK thread.
    pub(crate) fn open(config: &Config, controllers: &Controllers) -> Result<Self, Error> {
        let open = |store: &StoreConfig| {
            let controller = match &store.device {
                StoreDevice::Nvme { transport_id, .. } => controllers.get(transport_id),
                StoreDevice::Bdev(_) => None,
            };
            Store::open(store, controller)
        };
        let open_volume = |store: &StoreConfig| match open(store) {
            Err(error) if config.can_do_without(&store.name) => Ok(Store::absent(store, &error)),
            opened => opened,
        };
        let volumes = config.stores.iter().map(open_volume);
        let volumes: Vec<Store> = volumes.collect::<Result<_, _>>()?;
        let logs = config.log.iter().flat_map(|log| &log.stores);
        let open_log = |log: &LogStoreConfig| {
            let place = config
                .stores
                .iter()
                .position(|store| store.name == log.name);
            let place = place.filter(|&place| !volumes[place].is_absent());
            place.map(|place| open(&config.stores[place])).transpose()
        };
        let logs: Vec<_> = logs.map(open_log).collect::<Result<_, _>>()?;
        match config
            .log
            .as_ref()
            .filter(|_| logs.iter().all(Option::is_none))
        {
            Some(log) => Err(Error::Log {
                store: log.names(),
                why: "no store of it is there".into(),
            }),
            None => Ok(Self { volumes, logs }),
        }
    }
}

impl Config {
    /// Whether a start goes on without the store: it is one of two that the log is on.
    pub(crate) fn can_do_without(&self, store: &str) -> bool {
        let log = self.log.as_ref();
        log.is_some_and(|log| log.stores.len() > 1 && log.is_on(store))
    }
}

/// Where volumes lie that are on several stores.
pub(crate) fn spans(config: &Config, stores: &[Store]) -> Result<Vec<Span>, Error> {
    let named = config.stores.iter().zip(stores);
    let known: Vec<_> = named
        .map(|(config, store)| (config.name.as_str(), store.geometry()))
        .collect();
    let span = |span: &SpanConfig| {
        // The configuration was checked to have them.
        let devices = span.devices(&known).unwrap_or_default();
        span_of(span, &devices)
    };
    config.spans.iter().map(span).collect()
}

impl SpanConfig {
    /// Its stores, by their places among these; none if one is missing.
    fn devices(&self, stores: &[(&str, Geometry)]) -> Option<Vec<(VolumeId, Geometry)>> {
        let find = |name: &String| {
            let place = stores.iter().position(|(store, _)| store == name)?;
            Some((VolumeId(place as u16), stores[place].1))
        };
        self.stores.iter().map(find).collect()
    }
}

/// Where a volume lies whose stores these are.
fn span_of(config: &SpanConfig, devices: &[(VolumeId, Geometry)]) -> Result<Span, Error> {
    let block = |place: usize| devices[place].1.block_size;
    Span::new(devices).map_err(|error| Error::StoreConfig {
        name: config.name.clone(),
        why: match error {
            SpanError::Blocks(place) => format!(
                "{error}: {} bytes on {}, and {} on {}; give it stores with the same",
                block(0),
                config.stores[0],
                block(place),
                config.stores[place]
            ),
            SpanError::Short(place) => format!("{error}: {}", config.stores[place]),
            SpanError::Empty => error.to_string(),
        },
    })
}

/// Bytes of every store, and of its blocks.
pub(crate) fn sizes(stores: &[Store], spans: &[Span]) -> Vec<(u64, u32)> {
    let devices = stores.iter().map(Device::geometry);
    let all = devices.chain(spans.iter().map(|span| *span.geometry()));
    all.map(|geometry| (geometry.len(), geometry.block_size))
        .collect()
}

/// What the engine offers when it starts.
pub(crate) fn offer(config: &Config, stores: &[Store], spans: &[Span]) -> Result<Offer, Error> {
    let log = config.log.as_ref();
    let info = |(config, store): (&StoreConfig, &Store)| {
        let mut info = StoreInfo::new(config.name.clone(), store.geometry());
        info.smart = store.smart();
        with_the_log(log, info)
    };
    let mut stores: Vec<_> = config.stores.iter().zip(stores).map(info).collect();
    for (config, span) in config.spans.iter().zip(spans) {
        let info = StoreInfo::of_span(config.name.clone(), span, &mut stores);
        stores.push(info);
    }
    Offer::new(&config.target.subsystems, stores).map_err(Error::Target)
}

/// A store, which the log may be on.
fn with_the_log(log: Option<&LogConfig>, store: StoreInfo) -> StoreInfo {
    match log.is_some_and(|log| log.is_on(&store.name)) {
        true => store.with_the_log(),
        false => store,
    }
}

/// The target, with each namespace as large as its store.
pub(crate) fn target(config: &Config, offer: &Offer) -> Result<Arc<Target>, Error> {
    let mut target = target_config(config);
    target.subsystems = offer.subsystems.clone();
    Target::new(target).map_err(|error| Error::Target(error.to_string()))
}

/// The target before any store is known: it has no subsystems.
fn target_config(config: &Config) -> nvmf::TargetConfig {
    let target = &config.target;
    nvmf::TargetConfig {
        listeners: target.listeners.clone(),
        max_io_bytes: target.max_io_bytes,
        max_h2c_bytes: target.max_io_bytes,
        in_capsule_bytes: target.in_capsule_bytes,
        queue_depth: target.queue_depth,
        authentication: target.authentication.clone(),
        ..nvmf::TargetConfig::default()
    }
}

impl Config {
    /// Whether the target can be made of this, as far as that is known when only some
    /// of its stores are.
    ///
    /// # Errors
    /// As [`run()`](crate::run()) would end with.
    pub fn check_target(&self, known: &[KnownStore]) -> Result<(), Error> {
        let info = |store: &KnownStore| with_the_log(self.log.as_ref(), store.info());
        let mut stores: Vec<_> = known.iter().map(info).collect();
        self.add_known_spans(&mut stores)?;
        let mut subsystems = self.target.subsystems.clone();
        for subsystem in &mut subsystems {
            (subsystem.namespaces).retain(|ns| stores.iter().any(|store| store.name == ns.store));
        }
        let offer = Offer::new(&subsystems, stores).map_err(Error::Target)?;
        let mut target = target_config(self);
        target.subsystems = offer.subsystems;
        (target.validate()).map_err(|error| Error::Target(error.to_string()))
    }

    /// Puts what lies on `stores` alone, which are known, behind them.
    fn add_known_spans(&self, stores: &mut Vec<StoreInfo>) -> Result<(), Error> {
        for config in &self.spans {
            let known = stores.iter();
            let known: Vec<_> = known
                .map(|store| (store.name.as_str(), store.geometry))
                .collect();
            if let Some(devices) = config.devices(&known) {
                let span = span_of(config, &devices)?;
                let info = StoreInfo::of_span(config.name.clone(), &span, stores);
                stores.push(info);
            }
        }
        Ok(())
    }

    /// Whether one of its ports can be used, as far as that is known without taking it.
    ///
    /// # Errors
    /// As [`run()`](crate::run()) would end with.
    pub fn check_port(&self, port: &PortConfig) -> Result<(), Error> {
        /// Of a device that only DPDK can ask.
        const SOME: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
        let mac = Port::mac_of_interface(port)?.map_or(SOME, MacAddress);
        let stack = stack_config(self, port, mac, &[0; 32])?;
        (stack.validate()).map_err(|error| refused(port, error.to_string()))?;
        let own = |listener: &&ListenerConfig| {
            let address = listener.listener.address;
            (port.addresses.iter()).any(|(own, _)| *own == address || address.is_unspecified())
        };
        let listeners = self.target.listeners.iter().filter(own).count();
        if listeners > stack.listeners_max {
            let most = stack.listeners_max;
            let why = format!(
                "{listeners} listeners on its addresses: {most} at most, see `listen` in [target]"
            );
            return Err(refused(port, why));
        }
        Ok(())
    }
}

impl KnownStore {
    fn info(&self) -> StoreInfo {
        let geometry = Geometry {
            block_size: self.block_size,
            blocks: self.blocks,
            metadata: 0,
            alignment: 1,
            prp: false,
            max_elements: 1,
            max_bytes: 1 << 17,
            write_cache: false,
            write_zeroes: false,
            unmap: false,
            deallocated_zeros: false,
        };
        StoreInfo::new(self.name.clone(), geometry)
    }
}

/// A port's configuration that cannot be.
fn refused(port: &PortConfig, why: String) -> Error {
    Error::PortConfig {
        name: port.name.clone(),
        why,
    }
}

/// A shard, listening, with its queues set up; its ports are not started.
#[allow(clippy::too_many_arguments)]
pub(crate) fn shard(
    config: &Config,
    ports: &[Port],
    target: &Arc<Target>,
    handshakes: Option<SharedHandshakes>,
    plan: &VolumePlan,
    secret: &[u8; 32],
    index: usize,
    core: u32,
    spdk: SpdkThread,
    stores: Stores,
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
    let sizes = sizing.volumes();
    let common = Common {
        volumes: Volumes::new(
            index,
            Devices::new(stores.volumes, plan.spans.clone()),
            plan.policies.as_slice(),
            plan.volumes.as_slice(),
            &sizes,
            target.fences(),
            StoreSlot::new,
        ),
        doors: Doors {
            nvme: NvmeDoor {
                commands: sizing.commands(),
                counters: nvmf::Counters::default(),
                target: Arc::clone(target),
            },
            mirror: MirrorDoor::none(),
            tls: TlsDoor {
                handshakes,
                limits: config.target.tls_limits,
                updates_keys: config.target.tls_key_update,
                ..TlsDoor::default()
            },
        },
        memory,
    };
    let core_machine = Core::new(spdk);
    let mut shard = Shard::new(index, core, common, links, core_machine, Tsc, epoch());
    for &backup in &plan.backups {
        shard.set_backup(backup);
    }
    if !stores.logs.is_empty() {
        shard.attach_log(stores.logs, sizes.elements, StoreSlot::new);
    }
    let mut mirrors: BTreeMap<SocketAddr, Vec<bool>> = BTreeMap::new();
    for pair in &config.pairs {
        for &address in &pair.listen {
            // Several peers may come in by one.
            mirrors.entry(address).or_default().push(pair.tls);
        }
    }
    let listeners: Vec<_> = (config.target.listeners.iter())
        .map(|&listener| Entrance::from(listener))
        .chain((mirrors.into_iter()).map(|(address, tls)| Entrance::of_nodes(address, tls)))
        .collect();
    shard.listen(&listeners).map_err(Error::Target)?;
    Ok(shard)
}

/// The rings that requests cross where pages are cached and have owners: for each
/// shard its ends, by shard.
pub(crate) fn rings(config: &Config) -> Vec<Vec<Option<RingEnds>>> {
    volume::rings(config.cores.len(), config.target.max_io_bytes as usize)
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
    let clusters = config.memory.clusters as usize;
    let queues = config.cores.len() as u16;
    let checksums = port.has(dpdk_sys::TL_OFFLOAD_TX_TCP_CSUM);
    Stack::new(StackConfig {
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
        receive_clusters: clusters,
        cluster_payload: port.payload_of_cluster(port_config.mtu),
        // What the NIC's ring holds armed, and room for frames without data.
        receive_headroom: (clusters / 8).clamp(1, 4096),
        steering: (queues > 1).then(|| rss::Steering {
            key: rss::SYMMETRIC_KEY,
            table: (0..128).map(|i| rss::QueueIndex(i % queues)).collect(),
            queue: rss::QueueIndex(shard as u16),
        }),
        owns_addresses: shard == 0,
        ..stack_config(config, port_config, MacAddress(port.mac), secret)?
    })
    .map_err(|error| refused(port_config, error.to_string()))
}

/// What of a stack follows from the configuration alone.
fn stack_config(
    config: &Config,
    port: &PortConfig,
    mac: MacAddress,
    secret: &[u8; 32],
) -> Result<StackConfig, Error> {
    let cidr = |&(address, prefix): &_| {
        Cidr::new(address, prefix).ok_or_else(|| {
            let why = format!("{address}/{prefix} is no network: the prefix is too long");
            refused(port, why)
        })
    };
    let addresses = (port.addresses.iter().map(cidr)).collect::<Result<Vec<_>, _>>()?;
    let first = *(addresses.first()).ok_or_else(|| refused(port, "has no address".into()))?;
    let routes = (port.routes.iter())
        .map(|&(to, prefix, via)| {
            Ok(Route {
                to: cidr(&(to, prefix))?,
                via,
            })
        })
        .collect::<Result<_, Error>>()?;
    let connections = config.memory.connections as usize;
    Ok(StackConfig {
        mtu: port.mtu.into(),
        vlan: port.vlan,
        addresses,
        routes,
        connections_max: connections,
        half_open_max: (connections / 8).clamp(1, 1024),
        time_wait_max: connections.max(1024),
        ..StackConfig::new(mac, first, *secret)
    })
}
