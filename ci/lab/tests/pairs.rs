//! Two programs that are a mirrored pair, each in a namespace of its own, and a host that uses whichever serves.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::config::NQN;
use lab::pair::{self, NODES, PORTS, Pair, is_in_sync, may_be_taken_over, report, reports, serves};
use lab::writer::Writer;
use lab::{Ended, MIB, Outcome, Program, Result, Test, Tool, ensure, expect, wait};
use serde_json::json;

const WRITERS: u32 = 4;

/// It refuses as long as it hears the other one.
fn promote(program: &Program<'_>) -> Outcome {
    wait::until("it is promoted", || {
        let params = json!({ "store": "disk0" });
        let promoted = program.rpc("throughline_pair_promote", &params);
        Ok(promoted.map(drop).map_err(|failure| failure.to_string()))
    })?;
    serves(program)
}

/// Hosts write until the node that serves is killed, and so many writes were acknowledged.
fn write_and_kill(
    pair: &Pair,
    program: Program<'_>,
    writers: &mut [Writer],
    wanted: u64,
) -> Result<u64> {
    let (acknowledged, is_killed) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| -> Outcome {
        let (acknowledged, is_killed) = (&acknowledged, &is_killed);
        let mut writing = Vec::new();
        for writer in writers {
            let queues = pair.host.within(|| writer.connect())?;
            writing.push(scope.spawn(move || writer.write(queues, acknowledged, is_killed)));
        }
        let done = wait::until("writes are acknowledged", || {
            let n = acknowledged.load(Ordering::Acquire);
            let ends = writing.iter().any(|writer| writer.is_finished());
            Ok(match n >= wanted || ends {
                true => Ok(()),
                false => Err(format!("{n} of {wanted}")),
            })
        });
        is_killed.store(true, Ordering::Release);
        program.kill();
        for writer in writing {
            writer.join().expect("a writer panicked")?;
        }
        done
    })?;
    Ok(acknowledged.into_inner())
}

fn verify(pair: &Pair, writers: &mut [Writer], node: usize) -> Outcome {
    for writer in writers {
        writer.goes_to(NODES[node]);
        pair.host.within(|| writer.verify())?;
    }
    Ok(())
}

/// Two programs, and which of them serves.
struct Programs<'n> {
    both: [Option<Program<'n>>; 2],
    serving: usize,
}

impl<'n> Programs<'n> {
    fn start(pair: &'n Pair) -> Result<Self> {
        Ok(Self {
            both: [Some(pair.start(0)?), Some(pair.start(1)?)],
            serving: 0,
        })
    }

    fn get(&self, node: usize) -> &Program<'n> {
        self.both[node].as_ref().expect("it runs")
    }

    /// The one that serves, and the other one.
    fn into_both(mut self) -> [Program<'n>; 2] {
        [self.serving, 1 - self.serving].map(|node| self.both[node].take().expect("it runs"))
    }

    /// The node that serves is killed under load when so many writes were acknowledged; the other one has them all when it serves.
    /// The first one returns. How many writes that were.
    fn kill_the_source(
        &mut self,
        pair: &'n Pair,
        writers: &mut [Writer],
        wanted: u64,
        goes_over: impl Fn(&Program<'n>) -> Outcome,
    ) -> Result<u64> {
        let (source, other) = (self.serving, 1 - self.serving);
        let program = self.both[source].take().expect("it runs");
        let writes = write_and_kill(pair, program, writers, wanted)?;
        goes_over(self.get(other))?;
        verify(pair, writers, other)?;
        self.both[source] = Some(pair.start(source)?);
        self.serving = other;
        Ok(writes)
    }
}

fn writers() -> Vec<Writer> {
    (0..WRITERS)
        .map(|number| Writer::new(number, NODES[0]))
        .collect()
}

