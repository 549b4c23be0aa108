//! The engine: what shards need of the world, from DPDK and SPDK.
//!
//! Ports, stores, hugepages and the time-stamp counter make the
//! [`shard::Machine`] of each core; [`run()`] starts a shard on every lcore, and
//! stops them in step.

// The integration tests' support speaks of this crate by name.
#[cfg(test)]
extern crate self as engine;

mod alone;
mod authenticate;
mod build;
mod config;
mod environment;
mod error;
mod lcore;
mod logged;
mod machine;
mod memory;
mod numa;
mod pair;
mod port;
mod run;
mod spdk;
#[cfg(test)]
mod spy;
mod store;
mod tsc;
mod watch;

pub use alone::{Alone, alone};
pub use auth::{Group, Hash, HostKeys, KEY_TEXT_LEN_MAX, Key, KeyError, Policy};
pub use block::{
    DeviceState, IoCounters, IoKind, NamespaceCounters, SPAN_UNIT, Smart, Span, WritePolicy,
};
pub use config::{
    ArbiterConfig, ArbiterTls, Config, FirstRole, KeyConfig, KnownStore, LogConfig, LogStoreConfig,
    PairConfig, PairVolumeConfig, PortConfig, Secret, SpanConfig, StoreConfig, StoreDevice,
    TargetConfig, pair_volumes,
};
pub use environment::{spdk_has_method, spdk_is_legacy};
pub use error::Error;
pub use events::{Counter, Histogram, Kind, Stage};
pub use mirror::Security as LinkSecurity;
pub use mirror::{
    Alert, AlertEvent, Answer as ArbiterAnswer, Entry as ArbiterEntry, FRAME_BYTES, Generation,
    Question as ArbiterQuestion, ReplicaId, Role, Seen as ArbiterSeen, TableLine,
    counted as lease_counted,
};
pub use net::{AddressState, ConnectionInfo, MacAddress};
pub use nvmf::{
    AnaState, Cntlid, ControllerInfo, ListenerConfig, NamespaceConfig as OfferedNamespace, Tls,
};
pub use pages::CopyReason;
pub use run::run;
pub use shard::{
    ANA_IO_BYTES_MIN, AlertCounters, AnaSnapshot, CNTLIDS, Capture, CaptureError, CaptureLimits,
    Captured, Change, ChangeError, ConnectionSnapshot, Detail, Handle, Health, HostConfig,
    HostKeyConfig, Inventory, Layer, MemoryConfig, NSID_MAX, NamespaceConfig, NamespaceName,
    PairAlert, PairOrder, PairQuestion, PairReport, PointDone, PointError, PoolSnapshot,
    PortAddress, PortState, PskConfig, ShardSnapshot, Snapshot, StoreInfo, SubsystemConfig,
};
pub use tls::{ConfiguredPsk, Hash as PskHash, Limits as TlsLimits};
