//! Metrics for Prometheus: the same counters as `throughline stats`, as an HTTP
//! answer. `docs/monitoring.md` has the table; a test holds it against the output.

mod server;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use engine::{
    IoKind, Kind, Layer, NamespaceCounters, PairReport, Role, ShardSnapshot, Smart, Snapshot, Stage,
};

pub(crate) use self::server::{Source, listen, serve};
use self::text::{Labels, Text, Type};

use crate::config::uuid_text;
use crate::readiness::{Readiness, State};

/// Powers of two of nanoseconds that latency buckets end at: 1 µs to 8.6 s.
const POWERS: std::ops::RangeInclusive<u32> = 10..=33;

/// Everything in Prometheus's text format.
pub(crate) fn exposition(snapshot: &Snapshot, uptime: Duration, readiness: &Readiness) -> String {
    let mut writer = Writer {
        text: Text::default(),
        snapshot,
        cores: (snapshot.shards.iter())
            .map(|shard| shard.core.to_string())
            .collect(),
    };
    writer.program(uptime, readiness.state());
    writer.parts(readiness);
    writer.shards();
    writer.namespaces();
    writer.ana();
    writer.drives();
    writer.pairs();
    writer.memory();
    writer.layers();
    writer.text.finish()
}

struct Writer<'s> {
    text: Text,
    snapshot: &'s Snapshot,
    /// Labels of the shards.
    cores: Vec<String>,
}

impl<'s> Writer<'s> {
    fn program(&mut self, uptime: Duration, state: State) {
        let text = &mut self.text;
        text.family(
            "throughline_build_info",
            Type::Gauge,
            "The program's version; always 1.",
        );
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        text.sample("throughline_build_info", &version, 1);
        let mut one = |name, help, value: f64| {
            text.family(name, Type::Gauge, help);
            text.sample(name, &[], value);
        };
        one(
            "throughline_uptime_seconds",
            "Seconds since the program started.",
            uptime.as_secs_f64(),
        );
        one(
            "throughline_ready",
            "Whether it serves: every shard polls, and a port and a namespace work at least.",
            f64::from(u8::from(state.serves())),
        );
        one(
            "throughline_tsc_hertz",
            "Ticks of the time-stamp counter in a second: cycles are seconds times this.",
            self.snapshot.tsc_hz as f64,
        );
    }

    /// Whether each port and each namespace works.
    fn parts(&mut self, readiness: &Readiness) {
        let text = &mut self.text;
        let works = |wrong: &Option<String>| u8::from(wrong.is_none());
        let name = "throughline_port_ready";
        let help =
            "Whether the port works: its interface is there and up, with a link and an address.";
        text.family(name, Type::Gauge, help);
        for (at, port) in readiness.ports.iter().enumerate() {
            let works = u8::from(readiness.port_works(at));
            text.sample(name, &[("port", &port.name)], works);
        }
        let name = "throughline_namespace_ready";
        let help = "Whether the namespace works: its device is there and does what it is asked.";
        text.family(name, Type::Gauge, help);
        for namespace in &readiness.namespaces {
            let (known, number) = (&namespace.name, namespace.name.nsid.to_string());
            let labels = [
                ("subsystem", known.subsystem.as_str()),
                ("namespace", &number),
                ("store", &known.store),
            ];
            text.sample(name, &labels, works(&namespace.wrong));
        }
    }

    /// How hosts reach namespaces.
    fn ana(&mut self) {
        let name = "throughline_namespace_ana_state";
        let help = "State of the namespace's ANA group by the listener: 1 optimized, 2 non-optimized, 3 inaccessible, 4 persistent loss, 15 change.";
        self.text.family(name, Type::Gauge, help);
        for known in &self.snapshot.ana {
            let (listener, number) = (known.listener.to_string(), known.nsid.to_string());
            let labels = [
                ("subsystem", known.subsystem.as_str()),
                ("namespace", &number),
                ("listener", &listener),
            ];
            self.text.sample(name, &labels, known.state as u8);
        }
    }

