//! Deallocations of logged volumes: logged, done by the drive, and only then at their end (rows K5, S1, S4).

mod lab;

use std::time::Duration;

use block::{Fault, Io, Op};
use lab::{Bench, HOST, Lab, NAMESPACE};
use volume::PointEnd;

/// Volume 0 is a drive of 1024 blocks of 4096 bytes, of which one record may deallocate 256; volume 1 is none of the
/// shard's, but the log's store.
const LOG: usize = 1;

fn deallocate(lab: &mut Lab, id: u64, block: u64, blocks: u64) {
    let io = Io::deallocate(block * 4096, blocks * 4096);
    lab.start(NAMESPACE, HOST, id, io);
}

fn records(lab: &Lab) -> u64 {
    lab.volumes.log_counters().map_or(0, |log| log.records)
}

#[test]
fn s01_k05_a_drive_deallocates_what_is_stable_and_then_its_host_is_told() {
    let mut lab = Lab::logged();
    deallocate(&mut lab, 1, 4, 8);
    assert_eq!((lab.ends(), lab.told(0)), (vec![], vec![]));
    assert_eq!(lab.serve(LOG), []);
    assert_eq!(lab.told(0), [(Op::Deallocate, 4, 8)]);
    assert_eq!(lab.ends(), []);
    assert_eq!(lab.serve(0), [(HOST, 1, Ok(()))]);
    let log = lab.volumes.log_counters().unwrap();
    assert_eq!((log.records, log.deallocated_bytes), (1, 8 * 4096));
}

#[test]
fn s04_k05_a_half_is_free_when_its_deallocations_are_done() {
    let mut lab = Lab::logged();
    deallocate(&mut lab, 1, 0, 8);
    lab.ends();
    lab.serve(LOG);
    lab.volumes.consistency_point();
    for _ in 0..4 {
        assert_eq!((lab.ends(), lab.serve(LOG)), (vec![], vec![]));
    }
    assert_eq!(lab.volumes.point_end(), None, "the drive has not done it");
    assert_eq!(lab.serve(0), [(HOST, 1, Ok(()))]);
    lab.finish();
    let end = lab.volumes.point_end();
    assert!(matches!(end, Some(PointEnd::Done { bytes: 4096.. })));
}

/// What overlaps one that its drive has waits, and nothing else does.
#[test]
fn k05_only_what_overlaps_waits_for_the_drive() {
    let mut lab = Lab::logged();
    deallocate(&mut lab, 1, 4, 8);
    lab.ends();
    lab.serve(LOG);
    lab.zero(HOST, 5);
    lab.zero(HOST, 20);
    lab.zero(HOST, 6);
    lab.ends();
    assert_eq!(lab.serve(LOG), [(HOST, 20, Ok(()))]);
    lab.read_at(NAMESPACE, HOST, 30, 5);
    assert_eq!((lab.ends(), lab.ends()), (vec![], vec![]));
    assert_eq!(lab.told(0), [(Op::Deallocate, 4, 8)]);
    let mut ends = lab.serve(0);
    ends.extend(lab.finish());
    let mut ended: Vec<u64> = ends.iter().map(|end| end.1).collect();
    ended.sort_unstable();
    assert_eq!(ended, [1, 5, 6, 30]);
    assert!(ends.iter().all(|end| end.2 == Ok(())));
}

#[test]
fn k05_a_range_of_any_length_takes_records_one_after_the_other() {
    let mut lab = Lab::logged();
    deallocate(&mut lab, 1, 0, 1000);
    for (n, range) in [(0, 256), (256, 256), (512, 256), (768, 232)]
        .into_iter()
        .enumerate()
    {
        assert_eq!(lab.ends(), []);
        assert_eq!(records(&lab), n as u64 + 1);
        assert_eq!(lab.serve(LOG), []);
        assert_eq!(lab.told(0), [(Op::Deallocate, range.0, range.1)]);
        let ends = lab.serve(0);
        assert_eq!(ends.len(), usize::from(n == 3), "{ends:?}");
    }
    // A drive that takes its time keeps the rest: it is advice.
    deallocate(&mut lab, 2, 0, 1000);
    lab.ends();
    lab.serve(LOG);
    lab.now += Duration::from_secs(5);
    lab.ends();
    assert_eq!(lab.serve(0), [(HOST, 2, Ok(()))]);
    assert_eq!(lab.told(0), [(Op::Deallocate, 0, 256)]);
    lab.finish();
}

