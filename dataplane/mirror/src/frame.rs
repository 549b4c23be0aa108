//! Headers of frames (row R2).

use std::fmt;

use mutant::mutant;

use crate::VERSION;
use crate::bytes::{put, u32_at, u64_at};
use crate::key::Keyed;

/// Bytes of a header.
pub const HEADER: usize = 64;
/// Bytes of a frame's parameters at most.
pub const PARAMETERS_MAX: usize = 4096;
/// Bytes of a frame's payload at most: 4 MiB.
pub const PAYLOAD_MAX: usize = 4 << 20;
/// Bytes of a message's payload at most, in all of its frames: 64 MiB.
pub const MESSAGE_MAX: usize = 64 << 20;

const MAGIC: [u8; 4] = *b"TLMP";
/// What the keyed checksum covers.
const KEYED: usize = 52;
const CHECKSUM: usize = 60;
/// Flag: more frames of the message follow.
const MORE: u8 = 1;

/// What a frame is for: the field *command or message* of row R2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command(pub u8);

impl Command {
    /// Who one is, and what one knows of the other; the first frame each way.
    pub const HELLO: Self = Self(1);
    /// That one has the pair's key; the second frame each way.
    pub const PROOF: Self = Self(2);
    /// Nothing else was to be said for a while.
    pub const ALIVE: Self = Self(3);
    /// A message was executed (row R5).
    pub const ACKNOWLEDGE: Self = Self(4);
    /// A message could not be (row R5).
    pub const ERROR: Self = Self(5);
    /// An error has arrived (row R5).
    pub const ACKNOWLEDGE_ERROR: Self = Self(6);
    /// The first of those that ask for something: each is in sequence, and answered.
    pub const FIRST_REQUEST: Self = Self(16);

    /// Whether it asks for something.
    pub fn is_request(self) -> bool {
        self >= Self::FIRST_REQUEST
    }

    fn is_known(self) -> bool {
        (Self::HELLO..=Self::ACKNOWLEDGE_ERROR).contains(&self) || self.is_request()
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is for.
    pub command: Command,
    /// More frames of the same message follow.
    pub more: bool,
    /// The number that the receiver has given itself; 0 in a hello.
    pub target: u32,
    /// The number that the sender has given itself.
    pub initiator: u32,
    /// Which message it is of, or is an answer to; 0 if neither.
    pub message: u64,
    /// Its place among the frames that ask for something; 0 of others.
    pub sequence: u64,
    /// Bytes of parameters.
    pub parameters: u32,
    /// Bytes of payload.
    pub payload: u32,
    /// Bytes of payload of the whole message.
    pub message_payload: u32,
    /// CRC32C of the parameters.
    pub parameters_crc: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// They do not begin as one.
    Magic,
    /// It is of another version of the protocol.
    Version(u8),
    /// Its checksum is not its own.
    Checksum,
    /// Its keyed checksum is not that of the session's next frame.
    Key,
    /// A command that this version does not have.
    Command(u8),
    /// A field that cannot be.
    Field(&'static str),
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("no frame begins here"),
            Self::Version(version) => write!(
                f,
                "a frame of version {version} of the mirror protocol, of which this program has version {VERSION}"
            ),
            Self::Checksum => f.write_str("a header whose checksum is wrong"),
            Self::Key => f.write_str(
                "a header that was not made with the session's key, or not for this place",
            ),
            Self::Command(command) => write!(f, "command {command}, which is not known"),
            Self::Field(field) => write!(f, "a header in which {field}"),
        }
    }
}

impl std::error::Error for BadHeader {}

impl Header {
    /// Of a frame that asks for nothing, from `initiator` to `target`.
    pub(crate) fn of_answer(
        command: Command,
        [initiator, target]: [u32; 2],
        message: u64,
        parameters: &[u8],
    ) -> Self {
        Self {
            command,
            more: false,
            target,
            initiator,
            message,
            sequence: 0,
            parameters: parameters.len() as u32,
            payload: 0,
            message_payload: 0,
            parameters_crc: checksum::crc32c(parameters),
            payload_crc: 0,
        }
    }

