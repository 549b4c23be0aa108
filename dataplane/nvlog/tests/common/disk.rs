//! Devices with a volatile cache: when the power goes, each sector that was not flushed is what it was, or one of the
//! versions written since.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use nvlog::recovery::{Buffer, PART, Store};
use testkit::Random;

pub const SECTOR: usize = 512;

/// The power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Power;

/// The supply of all devices: it fails at some operation.
#[derive(Default)]
pub struct Supply {
    left: Cell<Option<u64>>,
}

impl Supply {
    /// It fails at the operation after `operations` more; never, if `None`.
    pub fn lasts(&self, operations: Option<u64>) {
        self.left.set(operations);
    }

    /// One operation; whether there was power until it ended.
    fn operation(&self) -> Result<(), Power> {
        match self.left.get() {
            Some(0) => Err(Power),
            Some(left) => {
                self.left.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn is_on(&self) -> Result<(), Power> {
        match self.left.get() {
            Some(0) => Err(Power),
            _ => Ok(()),
        }
    }
}

type Sector = [u8; SECTOR];

/// A sector that has versions which are not stable.
struct Volatile {
    stable: Sector,
    /// By the write that they are of.
    versions: Vec<(u64, Sector)>,
}

/// What a store does with a write that it says it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    Lost { at: u64 },
    Misdirected { at: u64, to: u64 },
}

/// A device.
pub struct Disk {
    supply: Rc<Supply>,
    block: usize,
    inner: RefCell<Inner>,
}

struct Inner {
    /// As it is read.
    seen: Vec<u8>,
    volatile: BTreeMap<usize, Volatile>,
    /// Writes that have not ended.
    open: BTreeSet<u64>,
    writes: u64,
    /// Lies that it may still tell, about one in how many writes.
    liar: Option<(Random, u64, usize)>,
    lies: Vec<Lie>,
}

/// Sectors that bytes lie in.
fn sectors(at: u64, len: usize) -> Range<usize> {
    let (at, sector) = (at as usize, SECTOR);
    assert!(at.is_multiple_of(sector) && len.is_multiple_of(sector));
    at / sector..(at + len) / sector
}

fn place(sector: usize) -> Range<usize> {
    sector * SECTOR..(sector + 1) * SECTOR
}

impl Disk {
    pub fn new(supply: &Rc<Supply>, len: u64, block: u32) -> Self {
        Self {
            supply: supply.clone(),
            block: block as usize,
            inner: RefCell::new(Inner {
                seen: vec![0; len as usize],
                volatile: BTreeMap::new(),
                open: BTreeSet::new(),
                writes: 0,
                liar: None,
                lies: Vec::new(),
            }),
        }
    }

    /// It lies about one in `of` writes, `most` times.
    pub fn lie(&self, random: Random, of: u64, most: usize) {
        self.inner.borrow_mut().liar = Some((random, of, most));
    }

    /// Lies that it told.
    pub fn lies(&self) -> Vec<Lie> {
        self.inner.borrow().lies.clone()
    }

    pub fn len(&self) -> u64 {
        self.inner.borrow().seen.len() as u64
    }

    /// Writes that began.
    pub fn writes(&self) -> u64 {
        self.inner.borrow().writes
    }

    /// What is read at a place.
    pub fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        self.inner.borrow().seen[range].to_vec()
    }

    /// Whether the same bytes would be read at `at`.
    pub fn holds(&self, at: u64, bytes: &[u8]) -> bool {
        let at = at as usize;
        self.inner.borrow().seen.get(at..at + bytes.len()) == Some(bytes)
    }

    /// Changes what is stable.
    pub fn damage(&self, at: usize, change: impl FnOnce(&mut [u8])) {
        change(&mut self.inner.borrow_mut().seen[at..]);
    }

    /// Begins a write.
    pub fn start(&self, at: u64, bytes: &[u8]) -> Result<u64, Power> {
        self.supply.is_on()?;
        let mut inner = self.inner.borrow_mut();
        let len = inner.seen.len() as u64;
        assert!(at.is_multiple_of(self.block as u64) && bytes.len().is_multiple_of(self.block));
        assert!(at + bytes.len() as u64 <= len, "written beyond the end");
        inner.writes += 1;
        let id = inner.writes;
        inner.open.insert(id);
        let to = match inner.lies_about(at, bytes.len(), self.block) {
            Some(Lie::Lost { .. }) => None,
            Some(Lie::Misdirected { to, .. }) => Some(to),
            None => Some(at),
        };
        if let Some(to) = to {
            for (sector, new) in sectors(to, bytes.len()).zip(bytes.as_chunks().0) {
                inner.put(sector, id, new);
            }
        }
        self.supply.operation()?;
        Ok(id)
    }

    /// A write has ended.
    pub fn end(&self, id: u64) {
        self.inner.borrow_mut().open.remove(&id);
    }

    /// A write that begins and ends.
    pub fn put(&self, at: u64, bytes: &[u8]) -> Result<(), Power> {
        let id = self.start(at, bytes)?;
        self.end(id);
        Ok(())
    }

    /// Makes the writes that have ended stable.
    pub fn sync(&self) -> Result<(), Power> {
        self.supply.operation()?;
        let mut inner = self.inner.borrow_mut();
        let Inner { volatile, open, .. } = &mut *inner;
        volatile.retain(|_, sector| {
            let ended = |(id, _): &(u64, Sector)| !open.contains(id);
            if let Some(last) = sector.versions.iter().rposition(ended) {
                sector.stable = sector.versions[last].1;
                sector.versions.drain(..=last);
            }
            !sector.versions.is_empty()
        });
        Ok(())
    }

    /// The power comes back.
    pub fn power_on(&self, random: &mut Random) {
        let mut inner = self.inner.borrow_mut();
        let Inner { seen, volatile, .. } = &mut *inner;
        // All is kept, none, or some.
        let kept = *random.pick(&[0, 1, 5, 9, 10]);
        for (sector, was) in std::mem::take(volatile) {
            let now = match random.chance(kept, 10) {
                true => random.pick(&was.versions).1,
                false => was.stable,
            };
            seen[place(sector)].copy_from_slice(&now);
        }
        inner.open.clear();
    }
}

impl Inner {
    fn put(&mut self, sector: usize, id: u64, new: &Sector) {
        let here = &mut self.seen[place(sector)];
        let was = || Volatile {
            stable: *here.as_chunks().0.first().expect("a sector"),
            versions: Vec::new(),
        };
        let volatile = self.volatile.entry(sector).or_insert_with(was);
        volatile.versions.push((id, *new));
        here.copy_from_slice(new);
    }