    /// What drives say of their health.
    fn drives(&mut self) {
        let mut each = |name, help, value: fn(&Smart) -> Option<f64>| {
            self.text.family(name, Type::Gauge, help);
            for (store, smart) in &self.snapshot.drives {
                if let Some(value) = value(smart) {
                    self.text.sample(name, &[("store", store)], value);
                }
            }
        };
        each(
            "throughline_drive_critical_warning",
            "Critical Warning of the drive's SMART log: a sum of bits, 0 is none.",
            |smart| Some(smart.critical_warning.into()),
        );
        each(
            "throughline_drive_spare_ratio",
            "Spare blocks that the drive has left, of those it had.",
            |smart| Some(f64::from(smart.spare_percent) / 100.0),
        );
        each(
            "throughline_drive_temperature_celsius",
            "Composite temperature of the drive.",
            |smart| Some(f64::from(smart.temperature_celsius()?)),
        );
        each(
            "throughline_drive_used_ratio",
            "How much of its life the drive has used, as it reckons; may be over 1.",
            |smart| Some(f64::from(smart.used_percent) / 100.0),
        );
    }

    /// How volumes of pairs stand, and what became of alerts.
    fn pairs(&mut self) {
        let mut each = |name, help, value: fn(&PairReport) -> Option<u64>| {
            self.text.family(name, Type::Gauge, help);
            for pair in &self.snapshot.pairs {
                if let Some(value) = value(pair) {
                    let peer = uuid_text(pair.peer);
                    let labels = [("store", pair.name.as_str()), ("peer", &peer)];
                    self.text.sample(name, &labels, value);
                }
            }
        };
        each(
            "throughline_pair_role",
            "What this node is for the volume: 1 source, 2 destination, 3 a source that yields.",
            |pair| {
                Some(match pair.role {
                    Role::Source => 1,
                    Role::Destination => 2,
                    Role::Yielding => 3,
                })
            },
        );
        each(
            "throughline_pair_in_sync",
            "Whether both nodes have the same, or will when what is under way is done.",
            |pair| Some(pair.is_in_sync.into()),
        );
        each(
            "throughline_pair_serves_hosts",
            "Whether hosts are served here.",
            |pair| Some(pair.serves.into()),
        );
        each(
            "throughline_pair_takeover",
            "Whether the other node may take over from this one, as etcd knows; absent without etcd.",
            |pair| pair.takeover.map(u64::from),
        );
        each(
            "throughline_pair_severed_by_operator",
            "Whether an operator severed the pair, here or, on a destination, at the other node.",
            |pair| Some(pair.severed.is_some().into()),
        );
        each(
            "throughline_pair_readable_as_backup",
            "Whether what this node has, which is out of date, may be read as a backup.",
            |pair| Some(pair.is_backup.into()),
        );
        each(
            "throughline_pair_to_copy_bytes",
            "What is to be copied to the other node, in granules of 64 KiB.",
            |pair| Some(pair.to_copy_bytes()),
        );
        each("throughline_pair_bytes", "Bytes of the volume.", |pair| {
            Some(pair.bytes)
        });
        each(
            "throughline_pair_growing_bytes",
            "What is to be copied before the volume is as large as it is to be, in granules of 64 KiB.",
            |pair| Some(pair.growing_bytes()),
        );
        each(
            "throughline_pair_state_seconds",
            "Seconds since how far the two nodes are last changed.",
            |pair| Some(pair.since.as_secs()),
        );
        each(
            "throughline_pair_generation",
            "Number of the generation of this node's replica.",
            |pair| Some(pair.generation.number),
        );
        for counter in self.snapshot.alerts.iter() {
            let name = format!("throughline_pair_{}_total", counter.name);
            self.text.family(&name, Type::Counter, counter.help);
            if !self.snapshot.pairs.is_empty() {
                self.text.sample(&name, &[], counter.value);
            }
        }
    }

    /// A family with samples from each shard.
    fn each(
        &mut self,
        name: &str,
        of: Type,
        help: &str,
        samples: impl Fn(&mut Samples<'_>, &'s ShardSnapshot),
    ) {
        self.text.family(name, of, help);
        for (shard, core) in self.snapshot.shards.iter().zip(&self.cores) {
            let mut out = Samples {
                text: &mut self.text,
                name,
                core,
            };
            samples(&mut out, shard);
        }
    }

