//! The connections of one controller: its Admin Queue, and I/O queues.
//!
//! Source: base specification 2.0, sections 3.5.1 (initialization) and 3.6.2 (shutdown), as
//! for controllers over Fabrics.

use std::fmt;
use std::time::Duration;

use crate::command::{CC_ENABLED, CC_SHN_NORMAL, Command, property};
use crate::host::{Completion, Config, Host, Status};

/// Feature: Number of Queues.
const NUMBER_OF_QUEUES: u8 = 0x07;
/// Identify: the controller.
const CNS_CONTROLLER: u8 = 0x01;
/// CSTS: ready; the state of a shutdown.
const CSTS_RDY: u64 = 1;
const CSTS_SHST: u64 = 0b11 << 2;
const CSTS_SHST_COMPLETE: u64 = 0b10 << 2;

/// How a host proves on a queue who it is, to controllers that want it to: a transaction of DH-HMAC-CHAP.
pub trait Prove: fmt::Debug {
    /// The first message.
    fn begin(&mut self) -> Vec<u8>;

    /// What comes after a message of the controller.
    fn next(&mut self, message: &[u8]) -> Proof;
}

/// What a proof comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A message, to which there will be an answer.
    Send(Vec<u8>),
    /// The last one.
    SendLast(Vec<u8>),
    /// The controller is content.
    Done,
    /// It is not, or the host is not: why.
    Failed(String),
}

/// AUTHREQ in the response to Connect, ATR: the host is to prove who it is (base, section 6.3).
const AUTHENTICATION_REQUIRED: u64 = 1 << 17;
/// Room for a message.
const MESSAGE_LEN: usize = 4096;

/// Makes a proof, for each queue.
pub type Prover = Box<dyn FnMut() -> Box<dyn Prove>>;

/// The proof of a queue, while it is not connected and done.
#[derive(Debug)]
struct Proving {
    proof: Box<dyn Prove>,
    /// A message is being received.
    is_receiving: bool,
    is_last: bool,
}

/// A controller's Admin Queue and its I/O queues, each a [`Host`] on a connection of its own.
///
/// Connection 0 is the Admin Queue, connection `n` is I/O queue `n`. After bytes came for any
/// of them, or time went by, [`Association::drive`] goes on with what connecting takes; until
/// it is ready it takes the completions, and leaves them to the caller afterwards.
pub struct Association {
    config: Config,
    queues: u16,
    hosts: Vec<Host>,
    step: Step,
    controller: Controller,
    prover: Option<Prover>,
    /// By connection.
    proving: Vec<Option<Proving>>,
    /// Queues that were connected without a proof, though it can give one.
    unasked: usize,
}

/// What a controller says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// CNTLID.
    pub cntlid: u16,
    /// The property CAP.
    pub capabilities: u64,
    /// The most bytes of one command's data, from MDTS; 0: no limit.
    pub max_transfer: usize,
    /// The most data in an I/O command's capsule, from IOCCSZ.
    pub in_capsule: usize,
    /// VWC bit 0: it has a volatile write cache.
    pub has_volatile_write_cache: bool,
    /// I/O queues that it allows.
    pub queues: u16,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Capabilities,
    Enable,
    Ready,
    Identify,
    Queues,
    ConnectQueues,
    InUse,
    Shutdown,
    ShutdownStatus,
    ShutDown,
}

/// A step of connecting that the controller refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setback {
    /// Which step, in words.
    pub step: String,
    /// What it answered.
    pub status: Status,
}

impl Association {
    /// Begins to connect, with `queues` I/O queues. Bytes of connection 0 may be sent.
    pub fn new(config: Config, queues: u16) -> Self {
        let mut admin = Host::new(Config {
            entries: 32,
            ..config.clone()
        });
        admin.initialize();
        admin.connect(0, 0xffff);
        Self {
            config,
            queues,
            hosts: vec![admin],
            step: Step::Connect,
            controller: Controller::default(),
            prover: None,
            proving: vec![None],
            unasked: 0,
        }
    }

