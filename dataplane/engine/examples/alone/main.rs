//! The engine alone: cycles per 4 KiB command, by stage, from received frames
//! to sent completions, with no kernel and no device in the loop.
//!
//! Hosts made of a few numbers each write frames into the receive buffers and
//! take answers off a wire in memory; only what the shard does between counts.
//! Prints one line of JSON. `ci/bench --engine` runs it for every shape of load
//! and makes the table; alone:
//!
//! ```text
//! alone write|read [--connections N] [--depth N] [--gib N] [--digest] [--copy] [--cold]
//!       [--no-offloads] [--commands N] [--instructions] [--core N]
//!       [--back | --logged [--log-block 512|4096] [--half-mib N]]
//! ```
#![allow(missing_docs)]

mod load;
mod tcp;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use engine::{
    Alone, Config, LogConfig, MemoryConfig, NamespaceConfig, PortConfig, ShardSnapshot, Stage,
    StoreConfig, StoreDevice, SubsystemConfig, TargetConfig, WritePolicy,
};

use load::{BLOCK, IO, Load, Operation};
use tcp::Hosts;

pub const NQN: &str = "nqn.2026-01.com.example:alone";

/// Commands measured together: short enough that most are not disturbed by
/// other work of the machine, and the median is of the undisturbed.
const PART: u64 = 256;

struct Options {
    operation: Operation,
    connections: usize,
    depth: usize,
    gib: u64,
    digest: bool,
    copy: bool,
    cold: bool,
    offloads: bool,
    commands: u64,
    /// Only so many commands under `poll_counted`, for callgrind.
    instructions: bool,
    core: u32,
    write: WritePolicy,
    /// Bytes of a block of the log's store.
    log_block: u64,
    half_mib: u64,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        operation: Operation::Write,
        connections: 1,
        depth: 32,
        gib: 1,
        digest: false,
        copy: false,
        cold: false,
        offloads: true,
        commands: 400_000,
        instructions: false,
        core: 1,
        write: WritePolicy::Through,
        log_block: 512,
        half_mib: 16,
    };
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("write") => {}
        Some("read") => options.operation = Operation::Read,
        _ => return Err("say what to do: write or read".into()),
    }
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or(format!("{word} takes a number"))?;
            value
                .parse()
                .map_err(|_| format!("{word} {value}: no number"))
        };
        match word.as_str() {
            "--connections" => options.connections = number()?.clamp(1, 60_000) as usize,
            "--depth" => options.depth = number()?.clamp(1, 128) as usize,
            "--gib" => options.gib = number()?.max(1),
            "--commands" => options.commands = number()?.max(PART),
            "--core" => options.core = number()? as u32,
            "--log-block" => options.log_block = number()?,
            "--half-mib" => options.half_mib = number()?.max(1),
            "--back" => options.write = WritePolicy::Back,
            "--logged" => options.write = WritePolicy::Logged,
            "--digest" => options.digest = true,
            "--copy" => options.copy = true,
            "--cold" => options.cold = true,
            "--no-offloads" => options.offloads = false,
            "--instructions" => options.instructions = true,
            other => return Err(format!("{other}: no such option")),
        }
    }
    Ok(options)
}

