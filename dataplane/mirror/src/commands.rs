//! What messages ask for (row R3): commands and their parameters.
//!
//! A volume is named by the number that the *receiver* has given it in its own claim.

mod resize;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::bytes::{array, put, u16_at, u32_at, u64_at};
use crate::frame::{Command, PARAMETERS_MAX};
use crate::lanes::FRAME_BYTES;
use crate::record::GRANULE;
use crate::replica::{Generation, ReplicaId};
use crate::standing::{Claim, RecordClaim, Wholeness};

pub use resize::Resize;

impl Command {
    /// Changes of a volume: [`Changes`], and their data.
    pub const WRITE: Self = Self(16);
    /// What the sender knows of its replica: [`Meeting`].
    pub const CLAIM: Self = Self(17);
    /// What of the sender's replica may differ: [`Differing`], and a page of a record.
    pub const DIFFERING: Self = Self(18);
    /// All that may differ was said, and what is asked for from now on is executed: [`Ready`].
    pub const READY: Self = Self(19);
    /// A copy begins: [`Copying`].
    pub const COPY: Self = Self(20);
    /// The copy has ended, and both have the same: [`Copying`].
    pub const COPIED: Self = Self(21);
    /// The source is there: the destination does not take over for a while. [`Copying`].
    pub const RENEW: Self = Self(22);
    /// Whether the receiver has the same: [`Comparison`].
    pub const VERIFY: Self = Self(23);
    /// Whether the receiver is the source, and keeps what it has: the sender is about to give up what that has. [`Intent`].
    pub const DISCARD: Self = Self(24);
    /// What the sender's tables say, and what frames it takes: [`Meeting`]. It may be asked for the receiver's.
    pub const TABLES: Self = Self(25);
    /// What size the volume is to have: [`Resize`].
    pub const RESIZE: Self = Self(26);
    /// Whether the receiver has no data either: what the sender's device has is about to be the volume. [`Intent`].
    pub const ESTABLISH: Self = Self(27);
}

/// Changes in a message at most.
pub const CHANGES_MAX: usize = 32;

const CHANGES: usize = 32;
const CHANGE: usize = 24;
const MEETING: usize = 176;
/// Bytes of payload of a frame if nothing else is said.
const FRAME_MAX: u32 = *FRAME_BYTES.end();
const DIFFERING: usize = 16;
const READY: usize = 16;
const COPYING: usize = 40;
const COMPARISON: usize = 32;
const INTENT: usize = 16;

/// Parameters that are none of their command's: a peer that breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadParameters(pub &'static str);

impl fmt::Display for BadParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parameters in which {}", self.0)
    }
}

impl std::error::Error for BadParameters {}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChangeOp {
    /// The range has the next bytes of the payload.
    Write = 1,
    /// The range reads as zeros.
    WriteZeroes = 2,
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is done.
    pub op: ChangeOp,
    /// First byte of the volume.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Change {
    /// Bytes of payload.
    pub fn payload(&self) -> u64 {
        match self.op {
            ChangeOp::Write => self.len,
            ChangeOp::WriteZeroes => 0,
        }
    }
}

/// Parameters of [`Command::WRITE`].
///
/// | | bytes | |
/// | --- | --- | --- |
/// | 0 | 2 | volume |
/// | 2 | 2 | how many changes: 1 to 32 |
/// | 4 | 4 | 0 |
/// | 8 | 8 | ticket: that of the receiver's last *ready* |
/// | 16 | 8 | transfer: the first change's number; each has one more, and none is used again while the ticket lasts |
/// | 24 | 8 | stable: changes with lesser numbers, of this lane, are stable at the sender |
/// | 32 + 24·*i* | 24 | change *i*: 1: write, 2: write zeroes (1), zeros (7), first byte (8), bytes (8) |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The volume.
    pub volume: u16,
    /// What lets them in.
    pub ticket: u64,
    /// The first one's number.
    pub transfer: u64,
    /// Those before are stable at the source.
    pub stable: u64,
    /// They, in their order.
    pub changes: Vec<Change>,
}

