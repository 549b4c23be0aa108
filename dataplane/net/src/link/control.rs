//! The queue of frames that belong to no connection: ARP, neighbour discovery,
//! ICMP, resets, SYN cookies.
//!
//! Bounded: what finds no room is counted and dropped, as the network would.

use pages::Slice;

use crate::frame::{Payload, PortFull, Transmit, TxFrame, TxOffload};
use crate::link::emit::Headers;

const FRAMES: usize = 128;
/// A ping of 9000 bytes lies in up to five clusters of 2 KB.
const SLICES: usize = 6;

struct Frame {
    headers: Headers,
    slices: [Option<Slice>; SLICES],
}

/// A ring of frames.
pub(crate) struct ControlQueue {
    frames: Box<[Frame]>,
    head: usize,
    len: usize,
    /// Slices of the frame being sent, side by side.
    scratch: Vec<Slice>,
}

impl ControlQueue {
    pub(crate) fn new() -> Self {
        let frame = || Frame {
            headers: Headers::EMPTY,
            slices: [const { None }; SLICES],
        };
        Self {
            frames: (0..FRAMES).map(|_| frame()).collect(),
            head: 0,
            len: 0,
            scratch: Vec::with_capacity(SLICES),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues a frame of headers alone. Whether there was room.
    pub(crate) fn push(&mut self, headers: Headers) -> bool {
        self.push_with(headers, &mut std::iter::empty())
    }

    /// Queues a frame with a payload by reference. Whether there was room.
    pub(crate) fn push_with(
        &mut self,
        headers: Headers,
        payload: &mut dyn Iterator<Item = Slice>,
    ) -> bool {
        if self.len == FRAMES {
            return false;
        }
        let at = (self.head + self.len) % FRAMES;
        let frame = &mut self.frames[at];
        frame.headers = headers;
        for slot in &mut frame.slices {
            *slot = payload.next();
        }
        if payload.next().is_some() {
            frame.slices = [const { None }; SLICES];
            return false;
        }
        self.len += 1;
        true
    }

    /// Sends frames until none is left; `sent` is told of each that left.
    pub(crate) fn transmit(
        &mut self,
        port: &mut impl Transmit,
        mut sent: impl FnMut(&TxFrame<'_>),
    ) -> Result<(), PortFull> {
        while self.len > 0 {
            let frame = &mut self.frames[self.head];
            self.scratch.clear();
            self.scratch.extend(frame.slices.iter().flatten().cloned());
            let out = || TxFrame {
                headers: frame.headers.bytes(),
                payload: Payload::slices(&self.scratch),
                offload: TxOffload::default(),
            };
            if let Err(full) = port.transmit(out()) {
                self.scratch.clear();
                return Err(full);
            }
            sent(&out());
            self.scratch.clear();
            frame.slices = [const { None }; SLICES];
            self.head = (self.head + 1) % FRAMES;
            self.len -= 1;
        }
        Ok(())
    }
}
