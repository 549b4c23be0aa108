//! The page cache, row by row, one operation at a time.

mod common;

use block::{Fault, Flags, Io, Op, RequestId, VolumeId, WritePolicy};
use cache::{CacheConfig, PageCache, VolumeConfig};
use common::device::FAILED;
use common::world::{CONFIG, LEN, World, summary};
use pages::{PageRun, Segment};

fn addresses(run: &PageRun) -> Vec<usize> {
    let address = |s: &Segment| s.address().unwrap().as_ptr() as usize;
    run.segments().map(address).collect()
}

#[test]
fn z07_a_written_page_is_read_back_by_reference_while_it_is_dirty() {
    let mut world = World::write_back(512);
    let mut run = world.runs.take().unwrap();
    run.begin(8192, 4096).unwrap();
    for (i, n) in [(0, 1448), (1448, 1448), (2896, 1200)] {
        let slice = world.lab.cluster(66, &vec![7; n], None).slice(66..66 + n);
        run.place(i, slice, &world.lab.pull_up()).unwrap();
    }
    let received = addresses(&run);
    world.submit(Io::write(run, Flags::NONE), 1);
    assert_eq!(world.completed(), Some((1, Ok(()))));
    assert!(
        world.cache.next_operation().is_none(),
        "no device was asked"
    );
    world.read(8192, 4096, 2);
    let run = world.cache.next_completion().unwrap().run.unwrap();
    assert_eq!(
        addresses(&run),
        received,
        "the very bytes the port received into"
    );
    assert_eq!(world.lab.ledger.bytes_copied_total(), 0);
}

#[test]
fn z07_adjacent_and_overlapping_writes_merge_and_go_to_the_device_as_one() {
    let mut world = World::write_back(512);
    for (i, offset) in [4096, 5120, 8192, 6144, 4608].into_iter().enumerate() {
        world.write(offset, 2048, i as u8 + 1, false, i as u64);
        assert_eq!(world.completed(), Some((i as u64, Ok(()))));
    }
    world.submit(Io::flush(), 9);
    let operation = world.operation();
    assert_eq!(summary(&operation), ('W', 4096, 6144));
    let (Op::Write, Some(run)) = (operation.io.op, &operation.io.run) else {
        panic!();
    };
    let bytes: Vec<u8> = run
        .segments()
        .flat_map(|s| s.bytes().unwrap().to_vec())
        .collect();
    let expected: Vec<u8> = [(1, 512), (5, 2048), (2, 0), (4, 1536), (3, 2048)]
        .iter()
        .flat_map(|&(fill, n)| vec![fill; n])
        .collect();
    assert_eq!(bytes, expected);
    assert!(world.cache.next_operation().is_none() && world.completed().is_none());
    world.done(operation, Ok(()));
    assert_eq!(world.completed(), Some((9, Ok(()))));
    assert_eq!(world.cache.dirty_pages(), 0);
}

#[test]
fn z10_a_read_miss_fills_the_requests_own_run_and_the_cache() {
    let mut world = World::write_back(512);
    world.read(4096, 8192, 1);
    let operation = world.operation();
    assert_eq!(summary(&operation), ('R', 4096, 8192));
    world.deliver(operation, 3);
    assert_eq!(world.bytes(1), vec![3; 8192]);
    // Now it is a hit, of parts and of the whole.
    for (tag, (offset, len)) in [(4096, 8192), (4500, 100), (8000, 1000)]
        .into_iter()
        .enumerate()
    {
        world.read(offset, len, tag as u64);
        assert_eq!(world.bytes(tag as u64), vec![3; len]);
    }
    assert!(world.cache.next_operation().is_none());
    assert_eq!(world.lab.ledger.bytes_copied_total(), 0);
}

