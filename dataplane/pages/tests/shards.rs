//! Pages that cross from one shard to another and back, on threads of their own.

mod common;

use std::sync::mpsc;
use std::thread;

use common::{Lab, Random};
use pages::cache::{CacheConfig, PageCache, Request, VolumeConfig, WritePolicy};
use pages::ring::{Crossing, ring};
use pages::{Abroad, GuestPool, PAGE_SIZE, RunPool, Segment};

#[test]
fn a_guest_is_counted_here_and_its_home_is_told_when_it_leaves() {
    let lab = Lab::new(4, 2048, 1);
    let mut abroad = Abroad::new(7, 2);
    let guests = GuestPool::new(2);
    let parcel = abroad.post(lab.data_with_room(5, 1000)).unwrap();
    assert_eq!((parcel.home(), parcel.len(), abroad.len()), (7, 1000, 1));
    let slice = guests.receive(parcel).unwrap();
    assert_eq!(slice.bytes(), [5; 1000]);
    let again = slice.clone();
    drop(slice);
    assert!(guests.next_return().is_none() && guests.held() == 1);
    drop(again);
    let back = guests.next_return().unwrap();
    assert_eq!((back.home(), guests.held(), lab.frames.held()), (7, 0, 1));
    abroad.take_back(back);
    assert!(abroad.is_empty());
    lab.assert_nothing_leaked();
}

#[test]
fn z08_nothing_is_ever_copied_behind_a_guests_bytes() {
    let lab = Lab::new(8, 2048, 4);
    let mut abroad = Abroad::new(0, 8);
    let guests = GuestPool::new(8);
    let mut page = pages::LogicalPage::new();
    for i in 0..6 {
        let parcel = abroad.post(lab.data_with_room(i, 10)).unwrap();
        let segment = Segment::data(guests.receive(parcel).unwrap());
        page.write(usize::from(i) * 10, segment, &lab.pull_up())
            .unwrap();
    }
    // The home's clusters end where they ended; a page of this shard took the copies.
    assert!(lab.pages.held() == 1 && page.is_valid(0..60));
    drop(page);
    while let Some(back) = guests.next_return() {
        abroad.take_back(back);
    }
    lab.assert_nothing_leaked();
}

#[test]
fn too_many_parcels_and_guests_come_back() {
    let lab = Lab::new(4, 2048, 1);
    let mut abroad = Abroad::new(0, 2);
    let guests = GuestPool::new(1);
    let first = abroad.post(lab.data(1, 10)).unwrap();
    let second = abroad.post(lab.data(2, 10)).unwrap();
    let third = abroad.post(lab.data(3, 10)).unwrap_err();
    assert_eq!(third.len(), 10);
    assert!(abroad.post(Segment::null(10)).is_err());
    let slice = guests.receive(first).unwrap();
    let second = guests.receive(second).unwrap_err();
    drop(slice);
    let back = guests.next_return().unwrap();
    abroad.take_back(back);
    assert_eq!(guests.receive(second).unwrap().bytes(), [2; 10]);
}

/// Memory that was lent and did not come back is kept for good, not freed.
#[test]
fn a_home_that_ends_first_leaves_its_bytes_in_place() {
    let guests = GuestPool::new(1);
    let slice = {
        let lab = Lab::new(4, 2048, 1);
        let mut abroad = Abroad::new(0, 1);
        let parcel = abroad.post(lab.data(9, 100)).unwrap();
        guests.receive(parcel).unwrap()
    };
    assert_eq!(slice.bytes(), [9; 100]);
}

