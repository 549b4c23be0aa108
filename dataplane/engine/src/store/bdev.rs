//! A store reached by `spdk_bdev`: malloc, aio, raid, lvol, rbd, ... (row K5).
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use spdk_sys::{tl_bdev, tl_bdev_info, tl_channel, tl_io};

use block::{Command, Geometry, NotStarted, Op, OpIndex, OpTable};

use super::Terms;
use super::op::{self, StoreSlot};
use crate::error::Error;

/// A shard's descriptor and channel of a block device.
pub(crate) struct Bdev {
    pub(super) terms: Terms,
    bdev: NonNull<tl_bdev>,
    channel: NonNull<tl_channel>,
    info: tl_bdev_info,
    /// Its blocks, which may become more or fewer while it is open.
    blocks: Cell<u64>,
    events: Rc<Events>,
    /// Of a reset under way, of which `events` knows; it stays where it is.
    reset: Box<tl_io>,
}

/// What SPDK said of it since it was opened.
#[derive(Default)]
struct Events {
    removed: Cell<bool>,
    /// A reset is under way.
    resetting: Cell<bool>,
    /// Not yet looked at.
    resized: Cell<bool>,
}

impl Bdev {
    /// Opens `bdev` for the current SPDK thread.
    pub(crate) fn open(terms: Terms, bdev: &str) -> Result<Self, Error> {
        let fail = |what, code| Error::Store {
            name: terms.name.clone(),
            what,
            code,
        };
        let name = CString::new(bdev).map_err(|_| fail("its bdev name", -libc::EINVAL))?;
        let events = Rc::new(Events::default());
        let mut out = ptr::null_mut();
        // SAFETY: the name is read during the call; `events` outlives the descriptor.
        let code = unsafe {
            let arg = Rc::as_ptr(&events).cast_mut().cast();
            spdk_sys::tl_bdev_open(name.as_ptr(), true, Some(on_event), arg, &mut out)
        };
        let bdev = NonNull::new(out).filter(|_| code >= 0).ok_or_else(|| {
            fail(
                "opening its bdev (does the SPDK configuration create it?)",
                code,
            )
        })?;
        // SAFETY: an open descriptor, on the thread that opened it.
        let channel = unsafe { spdk_sys::tl_bdev_channel_get(bdev.as_ptr()) };
        let Some(channel) = NonNull::new(channel) else {
            // SAFETY: open, and without channels.
            unsafe { spdk_sys::tl_bdev_close(bdev.as_ptr()) };
            return Err(fail("getting a channel", -libc::ENOMEM));
        };
        let info = info_of(bdev);
        Ok(Self {
            bdev,
            channel,
            blocks: Cell::new(info.num_blocks),
            info,
            events,
            // SAFETY: `tl_io` is plain data; zero is "no callback, no list".
            reset: Box::new(unsafe { std::mem::zeroed() }),
            terms,
        })
    }

    pub(crate) fn geometry(&self) -> Geometry {
        Geometry {
            block_size: self.info.block_size,
            blocks: self.blocks(),
            metadata: self.info.md_size,
            // Above this SPDK copies behind our back; we pull up and count it instead.
            alignment: self.info.buf_align.max(1),
            prp: false,
            max_elements: u32::MAX,
            max_bytes: u32::MAX,
            write_cache: self.info.write_cache != 0,
            write_zeroes: self.info.io_types & spdk_sys::TL_BDEV_WRITE_ZEROES != 0,
            unmap: self.info.io_types & spdk_sys::TL_BDEV_UNMAP != 0,
            deallocated_zeros: self.is_malloc(),
        }
    }

    /// Whether it is a RAM disk, which fills with zeros what is unmapped. What others leave there SPDK
    /// does not say.
    fn is_malloc(&self) -> bool {
        const PRODUCT: &[u8] = b"Malloc disk\0";
        let product = self.info.product.iter().map(|&c| c as u8);
        product.take(PRODUCT.len()).eq(PRODUCT.iter().copied())
    }

    /// Its blocks now.
    fn blocks(&self) -> u64 {
        if self.events.resized.take() {
            self.blocks.set(info_of(self.bdev).num_blocks);
        }
        self.blocks.get()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.events.removed.get()
    }

