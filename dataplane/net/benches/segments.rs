//! Instructions and time per segment, received and sent.
//!
//! ```text
//! cargo bench -p net --bench segments                  nanoseconds
//! valgrind --tool=callgrind --toggle-collect='*receive_burst*' target/release/deps/segments-…
//! ```
//!
//! Checksums are the port's, as with any NIC, and the port does nothing: what it does
//! with a frame's pieces is its own cost. Frames are built before the clock starts.
//! `ci/bench-net` does the sums; `docs/benchmarks/tcp.md` has the table.

use std::hint::black_box;
use std::time::Instant as Clock;

use net::{
    ConnectionId, Duration, Event, Instant, MacAddress, PortFull, RxFrame, Stack, StackConfig,
    Transmit, TxFrame, Verdict,
};
use pages::{Arena, Cluster, ClusterPool, HeapRegion};

const MSS: usize = 1448;
const BURST: usize = 32;

/// Takes every frame, and remembers the headers of the first.
#[derive(Default)]
struct Port {
    frames: u64,
    bytes: u64,
    first: Vec<u8>,
}

impl Transmit for Port {
    #[inline]
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull> {
        self.frames += 1;
        self.bytes += frame.len() as u64;
        if self.first.is_empty() {
            self.first.extend_from_slice(frame.headers);
        }
        black_box(frame.headers);
        Ok(())
    }
}

struct Bench {
    stack: Stack,
    pool: ClusterPool,
    port: Port,
    now: Instant,
    id: ConnectionId,
    template: Vec<u8>,
    seq: u32,
    ack: u32,
    stamp: u32,
}

