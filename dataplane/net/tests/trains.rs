//! The short ways in are the long way, only shorter: two stacks get the same
//! frames, one of them with a tap, which every frame takes the long way for.

mod support;

use net::{Direction, Duration, Instant, Tap};
use support::script::*;
use support::*;

struct Blind;

impl Tap for Blind {
    fn frame<'a>(
        &mut self,
        _: Instant,
        _: Direction,
        _: &'a [u8],
        _: &mut dyn Iterator<Item = &'a [u8]>,
    ) {
    }
}

/// Everything the stack counted, but how it went about it.
fn counters(t: &Script) -> Vec<(&'static str, u64)> {
    let stats = t.host.stack.stats();
    stats
        .iter()
        .map(|c| (c.name, c.value))
        .filter(|(n, _)| *n != "tcp_predicted")
        .collect()
}

/// A connection whose peer speaks with timestamps, if they are wanted, and the NIC vouches for all.
fn open(ipv6: bool, stamps: bool, tapped: bool) -> Script {
    let mut t = Script::with(ipv6, |_| {});
    t.host.vouches = true;
    if tapped {
        t.host.stack.set_tap(Some(Box::new(Blind)));
    }
    let mut syn = seg(SYN, IRS, 0).mss(1460).sack_ok().scale(4);
    syn.ts = stamps.then_some((100, 0));
    t.accept(syn, Duration::from_millis(1));
    t
}

/// The peer's side of the two connections.
struct Peer {
    seq: u32,
    ack: u32,
    stamp: u32,
    window: u16,
}

/// What the peer sends next: mostly the next bytes, sometimes anything but.
fn next(random: &mut Random, peer: &mut Peer, stamps: bool) -> Seg {
    let len = [0, 1, 100, 1400][random.below(4) as usize];
    let mut segment = seg(ACK, peer.seq, peer.ack).data(&vec![7; len]);
    peer.stamp += random.below(3) as u32;
    segment.ts = stamps.then_some((peer.stamp, 0));
    segment.window = peer.window;
    match random.below(72) {
        0 => segment.flags |= PSH,
        1 => segment.ecn = 3,
        2 => segment.seq = segment.seq.wrapping_add(random.below(4000) as u32),
        3 => segment.seq = segment.seq.wrapping_sub(random.below(4000) as u32),
        4 => segment.ack = segment.ack.wrapping_sub(random.below(100) as u32),
        5 => segment.ack = segment.ack.wrapping_add(random.below(100) as u32),
        6 => segment.ts = segment.ts.map(|(v, e)| (v.wrapping_sub(5000), e)),
        7 => segment.ts = None,
        8 if random.chance(200, 1000) => segment.flags |= 1 << random.below(8),
        9 => segment = segment.sack(peer.ack, peer.ack + 1),
        10 => peer.window = random.below(0x1_0000) as u16,
        11 => segment = segment.ports(5001, 4420),
        _ => {}
    }
    if segment.seq == peer.seq && segment.ts.is_some() == stamps {
        peer.seq = peer.seq.wrapping_add(len as u32);
    }
    segment
}

/// Runs a seed on both; how many segments took a short way.
fn run(seed: u64, ipv6: bool, stamps: bool) -> u64 {
    let mut random = Random::new(seed);
    let (mut short, mut long) = (open(ipv6, stamps, false), open(ipv6, stamps, true));
    let iss = short.iss;
    assert_eq!(iss, long.iss);
    let mut peer = Peer {
        seq: IRS + 1,
        ack: iss + 1,
        stamp: 100,
        window: 0x4000,
    };
    let (mut written, mut live) = (0, true);
    for step in 0..200 {
        let segment = next(&mut random, &mut peer, stamps);
        let mut frame = short.frame(&segment);
        if random.chance(30, 1000) {
            // The port vouches for what a wire has broken: headers can say anything.
            let at = random.below(frame.len().min(86) as u64) as usize;
            frame[at] ^= 1 << random.below(8);
        }
        frame.truncate(
            frame.len() - random.below(3) as usize * usize::from(random.chance(20, 1000)),
        );
        let write = live && random.chance(100, 1000);
        let read = random.chance(500, 1000);
        let wait = Duration::from_micros(random.below(3000));
        let turn = !random.one_in(3);
        let mut seen = Vec::new();
        for t in [&mut short, &mut long] {
            t.host.receive(t.now, &frame);
            if write && t.host.stack.send_room(t.id.unwrap()).bytes > 0 {
                t.write(written, 500);
            }
            let got = if read { t.read_all() } else { Vec::new() };
            let out = if turn { t.out() } else { Vec::new() };
            t.wait(wait);
            seen.push((out, got, counters(t), std::mem::take(&mut t.events)));
        }
        assert_eq!(seen[0], seen[1], "seed {seed}, step {step}: {segment:?}");
        written += if write { 500 } else { 0 };
        for out in &seen[0].0 {
            peer.ack = out.seq.wrapping_add(out.len());
            if random.chance(300, 1000) {
                // What was lost or broken is sent again.
                peer.seq = out.ack;
            }
        }
        live &= short.host.stack.send_room(short.id.unwrap()).chunks > 0;
    }
    assert_eq!(
        short.host.stack.clusters_promised(),
        long.host.stack.clusters_promised()
    );
    short.count("tcp_predicted")
}

#[test]
fn rfc9293_3_10_7_4_a_train_is_taken_as_each_of_its_segments_would_be() {
    let mut predicted = 0;
    for seed in 0..300 {
        predicted += run(seed, seed % 3 == 0, seed % 4 > 0);
    }
    assert!(predicted > 10_000, "{predicted} segments took a short way");
}

#[test]
fn every_segment_of_a_plain_train_takes_a_short_way() {
    for (ipv6, stamps) in [(false, true), (false, false), (true, true), (true, false)] {
        let mut t = open(ipv6, stamps, false);
        for i in 0..10u32 {
            let mut segment = seg(ACK, IRS + 1 + 1000 * i, t.iss + 1).data(&[i as u8; 1000]);
            segment.ts = stamps.then_some((101 + i, 0));
            t.sends(segment);
        }
        // The first finds its connection the long way.
        assert!(t.count("tcp_predicted") >= 9, "IPv6 {ipv6}, {stamps}");
        assert_eq!(t.read_all().len(), 10_000);
    }
}

/// RFC 6298, (5.3), and RFC 8985, 7.2: a peer that sends without end, and has not
/// got our last segment, does not put our timer off without end.
#[test]
fn rfc6298_5_3_bytes_that_acknowledge_nothing_put_no_timer_off() {
    for vouches in [false, true] {
        let mut t = open(false, true, false);
        t.host.vouches = vouches;
        t.write(0, 100);
        let first = t.one();
        let start = t.now;
        let mut seq = IRS + 1;
        let again = loop {
            t.wait_ms(10);
            t.sends(seg(ACK, seq, t.iss + 1).data(&[1; 100]).ts(101, 0));
            seq += 100;
            t.read_all();
            let out = t.out();
            if let Some(again) = out.iter().find(|s| !s.data.is_empty()) {
                break again.clone();
            }
            assert!(t.now.since(start) < Duration::from_secs(2), "never again");
        };
        assert_eq!((again.seq, &again.data), (first.seq, &first.data));
        assert!(t.now.since(start) < Duration::from_millis(400));
    }
}
