//! Any bytes as a table's entry: what is one for the crate is one for a reader of its own, and the other way round; and any
//! entries in a store are read, or refused, and kept when the log begins anew.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| common::inputs::table(input));
