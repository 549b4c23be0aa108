//! The load: NVMe/TCP hosts that keep a number of 4 KiB commands under way.

use std::time::{Duration, Instant};

use engine::Alone;

use crate::NQN;
use crate::tcp::{Hosts, MSS};

/// Bytes of one command's data.
pub const IO: usize = 4096;
/// Blocks of the namespace.
pub const BLOCK: u64 = 512;
/// I/O queues that a controller of the target has at most.
const QUEUES: usize = 128;
/// Entries of an I/O queue.
const ENTRIES: u16 = 128;
const CAPSULE: usize = 72;
/// PDU types (NVMe/TCP 3.6.1).
const CAPSULE_RESP: u8 = 0x05;
const C2H_DATA: u8 = 0x07;

/// How long the target has for an answer while hosts connect.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the hosts do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
}

/// Hosts with their I/O queues.
pub struct Load {
    hosts: Hosts,
    /// Connections that are I/O queues.
    queues: Vec<usize>,
    operation: Operation,
    digest: bool,
    blocks: u64,
    page: Box<[u8; IO]>,
    page_digest: [u8; 4],
    /// The queue whose turn it is.
    turn: usize,
    random: u64,
    outgoing: Vec<u8>,
    begun: Instant,
    /// Dword 0 of the last command's response.
    result: u16,
    /// Commands sent and not answered.
    under_way: usize,
    pub answered: u64,
}

impl Load {
    /// Connects `connections` I/O queues, and as many controllers as it takes.
    pub fn connect(
        alone: &mut Alone,
        hosts: Hosts,
        connections: usize,
        operation: Operation,
        digest: bool,
        blocks: u64,
    ) -> Self {
        let mut page = Box::new([0; IO]);
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for bytes in page.chunks_mut(8) {
            bytes.copy_from_slice(&next(&mut state).to_le_bytes());
        }
        let page_digest = crc32c::crc32c(&page[..]).to_le_bytes();
        let mut load = Self {
            hosts,
            queues: Vec::new(),
            operation,
            digest,
            blocks,
            page,
            page_digest,
            turn: 0,
            random: state,
            outgoing: Vec::with_capacity(64 << 10),
            begun: Instant::now(),
            result: 0,
            under_way: 0,
            answered: 0,
        };
        while load.queues.len() < connections {
            let queues = QUEUES.min(connections - load.queues.len());
            load.controller(alone, queues);
        }
        load
    }

    /// Frames to and from the target so far.
    pub fn frames(&self) -> (u64, u64) {
        (self.hosts.frames_in, self.hosts.frames_out)
    }

    /// Polls until `commands` more are answered, with `depth` under way.
    pub fn run(&mut self, alone: &mut Alone, commands: u64, depth: usize, counted: bool) {
        let goal = self.answered + commands;
        let mut deadline = Instant::now() + PATIENCE;
        while self.answered < goal {
            self.hosts
                .set_time(self.begun.elapsed().as_millis() as u32 + 1);
            self.issue(alone, depth);
            if counted {
                alone.poll_counted();
            } else {
                alone.poll();
            }
            let before = self.answered;
            self.take_answers(alone);
            let now = Instant::now();
            if self.answered > before {
                deadline = now + PATIENCE;
            }
            assert!(
                now < deadline,
                "{} commands are not answered: {:?}",
                self.under_way,
                alone.snapshot()
            );
        }
    }

    /// Commands until `depth` are under way, each on the next queue.
    fn issue(&mut self, alone: &mut Alone, depth: usize) {
        let whole = self.command_len();
        while self.under_way < depth {
            let connection = self.queues[self.turn];
            self.turn = (self.turn + 1) % self.queues.len();
            if self.hosts.connections[connection].room() < self.outgoing.len() + whole {
                break;
            }
            self.command();
            self.under_way += 1;
            let more = self.queues.len() == 1 && self.under_way < depth;
            self.flush(alone, connection, more);
        }
        if self.queues.len() == 1 {
            self.flush(alone, self.queues[0], false);
        }
    }

