//! A shard's connections, listed a few at a time.

use crate::snapshot::ConnectionSnapshot;

/// A list of connections in the making.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) question: u64,
    pub(crate) connections: Vec<ConnectionSnapshot>,
    pub(crate) link: usize,
    pub(crate) slot: usize,
}