/// An ACK from 192.0.2.2:5000 to 192.0.2.1:4420, with a timestamp.
fn template() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0xa, 2, 0, 0, 0, 0, 0xb, 8, 0];
    frame.extend([0x45, 0, 0, 52, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend([192, 0, 2, 2, 192, 0, 2, 1]);
    frame.extend([0x13, 0x88, 0x11, 0x44, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x10]);
    frame.extend([0xff, 0xff, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
    frame
}

impl Bench {
    fn new() -> Self {
        let mac = MacAddress([2, 0, 0, 0, 0, 0xa]);
        let mut config = StackConfig::new(mac, "192.0.2.1/24".parse().unwrap(), [3; 32]);
        config.duplicate_address_detection = false;
        config.offload.rx_ip_checksum = true;
        config.offload.rx_l4_checksum = true;
        config.offload.tx_ip_checksum = true;
        config.offload.tx_l4_checksum = true;
        config.tcp.pacing = false;
        config.receive_clusters = 2048;
        config.receive_headroom = 64;
        let arena = Arena::new(HeapRegion::new(1024));
        let pool = ClusterPool::carve(&arena, 2048, 2048).unwrap();
        let mut stack = Stack::new(config).unwrap();
        stack.listen("192.0.2.1:4420".parse().unwrap(), 8).unwrap();
        let mut bench = Self {
            stack,
            pool,
            port: Port::default(),
            now: Instant::from_millis(1),
            id: no_id(),
            template: template(),
            seq: 1000,
            ack: 0,
            stamp: 1,
        };
        bench.open();
        bench
    }

    fn frame(&mut self, flags: u8, len: usize) -> Cluster {
        let mut fresh = self.pool.alloc().unwrap();
        fresh[..66].copy_from_slice(&self.template);
        fresh[16..18].copy_from_slice(&(52 + len as u16).to_be_bytes());
        fresh[38..42].copy_from_slice(&self.seq.to_be_bytes());
        fresh[42..46].copy_from_slice(&self.ack.to_be_bytes());
        fresh[47] = flags;
        fresh[58..62].copy_from_slice(&self.stamp.to_be_bytes());
        self.seq = self.seq.wrapping_add(len as u32);
        fresh.freeze()
    }

    #[inline]
    fn receive(&mut self, cluster: Cluster, len: usize) {
        let mut frame = RxFrame::new(cluster.slice(0..66 + len));
        frame.ip_checksum = Verdict::Good;
        frame.l4_checksum = Verdict::Good;
        self.stack.receive(self.now, frame);
    }

    fn open(&mut self) {
        self.stack.advance(self.now);
        self.stack.transmit(self.now, &mut self.port);
        // The SYN has an MSS besides: four bytes more of header.
        let plain = self.template.clone();
        self.template[46] = 0x90;
        let mut syn = self.pool.alloc().unwrap();
        syn[..66].copy_from_slice(&self.template);
        syn[16..18].copy_from_slice(&56u16.to_be_bytes());
        syn[38..42].copy_from_slice(&self.seq.to_be_bytes());
        syn[47] = 2;
        syn[66..70].copy_from_slice(&[2, 4, 5, 180]);
        self.seq += 1;
        self.template = plain;
        self.receive(syn.freeze(), 4);
        self.port.first.clear();
        self.stack.transmit(self.now, &mut self.port);
        let iss = u32::from_be_bytes(self.port.first[38..42].try_into().unwrap());
        self.ack = iss.wrapping_add(1);
        self.now += Duration::from_micros(50);
        let ack = self.frame(16, 0);
        self.receive(ack, 0);
        while let Some(event) = self.stack.poll_event() {
            if let Event::Accepted { connection, .. } = event {
                self.id = connection;
            }
        }
    }

    /// A burst of full segments: received, read, acknowledged.
    #[inline(never)]
    fn receive_burst(&mut self, burst: &mut Vec<Cluster>) -> usize {
        self.stack.set_budget(self.pool.unheld(), self.pool.len());
        for cluster in burst.drain(..) {
            self.receive(cluster, MSS);
        }
        self.stack.advance(self.now);
        let mut bytes = 0;
        while let Some(event) = self.stack.poll_event() {
            if let Event::Readable(id) = event {
                while let Some(slice) = self.stack.recv(id) {
                    bytes += slice.len();
                }
            }
        }
        self.stack.transmit(self.now, &mut self.port);
        bytes
    }

    /// Pages queued and sent as full segments.
    #[inline(never)]
    fn send_burst(&mut self, page: &pages::Slice, pages: usize) {
        for _ in 0..pages {
            self.stack.send(self.id, page.clone().into()).unwrap();
        }
        self.stack.transmit(self.now, &mut self.port);
    }

    /// One acknowledgment for everything.
    #[inline(never)]
    fn ack_burst(&mut self, ack: Cluster) {
        self.receive(ack, 0);
        self.stack.advance(self.now);
    }
}

/// A name that is replaced before it is used.
fn no_id() -> ConnectionId {
    let mac = MacAddress([2, 0, 0, 0, 0, 1]);
    let mut config = StackConfig::new(mac, "192.0.2.9/24".parse().unwrap(), [0; 32]);
    config.duplicate_address_detection = false;
    let mut stack = Stack::new(config).unwrap();
    let to = "192.0.2.8:1".parse().unwrap();
    stack.connect(Instant::ZERO, to, None).unwrap()
}

fn main() {
    let rounds: usize = std::env::var("ROUNDS").map_or(20_000, |n| n.parse().unwrap());
    let mut bench = Bench::new();
    let mut burst = Vec::with_capacity(BURST);
    let mut spent = 0;
    // A few small bursts first: the window grows with what the peer makes of it.
    for round in 0..rounds + 100 {
        bench.now += Duration::from_micros(40);
        bench.stamp = bench.now.as_millis() as u32;
        let size = if round < 100 { 8 } else { BURST };
        for _ in 0..size {
            let cluster = bench.frame(16, MSS);
            burst.push(cluster);
        }
        let clock = Clock::now();
        let bytes = bench.receive_burst(&mut burst);
        let took = clock.elapsed().as_nanos() as u64;
        spent += if round < 100 { 0 } else { took };
        assert_eq!(bytes, size * MSS);
    }
    let segments = (rounds * BURST) as u64;
    println!(
        "received segment, full, in bursts of {BURST}, read and acknowledged: {} ns",
        spent / segments
    );

    let mut bench = Bench::new();
    let arena = Arena::new(HeapRegion::new(2));
    let page = ClusterPool::carve(&arena, 1, 4096).unwrap();
    let page = page.alloc().unwrap().freeze().slice(0..4096);
    let (mut send, mut ack, mut segments) = (0, 0, 0);
    for _ in 0..rounds {
        bench.now += Duration::from_micros(40);
        bench.stamp = bench.now.as_millis() as u32;
        let before = bench.port.frames;
        let clock = Clock::now();
        bench.send_burst(&page, 2);
        send += clock.elapsed().as_nanos() as u64;
        segments += bench.port.frames - before;
        bench.ack = bench.ack.wrapping_add(8192);
        let frame = bench.frame(16, 0);
        let clock = Clock::now();
        bench.ack_burst(frame);
        ack += clock.elapsed().as_nanos() as u64;
    }
    println!(
        "sent segment, two pages in {} segments: {} ns",
        segments / rounds as u64,
        send / segments
    );
    println!("acknowledgment of two pages: {} ns", ack / rounds as u64);
}
