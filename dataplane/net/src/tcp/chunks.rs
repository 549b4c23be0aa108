//! The shard's pool of queued chunks, and the send queues that are lists in it.
//!
//! A chunk stays where it was put until the peer has acknowledged its last
//! byte, so a retransmission reads the same pages (row Z10).

use collections::{IndexTable, TableIndex, table_index};
use pages::{Chunk, prefetch};

use crate::frame::{Piece, TxFrame};
use crate::util::list::following;

table_index! {
    /// A chunk that is queued.
    struct ChunkIndex(u32);
}

struct Node {
    chunk: Option<Chunk>,
    next: ChunkIndex,
}

/// Every node of every send queue.
pub(crate) struct ChunkPool {
    nodes: IndexTable<ChunkIndex, Node>,
    free: ChunkIndex,
    free_count: usize,
}

/// A place in a send queue: a byte of a chunk, or the end of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    node: ChunkIndex,
    offset: u32,
}

impl Place {
    pub(crate) const END: Place = Place {
        node: ChunkIndex::NONE,
        offset: 0,
    };
}

impl ChunkPool {
    pub(crate) fn new(count: usize) -> Self {
        let node = |i: ChunkIndex| Node {
            chunk: None,
            next: following(i, count),
        };
        Self {
            nodes: IndexTable::new(count, node),
            free: ChunkIndex::new(0),
            free_count: count,
        }
    }

    pub(crate) fn free_count(&self) -> usize {
        self.free_count
    }

    /// Asks for the memory of the first chunk of `queue`.
    #[inline]
    pub(crate) fn prefetch(&self, queue: &SendQueue) {
        if let Some(node) = self.nodes.get(queue.head) {
            prefetch(node);
        }
    }

    fn len(&self, node: ChunkIndex) -> u32 {
        let chunk = self.nodes[node].chunk.as_ref();
        chunk.map_or(0, |chunk| chunk.len() as u32)
    }

    /// The place `bytes` further on.
    pub(crate) fn advance(&self, place: Place, bytes: u32) -> Place {
        let mut place = place;
        let mut left = place.offset + bytes;
        while place.node != ChunkIndex::NONE {
            let len = self.len(place.node);
            if left < len {
                place.offset = left;
                return place;
            }
            left -= len;
            place.node = self.nodes[place.node].next;
        }
        Place::END
    }

    /// How many of the `len` bytes from `place` on a port takes in one frame: in
    /// [`TxFrame::PIECES_MAX`] pieces, and in `buffers` buffers.
    pub(crate) fn fitting(&self, place: Place, len: u32, buffers: usize) -> u32 {
        let (mut used, mut by_value, mut taken) = (1, true, 0);
        for piece in self.run(place, len).take(TxFrame::PIECES_MAX) {
            let inline = matches!(piece, Piece::Inline(_));
            used += usize::from(!(inline && by_value));
            if used > buffers {
                break;
            }
            by_value = inline;
            taken += piece.len() as u32;
        }
        taken
    }

    /// The `len` bytes from `place` on.
    pub(crate) fn run(&self, place: Place, len: u32) -> ChunkRun<'_> {
        ChunkRun {
            pool: self,
            place,
            left: len as usize,
        }
    }
}

/// One connection's send queue: every byte from SND.UNA on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendQueue {
    head: ChunkIndex,
    tail: ChunkIndex,
    /// Bytes of the head that are acknowledged.
    acked: u32,
    chunks: u32,
    bytes: u32,
    /// The first byte not sent yet.
    unsent: Place,
}

impl SendQueue {
    pub(crate) const EMPTY: SendQueue = SendQueue {
        head: ChunkIndex::NONE,
        tail: ChunkIndex::NONE,
        acked: 0,
        chunks: 0,
        bytes: 0,
        unsent: Place::END,
    };

