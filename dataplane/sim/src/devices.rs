//! What is known of an appliance's devices, to judge by.

use crate::appliance::Appliance;
use crate::clock::{self, Nanoseconds, SECOND};

/// What hosts know of devices, to judge by.
pub(crate) trait Devices {
    /// Commands of a volume's device that failed so far.
    fn faults(&self, volume: usize) -> u64;
    /// Whether the device, or one of several, went away for good.
    fn is_gone(&self, volume: usize) -> bool;
    /// When the device, or its log's, last had commands that it would not have ended by itself.
    fn stuck_until(&self, volume: usize) -> Nanoseconds;
    /// The same, or one of its log's two devices alone, which is waited for a while.
    fn held_until(&self, volume: usize) -> Nanoseconds;
    /// The same of any volume.
    fn any_held_until(&self) -> Nanoseconds;
    /// Whether the volume's log may have failed, or be full: it takes no writes then.
    fn has_lost_log(&self, volume: usize) -> bool;
    /// Whether a deallocation of a logged volume, begun then, that succeeds now may be done in part, or not: it is advice,
    /// and its device has failed, or its log, or it takes long.
    fn may_leave(&self, volume: usize, since: Nanoseconds) -> bool;
    /// Whether its namespace was not offered at some time since `since`.
    fn was_absent(&self, volume: usize, since: Nanoseconds) -> bool;
    /// Whether the volume is behind the page cache.
    fn is_cached(&self, volume: usize) -> bool;
    /// Commands of all devices that failed so far.
    fn all_faults(&self) -> u64;
    /// Controllers of a host, those included whose end not every shard knows of.
    fn controllers(&self, host: &str) -> usize;
}

impl Devices for Appliance {
    fn faults(&self, volume: usize) -> u64 {
        self.disks_of(volume)
            .map(|disk| disk.borrow().faults())
            .sum()
    }

    fn is_gone(&self, volume: usize) -> bool {
        self.disks_of(volume).any(|disk| disk.borrow().is_gone())
    }

    fn stuck_until(&self, volume: usize) -> Nanoseconds {
        let disks = self.disks_of(volume);
        let stuck_until = disks.map(|disk| disk.borrow().stuck_until()).max();
        let stuck_until = stuck_until.unwrap_or(0);
        let logs = self.logs_in_use().filter(|_| self.is_logged(volume));
        let log = logs.map(|log| log.borrow().stuck_until()).min();
        log.map_or(stuck_until, |log| stuck_until.max(log))
    }

    fn held_until(&self, volume: usize) -> Nanoseconds {
        let logs = self.logs().iter().filter(|_| self.is_logged(volume));
        let log = logs.map(|log| log.borrow().stuck_until()).max();
        self.stuck_until(volume).max(log.unwrap_or(0))
    }

    fn any_held_until(&self) -> Nanoseconds {
        (0..self.volumes())
            .map(|volume| self.held_until(volume))
            .max()
            .unwrap_or(0)
    }

    fn has_lost_log(&self, volume: usize) -> bool {
        // One drive that does not take what the log has keeps room from all.
        let is_lost = self.logs_in_use().all(|disk| disk.borrow().had_trouble());
        let is_full = self.logged().any(|disk| disk.borrow().had_trouble());
        self.is_logged(volume) && (is_lost || is_full)
    }

    fn may_leave(&self, volume: usize, since: Nanoseconds) -> bool {
        /// How long the appliance goes on with one.
        const LONGEST: Nanoseconds = 5 * SECOND;
        let has_failed = self.faults(volume) > 0 || self.has_lost_log(volume);
        self.is_logged(volume) && (has_failed || clock::now() >= since + LONGEST)
    }

    fn was_absent(&self, volume: usize, since: Nanoseconds) -> bool {
        Appliance::was_absent(self, volume, since)
    }

    fn is_cached(&self, volume: usize) -> bool {
        Appliance::is_cached(self, volume)
    }

    fn all_faults(&self) -> u64 {
        self.disks().iter().map(|disk| disk.borrow().faults()).sum()
    }

    fn controllers(&self, host: &str) -> usize {
        Appliance::controllers(self, host)
    }
}
