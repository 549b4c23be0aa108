//! What happened between two looks at the counters, as rates.

use serde::Serialize;

use crate::stats::{Connection, Io, Log, Mirror, Named, Namespace, Pair, Stats};

/// A while of a running program.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) version: String,
    pub(super) uptime_seconds: f64,
    /// How long the while was.
    pub(super) seconds: f64,
    pub(super) shards: Vec<ShardRates>,
    /// Of all shards together.
    pub(super) cycles_per_io: Named<f64>,
    pub(super) copied_bytes_per_second: Named<f64>,
    /// What the log did, of all shards together; none if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<LogRates>,
    /// How volumes of pairs stand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) pairs: Vec<PairRates>,
    /// What the lanes to the other node did, of all shards together; none if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mirror: Option<MirrorRates>,
    pub(super) namespaces: Vec<NamespaceRates>,
    pub(super) connections: Vec<ConnectionRates>,
}

/// A log in a while.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct LogRates {
    /// Of the halves that are written to, 0 to 1, now.
    pub(super) fill: f64,
    pub(super) groups_per_second: f64,
    pub(super) records_per_group: f64,
    pub(super) bytes_per_second: f64,
    /// Bytes to the log for each byte that hosts wrote to logged namespaces.
    pub(super) bytes_per_host_byte: f64,
    /// Mean nanoseconds until a group is stable.
    pub(super) group_ns: f64,
    /// Bytes to drives for each byte that hosts wrote to logged namespaces.
    pub(super) drive_bytes_per_host_byte: f64,
    /// Consistency points since the program began.
    pub(super) points: u64,
    /// Changes that are not stable yet.
    pub(super) waiting: u64,
    /// Shards whose log has failed.
    pub(super) failed: u64,
    /// Not 0 if one of two stores is out.
    pub(super) out: u64,
}

impl LogRates {
    /// `now` and `since` are counters as they are, and what was added to them.
    fn new(now: &Log, since: &Log, seconds: f64) -> Self {
        let written = (since.payload_bytes + since.overhead_bytes) as f64;
        Self {
            fill: over(now.half_used as f64, now.half_size as f64),
            groups_per_second: since.groups as f64 / seconds,
            records_per_group: over(since.records as f64, since.groups as f64),
            bytes_per_second: written / seconds,
            bytes_per_host_byte: over(written, since.payload_bytes as f64),
            group_ns: over(since.group_ns as f64, since.groups as f64),
            drive_bytes_per_host_byte: over(since.drive_bytes as f64, since.payload_bytes as f64),
            points: now.points,
            waiting: now.waiting,
            failed: now.failed,
            out: now.out,
        }
    }
}

/// A volume of a pair in a while.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PairRates {
    #[serde(flatten)]
    pub(super) pair: Pair,
    /// By how many bytes what is to be copied has become less.
    pub(super) copied_bytes_per_second: f64,
}

impl PairRates {
    fn new(pair: &Pair, earlier: &Stats, seconds: f64) -> Self {
        let before = earlier.pairs.iter().find(|then| then.store == pair.store);
        let before = before.map_or(0, |then| then.to_copy_bytes);
        Self {
            pair: pair.clone(),
            copied_bytes_per_second: before.saturating_sub(pair.to_copy_bytes) as f64 / seconds,
        }
    }
}

/// The lanes to the other node in a while.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct MirrorRates {
    /// Lanes that there are, and those that have a session, now.
    pub(super) lanes: u64,
    pub(super) lanes_up: u64,
    pub(super) sent_bytes_per_second: f64,
    pub(super) received_bytes_per_second: f64,
    pub(super) messages_per_second: f64,
    pub(super) resent_per_second: f64,
    /// Messages without an answer, and changes that wait for fewer of those, now.
    pub(super) unanswered: u64,
    pub(super) waiting: u64,
}

impl MirrorRates {
    /// `now` and `since` are counters as they are, and what was added to them.
    fn new(now: &Mirror, since: &Mirror, seconds: f64) -> Self {
        let rate = |n: u64| n as f64 / seconds;
        Self {
            lanes: now.lanes,
            lanes_up: now.lanes_up,
            sent_bytes_per_second: rate(since.bytes_sent),
            received_bytes_per_second: rate(since.bytes_received),
            messages_per_second: rate(since.messages_sent),
            resent_per_second: rate(since.messages_resent),
            unanswered: now.messages_unanswered,
            waiting: now.changes_waiting,
        }
    }
}