impl Changes {
    /// As parameters.
    ///
    /// # Panics
    /// If there is none, or more than [`CHANGES_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        let count = self.changes.len();
        assert!((1..=CHANGES_MAX).contains(&count), "a message has changes");
        let mut bytes = vec![0; CHANGES + CHANGE * count];
        put(&mut bytes, 0, &self.volume.to_le_bytes());
        put(&mut bytes, 2, &(count as u16).to_le_bytes());
        put(&mut bytes, 8, &self.ticket.to_le_bytes());
        put(&mut bytes, 16, &self.transfer.to_le_bytes());
        put(&mut bytes, 24, &self.stable.to_le_bytes());
        for (change, at) in self.changes.iter().zip((CHANGES..).step_by(CHANGE)) {
            bytes[at] = change.op as u8;
            put(&mut bytes, at + 8, &change.offset.to_le_bytes());
            put(&mut bytes, at + 16, &change.len.to_le_bytes());
        }
        bytes
    }

    /// From parameters of a message with so many bytes of `payload`.
    ///
    /// # Errors
    /// [`BadParameters`].
    pub fn decode(bytes: &[u8], payload: usize) -> Result<Self, BadParameters> {
        if bytes.len() < CHANGES {
            return Err(BadParameters("something is missing"));
        }
        let count = usize::from(u16_at(bytes, 2));
        if !(1..=CHANGES_MAX).contains(&count) || bytes.len() != CHANGES + CHANGE * count {
            return Err(BadParameters("there are not as many changes as it says"));
        }
        let change = |bytes: &[u8]| {
            let op = match bytes[0] {
                1 => ChangeOp::Write,
                2 => ChangeOp::WriteZeroes,
                _ => return Err(BadParameters("a change is of no kind that is known")),
            };
            let (offset, len) = (u64_at(bytes, 8), u64_at(bytes, 16));
            if len == 0 || offset.checked_add(len).is_none() {
                return Err(BadParameters("a range is none"));
            }
            Ok(Change { op, offset, len })
        };
        let changes: Result<Vec<_>, _> = bytes[CHANGES..].chunks(CHANGE).map(change).collect();
        let write = Self {
            volume: u16_at(bytes, 0),
            ticket: u64_at(bytes, 8),
            transfer: u64_at(bytes, 16),
            stable: u64_at(bytes, 24),
            changes: changes?,
        };
        let sum = (write.changes.iter()).try_fold(0u64, |sum, c| sum.checked_add(c.payload()));
        if sum != Some(payload as u64) {
            return Err(BadParameters("the payload is not that of the changes"));
        }
        match write.encode() == bytes {
            true => Ok(write),
            false => Err(BadParameters("something stands where zeros are to be")),
        }
    }
}

/// Which of the two a node is for a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Hosts write to it.
    Source,
    /// It has what the other one has.
    Destination,
    /// It was the source, serves no host any more, and both have the same: the other one is to be the source.
    Yielding,
}

impl Role {
    /// What programs know it by.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Source => "source",
            Role::Destination => "destination",
            Role::Yielding => "yielding",
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Role::Source => 1,
            Role::Destination => 2,
            Role::Yielding => 3,
        }
    }

    pub(crate) fn of_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Role::Source),
            2 => Some(Role::Destination),
            3 => Some(Role::Yielding),
            _ => None,
        }
    }
}

/// Parameters of [`Command::CLAIM`], and of [`Command::TABLES`].
///
/// | | bytes | |
/// | --- | --- | --- |
/// | 0 | 16 | the volume, as both know it |
/// | 16 | 2 | the sender's number of it |
/// | 18 | 1 | role: 1, source; 2, destination; 3, a source that yields to the other one |
/// | 19 | 1 | 0: blank, 1: whole, 2: copying |
/// | 20 | 1 | 1: it has a record; else 0, and zeros in its fields |
/// | 21 | 1 | record: something of it was copied |
/// | 22 | 1 | 1: the log of the sender, a source, has failed, and it serves hosts no more |
/// | 23 | 1 | 1: the size is one that an operator has said, and not the device's; else 0 |
/// | 24 | 8 | bytes of the volume |
/// | 32 | 4 | bytes of a block |
/// | 36 | 4 | bytes of payload that frames to the sender are to have at most, from 4096 on; 0: 4 MiB |
/// | 40 | 16 | the replica |
/// | 56 | 16 | copying: of which replica; else zeros |
/// | 72 | 16 | generation: number, tag |
/// | 88 | 16 | record: the other replica |
/// | 104 | 32 | record: the two generations that that may have |
/// | 136 | 8 | record: granules |
/// | 144 | 8 | granules that may differ, apart from the record |
/// | 152 | 8 | meeting: a number of the sender's that it has not used before; what it says later of this meeting has it |
/// | 160 | 8 | the other one's meeting that this one answers; 0: none |
/// | 168 | 8 | when an operator severed the pair at the sender, a source: seconds since 1970; 0: none did |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// The volume's name on both nodes.
    pub volume: [u8; 16],
    /// The sender's number of it.
    pub number: u16,
    /// Its role there.
    pub role: Role,
    /// The size is not that of the sender's device.
    pub is_sized: bool,
    /// Bytes.
    pub len: u64,
    /// Bytes of a block.
    pub block: u32,
    /// Bytes of payload that frames to the sender are to have at most.
    pub frame: u32,
    /// What its replica knows.
    pub claim: Claim,
    /// Granules that may differ, apart from its record.
    pub differing: u64,
    /// The sender's number of this meeting.
    pub meeting: u64,
    /// The other one's, if it was heard.
    pub answers: u64,
    /// When an operator severed the pair at the sender; 0: none did.
    pub severed: u64,
    /// The sender's log has failed: it was the source, and serves hosts no more in this run.
    pub has_failed: bool,
}

