//! Volumes: from a door's request to its device, straight or through the page
//! cache, on this shard or another, and back. Sans I/O: devices are
//! [`block::Device`]s, time is an argument.
//!
//! * [`Volumes`] is one shard's end: [`Volumes::start`] takes a request,
//!   [`Volumes::next_completion`] gives its end.
//! * Each becomes jobs at devices, and each job the fewest commands that the
//!   device's limits allow ([`sgl`]; rows Z9, C1).
//! * With [`block::WritePolicy::Back`] a volume is behind the page cache, one in each
//!   shard. Every page has one owner; what other shards own is asked of them
//!   over rings ([`sync::mesh`]), by reference.
#![forbid(unsafe_code)]

mod backing;
mod cached;
mod change;
mod devices;
mod jobs;
mod logged;
mod message;
mod other_shard;
mod placement;
mod remote;
mod requester;
mod sizes;
mod volumes;

pub use devices::Devices;
pub use jobs::JobCounters;
pub use logged::{
    LogCounters, LogMember, LogPlan, LogStart, LogStorePlan, Lost, PointEnd, RecordPages,
    ReplayEnd, ReplayProgress, TableArea, TableEntry, TableRefusal, TableToken, TableWrite,
};
pub use other_shard::RingEnds;
pub use remote::rings;
pub use requester::{Ended, Origin};
pub use sizes::Sizes;
pub use volumes::{Volumes, cache_counters_at_zero};
