//! TCP as seen from hosts on a perfect wire: nothing is lost, reordered or
//! late, so a connection is a few numbers, and a segment a few words.

use std::time::{Duration, Instant};

use engine::Alone;

/// Payload of a full segment: MTU 1500.
pub const MSS: usize = 1500 - 20 - 32;

const TARGET_PORT: u16 = 4420;
/// Hosts' port of connection 0.
const FIRST_PORT: u16 = 1024;
const HOST: [u8; 4] = [192, 0, 2, 2];
const TARGET: [u8; 4] = [192, 0, 2, 1];
const TARGET_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const WINDOW_SHIFT: u8 = 7;

const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// One connection, hosts' end.
#[derive(Clone, Default)]
pub struct Connection {
    next: u32,
    /// What the target's window allows to be sent.
    limit: u32,
    shift: u8,
    expected: u32,
    echo: u32,
    /// Bytes received and not acknowledged.
    unacknowledged: u32,
    established: bool,
    /// Bytes received in all.
    pub received: u64,
}

impl Connection {
    /// How many bytes may be sent now.
    pub fn room(&self) -> usize {
        let room = self.limit.wrapping_sub(self.next) as i32;
        room.max(0) as usize
    }
}

/// A segment of the target's, with its payload in pieces.
pub struct Arrived<'a> {
    pub connection: usize,
    /// Bytes that came before it.
    pub position: u64,
    pub head: &'a [u8],
    pub rest: &'a [&'a [u8]],
}

/// All hosts: one address, a port for each connection.
pub struct Hosts {
    pub connections: Vec<Connection>,
    /// Whether the wire computes checksums.
    offloads: bool,
    /// Frames are written past the caches, as a NIC without cache injection does.
    cold: bool,
    now: u32,
    /// Acknowledgements to be sent.
    due: Vec<u32>,
    asked: Option<[u8; 10]>,
    pub frames_in: u64,
    pub frames_out: u64,
}

impl Hosts {
    pub fn new(offloads: bool, cold: bool) -> Self {
        Self {
            connections: Vec::new(),
            offloads,
            cold,
            now: 1,
            due: Vec::new(),
            asked: None,
            frames_in: 0,
            frames_out: 0,
        }
    }

    /// Lets time pass: what timestamps say.
    pub fn set_time(&mut self, milliseconds: u32) {
        self.now = milliseconds.max(1);
    }

