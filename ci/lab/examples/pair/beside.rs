//! Writes to a pair and to SPDK's raid1 by turns: the same namespaces, wires, cores and hosts, programs that begin anew each time.

use std::path::Path;
use std::time::{Duration, Instant};

use lab::config::NQN;
use lab::pair::{NODES, Pair, is_in_sync};
use lab::{MIB, Outcome, Program, Result, Test};
use serde_json::{Value, json};
use testkit::places::Pattern;

use crate::bench::{DEPTH, IO, VOLUME_MIB};
use crate::lane::Lane;
use crate::load::{End, Load};
use crate::peer::Raid;
use crate::wire;

/// What has both nodes.
enum Side<'p> {
    /// Source and destination.
    Pair(Vec<Program<'p>>),
    Raid(Box<Raid<'p>>),
}

impl<'p> Side<'p> {
    const NAMES: [&'static str; 2] = ["mirrored", "raid1"];

    fn start(name: &str, test: &Test, pair: &'p Pair, peer: &Path) -> Result<Self> {
        if name == "raid1" {
            return Ok(Self::Raid(Box::new(Raid::start(test, pair, peer)?)));
        }
        let destination = pair.start(1)?;
        let source = pair.start(0)?;
        is_in_sync(&source, "source")?;
        Ok(Self::Pair(vec![source, destination]))
    }

    /// Cycles in which source and destination were busy, as they count them.
    fn busy(&self) -> Result<[u64; 2]> {
        match self {
            Self::Pair(nodes) => {
                let busy = |node: &Program<'_>| -> Result<u64> {
                    Ok(node.stats()?.sum("cycles_by_stage"))
                };
                Ok([busy(&nodes[0])?, busy(&nodes[1])?])
            }
            Self::Raid(raid) => raid.busy(),
        }
    }

    fn stop(self) -> Outcome {
        match self {
            Self::Pair(nodes) => nodes.into_iter().try_for_each(Program::stop),
            Self::Raid(raid) => raid.stop(),
        }
    }
}

/// All rounds. `peer` is the `nvmf_tgt` of a current SPDK.
pub fn run(test: &Test, pair: &Pair, peer: &Path, is_quick: bool) -> Result<Vec<Value>> {
    let (rounds, seconds) = if is_quick { (3, 1) } else { (5, 2) };
    let mut runs = Vec::new();
    for round in 0..rounds {
        // Who begins changes with the round.
        let mut names = Side::NAMES;
        names.rotate_left(round % 2);
        for name in names {
            let side = Side::start(name, test, pair, peer)?;
            for depth in [1, DEPTH] {
                let mut run = measure(&side, pair, depth, Duration::from_secs(seconds))?;
                run["side"] = name.into();
                run["depth"] = depth.into();
                run["round"] = round.into();
                runs.push(run);
            }
            side.stop()?;
        }
        println!("  beside SPDK's raid1: round {} of {rounds}", round + 1);
    }
    Ok(runs)
}

fn measure(side: &Side<'_>, pair: &Pair, depth: usize, lasts: Duration) -> Result<Value> {
    let mut lane = (pair.host).within(|| Lane::connect(NODES[0], NQN, depth))?;
    let (busy, sent) = (side.busy()?, wire::to_destination(pair)?[0]);
    let begun = Instant::now();
    let end = End::At(begun + lasts);
    let mut load = Load::new(Pattern::Uniform, IO, u64::from(VOLUME_MIB) * MIB, end);
    lane.run(&mut load)?;
    let ran = begun.elapsed();
    let now = side.busy()?;
    let wire = sent.until(wire::to_destination(pair)?[0], &load);
    let cycles = |node: usize| (now[node] - busy[node]) as f64 / load.writes() as f64;
    let cycles = json!({ "source": cycles(0), "destination": cycles(1) });
    let mut run = load.took().summary(ran);
    run["cycles"] = cycles;
    run["wire"] = wire;
    Ok(run)
}
