//! DPDK behind a small C shim. `shim.h` beside this folder is the contract: every function, type and constant here is
//! documented there (and, copied by bindgen, on the item).
//!
//! No DPDK structure and no version difference is visible from Rust: pointers are opaque, integers have fixed widths.
#![allow(
    missing_docs,
    non_camel_case_types,
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::all,
    rustdoc::all
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