impl Meeting {
    /// As parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; MEETING];
        let claim = &self.claim;
        put(&mut bytes, 0, &self.volume);
        put(&mut bytes, 16, &self.number.to_le_bytes());
        bytes[18] = self.role.code();
        bytes[19] = match claim.wholeness {
            Wholeness::Blank => 0,
            Wholeness::Whole => 1,
            Wholeness::Copying { from } => {
                put(&mut bytes, 56, &from.0);
                2
            }
        };
        bytes[22] = self.has_failed.into();
        bytes[23] = self.is_sized.into();
        put(&mut bytes, 24, &self.len.to_le_bytes());
        put(&mut bytes, 32, &self.block.to_le_bytes());
        let frame = if self.frame == FRAME_MAX {
            0
        } else {
            self.frame
        };
        put(&mut bytes, 36, &frame.to_le_bytes());
        put(&mut bytes, 40, &claim.replica.0);
        claim.generation.put(&mut bytes, 72);
        if let Some(record) = &claim.record {
            (bytes[20], bytes[21]) = (1, record.copies.into());
            put(&mut bytes, 88, &record.peer.0);
            record.common[0].put(&mut bytes, 104);
            record.common[1].put(&mut bytes, 120);
            put(&mut bytes, 136, &record.changed.to_le_bytes());
        }
        put(&mut bytes, 144, &self.differing.to_le_bytes());
        put(&mut bytes, 152, &self.meeting.to_le_bytes());
        put(&mut bytes, 160, &self.answers.to_le_bytes());
        put(&mut bytes, 168, &self.severed.to_le_bytes());
        bytes
    }

    /// From parameters.
    ///
    /// # Errors
    /// [`BadParameters`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadParameters> {
        if bytes.len() != MEETING {
            return Err(BadParameters("a claim is not as long as claims are"));
        }
        let wholeness = match bytes[19] {
            0 => Wholeness::Blank,
            1 => Wholeness::Whole,
            2 => Wholeness::Copying {
                from: ReplicaId(array(bytes, 56)),
            },
            _ => {
                return Err(BadParameters(
                    "a replica is neither blank, whole nor copying",
                ));
            }
        };
        let role = Role::of_code(bytes[18]);
        let role = role.ok_or(BadParameters("a node has no role"))?;
        let frame = match u32_at(bytes, 36) {
            0 => FRAME_MAX,
            frame if FRAME_BYTES.contains(&frame) => frame,
            _ => {
                return Err(BadParameters(
                    "frames are shorter or longer than frames are",
                ));
            }
        };
        let record = (bytes[20] == 1).then(|| RecordClaim {
            peer: ReplicaId(array(bytes, 88)),
            common: [Generation::at(bytes, 104), Generation::at(bytes, 120)],
            copies: bytes[21] == 1,
            changed: u64_at(bytes, 136),
        });
        let meeting = Self {
            volume: array(bytes, 0),
            number: u16_at(bytes, 16),
            role,
            is_sized: bytes[23] == 1,
            len: u64_at(bytes, 24),
            block: u32_at(bytes, 32),
            frame,
            claim: Claim {
                replica: ReplicaId(array(bytes, 40)),
                wholeness,
                generation: Generation::at(bytes, 72),
                record,
            },
            differing: u64_at(bytes, 144),
            meeting: u64_at(bytes, 152),
            answers: u64_at(bytes, 160),
            severed: u64_at(bytes, 168),
            has_failed: bytes[22] == 1,
        };
        if meeting.severed != 0 && role != Role::Source {
            return Err(BadParameters(
                "a pair is severed at a node that is not its source",
            ));
        }
        if meeting.has_failed && role != Role::Source {
            return Err(BadParameters("a node that is no source has failed as one"));
        }
        match meeting.encode() == bytes {
            true => Ok(meeting),
            false => Err(BadParameters("something stands where zeros are to be")),
        }
    }
}

