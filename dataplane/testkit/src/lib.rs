//! What tests are made of. For development only: nothing that is shipped uses it.
//!
//! * [`Random`]: one generator of numbers for all tests; everything follows from a seed.
//! * [`pattern`]: bytes that tell the volume, block and version they belong to, so that a
//!   wrong block is named when it is compared.
//! * [`places`]: where loads write: at random, by Zipf's law, in sequence.
//! * [`property()`]: sequences of operations by seed, on every core; one that fails is shrunk.
//! * [`allocations`]: an allocator that counts.
//! * [`Host`]: the host's side of one NVMe/TCP connection, sans I/O: bytes in, bytes out,
//!   time as an argument. Written from the specifications and independent of the target's
//!   code, which it is held against: what the target does against the specification ends in
//!   a [`Violation`].
//! * [`Association`]: the connections of one controller, an Admin Queue and I/O queues.
//! * [`blocking`]: the same host over the kernel's TCP.
//! * [`poll_until`], [`spin`], [`eventually`]: waiting with an end, which says what was
//!   waited for.
//!
//! Nothing in it depends on time, addresses or the order of a hash table: the same calls give
//! the same bytes in every run. ([`blocking`],
//! [`spin`] and [`eventually`] wait for others, and do.)

pub mod allocations;
mod association;
pub mod blocking;
pub mod command;
mod crc32c;
mod host;
pub mod pattern;
pub mod pdu;
pub mod places;
mod property;
mod random;
mod wait;

pub use association::{Association, Controller, Proof, Prove, Prover, Setback};
pub use command::{Command, Payload};
pub use crc32c::crc32c;
pub use host::{Cid, Completion, Conduct, Config, Fault, Host, Initialized, Lost, Status};
pub use pdu::{Format, Pdu, Violation};
pub use property::{operations, property};
pub use random::{Integer, Random};
pub use wait::{eventually, poll_for, poll_until, spin};