    fn lies_about(&mut self, at: u64, len: usize, block: usize) -> Option<Lie> {
        let (random, of, most) = self.liar.as_mut()?;
        if *most == 0 || !random.one_in(*of) {
            return None;
        }
        *most -= 1;
        let to = random.below((self.seen.len() - len) / block) * block;
        let lie = match random.one_in(2) {
            true => Lie::Lost { at },
            false => Lie::Misdirected { at, to: to as u64 },
        };
        self.lies.push(lie);
        Some(lie)
    }
}

/// Bytes in pages of their own.
pub struct Pages(Vec<u8>);

impl Pages {
    /// Bytes of them.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Buffer for Pages {
    fn slices(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        let pages = range.start / 4096..range.end.div_ceil(4096);
        pages.map(move |page| {
            let start = range.start.max(page * 4096);
            &self.0[start..range.end.min((page + 1) * 4096)]
        })
    }
}

impl Store for Disk {
    type Buffer = Pages;
    type Error = Power;

    async fn read(&self, at: u64, len: usize) -> Result<Pages, Power> {
        self.supply.is_on()?;
        assert!(at.is_multiple_of(self.block as u64) && len.is_multiple_of(self.block));
        assert!(len > 0 && len <= PART + 4096, "{len} bytes at a time");
        let inner = self.inner.borrow();
        let at = at as usize;
        let bytes = inner.seen.get(at..at + len);
        Ok(Pages(bytes.expect("within the store").to_vec()))
    }

    async fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Power> {
        self.put(at, bytes)
    }

    async fn flush(&self) -> Result<(), Power> {
        self.sync()
    }
}
