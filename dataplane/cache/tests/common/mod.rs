//! What every test stands on: the pools and frames of the tests of `pages`, a
//! model of the cache, and a simulated device.
#![allow(dead_code, unused_imports)]

pub mod cache_model;
pub mod device;
#[path = "../../../pages/tests/common/lab.rs"]
mod lab;
pub mod world;

pub use lab::{HEADERS, Lab, contents, dma};
pub use testkit::{Random, operations, property};
