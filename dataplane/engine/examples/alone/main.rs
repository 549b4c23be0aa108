//! The engine alone: cycles per 4 KiB command, by stage, from received frames
//! to sent completions, with no kernel and no device in the loop.
//!
//! Hosts made of a few numbers each write frames into the receive buffers and
//! take answers off a wire in memory; only what the shard does between counts.
//! Prints one line of JSON. `ci/bench --engine` runs it for every shape of load
//! and makes the table; alone:
//!
//! ```text
//! alone write|read [--connections N] [--depth N] [--gib N] [--digest] [--tls 128|256] [--copy] [--cold]
//!       [--no-offloads] [--commands N] [--part N] [--instructions] [--core N]
//!       [--mib N] [--zipf | --sequential] [--clusters N]
//!       [--back | --logged [--two-logs] [--log-block 512|4096] [--half-mib N] [--interval-ms N]
//!                          [--points N [--device-us MOST SLOWEST [--drive-us MOST SLOWEST]]]]
//! ```
//!
//! `--mib`: only so much of the namespace is used. `--two-logs`: the log is on two stores, written in parallel. `--points`: instead of cycles, what writes take in a run with so
//! many consistency points, by tenths of a second, on devices that take MOST microseconds for a write, and
//! SLOWEST for one in a hundred; `--drive-us` if the namespace's takes longer than the log's.
#![allow(missing_docs)]

mod crc;
mod devices;
mod latency;
mod load;
mod options;
mod report;
mod secure;
mod tcp;
mod timing;

use std::net::{IpAddr, Ipv4Addr};

use engine::{
    Alone, Config, HostConfig, ListenerConfig, LogConfig, LogStoreConfig, MemoryConfig,
    NamespaceConfig, PortConfig, PskConfig, StoreConfig, StoreDevice, SubsystemConfig,
    TargetConfig, Tls, WritePolicy,
};

use load::{BLOCK, Load};
use options::{Options, options};
use report::Report;
use tcp::Hosts;

pub const NQN: &str = "nqn.2026-01.com.example:alone";
pub const HOST: &str = "nqn.2026-01.com.example:host";

fn config(options: &Options) -> Config {
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
            clusters: 32768.max(options.clusters.max(options.connections as u32 * 4)),
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
        pairs: Vec::new(),
        log: (options.write == WritePolicy::Logged).then(|| LogConfig {
            stores: (LOG_STORES.iter().take(options.log_stores))
                .map(|&name| LogStoreConfig {
                    name: name.into(),
                    discard: false,
                })
                .collect(),
            half_len: Some(options.half_mib << 20),
            interval: options.interval,
            through_after_failure: false,
        }),
        spdk_json: Some(spdk_json(options)),
        stores: (["null0"].iter().chain(&LOG_STORES).zip(DEVICES))
            .map(|(name, device)| store(name, device))
            .collect(),
        target: TargetConfig {
            listeners: vec![ListenerConfig {
                tls: options.tls.map_or(Tls::Off, |_| Tls::Required),
                ..(address, 4420).into()
            }],
            max_io_bytes: 128 << 10,
            in_capsule_bytes: 8192,
            queue_depth: 128,
            tls_limits: tls::Limits::default(),
            tls_key_update: false,
            authentication: engine::Policy::default(),
            keys: Vec::new(),
            subsystems: vec![SubsystemConfig {
                nqn: NQN.into(),
                serial: "ALONE".into(),
                model: "Throughline".into(),
                hosts: options.tls.map(|hash| {
                    vec![HostConfig {
                        psk: Some(PskConfig {
                            name: "alone".into(),
                            psk: secure::psk(hash),
                        }),
                        ..HOST.into()
                    }]
                }),
                ana: None,
                controller_ids: engine::CNTLIDS,
                peer_listeners: Vec::new(),
                namespaces: vec![NamespaceConfig {
                    nsid: 1,
                    store: "null0".into(),
                    uuid: None,
                    nguid: None,
                    write: options.write,
                    block_size: None,
                    backup_of: None,
                }],
            }],
        },
        copy: options.copy,
        pci_allow: Vec::new(),
        spans: Vec::new(),
        native_memory_mib: 1024,
    }
}

/// The data's device, and the log's.
const DEVICES: [&str; 3] = ["Null0", "Log0", "Log1"];

const LOG_STORES: [&str; 2] = ["log0", "log1"];

/// SPDK's configuration: devices that keep nothing, behind ones that are slow if that is asked for.
fn spdk_json(options: &Options) -> String {
    let blocks = (options.gib << 30) / BLOCK;
    let log_blocks = ((2 * options.half_mib + 4) << 20) / options.log_block;
    let log = (log_blocks, options.log_block);
    let sizes = [(blocks, BLOCK), log, log];
    let mut methods = Vec::new();
    for (i, (name, (blocks, block))) in DEVICES.iter().zip(sizes).enumerate() {
        let below = match options.device_us {
            Some(_) => format!("{name}Base"),
            None => (*name).into(),
        };
        methods.push(format!(
            r#"{{"method":"bdev_null_create","params":{{"name":"{below}","num_blocks":{blocks},"block_size":{block}}}}}"#
        ));
        if let Some((most, slowest)) = options.device_us.map(|devices| devices[i.min(1)]) {
            methods.push(format!(
                r#"{{"method":"bdev_delay_create","params":{{"base_bdev_name":"{below}","name":"{name}","avg_read_latency":{most},"p99_read_latency":{slowest},"avg_write_latency":{most},"p99_write_latency":{slowest}}}}}"#
            ));
        }
    }
    format!(
        r#"{{"subsystems":[{{"subsystem":"bdev","config":[{}]}}]}}"#,
        methods.join(",")
    )
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
    let mut load = Load::connect(alone, hosts, options);
    if let Some(points) = options.points {
        return latency::measure(alone, &mut load, options, points);
    }
    let pass = crc::measure(options.depth, options.cold, alone.tsc_hz());
    let cipher = options.tls.map_or(0.0, |hash| {
        let (operation, depth) = (options.operation, options.depth);
        secure::cipher(hash, operation, depth, options.cold, alone.tsc_hz())
    });
    // Every connection is past its slow start, every pool has been through once.
    let warm_up = if options.instructions { 4096 } else { 40_960 };
    load.run(
        alone,
        warm_up.max(4 * options.connections as u64),
        options.depth,
        false,
    );
    let mut report = Report::begin(alone, &load);
    let answered = load.answered;
    while load.answered - answered < options.commands {
        report.part(alone, &mut load, options);
    }
    report.verify(alone, options);
    report.print(alone, &load, options, &pass, cipher);
}
