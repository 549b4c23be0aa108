//! Any operations on logical pages: contents, counts and bounds stay right.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::page_model::{Op, PAGES, check};
use libfuzzer_sys::fuzz_target;

/// Six bytes to an operation: kind and page, offset, length, and one more.
fn operation(bytes: &[u8]) -> (usize, Op) {
    let at = u16::from_le_bytes([bytes[1], bytes[2]]) as usize % 4096;
    let len = 1 + u16::from_le_bytes([bytes[3], bytes[4]]) as usize % (4096 - at);
    let other = bytes[5] as usize % PAGES;
    let op = match bytes[0] % 16 {
        0 => Op::Clear,
        1 => Op::Whole,
        2 => Op::Truncate { len: at },
        3 | 4 => Op::Zero { at, len },
        5 => Op::Clone { to: other },
        6 | 7 => Op::Again {
            from: other,
            at,
            len,
        },
        _ => Op::Write {
            at,
            len: len.min(2048 - common::HEADERS),
            room: bytes[5] & 0x80 != 0,
        },
    };
    (bytes[0] as usize / 16 % PAGES, op)
}

fuzz_target!(|data: &[u8]| {
    let operations: Vec<_> = data.chunks_exact(6).take(64).map(operation).collect();
    check(&operations);
});
