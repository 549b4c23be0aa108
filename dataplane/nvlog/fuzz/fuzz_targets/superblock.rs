//! Any bytes as superblocks: what is one for the crate is one for a reader of its own, and the other way round.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| common::inputs::superblock(input));
