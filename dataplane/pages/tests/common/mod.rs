//! What every test stands on: pools, a ledger, frames with known bytes.
#![allow(dead_code, unused_imports)]

mod lab;
pub mod page_model;

pub use lab::{HEADERS, Lab, contents, dma};
pub use testkit::{Random, operations, property};
