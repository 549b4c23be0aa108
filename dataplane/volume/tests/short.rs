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