#[test]
fn z10_a_read_of_cached_and_other_pages_asks_for_the_others_only() {
    let mut world = World::write_back(512);
    world.write(8192, 4096, 5, false, 1);
    world.write(12800, 512, 6, false, 2);
    world.completed();
    world.completed();
    world.read(4096, 16384, 3);
    let (first, second) = (world.operation(), world.operation());
    assert_eq!(summary(&first), ('R', 4096, 4096));
    assert_eq!(summary(&second), ('R', 12288, 8192));
    assert!(world.cache.next_operation().is_none());
    world.deliver(second, 2);
    world.deliver(first, 1);
    let mut expected = [vec![1; 4096], vec![5; 4096], vec![2; 8192]].concat();
    expected[8704..9216].fill(6);
    assert_eq!(world.bytes(3), expected);
    assert_eq!(world.lab.ledger.bytes_copied_total(), 0);
}

#[test]
fn z11_a_partial_block_is_completed_from_the_device_and_not_copied() {
    for block in [512usize, 4096] {
        let mut world = World::write_back(block);
        world.write(5000, 10, 9, false, 1);
        let operation = world.operation();
        assert_eq!(
            summary(&operation),
            ('R', 4096, 4096),
            "the page, in one go"
        );
        assert_eq!(world.completed(), None);
        world.deliver(operation, 1);
        assert_eq!(world.completed(), Some((1, Ok(()))));
        world.submit(Io::flush(), 2);
        let operation = world.operation();
        let start = 5000 / block * block;
        assert_eq!(summary(&operation), ('W', start as u64, block));
        let (Op::Write, Some(run)) = (operation.io.op, &operation.io.run) else {
            panic!();
        };
        let bytes: Vec<u8> = run
            .segments()
            .flat_map(|s| s.bytes().unwrap().to_vec())
            .collect();
        let mut expected = vec![1; block];
        expected[5000 - start..5010 - start].fill(9);
        assert_eq!(bytes, expected);
        assert_eq!(world.lab.ledger.bytes_copied_total(), 0);
        world.done(operation, Ok(()));
    }
}

#[test]
fn z11_writes_of_one_block_are_atomic_against_each_other() {
    let mut world = World::write_back(4096);
    // Two partial writes and a whole one of the same block, while it is read.
    world.write(4100, 50, 1, false, 1);
    world.write(4130, 50, 2, false, 2);
    let (first, second) = (world.operation(), world.operation());
    world.write(4096, 4096, 3, false, 3);
    assert_eq!(world.completed(), Some((3, Ok(()))));
    world.deliver(second, 9);
    world.deliver(first, 9);
    assert_eq!(world.completed(), Some((2, Ok(()))));
    assert_eq!(world.completed(), Some((1, Ok(()))));
    world.read(4096, 4096, 4);
    let mut expected = vec![3; 4096];
    expected[34..84].fill(2);
    expected[4..54].fill(1);
    assert_eq!(
        world.bytes(4),
        expected,
        "one after the other, whichever came first"
    );
}

#[test]
fn z11_one_page_is_in_flight_once_and_what_comes_meanwhile_follows() {
    let mut world = World::write_back(512);
    world.write(0, 4096, 1, false, 1);
    world.submit(Io::flush(), 2);
    let first = world.operation();
    world.write(0, 512, 2, false, 3);
    world.submit(Io::flush(), 4);
    assert!(
        world.cache.next_operation().is_none(),
        "the page is in flight"
    );
    world.read(0, 1024, 5);
    assert_eq!(world.completed(), Some((1, Ok(()))));
    assert_eq!(world.completed(), Some((3, Ok(()))));
    assert_eq!(world.bytes(5), [vec![2; 512], vec![1; 512]].concat());
    world.done(first, Ok(()));
    assert_eq!(
        world.completed(),
        Some((2, Ok(()))),
        "its writes are on the device"
    );
    let second = world.operation();
    assert_eq!(summary(&second), ('W', 0, 512));
    world.done(second, Ok(()));
    assert_eq!(world.completed(), Some((4, Ok(()))));
}