fn config(options: &Options) -> Config {
    let blocks = (options.gib << 30) / BLOCK;
    let log_blocks = ((2 * options.half_mib + 4) << 20) / options.log_block;
    let store = |name: &str, bdev: &str| StoreConfig {
        name: name.into(),
        device: StoreDevice::Bdev(bdev.into()),
        timeout: Some(StoreConfig::TIMEOUT),
    };
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    Config {
        cores: vec![options.core],
        memory: MemoryConfig {
            // For many connections, a few for each: the last acknowledged, the next promised.
            clusters: 32768.max(options.connections as u32 * 4),
            cluster_size: 2048,
            pages: 8192,
            requests: 1024,
            connections: options.connections as u32 + options.connections as u32 / 64 + 16,
        },
        ports: vec![PortConfig {
            name: "alone".into(),
            device: String::new(),
            mtu: 1500,
            addresses: vec![(address, 24)],
            routes: Vec::new(),
            vlan: None,
        }],
        log: (options.write == WritePolicy::Logged).then(|| LogConfig {
            store: "log0".into(),
            half_len: Some(options.half_mib << 20),
            interval: Duration::from_secs(10),
            discard: false,
        }),
        spdk_json: Some(format!(
            r#"{{"subsystems":[{{"subsystem":"bdev","config":[
            {{"method":"bdev_null_create","params":{{"name":"Null0","num_blocks":{blocks},"block_size":{BLOCK}}}}},
            {{"method":"bdev_null_create","params":{{"name":"Log0","num_blocks":{log_blocks},"block_size":{}}}}}]}}]}}"#,
            options.log_block
        )),
        stores: vec![store("null0", "Null0"), store("log0", "Log0")],
        target: TargetConfig {
            listeners: vec![(address, 4420)],
            max_io_bytes: 128 << 10,
            in_capsule_bytes: 8192,
            queue_depth: 128,
            subsystems: vec![SubsystemConfig {
                nqn: NQN.into(),
                serial: "ALONE".into(),
                model: "Throughline".into(),
                hosts: None,
                namespaces: vec![NamespaceConfig {
                    nsid: 1,
                    store: "null0".into(),
                    uuid: None,
                    nguid: None,
                    write: options.write,
                    block_size: None,
                }],
            }],
        },
        copy: options.copy,
        pci_allow: Vec::new(),
        native_memory_mib: 1024,
    }
}

/// Ticks of one part of the run.
#[derive(Clone, Copy)]
struct Part {
    stages: [u64; Stage::ALL.len()],
    poll: u64,
    driver: u64,
}

fn now(alone: &Alone) -> Part {
    Part {
        stages: alone.ticks_by_stage(),
        poll: alone.poll_ticks(),
        driver: alone.driver_ticks(),
    }
}

/// Per command, the median over all parts of what `of` says of one.
fn median(parts: &[(Part, u64)], of: impl Fn(&Part) -> u64) -> f64 {
    quantile(parts, 0.5, of)
}

fn quantile(parts: &[(Part, u64)], at: f64, of: impl Fn(&Part) -> u64) -> f64 {
    let mut values: Vec<f64> = parts
        .iter()
        .map(|(part, commands)| of(part) as f64 / *commands as f64)
        .collect();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * at).round() as usize]
}

