//! Stores: devices that take scatter-gather lists, and what each of them accepts.

mod bdev;
mod nvme;
mod op;

use std::sync::Arc;

use sgl::Limits;

pub(crate) use nvme::Controller;
pub(crate) use op::{Completed, OpIndex, OpTable, Outcome};

use crate::config::{StoreConfig, StoreDevice};
use crate::error::Error;

/// A device operation. Blocks are the device's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    Read { block: u64, blocks: u64 },
    Write { block: u64, blocks: u64 },
    WriteZeroes { block: u64, blocks: u64 },
    Unmap { block: u64, blocks: u64 },
    Flush,
}

/// What a device is and takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) block_size: u32,
    pub(crate) blocks: u64,
    /// Metadata bytes of a block; devices with any are refused.
    pub(crate) metadata: u32,
    /// Bytes that element addresses are multiples of.
    pub(crate) alignment: u32,
    /// Elements must meet at page borders (PRP lists).
    pub(crate) prp: bool,
    pub(crate) max_elements: u32,
    /// Bytes of one operation.
    pub(crate) max_bytes: u32,
    /// Writes can be lost with power until a flush.
    pub(crate) write_cache: bool,
    pub(crate) write_zeroes: bool,
    pub(crate) unmap: bool,
}

impl Geometry {
    /// Whether some scatter-gather lists are refused, however short.
    pub(crate) fn is_particular(&self) -> bool {
        self.alignment > 1 || self.prp || self.max_elements < pages::MAX_SEGMENTS as u32
    }

    /// As limits for a divider whose lists have room for `elements`.
    pub(crate) fn limits(&self, elements: u32) -> Limits {
        Limits {
            max_transfer: self.max_bytes.into(),
            max_segments: self.max_elements.min(elements),
            block: self.block_size.into(),
            alignment: self.alignment.into(),
            inner_edge: if self.prp { pages::PAGE_SIZE as u64 } else { 1 },
            ..Limits::NONE
        }
    }
}

/// A shard's way to a device.
pub(crate) enum Store {
    Bdev(Box<bdev::Bdev>),
    Nvme(Box<nvme::Nvme>),
}

impl Store {
    /// Opens the store on the current SPDK thread. `controller`: its NVMe controller, if it has one.
    pub(crate) fn open(
        config: &StoreConfig,
        controller: Option<&Arc<Controller>>,
    ) -> Result<Self, Error> {
        let store = match (&config.device, controller) {
            (StoreDevice::Bdev(name), _) => {
                Store::Bdev(Box::new(bdev::Bdev::open(&config.name, name)?))
            }
            (StoreDevice::Nvme { nsid, .. }, Some(controller)) => {
                let nvme = nvme::Nvme::open(&config.name, Arc::clone(controller), *nsid)?;
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

    pub(crate) fn geometry(&self) -> Geometry {
        match self {
            Store::Bdev(bdev) => bdev.geometry(),
            Store::Nvme(nvme) => nvme.geometry(),
        }
    }

    /// Whether the device went away for good.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Store::Bdev(bdev) => bdev.is_gone(),
            Store::Nvme(nvme) => nvme.is_gone(),
        }
    }

    /// Takes completions of queue pairs that SPDK does not poll itself; whether there were any.
    pub(crate) fn poll(&mut self) -> bool {
        match self {
            Store::Bdev(_) => false,
            Store::Nvme(nvme) => nvme.poll() > 0,
        }
    }

    /// Starts `command` with the first `elements` of the operation's list.
    /// Negative: a negative errno, and it was not started (`-ENOMEM`: try again later).
    pub(crate) fn submit(
        &self,
        ops: &mut OpTable,
        op: OpIndex,
        elements: usize,
        command: Command,
    ) -> i32 {
        match self {
            Store::Bdev(bdev) => bdev.submit(ops, op, elements, command),
            Store::Nvme(nvme) => nvme.submit(ops, op, elements, command),
        }
    }
}
