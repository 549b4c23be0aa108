//! What every test stands on: the pools and frames of the tests of `pages`, a
//! model of the cache, and a simulated device.
#![allow(dead_code, unused_imports)]

#[path = "../../../pages/tests/common/allocations.rs"]
pub mod allocations;
pub mod cache_model;
pub mod device;
#[path = "../../../pages/tests/common/lab.rs"]
mod lab;
#[path = "../../../pages/tests/common/property.rs"]
mod property;

pub use lab::{HEADERS, Lab, contents, dma};
pub use property::{Random, operations, property};
