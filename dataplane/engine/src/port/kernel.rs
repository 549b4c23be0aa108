//! Interfaces of the kernel, over packet sockets: where the NIC stays the
//! kernel's, or there is none, as in containers and in CI. The kernel copies
//! frames in and out, once each way; payload is gathered from the pages it lies
//! in, and what the port sends is cut into segments where the kernel cuts what
//! its own TCP sends.

mod queue;
mod watch;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use net::MacAddress;
use packet::{Interface, Receiver, Sender, Shape};
pub(super) use queue::Queue;
pub(super) use watch::Watch;
use watch::{Exchange, Sockets};

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
    config: PortConfig,
    interface: Interface,
    /// Each shard takes its own.
    sockets: Mutex<Vec<Option<Sockets>>>,
    /// By queue pair: what another interface of its name is taken with.
    exchanges: Vec<Arc<Exchange>>,
}

impl Device {
    pub(super) fn find(config: &PortConfig) -> Result<(Self, Identity), Error> {
        let named = |what| failed(&config.name, what);
        let interface = Interface::find(&config.device).map_err(named(
            "finding its interface (`ip link` lists those there are)",
        ))?;
        let mac = mac_of(config, &interface)?;
        let identity = Identity {
            mac: mac.0,
            driver: "the kernel".into(),
            queues_max: QUEUES_MAX,
        };
        let device = Self {
            config: config.clone(),
            interface,
            sockets: Mutex::default(),
            exchanges: Vec::new(),
        };
        Ok((device, identity))
    }

    /// Returns the `TL_OFFLOAD_*` bits that are on.
    pub(super) fn configure(&mut self, queues: u16) -> Result<u32, Error> {
        let (sockets, _) = open(&self.config, &self.interface, queues.into())?;
        self.exchanges = sockets.iter().map(|_| Arc::default()).collect();
        self.sockets = Mutex::new(sockets.into_iter().map(Some).collect());
        Ok(OFFLOADS)
    }

    /// What looks at the interface while the port is used.
    pub(super) fn watch(&self) -> Watch {
        let (interface, exchanges) = (self.interface.clone(), self.exchanges.clone());
        Watch::new(self.config.clone(), interface, exchanges)
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
        let sockets = own.ok_or(Error::Port {
            name: self.config.name.clone(),
            what: "taking a queue pair",
            code: -libc::EBUSY,
        })?;
        let exchange = Arc::clone(&self.exchanges[usize::from(queue)]);
        Ok(Queue::new(sockets, exchange))
    }
}

/// The interface's Ethernet address.
fn mac_of(config: &PortConfig, interface: &Interface) -> Result<MacAddress, Error> {
    let mac = interface.mac();
    let mac = mac.map_err(failed(&config.name, "asking for its address"))?;
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
    Ok(MacAddress(mac))
}

/// Sockets on an interface for so many queue pairs, and its Ethernet address.
fn open(
    config: &PortConfig,
    interface: &Interface,
    queues: usize,
) -> Result<(Vec<Sockets>, MacAddress), Error> {
    let named = |what| failed(&config.name, what);
    let mac = mac_of(config, interface)?;
    let (mtu, wanted) = (interface.mtu(), u32::from(config.mtu));
    if mtu.map_err(named("asking for its MTU"))? < wanted {
        (interface.set_mtu(wanted)).map_err(named("raising its MTU"))?;
    }
    let shape = Shape::new(RING_BYTES, RING_FRAMES_MAX, config.mtu);
    let receivers = Receiver::open(interface, shape, queues).map_err(named(
        "opening packet sockets (they need CAP_NET_RAW, and memory for their rings)",
    ))?;
    let is_ipv6 = |&(address, _): &(std::net::IpAddr, u8)| address.is_ipv6();
    if config.addresses.iter().any(is_ipv6) {
        (receivers.iter())
            .try_for_each(|receiver| receiver.hear_multicast(interface))
            .map_err(named("asking for multicast frames, which IPv6 needs"))?;
    }
    let sockets = (receivers.into_iter())
        .map(|receiver| {
            let sender = Sender::open(interface)?;
            Ok(Sockets { receiver, sender })
        })
        .collect::<io::Result<_>>()
        .map_err(named("opening packet sockets to send with"))?;
    Ok((sockets, mac))
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