    /// Full segments, and the rest of the stream unless `more` follows at once.
    fn flush(&mut self, alone: &mut Alone, connection: usize, more: bool) {
        let len = match more {
            true => self.outgoing.len() / MSS * MSS,
            false => self.outgoing.len(),
        };
        self.hosts.send(alone, connection, &self.outgoing[..len]);
        self.outgoing.drain(..len);
    }

    fn command_len(&self) -> usize {
        match self.operation {
            Operation::Read => CAPSULE,
            Operation::Write => CAPSULE + IO + self.digest_len(),
        }
    }

    fn digest_len(&self) -> usize {
        if self.digest { 4 } else { 0 }
    }

    /// Bytes that answer one command: a response, behind the data of a read.
    fn answer_len(&self) -> u64 {
        match self.operation {
            Operation::Read => (24 + IO + self.digest_len() + 24) as u64,
            Operation::Write => 24,
        }
    }

    /// Appends a command at a random place to what is going out.
    fn command(&mut self) {
        let lba =
            next(&mut self.random) % (self.blocks / (IO as u64 / BLOCK)) * (IO as u64 / BLOCK);
        let mut sqe = [0; 64];
        sqe[0] = match self.operation {
            Operation::Read => 2,
            Operation::Write => 1,
        };
        sqe[1] = 0x40;
        let number = self.answered + self.under_way as u64;
        sqe[2..4].copy_from_slice(&(number as u16 % ENTRIES).to_le_bytes());
        sqe[4] = 1;
        sqe[32..36].copy_from_slice(&(IO as u32).to_le_bytes());
        sqe[39] = match self.operation {
            Operation::Read => 0x5a,
            Operation::Write => 0x01,
        };
        sqe[40..48].copy_from_slice(&lba.to_le_bytes());
        sqe[48] = (IO as u64 / BLOCK - 1) as u8;
        match self.operation {
            Operation::Read => capsule(&mut self.outgoing, &sqe, &[], None),
            Operation::Write => {
                let digest = self.digest.then_some(&self.page_digest);
                capsule(&mut self.outgoing, &sqe, &self.page[..], digest);
            }
        }
    }

    /// Takes what was sent, and checks of each answer that it is one and says success.
    fn take_answers(&mut self, alone: &mut Alone) {
        let whole = self.answer_len();
        let kind = match self.operation {
            Operation::Read => C2H_DATA,
            Operation::Write => CAPSULE_RESP,
        };
        let mut answered = 0;
        self.hosts.collect(alone, |arrived| {
            let mut at = arrived.position % whole;
            for piece in std::iter::once(&arrived.head).chain(arrived.rest) {
                check(piece, at, whole, kind);
                let end = at + piece.len() as u64;
                answered += end / whole;
                at = end % whole;
            }
        });
        self.under_way -= answered as usize;
        self.answered += answered;
    }

    /// One more controller, with so many I/O queues.
    fn controller(&mut self, alone: &mut Alone, queues: usize) {
        let admin = self.queue(alone, 0, 31, 0xffff);
        let controller = self.result;
        // Property Set of CC: I/O queue entry sizes 64 and 16, enable (base 3.1.3.5).
        let mut sqe = [0; 64];
        (sqe[0], sqe[1], sqe[39]) = (0x7f, 0x40, 0x5a);
        sqe[44] = 0x14;
        sqe[48..52].copy_from_slice(&0x0046_0001u32.to_le_bytes());
        self.exchange(alone, admin, &sqe, &[]);
        for queue in 1..=queues {
            let connection = self.queue(alone, queue as u16, ENTRIES - 1, controller);
            self.hosts.connections[connection].received = 0;
            self.queues.push(connection);
        }
    }

