//! Frames out of a ring that the kernel fills (`PACKET_RX_RING`, `TPACKET_V2`; the kernel's
//! Documentation/networking/packet_mmap.rst).
//!
//! A frame that is longer than the MTU lets it be is one that the kernel or the NIC joined (GRO, LRO), or that another
//! program on this machine left to a NIC to cut (TSO), which is not there. Such a frame does not fit into its slot; the
//! kernel leaves it whole in the socket's queue (`PACKET_COPY_THRESH`), and it is read from there.

use std::io::{self, IoSliceMut};
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{tpacket_req, tpacket2_hdr};

use crate::Interface;
use crate::socket::{EVERYTHING, Socket, check};

/// Bytes of the pieces of memory that the kernel makes the ring of.
const BLOCK: usize = 256 << 10;
/// Where a frame begins in its slot, at most: headers of the ring, and 16 bytes for those of Ethernet.
const BEFORE: usize = 80;
const VLAN_TAG: usize = 4;
/// Bytes of memory that the kernel may hold for frames longer than a slot.
const QUEUE: i32 = 128 << 20;
const ETHERNET: usize = 14;

/// Slots of a ring and their size, laid out in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    slot: usize,
    slots_in_block: usize,
    blocks: usize,
}

impl Shape {
    /// For packets of at most `mtu` bytes: as many frames as `bytes` hold, at most about `frames`. A block of 256 KiB at
    /// least.
    pub fn new(bytes: usize, frames: usize, mtu: u16) -> Self {
        // A multiple of a cache line, which is one of TPACKET_ALIGNMENT (16), too.
        let slot = (BEFORE + ETHERNET + VLAN_TAG + usize::from(mtu)).next_multiple_of(64);
        let slots_in_block = BLOCK / slot;
        Self {
            slot,
            slots_in_block,
            blocks: (frames.div_ceil(slots_in_block)).min(bytes / BLOCK).max(1),
        }
    }

    /// How many frames the ring holds.
    pub fn frames(&self) -> usize {
        self.slots_in_block * self.blocks
    }

    fn bytes(&self) -> usize {
        BLOCK * self.blocks
    }

    /// Where the slot after that of `place` is. Slots do not cross blocks.
    fn after(&self, place: Place) -> Place {
        let Place { block, slot } = place;
        if slot + 1 < self.slots_in_block {
            Place {
                block,
                slot: slot + 1,
            }
        } else if block + 1 < self.blocks {
            Place {
                block: block + 1,
                slot: 0,
            }
        } else {
            Place::default()
        }
    }

    fn offset(&self, place: Place) -> usize {
        place.block * BLOCK + place.slot * self.slot
    }
}

/// A slot: the block it is in, and its number there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    block: usize,
    slot: usize,
}

/// Receives what an interface does, frames of every protocol; not what the machine sends over it.
pub struct Receiver {
    ring: NonNull<u8>,
    shape: Shape,
    /// The slot that the kernel fills next.
    next: Place,
    socket: Socket,
}

// SAFETY: the ring is this value's alone, but for the kernel.
unsafe impl Send for Receiver {}

impl Receiver {
    /// Several receivers of one interface, one for each shard: what belongs to one flow goes to one of them.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_RAW`, `ENOMEM` if there is no memory for the rings; as for `socket` and `mmap`.
    pub fn open(interface: &Interface, shape: Shape, receivers: usize) -> io::Result<Vec<Self>> {
        let all = (0..receivers)
            .map(|_| Self::prepare(shape))
            .collect::<io::Result<Vec<_>>>()?;
        let mut group = None;
        for receiver in &all {
            receiver.socket.bind(interface, EVERYTHING)?;
            if receivers > 1 {
                group = Some(receiver.join(group)?);
            }
        }
        Ok(all)
    }

