//! Whole appliances in one process and one thread, on virtual time, by seed. For development
//! only: nothing that is shipped uses it.
//!
//! * A [`Scenario`] runs a seed: hosts that speak NVMe/TCP over a TCP of their own, links
//!   that lose, double, reorder and break frames, an appliance of several shards over
//!   simulated NICs and devices, everything that goes wrong with them, and an oracle that
//!   knows what each read may return.
//! * A run is a function of its seed: no wall clock, no order of a hash table, no address
//!   decides anything. Equal seeds give equal [`Summary::digest`]s.
//!
//! What is simulated, what is promised and how a failing seed is replayed: `docs/simulation.md`.

mod appliance;
mod arbiter;
mod clock;
mod device;
mod devices;
mod disk;
mod dma;
mod frame;
mod guard;
mod host;
mod link;
mod memory;
mod oracle;
mod pair;
mod plan;
mod port;
mod replicas;
mod scenario;
mod secure;
mod trace;
mod wire;
mod world;

pub use clock::Nanoseconds;
pub use scenario::{Failure, Scenario};
pub use world::Summary;
