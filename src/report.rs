//! The report of a recorded run: what `ci/demo` ends with.
//!
//! The run is a directory: `run.json` says what was run on which machine, and
//! each phase has a directory with `phase.json` (what a tool did and whether the
//! data compared equal) and, where the target worked, the counters `before.json`
//! and `after.json` as `throughline stats --json` printed them.

mod show;

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::stats::{Io, Named, Shard, Stats};

/// What `run.json` says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    /// One line: what the run shows.
    title: String,
    /// Facts about the machine and the link, by name.
    machine: Named<String>,
    /// Directories of the phases, in order.
    phases: Vec<String>,
}

/// What `phase.json` says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// What was done.
    name: String,
    /// The initiator's tool that did it.
    tool: String,
    /// Whether it did, and the data compared equal.
    good: bool,
    /// What came out, in a word or two.
    result: String,
    /// How long it took.
    seconds: f64,
    /// The tool's own figures, where it gives them.
    iops: Option<f64>,
    mib_per_second: Option<f64>,
    latency_us: Option<f64>,
}

/// A phase with what the target did in it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    #[serde(flatten)]
    phase: Phase,
    target: Option<Work>,
}

/// The target's work in a phase, or in all of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Work {
    io: Io,
    cycles_per_io: Named<f64>,
    cycles_per_io_total: f64,
    pages_by_segments: [u64; 4],
    copied_bytes: Named<u64>,
    copied_bytes_total: u64,
    copied_per_stored_byte: Named<f64>,
    copied_per_stored_byte_total: f64,
    #[serde(skip)]
    shard: Shard,
}

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) good: bool,
    throughline: String,
    title: String,
    machine: Named<String>,
    phases: Vec<Measured>,
    total: Option<Work>,
}

impl Work {
    fn new(shard: Shard) -> Self {
        let moved = shard.io.read_bytes + shard.io.written_bytes;
        let stored = if shard.io.written_bytes > 0 {
            shard.io.written_bytes
        } else {
            moved
        };
        let over = |part: u64, whole: u64| {
            if whole == 0 {
                0.0
            } else {
                part as f64 / whole as f64
            }
        };
        let each = |list: &Named<u64>, whole| {
            Named(
                list.iter()
                    .map(|(name, &value)| (name.to_owned(), over(value, whole)))
                    .collect(),
            )
        };
        Self {
            io: shard.io,
            cycles_per_io: each(&shard.cycles_by_stage, shard.io.transfers()),
            cycles_per_io_total: over(shard.cycles_by_stage.sum(), shard.io.transfers()),
            pages_by_segments: shard.pages_by_segments,
            copied_bytes: shard.copied_bytes.clone(),
            copied_bytes_total: shard.copied_bytes_total(),
            copied_per_stored_byte: each(&shard.copied_bytes, stored),
            copied_per_stored_byte_total: over(shard.copied_bytes_total(), stored),
            shard,
        }
    }
}

/// Reads a recorded run.
pub(crate) fn read(directory: &Path) -> anyhow::Result<Report> {
    let run: Run = json(&directory.join("run.json"))?;
    let mut report = Report {
        good: !run.phases.is_empty(),
        throughline: String::new(),
        title: run.title,
        machine: run.machine,
        phases: Vec::new(),
        total: None,
    };
    let (mut first, mut last) = (None, None);
    for name in &run.phases {
        let at = directory.join(name);
        let phase: Phase = json(&at.join("phase.json"))?;
        report.good &= phase.good;
        let (before, after) = (at.join("before.json"), at.join("after.json"));
        let target = if before.exists() && after.exists() {
            let (before, after): (Stats, Stats) = (json(&before)?, json(&after)?);
            report.throughline.clone_from(&after.version);
            let (before, after) = (before.total(), after.total());
            let work = Work::new(after.since(&before));
            first.get_or_insert(before);
            last = Some(after);
            Some(work)
        } else {
            None
        };
        report.phases.push(Measured { phase, target });
    }
    if let (Some(first), Some(last)) = (first, last) {
        report.total = Some(Work::new(last.since(&first)));
    }
    Ok(report)
}

fn json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not what it should be", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tests::sample;

    #[test]
    fn z14_a_recorded_run_becomes_a_report() {
        let directory = tempfile::TempDir::new().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let run = r#"{"title": "a run", "machine": {"cpu": "some"}, "phases": ["1", "2"]}"#;
        write("run.json", run);
        write(
            "1/phase.json",
            r#"{"name":"identify","tool":"identify","good":true,"result":"ok","seconds":0.1}"#,
        );
        let phase = r#"{"name":"write","tool":"spdk_dd","good":true,"result":"identical","seconds":2.0,"iops":500.5}"#;
        write("2/phase.json", phase);
        let mut stats = sample();
        write("2/before.json", &serde_json::to_string(&stats).unwrap());
        stats.shards[0].io.writes += 100;
        stats.shards[0].io.written_bytes += 409_600;
        stats.shards[0].cycles_by_stage.0[0].1 += 5_000;
        stats.shards[0].pages_by_segments[2] += 100;
        write("2/after.json", &serde_json::to_string(&stats).unwrap());
        let report = read(directory.path()).unwrap();
        assert!(report.good);
        let work = report.phases[1].target.as_ref().unwrap();
        assert_eq!(
            (
                work.io.writes,
                work.cycles_per_io_total,
                work.copied_bytes_total
            ),
            (100, 50.0, 0)
        );
        let shown = report.to_string();
        for part in [
            "a run",
            "identical",
            "the CPU copied 0 of 409,600 payload bytes",
            "  3           100  100.0 %  ███",
        ] {
            assert!(shown.contains(part), "{part}\nis not in\n{shown}");
        }
        let json = serde_json::to_string(&report).unwrap();
        assert!(
            json.contains(r#""copied_per_stored_byte_total":0.0"#),
            "{json}"
        );
        write("2/phase.json", &phase.replace("true", "false"));
        assert!(!read(directory.path()).unwrap().good);
        write("run.json", r#"{"title": "", "machine": {}, "phases": []}"#);
        assert!(!read(directory.path()).unwrap().good);
        assert!(read(&directory.path().join("none")).is_err());
    }
}
