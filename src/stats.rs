//! The engine's counters as they travel: made from a snapshot, sent over the
//! control socket, read back by the commands.

mod latency;
mod log;
mod named;
mod pair;
mod parts;
mod show;

pub(crate) use engine::IoCounters as Io;

pub(crate) use self::latency::Latency;
pub(crate) use self::log::Log;
pub(crate) use self::named::Named;
pub(crate) use self::pair::{COLUMNS as PAIR_COLUMNS, Mirror, Pair, row as pair_row};
pub(crate) use self::parts::{Ana, Connection, Drive, Namespace};
pub(crate) use self::show::{Copies, Segments};

use engine::{CopyReason, ShardSnapshot, Snapshot, Stage};
use serde::{Deserialize, Serialize};

use crate::readiness::{Readiness, State};

/// The counters of a running program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// The program's version.
    pub(crate) version: String,
    /// Seconds since it started.
    pub(crate) uptime_seconds: f64,
    /// Whether it serves anything.
    pub(crate) ready: bool,
    /// How much of what is configured that is, and what is wrong with the rest.
    pub(crate) state: State,
    pub(crate) reasons: Vec<String>,
    /// TSC ticks per second.
    pub(crate) tsc_hz: u64,
    pub(crate) shards: Vec<Shard>,
    /// How hosts reach namespaces of subsystems that report asymmetric access.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ana: Vec<Ana>,
    /// What drives say of their health.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) drives: Vec<Drive>,
    /// How volumes of pairs stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pairs: Vec<Pair>,
}

/// What one shard, or several together, have done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shard {
    pub(crate) core: u32,
    pub(crate) polls: u64,
    pub(crate) polls_busy: u64,
    pub(crate) cycles_total: u64,
    pub(crate) cycles_by_stage: Named<u64>,
    pub(crate) io: Io,
    /// The same by namespace.
    pub(crate) namespaces: Vec<Namespace>,
    /// Logical pages written that had 1, 2, 3 and 4 segments.
    pub(crate) pages_by_segments: [u64; 4],
    pub(crate) copied_bytes: Named<u64>,
    pub(crate) pools: Named<Pool>,
    pub(crate) connections: u64,
    /// The connections themselves, if they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) connection_list: Vec<Connection>,
    /// Counters with names of their own, by layer.
    pub(crate) counters: Named<Named<u64>>,
}

/// A fixed pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) size: u64,
    pub(crate) free: u64,
}

impl Stats {
    pub(crate) fn new(
        snapshot: &Snapshot,
        uptime: std::time::Duration,
        readiness: &Readiness,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: uptime.as_secs_f64(),
            ready: readiness.state().serves(),
            state: readiness.state(),
            reasons: readiness.reasons(),
            tsc_hz: snapshot.tsc_hz,
            shards: (snapshot.shards.iter())
                .map(|shard| Shard::new(shard, snapshot))
                .collect(),
            ana: snapshot.ana.iter().map(Ana::new).collect(),
            drives: snapshot.drives.iter().map(Drive::new).collect(),
            pairs: snapshot.pairs.iter().map(Pair::new).collect(),
        }
    }

    /// All shards together. Only sums mean something in it.
    pub(crate) fn total(&self) -> Shard {
        let mut total = Shard::default();
        for shard in &self.shards {
            total.combine(shard, |sum, value| *sum += value);
        }
        total
    }
}

impl Shard {
    /// What happened after `earlier`; pools and connections stay as they are now.
    pub(crate) fn since(&self, earlier: &Shard) -> Shard {
        let mut difference = self.clone();
        difference.combine(earlier, |now, then| *now = now.saturating_sub(*then));
        difference.pools = self.pools.clone();
        difference.connections = self.connections;
        difference.connection_list =
            Connection::since(&self.connection_list, &earlier.connection_list);
        difference
    }

    fn combine(&mut self, other: &Shard, combine: impl Fn(&mut u64, &u64)) {
        combine(&mut self.polls, &other.polls);
        combine(&mut self.polls_busy, &other.polls_busy);
        combine(&mut self.cycles_total, &other.cycles_total);
        self.cycles_by_stage.merge(&other.cycles_by_stage, &combine);
        self.io.combine(&other.io, &combine);
        Namespace::combine(&mut self.namespaces, &other.namespaces, &combine);
        for (sum, value) in self
            .pages_by_segments
            .iter_mut()
            .zip(&other.pages_by_segments)
        {
            combine(sum, value);
        }
        self.copied_bytes.merge(&other.copied_bytes, &combine);
        self.pools.merge(&other.pools, |sum, pool| {
            combine(&mut sum.size, &pool.size);
            combine(&mut sum.free, &pool.free);
        });
        combine(&mut self.connections, &other.connections);
        self.counters
            .merge(&other.counters, |sum, layer| sum.merge(layer, &combine));
    }
}

impl Shard {
    /// What the CPU copied, for whatever reason: not what TLS opened or sealed into other memory, which reads and writes each byte anyway.
    pub(crate) fn copied_bytes_total(&self) -> u64 {
        let is_aside = |name: &str| {
            let mut reasons = CopyReason::ALL.iter();
            reasons.any(|reason| reason.name() == name && !reason.is_copy())
        };
        let copied = self.copied_bytes.iter().filter(|(name, _)| !is_aside(name));
        copied.map(|(_, bytes)| bytes).sum()
    }

