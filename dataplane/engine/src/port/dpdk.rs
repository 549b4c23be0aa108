//! Devices that DPDK drives: PCI functions, and virtual ones with a driver of DPDK's.
#![allow(unsafe_code)]

mod queue;

use std::ffi::{CStr, CString};

use dpdk_sys::{tl_cluster_pool, tl_port_config, tl_port_info};

use net::rss;
use pages::Arena;
pub(super) use queue::Queue;
use shard::PortState;

use super::{Identity, WANTED};
use crate::config::PortConfig;
use crate::environment::is_pci;
use crate::error::Error;

/// What drivers may put behind a frame in its cluster.
pub(super) const TRAILER: u32 = 16;

/// A DPDK device, owned by the main thread.
pub(super) struct Device {
    id: u16,
    name: String,
    info: tl_port_info,
}

impl Device {
    pub(super) fn find(config: &PortConfig) -> Result<(Self, Identity), Error> {
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
        let identity = Identity {
            mac,
            driver: text(&info.driver),
            queues_max: info.max_rx_queues.min(info.max_tx_queues),
        };
        let name = config.name.clone();
        Ok((Self { id, name, info }, identity))
    }

    /// Returns the `TL_OFFLOAD_*` bits that are on.
    pub(super) fn configure(
        &self,
        config: &PortConfig,
        queues: u16,
        scatter: bool,
    ) -> Result<u32, Error> {
        let scatter = if scatter {
            dpdk_sys::TL_OFFLOAD_RX_SCATTER
        } else {
            0
        };
        let wish = tl_port_config {
            rx_queues: queues,
            tx_queues: queues,
            mtu: config.mtu,
            reserved: 0,
            offloads: WANTED | scatter,
            rss_key_len: rss::SYMMETRIC_KEY.len() as u32,
            rss_key: rss::SYMMETRIC_KEY.as_ptr(),
        };
        let mut granted = 0;
        // SAFETY: the configuration and its key are read during the call.
        let code = unsafe { dpdk_sys::tl_port_configure(self.id, &wish, &mut granted) };
        self.check("configuring it (does the driver take this MTU?)", code)?;
        if config
            .addresses
            .iter()
            .any(|(address, _)| address.is_ipv6())
        {
            // SAFETY: the port is configured.
            let code = unsafe { dpdk_sys::tl_port_set_allmulticast(self.id, true) };
            if let Err(error) = self.check("asking for multicast frames, which IPv6 needs", code) {
                log::warn!("{error}");
            }
        }
        Ok(granted)
    }

    /// Lets the device reach the arena, where an IOMMU is in the way.
    pub(super) fn map_for_dma(&self, arena: &Arena) -> Result<(), Error> {
        let (base, len) = (arena.base().as_ptr().cast(), arena.len() as u64);
        // SAFETY: the arena is registered, and stays so until the port is closed.
        let code = unsafe { dpdk_sys::tl_port_dma_map(self.id, base, len) };
        self.check("mapping the arena for DMA", code)
    }

    /// Sets queue pair `queue` up to receive into `pool`; `segments` may be on
    /// their way to the NIC by reference at a time.
    pub(super) fn queue(
        &self,
        queue: u16,
        pool: *mut tl_cluster_pool,
        segments: u32,
    ) -> Result<Queue, Error> {
        let (mut rx, mut tx) = (0, 0);
        // SAFETY: the pool lives until after the port is closed.
        let code = unsafe { dpdk_sys::tl_rx_queue_setup(self.id, queue, &mut rx, -1, pool) };
        self.check(
            "setting a receive queue up (are there more clusters than descriptors?)",
            code,
        )?;
        // SAFETY: the port is configured and stopped.
        let code = unsafe { dpdk_sys::tl_tx_queue_setup(self.id, queue, &mut tx, -1) };
        self.check("setting a transmit queue up", code)?;
        Queue::new(self.id, queue, segments)
    }

    pub(super) fn start(&self) -> Result<(), Error> {
        // SAFETY: every queue is set up.
        let code = unsafe { dpdk_sys::tl_port_start(self.id) };
        self.check("starting it", code)
    }

    /// What tells whether there is a link.
    pub(super) fn watch(&self) -> Watch {
        Watch(self.id)
    }

    /// Stops the device; every buffer goes back to its pool.
    pub(super) fn close(&self) {
        // SAFETY: no shard polls the port any more.
        let code = unsafe { dpdk_sys::tl_port_close(self.id) };
        if let Err(error) = self.check("closing it", code) {
            log::warn!("{error}");
        }
    }

    /// Where frames start in a cluster, for this driver, without scatter.
    pub(super) fn cluster_shift(&self) -> u32 {
        self.info.cluster_shift.into()
    }

    /// Buffers that the driver takes for one frame, cut by it or not; 0: it does not say.
    pub(super) fn buffers_max(&self) -> usize {
        let limits = [self.info.tx_segs_max, self.info.tx_mtu_segs_max];
        let told = limits.into_iter().filter(|&limit| limit > 0);
        told.min().map_or(0, |limit| usize::from(limit).max(2))
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

/// A started device, for another thread to look at until it is closed.
pub(crate) struct Watch(u16);

impl Watch {
    /// A driver that cannot say has a link.
    pub(crate) fn look(&self) -> PortState {
        // SAFETY: plain data, filled by the call; the device is not closed yet.
        let (code, link) = unsafe {
            let mut link: dpdk_sys::tl_port_link = std::mem::zeroed();
            (dpdk_sys::tl_port_link(self.0, &mut link), link)
        };
        match code < 0 || link.up != 0 {
            true => PortState::Up,
            false => PortState::NoLink,
        }
    }
}

/// A string of C's, as far as it goes.
fn text(chars: &[libc::c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|&char| char as u8).collect();
    let text = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
    text.to_string_lossy().into_owned()
}
