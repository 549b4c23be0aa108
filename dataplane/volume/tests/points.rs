//! Consistency points that somebody waits for: when they say that drives have it, drives have it.

mod lab;

use std::time::Duration;

use block::{Fault, Flags, Io, VolumeId, WritePolicy};
use lab::{HOST, Lab, NAMESPACE};
use volume::PointEnd;

/// Volume 0 is a drive; volume 1 is none of the shard's, but the log's store.
const LOG: usize = 1;

/// A write is stable, so it is acknowledged; the drive has not been given anything.
fn log_a_write(lab: &mut Lab, id: u64) {
    lab.zero_at(NAMESPACE, HOST, id);
    lab.ends();
    assert_eq!(lab.serve(LOG), [(HOST, id, Ok(()))]);
}

/// Turns in which no device ends anything.
fn turns(lab: &mut Lab) {
    for _ in 0..4 {
        assert_eq!(lab.ends(), []);
    }
}

#[test]
fn s04_a_consistency_point_that_is_wanted_ends_when_drives_have_it() {
    let mut lab = Lab::logged();
    assert_eq!(
        Lab::new(WritePolicy::Through, 8).volumes.point_end(),
        Some(PointEnd::NoLog)
    );
    log_a_write(&mut lab, 7);
    assert_eq!(lab.given(), []);
    lab.volumes.consistency_point();
    turns(&mut lab);
    assert_eq!(lab.given(), [7]);
    assert_eq!(lab.volumes.point_end(), None, "the drive has not done it");
    lab.serve(0);
    turns(&mut lab);
    assert_eq!(lab.volumes.point_end(), None, "the log does not say so");
    lab.finish();
    let Some(PointEnd::Done { bytes }) = lab.volumes.point_end() else {
        panic!("{:?}", lab.volumes.point_end());
    };
    assert!(bytes >= 4096, "a group was freed: {bytes} bytes");
    // Nothing was written since.
    lab.volumes.consistency_point();
    lab.finish();
    assert_eq!(lab.volumes.point_end(), Some(PointEnd::Done { bytes: 0 }));
}

#[test]
fn s04_a_consistency_point_that_had_begun_is_not_the_one_that_is_wanted() {
    let mut lab = Lab::logged();
    log_a_write(&mut lab, 1);
    lab.volumes.consistency_point();
    turns(&mut lab);
    assert_eq!(lab.given(), [1]);
    // It goes to the other half, which this one does not free.
    log_a_write(&mut lab, 2);
    lab.volumes.consistency_point();
    while lab.given().len() < 2 {
        assert_eq!(lab.volumes.point_end(), None);
        lab.serve(0);
        lab.serve(LOG);
    }
    assert_eq!(lab.given(), [1, 2]);
    assert_eq!(lab.volumes.point_end(), None, "the drive has not done it");
    lab.finish();
    assert!(matches!(
        lab.volumes.point_end(),
        Some(PointEnd::Done { bytes: 1.. })
    ));
    assert_eq!(lab.volumes.log_counters().map(|log| log.points), Some(2));
}

/// Whoever takes a namespace away may take its drive out next.
#[test]
fn s04_a_namespace_that_goes_leaves_what_was_acknowledged_on_its_drive() {
    let mut lab = Lab::logged();
    log_a_write(&mut lab, 7);
    assert!(lab.volumes.close_namespace(NAMESPACE));
    lab.flush_volume(VolumeId(0));
    turns(&mut lab);
    assert_eq!(lab.given(), [7]);
    assert!(lab.volumes.is_flushing(), "the drive has not done it");
    lab.finish();
    assert!(!lab.volumes.is_flushing());
}

#[test]
fn s04_a_drive_that_fails_ends_the_wait_and_the_log_keeps_it() {
    let mut lab = Lab::logged();
    log_a_write(&mut lab, 3);
    lab.benches[0].borrow_mut().fault = Some(Fault::WriteError);
    lab.volumes.consistency_point();
    while lab.volumes.point_end().is_none() {
        lab.ends();
        (0..=LOG).for_each(|disk| drop(lab.serve(disk)));
    }
    let Some(PointEnd::DriveFailed { fault, bytes }) = lab.volumes.point_end() else {
        panic!("{:?}", lab.volumes.point_end());
    };
    assert_eq!(fault, Fault::WriteError);
    assert!(bytes >= 4096, "{bytes} bytes stay in the log");
    // It is tried again; a stop that waits for requests does not wait for that.
    assert_eq!(lab.volumes.in_flight(), 0);
    assert_eq!(lab.volumes.log_counters().map(|log| log.points), Some(0));
    // The drive works again: one that is wanted now is made.
    lab.benches[0].borrow_mut().fault = None;
    lab.now += Duration::from_secs(2);
    lab.volumes.consistency_point();
    while lab.volumes.point_end().is_none() {
        lab.ends();
        (0..=LOG).for_each(|disk| drop(lab.serve(disk)));
    }
    assert!(matches!(
        lab.volumes.point_end(),
        Some(PointEnd::Done { .. })
    ));
    assert!(lab.volumes.log_counters().is_some_and(|log| log.points > 0));
}

