//! Comparisons of the two replicas: they find what differs, and nothing else.

use mirror::{COMPARED, VerifyReport};

use super::{PHASE_MAX, World};
use crate::clock::{self};
use crate::oracle::{SECTOR, Violation};
use crate::trace::event;

impl World {
    /// While nobody has changed anything behind their backs, they find nothing, whatever hosts do meanwhile.
    pub(super) fn look_at_comparisons(&self) -> Result<(), Violation> {
        for (at, appliance) in self.appliances.iter().enumerate() {
            for volume in 0..self.plan.volumes.len() {
                let Some(report) = appliance.verification(volume) else {
                    continue;
                };
                let block = |(of, sector): (usize, u64)| {
                    let start = sector * SECTOR as u64 / COMPARED * COMPARED;
                    (of == volume).then_some(start)
                };
                let spoilt = self.spoilt.and_then(block);
                let is_it = |range: &std::ops::Range<u64>| Some(range.start) == spoilt;
                if self.lied == Some(volume) {
                    continue;
                }
                let is_right = report.found.iter().all(is_it) && report.differing <= 1;
                if !is_right {
                    return Err(Violation(format!(
                        "appliance {at} says of volume {volume}: {report}: {:?}",
                        report.found
                    )));
                }
            }
        }
        Ok(())
    }

    /// A sector of the destination's drive becomes another one, most often; it is found, and mended if that is asked for.
    pub(super) fn verify_replicas(&mut self) -> Result<(), Violation> {
        let volume = self.random.below(self.plan.volumes.len());
        let [source, destination] = self.source_and_destination(volume)?;
        let len = self.plan.volumes[volume].disk.geometry.len();
        let sector = self.random.below(len / SECTOR as u64);
        let mends = self.random.chance(1, 2);
        let before = self.random.chance(3, 4).then(|| {
            let mut disk = self.appliances[destination].disks()[volume].borrow_mut();
            let before = disk.sector(sector as usize).to_vec();
            let other: Vec<u8> = before.iter().map(|byte| byte ^ 0x55).collect();
            disk.spoil(sector as usize, &other);
            before
        });
        self.spoilt = before.is_some().then_some((volume, sector));
        event!(
            self.trace,
            "compare",
            [volume, sector, mends],
            "volume {volume}, spoilt {:?}, mends {mends}",
            self.spoilt
        );
        let report = self.compare_replicas(source, volume, mends)?;
        let is_found = report.differing > 0;
        // What is in the destination's cache is what was written: it is not read.
        let disk = &self.appliances[destination].disks()[volume];
        if self.spoilt.is_some() && disk.borrow().was_read() && !is_found {
            return Err(Violation(format!(
                "sector {sector} of volume {volume} differs, and: {report}"
            )));
        }
        if is_found && mends {
            self.await_mending(source)?;
        } else if let Some(before) = before {
            let mut disk = self.appliances[destination].disks()[volume].borrow_mut();
            disk.spoil(sector as usize, &before);
        }
        Ok(())
    }

    /// The nodes of a volume that are in sync.
    pub(super) fn source_and_destination(&self, volume: usize) -> Result<[usize; 2], Violation> {
        let Some(source) = self.serving[volume].by else {
            return Err(Violation("in sync, and none serves".into()));
        };
        let [a, b] = self.shape.nodes[volume];
        Ok([source, if a == source { b } else { a }])
    }

    /// Compares all of a volume.
    pub(super) fn compare_replicas(
        &mut self,
        source: usize,
        volume: usize,
        mends: bool,
    ) -> Result<VerifyReport, Violation> {
        if !self.appliances[source].verify_pair(volume, mends) {
            return Err(Violation(format!("volume {volume} is not compared")));
        }
        let deadline = clock::now() + PHASE_MAX;
        self.run_until("the comparison", deadline, |world| {
            let report = world.appliances[source].verification(volume);
            report.is_none_or(|report| report.is_over)
        })?;
        let Some(report) = self.appliances[source].verification(volume) else {
            return Err(Violation(format!("volume {volume} was not compared")));
        };
        if report.is_cut || report.skipped > 0 {
            return Err(Violation(format!("volume {volume}: {report}")));
        }
        if report.compared != report.granules {
            return Err(Violation(format!("volume {volume} in part: {report}")));
        }
        Ok(report)
    }

    /// What differed is copied.
    pub(super) fn await_mending(&mut self, source: usize) -> Result<(), Violation> {
        self.come_in_sync()?;
        let deadline = clock::now() + PHASE_MAX;
        self.run_until("the mending", deadline, |world| {
            world.appliances[source].granules_to_copy() == 0
        })
    }
}
