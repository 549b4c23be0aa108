//! Measurements of a pair on memory: bytes on the link, what hosts wait for a mirrored write beside one that is not, cycles, and how
//! fast a node that was away is copied to.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::config::NQN;
use lab::pair::{Medium, NODES, PORTS, Pair, is_in_sync, report, reports};
use lab::{MIB, Outcome, Program, Result, Section, Stats, Test, ensure, wait};
use serde_json::{Value, json};
use testkit::places::Pattern;

use crate::lane::Lane;
use crate::load::{End, Load};
use crate::{beside, wire};

/// The subsystem of the source's whose namespace is logged, but not mirrored.
const NQN_ALONE: &str = "nqn.2026-01.com.example:alone";
pub const VOLUME_MIB: u32 = 256;
/// While the other node is away.
const CHANGED: u64 = 192 * MIB;
pub const IO: usize = 4096;
pub const DEPTH: usize = 32;
/// Of the hosts that write while a copy is under way.
const DEPTH_MEANWHILE: usize = 8;

struct Bench<'n> {
    pair: &'n Pair,
    source: Program<'n>,
    destination: Program<'n>,
    is_quick: bool,
}

/// With the `nvmf_tgt` of a current SPDK: its raid1 beside the pair.
pub fn run(test: &Test, is_in_tls: bool, is_quick: bool, peer: Option<&Path>) -> Outcome {
    let mut pair = Pair::new(test)?;
    pair.tls = [Some(if is_in_tls { "required" } else { "off" }); 2];
    pair.medium = Medium::Memory;
    pair.volume_mib = VOLUME_MIB;
    pair.log_mib = 256;
    let alone = Section::new().key("store", "disk1").key("write", "logged");
    let config = (pair.config(0)?)
        .store(Section::malloc("disk1", VOLUME_MIB, 512))
        .subsystem(Section::subsystem(NQN_ALONE, "LAB0002", alone));
    let source = Program::start(test, &pair.nodes[0], &config)?;
    let bench = Bench {
        pair: &pair,
        source,
        destination: pair.start(1)?,
        is_quick,
    };
    bench.in_sync()?;
    let bytes = bench.bytes()?;
    let latency = bench.latency()?;
    let copies = bench.copies()?;
    bench.source.stop()?;
    bench.destination.stop()?;
    let beside = match peer {
        Some(peer) => beside::run(test, &pair, peer, is_quick)?,
        None => Vec::new(),
    };
    let told = json!({
        "tls": is_in_tls, "quick": is_quick, "bytes": bytes, "latency": latency, "copies": copies, "beside": beside,
    });
    Ok(fs::write(test.dir().join("report.json"), told.to_string())?)
}

/// Counters of both nodes.
struct Counted {
    source: Stats,
    destination: Stats,
    /// Of the interface by which frames go to the destination: sent to it, and received from it.
    wire: [wire::Frames; 2],
}

