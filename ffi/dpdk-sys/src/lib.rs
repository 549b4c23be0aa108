//! DPDK behind a small C shim. `shim.h` is the contract: every function and type here is documented there.
#![allow(
    missing_docs,
    non_camel_case_types,
    unsafe_code,
    clippy::all,
    rustdoc::all
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
