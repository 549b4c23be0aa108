//! Packet scripts: segments written and read by hand, byte by byte, so that the
//! stack's own code is not its own judge.
#![allow(dead_code)]

use std::net::{IpAddr, SocketAddr};

use net::{ConnectionId, Duration, Event, Instant, ListenerId, StackConfig};

use testkit::pattern::stream;

use super::{Host, MAC_A, MAC_B, configs, ones_complement};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const ECE: u8 = 64;
pub const CWR: u8 = 128;

/// A segment, to be sent or as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seg {
    pub from_port: u16,
    pub to_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub mss: Option<u16>,
    pub scale: Option<u8>,
    pub sack_ok: bool,
    pub ts: Option<(u32, u32)>,
    pub sacks: Vec<(u32, u32)>,
    pub data: Vec<u8>,
    pub ecn: u8,
}

pub fn seg(flags: u8, seq: u32, ack: u32) -> Seg {
    Seg {
        flags,
        seq,
        ack,
        window: 0xffff,
        ..Seg::default()
    }
}

impl Seg {
    pub fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }
    pub fn mss(mut self, mss: u16) -> Self {
        self.mss = Some(mss);
        self
    }
    pub fn scale(mut self, scale: u8) -> Self {
        self.scale = Some(scale);
        self
    }
    pub fn sack_ok(mut self) -> Self {
        self.sack_ok = true;
        self
    }
    pub fn ts(mut self, value: u32, echo: u32) -> Self {
        self.ts = Some((value, echo));
        self
    }
    pub fn sack(mut self, from: u32, to: u32) -> Self {
        self.sacks.push((from, to));
        self
    }
    pub fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }
    pub fn ecn(mut self, ecn: u8) -> Self {
        self.ecn = ecn;
        self
    }
    pub fn ports(mut self, from: u16, to: u16) -> Self {
        (self.from_port, self.to_port) = (from, to);
        self
    }
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
    /// SEG.LEN.
    pub fn len(&self) -> u32 {
        self.data.len() as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    pub fn tcp(&self) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some(mss) = self.mss {
            options.extend([2, 4]);
            options.extend(mss.to_be_bytes());
        }
        if let Some(scale) = self.scale {
            options.extend([1, 3, 3, scale]);
        }
        if self.sack_ok {
            options.extend([1, 1, 4, 2]);
        }
        if let Some((value, echo)) = self.ts {
            options.extend([1, 1, 8, 10]);
            options.extend(value.to_be_bytes());
            options.extend(echo.to_be_bytes());
        }
        if !self.sacks.is_empty() {
            options.extend([1, 1, 5, 2 + 8 * self.sacks.len() as u8]);
            for (from, to) in &self.sacks {
                options.extend(from.to_be_bytes());
                options.extend(to.to_be_bytes());
            }
        }
        let mut bytes = Vec::new();
        bytes.extend(self.from_port.to_be_bytes());
        bytes.extend(self.to_port.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.push(((20 + options.len()) as u8 / 4) << 4);
        bytes.push(self.flags);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.extend(&self.data);
        bytes
    }

    fn read(tcp: &[u8]) -> Seg {
        let word = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
        let half = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let header = usize::from(tcp[12] >> 4) * 4;
        let mut seg = Seg {
            from_port: half(0),
            to_port: half(2),
            seq: word(4),
            ack: word(8),
            flags: tcp[13],
            window: half(14),
            data: tcp[header..].to_vec(),
            ..Seg::default()
        };
        let mut at = 20;
        while at < header {
            let len = match tcp[at] {
                0 => break,
                1 => 1,
                _ => usize::from(tcp[at + 1]),
            };
            match tcp[at] {
                2 => seg.mss = Some(half(at + 2)),
                3 => seg.scale = Some(tcp[at + 2]),
                4 => seg.sack_ok = true,
                5 => {
                    for i in 0..(len - 2) / 8 {
                        let block = at + 2 + 8 * i;
                        seg.sacks.push((word(block), word(block + 4)));
                    }
                }
                8 => seg.ts = Some((word(at + 2), word(at + 6))),
                _ => {}
            }
            at += len;
        }
        seg
    }
}

