//! The start of a session: both say who they are, and prove that they have the pair's key. Nothing is served before.
//!
//! ```text
//! opener ──▶ hello        acceptor
//!        ◀── hello
//!        ──▶ proof
//!        ◀── proof
//! ```
//!
//! The acceptor proves nothing to one who has not. A greeting is not the link's yet: strangers who begin as many as they
//! like disturb no session.

use std::fmt;

use crate::bytes::{array, put, u16_at, u32_at, u64_at};
use crate::frame::{BadHeader, Command, HEADER, Header};
use crate::key::{Keyed, PROOF, PairKey, Side};
use crate::pair::nature;
use crate::parameters::{ErrorReply, Refusal};

/// Bytes of a hello's parameters.
pub(crate) const HELLO: usize = 80;

/// What an alert of TLS begins with (RFC 8446, 5.1).
const TLS_ALERT: [u8; 3] = [21, 3, 3];

/// A node, or the part of it that has a link of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is known by, for ever.
    pub id: [u8; 16],
    /// The part of the node that this is, where each shard has a link of its own.
    pub shard: u16,
}

/// What one side says of itself and of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) node: Node,
    /// The node that it wants to talk to.
    pub(crate) peer: [u8; 16],
    /// Names what it remembers of the messages of both; 0: nothing.
    pub(crate) history: u64,
    /// Its number in frames of this session.
    pub(crate) number: u32,
    /// Messages without an answer that it takes.
    pub(crate) window: u16,
    nonce: [u8; 32],
}

impl Hello {
    fn encode(&self) -> [u8; HELLO] {
        let mut bytes = [0; HELLO];
        put(&mut bytes, 0, &self.node.id);
        put(&mut bytes, 16, &self.peer);
        put(&mut bytes, 32, &self.history.to_le_bytes());
        put(&mut bytes, 40, &self.number.to_le_bytes());
        put(&mut bytes, 44, &self.window.to_le_bytes());
        put(&mut bytes, 46, &self.node.shard.to_le_bytes());
        put(&mut bytes, 48, &self.nonce);
        bytes
    }

    fn decode(bytes: &[u8; HELLO]) -> Self {
        Self {
            node: Node {
                id: array(bytes, 0),
                shard: u16_at(bytes, 46),
            },
            peer: array(bytes, 16),
            history: u64_at(bytes, 32),
            number: u32_at(bytes, 40),
            window: u16_at(bytes, 44),
            nonce: array(bytes, 48),
        }
    }
}

/// Why a greeting led to nothing: the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadGreeting {
    /// No frame.
    Header(BadHeader),
    /// A frame that is not the next one of a greeting.
    Unexpected(Command),
    /// A checksum of what a frame has is wrong.
    Checksum,
    /// It is not the node that is wanted, or it wants another one.
    Node([u8; 16]),
    /// It says what cannot be.
    Field(&'static str),
    /// It does not have the pair's key.
    Key,
    /// The acceptor has the lane at another of its shards: another connection may come in there.
    Elsewhere,
    /// The acceptor answers with an alert of TLS.
    WantsTls,
}

impl fmt::Display for BadGreeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(bad) => bad.fmt(f),
            Self::Unexpected(command) => {
                write!(f, "command {} in a greeting", command.0)
            }
            Self::Checksum => f.write_str("a greeting with a wrong checksum"),
            Self::Node(id) => {
                f.write_str("a greeting of, or for, node ")?;
                id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Field(field) => write!(f, "a greeting in which {field}"),
            Self::Key => {
                f.write_str("a peer without the pair's key: compare the key files of both nodes")
            }
            Self::Elsewhere => f.write_str("a connection at another shard than the lane's"),
            Self::WantsTls => f.write_str(
                "the other node's link is to be in TLS, and this one's is in the clear: write the same `tls` in [pair] of both nodes",
            ),
        }
    }
}

impl std::error::Error for BadGreeting {}

impl From<BadHeader> for BadGreeting {
    fn from(bad: BadHeader) -> Self {
        Self::Header(bad)
    }
}