impl Bench<'_> {
    fn in_sync(&self) -> Outcome {
        is_in_sync(&self.source, "source")?;
        is_in_sync(&self.destination, "destination")
    }

    fn lane(&self, nqn: &str, depth: usize) -> Result<Lane<u64>> {
        (self.pair.host).within(|| Lane::connect(NODES[0], nqn, depth))
    }

    /// Nothing is under way, all that was written is on the drives.
    fn settle(&self) -> Outcome {
        self.in_sync()?;
        for node in [&self.source, &self.destination] {
            node.rpc("throughline_consistency_point", &json!({}))?;
        }
        Ok(())
    }

    fn counted(&self) -> Result<Counted> {
        Ok(Counted {
            source: self.source.stats()?,
            destination: with_connections(&self.destination)?,
            wire: wire::to_destination(self.pair)?,
        })
    }

    /// Bytes on the link for bytes modified: payload of TCP, and frames. Everything that goes to the destination is counted, what
    /// consistency points, keep-alives and retransmissions send, too.
    fn bytes(&self) -> Result<Vec<Value>> {
        let writes = if self.is_quick { 10_000 } else { 60_000 };
        let loads = [
            ("4 KiB, each page once", IO, DEPTH, Pattern::Sequential),
            ("4 KiB, each page once", IO, 1, Pattern::Sequential),
            ("4 KiB, uniform", IO, DEPTH, Pattern::Uniform),
            ("4 KiB, Zipf 0.99", IO, DEPTH, Pattern::Zipf),
            ("512 B, uniform", 512, DEPTH, Pattern::Uniform),
            ("512 B, Zipf 0.99", 512, DEPTH, Pattern::Zipf),
        ];
        let measured = loads.into_iter().map(|(name, bytes, depth, pattern)| {
            let writes = if depth == 1 { writes / 4 } else { writes };
            let end = End::Writes(writes);
            let mut load = Load::new(pattern, bytes, u64::from(VOLUME_MIB) * MIB, end);
            self.settle()?;
            let before = self.counted()?;
            let mut lane = self.lane(NQN, depth)?;
            lane.run(&mut load)?;
            self.settle()?;
            let after = self.counted()?;
            drop(lane);
            println!("  bytes on the link: {name}, depth {depth}");
            Ok(bytes_of(&before, &after, &load, name, depth))
        });
        measured.collect()
    }

    /// Mirrored writes and others by turns: the same program, the same wire, the same log.
    fn latency(&self) -> Result<Vec<Value>> {
        let (rounds, seconds) = if self.is_quick { (5, 1) } else { (5, 2) };
        let mut runs = Vec::new();
        for round in 0..rounds {
            for depth in [1, DEPTH] {
                let mut sides = [("mirrored", NQN), ("alone", NQN_ALONE)];
                // Who begins changes with the round.
                sides.rotate_left(round % 2);
                for (side, nqn) in sides {
                    let end = End::At(Instant::now() + Duration::from_secs(seconds));
                    let mut load =
                        Load::new(Pattern::Uniform, IO, u64::from(VOLUME_MIB) * MIB, end);
                    let mut lane = self.lane(nqn, depth)?;
                    let before = self.counted()?;
                    let begun = Instant::now();
                    lane.run(&mut load)?;
                    let ran = begun.elapsed();
                    let after = self.counted()?;
                    let busy = |before: &Stats, after: &Stats| {
                        after.since(before, "cycles_by_stage") as f64 / load.writes() as f64
                    };
                    let cycles = json!({
                        "source": busy(&before.source, &after.source),
                        "destination": busy(&before.destination, &after.destination),
                    });
                    let mut run = load.took().summary(ran);
                    run["side"] = side.into();
                    run["depth"] = depth.into();
                    run["round"] = round.into();
                    run["cycles"] = cycles;
                    runs.push(run);
                }
            }
            println!("  latencies: round {} of {rounds}", round + 1);
        }
        Ok(runs)
    }

    /// The other node is cut off, hosts write, the wire is back: how fast what it lacks is copied to it.
    fn copies(&self) -> Result<Vec<Value>> {
        let rounds = if self.is_quick { 1 } else { 3 };
        let mut copies = Vec::new();
        for round in 0..rounds {
            for hosts in [false, true] {
                let mut copy = self.copy(hosts)?;
                copy["round"] = round.into();
                copies.push(copy);
                let meanwhile = if hosts { ", hosts write" } else { "" };
                println!("  a copy{meanwhile}: round {} of {rounds}", round + 1);
            }
        }
        Ok(copies)
    }

    fn copy(&self, hosts_write: bool) -> Result<Value> {
        self.in_sync()?;
        let host = &self.pair.host;
        host.run(&format!("ip link set {} down", PORTS[1]))?;
        reports(&self.source, "it goes on alone", |report| {
            report["in_sync"] == false && report["serves_hosts"] == true
        })?;
        let mut all = Load::new(
            Pattern::Sequential,
            64 << 10,
            CHANGED,
            End::Writes(CHANGED >> 16),
        );
        self.lane(NQN, DEPTH_MEANWHILE)?.run(&mut all)?;
        let at_first = report(&self.source)?["kib_to_copy"].as_u64().unwrap_or(0);
        ensure!(at_first > 0, "the record has nothing");
        host.run(&format!("ip link set {} up", PORTS[1]))?;
        let mut copy = match hosts_write {
            true => self.copied_meanwhile()?,
            false => self.copied()?,
        };
        copy["hosts"] = hosts_write.into();
        Ok(copy)
    }

    /// The same, and what hosts see meanwhile, and afterwards.
    fn copied_meanwhile(&self) -> Result<Value> {
        let is_over = AtomicBool::new(false);
        let mut lane = self.lane(NQN, DEPTH_MEANWHILE)?;
        let (copied, meanwhile) = thread::scope(|scope| {
            let is_over = &is_over;
            let writing = scope.spawn(move || hosts(&mut lane, End::When(is_over)));
            let copied = self.copied();
            is_over.store(true, Ordering::Release);
            (copied, writing.join().expect("a host panicked"))
        });
        let mut copied = copied?;
        copied["meanwhile"] = meanwhile?;
        let mut lane = self.lane(NQN, DEPTH_MEANWHILE)?;
        let end = End::At(Instant::now() + Duration::from_secs(2));
        copied["afterwards"] = hosts(&mut lane, end)?;
        Ok(copied)
    }

    /// Watches a copy: from the first look at which something was copied to the last, and from when the wire was back.
    fn copied(&self) -> Result<Value> {
        let back = Instant::now();
        // Until it falls hosts' writes add to it.
        let (mut most, mut begun) = (0, None);
        let end = wait::until("the other one has everything", || {
            let report = report(&self.source)?;
            let (now, left) = (Instant::now(), report["kib_to_copy"].as_u64().unwrap_or(0));
            if begun.is_none() && left < most {
                begun = Some((now, left));
            }
            most = most.max(left);
            Ok(match report["in_sync"] == true {
                true => Ok(now),
                false => Err(report.to_string()),
            })
        })?;
        let (begun, left) = begun.unwrap_or((back, most));
        let mib = |kib: u64| kib as f64 / 1024.0;
        Ok(json!({
            "mib": mib(most), "mib_per_second": mib(left) / (end - begun).as_secs_f64(),
            "back_in_sync_s": (end - back).as_secs_f64(),
        }))
    }
}