/// An IP packet with its transport checksum at `checksum_at` put right.
pub fn packet(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    mut l4: Vec<u8>,
    checksum_at: usize,
    ecn: u8,
    hop_limit: u8,
) -> Vec<u8> {
    let mut pseudo = Vec::new();
    let mut ip = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            if protocol != 1 {
                pseudo.extend(from.octets());
                pseudo.extend(to.octets());
                pseudo.extend([0, protocol]);
                pseudo.extend((l4.len() as u16).to_be_bytes());
            }
            ip.extend([0x45, ecn]);
            ip.extend((20 + l4.len() as u16).to_be_bytes());
            ip.extend([0, 0, 0x40, 0, hop_limit, protocol, 0, 0]);
            ip.extend(from.octets());
            ip.extend(to.octets());
            let sum = !ones_complement(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            pseudo.extend(from.octets());
            pseudo.extend(to.octets());
            pseudo.extend((l4.len() as u32).to_be_bytes());
            pseudo.extend([0, 0, 0, protocol]);
            ip.extend([0x60, ecn << 4, 0, 0]);
            ip.extend((l4.len() as u16).to_be_bytes());
            ip.extend([protocol, hop_limit]);
            ip.extend(from.octets());
            ip.extend(to.octets());
        }
        _ => panic!("one version"),
    }
    let mut all = pseudo;
    all.extend(&l4);
    let sum = !ones_complement(&all);
    l4[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    ip.extend(l4);
    ip
}

