//! TCP (RFC 9293): connections as state machines over shared pools.
//!
//! | file | what |
//! | --- | --- |
//! | `header` | segments as they are on the wire |
//! | `state` | the states and the ways between them |
//! | `connection`, `variables` | a connection, and what the application does to it |
//! | `input`, `ack`, `text` | SEGMENT ARRIVES |
//! | `next` | the same, for the next segment of a train |
//! | `output` | segments out |
//! | `gather` | what waits for more, or for data that carries it |
//! | `timers`, `rtt` | retransmission, persist, keep-alive, delayed ACK |
//! | `recovery`, `loss`, `flight` | RACK-TLP, PRR, undoing; what is lost, and what is in flight |
//! | `congestion` | CUBIC and NewReno behind a seam |
//! | `chunks`, `slices`, `body` | bytes out and in, by reference |
//! | `window`, `budget` | windows in clusters |
//! | `handshake`, `timewait` | ISNs and cookies; TIME-WAIT |

mod ack;
mod body;
mod budget;
mod chunks;
mod congestion;
mod connection;
mod flight;
mod gather;
mod handshake;
mod header;
mod input;
mod key;
mod loss;
mod next;
mod output;
mod recovery;
mod rtt;
mod seq;
mod shared;
mod slices;
mod state;
mod text;
mod timers;
mod timewait;
mod variables;
mod window;

pub(crate) use body::Body;
pub(crate) use chunks::ChunkRun;
pub(crate) use connection::Connection;
pub(crate) use handshake::{Cookie, Numbers};
pub(crate) use header::{Outgoing, Segment, flag};
pub(crate) use input::{Reply, UNKNOWN_RETRIES};
pub(crate) use key::FlowKey;
pub(crate) use output::Turn;
pub(crate) use seq::Seq;
pub(crate) use shared::{NEVER, Shared};
pub(crate) use state::{Input, State};
pub(crate) use timewait::{TimeWaitIndex, TimeWaits, Verdict as TimeWaitVerdict};
pub(crate) use variables::{event, flag as has};
