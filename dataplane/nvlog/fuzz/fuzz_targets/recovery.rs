//! Any store: what is replayed is what a reader of its own would replay, and nothing is written.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| common::inputs::recovery(input));
