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
    /// Bytes of a bulk transfer: about a second's worth.
    bulk: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Both directions of every link are impaired so.
const CASES: &[Case] = &[
    Case {
        name: "clean",
        netem: "rate 200mbit limit 1000",
        bulk: 24 * MIB,
    },
    Case {
        name: "loss_1_percent",
        netem: "rate 200mbit limit 1000 loss 1%",
        bulk: 16 * MIB,
    },
    Case {
        name: "loss_1_percent_2_ms",
        netem: "rate 200mbit limit 1000 delay 1ms loss 1%",
        bulk: 8 * MIB,
    },
    Case {
        name: "loss_5_percent",
        netem: "rate 200mbit limit 1000 delay 1ms loss 5%",
        bulk: 2 * MIB,
    },
    Case {
        name: "reorder_25_percent",
        netem: "rate 200mbit limit 1000 delay 2ms reorder 25%",
        bulk: 8 * MIB,
    },
    Case {
        name: "duplicate_5_percent",
        netem: "rate 200mbit limit 1000 delay 1ms duplicate 5%",
        bulk: 16 * MIB,
    },
    Case {
        name: "delay_50_ms",
        netem: "rate 200mbit limit 3000 delay 50ms",
        bulk: 24 * MIB,
    },
    Case {
        name: "delay_50_ms_loss_1_percent",
        netem: "rate 200mbit limit 3000 delay 50ms loss 1%",
        bulk: 512 * KIB,
    },
    Case {
        name: "corrupt_1_percent",
        netem: "rate 200mbit limit 1000 delay 1ms corrupt 1%",
        bulk: 8 * MIB,
    },
];

/// What our throughput must reach of Linux's.
const RATIO_MIN: f64 = 0.8;

fn main() {
    runner::main(CASES.iter().map(|case| case.name), |index, options| {
        run(&CASES[index], options)
    });
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

    fn job(&mut self, workload: Workload, round: usize) -> Job {
        self.port += 1;
        Job {
            workload,
            dialer: round % 2,
            ipv6: round / 2 % 2 == 1,
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
    let started = ends[job.dialer].started;
    let (amount, seconds) = match job.workload {
        Workload::Requests(time) => (ends[job.dialer].amount, time.as_secs_f64()),
        Workload::BulkIn(_) => (ends[0].amount, (ends[0].ended - started).as_secs_f64()),
        Workload::BulkOut(_) => (ends[1].amount, (ends[1].ended - started).as_secs_f64()),
    };
    Ok(job.workload.rate(amount, seconds))
}

/// Runs every workload of a case.
fn run(case: &Case, options: &runner::Options) -> Result<String, String> {
    let mut lab = Lab::new(options.means, case.netem)?;
    let mut report = format!("  {}: netem {}\n", case.name, case.netem);
    let bulk = if options.ratios {
        case.bulk
    } else {
        case.bulk / 8
    };
    let time = Duration::from_millis(if options.ratios { 1000 } else { 200 });
    let workloads = [
        Workload::BulkIn(bulk),
        Workload::BulkOut(bulk),
        Workload::Requests(time),
    ];
    let result = workloads.into_iter().try_for_each(|workload| {
        report += &compare(&mut lab, workload, options)?;
        Ok::<_, String>(())
    });
    report += &lab.end();
    match result {
        Ok(()) => Ok(report),
        Err(error) => Err(format!("{report}{error}")),
    }
}

/// One workload, ours and Linux's by turns.
fn compare(lab: &mut Lab, workload: Workload, options: &runner::Options) -> Result<String, String> {
    let (mut ours, mut linux) = (Vec::new(), Vec::new());
    // Who dials and which IP alternate from round to round.
    let (least, most) = if options.ratios { (4, 12) } else { (4, 4) };
    let mut ratio = 0.0;
    while ours.len() < most && (ours.len() < least || ratio < RATIO_MIN) {
        let round = ours.len();
        let job = lab.job(workload, round);
        ours.push(lab.run_ours(job)?);
        if options.ratios || round == 0 {
            linux.push(lab.run_linux(job)?);
        }
        ratio = median(&ours) / median(&linux);
    }
    let line = format!(
        "    {:<20} ours {:>9.1} Linux {:>9.1} {:<7} ratio {ratio:.2}  ({} rounds)\n",
        workload.name(),
        median(&ours),
        median(&linux),
        workload.unit(),
        ours.len(),
    );
    if options.ratios && ratio < RATIO_MIN {
        let all = |list: &[f64]| list.iter().map(|x| format!("{x:.1} ")).collect::<String>();
        let (ours, linux) = (all(&ours), all(&linux));
        return Err(format!("{line}    ours {ours}\n    Linux {linux}"));
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
