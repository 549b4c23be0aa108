//! The configuration file: TOML in, [`engine::Config`] out.
//!
//! Every problem carries its place and what to write instead, and all of them
//! are reported at once. A key is known because a getter asks for it, so what
//! is read here is what may be written. `docs/throughline.toml` is the
//! reference for people; a test keeps the two together.

mod hosts;
pub(crate) mod keys;
mod log;
mod pair;
mod ports;
mod problem;
mod reader;
mod save;
mod source;
mod spdk;
mod stores;
mod target;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

pub(crate) use self::hosts::key_names;
pub(crate) use self::problem::Problems;
use self::reader::{Section, Sink};
pub(crate) use self::source::{Source, digest, load_source};
pub(crate) use self::target::default_serial;
pub(crate) use self::values::{
    PortDevice, nguid_text, pci_address, port_device, transport_field, transport_pci, uuid_text,
};

/// Where the control socket is when nobody says otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/throughline.sock";

/// What one file configures.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) engine: engine::Config,
    /// Where the control socket is made.
    pub(crate) control_socket: PathBuf,
    /// Where metrics are answered, if anywhere.
    pub(crate) metrics: Option<SocketAddr>,
    /// MiB of `native_memory_mib` that malloc stores take.
    pub(crate) malloc_mib: u32,
    /// Files and block devices of the kernel that bdevs are made of, by the bdev's name.
    pub(crate) bdev_files: Vec<(String, PathBuf)>,
    /// What is known of stores before they are there.
    pub(crate) known_stores: Vec<engine::KnownStore>,
    /// By pair: what is run for its alerts, and what it is called with; nothing if empty.
    pub(crate) alerts: Vec<Vec<String>>,
    /// Harmless, but surely not meant.
    pub(crate) warnings: Option<Problems>,
}

/// What the file's values are held against.
pub(crate) struct Surroundings<'s> {
    /// The machine's cores, where that is known.
    pub(crate) cores: Option<&'s [u32]>,
    /// Reads a file the configuration names.
    pub(crate) read: &'s dyn Fn(&Path) -> Result<String, String>,
}

/// A file that cannot be used.
#[derive(Debug)]
pub(crate) enum Error {
    Unreadable { path: PathBuf, why: String },
    Wrong(Problems),
}

impl std::error::Error for Error {}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Unreadable { path, why } => {
                write!(f, "cannot read the configuration {}: {why}", path.display())
            }
            Error::Wrong(problems) => write!(f, "the configuration cannot be used\n\n{problems}"),
        }
    }
}

/// Reads a configuration file, and the SPDK configuration it names.
pub(crate) fn load(path: &Path, cores: Option<&[u32]>) -> Result<Program, Error> {
    load_source(path, cores).map(|(program, _)| program)
}

