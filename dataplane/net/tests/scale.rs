//! Many connections: ten thousand at once, and ten thousand one after another.

mod support;

use std::time::Instant as Clock;

use net::{Duration, StackConfig};
use support::script::*;

fn large(config: &mut StackConfig) {
    config.connections_max = 10_100;
    config.half_open_max = 64;
    config.send_chunks_total = 4096;
}

/// Opens a connection from a port (of one of several peers) and returns our ISS.
fn open(t: &mut Script, port: u16) -> u32 {
    let syn = seg(SYN, IRS, 0).mss(1460).sack_ok().ports(port, 4420);
    let answer = t.asks(syn);
    t.sends(seg(ACK, IRS + 1, answer.seq + 1).ports(port, 4420));
    t.out();
    answer.seq
}

#[test]
fn ten_thousand_idle_connections_cost_nothing_per_poll() {
    let mut t = Script::with(false, large);
    // The last of them is the one that stays busy.
    let mut iss = 0;
    for port in 10_000..20_000 {
        iss = open(&mut t, port);
        t.wait(Duration::from_micros(10));
    }
    assert_eq!(t.host.stack.connection_count(), 10_000);
    assert!(t.host.stack.clusters_promised() <= t.host.pool.len());
    // There are five hundred clusters: windows that had to be kept shut open a
    // few at a time, as those before them turn out to be silent.
    let mut quiet = 0;
    while quiet < 100 {
        t.wait_ms(5);
        quiet = if t.out().is_empty() { quiet + 1 } else { 0 };
    }
    assert!(t.now < net::Instant::from_millis(100_000), "{}", t.now);
    let clock = Clock::now();
    let polls = 100_000;
    for _ in 0..polls {
        t.now += Duration::from_micros(1);
        t.host.stack.advance(t.now);
        assert!(t.host.stack.poll_event().is_none());
        assert_eq!(t.host.stack.transmit(t.now, &mut t.host.wire), 0);
    }
    let per_poll = clock.elapsed().as_nanos() / polls;
    println!("{per_poll} ns per poll with 10,000 idle connections");
    assert!(
        per_poll < 10_000,
        "a poll looks at connections: {per_poll} ns"
    );
    let mut seq = IRS + 1;
    for _ in 0..20 {
        t.sends(
            seg(ACK | PSH, seq, iss + 1)
                .data(b"busy")
                .ports(19_999, 4420),
        );
        seq += 4;
        t.out();
        assert_eq!(t.read_all(), b"busy");
    }
}

#[test]
fn ten_thousand_connections_one_after_another_leave_nothing_behind() {
    let mut t = Script::with(false, |config| config.connections_max = 16);
    for i in 0..10_000u32 {
        let port = 10_000 + (i % 40_000) as u16;
        let iss = open(&mut t, port);
        let id = t.id.take().expect("accepted");
        let ports = |segment: Seg| segment.ports(port, 4420);
        t.sends(ports(seg(ACK | PSH, IRS + 1, iss + 1).data(b"request")));
        t.id = Some(id);
        assert_eq!(t.read_all(), b"request");
        t.write(0, 100);
        assert_eq!(t.out()[0].data.len(), 100);
        t.sends(ports(seg(FIN | ACK, IRS + 8, iss + 101)));
        t.host.stack.close(id);
        t.out();
        t.sends(ports(seg(ACK, IRS + 9, iss + 102)));
        t.out();
        t.host.stack.release(id);
        t.events.clear();
    }
    assert_eq!(t.host.stack.connection_count(), 0);
    assert_eq!(t.host.stack.clusters_promised(), 0);
    assert_eq!((t.host.pool.held(), t.host.pages.held()), (0, 0));
    assert_eq!(
        (t.count("tcp_accepted"), t.count("tcp_closed")),
        (10_000, 10_000)
    );
}
