//! The shard's pool of queued chunks: each connection's send queue is a list in it.
//!
//! A chunk stays where it was put until the peer has acknowledged its last
//! byte, so a retransmission reads the same pages (row Z10).

use pages::Chunk;

use crate::frame::Piece;

/// No node.
pub(crate) const NONE: u32 = u32::MAX;

struct Node {
    chunk: Option<Chunk>,
    next: u32,
}

/// Every node of every send queue.
pub(crate) struct ChunkPool {
    nodes: Box<[Node]>,
    free: u32,
    free_count: usize,
}

impl ChunkPool {
    pub(crate) fn new(count: usize) -> Self {
        let nodes = (0..count as u32)
            .map(|i| Node {
                chunk: None,
                next: if i + 1 == count as u32 { NONE } else { i + 1 },
            })
            .collect();
        Self {
            nodes,
            free: if count == 0 { NONE } else { 0 },
            free_count: count,
        }
    }

    pub(crate) fn free_count(&self) -> usize {
        self.free_count
    }

    /// Puts `chunk` into a node at the end of a list; gives it back if no node is free.
    pub(crate) fn take(&mut self, chunk: Chunk) -> Result<u32, Chunk> {
        let index = self.free;
        let Some(node) = self.nodes.get_mut(index as usize) else {
            return Err(chunk);
        };
        self.free = node.next;
        self.free_count -= 1;
        node.next = NONE;
        node.chunk = Some(chunk);
        Ok(index)
    }

    pub(crate) fn link(&mut self, from: u32, to: u32) {
        self.nodes[from as usize].next = to;
    }

    pub(crate) fn next(&self, index: u32) -> u32 {
        self.nodes[index as usize].next
    }

    pub(crate) fn len(&self, index: u32) -> usize {
        self.nodes[index as usize]
            .chunk
            .as_ref()
            .map_or(0, Chunk::len)
    }

    /// Frees the node, dropping its chunk, and returns the one after it.
    pub(crate) fn give(&mut self, index: u32) -> u32 {
        let node = &mut self.nodes[index as usize];
        let next = node.next;
        node.chunk = None;
        node.next = self.free;
        self.free = index;
        self.free_count += 1;
        next
    }
}

/// A run of bytes in a send queue: the payload of one segment.
#[derive(Clone)]
pub(crate) struct ChunkRun<'a> {
    pool: &'a ChunkPool,
    node: u32,
    offset: usize,
    left: usize,
}

impl<'a> ChunkRun<'a> {
    /// `len` bytes from `offset` in `node` on.
    pub(crate) fn new(pool: &'a ChunkPool, node: u32, offset: usize, len: usize) -> Self {
        Self {
            pool,
            node,
            offset,
            left: len,
        }
    }

    pub(crate) fn next(&mut self) -> Option<Piece<'a>> {
        while self.left > 0 {
            let node = self.pool.nodes.get(self.node as usize)?;
            let chunk = node.chunk.as_ref()?;
            let piece = Piece::of_chunk(chunk, self.offset, self.left);
            self.node = node.next;
            self.offset = 0;
            self.left -= piece.len();
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    }
}
