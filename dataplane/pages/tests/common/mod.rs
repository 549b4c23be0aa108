//! What every test stands on: pools, a ledger, frames with known bytes.
#![allow(dead_code, unused_imports)]

pub mod allocations;
mod lab;
pub mod page_model;
mod property;

pub use lab::{HEADERS, Lab, contents, dma};
pub use property::{Random, operations, property};