    /// Resets it: whoever is behind it takes back what it has, or says that it cannot.
    pub(crate) fn recover(&mut self) {
        if self.events.resetting.replace(true) {
            return;
        }
        self.reset.done = Some(on_reset);
        self.reset.arg = Rc::as_ptr(&self.events).cast_mut().cast();
        // SAFETY: descriptor and channel are this thread's; the box and `events` stay until
        // the reset has ended: see `drop`.
        let code = unsafe {
            let (bdev, channel) = (self.bdev.as_ptr(), self.channel.as_ptr());
            spdk_sys::tl_bdev_reset(bdev, channel, &raw mut *self.reset)
        };
        if code < 0 {
            self.events.resetting.set(false);
        }
        let (name, seconds) = (
            &self.terms.name,
            self.terms.timeout.unwrap_or_default().as_secs(),
        );
        log::warn!("store {name}: a command has taken longer than {seconds} s: it is reset");
    }

    /// Takes no more commands. Those it has end when it says so, and hold their memory until then.
    pub(crate) fn give_up(&mut self) {
        self.events.removed.set(true);
        let name = &self.terms.name;
        log::error!(
            "store {name}: it does not answer after resets either, and is given up: look at what is behind it, then restart"
        );
    }

    pub(crate) fn submit(
        &self,
        ops: &mut OpTable<StoreSlot>,
        op: OpIndex,
        elements: usize,
        command: Command,
    ) -> Result<(), NotStarted> {
        let (bdev, channel) = (self.bdev.as_ptr(), self.channel.as_ptr());
        let Command {
            op: kind,
            block,
            blocks,
        } = command;
        op::submit(ops, op, kind, elements, |io, iov, n| {
            // SAFETY: descriptor and channel are this thread's; the table keeps `io` and
            // `iov` in place until completion, and the request keeps the memory they name.
            unsafe {
                match kind {
                    Op::Read => spdk_sys::tl_bdev_readv(bdev, channel, io, iov, n, block, blocks),
                    Op::Write => spdk_sys::tl_bdev_writev(bdev, channel, io, iov, n, block, blocks),
                    Op::Flush => spdk_sys::tl_bdev_flush(bdev, channel, io, 0, self.blocks()),
                    Op::WriteZeroes => {
                        spdk_sys::tl_bdev_write_zeroes(bdev, channel, io, block, blocks)
                    }
                    Op::Deallocate => spdk_sys::tl_bdev_unmap(bdev, channel, io, block, blocks),
                }
            }
        })
    }
}

/// What SPDK says of an open block device.
fn info_of(bdev: NonNull<tl_bdev>) -> tl_bdev_info {
    // SAFETY: plain data, filled by the call, from a descriptor that is open.
    unsafe {
        let mut info = std::mem::zeroed();
        spdk_sys::tl_bdev_info(bdev.as_ptr(), &mut info);
        info
    }
}

impl Drop for Bdev {
    fn drop(&mut self) {
        if self.events.resetting.get() {
            // SPDK still has both.
            std::mem::forget(Rc::clone(&self.events));
            // SAFETY: plain data; the box that takes its place is dropped in its stead.
            let io = std::mem::replace(&mut self.reset, Box::new(unsafe { std::mem::zeroed() }));
            Box::leak(io);
        }
        // SAFETY: on the thread that opened it, with no operation in flight.
        unsafe {
            spdk_sys::tl_bdev_channel_put(self.channel.as_ptr());
            spdk_sys::tl_bdev_close(self.bdev.as_ptr());
        }
    }
}

/// Runs on the shard's SPDK thread.
unsafe extern "C" fn on_reset(arg: *mut c_void, _sct: i32, _sc: i32, _err: i32) {
    // SAFETY: `arg` is what the store keeps alive until its reset has ended.
    let events = unsafe { &*arg.cast::<Events>() };
    events.resetting.set(false);
}

/// Runs on the shard's SPDK thread.
unsafe extern "C" fn on_event(arg: *mut c_void, event: i32) {
    // SAFETY: `arg` is what the open descriptor keeps alive.
    let events = unsafe { &*arg.cast::<Events>() };
    match event as u32 {
        spdk_sys::TL_BDEV_REMOVED => events.removed.set(true),
        spdk_sys::TL_BDEV_RESIZED => events.resized.set(true),
        _ => {}
    }
}