/// The node that serves is killed under load, the other one takes over and has all that was acknowledged; the first one
/// returns, gets what it lacks, and takes over in its turn.
fn s08_the_other_node_has_what_was_acknowledged(test: &Test) -> Outcome {
    let pair = Pair::new(test)?;
    let (mut writers, mut programs) = (writers(), Programs::start(&pair)?);
    let mut writes = 0;
    let rounds = if test.long() { 50 } else { 3 };
    for round in 0..rounds {
        let serving = programs.serving;
        for (node, role) in [(serving, "source"), (1 - serving, "destination")] {
            is_in_sync(programs.get(node), role)
                .map_err(|failure| failure.during(format!("round {round}, node {node}")))?;
        }
        writes += programs
            .kill_the_source(&pair, &mut writers, 100 + 50 * round, promote)
            .map_err(|failure| failure.during(format!("round {round}")))?;
    }
    test.figure(format!(
        "{rounds} times the source was killed, {writes} writes acknowledged, none lost"
    ));
    let [source, _other] = programs.into_both();
    is_in_sync(&source, "source")?;
    let copied = source.stats()?.sum("copied_bytes.pull_up");
    expect::equal("payload bytes that the source copied", copied, 0)?;
    source.kill();
    Ok(())
}

/// The other node is killed: hosts wait some seconds, and go on; when it returns it gets what it lacks.
fn r06_a_destination_that_dies_holds_nobody_up(test: &Test) -> Outcome {
    let pair = Pair::new(test)?;
    let mut writer = Writer::new(0, NODES[0]);
    let (source, destination) = (pair.start(0)?, pair.start(1)?);
    is_in_sync(&source, "source")?;
    destination.kill();
    pair.host.within(|| writer.write_all(1))?;
    source.logs("the pair is severed", 1)?;
    let report = report(&source)?;
    let generation = pair.is_told(0, "severed", 1, "source")?;
    expect::equal("its generation", &report["generation"], &json!(generation))?;
    shows(&source, ["apart", "0 of 1 lanes up"], [1, 0, 0])?;
    expect::equal("what serves", &report["serves_hosts"], &json!(true))?;
    expect::at_least(
        "KiB to copy",
        report["kib_to_copy"].as_u64().unwrap_or(0),
        1,
    )?;
    let destination = pair.start(1)?;
    is_in_sync(&destination, "destination")?;
    is_in_sync(&source, "source")?;
    // The end of it is told, too, on both nodes: there and here it is the second one.
    for (node, role) in [(0, "source"), (1, "destination")] {
        pair.is_told(node, "in_sync", 2, role)?;
    }
    shows(&source, ["source_in_sync", "1 of 1 lanes up"], [1, 1, 1])?;
    source.kill();
    pair.is_told(1, "peer_lost", 1, "destination")?;
    promote(&destination)?;
    writer.goes_to(NODES[1]);
    pair.host.within(|| writer.verify())?;
    destination.kill();
    Ok(())
}

/// What a node that serves shows: parts of a page of `top`, and whether it is a source, in sync, and reaches the other one.
fn shows(program: &Program<'_>, parts: [&str; 2], gauges: [u64; 3]) -> Outcome {
    let page = program.ask("top")?.arg("--once").succeeds()?.stdout;
    for part in parts {
        expect::contains("the page", &page, part)?;
    }
    let metrics = program.scrape()?;
    let names = [
        "pair_role{store=\"disk0\",peer=\"0c7e3f0a-51c2-4d0e-8a55-6a5b1c9a7e11\"}",
        "pair_in_sync{store=\"disk0\",peer=\"0c7e3f0a-51c2-4d0e-8a55-6a5b1c9a7e11\"}",
        "mirror_lanes_up{shard=\"1\"}",
    ];
    let rest = [
        (
            "pair_serves_hosts{store=\"disk0\",peer=\"0c7e3f0a-51c2-4d0e-8a55-6a5b1c9a7e11\"}",
            1,
        ),
        ("pair_alert_commands_failed_total", 0),
    ];
    for (name, value) in names.into_iter().zip(gauges).chain(rest) {
        expect::contains(
            "metrics",
            &metrics,
            &format!("\nthroughline_{name} {value}\n"),
        )?;
    }
    Ok(())
}