fn main() {
    let options = options().unwrap_or_else(|why| {
        eprintln!("{why}");
        std::process::exit(2)
    });
    let result = engine::alone(&config(&options), options.offloads, |alone| {
        measure(alone, &options)
    });
    if let Err(error) = result {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn measure(alone: &mut Alone, options: &Options) {
    let hosts = Hosts::new(options.offloads, options.cold);
    let blocks = (options.gib << 30) / BLOCK;
    let mut load = Load::connect(
        alone,
        hosts,
        options.connections,
        options.operation,
        options.digest,
        blocks,
    );
    // Every connection is past its slow start, every pool has been through once.
    let warm_up = if options.instructions { 16 } else { 160 } * PART;
    load.run(
        alone,
        warm_up.max(4 * options.connections as u64),
        options.depth,
        false,
    );
    let before = alone.snapshot();
    let frames = load.frames();
    let answered = load.answered;
    let mut parts = Vec::new();
    while load.answered - answered < options.commands {
        let (begin, first) = (now(alone), load.answered);
        load.run(alone, PART, options.depth, options.instructions);
        let end = now(alone);
        let mut stages = end.stages;
        for (ticks, start) in stages.iter_mut().zip(begin.stages) {
            *ticks -= start;
        }
        let part = Part {
            stages,
            poll: end.poll - begin.poll,
            driver: end.driver - begin.driver,
        };
        parts.push((part, load.answered - first));
    }
    let commands = load.answered - answered;
    verify(&before, &alone.snapshot(), options, commands);
    let per = |now: u64, before: u64| (now - before) as f64 / commands as f64;
    let total = |part: &Part| part.poll + part.driver;
    let mut stages = String::new();
    for (i, stage) in Stage::ALL.iter().enumerate() {
        let ticks = median(&parts, |part| part.stages[i]);
        stages += &format!("\"{}\":{ticks:.0},", stage.name());
    }
    let rest = median(&parts, |part| {
        part.poll.saturating_sub(part.stages.iter().sum::<u64>())
    });
    let cycles = median(&parts, total);
    println!(
        "{{\"operation\":\"{}\",\"connections\":{},\"depth\":{},\"gib\":{},\"digest\":{},\
         \"copy\":{},\"cold\":{},\"offloads\":{},\"commands\":{commands},\
         \"cycles\":{{{stages}\"between\":{rest:.0},\"driver\":{:.0}}},\
         \"write\":\"{}\",\"log_bytes_per_byte\":{:.4},\"points\":{},\"cycles_mean\":{:.0},\
         \"cycles_total\":{cycles:.0},\"cycles_p10\":{:.0},\"cycles_p90\":{:.0},\
         \"iops_per_core\":{:.0},\"tsc_hz\":{},\"frames_in\":{:.2},\"frames_out\":{:.2},\
         \"polls\":{:.3},\"copied_bytes_per_byte\":{:.3}}}",
        match options.operation {
            Operation::Read => "read",
            Operation::Write => "write",
        },
        options.connections,
        options.depth,
        options.gib,
        options.digest,
        options.copy,
        options.cold,
        options.offloads,
        median(&parts, |part| part.driver),
        match options.write {
            WritePolicy::Through => "through",
            WritePolicy::Back => "back",
            WritePolicy::Logged => "logged",
        },
        log_bytes_per_byte(&before, &alone.snapshot()),
        counter(&alone.snapshot(), "points") - counter(&before, "points"),
        parts.iter().map(|(part, _)| total(part)).sum::<u64>() as f64 / commands as f64,
        quantile(&parts, 0.1, total),
        quantile(&parts, 0.9, total),
        alone.tsc_hz() as f64 / cycles,
        alone.tsc_hz(),
        per(load.frames().0, frames.0),
        per(load.frames().1, frames.1),
        per(alone.snapshot().polls, before.polls),
        per(copied(&alone.snapshot()), copied(&before)) / IO as f64,
    );
}

fn counter(snapshot: &ShardSnapshot, name: &str) -> u64 {
    let counters = snapshot.counters.iter().flat_map(|layer| &layer.counters);
    counters.filter(|c| c.name == name).map(|c| c.value).sum()
}

/// Payload bytes that were copied: headers of the log are not payload.
fn copied(snapshot: &ShardSnapshot) -> u64 {
    let payload = snapshot.copied_bytes.iter();
    let payload = payload.filter(|(reason, _)| *reason != "log_header");
    payload.map(|(_, bytes)| bytes).sum()
}

/// Bytes written to the log for each byte of payload; 0 without a log.
fn log_bytes_per_byte(before: &ShardSnapshot, after: &ShardSnapshot) -> f64 {
    let since = |name| counter(after, name) - counter(before, name);
    let payload = since("payload_bytes");
    match payload {
        0 => 0.0,
        _ => (payload + since("overhead_bytes")) as f64 / payload as f64,
    }
}

/// The engine did what the hosts saw, and copied only if it was asked to.
fn verify(before: &ShardSnapshot, after: &ShardSnapshot, options: &Options, commands: u64) {
    let (reads, writes) = (
        after.io.reads - before.io.reads,
        after.io.writes - before.io.writes,
    );
    let (done, other) = match options.operation {
        Operation::Read => (reads, writes),
        Operation::Write => (writes, reads),
    };
    // What was under way at the start and at the end differs by at most the depth.
    assert!(
        done.abs_diff(commands) <= options.depth as u64 && other == 0,
        "{commands} commands were answered, {reads} reads and {writes} writes done"
    );
    assert_eq!(after.io.errors, 0, "errors");
    let dropped = counter(after, "tcp_budget_dropped");
    assert_eq!(dropped, 0, "frames beyond what windows promised");
    let copied = copied(after) - copied(before);
    let copies = options.copy && options.operation == Operation::Write;
    assert_eq!(copied > 0, copies, "{copied} bytes were copied");
}