/// Requests and bytes in a second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct IoRates {
    pub(super) reads: f64,
    pub(super) writes: f64,
    pub(super) others: f64,
    pub(super) errors: f64,
    pub(super) read_bytes: f64,
    pub(super) written_bytes: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ShardRates {
    pub(super) core: u32,
    /// Share of polls that found work, 0 to 1.
    pub(super) busy: f64,
    pub(super) per_second: IoRates,
    pub(super) cycles_per_io: f64,
    pub(super) clusters: u64,
    pub(super) clusters_free: u64,
    pub(super) pages: u64,
    pub(super) pages_free: u64,
    pub(super) connections: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct NamespaceRates {
    pub(super) subsystem: String,
    pub(super) nsid: u32,
    pub(super) store: String,
    pub(super) per_second: IoRates,
    /// Nanoseconds; none if no request ended.
    pub(super) p50_ns: Option<u64>,
    pub(super) p99_ns: Option<u64>,
    pub(super) p999_ns: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ConnectionRates {
    pub(super) core: u32,
    pub(super) port: String,
    pub(super) peer: String,
    pub(super) subsystem: String,
    pub(super) host: String,
    pub(super) qid: u16,
    pub(super) queue_depth: u16,
    pub(super) outstanding: u64,
    pub(super) per_second: IoRates,
    pub(super) latency_mean_ns: Option<u64>,
    pub(super) received_bytes_per_second: f64,
    pub(super) sent_bytes_per_second: f64,
    pub(super) retransmitted_per_second: f64,
    pub(super) round_trip_ns: u64,
    pub(super) congestion_window: u64,
}

impl Sample {
    /// What happened from `earlier` to `now`.
    pub(super) fn new(earlier: &Stats, now: &Stats) -> Self {
        let seconds = (now.uptime_seconds - earlier.uptime_seconds).max(1e-3);
        let before = |core: u32| earlier.shards.iter().find(|shard| shard.core == core);
        let mut shards = Vec::new();
        let mut connections = Vec::new();
        for shard in &now.shards {
            let since = before(shard.core).map_or_else(|| shard.clone(), |then| shard.since(then));
            let pool = |name| shard.pools.get(name).copied().unwrap_or_default();
            shards.push(ShardRates {
                core: shard.core,
                busy: over(since.polls_busy as f64, since.polls as f64),
                per_second: IoRates::new(&since.io, seconds),
                cycles_per_io: over(
                    since.cycles_by_stage.sum() as f64,
                    since.io.transfers() as f64,
                ),
                clusters: pool("clusters").size,
                clusters_free: pool("clusters").free,
                pages: pool("pages").size,
                pages_free: pool("pages").free,
                connections: shard.connections,
            });
            let rates = |c: &Connection| ConnectionRates::new(c, shard.core, seconds);
            connections.extend(since.connection_list.iter().map(rates));
        }
        let all = now.total();
        let total = all.since(&earlier.total());
        let log = Log::of(&all).zip(Log::of(&total));
        let mirror = Mirror::of(&all).zip(Mirror::of(&total));
        let each = |list: &Named<u64>, by: f64| {
            let rates = list
                .iter()
                .map(|(name, &n)| (name.to_owned(), over(n as f64, by)));
            Named(rates.collect())
        };
        Self {
            version: now.version.clone(),
            uptime_seconds: now.uptime_seconds,
            seconds,
            shards,
            cycles_per_io: each(&total.cycles_by_stage, total.io.transfers() as f64),
            copied_bytes_per_second: each(&total.copied_bytes, seconds),
            log: log.map(|(now, since)| LogRates::new(&now, &since, seconds)),
            pairs: (now.pairs.iter())
                .map(|pair| PairRates::new(pair, earlier, seconds))
                .collect(),
            mirror: mirror.map(|(now, since)| MirrorRates::new(&now, &since, seconds)),
            namespaces: (total.namespaces.iter())
                .map(|namespace| NamespaceRates::new(namespace, seconds))
                .collect(),
            connections,
        }
    }
}

fn over(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl IoRates {
    fn new(io: &Io, seconds: f64) -> Self {
        let rate = |n: u64| n as f64 / seconds;
        Self {
            reads: rate(io.reads),
            writes: rate(io.writes),
            others: rate(io.others),
            errors: rate(io.errors),
            read_bytes: rate(io.read_bytes),
            written_bytes: rate(io.written_bytes),
        }
    }

    /// Requests of every kind.
    pub(super) fn iops(&self) -> f64 {
        self.reads + self.writes + self.others
    }
}

impl NamespaceRates {
    fn new(namespace: &Namespace, seconds: f64) -> Self {
        let latency = namespace.latency_of_all().0;
        Self {
            subsystem: namespace.subsystem.clone(),
            nsid: namespace.nsid,
            store: namespace.store.clone(),
            per_second: IoRates::new(&namespace.io, seconds),
            p50_ns: latency.quantile(0.5),
            p99_ns: latency.quantile(0.99),
            p999_ns: latency.quantile(0.999),
        }
    }
}

impl ConnectionRates {
    fn new(connection: &Connection, core: u32, seconds: f64) -> Self {
        let io = connection.io;
        let rate = |n: u64| n as f64 / seconds;
        Self {
            core,
            port: connection.port.clone(),
            peer: connection.peer.clone(),
            subsystem: connection.subsystem.clone(),
            host: connection.host.clone(),
            qid: connection.qid,
            queue_depth: connection.queue_depth,
            outstanding: connection.outstanding,
            per_second: IoRates::new(&io, seconds),
            latency_mean_ns: connection
                .latency_sum_ns
                .checked_div(io.transfers() + io.others),
            received_bytes_per_second: rate(connection.bytes_received),
            sent_bytes_per_second: rate(connection.bytes_sent),
            retransmitted_per_second: rate(connection.retransmitted),
            round_trip_ns: connection.round_trip_ns,
            congestion_window: connection.congestion_window,
        }
    }
}
