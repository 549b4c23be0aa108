//! Building an appliance's shards, as the engine does.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use block::{Device as _, Geometry, Span, VolumeId, WritePolicy};
use net::{Cidr, MacAddress, Offload, Stack, StackConfig, TcpConfig, rss};
use nvlog::{LogId, PartOf};
use nvmf::{ListenerConfig, Target, TargetConfig};
use shard::{
    Common, Doors, Entrance, Handle, HostConfig, Link, MirrorDoor, NamespaceConfig, NvmeDoor,
    Offer, Sizing, StoreInfo, SubsystemConfig, TlsDoor,
};
use volume::{Devices, Volumes};

use super::{Appliance, PairNode, Running, SUBSYSTEM, Shard, TCP_PORT, Turn};
use crate::clock::{self, MICROSECOND};
use crate::device::{Device, Machine};
use crate::disk::Disk;
use crate::guard::GuardPlan;
use crate::memory::Memory;
use crate::plan::{AppliancePlan, HOSTS_MAX, LogPlan, NetworkPlan, VolumePlan, host_nqn};
use crate::port::Nic;
use crate::secure::TlsPlan;
use crate::wire::Node;

/// Bytes of Ethernet, VLAN tag, IP and TCP in front of a segment's payload, at most.
const HEADERS: usize = 18 + 40 + 32;

/// The redirection that NICs start with.
pub(super) fn steering(shards: usize, queue: u16) -> rss::Steering {
    rss::Steering {
        key: rss::SYMMETRIC_KEY,
        table: (0..128)
            .map(|i| rss::QueueIndex(i % shards as u16))
            .collect(),
        queue: rss::QueueIndex(queue),
    }
}

/// NICs, by port.
pub(super) fn nics(plan: &AppliancePlan) -> Vec<Nic> {
    let nic = |_| Nic::new(plan.nic, steering(plan.shards, 0), plan.shards);
    (0..plan.ports).map(nic).collect()
}

/// An appliance at one of its ports.
pub(crate) fn at_port(appliance: usize, port: usize) -> Node {
    match port {
        0 => Node::Appliance(appliance),
        _ => Node::Second(appliance),
    }
}

/// The address of a node.
pub(crate) fn address(network: &NetworkPlan, node: Node) -> IpAddr {
    let (net, host) = match node {
        Node::Appliance(i) => (0, 1 + i as u8),
        Node::Second(i) => (1, 1 + i as u8),
        Node::Host(i) => (0, 101 + i as u8),
    };
    match network.ipv6 {
        true => IpAddr::from([0xfd00 + net, 0, 0, 0, 0, 0, 0, u16::from(host)]),
        false => IpAddr::from([192, net as u8, 2, host]),
    }
}

/// What stacks of all nodes have in common.
pub(crate) fn stack_config(network: &NetworkPlan, node: Node, secret: u64) -> StackConfig {
    let prefix = if network.ipv6 { 64 } else { 24 };
    let net = Cidr::new(address(network, node), prefix).expect("a network");
    let mut key = [0; 32];
    for (i, bytes) in key.chunks_mut(8).enumerate() {
        bytes.copy_from_slice(&secret.wrapping_add(i as u64).to_le_bytes());
    }
    StackConfig {
        mtu: network.mtu,
        vlan: network.vlan,
        duplicate_address_detection: network.duplicate_address_detection,
        tcp: TcpConfig {
            rto_max: network.rto_max,
            ..TcpConfig::default()
        },
        time_wait_max: 64,
        neighbors_max: 16,
        listeners_max: 2,
        send_chunks_per_connection: 512,
        send_chunks_total: 4096,
        segments_in_flight_total: 4096,
        ..StackConfig::new(MacAddress(node.mac()), net, key)
    }
}

/// Where the disks are that a volume lies on.
pub(super) fn places(
    volumes: &[VolumePlan],
    logs: usize,
    volume: usize,
) -> impl Iterator<Item = usize> {
    let more = |volume: &VolumePlan| volume.parts.len().saturating_sub(1);
    let before: usize = volumes[..volume].iter().map(more).sum();
    let first = volumes.len() + logs + before;
    std::iter::once(volume).chain(first..first + more(&volumes[volume]))
}