/// A connection of which both sides have proved who they are.
#[derive(Debug)]
pub struct Session {
    pub(crate) mine: Hello,
    pub(crate) theirs: Hello,
    /// What both remember from now on has this name, if they do not remember the same so far.
    pub(crate) history: u64,
    pub(crate) sends: Keyed,
    pub(crate) receives: Keyed,
}

impl Session {
    /// The keyed checksums of what this side sends, for who makes frames without a [`Link`](crate::Link).
    pub fn keyed(&self) -> Keyed {
        self.sends.clone()
    }
}

enum Stage {
    /// The other one's hello is next.
    Hello,
    /// Its proof is next.
    Proof(Hello),
    Over,
}

/// Bytes that a greeting begins with, from which [`caller`] is known.
pub const OPENING: usize = HEADER + HELLO;

/// Who says that it has opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// It.
    pub node: Node,
    /// What it says to remember of messages of both, as [`Link::history`](crate::Link::history).
    pub history: u64,
    number: u32,
}

/// Who says that it has opened a connection that begins with these bytes: nothing is proved by it.
pub fn caller(bytes: &[u8; OPENING]) -> Caller {
    let hello = Hello::decode(&array(bytes, HEADER));
    Caller {
        node: hello.node,
        history: hello.history,
        number: hello.number,
    }
}

/// Tells a caller, in place of a hello, that its lane is at another shard; `number`: any but 0.
pub(crate) fn elsewhere(number: u32, caller: &Caller) -> Vec<u8> {
    let parameters = ErrorReply::Refused(Refusal {
        nature: nature::ELSEWHERE,
        text: String::new(),
    });
    let parameters = parameters.encode();
    let ends = [number, caller.number];
    let header = Header::of_answer(Command::ERROR, ends, 0, &parameters);
    [&header.encode(None)[..], &parameters].concat()
}

/// A connection that is no session yet.
pub struct Greeting {
    side: Side,
    mine: Hello,
    key: PairKey,
    stage: Stage,
    received: Vec<u8>,
    to_send: Vec<u8>,
}

impl Greeting {
    /// Of a connection that `side` of it is ours; `peer`: who it is to be with, `history`: as
    /// [`Link::history`](crate::Link::history) has it, `number`: any but 0, `nonce`: bytes that were never used before.
    pub fn new(
        side: Side,
        me: Node,
        peer: [u8; 16],
        history: u64,
        number: u32,
        nonce: [u8; 32],
        key: &PairKey,
    ) -> Self {
        let mine = Hello {
            node: me,
            peer,
            history,
            number,
            window: crate::WINDOW as u16,
            nonce,
        };
        let mut greeting = Self {
            side,
            mine,
            key: key.clone(),
            stage: Stage::Hello,
            received: Vec::with_capacity(HEADER + HELLO),
            to_send: Vec::new(),
        };
        if side == Side::Opener {
            greeting.say(Command::HELLO, 0, &mine.encode());
        }
        greeting
    }