/// Parameters of [`Command::DIFFERING`]; the payload is a [page of a record](crate::Changed::page), of the sender's
/// replica and number 0.
///
/// | | bytes | |
/// | --- | --- | --- |
/// | 0 | 2 | volume |
/// | 2 | 2 | 0 |
/// | 4 | 4 | the page's number |
/// | 8 | 8 | the receiver's meeting |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differing {
    /// The volume.
    pub volume: u16,
    /// Which page.
    pub page: u32,
    /// The receiver's meeting.
    pub meeting: u64,
}

impl Differing {
    /// As parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; DIFFERING];
        put(&mut bytes, 0, &self.volume.to_le_bytes());
        put(&mut bytes, 4, &self.page.to_le_bytes());
        put(&mut bytes, 8, &self.meeting.to_le_bytes());
        bytes
    }

    /// From parameters.
    ///
    /// # Errors
    /// [`BadParameters`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadParameters> {
        if bytes.len() != DIFFERING || u16_at(bytes, 2) != 0 {
            return Err(BadParameters("a page is not told as pages are"));
        }
        Ok(Self {
            volume: u16_at(bytes, 0),
            page: u32_at(bytes, 4),
            meeting: u64_at(bytes, 8),
        })
    }
}

/// Parameters of [`Command::READY`].
///
/// | | bytes | |
/// | --- | --- | --- |
/// | 0 | 2 | volume |
/// | 2 | 6 | 0 |
/// | 8 | 8 | the receiver's meeting |
/// | 16 | 8 | ticket: what [`Changes`] are let in by; not 0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The volume.
    pub volume: u16,
    /// The receiver's meeting.
    pub meeting: u64,
    /// What changes are let in by.
    pub ticket: u64,
}

impl Ready {
    /// As parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; READY + 8];
        put(&mut bytes, 0, &self.volume.to_le_bytes());
        put(&mut bytes, 8, &self.meeting.to_le_bytes());
        put(&mut bytes, 16, &self.ticket.to_le_bytes());
        bytes
    }

    /// From parameters.
    ///
    /// # Errors
    /// [`BadParameters`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadParameters> {
        if bytes.len() != READY + 8 || bytes[2..8] != [0; 6] || u64_at(bytes, 16) == 0 {
            return Err(BadParameters("a ticket is none"));
        }
        Ok(Self {
            volume: u16_at(bytes, 0),
            meeting: u64_at(bytes, 8),
            ticket: u64_at(bytes, 16),
        })
    }
}

/// Parameters of [`Command::COPY`] and [`Command::COPIED`].
///
/// | | bytes | |
/// | --- | --- | --- |
/// | 0 | 2 | volume |
/// | 2 | 1 | of a copy that begins: 1, what the receiver has is a state of the volume all the while; else 0 |
/// | 3 | 5 | 0 |
/// | 8 | 8 | ticket: that of the receiver's last *ready* |
/// | 16 | 16 | the sender's generation: number, tag |
/// | 32 | 8 | 0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copying {
    /// The volume.
    pub volume: u16,
    /// The receiver stays whole.
    pub stays_whole: bool,
    /// The receiver's ticket.
    pub ticket: u64,
    /// The sender's generation.
    pub generation: Generation,
}

impl Copying {
    /// As parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; COPYING];
        put(&mut bytes, 0, &self.volume.to_le_bytes());
        bytes[2] = self.stays_whole.into();
        put(&mut bytes, 8, &self.ticket.to_le_bytes());
        self.generation.put(&mut bytes, 16);
        bytes
    }

    /// From parameters.
    ///
    /// # Errors
    /// [`BadParameters`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadParameters> {
        if bytes.len() != COPYING {
            return Err(BadParameters("a copy is not told as copies are"));
        }
        let copying = Self {
            volume: u16_at(bytes, 0),
            stays_whole: bytes[2] == 1,
            ticket: u64_at(bytes, 8),
            generation: Generation::at(bytes, 16),
        };
        match copying.encode() == bytes {
            true => Ok(copying),
            false => Err(BadParameters("something stands where zeros are to be")),
        }
    }
}

