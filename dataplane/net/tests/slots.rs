//! Slots: what costs a peer nothing does not cost a host its place (row Z12).

mod support;

use std::collections::HashMap;

use net::{CloseReason, ConnectionId, Duration, Event};
use support::Random;
use support::script::*;

/// As many slots as the tables here have.
const SLOTS: usize = 16;

/// A peer that has sent a SYN, or more.
#[derive(Clone, Copy)]
struct Peer {
    port: u16,
    seq: u32,
    ack: u32,
}

impl Peer {
    fn says(&self, flags: u8) -> Seg {
        seg(flags | ACK, self.seq, self.ack).ports(self.port, 4420)
    }
}

/// A target with few slots, and an application that knows its connections.
struct Target {
    t: Script,
    /// By name: the peer's port, and whether it is kept.
    open: HashMap<ConnectionId, (u16, bool)>,
    ended: Vec<(u16, CloseReason)>,
}

impl Target {
    fn new() -> Self {
        let t = Script::with(false, |config| {
            config.connections_max = SLOTS;
            config.half_open_max = SLOTS / 8;
        });
        Self {
            t,
            open: HashMap::new(),
            ended: Vec::new(),
        }
    }

    /// What the stack sends; the application hears of its connections.
    fn turn(&mut self) -> Vec<Seg> {
        let out = self.t.out();
        for event in std::mem::take(&mut self.t.events) {
            match event {
                Event::Accepted {
                    connection, remote, ..
                } => {
                    let taken = |id: &ConnectionId| id.slot() == connection.slot();
                    assert!(!self.open.keys().any(taken), "a slot of two connections");
                    self.open.insert(connection, (remote.port(), false));
                }
                Event::Closed { connection, reason } => {
                    let known = self.open.remove(&connection);
                    let (port, kept) = known.expect("a connection that is known, once");
                    assert!(!kept || reason != CloseReason::Displaced, "it was kept");
                    self.ended.push((port, reason));
                    self.t.host.stack.release(connection);
                }
                Event::Readable(connection) => {
                    while self.t.host.stack.recv(connection).is_some() {}
                }
                _ => {}
            }
        }
        assert!(self.t.host.stack.connection_count() <= SLOTS);
        for (id, (port, _)) in &self.open {
            let (_, remote) = self.t.host.stack.endpoints(*id).expect("still there");
            assert_eq!(remote.port(), *port);
        }
        out
    }

    /// A SYN from `port`; the peer, if it was answered.
    fn knocks(&mut self, port: u16) -> Option<Peer> {
        let seq = IRS + u32::from(port) * 7;
        let syn = seg(SYN, seq, 0).mss(1460).ports(port, 4420);
        self.t.sends(syn);
        let answers = |s: &Seg| s.to_port == port && s.flags == SYN | ACK && s.ack == seq + 1;
        let answer = self.turn().into_iter().find(answers)?;
        Some(Peer {
            port,
            seq: seq + 1,
            ack: answer.seq + 1,
        })
    }

    /// The peer's whole handshake; what else was sent meanwhile.
    fn opens(&mut self, port: u16) -> (Peer, Vec<Seg>) {
        let peer = self.knocks(port).expect("a SYN-ACK");
        self.t.sends(peer.says(0));
        (peer, self.turn())
    }

    fn name(&self, port: u16) -> Option<ConnectionId> {
        let of = |(_, (p, _)): &(&ConnectionId, &(u16, bool))| *p == port;
        self.open.iter().find(of).map(|(id, _)| *id)
    }

    fn keep(&mut self, port: u16) {
        let id = self.name(port).expect("open");
        self.t.host.stack.keep(id);
        self.open.get_mut(&id).unwrap().1 = true;
    }

    fn release(&mut self, port: u16) {
        let id = self.name(port).expect("open");
        self.open.remove(&id);
        self.t.host.stack.release(id);
    }
}

