//! The host's side of one NVMe/TCP connection, sans I/O.
//!
//! Source: NVM Express TCP Transport Specification 1.0, section 3; base specification 2.0,
//! section 3.3 (queues).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::command::{self, Command, Payload};
use crate::pdu::{self, Format, Pdu, Violation};

mod conduct;
mod serve;

pub use conduct::{Conduct, Fault};

/// A command's identifier, which no other command under way on the queue has.
pub type Cid = u16;

/// The status field of a completion, without its phase tag: the code, its type from bit 8 on,
/// CRD from bit 11, More (bit 13), Do Not Retry (bit 14). 0 is success.
pub type Status = u16;

/// What a host is, and asks for when it connects.
#[derive(Clone, Debug)]
pub struct Config {
    /// NQN of the subsystem.
    pub subsystem: String,
    /// NQN of the host.
    pub host: String,
    /// Host Identifier.
    pub host_id: [u8; 16],
    /// Digests, and the alignment of data to the host (`cpda` is the controller's to say).
    pub format: Format,
    /// MAXR2T as sent: R2Ts for one command at a time, less one.
    pub max_r2t: u32,
    /// The most data in one H2CData; MAXH2CDATA of the controller if that is less.
    pub h2c_bytes: usize,
    /// Entries of the submission queue, also of an Admin Queue: 2 to 4,096.
    pub entries: u16,
    /// SQ flow control is not used.
    pub no_flow_control: bool,
    /// KATO; zero: no timer. The host sends a Keep Alive command each half of it.
    pub keep_alive: Duration,
}

impl Config {
    /// A host without digests or timers, for `subsystem`.
    pub fn new(subsystem: &str) -> Self {
        Self {
            subsystem: subsystem.into(),
            host: "nqn.2014-08.org.nvmexpress:uuid:5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a".into(),
            host_id: [0x5a; 16],
            format: Format::default(),
            max_r2t: 0,
            h2c_bytes: usize::MAX,
            entries: 32,
            no_flow_control: false,
            keep_alive: Duration::ZERO,
        }
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Which command.
    pub cid: Cid,
    /// Its status.
    pub status: Status,
    /// Dwords 0 and 1.
    pub result: u64,
    /// SQHD; none if data came with SUCCESS and no response followed.
    pub sq_head: Option<u16>,
    /// Data from the controller.
    pub data: Vec<u8>,
    /// The command as it was given to the host, with its data.
    pub command: Command,
    /// When it was given to the host, and when it ended, by [`Host::advance`].
    pub submitted: Duration,
    /// See `submitted`.
    pub completed: Duration,
}

/// What ICResp said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initialized {
    /// What holds for PDUs from here on.
    pub format: Format,
    /// MAXH2CDATA.
    pub h2c_max: u32,
}

/// A command under way.
#[derive(Debug)]
struct InFlight {
    command: Command,
    submitted: Duration,
    /// Data that came.
    data: Vec<u8>,
    /// The last data came.
    is_whole: bool,
    /// Bytes that the controller asked for.
    asked: usize,
}

/// What a Connect command asks for (base, 6.3).
#[derive(Clone, Copy, Debug, Default)]
struct Connecting {
    qid: u16,
    entries: u32,
    no_flow_control: bool,
}

impl Connecting {
    fn of(sqe: &command::Sqe) -> Option<Self> {
        let is_connect = (sqe[0], sqe[4]) == (command::fabrics::OPCODE, command::fabrics::CONNECT);
        is_connect.then(|| Self {
            qid: u16::from_le_bytes([sqe[42], sqe[43]]),
            entries: u32::from(u16::from_le_bytes([sqe[44], sqe[45]])) + 1,
            no_flow_control: sqe[46] & 1 << 2 != 0,
        })
    }
}

