//! The load: NVMe/TCP hosts that keep a number of 4 KiB commands under way.

use std::time::{Duration, Instant};

use engine::Alone;
use testkit::command::{CC_ENABLED, property};
use testkit::pdu::kind;
use testkit::places::Places;
use testkit::{Command, Config, Host, Payload, Random};

use crate::options::{Operation, Options};
use crate::secure::{Channel, OVERHEAD, Secure};
use crate::tcp::{Hosts, MSS};
use crate::timing::Latencies;
use crate::{HOST, NQN};

/// Bytes of one command's data.
pub const IO: usize = 4096;
/// Blocks of the namespace.
pub const BLOCK: u64 = 512;
/// I/O queues that a controller of the target has at most.
const QUEUES: usize = 128;
/// Entries of an I/O queue.
pub const ENTRIES: u16 = 128;
/// Where a capsule has its CID and SLBA.
const CID_AT: usize = 8 + 2;
const SLBA_AT: usize = 8 + 40;

/// How long the target has for an answer while hosts connect.
const PATIENCE: Duration = Duration::from_secs(10);

/// Hosts with their I/O queues.
pub struct Load {
    hosts: Hosts,
    secure: Option<Secure>,
    /// Of encrypted connections, by their numbers.
    channels: Vec<Channel>,
    /// Connections that are I/O queues.
    queues: Vec<usize>,
    operation: Operation,
    digest: bool,
    places: Places,
    /// The capsule of every command, its data and their digest in it. Only its CID and SLBA
    /// are written anew: the load is to cost little beside what is measured.
    capsule: Vec<u8>,
    /// The queue whose turn it is.
    turn: usize,
    outgoing: Vec<u8>,
    begun: Instant,
    /// Commands sent and not answered.
    under_way: usize,
    pub answered: u64,
    latencies: Option<Latencies>,
}

impl Load {
    /// Connects as many I/O queues as are asked for, and as many controllers as it takes.
    pub fn connect(alone: &mut Alone, hosts: Hosts, options: &Options) -> Self {
        let (operation, digest) = (options.operation, options.digest);
        let mut random = Random::new(0);
        let pages = match options.mib {
            0 => options.gib << 30,
            mib => mib << 20,
        } / IO as u64;
        let blocks_of_one = (IO as u64 / BLOCK) as u32;
        let command = match operation {
            Operation::Read => Command::read(1, 0, blocks_of_one, IO),
            Operation::Write => {
                Command::write(1, 0, blocks_of_one, Payload::Capsule(random.bytes(IO)))
            }
        };
        let (_, capsule) = Host::new(config(digest, ENTRIES)).capsule(command);
        let mut load = Self {
            hosts,
            secure: options.tls.map(|hash| Secure::new(hash, HOST, NQN)),
            channels: Vec::new(),
            queues: Vec::new(),
            operation,
            digest,
            places: Places::new(options.pattern, pages),
            capsule,
            turn: 0,
            outgoing: Vec::with_capacity(64 << 10),
            begun: Instant::now(),
            under_way: 0,
            answered: 0,
            latencies: None,
        };
        while load.queues.len() < options.connections {
            let queues = QUEUES.min(options.connections - load.queues.len());
            load.controller(alone, queues);
        }
        load
    }

    /// Frames to and from the target so far.
    pub fn frames(&self) -> (u64, u64) {
        (self.hosts.frames_in, self.hosts.frames_out)
    }

    /// Begins to record latencies: nothing is under way.
    pub fn record(&mut self, latencies: Latencies) {
        assert_eq!(self.under_way, 0, "commands that nobody timed");
        self.latencies = Some(latencies);
    }