#[test]
fn z12_rfc4987_3_6_a_flood_of_syns_takes_an_eighth_of_the_slots() {
    let mut target = Target::new();
    for port in 10_000..10_100 {
        target.knocks(port).expect("an answer to every SYN");
    }
    assert_eq!(target.t.host.stack.connection_count(), SLOTS / 8);
    assert_eq!(target.t.count("tcp_cookies_sent"), 100 - SLOTS as u64 / 8);
    target.opens(5000);
    assert!(target.name(5000).is_some());
    assert_eq!(target.t.count("tcp_no_slot"), 0);
}

#[test]
fn z12_rfc4987_3_6_the_last_quarter_of_the_slots_is_for_peers_that_are_there() {
    let mut target = Target::new();
    for port in (10_000..).take(SLOTS * 3 / 4) {
        target.opens(port);
    }
    assert_eq!(target.t.count("tcp_cookies_sent"), 0);
    let syn = |port| seg(SYN, IRS, 0).mss(1460).ports(port, 4420);
    target.t.sends(syn(5000).ts(7, 0));
    assert_eq!(target.turn()[0].flags, SYN | ACK);
    assert_eq!(target.t.count("tcp_cookies_sent"), 1);
    let taken = |target: &Target| target.t.host.stack.connection_count();
    assert_eq!(taken(&target), SLOTS * 3 / 4, "no slot is taken");
    // A cookie would lose the window scale of one without timestamps: while there is room,
    // that is remembered.
    target.t.sends(syn(5001).scale(7));
    assert_eq!(target.turn()[0].scale, Some(7));
    assert_eq!(target.t.count("tcp_cookies_sent"), 1);
    assert_eq!(taken(&target), SLOTS * 3 / 4 + 1);
}

#[test]
fn z12_a_host_takes_the_place_of_the_oldest_silent_connection() {
    let mut target = Target::new();
    let silent: Vec<_> = (10_000..)
        .take(SLOTS)
        .map(|port| target.opens(port))
        .collect();
    assert_eq!(target.open.len(), SLOTS);
    // The oldest is one that is kept: the next oldest goes.
    target.keep(10_000);
    let slot = target.name(10_001).unwrap().slot();
    let (_, out) = target.opens(5000);
    assert_eq!(target.ended, [(10_001, CloseReason::Displaced)]);
    let reset = out.iter().find(|s| s.has(RST)).expect("a reset");
    let (victim, _) = silent[1];
    assert_eq!((reset.to_port, reset.seq), (victim.port, victim.ack));
    assert_eq!(target.name(5000).unwrap().slot(), slot);
    assert_eq!(target.t.count("tcp_displaced"), 1);
    // It is nobody's any more: another's tenant does not hear of it.
    target.t.sends(victim.says(PSH).data(b"late"));
    assert!(target.turn()[0].has(RST));
}

#[test]
fn z12_kept_connections_are_robbed_by_nobody() {
    let mut target = Target::new();
    let (last, _) = (10_000..)
        .take(SLOTS)
        .map(|port| target.opens(port))
        .last()
        .unwrap();
    let late = target.knocks(5000).expect("a cookie");
    for port in (10_000..).take(SLOTS) {
        target.keep(port);
    }
    // One that holds a cookie is told, not left to wonder; others hear nothing.
    target.t.sends(late.says(0));
    let reset = &target.turn()[0];
    assert_eq!((reset.flags, reset.seq), (RST, late.ack));
    assert!(target.knocks(5001).is_none());
    assert_eq!(target.t.count("tcp_no_slot"), 2);
    assert_eq!((target.open.len(), target.ended.len()), (SLOTS, 0));
    // The next place that comes free is a newcomer's.
    target.t.sends(last.says(RST));
    target.turn();
    target.opens(5002);
    assert!(target.name(5002).is_some());
}

#[test]
fn z12_connections_that_we_closed_give_way_before_newcomers() {
    let mut target = Target::new();
    for port in (10_000..).take(SLOTS) {
        target.opens(port);
    }
    // It never acknowledges our FIN, though it was kept once.
    target.keep(10_009);
    target.release(10_009);
    target.turn();
    assert_eq!(target.t.host.stack.connection_count(), SLOTS);
    target.opens(5000);
    assert!(target.name(5000).is_some() && target.ended.is_empty());
}

