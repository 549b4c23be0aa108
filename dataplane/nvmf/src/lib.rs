//! NVMe over TCP: the target, sans I/O.
//!
//! Slices of received clusters and time go in; requests on volumes, and chunks
//! to send, come out. Payload is never copied: a write's [`pages::Slice`]s are
//! placed in the request's page run, a read's run is sent from where the device
//! put it. After a connection is set up nothing is allocated.
//!
//! * A [`Target`] has subsystems and the registry of their controllers.
//! * A [`Session`] is one TCP connection: one queue of a controller.
//! * A [`block::Request`] is one operation on a volume, a [`block::Completion`] its end.
//!
//! Source: NVM Express Base Specification 2.0; NVM Command Set Specification
//! 1.0; NVM Express TCP Transport Specification 1.0.
#![forbid(unsafe_code)]

mod bytes;
pub mod command;
mod config;
mod controller;
mod counters;
mod queue;
mod resources;
mod status;
mod subsystem;
mod target;
pub mod tcp;
mod units;
mod work;

pub use config::{
    ADMIN_IN_CAPSULE_BYTES, ConfigError, DISCOVERY_NQN, Hosts, Listener, NQN_LEN_MAX,
    NamespaceConfig, SubsystemConfig, TargetConfig,
};
pub use counters::Counters;
pub use queue::pool::CommandPool;
pub use resources::Resources;
pub use status::Status;
pub use target::{ControllerInfo, Target};
pub use tcp::{CloseReason, Endpoints, Progress, Session, Wire, pdu};
pub use units::{BlockRange, BlockSize, Cid, Cntlid, Lba, Nsid, Qid, Timestamp, Ttag};
