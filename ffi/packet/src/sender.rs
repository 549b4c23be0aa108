//! Bursts of frames to the kernel (`sendmmsg`, `PACKET_VNET_HDR`).

use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};

use crate::Interface;
use crate::socket::{Socket, check};

/// Frames that one call to [`Sender::send`] takes at most.
pub const BURST: usize = 32;

/// Bytes that may be on their way through the kernel: those of all bursts until the NIC sent them.
const BUFFER: i32 = 16 << 20;

/// Where TCP has its checksum.
const TCP_CHECKSUM: u16 = 16;

// <linux/virtio_net.h>, VIRTIO 1.2, 5.1.6.
const NEEDS_CHECKSUM: u8 = 1;
const SEGMENTS_OF_IPV4: u8 = 1;
const SEGMENTS_OF_IPV6: u8 = 4;

/// What the kernel is to do with a frame: the header before it (`struct virtio_net_hdr`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload([u8; 10]);

impl Offload {
    /// Nothing: the frame is sent as it is.
    pub const NONE: Self = Self([0; 10]);

    /// Complete the checksum of the TCP header at `tcp`, bytes from the start of the frame; in its field is the sum of
    /// the pseudo-header, not inverted.
    pub fn checksum(tcp: u16) -> Self {
        Self::new(NEEDS_CHECKSUM, 0, 0, 0, tcp)
    }

    /// Cut the frame into segments of `mss` bytes of payload, each with the headers (`headers` bytes up to the
    /// payload, TCP's at `tcp`), which the kernel numbers and completes. The pseudo-header's sum is that of all.
    pub fn segment(ipv6: bool, tcp: u16, headers: u16, mss: u16) -> Self {
        let kind = if ipv6 {
            SEGMENTS_OF_IPV6
        } else {
            SEGMENTS_OF_IPV4
        };
        Self::new(NEEDS_CHECKSUM, kind, headers, mss, tcp)
    }

    fn new(flags: u8, kind: u8, headers: u16, size: u16, start: u16) -> Self {
        let mut bytes = [flags, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        // In the byte order of the machine.
        for (field, value) in
            bytes[2..]
                .chunks_exact_mut(2)
                .zip([headers, size, start, TCP_CHECKSUM])
        {
            field.copy_from_slice(&value.to_ne_bytes());
        }
        Self(bytes)
    }

    /// As the kernel reads it, in front of the frame.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Sends frames over an interface.
pub struct Sender {
    socket: Socket,
}

impl Sender {
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_RAW`; as for `socket`.
    pub fn open(interface: &Interface) -> io::Result<Self> {
        let socket = Socket::new()?;
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        socket.force(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, BUFFER)?;
        // The kernel finds each frame's protocol in the frame.
        socket.bind(interface, 0)?;
        Ok(Self { socket })
    }

    /// Sends up to [`BURST`] frames, each of its parts in order, of which the first is an [`Offload`]. Returns how many
    /// were sent, one at least. Their bytes are copied: the parts are the caller's again.
    ///
    /// # Errors
    ///
    /// Why the first frame was not sent. `EAGAIN`: there is no room now, it may be sent later. `ENOBUFS`: a queue for
    /// the interface is full, and dropped it, or the last segments of it. `ENETDOWN`, `ENXIO`: the interface is switched off, or gone.
    /// `EMSGSIZE`: the frame is longer than the MTU lets it be. `EINVAL`: its offload makes no sense.
    pub fn send(&self, frames: &[&[IoSlice<'_>]]) -> io::Result<usize> {
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BURST];
        let n = frames.len().min(BURST);
        for (message, parts) in messages.iter_mut().zip(frames) {
            // SAFETY: plain data; zero is a good value of every field.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            // An `IoSlice` is an `iovec`, by its documentation; the kernel only reads.
            header.msg_hdr.msg_iov = parts.as_ptr().cast::<libc::iovec>().cast_mut();
            header.msg_hdr.msg_iovlen = parts.len();
            message.write(header);
        }
        let messages = messages.as_mut_ptr().cast();
        // SAFETY: `n` messages were written, whose parts are borrowed until the call returns.
        let sent =
            unsafe { libc::sendmmsg(self.socket.fd(), messages, n as u32, libc::MSG_DONTWAIT) };
        check(sent).map(|sent| sent as usize)
    }
}
