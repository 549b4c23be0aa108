//! The link of a mirrored pair, sans I/O (rows R2, R5, R6, R11): what two nodes say to each other, byte by byte in
//! `docs/mirror-protocol.md`.
//!
//! * A [`Greeting`] makes a [`Session`] of a connection: both sides prove that they have the pair's key.
//! * A [`Link`] sends *messages* over one session after another: each is executed by the peer at most once, in order, and
//!   answered once; or the owner is told that nobody knows.
//! * [`frame`] has the headers.
//!
//! What messages ask for (row R3), and what becomes of a volume, is not here.
#![forbid(unsafe_code)]

mod bytes;
pub mod frame;
mod greeting;
mod key;
mod link;
mod parameters;

pub use frame::{Command, Header};
pub use greeting::{BadGreeting, Greeting, Node, Session};
pub use key::{Keyed, PairKey, Side};
pub use link::{
    Broken, Event, Incoming, Link, MessageId, Outgoing, Patience, Payload, Received, Stale, WINDOW,
};
pub use parameters::{ErrorReply, Refusal};

/// Version of the protocol.
pub const VERSION: u8 = 1;
