//! The engine alone: one shard, polled by hand, whose port is a wire in
//! memory. No kernel, no NIC and no second core is in the loop, but for handshakes of TLS, so that what is
//! measured is the engine's own work.
//!
//! The shard is what [`run`](crate::run()) makes; only the wire is different, and who
//! calls `poll`. Used by `examples/alone`, behind `ci/bench --engine`.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ptr::{self, NonNull};

use arrayvec::ArrayVec;
use dpdk_sys::{tl_cluster_pool, tl_mbuf, tl_rx_seg, tl_wire};
use shard::{Notices, ShardSnapshot};

use crate::authenticate::Authentication;
use crate::build::{self, Controllers, Stores};
use crate::config::Config;
use crate::environment::Environment;
use crate::error::Error;
use crate::lcore;
use crate::logged;
use crate::machine::Shard;
use crate::port::Port;
use crate::run;
use crate::spdk::SpdkThread;
use crate::tsc::{tsc, tsc_hz};

/// Frames that the wire holds in each direction.
const WIRE_FRAMES: u32 = 1 << 14;
/// Buffers armed for receiving, used in turn, as a NIC's ring of descriptors has them.
const ARMED: usize = 1024;
/// Frames taken off the wire at a time.
const BURST: usize = 64;
/// Pieces of one frame.
const PIECES: usize = 64;

/// What NICs do for TCP: checksums both ways, and segmentation.
const NIC_OFFLOADS: u32 = dpdk_sys::TL_OFFLOAD_RX_IP_CSUM
    | dpdk_sys::TL_OFFLOAD_RX_L4_CSUM
    | dpdk_sys::TL_OFFLOAD_TX_IP_CSUM
    | dpdk_sys::TL_OFFLOAD_TX_TCP_CSUM
    | dpdk_sys::TL_OFFLOAD_TX_TSO;

/// A shard on a wire in memory.
pub struct Alone {
    shard: Shard,
    wire: NonNull<tl_wire>,
    pool: *mut tl_cluster_pool,
    /// Whether the wire stands for a NIC with offloads.
    offloads: bool,
    armed: VecDeque<u32>,
    driver_ticks: u64,
    poll_ticks: u64,
}

/// Runs `drive` with the shard of `config`: its one core, its one port with the
/// device left out, stores on bdevs. With `offloads` the wire does what NICs do:
/// checksums and TCP segmentation. To be called once per process.
///
/// # Errors
/// As [`run`](crate::run()).
pub fn alone(config: &Config, offloads: bool, drive: impl FnOnce(&mut Alone)) -> Result<(), Error> {
    let desk = Authentication::start()?;
    let environment = Environment::start(&Config {
        ports: Vec::new(),
        ..config.clone()
    })?;
    let result = drive_shard(config, offloads, &desk, drive);
    environment.stop();
    result
}

fn drive_shard(
    config: &Config,
    offloads: bool,
    desk: &Authentication,
    drive: impl FnOnce(&mut Alone),
) -> Result<(), Error> {
    let core = lcore::all()[0];
    let mut wire = ptr::null_mut();
    // SAFETY: the name is a literal; EAL is up.
    let code = unsafe { dpdk_sys::tl_wire_create(c"alone".as_ptr(), WIRE_FRAMES, &mut wire) };
    let wire = NonNull::new(wire)
        .filter(|_| code >= 0)
        .ok_or(Error::Port {
            name: "alone".into(),
            what: "making a wire in memory (DPDK linked statically has net_ring)",
            code,
        })?;
    let mut config = config.clone();
    config.ports[0].device = "net_ring_alone".into();
    config.ports.truncate(1);
    let mut ports = Port::open(&config.ports, 1, config.memory.cluster_size)?;
    let port = &mut ports[0];
    // The wire has no address of its own.
    port.mac = [2, 0, 0, 0, 0, 1];
    if offloads {
        port.offloads |= NIC_OFFLOADS;
    }
    let spdk = SpdkThread::create("shard0", core)?;
    let stores = Stores::open(&config, &Controllers::new())?;
    let spans = build::spans(&config, &stores.volumes)?;
    let plan = |log| logged::plan(&config, log, &stores.volumes, &spans);
    let log_plan = config.log.as_ref().map(|log| (log, plan(log)));
    let offer = build::offer(&config, &stores.volumes, &spans)?;
    let target = build::target(&config, &offer)?;
    desk.begin(&target);
    let secret = build::secret();
    let mut shard = build::shard(
        &config,
        &ports,
        &target,
        run::handshakes(&config)?,
        &build::VolumePlan::new(&offer, spans),
        &secret,
        0,
        core,
        spdk,
        stores,
    )?;
    shard.join(build::rings(&config).remove(0), Notices::default());
    if let Some((log, plan)) = log_plan {
        logged::replay(log, plan, &mut shard, || true)?;
    }
    ports[0].start()?;
    let mut alone = Alone {
        pool: shard.memory().receive.as_ptr(),
        shard,
        wire,
        offloads,
        armed: VecDeque::with_capacity(ARMED),
        driver_ticks: 0,
        poll_ticks: 0,
    };
    drive(&mut alone);
    alone.finish(&ports[0]);
    Ok(())
}

impl Alone {
    /// A frame of at most a cluster arrives: `fill` writes it where the NIC
    /// would, and says how long it is. False if no buffer is free.
    pub fn receive(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if self.armed.is_empty() {
            self.arm();
        }
        let Some(&index) = self.armed.front() else {
            return false;
        };
        // SAFETY: the buffer was taken from the pool and is in nobody else's hands; its data
        // begin where `tl_mbuf_segments` says and have room for a full frame.
        unsafe {
            let buffer = dpdk_sys::tl_cluster_pool_mbuf(self.pool, index);
            let mut place: tl_rx_seg = std::mem::zeroed();
            dpdk_sys::tl_mbuf_segments(buffer, &mut place, 1);
            let room = self.shard.memory().buffers.clusters.cluster_size() - 128;
            let bytes = std::slice::from_raw_parts_mut(place.data, room);
            let len = fill(bytes) as u16;
            if !dpdk_sys::tl_wire_put(self.wire.as_ptr(), buffer, len, self.offloads) {
                return false;
            }
        }
        self.armed.pop_front();
        true
    }

