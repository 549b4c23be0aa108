//! Interfaces of the kernel, over packet sockets: where the NIC stays the
//! kernel's, or there is none, as in containers and in CI. The kernel copies
//! frames in and out, once each way; payload is gathered from the pages it lies
//! in, and what the port sends is cut into segments where the kernel cuts what
//! its own TCP sends.

mod queue;

use std::io;
use std::sync::{Mutex, PoisonError};

use packet::{Interface, Receiver, Sender, Shape};
pub(super) use queue::Queue;

use super::Identity;
use crate::config::PortConfig;
use crate::error::Error;

/// Frames that the ring of each queue holds at most: what many hosts send at once, each its window.
const RING_FRAMES_MAX: usize = 4096;
/// Bytes of memory for it, about.
const RING_BYTES: usize = 16 << 20;
/// Queue pairs of an interface.
const QUEUES_MAX: u16 = 64;

/// What the kernel does for frames that are sent.
const OFFLOADS: u32 = dpdk_sys::TL_OFFLOAD_TX_TCP_CSUM
    | dpdk_sys::TL_OFFLOAD_TX_TSO
    | dpdk_sys::TL_OFFLOAD_TX_MULTI_SEG
    | dpdk_sys::TL_OFFLOAD_RX_SCATTER;

/// An interface.
pub(super) struct Device {
    name: String,
    interface: Interface,
    /// Each shard takes its own.
    sockets: Mutex<Vec<Option<(Receiver, Sender)>>>,
}

impl Device {
    pub(super) fn find(config: &PortConfig) -> Result<(Self, Identity), Error> {
        let named = |what| failed(&config.name, what);
        let interface = Interface::find(&config.device).map_err(named(
            "finding its interface (`ip link` lists those there are)",
        ))?;
        let mac = interface.mac().map_err(named("asking for its address"))?;
        if mac == [0; 6] {
            return Err(Error::PortConfig {
                name: config.name.clone(),
                why: format!(
                    "{} has no Ethernet address, as a loopback interface has none: \
                     name another `device`",
                    config.device
                ),
            });
        }
        if !interface.is_up().map_err(named("asking for its state"))? {
            log::warn!(
                "{}: {} is down: ip link set {} up",
                config.name,
                config.device,
                config.device
            );
        }
        let identity = Identity {
            mac,
            driver: "the kernel".into(),
            queues_max: QUEUES_MAX,
        };
        let device = Self {
            name: config.name.clone(),
            interface,
            sockets: Mutex::default(),
        };
        Ok((device, identity))
    }

    /// Returns the `TL_OFFLOAD_*` bits that are on.
    pub(super) fn configure(&mut self, config: &PortConfig, queues: u16) -> Result<u32, Error> {
        let named = |what| failed(&self.name, what);
        let (mtu, wanted) = (self.interface.mtu(), u32::from(config.mtu));
        if mtu.map_err(named("asking for its MTU"))? < wanted {
            (self.interface.set_mtu(wanted)).map_err(named("raising its MTU"))?;
        }
        let shape = Shape::new(RING_BYTES, RING_FRAMES_MAX, config.mtu);
        let receivers = Receiver::open(&self.interface, shape, queues.into()).map_err(named(
            "opening packet sockets (they need CAP_NET_RAW, and memory for their rings)",
        ))?;
        if config
            .addresses
            .iter()
            .any(|(address, _)| address.is_ipv6())
        {
            (receivers.iter())
                .try_for_each(|receiver| receiver.hear_multicast(&self.interface))
                .map_err(named("asking for multicast frames, which IPv6 needs"))?;
        }
        let sockets = (receivers.into_iter())
            .map(|receiver| Ok(Some((receiver, Sender::open(&self.interface)?))))
            .collect::<io::Result<_>>()
            .map_err(named("opening packet sockets to send with"))?;
        self.sockets = Mutex::new(sockets);
        Ok(OFFLOADS)
    }

    /// The most bytes that are worth handing over in one frame, to be cut to packets of `mtu` bytes.
    pub(super) fn segmented_max(&self, mtu: u16) -> usize {
        /// An IP packet's 64 KiB, less headers, in whole pages.
        const MOST: usize = 60 << 10;
        if self.interface.cuts_segments() {
            MOST
        } else {
            // The kernel makes all segments before it sends the first: the peer is to have work meanwhile.
            (12 * usize::from(mtu)).min(MOST)
        }
    }

    /// Queue pair `queue`, to be taken once.
    pub(super) fn queue(&self, queue: u16) -> Result<Queue, Error> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let own = sockets.get_mut(usize::from(queue)).and_then(Option::take);
        let (receiver, sender) = own.ok_or(Error::Port {
            name: self.name.clone(),
            what: "taking a queue pair",
            code: -libc::EBUSY,
        })?;
        Ok(Queue::new(receiver, sender))
    }
}

/// Makes an error of the port `name` out of one of the system's.
fn failed(name: &str, what: &'static str) -> impl FnOnce(io::Error) -> Error {
    let name = name.to_owned();
    move |error| Error::Port {
        name,
        what,
        code: -error.raw_os_error().unwrap_or(libc::EIO),
    }
}