#[test]
fn a_write_through_is_complete_when_the_device_has_it() {
    let mut world = World::new(512, WritePolicy::Through, true);
    world.write(4096, 8192, 1, false, 1);
    assert_eq!(world.completed(), None);
    let operation = world.operation();
    assert_eq!(summary(&operation), ('W', 4096, 8192));
    world.done(operation, Ok(()));
    assert_eq!(world.completed(), Some((1, Ok(()))));
    // And is read from the cache afterwards.
    world.read(4096, 8192, 2);
    assert_eq!(world.bytes(2), vec![1; 8192]);
    // Switched over, the next one completes at once.
    world.cache.set_policy(world.volume, WritePolicy::Back);
    world.write(0, 512, 1, false, 3);
    assert_eq!(world.completed(), Some((3, Ok(()))));
}

#[test]
fn fua_goes_past_the_devices_cache_and_a_flush_flushes_it() {
    let mut world = World::new(512, WritePolicy::Back, true);
    world.write(0, 512, 1, true, 1);
    let operation = world.operation();
    assert_eq!(summary(&operation), ('F', 0, 512));
    world.done(operation, Ok(()));
    assert_eq!(world.completed(), Some((1, Ok(()))));
    world.write(512, 512, 2, false, 2);
    world.write(65536, 512, 2, false, 3);
    world.submit(Io::flush_range(0, 1024), 4);
    let operation = world.operation();
    assert_eq!(summary(&operation), ('W', 512, 512));
    assert!(
        world.cache.next_operation().is_none(),
        "the other page is not in the range"
    );
    world.done(operation, Ok(()));
    let operation = world.operation();
    assert_eq!(summary(&operation), ('f', 0, 0));
    for tag in [2, 3] {
        assert_eq!(world.completed(), Some((tag, Ok(()))));
    }
    assert_eq!(world.completed(), None);
    world.done(operation, Ok(()));
    assert_eq!(world.completed(), Some((4, Ok(()))));
}

#[test]
fn a_failed_device_write_is_reported_to_the_flush_and_nothing_is_lost() {
    let mut world = World::write_back(512);
    world.write(0, 512, 1, false, 1);
    world.write(8192, 512, 2, false, 2);
    world.completed();
    world.completed();
    world.submit(Io::flush(), 3);
    let (bad, good) = (world.operation(), world.operation());
    world.done(bad, Err(FAILED));
    assert_eq!(world.completed(), None, "the other write is in flight");
    world.done(good, Ok(()));
    assert_eq!(world.completed(), Some((3, Err(FAILED))));
    assert_eq!(world.cache.dirty_pages(), 1);
    world.read(0, 512, 4);
    assert_eq!(world.bytes(4), vec![1; 512]);
    // It is not tried again and again, but by the next flush.
    assert!(world.cache.next_operation().is_none());
    world.submit(Io::flush(), 5);
    let operation = world.operation();
    assert_eq!(summary(&operation), ('W', 0, 512));
    world.done(operation, Ok(()));
    assert_eq!(world.completed(), Some((5, Ok(()))));
    assert_eq!(world.cache.dirty_pages(), 0);
}

#[test]
fn a_failed_read_fails_its_request_alone() {
    let mut world = World::write_back(4096);
    world.read(0, 4096, 1);
    world.write(100, 10, 1, false, 2);
    let (read, completing) = (world.operation(), world.operation());
    world.done(read, Err(FAILED));
    world.done(completing, Err(FAILED));
    assert_eq!(world.completed(), Some((1, Err(FAILED))));
    assert_eq!(world.completed(), Some((2, Err(FAILED))));
    assert_eq!((world.cache.pages(), world.cache.dirty_pages()), (0, 0));
    world.lab.assert_nothing_leaked();
}

