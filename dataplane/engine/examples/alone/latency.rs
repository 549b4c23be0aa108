//! What each write took, as its host sees it, over a run with consistency points.

use std::time::{Duration, Instant};

use engine::Alone;

use crate::load::{ENTRIES, Load};
use crate::options::Options;
use crate::report::counter;
use crate::timing::Latencies;

/// Writes that end in the same time are shown together.
const BIN: Duration = Duration::from_millis(100);
/// Writes between two looks at the log.
const LOOK: u64 = 256;
/// How long nothing is recorded at first: connections are past their slow start, and pools have been through.
const WARM_UP: Duration = Duration::from_secs(1);

/// A tenth of a second.
struct Bin {
    /// Its end, from the beginning of the run.
    at: Duration,
    writes: usize,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
    /// What is not in it: how long the machine had other work.
    lost_us: f64,
}

impl Bin {
    fn of(at: Duration, ended: &mut Vec<u32>, lost: Duration) -> Self {
        ended.sort_unstable();
        let quantile = |share: f64| {
            let place = (ended.len().saturating_sub(1) as f64 * share).round() as usize;
            ended.get(place).map_or(0.0, |&ns| f64::from(ns) / 1e3)
        };
        let bin = Self {
            at,
            writes: ended.len(),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            max_us: quantile(1.0),
            lost_us: lost.as_secs_f64() * 1e6,
        };
        ended.clear();
        bin
    }
}

/// Runs until `points` consistency points have ended; one line of JSON.
pub fn measure(alone: &mut Alone, load: &mut Load, options: &Options, points: u64) {
    load.record(Latencies::new(ENTRIES));
    let begun = Instant::now();
    while begun.elapsed() < WARM_UP {
        load.run(alone, LOOK, options.depth, false);
    }
    load.latencies().ended.clear();
    let begun = Instant::now();
    let (first, mut used) = (counter(&alone.snapshot(), "points"), u64::MAX);
    let (mut begins, mut ends) = (Vec::new(), Vec::new());
    let (mut bins, mut until) = (Vec::new(), BIN);
    let mut lost = load.latencies().lost();
    while (ends.len() as u64) < points {
        load.run(alone, LOOK, options.depth, false);
        let now = begun.elapsed();
        let snapshot = alone.snapshot();
        let half_used = counter(&snapshot, "half_used");
        if half_used < used && used != u64::MAX {
            begins.push(now.as_secs_f64());
        }
        used = half_used;
        let ended = (counter(&snapshot, "points") - first) as usize;
        ends.resize(ended.max(ends.len()), now.as_secs_f64());
        if now >= until {
            let latencies = load.latencies();
            let so_far = latencies.lost();
            bins.push(Bin::of(now, &mut latencies.ended, so_far - lost));
            (lost, until) = (so_far, now + BIN);
        }
    }
    print(&bins, begun.elapsed(), (&begins, &ends), alone, options);
}

fn print(
    bins: &[Bin],
    took: Duration,
    (begins, ends): (&[f64], &[f64]),
    alone: &Alone,
    options: &Options,
) {
    let list = |times: &[f64]| {
        let times: Vec<_> = times.iter().map(|time| format!("{time:.4}")).collect();
        times.join(",")
    };
    let series: Vec<_> = bins
        .iter()
        .map(|bin| {
            format!(
                "{{\"at_s\":{:.4},\"writes\":{},\"p50_us\":{:.1},\"p99_us\":{:.1},\"max_us\":{:.1},\"lost_us\":{:.1}}}",
                bin.at.as_secs_f64(), bin.writes, bin.p50_us, bin.p99_us, bin.max_us, bin.lost_us
            )
        })
        .collect();
    let snapshot = alone.snapshot();
    let (pages, full) = (counter(&snapshot, "pages"), counter(&snapshot, "full"));
    let [drive, log] = options.device_us.unwrap_or_default();
    println!(
        "{{\"depth\":{},\"half_mib\":{},\"interval_s\":{},\"bin_s\":{},\"seconds\":{:.3},\"writes\":{},\
         \"drive_us\":[{},{}],\"log_us\":[{},{}],\"pages\":{pages},\"full\":{full},\
         \"begins\":[{}],\"ends\":[{}],\"bins\":[{}]}}",
        options.depth,
        options.half_mib,
        options.interval.as_secs_f64(),
        BIN.as_secs_f64(),
        took.as_secs_f64(),
        bins.iter().map(|bin| bin.writes).sum::<usize>(),
        drive.0,
        drive.1,
        log.0,
        log.1,
        list(begins),
        list(ends),
        series.join(","),
    );
}