    fn prepare(shape: Shape) -> io::Result<Self> {
        let socket = Socket::new()?;
        let set = |option, value| socket.set(libc::SOL_PACKET, option, value);
        set(
            libc::PACKET_VERSION,
            libc::tpacket_versions::TPACKET_V2 as i32,
        )?;
        // Kernels before 4.20 do not know this; then a frame that the machine sends itself is received, too.
        let _ = set(libc::PACKET_IGNORE_OUTGOING, 1);
        set(libc::PACKET_COPY_THRESH, 1)?;
        socket.force(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, QUEUE)?;
        let request = tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: shape.blocks as u32,
            tp_frame_size: shape.slot as u32,
            tp_frame_nr: shape.frames() as u32,
        };
        socket.set(libc::SOL_PACKET, libc::PACKET_RX_RING, request)?;
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
        );
        // SAFETY: a new mapping of the ring just made, of its size.
        let ring = unsafe {
            libc::mmap(
                ptr::null_mut(),
                shape.bytes(),
                protection,
                flags,
                socket.fd(),
                0,
            )
        };
        if ring == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ring = NonNull::new(ring.cast()).expect("the kernel maps nothing at 0");
        Ok(Self {
            ring,
            shape,
            next: Place::default(),
            socket,
        })
    }

    /// Makes this one of a group among which the kernel spreads flows by hash. Returns the group.
    fn join(&self, group: Option<u16>) -> io::Result<u16> {
        // A group does not do what PACKET_IGNORE_OUTGOING asks of its members, unless it is asked, too.
        let mode = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
        let unique = libc::PACKET_FANOUT_FLAG_UNIQUEID;
        // The kernel chooses a number that no other group has.
        let value = group.map_or((mode | unique) << 16, |id| mode << 16 | u32::from(id));
        self.socket
            .set(libc::SOL_PACKET, libc::PACKET_FANOUT, value)?;
        Ok(self.socket.get::<u32>(libc::PACKET_FANOUT)? as u16)
    }

    /// Receives multicast frames, too, whatever the groups: those of IPv6's neighbor discovery.
    ///
    /// # Errors
    ///
    /// As for `setsockopt`.
    pub fn hear_multicast(&self, interface: &Interface) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: interface.index(),
            mr_type: libc::PACKET_MR_ALLMULTI as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        (self.socket).set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, request)
    }

    /// How many frames there are, up to `max`.
    #[inline]
    pub fn waiting(&self, max: usize) -> usize {
        let (mut n, mut place) = (0, self.next);
        while n < max && self.status(place) != 0 {
            place = self.shape.after(place);
            n += 1;
        }
        n
    }

    /// The oldest frame, if there is one. Its slot goes back to the kernel with it.
    #[inline]
    pub fn receive(&mut self) -> Option<Frame<'_>> {
        let status = self.status(self.next);
        (status != 0).then(|| Frame {
            head: self.head(self.next),
            receiver: self,
            status,
        })
    }

    /// Frames that the kernel dropped since this was last asked, because the ring was full.
    ///
    /// # Errors
    ///
    /// As for `getsockopt`.
    pub fn take_dropped(&self) -> io::Result<u32> {
        let [_received, dropped] = self.socket.get::<[u32; 2]>(libc::PACKET_STATISTICS)?;
        Ok(dropped)
    }

    /// 0 while the slot is the kernel's (`TP_STATUS_KERNEL`).
    #[inline]
    fn status(&self, place: Place) -> u32 {
        self.status_word(place).load(Ordering::Acquire)
    }

    #[inline]
    fn status_word(&self, place: Place) -> &AtomicU32 {
        // SAFETY: in the mapping, aligned, and only ever changed atomically.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.head(place).as_ptr()).tp_status) }
    }

    #[inline]
    fn head(&self, place: Place) -> NonNull<tpacket2_hdr> {
        // SAFETY: in the mapping; slots are as aligned as the header.
        unsafe { self.ring.add(self.shape.offset(place)).cast() }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `prepare`; no frame is borrowed from it.
        let code = unsafe { libc::munmap(self.ring.as_ptr().cast(), self.shape.bytes()) };
        debug_assert!(check(code).is_ok(), "the mapping is ours");
    }
}

/// A frame that was received.
pub struct Frame<'a> {
    head: NonNull<tpacket2_hdr>,
    receiver: &'a mut Receiver,
    status: u32,
}

