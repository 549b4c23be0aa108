//! The two directions of a connection: frames in, chunks out.

use std::collections::VecDeque;
use std::ptr::NonNull;

use nvmf::{Progress, Session, Wire};
use pages::{Chunk, Slice};

use super::{Random, Rig};

/// Where a session sends: bytes, and where the slices among them lay.
#[derive(Default)]
pub struct Sent {
    pub bytes: Vec<u8>,
    pub slices: Vec<(NonNull<u8>, usize)>,
    /// Chunks that may still be sent.
    pub room: usize,
    /// Drop everything, for tests that count allocations.
    pub discard: bool,
    /// The host does not read: what is sent stays where it is, and is not acknowledged.
    pub deaf: bool,
    /// Bytes that it has taken.
    pub taken: u64,
    /// What it has not read.
    pub unread: VecDeque<Chunk>,
}

impl Sent {
    /// Bytes that the host has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.unread.iter().map(Chunk::len).sum()
    }

    /// The host reads so many chunks more.
    pub fn hear(&mut self, chunks: usize) {
        for chunk in self.unread.drain(..chunks.min(self.unread.len())) {
            self.bytes.extend_from_slice(chunk.bytes());
        }
    }
}

impl Wire for Sent {
    fn taken(&self) -> u64 {
        self.taken
    }

    fn send(&mut self, chunk: Chunk) -> Result<(), Chunk> {
        assert!(!chunk.is_empty(), "an empty chunk");
        if self.room == 0 {
            return Err(chunk);
        }
        self.room -= 1;
        self.taken += chunk.len() as u64;
        if self.deaf {
            self.unread.push_back(chunk);
            return Ok(());
        }
        if self.discard {
            return Ok(());
        }
        if let Chunk::Slice(slice) = &chunk {
            self.slices.push((slice.address(), slice.len()));
        }
        self.bytes.extend_from_slice(chunk.bytes());
        Ok(())
    }
}

/// How a byte stream is cut into frames.
#[derive(Clone, Debug)]
pub enum Cut {
    /// Frames of this many bytes.
    Every(usize),
    /// One cut after this many bytes, then frames of 1,448.
    At(usize),
    /// Frames of these sizes, last to first, then as large as they may be.
    List(Vec<usize>),
    /// Frames of one to so many bytes.
    Random(Random, usize),
}

impl Cut {
    fn next(&mut self, left: usize) -> usize {
        let n = match self {
            Cut::Every(n) => *n,
            Cut::At(at) => match std::mem::take(at) {
                0 => 1448,
                at => at,
            },
            Cut::List(sizes) => sizes.pop().unwrap_or(usize::MAX),
            Cut::Random(random, most) => 1 + random.below(*most),
        };
        n.min(left)
    }
}

/// A frame's payload begins here in its cluster, behind 66 bytes of headers.
pub const HEADERS: usize = 66;

impl Rig {
    /// Receives `bytes` as one frame.
    pub fn frame(&mut self, bytes: &[u8]) -> Slice {
        let mut fresh = self.frames.alloc().expect("a free frame");
        let room = fresh.len() - HEADERS;
        assert!(bytes.len() <= room, "a frame of {} bytes", bytes.len());
        fresh[HEADERS..HEADERS + bytes.len()].copy_from_slice(bytes);
        fresh.freeze().slice(HEADERS..HEADERS + bytes.len())
    }

    /// Hands `bytes` to the session, cut into frames. What was not taken comes
    /// back: the session is blocked or closing.
    pub fn deliver<'b>(
        &mut self,
        session: &mut Session,
        mut bytes: &'b [u8],
        cut: &mut Cut,
    ) -> &'b [u8] {
        while !bytes.is_empty() {
            let n = cut
                .next(bytes.len())
                .min(self.frames.cluster_size() - HEADERS);
            let slice = self.frame(&bytes[..n]);
            let now = self.now;
            match session.receive(now, slice, &mut self.shard()) {
                Err(_) => return bytes,
                Ok(Progress::Closing) => return &bytes[n..],
                Ok(_) => bytes = &bytes[n..],
            }
        }
        bytes
    }
}