#[test]
fn z12_the_least_recently_used_page_is_reclaimed() {
    let mut world = World::write_back(512);
    for page in 0..24 {
        world.read(page * 4096, 4096, page);
        let operation = world.operation();
        world.deliver(operation, page as u8);
        world.bytes(page);
    }
    assert_eq!(world.cache.pages(), 24);
    // Page 0 is used again, so page 1 goes for page 100.
    world.read(0, 512, 1);
    world.bytes(1);
    world.read(100 * 4096, 4096, 2);
    let operation = world.operation();
    world.deliver(operation, 100);
    world.bytes(2);
    world.read(0, 4096, 3);
    assert_eq!(world.bytes(3), vec![0; 4096]);
    assert!(world.cache.next_operation().is_none());
    world.read(4096, 4096, 4);
    assert_eq!(summary(&world.operation()), ('R', 4096, 4096));
}

#[test]
fn z12_a_write_waits_while_dirty_pages_are_flushed_and_reclaimed() {
    let mut world = World::write_back(512);
    for page in 0..24 {
        world.write(page * 8192, 512, page as u8, false, page);
        assert_eq!(world.completed(), Some((page, Ok(()))));
    }
    world.write(24 * 8192, 512, 24, false, 24);
    assert_eq!(world.completed(), None);
    assert!(world.cache.is_short_of_memory());
    // The oldest are on their way to the device.
    let operation = world.operation();
    assert_eq!(summary(&operation), ('W', 0, 512));
    world.done(operation, Ok(()));
    assert_eq!(world.completed(), Some((24, Ok(()))));
    assert!(!world.cache.is_short_of_memory());
    assert_eq!(world.cache.pages(), 24);
}

#[test]
fn z12_small_writes_are_compacted_before_anything_is_flushed() {
    let mut world = World::write_back(512);
    world.cache = PageCache::new(CacheConfig {
        pages: 400,
        clusters: 72,
        ..CONFIG
    });
    let config = VolumeConfig {
        len: LEN,
        block: 512,
        policy: WritePolicy::Back,
        device_cache: false,
    };
    world.cache.add_volume(world.volume, config).unwrap();
    for page in 0..200 {
        world.write(page * 4096 + 512, 512, page as u8, false, page);
        assert_eq!(world.completed(), Some((page, Ok(()))), "page {page}");
        assert!(world.cache.clusters() <= 72);
    }
    // 200 clusters would not fit; 200 sectors on a few shelves do.
    assert!(
        world.cache.next_operation().is_none(),
        "nothing had to be written"
    );
    assert!(world.cache.counters().compacted > 100);
    assert!(world.lab.frames.held() + world.lab.pages.held() <= 73);
    for page in 0..200 {
        world.read(page * 4096 + 512, 512, page);
        assert_eq!(world.bytes(page), vec![page as u8; 512]);
    }
    let copied = world.lab.ledger.bytes_copied_total();
    assert_eq!(copied, world.cache.counters().compacted * 512);
}

#[test]
fn z12_what_cannot_be_written_is_kept_and_new_writes_are_told() {
    let mut world = World::write_back(512);
    for page in 0..24 {
        world.write(page * 8192, 512, page as u8, false, page);
        world.completed();
    }
    world.write(24 * 8192, 512, 24, false, 24);
    while let Some(operation) = world.cache.next_operation() {
        world.done(operation, Err(FAILED));
    }
    assert_eq!(world.completed(), Some((24, Err(FAILED))));
    assert_eq!(world.cache.dirty_pages(), 24);
    for page in 0..24 {
        world.read(page * 8192, 512, page);
        assert_eq!(world.bytes(page), vec![page as u8; 512]);
    }
    // The device is back: a flush makes room again.
    world.submit(Io::flush(), 50);
    while let Some(operation) = world.cache.next_operation() {
        world.done(operation, Ok(()));
    }
    assert_eq!(world.completed(), Some((50, Ok(()))));
    world.write(24 * 8192, 512, 24, false, 51);
    assert_eq!(world.completed(), Some((51, Ok(()))));
}

