//! A shard's queue pair of a DPDK device: frames in as slices of their clusters,
//! frames out as headers by value and payload by reference.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::ptr::{self, NonNull};

use arrayvec::ArrayVec;
use dpdk_sys::{tl_mbuf, tl_rx_frame, tl_rx_seg, tl_tx_ctx, tl_tx_offload, tl_tx_piece};
use net::{Piece, PortFull, RxFrame, Transmit, TxFrame, TxOffload, Verdict};
use pages::{Cluster, CopyReason, Fresh, Slice};

use crate::error::Error;
use crate::memory::Memory;
use crate::port::{BURST, Parts, PortCounters, SEGMENTS_MAX};

/// Pieces of one frame.
const PIECES_MAX: usize = dpdk_sys::TL_TX_PIECES_MAX as usize;

const _: () = assert!(TxFrame::PIECES_MAX <= PIECES_MAX);

/// One receive and one transmit queue, polled by one shard.
pub(crate) struct Queue {
    port: u16,
    queue: u16,
    transmit: NonNull<tl_tx_ctx>,
    received: [tl_rx_frame; BURST],
    pending: [*mut tl_mbuf; BURST],
    pending_len: usize,
    tokens: [u64; BURST],
    pub(crate) counters: PortCounters,
}

impl Queue {
    /// Makes the transmit pools of queue pair `queue`; `segments` may be on
    /// their way to the NIC by reference at a time.
    pub(crate) fn new(port: u16, queue: u16, segments: u32) -> Result<Self, Error> {
        let name = CString::new(format!("tx{port}.{queue}")).expect("no NUL in a number");
        let mut transmit = ptr::null_mut();
        // Headers need a buffer a frame; a frame has at least one.
        let headers = segments.max(1024);
        // SAFETY: the name is copied; called on the shard's own lcore.
        let code = unsafe {
            dpdk_sys::tl_tx_ctx_create(name.as_ptr(), headers, segments, 256, -1, &mut transmit)
        };
        let transmit = NonNull::new(transmit)
            .filter(|_| code >= 0)
            .ok_or(Error::Port {
                name: format!("{port}"),
                what: "making its transmit pools (raise native_memory_mib)",
                code,
            })?;
        Ok(Self {
            port,
            queue,
            transmit,
            // SAFETY: plain data, written by the driver before it is read.
            received: unsafe { std::mem::zeroed() },
            pending: [ptr::null_mut(); BURST],
            pending_len: 0,
            tokens: [0; BURST],
            counters: PortCounters::default(),
        })
    }

    /// Takes a burst of frames from the NIC; how many to [`Queue::frame`] through.
    pub(crate) fn poll(&mut self, memory: &Memory) -> usize {
        // SAFETY: room for BURST frames; the pool is this queue's.
        let n = unsafe {
            dpdk_sys::tl_rx_burst(
                self.port,
                self.queue,
                memory.receive.as_ptr(),
                self.received.as_mut_ptr(),
                BURST as u16,
            )
        };
        self.counters.frames_received += u64::from(n);
        let frames = self.received[..n.into()].iter();
        (memory.buffers.clusters).prefetch(frames.map(|frame| frame.cluster));
        n.into()
    }

