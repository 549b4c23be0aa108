//! What happens in a dataplane, declared once: counters, static tracepoints,
//! and histograms of latency.
//!
//! * [`counters!`] makes a struct of plain numbers of a list with a sentence for
//!   each. Statistics, metrics and their help are derived from the list.
//! * [`tracepoint`] has every static tracepoint of the program (row K8).
//! * [`Histogram`] keeps latencies in log-linear buckets.
//! * [`StageClock`] adds up cycles by [`Stage`] of the path a frame takes.
//!
//! Nothing in it allocates, locks, or calls the system. A tracepoint is a single
//! `nop` and a note in a section that is not loaded: no I/O, so that the
//! sans-I/O crates may have them.

mod counter;
mod histogram;
mod stage;
pub mod tracepoint;

pub use counter::{Counter, Kind};
pub use histogram::{BUCKETS, Histogram};
pub use stage::{Stage, StageClock, TickScale, Ticks};
