//! A store reached by `spdk_nvme`: local PCIe drives and NVMe over Fabrics (row K5).
#![allow(unsafe_code)]

use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use spdk_sys::{
    tl_nvme_ctrlr, tl_nvme_info, tl_nvme_ns, tl_nvme_ns_info, tl_nvme_opts, tl_nvme_qpair,
};

use block::{Command, Geometry, NotStarted, Op, OpIndex, OpTable};

use super::op::{self, StoreSlot};
use crate::error::Error;

/// A connected controller, shared by all shards and by the stores on its namespaces.
///
/// SPDK lets any thread allocate queue pairs; each shard has its own.
pub(crate) struct Controller {
    ctrlr: NonNull<tl_nvme_ctrlr>,
    info: tl_nvme_info,
}

// SAFETY: SPDK serialises what is done to a controller with its own lock; the
// info is plain data.
unsafe impl Send for Controller {}
// SAFETY: as above.
unsafe impl Sync for Controller {}

impl Controller {
    /// Connects. Blocks until the controller is ready.
    pub(crate) fn connect(store: &str, transport_id: &str) -> Result<Self, Error> {
        let fail = |what, code| Error::Store {
            name: store.into(),
            what,
            code,
        };
        let trid =
            CString::new(transport_id).map_err(|_| fail("its transport id", -libc::EINVAL))?;
        let mut out = ptr::null_mut();
        // SAFETY: the strings are read during the call; zero means SPDK's defaults.
        let code = unsafe {
            let options: tl_nvme_opts = std::mem::zeroed();
            spdk_sys::tl_nvme_connect(trid.as_ptr(), &options, &mut out)
        };
        let ctrlr = NonNull::new(out).filter(|_| code >= 0).ok_or_else(|| {
            fail(
                "connecting to its controller (is it there, and bound to uio or vfio?)",
                code,
            )
        })?;
        // SAFETY: a connected controller; the info is plain data filled by the call.
        let info = unsafe {
            let mut info = std::mem::zeroed();
            spdk_sys::tl_nvme_info(ctrlr.as_ptr(), &mut info);
            info
        };
        Ok(Self { ctrlr, info })
    }

    /// Keeps the controller alive; from one thread, about once a second.
    pub(crate) fn poll_admin(&self) {
        // SAFETY: a connected controller; only the main shard calls this.
        unsafe { spdk_sys::tl_nvme_admin_poll(self.ctrlr.as_ptr()) };
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // SAFETY: every shard freed its queue pair and ended before this.
        unsafe { spdk_sys::tl_nvme_detach(self.ctrlr.as_ptr()) };
    }
}

/// A shard's queue pair to a namespace.
pub(crate) struct Nvme {
    controller: Arc<Controller>,
    namespace: NonNull<tl_nvme_ns>,
    info: tl_nvme_ns_info,
    qpair: NonNull<tl_nvme_qpair>,
    lost: bool,
}

impl Nvme {
    pub(crate) fn open(store: &str, controller: Arc<Controller>, nsid: u32) -> Result<Self, Error> {
        // SAFETY: a connected controller; the info is plain data filled by the call.
        let found = unsafe {
            let namespace = spdk_sys::tl_nvme_ns_get(controller.ctrlr.as_ptr(), nsid);
            NonNull::new(namespace).map(|namespace| {
                let mut info = std::mem::zeroed();
                spdk_sys::tl_nvme_ns_info(namespace.as_ptr(), &mut info);
                (namespace, info)
            })
        };
        let (namespace, info) = found.ok_or_else(|| Error::StoreConfig {
            name: store.into(),
            why: format!("the controller has no active namespace {nsid}"),
        })?;
        let mut out = ptr::null_mut();
        // SAFETY: a connected controller; zero means SPDK's defaults.
        let code = unsafe {
            let options: tl_nvme_opts = std::mem::zeroed();
            spdk_sys::tl_nvme_qpair_alloc(controller.ctrlr.as_ptr(), &options, &mut out)
        };
        let qpair = NonNull::new(out)
            .filter(|_| code >= 0)
            .ok_or_else(|| Error::Store {
                name: store.into(),
                what: "allocating a queue pair (does the controller have one for each shard?)",
                code,
            })?;
        Ok(Self {
            controller,
            namespace,
            info,
            qpair,
            lost: false,
        })
    }

    pub(crate) fn geometry(&self) -> Geometry {
        let (info, namespace) = (&self.controller.info, &self.info);
        let fragments = info.sgl != 0 || info.sgl_dword != 0;
        let dword = if info.sgl == 0 && info.sgl_dword != 0 {
            4
        } else {
            1
        };
        Geometry {
            block_size: namespace.sector_size,
            blocks: namespace.sectors,
            metadata: namespace.md_size,
            alignment: dword,
            prp: !fragments,
            max_elements: if fragments {
                info.max_segments.max(1)
            } else {
                u32::MAX
            },
            max_bytes: namespace.max_io.min(info.max_xfer),
            write_cache: info.write_cache != 0,
            write_zeroes: namespace.write_zeroes != 0,
            unmap: namespace.deallocate != 0,
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.lost
    }

    /// Takes completions; how many.
    pub(crate) fn poll(&mut self) -> usize {
        // SAFETY: this shard's own queue pair.
        let n = unsafe { spdk_sys::tl_nvme_qpair_poll(self.qpair.as_ptr(), 0) };
        if n < 0 {
            self.lost = true;
        }
        n.max(0) as usize
    }

    pub(crate) fn submit(
        &self,
        ops: &mut OpTable<StoreSlot>,
        op: OpIndex,
        elements: usize,
        command: Command,
    ) -> Result<(), NotStarted> {
        let (ns, qpair) = (self.namespace.as_ptr(), self.qpair.as_ptr());
        let Command {
            op: kind,
            block,
            blocks,
        } = command;
        op::submit(ops, op, kind, elements, |io, iov, n| {
            // SAFETY: the queue pair is this thread's; the table keeps `io` and `iov` in
            // place until completion, and the request keeps the memory they name.
            unsafe {
                match kind {
                    Op::Read => {
                        spdk_sys::tl_nvme_readv(ns, qpair, io, iov, n, block, blocks as u32)
                    }
                    Op::Write => {
                        spdk_sys::tl_nvme_writev(ns, qpair, io, iov, n, block, blocks as u32)
                    }
                    Op::Flush => spdk_sys::tl_nvme_flush(ns, qpair, io),
                    Op::WriteZeroes => {
                        spdk_sys::tl_nvme_write_zeroes(ns, qpair, io, block, blocks as u32)
                    }
                    Op::Deallocate => {
                        spdk_sys::tl_nvme_deallocate(ns, qpair, io, block, blocks as u32)
                    }
                }
            }
        })
    }
}

impl Drop for Nvme {
    fn drop(&mut self) {
        // SAFETY: on the shard's thread, with no operation in flight.
        unsafe { spdk_sys::tl_nvme_qpair_free(self.qpair.as_ptr()) };
    }
}
