//! Random requests to page caches of many sizes, over devices of all kinds.

mod common;

use block::WritePolicy;
use common::cache_model::{Beside, CELL, CELLS_IN_SECTOR, Op, Setup, check};
use common::{Random, operations, property};
use pages::PAGE_SIZE;

fn generate(random: &mut Random, beside: Beside) -> Vec<(Setup, Op)> {
    // A volume beside takes half of the whole pages at most: the other half is what one alone gets by with.
    // Reads that wait keep the pages that they have, and with less two of them can wait for each other's.
    let shares = if beside == Beside::Nothing { 1 } else { 2 };
    let setup = Setup {
        pages: [3, 16, 64][random.below(3)],
        short: 512 * random.below(8),
        block: [512, 512, 1024, 4096][random.below(4)],
        device_cache: random.one_in(2),
        policy: [WritePolicy::Back, WritePolicy::Back, WritePolicy::Through][random.below(3)],
        cache_pages: [40, 48, 100][random.below(3)],
        clusters: [136, 150, 400][random.below(3)],
        dirty_pages: [0, 8, 1000][random.below(3)],
        whole_pages: [40, 60, 300][random.below(3)] * shares,
        cluster_size: [2048, 2048, 16384][random.below(3)],
        beside,
        seed: random.word(),
    };
    let cells = setup.len() / CELL;
    let unit = match random.below(3) {
        0 => 1,
        1 => CELLS_IN_SECTOR,
        _ => PAGE_SIZE / CELL,
    };
    let failing = random.one_in(3);
    (0..30 + random.below(150))
        .map(|_| {
            let at = random.below(cells / unit) * unit;
            let longest = [4, 32, 256][random.below(3)];
            let len = (unit * (1 + random.below(longest)))
                .min(cells - at)
                .min(512);
            let op = match random.below(if beside == Beside::Nothing { 40 } else { 60 }) {
                40.. => Op::Beside {
                    page: random.below(384),
                    pages: 1 + random.below(15),
                    writes: !random.one_in(4),
                },
                0 => Op::Flush,
                1 => Op::FlushRange { at, cells: len },
                2 => Op::Idle {
                    pages: random.below(20),
                },
                3 => Op::GiveBack {
                    clusters: random.below(40),
                },
                4 if failing => Op::Failing {
                    n: [0, 3, 10][random.below(3)],
                },
                4..14 => Op::Device { n: random.below(6) },
                14 => {
                    let block = setup.block / CELL;
                    let first = at / block * block;
                    let end = (at + len).next_multiple_of(block).min(cells);
                    Op::Deallocate {
                        at: first,
                        cells: end - first,
                    }
                }
                15..25 => Op::Read { at, cells: len },
                _ => Op::Write {
                    at,
                    cells: len,
                    mss: [128, 536, 1448][random.below(3)],
                    fua: random.one_in(8),
                    zeros: random.one_in(10),
                },
            };
            (setup.clone(), op)
        })
        .collect()
}

#[test]
fn z07_z12_the_cache_agrees_with_plain_bytes() {
    let generate = |random: &mut Random| generate(random, Beside::Nothing);
    property(operations(8_000), generate, check);
}

/// Beside a volume whose device ends nothing, or fails, every request has an end that is its own.
#[test]
fn z12_what_a_device_does_not_do_stops_no_other_volume() {
    for beside in [Beside::Silent, Beside::Failing] {
        let generate = |random: &mut Random| generate(random, beside);
        property(operations(4_000), generate, check);
    }
}
