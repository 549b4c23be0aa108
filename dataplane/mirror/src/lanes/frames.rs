//! How long frames between two nodes are (row R3, *set frame size*).

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::frame::PAYLOAD_MAX;

/// Bytes of payload that frames may have at most: what an operator may say.
pub const FRAME_BYTES: RangeInclusive<u32> = 4096..=PAYLOAD_MAX as u32;

/// Bytes of payload of frames to and from another node, at most, as all shards see them: an operator's word here, and what the other
/// node has said that it takes.
#[derive(Debug)]
pub struct FrameSize {
    mine: AtomicU32,
    theirs: AtomicU32,
}

impl Default for FrameSize {
    fn default() -> Self {
        Self::new(*FRAME_BYTES.end())
    }
}

impl FrameSize {
    /// That of the configuration.
    pub fn new(mine: u32) -> Self {
        Self {
            mine: AtomicU32::new(mine),
            theirs: AtomicU32::new(*FRAME_BYTES.end()),
        }
    }

    /// An operator says another one, which counts for messages from now on.
    pub(crate) fn set(&self, mine: u32) {
        self.mine.store(mine, Relaxed);
    }

    /// The other node says what it takes.
    pub(crate) fn told(&self, theirs: u32) {
        self.theirs.store(theirs, Relaxed);
    }

    /// What this node takes, and the other one.
    pub fn both(&self) -> [u32; 2] {
        [self.mine.load(Relaxed), self.theirs.load(Relaxed)]
    }

    /// What neither finds too long.
    pub fn bytes(&self) -> usize {
        let [mine, theirs] = self.both();
        mine.min(theirs) as usize
    }
}