    /// Gives frame `i` of the last burst, by reference, to `receive`.
    #[inline]
    pub(crate) fn frame(&mut self, i: usize, memory: &Memory, receive: impl FnOnce(RxFrame<'_>)) {
        let frame = &self.received[i];
        if frame.nb_segs != 1 || frame.flags & dpdk_sys::TL_RX_FOREIGN != 0 {
            return self.frame_in_parts(i, memory, receive);
        }
        // The usual case: one part, in a cluster of ours.
        self.counters.checksums_verified += verified(frame);
        let head = adopt(memory, frame.cluster, frame.data, frame.data_len.into());
        receive(rx_frame(frame, head, &[]));
    }

    /// The first bytes of each of the last burst's `frames` frames.
    pub(crate) fn heads(&self, frames: usize) -> impl Iterator<Item = &[u8]> {
        self.received[..frames].iter().map(|frame| {
            // SAFETY: the driver says that `data_len` bytes of the frame are at `data`; nobody
            // writes to them, and the buffer is ours until `frame` gives it on.
            unsafe { std::slice::from_raw_parts(frame.data, frame.data_len.into()) }
        })
    }

    /// As [`Queue::frame`], of a frame over several clusters or in foreign memory.
    #[inline(never)]
    fn frame_in_parts(&mut self, i: usize, memory: &Memory, receive: impl FnOnce(RxFrame<'_>)) {
        let frame = self.received[i];
        let mut parts = Parts::new();
        let whole = if frame.flags & dpdk_sys::TL_RX_FOREIGN != 0 {
            self.copy_foreign(frame.mbuf, memory, &mut parts)
        } else {
            self.counters.frames_scattered += 1;
            self.unchain(frame.mbuf, memory, &mut parts)
        };
        if !whole {
            return;
        }
        self.counters.checksums_verified += verified(&frame);
        let mut parts = parts.into_iter();
        let Some(head) = parts.next() else { return };
        let tail: Parts = parts.collect();
        receive(rx_frame(&frame, head, &tail));
    }

    /// Hands every pending frame to the NIC and takes back what it is done with.
    pub(crate) fn flush(&mut self) {
        if self.pending_len > 0 {
            // SAFETY: frames built by `transmit`, owned by us until the driver takes them.
            let n = unsafe {
                dpdk_sys::tl_tx_burst(
                    self.port,
                    self.queue,
                    self.pending.as_mut_ptr(),
                    self.pending_len as u16,
                )
            } as usize;
            self.pending.copy_within(n..self.pending_len, 0);
            self.pending_len -= n;
            self.counters.frames_sent += n as u64;
            if self.pending_len > 0 {
                self.counters.transmit_ring_full += 1;
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            let context = self.transmit.as_ptr();
            // SAFETY: room for BURST tokens; on the owner's lcore.
            let n = unsafe {
                dpdk_sys::tl_tx_drain_done(context, self.tokens.as_mut_ptr(), BURST as u32)
            } as usize;
            for &token in &self.tokens[..n] {
                // SAFETY: every token was made by `into_token` in `transmit` and comes back once.
                drop(unsafe { Cluster::from_token(token) });
            }
            if n < BURST {
                return;
            }
        }
    }

    /// Takes back every reference the NIC holds; the port is closed.
    pub(crate) fn stop(&mut self) {
        // SAFETY: frames built by us that no driver took.
        unsafe { dpdk_sys::tl_mbuf_free(self.pending.as_ptr(), self.pending_len as u32) };
        self.pending_len = 0;
        self.drain();
    }

    fn unchain(&mut self, head: *mut tl_mbuf, memory: &Memory, parts: &mut Parts) -> bool {
        // SAFETY: plain data, written by the call; `head` is ours since the burst.
        let (segments, n) = unsafe {
            let mut segments: [tl_rx_seg; SEGMENTS_MAX] = std::mem::zeroed();
            let n = dpdk_sys::tl_mbuf_unchain(
                memory.receive.as_ptr(),
                head,
                segments.as_mut_ptr(),
                SEGMENTS_MAX as u32,
            );
            (segments, n)
        };
        if n < 0 {
            events::dropped!(self.counters, drop_too_long);
            // SAFETY: the chain is whole and ours.
            unsafe { dpdk_sys::tl_mbuf_free(&head, 1) };
            return false;
        }
        for segment in &segments[..n as usize] {
            parts.push(adopt(
                memory,
                segment.cluster,
                segment.data,
                segment.len as usize,
            ));
        }
        true
    }

    /// A software port handed over a buffer that is not one of our clusters:
    /// the one receive path that copies, counted.
    fn copy_foreign(&mut self, head: *mut tl_mbuf, memory: &Memory, parts: &mut Parts) -> bool {
        // SAFETY: plain data, filled by the call; the frame is ours since the burst.
        let (segments, n) = unsafe {
            let mut segments: [tl_rx_seg; PIECES_MAX] = std::mem::zeroed();
            let n = dpdk_sys::tl_mbuf_segments(head, segments.as_mut_ptr(), PIECES_MAX as u32);
            (segments, n as usize)
        };
        let copied = n <= PIECES_MAX && gather(memory, &segments[..n.min(PIECES_MAX)], parts);
        if !copied {
            events::dropped!(self.counters, drop_no_cluster);
        }
        // SAFETY: the frame is whole and ours; its bytes were copied or are dropped.
        unsafe { dpdk_sys::tl_mbuf_free(&head, 1) };
        copied
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the port is closed and every frame came back (`stop`).
        unsafe { dpdk_sys::tl_tx_ctx_destroy(self.transmit.as_ptr()) };
    }
}

impl Transmit for Queue {
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull> {
        if self.pending_len == BURST {
            self.flush();
            if self.pending_len == BURST {
                return Err(PortFull);
            }
        }
        let mut pieces = ArrayVec::<tl_tx_piece, PIECES_MAX>::new();
        for piece in frame.payload.pieces() {
            let bytes = piece.bytes();
            #[cfg(test)]
            if let Piece::Slice { .. } = piece {
                crate::spy::sent(bytes);
            }
            let (token, kind) = match piece {
                Piece::Inline(_) => (0, dpdk_sys::TL_TX_INLINE),
                Piece::Slice { cluster, .. } => (cluster.clone().into_token(), dpdk_sys::TL_TX_REF),
            };
            pieces.push(tl_tx_piece {
                addr: bytes.as_ptr().cast(),
                token,
                len: bytes.len() as u32,
                kind,
            });
        }
        let offload = offload(&frame.offload);
        let mut out = ptr::null_mut();
        // SAFETY: headers and inline pieces are copied by the call; slices stay in place and
        // unchanged while the tokens hold their clusters.
        let code = unsafe {
            dpdk_sys::tl_tx_build(
                self.transmit.as_ptr(),
                frame.headers.as_ptr().cast(),
                frame.headers.len() as u32,
                pieces.as_ptr(),
                pieces.len() as u32,
                &offload,
                &mut out,
            )
        };
        if code < 0 {
            for piece in pieces
                .iter()
                .filter(|piece| piece.kind == dpdk_sys::TL_TX_REF)
            {
                // SAFETY: nothing was taken; the token was made above and goes back once.
                drop(unsafe { Cluster::from_token(piece.token) });
            }
            self.counters.transmit_no_buffer += 1;
            self.flush();
            return Err(PortFull);
        }
        self.pending[self.pending_len] = out;
        self.pending_len += 1;
        self.counters.checksums_computed += u64::from(frame.offload.l4_checksum);
        self.counters.frames_segmented += u64::from(frame.offload.tso_mss.is_some());
        Ok(())
    }
}

/// One if the port found the checksum over the frame's payload right, else none.
fn verified(frame: &tl_rx_frame) -> u64 {
    u64::from(frame.flags & dpdk_sys::TL_RX_L4_CSUM_GOOD != 0)
}

/// The frame with what the port found out about it.
fn rx_frame<'a>(frame: &tl_rx_frame, head: Slice, tail: &'a [Slice]) -> RxFrame<'a> {
    let verdict = |good, bad| match frame.flags & (good | bad) {
        found if found & bad != 0 => Verdict::Bad,
        found if found & good != 0 => Verdict::Good,
        _ => Verdict::Unknown,
    };
    RxFrame {
        head,
        tail,
        ip_checksum: verdict(dpdk_sys::TL_RX_IP_CSUM_GOOD, dpdk_sys::TL_RX_IP_CSUM_BAD),
        l4_checksum: verdict(dpdk_sys::TL_RX_L4_CSUM_GOOD, dpdk_sys::TL_RX_L4_CSUM_BAD),
        vlan: (frame.flags & dpdk_sys::TL_RX_VLAN != 0).then_some(frame.vlan),
    }
}

fn offload(wanted: &TxOffload) -> tl_tx_offload {
    let mut flags = if wanted.ipv6 {
        dpdk_sys::TL_TX_IPV6
    } else {
        dpdk_sys::TL_TX_IPV4
    };
    if wanted.ip_checksum {
        flags |= dpdk_sys::TL_TX_IP_CSUM;
    }
    if wanted.l4_checksum {
        flags |= dpdk_sys::TL_TX_TCP_CSUM;
    }
    if wanted.tso_mss.is_some() {
        flags |= dpdk_sys::TL_TX_TSO;
    }
    if !wanted.ip_checksum && !wanted.l4_checksum {
        flags = 0;
    }
    tl_tx_offload {
        flags,
        l2_len: wanted.l2_len.into(),
        l3_len: wanted.l3_len.into(),
        l4_len: wanted.l4_len.into(),
        mss: wanted.tso_mss.unwrap_or(0),
        vlan: 0,
        reserved: 0,
    }
}

/// The received bytes as a slice of the cluster they lie in.
fn adopt(memory: &Memory, index: u32, data: *const u8, len: usize) -> Slice {
    #[cfg(test)]
    crate::spy::received(data, len);
    let start = memory.buffers.clusters.address_of(index).as_ptr() as usize;
    let offset = data as usize - start;
    memory
        .buffers
        .clusters
        .adopt_filled(index, offset + len)
        .slice(offset..offset + len)
}

/// Copies the bytes of `segments` into free clusters, as if received there;
/// false if there are too few.
fn gather(memory: &Memory, segments: &[tl_rx_seg], parts: &mut Parts) -> bool {
    let size = memory.buffers.clusters.cluster_size();
    let mut current: Option<Fresh> = None;
    let mut used = 0;
    for segment in segments {
        // SAFETY: the driver says that `len` bytes of the frame are at `data`.
        let mut bytes = unsafe { std::slice::from_raw_parts(segment.data, segment.len as usize) };
        memory
            .buffers
            .ledger
            .copied(CopyReason::ForeignBuffer, bytes.len());
        while !bytes.is_empty() {
            if current.is_none() {
                current = memory
                    .receive
                    .take()
                    .map(|index| memory.buffers.clusters.adopt_fresh(index));
                used = 0;
            }
            let Some(cluster) = &mut current else {
                return false;
            };
            let n = bytes.len().min(size - used);
            cluster[used..used + n].copy_from_slice(&bytes[..n]);
            used += n;
            bytes = &bytes[n..];
            if used == size {
                let Some(full) = current.take() else {
                    return false;
                };
                if parts.try_push(full.freeze().slice(0..size)).is_err() {
                    return false;
                }
            }
        }
    }
    match current {
        Some(last) => parts.try_push(last.freeze().slice(0..used)).is_ok(),
        None => true,
    }
}