/// With an etcd, which is asked by TLS, nobody has to say anything: the source is killed under load, the other one takes over and has all
/// that was acknowledged.
fn s08_the_other_node_takes_over_by_itself(test: &Test) -> Outcome {
    let (pair, etcd) = Pair::with_etcd_by_tls(test, 4)?;
    let (mut writers, mut programs) = (writers(), Programs::start(&pair)?);
    let mut writes = 0;
    let rounds = if test.long() { 50 } else { 2 };
    for round in 0..rounds {
        may_be_taken_over(programs.get(programs.serving))?;
        writes += programs
            .kill_the_source(&pair, &mut writers, 100, serves)
            .map_err(|failure| failure.during(format!("round {round}")))?;
        // Each node takes over in its turn.
        let (node, times) = (programs.serving, 1 + round as usize / 2);
        pair.is_told(node, "takes_over", times, "destination")?;
        pair.is_told(node, "severed", times, "source")?;
    }
    test.figure(format!(
        "{rounds} times taken over, {writes} writes acknowledged, none lost"
    ));
    // Without the etcd the nodes that hear each other go on.
    let serving = programs.serving;
    let [source, other] = programs.into_both();
    may_be_taken_over(&source)?;
    etcd.kill();
    let mut writer = writers.pop().expect("there are some");
    source.logs("etcd cannot be", 1)?;
    pair.host.within(|| writer.write_all(100_000))?;
    pair.host.within(|| writer.verify())?;
    // And hand the volume over.
    source.rpc("throughline_pair_demote", &json!({ "store": "disk0" }))?;
    serves(&other)?;
    is_in_sync(&other, "source")?;
    is_in_sync(&source, "destination")?;
    writer.goes_to(NODES[1 - serving]);
    pair.host.within(|| writer.verify())?;
    source.kill();
    other.kill();
    Ok(())
}

/// Hosts hear of who serves by ANA, and a write to the node that does not serve is not done.
fn k06_hosts_are_told_which_node_serves(test: &Test) -> Outcome {
    let pair = Pair::new(test)?;
    let nodes = [pair.start(0)?, pair.start(1)?];
    is_in_sync(&nodes[0], "source")?;
    let states = |expected: [&str; 2]| {
        wait::until("hosts are told", || {
            let mut told = Vec::new();
            for node in &nodes {
                let subsystems = node.rpc("nvmf_get_subsystems", &json!({}))?;
                let all = subsystems.as_array().cloned().unwrap_or_default();
                let own = all.iter().find(|subsystem| subsystem["nqn"] == NQN);
                let state =
                    own.map(|own| own["namespaces"][0]["ana_states"][0]["ana_state"].clone());
                told.push(state.unwrap_or_default());
            }
            Ok(match told.iter().eq(expected.iter()) {
                true => Ok(()),
                false => Err(format!("{told:?}")),
            })
        })
    };
    states(["optimized", "inaccessible"])?;
    let mut writer = Writer::new(0, NODES[1]);
    let refused = pair.host.within(|| match writer.write_all(1) {
        Ok(()) => Err(std::io::Error::other("a destination takes writes")),
        Err(error) => Ok(error.to_string()),
    })?;
    // Asymmetric Access Inaccessible: a host goes to the other node.
    expect::contains("how the write ended", &refused, "0x302")?;
    nodes[0].rpc("throughline_pair_demote", &json!({ "store": "disk0" }))?;
    states(["inaccessible", "optimized"])?;
    pair.host.within(|| writer.write_all(2))?;
    pair.host.within(|| writer.verify())?;
    let [first, second] = nodes;
    first.kill();
    second.kill();
    Ok(())
}

/// `throughline pair …`, of a program.
fn is_severed(program: &Program<'_>) -> Outcome {
    reports(program, "it knows that the pair is severed", |report| {
        report["step"] == "severed" && report["severed_by_operator"].is_string()
    })
}

/// An operator severs the pair: the source goes on alone, through restarts of both, until one says otherwise; then what was changed
/// is copied, and the other node has all of it.
fn r03_a_pair_that_an_operator_severs_stays_so(test: &Test) -> Outcome {
    let pair = Pair::new(test)?;
    let mut writer = Writer::new(0, NODES[0]);
    let (source, destination) = (pair.start(0)?, pair.start(1)?);
    is_in_sync(&source, "source")?;
    pair.host.within(|| writer.write_all(1))?;
    let refused = pair::command(test, &destination, &["sever", "disk0"])?.fails()?;
    expect::contains("why not", &refused.output(), "not the source")?;
    pair::command(test, &source, &["sever", "disk0"])?.succeeds()?;
    pair.is_told(0, "severed", 1, "source")?;
    pair.is_told(1, "severed_there", 1, "destination")?;
    is_severed(&source)?;
    is_severed(&destination)?;
    pair.host.within(|| writer.write_all(2))?;
    // Whichever restarts, in whichever way.
    destination.kill();
    let destination = pair.start(1)?;
    is_severed(&destination)?;
    source.kill();
    let source = pair.start(0)?;
    serves(&source)?;
    is_severed(&source)?;
    destination.stop()?;
    let destination = pair.start(1)?;
    is_severed(&destination)?;
    let refused = pair::command(test, &destination, &["promote", "disk0"])?.fails()?;
    expect::contains(
        "why not",
        &refused.output(),
        "severed the pair at the other",
    )?;
    pair.host.within(|| writer.verify())?;
    pair.host.within(|| writer.write_all(3))?;
    pair::command(test, &source, &["reestablish", "disk0"])?.succeeds()?;
    is_in_sync(&source, "source")?;
    is_in_sync(&destination, "destination")?;
    let report = report(&destination)?;
    expect::equal("severed", &report["severed_by_operator"], &json!(null))?;
    source.kill();
    promote(&destination)?;
    writer.goes_to(NODES[1]);
    pair.host.within(|| writer.verify())?;
    destination.kill();
    Ok(())
}