impl Frame<'_> {
    /// How many bytes it has, from the Ethernet header on, without FCS.
    #[inline]
    #[allow(clippy::len_without_is_empty)] // none is
    pub fn len(&self) -> usize {
        // SAFETY: the slot is ours, and the kernel filled its header.
        (unsafe { (*self.head.as_ptr()).tp_len }) as usize
    }

    /// Copies the frame into `parts`, one after the other, which together have as many bytes; whether it is whole there.
    /// A long one is lost if the kernel had no memory to keep it.
    #[inline]
    pub fn copy_to(mut self, parts: &mut [IoSliceMut<'_>]) -> bool {
        let mut bytes = self.bytes();
        if bytes.len() < self.len() {
            return self.read_queued(parts);
        }
        for part in parts {
            let (now, later) = bytes.split_at(part.len().min(bytes.len()));
            part[..now.len()].copy_from_slice(now);
            bytes = later;
        }
        bytes.is_empty()
    }

    /// What is in the ring of it.
    fn bytes(&self) -> &[u8] {
        let head = self.head;
        // SAFETY: the slot is ours until `drop`, the kernel wrote `tp_snaplen` bytes at `tp_mac`, inside the slot.
        unsafe {
            let (at, len) = ((*head.as_ptr()).tp_mac, (*head.as_ptr()).tp_snaplen);
            debug_assert!(usize::from(at) + len as usize <= self.receiver.shape.slot);
            std::slice::from_raw_parts(head.cast::<u8>().add(at.into()).as_ptr(), len as usize)
        }
    }

    /// Reads a frame that is in the socket's queue: the oldest there, for frames are read in their order.
    #[inline(never)]
    fn read_queued(&mut self, parts: &mut [IoSliceMut<'_>]) -> bool {
        if self.status & libc::TP_STATUS_COPY == 0 {
            return false;
        }
        self.status &= !libc::TP_STATUS_COPY;
        // SAFETY: plain data; zero is a good value of every field.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        // An `IoSliceMut` is an `iovec`, by its documentation.
        message.msg_iov = parts.as_mut_ptr().cast();
        message.msg_iovlen = parts.len();
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: the parts are borrowed during the call, and the kernel writes inside them. With no part it drops the
        // frame.
        let len = unsafe { libc::recvmsg(self.receiver.socket.fd(), &mut message, flags) };
        usize::try_from(len)
            .is_ok_and(|len| len == self.len() && message.msg_flags & libc::MSG_TRUNC == 0)
    }

    /// Whether the data are right, by the checksum of TCP or UDP that the NIC verified; or because they come from
    /// this machine, and the sum is left to a NIC that is not there.
    #[inline]
    pub fn is_verified(&self) -> bool {
        self.status & (libc::TP_STATUS_CSUM_VALID | libc::TP_STATUS_CSUMNOTREADY) != 0
    }

    /// The VLAN tag that the kernel took out of the frame.
    #[inline]
    pub fn vlan(&self) -> Option<u16> {
        (self.status & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
            // SAFETY: the slot is ours, and the kernel filled its header.
            unsafe { (*self.head.as_ptr()).tp_vlan_tci }
        })
    }
}

impl Drop for Frame<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.status & libc::TP_STATUS_COPY != 0 {
            // Else the next one would be taken for this.
            self.read_queued(&mut []);
        }
        // Nobody has a reference into the slot any more: all were borrowed from this value.
        let receiver = &mut *self.receiver;
        receiver
            .status_word(receiver.next)
            .store(0, Ordering::Release);
        receiver.next = receiver.shape.after(receiver.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_their_frames_and_keep_to_their_blocks() {
        for mtu in [68, 1500, 9000, u16::MAX] {
            for frames in [1, 2, 100, 4096] {
                let shape = Shape::new(64 << 20, frames, mtu);
                assert!(shape.frames() >= frames.min((64 << 20) / (1 << 17)));
                assert!(Shape::new(1 << 20, frames, mtu).bytes() <= 1 << 20);
                assert!(shape.slot >= BEFORE + ETHERNET + VLAN_TAG + usize::from(mtu));
                assert_eq!(shape.slot % 16, 0);
                let (mut end, mut place) = (0, Place::default());
                for _ in 0..shape.frames() {
                    let begin = shape.offset(place);
                    assert!(begin >= end);
                    end = begin + shape.slot;
                    assert_eq!(begin / BLOCK, (end - 1) / BLOCK);
                    place = shape.after(place);
                }
                assert_eq!(place, Place::default(), "a ring");
                assert!(end <= shape.bytes());
            }
        }
    }
}
