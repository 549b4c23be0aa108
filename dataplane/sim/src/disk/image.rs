//! What a device holds: what it answers with, and what is stable of it.

use std::cell::Cell;
use std::collections::BTreeMap;

use testkit::Random;

use super::SECTOR;

type Sector = [u8; SECTOR];

/// What a volatile cache loses with its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The power stays.
    Nothing,
    /// All of it.
    Everything,
    /// Of each sector any of what was written since it was last stable, or nothing.
    Some,
}

/// A sector that was written since it was last flushed.
struct Volatile {
    stable: Sector,
    /// What was written, oldest first, and when; the last is what is read.
    written: Vec<(u64, Box<Sector>)>,
}

/// Versions of one sector that are told apart.
const VERSIONS_MAX: usize = 4;

pub(crate) struct Image {
    bytes: Vec<u8>,
    has_cache: bool,
    volatile: BTreeMap<usize, Volatile>,
    /// Counts writes.
    now: u64,
    /// A sector that is watched, and whether somebody has read it since.
    watched: Option<(usize, Cell<bool>)>,
}

impl Image {
    pub(crate) fn new(len: usize, has_cache: bool) -> Self {
        Self {
            bytes: vec![0; len],
            has_cache,
            volatile: BTreeMap::new(),
            now: 0,
            watched: None,
        }
    }

    /// How much was written before now.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn sector(&self, index: usize) -> &[u8] {
        &self.bytes[index * SECTOR..(index + 1) * SECTOR]
    }

    /// As [`Image::sector`], for a command.
    pub(crate) fn read(&self, index: usize) -> &[u8] {
        if let Some((watched, is_read)) = &self.watched {
            is_read.set(is_read.get() || *watched == index);
        }
        self.sector(index)
    }

    /// Whether the sector that was [spoilt](Image::spoil) last was read since.
    pub(crate) fn was_read(&self) -> bool {
        self.watched
            .as_ref()
            .is_some_and(|(_, is_read)| is_read.get())
    }

    /// A sector is another one, for good.
    pub(crate) fn spoil(&mut self, index: usize, bytes: &[u8]) {
        self.watched = Some((index, Cell::new(false)));
        self.volatile.remove(&index);
        self.bytes[index * SECTOR..(index + 1) * SECTOR].copy_from_slice(bytes);
    }

    pub(crate) fn write(&mut self, index: usize, bytes: &[u8]) {
        self.now += 1;
        let place = &mut self.bytes[index * SECTOR..(index + 1) * SECTOR];
        if self.has_cache {
            let volatile = self.volatile.entry(index).or_insert_with(|| {
                let mut stable = [0; SECTOR];
                stable.copy_from_slice(place);
                Volatile {
                    stable,
                    written: Vec::new(),
                }
            });
            if volatile.written.len() == VERSIONS_MAX {
                volatile.written.remove(1);
            }
            let mut sector = Box::new([0; SECTOR]);
            sector.copy_from_slice(bytes);
            volatile.written.push((self.now, sector));
        }
        place.copy_from_slice(bytes);
    }

    /// What was written up to `to` is stable.
    pub(crate) fn flush(&mut self, to: u64) {
        self.volatile.retain(|_, volatile| {
            let old = volatile.written.partition_point(|&(at, _)| at <= to);
            if let Some((_, last)) = volatile.written.drain(..old).next_back() {
                volatile.stable = *last;
            }
            !volatile.written.is_empty()
        });
    }

    /// Its power is gone, or not; how many sectors go back to something older.
    pub(crate) fn lose(&mut self, loss: Loss, random: &mut Random) -> u64 {
        if loss == Loss::Nothing {
            return 0;
        }
        let mut lost = 0;
        for (index, volatile) in std::mem::take(&mut self.volatile) {
            let left = match loss {
                Loss::Some => random.range(0..=volatile.written.len()),
                _ => 0,
            };
            lost += u64::from(left < volatile.written.len());
            let sector = match left.checked_sub(1) {
                Some(last) => &volatile.written[last].1,
                None => &volatile.stable,
            };
            self.bytes[index * SECTOR..(index + 1) * SECTOR].copy_from_slice(sector);
        }
        lost
    }
}