/// It may have done any part: zeros take the place of all of it, and they are logged too.
#[test]
fn k05_what_a_drive_fails_to_deallocate_is_zeroed() {
    let mut lab = Lab::logged();
    deallocate(&mut lab, 1, 0, 600);
    lab.ends();
    lab.serve(LOG);
    lab.benches[0].borrow_mut().fault = Some(Fault::WriteError);
    assert_eq!(lab.serve(0), []);
    lab.benches[0].borrow_mut().fault = None;
    assert!(!lab.abort(HOST, 1), "some of it may be done");
    assert_eq!(lab.told(0), [(Op::Deallocate, 0, 256)]);
    lab.ends();
    assert_eq!(records(&lab), 2);
    let mut ends = lab.serve(LOG);
    ends.extend(lab.finish());
    // The rest is left.
    assert_eq!(ends, [(HOST, 1, Ok(()))]);
    let log = lab.volumes.log_counters().unwrap();
    assert_eq!((log.deallocated_bytes, log.deallocations_failed), (0, 1));
    lab.volumes.consistency_point();
    assert!((0..4).all(|_| lab.ends().is_empty()));
    lab.finish();
    let mut written: Vec<u64> = Vec::new();
    for (op, block, blocks) in lab.told(0) {
        assert_eq!(op, Op::Write);
        written.extend(block..block + blocks);
    }
    written.sort_unstable();
    assert!(written.into_iter().eq(0..256));
    // The drive rests, and is asked again.
    deallocate(&mut lab, 3, 0, 8);
    assert_eq!(lab.ends(), [(HOST, 3, Ok(()))]);
    lab.now += Duration::from_secs(60);
    lab.finish();
    lab.told(0);
    deallocate(&mut lab, 4, 600, 8);
    lab.ends();
    lab.serve(LOG);
    assert_eq!(lab.told(0), [(Op::Deallocate, 600, 8)]);
    assert_eq!(lab.serve(0), [(HOST, 4, Ok(()))]);
}

#[test]
fn k05_of_a_drive_whose_deallocated_blocks_may_be_anything_nothing_is_done() {
    let drive = Bench {
        keeps_deallocated: true,
        ..Bench::default()
    };
    let mut lab = Lab::logged_on(drive, false);
    deallocate(&mut lab, 1, 0, 8);
    assert_eq!(lab.ends(), [(HOST, 1, Ok(()))]);
    assert_eq!((lab.told(0), records(&lab)), (vec![], 0));
}

/// Each owner has a record of what it owns, and has the drive do that.
#[test]
fn k05_s01_owners_log_and_deallocate_what_they_own() {
    let [mut asking, mut other] = Lab::logged_pair();
    deallocate(&mut asking, 1, 0, 1024);
    let mut ends = Vec::new();
    for _ in 0..20 {
        ends.extend(asking.ends());
        other.ends();
        for volume in [LOG, 0] {
            ends.extend(asking.serve(volume));
            other.ends();
        }
    }
    assert_eq!(ends, [(HOST, 1, Ok(()))]);
    assert!(records(&asking) > 0 && records(&other) > 0);
    let mut blocks: Vec<u64> = Vec::new();
    for (op, block, count) in asking.told(0) {
        assert_eq!(op, Op::Deallocate);
        blocks.extend(block..block + count);
    }
    blocks.sort_unstable();
    assert!(blocks.into_iter().eq(0..1024));
    let done = [&asking, &other].map(|lab| lab.volumes.log_counters().unwrap());
    let bytes: u64 = done.iter().map(|log| log.deallocated_bytes).sum();
    assert_eq!(bytes, 1024 * 4096);
}
