//! To look at a burst beforehand changes nothing but time: two stacks get the same
//! frames of several connections, and one of them looks at them first, or something else.

mod support;

use net::{ConnectionId, Duration};
use support::script::*;
use support::*;

const CONNECTIONS: usize = 5;
const FIRST_PORT: u16 = 7000;

/// Everything the stack counted.
fn counters(t: &Script) -> Vec<(&'static str, u64)> {
    let stats = t.host.stack.stats();
    stats.iter().map(|c| (c.name, c.value)).collect()
}

/// A stack with connections from several ports, and what each began to number from.
fn open(ipv6: bool) -> (Script, Vec<(ConnectionId, u32)>) {
    let mut t = Script::with(ipv6, |_| {});
    t.host.vouches = true;
    let connections = (FIRST_PORT..)
        .take(CONNECTIONS)
        .map(|port| {
            let syn = seg(SYN, IRS, 0).mss(1460).sack_ok().scale(4).ts(100, 0);
            let answer = t.asks(syn.ports(port, 4420));
            t.sends(
                seg(ACK, IRS + 1, answer.seq + 1)
                    .ts(100, 0)
                    .ports(port, 4420),
            );
            t.nothing();
            (t.id.expect("accepted"), answer.seq)
        })
        .collect();
    (t, connections)
}

/// What one peer sends next.
fn next(random: &mut Random, i: usize, seq: &mut u32, iss: u32, stamp: u32) -> Seg {
    let len = [0, 1, 100, 1400][random.below(4) as usize];
    let mut segment = seg(ACK, *seq, iss + 1)
        .data(&vec![7; len])
        .ts(stamp, 0)
        .ports(FIRST_PORT + i as u16, 4420);
    match random.below(40) {
        0 => segment.seq = segment.seq.wrapping_add(random.below(4000) as u32),
        1 => segment.ts = None,
        2 => segment.flags |= 1 << random.below(8),
        3 => segment.from_port = 1,
        _ => *seq = seq.wrapping_add(len as u32),
    }
    segment
}

/// Runs a seed on both.
fn run(seed: u64, ipv6: bool) {
    let mut random = Random::new(seed);
    let (mut blind, ids) = open(ipv6);
    let (mut looks, same) = open(ipv6);
    assert_eq!(ids, same);
    let mut seqs = [IRS + 1; CONNECTIONS];
    for stamp in 101..160 {
        let mut frames = Vec::new();
        for _ in 0..random.below(40) {
            let i = random.below(CONNECTIONS as u64) as usize;
            for _ in 0..=random.below(3) {
                let segment = next(&mut random, i, &mut seqs[i], ids[i].1, stamp);
                frames.push(blind.frame(&segment));
            }
        }
        let heads = frames.iter().map(Vec::as_slice);
        let stack = &mut looks.host.stack;
        match random.below(8) {
            0 => stack.prefetch_burst(heads.rev()),
            1 => stack.prefetch_burst(heads.map(|frame| &frame[..frame.len().min(30)])),
            2 => stack.prefetch_burst(heads.step_by(2)),
            3 => {}
            _ => stack.prefetch_burst(heads),
        }
        let abort = random
            .chance(20, 1000)
            .then(|| ids[random.below(5) as usize].0);
        let mut seen = Vec::new();
        for t in [&mut blind, &mut looks] {
            for (n, frame) in frames.iter().enumerate() {
                t.host.receive(t.now, frame);
                if let Some(id) = abort.filter(|_| n == frames.len() / 2) {
                    t.host.stack.abort(id);
                }
            }
            let mut read = Vec::new();
            for (id, _) in &ids {
                while let Some(slice) = t.host.stack.recv(*id) {
                    read.push(slice.len());
                }
            }
            let out = t.out();
            t.wait(Duration::from_micros(700));
            seen.push((read, out, counters(t), std::mem::take(&mut t.events)));
        }
        assert_eq!(seen[0], seen[1], "seed {seed}, IPv6 {ipv6}");
    }
}

#[test]
fn what_is_prefetched_changes_nothing_but_time() {
    for seed in 0..100 {
        run(seed, seed % 4 == 0);
    }
}

#[test]
fn connections_of_a_burst_are_known_by_their_slots() {
    let (mut t, ids) = open(false);
    let frames: Vec<_> = [3, 3, 1, 3, 0]
        .map(|i| {
            seg(ACK, IRS + 1, ids[i].1 + 1)
                .data(b"x")
                .ts(101, 0)
                .ports(FIRST_PORT + i as u16, 4420)
        })
        .iter()
        .map(|segment| t.frame(segment))
        .collect();
    t.host
        .stack
        .prefetch_burst(frames.iter().map(Vec::as_slice));
    let slots = [3, 1, 3, 0].map(|i: usize| ids[i].0.slot());
    assert_eq!(t.host.stack.prefetched().collect::<Vec<_>>(), slots);
    let strangers = seg(ACK, IRS + 1, 0).ports(1, 4420);
    let stranger = t.frame(&strangers);
    t.host
        .stack
        .prefetch_burst(std::iter::once(stranger.as_slice()));
    assert_eq!(t.host.stack.prefetched().count(), 0);
}
