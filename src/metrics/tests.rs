//! The output as a scraper sees it, the table in the documentation, and clients
//! that do not behave.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::Layer;

use super::server::{CLIENTS_MAX, PATIENCE};
use super::*;
use crate::readiness::Part;
use crate::stats::tests::snapshot;

/// A snapshot with everything there can be.
fn full() -> Snapshot {
    let mut snapshot = snapshot();
    for shard in &mut snapshot.shards {
        shard.counters = Layer::every();
        shard.counters[0].counters[0].value = 42;
    }
    snapshot
}

/// A port that works and one that does not; a namespace that does not.
fn readiness() -> Readiness {
    let port = |name: &str, wrong: Option<&str>| Part {
        name: name.to_owned(),
        wrong: wrong.map(str::to_owned),
    };
    Readiness {
        shards: None,
        ports: vec![port("data0", None), port("data1", Some("eth1 is gone"))],
        addresses: Vec::new(),
        namespaces: vec![Part {
            name: snapshot().inventory.namespaces[0].clone(),
            wrong: None,
        }],
        logs: Vec::new(),
    }
}

fn text(snapshot: &Snapshot) -> String {
    exposition(snapshot, Duration::from_secs(1), &readiness())
}

/// A family as it is in the text: type, help, samples.
#[derive(Default)]
struct Family {
    of: String,
    help: String,
    /// Name's suffix and labels, value.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Reads the format strictly, as its description has it.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a help");
            assert!(!families.contains_key(name), "{name} comes twice");
            current = name.to_owned();
            families.entry(current.clone()).or_default().help = help.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').expect("a name and a type");
            assert_eq!(name, current, "the type follows the help");
            families.entry(current.clone()).or_default().of = of.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let suffix = name
                .strip_prefix(&current)
                .expect("samples follow their family");
            let labels = labels.strip_suffix('}').expect("a closed list of labels");
            let labels = labels.split_terminator("\",").map(|label| {
                let (name, text) = label.split_once("=\"").expect("a label");
                (name.to_owned(), text.trim_end_matches('"').to_owned())
            });
            let value = value.parse().expect("a number");
            let family = families.get_mut(&current).expect("a family");
            family
                .samples
                .push((suffix.to_owned(), labels.collect(), value));
        }
    }
    families
}

#[test]
fn k08_metrics_follow_the_rules_of_their_format() {
    let families = parse(&text(&full()));
    for (name, family) in &families {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(
            name.starts_with("throughline_") && name.chars().all(good),
            "{name}"
        );
        assert!(
            family.help.ends_with('.') && family.help.len() > 5,
            "{name}: {}",
            family.help
        );
        match family.of.as_str() {
            "counter" => assert!(name.ends_with("_total"), "{name}"),
            "gauge" | "histogram" => assert!(!name.ends_with("_total"), "{name}"),
            other => panic!("{name} is a {other}"),
        }
        let mut seen = std::collections::BTreeSet::new();
        for (suffix, labels, _) in &family.samples {
            assert_eq!(
                suffix.is_empty(),
                family.of != "histogram",
                "{name}{suffix}"
            );
            assert!(
                seen.insert((suffix, labels)),
                "{name}{labels:?} comes twice"
            );
        }
        let global = [
            "build_info",
            "uptime_seconds",
            "ready",
            "tsc_hertz",
            "namespace_ana_state",
            "namespace_info",
            "namespace_ready",
            "port_ready",
        ];
        let is_global = global.iter().any(|g| name.ends_with(g));
        // Drives are asked by one shard for all, and one has the pairs.
        let is_of_one = ["throughline_drive_", "throughline_pair_"];
        let is_of_one = is_of_one.iter().any(|of| name.starts_with(of));
        if !is_global && !is_of_one {
            assert!(
                family
                    .samples
                    .iter()
                    .all(|(_, labels, _)| labels.contains_key("shard")),
                "{name}"
            );
        }
    }
}

