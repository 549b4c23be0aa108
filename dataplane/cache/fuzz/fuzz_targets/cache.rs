//! Any requests to a page cache over any device: what is read is what was
//! written, what was flushed is durable, and the bound on clusters holds.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::cache_model::{CELL, Op, Setup, check};
use libfuzzer_sys::fuzz_target;
use block::WritePolicy;

const PAGES: usize = 24;

fn setup(bytes: &[u8]) -> Setup {
    let choose = |of: [usize; 2], bit: u8| of[usize::from(bytes[0] >> bit & 1)];
    Setup {
        pages: PAGES,
        short: usize::from(bytes[1] % 8) * 512,
        block: [512, 1024, 2048, 4096][usize::from(bytes[0] & 3)],
        device_cache: bytes[0] & 4 != 0,
        policy: match bytes[0] & 8 {
            0 => WritePolicy::Back,
            _ => WritePolicy::Through,
        },
        cache_pages: choose([40, 60], 4),
        clusters: choose([136, 200], 5),
        dirty_pages: choose([0, 1000], 6),
        whole_pages: 300,
        cluster_size: choose([2048, 16384], 7),
        seed: u64::from(bytes[1]),
    }
}

/// Four bytes to an operation: kind, offset and length in cells.
fn operation(bytes: &[u8], setup: &Setup) -> Op {
    let all = setup.len() / CELL;
    let at = u16::from_le_bytes([bytes[1], bytes[2]]) as usize % all;
    let cells = (1 + bytes[3] as usize).min(all - at);
    match bytes[0] % 32 {
        0 => Op::Flush,
        1 => Op::FlushRange { at, cells },
        2 => Op::Idle { pages: cells },
        3 => Op::GiveBack { clusters: cells },
        4 => Op::Failing {
            n: [0, 3, 10][at % 3],
        },
        5..12 => Op::Device { n: cells % 8 },
        12..20 => Op::Read { at, cells },
        kind => Op::Write {
            at,
            cells,
            mss: [128, 536, 1448][usize::from(kind) % 3],
            fua: kind == 30,
            zeros: kind == 31,
        },
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_at_checked(2) else {
        return;
    };
    let setup = setup(head);
    let operations = rest.chunks_exact(4).take(200).map(|op| operation(op, &setup));
    let operations: Vec<_> = operations.map(|op| (setup.clone(), op)).collect();
    check(&operations);
});
