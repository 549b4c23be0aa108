//! A shard: one core's ports, connections, sessions and volumes, and the loop
//! that polls them. Sans I/O: what it needs of the world is a [`Machine`].
//!
//! * [`Machine`], [`Port`], [`Memory`] are implemented twice: over DPDK and
//!   SPDK by `engine`, and by simulation.
//! * [`Shard::poll`] is one turn: frames in, requests out, completions in,
//!   frames out. [`Shard::housekeep`] is what is done between turns.
//! * A [`Door`] is a protocol over one connection; what a listener's
//!   connections speak is its [`DoorKind`].
//! * A [`Handle`] is the control side's hold on all shards of an appliance,
//!   from any thread: stop, counters, captures.
//!
//! Shards share nothing on the I/O path.
#![forbid(unsafe_code)]

mod addresses;
mod alert_desk;
mod answer;
mod capture;
mod capture_desk;
mod change;
mod clock;
mod common;
mod config;
mod door;
mod drops;
mod entrance;
mod handle;
mod health;
mod link;
mod listing;
mod logged;
mod machine;
mod mirrored;
mod notices;
mod offer;
mod pair_desk;
mod pairs;
mod point_desk;
mod poll;
mod reports;
mod secure;
mod sizing;
mod snapshot;
#[cfg(test)]
mod tests;

pub use addresses::PortAddress;
pub use alert_desk::{AlertCounters, PairAlert};
pub use capture::{Capture, CaptureError, CaptureLimits, Captured};
pub use change::{Change, ChangeError, NSID_MAX};
pub use clock::Clock;
pub use common::Common;
pub use config::{
    ANA_IO_BYTES_MIN, CNTLIDS, HostConfig, HostKeyConfig, NamespaceConfig, PskConfig,
    SubsystemConfig,
};
pub use door::{Door, DoorKind, Doors, Ending, MirrorDoor, NvmeDoor, Session};
pub use entrance::Entrance;
pub use handle::{Detail, Handle};
pub use health::{Health, PortState};
pub use link::Link;
pub use machine::{Machine, Memory, Port, PortCounters};
pub use notices::{NoticeCounters, Notices, between};
pub use offer::{Offer, StoreInfo};
pub use pair_desk::{PairOrder, PairOutcome, PairQuestion, PairReport};
pub use point_desk::{PointDone, PointError};
pub use poll::Shard;
pub use secure::{SharedHandshakes, TlsCounters, TlsDoor};
pub use sizing::{MemoryConfig, Sizing};
pub use snapshot::{
    AnaSnapshot, ConnectionSnapshot, Inventory, Layer, NamespaceName, PoolSnapshot, ShardSnapshot,
    Snapshot,
};
