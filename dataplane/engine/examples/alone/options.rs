//! What is asked for.

use std::time::Duration;

use engine::WritePolicy;
use testkit::places::Pattern;
use tls::Hash;

/// What the hosts do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
}

pub struct Options {
    pub operation: Operation,
    pub pattern: Pattern,
    pub connections: usize,
    pub depth: usize,
    pub gib: u64,
    /// Of the namespace, what is written to or read; 0: all of it.
    pub mib: u64,
    /// Clusters for receiving, and for what the cache keeps; 0: enough for the connections.
    pub clusters: u32,
    pub digest: bool,
    /// Connections are encrypted, by the suite of this hash.
    pub tls: Option<Hash>,
    pub copy: bool,
    pub cold: bool,
    pub offloads: bool,
    pub commands: u64,
    /// Commands measured together: short enough that most are not disturbed by
    /// other work of the machine, and the median is of the undisturbed.
    pub part: u64,
    /// Only so many commands under `poll_counted`, for callgrind.
    pub instructions: bool,
    pub core: u32,
    pub write: WritePolicy,
    /// Bytes of a block of the log's store.
    pub log_block: u64,
    /// How many stores the log is written to.
    pub log_stores: usize,
    pub half_mib: u64,
    /// Between two consistency points.
    pub interval: Duration,
    /// Latencies of a run with so many consistency points, instead of cycles.
    pub points: Option<u64>,
    /// What a write takes on the namespace's device, and on the log's: most, and one in a hundred.
    pub device_us: Option<[(u64, u64); 2]>,
}

impl Options {
    /// Bits of the key that records are sealed with; 0: they go in the clear.
    pub fn key_bits(&self) -> u32 {
        match self.tls {
            None => 0,
            Some(Hash::Sha256) => 128,
            Some(Hash::Sha384) => 256,
        }
    }
}

pub fn options() -> Result<Options, String> {
    let mut options = Options {
        operation: Operation::Write,
        pattern: Pattern::Uniform,
        connections: 1,
        depth: 32,
        gib: 1,
        mib: 0,
        clusters: 0,
        digest: false,
        tls: None,
        copy: false,
        cold: false,
        offloads: true,
        commands: 400_000,
        part: 256,
        instructions: false,
        core: 1,
        write: WritePolicy::Through,
        log_block: 512,
        log_stores: 1,
        half_mib: 16,
        interval: Duration::from_secs(10),
        points: None,
        device_us: None,
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
            "--mib" => options.mib = number()?,
            "--clusters" => options.clusters = number()? as u32,
            "--commands" => options.commands = number()?.max(1),
            "--part" => options.part = number()?.max(1),
            "--core" => options.core = number()? as u32,
            "--log-block" => options.log_block = number()?,
            "--half-mib" => options.half_mib = number()?.max(1),
            "--interval-ms" => options.interval = Duration::from_millis(number()?.max(1)),
            "--points" => options.points = Some(number()?.max(1)),
            "--device-us" => options.device_us = Some([(number()?, number()?); 2]),
            "--drive-us" => {
                let drive = (number()?, number()?);
                let devices = options.device_us.as_mut();
                devices.ok_or("--drive-us stands behind --device-us")?[0] = drive;
            }
            "--tls" => {
                let bits = number()?;
                let hash = [(128, Hash::Sha256), (256, Hash::Sha384)];
                let hash = hash.into_iter().find(|(key, _)| *key == bits);
                options.tls = Some(hash.ok_or("--tls 128 or --tls 256")?.1);
            }
            "--zipf" => options.pattern = Pattern::Zipf,
            "--sequential" => options.pattern = Pattern::Sequential,
            "--two-logs" => options.log_stores = 2,
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
    if options.points.is_some() && (options.connections > 1 || options.operation == Operation::Read)
    {
        return Err("--points is of writes over one connection".into());
    }
    Ok(options)
}