#[test]
fn s04_a_log_that_fails_ends_the_wait() {
    let mut lab = Lab::logged();
    log_a_write(&mut lab, 4);
    lab.benches[LOG].borrow_mut().fault = Some(Fault::WriteError);
    lab.volumes.consistency_point();
    while lab.volumes.point_end().is_none() {
        lab.ends();
        (0..=LOG).for_each(|disk| drop(lab.serve(disk)));
    }
    let failed = PointEnd::LogFailed(Fault::WriteError);
    assert_eq!(lab.volumes.point_end(), Some(failed));
    // The drive has it nevertheless.
    assert!(lab.given().contains(&4));
}

/// A drive that ends nothing keeps both halves in use: what is too long for the rest is told to try again, and
/// what is not goes on.
#[test]
fn s06_what_has_room_in_a_log_that_is_nearly_full_is_not_turned_away() {
    let mut lab = Lab::logged();
    let room = |lab: &Lab| {
        let log = lab.volumes.log_counters().expect("a log");
        (log.half_size - log.half_used) / 4096
    };
    log_a_write(&mut lab, 1);
    lab.volumes.consistency_point();
    turns(&mut lab);
    assert_eq!(lab.given(), [1], "the drive has it, and does not end it");
    // After so long nobody is slowed any more.
    lab.now += Duration::from_secs(10);
    while room(&lab) > 4 {
        log_a_write(&mut lab, 2);
    }
    let mut run = lab.buffers.runs.take().expect("a run");
    run.begin(0, 8 * 4096).expect("a run that is long enough");
    run.place_fresh(&lab.buffers.pages).expect("pages");
    lab.start(NAMESPACE, HOST, 3, Io::write(run, Flags::NONE));
    // The drive has had its time.
    assert_eq!(lab.ends(), [(HOST, 3, Err(Fault::Busy))]);
    // The second waits for the first one's group to be written.
    lab.zero_at(NAMESPACE, HOST, 4);
    lab.zero_at(NAMESPACE, HOST, 5);
    let mut ends = lab.ends();
    while ends.len() < 2 {
        ends.extend(lab.serve(LOG));
    }
    assert_eq!(ends, [(HOST, 4, Ok(())), (HOST, 5, Ok(()))]);
}

/// Writes until one waits; how much of the half is used then, of 100.
fn write_until_held(lab: &mut Lab) -> u64 {
    loop {
        lab.write_at(NAMESPACE, HOST, 0, 1);
        let mut ends = lab.ends();
        ends.extend(lab.serve(LOG));
        ends.extend(lab.ends());
        if ends.is_empty() {
            let log = lab.volumes.log_counters().expect("a log");
            assert_eq!(log.waiting, 1);
            assert!(lab.abort(HOST, 0));
            assert_eq!(lab.ends(), [(HOST, 0, Err(Fault::Aborted))]);
            return log.half_used * 100 / log.half_size;
        }
        assert_eq!(ends, [(HOST, 0, Ok(()))]);
    }
}

/// Hosts have been told of what the last group has: a header says so soon, though the next change waits for a drive.
#[test]
fn s07_what_was_acknowledged_is_said_though_changes_wait() {
    let mut lab = Lab::logged();
    log_a_write(&mut lab, 1);
    lab.volumes.consistency_point();
    turns(&mut lab);
    // Half a group more than may be used: a little later that is still too much.
    log_a_write(&mut lab, 2);
    write_until_held(&mut lab);
    lab.write_at(NAMESPACE, HOST, 0, 1);
    assert_eq!(lab.ends(), []);
    let log = |lab: &Lab| {
        let log = lab.volumes.log_counters().expect("a log");
        (log.groups, log.records, log.waiting)
    };
    let (groups, records, waiting) = log(&lab);
    assert_eq!(waiting, 1);
    lab.now += Duration::from_millis(20);
    assert_eq!(lab.ends(), []);
    assert_eq!(log(&lab), (groups + 1, records, 1));
    // In the end the half is full, but for a header that says so.
    assert!(lab.abort(HOST, 0));
    lab.now += Duration::from_secs(11);
    lab.serve(LOG);
    let mut turned_away = false;
    while !turned_away {
        lab.zero_at(NAMESPACE, HOST, 3);
        let mut ends = lab.ends();
        ends.extend(lab.serve(LOG));
        turned_away = ends.contains(&(HOST, 3, Err(Fault::Busy)));
    }
    let (groups, records, _) = log(&lab);
    lab.now += Duration::from_millis(20);
    assert_eq!(lab.ends(), []);
    assert_eq!(log(&lab), (groups + 1, records, 0));
    let counters = lab.volumes.log_counters().expect("a log");
    assert_eq!(counters.half_used, counters.half_size);
}