/// What an appliance of so many disks knows a volume by.
pub(super) fn volume_id(volumes: &[VolumePlan], disks: usize, volume: usize) -> VolumeId {
    let is_span = |volume: &&VolumePlan| !volume.parts.is_empty();
    let spans = volumes[..volume].iter().filter(is_span).count();
    VolumeId(match is_span(&&volumes[volume]) {
        true => disks + spans,
        false => volume,
    } as u16)
}

impl Appliance {
    pub(super) fn build(&mut self) -> Running {
        let plan = &self.plan;
        let secret = self.random.word();
        let is_dead = Rc::new(Cell::new(false));
        let of_log = self.volumes.len()..self.volumes.len() + self.logs.count;
        let store = |(i, disk): (usize, &Rc<RefCell<Disk>>)| {
            let store = StoreInfo::new(format!("disk{i}"), disk.borrow().geometry());
            match of_log.contains(&i) {
                false => store,
                true => store.with_the_log(),
            }
        };
        let mut stores: Vec<_> = self.disks.iter().enumerate().map(store).collect();
        for (volume, span) in self.spans() {
            let info = StoreInfo::of_span(self.store_name(volume), &span, &mut stores);
            stores.push(info);
        }
        let subsystem = self.subsystem();
        let offer = Offer::new(std::slice::from_ref(&subsystem), stores)
            .expect("namespaces that fit their devices");
        let ip = address(&self.network, Node::Appliance(self.index));
        let listener = self.listener(ip);
        let target = Target::new(TargetConfig {
            subsystems: offer.subsystems.clone(),
            listeners: vec![listener],
            max_io_bytes: plan.max_io_bytes,
            max_h2c_bytes: plan.max_io_bytes,
            in_capsule_bytes: plan.in_capsule_bytes,
            queue_depth: plan.queue_depth,
            success_flag: plan.success_flag,
            data_ms: plan.data_ms,
            authentication: (plan.guard.as_ref())
                .map(GuardPlan::policy)
                .unwrap_or_default(),
            ..TargetConfig::default()
        })
        .expect("a target that is valid");
        let volumes = (offer.volumes(), offer.policies());
        let mut shards: Vec<Shard> = (0..plan.shards)
            .map(|index| self.shard(index, secret, &target, &volumes, &is_dead))
            .collect();
        let rings = volume::rings(plan.shards, plan.max_io_bytes as usize);
        let links = rings.into_iter().zip(shard::between(plan.shards));
        for (shard, (ends, notices)) in shards.iter_mut().zip(links) {
            shard.join(ends, notices);
        }
        let mut listeners = vec![Entrance::from(listener)];
        let log = self.log.clone();
        match &log {
            Some(log) => {
                let id = LogId(u128::from(self.random.word()).to_le_bytes());
                shards[0].replay_log(self.log_plan(log, id));
                let mirror = |port: usize| {
                    let ip = address(&self.network, at_port(self.index, port));
                    Some(self.pair.as_ref()?.entrance(ip))
                };
                listeners.extend((0..plan.ports).filter_map(mirror));
            }
            None => {
                for shard in &mut shards {
                    shard.listen(&listeners).expect("the port has the address");
                }
            }
        }
        let handle = Handle::new();
        handle.expect_shards(
            plan.shards,
            clock::SECOND,
            (0..plan.ports).map(|port| format!("port{port}")).collect(),
            offer,
            &target,
        );
        handle.set_ready(log.is_none());
        let turn = |_| Turn {
            at: clock::now(),
            idle: MICROSECOND,
            not_before: 0,
        };
        Running {
            turns: (0..plan.shards).map(turn).collect(),
            arenas: (shards.iter())
                .map(|shard| Rc::clone(shard.memory().arena()))
                .collect(),
            shards,
            handle,
            target,
            is_dead,
            listeners,
            listener,
            subsystem,
            stopping: None,
            is_replaying: log.is_some(),
            begun: None,
            refused: None,
            mirrored: Vec::new(),
            paused_until: 0,
        }
    }