    /// As bytes, for the next frame of a session; without `keyed`, of its first two.
    pub fn encode(&self, keyed: Option<&mut Keyed>) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        put(&mut bytes, 0, &MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.command.0;
        bytes[6] = if self.more { MORE } else { 0 };
        put(&mut bytes, 8, &self.target.to_le_bytes());
        put(&mut bytes, 12, &self.initiator.to_le_bytes());
        put(&mut bytes, 16, &self.message.to_le_bytes());
        put(&mut bytes, 24, &self.sequence.to_le_bytes());
        put(&mut bytes, 32, &self.parameters.to_le_bytes());
        put(&mut bytes, 36, &self.payload.to_le_bytes());
        put(&mut bytes, 40, &self.message_payload.to_le_bytes());
        put(&mut bytes, 44, &self.parameters_crc.to_le_bytes());
        put(&mut bytes, 48, &self.payload_crc.to_le_bytes());
        if let Some(keyed) = keyed {
            let checksum = keyed.next(&bytes[..KEYED]);
            put(&mut bytes, KEYED, &checksum.to_le_bytes());
        }
        let crc = checksum::crc32c(&bytes);
        put(&mut bytes, CHECKSUM, &crc.to_le_bytes());
        bytes
    }

    /// Reads the next frame's header of a session; without `keyed`, one of its first two.
    ///
    /// # Errors
    /// [`BadHeader`]: what comes next cannot be told apart, and the connection is of no use any more.
    pub fn decode(bytes: &[u8; HEADER], keyed: Option<&mut Keyed>) -> Result<Self, BadHeader> {
        if bytes[..4] != MAGIC {
            return Err(BadHeader::Magic);
        }
        if bytes[4] != VERSION {
            return Err(BadHeader::Version(bytes[4]));
        }
        if checksum::crc32c_stored_at(bytes, CHECKSUM) != u32_at(bytes, CHECKSUM) {
            return Err(BadHeader::Checksum);
        }
        let expected = keyed.map_or(0, |keyed| keyed.next(&bytes[..KEYED]));
        if u64_at(bytes, KEYED) != expected && !mutant!("mirror-keyless") {
            return Err(BadHeader::Key);
        }
        let header = Self {
            command: Command(bytes[5]),
            more: bytes[6] & MORE != 0,
            target: u32_at(bytes, 8),
            initiator: u32_at(bytes, 12),
            message: u64_at(bytes, 16),
            sequence: u64_at(bytes, 24),
            parameters: u32_at(bytes, 32),
            payload: u32_at(bytes, 36),
            message_payload: u32_at(bytes, 40),
            parameters_crc: u32_at(bytes, 44),
            payload_crc: u32_at(bytes, 48),
        };
        header.check(bytes[6] & !MORE == 0 && bytes[7] == 0)?;
        Ok(header)
    }

    fn check(&self, zeros: bool) -> Result<(), BadHeader> {
        let is_request = self.command.is_request();
        let bad = |field| Err(BadHeader::Field(field));
        match () {
            () if !self.command.is_known() => Err(BadHeader::Command(self.command.0)),
            () if !zeros => bad("a flag is not known"),
            () if self.initiator == 0 => bad("the initiator has no number"),
            () if is_request != (self.sequence > 0) => bad("the sequence does not fit the command"),
            () if is_request && self.message == 0 => bad("a request has no message ID"),
            () if !is_request && (self.payload > 0 || self.more) => bad("an answer has payload"),
            () if self.parameters as usize > PARAMETERS_MAX => bad("parameters are too long"),
            () if self.payload as usize > PAYLOAD_MAX => bad("payload is too long"),
            () if self.message_payload as usize > MESSAGE_MAX => bad("the message is too long"),
            () if self.payload > self.message_payload => bad("a frame is longer than its message"),
            () if self.more && self.payload == 0 => bad("a frame of several has no payload"),
            () => Ok(()),
        }
    }
}
