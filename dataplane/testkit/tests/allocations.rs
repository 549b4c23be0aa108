//! The counting allocator counts; in a binary of its own, whose allocator it is.
#![allow(missing_docs)]

use std::hint::black_box;

use testkit::allocations::{Counting, allocations, everywhere, here, stand_by};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn allocations_are_counted_by_thread_and_in_all() {
    assert_eq!(allocations(|| drop(black_box(vec![0u8; 64]))), 1);
    assert_eq!(allocations(|| assert_eq!(black_box(7), 7)), 0);
    let (mine, all) = (here(), everywhere());
    let theirs = std::thread::spawn(|| allocations(|| drop(black_box(Box::new(7)))));
    assert_eq!(theirs.join().unwrap(), 1);
    assert!(here() > mine, "a thread is started by this one");
    assert!(everywhere() > all + (here() - mine), "theirs are among all");
    // Once nobody else does anything, what a bystander does is not seen.
    stand_by();
    let all = everywhere();
    drop(black_box(vec![0u8; 64]));
    assert_eq!(everywhere(), all);
}
