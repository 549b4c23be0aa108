//! A sample as a page of text.

use std::fmt::Write;

use super::sample::{ConnectionRates, IoRates, LogRates, MirrorRates, Sample};
use crate::stats::{PAIR_COLUMNS, pair_row};
use crate::text::{Table, grouped, nanoseconds, quotient};

/// What connections are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sort {
    Iops,
    Mib,
    Latency,
    Retransmissions,
    Peer,
}

const MIB: f64 = 1048576.0;

/// The page: what is about all of them, then connections, best first.
pub(super) fn page(sample: &Sample, sort: Sort) -> (String, Vec<String>) {
    let mut head = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(head, "{}", shards(sample));
    let _ = writeln!(head, "{}", stages(sample));
    let copied = sample.copied_bytes_per_second.iter();
    let copied: Vec<String> = copied
        .filter(|(_, rate)| **rate > 0.0)
        .map(|(reason, rate)| format!("{reason} {}/s", crate::text::bytes(rate.round() as u64)))
        .collect();
    let copied = match copied.is_empty() {
        true => "nothing".into(),
        false => copied.join(", "),
    };
    let _ = writeln!(head, "  copied by the CPU: {copied}\n");
    if let Some(log) = &sample.log {
        let _ = writeln!(head, "  {}\n", logged(log));
    }
    if !sample.pairs.is_empty() {
        let _ = writeln!(head, "{}", pairs(sample));
    }
    if let Some(mirror) = &sample.mirror {
        let _ = writeln!(head, "  {}\n", mirrored(mirror));
    }
    let _ = writeln!(head, "{}", namespaces(sample));
    let mut list: Vec<&ConnectionRates> = sample.connections.iter().collect();
    list.sort_by(|a, b| a.peer.cmp(&b.peer));
    let worth = |c: &ConnectionRates| match sort {
        Sort::Iops => c.per_second.iops(),
        Sort::Mib => c.received_bytes_per_second + c.sent_bytes_per_second,
        Sort::Latency => c.latency_mean_ns.unwrap_or(0) as f64,
        Sort::Retransmissions => c.retransmitted_per_second,
        Sort::Peer => 0.0,
    };
    // Stable: those worth the same stay in the order of their peers.
    list.sort_by(|a, b| worth(b).total_cmp(&worth(a)));
    let table = connections(&list).to_string();
    (head, table.lines().map(str::to_owned).collect())
}

fn number(rate: f64) -> String {
    grouped(rate.round() as u64)
}

fn mib(bytes: f64) -> String {
    format!("{:.1}", bytes / MIB)
}

fn io(rates: &IoRates) -> [String; 5] {
    [
        number(rates.reads),
        number(rates.writes),
        mib(rates.read_bytes),
        mib(rates.written_bytes),
        number(rates.errors),
    ]
}

fn logged(log: &LogRates) -> String {
    let failed = match (log.failed, log.out) {
        (0, 0) => "",
        (0, _) => "; ONE OF ITS TWO STORES IS OUT",
        _ => "; ITS STORE HAS FAILED",
    };
    format!(
        "log: {:.1} % of the halves used, {} groups/s of {:.1} records in {:.0} µs, {} MiB/s ({:.3} bytes per host byte, {:.3} to drives), {} consistency points, {} changes wait{failed}",
        log.fill * 100.0,
        number(log.groups_per_second),
        log.records_per_group,
        log.group_ns / 1e3,
        mib(log.bytes_per_second),
        log.bytes_per_host_byte,
        log.drive_bytes_per_host_byte,
        grouped(log.points),
        grouped(log.waiting),
    )
}

fn pairs(sample: &Sample) -> Table {
    let columns = PAIR_COLUMNS.into_iter().chain(["MiB/s copied"]);
    let columns = columns.map(str::to_owned).collect();
    let mut table = Table::with_header(columns).left(&[1, 2, 3, 4, 5]);
    for rates in &sample.pairs {
        let mut row = pair_row(&rates.pair);
        row.push(mib(rates.copied_bytes_per_second));
        table.row(row);
    }
    table
}

