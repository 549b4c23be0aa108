//! What a log has done, of its counters.

use super::Shard;
use crate::text::{Table, bytes, grouped, nanoseconds, percent, quotient};

/// A log's counters, of one shard or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Log {
    pub(crate) half_used: u64,
    pub(crate) half_size: u64,
    pub(crate) waiting: u64,
    pub(crate) groups: u64,
    pub(crate) records: u64,
    /// Bytes that hosts wrote to logged namespaces.
    pub(crate) payload_bytes: u64,
    /// Bytes that went to the log with them: headers, and what fills blocks up.
    pub(crate) overhead_bytes: u64,
    /// Nanoseconds that groups took until they were stable.
    pub(crate) group_ns: u64,
    pub(crate) points: u64,
    /// Nanoseconds that they took.
    pub(crate) point_ns: u64,
    pub(crate) points_failed: u64,
    /// Bytes that drives of logged namespaces were given.
    pub(crate) drive_bytes: u64,
    pub(crate) full: u64,
    /// Shards whose log has failed.
    pub(crate) failed: u64,
    /// Those whose changes go straight to drives.
    pub(crate) through: u64,
    /// Not 0 if one of two stores is out.
    pub(crate) out: u64,
}

impl Log {
    /// `None`: there is no log.
    pub(crate) fn of(shard: &Shard) -> Option<Self> {
        let counters = shard.counters.get("log")?;
        let count = |name| counters.get(name).copied().unwrap_or_default();
        Some(Self {
            half_used: count("half_used"),
            half_size: count("half_size"),
            waiting: count("waiting"),
            groups: count("groups"),
            records: count("records"),
            payload_bytes: count("payload_bytes"),
            overhead_bytes: count("overhead_bytes"),
            group_ns: count("group_ns"),
            points: count("points"),
            point_ns: count("point_ns"),
            drive_bytes: count("drive_bytes"),
            points_failed: count("points_failed"),
            full: count("full"),
            failed: count("failed"),
            through: count("through"),
            out: count("out"),
        })
    }

    /// Fill of the halves that are written to, as they are now.
    pub(crate) fn fill(&self) -> String {
        percent(self.half_used, self.half_size)
    }

    /// Mean records of a group: how many changes a write to the log makes stable.
    pub(crate) fn records_a_group(&self) -> String {
        quotient(self.records, self.groups, 1)
    }

    /// Bytes to the log for each byte that hosts wrote.
    pub(crate) fn bytes_a_byte(&self) -> String {
        quotient(
            self.payload_bytes + self.overhead_bytes,
            self.payload_bytes,
            3,
        )
    }

    /// Bytes to drives for each byte that hosts wrote.
    pub(crate) fn drive_bytes_a_byte(&self) -> String {
        quotient(self.drive_bytes, self.payload_bytes, 3)
    }

    /// A row of it.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new([
            "halves used",
            "groups",
            "records/group",
            "mean time",
            "to the log",
            "log bytes/host byte",
            "drive bytes",
            "points",
            "mean time",
            "failed",
            "full",
            "waiting",
        ]);
        table.row(vec![
            self.fill(),
            grouped(self.groups),
            self.records_a_group(),
            mean(self.group_ns, self.groups),
            bytes(self.payload_bytes + self.overhead_bytes),
            self.bytes_a_byte(),
            self.drive_bytes_a_byte(),
            grouped(self.points),
            mean(self.point_ns, self.points),
            grouped(self.points_failed),
            grouped(self.full),
            grouped(self.waiting),
        ]);
        table
    }
}

fn mean(sum: u64, count: u64) -> String {
    sum.checked_div(count).map_or("-".into(), nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{logged, sample};
    use super::*;

    #[test]
    fn s01_stats_show_what_the_log_has_done() {
        assert_eq!(Log::of(&sample().total()), None);
        assert!(!sample().to_string().contains("Log\n"));
        let shown = logged().to_string();
        for part in [
            "  halves used  groups  records/group  mean time  to the log  log bytes/host byte  drive bytes  points  mean time  failed  full  waiting",
            "  25.0 %          200            8.0    25.0 µs     6.3 MiB                1.016        0.500       6    12.0 ms       0     0        4",
        ] {
            assert!(shown.contains(part), "{part}\nis not in\n{shown}");
        }
        let mut stats = logged();
        let log = &mut stats.shards[0].counters.0.last_mut().unwrap().1;
        log.0.push(("out".into(), 2));
        assert!(stats.to_string().contains("on one of its two stores"));
        let log = &mut stats.shards[0].counters.0.last_mut().unwrap().1;
        log.0.push(("failed".into(), 1));
        assert!(stats.to_string().contains("The log's store has failed"));
    }
}