    /// What was recorded.
    pub fn latencies(&mut self) -> &mut Latencies {
        self.latencies.as_mut().expect("they are recorded")
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
        let whole = self.capsule.len() + self.secure.as_ref().map_or(0, |_| OVERHEAD);
        while self.under_way < depth {
            let connection = self.queues[self.turn];
            self.turn = (self.turn + 1) % self.queues.len();
            if self.hosts.connections[connection].room() < self.outgoing.len() + whole {
                break;
            }
            self.command(connection);
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

    /// Appends the next command to what is going out.
    fn command(&mut self, connection: usize) {
        let lba = self.places.pick() * (IO as u64 / BLOCK);
        let number = self.answered + self.under_way as u64;
        let cid = match &mut self.latencies {
            Some(latencies) => latencies.issue(),
            None => number as u16 % ENTRIES,
        };
        self.capsule[CID_AT..CID_AT + 2].copy_from_slice(&cid.to_le_bytes());
        self.capsule[SLBA_AT..SLBA_AT + 8].copy_from_slice(&lba.to_le_bytes());
        match &self.secure {
            None => self.outgoing.extend_from_slice(&self.capsule),
            Some(secure) => {
                let channel = &mut self.channels[connection];
                secure.seal(channel, &self.capsule, &mut self.outgoing);
            }
        }
    }

    /// Takes what was sent, and checks of each answer that it is one and says success.
    fn take_answers(&mut self, alone: &mut Alone) {
        let whole = self.answer_len();
        let kind = match self.operation {
            Operation::Read => kind::C2H_DATA,
            Operation::Write => kind::CAPSULE_RESP,
        };
        let mut answered = 0;
        let latencies = &mut self.latencies;
        let mut take = |piece: &[u8], position: u64| {
            let at = position % whole;
            check(piece, at, whole, kind);
            if let Some(latencies) = latencies {
                latencies.take(piece, at, whole);
            }
            answered += (at + piece.len() as u64) / whole;
        };
        let (secure, channels) = (&self.secure, &mut self.channels);
        self.hosts.collect(alone, |arrived| {
            let mut position = arrived.position;
            for piece in std::iter::once(&arrived.head).chain(arrived.rest) {
                match secure {
                    None => take(piece, position),
                    Some(secure) => {
                        secure.open(&mut channels[arrived.connection], piece, &mut take);
                    }
                }
                position += piece.len() as u64;
            }
        });
        self.under_way -= answered as usize;
        self.answered += answered;
    }

    /// One more controller, with so many I/O queues.
    fn controller(&mut self, alone: &mut Alone, queues: usize) {
        let (connection, mut admin) = self.queue(alone, 0, 32, 0xffff);
        let cntlid = admin.cntlid().expect("connected");
        admin.command(Command::property_set(property::CC, CC_ENABLED));
        self.exchange(alone, connection, &mut admin);
        for queue in 1..=queues {
            let (connection, _) = self.queue(alone, queue as u16, ENTRIES, cntlid);
            self.hosts.connections[connection].received = 0;
            if let Some(channel) = self.channels.get_mut(connection) {
                channel.received = 0;
            }
            self.queues.push(connection);
        }
    }

    /// A connection that is queue `qid` of controller `cntlid`.
    fn queue(&mut self, alone: &mut Alone, qid: u16, entries: u16, cntlid: u16) -> (usize, Host) {
        self.hosts
            .set_time(self.begun.elapsed().as_millis() as u32 + 1);
        let connection = self.hosts.open(alone);
        if let Some(secure) = &mut self.secure {
            let channel = secure.channel(alone, &mut self.hosts, connection);
            self.channels.push(channel);
        }
        let mut host = Host::new(config(self.digest, entries));
        host.initialize();
        host.connect(qid, cntlid);
        self.exchange(alone, connection, &mut host);
        (connection, host)
    }

    /// Serves `host` until its command is done, which must succeed. It sends once the window
    /// allows it: among thousands of new connections windows open as older ones fall silent.
    fn exchange(&mut self, alone: &mut Alone, connection: usize, host: &mut Host) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let bytes = host.outgoing();
            let room = self.hosts.connections[connection].room();
            if !bytes.is_empty() && room >= bytes.len() + OVERHEAD {
                match &self.secure {
                    None => self.hosts.send(alone, connection, bytes),
                    Some(secure) => {
                        let mut records = Vec::new();
                        secure.seal(&mut self.channels[connection], bytes, &mut records);
                        self.hosts.send(alone, connection, &records);
                    }
                }
                let len = bytes.len();
                host.consume(len);
            }
            alone.poll();
            let (secure, channels) = (&self.secure, &mut self.channels);
            let mut take = |piece: &[u8], _| {
                host.receive(piece).expect("what the specification says");
            };
            self.hosts.collect(alone, |arrived| {
                assert_eq!(arrived.connection, connection, "nobody else was asked");
                for piece in std::iter::once(&arrived.head).chain(arrived.rest) {
                    match secure {
                        None => take(piece, 0),
                        Some(secure) => secure.open(&mut channels[connection], piece, &mut take),
                    }
                }
            });
            if let Some(done) = host.next_completion() {
                assert_eq!(done.status, 0, "success");
                self.hosts.acknowledge(alone, connection);
                return;
            }
        }
        panic!("no answer on connection {connection}");
    }
}

/// A host of the target, without a keep-alive timer.
fn config(digest: bool, entries: u16) -> Config {
    let mut config = Config::new(NQN);
    config.host = HOST.into();
    config.format.data_digest = digest;
    config.entries = entries;
    config
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
