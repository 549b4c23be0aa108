//! What can be run: each scenario draws a plan from a seed and runs it to its end.

use std::panic::{self, AssertUnwindSafe};

use testkit::Random;

use crate::clock;
use crate::guard;
use crate::link;
use crate::oracle::Violation;
use crate::pair;
use crate::plan::Plan;
use crate::replicas;
use crate::trace::Trace;
use crate::world::{Summary, World};

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// An appliance, and hosts that use it: everything that goes wrong with links, devices,
    /// hosts and the appliance itself.
    Target,
    /// The same with a log: volumes whose acknowledged writes no crash takes back, crashes while they are
    /// replayed included.
    Log,
    /// The same on a log store that lies about some writes: that is found out, or nothing is lost.
    LogLies,
    /// A log on two stores, one of which fails, is silent, or is not there at a start.
    LogTwo,
    /// A log on two stores, one of which lies: nothing is lost, and no start refuses.
    LogTwoLies,
    /// A log of several volumes, the drive of one of which hangs for a minute while hosts keep their queues full of
    /// commands for it: the others go on.
    LogHangs,
    /// An appliance with a log or without, whose volumes lie on several drives.
    Spans,
    /// An appliance whose hosts prove who they are, and somebody who cannot.
    Auth,
    /// An appliance whose hosts are encrypted, and somebody who tries to get past that.
    Tls,
    /// The link of a mirrored pair alone: two nodes, and connections that break.
    Link,
    /// Two replicas of a volume that lose each other and meet again.
    Replicas,
    /// Two or three appliances that keep the same volumes.
    Pair,
    /// The same with two links between each two, of which one is there all the while.
    PairLinks,
}

/// A run that went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Virtual time.
    pub nanoseconds: u64,
    /// What was expected and what came.
    pub what: String,
    /// Of everything until then.
    pub digest: u64,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Scenario; 13] = [
        Scenario::Target,
        Scenario::Log,
        Scenario::LogLies,
        Scenario::LogTwo,
        Scenario::LogTwoLies,
        Scenario::LogHangs,
        Scenario::Spans,
        Scenario::Auth,
        Scenario::Tls,
        Scenario::Link,
        Scenario::Replicas,
        Scenario::Pair,
        Scenario::PairLinks,
    ];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Scenario::Target => "target",
            Scenario::Log => "log",
            Scenario::LogLies => "log-lies",
            Scenario::LogTwo => "log-two",
            Scenario::LogTwoLies => "log-two-lies",
            Scenario::LogHangs => "log-hangs",
            Scenario::Spans => "spans",
            Scenario::Auth => "auth",
            Scenario::Tls => "tls",
            Scenario::Link => "link",
            Scenario::Replicas => "replicas",
            Scenario::Pair => "pair",
            Scenario::PairLinks => "pair-links",
        }
    }

    /// The scenario of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|scenario| scenario.name() == name)
    }

    /// Runs the seed. What happens follows from it, and from nothing else.
    ///
    /// # Errors
    /// Something that must not be; a panic is one.
    pub fn run(self, seed: u64, prints: bool) -> Result<Summary, Failure> {
        let trace = Trace::new(prints);
        let result = panic::catch_unwind(AssertUnwindSafe(|| match self {
            Scenario::Target => run(seed, Plan::draw, &trace),
            Scenario::Log => run(
                seed,
                |random| Plan::draw_logged(random).with_tables(random),
                &trace,
            ),
            Scenario::LogLies => run(seed, Plan::draw_lies, &trace),
            Scenario::LogTwo => run(
                seed,
                |random| Plan::draw_two(random).with_tables(random),
                &trace,
            ),
            Scenario::LogTwoLies => run(seed, Plan::draw_two_lies, &trace),
            Scenario::LogHangs => run(seed, Plan::draw_hangs, &trace),
            Scenario::Spans => run(seed, Plan::draw_spans, &trace),
            Scenario::Auth => {
                guard::forget();
                run(seed, Plan::draw_guarded, &trace)
            }
            Scenario::Tls => {
                guard::forget();
                run(seed, Plan::draw_encrypted, &trace)
            }
            Scenario::Link => link::run(seed, &trace),
            Scenario::Replicas => replicas::run(seed, &trace),
            Scenario::Pair => pair::run(seed, false, &trace),
            Scenario::PairLinks => pair::run(seed, true, &trace),
        }));
        let what = match result {
            Ok(Ok(summary)) => return Ok(summary),
            Ok(Err(violation)) => violation.to_string(),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                format!("a panic: {}", text.unwrap_or("of no words"))
            }
        };
        Err(Failure {
            seed,
            nanoseconds: clock::now(),
            what,
            digest: trace.digest(),
        })
    }
}

/// Apart from everything else that is drawn from a seed.
const CHANGES: u64 = 0x6f66_6665_7200_0000;

fn run(seed: u64, draw: fn(&mut Random) -> Plan, trace: &Trace) -> Result<Summary, Violation> {
    let mut random = Random::new(seed);
    let mut plan = draw(&mut random);
    if plan.may_change {
        plan.draw_changes(&mut Random::new(seed ^ CHANGES));
    }
    if trace.prints() {
        println!("{plan:#?}");
    }
    let mut world = World::new(plan, &mut random, trace);
    match world.run() {
        Ok(()) => Ok(world.summary()),
        Err(Violation(what)) => Err(Violation(format!("{what}\n  {}", world.describe()))),
    }
}