#[test]
fn k08_metrics_say_what_the_counters_say() {
    let families = parse(&text(&full()));
    let value = |name: &str, suffix: &str, wanted: &[(&str, &str)]| {
        let fits = |labels: &BTreeMap<String, String>| {
            wanted
                .iter()
                .all(|(k, v)| labels.get(*k).is_some_and(|text| text == v))
        };
        let family = &families[name];
        let mut found = family
            .samples
            .iter()
            .filter(|(s, l, _)| s == suffix && fits(l));
        let (_, _, value) = found.next().unwrap_or_else(|| panic!("{name} {wanted:?}"));
        assert!(found.next().is_none(), "{name} {wanted:?} is one series");
        *value
    };
    let shard = ("shard", "1");
    assert_eq!(
        value(
            "throughline_net_rx_frames_total",
            "",
            &[shard, ("port", "data0")]
        ),
        42.0
    );
    assert_eq!(
        value(
            "throughline_drops_total",
            "",
            &[shard, ("layer", "net"), ("reason", "ip_malformed")]
        ),
        0.0
    );
    assert_eq!(
        value(
            "throughline_copied_bytes_total",
            "",
            &[shard, ("reason", "pull_up")]
        ),
        4096.0
    );
    let assemble = value(
        "throughline_stage_seconds_total",
        "",
        &[shard, ("stage", "assemble")],
    );
    assert!((assemble - 400_000.0 / 2.6e9).abs() < 1e-12);
    let drive = [("store", "flash0")];
    for (name, expected) in [
        ("critical_warning", 2.0),
        ("spare_ratio", 0.98),
        ("temperature_celsius", 70.0),
        ("used_ratio", 0.07),
    ] {
        let name = format!("throughline_drive_{name}");
        assert_eq!(value(&name, "", &drive), expected, "{name}");
    }
    for (name, expected) in [
        ("role", 1.0),
        ("in_sync", 0.0),
        ("serves_hosts", 1.0),
        ("takeover", 0.0),
        ("severed_by_operator", 0.0),
        ("to_copy_bytes", 5120.0 * 65536.0),
        ("state_seconds", 75.0),
        ("generation", 3.0),
    ] {
        let name = format!("throughline_pair_{name}");
        let peer = ("peer", "0c0c0c0c-0c0c-0c0c-0c0c-0c0c0c0c0c0c");
        assert_eq!(value(&name, "", &[drive[0], peer]), expected, "{name}");
    }
    assert_eq!(value("throughline_pair_alerts_total", "", &[]), 9.0);
    let nqn = ("subsystem", "nqn.2026-01.com.example:flash");
    let by = [nqn, ("namespace", "1"), ("listener", "192.0.2.1:4420")];
    assert_eq!(value("throughline_namespace_ana_state", "", &by), 3.0);
    let read = [shard, nqn, ("namespace", "1"), ("kind", "read")];
    assert_eq!(value("throughline_requests_total", "", &read), 600.0);
    // Latencies of 1 to 600 µs, one each.
    let latency = "throughline_request_latency_seconds";
    let at_most = |le| value(latency, "_bucket", &[&read[..], &[("le", le)]].concat());
    assert_eq!(
        (
            at_most("0.000001024"),
            at_most("0.000016384"),
            at_most("+Inf")
        ),
        (1.0, 16.0, 600.0)
    );
    assert_eq!(value(latency, "_count", &read), 600.0);
    assert!((value(latency, "_sum", &read) - 0.180_3).abs() < 1e-9);
    let mut buckets = families[latency]
        .samples
        .iter()
        .filter(|(s, ..)| s == "_bucket");
    let ascending = buckets
        .by_ref()
        .take(25)
        .map(|(_, _, value)| *value)
        .collect::<Vec<_>>();
    assert!(ascending.is_sorted(), "{ascending:?}");
}

#[test]
fn labels_and_help_are_escaped() {
    let mut text = Text::default();
    text.family("a", Type::Gauge, "one\\two\nthree");
    text.sample("a", &[("l", "q\"b\\n\n")], 1);
    assert_eq!(
        text.finish(),
        "# HELP a one\\\\two\\nthree\n# TYPE a gauge\na{l=\"q\\\"b\\\\n\\n\"} 1\n"
    );
}

