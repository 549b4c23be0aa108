//! Ports: what frames come from and go to, and a shard's queue pair of each.
//!
//! A port is a device that DPDK drives ([`dpdk`]), or an interface of the
//! kernel ([`kernel`]).

mod dpdk;
mod kernel;

use arrayvec::ArrayVec;
use net::{MacAddress, PortFull, RxFrame, Transmit, TxFrame};
use pages::Slice;
use shard::{PortCounters, PortState};

use crate::config::PortConfig;
use crate::environment::is_dpdk;
use crate::error::Error;
use crate::memory::Memory;

/// Frames taken from or handed to a port at a time.
const BURST: usize = 32;
/// Clusters of one frame: of 64 KiB, joined by a kernel from many, over clusters of 2 KB.
const SEGMENTS_MAX: usize = 33;

/// What the engine asks of a port; what the port lacks is done in software.
const WANTED: u32 = dpdk_sys::TL_OFFLOAD_RX_IP_CSUM
    | dpdk_sys::TL_OFFLOAD_RX_L4_CSUM
    | dpdk_sys::TL_OFFLOAD_RX_RSS_HASH
    | dpdk_sys::TL_OFFLOAD_TX_IP_CSUM
    | dpdk_sys::TL_OFFLOAD_TX_TCP_CSUM
    | dpdk_sys::TL_OFFLOAD_TX_TSO
    | dpdk_sys::TL_OFFLOAD_TX_MULTI_SEG;

/// Ethernet header, VLAN tag and FCS.
const FRAME_OVERHEAD: u32 = 14 + 4 + 4;
/// Headers of IPv4 and TCP without options.
const HEADERS: u16 = 40;

/// The parts of one frame.
type Parts = ArrayVec<Slice, SEGMENTS_MAX>;

/// A configured port, owned by the main thread.
pub(crate) struct Port {
    pub(crate) mac: [u8; 6],
    /// `TL_OFFLOAD_*` bits that are on.
    pub(crate) offloads: u32,
    device: Device,
    /// Bytes of a frame that one cluster takes.
    room: u32,
    scatter: bool,
}

enum Device {
    Dpdk(dpdk::Device),
    Kernel(kernel::Device),
}

/// What a device says of itself before it is configured.
struct Identity {
    mac: [u8; 6],
    driver: String,
    queues_max: u16,
}

impl Port {
    /// Finds the devices and configures `queues` queue pairs on each, to
    /// receive into clusters of `cluster_size` bytes that they share.
    pub(crate) fn open(
        configs: &[PortConfig],
        queues: u16,
        cluster_size: u32,
    ) -> Result<Vec<Self>, Error> {
        let mut found = (configs.iter().map(Device::find)).collect::<Result<Vec<_>, _>>()?;
        // One that wants its headroom inside makes the room smaller for all.
        let start = found.iter().map(|(device, _)| device.cluster_shift());
        let room = cluster_size - start.max().unwrap_or(0).max(dpdk::TRAILER);
        (found.drain(..).zip(configs))
            .map(|((device, identity), config)| {
                Self::configure(device, identity, config, queues, room)
            })
            .collect()
    }

    /// The Ethernet address of a port that is an interface of the kernel, which is only
    /// looked at; nothing of one that only DPDK can look at.
    pub(crate) fn mac_of_interface(config: &PortConfig) -> Result<Option<[u8; 6]>, Error> {
        if is_dpdk(&config.device) {
            return Ok(None);
        }
        let (_, identity) = kernel::Device::find(config)?;
        Ok(Some(identity.mac))
    }