    /// A connection that is queue `qid` of `controller`, which is in `result` then.
    fn queue(&mut self, alone: &mut Alone, qid: u16, sq_size: u16, controller: u16) -> usize {
        self.hosts
            .set_time(self.begun.elapsed().as_millis() as u32 + 1);
        let connection = self.hosts.open(alone);
        let mut request = [0; 128];
        (request[2], request[4]) = (128, 128);
        request[11] = u8::from(self.digest) << 1;
        self.say(alone, connection, &request);
        let answer = self.answer(alone, connection, 128);
        assert_eq!((answer[0], answer[11]), (0x01, request[11]), "an ICResp");
        // Connect, without a keep-alive timer.
        let mut sqe = [0; 64];
        (sqe[0], sqe[1], sqe[4], sqe[39]) = (0x7f, 0x40, 0x01, 0x01);
        sqe[32..36].copy_from_slice(&1024u32.to_le_bytes());
        sqe[42..44].copy_from_slice(&qid.to_le_bytes());
        sqe[44..46].copy_from_slice(&sq_size.to_le_bytes());
        let mut data = [0; 1024];
        data[..16].copy_from_slice(&[0x5a; 16]);
        data[16..18].copy_from_slice(&controller.to_le_bytes());
        data[256..256 + NQN.len()].copy_from_slice(NQN.as_bytes());
        let host = b"nqn.2014-08.org.nvmexpress:uuid:5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a";
        data[512..512 + host.len()].copy_from_slice(host);
        self.exchange(alone, connection, &sqe, &data);
        connection
    }

    /// A command and its response, which must be success; dword 0 is in `result` then.
    fn exchange(&mut self, alone: &mut Alone, connection: usize, sqe: &[u8; 64], data: &[u8]) {
        let mut bytes = Vec::new();
        let digest = crc32c::crc32c(data).to_le_bytes();
        let digest = (self.digest && !data.is_empty()).then_some(&digest);
        capsule(&mut bytes, sqe, data, digest);
        self.say(alone, connection, &bytes);
        let answer = self.answer(alone, connection, 24);
        assert_eq!(
            (answer[0], &answer[22..24]),
            (CAPSULE_RESP, &[0, 0][..]),
            "success"
        );
        self.result = u16::from_le_bytes([answer[8], answer[9]]);
    }

    /// Sends once the window allows it: among thousands of new connections windows open as
    /// older ones fall silent.
    fn say(&mut self, alone: &mut Alone, connection: usize, bytes: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        while self.hosts.connections[connection].room() < bytes.len() {
            assert!(
                Instant::now() < deadline,
                "connection {connection} has no window"
            );
            alone.poll();
            self.hosts
                .collect(alone, |_| panic!("an answer to no question"));
        }
        self.hosts.send(alone, connection, bytes);
    }

    /// The next `len` bytes of a connection.
    fn answer(&mut self, alone: &mut Alone, connection: usize, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            alone.poll();
            self.hosts.collect(alone, |arrived| {
                assert_eq!(arrived.connection, connection, "nobody else was asked");
                bytes.extend_from_slice(arrived.head);
                arrived
                    .rest
                    .iter()
                    .for_each(|piece| bytes.extend_from_slice(piece));
            });
            if bytes.len() >= len {
                self.hosts.acknowledge(alone, connection);
                return bytes;
            }
        }
        panic!("no answer on connection {connection}");
    }
}

/// Appends a command capsule (NVMe/TCP 3.6.2.5).
fn capsule(out: &mut Vec<u8>, sqe: &[u8; 64], data: &[u8], digest: Option<&[u8; 4]>) {
    let len = CAPSULE + data.len() + digest.map_or(0, |digest| digest.len());
    let data_at = if data.is_empty() { 0 } else { CAPSULE as u8 };
    out.extend_from_slice(&[
        0x04,
        u8::from(digest.is_some()) << 1,
        CAPSULE as u8,
        data_at,
    ]);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(sqe);
    out.extend_from_slice(data);
    out.extend_from_slice(digest.map_or(&[], |digest| digest));
}

/// `piece` lies `at` bytes behind the beginning of an answer; answers of
/// `whole` bytes follow each other. Checks the type of each, and its status.
fn check(piece: &[u8], at: u64, whole: u64, kind: u8) {
    let mut begin = 0i64 - at as i64;
    while begin < piece.len() as i64 {
        let byte = |offset: u64| {
            let place = begin + offset as i64;
            usize::try_from(place)
                .ok()
                .and_then(|place| piece.get(place))
        };
        let right = byte(0).is_none_or(|&byte| byte == kind)
            && byte(whole - 2).is_none_or(|&byte| byte == 0)
            && byte(whole - 1).is_none_or(|&byte| byte == 0);
        assert!(right, "an answer that is not a success");
        begin += whole as i64;
    }
}

/// xorshift64.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