    /// Takes free buffers as a driver does, a bulk at a time, up to [`ARMED`].
    fn arm(&mut self) {
        let begin = tsc();
        let mut bulk = [0; BURST];
        while self.armed.len() + BURST <= ARMED {
            // SAFETY: room for as many as are asked for.
            let n = unsafe {
                dpdk_sys::tl_cluster_pool_take(self.pool, bulk.as_mut_ptr(), BURST as u32)
            };
            if n == 0 {
                break;
            }
            self.armed.extend(&bulk[..n as usize]);
        }
        self.driver_ticks += tsc() - begin;
    }

    /// One turn of the shard.
    #[inline(never)]
    pub fn poll(&mut self) {
        let begin = tsc();
        self.shard.poll();
        self.poll_ticks += tsc() - begin;
    }

    /// As [`Alone::poll`], under a name of its own for tools that count
    /// instructions only here.
    #[inline(never)]
    pub fn poll_counted(&mut self) {
        self.poll();
    }

    /// Shows every frame that was sent, as its pieces, and frees it; how many.
    pub fn sent(&mut self, mut see: impl FnMut(&[&[u8]])) -> usize {
        let mut frames = [ptr::null_mut(); BURST];
        let mut total = 0;
        loop {
            // SAFETY: room for BURST frames.
            let n = unsafe {
                dpdk_sys::tl_wire_take(self.wire.as_ptr(), frames.as_mut_ptr(), BURST as u32)
            } as usize;
            for &frame in &frames[..n] {
                see(&pieces(frame));
            }
            self.free_counted(&frames[..n]);
            total += n;
            if n < BURST {
                return total;
            }
        }
    }

    /// What a driver does when frames are out: their buffers go back to their pools,
    /// and the pages they referred to come back as tokens.
    #[inline(never)]
    fn free_counted(&mut self, frames: &[*mut tl_mbuf]) {
        let begin = tsc();
        // SAFETY: taken off the wire, and in nobody else's hands.
        unsafe { dpdk_sys::tl_mbuf_free(frames.as_ptr(), frames.len() as u32) };
        self.driver_ticks += tsc() - begin;
    }

    /// The shard's counters.
    pub fn snapshot(&self) -> ShardSnapshot {
        self.shard.snapshot(Vec::new())
    }

    /// TSC ticks spent in [`Alone::poll`].
    pub fn poll_ticks(&self) -> u64 {
        self.poll_ticks
    }

    /// TSC ticks spent on what a NIC's driver does with buffers: taking free
    /// ones, and freeing those sent.
    pub fn driver_ticks(&self) -> u64 {
        self.driver_ticks
    }

    /// TSC ticks by stage, in the order of [`Stage::ALL`](events::Stage::ALL).
    pub fn ticks_by_stage(&self) -> [u64; events::Stage::ALL.len()] {
        self.shard.ticks_by_stage()
    }

    /// TSC ticks per second.
    pub fn tsc_hz(&self) -> u64 {
        tsc_hz()
    }

    fn finish(mut self, port: &Port) {
        let wire = self.wire;
        // Of 10,000 connections more than there are buffers to send from.
        let farewells = || while drop_frames(wire) == BURST {};
        let quiet = run::disconnect(&mut self.shard, farewells) && run::write_back(&mut self.shard);
        assert!(quiet, "a device does not finish");
        self.sent(|_| {});
        port.close();
        let armed: Vec<u32> = self.armed.drain(..).collect();
        // SAFETY: taken from the pool by `arm`, never put on the wire; the port is closed and
        // the wire is empty: the shard polled until it was quiet.
        unsafe {
            dpdk_sys::tl_cluster_pool_return(self.pool, armed.as_ptr(), armed.len() as u32);
            dpdk_sys::tl_wire_destroy(self.wire.as_ptr());
        }
        assert!(
            run::drain(&mut self.shard),
            "a page of the only shard is held elsewhere"
        );
        drop(self.shard.finish());
    }
}

/// Takes frames off the wire that nobody looks at; how many.
fn drop_frames(wire: NonNull<tl_wire>) -> usize {
    let mut frames = [ptr::null_mut(); BURST];
    // SAFETY: room for BURST frames; what is taken off the wire is in nobody else's hands.
    unsafe {
        let n = dpdk_sys::tl_wire_take(wire.as_ptr(), frames.as_mut_ptr(), BURST as u32);
        dpdk_sys::tl_mbuf_free(frames.as_ptr(), n);
        n as usize
    }
}

/// The bytes of a frame that was sent, piece by piece.
fn pieces<'a>(frame: *mut tl_mbuf) -> ArrayVec<&'a [u8], PIECES> {
    // SAFETY: plain data, written by the call. The pieces stay until the frame is freed, which
    // `sent` does after the last use of what this gives.
    unsafe {
        let mut segments: [tl_rx_seg; PIECES] = std::mem::zeroed();
        let n = dpdk_sys::tl_mbuf_segments(frame, segments.as_mut_ptr(), PIECES as u32) as usize;
        assert!(n <= PIECES, "a frame of {n} pieces");
        (segments[..n].iter())
            .map(|piece| std::slice::from_raw_parts(piece.data.cast_const(), piece.len as usize))
            .collect()
    }
}
