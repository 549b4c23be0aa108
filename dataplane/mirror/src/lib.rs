//! Mirrored pairs, sans I/O. The link (rows R2, R5, R6, R11): what two nodes say to each other, byte by byte in
//! `docs/mirror-protocol.md`; and what replicas know of each other, and do when they meet again (rows R7, S8).
//!
//! * A [`Greeting`] makes a [`Session`] of a connection: both sides prove that they have the pair's key.
//! * A [`Link`] sends *messages* over one session after another: each is executed by the peer at most once, in order, and
//!   answered once; or the owner is told that nobody knows.
//! * [`frame`] has the headers.
//! * A replica's [`Standing`] and its record of what was [`Changed`] decide, with the other one's [`Claim`], which one is
//!   copied to which, and how much of it: [`meet`].
//!
//! * An arbiter that both reach, such as etcd, is [asked](Question) which node serves when they do not hear each other.
#![forbid(unsafe_code)]

mod admission;
mod alert;
mod arbiter;
mod atomics;
mod bytes;
mod commands;
mod counters;
pub mod frame;
mod greeting;
mod key;
mod lanes;
mod link;
mod marks;
mod mirrored;
mod pair;
mod parameters;
mod record;
mod replica;
mod standing;
mod verification;

pub use alert::{Alert, AlertEvent};
pub use arbiter::{Answer, Entry, Question, Seen, counted};
pub use commands::{
    BadParameters, CHANGES_MAX, COMPARED, Change, ChangeOp, Changes, Comparison, Copying,
    Differing, Intent, Meeting, Ready, Resize, Role,
};
pub use counters::LaneCounters;
pub use frame::{Command, Header};
pub use greeting::{BadGreeting, Caller, Greeting, Node, OPENING, Session, caller};
pub use key::{Keyed, LinkPsk, PairKey, Side};
pub use lanes::{
    Asked, Carried, Compare, Compared, Connection, Door, FRAME_BYTES, Forward, FrameSize, Lanes,
    Mailbox, Manager, MirroredVolume, Opening, Peer, Security,
};
pub use link::{
    Broken, Event, Incoming, Link, MessageId, Outgoing, Patience, Payload, Received, Stale, WINDOW,
};
pub use mirrored::{Mirrored, Mode, room_of};
pub use pair::{
    Action, BadContent, Content, Pair, PairConfig, TableLine, Tables, Unwilling, nature,
};
pub use parameters::{ErrorReply, Refusal};
pub use record::{Changed, GRANULE};
pub use replica::{Generation, ReplicaId};
pub use standing::{
    BadStanding, Claim, NotWhole, OnDisk, Record, RecordClaim, Refused, STANDING, Standing,
    Verdict, Which, Wholeness, meet,
};
pub use verification::{Verification, VerifyReport, differing, sums};

/// Version of the protocol.
pub const VERSION: u8 = 1;