pub fn ethernet(from: [u8; 6], to: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend(from);
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Where the transport begins in an untagged frame, and its protocol.
pub fn transport(frame: &[u8]) -> (u8, usize) {
    match frame[14] >> 4 {
        4 => (frame[23], 34),
        _ => (frame[20], 54),
    }
}

/// Checks every checksum of a frame that the stack sent, by the letter of RFC 1071.
pub fn check_sums(frame: &[u8]) {
    let v4 = frame[14] >> 4 == 4;
    let (protocol, at) = transport(frame);
    let mut pseudo = Vec::new();
    if v4 {
        assert_eq!(ones_complement(&frame[14..34]), 0xffff, "IPv4 header");
        assert_eq!(
            usize::from(u16::from_be_bytes([frame[16], frame[17]])),
            frame.len() - 14
        );
        if protocol == 6 {
            pseudo.extend(&frame[26..34]);
            pseudo.extend([0, protocol]);
            pseudo.extend(((frame.len() - at) as u16).to_be_bytes());
        }
    } else {
        pseudo.extend(&frame[22..54]);
        pseudo.extend(((frame.len() - at) as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, protocol]);
    }
    pseudo.extend(&frame[at..]);
    assert_eq!(ones_complement(&pseudo), 0xffff, "transport checksum");
}

/// A stack and a peer that is a script.
pub struct Script {
    pub host: Host,
    pub now: Instant,
    pub ours: SocketAddr,
    pub peer: SocketAddr,
    pub listener: ListenerId,
    pub id: Option<ConnectionId>,
    /// Our initial sequence number, once seen.
    pub iss: u32,
    /// Frames that are not TCP.
    pub others: Vec<Vec<u8>>,
    pub events: Vec<Event>,
    /// The peer does not answer when it is asked where it is.
    pub hidden: bool,
}

/// The peer's initial sequence number.
pub const IRS: u32 = 1000;
/// What its connections agree on.
pub const MSS: usize = 1460;

impl Script {
    pub fn new() -> Self {
        Self::with(false, |_| {})
    }

    pub fn with(ipv6: bool, adjust: impl FnOnce(&mut StackConfig)) -> Self {
        Self::sized(ipv6, 512, adjust)
    }

    /// With so many clusters to receive into.
    pub fn sized(ipv6: bool, clusters: usize, adjust: impl FnOnce(&mut StackConfig)) -> Self {
        let (mut config, other) = configs(ipv6);
        config.tcp.pacing = false;
        adjust(&mut config);
        let ours = SocketAddr::new(config.addresses[0].address(), 4420);
        let peer = SocketAddr::new(other.addresses[0].address(), 5000);
        let mut host = Host::new(config, clusters);
        let listener = host.stack.listen(ours, 8).unwrap();
        let mut script = Self {
            host,
            now: Instant::from_millis(10_000),
            ours,
            peer,
            listener,
            id: None,
            iss: 0,
            others: Vec::new(),
            events: Vec::new(),
            hidden: false,
        };
        script.out();
        script.others.clear();
        script
    }

    pub fn frame(&self, segment: &Seg) -> Vec<u8> {
        let mut segment = segment.clone();
        if segment.from_port == 0 {
            (segment.from_port, segment.to_port) = (self.peer.port(), self.ours.port());
        }
        let ip = packet(
            self.peer.ip(),
            self.ours.ip(),
            6,
            segment.tcp(),
            16,
            segment.ecn,
            64,
        );
        let kind = if self.ours.is_ipv4() { 0x0800 } else { 0x86dd };
        ethernet(MAC_B.0, MAC_A.0, kind, &ip)
    }

    /// A segment of ours as a frame again, for a router to quote.
    pub fn frame_of_ours(&self, segment: &Seg) -> Vec<u8> {
        let ip = packet(self.ours.ip(), self.peer.ip(), 6, segment.tcp(), 16, 0, 64);
        let kind = if self.ours.is_ipv4() { 0x0800 } else { 0x86dd };
        ethernet(MAC_A.0, MAC_B.0, kind, &ip)
    }

    /// The peer sends a segment.
    pub fn sends(&mut self, segment: Seg) {
        let frame = self.frame(&segment);
        self.host.receive(self.now, &frame);
    }

    /// The answer to a frame that asks where the peer is.
    pub fn neighbor_answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        match (self.peer.ip(), self.ours.ip()) {
            (IpAddr::V4(peer), IpAddr::V4(_)) => {
                if frame[12..14] != [8, 6] || frame[38..42] != peer.octets() {
                    return None;
                }
                let mut arp = frame[14..42].to_vec();
                arp[7] = 2;
                arp.copy_within(8..18, 18);
                arp[8..14].copy_from_slice(&MAC_B.0);
                arp[14..18].copy_from_slice(&peer.octets());
                Some(ethernet(MAC_B.0, MAC_A.0, 0x0806, &arp))
            }
            (IpAddr::V6(peer), ours) => {
                let asks = frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 135;
                if !asks || frame[62..78] != peer.octets() {
                    return None;
                }
                let mut icmp = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
                icmp.extend(peer.octets());
                icmp.extend([2, 1]);
                icmp.extend(MAC_B.0);
                let ip = packet(peer.into(), ours, 58, icmp, 2, 0, 255);
                Some(ethernet(MAC_B.0, MAC_A.0, 0x86dd, &ip))
            }
            _ => None,
        }
    }

    /// What the stack sends now.
    pub fn out(&mut self) -> Vec<Seg> {
        let mut frames = self.host.turn(self.now);
        let answers = |frame: &Vec<u8>| self.neighbor_answer(frame);
        let answers: Vec<_> = frames.iter().filter_map(answers).collect();
        if !self.hidden && !answers.is_empty() {
            for answer in answers {
                self.host.receive(self.now, &answer);
            }
            frames.extend(self.host.turn(self.now));
        }
        while let Some(event) = self.host.stack.poll_event() {
            if let Event::Accepted { connection, .. } = event {
                self.id = Some(connection);
            }
            self.events.push(event);
        }
        let mut segments = Vec::new();
        for frame in frames {
            let ip = matches!(frame[12..14], [8, 0] | [0x86, 0xdd]);
            if !ip || transport(&frame).0 != 6 {
                self.others.push(frame);
                continue;
            }
            check_sums(&frame);
            let (_, at) = transport(&frame);
            let mut segment = Seg::read(&frame[at..]);
            segment.ecn = if frame[14] >> 4 == 4 {
                frame[15] & 3
            } else {
                frame[15] >> 4 & 3
            };
            segments.push(segment);
        }
        segments
    }

    /// The one segment that the stack sends now.
    #[track_caller]
    pub fn one(&mut self) -> Seg {
        let mut out = self.out();
        assert_eq!(out.len(), 1, "one segment, not {out:?}");
        out.remove(0)
    }

    #[track_caller]
    pub fn nothing(&mut self) {
        let out = self.out();
        assert!(out.is_empty(), "nothing, not {out:?}");
    }

    /// The peer sends a segment, and the stack answers with one.
    #[track_caller]
    pub fn asks(&mut self, segment: Seg) -> Seg {
        self.sends(segment);
        self.one()
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    pub fn wait_ms(&mut self, ms: u64) {
        self.wait(Duration::from_millis(ms));
    }

    /// Lets time pass up to what is due next, at most `most`; what is sent then.
    pub fn until_due(&mut self, most: Duration) -> Vec<Seg> {
        let end = self.now + most;
        while self.now < end {
            let due = self.host.stack.next_deadline().unwrap_or(end);
            self.now = due.max(self.now).min(end);
            let out = self.out();
            if !out.is_empty() {
                return out;
            }
        }
        Vec::new()
    }

    /// Opens a connection from the peer with the given SYN. Answers the SYN-ACK after `rtt`.
    pub fn accept(&mut self, syn: Seg, rtt: Duration) -> ConnectionId {
        let ts = syn.ts;
        let answer = self.asks(syn);
        assert_eq!(answer.flags & !ECE, SYN | ACK);
        assert_eq!(answer.ack, IRS + 1);
        self.iss = answer.seq;
        self.wait(rtt);
        let mut ack = seg(ACK, IRS + 1, self.iss + 1);
        ack.ts = ts.map(|(value, _)| (value, answer.ts.unwrap().0));
        self.sends(ack);
        self.nothing();
        self.id.expect("accepted")
    }

    /// Opens a connection with MSS and SACK, without timestamps and scaling.
    pub fn open(&mut self) -> ConnectionId {
        let syn = seg(SYN, IRS, 0).mss(1460).sack_ok();
        self.accept(syn, Duration::from_millis(10))
    }

    /// Queues `len` bytes of stream 7 from `position` on.
    pub fn write(&mut self, position: u64, len: usize) {
        let id = self.id.unwrap();
        let mut at = 0;
        while at < len {
            let part = (len - at).min(4096);
            let chunk = self.host.chunk(7, position + at as u64, part).unwrap();
            at += chunk.len();
            self.host.stack.send(id, chunk).unwrap();
        }
    }

    pub fn read_all(&mut self) -> Vec<u8> {
        let id = self.id.unwrap();
        let mut all = Vec::new();
        while let Some(slice) = self.host.stack.recv(id) {
            all.extend_from_slice(slice.bytes());
        }
        all
    }

    pub fn count(&self, name: &str) -> u64 {
        let stats = self.host.stack.stats();
        (stats.iter().find(|c| c.name == name).expect("a counter")).value
    }
}

/// Bytes of each.
pub fn lens(out: &[Seg]) -> Vec<usize> {
    out.iter().map(|s| s.data.len()).collect()
}

/// The stream from `position` on.
pub fn data(position: u64, len: usize) -> Vec<u8> {
    stream::bytes(7, position, len)
}

/// Sends `n` full segments and returns them.
pub fn flight(t: &mut Script, position: u64, n: usize) -> Vec<Seg> {
    t.write(position, n * MSS);
    let out = t.out();
    assert_eq!(lens(&out), vec![MSS; n]);
    out
}

/// The sequence number behind `n` full segments of ours.
pub fn at_end(t: &Script, n: usize) -> u32 {
    t.iss + 1 + (n * MSS) as u32
}