/// As the consistency point gets on, by pages or by time, so may they; the end of the half is never reached at full speed.
#[test]
fn s06_writers_go_as_fast_as_a_consistency_point_does_while_it_lasts() {
    let mut lab = Lab::logged();
    for page in 0..16 {
        // Every other page: none is written along with its neighbour.
        log_a_write(&mut lab, 2 * page);
    }
    lab.volumes.consistency_point();
    turns(&mut lab);
    let paced = |lab: &Lab| lab.volumes.log_counters().map(|log| log.paced);
    assert_eq!(paced(&lab), Some(0));
    let at_once = write_until_held(&mut lab);
    assert!((24..=27).contains(&at_once), "{at_once} %");
    assert_eq!(paced(&lab), Some(1));
    // Half of the pages are on the drive, and half of the rest of the half can be used.
    lab.serve_some(0, 8);
    let half_way = write_until_held(&mut lab);
    assert!((61..=65).contains(&half_way), "{half_way} %");
    // Nothing more is; but changes wait for no longer than for a half that is full.
    lab.now += Duration::from_secs(8);
    let late = write_until_held(&mut lab);
    assert!((84..=88).contains(&late), "{late} %");
    // What waits for a half that is full is not held for ever, but told to try again: at once, as the drive has had its time.
    lab.now += Duration::from_secs(3);
    while lab
        .volumes
        .log_counters()
        .is_some_and(|log| log.half_used + 8192 <= log.half_size)
    {
        log_a_write(&mut lab, 63);
    }
    lab.write_at(NAMESPACE, HOST, 1, 1);
    assert_eq!(lab.ends(), [(HOST, 1, Err(Fault::Busy))]);
    // The half is free, and the next consistency point begins: it is more than half full.
    lab.finish();
    let log = lab.volumes.log_counters().expect("a log");
    assert!(log.points >= 1 && log.full == 1, "{log:?}");
}

/// It is not done without before nothing in it can be replayed; then a write is in stable storage of the drive before it
/// is acknowledged.
#[test]
fn s07_a_log_that_failed_and_is_empty_can_be_done_without() {
    for through in [false, true] {
        let mut lab = Lab::logged_or(through);
        log_a_write(&mut lab, 4);
        lab.benches[LOG].borrow_mut().fault = Some(Fault::WriteError);
        lab.zero_at(NAMESPACE, HOST, 5);
        turns(&mut lab);
        assert_eq!(lab.serve(LOG), [], "a replay may find it, or not");
        // The drive has what was acknowledged; that the log is empty cannot be written yet.
        lab.zero_at(NAMESPACE, HOST, 6);
        for _ in 0..4 {
            assert_eq!(lab.serve(0), []);
            assert_eq!(lab.serve(LOG), []);
        }
        assert_eq!(lab.given(), [4]);
        let is_through = |lab: &Lab| lab.volumes.log_counters().map(|log| log.through);
        assert_eq!(is_through(&lab), Some(0));
        lab.benches[LOG].borrow_mut().fault = None;
        lab.now += Duration::from_secs(2);
        let mut ends = Vec::new();
        for _ in 0..8 {
            ends.extend(lab.ends());
            ends.extend(lab.serve(LOG));
        }
        let fault = Err(Fault::WriteError);
        assert_eq!(is_through(&lab), Some(through.into()));
        match through {
            false => assert_eq!(ends, [(HOST, 5, fault), (HOST, 6, fault)]),
            true => {
                assert_eq!(ends, [(HOST, 5, fault)]);
                assert_eq!(
                    lab.given(),
                    [4, 6],
                    "the drive is given it, and has not done it"
                );
                assert_eq!(lab.serve(0), [(HOST, 6, Ok(()))]);
            }
        }
    }
}