/// Both went on without each other; an operator says on one of them that its data are lost, and neither restarts.
fn r03_after_split_brain_one_node_gives_up_what_it_has(test: &Test) -> Outcome {
    let pair = Pair::new(test)?;
    let mut writers = [Writer::new(0, NODES[0]), Writer::new(1, NODES[1])];
    let (first, second) = (pair.start(0)?, pair.start(1)?);
    is_in_sync(&first, "source")?;
    let refused = pair::command(
        test,
        &first,
        &["discard", "disk0", "--volume-name", "disk0"],
    )?;
    let refused = refused.fails()?.output();
    expect::contains("why not", &refused, "this node is the source")?;
    // The link is cut; who promotes the other one is wrong.
    pair.host.run(&format!("ip link set {} down", PORTS[0]))?;
    promote(&second)?;
    pair.host.within(|| writers[1].write_all(1))?;
    first.logs("the pair is severed", 1)?;
    pair.host.run(&format!("ip link set {} down", PORTS[1]))?;
    pair.host.run(&format!("ip link set {} up", PORTS[0]))?;
    pair.host.within(|| writers[0].write_all(1))?;
    pair.host.run(&format!("ip link set {} up", PORTS[1]))?;
    for (node, program) in [&first, &second].into_iter().enumerate() {
        pair.is_told(node, "split_brain", 1, "source")?;
        reports(program, "it is left as it is", |report| {
            report["step"] == "refused"
        })?;
    }
    for (words, why) in [
        (&["discard", "disk0"][..], "--volume-name"),
        (
            &["discard", "disk0", "--volume-name", "disk1"],
            "volume_name",
        ),
    ] {
        let refused = pair::command(test, &first, words)?.fails()?.output();
        expect::contains("why not", &refused, why)?;
    }
    let discards = pair::command(
        test,
        &first,
        &["discard", "disk0", "--volume-name", "disk0"],
    )?;
    discards.succeeds()?;
    pair.is_told(0, "discarded", 1, "destination")?;
    is_in_sync(&first, "destination")?;
    is_in_sync(&second, "source")?;
    pair.host.within(|| writers[1].verify())?;
    second.stop()?;
    first.stop()?;
    let [first, second] = [0, 1].map(|node| fs::read(test.dir().join(format!("disk{node}"))));
    let differs = first?.iter().zip(&second?).position(|(a, b)| a != b);
    expect::equal("where the drives differ", differs, None)
}

