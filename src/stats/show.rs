//! `throughline stats`, for people.

use std::fmt::{self, Display, Formatter};

use super::{Log, Shard, Stats, pair};
use crate::text::{Table, bar, bytes, grouped, nanoseconds, percent, quotient};

const BAR: usize = 32;

impl Display for Stats {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let total = self.total();
        writeln!(
            f,
            "Throughline {}, {}, up {:.1} s, {} connections, TSC {:.2} GHz",
            self.version,
            self.state,
            self.uptime_seconds,
            grouped(total.connections),
            self.tsc_hz as f64 / 1e9,
        )?;
        for reason in &self.reasons {
            writeln!(f, "  {reason}")?;
        }
        writeln!(f, "\nShards\n{}", shards(self))?;
        writeln!(f, "Namespaces\n{}", namespaces(&total))?;
        if !self.ana.is_empty() {
            writeln!(f, "Asymmetric namespace access\n{}", ana(self))?;
        }
        if !self.drives.is_empty() {
            writeln!(f, "Drives\n{}", drives(self))?;
        }
        if !self.pairs.is_empty() {
            writeln!(f, "Mirrored pairs\n{}", pair::table(&self.pairs))?;
        }
        writeln!(f, "Cycles per I/O by stage\n{}", Stages(&total))?;
        writeln!(
            f,
            "Logical pages written, by number of segments\n{}",
            Segments(&total)
        )?;
        writeln!(f, "Payload bytes copied by the CPU\n{}", Copies(&total))?;
        if let Some(log) = Log::of(&total) {
            writeln!(f, "Log\n{}", log.table())?;
            if log.failed > 0 && log.through == log.failed {
                writeln!(
                    f,
                    "  The log's store has failed: writes to logged namespaces go straight to their drives until a restart.\n"
                )?;
            } else if log.failed > 0 {
                writeln!(
                    f,
                    "  The log's store has failed: writes to logged namespaces are refused until a restart.\n"
                )?;
            } else if log.out > 0 {
                writeln!(
                    f,
                    "  The log is on one of its two stores: the other one is out until a restart.\n"
                )?;
            }
        }
        writeln!(f, "Pools\n{}", pools(&total))?;
        counters(&total, f)
    }
}

fn shards(stats: &Stats) -> Table {
    let header = [
        "core",
        "busy polls",
        "reads",
        "writes",
        "others",
        "errors",
        "read",
        "written",
        "connections",
    ];
    let mut table = Table::new(header);
    for shard in &stats.shards {
        table.row(vec![
            shard.core.to_string(),
            percent(shard.polls_busy, shard.polls),
            grouped(shard.io.reads),
            grouped(shard.io.writes),
            grouped(shard.io.others),
            grouped(shard.io.errors),
            bytes(shard.io.read_bytes),
            bytes(shard.io.written_bytes),
            grouped(shard.connections),
        ]);
    }
    table
}

fn ana(stats: &Stats) -> Table {
    let mut table = Table::new(["namespace", "listener", "state"]).left(&[1, 2]);
    for known in &stats.ana {
        table.row(vec![
            format!("{} {}", known.subsystem, known.nsid),
            known.listener.clone(),
            known.state.clone(),
        ]);
    }
    table
}

fn drives(stats: &Stats) -> Table {
    let header = ["store", "temperature", "spare", "used", "warnings"];
    let mut table = Table::new(header);
    for drive in &stats.drives {
        let temperature = drive.temperature_celsius;
        let temperature = temperature.map_or("-".into(), |celsius| format!("{celsius} °C"));
        let warnings = match drive.critical_warning {
            0 => "none".into(),
            bits => format!("{bits:#04x}"),
        };
        table.row(vec![
            drive.store.clone(),
            temperature,
            format!("{} %", drive.spare_percent),
            format!("{} %", drive.used_percent),
            warnings,
        ]);
    }
    table
}

fn namespaces(total: &Shard) -> Table {
    let header = [
        "namespace",
        "store",
        "reads",
        "writes",
        "others",
        "errors",
        "p50",
        "p99",
        "p99.9",
    ];
    let mut table = Table::new(header).left(&[1]);
    for namespace in &total.namespaces {
        let latency = namespace.latency_of_all().0;
        let quantile = |share| latency.quantile(share).map_or("-".into(), nanoseconds);
        table.row(vec![
            format!("{} {}", namespace.subsystem, namespace.nsid),
            namespace.store.clone(),
            grouped(namespace.io.reads),
            grouped(namespace.io.writes),
            grouped(namespace.io.others),
            grouped(namespace.io.errors),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
        ]);
    }
    table
}

