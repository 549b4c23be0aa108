//! Structures sized at start: hash, flow table, index lists, timer wheel.

pub(crate) mod list;
pub(crate) mod siphash;
pub(crate) mod table;
pub(crate) mod wheel;