/// One shard receives, another owns the pages: writes go over by reference,
/// are read back by reference, and every cluster comes home.
#[test]
fn frames_written_on_one_shard_are_cached_on_another_without_a_copy() {
    const ROUNDS: u64 = 2000;
    let (mut to_owner, mut from_home) = ring(64);
    let (mut to_home, mut from_owner) = ring(64);
    let (done, finished) = mpsc::channel();
    let owner = thread::spawn(move || {
        let lab = Lab::new(1, 2048, 64);
        let guests = GuestPool::new(512);
        let runs = RunPool::new(2, PAGE_SIZE);
        let mut cache = PageCache::new(CacheConfig {
            pages: 32,
            clusters: 128,
            dirty_pages: 32,
            requests: 2,
            operations: 4,
            max_bytes: PAGE_SIZE,
            seed: 1,
        });
        let volume = cache
            .add_volume(VolumeConfig {
                len: 1 << 30,
                block: 512,
                policy: WritePolicy::Back,
                device_cache: false,
            })
            .unwrap();
        let mut round = 0;
        let mut run = runs.take().unwrap();
        run.begin(0, PAGE_SIZE).unwrap();
        while round < ROUNDS {
            match from_home.receive() {
                Some(Crossing::Parcel { tag, parcel }) => {
                    let slice = guests.receive(parcel).unwrap();
                    run.place(tag as usize, slice, &lab.pull_up()).unwrap();
                }
                Some(Crossing::Message {
                    tag,
                    words: [sum, _],
                }) => {
                    assert!(run.is_complete() && tag == round);
                    let request = Request::Write { run, fua: false };
                    cache.submit(volume, request, tag, &lab.pull_up()).unwrap();
                    while cache.requests() > 0 {
                        while let Some(operation) = cache.next_operation() {
                            cache.complete(operation, Ok(()), &lab.pull_up());
                        }
                        if let Some(completion) = cache.next_completion() {
                            runs.put(completion.run.unwrap());
                        }
                    }
                    // Read it back: it is in the cache, in the home's clusters.
                    let mut read = runs.take().unwrap();
                    read.begin(tag * 4096, PAGE_SIZE).unwrap();
                    cache
                        .submit(volume, Request::Read { run: read }, tag, &lab.pull_up())
                        .unwrap();
                    let read = cache.next_completion().unwrap().run.unwrap();
                    let bytes = read.segments().flat_map(|s| s.bytes().unwrap());
                    assert_eq!(bytes.map(|&b| u64::from(b)).sum::<u64>(), sum);
                    runs.put(read);
                    round += 1;
                    run = runs.take().unwrap();
                    run.begin(round * 4096, PAGE_SIZE).unwrap();
                }
                Some(Crossing::Return(_)) => unreachable!("nothing was lent"),
                None => thread::yield_now(),
            }
            while to_home.room() > 0
                && let Some(back) = guests.next_return()
            {
                to_home.send(Crossing::Return(back)).unwrap();
            }
        }
        assert_eq!(lab.ledger.bytes_copied_total(), 0);
        drop((run, cache));
        while let Some(back) = guests.next_return() {
            while to_home.send(Crossing::Return(back)).is_err() {
                thread::yield_now();
            }
        }
        done.send(()).unwrap();
    });
    let lab = Lab::new(512, 2048, 1);
    let mut abroad = Abroad::new(3, 512);
    let mut random = Random::new(11);
    let mut rounds = 0;
    let mut ended = false;
    while !ended || !abroad.is_empty() {
        ended |= finished.try_recv().is_ok();
        assert!(ended || !owner.is_finished(), "the owner panicked");
        while let Some(crossing) = from_owner.receive() {
            let Crossing::Return(back) = crossing else {
                unreachable!("only returns come");
            };
            abroad.take_back(back);
        }
        if rounds == ROUNDS || to_owner.room() < 4 || lab.frames.free() < 3 {
            thread::yield_now();
            continue;
        }
        let mut sum = 0;
        for (at, len) in [(0, 1448), (1448, 1448), (2896, 1200)] {
            let fill = random.below(256) as u8;
            sum += u64::from(fill) * len as u64;
            let parcel = abroad.post(lab.data_with_room(fill, len)).unwrap();
            to_owner.send(Crossing::Parcel { tag: at, parcel }).unwrap();
        }
        to_owner
            .send(Crossing::Message {
                tag: rounds,
                words: [sum, 0],
            })
            .unwrap();
        rounds += 1;
    }
    owner.join().unwrap();
    lab.assert_nothing_leaked();
}
