//! A mirrored pair with an etcd and two links, all of which is killed and cut in every order, under load.
//!
//! Each round draws its order from a seed, which it says if it fails. `THROUGHLINE_KILLS_SEED` is that of the first round,
//! `THROUGHLINE_KILLS_ROUNDS` how many there are.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use lab::pair::{NODES, Pair, is_in_sync, may_be_taken_over, report};
use lab::writer::{Course, Writer};
use lab::{Failure, Outcome, Process, Program, Result, Test, Tool, ensure, expect, wait};
use testkit::Random;

const WRITERS: u32 = 3;
/// Seconds of a lease: the least that there is.
const LEASE_S: u32 = 3;
/// What may happen before the next thing does: this much time passes, or so many writes are acknowledged.
const PAUSE_MS: u64 = 2500;
const PAUSE_WRITES: u64 = 200;

/// What befalls a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// The node that serves is killed, or the one that did last.
    Source,
    /// The other one.
    Destination,
    Both,
    Etcd,
    Link(usize),
}

const BLOWS: [Blow; 6] = [
    Blow::Source,
    Blow::Destination,
    Blow::Both,
    Blow::Etcd,
    Blow::Link(0),
    Blow::Link(1),
];

/// A step of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Strike(Blow),
    /// What it struck is there again, if nothing has brought it back before.
    Mend(Blow),
}

/// Every blow once, in an order that the seed says; each is mended at most three steps later.
fn order(random: &mut Random) -> Vec<Step> {
    let mut blows = BLOWS;
    random.shuffle(&mut blows);
    let mut steps: Vec<Step> = blows.into_iter().map(Step::Strike).collect();
    for blow in BLOWS {
        let struck = steps.iter().position(|step| *step == Step::Strike(blow));
        let at = struck.expect("every blow is there") + random.range(1..=3usize);
        steps.insert(at.min(steps.len()), Step::Mend(blow));
    }
    steps
}

/// What was done so far.
#[derive(Debug, Default)]
struct Tally {
    sources: u32,
    destinations: u32,
    both: u32,
    etcds: u32,
    cuts: u32,
}

/// What runs, and what is whole.
struct Scene<'p> {
    pair: &'p Pair,
    course: &'p Course,
    programs: [Option<Program<'p>>; 2],
    etcd: Option<Process>,
    /// The node that served when one was last asked.
    source: usize,
    tally: Tally,
}

impl<'p> Scene<'p> {
    fn start(pair: &'p Pair, course: &'p Course, etcd: Process) -> Result<Self> {
        Ok(Self {
            pair,
            course,
            programs: [Some(pair.start(0)?), Some(pair.start(1)?)],
            etcd: Some(etcd),
            source: 0,
            tally: Tally::default(),
        })
    }

    fn take(&mut self, step: Step, random: &mut Random) -> Outcome {
        self.pause(random);
        match step {
            Step::Strike(blow) => self.strike(blow, random),
            Step::Mend(blow) => self.mend(blow),
        }
    }

    /// The node that serves, or did.
    fn source(&mut self) -> Result<usize> {
        for (node, program) in self.programs.iter().enumerate() {
            if let Some(program) = program
                && report(program)?["serves_hosts"] == true
            {
                self.source = node;
            }
        }
        Ok(self.source)
    }

    fn strike(&mut self, blow: Blow, random: &mut Random) -> Outcome {
        match blow {
            Blow::Source => {
                let node = self.source()?;
                self.comes_back(node, random)?;
                self.kill(node);
                self.tally.sources += 1;
            }
            Blow::Destination => {
                let node = 1 - self.source()?;
                self.comes_back(node, random)?;
                self.kill(node);
                self.tally.destinations += 1;
            }
            Blow::Both => {
                let first = self.source()?;
                for node in [first, 1 - first] {
                    self.comes_back(node, random)?;
                }
                (0..2).for_each(|node| self.kill(node));
                self.tally.both += 1;
            }
            Blow::Etcd => {
                if let Some(etcd) = self.etcd.take() {
                    etcd.kill();
                    self.tally.etcds += 1;
                }
            }
            Blow::Link(link) => {
                self.pair.cut(link, true)?;
                self.tally.cuts += 1;
            }
        }
        Ok(())
    }

    /// A node that is to be killed, and was before, starts, and has some time to come to something.
    fn comes_back(&mut self, node: usize, random: &mut Random) -> Outcome {
        if self.programs[node].is_none() {
            self.restart(node)?;
            self.pause(random);
        }
        Ok(())
    }

