//! What was found, for people.

use std::fmt::{self, Display, Formatter};

use super::{Log, Shown};
use crate::text::{Table, bytes, grouped, percent};

impl Display for Shown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { file, log, .. } = self;
        writeln!(f, "{}, {} bytes", file.display(), grouped(self.bytes))?;
        match log {
            Some(log) => write!(f, "{log}")?,
            None if self.refusal.is_none() => {
                return writeln!(f, "\nBlank: a start makes a log here, and replays nothing.");
            }
            None => {}
        }
        match (&self.refusal, log) {
            (Some(why), _) => writeln!(
                f,
                "\nA start refuses it: {why}.\nNothing is overwritten. `throughline run --discard-log NAME` gives up what it has."
            ),
            (None, Some(log)) => {
                let replay = &log.replay;
                writeln!(
                    f,
                    "\nA start replays {} records of {} bytes, drops {} bytes of groups that were never acknowledged, and reads {} of the log.",
                    grouped(replay.records),
                    grouped(replay.bytes),
                    grouped(replay.torn_bytes),
                    bytes(replay.read_bytes)
                )
            }
            (None, None) => Ok(()),
        }
    }
}

impl Display for Log {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "log {}, generation {}, blocks of {} bytes, {} region(s) with halves of {}, map of owners {}",
            self.id,
            self.generation,
            self.block_size,
            self.regions.len(),
            bytes(self.half_bytes),
            self.placement
        )?;
        let header = [
            "store",
            "drive",
            "size",
            "block",
            "records",
            "write zeroes",
            "deallocate",
            "their bytes",
        ];
        let mut table = Table::new(header).left(&[1]);
        for volume in &self.volumes {
            table.row(vec![
                volume.name.clone(),
                volume.identity.clone(),
                bytes(volume.bytes),
                volume.block_size.to_string(),
                grouped(volume.records),
                grouped(volume.zeroes),
                grouped(volume.deallocations),
                grouped(volume.record_bytes),
            ]);
        }
        writeln!(f, "\n{table}")?;
        let header = [
            "region",
            "half 0",
            "half 1",
            "oldest",
            "epochs",
            "groups",
            "from",
            "acknowledged",
            "records",
            "their bytes",
            "torn",
        ];
        let mut table = Table::new(header);
        for (number, region) in self.regions.iter().enumerate() {
            let used = |half: usize| {
                let used = region.used[half];
                format!("{} ({})", bytes(used), percent(used, self.half_bytes))
            };
            table.row(vec![
                number.to_string(),
                used(0),
                used(1),
                region.oldest_half.to_string(),
                format!("{}, {}", region.epochs[0], region.epochs[1]),
                grouped(region.groups),
                region.first_group.to_string(),
                region.acknowledged.to_string(),
                grouped(region.records),
                grouped(region.record_bytes),
                bytes(region.torn_bytes),
            ]);
        }
        write!(f, "{table}")
    }
}
