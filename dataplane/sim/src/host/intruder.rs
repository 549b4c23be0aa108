//! Somebody who tries to get past TLS: with keys of others, in the clear, by names that are not those of a key, and with
//! records that were tampered with.

use net::ConnectionId;
use testkit::{Command, Completion, Config, Random, command};

use super::attempts::{Attempts, opened};
use super::network::Network;
use crate::appliance::SUBSYSTEM;
use crate::clock::{self, MILLISECOND, Nanoseconds};
use crate::oracle::Violation;
use crate::plan::host_nqn;
use crate::secure::{GUEST, NOBODY, TlsPlan};

/// Somebody, with as many attempts under way as it likes.
pub(super) struct Intruder {
    tls: TlsPlan,
    random: Random,
    attempts: Attempts<Attempt>,
}

/// What it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trick {
    /// It offers a host's key, and has another one.
    WrongKey,
    /// It offers a key that nobody has.
    UnknownKey,
    /// It names a host that has a key, in the clear.
    InTheClear,
    /// It has the guest's key, and names another host.
    OtherName,
    /// It has a controller of the guest's, and connects an I/O queue of it in the clear.
    IoInTheClear,
    /// It has the guest's key; a record of its Connect is changed on its way.
    Tampered,
    /// It says half a ClientHello.
    Half,
    /// It says anything that begins as a handshake does.
    Garbage,
}

struct Attempt {
    trick: Trick,
    id: ConnectionId,
    is_open: bool,
    host: testkit::Host,
    /// Its I/O queue, if it tries to have one.
    io: Option<(ConnectionId, bool, testkit::Host)>,
    state: State,
    until: Nanoseconds,
}

/// What an attempt waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Connect, which must not succeed.
    Forbidden,
    /// Connect of the guest's.
    Connect,
    /// That its controller is enabled.
    Enable,
    /// An I/O queue in the clear, which must not succeed.
    Io,
    Silent,
    Over,
}

impl Intruder {
    pub(super) fn new(tls: &TlsPlan, random: Random) -> Self {
        Self {
            tls: tls.clone(),
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
            for attempt in &mut self.attempts.list {
                attempt.heard(id, is_open)?;
            }
        }
        if self.attempts.begins(&mut self.random) {
            self.begin(network);
        }
        for attempt in &mut self.attempts.list {
            attempt.advance(network, &mut self.random)?;
        }
        let is_over = |it: &Attempt| it.state == State::Over || it.until <= now;
        for attempt in self.attempts.take_over(is_over) {
            let io = attempt.io.as_ref().map(|(id, ..)| *id);
            for id in [Some(attempt.id), io].into_iter().flatten() {
                network.end(id, self.random.chance(1, 2));
            }
        }
        Ok(self.attempts.next_turn())
    }

    fn begin(&mut self, network: &mut Network) {
        let all = [
            Trick::WrongKey,
            Trick::UnknownKey,
            Trick::InTheClear,
            Trick::OtherName,
            Trick::IoInTheClear,
            Trick::IoInTheClear,
            Trick::Tampered,
            Trick::Half,
            Trick::Garbage,
        ];
        let trick = *self.random.pick(&all);
        let key = match trick {
            Trick::WrongKey => Some((0, NOBODY)),
            Trick::UnknownKey => Some((NOBODY, NOBODY)),
            Trick::InTheClear | Trick::Garbage => None,
            Trick::OtherName | Trick::IoInTheClear | Trick::Tampered => Some((GUEST, GUEST)),
            Trick::Half => Some((0, 0)),
        };
        network.set_key(key.map(|(host, with)| (self.tls.key(host, with), 0)));
        let Ok(id) = network.connect() else {
            return;
        };
        if let Some(channel) = network.channel(id) {
            channel.is_half = trick == Trick::Half;
        }
        let named = match trick {
            Trick::IoInTheClear | Trick::Tampered => GUEST,
            _ => 0,
        };
        let mut host = host(named);
        host.connect(0, 0xffff);
        let state = match trick {
            Trick::IoInTheClear => State::Connect,
            Trick::Half | Trick::Garbage => State::Silent,
            _ => State::Forbidden,
        };
        self.attempts.list.push(Attempt {
            trick,
            id,
            is_open: false,
            host,
            io: None,
            state,
            until: clock::now() + self.random.range(5..=200u64) * MILLISECOND,
        });
    }
}

