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
//! Needs root, for network namespaces of its own; without it every test is
//! ignored, and says so. Where the kernel has no netem, a wire of our own stands
//! in its place, for both contestants.

mod ours;
mod pattern;
mod place;
mod runner;
mod sys;
mod theirs;
mod wire;
mod workload;

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use ours::Host;
use pattern::Pattern;
use place::{Link, Means, Namespace, addresses};
use workload::{Done, Gate, Job, Workload};

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
    runner::main(tests);
}

/// One end that is ours: a thread with a stack, which takes part in one job after the other.
struct OurEnd {
    jobs: mpsc::Sender<(Job, Gate)>,
    results: mpsc::Receiver<Result<Done, String>>,
    thread: JoinHandle<String>,
}

impl OurEnd {
    fn start(namespace: &Namespace, pattern: &Pattern) -> Self {
        let (jobs, todo) = mpsc::channel::<(Job, Gate)>();
        let (answer, results) = mpsc::channel();
        let pattern = pattern.clone();
        let thread = namespace.spawn(move || {
            let mut host = match Host::new(pattern, |_| {}) {
                Ok(host) => host,
                Err(error) => {
                    let _ = answer.send(Err(error));
                    return String::new();
                }
            };
            let before = host.counters();
            while let Ok((job, gate)) = todo.recv() {
                let _ = answer.send(host.take_part(job, &gate));
            }
            ours::difference(&before, &host.counters())
        });
        Self {
            jobs,
            results,
            thread,
        }
    }
}

/// The two links, and who is at their ends.
struct Lab {
    pattern: Pattern,
    ours: Link,
    our_end: OurEnd,
    linux: Link,
    port: u16,
}

impl Lab {
    fn new(means: Means, netem: &str) -> Result<Self, String> {
        let pattern = Pattern::new();
        let ours = Link::new(means, netem, 1)?;
        let linux = Link::new(means, netem, 2)?;
        ours.ends[1].commands(addresses(1))?;
        linux.ends[0].commands(addresses(0))?;
        linux.ends[1].commands(addresses(1))?;
        let our_end = OurEnd::start(&ours.ends[0], &pattern);
        Ok(Self {
            pattern,
            ours,
            our_end,
            linux,
            port: 5000,
        })
    }

    fn job(&mut self, workload: Workload, connections: usize, round: usize) -> Job {
        self.port += 1;
        Job {
            workload,
            connections,
            dialer: round % 2,
            ipv6: (round + round / 2) % 2 == 1,
            port: self.port,
        }
    }

    /// Our stack and the kernel.
    fn run_ours(&self, job: Job) -> Result<f64, String> {
        let gate = Gate::default();
        let sent = self.our_end.jobs.send((job, gate.clone()));
        let theirs = theirs::start(&self.ours.ends[1], 1, job, &self.pattern, &gate);
        let ours = match sent {
            Ok(()) => self.our_end.results.recv().map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        result(job, ours.and_then(|ours| ours), theirs)
    }

    /// The kernel and the kernel.
    fn run_linux(&self, job: Job) -> Result<f64, String> {
        let gate = Gate::default();
        let [zero, one] =
            [0, 1].map(|end| theirs::start(&self.linux.ends[end], end, job, &self.pattern, &gate));
        let zero = zero.join().map_err(|_| "panicked")?;
        result(job, zero, one)
    }

    fn end(self) -> String {
        drop(self.our_end.jobs);
        let counts = self.our_end.thread.join().unwrap_or_default();
        let mut out = format!("    our counters: {counts}\n");
        for (name, link) in [("ours", self.ours), ("Linux", self.linux)] {
            if let Some(tallies) = link.end() {
                out += &format!("    wire of {name}: {tallies:?}\n");
            }
        }
        out
    }
}

fn result(
    job: Job,
    zero: Result<Done, String>,
    one: JoinHandle<Result<Done, String>>,
) -> Result<f64, String> {
    let one = one.join().map_err(|_| "panicked")?;
    let ends = match (zero, one) {
        (Ok(zero), Ok(one)) => [zero, one],
        (zero, one) => {
            let errors = [zero.err(), one.err()];
            let errors: Vec<_> = errors.into_iter().flatten().collect();
            return Err(format!("{}: {}", job.describe(), errors.join("; ")));
        }
    };
    Ok(job.rate(&ends))
}

/// Runs every workload of a case.
fn run(case: &Case, options: &runner::Options) -> Result<String, String> {
    let mut lab = Lab::new(options.means, case.netem)?;
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
        report += &compare(&mut lab, workload, connections, options)?;
        Ok::<_, String>(())
    });
    let counts = lab.end();
    if result.is_err() || options.verbose {
        report += &counts;
    }
    match result {
        Ok(()) => Ok(report),
        Err(error) => Err(format!("{report}{error}")),
    }
}

/// One workload, ours and Linux's by turns.
fn compare(
    lab: &mut Lab,
    workload: Workload,
    connections: usize,
    options: &runner::Options,
) -> Result<String, String> {
    let (mut ours, mut linux) = (Vec::new(), Vec::new());
    // Who dials and which IP alternate from round to round.
    let (least, most) = if options.ratios { (4, 12) } else { (2, 2) };
    let mut ratio = f64::NAN;
    while ours.len() < most && (ours.len() < least || ratio < RATIO_MIN) {
        let round = ours.len();
        let job = lab.job(workload, connections, round);
        ours.push(lab.run_ours(job)?);
        if options.ratios {
            linux.push(lab.run_linux(job)?);
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
