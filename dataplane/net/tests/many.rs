//! Very many connections with a small command each. A command of 72 bytes takes a
//! cluster of its own, as a full segment does; windows are told in bytes (row Z12).

mod support;

use std::collections::HashMap;

use net::{ConnectionId, Duration, Event};
use pages::{Chunk, Inline};
use support::script::*;

/// Bytes of an NVMe/TCP command capsule without data, and of a response capsule.
const COMMAND: usize = 72;
const RESPONSE: usize = 24;
/// Frames that a port hands over at once.
const BURST: usize = 32;
const FIRST_PORT: u16 = 10_000;
const SHIFT: u8 = 7;

/// What a host knows of its connection.
struct Peer {
    seq: u32,
    ack: u32,
    /// The right edge of the window it was told.
    edge: u32,
}

/// A target, and hosts that have one command under way each.
struct Many {
    t: Script,
    peers: Vec<Peer>,
    ports: HashMap<ConnectionId, u16>,
    sent: u64,
    answered: u64,
    /// Commands that waited for a window.
    stalled: u64,
}

impl Many {
    fn new(connections: usize, clusters: usize) -> Self {
        let mut t = Script::sized(false, clusters, |config| {
            config.connections_max = connections + 16;
            config.half_open_max = 64;
            config.receive_headroom = clusters / 8;
            config.send_chunks_total = 4 * connections;
            config.segments_in_flight_total = 4 * connections;
        });
        t.host.vouches = true;
        let mut many = Self {
            t,
            peers: Vec::new(),
            ports: HashMap::new(),
            sent: 0,
            answered: 0,
            stalled: 0,
        };
        for port in (0..connections as u16).map(|i| FIRST_PORT + i) {
            let syn = seg(SYN, IRS, 0).mss(1460).sack_ok().scale(SHIFT);
            let answer = many.t.asks(syn.ports(port, 4420));
            let ack = answer.seq + 1;
            let edge = IRS + 1 + u32::from(answer.window);
            let seq = IRS + 1;
            many.peers.push(Peer { seq, ack, edge });
            many.t.sends(seg(ACK, IRS + 1, ack).ports(port, 4420));
            many.turn();
            many.t.wait(Duration::from_micros(20));
        }
        assert_eq!(many.ports.len(), connections);
        many
    }

    /// The target reads and answers what has come; hosts take what is sent.
    fn turn(&mut self) {
        while let Some(event) = self.t.host.stack.poll_event() {
            match event {
                Event::Accepted {
                    connection, remote, ..
                } => {
                    self.ports.insert(connection, remote.port());
                }
                Event::Readable(connection) => self.serve(connection),
                _ => {}
            }
        }
        for segment in self.t.out() {
            let peer = &mut self.peers[usize::from(segment.to_port - FIRST_PORT)];
            if segment.has(SYN) {
                continue;
            }
            peer.edge = segment.ack + (u32::from(segment.window) << SHIFT);
            peer.ack += segment.data.len() as u32;
            self.answered += (segment.data.len() / RESPONSE) as u64;
        }
    }

    fn serve(&mut self, connection: ConnectionId) {
        let mut bytes = 0;
        while let Some(slice) = self.t.host.stack.recv(connection) {
            bytes += slice.len();
        }
        // Full segments are a write's data, which nobody answers here.
        let commands = if bytes % COMMAND == 0 {
            bytes / COMMAND
        } else {
            0
        };
        for _ in 0..commands {
            let response = Inline::new(&[7; RESPONSE]).unwrap();
            let sent = self.t.host.stack.send(connection, Chunk::Inline(response));
            sent.unwrap();
        }
    }

    /// A host sends `len` bytes, if its window has room for them.
    fn command(&mut self, i: usize, len: usize) -> bool {
        let port = FIRST_PORT + i as u16;
        let Peer { seq, ack, edge } = self.peers[i];
        if (edge.wrapping_sub(seq) as i32) < len as i32 {
            self.stalled += 1;
            return false;
        }
        let data = vec![1; len];
        self.t
            .sends(seg(ACK | PSH, seq, ack).ports(port, 4420).data(&data));
        self.peers[i].seq += len as u32;
        self.sent += 1;
        true
    }

    /// Each host sends a command, a burst of them at a time.
    fn round(&mut self, burst: usize) {
        for i in 0..self.peers.len() {
            self.command(i, COMMAND);
            if (i + 1) % burst == 0 {
                self.turn();
                self.t.wait(Duration::from_micros(50));
            }
        }
        self.turn();
        self.t.wait_ms(1);
    }

    fn assert_nothing_dropped(&self) {
        let t = &self.t;
        assert_eq!(t.count("tcp_budget_dropped"), 0, "{}", self.peers.len());
        assert_eq!(t.count("tcp_out_of_window"), 0);
        assert_eq!((self.answered, self.stalled), (self.sent, 0));
        assert!(t.host.stack.clusters_promised() <= t.host.pool.unheld());
    }
}

#[test]
fn z12_small_commands_on_a_thousand_connections_are_never_dropped() {
    let mut many = Many::new(1000, 2048);
    (0..60).for_each(|_| many.round(BURST));
    many.assert_nothing_dropped();
}

#[test]
fn z12_small_commands_on_ten_thousand_connections_are_never_dropped() {
    let mut many = Many::new(10_000, 16_384);
    (0..12).for_each(|_| many.round(BURST));
    // A shard that was away for a while finds more than a burst.
    (0..12).for_each(|_| many.round(1000));
    many.assert_nothing_dropped();
}

#[test]
fn z12_one_that_brings_much_gets_a_window_among_many_that_bring_little() {
    let mut many = Many::new(2000, 4096);
    (0..10).for_each(|_| many.round(BURST));
    // The last host writes as much as its window takes, as fast as it is acknowledged.
    let (bulk, full) = (many.peers.len() - 1, 1460);
    let mut widest = 0;
    for _ in 0..60 {
        for i in 0..64 {
            many.command(i, COMMAND);
        }
        while {
            let Peer { seq, edge, .. } = many.peers[bulk];
            edge.wrapping_sub(seq) as i32 >= full as i32
        } {
            many.command(bulk, full);
            many.sent -= 1;
        }
        many.turn();
        let Peer { seq, edge, .. } = many.peers[bulk];
        widest = widest.max(edge - seq);
        many.t.wait(Duration::from_micros(300));
    }
    assert_eq!(many.t.count("tcp_budget_dropped"), 0);
    assert!(widest >= 64 << 10, "{widest}");
}