    /// Opens one more connection; its number.
    pub fn open(&mut self, alone: &mut Alone) -> usize {
        let index = self.connections.len();
        self.connections.push(Connection {
            next: 1000,
            ..Connection::default()
        });
        // The target first asks whether somebody else has its address (RFC 5227, 2.1.1).
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if !self.connections[index].established {
                self.syn(alone, index);
            }
            for _ in 0..4 {
                alone.poll();
                self.collect(alone, |_| panic!("data before a connection is open"));
                if self.connections[index].established {
                    self.segment(alone, index, &[]);
                    return index;
                }
            }
        }
        panic!("connection {index} does not open");
    }

    /// Takes what the target sent: payload goes to `data`, the rest is served here.
    pub fn collect(&mut self, alone: &mut Alone, mut data: impl FnMut(Arrived<'_>)) {
        self.frames_out += alone.sent(|pieces| self.arrived(pieces, &mut data)) as u64;
        if let Some(asker) = self.asked.take() {
            self.answer_arp(alone, asker);
        }
        while let Some(index) = self.due.pop() {
            if self.connections[index as usize].unacknowledged > 0 {
                self.segment(alone, index as usize, &[]);
            }
        }
    }

    fn arrived(&mut self, pieces: &[&[u8]], data: &mut impl FnMut(Arrived<'_>)) {
        let head = pieces[0];
        if head[12..14] == [0x08, 0x06] {
            if head[20..22] == [0, 1] && head[38..42] == HOST {
                self.asked = head[22..32].first_chunk().copied();
            }
            return;
        }
        let tcp = &head[34..];
        let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let index = usize::from(u16::from_be_bytes([tcp[2], tcp[3]]) - FIRST_PORT);
        let header = usize::from(tcp[12] >> 4) * 4;
        let connection = &mut self.connections[index];
        let window = u32::from(u16::from_be_bytes([tcp[14], tcp[15]]));
        if tcp[13] & SYN != 0 {
            connection.expected = word(4).wrapping_add(1);
            connection.next = word(8);
            options(&tcp[20..header], connection);
            connection.limit = word(8).wrapping_add(window);
            connection.established = true;
            return;
        }
        assert_eq!(tcp[13] & 5, 0, "the target ended connection {index}");
        assert_eq!(
            tcp[20..24],
            [1, 1, 8, 10],
            "timestamps where they usually are"
        );
        connection.echo = word(24);
        connection.limit = word(8).wrapping_add(window << connection.shift);
        let first = &tcp[header..];
        let len = first.len() + pieces[1..].iter().map(|piece| piece.len()).sum::<usize>();
        if len == 0 {
            return;
        }
        let ahead = word(4).wrapping_sub(connection.expected) as i32;
        assert!(ahead <= 0, "connection {index}: a segment out of order");
        if ahead < 0 {
            // This process was not scheduled for so long that the target sent it again.
            connection.unacknowledged = connection.unacknowledged.max(1);
            self.due.push(index as u32);
            return;
        }
        data(Arrived {
            connection: index,
            position: connection.received,
            head: first,
            rest: &pieces[1..],
        });
        connection.expected = connection.expected.wrapping_add(len as u32);
        connection.received += len as u64;
        connection.unacknowledged += len as u32;
        // RFC 9293, 3.8.6.3: at least every second full segment is acknowledged at once;
        // anything else by the next command.
        if connection.unacknowledged as usize >= 2 * MSS {
            self.due.push(index as u32);
        }
    }

    /// Acknowledges everything that was received.
    pub fn acknowledge(&mut self, alone: &mut Alone, index: usize) {
        self.segment(alone, index, &[]);
    }

    /// Sends `bytes` in as many segments as it takes.
    pub fn send(&mut self, alone: &mut Alone, index: usize, bytes: &[u8]) {
        for part in bytes.chunks(MSS) {
            self.segment(alone, index, part);
        }
    }

    fn segment(&mut self, alone: &mut Alone, index: usize, payload: &[u8]) {
        let connection = &mut self.connections[index];
        connection.unacknowledged = 0;
        let sequence = connection.next;
        connection.next = sequence.wrapping_add(payload.len() as u32);
        let push = if payload.is_empty() { 0 } else { PSH };
        let mut options = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
        options[4..8].copy_from_slice(&self.now.to_be_bytes());
        options[8..12].copy_from_slice(&connection.echo.to_be_bytes());
        let expected = connection.expected;
        self.frame(
            alone,
            index,
            sequence,
            expected,
            ACK | push,
            &options,
            payload,
        );
    }

    fn syn(&mut self, alone: &mut Alone, index: usize) {
        let mut options = [0; 20];
        options[..4].copy_from_slice(&[2, 4, 0x05, 0xb4]);
        options[4..8].copy_from_slice(&[4, 2, 8, 10]);
        options[8..12].copy_from_slice(&self.now.to_be_bytes());
        options[16..20].copy_from_slice(&[1, 3, 3, WINDOW_SHIFT]);
        self.frame(alone, index, 999, 0, SYN, &options, &[]);
    }

    #[allow(clippy::too_many_arguments)]
    fn frame(
        &mut self,
        alone: &mut Alone,
        index: usize,
        sequence: u32,
        acknowledged: u32,
        flags: u8,
        options: &[u8],
        payload: &[u8],
    ) {
        self.frames_in += 1;
        let (offloads, cold) = (self.offloads, self.cold);
        let taken = alone.receive(|frame| {
            let l4 = 20 + options.len();
            frame[..6].copy_from_slice(&TARGET_MAC);
            frame[6..12].copy_from_slice(&HOST_MAC);
            frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0]);
            let total = 20 + l4 + payload.len();
            frame[16..18].copy_from_slice(&(total as u16).to_be_bytes());
            frame[18..26].copy_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame[26..30].copy_from_slice(&HOST);
            frame[30..34].copy_from_slice(&TARGET);
            let port = FIRST_PORT + index as u16;
            frame[34..36].copy_from_slice(&port.to_be_bytes());
            frame[36..38].copy_from_slice(&TARGET_PORT.to_be_bytes());
            frame[38..42].copy_from_slice(&sequence.to_be_bytes());
            frame[42..46].copy_from_slice(&acknowledged.to_be_bytes());
            frame[46..48].copy_from_slice(&[(l4 << 2) as u8, flags]);
            frame[48..54].copy_from_slice(&[0xff, 0xff, 0, 0, 0, 0]);
            frame[54..34 + l4].copy_from_slice(options);
            frame[34 + l4..14 + total].copy_from_slice(payload);
            if !offloads {
                let sum = checksum(0, &frame[14..34]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
                let pseudo = 6 + (total as u32 - 20);
                let sum = checksum(sum_words(pseudo, &frame[26..34]), &frame[34..14 + total]);
                frame[50..52].copy_from_slice(&sum.to_be_bytes());
            }
            if cold {
                flush(&frame[..14 + total]);
            }
            14 + total
        });
        assert!(taken, "the engine holds every receive buffer");
    }

    fn answer_arp(&mut self, alone: &mut Alone, asker: [u8; 10]) {
        let taken = alone.receive(|frame| {
            frame[..6].copy_from_slice(&asker[..6]);
            frame[6..12].copy_from_slice(&HOST_MAC);
            frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
            frame[22..28].copy_from_slice(&HOST_MAC);
            frame[28..32].copy_from_slice(&HOST);
            frame[32..42].copy_from_slice(&asker);
            60
        });
        assert!(taken, "the engine holds every receive buffer");
    }
}

/// What a SYN-ACK says in its options.
fn options(mut list: &[u8], connection: &mut Connection) {
    while let [kind, rest @ ..] = list {
        match (kind, rest) {
            (0, _) => return,
            (1, rest) => list = rest,
            (3, [_, shift, ..]) => {
                connection.shift = *shift;
                list = &list[3..];
            }
            (8, [_, a, b, c, d, ..]) => {
                connection.echo = u32::from_be_bytes([*a, *b, *c, *d]);
                list = &list[10..];
            }
            (_, [len, ..]) => list = &list[usize::from(*len)..],
            (_, []) => return,
        }
    }
}

/// RFC 1071.
fn sum_words(start: u32, bytes: &[u8]) -> u32 {
    let mut sum = u64::from(start);
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u64::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u32
}

fn checksum(start: u32, bytes: &[u8]) -> u16 {
    !(sum_words(start, bytes) as u16)
}

/// Out of every cache.
#[allow(unsafe_code)]
pub fn flush(bytes: &[u8]) {
    for at in (0..bytes.len()).step_by(64) {
        // SAFETY: every x86-64 has the instruction, and the address is inside `bytes`.
        unsafe { core::arch::x86_64::_mm_clflush(bytes[at..].as_ptr()) };
    }
}
