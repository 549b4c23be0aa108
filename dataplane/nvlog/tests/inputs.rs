//! Random bytes where fuzzing puts chosen ones: see `fuzz`.

mod common;

use common::inputs;
use testkit::{Random, operations, property};

/// Inputs of `check`: bytes in short runs, as hostile ones are.
fn check(cases: usize, longest: usize, check: impl Fn(&[u8]) + Sync) {
    let generate = |random: &mut Random| {
        let len = random.range(1..longest);
        let mut bytes = random.bytes(len);
        if random.one_in(2) {
            bytes
                .iter_mut()
                .filter(|_| random.one_in(2))
                .for_each(|byte| *byte = 0);
        }
        vec![bytes]
    };
    property(operations(cases), generate, |inputs| {
        inputs.iter().for_each(|input| check(input));
    });
}

#[test]
fn any_superblock_is_one_or_refused() {
    check(5_000, 60, inputs::superblock);
}

#[test]
fn any_header_is_one_or_refused() {
    check(20_000, 400, inputs::header);
}

#[test]
fn r04_any_table_is_one_or_refused() {
    check(400, 80, inputs::table);
}

#[test]
fn s07_any_store_is_replayed_as_its_checksums_say_or_refused() {
    check(500, 100, inputs::recovery);
}

#[test]
fn s07_any_damage_is_refused_or_harmless() {
    check(500, 60, inputs::damage);
}