/// One connection of a host, which becomes one queue of a controller.
///
/// Nothing is sent or received here: [`Host::outgoing`] (or [`Host::transmit`]) has bytes for
/// the stream, [`Host::receive`] takes what came on it, [`Host::advance`] tells the time.
/// Commands given before the connection is initialized, or while the submission queue is
/// full, wait in the host.
#[derive(Debug)]
pub struct Host {
    config: Config,
    /// How it behaves. May be changed at any time.
    pub conduct: Conduct,
    initialized: Option<Initialized>,
    /// Queue and controller, once Connect succeeded.
    connected: Option<(u16, u16)>,
    connecting: Option<(Cid, Connecting)>,
    /// What the last Connect asked for.
    queue: Connecting,
    now: Duration,
    next_cid: Cid,
    waiting: VecDeque<(Cid, Command, Duration)>,
    in_flight: BTreeMap<Cid, InFlight>,
    outgoing: Vec<u8>,
    /// Bytes of `outgoing` that were sent.
    sent: usize,
    incoming: Vec<u8>,
    pdus: VecDeque<Pdu>,
    completions: VecDeque<Completion>,
    faults: VecDeque<Fault>,
    /// [`Fault::Cut`] happened: nothing is sent any more.
    is_cut: bool,
    /// Capsules sent, and entries of them that the controller has fetched.
    capsules: u64,
    fetched: u64,
    /// Capsules went out that the host knows nothing of: SQHD cannot be checked.
    has_raw: bool,
    keep_alive: Option<Cid>,
    last_keep_alive: Duration,
    /// CSTS.RDY was seen: Admin commands may be given (NVMe base 2.0, 3.5.1).
    is_ready: bool,
    violation: Option<Violation>,
}

