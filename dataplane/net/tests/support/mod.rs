//! Two hosts, a link between them that fails on purpose, and applications that
//! check every byte. Everything follows from a seed.
#![allow(dead_code)]

pub mod hostile;
pub mod script;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use net::{
    CloseReason, ConnectionId, Event, Instant, MacAddress, PortFull, RxFrame, Stack, StackConfig,
    Transmit, TxFrame, TxOffload, Verdict,
};
use pages::{Arena, Chunk, ClusterPool, HeapRegion, Inline, Slice};
pub use testkit::Random;
use testkit::pattern::stream;

/// A port that keeps what it is given; it cuts large segments as a NIC would.
#[derive(Default)]
pub struct Wire {
    pub frames: Vec<Vec<u8>>,
    pub room: Option<usize>,
}

impl Transmit for Wire {
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull> {
        if let Some(room) = &mut self.room {
            if *room == 0 {
                return Err(PortFull);
            }
            *room -= 1;
        }
        let payload: Vec<u8> = frame
            .payload
            .pieces()
            .flat_map(|piece| piece.bytes().iter().copied())
            .collect();
        assert_eq!(payload.len(), frame.payload.len());
        let o = frame.offload;
        let mss = o.tso_mss.map_or(payload.len().max(1), usize::from);
        let count = payload.len().div_ceil(mss).max(1);
        for i in 0..count {
            let part = &payload[i * mss..payload.len().min((i + 1) * mss)];
            let mut bytes = frame.headers.to_vec();
            let l3 = usize::from(o.l2_len);
            let l4 = l3 + usize::from(o.l3_len);
            if o.l4_checksum {
                complete(&mut bytes, &o, part, i, count, l3, l4, mss);
            }
            bytes.extend_from_slice(part);
            self.frames.push(bytes);
        }
        Ok(())
    }
}