/// What differs is found while hosts write, told, and copied if that is asked for.
fn r03_what_differs_is_found_and_mended(test: &Test) -> Outcome {
    let pair = Pair::new(test)?;
    let mut writer = Writer::new(0, NODES[0]);
    let (source, destination) = (pair.start(0)?, pair.start(1)?);
    is_in_sync(&source, "source")?;
    pair.host.within(|| writer.write_all(1))?;
    let verify = |options: &[&str]| -> Result<Tool> {
        let tool = Tool::new(test, lab::throughline()?).args(["pair", "verify", "disk0"]);
        Ok(tool.arg("--socket").arg(source.socket()).args(options))
    };
    let says = |ended: Ended, what: &str| expect::contains("what it says", &ended.output(), what);
    says(
        verify(&[])?.succeeds()?,
        "1024 of 1024 granules compared, none differs",
    )?;
    let refused = destination.rpc("throughline_pair_verify", &json!({ "store": "disk0" }));
    let refused = refused
        .map(|_| String::new())
        .unwrap_or_else(|failure| failure.to_string());
    expect::contains("what the destination says", &refused, "not the source")?;
    // Behind its back, where no host has been: in no log, and in no cache.
    destination.stop()?;
    const AT: u64 = 60 * MIB + 5 * 4096;
    let disk = OpenOptions::new()
        .write(true)
        .open(test.dir().join("disk1"))?;
    disk.write_all_at(&[0xee; 17], AT + 100)?;
    let destination = pair.start(1)?;
    is_in_sync(&destination, "destination")?;
    is_in_sync(&source, "source")?;
    let told = format!("blocks of 4 KiB that differ: 1\n  4096 bytes at {AT}");
    says(verify(&[])?.fails()?, &told)?;
    source.logs("blocks of 4 KiB that differ: 1", 1)?;
    // A host writes meanwhile.
    let mends = verify(&["--mend"])?.start()?;
    for version in 2..6 {
        pair.host.within(|| writer.write_all(version))?;
    }
    let mended = mends.ends()?;
    says(
        mended,
        "blocks of 4 KiB that differed, and are copied to the other node: 1",
    )?;
    says(verify(&[])?.succeeds()?, "none differs")?;
    pair.host.within(|| writer.verify())?;
    destination.stop()?;
    source.stop()?;
    let [first, second] = [0, 1].map(|node| fs::read(test.dir().join(format!("disk{node}"))));
    let differs = first?.iter().zip(&second?).position(|(a, b)| a != b);
    expect::equal("where the drives differ", differs, None)
}

/// Both devices become larger, and the volume does not before an operator says so; hosts see what is new when both nodes have it. Then it
/// becomes smaller, when its store is named once more.
fn r03_a_volume_grows_and_shrinks_on_both_nodes(test: &Test) -> Outcome {
    const SIZES: [u64; 3] = [64 * MIB, 96 * MIB, 32 * MIB];
    const BLOCK: u64 = 4096;
    let pair = Pair::new(test)?;
    let mut writer = Writer::new(0, NODES[0]);
    let has = |program: &Program<'_>, bytes: u64| {
        reports(program, "it has that size", |report| {
            report["bytes"] == bytes && report["resizes_to"].is_null()
        })
    };
    // Of the block at the end of a volume of so many bytes.
    let reads = |node: usize, bytes: u64| -> Result<(u16, Vec<u8>)> {
        let (_admin, mut queue) = pair.host.within(|| Writer::new(0, NODES[node]).connect())?;
        Ok(queue.read(bytes / BLOCK - 1, BLOCK as usize, BLOCK as usize)?)
    };
    let ends_at = |node: usize, bytes: u64| {
        wait::until("hosts see its end", || {
            let (there, behind) = (reads(node, bytes)?.0, reads(node, bytes + BLOCK)?.0);
            Ok(match (there, behind) {
                (0, 1..) => Ok(()),
                found => Err(format!(
                    "status of the last block, and of one behind: {found:x?}"
                )),
            })
        })
    };
    let (source, destination) = (pair.start(0)?, pair.start(1)?);
    is_in_sync(&source, "source")?;
    pair.host.within(|| writer.write_all(1))?;
    destination.stop()?;
    source.stop()?;
    for node in 0..2 {
        let disk = OpenOptions::new()
            .write(true)
            .open(test.dir().join(format!("disk{node}")))?;
        disk.set_len(SIZES[1])?;
        // What is new is not alike.
        for at in (SIZES[0]..SIZES[1]).step_by(MIB as usize) {
            disk.write_all_at(&[0xa0 + node as u8; 8192], at)?;
        }
    }
    let (source, destination) = (pair.start(0)?, pair.start(1)?);
    is_in_sync(&source, "source")?;
    is_in_sync(&destination, "destination")?;
    for program in [&source, &destination] {
        has(program, SIZES[0])?;
    }
    ends_at(0, SIZES[0])?;
    let refused = pair::command(test, &destination, &["resize", "disk0"])?.fails()?;
    expect::contains("why not", &refused.output(), "not the source")?;
    let too_large = pair::command(test, &source, &["resize", "disk0", "--bytes", "134217728"])?;
    let refused = too_large.fails()?.output();
    expect::contains("why not", &refused, "device has 100663296 bytes")?;
    // A host writes meanwhile.
    let grows = pair::command(test, &source, &["resize", "disk0"])?.start()?;
    pair.host.within(|| writer.write_all(2))?;
    let grown = grows.ends()?;
    expect::contains("what it says", &grown.output(), "disk0: 100663296 bytes")?;
    for (node, program) in [&source, &destination].into_iter().enumerate() {
        has(program, SIZES[1])?;
        let role = ["source", "destination"][node];
        if node == 0 {
            pair.is_told(node, "resized", 1, role)?;
        }
    }
    ends_at(0, SIZES[1])?;
    let data = vec![0x5c; BLOCK as usize];
    let (_admin, mut queue) = pair.host.within(|| writer.connect())?;
    let status = queue.write(SIZES[1] / BLOCK - 1, BLOCK as usize, &data, false)?;
    expect::equal("status of a write at its end", status, 0)?;
    // The other node has all of it, whichever restarts.
    destination.stop()?;
    let destination = pair.start(1)?;
    is_in_sync(&source, "source")?;
    is_in_sync(&destination, "destination")?;
    source.kill();
    promote(&destination)?;
    writer.goes_to(NODES[1]);
    pair.host.within(|| writer.verify())?;
    ends_at(1, SIZES[1])?;
    expect::equal("the last block", reads(1, SIZES[1])?, (0, data))?;
    let (source, destination) = (destination, pair.start(0)?);
    is_in_sync(&source, "source")?;
    is_in_sync(&destination, "destination")?;
    let smaller = [
        "resize",
        "disk0",
        "--bytes",
        "33554432",
        "--volume-name",
        "disk0",
    ];
    let refused = pair::command(test, &source, &smaller[..4])?.fails()?;
    expect::contains("why not", &refused.output(), "--volume-name")?;
    let shrunk = pair::command(test, &source, &smaller)?.succeeds()?;
    expect::contains("what it says", &shrunk.output(), "disk0: 33554432 bytes")?;
    ends_at(1, SIZES[2])?;
    pair.host.within(|| writer.verify())?;
    for program in [&source, &destination] {
        has(program, SIZES[2])?;
    }
    destination.stop()?;
    source.stop()?;
    let [first, second] = [0, 1].map(|node| fs::read(test.dir().join(format!("disk{node}"))));
    let differs = first?.iter().zip(&second?).position(|(a, b)| a != b);
    expect::equal("where the drives differ", differs, None)
}

