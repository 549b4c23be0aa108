//! Well-formed segments with hostile contents, against an open connection.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| support::hostile::segments(input));