/// Cycles of each stage, divided by the reads and writes.
pub(crate) struct Stages<'s>(pub(crate) &'s Shard);

impl Display for Stages<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Shard {
            cycles_by_stage,
            io,
            ..
        } = self.0;
        let all = cycles_by_stage.sum();
        let mut table = Table::new(["stage", "cycles/IO", "share", ""]).left(&[3]);
        for (stage, &cycles) in cycles_by_stage.iter() {
            let row = [
                stage.to_owned(),
                quotient(cycles, io.transfers(), 0),
                percent(cycles, all),
                bar(cycles, all, BAR),
            ];
            table.row(row.to_vec());
        }
        table.row(vec![
            "total".into(),
            quotient(all, io.transfers(), 0),
            percent(all, all),
        ]);
        write!(f, "{table}")
    }
}

/// Logical pages by the number of their segments.
pub(crate) struct Segments<'s>(pub(crate) &'s Shard);

impl Display for Segments<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pages = self.0.pages_by_segments;
        let all = pages.iter().sum();
        let mut table = Table::new(["segments", "pages", "share", ""]).left(&[3]);
        for (index, &count) in pages.iter().enumerate() {
            let row = [
                (index + 1).to_string(),
                grouped(count),
                percent(count, all),
                bar(count, all, BAR),
            ];
            table.row(row.to_vec());
        }
        write!(f, "{table}")
    }
}

/// Copied bytes by reason, and per byte stored (or loaded, where nothing was stored).
pub(crate) struct Copies<'s>(pub(crate) &'s Shard);

impl Copies<'_> {
    /// What copied bytes are set against, and its name.
    pub(crate) fn against(&self) -> (u64, &'static str) {
        match self.0.io.written_bytes {
            0 => (self.0.io.read_bytes, "per loaded byte"),
            stored => (stored, "per stored byte"),
        }
    }
}

impl Display for Copies<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (moved, against) = self.against();
        let mut table = Table::new(["reason", "bytes", against]);
        for (reason, &copied) in self.0.copied_bytes.iter() {
            table.row(vec![
                reason.to_owned(),
                grouped(copied),
                quotient(copied, moved, 6),
            ]);
        }
        let all = self.0.copied_bytes_total();
        table.row(vec!["total".into(), grouped(all), quotient(all, moved, 6)]);
        write!(f, "{table}")
    }
}

fn pools(total: &Shard) -> Table {
    let mut table = Table::new(["pool", "size", "free", "in use"]);
    for (name, pool) in total.pools.iter() {
        let used = pool.size.saturating_sub(pool.free);
        table.row(vec![
            name.to_owned(),
            grouped(pool.size),
            grouped(pool.free),
            percent(used, pool.size),
        ]);
    }
    table
}

/// Counters that are not zero; `--json` has all of them.
fn counters(total: &Shard, f: &mut Formatter<'_>) -> fmt::Result {
    for (layer, list) in total.counters.iter() {
        let mut table = Table::new([layer, ""]);
        let mut any = false;
        for (name, &value) in list.iter().filter(|(_, value)| **value != 0) {
            table.row(vec![name.to_owned(), grouped(value)]);
            any = true;
        }
        if any {
            writeln!(f, "{table}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;

    #[test]
    fn the_table_says_what_people_look_for() {
        let shown = sample().to_string();
        for line in [
            "Throughline 0.1.0, degraded, up 12.5 s, 4 connections, TSC 2.60 GHz",
            "  port0: eth1 is gone",
            "  1         25.0 %    600     400       3       1  2.3 MiB  1.6 MiB            2",
            "  assemble        400   14.3 %  █████",
            "  total          2800  100.0 %",
            "  3           120  60.0 %  ████████████████████",
            "  pull_up   8,192         0.002500",
            "  clusters  2,048  2,000   2.3 %",
            "  segments_in   14",
            "  nqn.2026-01.com.example:flash 1  flash0  1,200       0       0       0  328 µs  655 µs  655 µs",
        ] {
            assert!(shown.contains(line), "{line}\nis not in\n{shown}");
        }
        assert!(!shown.contains("resets"));
    }
}