    /// Proves on each queue who it is, if the controller wants it to.
    pub fn with_prover(mut self, prover: Prover) -> Self {
        self.prover = Some(prover);
        self
    }

    /// Queues that the controller has let in without a proof, though there is one.
    pub fn unasked(&self) -> usize {
        self.unasked
    }

    /// How many connections there should be now: the Admin Queue's first, and those of the
    /// I/O queues once the controller is enabled.
    pub fn connections(&self) -> usize {
        self.hosts.len()
    }

    /// The host on a connection.
    pub fn host(&mut self, connection: usize) -> &mut Host {
        &mut self.hosts[connection]
    }

    /// The Admin Queue.
    pub fn admin(&mut self) -> &mut Host {
        &mut self.hosts[0]
    }

    /// Every host, by connection.
    pub fn hosts(&mut self) -> &mut [Host] {
        &mut self.hosts
    }

    /// All queues are connected.
    pub fn is_ready(&self) -> bool {
        self.step == Step::InUse
    }

    /// A shutdown is complete.
    pub fn is_shut_down(&self) -> bool {
        self.step == Step::ShutDown
    }

    /// What the controller says of itself, as far as it was asked.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// Begins a normal shutdown: what is in volatile write caches becomes stable. The caller
    /// has taken the completions of the Admin Queue before.
    pub fn shut_down(&mut self) {
        assert_eq!(self.step, Step::InUse, "not connected");
        self.step = Step::Shutdown;
        let value = CC_ENABLED | CC_SHN_NORMAL;
        self.hosts[0].command(Command::property_set(property::CC, value));
    }

    /// Lets time pass, and goes on as far as answers have come.
    pub fn drive(&mut self, now: Duration) -> Result<(), Setback> {
        for host in &mut self.hosts {
            host.advance(now);
        }
        while !matches!(
            self.step,
            Step::InUse | Step::ShutDown | Step::ConnectQueues
        ) {
            let Some(completion) = self.hosts[0].next_completion() else {
                return Ok(());
            };
            if let Some(completion) = self.prove(0, completion)? {
                self.next(completion)?;
            }
        }
        if self.step == Step::ConnectQueues {
            for queue in 1..self.hosts.len() {
                if let Some(completion) = self.hosts[queue].next_completion() {
                    succeeded(&format!("Connect of queue {queue}"), &completion)?;
                    self.prove(queue, completion)?;
                }
            }
            let is_proving = self.proving.iter().any(Option::is_some);
            if !is_proving && self.hosts.iter().all(|host| host.qid().is_some()) {
                self.step = Step::InUse;
            }
        }
        Ok(())
    }

    /// Goes on with a proof, if the controller wants one; the completion is given back if that was its Connect and it wants
    /// none, or is done with it.
    fn prove(
        &mut self,
        queue: usize,
        completion: Completion,
    ) -> Result<Option<Completion>, Setback> {
        let Some(proving) = &mut self.proving[queue] else {
            let is_connect = self.step == Step::Connect || queue > 0;
            let is_asked = is_connect && completion.result & AUTHENTICATION_REQUIRED != 0;
            if is_connect && !is_asked && self.prover.is_some() {
                self.unasked += 1;
            }
            let Some(prover) = self.prover.as_mut().filter(|_| is_asked) else {
                return Ok(Some(completion));
            };
            succeeded("Connect", &completion)?;
            let mut proof = prover();
            self.hosts[queue].command(Command::authentication_send(proof.begin()));
            self.proving[queue] = Some(Proving {
                proof,
                is_receiving: false,
                is_last: false,
            });
            return Ok(None);
        };
        succeeded("an authentication command", &completion)?;
        if proving.is_last {
            self.proving[queue] = None;
            return Ok(Some(completion));
        }
        if !std::mem::replace(&mut proving.is_receiving, true) {
            self.hosts[queue].command(Command::authentication_receive(MESSAGE_LEN));
            return Ok(None);
        }
        proving.is_receiving = false;
        let message = match proving.proof.next(&completion.data) {
            Proof::Send(message) => message,
            Proof::SendLast(message) => {
                proving.is_last = true;
                message
            }
            Proof::Done => {
                self.proving[queue] = None;
                return Ok(Some(completion));
            }
            Proof::Failed(why) => {
                let step = format!("the proof of queue {queue}: {why}");
                return Err(Setback { step, status: 0 });
            }
        };
        self.hosts[queue].command(Command::authentication_send(message));
        Ok(None)
    }