/// Writes at random, and how long they took.
fn hosts(lane: &mut Lane<u64>, end: End<'_>) -> io::Result<Value> {
    let mut load = Load::new(Pattern::Uniform, IO, u64::from(VOLUME_MIB) * MIB, end);
    let begun = Instant::now();
    lane.run(&mut load)?;
    Ok(load.took().summary(begun.elapsed()))
}

fn bytes_of(before: &Counted, after: &Counted, load: &Load<'_>, name: &str, depth: usize) -> Value {
    let modified = load.bytes() as f64;
    let stream = |key: &str| {
        let of = |stats: &Stats| of_the_link(stats, key);
        (of(&after.destination) - of(&before.destination)) as f64 / modified
    };
    let frames = |way: usize| before.wire[way].until(after.wire[way], load);
    let of_source = |path: &str| after.source.since(&before.source, path);
    let points = of_source("counters.log.points");
    json!({
        "load": name, "depth": depth, "bytes": load.bytes() / load.writes(), "writes": load.writes(), "points": points,
        "stream": stream("bytes_received"), "stream_back": stream("bytes_sent"),
        "wire": frames(0), "wire_back": frames(1),
        "by_value": load.by_value(points),
        "drive_bytes_per_byte": of_source("counters.log.drive_bytes") as f64 / modified,
        "retransmitted": of_source("counters.tcp.tcp_retransmitted"),
    })
}

/// The counters of a node, with those of its connections.
fn with_connections(node: &Program<'_>) -> Result<Stats> {
    wait::until("the program tells its counters", || {
        let told = node.rpc("throughline_get_stats", &json!({ "connections": true }));
        Ok(told.map_err(|failure| failure.to_string()))
    })
    .and_then(|told| Stats::parse(&told.to_string()))
}

/// A counter of the destination's connections with the source, together.
fn of_the_link(destination: &Stats, key: &str) -> u64 {
    let shards = destination.shards().iter();
    let connections = shards.filter_map(|shard| shard["connection_list"].as_array());
    connections
        .flatten()
        .filter(|connection| {
            let peer = connection["peer"].as_str().unwrap_or_default();
            peer.starts_with(NODES[0])
        })
        .map(|connection| connection[key].as_u64().unwrap_or(0))
        .sum()
}
