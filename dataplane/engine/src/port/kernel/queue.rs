//! A shard's queue pair of an interface of the kernel.

use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;
use net::{MacAddress, Piece, PortFull, RxFrame, Transmit, TxFrame, TxOffload, Verdict};
use packet::{Frame, Offload, Sender};
use pages::{Fresh, Slice};

use super::watch::{Exchange, Sockets};
use crate::memory::Memory;
use crate::port::{BURST, Parts, PortCounters, SEGMENTS_MAX};
use crate::tsc::{tsc, tsc_hz};

/// Where a frame starts in its cluster: the payload behind 54 or 66 bytes of headers lies at a multiple of four.
const START: usize = 2;

/// Bytes of headers and of protocol that pending frames have together: those of one frame at least.
const BYTES: usize = 128 << 10;
/// Parts that they have: headers, pieces of the payload.
const PARTS: usize = 1024;
/// Parts of a frame at most, with its offload and its headers.
const PARTS_OF_FRAME: usize = TxFrame::PIECES_MAX + 2;
/// Where TCP has its checksum (RFC 9293, 3.1).
const TCP_CHECKSUM: usize = 16;
/// Parts that one call to the kernel takes.
const GATHERED: usize = 512;

const _: () = assert!(BURST <= packet::BURST && PARTS_OF_FRAME <= GATHERED && GATHERED <= PARTS);

/// One ring to receive from and one socket to send with, polled by one shard.
pub(crate) struct Queue {
    sockets: Sockets,
    exchange: Arc<Exchange>,
    /// The number of the last exchange.
    exchanged: u64,
    /// Free clusters, to receive into.
    spare: ArrayVec<u32, BURST>,
    pending: Pending,
    /// The kernel is asked what it dropped once in so many.
    polls: u16,
    backoff: Backoff,
    /// Ticks of the TSC until which no refusal is logged: one a second is enough.
    silent_until: u64,
    pub(crate) counters: PortCounters,
}

/// How long to wait until a frame that a full queue dropped is sent again.
#[derive(Default)]
struct Backoff {
    /// Ticks of the TSC.
    until: u64,
    /// Times that the oldest frame was dropped.
    times: u32,
}

impl Backoff {
    /// In this time some dozens of frames leave a queue.
    const MICROSECONDS: u64 = 100;
    /// Then it is not a queue that drops the frame.
    const TIMES_MAX: u32 = 50;

    fn is_on(&self) -> bool {
        self.times > 0 && tsc() < self.until
    }

    /// Whether it is worth it.
    fn begin(&mut self) -> bool {
        self.times += 1;
        self.until = tsc() + tsc_hz() / 1_000_000 * Self::MICROSECONDS;
        self.times <= Self::TIMES_MAX
    }
}

/// Frames to be sent with the next call.
struct Pending {
    frames: ArrayVec<PendingFrame, BURST>,
    /// Of `frames`, how many were sent.
    sent: usize,
    parts: Vec<Part>,
    bytes: Vec<u8>,
}

struct PendingFrame {
    offload: Offload,
    parts: Range<usize>,
    /// Whether the port computes its checksum, and cuts it.
    completed: bool,
    cut: bool,
}

/// A part of a pending frame.
enum Part {
    /// In `bytes`.
    Bytes(Range<usize>),
    /// Held until it is sent.
    Slice(Slice),
}

impl Queue {
    pub(super) fn new(sockets: Sockets, exchange: Arc<Exchange>) -> Self {
        Self {
            sockets,
            exchange,
            exchanged: 0,
            spare: ArrayVec::new(),
            pending: Pending::new(),
            polls: 0,
            backoff: Backoff::default(),
            silent_until: 0,
            counters: PortCounters::default(),
        }
    }

    /// Looks for a burst of frames; how many there are.
    #[inline]
    pub(crate) fn poll(&mut self) -> usize {
        self.polls = self.polls.wrapping_add(1);
        if self.polls == 0 {
            // What the kernel cannot say does not matter.
            self.counters.drop_ring_full +=
                u64::from(self.sockets.receiver.take_dropped().unwrap_or(0));
        }
        self.sockets.receiver.waiting(BURST)
    }