    fn next(&mut self, completion: Completion) -> Result<(), Setback> {
        succeeded(&format!("{:?}", self.step), &completion)?;
        let admin = &mut self.hosts[0];
        self.step = match self.step {
            Step::Connect => {
                self.controller.cntlid = admin.cntlid().expect("connected");
                admin.command(Command::property_get(property::CAP, true));
                Step::Capabilities
            }
            Step::Capabilities => {
                self.controller.capabilities = completion.result;
                admin.command(Command::property_set(property::CC, CC_ENABLED));
                Step::Enable
            }
            Step::Enable => {
                admin.command(Command::property_get(property::CSTS, false));
                Step::Ready
            }
            Step::Ready if completion.result & CSTS_RDY == 0 => {
                admin.command(Command::property_get(property::CSTS, false));
                Step::Ready
            }
            Step::Ready => {
                admin.set_ready();
                admin.command(Command::identify(CNS_CONTROLLER, 0));
                Step::Identify
            }
            Step::Identify => {
                self.controller.identify(&completion.data);
                // Numbers of queues are less one; submission and completion queues alike.
                let wanted = u32::from(self.queues.max(1) - 1);
                let wanted = wanted | wanted << 16;
                admin.command(Command::set_features(NUMBER_OF_QUEUES, wanted));
                Step::Queues
            }
            Step::Queues => {
                let allowed = (completion.result & 0xffff).min(completion.result >> 16 & 0xffff);
                self.controller.queues = (allowed as u16).saturating_add(1);
                self.connect_queues();
                Step::ConnectQueues
            }
            Step::Shutdown => {
                admin.command(Command::property_get(property::CSTS, false));
                Step::ShutdownStatus
            }
            Step::ShutdownStatus if completion.result & CSTS_SHST != CSTS_SHST_COMPLETE => {
                admin.command(Command::property_get(property::CSTS, false));
                Step::ShutdownStatus
            }
            Step::ShutdownStatus => Step::ShutDown,
            Step::ConnectQueues | Step::InUse | Step::ShutDown => unreachable!("nothing is asked"),
        };
        Ok(())
    }

    fn connect_queues(&mut self) {
        for qid in 1..=self.queues.min(self.controller.queues) {
            let mut host = Host::new(self.config.clone());
            host.initialize();
            host.connect(qid, self.controller.cntlid);
            self.hosts.push(host);
            self.proving.push(None);
        }
    }
}

impl Controller {
    /// Reads the Identify Controller data structure (base, figure 275).
    fn identify(&mut self, data: &[u8]) {
        let minimum_page = 4096 << (self.capabilities >> 48 & 0xf);
        self.max_transfer = match data[77] {
            0 => 0,
            mdts => minimum_page << mdts,
        };
        // IOCCSZ counts 16 bytes each, the entry's 64 bytes among them.
        let capsule = u32::from_le_bytes([data[1792], data[1793], data[1794], data[1795]]);
        self.in_capsule = (capsule as usize * 16).saturating_sub(64);
        self.has_volatile_write_cache = data[525] & 1 != 0;
    }
}

fn succeeded(step: &str, completion: &Completion) -> Result<(), Setback> {
    match completion.status {
        0 => Ok(()),
        status => Err(Setback {
            step: step.into(),
            status,
        }),
    }
}

impl fmt::Display for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: status {:#06x}", self.step, self.status)
    }
}

impl std::error::Error for Setback {}

impl fmt::Debug for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Association")
            .field("step", &self.step)
            .field("controller", &self.controller)
            .field("proving", &self.proving)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}
