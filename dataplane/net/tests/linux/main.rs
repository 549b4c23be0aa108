//! Our TCP against Linux's over impaired links, both directions.
//!
//! Each test makes two links that are impaired the same way. On one of them our
//! stack talks to the kernel's TCP; on the other the kernel talks to itself.
//! Every byte is checked, every connection must end in order, and every cluster
//! come back. What was achieved on the two links is printed side by side.
//!
//! ```text
//! cargo test -p net --test linux                        each case once, shortly
//! cargo test -p net --test linux --release -- --ratios  repeated; medians must reach 0.8 of Linux's
//! ```
//!
//! With `--verbose` counters are printed, too; a directory named by
//! `THROUGHLINE_LINUX_CAPTURE` gets a capture of what our stack saw, in pcap format.
//!
//! Needs root, for network namespaces of its own; without it every test is
//! ignored, and says so. Where the kernel has no netem, a wire of our own stands
//! in its place, for both contestants.

mod lab;
mod ours;
mod paths;
mod place;
mod runner;
mod sys;
mod theirs;
mod wire;
mod workload;

use std::time::Duration;

use lab::Lab;
use place::{Link, Way};
use workload::Workload;

/// How a link is impaired, in netem's words, and how much it is given to do.
struct Case {
    name: &'static str,
    netem: &'static str,
    /// Connections of a bulk transfer: as many as the rate leaves to the losses.
    connections: usize,
    /// Bytes on each of them: about half a second's worth.
    bulk: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Both directions of every link are impaired so.
const CASES: &[Case] = &[
    Case {
        name: "clean",
        netem: "rate 200mbit limit 1000 delay 500us",
        connections: 1,
        bulk: 12 * MIB,
    },
    Case {
        name: "loss_1_percent",
        netem: "rate 200mbit limit 1000 delay 1ms loss 1%",
        connections: 3,
        bulk: 2 * MIB,
    },
    Case {
        name: "loss_5_percent",
        netem: "rate 200mbit limit 1000 delay 1ms loss 5%",
        connections: 8,
        bulk: 384 * KIB,
    },
    Case {
        name: "reorder_25_percent",
        netem: "rate 200mbit limit 1000 delay 2ms reorder 25%",
        connections: 4,
        bulk: 2 * MIB,
    },
    Case {
        name: "duplicate_5_percent",
        netem: "rate 200mbit limit 1000 delay 1ms duplicate 5%",
        connections: 1,
        bulk: 8 * MIB,
    },
    Case {
        name: "delay_50_ms",
        netem: "rate 200mbit limit 3000 delay 50ms",
        connections: 1,
        bulk: 12 * MIB,
    },
    Case {
        name: "delay_50_ms_loss_1_percent",
        netem: "rate 200mbit limit 3000 delay 50ms loss 1%",
        connections: 8,
        bulk: 384 * KIB,
    },
    Case {
        name: "corrupt_1_percent",
        netem: "rate 200mbit limit 1000 delay 1ms corrupt 1%",
        connections: 3,
        bulk: 2 * MIB,
    },
    Case {
        name: "loss_1_percent_short_way",
        netem: "rate 200mbit limit 1000 loss 1%",
        connections: 1,
        bulk: 8 * MIB,
    },
];

/// Connections that requests go over at once.
const REQUESTERS: usize = 8;

/// What our throughput must reach of Linux's.
const RATIO_MIN: f64 = 0.8;

fn main() {
    let mut tests: Vec<runner::Test> = vec![(
        "the_wire_does_what_netem_would",
        Box::new(|_| wire::check_itself()),
    )];
    for case in CASES {
        tests.push((case.name, Box::new(|options| run(case, options))));
    }
    for (name, test) in paths::TESTS {
        tests.push((name, Box::new(test)));
    }
    runner::main(tests);
}

/// Runs every workload of a case.
fn run(case: &Case, options: &runner::Options) -> Result<String, String> {
    let links = [
        Link::new(options.means, case.netem, 1)?,
        Link::new(options.means, case.netem, 2)?,
    ];
    let mut ours = Lab::ours(&links[0].ends, Way::Direct, |_| {})?;
    let mut linux = Lab::linux(&links[1].ends, Way::Direct)?;
    let mut report = format!("  netem {}\n", case.netem);
    let (bulk, time) = if options.ratios {
        (case.bulk, Duration::from_millis(500))
    } else {
        (case.bulk / 8, Duration::from_millis(200))
    };
    let workloads = [
        Workload::BulkIn(bulk),
        Workload::BulkOut(bulk),
        Workload::Requests(time),
    ];
    let result = workloads.into_iter().try_for_each(|workload| {
        let connections = match workload {
            Workload::Requests(_) => REQUESTERS,
            _ => case.connections,
        };
        report += &compare(&mut ours, &mut linux, workload, connections, options)?;
        Ok::<_, String>(())
    });
    let counters = ours.end()?;
    if result.is_err() || options.verbose {
        report += &format!("    our counters: {}\n", lab::describe(&counters));
        for (name, link) in ["ours", "Linux"].into_iter().zip(links) {
            if let Some(tallies) = link.end() {
                report += &format!("    wire of {name}: {tallies:?}\n");
            }
        }
    }
    match result {
        Ok(()) => Ok(report),
        Err(error) => Err(format!("{report}{error}")),
    }
}

/// One workload, ours and Linux's by turns.
fn compare(
    our_lab: &mut Lab,
    linux_lab: &mut Lab,
    workload: Workload,
    connections: usize,
    options: &runner::Options,
) -> Result<String, String> {
    let (mut ours, mut linux) = (Vec::new(), Vec::new());
    // Every combination of who dials and which IP has its turn.
    let (least, most) = if options.ratios { (4, 12) } else { (2, 2) };
    let mut ratio = f64::NAN;
    while ours.len() < most && (ours.len() < least || ratio < RATIO_MIN) {
        let round = ours.len();
        ours.push(our_lab.run(workload, connections, round)?);
        if options.ratios {
            linux.push(linux_lab.run(workload, connections, round)?);
            ratio = median(&ours) / median(&linux);
        }
    }
    let (name, unit) = (workload.name(), workload.unit());
    let mut line = format!("    {name:<18} ours {:>8.1}", median(&ours));
    if options.ratios {
        let (theirs, rounds) = (median(&linux), ours.len());
        line += &format!(" Linux {theirs:>8.1} {unit:<6} ratio {ratio:.2} ({rounds} rounds)\n");
    } else {
        line += &format!(" {unit}\n");
    }
    if ratio < RATIO_MIN {
        return Err(format!(
            "{line}    ours {ours:.1?}\n    Linux {linux:.1?}\n"
        ));
    }
    Ok(line)
}

fn median(list: &[f64]) -> f64 {
    let mut sorted = list.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}