    fn shards(&mut self) {
        let hz = (self.snapshot.tsc_hz.max(1)) as f64;
        self.each(
            "throughline_shard_polls_total",
            Type::Counter,
            "Turns of the poll loop.",
            |out, shard| out.add(&[], shard.polls),
        );
        self.each(
            "throughline_shard_busy_polls_total",
            Type::Counter,
            "Turns of the poll loop that found work.",
            |out, shard| out.add(&[], shard.polls_busy),
        );
        self.each(
            "throughline_shard_polling_seconds_total",
            Type::Counter,
            "Time since the poll loop began.",
            |out, shard| out.add(&[], shard.cycles_total as f64 / hz),
        );
        self.each(
            "throughline_stage_seconds_total",
            Type::Counter,
            "Time spent on each stage of the path; idle polls are left out.",
            |out, shard| {
                for stage in Stage::ALL {
                    let seconds = shard.cycles_by_stage[stage as usize] as f64 / hz;
                    out.add(&[("stage", stage.name())], seconds);
                }
            },
        );
        self.each(
            "throughline_connections",
            Type::Gauge,
            "TCP connections open now.",
            |out, shard| out.add(&[], shard.connections),
        );
    }

    fn namespaces(&mut self) {
        let inventory = &self.snapshot.inventory;
        let numbers: Vec<String> = (inventory.namespaces.iter())
            .map(|name| name.nsid.to_string())
            .collect();
        let info = "throughline_namespace_info";
        self.text
            .family(info, Type::Gauge, "The store behind a namespace; always 1.");
        for (name, number) in inventory.namespaces.iter().zip(&numbers) {
            let labels = [
                ("subsystem", name.subsystem.as_str()),
                ("namespace", number),
                ("store", &name.store),
            ];
            self.text.sample(info, &labels, 1);
        }
        // Every namespace of a shard, with its labels.
        let each = |shard: &'s ShardSnapshot,
                    f: &mut dyn FnMut(Labels<'_>, &'s NamespaceCounters)| {
            for ((name, number), counters) in inventory
                .namespaces
                .iter()
                .zip(&numbers)
                .zip(&shard.namespaces)
            {
                let labels = [
                    ("subsystem", name.subsystem.as_str()),
                    ("namespace", number),
                ];
                f(&labels, counters);
            }
        };
        self.each(
            "throughline_requests_total",
            Type::Counter,
            "Requests completed, by kind.",
            |out, shard| {
                each(shard, &mut |labels, counters| {
                    let io = counters.io;
                    let by_kind = [io.reads, io.writes, io.others];
                    for (kind, count) in IoKind::ALL.into_iter().zip(by_kind) {
                        out.add(&[labels, &[("kind", kind.name())]].concat(), count);
                    }
                });
            },
        );
        self.each(
            "throughline_request_errors_total",
            Type::Counter,
            "Requests completed with an error status.",
            |out, shard| {
                each(shard, &mut |labels, counters| {
                    out.add(labels, counters.io.errors)
                })
            },
        );
        self.each(
            "throughline_request_bytes_total",
            Type::Counter,
            "Payload bytes read and written.",
            |out, shard| {
                each(shard, &mut |labels, counters| {
                    let io = counters.io;
                    for (kind, bytes) in [("read", io.read_bytes), ("write", io.written_bytes)] {
                        out.add(&[labels, &[("kind", kind)]].concat(), bytes);
                    }
                });
            },
        );
        self.each(
            "throughline_request_latency_seconds",
            Type::Histogram,
            "How long requests took that succeeded, from their start at the volume to their end there.",
            |out, shard| {
                each(shard, &mut |labels, counters| {
                    for kind in IoKind::ALL {
                        let labels = [labels, &[("kind", kind.name())]].concat();
                        out.histogram(&labels, &counters.latency[kind as usize]);
                    }
                });
            },
        );
    }