/// A regular file of a sane size: a device or a pipe would never end.
fn read_small(path: &Path) -> Result<String, String> {
    const MOST: u64 = 16 << 20;
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".into());
    }
    if metadata.len() > MOST {
        return Err(format!(
            "it has {} bytes; at most {MOST} are read",
            metadata.len()
        ));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Reads the text of a configuration file.
pub(crate) fn parse(
    file: &Path,
    text: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Program, Problems> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let problems = Sink::default();
    for error in &syntax {
        let span = error.span().unwrap_or_default();
        let (message, expected) = error
            .message()
            .split_once(", ")
            .unwrap_or((error.message(), ""));
        let help = match text.get(span.clone()) {
            Some(word) if message == "string values must be quoted" => format!("write \"{word}\""),
            _ => expected.to_owned(),
        };
        problems.report(span, message, help);
    }
    // With broken syntax the tree is a guess; what it seems to say would only confuse.
    if syntax.is_empty() {
        let warnings = Sink::default();
        let root = Section::new("the file", document.get_ref(), 0..0, &problems);
        let program = read_program(root, &warnings, surroundings);
        let problems = problems.into_problems();
        if problems.is_empty() {
            let warnings = Problems::new(file, text, warnings.into_problems());
            let warnings = (!warnings.is_empty()).then_some(warnings);
            return Ok(Program {
                warnings,
                ..program
            });
        }
        return Err(Problems::new(file, text, problems));
    }
    Err(Problems::new(file, text, problems.into_problems()))
}

/// Reads everything; the value is of use only if nothing was reported.
fn read_program(root: Section<'_>, warnings: &Sink, surroundings: &Surroundings<'_>) -> Program {
    let cores = read_cores(&root, surroundings.cores);
    let copy = root.boolean("copy", false);
    let ports = ports::read(&root);
    let stores = stores::read(&root);
    let log = log::read(&root, &stores);
    let (pairs, alerts): (Vec<_>, Vec<_>) =
        (pair::read(&root, &ports, &stores, log.is_some()).into_iter()).unzip();
    let keys = keys::read(&root);
    let target = target::read(&root, &ports, &stores, log.as_ref(), &pairs, keys, warnings);
    let spdk = spdk::read(&root, &stores, surroundings, warnings);
    let (memory, native_memory_mib) = read_memory(&root, target.max_io_bytes, stores.malloc_mib());
    let (control_socket, metrics) = read_control(&root, &ports);
    root.finish();

    let mut pci_allow: Vec<String> = ports
        .devices()
        .chain(stores.pci_addresses())
        .chain(spdk.pci_allow)
        .collect();
    pci_allow.sort_unstable();
    pci_allow.dedup();
    let engine = engine::Config {
        cores,
        memory,
        ports: ports.into_configs(),
        spdk_json: spdk.json,
        stores: stores.configs(),
        spans: stores.spans(),
        log,
        pairs,
        target,
        copy,
        pci_allow,
        native_memory_mib,
    };
    Program {
        engine,
        control_socket,
        metrics,
        malloc_mib: stores.malloc_mib(),
        bdev_files: spdk.files,
        known_stores: stores.known(),
        alerts,
        warnings: None,
    }
}

fn read_cores(root: &Section<'_>, machine: Option<&[u32]>) -> Vec<u32> {
    const MOST: u32 = 1023;
    let Some(item) = root.require("cores", "[1]") else {
        return Vec::new();
    };
    let mut cores: Vec<u32> = Vec::new();
    for element in item.elements("[1, 2]") {
        let Some(core) = element.integer(0..=MOST, 1) else {
            continue;
        };
        if cores.contains(&core) {
            element.report(format!("core {} is listed twice", core), "leave one out");
        } else if let Some(machine) = machine
            && !machine.contains(&core)
        {
            let message = format!("core {} does not exist or is offline", core);
            element.report(message, format!("this machine has {}", ranges(machine)));
        }
        cores.push(core);
    }
    if cores.is_empty() && item.is_empty_array() {
        item.report("at least one core must poll", "write `cores = [1]`");
    }
    cores
}

/// `0-3, 8` for 0, 1, 2, 3, 8.
pub(crate) fn ranges(cores: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &core in cores {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => parts.push((core, core)),
        }
    }
    let part = |&(first, last): &(u32, u32)| {
        if first == last {
            format!("core {first}")
        } else {
            format!("cores {first} to {last}")
        }
    };
    parts.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// Each shard's pools, and the MiB that DPDK and SPDK get for themselves.
fn read_memory(
    root: &Section<'_>,
    max_io_bytes: u32,
    malloc_mib: u32,
) -> (engine::MemoryConfig, u32) {
    /// Packet buffer headers, rings, SPDK's request pools.
    const NATIVE_MIB: u32 = 512;
    let mut memory = engine::MemoryConfig {
        clusters: 32768,
        cluster_size: 2048,
        pages: 32768,
        requests: 1024,
        connections: 1024,
    };
    let mut native_mib = NATIVE_MIB.saturating_add(malloc_mib);
    let Some(section) = root.table("memory") else {
        return (memory, native_mib);
    };
    memory.clusters = section.integer("clusters", 256..=1 << 22, memory.clusters);
    memory.pages = section.integer("pages", 256..=1 << 22, memory.pages);
    memory.requests = section.integer("requests", 16..=65535, memory.requests);
    memory.connections = section.integer("connections", 1..=1 << 16, memory.connections);
    if let Some(item) = section.get("cluster_size")
        && let Some(size) = item.integer(2048..=16384, 2048)
    {
        memory.cluster_size = size;
        if !size.is_power_of_two() {
            item.report(
                format!("{} is not a power of two", size),
                "write 2048 for frames up to 1536 bytes, or 4096, 8192 or 16384",
            );
        }
    }
    let pages_of_one_io = max_io_bytes.div_ceil(4096);
    if memory.pages < pages_of_one_io {
        section.report(
            section.span.clone(),
            format!(
                "{} pages cannot hold one request of {max_io_bytes} bytes",
                memory.pages
            ),
            format!("write `pages = {}` or more", pages_of_one_io * 64),
        );
    }
    if let Some(item) = section.get("native_mib")
        && let Some(given) = item.integer(64..=1 << 20, native_mib)
    {
        native_mib = given;
        let least = malloc_mib.saturating_add(64);
        if native_mib < least {
            item.report(
                format!("{native_mib} MiB cannot hold the malloc stores' {malloc_mib} MiB"),
                format!(
                    "write `native_mib = {}`",
                    NATIVE_MIB.saturating_add(malloc_mib)
                ),
            );
        }
    }
    section.finish();
    (memory, native_mib)
}

fn read_control(root: &Section<'_>, ports: &ports::Ports) -> (PathBuf, Option<SocketAddr>) {
    const METRICS: &str = "127.0.0.1:9464";
    /// What fits into `sockaddr_un`, less what its temporary directory adds.
    const MOST: usize = 90;
    let mut socket = PathBuf::from(DEFAULT_SOCKET);
    let Some(section) = root.table("control") else {
        return (socket, None);
    };
    let metrics = (section.get("metrics")).and_then(|item| {
        let address: Option<SocketAddr> = item.string(METRICS)?.parse().ok();
        let help = || format!("write `metrics = \"{METRICS}\"`, or leave it out for none");
        match address {
            None => item.report("metrics are answered at an address and a TCP port", help()),
            // Whether or not the kernel has it too: what comes in there is the port's.
            Some(at) if ports.addresses().any(|own| own == at.ip().to_canonical()) => item.report(
                format!(
                    "{} is the address of a port: scrapes would not reach the kernel",
                    at.ip()
                ),
                help(),
            ),
            Some(_) => {}
        }
        address
    });
    if let Some(item) = section.get("socket")
        && let Some(path) = item.string(DEFAULT_SOCKET)
    {
        socket = PathBuf::from(path);
        let named = socket.file_name().is_some() && !path.contains('\0');
        if !socket.is_absolute() || !named || path.len() > MOST {
            item.report(
                "the socket's path must be absolute and short",
                format!("write a path of at most {MOST} bytes, such as \"{DEFAULT_SOCKET}\""),
            );
        }
    }
    section.finish();
    (socket, metrics)
}
