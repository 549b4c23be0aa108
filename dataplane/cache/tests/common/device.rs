//! A simulated device behind a page cache: operations take effect block by
//! block at any time between their start and their completion, complete in
//! any order, and fail on purpose.

use super::{Random, contents};
use cache::{Action, DeviceError, Operation};

pub const SECTOR: usize = 512;
pub const FAILED: DeviceError = DeviceError(-5);

pub struct Device {
    /// What survives a crash.
    pub durable: Vec<u8>,
    /// What the device has, its volatile cache included.
    pub current: Vec<u8>,
    /// Operations in flight; of reads, the bytes read so far.
    pub in_flight: Vec<(Operation, Vec<u8>)>,
    pub cached: bool,
    block: usize,
    /// One operation in so many fails; 0 for none.
    pub failing: usize,
    pub writes: usize,
    pub reads: usize,
}

impl Device {
    /// `cached`: writes are durable only once flushed, or with `fua`.
    pub fn new(len: usize, block: usize, cached: bool) -> Self {
        Self {
            durable: vec![0; len],
            current: vec![0; len],
            in_flight: Vec::new(),
            cached,
            block,
            failing: 0,
            writes: 0,
            reads: 0,
        }
    }

    pub fn start(&mut self, operation: Operation, random: &mut Random) {
        let mut read = Vec::new();
        match &operation.action {
            Action::Read(run) | Action::Write { run, .. } => {
                let (offset, len) = (run.offset() as usize, run.len());
                assert!(
                    offset % self.block == 0 && len % self.block == 0 && len > 0,
                    "whole blocks"
                );
                assert!(offset + len <= self.current.len() && run.is_complete());
                // Two writes of one block at a time would be in no order (row Z11).
                for (other, _) in &self.in_flight {
                    if let (Action::Write { run: other, .. }, Action::Write { .. }) =
                        (&other.action, &operation.action)
                    {
                        let start = other.offset() as usize;
                        assert!(offset + len <= start || start + other.len() <= offset);
                    }
                }
                read = self.current[offset..offset + len].to_vec();
            }
            Action::Flush => assert!(self.cached),
        }
        self.take_effect(&operation, random, 2, false);
        self.in_flight.push((operation, read));
    }

    /// Some blocks of a write reach the device: one in `n`, or all.
    fn take_effect(&mut self, operation: &Operation, random: &mut Random, n: usize, all: bool) {
        if let Action::Write { run, fua } = &operation.action {
            let bytes = contents(run);
            for (i, block) in bytes.chunks(self.block).enumerate() {
                if all || random.one_in(n) {
                    let at = run.offset() as usize + i * self.block;
                    self.current[at..at + self.block].copy_from_slice(block);
                    if !self.cached || *fua && all || random.one_in(8) {
                        self.durable[at..at + self.block].copy_from_slice(block);
                    }
                }
            }
        }
    }

    /// Completes one operation in flight; `None` if there is none.
    pub fn finish_one(
        &mut self,
        random: &mut Random,
    ) -> Option<(Operation, Result<(), DeviceError>)> {
        if self.in_flight.is_empty() {
            return None;
        }
        let i = random.below(self.in_flight.len());
        let (operation, read) = self.in_flight.swap_remove(i);
        if self.failing > 0 && random.one_in(self.failing) {
            return Some((operation, Err(FAILED)));
        }
        self.take_effect(&operation, random, 1, true);
        match &operation.action {
            Action::Read(run) => {
                self.reads += 1;
                let mut bytes = read;
                for (i, block) in bytes.chunks_mut(self.block).enumerate() {
                    if random.one_in(2) {
                        let at = run.offset() as usize + i * self.block;
                        block.copy_from_slice(&self.current[at..at + self.block]);
                    }
                }
                super::dma(run, &bytes);
            }
            Action::Write { .. } => self.writes += 1,
            Action::Flush => self.durable.copy_from_slice(&self.current),
        }
        Some((operation, Ok(())))
    }
}