#[test]
fn z12_rfc9293_3_6_1_in_fin_wait_2_a_connection_that_was_released_has_no_slot() {
    let mut target = Target::new();
    let (mut peer, _) = target.opens(5000);
    target.release(5000);
    let fin = target.turn();
    assert_eq!((fin.len(), fin[0].flags), (1, FIN | ACK));
    peer.ack += 1;
    target.t.sends(peer.says(0));
    assert!(target.turn().is_empty());
    assert_eq!(target.t.host.stack.connection_count(), 0);
    // It is known all the same: a SYN is challenged, a probe answered, an old FIN not taken.
    let asks = |target: &mut Target, segment: Seg| {
        target.t.sends(segment);
        let out = target.turn();
        assert_eq!(out.len(), 1, "{out:?}");
        (out[0].flags, out[0].seq, out[0].ack)
    };
    let here = (ACK, peer.ack, peer.seq);
    let syn = seg(SYN, peer.seq + 100_000, 0).mss(1460).ports(5000, 4420);
    assert_eq!(asks(&mut target, syn), here);
    let mut probe = peer.says(0);
    probe.seq -= 1;
    assert_eq!(asks(&mut target, probe), here);
    // Its FIN is acknowledged, again and again: that is TIME-WAIT.
    for _ in 0..2 {
        let after = (ACK, peer.ack, peer.seq + 1);
        assert_eq!(asks(&mut target, peer.says(FIN)), after);
    }
    target.t.wait_ms(61_000);
    target.turn();
    assert_eq!(asks(&mut target, peer.says(FIN)).0, RST);
}

#[test]
fn z12_rfc9293_3_6_1_data_after_close_is_reset_not_acknowledged() {
    let mut target = Target::new();
    let (mut peer, _) = target.opens(5000);
    target.release(5000);
    target.turn();
    peer.ack += 1;
    target.t.sends(peer.says(0));
    target.turn();
    target.t.sends(peer.says(PSH).data(b"x"));
    let out = target.turn();
    assert_eq!((out[0].flags, out[0].seq), (RST, peer.ack));
    assert_eq!(target.t.count("tcp_data_after_close"), 1);
    // Nor is it remembered any longer.
    target.t.sends(peer.says(0));
    assert_eq!(target.turn()[0].flags, RST);
    assert_eq!(target.t.count("tcp_no_connection"), 1);
}

#[test]
fn z12_rfc5961_3_2_a_reset_ends_fin_wait_2_if_it_is_exact() {
    for (off, ends) in [(0, true), (1, false), (0x10_0000, false)] {
        let mut target = Target::new();
        let (mut peer, _) = target.opens(5000);
        target.release(5000);
        target.turn();
        peer.ack += 1;
        target.t.sends(peer.says(0));
        let mut reset = seg(RST, peer.seq, 0).ports(5000, 4420);
        reset.seq += off;
        target.t.sends(reset);
        target.turn();
        target.t.sends(peer.says(FIN));
        assert_eq!(target.turn()[0].flags, if ends { RST } else { ACK });
    }
}

/// What was said before the close is not lost to a peer that goes on sending.
#[test]
fn z12_rfc9293_3_6_1_a_peer_that_has_not_got_all_yet_is_reset_when_it_has() {
    let mut target = Target::new();
    let (peer, _) = target.opens(5000);
    let id = target.name(5000).unwrap();
    let chunk = target.t.host.chunk(7, 0, 1000).unwrap();
    target.t.host.stack.send(id, chunk).unwrap();
    target.release(5000);
    target.turn();
    target.t.sends(peer.says(PSH).data(b"in flight"));
    let out = target.turn();
    assert!(
        out.iter().all(|s| !s.has(RST) && s.ack == peer.seq),
        "{out:?}"
    );
    // Lost on its way: it is sent again.
    let again = target.t.until_due(Duration::from_secs(5));
    assert!(again.iter().any(|s| s.data == data(0, 1000)), "{again:?}");
    let mut peer = peer;
    peer.ack += 1001;
    target.t.sends(peer.says(PSH).data(b"in flight"));
    let out = target.turn();
    assert!(out.iter().any(|s| s.has(RST)), "{out:?}");
    assert_eq!(target.t.host.stack.connection_count(), 0);
    let host = &target.t.host;
    assert_eq!((host.pool.held(), host.pages.held()), (0, 0));
}

