//! Pages that cross from one shard to another and back, on threads of their own.

mod common;

use std::sync::mpsc;
use std::thread;

use block::{Flags, Io, RequestId, VolumeId, WritePolicy};
use cache::{CacheConfig, PageCache, VolumeConfig};
use common::{Lab, Random};
use pages::{BorrowedPool, LentSegment, LentTable, PAGE_SIZE, RunPool};
use sync::ring::ring;

/// What the lender says to the owner.
enum Message {
    /// A segment of the write, and where it is in it.
    Lent { at: usize, segment: LentSegment },
    /// The write is complete: its number, and the sum of its bytes.
    Complete { tag: u64, sum: u64 },
}

/// One shard receives, another owns the pages: writes go over by reference,
/// are read back by reference, and every cluster is returned.
#[test]
fn frames_written_on_one_shard_are_cached_on_another_without_a_copy() {
    const ROUNDS: u64 = 2000;
    let (mut to_owner, mut from_lender) = ring(64);
    let (mut to_lender, mut from_owner) = ring(64);
    let (done, finished) = mpsc::channel();
    let owner = thread::spawn(move || {
        let lab = Lab::new(1, 2048, 64);
        let borrowed = BorrowedPool::new(512);
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
        let volume = VolumeId(0);
        cache
            .add_volume(
                volume,
                VolumeConfig {
                    len: 1 << 30,
                    block: 512,
                    policy: WritePolicy::Back,
                    device_cache: false,
                },
            )
            .unwrap();
        let mut round = 0;
        let mut run = runs.take().unwrap();
        run.begin(0, PAGE_SIZE).unwrap();
        while round < ROUNDS {
            match from_lender.receive() {
                Some(Message::Lent { at, segment }) => {
                    let slice = borrowed.borrow(segment).unwrap();
                    run.place(at, slice, &lab.pull_up()).unwrap();
                }
                Some(Message::Complete { tag, sum }) => {
                    assert!(run.is_complete() && tag == round);
                    let request = Io::write(run, Flags::NONE);
                    cache
                        .submit(volume, RequestId(tag), request, &lab.pull_up())
                        .unwrap();
                    while cache.requests() > 0 {
                        while let Some(operation) = cache.next_operation() {
                            cache.complete(operation.id, operation.io.run, Ok(()), &lab.pull_up());
                        }
                        if let Some(completion) = cache.next_completion() {
                            runs.put(completion.run.unwrap());
                        }
                    }
                    // Read it back: it is in the cache, in the lender's clusters.
                    let mut read = runs.take().unwrap();
                    read.begin(tag * 4096, PAGE_SIZE).unwrap();
                    cache
                        .submit(
                            volume,
                            RequestId(tag),
                            Io::read(read, Flags::NONE),
                            &lab.pull_up(),
                        )
                        .unwrap();
                    let read = cache.next_completion().unwrap().run.unwrap();
                    let bytes = read.segments().flat_map(|s| s.bytes().unwrap());
                    assert_eq!(bytes.map(|&b| u64::from(b)).sum::<u64>(), sum);
                    runs.put(read);
                    round += 1;
                    run = runs.take().unwrap();
                    run.begin(round * 4096, PAGE_SIZE).unwrap();
                }
                None => thread::yield_now(),
            }
            while to_lender.room() > 0
                && let Some(back) = borrowed.next_return()
            {
                to_lender.send(back).unwrap();
            }
        }
        assert_eq!(lab.ledger.bytes_copied_total(), 0);
        drop((run, cache));
        while let Some(back) = borrowed.next_return() {
            let mut unsent = back;
            while let Err(back) = to_lender.send(unsent) {
                unsent = back;
                thread::yield_now();
            }
        }
        done.send(()).unwrap();
    });
    let lab = Lab::new(512, 2048, 1);
    let mut lent = LentTable::new(3, 512);
    let mut random = Random::new(11);
    let mut rounds = 0;
    let mut ended = false;
    while !ended || !lent.is_empty() {
        ended |= finished.try_recv().is_ok();
        assert!(ended || !owner.is_finished(), "the owner panicked");
        while let Some(back) = from_owner.receive() {
            lent.take_back(back);
        }
        if rounds == ROUNDS || to_owner.room() < 4 || lab.frames.free() < 3 {
            thread::yield_now();
            continue;
        }
        let mut sum = 0;
        for (at, len) in [(0, 1448), (1448, 1448), (2896, 1200)] {
            let fill = random.below(256) as u8;
            sum += u64::from(fill) * len as u64;
            let segment = lent.lend(lab.data_with_room(fill, len), 0).unwrap();
            assert!(to_owner.send(Message::Lent { at, segment }).is_ok());
        }
        let complete = Message::Complete { tag: rounds, sum };
        assert!(to_owner.send(complete).is_ok());
        rounds += 1;
    }
    owner.join().unwrap();
    lab.assert_nothing_leaked();
}
