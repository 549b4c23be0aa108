//! Deallocations: what the device is told, what the cache has afterwards, and what waits meanwhile (rows K5, S4).

mod common;

use block::{Io, Op, WritePolicy};
use common::device::FAILED;
use common::world::{CONFIG, LEN, World, summary};

fn world() -> World {
    World::new(512, WritePolicy::Logged, false)
}

#[test]
fn k05_a_range_is_dropped_once_the_device_has_deallocated_it() {
    let mut world = world();
    world.write(0, 16384, 1, false, 1);
    assert_eq!(world.completed(), Some((1, Ok(()))));
    world.submit(Io::flush(), 2);
    let write = world.operation();
    world.done(write, Ok(()));
    assert_eq!(world.completed(), Some((2, Ok(()))));
    // From the middle of a page to the middle of another.
    world.submit(Io::deallocate(512, 12288), 3);
    let deallocation = world.operation();
    assert_eq!(summary(&deallocation), ('D', 512, 12288));
    assert_eq!((world.completed(), world.cache.pages()), (None, 4));
    world.done(deallocation, Ok(()));
    assert_eq!(world.completed(), Some((3, Ok(()))));
    assert_eq!(world.cache.pages(), 2);
    // What is beside it is still there.
    world.read(0, 512, 4);
    assert_eq!(world.bytes(4), [1; 512]);
    world.read(12800, 3584, 5);
    assert_eq!(world.bytes(5), [1; 3584]);
    world.read(512, 512, 6);
    let read = world.operation();
    assert_eq!(summary(&read), ('R', 512, 512));
    world.deliver(read, 0);
    assert_eq!(world.bytes(6), [0; 512]);
}

/// A device may leave what it is told to deallocate (NVM 3.2.3): what it has then is what was written last.
#[test]
fn k05_what_is_dirty_is_written_before_the_device_is_told() {
    let mut world = world();
    world.write(4096, 8192, 1, false, 1);
    world.write(40960, 4096, 2, false, 2);
    while world.completed().is_some() {}
    world.submit(Io::deallocate(0, 16384), 3);
    let write = world.operation();
    assert_eq!(summary(&write), ('W', 4096, 8192));
    assert!(world.cache.next_operation().is_none());
    world.done(write, Ok(()));
    let deallocation = world.operation();
    assert_eq!(summary(&deallocation), ('D', 0, 16384));
    world.done(deallocation, Ok(()));
    assert_eq!(world.completed(), Some((3, Ok(()))));
    // The one beside is as it was.
    assert_eq!((world.cache.pages(), world.cache.dirty_pages()), (1, 1));
    assert_eq!(world.cache.counters().deallocated, 4);
}

#[test]
fn k05_what_fails_is_told_and_nothing_is_dropped() {
    let mut world = world();
    world.write(0, 4096, 1, false, 1);
    assert_eq!(world.completed(), Some((1, Ok(()))));
    world.submit(Io::deallocate(0, 8192), 2);
    let write = world.operation();
    world.done(write, Err(FAILED));
    assert_eq!(world.completed(), Some((2, Err(FAILED))));
    assert_eq!(world.cache.dirty_pages(), 1);
    world.submit(Io::deallocate(0, 8192), 3);
    let write = world.operation();
    world.done(write, Ok(()));
    let deallocation = world.operation();
    world.done(deallocation, Err(FAILED));
    assert_eq!(world.completed(), Some((3, Err(FAILED))));
    world.read(0, 4096, 4);
    assert_eq!(world.bytes(4), [1; 4096]);
}

#[test]
fn k05_what_overlaps_waits_in_its_order_and_what_does_not_goes_on() {
    let mut world = world();
    world.submit(Io::deallocate(8192, 8192), 1);
    let deallocation = world.operation();
    world.read(12288, 8192, 2);
    world.write(12288, 4096, 3, false, 3);
    // Behind the write, which is held.
    world.submit(Io::deallocate(0, 16384), 4);
    world.read(12288, 4096, 5);
    assert!(world.cache.next_operation().is_none() && world.completed().is_none());
    world.write(20480, 4096, 6, false, 6);
    assert_eq!(world.completed(), Some((6, Ok(()))));
    world.done(deallocation, Ok(()));
    assert_eq!(world.completed(), Some((1, Ok(()))));
    // The read of what is not there goes first; the next deallocation waits for it.
    let read = world.operation();
    assert_eq!(summary(&read).0, 'R');
    assert_eq!(world.completed(), Some((3, Ok(()))));
    assert!(world.cache.next_operation().is_none());
    world.deliver(read, 0);
    assert_eq!(world.completed(), Some((2, Ok(()))));
    let write = world.operation();
    assert_eq!(summary(&write), ('W', 12288, 4096));
    world.done(write, Ok(()));
    let deallocation = world.operation();
    assert_eq!(summary(&deallocation), ('D', 0, 16384));
    world.done(deallocation, Ok(()));
    assert_eq!(world.completed(), Some((4, Ok(()))));
    let read = world.operation();
    world.deliver(read, 0);
    assert_eq!(world.bytes(5), [0; 4096]);
}

/// A range of any length costs no more than what the cache has.
#[test]
fn k05_a_range_that_is_larger_than_the_cache_is_looked_for_in_what_that_has() {
    let mut world = world();
    for page in [3, 100, 200] {
        world.write(page * 4096, 4096, 1, false, page);
    }
    while world.completed().is_some() {}
    assert!(LEN / 4096 > CONFIG.pages as u64);
    world.submit(Io::deallocate(4096 * 50, LEN - 4096 * 50), 4);
    for page in [200, 100] {
        let write = world.operation();
        assert_eq!(summary(&write), ('W', page * 4096, 4096));
        world.done(write, Ok(()));
    }
    let deallocation = world.operation();
    assert_eq!(deallocation.io.op, Op::Deallocate);
    world.done(deallocation, Ok(()));
    assert_eq!(world.completed(), Some((4, Ok(()))));
    assert_eq!(world.cache.pages(), 1);
}
