//! A command that a device has.

use block::{Command, Fault, Op};
use testkit::Random;

use super::image::Image;
use super::{SECTOR, Ticket};
use crate::dma::List;

pub(crate) struct Pending {
    pub(crate) ticket: Ticket,
    pub(crate) command: Command,
    list: List,
    sectors_per_block: usize,
    /// Sectors that are deallocated together.
    unit: usize,
    /// Data of the whole command, if they were moved when it came.
    captured: Option<Vec<u8>>,
    /// Sectors that are done; empty: none.
    done: Vec<bool>,
    /// How it ends, if not well.
    pub(crate) failure: Option<Fault>,
    /// Of a flush: what was written when it came.
    pub(crate) flush_to: u64,
}

impl Pending {
    pub(crate) fn new(
        ticket: Ticket,
        list: List,
        command: Command,
        block_size: u32,
        unit: usize,
    ) -> Self {
        Self {
            ticket,
            command,
            list,
            sectors_per_block: block_size as usize / SECTOR,
            unit,
            captured: None,
            done: Vec::new(),
            failure: None,
            flush_to: 0,
        }
    }

    fn first(&self) -> usize {
        self.command.block as usize * self.sectors_per_block
    }

    fn sectors(&self) -> usize {
        self.command.blocks as usize * self.sectors_per_block
    }

    /// Takes the data that it writes, or reads, now rather than at its end.
    pub(crate) fn capture(&mut self, image: &Image) {
        let mut bytes = vec![0; self.sectors() * SECTOR];
        match self.command.op {
            Op::Write => self.list.gather(0, &mut bytes),
            Op::Read => {
                for (i, sector) in bytes.chunks_mut(SECTOR).enumerate() {
                    sector.copy_from_slice(image.sector(self.first() + i));
                }
            }
            _ => return,
        }
        self.captured = Some(bytes);
    }

    /// Does some of it, all or nothing, by chance. Of a flush that is nothing.
    pub(crate) fn do_some(&mut self, image: &mut Image, random: &mut Random) {
        if self.command.op == Op::Flush {
            return;
        }
        // One in four: all; one in four: none.
        let share = random.below(4u64);
        for i in 0..self.sectors() {
            if share == 3 || share > 0 && random.chance(share, 3) {
                self.do_sector(i, image);
            }
        }
    }

    /// Does what is left of it.
    pub(crate) fn do_all(&mut self, image: &mut Image, random: &mut Random, zeroes: bool) {
        match self.command.op {
            Op::Flush => image.flush(self.flush_to),
            Op::Deallocate => {
                for i in 0..self.sectors() {
                    if zeroes || random.chance(1, 2) {
                        self.do_sector(i, image);
                    }
                }
            }
            _ => (0..self.sectors()).for_each(|i| self.do_sector(i, image)),
        }
    }

    /// Whether all that is deallocated together with a sector is in the range.
    fn is_in_whole_unit(&self, index: usize) -> bool {
        let start = index / self.unit * self.unit;
        start >= self.first() && start + self.unit <= self.first() + self.sectors()
    }

    /// A sector is written once: what is done of a write is not done again on top of others.
    fn do_sector(&mut self, i: usize, image: &mut Image) {
        if self.done.is_empty() {
            self.done = vec![false; self.sectors()];
        }
        if std::mem::replace(&mut self.done[i], true) {
            return;
        }
        let (index, at) = (self.first() + i, i * SECTOR);
        let mut sector = [0; SECTOR];
        match self.command.op {
            Op::Read => match &self.captured {
                Some(bytes) => self.list.scatter(at, &bytes[at..at + SECTOR]),
                None => self.list.scatter(at, image.read(index)),
            },
            Op::Write => {
                match &self.captured {
                    Some(bytes) => sector.copy_from_slice(&bytes[at..at + SECTOR]),
                    None => self.list.gather(at, &mut sector),
                }
                image.write(index, &sector);
            }
            Op::Deallocate if !self.is_in_whole_unit(index) => {}
            _ => image.write(index, &sector),
        }
    }
}