/// What the sender is about to do, if the receiver lets it: parameters of [`Command::DISCARD`] and [`Command::ESTABLISH`]. The receiver
/// refuses with [`nature::SOURCE`](crate::nature::SOURCE): to give up what the sender has, if it is not the source, does not serve hosts, or
/// is about to do the same; to begin the volume, if it has data of it, or is about to begin it itself.
///
/// | | bytes | |
/// | --- | --- | --- |
/// | 0 | 2 | volume |
/// | 2 | 6 | 0 |
/// | 8 | 8 | the receiver's meeting |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The volume.
    pub volume: u16,
    /// The receiver's meeting.
    pub meeting: u64,
}

impl Intent {
    /// As parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; INTENT];
        put(&mut bytes, 0, &self.volume.to_le_bytes());
        put(&mut bytes, 8, &self.meeting.to_le_bytes());
        bytes
    }

    /// From parameters.
    ///
    /// # Errors
    /// [`BadParameters`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadParameters> {
        if bytes.len() != INTENT || bytes[2..8] != [0; 6] {
            return Err(BadParameters(
                "what the sender is about to do is not told so",
            ));
        }
        Ok(Self {
            volume: u16_at(bytes, 0),
            meeting: u64_at(bytes, 8),
        })
    }
}

/// Bytes of a volume that have a checksum of their own in a [`Comparison`].
pub const COMPARED: u64 = 4096;

/// Parameters of [`Command::VERIFY`]. The receiver reads its replica, and refuses with [`nature::DIFFERS`](crate::nature::DIFFERS) if
/// some checksum is another one there.
///
/// | | bytes | |
/// | --- | --- | --- |
/// | 0 | 2 | volume |
/// | 2 | 6 | 0 |
/// | 8 | 8 | ticket: that of the receiver's last *ready* |
/// | 16 | 8 | first byte of the volume, a multiple of 4096 |
/// | 24 | 8 | bytes, at most 65536 |
/// | 32 + 4·*i* | 4 | CRC32C of the *i*th 4096 of them; the last may be fewer |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The volume.
    pub volume: u16,
    /// What lets it in.
    pub ticket: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Checksums, by [`COMPARED`] bytes.
    pub sums: Vec<u32>,
}

impl Comparison {
    /// As parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; COMPARISON + 4 * self.sums.len()];
        put(&mut bytes, 0, &self.volume.to_le_bytes());
        put(&mut bytes, 8, &self.ticket.to_le_bytes());
        put(&mut bytes, 16, &self.offset.to_le_bytes());
        put(&mut bytes, 24, &self.len.to_le_bytes());
        for (sum, at) in self.sums.iter().zip((COMPARISON..).step_by(4)) {
            put(&mut bytes, at, &sum.to_le_bytes());
        }
        bytes
    }

    /// From parameters.
    ///
    /// # Errors
    /// [`BadParameters`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadParameters> {
        if bytes.len() < COMPARISON {
            return Err(BadParameters("something is missing"));
        }
        let comparison = Self {
            volume: u16_at(bytes, 0),
            ticket: u64_at(bytes, 8),
            offset: u64_at(bytes, 16),
            len: u64_at(bytes, 24),
            sums: (bytes[COMPARISON..].chunks_exact(4))
                .map(|sum| u32_at(sum, 0))
                .collect(),
        };
        let Self { offset, len, .. } = comparison;
        let is_range = (1..=GRANULE).contains(&len) && offset.checked_add(len).is_some();
        if !is_range || !offset.is_multiple_of(COMPARED) {
            return Err(BadParameters("a range is none"));
        }
        if comparison.sums.len() as u64 != len.div_ceil(COMPARED) {
            return Err(BadParameters("there are not as many checksums as it says"));
        }
        match comparison.encode() == bytes {
            true => Ok(comparison),
            false => Err(BadParameters("something stands where zeros are to be")),
        }
    }
}

const _: () = assert!(CHANGES + CHANGE * CHANGES_MAX <= PARAMETERS_MAX);
const _: () = assert!(COMPARISON + 4 * (GRANULE / COMPARED) as usize <= PARAMETERS_MAX);
