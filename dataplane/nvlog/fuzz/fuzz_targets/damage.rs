//! A log with any damage: what is replayed was logged, and a new log begins behind it.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| common::inputs::damage(input));
