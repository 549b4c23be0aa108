//! A volume's drive at the destination that loses writes, or puts them elsewhere, and says that they are done. Nobody notices at that
//! moment, and nothing is promised of what is read there. But hosts are served by the other node, and what differs is found by a comparison
//! once it is read from the drive: when all of that is mended both are alike, and either may serve.

use super::{PHASE_MAX, World};
use crate::clock::{self, SECOND};
use crate::host::Host;
use crate::oracle::Violation;
use crate::trace::event;

/// Comparisons until one finds nothing: what is copied may be changed again before.
const COMPARISONS: usize = 3;

impl World {
    /// Both nodes are in sync, and nothing else is wrong.
    pub(super) fn outlive_lies(&mut self) -> Result<(), Violation> {
        let volume = self.random.below(self.plan.volumes.len());
        let [_, destination] = self.source_and_destination(volume)?;
        let one_in = self.random.range(2..=10u64);
        event!(
            self.trace,
            "lies",
            [volume, destination, one_in],
            "volume {volume} at {destination}: one in {one_in}"
        );
        let lie = |world: &World, one_in| {
            let disk = &world.appliances[destination].disks()[volume];
            disk.borrow_mut().lie(one_in);
        };
        lie(self, one_in);
        let commands = self.random.range(10..=60u32);
        self.hosts.iter_mut().for_each(|host| host.work(commands));
        let deadline = clock::now() + PHASE_MAX;
        self.run_until("the work", deadline, |world| {
            world.hosts.iter().all(Host::is_done)
        })?;
        // Consistency points come meanwhile, or do not.
        let later = clock::now() + self.random.below(2 * SECOND);
        self.run_until("a while", deadline, |_| clock::now() >= later)?;
        // It begins again: nothing of what it has is in its cache.
        let power = self.random.chance(1, 2);
        self.kill(destination, power)?;
        lie(self, 0);
        self.start(destination);
        self.come_in_sync()?;
        self.lied = Some(volume);
        for _ in 0..COMPARISONS {
            if self.mend(volume)? == 0 {
                self.lied = None;
                break;
            }
        }
        if self.lied.is_some() {
            return Err(Violation(format!(
                "volume {volume} is not alike after {COMPARISONS} comparisons that mend"
            )));
        }
        // The one whose drive lied serves.
        if let Some(source) = self.serving[volume].by.filter(|&by| by != destination) {
            self.kill(source, true)?;
            self.verify()?;
            self.start(source);
            self.come_in_sync()?;
        }
        Ok(())
    }

    /// Compares the replicas, and mends what differs: blocks that did.
    fn mend(&mut self, volume: usize) -> Result<u64, Violation> {
        let [source, _] = self.source_and_destination(volume)?;
        let report = self.compare_replicas(source, volume, true)?;
        event!(self.trace, "mended", [volume], "{report}");
        self.await_mending(source)?;
        Ok(report.differing)
    }
}
