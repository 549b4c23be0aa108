//! A NIC with a queue pair for each shard, and a shard's end of one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use net::rss::Steering;
use net::{Piece, PortFull, RxFrame, Transmit, TxFrame, TxOffload, Verdict};
use pages::Slice;
use shard::PortCounters;

use crate::frame::{self, Frame};
use crate::memory::Memory;

/// Frames of one burst.
const BURST: usize = 32;

/// What a NIC is and does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NicConfig {
    /// Descriptors of a receive ring: frames beyond them are dropped.
    pub(crate) receive_ring: usize,
    /// Descriptors of a transmit ring: frames beyond them wait in the stack.
    pub(crate) transmit_ring: usize,
    /// It looks at the checksums of what it receives.
    pub(crate) verifies: bool,
    /// Where in its first cluster a frame starts.
    pub(crate) shift: usize,
    /// The queue that gets all frames that are not TCP.
    pub(crate) other_queue: usize,
}

/// Rings between the wire and a shard.
#[derive(Default)]
pub(crate) struct Queue {
    received: VecDeque<Frame>,
    sent: Vec<Frame>,
}

/// The NIC: its queues, by shard.
pub(crate) struct Nic {
    config: NicConfig,
    steering: Steering,
    queues: Vec<Rc<RefCell<Queue>>>,
}

impl Nic {
    /// `steering` says where flows go; its own queue does not matter.
    pub(crate) fn new(config: NicConfig, steering: Steering, queues: usize) -> Self {
        Self {
            config,
            steering,
            queues: (0..queues).map(|_| Rc::default()).collect(),
        }
    }

    /// A frame came; the queue that it was put into, if it had room.
    pub(crate) fn receive(&self, frame: Frame) -> Option<usize> {
        let queue = match frame.flow() {
            Some((source, destination)) if self.queues.len() > 1 => {
                self.steering.queue_of(source, destination).index()
            }
            _ => self.config.other_queue % self.queues.len(),
        };
        let ring = &mut self.queues[queue].borrow_mut().received;
        (ring.len() < self.config.receive_ring).then(|| {
            ring.push_back(frame);
            queue
        })
    }

    /// What a shard has sent since it was last asked.
    pub(crate) fn take_sent(&self, queue: usize) -> Vec<Frame> {
        std::mem::take(&mut self.queues[queue].borrow_mut().sent)
    }

    /// Empties all rings: the machine is off.
    pub(crate) fn clear(&self) {
        for queue in &self.queues {
            *queue.borrow_mut() = Queue::default();
        }
    }

    /// A shard's end.
    pub(crate) fn port(&self, queue: usize) -> Port {
        Port {
            config: self.config,
            queue: Rc::clone(&self.queues[queue]),
            burst: VecDeque::new(),
            pending: Vec::new(),
            counters: PortCounters::default(),
        }
    }
}

/// A frame in the shard's clusters.
struct Received {
    head: Slice,
    tail: Vec<Slice>,
    verdict: Verdict,
}

/// A frame to be sent: the NIC refers to its payload until it is flushed.
struct Pending {
    headers: Vec<u8>,
    payload: Vec<Part>,
    offload: TxOffload,
}

enum Part {
    Bytes(Vec<u8>),
    Slice(Slice),
}

/// A shard's queue pair.
pub struct Port {
    config: NicConfig,
    queue: Rc<RefCell<Queue>>,
    burst: VecDeque<Received>,
    pending: Vec<Pending>,
    counters: PortCounters,
}

impl Port {
    /// Puts a frame into clusters, as many as it takes; `None` if there are too few.
    fn place(&self, frame: &Frame, memory: &Memory) -> Option<Received> {
        let clusters = &shard::Memory::buffers(memory).clusters;
        let size = clusters.cluster_size();
        let shift = self.config.shift;
        let count = (frame.bytes.len() + shift).div_ceil(size);
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            match memory.take() {
                Some(cluster) => taken.push(cluster),
                None => {
                    taken
                        .into_iter()
                        .for_each(|cluster| memory.put_back(cluster));
                    return None;
                }
            }
        }
        let mut rest = &frame.bytes[..];
        let mut slices = Vec::with_capacity(count);
        for (i, index) in taken.into_iter().enumerate() {
            let start = if i == 0 { shift } else { 0 };
            let len = rest.len().min(size - start);
            let mut fresh = clusters.adopt_fresh(index);
            fresh[start..start + len].copy_from_slice(&rest[..len]);
            let cluster = fresh.freeze_filled(start + len);
            slices.push(cluster.slice(start..start + len));
            rest = &rest[len..];
        }
        let tail = slices.split_off(1);
        Some(Received {
            head: slices.remove(0),
            tail,
            verdict: match (self.config.verifies, frame.is_broken) {
                (false, _) => Verdict::Unknown,
                (true, false) => Verdict::Good,
                (true, true) => Verdict::Bad,
            },
        })
    }
}

impl Transmit for Port {
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull> {
        if self.pending.len() >= self.config.transmit_ring {
            self.counters.transmit_ring_full += 1;
            return Err(PortFull);
        }
        let part = |piece: Piece<'_>| match piece {
            Piece::Inline(bytes) => Part::Bytes(bytes.to_vec()),
            Piece::Slice {
                cluster,
                offset,
                len,
            } => Part::Slice(cluster.clone().slice(offset..offset + len)),
        };
        self.pending.push(Pending {
            headers: frame.headers.to_vec(),
            payload: frame.payload.pieces().map(part).collect(),
            offload: frame.offload,
        });
        Ok(())
    }
}

impl shard::Port for Port {
    type Memory = Memory;

    fn poll(&mut self, memory: &Memory) -> usize {
        let mut queue = self.queue.borrow_mut();
        self.burst.clear();
        while self.burst.len() < BURST
            && let Some(frame) = queue.received.pop_front()
        {
            match self.place(&frame, memory) {
                Some(received) => {
                    self.counters.frames_received += 1;
                    self.counters.frames_scattered += u64::from(!received.tail.is_empty());
                    self.burst.push_back(received);
                }
                None => self.counters.drop_no_cluster += 1,
            }
        }
        self.burst.len()
    }

    fn heads(&self, _: usize) -> impl Iterator<Item = &[u8]> {
        self.burst.iter().map(|received| received.head.bytes())
    }

    fn frame(&mut self, _: usize, _: &Memory, receive: impl FnOnce(RxFrame<'_>)) {
        let Some(received) = self.burst.pop_front() else {
            return;
        };
        receive(RxFrame {
            head: received.head,
            tail: &received.tail,
            ip_checksum: received.verdict,
            l4_checksum: received.verdict,
            vlan: None,
        });
    }

    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut queue = self.queue.borrow_mut();
        for frame in self.pending.drain(..) {
            self.counters.frames_sent += 1;
            let mut payload = Vec::new();
            for part in &frame.payload {
                payload.extend_from_slice(match part {
                    Part::Bytes(bytes) => bytes,
                    Part::Slice(slice) => slice.bytes(),
                });
            }
            frame::complete(&frame.headers, &payload, &frame.offload, |bytes| {
                queue.sent.push(Frame::new(bytes));
            });
        }
    }

    fn stop(&mut self) {
        self.burst.clear();
        self.pending.clear();
    }

    fn counters(&self) -> &PortCounters {
        &self.counters
    }
}