/// A peer that answers probes of its closed window is probed without end; not after a close.
#[test]
fn z12_a_peer_that_never_takes_what_was_sent_keeps_no_slot() {
    let mut target = Target::new();
    let (peer, _) = target.opens(5000);
    let id = target.name(5000).unwrap();
    target.t.sends(peer.says(0).window(0));
    target.turn();
    let chunk = target.t.host.chunk(7, 0, 1000).unwrap();
    target.t.host.stack.send(id, chunk).unwrap();
    target.release(5000);
    let start = target.t.now;
    while target.t.host.stack.connection_count() > 0 {
        assert!(target.t.now.since(start) < Duration::from_secs(61));
        if target
            .t
            .until_due(Duration::from_secs(5))
            .iter()
            .any(|s| s.has(RST))
        {
            break;
        }
        target.t.sends(peer.says(0).window(0));
    }
    target.turn();
    assert_eq!(target.t.host.stack.connection_count(), 0);
    assert!(target.t.now.since(start) > Duration::from_secs(55));
    assert_eq!(target.t.host.pages.held(), 0);
}

/// A stop resets everything, what sessions have left behind too.
#[test]
fn z12_nothing_holds_memory_after_everything_was_aborted() {
    let mut target = Target::new();
    for port in 5000..5004 {
        target.opens(port);
        let id = target.name(port).unwrap();
        let chunk = target.t.host.chunk(7, 0, 1000).unwrap();
        target.t.host.stack.send(id, chunk).unwrap();
    }
    target.release(5000);
    target.knocks(5010).unwrap();
    target.t.host.stack.abort_all();
    let out = target.turn();
    assert_eq!(out.iter().filter(|s| s.has(RST)).count(), 5, "{out:?}");
    assert_eq!(target.t.host.stack.connection_count(), 0);
    assert_eq!(target.t.host.pages.held(), 0);
}

/// Whatever peers and the application do: kept connections stay, names are never mixed up,
/// and a host that comes gets in while a slot is not kept.
#[test]
fn z12_whatever_happens_kept_connections_stay_and_hosts_get_in() {
    for seed in 1..=150 {
        let mut random = Random::new(seed);
        let mut target = Target::new();
        let mut peers: Vec<Peer> = Vec::new();
        let mut next_port = 10_000;
        for _ in 0..300 {
            let some = |random: &mut Random, of: usize| random.below(of.max(1) as u64) as usize;
            let kept = target.open.values().filter(|(_, kept)| *kept).count();
            let mut open: Vec<u16> = target.open.values().map(|(port, _)| *port).collect();
            open.sort_unstable();
            let peer = peers.get(some(&mut random, peers.len())).copied();
            let name = open.get(some(&mut random, open.len())).copied();
            match (random.below(12), peer, name) {
                (0..3, ..) => {
                    next_port += 1;
                    peers.extend(target.knocks(next_port));
                }
                (3..6, Some(peer), _) => target.t.sends(peer.says(0)),
                (6, Some(peer), _) => target.t.sends(peer.says(PSH).data(b"bytes")),
                (7, Some(peer), _) => target.t.sends(peer.says(FIN)),
                (8, Some(mut peer), _) => {
                    // It may have our FIN by now.
                    peer.ack += 1;
                    target
                        .t
                        .sends(peer.says(if random.chance(500, 1000) { FIN } else { 0 }));
                }
                (9, _, Some(port)) if kept < SLOTS - 1 => target.keep(port),
                (10, _, Some(port)) => target.release(port),
                (11, ..) => target.t.wait_ms(random.below(20_000)),
                _ => {}
            }
            target.turn();
        }
        next_port += 1;
        target.opens(next_port);
        assert!(target.name(next_port).is_some(), "seed {seed}");
        target.t.host.stack.abort_all();
        target.turn();
        target.turn();
        let host = &target.t.host;
        assert_eq!(host.stack.connection_count(), 0, "seed {seed}");
        assert_eq!((host.pool.held(), host.pages.held()), (0, 0));
        assert_eq!(host.stack.clusters_promised(), 0);
    }
}
