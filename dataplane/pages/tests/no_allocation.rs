//! After start-up nothing allocates: placing, merging, pulling up, and dividing
//! reads into slices.

mod common;

use common::{Lab, Random};
use pages::{CopyReason, RunPool};
use testkit::{Counting, allocations};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn k04_placing_and_pulling_up_allocate_nothing() {
    let lab = Lab::new(600, 2048, 64);
    let runs = RunPool::new(2, 64 << 10);
    let mut random = Random::new(1);
    let n = allocations(|| {
        for round in 0..50 {
            let mut run = runs.take().unwrap();
            run.begin(round * 512, 32 << 10).unwrap();
            lab.place_frames(&mut run, &mut random, [60, 536, 1448][round as usize % 3]);
            assert!(run.is_complete());
            assert!(run.slices(100..20_000).map(|s| s.len()).sum::<usize>() == 19_900);
            run.make_whole(CopyReason::DeviceBounce, &lab.pull_up())
                .unwrap();
            runs.put(run);
        }
    });
    assert!(lab.ledger.bytes_copied(CopyReason::PullUp) > 0);
    assert_eq!(n, 0);
}
