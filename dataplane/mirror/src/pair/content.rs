//! What a node knows of a volume of a pair after a restart: 640 bytes in the log store's management tables (row R4). Numbers are
//! little-endian. What is not as it is here is refused.
//!
//! | | bytes | |
//! | --- | --- | --- |
//! | 0 | 512 | the replica's [standing](crate::OnDisk) |
//! | 512 | 1 | role: 1, source; 2, destination; 3, a source that yields to the other one |
//! | 513 | 1 | 1: it has met another replica; else 0, and zeros up to 544 |
//! | 514 | 1 | 1: an operator has severed the pair; else 0 |
//! | 515 | 13 | zeros |
//! | 528 | 16 | that replica |
//! | 544 | 8 | severed: when, in seconds since 1970; else 0 |
//! | 552 | 88 | zeros |
//!
//! Byte 514 is the version of what stands behind the replica: a program that knows less than it says refuses the entry, and nothing
//! comes together that an operator has severed.

use std::fmt;

use mutant::mutant;

use crate::bytes::{array, put, u64_at};
use crate::commands::Role;
use crate::replica::ReplicaId;
use crate::standing::{BadStanding, OnDisk, STANDING, Standing};

use super::RECORD;
use crate::standing::FIRST;

/// Bytes.
const LEN: usize = 640;
/// Version of an entry that says when an operator severed the pair; one that says nothing of that is of version 0.
const SEVERED: u8 = 1;

/// What a node knows of a volume of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What its replica knows. What was changed is in pages of their own.
    pub standing: Standing,
    /// Its role.
    pub role: Role,
    /// The other replica, if they have met.
    pub peer: Option<ReplicaId>,
    /// When an operator severed the pair, in seconds since 1970: the source goes on alone until one says otherwise. What a
    /// destination has here it was told.
    pub severed: Option<u64>,
}

/// Why bytes are not what a node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadContent {
    /// The standing is none.
    Standing(BadStanding),
    /// The volume has more bytes than its device.
    Len {
        /// Its.
        volume: u64,
        /// The device's.
        device: u64,
    },
    /// It has what later versions know.
    Version(u8),
    /// They say what cannot be.
    Field(&'static str),
}

impl fmt::Display for BadContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standing(bad) => bad.fmt(f),
            Self::Len { volume, device } => write!(
                f,
                "the volume has {volume} bytes, and its device {device}: make it as large as it was"
            ),
            Self::Version(version) => write!(
                f,
                "a replica's entry of version {version}, of which this program knows {SEVERED}: run the program that wrote it, or a later one"
            ),
            Self::Field(field) => write!(f, "a replica's entry in which {field}"),
        }
    }
}

impl std::error::Error for BadContent {}

impl Content {
    /// Whether it goes on without the other one: since it lost that one, or since an operator said so before they had met.
    pub fn is_alone(&self) -> bool {
        match self.peer {
            Some(peer) => self.standing.is_alone(peer),
            None => self.role == Role::Source && self.standing.generation.number > FIRST,
        }
    }

    /// As bytes, of a volume of `len`.
    pub fn encode(&self, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; LEN];
        let on_disk = OnDisk {
            standing: self.standing.clone(),
            record: RECORD,
            len,
        };
        put(&mut bytes, 0, &on_disk.encode());
        bytes[STANDING] = self.role.code();
        if let Some(peer) = self.peer {
            bytes[STANDING + 1] = 1;
            put(&mut bytes, STANDING + 16, &peer.0);
        }
        if let Some(severed) = self.severed.filter(|_| !mutant!("pair-sever-forgotten")) {
            bytes[STANDING + 2] = SEVERED;
            put(&mut bytes, STANDING + 32, &severed.to_le_bytes());
        }
        bytes
    }

    /// From bytes, of a volume on a device of so many; and how many bytes the volume has.
    ///
    /// # Errors
    /// [`BadContent`].
    pub fn decode(bytes: &[u8], device: u64) -> Result<(Self, u64), BadContent> {
        if bytes.len() != LEN {
            return Err(BadContent::Field("something is missing"));
        }
        let on_disk = OnDisk::decode(&array(bytes, 0)).map_err(BadContent::Standing)?;
        let len = on_disk.len;
        if len > device {
            let volume = len;
            return Err(BadContent::Len { volume, device });
        }
        let version = bytes[STANDING + 2];
        if version > SEVERED {
            return Err(BadContent::Version(version));
        }
        let role = Role::of_code(bytes[STANDING]);
        let role = role.ok_or(BadContent::Field("a node has no role"))?;
        let content = Self {
            standing: on_disk.standing,
            role,
            peer: (bytes[STANDING + 1] == 1).then(|| ReplicaId(array(bytes, STANDING + 16))),
            severed: (version == SEVERED).then(|| u64_at(bytes, STANDING + 32)),
        };
        match content.encode(len) == bytes {
            true => Ok((content, len)),
            false => Err(BadContent::Field("something stands where zeros are to be")),
        }
    }
}