/// What a NIC does to the headers of one segment.
#[allow(clippy::too_many_arguments)]
fn complete(
    bytes: &mut [u8],
    o: &TxOffload,
    part: &[u8],
    i: usize,
    count: usize,
    l3: usize,
    l4: usize,
    mss: usize,
) {
    let tcp_len = usize::from(o.l4_len);
    let segment_len = tcp_len + part.len();
    if o.tso_mss.is_some() {
        let seq = u32::from_be_bytes(bytes[l4 + 4..l4 + 8].try_into().unwrap());
        let seq = seq.wrapping_add((i * mss) as u32);
        bytes[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
        if i + 1 < count {
            bytes[l4 + 13] &= !0x09;
        }
        let len = if o.ipv6 {
            segment_len
        } else {
            segment_len + 20
        } as u16;
        let at = if o.ipv6 { l3 + 4 } else { l3 + 2 };
        bytes[at..at + 2].copy_from_slice(&len.to_be_bytes());
        let phdr = u16::from_be_bytes([bytes[l4 + 16], bytes[l4 + 17]]);
        let sum = u32::from(phdr) + segment_len as u32;
        let sum = (sum & 0xffff) + (sum >> 16);
        bytes[l4 + 16..l4 + 18].copy_from_slice(&(sum as u16).to_be_bytes());
    }
    let mut all = bytes[l4..].to_vec();
    all.extend_from_slice(part);
    let sum = !ones_complement(&all);
    bytes[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
    if o.ip_checksum || o.tso_mss.is_some() && !o.ipv6 {
        bytes[l3 + 10..l3 + 12].fill(0);
        let sum = !ones_complement(&bytes[l3..l4]);
        bytes[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// RFC 1071 by the letter.
pub fn ones_complement(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A stack with the memory its port receives into.
pub struct Host {
    pub stack: Stack,
    pub pool: ClusterPool,
    /// Pages that the application sends from.
    pub pages: ClusterPool,
    pub wire: Wire,
    /// The port finds every checksum right.
    pub vouches: bool,
    cluster: usize,
}

impl Host {
    pub fn new(mut config: StackConfig, clusters: usize) -> Self {
        const CLUSTER: usize = 2048;
        let arena = Arena::new(HeapRegion::new(clusters / 2 + 1 + 128));
        let pool = ClusterPool::carve(&arena, clusters, CLUSTER).unwrap();
        let pages = ClusterPool::carve(&arena, 128, 4096).unwrap();
        config.receive_clusters = clusters;
        Self {
            stack: Stack::new(config).unwrap(),
            pool,
            pages,
            wire: Wire::default(),
            vouches: false,
            cluster: CLUSTER,
        }
    }

    /// Receives a frame as a NIC would write it: over as many clusters as it takes.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let mut slices: Vec<Slice> = Vec::new();
        for part in bytes.chunks(self.cluster) {
            let Some(mut fresh) = self.pool.alloc() else {
                return;
            };
            fresh[..part.len()].copy_from_slice(part);
            slices.push(fresh.freeze().slice(0..part.len()));
        }
        self.stack
            .set_budget(self.pool.unheld() + slices.len(), self.pool.len());
        let head = slices.remove(0);
        let verdict = if self.vouches {
            Verdict::Good
        } else {
            Verdict::Unknown
        };
        self.stack.receive(
            now,
            RxFrame {
                head,
                tail: &slices,
                ip_checksum: verdict,
                l4_checksum: verdict,
                vlan: None,
            },
        );
    }

    /// One turn of a poll loop without applications; the frames that left.
    pub fn turn(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.stack.set_budget(self.pool.unheld(), self.pool.len());
        self.stack.advance(now);
        self.stack.transmit(now, &mut self.wire);
        std::mem::take(&mut self.wire.frames)
    }

    /// Bytes of a stream as a chunk: by value, or in a page.
    pub fn chunk(&self, stream: u64, position: u64, len: usize) -> Option<Chunk> {
        if len <= Inline::CAPACITY {
            let bytes = stream::bytes(stream, position, len);
            return Inline::new(&bytes).map(Chunk::Inline);
        }
        let len = len.min(4096);
        let mut fresh = self.pages.alloc()?;
        stream::fill(stream, position, &mut fresh[..len]);
        Some(Chunk::Slice(fresh.freeze().slice(0..len)))
    }
}

/// How a link treats frames, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Impairment {
    pub loss: u64,
    pub duplicate: u64,
    pub corrupt: u64,
    pub reorder: u64,
    pub delay_us: u64,
    pub jitter_us: u64,
    /// Bits per microsecond; 0: as fast as can be.
    pub rate: u64,
    /// Frames that wait for the link at most.
    pub queue: usize,
    /// IP packets above this are dropped, and a router says so.
    pub mtu: usize,
}

/// One direction of a link.
pub struct OneWay {
    pub how: Impairment,
    flying: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    count: u64,
    busy_until: u64,
    pub carried: u64,
}

impl OneWay {
    pub fn new(how: Impairment) -> Self {
        Self {
            how,
            flying: BinaryHeap::new(),
            count: 0,
            busy_until: 0,
            carried: 0,
        }
    }

    fn launch(&mut self, at: u64, frame: Vec<u8>) {
        self.count += 1;
        self.flying.push(Reverse((at, self.count, frame)));
    }

    /// Puts a frame on the link. If it is too large, what a router answers.
    pub fn send(
        &mut self,
        random: &mut Random,
        now: Instant,
        mut frame: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let how = self.how;
        if how.mtu > 0 && frame.len() > how.mtu + 14 {
            return too_big(&frame, how.mtu);
        }
        if random.chance(how.loss, 1000) {
            return None;
        }
        let mut at = now.0;
        if let Some(takes) = (frame.len() as u64 * 8 * 1000).checked_div(how.rate) {
            let waiting = self.busy_until.saturating_sub(now.0) / takes.max(1);
            if waiting > how.queue as u64 {
                return None;
            }
            self.busy_until = self.busy_until.max(now.0) + takes;
            at = self.busy_until;
        }
        at += how.delay_us * 1000;
        if how.jitter_us > 0 && random.chance(how.reorder, 1000) {
            at += random.below(how.jitter_us * 1000);
        }
        if random.chance(how.duplicate, 1000) {
            let later = random.below(how.jitter_us * 1000 + 1000);
            self.launch(at + later, frame.clone());
        }
        // Ethernet's own checksum covers the link; what it misses happens in
        // routers, to packets. ARP has nothing but that checksum.
        if random.chance(how.corrupt, 1000) && frame[12..14] != [8, 6] {
            let i = 14 + random.below(frame.len() as u64 - 14) as usize;
            frame[i] ^= 1 << random.below(8);
        }
        self.carried += 1;
        self.launch(at, frame);
        None
    }

    pub fn next(&self) -> Option<Instant> {
        self.flying.peek().map(|Reverse((at, ..))| Instant(*at))
    }

    pub fn arrive(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.next()? > now {
            return None;
        }
        self.flying.pop().map(|Reverse((_, _, frame))| frame)
    }
}

/// What a router says about a packet that its next link does not carry.
pub fn too_big(frame: &[u8], mtu: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    out.extend_from_slice(&frame[6..12]);
    out.extend_from_slice(&frame[..6]);
    out.extend_from_slice(&frame[12..14]);
    let ip = &frame[14..];
    match ip[0] >> 4 {
        4 => {
            let quoted = &ip[..28.min(ip.len())];
            let mut icmp = vec![3, 4, 0, 0, 0, 0];
            icmp.extend_from_slice(&(mtu as u16).to_be_bytes());
            icmp.extend_from_slice(quoted);
            let sum = !ones_complement(&icmp);
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0];
            header[2..4].copy_from_slice(&(20 + icmp.len() as u16).to_be_bytes());
            header.extend_from_slice(&ip[16..20]);
            header.extend_from_slice(&ip[12..16]);
            let sum = !ones_complement(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            out.extend(header);
            out.extend(icmp);
        }
        6 => {
            let quoted = &ip[..ip.len().min(1232)];
            let mut icmp = vec![2, 0, 0, 0];
            icmp.extend_from_slice(&(mtu as u32).to_be_bytes());
            icmp.extend_from_slice(quoted);
            let mut pseudo = ip[24..40].to_vec();
            pseudo.extend_from_slice(&ip[8..24]);
            pseudo.extend_from_slice(&(icmp.len() as u32).to_be_bytes());
            pseudo.extend_from_slice(&[0, 0, 0, 58]);
            pseudo.extend_from_slice(&icmp);
            let sum = !ones_complement(&pseudo);
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&(icmp.len() as u16).to_be_bytes());
            out.extend_from_slice(&[58, 64]);
            out.extend_from_slice(&ip[24..40]);
            out.extend_from_slice(&ip[8..24]);
            out.extend(icmp);
        }
        _ => return None,
    }
    Some(out)
}

/// Sends `total` bytes of a stream and reads `expected` of another, checking each.
pub struct App {
    pub id: Option<ConnectionId>,
    pub stream: u64,
    pub total: u64,
    pub sent: u64,
    pub peer_stream: u64,
    pub expected: u64,
    pub read: u64,
    pub held: Vec<Slice>,
    pub hold_max: usize,
    pub chunk_max: u64,
    pub eof: bool,
    pub closed: Option<CloseReason>,
    pub close_sent: bool,
    pub open: bool,
}

impl App {
    pub fn new(stream: u64, total: u64, peer_stream: u64, expected: u64) -> Self {
        Self {
            id: None,
            stream,
            total,
            sent: 0,
            peer_stream,
            expected,
            read: 0,
            held: Vec::new(),
            hold_max: 0,
            chunk_max: 4096,
            eof: false,
            closed: None,
            close_sent: false,
            open: false,
        }
    }

    pub fn drain(&mut self, host: &mut Host) {
        let Some(id) = self.id else { return };
        while self.held.len() <= self.hold_max {
            let Some(slice) = host.stack.recv(id) else {
                break;
            };
            assert!(!slice.is_empty());
            if let Err(wrong) = stream::check(self.peer_stream, self.read, slice.bytes()) {
                panic!("{wrong}");
            }
            self.read += slice.len() as u64;
            assert!(self.read <= self.expected, "more bytes than were sent");
            if self.hold_max > 0 {
                self.held.push(slice);
            }
        }
    }

    pub fn fill(&mut self, host: &mut Host, random: &mut Random) {
        let Some(id) = self.id else { return };
        while self.sent < self.total {
            let len = (1 + random.below(self.chunk_max)).min(self.total - self.sent);
            let Some(chunk) = host.chunk(self.stream, self.sent, len as usize) else {
                break;
            };
            let len = chunk.len() as u64;
            match host.stack.send(id, chunk) {
                Ok(()) => self.sent += len,
                Err(_) => break,
            }
        }
        if self.open && self.sent == self.total && !self.close_sent {
            self.close_sent = true;
            host.stack.close(id);
        }
    }

    pub fn on_event(&mut self, host: &mut Host, event: Event) {
        match event {
            Event::Accepted { connection, .. } => {
                assert!(self.id.is_none(), "accepted twice");
                self.id = Some(connection);
                self.open = true;
            }
            Event::PeerClosed(_) => self.eof = true,
            Event::Closed { reason, connection } => {
                self.hold_max = usize::MAX - 1;
                self.drain(host);
                self.held.clear();
                self.closed = Some(reason);
                host.stack.release(connection);
                self.id = None;
            }
            Event::Connected(_) => self.open = true,
            Event::Readable(_) | Event::Writable(_) => {}
        }
    }
}

pub const MAC_A: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xa]);
pub const MAC_B: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xb]);

/// Configurations for hosts .1 and .2 of a network.
pub fn configs(ipv6: bool) -> (StackConfig, StackConfig) {
    let (a, b) = if ipv6 {
        ("2001:db8::1/64", "2001:db8::2/64")
    } else {
        ("192.0.2.1/24", "192.0.2.2/24")
    };
    let make = |mac, address: &str, secret| {
        let mut config = StackConfig::new(mac, address.parse().unwrap(), [secret; 32]);
        config.connections_max = 64;
        config.half_open_max = 16;
        config.time_wait_max = 16;
        config.neighbors_max = 16;
        config.send_chunks_total = 2048;
        config.send_chunks_per_connection = 256;
        config.segments_in_flight_total = 4096;
        config.receive_clusters = 512;
        config.receive_headroom = 32;
        config.duplicate_address_detection = false;
        config
    };
    (make(MAC_A, a, 1), make(MAC_B, b, 2))
}
