//! Any bytes at all as frames, in one or several clusters.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| support::hostile::frames(input));