    /// Chunks queued.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks as usize
    }

    /// Bytes queued, sent and not sent.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Where the bytes that were never sent begin.
    pub(crate) fn unsent(&self) -> Place {
        self.unsent
    }

    /// Puts a chunk that is not empty at the end; gives it back if the pool is empty.
    pub(crate) fn push(&mut self, pool: &mut ChunkPool, chunk: Chunk) -> Result<(), Chunk> {
        let index = pool.free;
        let len = chunk.len() as u32;
        let Some(node) = pool.nodes.get_mut(index) else {
            return Err(chunk);
        };
        pool.free = node.next;
        pool.free_count -= 1;
        *node = Node {
            chunk: Some(chunk),
            next: ChunkIndex::NONE,
        };
        match self.tail {
            ChunkIndex::NONE => self.head = index,
            tail => pool.nodes[tail].next = index,
        }
        self.tail = index;
        self.chunks += 1;
        self.bytes += len;
        if self.unsent == Place::END {
            self.unsent = Place {
                node: index,
                offset: 0,
            };
        }
        Ok(())
    }

    /// `bytes` of the unsent ones have been sent now.
    #[inline]
    pub(crate) fn sent(&mut self, pool: &ChunkPool, bytes: u32) {
        self.unsent = pool.advance(self.unsent, bytes);
    }

    /// The peer has the first `bytes`: chunks that it has all of are dropped.
    #[inline]
    pub(crate) fn ack(&mut self, pool: &mut ChunkPool, bytes: u32) {
        debug_assert!(bytes <= self.bytes);
        self.bytes -= bytes;
        self.acked += bytes;
        while self.head != ChunkIndex::NONE {
            let len = pool.len(self.head);
            if self.acked < len {
                break;
            }
            self.acked -= len;
            self.pop(pool);
        }
    }

    /// Drops every chunk.
    pub(crate) fn clear(&mut self, pool: &mut ChunkPool) {
        while self.head != ChunkIndex::NONE {
            self.pop(pool);
        }
        *self = Self::EMPTY;
    }

    fn pop(&mut self, pool: &mut ChunkPool) {
        let node = &mut pool.nodes[self.head];
        let next = node.next;
        node.chunk = None;
        node.next = pool.free;
        pool.free = self.head;
        pool.free_count += 1;
        self.head = next;
        self.chunks -= 1;
        if next == ChunkIndex::NONE {
            self.tail = ChunkIndex::NONE;
        }
    }
}

/// A run of bytes in a send queue: the payload of one segment.
#[derive(Clone)]
pub(crate) struct ChunkRun<'a> {
    pool: &'a ChunkPool,
    place: Place,
    left: usize,
}

impl<'a> Iterator for ChunkRun<'a> {
    type Item = Piece<'a>;

    #[inline]
    fn next(&mut self) -> Option<Piece<'a>> {
        if self.left == 0 {
            return None;
        }
        let node = self.pool.nodes.get(self.place.node)?;
        let chunk = node.chunk.as_ref()?;
        let piece = Piece::of_chunk(chunk, self.place.offset as usize, self.left);
        self.place = Place {
            node: node.next,
            offset: 0,
        };
        self.left -= piece.len();
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pages::Inline;
    use proptest::prelude::*;

    fn chunk(bytes: &[u8]) -> Chunk {
        Chunk::Inline(Inline::new(bytes).unwrap())
    }

    proptest! {
        /// Against a vector of bytes: pushing, sending and acknowledging in any order.
        #[test]
        fn a_queue_is_a_stream(ops in prop::collection::vec((0u8..3, 1u32..60), 1..120)) {
            let mut pool = ChunkPool::new(20);
            let mut queue = SendQueue::EMPTY;
            let (mut stream, mut acked, mut sent, mut next) = (Vec::new(), 0usize, 0usize, 0u8);
            for (op, n) in ops {
                match op {
                    0 => {
                        let bytes: Vec<u8> = (0..n.min(47)).map(|_| { next = next.wrapping_add(1); next }).collect();
                        let pushed = queue.push(&mut pool, chunk(&bytes)).is_ok();
                        if pushed {
                            stream.extend_from_slice(&bytes);
                        } else {
                            prop_assert_eq!(pool.free_count(), 0);
                            next = next.wrapping_sub(bytes.len() as u8);
                        }
                    }
                    1 => {
                        let n = (n as usize).min(stream.len() - sent);
                        let run: Vec<u8> = pool.run(queue.unsent(), n as u32).flat_map(|p| p.bytes().to_vec()).collect();
                        prop_assert_eq!(&run[..], &stream[sent..sent + n]);
                        queue.sent(&pool, n as u32);
                        sent += n;
                    }
                    _ => {
                        let n = (n as usize).min(sent - acked);
                        queue.ack(&mut pool, n as u32);
                        acked += n;
                    }
                }
                prop_assert_eq!(queue.bytes() as usize, stream.len() - acked);
                prop_assert_eq!(pool.free_count() + queue.chunks(), 20);
            }
            queue.clear(&mut pool);
            prop_assert_eq!(pool.free_count(), 20);
        }
    }
}