    /// Gives the oldest frame to `receive`, once it is copied into clusters.
    #[inline]
    pub(crate) fn frame(&mut self, memory: &Memory, receive: impl FnOnce(RxFrame<'_>)) {
        let Some(frame) = self.sockets.receiver.receive() else {
            return;
        };
        self.counters.frames_received += 1;
        let (vlan, verified) = (frame.vlan(), frame.is_verified());
        let mut parts = Parts::new();
        if let Err(lost) = scatter(frame, memory, &mut self.spare, &mut parts) {
            return match lost {
                Lost::NoCluster => events::dropped!(self.counters, drop_no_cluster),
                Lost::TooLong => events::dropped!(self.counters, drop_too_long),
            };
        }
        self.counters.checksums_verified += u64::from(verified);
        self.counters.frames_scattered += u64::from(parts.len() > 1);
        let mut parts = parts.into_iter();
        let Some(head) = parts.next() else { return };
        let tail: Parts = parts.collect();
        receive(RxFrame {
            head,
            tail: &tail,
            ip_checksum: Verdict::Unknown,
            l4_checksum: if verified {
                Verdict::Good
            } else {
                Verdict::Unknown
            },
            vlan,
        });
    }

    /// Hands every pending frame to the kernel.
    pub(crate) fn flush(&mut self) {
        if self.pending.is_empty() || self.backoff.is_on() {
            return;
        }
        while !self.pending.is_empty() {
            match self.pending.send(&self.sockets.sender) {
                Ok(n) => {
                    for frame in self.pending.oldest(n) {
                        self.counters.frames_sent += 1;
                        self.counters.checksums_computed += u64::from(frame.completed);
                        self.counters.frames_segmented += u64::from(frame.cut);
                    }
                    self.pending.done(n);
                    self.backoff = Backoff::default();
                }
                Err(error) => {
                    let code = error.raw_os_error();
                    // ENOBUFS: the queue of the interface, or that of the other end of a veth, is full, and dropped the
                    // frame, or the end of it. It is sent again, when there may be room.
                    if code == Some(libc::EAGAIN)
                        || (code == Some(libc::ENOBUFS) && self.backoff.begin())
                    {
                        self.counters.transmit_ring_full += 1;
                        return;
                    }
                    // TCP sends again what is lost here; the rest goes on. Of an interface that
                    // is off or gone, which says so once, who watches the port tells.
                    let is_down = matches!(code, Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV));
                    if !is_down && tsc() > self.silent_until {
                        self.silent_until = tsc() + tsc_hz();
                        log::warn!("the kernel does not send a frame: {error}");
                    }
                    self.pending.done(1);
                    self.backoff = Backoff::default();
                    events::dropped!(self.counters, drop_refused);
                }
            }
        }
    }

    /// Goes on with the sockets of another interface, if there are any: its Ethernet address.
    /// The old ones are left where these were.
    pub(crate) fn replaced(&mut self) -> Option<MacAddress> {
        if self.exchange.number() == self.exchanged {
            return None;
        }
        let mut exchange = self.exchange.lock();
        self.exchanged = self.exchange.number();
        let (sockets, mac) = exchange.new.take()?;
        exchange.old = Some(std::mem::replace(&mut self.sockets, sockets));
        self.backoff = Backoff::default();
        Some(mac)
    }

    /// Lets go of every page.
    pub(crate) fn stop(&mut self) {
        self.pending = Pending::new();
    }
}

impl Pending {
    fn new() -> Self {
        Self {
            frames: ArrayVec::new(),
            sent: 0,
            parts: Vec::with_capacity(PARTS),
            bytes: Vec::with_capacity(BYTES),
        }
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether a frame can be added, `bytes` of which at most are not in pages.
    fn has_room(&self, bytes: usize) -> bool {
        !self.frames.is_full()
            && self.parts.len() + PARTS_OF_FRAME <= PARTS
            && self.bytes.len() + bytes <= BYTES
    }

    /// Adds a part that is copied; those side by side are one.
    fn copy(&mut self, from: usize, bytes: &[u8]) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        match self.parts[from..].last_mut() {
            Some(Part::Bytes(range)) => range.end = end,
            _ => self.parts.push(Part::Bytes(begin..end)),
        }
    }

    fn add(&mut self, frame: &TxFrame<'_>) {
        let (from, begin) = (self.parts.len(), self.bytes.len());
        self.copy(from, frame.headers);
        for piece in frame.payload.pieces() {
            match piece {
                Piece::Inline(bytes) => self.copy(from, bytes),
                Piece::Slice {
                    cluster,
                    offset,
                    len,
                } => (self.parts).push(Part::Slice(cluster.clone().slice(offset..offset + len))),
            }
        }
        let offload = &frame.offload;
        if offload.tso_mss.is_some() {
            let segment = frame.len() - usize::from(offload.l2_len) - usize::from(offload.l3_len);
            add_length(&mut self.bytes[begin..], offload, segment);
        }
        self.frames.push(PendingFrame {
            offload: describe(offload),
            parts: from..self.parts.len(),
            completed: offload.l4_checksum,
            cut: offload.tso_mss.is_some(),
        });
    }

