//! TCP.

mod chunks;

pub(crate) use chunks::ChunkRun;
