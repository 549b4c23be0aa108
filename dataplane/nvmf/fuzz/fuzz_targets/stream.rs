//! Whole connections: the bytes decide what a host does, right or wrong.
#![no_main]

#[path = "../../tests/rig/mod.rs"]
mod rig;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    rig::chaos::play(&mut rig::chaos::Script::new(bytes));
});
