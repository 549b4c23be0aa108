//! Any bytes as the header of a group: what is one has a right checksum, and its records add up.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| common::inputs::header(input));
