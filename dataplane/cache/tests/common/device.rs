//! A simulated device behind a page cache: operations take effect block by
//! block at any time between their start and their completion, complete in
//! any order, and fail on purpose.

use super::{Random, contents};
use block::{Fault, Op};
use cache::Operation;

pub const SECTOR: usize = 512;
pub const FAILED: Fault = Fault::WriteError;

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
    pub failing: u64,
    /// One did.
    pub failed: bool,
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
            failed: false,
            writes: 0,
            reads: 0,
        }
    }

    pub fn start(&mut self, operation: Operation, random: &mut Random) {
        let mut read = Vec::new();
        match &operation.io.run {
            Some(run) => {
                let (offset, len) = (run.offset() as usize, run.len());
                assert!(
                    offset % self.block == 0 && len % self.block == 0 && len > 0,
                    "whole blocks"
                );
                assert!(offset + len <= self.current.len() && run.is_complete());
                // Two writes of one block at a time would be in no order (row Z11).
                for (other, _) in &self.in_flight {
                    if (other.io.op, operation.io.op) == (Op::Write, Op::Write) {
                        let (start, end) = (other.io.offset as usize, other.io.end() as usize);
                        assert!(offset + len <= start || end <= offset);
                    }
                }
                read = self.current[offset..offset + len].to_vec();
            }
            None if operation.io.op == Op::Deallocate => {
                // Nothing else is done with its range meanwhile.
                let (start, end) = (operation.io.offset, operation.io.end());
                assert!(start % self.block as u64 == 0 && end % self.block as u64 == 0);
                for (other, _) in &self.in_flight {
                    assert!(end <= other.io.offset || other.io.end() <= start);
                }
            }
            None => assert!(self.cached && operation.io.op == Op::Flush),
        }
        for (other, _) in &self.in_flight {
            let io = &operation.io;
            let is_apart = io.end() <= other.io.offset || other.io.end() <= io.offset;
            assert!(other.io.op != Op::Deallocate || is_apart);
        }
        self.take_effect(&operation, random, 2, false);
        self.in_flight.push((operation, read));
    }

    /// Some blocks of a write reach the device: one in `n`, or all.
    fn take_effect(&mut self, operation: &Operation, random: &mut Random, n: u64, all: bool) {
        if let (Op::Write, Some(run)) = (operation.io.op, &operation.io.run) {
            let fua = operation.io.flags.fua;
            let bytes = contents(run);
            for (i, block) in bytes.chunks(self.block).enumerate() {
                if all || random.one_in(n) {
                    let at = run.offset() as usize + i * self.block;
                    self.current[at..at + self.block].copy_from_slice(block);
                    if !self.cached || fua && all || random.one_in(8) {
                        self.durable[at..at + self.block].copy_from_slice(block);
                    }
                }
            }
        }
    }

    /// Some blocks of a range are deallocated: any, as the device likes.
    fn deallocate(&mut self, operation: &Operation, random: &mut Random) {
        for at in (operation.io.offset as usize..operation.io.end() as usize).step_by(self.block) {
            if random.one_in(2) {
                self.current[at..at + self.block].fill(0);
                if !self.cached || random.one_in(8) {
                    self.durable[at..at + self.block].fill(0);
                }
            }
        }
    }

    /// Completes one operation in flight; `None` if there is none.
    pub fn finish_one(&mut self, random: &mut Random) -> Option<(Operation, Result<(), Fault>)> {
        if self.in_flight.is_empty() {
            return None;
        }
        let i = random.below(self.in_flight.len());
        let (operation, read) = self.in_flight.swap_remove(i);
        if operation.io.op == Op::Deallocate {
            self.deallocate(&operation, random);
        }
        if self.failing > 0 && random.one_in(self.failing) {
            self.failed = true;
            return Some((operation, Err(FAILED)));
        }
        self.take_effect(&operation, random, 1, true);
        match (operation.io.op, &operation.io.run) {
            (Op::Read, Some(run)) => {
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
            (Op::Write, _) => self.writes += 1,
            (Op::Deallocate, _) => {}
            _ => self.durable.copy_from_slice(&self.current),
        }
        Some((operation, Ok(())))
    }
}