    /// Bytes to be sent.
    pub fn transmit(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_send)
    }

    /// Takes what came; how much of it was of the greeting, and the session once there is one: what comes behind
    /// that is the session's. What is to be [sent](Greeting::transmit) is to be sent first.
    ///
    /// # Errors
    /// [`BadGreeting`].
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(usize, Option<Session>), BadGreeting> {
        let mut taken = 0;
        loop {
            let wanted = HEADER
                + match self.stage {
                    Stage::Hello => HELLO,
                    Stage::Proof(_) => PROOF,
                    Stage::Over => return Ok((taken, None)),
                };
            let n = (wanted - self.received.len()).min(bytes.len() - taken);
            self.received.extend_from_slice(&bytes[taken..taken + n]);
            taken += n;
            if self.side == Side::Opener && self.received.starts_with(&TLS_ALERT) {
                return Err(BadGreeting::WantsTls);
            }
            if self.received.len() >= HEADER {
                if self.is_turned_away() {
                    return Err(BadGreeting::Elsewhere);
                }
                // A stranger is told apart by the first bytes, not by what would have to come.
                self.header()?;
            }
            if self.received.len() < wanted {
                return Ok((taken, None));
            }
            let session = self.frame()?;
            self.received.clear();
            if session.is_some() {
                return Ok((taken, session));
            }
        }
    }

    /// Whether the acceptor's header is that of an [error](elsewhere), of which there is one.
    fn is_turned_away(&self) -> bool {
        let header = Header::decode(&array(&self.received, 0), None);
        let is_first = self.side == Side::Opener && matches!(self.stage, Stage::Hello);
        is_first && header.is_ok_and(|header| header.command == Command::ERROR)
    }

    fn header(&self) -> Result<Header, BadGreeting> {
        let header = Header::decode(&array(&self.received, 0), None)?;
        let (command, len) = match self.stage {
            Stage::Hello => (Command::HELLO, HELLO),
            _ => (Command::PROOF, PROOF),
        };
        if header.command != command || header.parameters as usize != len {
            return Err(BadGreeting::Unexpected(header.command));
        }
        Ok(header)
    }

    fn frame(&mut self) -> Result<Option<Session>, BadGreeting> {
        let header = self.header()?;
        let parameters = self.received.split_off(HEADER);
        if checksum::crc32c(&parameters) != header.parameters_crc {
            return Err(BadGreeting::Checksum);
        }
        match self.stage {
            Stage::Hello => {
                let hello = Hello::decode(&array(&parameters, 0));
                self.check(&hello, &header)?;
                match self.side {
                    Side::Opener => self.prove(&hello),
                    Side::Acceptor => {
                        let mine = self.mine.encode();
                        self.say(Command::HELLO, 0, &mine);
                    }
                }
                self.stage = Stage::Proof(hello);
                Ok(None)
            }
            Stage::Proof(hello) => {
                if header.initiator != hello.number || header.target != self.mine.number {
                    return Err(BadGreeting::Field("a number is not that of the hello"));
                }
                let hellos = self.hellos(&hello);
                let hellos = hellos.each_ref().map(|hello| &hello[..]);
                if !self.key.verify(self.side.other(), hellos, &parameters) {
                    return Err(BadGreeting::Key);
                }
                let session = Session {
                    mine: self.mine,
                    theirs: hello,
                    history: self.key.history(hellos),
                    sends: self.key.keyed(self.side, hellos),
                    receives: self.key.keyed(self.side.other(), hellos),
                };
                if self.side == Side::Acceptor {
                    self.prove(&hello);
                }
                self.stage = Stage::Over;
                Ok(Some(session))
            }
            Stage::Over => Ok(None),
        }
    }

    fn check(&self, hello: &Hello, header: &Header) -> Result<(), BadGreeting> {
        if hello.node.id != self.mine.peer {
            return Err(BadGreeting::Node(hello.node.id));
        }
        if hello.peer != self.mine.node.id {
            return Err(BadGreeting::Node(hello.peer));
        }
        let bad = |field| Err(BadGreeting::Field(field));
        match () {
            () if hello.node.shard != self.mine.node.shard => bad("the shard is another one"),
            () if hello.number == 0 || hello.number != header.initiator => bad("a number is wrong"),
            () if hello.window == 0 => bad("no message is taken"),
            () => Ok(()),
        }
    }

    /// The opener's, then the acceptor's.
    fn hellos(&self, theirs: &Hello) -> [[u8; HELLO]; 2] {
        match self.side {
            Side::Opener => [self.mine.encode(), theirs.encode()],
            Side::Acceptor => [theirs.encode(), self.mine.encode()],
        }
    }

    fn prove(&mut self, theirs: &Hello) {
        let hellos = self.hellos(theirs);
        let hellos = hellos.each_ref().map(|hello| &hello[..]);
        let proof = self.key.prove(self.side, hellos);
        self.say(Command::PROOF, theirs.number, &proof);
    }

    fn say(&mut self, command: Command, target: u32, parameters: &[u8]) {
        let ends = [self.mine.number, target];
        let header = Header::of_answer(command, ends, 0, parameters);
        self.to_send.extend(header.encode(None));
        self.to_send.extend(parameters);
    }
}