fn mirrored(mirror: &MirrorRates) -> String {
    let down = match mirror.lanes_up < mirror.lanes {
        true => "; THE OTHER NODE IS NOT REACHED BY ALL",
        false => "",
    };
    format!(
        "link: {} of {} lanes up, {} MiB/s sent, {} received, {} messages/s, {} sent again/s, {} without an answer, {} changes wait{down}",
        mirror.lanes_up,
        mirror.lanes,
        mib(mirror.sent_bytes_per_second),
        mib(mirror.received_bytes_per_second),
        number(mirror.messages_per_second),
        number(mirror.resent_per_second),
        grouped(mirror.unanswered),
        grouped(mirror.waiting),
    )
}

fn shards(sample: &Sample) -> Table {
    let header = [
        "shard",
        "busy",
        "reads/s",
        "writes/s",
        "MiB/s read",
        "written",
        "errors/s",
        "cycles/IO",
        "clusters free",
        "pages free",
        "connections",
    ];
    let mut table = Table::new(header);
    for shard in &sample.shards {
        let free = |free: u64, size: u64| {
            format!("{} ({} %)", grouped(free), quotient(free * 100, size, 0))
        };
        let mut row = vec![
            format!("core {}", shard.core),
            format!("{:.1} %", shard.busy * 100.0),
        ];
        row.extend(io(&shard.per_second));
        row.push(number(shard.cycles_per_io));
        row.push(free(shard.clusters_free, shard.clusters));
        row.push(free(shard.pages_free, shard.pages));
        row.push(grouped(shard.connections));
        table.row(row);
    }
    table
}

fn stages(sample: &Sample) -> Table {
    let mut header = vec!["stage".to_owned()];
    let mut row = vec!["cycles/IO".to_owned()];
    for (stage, &cycles) in sample.cycles_per_io.iter() {
        header.push(stage.to_owned());
        row.push(number(cycles));
    }
    let mut table = Table::with_header(header);
    table.row(row);
    table
}

fn namespaces(sample: &Sample) -> Table {
    let header = [
        "namespace",
        "store",
        "reads/s",
        "writes/s",
        "MiB/s read",
        "written",
        "errors/s",
        "p50",
        "p99",
        "p99.9",
    ];
    let mut table = Table::new(header).left(&[1]);
    for namespace in &sample.namespaces {
        let latency = |ns: Option<u64>| ns.map_or("-".into(), nanoseconds);
        let mut row = vec![
            format!("{} {}", namespace.subsystem, namespace.nsid),
            namespace.store.clone(),
        ];
        row.extend(io(&namespace.per_second));
        row.extend([namespace.p50_ns, namespace.p99_ns, namespace.p999_ns].map(latency));
        table.row(row);
    }
    table
}

fn connections(list: &[&ConnectionRates]) -> Table {
    let header = [
        "connection",
        "core",
        "port",
        "queue",
        "depth",
        "at device",
        "IOPS",
        "MiB/s in",
        "out",
        "latency",
        "RTT",
        "resent/s",
        "subsystem",
        "host",
    ];
    let mut table = Table::new(header).left(&[2, 12, 13]);
    for connection in list {
        let queue = match connection.qid {
            _ if connection.subsystem.is_empty() => "-".into(),
            0 => "admin".into(),
            qid => qid.to_string(),
        };
        table.row(vec![
            connection.peer.clone(),
            connection.core.to_string(),
            connection.port.clone(),
            queue,
            connection.queue_depth.to_string(),
            connection.outstanding.to_string(),
            number(connection.per_second.iops()),
            mib(connection.received_bytes_per_second),
            mib(connection.sent_bytes_per_second),
            connection.latency_mean_ns.map_or("-".into(), nanoseconds),
            nanoseconds(connection.round_trip_ns),
            number(connection.retransmitted_per_second),
            connection.subsystem.clone(),
            connection.host.clone(),
        ]);
    }
    table
}