    /// Sends as many of the oldest as one call takes; how many went.
    fn send(&self, sender: &Sender) -> io::Result<usize> {
        let mut gathered = ArrayVec::<IoSlice<'_>, GATHERED>::new();
        let mut ends = ArrayVec::<usize, BURST>::new();
        for frame in &self.frames[self.sent..] {
            if gathered.len() + frame.parts.len() + 1 > GATHERED {
                break;
            }
            gathered.push(IoSlice::new(frame.offload.as_bytes()));
            gathered.extend(self.parts[frame.parts.clone()].iter().map(|part| {
                IoSlice::new(match part {
                    Part::Bytes(range) => &self.bytes[range.clone()],
                    Part::Slice(slice) => slice.bytes(),
                })
            }));
            ends.push(gathered.len());
        }
        let mut begin = 0;
        let frames: ArrayVec<&[IoSlice<'_>], BURST> = (ends.into_iter())
            .map(|end| &gathered[std::mem::replace(&mut begin, end)..end])
            .collect();
        sender.send(&frames)
    }

    fn oldest(&self, n: usize) -> &[PendingFrame] {
        &self.frames[self.sent..][..n]
    }

    /// The `n` oldest are done with. When all are, so is what they are made of.
    fn done(&mut self, n: usize) {
        self.sent += n;
        if self.sent == self.frames.len() {
            self.sent = 0;
            self.frames.clear();
            self.parts.clear();
            self.bytes.clear();
        }
    }
}

impl Transmit for Queue {
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull> {
        // The bytes of all pieces bound those that are copied.
        let bytes = frame.len();
        if !self.pending.has_room(bytes) {
            self.flush();
            if !self.pending.has_room(bytes) {
                return Err(PortFull);
            }
        }
        self.pending.add(&frame);
        Ok(())
    }
}

/// Why a frame is not received.
enum Lost {
    NoCluster,
    TooLong,
}

/// Copies a frame into free clusters.
#[inline]
fn scatter(
    frame: Frame<'_>,
    memory: &Memory,
    spare: &mut ArrayVec<u32, BURST>,
    parts: &mut Parts,
) -> Result<(), Lost> {
    let mut left = frame.len();
    let mut fresh = ArrayVec::<(Fresh, Range<usize>), SEGMENTS_MAX>::new();
    let mut start = START;
    while left > 0 {
        if spare.is_empty() {
            memory.receive.take_bulk(spare);
        }
        let index = spare.pop().ok_or(Lost::NoCluster)?;
        let cluster = memory.buffers.clusters.adopt_fresh(index);
        let n = left.min(cluster.len() - start);
        (fresh.try_push((cluster, start..start + n))).map_err(|_| Lost::TooLong)?;
        left -= n;
        start = 0;
    }
    let mut places: ArrayVec<IoSliceMut<'_>, SEGMENTS_MAX> = (fresh.iter_mut())
        .map(|(cluster, range)| IoSliceMut::new(&mut cluster[range.clone()]))
        .collect();
    if !frame.copy_to(&mut places) {
        return Err(Lost::TooLong);
    }
    drop(places);
    parts.extend(
        (fresh.into_iter()).map(|(cluster, range)| cluster.freeze_filled(range.end).slice(range)),
    );
    Ok(())
}

/// What the kernel shall do.
fn describe(wanted: &TxOffload) -> Offload {
    let tcp = u16::from(wanted.l2_len) + u16::from(wanted.l3_len);
    match wanted.tso_mss {
        Some(mss) => Offload::segment(wanted.ipv6, tcp, tcp + u16::from(wanted.l4_len), mss),
        None if wanted.l4_checksum => Offload::checksum(tcp),
        None => Offload::NONE,
    }
}

/// Adds the length of TCP header and payload to the pseudo-header's sum in TCP's checksum field: DPDK wants it left out
/// where segments are cut, the kernel wants it in.
fn add_length(headers: &mut [u8], offload: &TxOffload, len: usize) {
    let at = usize::from(offload.l2_len) + usize::from(offload.l3_len) + TCP_CHECKSUM;
    let field = &mut headers[at..at + 2];
    let mut sum = usize::from(u16::from_be_bytes([field[0], field[1]])) + len;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    field.copy_from_slice(&(sum as u16).to_be_bytes());
}
