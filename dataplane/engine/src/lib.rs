//! The engine: shards on lcores, DPDK ports, SPDK stores, and the poll loop
//! that carries references from one to the other.
//!
//! One core polls one *shard*: a queue pair of every port, a TCP
//! stack for each, the sessions on their connections, and its own channels and
//! queue pairs to the stores. Shards share nothing on the I/O path.

// The integration tests' support speaks of this crate by name.
#[cfg(test)]
extern crate self as engine;

mod alone;
mod build;
mod capture;
mod clock;
mod config;
mod device;
mod environment;
mod error;
mod handle;
mod lcore;
mod memory;
mod mesh;
mod numa;
mod port;
mod run;
mod shard;
mod snapshot;
mod spdk;
#[cfg(test)]
mod spy;
mod store;
mod volume;

pub use alone::{Alone, alone};
pub use capture::{Capture, CaptureLimits, Captured};
pub use config::{
    Config, MemoryConfig, NamespaceConfig, PortConfig, StoreConfig, StoreDevice, SubsystemConfig,
    TargetConfig, WritePolicy,
};
pub use error::{CaptureError, Error};
pub use events::{Counter, Histogram, Kind};
pub use handle::{Detail, Handle};
pub use net::ConnectionInfo;
pub use nvmf::{Cntlid, ControllerInfo};
pub use run::run;
pub use snapshot::{
    ConnectionSnapshot, Inventory, IoCounters, IoKind, Layer, NamespaceCounters, NamespaceName,
    PoolSnapshot, ShardSnapshot, Snapshot, Stage,
};
