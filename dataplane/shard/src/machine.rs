//! What a shard needs of the world.

use block::{Buffers, Device};
use events::Ticks;
use net::{MacAddress, RxFrame, Transmit};

/// The world of one shard: time, memory, ports and devices.
pub trait Machine {
    /// What time is counted by.
    type Ticks: Ticks;
    /// Where frames and pages lie.
    type Memory: Memory;
    /// A queue pair of a port.
    type Port: Port<Memory = Self::Memory>;
    /// A way to a device.
    type Device: Device;

    /// Devices belong to the calling thread from now on, until another shard
    /// that shares the thread enters.
    fn enter(&self);

    /// Lets what drives devices work; whether there was work. The shard has entered.
    fn poll(&mut self) -> bool;
}

/// A shard's memory.
pub trait Memory {
    /// The pools that requests draw on.
    fn buffers(&self) -> &Buffers;

    /// Lends every receive cluster that became free to the ports again.
    fn replenish(&mut self);
}

/// A shard's queue pair of a port.
pub trait Port: Transmit {
    /// The memory that frames are received into.
    type Memory: Memory;

    /// Looks for a burst of frames; how many to [`Port::frame`] through.
    fn poll(&mut self, memory: &Self::Memory) -> usize;

    /// The first bytes of each of the last burst's `frames` frames, where they can be had
    /// before the frame is taken.
    fn heads(&self, frames: usize) -> impl Iterator<Item = &[u8]>;

    /// Gives frame `i` of the last burst, by reference, to `receive`. Each is
    /// asked for once, in order.
    fn frame(&mut self, i: usize, memory: &Self::Memory, receive: impl FnOnce(RxFrame<'_>));

    /// Hands every pending frame to the port and takes back what it is done with.
    fn flush(&mut self);

    /// Takes back every reference the port holds; it is closed.
    fn stop(&mut self);

    /// The port's device is another one since this was last asked: its Ethernet address.
    /// Most have one device for good.
    fn replaced(&mut self) -> Option<MacAddress> {
        None
    }

    /// What became of frames.
    fn counters(&self) -> &PortCounters;
}

events::counters! {
    /// Frames that never reached the stack, or never left it, by reason.
    pub struct PortCounters {
        /// Frames taken from the NIC.
        frames_received,
        /// Of those, frames that lay in several clusters.
        frames_scattered,
        /// Frames the NIC took.
        frames_sent,
        /// Frames received whose TCP or UDP checksum the NIC found right.
        checksums_verified,
        /// Frames sent whose checksums the NIC computes.
        checksums_computed,
        /// Frames sent that the NIC cuts into segments.
        frames_segmented,
        /// Frames outside our clusters that no cluster was free to copy into.
        @drop drop_no_cluster,
        /// Frames of more segments than any can have; joined ones (GRO) that the kernel had no memory for.
        @drop drop_too_long,
        /// Frames that the kernel dropped because our ring was full, of a port over one of its interfaces.
        @drop drop_ring_full,
        /// Frames that the kernel did not send, of such a port: the interface is off, or its queue stays full.
        @drop drop_refused,
        /// Times a frame waited because the pools of transmit buffers were dry.
        transmit_no_buffer,
        /// Times a frame waited because the NIC's ring was full, or the kernel's queue.
        transmit_ring_full,
    }
}
