//! What hostile frames cost beside an ordinary segment, in one run: ratios, for times
//! mean little on a shared machine. `docs/benchmarks/tcp.md` has them.
//!
//! ```text
//! cargo test -p net --release --test costs -- --nocapture
//! ```

mod support;

use std::time::Instant as Clock;

use net::{Duration, StackConfig};
use support::script::*;

/// Frames of each kind.
const FRAMES: u32 = 2000;
/// The attacker's port; the connection that must go on is from the script's own.
const ATTACKER: u16 = 6000;

fn config(config: &mut StackConfig) {
    config.send_chunks_total = 4096;
    config.send_chunks_per_connection = 1024;
    config.segments_in_flight_total = 65_536;
    config.half_open_max = 64;
}

/// Nanoseconds that each of `frames` takes, the poll after every 32 included. In between
/// the other connection is served.
fn cost(t: &mut Script, seq: &mut u32, frames: &[Vec<u8>]) -> f64 {
    let mut spent = 0;
    for burst in frames.chunks(32) {
        let clock = Clock::now();
        for frame in burst {
            t.host.receive(t.now, frame);
        }
        t.host.turn(t.now);
        spent += clock.elapsed().as_nanos();
        t.wait(Duration::from_micros(100));
        t.sends(seg(ACK | PSH, *seq, t.iss + 1).data(b"still here"));
        *seq += 10;
        t.out();
        assert_eq!(t.read_all(), b"still here");
    }
    spent as f64 / frames.len() as f64
}

/// A script with the connection that must go on.
fn established() -> (Script, u32) {
    let mut t = Script::sized(false, 2048, config);
    t.host.vouches = true;
    t.open();
    (t, IRS + 1)
}

/// An attacker with the least segments that we send, who has been sent all that there is to send.
fn flight(t: &mut Script) -> (u32, u32) {
    let victim = t.id;
    let ports = |segment: Seg| segment.ports(ATTACKER, 4420);
    let syn = seg(SYN, IRS, 0).mss(48).sack_ok().scale(14);
    let answer = t.asks(ports(syn));
    let first = answer.seq.wrapping_add(1);
    t.sends(ports(seg(ACK, IRS + 1, first)));
    t.out();
    let id = std::mem::replace(&mut t.id, victim).unwrap();
    let (mut queued, mut acked, mut sent) = (0u64, 0u32, 0u32);
    // Acknowledged until the window has grown, then not any more.
    for round in 0..40 {
        while let Some(chunk) = t.host.chunk(7, queued, 4096) {
            let len = chunk.len() as u64;
            if t.host.stack.send(id, chunk).is_err() {
                break;
            }
            queued += len;
        }
        for segment in t.out().iter().filter(|s| s.to_port == ATTACKER) {
            let end = segment.seq.wrapping_add(segment.data.len() as u32);
            sent = sent.max(end.wrapping_sub(first));
        }
        if round < 12 {
            acked = sent;
            t.sends(ports(seg(ACK, IRS + 1, first.wrapping_add(acked))));
        }
        t.wait(Duration::from_micros(200));
    }
    (first.wrapping_add(acked), first.wrapping_add(sent))
}

#[test]
fn hostile_frames_cost_little_and_others_go_on() {
    let (mut t, mut seq) = established();
    let at = seq;
    let ordinary: Vec<_> = (0..FRAMES)
        .map(|i| t.frame(&seg(ACK | PSH, at + i * 1460, t.iss + 1).data(&[1; 1460])))
        .collect();
    let mut spent = 0;
    for burst in ordinary.chunks(32) {
        let clock = Clock::now();
        for frame in burst {
            t.host.receive(t.now, frame);
        }
        let id = t.id.unwrap();
        while t.host.stack.recv(id).is_some() {}
        t.host.turn(t.now);
        spent += clock.elapsed().as_nanos();
        t.wait(Duration::from_micros(100));
    }
    let plain = spent as f64 / f64::from(FRAMES);
    assert_eq!(t.count("tcp_budget_dropped"), 0);

    let mut report = vec![("ordinary segment", plain)];

    let (mut t, _) = established();
    seq = IRS + 1;
    let (una, nxt) = flight(&mut t);
    let segments = nxt.wrapping_sub(una) / 48;
    // Holes everywhere, a different four each time, the last segment first.
    let bombs: Vec<_> = (0..FRAMES)
        .map(|i| {
            let mut bomb = seg(ACK, IRS + 1, una).ports(ATTACKER, 4420);
            for k in 0..4 {
                let from = nxt.wrapping_sub(48 * (1 + (i * 8 + k * 2) % (segments - 2)));
                bomb = bomb.sack(from, from.wrapping_add(48));
            }
            t.frame(&bomb)
        })
        .collect();
    report.push(("SACK bomb", cost(&mut t, &mut seq, &bombs)));
    println!("{segments} segments in the bomber's flight");

    let (mut t, _) = established();
    seq = IRS + 1;
    let (una, nxt) = flight(&mut t);
    // Acknowledged before it can have arrived, a segment at a time, and then what was never sent.
    let optimistic: Vec<_> = (0..FRAMES)
        .map(|i| {
            let ack = match i % 2 {
                0 => una.wrapping_add(48 * (i + 1)),
                _ => nxt.wrapping_add(i),
            };
            t.frame(&seg(ACK, IRS + 1, ack).ports(ATTACKER, 4420))
        })
        .collect();
    report.push(("optimistic ACK", cost(&mut t, &mut seq, &optimistic)));

    let (mut t, _) = established();
    seq = IRS + 1;
    let syns: Vec<_> = (0..FRAMES)
        .map(|i| {
            t.frame(
                &seg(SYN, i, 0)
                    .mss(1460)
                    .sack_ok()
                    .ports(10_000 + i as u16, 4420),
            )
        })
        .collect();
    report.push(("SYN of a flood", cost(&mut t, &mut seq, &syns)));
    assert!(t.count("tcp_cookies_sent") > u64::from(FRAMES) / 2);

    for (name, ns) in &report {
        println!("{name:<18} {ns:>8.0} ns  {:>6.1}", ns / plain);
    }
    // Far above what is seen: a walk over a whole flight for every frame would be a thousand.
    let worst = report.iter().map(|(_, ns)| ns / plain).fold(0.0, f64::max);
    assert!(worst < 200.0, "{worst}");
}
