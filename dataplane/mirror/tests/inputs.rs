//! Random bytes where fuzzing puts chosen ones: see `fuzz`.

mod common;

use common::inputs;
use testkit::{Random, operations, property};

fn check(cases: usize, longest: usize, check: impl Fn(&[u8]) + Sync) {
    let generate = |random: &mut Random| {
        let len = random.range(1..longest);
        vec![random.bytes(len)]
    };
    property(operations(cases), generate, |inputs| {
        inputs.iter().for_each(|input| check(input));
    });
}

#[test]
fn r02_any_header_is_one_or_refused() {
    check(50_000, 64, inputs::header);
}

#[test]
fn r11_any_stranger_is_refused() {
    check(5_000, 400, inputs::greeting);
}

#[test]
fn r11_a_peer_that_says_what_it_likes_breaks_nothing() {
    check(20_000, 400, inputs::peer);
}

#[test]
fn r11_a_pair_that_hears_what_a_peer_likes_to_say_breaks_nothing() {
    check(20_000, 400, inputs::commands);
}