    fn configure(
        mut device: Device,
        identity: Identity,
        config: &PortConfig,
        queues: u16,
        room: u32,
    ) -> Result<Self, Error> {
        let refuse = |why: String| Error::PortConfig {
            name: config.name.clone(),
            why,
        };
        if queues > identity.queues_max {
            return Err(refuse(format!(
                "has {} queue pairs, but there are {queues} shards: use fewer cores, \
                 or give a virtual device more queues (qpairs=, queues=)",
                identity.queues_max
            )));
        }
        let scatter = u32::from(config.mtu) + FRAME_OVERHEAD > room;
        let port = Self {
            mac: identity.mac,
            offloads: device.configure(config, queues, scatter)?,
            device,
            room,
            scatter,
        };
        log::info!(
            "{}: {} {}",
            config.name,
            identity.driver,
            port.describe_offloads()
        );
        if scatter && !port.has(dpdk_sys::TL_OFFLOAD_RX_SCATTER) {
            return Err(refuse(format!(
                "frames of MTU {} need several clusters, which this driver cannot fill: \
                 raise memory.cluster_size, or lower the MTU",
                config.mtu
            )));
        }
        Ok(port)
    }

    /// Queue pair `queue`, which receives into `memory`; `segments` may be on
    /// their way to the NIC by reference at a time.
    pub(crate) fn queue(
        &self,
        queue: u16,
        memory: &Memory,
        segments: u32,
    ) -> Result<PortQueue, Error> {
        match &self.device {
            Device::Dpdk(device) => {
                device.map_for_dma(&memory.arena)?;
                let queue = device.queue(queue, memory.receive.as_ptr(), segments)?;
                Ok(PortQueue::Dpdk(queue))
            }
            Device::Kernel(device) => Ok(PortQueue::Kernel(device.queue(queue)?)),
        }
    }

    pub(crate) fn start(&self) -> Result<(), Error> {
        match &self.device {
            Device::Dpdk(device) => device.start(),
            Device::Kernel(_) => Ok(()),
        }
    }

    /// What looks at the port from another thread while it is started.
    pub(crate) fn watch(&self) -> PortWatch {
        match &self.device {
            Device::Dpdk(device) => PortWatch::Dpdk(device.watch()),
            Device::Kernel(device) => PortWatch::Kernel(device.watch()),
        }
    }

    /// Stops the port; every buffer goes back to its pool.
    pub(crate) fn close(&self) {
        match &self.device {
            Device::Dpdk(device) => device.close(),
            // Its sockets are the queues'.
            Device::Kernel(_) => {}
        }
    }

    /// Where frames start in the clusters that all of `ports` receive into.
    pub(crate) fn cluster_shift(ports: &[Self]) -> u32 {
        let inside = |port: &Self| port.device.cluster_shift() == dpdk_sys::TL_CLUSTER_INSIDE;
        if ports.iter().any(inside) {
            dpdk_sys::TL_CLUSTER_INSIDE
        } else if ports.iter().any(|port| port.scatter) {
            0
        } else {
            dpdk_sys::TL_CLUSTER_SHIFT
        }
    }

    /// TCP payload in each of the clusters that a full frame of `mtu` takes.
    pub(crate) fn payload_of_cluster(&self, mtu: u16) -> usize {
        let clusters = (u32::from(mtu) + FRAME_OVERHEAD).div_ceil(self.room);
        usize::from(mtu.saturating_sub(HEADERS)) / clusters as usize
    }

    /// The most bytes that the port is given to cut into segments for packets of `mtu` bytes, if it does.
    pub(crate) fn segmented_max(&self, mtu: u16) -> usize {
        match &self.device {
            // Half of what NICs take: nobody else waits for long.
            Device::Dpdk(_) => 32 << 10,
            Device::Kernel(device) => device.segmented_max(mtu),
        }
    }

    /// Buffers that the port takes for one frame, cut by it or not; 0: it does not say.
    pub(crate) fn buffers_max(&self) -> usize {
        match &self.device {
            Device::Dpdk(device) => device.buffers_max(),
            Device::Kernel(_) => 0,
        }
    }

