//! Somebody without any key, who knows the names of hosts and hears what they say.

use auth::{Body, Message};
use net::ConnectionId;
use testkit::{Command, Completion, Config, Payload, Proof, Prove, Random, command};

use super::attempts::{Attempts, opened};
use super::network::Network;
use crate::appliance::SUBSYSTEM;
use crate::clock::{self, MILLISECOND, Nanoseconds};
use crate::guard::{self, GuardPlan};
use crate::oracle::Violation;
use crate::plan::host_nqn;

/// A stranger, with as many attempts under way as it likes.
pub(super) struct Stranger {
    guard: GuardPlan,
    random: Random,
    attempts: Attempts<Attempt>,
}

/// What it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trick {
    /// It goes on as if nothing had been asked of it.
    Ignore,
    /// It connects an I/O queue to a controller of somebody else's, and writes.
    IoQueue,
    /// It has some other key.
    WrongKey,
    /// It says again what a host has said.
    Replay,
    /// It says anything.
    Garbage,
    /// It begins, and does not go on.
    Half,
}

struct Attempt {
    trick: Trick,
    id: ConnectionId,
    is_open: bool,
    host: testkit::Host,
    proof: Box<dyn Prove>,
    /// Messages that it is to say again.
    heard: Vec<Vec<u8>>,
    state: State,
    until: Nanoseconds,
}

/// What an attempt waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connect,
    Sent,
    Received,
    /// A command that must not succeed.
    Forbidden,
    /// Nothing.
    Silent,
    Over,
}

impl Stranger {
    pub(super) fn new(guard: &GuardPlan, random: Random) -> Self {
        Self {
            guard: guard.clone(),
            random,
            attempts: Attempts::new(),
        }
    }

    /// It tries no more.
    pub(super) fn tires(&mut self) {
        self.attempts.is_tired = true;
    }

    /// A turn; when the next one is due.
    pub(super) fn advance(&mut self, network: &mut Network) -> Result<Nanoseconds, Violation> {
        let now = clock::now();
        while let Some(event) = network.events.pop_front() {
            let Some((id, is_open)) = opened(&event) else {
                continue;
            };
            let attempt = self
                .attempts
                .list
                .iter_mut()
                .find(|attempt| attempt.id == id);
            if let Some(attempt) = attempt {
                match is_open {
                    true => attempt.is_open = true,
                    false => attempt.state = State::Over,
                }
            }
        }
        if self.attempts.begins(&mut self.random)
            && let Ok(id) = network.connect()
        {
            let attempt = self.begin(id);
            self.attempts.list.push(attempt);
        }
        for attempt in &mut self.attempts.list {
            while let Some(slice) = network.recv(attempt.id) {
                let received = attempt.host.receive(slice.bytes());
                received.map_err(|violation| Violation(format!("a stranger: {violation}")))?;
            }
            while let Some(completion) = attempt.host.next_completion() {
                attempt.next(completion, &mut self.random)?;
            }
            if attempt.is_open {
                let sent = network.send(attempt.id, attempt.host.outgoing());
                attempt.host.consume(sent);
            }
        }
        let is_over = |it: &Attempt| it.state == State::Over || it.until <= now;
        for attempt in self.attempts.take_over(is_over) {
            network.end(attempt.id, self.random.chance(1, 2));
        }
        Ok(self.attempts.next_turn())
    }

    fn begin(&mut self, id: ConnectionId) -> Attempt {
        let random = &mut self.random;
        let all = [
            Trick::Ignore,
            Trick::IoQueue,
            Trick::IoQueue,
            Trick::WrongKey,
            Trick::Replay,
            Trick::Replay,
            Trick::Garbage,
            Trick::Half,
        ];
        let trick = *random.pick(&all);
        // The first host is always there.
        let mut config = Config::new(SUBSYSTEM);
        config.host = host_nqn(0);
        config.host_id = [1; 16];
        let mut host = testkit::Host::new(config);
        host.initialize();
        let (qid, cntlid) = match trick {
            Trick::IoQueue => (random.range(1..=3u16), random.range(1..=12u16)),
            _ => (0, 0xffff),
        };
        host.connect(qid, cntlid);
        Attempt {
            trick,
            id,
            is_open: false,
            host,
            proof: self.guard.proof(0, 200, random),
            heard: guard::heard(),
            state: State::Connect,
            until: clock::now() + random.range(5..=200u64) * MILLISECOND,
        }
    }
}

impl Attempt {
    fn next(&mut self, completion: Completion, random: &mut Random) -> Result<(), Violation> {
        let succeeded = completion.status == 0;
        let state = self.state;
        match (state, succeeded) {
            (State::Forbidden, true) => {
                return Err(Violation(format!(
                    "a stranger's command succeeded: {:?}",
                    self.trick
                )));
            }
            (State::Silent, true) => {}
            (State::Over, _) | (_, false) => self.state = State::Over,
            (State::Connect, true) => self.connected(random),
            (State::Sent, true) => {
                self.host.command(Command::authentication_receive(4096));
                self.state = State::Received;
            }
            (State::Received, true) => self.received(&completion.data, random)?,
        }
        Ok(())
    }

    /// Connect was accepted, as it is of anybody who knows a name.
    fn connected(&mut self, random: &mut Random) {
        let message = match self.trick {
            Trick::Ignore => {
                let enable = command::CC_ENABLED;
                let command = Command::property_set(command::property::CC, enable);
                return self.forbidden(command);
            }
            Trick::IoQueue => {
                let data = Payload::Capsule(vec![0xee; 4096]);
                return self.forbidden(Command::write(1, 0, 1, data));
            }
            Trick::Garbage => garbage(random),
            Trick::Replay if !self.heard.is_empty() => self.heard.remove(0),
            _ => self.proof.begin(),
        };
        self.host.command(Command::authentication_send(message));
        self.state = match self.trick {
            // It stays, and says nothing more.
            Trick::Half => State::Silent,
            _ => State::Sent,
        };
    }

    fn forbidden(&mut self, command: Command) {
        self.host.command(command);
        self.state = State::Forbidden;
    }

    fn received(&mut self, message: &[u8], random: &mut Random) -> Result<(), Violation> {
        let body = Message::read(message).map(|message| message.body);
        if let Ok(Body::Success1 { .. }) = body {
            return Err(Violation(format!(
                "a stranger was taken for a host: {:?}",
                self.trick
            )));
        }
        let message = match self.trick {
            Trick::Replay if !self.heard.is_empty() => self.heard.remove(0),
            Trick::Garbage => garbage(random),
            _ => match self.proof.next(message) {
                Proof::Send(message) | Proof::SendLast(message) => message,
                Proof::Done | Proof::Failed(_) => {
                    self.state = State::Over;
                    return Ok(());
                }
            },
        };
        self.host.command(Command::authentication_send(message));
        self.state = State::Sent;
        Ok(())
    }
}

/// Something that looks like a message, more or less.
fn garbage(random: &mut Random) -> Vec<u8> {
    let len = random.range(1..=200usize);
    let mut bytes: Vec<u8> = (0..len).map(|_| random.word() as u8).collect();
    if random.chance(3, 4) {
        bytes[0] = random.below(2u64) as u8;
    }
    if random.chance(3, 4)
        && let Some(id) = bytes.get_mut(1)
    {
        *id = random.below(6u64) as u8;
    }
    bytes
}