    fn kill(&mut self, node: usize) {
        if let Some(program) = self.programs[node].take() {
            let kills = &self.course.kills[node];
            kills.fetch_add(1, Ordering::AcqRel);
            program.kill();
            kills.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn mend(&mut self, blow: Blow) -> Outcome {
        match blow {
            Blow::Source => self.restart(self.source),
            Blow::Destination => self.restart(1 - self.source),
            Blow::Both => (0..2).try_for_each(|node| self.restart(node)),
            Blow::Etcd => {
                if self.etcd.is_none() {
                    self.etcd = Some(self.pair.start_etcd()?);
                }
                Ok(())
            }
            Blow::Link(link) => self.pair.cut(link, false),
        }
    }

    fn restart(&mut self, node: usize) -> Outcome {
        if self.programs[node].is_none() {
            self.programs[node] = Some(self.pair.start(node)?);
        }
        Ok(())
    }

    /// Waits for so many more writes, as long as a drawn time at most: in some states hosts wait, rightly.
    fn pause(&self, random: &mut Random) {
        let acknowledged = || self.course.acknowledged.load(Ordering::Acquire);
        let wanted = acknowledged() + random.below(PAUSE_WRITES);
        let end = Instant::now() + Duration::from_millis(random.below(PAUSE_MS));
        while acknowledged() < wanted && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Hosts are served, both have the same, and the arbiter knows: the node that serves.
    fn is_whole(&mut self) -> Result<usize> {
        let all = self.programs.iter().all(Option::is_some) && self.etcd.is_some();
        ensure!(all, "something was not mended");
        let acknowledged = || self.course.acknowledged.load(Ordering::Acquire);
        let wanted = acknowledged() + 20;
        wait::until("hosts are served again", || {
            let n = acknowledged();
            Ok(if n >= wanted {
                Ok(())
            } else {
                Err(format!("{n} of {wanted} writes"))
            })
        })?;
        let source = self.source()?;
        let [serving, other] = [source, 1 - source].map(|node| self.get(node));
        is_in_sync(serving, "source")?;
        is_in_sync(other, "destination")?;
        may_be_taken_over(serving)?;
        Ok(source)
    }

    fn get(&self, node: usize) -> &Program<'p> {
        self.programs[node].as_ref().expect("it runs")
    }
}

/// One round, from a pair in sync to a pair in sync.
fn round(test: &Test, scene: &mut Scene<'_>, seed: u64, writers: &mut [Writer]) -> Outcome {
    let mut random = Random::new(seed);
    let steps = order(&mut random);
    test.note(format!("seed {seed}: {steps:?}"));
    let (course, pair) = (scene.course, scene.pair);
    course.is_over.store(false, Ordering::Release);
    let door = pair.host.door()?;
    thread::scope(|scope| -> Outcome {
        let door = &door;
        let writing: Vec<_> = (writers.iter_mut())
            .map(|writer| {
                scope.spawn(move || {
                    door.enter()?;
                    writer.roam(&NODES, course)
                })
            })
            .collect();
        let done = steps.iter().try_for_each(|step| {
            let told = |failure: Failure| failure.during(format!("{step:?}"));
            scene.take(*step, &mut random).map_err(told)
        });
        let done = done.and_then(|()| scene.is_whole());
        course.is_over.store(true, Ordering::Release);
        for writer in writing {
            let wrote = writer.join().expect("a writer panicked");
            wrote.map_err(|error| Failure::new(format!("{error}; {done:?}")))?;
        }
        done.map(drop)
    })?;
    let source = scene.is_compared(test)?;
    for writer in writers {
        writer.goes_to(NODES[source]);
        pair.host.within(|| writer.verify())?;
    }
    Ok(())
}

impl Scene<'_> {
    /// Both nodes have the same, byte by byte: the node that serves.
    fn is_compared(&mut self, test: &Test) -> Result<usize> {
        let source = self.source()?;
        let verify = Tool::new(test, lab::throughline()?).args(["pair", "verify", "disk0"]);
        let compared = verify.arg("--socket").arg(self.get(source).socket());
        let compared = compared.succeeds()?.output();
        expect::contains("what it says", &compared, "none differs")?;
        Ok(source)
    }
}

/// What the environment says, or `usual`.
fn number(variable: &str, usual: u64) -> Result<u64> {
    let said = std::env::var(variable);
    let number = said.map_or(Ok(usual), |said| said.parse());
    number.map_err(|_| Failure::new(format!("{variable} is not a number")))
}

/// The source, the other node, both, the etcd are killed and each link is cut, in an order that a seed draws, under load: what was acknowledged
/// is there, both nodes have the same at the end of each round, and every copy ends.
fn s08_what_was_acknowledged_outlives_kills_in_every_order(test: &Test) -> Outcome {
    let (pair, etcd) = Pair::with_links_and_etcd(test, LEASE_S)?;
    let mut writers: Vec<_> = (0..WRITERS)
        .map(|number| Writer::new(number, NODES[0]))
        .collect();
    let first = number("THROUGHLINE_KILLS_SEED", 1)?;
    let rounds = number("THROUGHLINE_KILLS_ROUNDS", if test.long() { 50 } else { 2 })?;
    let course = Course::default();
    let mut scene = Scene::start(&pair, &course, etcd)?;
    may_be_taken_over(scene.get(0))?;
    for seed in first..first + rounds {
        round(test, &mut scene, seed, &mut writers)
            .map_err(|failure| failure.during(format!("THROUGHLINE_KILLS_SEED={seed}")))?;
    }
    let writes = course.acknowledged.load(Ordering::Acquire);
    let Tally {
        sources,
        destinations,
        both,
        etcds,
        cuts,
    } = scene.tally;
    test.figure(format!(
        "{rounds} rounds, seeds from {first}: {writes} writes acknowledged, none lost; killed: {sources} times the source, \
         {destinations} times the other node, {both} times both, {etcds} times etcd; {cuts} cuts of a link"
    ));
    let [first, second] = scene.programs.each_mut().map(Option::take);
    first.expect("it runs").stop()?;
    second.expect("it runs").kill();
    Ok(())
}

lab::tests![s08_what_was_acknowledged_outlives_kills_in_every_order];