    fn new(shard: &ShardSnapshot, snapshot: &Snapshot) -> Self {
        let named = |list: &[(&'static str, u64)]| {
            Named(
                list.iter()
                    .map(|&(name, value)| (name.to_owned(), value))
                    .collect(),
            )
        };
        let stages = Stage::ALL.map(|stage| (stage.name(), shard.cycles_by_stage[stage as usize]));
        // Every port has its own `tcp` and `port` layers: here they are one.
        let mut counters: Named<Named<u64>> = Named::default();
        for layer in &shard.counters {
            let list = layer.counters.iter().map(|c| (c.name.to_owned(), c.value));
            let layer = Named(vec![(layer.name.to_owned(), Named(list.collect()))]);
            counters.merge(&layer, |sum, list| {
                sum.merge(list, |sum, value| *sum += value)
            });
        }
        Self {
            core: shard.core,
            polls: shard.polls,
            polls_busy: shard.polls_busy,
            cycles_total: shard.cycles_total,
            cycles_by_stage: named(&stages),
            io: shard.io,
            namespaces: Namespace::list(shard, &snapshot.inventory),
            pages_by_segments: shard.pages_by_segments,
            copied_bytes: named(&shard.copied_bytes),
            pools: Named(
                shard
                    .pools
                    .iter()
                    .map(|pool| {
                        (
                            pool.name.to_owned(),
                            Pool {
                                size: pool.size,
                                free: pool.free,
                            },
                        )
                    })
                    .collect(),
            ),
            connections: shard.connections,
            connection_list: Connection::list(shard, snapshot),
            counters,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use engine::{
        AlertCounters, AnaSnapshot, AnaState, Cntlid, ConnectionInfo, ConnectionSnapshot,
        ControllerInfo, Counter, Generation, Inventory, IoCounters, Kind, Layer, LinkSecurity,
        NamespaceCounters, NamespaceName, PairReport, PoolSnapshot, Role, Smart,
    };
    use serde_json::Value;

    use super::*;
    use crate::readiness::Part;

    pub(crate) fn snapshot() -> Snapshot {
        let shard = ShardSnapshot {
            namespace_indexes: Vec::new(),
            core: 1,
            polls: 1000,
            polls_busy: 250,
            cycles_total: 26_000_000,
            cycles_by_stage: [100, 200, 300, 400, 500, 600, 700].map(|c| c * 1000),
            io: IoCounters {
                reads: 600,
                writes: 400,
                others: 3,
                errors: 1,
                read_bytes: 600 << 12,
                written_bytes: 400 << 12,
            },
            pages_by_segments: [10, 20, 60, 10],
            copied_bytes: vec![("pull_up", 4096), ("ablation", 0)],
            pools: vec![PoolSnapshot {
                name: "clusters",
                size: 1024,
                free: 1000,
            }],
            connections: 2,
            // Two ports.
            counters: vec![tcp(0, 5), tcp(1, 2)],
            namespaces: vec![namespace()],
            connection_list: vec![connection()],
        };
        let other = ShardSnapshot {
            core: 2,
            ..shard.clone()
        };
        Snapshot {
            tsc_hz: 2_600_000_000,
            shards: vec![shard, other],
            inventory: Arc::new(Inventory {
                ports: vec!["data0".into(), "data1".into()],
                namespaces: vec![NamespaceName {
                    subsystem: "nqn.2026-01.com.example:flash".into(),
                    nsid: 1,
                    store: "flash0".into(),
                }],
            }),
            controllers: vec![ControllerInfo {
                cntlid: Cntlid(3),
                subsystem: "nqn.2026-01.com.example:flash".into(),
                host: "nqn.2026-01.com.example:host".into(),
                io_queues: 1,
            }],
            ana: vec![AnaSnapshot {
                subsystem: "nqn.2026-01.com.example:flash".into(),
                nsid: 1,
                listener: "192.0.2.1:4420".parse().unwrap(),
                state: AnaState::Inaccessible,
            }],
            drives: vec![("flash0".into(), Smart::of_log([0b10, 0x57, 1, 98, 10, 7]))],
            pairs: vec![pair()],
            alerts: AlertCounters {
                alerts: 9,
                ..AlertCounters::default()
            },
        }
    }

    /// 320 MiB are still to be copied.
    fn pair() -> PairReport {
        PairReport {
            name: "flash0".into(),
            peer: [0x0c; 16],
            role: Role::Source,
            serves: true,
            is_in_sync: false,
            takeover: Some(false),
            generation: Generation { number: 3, tag: 7 },
            bytes: 1 << 40,
            resizes_to: None,
            growing: 0,
            granules: 5120,
            verification: None,
            step: "source_copying",
            since: Duration::from_secs(75),
            severed: None,
            is_backup: false,
            link: Some(LinkSecurity::Tls("TLS_AES_128_GCM_SHA256")),
            state: "source, Forward; source, Copying since 75 s".into(),
        }
    }

    pub(crate) fn sample() -> Stats {
        let port = |name: &str, wrong: Option<&str>| Part {
            name: name.to_owned(),
            wrong: wrong.map(str::to_owned),
        };
        let readiness = Readiness {
            ports: vec![port("port0", Some("eth1 is gone")), port("port1", None)],
            ..Readiness::default()
        };
        Stats::new(&snapshot(), Duration::from_millis(12_500), &readiness)
    }

    /// The same of a program that has a log.
    pub(crate) fn logged() -> Stats {
        let mut stats = sample();
        let counters = [
            ("groups", 100),
            ("records", 800),
            ("payload_bytes", 800 << 12),
            ("overhead_bytes", 100 << 9),
            ("half_used", 4 << 20),
            ("half_size", 16 << 20),
            ("points", 3),
            ("waiting", 2),
            ("group_ns", 2_500_000),
            ("point_ns", 36_000_000),
            ("drive_bytes", 400 << 12),
        ];
        for shard in &mut stats.shards {
            let layer = counters.map(|(name, value)| (name.to_owned(), value));
            shard.counters.0.push(("log".into(), Named(layer.into())));
        }
        stats
    }

    fn tcp(port: usize, segments: u64) -> Layer {
        let counter = |name, kind, value| Counter {
            name,
            help: "Help that \"says\" it.",
            kind,
            value,
        };
        Layer {
            name: "tcp",
            port: Some(port),
            counters: vec![
                counter("segments_in", Kind::Count, segments),
                counter("resets", Kind::Count, 0),
                counter("ip_malformed", Kind::Drop, segments / 5),
            ],
        }
    }

    fn namespace() -> NamespaceCounters {
        let mut namespace = NamespaceCounters::default();
        (namespace.io.reads, namespace.io.read_bytes) = (600, 600 << 12);
        for n in 1..=600 {
            namespace.latency[0].record(n * 1000);
        }
        namespace
    }

    fn connection() -> ConnectionSnapshot {
        ConnectionSnapshot {
            port: 1,
            peer: "192.0.2.2:49152".parse().unwrap(),
            cntlid: Some(3),
            qid: 1,
            queue_depth: 128,
            outstanding: 2,
            io: namespace().io,
            latency_ns: 600_000_000,
            bytes_received: 1 << 20,
            bytes_sent: 4 << 20,
            tcp: ConnectionInfo {
                round_trip: Duration::from_micros(120),
                congestion_window: 14_480,
                retransmitted: 7,
                ..ConnectionInfo::default()
            },
        }
    }

    /// TLS is no reason of its own to read and write a byte.
    #[test]
    fn z14_what_tls_opens_and_seals_is_no_copy() {
        let bytes = [("pull_up", 3), ("open", 5), ("seal", 7), ("new", 11)];
        let copied_bytes = bytes.map(|(reason, bytes)| (reason.to_owned(), bytes));
        let shard = Shard {
            copied_bytes: Named(copied_bytes.into()),
            ..Shard::default()
        };
        assert_eq!(shard.copied_bytes_total(), 14);
    }

    #[test]
    fn stats_survive_the_wire_in_order() {
        let stats = sample();
        let text = serde_json::to_string(&stats).unwrap();
        assert!(
            text.contains(r#""cycles_by_stage":{"receive":100000,"tcp":200000"#),
            "{text}"
        );
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::from_value::<Stats>(value).unwrap(), stats);
    }

    #[test]
    fn k08_stats_show_what_drives_say() {
        let mut stats = sample();
        let line = |stats: &Stats| {
            let text = stats.to_string();
            let line = text.lines().find(|line| line.contains(" °C"));
            line.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        assert_eq!(line(&stats).unwrap(), "flash0 70 °C 98 % 7 % 0x02");
        stats.drives.clear();
        assert_eq!(line(&stats), None);
    }

    #[test]
    fn k08_stats_show_how_hosts_reach_namespaces() {
        let mut stats = sample();
        let line = |stats: &Stats| {
            let text = stats.to_string();
            let line = text.lines().find(|line| line.contains("192.0.2.1:4420"));
            line.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        let expected = "nqn.2026-01.com.example:flash 1 192.0.2.1:4420 inaccessible";
        assert_eq!(line(&stats).unwrap(), expected);
        stats.ana.clear();
        assert_eq!(line(&stats), None);
    }

    #[test]
    fn shards_add_up_and_differences_come_back() {
        let stats = sample();
        let total = stats.total();
        assert_eq!((total.io.reads, total.pages_by_segments[2]), (1200, 120));
        assert_eq!(
            total.pools.get("clusters"),
            Some(&Pool {
                size: 2048,
                free: 2000
            })
        );
        assert_eq!(
            total
                .counters
                .get("tcp")
                .and_then(|tcp| tcp.get("segments_in")),
            Some(&14)
        );
        let one = Shard {
            core: 0,
            ..stats.shards[0].clone()
        };
        let difference = total.since(&one);
        assert_eq!(difference.io, one.io);
        assert_eq!(difference.cycles_by_stage, one.cycles_by_stage);
        assert_eq!(difference.pools, total.pools);
    }
}