    /// What the port computes itself, as words for the log.
    fn describe_offloads(&self) -> String {
        let names = [
            (dpdk_sys::TL_OFFLOAD_RX_L4_CSUM, "verifies checksums"),
            (dpdk_sys::TL_OFFLOAD_TX_TCP_CSUM, "computes checksums"),
            (dpdk_sys::TL_OFFLOAD_TX_TSO, "cuts segments"),
            (dpdk_sys::TL_OFFLOAD_RX_RSS_HASH, "spreads flows"),
        ];
        let has = names.iter().filter(|(offload, _)| self.has(*offload));
        let has: Vec<&str> = has.map(|(_, name)| *name).collect();
        if has.is_empty() {
            "computes nothing itself".into()
        } else {
            has.join(", ")
        }
    }

    pub(crate) fn has(&self, offload: u32) -> bool {
        self.offloads & offload == offload
    }
}

impl Device {
    fn find(config: &PortConfig) -> Result<(Self, Identity), Error> {
        if is_dpdk(&config.device) {
            let (device, identity) = dpdk::Device::find(config)?;
            Ok((Self::Dpdk(device), identity))
        } else {
            let (device, identity) = kernel::Device::find(config)?;
            Ok((Self::Kernel(device), identity))
        }
    }

    /// Returns the `TL_OFFLOAD_*` bits that are on.
    fn configure(&mut self, config: &PortConfig, queues: u16, scatter: bool) -> Result<u32, Error> {
        match self {
            Self::Dpdk(device) => device.configure(config, queues, scatter),
            Self::Kernel(device) => device.configure(queues),
        }
    }

    /// Where frames start in a cluster, without scatter.
    fn cluster_shift(&self) -> u32 {
        match self {
            Self::Dpdk(device) => device.cluster_shift(),
            // It reads and writes what it is told to.
            Self::Kernel(_) => 0,
        }
    }
}

/// What looks at a port.
pub(crate) enum PortWatch {
    Dpdk(dpdk::Watch),
    Kernel(kernel::Watch),
}

impl PortWatch {
    /// How the port is. An interface of the kernel that is back is taken again.
    pub(crate) fn look(&mut self) -> PortState {
        match self {
            Self::Dpdk(watch) => watch.look(),
            Self::Kernel(watch) => watch.look(),
        }
    }
}

/// A shard's queue pair of a port.
#[allow(clippy::large_enum_variant)] // a few for each shard, each in its place
pub(crate) enum PortQueue {
    Dpdk(dpdk::Queue),
    Kernel(kernel::Queue),
}

impl shard::Port for PortQueue {
    type Memory = Memory;

    #[inline]
    fn poll(&mut self, memory: &Memory) -> usize {
        match self {
            Self::Dpdk(queue) => queue.poll(memory),
            Self::Kernel(queue) => queue.poll(),
        }
    }

    #[inline]
    fn heads(&self, frames: usize) -> impl Iterator<Item = &[u8]> {
        let heads = match self {
            Self::Dpdk(queue) => Some(queue.heads(frames)),
            Self::Kernel(_) => None,
        };
        heads.into_iter().flatten()
    }

    #[inline]
    fn frame(&mut self, i: usize, memory: &Memory, receive: impl FnOnce(RxFrame<'_>)) {
        match self {
            Self::Dpdk(queue) => queue.frame(i, memory, receive),
            Self::Kernel(queue) => queue.frame(memory, receive),
        }
    }

    fn flush(&mut self) {
        match self {
            Self::Dpdk(queue) => queue.flush(),
            Self::Kernel(queue) => queue.flush(),
        }
    }

    fn stop(&mut self) {
        match self {
            Self::Dpdk(queue) => queue.stop(),
            Self::Kernel(queue) => queue.stop(),
        }
    }

    fn replaced(&mut self) -> Option<MacAddress> {
        match self {
            Self::Dpdk(_) => None,
            Self::Kernel(queue) => queue.replaced(),
        }
    }

    fn counters(&self) -> &PortCounters {
        match self {
            Self::Dpdk(queue) => &queue.counters,
            Self::Kernel(queue) => &queue.counters,
        }
    }
}

impl Transmit for PortQueue {
    #[inline]
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull> {
        match self {
            Self::Dpdk(queue) => queue.transmit(frame),
            Self::Kernel(queue) => queue.transmit(frame),
        }
    }
}