    /// What hosts connect to.
    fn subsystem(&self) -> SubsystemConfig {
        let has = |&(i, _): &(usize, _)| self.pair.as_ref().is_none_or(|node| node.has(i));
        let namespaces = (self.volumes.iter().enumerate().filter(has))
            .map(|(i, volume)| NamespaceConfig {
                nsid: i as u32 + 1,
                store: self.store_name(i),
                uuid: None,
                nguid: None,
                write: volume.policy,
                block_size: Some(volume.block),
                backup_of: None,
            })
            .collect();
        SubsystemConfig {
            nqn: SUBSYSTEM.into(),
            serial: "TL0001".into(),
            model: "Throughline".into(),
            hosts: self.hosts(),
            ana: None,
            controller_ids: shard::CNTLIDS,
            peer_listeners: Vec::new(),
            namespaces,
        }
    }

    /// Where hosts come in.
    fn listener(&self, ip: IpAddr) -> ListenerConfig {
        let tls = self.plan.tls.as_ref().map(TlsPlan::listener);
        ListenerConfig {
            tls: tls.unwrap_or_default(),
            ..(ip, TCP_PORT).into()
        }
    }

    /// Who may connect, and with which keys; anybody, if nobody has any.
    fn hosts(&self) -> Option<Vec<HostConfig>> {
        let (guard, tls) = (&self.plan.guard, &self.plan.tls);
        if guard.is_none() && tls.is_none() {
            return None;
        }
        let plain = || (0..HOSTS_MAX).map(|index| HostConfig::from(&*host_nqn(index)));
        let hosts = guard.as_ref().map(GuardPlan::hosts);
        let hosts = hosts.unwrap_or_else(|| plain().collect());
        let with_psk = |(index, host)| match tls {
            Some(tls) => tls.host(index, host),
            None => host,
        };
        Some(hosts.into_iter().enumerate().map(with_psk).collect())
    }

    /// Volumes that lie on several drives.
    fn spans(&self) -> Vec<(usize, Span)> {
        let span = |(i, volume): (usize, &VolumePlan)| {
            let places = places(&self.volumes, self.logs.count, i);
            let ids: Vec<_> = places.map(|place| VolumeId(place as u16)).collect();
            Some((i, volume.span(&ids)?))
        };
        self.volumes.iter().enumerate().filter_map(span).collect()
    }

    fn store_name(&self, volume: usize) -> String {
        match self.volumes[volume].parts.is_empty() {
            true => format!("disk{volume}"),
            false => format!("span{volume}"),
        }
    }

    /// What the log is to know of volumes; of all drives, if some are parts of one.
    fn logged_volumes(&self) -> Vec<nvlog::Volume> {
        let volume = |name, identity: u8, geometry: Geometry| nvlog::Volume {
            name,
            identity: [identity; 16],
            len: geometry.len(),
            block: geometry.block_size,
            part_of: None,
        };
        let spans = self.spans();
        let count = match spans.is_empty() {
            true => self.volumes.len(),
            false => self.disks.len(),
        };
        let disks = self.disks[..count].iter().enumerate();
        let disk = |(i, disk): (usize, &Rc<RefCell<Disk>>)| {
            volume(format!("disk{i}"), i as u8, disk.borrow().geometry())
        };
        let mut all: Vec<_> = disks.map(disk).collect();
        for (i, span) in spans {
            for (place, id) in span.volumes().enumerate() {
                all[id.index()].part_of = Some(PartOf {
                    span: all.len() as u16,
                    place: place as u16,
                });
            }
            all.push(volume(self.store_name(i), 0, *span.geometry()));
        }
        all
    }

    fn log_plan(&self, log: &LogPlan, id: LogId) -> volume::LogPlan {
        let store = |place: usize| volume::LogStorePlan {
            name: format!("disk{}", self.volumes.len() + place),
            volume: VolumeId((self.volumes.len() + place) as u16),
            discard: self.logs.discards && self.logs.absent == Some(place),
        };
        volume::LogPlan {
            shards: self.plan.shards,
            half_len: Some(log.half_len),
            tables_len: match self.started > log.tables_from || self.pair.is_some() {
                true => self
                    .pair
                    .as_ref()
                    .map_or(log.tables_len, PairNode::tables_len),
                false => 0,
            },
            interval: Duration::from_nanos(log.interval),
            through_after_failure: log.through_after_failure,
            max_bytes: self.plan.max_io_bytes as usize,
            volumes: self.logged_volumes(),
            id,
            stores: self.logs.configured().into_iter().map(store).collect(),
        }
    }