    fn memory(&mut self) {
        self.each(
            "throughline_pages_written_total",
            Type::Counter,
            "Logical pages written, by the number of their segments.",
            |out, shard| {
                let numbers = ["1", "2", "3", "4"];
                for (number, pages) in numbers.into_iter().zip(shard.pages_by_segments) {
                    out.add(&[("segments", number)], pages);
                }
            },
        );
        self.each(
            "throughline_copied_bytes_total",
            Type::Counter,
            "Payload bytes that the CPU copied, and those that TLS opened or sealed into other memory.",
            |out, shard| {
                for &(reason, bytes) in &shard.copied_bytes {
                    out.add(&[("reason", reason)], bytes);
                }
            },
        );
        self.each(
            "throughline_pool_size",
            Type::Gauge,
            "Members of a fixed pool.",
            |out, shard| {
                for pool in &shard.pools {
                    out.add(&[("pool", pool.name)], pool.size);
                }
            },
        );
        self.each(
            "throughline_pool_free",
            Type::Gauge,
            "Members of a fixed pool that are free now.",
            |out, shard| {
                for pool in &shard.pools {
                    out.add(&[("pool", pool.name)], pool.free);
                }
            },
        );
    }

    /// Counters with names of their own. What was dropped is one family.
    fn layers(&mut self) {
        let ports = &self.snapshot.inventory.ports;
        let port = |layer: &Layer| {
            let name = layer.port.and_then(|port| ports.get(port));
            name.map_or("", String::as_str)
        };
        self.each(
            "throughline_drops_total",
            Type::Counter,
            "Frames, packets and segments dropped, by reason.",
            |out, shard| {
                for layer in &shard.counters {
                    for counter in layer.counters.iter().filter(|c| c.kind == Kind::Drop) {
                        let labels = [
                            ("port", port(layer)),
                            ("layer", prefix(layer)),
                            ("reason", counter.name),
                        ];
                        out.add(&labels, counter.value);
                    }
                }
            },
        );
        // Every shard has the same layers; a layer of several ports comes once.
        let mut seen: Vec<&str> = Vec::new();
        for layer in self
            .snapshot
            .shards
            .iter()
            .flat_map(|shard| &shard.counters)
        {
            if seen.contains(&layer.name) {
                continue;
            }
            seen.push(layer.name);
            for (at, counter) in layer.counters.iter().enumerate() {
                let (of, suffix) = match counter.kind {
                    Kind::Drop => continue,
                    Kind::Count => (Type::Counter, "_total"),
                    Kind::Gauge => (Type::Gauge, ""),
                };
                let name = format!("throughline_{}_{}{suffix}", prefix(layer), counter.name);
                self.each(&name, of, counter.help, |out, shard| {
                    for same in shard.counters.iter().filter(|l| l.name == layer.name) {
                        let value = same.counters[at].value;
                        match same.port {
                            Some(_) => out.add(&[("port", port(same))], value),
                            None => out.add(&[], value),
                        }
                    }
                });
            }
        }
    }
}

/// What metrics call a layer: `tcp` has the counters of everything down to Ethernet.
fn prefix(layer: &Layer) -> &'static str {
    match layer.name {
        "tcp" => "net",
        name => name,
    }
}

/// Samples of one family, of one shard.
struct Samples<'t> {
    text: &'t mut Text,
    name: &'t str,
    core: &'t str,
}

impl Samples<'_> {
    fn add(&mut self, labels: Labels<'_>, value: impl std::fmt::Display) {
        let labels = [&[("shard", self.core)], labels].concat();
        self.text.sample(self.name, &labels, value);
    }

    fn histogram(&mut self, labels: Labels<'_>, histogram: &engine::Histogram) {
        let labels = [&[("shard", self.core)], labels].concat();
        let bucket = format!("{}_bucket", self.name);
        let mut at_most = |end: &str, count: u64| {
            self.text
                .sample(&bucket, &[&labels[..], &[("le", end)]].concat(), count);
        };
        for power in POWERS {
            let end = (1u64 << power) as f64 / 1e9;
            at_most(&end.to_string(), histogram.at_most_power(power));
        }
        at_most("+Inf", histogram.count());
        let sum = histogram.sum() as f64 / 1e9;
        (self.text).sample(&format!("{}_sum", self.name), &labels, sum);
        (self.text).sample(&format!("{}_count", self.name), &labels, histogram.count());
    }
}
