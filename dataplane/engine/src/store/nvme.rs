//! A store reached by `spdk_nvme`: local PCIe drives and NVMe over Fabrics (row K5).
#![allow(unsafe_code)]

use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use spdk_sys::{
    tl_nvme_ctrlr, tl_nvme_info, tl_nvme_ns, tl_nvme_ns_info, tl_nvme_opts, tl_nvme_qpair,
};

use block::{Command, Fault, Geometry, LastSmart, NotStarted, Op, OpIndex, OpTable};

use super::Terms;
use super::op::{self, StoreSlot};
use super::reset::{May, Remedy, Rounds, Turn};
use super::smart::Asker;
use crate::error::Error;
use crate::tsc::{tsc, tsc_hz};

/// A connected controller, shared by all shards and by the stores on its namespaces.
///
/// SPDK lets any thread allocate queue pairs; each shard has its own.
pub(crate) struct Controller {
    ctrlr: NonNull<tl_nvme_ctrlr>,
    info: tl_nvme_info,
    rounds: Arc<Rounds>,
    asker: Asker,
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
        Ok(Self {
            ctrlr,
            info,
            rounds: Arc::default(),
            asker: Asker::default(),
        })
    }

    /// Whether it is on this machine's bus.
    fn is_local(&self) -> bool {
        (self.info.transport.iter().take_while(|&&c| c != 0))
            .map(|&c| c as u8)
            .eq(*b"PCIE")
    }

    /// Keeps the controller alive, and asks it for its health now and then; from one thread, about once a second: that of a shard which has
    /// looked whether a round is under way.
    pub(crate) fn poll_admin(&self) {
        if self.rounds.is_under_way() {
            return;
        }
        // SAFETY: a connected controller; only the main shard calls this.
        unsafe { spdk_sys::tl_nvme_admin_poll(self.ctrlr.as_ptr()) };
        // SAFETY: as above.
        unsafe { self.asker.ask(self.ctrlr, tsc(), tsc_hz()) };
    }
}

/// A controller's address on its way to the thread that resets it.
struct Address(NonNull<tl_nvme_ctrlr>);

// SAFETY: SPDK serialises what is done to a controller with its own lock.
unsafe impl Send for Address {}

impl Address {
    /// Resets the controller, or gives it up; whether it works.
    fn apply(&self, remedy: Remedy) -> bool {
        let ctrlr = self.0.as_ptr();
        // SAFETY: it stays connected until every queue pair was freed, which waits for the end of
        // the round; nobody uses it meanwhile, or its queue pairs.
        unsafe {
            if remedy == Remedy::Reset && spdk_sys::tl_nvme_reset(ctrlr) == 0 {
                return true;
            }
            spdk_sys::tl_nvme_fail(ctrlr);
        }
        false
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
    pub(super) terms: Terms,
    controller: Arc<Controller>,
    namespace: NonNull<tl_nvme_ns>,
    info: tl_nvme_ns_info,
    /// `None` once the controller was given up.
    qpair: Option<NonNull<tl_nvme_qpair>>,
    turn: Turn,
    /// It may not be used now.
    rests: bool,
    lost: bool,
}

impl Nvme {
    pub(crate) fn open(
        terms: Terms,
        controller: Arc<Controller>,
        nsid: u32,
    ) -> Result<Self, Error> {
        let store = &terms.name;
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
            name: store.clone(),
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
                name: store.clone(),
                what: "allocating a queue pair (does the controller have one for each shard?)",
                code,
            })?;
        Ok(Self {
            terms,
            turn: controller.rounds.enter(),
            controller,
            namespace,
            info,
            qpair: Some(qpair),
            rests: false,
            lost: false,
        })
    }

    /// Its NGUID, or else its EUI64 (base 2.0, 4.5.1); zeros if it has neither.
    pub(crate) fn identity(&self) -> [u8; 16] {
        let tl_nvme_ns_info { nguid, eui64, .. } = self.info;
        if nguid != [0; 16] {
            return nguid;
        }
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&eui64.to_le_bytes());
        identity
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
            deallocated_zeros: namespace.deallocated_zeros != 0,
        }
    }

    pub(super) fn smart(&self) -> LastSmart {
        self.controller.asker.last().clone()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.lost
    }

    /// The controller is reset, if it is a local one: what it has is submitted once more. One that is
    /// reached over a fabric is given up: its connection may be what does not answer.
    pub(crate) fn recover(&mut self) {
        let (name, seconds) = (
            &self.terms.name,
            self.terms.timeout.unwrap_or_default().as_secs(),
        );
        if self.controller.is_local() {
            log::warn!(
                "store {name}: a command has taken longer than {seconds} s: its controller is reset"
            );
            self.begin(Remedy::Reset);
        } else {
            log::error!(
                "store {name}: a command has taken longer than {seconds} s: it is given up; look at its target, then restart"
            );
            self.begin(Remedy::GiveUp);
        }
    }

    /// It is gone from now on: the controller reaches no memory any more, and what it has ends.
    pub(crate) fn give_up(&mut self) {
        let name = &self.terms.name;
        log::error!(
            "store {name}: it does not answer after resets either, and is given up: replace it, then restart"
        );
        self.lost = true;
        self.begin(Remedy::GiveUp);
    }

    fn begin(&mut self, remedy: Remedy) {
        let address = Address(self.controller.ctrlr);
        self.controller.rounds.begin(move || address.apply(remedy));
    }

    /// Frees the queue pair: what it has ends.
    fn free(&mut self) {
        if let Some(qpair) = self.qpair.take() {
            // SAFETY: on the shard's thread, once. What is in flight ends before it returns,
            // and its memory is no device's any more.
            unsafe { spdk_sys::tl_nvme_qpair_free(qpair.as_ptr()) };
        }
    }

    /// Takes completions; how many.
    pub(crate) fn poll(&mut self) -> usize {
        let may = self.controller.rounds.look(&mut self.turn);
        self.rests = may == May::Rest;
        if may == May::End {
            self.lost = true;
            self.free();
        }
        let Some(qpair) = self.qpair.filter(|_| !self.rests) else {
            return 0;
        };
        // SAFETY: this shard's own queue pair.
        let n = unsafe { spdk_sys::tl_nvme_qpair_poll(qpair.as_ptr(), 0) };
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
        let Some(qpair) = self.qpair else {
            return Err(NotStarted::Failed(Fault::Gone));
        };
        if self.rests {
            return Err(NotStarted::Full);
        }
        let (ns, qpair) = (self.namespace.as_ptr(), qpair.as_ptr());
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
        self.controller.rounds.leave(&mut self.turn);
        self.free();
    }
}
