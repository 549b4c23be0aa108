//! A log that is short of pages, for the headers of groups and for payload that its store does not take as it lies: hosts
//! are told to try again before they lose patience.

mod lab;

use std::time::Duration;

use block::Fault;
use lab::{Bench, End, HOST, Lab, NAMESPACE};

/// Volume 0 is a drive; volume 1 is none of the shard's, but the log's store.
const LOG: usize = 1;

/// All pages but so many, held by somebody.
fn hold(lab: &Lab, but: usize) -> Vec<pages::Fresh> {
    let held = lab.buffers.pages.free() - but;
    (0..held).map_while(|_| lab.buffers.pages.alloc()).collect()
}

/// A write goes through the log.
fn write(lab: &mut Lab, id: u64) -> Vec<End> {
    lab.write_at(NAMESPACE, HOST, id, id);
    let mut ends = lab.ends();
    ends.extend(lab.serve(LOG));
    ends.extend(lab.ends());
    ends
}

#[test]
fn s06_a_write_that_finds_no_page_for_the_log_is_told_to_try_again() {
    // One for the header; of lists that meet at pages also one for the payload, and three are left to others.
    for (prp, but) in [(false, 0), (true, 3)] {
        let mut lab = Lab::logged_in(Bench {
            prp,
            ..Bench::default()
        });
        assert_eq!(write(&mut lab, 1), [(HOST, 1, Ok(()))]);
        let held = hold(&lab, but);
        lab.now += Duration::from_secs(1);
        assert_eq!(write(&mut lab, 2), []);
        assert_eq!(lab.volumes.short_since(), Some(lab.now));
        lab.now += Duration::from_secs(9);
        assert_eq!(write(&mut lab, 3), []);
        lab.now += Duration::from_secs(1);
        let busy = |id| (HOST, id, Err(Fault::Busy));
        assert_eq!(lab.ends(), [busy(2), busy(3)], "prp: {prp}");
        let log = lab.volumes.log_counters().expect("a log");
        assert_eq!((log.turned_away, log.waiting), (2, 0));
        assert_eq!(lab.volumes.short_since(), None);
        // What comes later has as long again, and is written once there are pages.
        assert_eq!(write(&mut lab, 4), []);
        lab.now += Duration::from_secs(5);
        drop(held);
        let mut ends = lab.ends();
        ends.extend(lab.serve(LOG));
        ends.extend(lab.ends());
        assert_eq!(ends, [(HOST, 4, Ok(()))]);
        assert_eq!(lab.volumes.short_since(), None);
    }
}

/// Parts that a shard has asked the other one for.
fn asked(lab: &Lab) -> u64 {
    let counters = lab.volumes.cache_counters().expect("a cache");
    let asked = counters.iter().find(|one| one.name == "parts_asked");
    asked.expect("a counter").value
}

/// Both shards go on, and the log's store does what it was told.
fn turns([mine, other]: &mut [Lab; 2]) -> Vec<End> {
    let mut ends = Vec::new();
    for _ in 0..4 {
        ends.extend(mine.ends());
        other.ends();
        ends.extend(mine.serve(LOG));
        other.ends();
        // The drive fails what it is told.
        ends.extend(mine.serve(0));
        other.ends();
    }
    ends
}

/// What an owner has of a drive that takes nothing keeps what was lent for it, though it is in the log.
#[test]
fn s06_z12_a_write_that_finds_nothing_to_be_lent_for_it_is_told_to_try_again() {
    let mut pair = Lab::logged_pair_of(1 << 14);
    pair[0].benches[0].borrow_mut().fault = Some(Fault::WriteError);
    let is_theirs = |first: &u64| {
        let before = asked(&pair[0]);
        pair[0].write_at(NAMESPACE, HOST, 1000, *first);
        assert_eq!(turns(&mut pair), [(HOST, 1000, Ok(()))]);
        asked(&pair[0]) > before
    };
    let first = (0..4).map(|range| range * 256).find(is_theirs);
    let first = first.expect("pages of the other shard");
    let (mut started, mut ended) = (0, 0);
    while started - ended < 4 {
        pair[0].write_at(NAMESPACE, HOST, started, first + started);
        started += 1;
        let ends = turns(&mut pair);
        assert!(ends.iter().all(|(.., result)| result.is_ok()), "{ends:?}");
        ended += ends.len() as u64;
    }
    let log = pair[1].volumes.log_counters().expect("a log");
    assert!(ended > 4 && log.waiting == 0, "{log:?}");
    let mut told = Vec::new();
    for _ in 0..20 {
        pair[0].now += Duration::from_millis(250);
        told.extend(turns(&mut pair));
    }
    let results: Vec<_> = told.iter().map(|&(.., result)| result).collect();
    assert_eq!(results, [Err(Fault::Busy); 4]);
    // Once the drive takes what the log has, they are taken.
    pair[0].benches[0].borrow_mut().fault = None;
    for lab in &mut pair {
        lab.now += Duration::from_secs(60);
    }
    pair[0].write_at(NAMESPACE, HOST, started, first);
    let mut ends = Vec::new();
    for _ in 0..20 {
        pair[0].now += Duration::from_millis(250);
        ends.extend(turns(&mut pair));
    }
    assert_eq!(ends, [(HOST, started, Ok(()))]);
}