/// `docs/monitoring.md` has every metric, with its type, labels and help.
#[test]
fn k08_the_table_of_metrics_is_true() {
    let mut table = String::new();
    for (name, family) in parse(&text(&full())) {
        let mut labels: Vec<&str> = Vec::new();
        for (_, list, _) in &family.samples {
            labels.extend(list.keys().map(String::as_str).filter(|l| *l != "le"));
        }
        labels.sort_unstable();
        labels.dedup();
        let Family { of, help, .. } = family;
        table += &format!("| `{name}` | {of} | {} | {help} |\n", labels.join(", "));
    }
    let document = include_str!("../../docs/monitoring.md");
    let documented: String = document
        .lines()
        .filter(|line| line.starts_with("| `throughline_"))
        .map(|line| line.to_owned() + "\n")
        .collect();
    assert!(
        documented == table,
        "the table in docs/monitoring.md should be:\n{table}"
    );
}

/// A server whose metrics are `text`; how often they were made.
fn server(text: String) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let source = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Err("No counters: not ready yet".into()),
            _ => Ok(text.clone()),
        }
    };
    let served = AtomicUsize::new(0);
    let source = Source {
        metrics: Box::new(source),
        readiness: Box::new(move || match served.fetch_add(1, Ordering::Relaxed) {
            0 => Err("unready: port0: eth1 is gone".into()),
            _ => Ok("ready\n".into()),
        }),
    };
    serve(listener, source).unwrap();
    (address, count)
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn k08_a_scrape_over_http() {
    let (address, _) = server("a 1\n".into());
    let get = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n";
    let first = ask(address, get);
    assert!(
        first.starts_with("HTTP/1.1 503 ") && first.ends_with("not ready yet\n"),
        "{first}"
    );
    let answer = ask(address, get);
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"),
        "{answer}"
    );
    assert!(answer.contains("\r\nContent-Length: 4\r\n") && answer.ends_with("\r\n\r\na 1\n"));
    let head = ask(address, &get.replace("GET", "HEAD"));
    assert!(
        head.contains("Content-Length: 4") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let ready = "GET /ready HTTP/1.1\r\n\r\n";
    let no = ask(address, ready);
    assert!(
        no.starts_with("HTTP/1.1 503 ") && no.ends_with("\r\n\r\nunready: port0: eth1 is gone\n"),
        "{no}"
    );
    let yes = ask(address, ready);
    assert!(
        yes.starts_with("HTTP/1.1 200 OK\r\n") && yes.ends_with("\r\n\r\nready\n"),
        "{yes}"
    );
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
        ("\0\0\r\n\r\n", "400"),
        (&format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)), "400"),
    ] {
        let answer = ask(address, request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request:?}: {answer}"
        );
    }
}

/// Clients that ask half, and clients that read nothing, are let go; when all
/// places are taken the next is refused at once.
#[test]
fn k08_slow_clients_hold_up_nobody_for_long() {
    let (address, count) = server("x".repeat(64 << 20));
    ask(address, "GET /metrics HTTP/1.1\r\n\r\n");
    let mut slow = Vec::new();
    let mut one_more = || {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = match slow.len() % 2 {
            0 => "GET /metr",
            _ => "GET /metrics HTTP/1.1\r\n\r\n",
        };
        stream.write_all(request.as_bytes()).unwrap();
        slow.push(stream);
    };
    (0..CLIENTS_MAX).for_each(|_| one_more());
    // One of them was refused if the first client's place was not free yet.
    testkit::eventually("every slow client", 10 * PATIENCE, || {
        count.load(Ordering::Relaxed) >= CLIENTS_MAX / 2
    });
    let mut refused = String::new();
    testkit::eventually("one too many", 10 * PATIENCE, || {
        refused = ask(address, "GET /metrics HTTP/1.1\r\n\r\n");
        let is_refused = refused.starts_with("HTTP/1.1 503 ");
        if !is_refused {
            // The time of one of them was over before this was asked.
            one_more();
        }
        is_refused
    });
    assert!(refused.contains("under way already"), "{refused}");
    // Served again once their time is over, though they are still connected.
    testkit::eventually("to be served again", 10 * PATIENCE, || {
        ask(address, "HEAD /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 ")
    });
    drop(slow);
}
