//! Stores: devices that take scatter-gather lists, and what each of them accepts.

mod bdev;
mod nvme;
mod op;
mod reset;
mod smart;

use std::sync::Arc;
use std::time::Duration;

use block::{Command, Device, Fault, Geometry, LastSmart, NotStarted, OpIndex, OpTable};

pub(crate) use nvme::Controller;
pub(crate) use op::StoreSlot;

use crate::config::{StoreConfig, StoreDevice};
use crate::error::Error;

/// A shard's way to a device.
pub(crate) enum Store {
    Bdev(Box<bdev::Bdev>),
    Nvme(Box<nvme::Nvme>),
    /// It could not be opened, and the engine does without it.
    Absent,
}

/// What the log calls a store, and how long it may have a command.
pub(crate) struct Terms {
    name: String,
    timeout: Option<Duration>,
}

impl Store {
    /// Opens the store on the current SPDK thread. `controller`: its NVMe controller, if it has one.
    pub(crate) fn open(
        config: &StoreConfig,
        controller: Option<&Arc<Controller>>,
    ) -> Result<Self, Error> {
        let terms = Terms {
            name: config.name.clone(),
            timeout: config.timeout,
        };
        let store = match (&config.device, controller) {
            (StoreDevice::Bdev(name), _) => Store::Bdev(Box::new(bdev::Bdev::open(terms, name)?)),
            (StoreDevice::Nvme { nsid, .. }, Some(controller)) => {
                let nvme = nvme::Nvme::open(terms, Arc::clone(controller), *nsid)?;
                Store::Nvme(Box::new(nvme))
            }
            (StoreDevice::Nvme { .. }, None) => {
                return Err(Error::StoreConfig {
                    name: config.name.clone(),
                    why: "its controller is not connected".into(),
                });
            }
        };
        let geometry = store.geometry();
        let why = if !matches!(geometry.block_size, 512 | 4096) {
            format!(
                "blocks of {} bytes: only 512 and 4096 are served",
                geometry.block_size
            )
        } else if geometry.metadata != 0 {
            format!(
                "{} bytes of metadata a block: format it without",
                geometry.metadata
            )
        } else {
            return Ok(store);
        };
        Err(Error::StoreConfig {
            name: config.name.clone(),
            why,
        })
    }
}

impl Store {
    /// In place of a store that could not be opened.
    pub(crate) fn absent(config: &StoreConfig, error: &Error) -> Self {
        log::error!("{error}; the log goes on without store {}", config.name);
        Store::Absent
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Store::Absent)
    }

    /// What tells the device from others; zeros where nothing does.
    pub(crate) fn identity(&self) -> [u8; 16] {
        match self {
            // SPDK makes a new UUID for most bdevs at each start.
            Store::Bdev(_) | Store::Absent => [0; 16],
            Store::Nvme(nvme) => nvme.identity(),
        }
    }

    /// What its drive says of its health: nothing, if there is a block device of SPDK's between.
    pub(crate) fn smart(&self) -> LastSmart {
        match self {
            Store::Bdev(_) | Store::Absent => LastSmart::default(),
            Store::Nvme(nvme) => nvme.smart(),
        }
    }
}

impl Device for Store {
    type Slot = StoreSlot;

    fn geometry(&self) -> Geometry {
        match self {
            Store::Bdev(bdev) => bdev.geometry(),
            Store::Nvme(nvme) => nvme.geometry(),
            // Nothing is ever asked of it.
            Store::Absent => Geometry {
                block_size: 512,
                blocks: 8,
                metadata: 0,
                alignment: 1,
                prp: false,
                max_elements: 1,
                max_bytes: 4096,
                write_cache: false,
                write_zeroes: false,
                unmap: false,
                deallocated_zeros: false,
            },
        }
    }

    #[inline]
    fn is_gone(&self) -> bool {
        match self {
            Store::Bdev(bdev) => bdev.is_gone(),
            Store::Nvme(nvme) => nvme.is_gone(),
            Store::Absent => true,
        }
    }

    fn timeout(&self) -> Option<Duration> {
        match self {
            Store::Bdev(bdev) => bdev.terms.timeout,
            Store::Nvme(nvme) => nvme.terms.timeout,
            Store::Absent => None,
        }
    }

    fn recover(&mut self) {
        match self {
            Store::Bdev(bdev) => bdev.recover(),
            Store::Nvme(nvme) => nvme.recover(),
            Store::Absent => {}
        }
    }

    fn give_up(&mut self) {
        match self {
            Store::Bdev(bdev) => bdev.give_up(),
            Store::Nvme(nvme) => nvme.give_up(),
            Store::Absent => {}
        }
    }

    /// SPDK polls bdevs itself, not queue pairs that it was not given.
    #[inline]
    fn poll(&mut self) -> bool {
        match self {
            Store::Bdev(_) | Store::Absent => false,
            Store::Nvme(nvme) => nvme.poll() > 0,
        }
    }

    #[inline]
    fn submit(
        &mut self,
        ops: &mut OpTable<StoreSlot>,
        op: OpIndex,
        elements: usize,
        command: Command,
    ) -> Result<(), NotStarted> {
        #[cfg(test)]
        crate::spy::listed(command, &ops.list(op)[..elements]);
        match self {
            Store::Bdev(bdev) => bdev.submit(ops, op, elements, command),
            Store::Nvme(nvme) => nvme.submit(ops, op, elements, command),
            Store::Absent => Err(NotStarted::Failed(Fault::Gone)),
        }
    }
}
