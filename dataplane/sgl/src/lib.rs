//! Coalescing and dividing of scatter-gather requests (rows C1–C8).
//!
//! A *request* is a [`Chain`] of local [`Element`]s against one remote (or
//! device) range. A [`Divider`] formats it into [`Descriptor`]s that keep a
//! target's [`Limits`]: small elements are coalesced, large ones divided, and
//! the number of descriptors is the least possible. The same engine serves
//! NVMe commands, block devices, RDMA and the mirror link (row C7), reads and
//! writes alike (row C6).
//!
//! Nothing here allocates: descriptors are written into the caller's array.

mod chain;
mod divide;
mod limits;
mod request;

pub use chain::{Chain, Element, PageCursor};
pub use divide::{Descriptor, Divider, Progress, Refused, RequestState};
pub use limits::Limits;
pub use request::{Direction, Joined, Request};