/// One that has said ICReq, and names itself so.
fn host(named: usize) -> testkit::Host {
    let mut config = Config::new(SUBSYSTEM);
    config.host = host_nqn(named);
    config.host_id = [named as u8 + 1; 16];
    let mut host = testkit::Host::new(config);
    host.initialize();
    host
}

impl Attempt {
    /// Something became of a connection.
    fn heard(&mut self, id: ConnectionId, is_open: bool) -> Result<(), Violation> {
        if self.id == id {
            self.is_open = is_open;
            let has_no_key = matches!(self.trick, Trick::WrongKey | Trick::UnknownKey);
            if is_open && has_no_key {
                return Err(Violation(format!(
                    "a handshake succeeded: {:?}",
                    self.trick
                )));
            }
            if !is_open {
                self.state = State::Over;
            }
        }
        if let Some((io, io_is_open, _)) = &mut self.io
            && *io == id
        {
            *io_is_open = is_open;
            if !is_open {
                self.state = State::Over;
            }
        }
        Ok(())
    }

    fn advance(&mut self, network: &mut Network, random: &mut Random) -> Result<(), Violation> {
        let heard =
            |violation: &dyn std::fmt::Display| Violation(format!("an intruder: {violation}"));
        if self.trick == Trick::Garbage {
            if self.is_open {
                self.is_open = false;
                network.send(self.id, &garbage(random));
            }
            return Ok(());
        }
        while let Some(slice) = network.recv(self.id) {
            (self.host.receive(slice.bytes())).map_err(|violation| heard(&violation))?;
        }
        while let Some(completion) = self.host.next_completion() {
            self.next(&completion)?;
        }
        if self.state == State::Io && self.io.is_none() {
            network.set_key(None);
            if let Ok(id) = network.connect() {
                let mut io = host(GUEST);
                io.connect(1, self.host.cntlid().unwrap_or(0));
                self.io = Some((id, false, io));
            }
        }
        if self.is_open {
            if self.trick == Trick::Tampered
                && self.host.initialized().is_some()
                && let Some(channel) = network.channel(self.id)
            {
                channel.is_spoiling = true;
            }
            let sent = network.send(self.id, self.host.outgoing());
            self.host.consume(sent);
        }
        if let Some((id, is_open, io)) = &mut self.io {
            while let Some(slice) = network.recv(*id) {
                (io.receive(slice.bytes())).map_err(|violation| heard(&violation))?;
            }
            while let Some(completion) = io.next_completion() {
                if completion.status == 0 {
                    return Err(Violation(
                        "an I/O queue in the clear is one of an encrypted controller".into(),
                    ));
                }
                self.state = State::Over;
            }
            if *is_open {
                let sent = network.send(*id, io.outgoing());
                io.consume(sent);
            }
        }
        Ok(())
    }

    fn next(&mut self, completion: &Completion) -> Result<(), Violation> {
        let succeeded = completion.status == 0;
        self.state = match (self.state, succeeded) {
            (State::Forbidden, true) => {
                return Err(Violation(format!(
                    "an intruder was let in: {:?}",
                    self.trick
                )));
            }
            (State::Connect, true) => {
                let enable = command::CC_ENABLED;
                let command = Command::property_set(command::property::CC, enable);
                self.host.command(command);
                State::Enable
            }
            (State::Enable, true) => State::Io,
            (State::Io | State::Silent, true) => self.state,
            (_, false) | (State::Over, _) => State::Over,
        };
        Ok(())
    }
}

/// Something that looks like records of a handshake, more or less.
fn garbage(random: &mut Random) -> Vec<u8> {
    let len = random.range(1..=600usize);
    let mut bytes: Vec<u8> = (0..len).map(|_| random.word() as u8).collect();
    bytes[0] = tls::HANDSHAKE_CONTENT_TYPE;
    if random.chance(3, 4) && len > 5 {
        let said = random.below(len) as u16;
        bytes[1..3].copy_from_slice(&[3, 1]);
        bytes[3..5].copy_from_slice(&said.to_be_bytes());
    }
    bytes
}
