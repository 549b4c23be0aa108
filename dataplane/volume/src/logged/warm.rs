//! What was replayed is read into the cache once more, clean, when the run begins (row R12): it is what hosts
//! used last.

use std::collections::VecDeque;

use block::{Buffers, Flags, Io, VolumeId};
use pages::PAGE_SIZE;

use crate::cached::Cached;
use crate::placement;
use crate::requester::{Ends, Requester};

use super::LogStart;

/// Ranges that a replay remembers: the last ones.
pub(super) const RANGES_MAX: usize = 16384;

/// Reads under way at a time: hosts come first.
const READS: usize = 4;

/// A range that was replayed.
pub(crate) type Range = (VolumeId, u64, u64);

/// Ranges that a shard owns, and that are still to be read; the last written are the first.
pub(crate) struct Warm {
    ranges: VecDeque<Range>,
    reads: usize,
}

impl Warm {
    /// What of a replay shard `shard` owns, of as many pages as half of its cache may have.
    pub(crate) fn new(start: &LogStart, shard: usize, pages: usize) -> Self {
        let (shards, mut left) = (start.layout.regions as usize, (pages / 2) as u64);
        let mut ranges = VecDeque::new();
        for &(volume, offset, len) in start.warm.iter().rev() {
            let parts = placement::by_owner(volume, offset..offset + len, shards);
            for (_, part) in parts.filter(|(owner, _)| *owner == shard) {
                let pages = (part.end - part.start).div_ceil(PAGE_SIZE as u64) + 1;
                if pages > left {
                    return Self { ranges, reads: 0 };
                }
                left -= pages;
                ranges.push_back((volume, part.start, part.end - part.start));
            }
        }
        Self { ranges, reads: 0 }
    }

    /// Whether everything was read.
    pub(crate) fn is_over(&self) -> bool {
        self.ranges.is_empty() && self.reads == 0
    }

    /// The rest is not read.
    pub(crate) fn cease(&mut self) {
        self.ranges.clear();
    }

    /// Reads on, as long as memory is plentiful.
    pub(crate) fn go_on(&mut self, cached: &mut Cached, buffers: &Buffers, ends: &mut Ends) {
        while self.reads < READS
            && buffers.pages.unheld() > buffers.pages.len() / 2
            && buffers.runs.available() > buffers.runs_len / 2
            && let Some((volume, offset, len)) = self.ranges.pop_front()
        {
            let most = buffers.runs.max_bytes() as u64 - offset % PAGE_SIZE as u64;
            let n = len.min(most);
            let Some(mut run) = buffers.runs.take() else {
                return self.ranges.push_front((volume, offset, len));
            };
            if n < len {
                self.ranges.push_front((volume, offset + n, len - n));
            }
            if !cached.holds(volume) || run.begin(offset, n as usize).is_err() {
                buffers.runs.put(run);
                continue;
            }
            self.reads += 1;
            let io = Io::read(run, Flags::NONE);
            cached.start(Requester::Warm, volume, io, buffers, ends);
        }
    }

    /// A read ended, well or not.
    pub(crate) fn ended(&mut self) {
        self.reads -= 1;
    }
}
