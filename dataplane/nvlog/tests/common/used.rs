//! Logs that a run has used.

use std::rc::Rc;

use nvlog::recovery::{self, Opened, Refusal, Replayed};
use nvlog::{Layout, LogId, RegionSuperblock, UNIT, WAVES};
use testkit::Random;

use super::disk::{Disk, Power, Supply};
use super::model::{Journal, VOLUME, VOLUMES};
use super::now;
use super::recover::{Targets, recover};
use super::writer::Run;

pub const LOG: LogId = LogId(*b"0123456789abcdef");
pub const HALF: u64 = 64 << 10;

/// A store and drives.
pub struct Devices {
    pub supply: Rc<Supply>,
    pub disk: Disk,
    pub drives: Vec<Disk>,
}

impl Devices {
    pub fn new(len: u64, block: u32) -> Self {
        let supply = Rc::new(Supply::default());
        let drive = || Disk::new(&supply, VOLUME as u64, 512);
        Self {
            disk: Disk::new(&supply, len, block),
            drives: (0..VOLUMES).map(|_| drive()).collect(),
            supply,
        }
    }

    pub fn both(&self) -> (&Disk, &[Disk]) {
        (&self.disk, &self.drives)
    }

    /// The store of a log that is on one.
    pub fn stores(&self) -> [Option<(&Disk, u64)>; 1] {
        [Some((&self.disk, self.disk.len()))]
    }

    pub fn layout(&self, regions: u32) -> Layout {
        Layout::new(self.disk.len(), 512, regions, Some(HALF), 0).expect("room")
    }

    /// What opening says; it writes nothing.
    pub fn open(&self) -> Result<Option<Opened>, Refusal<Power>> {
        let before = self.disk.writes();
        let opened = now(recovery::open(&self.disk, self.disk.len()));
        assert_eq!(self.disk.writes(), before, "opening writes");
        opened
    }

    /// The store says this of a region, as a run does.
    pub fn say(&self, region: usize, superblock: &RegionSuperblock) -> Result<(), Power> {
        let mut unit = superblock.encode(LOG, region).to_vec();
        unit.resize(UNIT as usize, 0);
        for wave in WAVES {
            for copy in wave {
                let at = Layout::region_superblock(self.disk.len(), region, copy);
                self.disk.put(at, &unit)?;
            }
            self.disk.sync()?;
        }
        Ok(())
    }

    /// What a replay says; it writes nothing to the log.
    pub fn replay(&self, is_there: impl Fn(u32) -> bool) -> Result<Replayed, Refusal<Power>> {
        let opened = self.open().expect("a log").expect("one");
        let before = self.disk.writes();
        let replayed = now(recovery::replay(
            &self.stores(),
            &opened,
            &Targets::new(&self.drives),
            is_there,
        ));
        assert_eq!(self.disk.writes(), before, "a replay writes");
        replayed
    }

    /// The same bytes in a store of another length.
    pub fn resized(&self, len: u64) -> Self {
        let other = Self::new(len, 512);
        let n = len.min(self.disk.len()) as usize;
        let bytes = self.disk.bytes(0..n);
        other.disk.damage(0, |all| all[..n].copy_from_slice(&bytes));
        other
    }
}

/// A log of `regions` regions in which a run did `steps` things, all of them stable; what the run logged.
pub fn used(regions: u32, steps: usize, seed: u64) -> (Devices, Vec<Journal>) {
    let devices = Devices::new(Layout::needs(3, HALF, 0), 512);
    let layout = devices.layout(regions);
    let recovered = recover(devices.both(), LOG, layout).expect("a blank store");
    let mut run = Run::new(LOG, layout, &recovered.regions, devices.both());
    let random = &mut Random::new(seed);
    for _ in 0..steps {
        run.step(random).expect("power");
    }
    run.settle().expect("power");
    let mut journals = run.journals;
    // A consistency point may have come as far as to count.
    let opened = devices.open().expect("a log").expect("one");
    for (journal, region) in journals.iter_mut().zip(&opened.regions) {
        (journal.from, journal.then) = (region.sequence, None);
    }
    (devices, journals)
}
