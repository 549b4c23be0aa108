//! Ports: DPDK devices, and a shard's queue pair of each.
#![allow(unsafe_code)]

mod queue;

use std::ffi::{CStr, CString};

use dpdk_sys::{tl_cluster_pool, tl_port_config, tl_port_info};

use net::rss;
use pages::Arena;
pub(crate) use queue::{PortQueue, QueueCounters};

use crate::config::PortConfig;
use crate::environment::is_pci;
use crate::error::Error;

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
/// What drivers may put behind a frame in its cluster.
const TRAILER: u32 = 16;

/// A configured port, owned by the main thread.
pub(crate) struct Port {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) mac: [u8; 6],
    /// `TL_OFFLOAD_*` bits that are on.
    pub(crate) offloads: u32,
    info: tl_port_info,
    /// Bytes of a frame that one cluster takes.
    room: u32,
    scatter: bool,
}

impl Port {
    /// Finds the devices and configures `queues` queue pairs on each, to
    /// receive into clusters of `cluster_size` bytes that they share.
    pub(crate) fn open(
        configs: &[PortConfig],
        queues: u16,
        cluster_size: u32,
    ) -> Result<Vec<Self>, Error> {
        let mut ports = (configs.iter().map(Self::find)).collect::<Result<Vec<_>, _>>()?;
        // One that wants its headroom inside makes the room smaller for all.
        let start = ports.iter().map(|port| port.info.cluster_shift.into());
        let room = cluster_size - start.max().unwrap_or(0).max(TRAILER);
        for (port, config) in ports.iter_mut().zip(configs) {
            port.room = room;
            port.scatter = u32::from(config.mtu) + FRAME_OVERHEAD > room;
            port.configure(config, queues)?;
        }
        Ok(ports)
    }

    fn find(config: &PortConfig) -> Result<Self, Error> {
        let fail = |what, code| Error::Port {
            name: config.name.clone(),
            what,
            code,
        };
        let device = config.device.split(',').next().unwrap_or_default();
        let device = if is_pci(device) && device.matches(':').count() == 1 {
            format!("0000:{device}")
        } else {
            device.to_owned()
        };
        let c_name = CString::new(device).map_err(|_| fail("its device name", -libc::EINVAL))?;
        let mut id = 0;
        // SAFETY: the name is read during the call.
        let code = unsafe { dpdk_sys::tl_port_find(c_name.as_ptr(), &mut id) };
        if code < 0 {
            return Err(fail(
                "finding its device (does the interface exist, is the PCI device bound to uio or vfio?)",
                code,
            ));
        }
        // SAFETY: plain data, filled by the calls.
        let (info, mac) = unsafe {
            let (mut info, mut mac) = (std::mem::zeroed(), [0; 6]);
            dpdk_sys::tl_port_info(id, &mut info);
            dpdk_sys::tl_port_mac(id, mac.as_mut_ptr());
            (info, mac)
        };
        Ok(Self {
            id,
            name: config.name.clone(),
            mac,
            offloads: 0,
            info,
            room: 0,
            scatter: false,
        })
    }

    fn configure(&mut self, config: &PortConfig, queues: u16) -> Result<(), Error> {
        let refuse = |why: String| Error::PortConfig {
            name: config.name.clone(),
            why,
        };
        let most = self.info.max_rx_queues.min(self.info.max_tx_queues);
        if queues > most {
            return Err(refuse(format!(
                "has {most} queue pairs, but there are {queues} shards: use fewer cores, \
                 or give a virtual device more queues (qpairs=, queues=)"
            )));
        }
        let mut wanted = WANTED;
        if self.scatter {
            wanted |= dpdk_sys::TL_OFFLOAD_RX_SCATTER;
        }
        let wish = tl_port_config {
            rx_queues: queues,
            tx_queues: queues,
            mtu: config.mtu,
            reserved: 0,
            offloads: wanted,
            rss_key_len: rss::SYMMETRIC_KEY.len() as u32,
            rss_key: rss::SYMMETRIC_KEY.as_ptr(),
        };
        // SAFETY: the configuration and its key are read during the call.
        let code = unsafe { dpdk_sys::tl_port_configure(self.id, &wish, &mut self.offloads) };
        self.check("configuring it (does the driver take this MTU?)", code)?;
        let driver = self.info.driver.map(|byte| byte as u8);
        let driver = CStr::from_bytes_until_nul(&driver).unwrap_or_default();
        log::info!(
            "{}: {} {}",
            config.name,
            driver.to_string_lossy(),
            self.describe_offloads()
        );
        if self.scatter && self.offloads & dpdk_sys::TL_OFFLOAD_RX_SCATTER == 0 {
            return Err(refuse(format!(
                "frames of MTU {} need several clusters, which this driver cannot fill: \
                 raise memory.cluster_size, or lower the MTU",
                config.mtu
            )));
        }
        Ok(())
    }

    /// Lets the port's device reach the arena, where an IOMMU is in the way.
    pub(crate) fn map_for_dma(&self, arena: &Arena) -> Result<(), Error> {
        let (base, len) = (arena.base().as_ptr().cast(), arena.len() as u64);
        // SAFETY: the arena is registered, and stays so until the port is closed.
        let code = unsafe { dpdk_sys::tl_port_dma_map(self.id, base, len) };
        self.check("mapping the arena for DMA", code)
    }

    /// Sets queue pair `queue` up to receive into `pool`.
    pub(crate) fn set_up_queue(&self, queue: u16, pool: *mut tl_cluster_pool) -> Result<(), Error> {
        let (mut rx, mut tx) = (0, 0);
        // SAFETY: the pool lives until after the port is closed.
        let code = unsafe { dpdk_sys::tl_rx_queue_setup(self.id, queue, &mut rx, -1, pool) };
        self.check(
            "setting a receive queue up (are there more clusters than descriptors?)",
            code,
        )?;
        // SAFETY: the port is configured and stopped.
        let code = unsafe { dpdk_sys::tl_tx_queue_setup(self.id, queue, &mut tx, -1) };
        self.check("setting a transmit queue up", code)
    }

    pub(crate) fn start(&self) -> Result<(), Error> {
        // SAFETY: every queue is set up.
        let code = unsafe { dpdk_sys::tl_port_start(self.id) };
        self.check("starting it", code)
    }

    /// Stops the port; every buffer goes back to its pool.
    pub(crate) fn close(&self) {
        // SAFETY: no shard polls the port any more.
        let code = unsafe { dpdk_sys::tl_port_close(self.id) };
        if let Err(error) = self.check("closing it", code) {
            log::warn!("{error}");
        }
    }

    /// Where frames start in the clusters that all of `ports` receive into.
    pub(crate) fn cluster_shift(ports: &[Self]) -> u32 {
        let inside =
            |port: &Self| u32::from(port.info.cluster_shift) == dpdk_sys::TL_CLUSTER_INSIDE;
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

    /// Buffers that the driver takes for one frame, cut by it or not; 0: it does not say.
    pub(crate) fn buffers_max(&self) -> usize {
        let limits = [self.info.tx_segs_max, self.info.tx_mtu_segs_max];
        let told = limits.into_iter().filter(|&limit| limit > 0);
        told.min().map_or(0, |limit| usize::from(limit).max(2))
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

    fn check(&self, what: &'static str, code: i32) -> Result<(), Error> {
        if code < 0 {
            Err(Error::Port {
                name: self.name.clone(),
                what,
                code,
            })
        } else {
            Ok(())
        }
    }
}