impl Host {
    /// A host on a new connection. It says nothing before [`Host::initialize`].
    pub fn new(config: Config) -> Self {
        Self {
            config,
            conduct: Conduct::default(),
            initialized: None,
            connected: None,
            connecting: None,
            queue: Connecting::default(),
            now: Duration::ZERO,
            next_cid: 1,
            waiting: VecDeque::new(),
            in_flight: BTreeMap::new(),
            outgoing: Vec::new(),
            sent: 0,
            incoming: Vec::new(),
            pdus: VecDeque::new(),
            completions: VecDeque::new(),
            faults: VecDeque::new(),
            is_cut: false,
            capsules: 0,
            fetched: 0,
            has_raw: false,
            keep_alive: None,
            last_keep_alive: Duration::ZERO,
            is_ready: false,
            violation: None,
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sends an ICReq.
    pub fn initialize(&mut self) {
        let request = pdu::ic_req(&self.config.format, self.config.max_r2t);
        self.append(|_, out| out.extend_from_slice(&request));
    }

    /// Sends Connect, once the connection is initialized: this will be queue `qid` of
    /// controller `cntlid`, which is FFFFh for an Admin Queue.
    pub fn connect(&mut self, qid: u16, cntlid: u16) -> Cid {
        let config = &self.config;
        let kato = match qid {
            0 => config.keep_alive.as_millis() as u32,
            _ => 0,
        };
        let data = command::connect_data(&config.host_id, cntlid, &config.subsystem, &config.host);
        let size = config.entries - 1;
        let connect = Command::connect(qid, size, config.no_flow_control, kato, data);
        self.command(connect)
    }

    /// What ICResp said, if it has come.
    pub fn initialized(&self) -> Option<Initialized> {
        self.initialized
    }

    /// Which queue it is, after a Connect that succeeded.
    pub fn qid(&self) -> Option<u16> {
        self.connected.map(|(qid, _)| qid)
    }

    /// Which controller it is connected to.
    pub fn cntlid(&self) -> Option<u16> {
        self.connected.map(|(_, cntlid)| cntlid)
    }

    /// Sends `command` as soon as it may. Its completion has the CID that is returned.
    #[track_caller]
    pub fn command(&mut self, command: Command) -> Cid {
        let cid = self.take_cid();
        self.waiting.push_back((cid, command, self.now));
        self.send_waiting();
        cid
    }

    /// A CID for a capsule that the caller builds, and no completion is expected for.
    pub fn take_cid(&mut self) -> Cid {
        let in_use =
            |cid| self.in_flight.contains_key(&cid) || self.waiting.iter().any(|(c, ..)| *c == cid);
        // FFFFh is no CID (base, 3.3.3.1).
        let next = |cid: Cid| if cid >= 0xfffe { 0 } else { cid + 1 };
        let mut cid = self.next_cid;
        while in_use(cid) {
            cid = next(cid);
            assert_ne!(cid, self.next_cid, "no CID is free");
        }
        self.next_cid = next(cid);
        cid
    }

    /// The next command's CID, unless it is still in use.
    pub fn next_cid(&self) -> Cid {
        self.next_cid
    }

    /// Expects a completion of `command`, whose capsule the caller sends by [`Host::send`];
    /// its bytes, and its CID.
    pub fn capsule(&mut self, command: Command) -> (Cid, Vec<u8>) {
        let cid = self.take_cid();
        let mut capsule = Vec::new();
        self.encode(cid, &command, &mut capsule);
        self.note(cid, command, self.now);
        (cid, capsule)
    }

    /// How many commands the submission queue takes now.
    pub fn room(&self) -> usize {
        let most = usize::from(self.config.entries) - 1;
        most.saturating_sub(self.outstanding())
    }

    /// Commands that were given to the host and have not ended.
    pub fn outstanding(&self) -> usize {
        self.in_flight.len() + self.waiting.len()
    }

    /// Commands that were sent and have not ended, by CID.
    pub fn in_flight(&self) -> impl Iterator<Item = (Cid, &Command)> {
        self.in_flight.iter().map(|(cid, one)| (*cid, &one.command))
    }

    /// The data that came so far for a command under way.
    pub fn received(&self, cid: Cid) -> Option<&[u8]> {
        self.in_flight.get(&cid).map(|one| &one.data[..])
    }

    /// The connection is gone: takes what has not ended, the oldest CID first. What became of
    /// these commands is unknown; those that were never sent were not executed.
    pub fn take_outstanding(&mut self) -> Vec<Lost> {
        let sent = std::mem::take(&mut self.in_flight).into_iter();
        let sent = sent.map(|(cid, one)| Lost {
            cid,
            command: one.command,
            submitted: one.submitted,
            was_sent: true,
        });
        let waiting = self.waiting.drain(..);
        let waiting = waiting.map(|(cid, command, submitted)| Lost {
            cid,
            command,
            submitted,
            was_sent: false,
        });
        sent.chain(waiting).collect()
    }

    /// The next command that ended.
    pub fn next_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    /// The next PDU that the host did not serve: a C2HTermReq; an R2T for a command whose data
    /// the caller withholds; all of them, if [`Conduct::manual`] says so.
    pub fn next_pdu(&mut self) -> Option<Pdu> {
        self.pdus.pop_front()
    }

    /// The PDUs that [`Host::next_pdu`] gives.
    pub fn pdus(&mut self) -> &mut VecDeque<Pdu> {
        &mut self.pdus
    }

    /// Tells the time, from any beginning on; it does not go back. Sends a Keep Alive command
    /// if one is due.
    pub fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.next_deadline().is_some_and(|due| due <= self.now) {
            self.last_keep_alive = self.now;
            self.keep_alive = Some(self.command(Command::keep_alive()));
        }
    }

    /// The controller is ready: Keep Alive commands are given from now on.
    pub fn set_ready(&mut self) {
        self.is_ready = true;
        self.last_keep_alive = self.now;
    }

    /// When [`Host::advance`] has something to do.
    pub fn next_deadline(&self) -> Option<Duration> {
        let is_due =
            self.is_ready && !self.config.keep_alive.is_zero() && self.keep_alive.is_none();
        is_due.then(|| self.last_keep_alive + self.config.keep_alive / 2)
    }

    /// Bytes for the stream, of which any number may be [`Host::consume`]d.
    pub fn outgoing(&self) -> &[u8] {
        let bytes = &self.outgoing[self.sent..];
        if self.conduct.stalled {
            return &[];
        }
        &bytes[..bytes.len().min(self.conduct.trickle.unwrap_or(usize::MAX))]
    }

    /// The first `n` bytes of [`Host::outgoing`] were sent.
    pub fn consume(&mut self, n: usize) {
        self.sent += n;
        assert!(self.sent <= self.outgoing.len(), "more than there is");
        if self.sent == self.outgoing.len() || self.sent > 1 << 16 {
            self.outgoing.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Moves at most `room` bytes for the stream to `out`; how many.
    pub fn transmit(&mut self, out: &mut Vec<u8>, room: usize) -> usize {
        let bytes = self.outgoing();
        let n = bytes.len().min(room);
        out.extend_from_slice(&bytes[..n]);
        self.consume(n);
        n
    }

    /// Whether it reads what comes; if not, the stream is to be left alone.
    pub fn is_reading(&self) -> bool {
        !self.conduct.deaf
    }

    /// Takes bytes of the stream, and serves the PDUs that are whole.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if let Some(violation) = &self.violation {
            return Err(violation.clone());
        }
        self.incoming.extend_from_slice(bytes);
        let incoming = std::mem::take(&mut self.incoming);
        let mut at = 0;
        let result = self.receive_from(&incoming, &mut at);
        self.incoming = incoming;
        self.incoming.drain(..at);
        if let Err(violation) = &result {
            self.violation = Some(violation.clone());
        }
        result
    }

    fn receive_from(&mut self, incoming: &[u8], at: &mut usize) -> Result<(), Violation> {
        loop {
            let format = self.format();
            let Some((pdu, len)) = pdu::read(&incoming[*at..], &format)? else {
                return Ok(());
            };
            *at += len;
            if !self.conduct.manual {
                self.serve(pdu)?;
                continue;
            }
            if matches!(pdu, Pdu::IcResp { .. }) {
                self.serve(pdu.clone())?;
            }
            self.pdus.push_back(pdu);
        }
    }

    /// The format of PDUs: as agreed, or as it will be if the controller agrees.
    pub fn format(&self) -> Format {
        self.initialized
            .map_or(self.config.format, |agreed| agreed.format)
    }

    /// The most data that one H2CData may have.
    pub fn h2c_bytes(&self) -> usize {
        let max = self.initialized.map_or(4096, |agreed| agreed.h2c_max);
        self.config.h2c_bytes.min(max as usize)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.has_raw = true;
        self.outgoing.extend_from_slice(bytes);
    }

    /// Sends `fault` instead of the next PDU that can have it.
    pub fn misbehave(&mut self, fault: Fault) {
        self.faults.push_back(fault);
    }

    /// Forgets the faults that no PDU had yet.
    pub fn behave(&mut self) {
        self.faults.clear();
    }

    fn append(&mut self, write: impl FnOnce(&Self, &mut Vec<u8>)) {
        let mut out = std::mem::take(&mut self.outgoing);
        let start = out.len();
        write(self, &mut out);
        self.outgoing = out;
        self.spoil(start);
    }

    fn encode(&self, cid: Cid, command: &Command, out: &mut Vec<u8>) {
        let mut sqe = command.sqe;
        sqe[2..4].copy_from_slice(&cid.to_le_bytes());
        let data: &[u8] = match &command.payload {
            Payload::Capsule(data) => data,
            _ => &[],
        };
        self.format().capsule(out, &sqe, data);
    }

    fn note(&mut self, cid: Cid, command: Command, submitted: Duration) {
        if let Some(connecting) = Connecting::of(&command.sqe) {
            self.connecting = Some((cid, connecting));
        }
        self.capsules += 1;
        self.in_flight.insert(
            cid,
            InFlight {
                command,
                submitted,
                data: Vec::new(),
                is_whole: false,
                asked: 0,
            },
        );
    }

    /// Sends commands that wait, as far as the queue has room.
    fn send_waiting(&mut self) {
        let most = usize::from(self.config.entries) - 1;
        while self.initialized.is_some()
            && (self.in_flight.len() < most || self.conduct.overrun)
            && let Some((cid, command, submitted)) = self.waiting.pop_front()
        {
            self.append(|host, out| host.encode(cid, &command, out));
            self.note(cid, command, submitted);
        }
    }
}

/// A command that had not ended when its connection did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its CID.
    pub cid: Cid,
    /// The command, with its data.
    pub command: Command,
    /// When it was given to the host.
    pub submitted: Duration,
    /// Whether any of it may have been sent.
    pub was_sent: bool,
}
