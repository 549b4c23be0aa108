//! Frames over an interface of the kernel: packet sockets ([packet(7)]), safe to use.
//!
//! A [`Receiver`] reads frames in place, from a ring that the kernel fills. A [`Sender`] hands the kernel bursts of
//! frames, gathered from where their bytes lie; with an [`Offload`] the kernel completes the TCP checksum, and cuts one
//! frame of up to 64 KiB into segments, as the last thing before the interface's driver or in the NIC itself. That is
//! what the kernel's own TCP does: a turn of the network stack for many segments, not for each.
//!
//! Both belong to the network namespace of the thread that makes them, and need `CAP_NET_RAW`.
//!
//! [packet(7)]: https://man7.org/linux/man-pages/man7/packet.7.html
#![allow(unsafe_code)]

mod interface;
mod receiver;
mod sender;
mod socket;

pub use interface::{Interface, InterfaceState};
pub use receiver::{Frame, Receiver, Shape};
pub use sender::{BURST, Offload, Sender};
