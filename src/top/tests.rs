//! What the page shows of two looks, and what keys do to it.

use super::*;
use crate::stats::Named;
use crate::stats::tests::sample as stats;

/// Half a second: 500 writes more on core 1's connection, 7 segments sent again.
fn sample() -> Sample {
    let earlier = stats();
    let mut now = stats();
    now.uptime_seconds += 0.5;
    let shard = &mut now.shards[0];
    shard.polls += 100;
    shard.polls_busy += 50;
    shard.io.writes += 500;
    shard.io.written_bytes += 500 << 12;
    shard.cycles_by_stage.0[3].1 += 500 * 250;
    shard.copied_bytes.0[0].1 += 2048;
    shard.namespaces[0].io.writes += 500;
    let mut other = shard.connection_list[0].clone();
    let connection = &mut shard.connection_list[0];
    connection.io.writes += 500;
    connection.latency_sum_ns += 500 * 80_000;
    connection.bytes_received += 2 << 20;
    connection.retransmitted += 7;
    other.peer = "192.0.2.9:1".into();
    shard.connection_list.insert(0, other);
    Sample::new(&earlier, &now)
}

#[test]
fn k08_rates_are_those_of_the_while() {
    let sample = sample();
    assert_eq!(sample.seconds, 0.5);
    let shard = &sample.shards[0];
    assert_eq!(
        (shard.busy, shard.per_second.writes, shard.cycles_per_io),
        (0.5, 1000.0, 250.0)
    );
    assert_eq!(sample.namespaces[0].per_second.writes, 1000.0);
    assert_eq!(sample.copied_bytes_per_second.get("pull_up"), Some(&4096.0));
    let busy = sample
        .connections
        .iter()
        .find(|c| c.peer == "192.0.2.2:49152")
        .unwrap();
    assert_eq!(
        (busy.latency_mean_ns, busy.retransmitted_per_second),
        (Some(80_000), 14.0)
    );
    assert_eq!(busy.received_bytes_per_second, f64::from(4 << 20));
    assert_eq!(sample.shards[1].per_second.writes, 0.0);
}

#[test]
fn k08_the_page_shows_it_and_sorts() {
    let (head, by_iops) = view::page(&sample(), Sort::Iops);
    for part in [
        "core 1  50.0 %        0     1,000",
        "copied by the CPU: pull_up 4 KiB/s",
        "flash 1  flash0",
    ] {
        assert!(head.contains(part), "{part}\nis not in\n{head}");
    }
    // A new one counts from nothing: all it did was in this while.
    assert!(by_iops[1].contains("192.0.2.9:1"), "{by_iops:#?}");
    assert!(by_iops[2].contains("80.0 µs"), "{by_iops:#?}");
    let (_, by_peer) = view::page(&sample(), Sort::Peer);
    assert!(
        by_peer.last().unwrap().contains("192.0.2.9:1"),
        "{by_peer:#?}"
    );
}

#[test]
fn s01_the_page_shows_what_the_log_does() {
    let earlier = crate::stats::tests::logged();
    let mut now = earlier.clone();
    now.uptime_seconds += 0.5;
    let (_, log) = now.shards[0].counters.0.last_mut().unwrap();
    let more = [
        50,
        800,
        800 << 12,
        50 << 9,
        4 << 20,
        0,
        1,
        0,
        1_250_000,
        12_000_000,
        200 << 12,
    ];
    for ((_, counter), more) in log.0.iter_mut().zip(more) {
        *counter += more;
    }
    let (head, _) = view::page(&Sample::new(&earlier, &now), Sort::Iops);
    let line = "log: 37.5 % of the halves used, 100 groups/s of 16.0 records in 25 µs, 6.3 MiB/s (1.008 bytes per host byte, 0.250 to drives), 7 consistency points, 4 changes wait";
    assert!(head.contains(line), "{head}");
    assert!(!view::page(&sample(), Sort::Iops).0.contains("log: "));
}

#[test]
fn r04_the_page_shows_how_pairs_stand_and_what_the_link_does() {
    let mut earlier = stats();
    for shard in &mut earlier.shards {
        let counters = [
            ("lanes", 1),
            ("lanes_up", 1),
            ("bytes_sent", 1 << 30),
            ("messages_sent", 500),
            ("messages_resent", 5),
            ("messages_unanswered", 3),
        ];
        let layer = counters.map(|(name, value)| (name.to_owned(), value));
        (shard.counters.0).push(("mirror".into(), Named(layer.into())));
    }
    let mut now = earlier.clone();
    now.uptime_seconds += 0.5;
    now.pairs[0].to_copy_bytes -= 30 << 20;
    let (_, mirror) = now.shards[0].counters.0.last_mut().unwrap();
    for ((_, counter), more) in mirror.0.iter_mut().zip([0, 0, 32 << 20, 100, 2, 4]) {
        *counter += more;
    }
    let page = |now: &Stats| view::page(&Sample::new(&earlier, now), Sort::Iops).0;
    let head = page(&now);
    for line in [
        "  pair    peer      role    hosts   in sync  step            since  to copy  takeover  MiB/s copied",
        "  flash0  0c0c0c0c  source  served  no       source_copying   75 s  290 MiB        no          60.0",
        "  link: 2 of 2 lanes up, 64.0 MiB/s sent, 0.0 received, 200 messages/s, 4 sent again/s, 10 without an answer, 0 changes wait\n",
    ] {
        assert!(head.contains(line), "{line}\nis not in\n{head}");
    }
    // One of two shards does not reach it.
    now.shards[0].counters.0.last_mut().unwrap().1.0[1].1 = 0;
    assert!(page(&now).contains("1 of 2 lanes up"), "{}", page(&now));
    assert!(page(&now).contains("NOT REACHED BY ALL"), "{}", page(&now));
    assert!(!view::page(&sample(), Sort::Iops).0.contains("link: "));
}

#[test]
fn k08_keys_sort_scroll_and_stop() {
    let mut view = View {
        sort: Sort::Iops,
        scroll: 0,
        stopped: false,
        help: false,
        said: None,
        sample: Some(sample()),
    };
    let all = view.lines(200);
    view.key(KeyCode::PageDown);
    assert_eq!(view.lines(200), all, "there is nothing to scroll");
    view.key(KeyCode::Down);
    let shown = view.lines(all.len() - 1);
    assert_eq!(shown.len(), all.len() - 1);
    assert_eq!(shown.last(), all.last());
    view.key(KeyCode::Char('r'));
    view.key(KeyCode::Char(' '));
    view.key(KeyCode::Char('?'));
    let first = view.lines(200).remove(0);
    assert!(
        first.contains("(stopped), by retransmissions") && first.contains("q quit"),
        "{first}"
    );
    assert!(view.lines(3).len() <= 3);
}