/// Two links, each cut by turns while hosts write: they wait a moment, and the pair stays in sync.
fn r09_a_link_that_is_cut_leaves_the_pair_in_sync(test: &Test) -> Outcome {
    let pair = Pair::with_links(test)?;
    let mut writer = Writer::new(0, NODES[0]);
    let (source, destination) = (pair.start(0)?, pair.start(1)?);
    is_in_sync(&source, "source")?;
    let generation = report(&source)?["generation"].clone();
    let (mut longest, rounds) = (Duration::ZERO, if test.long() { 20 } else { 4 });
    for round in 0..rounds {
        pair.cut(round % 2, true)?;
        let begun = Instant::now();
        pair.host.within(|| writer.write_all(round as u32 + 1))?;
        longest = longest.max(begun.elapsed());
        let now = report(&source)?;
        expect::equal("its generation", &now["generation"], &generation)?;
        expect::equal("whether both have the same", &now["in_sync"], &json!(true))?;
        pair.cut(round % 2, false)?;
    }
    test.figure(format!(
        "{rounds} times a link was cut; all writes of a round took {:.1} s at most",
        longest.as_secs_f64()
    ));
    pair.host.within(|| writer.verify())?;
    for node in 0..2 {
        let told = pair.told(node)?;
        let is_quiet = !told.contains("severed") && !told.contains("peer_lost");
        ensure!(is_quiet, "node {node} tells of {told}");
    }
    source.kill();
    promote(&destination)?;
    writer.goes_to(NODES[1]);
    pair.host.within(|| writer.verify())?;
    destination.kill();
    Ok(())
}

lab::tests![
    r09_a_link_that_is_cut_leaves_the_pair_in_sync,
    r03_what_differs_is_found_and_mended,
    r03_a_volume_grows_and_shrinks_on_both_nodes,
    r03_a_pair_that_an_operator_severs_stays_so,
    r03_after_split_brain_one_node_gives_up_what_it_has,
    s08_the_other_node_has_what_was_acknowledged,
    s08_the_other_node_takes_over_by_itself,
    k06_hosts_are_told_which_node_serves,
    r06_a_destination_that_dies_holds_nobody_up,
];
