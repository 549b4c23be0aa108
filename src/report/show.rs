//! The report, for people.

use std::fmt::{self, Display, Formatter};

use super::{Measured, Report, Work};
use crate::stats::{Copies, Segments};
use crate::text::{Table, bar, grouped};

const WIDTH: usize = 100;
const BAR: usize = 24;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let line = "━".repeat(WIDTH);
        writeln!(f, "{line}\n  {}", self.title)?;
        let machine: Vec<String> = self
            .machine
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        writeln!(f, "  {}\n{line}\n", machine.join(" · "))?;
        writeln!(f, "What the initiator saw\n{}", self.phases())?;
        if let Some(total) = &self.total {
            writeln!(
                f,
                "Cycles per I/O in the target, by stage\n{}",
                self.stages()
            )?;
            writeln!(
                f,
                "Logical pages written, by number of segments\n{}",
                Segments(&total.shard)
            )?;
            writeln!(
                f,
                "Payload bytes the target's CPU copied, all phases\n{}",
                Copies(&total.shard)
            )?;
        }
        writeln!(f, "{line}\n  {}\n{line}", self.verdict())
    }
}

impl Report {
    fn phases(&self) -> Table {
        let header = [
            "phase",
            "tool",
            "result",
            "seconds",
            "commands",
            "MiB/s",
            "IOPS",
            "latency µs",
            "copied/byte",
        ];
        let mut table = Table::new(header).left(&[1, 2]);
        for Measured { phase, target } in &self.phases {
            let per_second = |value: f64| {
                if phase.seconds > 0.0 {
                    value / phase.seconds
                } else {
                    0.0
                }
            };
            let io = target.as_ref().map(|work| work.io).unwrap_or_default();
            let mib = (io.read_bytes + io.written_bytes) as f64 / f64::from(1 << 20);
            let mib = phase.mib_per_second.unwrap_or(per_second(mib));
            let iops = phase.iops.unwrap_or(per_second(io.transfers() as f64));
            let moved = io.transfers() > 0;
            let shown = |text: String| if moved { text } else { "-".into() };
            let copied = target
                .as_ref()
                .map_or(0.0, |work| work.copied_per_stored_byte_total);
            table.row(vec![
                phase.name.clone(),
                phase.tool.clone(),
                phase.result.clone(),
                format!("{:.2}", phase.seconds),
                shown(grouped(io.transfers())),
                shown(format!("{mib:.1}")),
                shown(grouped(iops as u64)),
                phase.latency_us.map_or("-".into(), |us| format!("{us:.1}")),
                shown(format!("{copied:.4}")),
            ]);
        }
        table
    }

    /// Stages as rows, phases that moved data as columns.
    fn stages(&self) -> Table {
        let worked = |measured: &'_ Measured| {
            measured
                .target
                .as_ref()
                .is_some_and(|w| w.io.transfers() > 0)
        };
        let phases: Vec<&Measured> = self.phases.iter().filter(|phase| worked(phase)).collect();
        let works: Vec<&Work> = phases
            .iter()
            .filter_map(|phase| phase.target.as_ref())
            .collect();
        let mut header = vec!["stage".to_owned()];
        header.extend(phases.iter().map(|measured| measured.phase.name.clone()));
        header.push(String::new());
        let last = header.len() - 1;
        let mut table = Table::with_header(header).left(&[last]);
        let Some(total) = &self.total else {
            return table;
        };
        let all = total.shard.cycles_by_stage.sum();
        for (stage, &cycles) in total.shard.cycles_by_stage.iter() {
            let mut row = vec![stage.to_owned()];
            row.extend(works.iter().map(|work| {
                grouped(
                    work.cycles_per_io
                        .get(stage)
                        .copied()
                        .unwrap_or(0.0)
                        .round() as u64,
                )
            }));
            row.push(bar(cycles, all, BAR));
            table.row(row);
        }
        let mut row = vec!["total".to_owned()];
        row.extend(
            works
                .iter()
                .map(|work| grouped(work.cycles_per_io_total.round() as u64)),
        );
        table.row(row);
        table
    }

    fn verdict(&self) -> String {
        let failed: Vec<&str> = self
            .phases
            .iter()
            .filter(|measured| !measured.phase.good)
            .map(|measured| measured.phase.name.as_str())
            .collect();
        if !failed.is_empty() {
            return format!("FAILED: {}", failed.join("; "));
        }
        let Some(total) = &self.total else {
            return "nothing was measured".into();
        };
        let io = &total.io;
        format!(
            "Every comparison matched: the CPU copied {} of {} payload bytes.",
            grouped(total.copied_bytes_total),
            grouped(io.read_bytes + io.written_bytes),
        )
    }
}