    fn shard(
        &self,
        index: usize,
        secret: u64,
        target: &Arc<Target>,
        volumes: &(Vec<VolumeId>, Vec<WritePolicy>),
        is_dead: &Rc<Cell<bool>>,
    ) -> Shard {
        let plan = &self.plan;
        let max_io = plan.max_io_bytes as usize;
        let memory = Memory::new(&plan.memory, max_io);
        let link = |(port, nic): (usize, &Nic)| {
            let stack = Stack::new(self.stack(index, port, secret)).expect("a stack that is valid");
            Link::new(port as u16, nic.port(index), stack)
        };
        let links = self.nics.iter().enumerate().map(link).collect();
        let devices: Vec<_> = (self.disks.iter())
            .map(|disk| Device::new(index, disk, is_dead))
            .collect();
        let spans = self.spans().into_iter().map(|(_, span)| span).collect();
        let log = |place: usize| {
            let disk = (self.logs().get(place)).filter(|_| self.logs.absent != Some(place));
            disk.map(|disk| Device::new(index, disk, is_dead))
        };
        let logs: Vec<_> = self.logs.configured().into_iter().map(log).collect();
        debug_assert!(devices.iter().all(|device| !device.geometry().is_empty()));
        let sizing = Sizing {
            memory: &plan.memory,
            shards: plan.shards,
            max_io_bytes: max_io,
            cluster_payload: self.cluster_payload(),
            copy: plan.copy,
            seed: secret,
        };
        let mut sizes = sizing.volumes();
        sizes.deallocated_max = plan.deallocated_max;
        sizes.deallocation_rest = plan.deallocation_rest;
        let common = Common {
            volumes: Volumes::new(
                index,
                Devices::new(devices, spans),
                &volumes.1,
                &volumes.0,
                &sizes,
                target.fences(),
                || (),
            ),
            doors: Doors {
                nvme: NvmeDoor {
                    commands: sizing.commands(),
                    counters: nvmf::Counters::default(),
                    target: Arc::clone(target),
                },
                mirror: MirrorDoor::none(),
                tls: match self.plan.tls.is_some() || self.pair.is_some() {
                    true => TlsPlan::door(secret ^ index as u64),
                    false => TlsDoor::default(),
                },
            },
            memory,
        };
        let (core, start) = (index as u32, self.clock.at(clock::now()));
        let mut shard = Shard::new(index, core, common, links, Machine, self.clock, start);
        if !logs.is_empty() {
            shard.attach_log(logs, sizes.elements, || ());
        }
        shard
    }

    fn stack(&self, index: usize, port: usize, secret: u64) -> StackConfig {
        let (plan, network) = (&self.plan, &self.network);
        let clusters = plan.memory.clusters as usize;
        StackConfig {
            offload: Offload {
                rx_ip_checksum: plan.nic.verifies,
                rx_l4_checksum: plan.nic.verifies,
                tx_ip_checksum: network.transmit_checksums,
                tx_l4_checksum: network.transmit_checksums,
                tso_max_bytes: network.tso_max_bytes,
                buffers_max: 0,
            },
            connections_max: plan.memory.connections as usize,
            half_open_max: (plan.memory.connections as usize / 8).max(1),
            receive_clusters: clusters,
            cluster_payload: self.cluster_payload(),
            receive_headroom: (clusters / 8).clamp(1, 4096),
            steering: (plan.shards > 1).then(|| steering(plan.shards, index as u16)),
            owns_addresses: index == 0,
            ..stack_config(network, at_port(self.index, port), secret)
        }
    }

    /// TCP payload in each of the clusters that a full frame takes.
    fn cluster_payload(&self) -> usize {
        let room = self.plan.memory.cluster_size as usize;
        let frame = self.network.mtu + 18 + self.plan.nic.shift;
        (self.network.mtu - (HEADERS - 18)) / frame.div_ceil(room)
    }
}
