//! What an arbiter is asked, and answers: a store that both nodes of a pair reach, of one key for each volume and one for each
//! node, such as etcd's (row S8). Each key of a volume has a revision, and is changed if that is still what it was.
//!
//! A node's key is there as long as the node renews its lease; it is gone no sooner than a lease's time after the last
//! renewal was sent. A question that has no answer in time was executed, or was not, or will be.

use std::time::Duration;

use mutant::mutant;

use crate::replica::{Generation, ReplicaId};

/// How long whoever asked for `time` counts on it, from when it was asked for: with a margin for clocks that differ.
pub fn counted(time: Duration) -> Duration {
    match mutant!("pair-clocks-alike") {
        true => time,
        false => time * 3 / 4,
    }
}

/// What the arbiter has of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The replica that serves hosts.
    pub source: ReplicaId,
    /// Of which generation that is.
    pub generation: Generation,
    /// The other replica may lack what hosts were told is there.
    pub is_alone: bool,
}

/// What there is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The revision of the volume's key; 0: there is none.
    pub revision: u64,
    /// It.
    pub entry: Option<Entry>,
    /// The other node's key is there.
    pub peer_lives: bool,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// What there is.
    Look,
    /// To change the volume's key, if it is as it was.
    Set {
        /// Its revision; 0: it is not there.
        revision: u64,
        /// What it is to be.
        entry: Entry,
        /// Only if the other node's key is not there.
        unless_peer_lives: bool,
    },
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was changed, and has this revision.
    Made(u64),
    /// What there is; nothing was changed.
    Seen(Seen),
    /// There is no answer.
    Unreachable,
}