#[test]
fn z12_a_device_that_works_again_gets_its_data_without_a_flush() {
    let mut world = World::write_back(512);
    for page in 0..4 {
        world.write(page * 8192, 512, page as u8, false, page);
        assert_eq!(world.completed(), Some((page, Ok(()))));
    }
    world.cache.write_back(4);
    while let Some(operation) = world.cache.next_operation() {
        world.done(operation, Err(FAILED));
    }
    // What failed is not tried again at once, and for ever.
    world.cache.write_back(4);
    assert!(world.cache.next_operation().is_none());
    assert_eq!(world.cache.dirty_pages(), 4);
    world.cache.retry_failed();
    world.cache.write_back(4);
    while let Some(operation) = world.cache.next_operation() {
        world.done(operation, Ok(()));
    }
    assert_eq!(world.cache.dirty_pages(), 0);
}

#[test]
fn z13_holes_are_kept_and_read_back_without_the_device() {
    let mut world = World::write_back(512);
    let mut run = world.runs.take().unwrap();
    run.begin(4096, 65536).unwrap();
    run.place_zeros(0, 65536, &world.lab.zeros, &world.lab.pull_up())
        .unwrap();
    world.submit(Io::write(run, Flags::NONE), 1);
    assert_eq!(world.completed(), Some((1, Ok(()))));
    assert_eq!(world.cache.clusters(), 0, "holes hold no cluster");
    world.read(5000, 60000, 2);
    assert_eq!(world.bytes(2), vec![0; 60000]);
    assert!(world.cache.next_operation().is_none());
}

#[test]
fn requests_outside_the_volume_and_beyond_the_number_come_back() {
    let mut world = World::write_back(512);
    let mut run = world.runs.take().unwrap();
    run.begin(LEN - 512, 1024).unwrap();
    let refused = world.cache.submit(
        world.volume,
        RequestId(1),
        Io::read(run, Flags::NONE),
        &world.lab.pull_up(),
    );
    let refused = refused.unwrap_err();
    assert_eq!((refused.fault, refused.io.op), (Fault::Internal, Op::Read));
    // An incomplete write is refused, too: it would write NULL.
    let request = Io::write(refused.io.run.unwrap(), Flags::NONE);
    assert!(
        world
            .cache
            .submit(world.volume, RequestId(1), request, &world.lab.pull_up())
            .is_err()
    );
    for tag in 0..8 {
        world.submit(Io::flush_range(0, 512), tag);
    }
    let refused = world.cache.submit(
        world.volume,
        RequestId(9),
        Io::flush(),
        &world.lab.pull_up(),
    );
    let fault = refused.unwrap_err().fault;
    assert_eq!(fault, Fault::Busy, "completions are still to be taken");
    while world.completed().is_some() {}
    world.submit(Io::flush(), 9);
}

#[test]
fn what_is_not_for_a_cache_comes_back() {
    let mut world = World::write_back(512);
    let zeroes = Io::write_zeroes(0, 512, Flags::NONE);
    for (volume, io) in [
        (world.volume, zeroes),
        (world.volume, Io::deallocate(0, 0)),
        (world.volume, Io::deallocate(100, 512)),
        (world.volume, Io::deallocate(LEN - 512, 1024)),
        (VolumeId(0), Io::flush_range(0, 512)),
        (VolumeId(0), Io::flush()),
        (VolumeId(2), Io::flush()),
    ] {
        let pull_up = world.lab.pull_up();
        let refused = world.cache.submit(volume, RequestId(1), io, &pull_up);
        assert_eq!(refused.unwrap_err().fault, Fault::Internal);
    }
    assert!(world.cache.holds(VolumeId(1)));
    assert!(!world.cache.holds(VolumeId(0)) && !world.cache.holds(VolumeId(2)));
    let unfit = VolumeConfig {
        len: 4096,
        block: 8192,
        policy: WritePolicy::Back,
        device_cache: false,
    };
    assert!(world.cache.add_volume(VolumeId(0), unfit).is_err());
}
