//! A device that does not answer: what it leaves to others, and how it is made to answer.

mod lab;

use std::time::Duration;

use block::{Fault, NamespaceIndex, WritePolicy};
use lab::{HOST, Lab, NAMESPACE, OTHER};

const SECOND: Duration = Duration::from_secs(1);
/// The namespace of the device that answers.
const WELL: NamespaceIndex = NamespaceIndex(1);
const GONE: Result<(), Fault> = Err(Fault::Gone);

/// Two volumes; the first device may have a command for so long.
fn two(timeout: Option<Duration>) -> Lab {
    Lab::with(WritePolicy::Through, &[(1000, timeout), (1000, None)], 128)
}

#[test]
fn z12_a_device_that_does_not_answer_leaves_operations() {
    let mut lab = two(None);
    let (all, _) = lab.volumes.operations();
    for id in 0..all as u64 {
        lab.zero(HOST, id);
    }
    let (_, free) = lab.volumes.operations();
    assert!(free.abs_diff(all / 2) <= 1, "{free} of {all}");
    for id in 0..20 {
        lab.zero_at(WELL, OTHER, id);
        assert_eq!(lab.serve(1), [(OTHER, id, Ok(()))]);
    }
    assert_eq!(lab.finish().len(), all);
}

#[test]
fn z12_a_device_that_does_not_answer_leaves_pages() {
    let mut lab = two(None);
    let all = lab.buffers.pages.free();
    for id in 0..16 {
        lab.read_at(NAMESPACE, HOST, id, all / 16);
    }
    let free = lab.buffers.pages.free();
    assert!(free >= all * 3 / 8, "{free} of {all}");
    lab.read_at(WELL, OTHER, 99, all / 16);
    assert_eq!(lab.serve(1), [(OTHER, 99, Ok(()))]);
    // Its pages were for somebody, and the next to want some has them.
    assert_eq!(lab.finish().len(), 16);
    assert_eq!(lab.buffers.pages.free(), all);
}

#[test]
fn what_waits_for_one_device_is_in_nobody_elses_way() {
    let mut lab = two(None);
    lab.benches[0].borrow_mut().depth = 1;
    for id in 0..4 {
        lab.zero(HOST, id);
    }
    lab.benches[1].borrow_mut().depth = 0;
    lab.zero_at(WELL, OTHER, 1);
    lab.zero_at(WELL, OTHER, 2);
    lab.benches[1].borrow_mut().depth = 2;
    assert!(lab.ends().is_empty());
    assert_eq!(lab.serve(1), [(OTHER, 2, Ok(())), (OTHER, 1, Ok(()))]);
    assert_eq!(lab.finish().len(), 4);
}

#[test]
fn a_device_is_recovered_when_it_keeps_a_command_for_too_long() {
    let mut lab = two(Some(5 * SECOND));
    lab.zero(HOST, 1);
    let recoveries = |lab: &mut Lab, seconds| {
        lab.now += seconds * SECOND;
        let ends = lab.ends();
        (lab.benches[0].borrow().recoveries, ends)
    };
    assert_eq!(recoveries(&mut lab, 4), (0, vec![]));
    assert_eq!(recoveries(&mut lab, 2), (1, vec![]));
    // It has as long again.
    assert_eq!(recoveries(&mut lab, 4), (1, vec![]));
    // It answers after all, and what it is given later has its own time.
    assert_eq!(lab.serve(0), [(HOST, 1, Ok(()))]);
    lab.zero(HOST, 2);
    assert_eq!(recoveries(&mut lab, 4), (1, vec![]));
    assert_eq!(recoveries(&mut lab, 2), (2, vec![]));
    assert_eq!(recoveries(&mut lab, 6), (3, vec![]));
    assert!(!lab.benches[0].borrow().is_gone);
    // What is idle is not late.
    assert_eq!(lab.finish(), [(HOST, 2, Ok(()))]);
    assert_eq!(recoveries(&mut lab, 60), (3, vec![]));
}

#[test]
fn a_device_that_does_not_recover_is_given_up_with_all_that_waits_for_it() {
    let mut lab = two(Some(5 * SECOND));
    lab.benches[0].borrow_mut().depth = 1;
    let fence = lab.fences.raise(NAMESPACE, 40 * 4096, 4096);
    for id in [1, 2, 40] {
        lab.zero(HOST, id);
    }
    for _ in 0..2 {
        lab.now += 6 * SECOND;
        assert_eq!(lab.ends(), []);
    }
    lab.now += 6 * SECOND;
    let mut ends = lab.ends();
    ends.extend(lab.ends());
    ends.sort_by_key(|&(_, id, _)| id);
    assert_eq!(ends, [1, 2, 40].map(|id| (HOST, id, GONE)));
    assert_eq!(lab.benches[0].borrow().recoveries, 2);
    lab.fences.lower(fence);
    lab.zero_at(WELL, OTHER, 1);
    assert_eq!(lab.finish(), [(OTHER, 1, Ok(()))]);
}

/// A device that says for as long that it has no room is no better.
#[test]
fn a_device_that_takes_nothing_is_recovered_too() {
    let mut lab = two(Some(5 * SECOND));
    lab.benches[0].borrow_mut().depth = 0;
    lab.zero(HOST, 1);
    lab.now += 6 * SECOND;
    assert_eq!(lab.ends(), []);
    assert_eq!(lab.benches[0].borrow().recoveries, 1);
    lab.benches[0].borrow_mut().depth = 1;
    assert_eq!(lab.finish(), [(HOST, 1, Ok(()))]);
}

/// What has pages, and waits for its device, is never behind what waits for pages.
#[test]
fn what_has_its_pages_does_not_wait_for_what_has_none() {
    let mut lab = two(None);
    lab.benches[0].borrow_mut().depth = 0;
    // Forty are left, for ever: the second finds one too few, and the third would take what it needs.
    let others = lab.buffers.pages.free() - 40;
    let _taken: Vec<_> = (0..others).map(|_| lab.buffers.pages.alloc()).collect();
    for (id, pages) in [(1, 9), (2, 32), (3, 9)] {
        lab.read_at(NAMESPACE, HOST, id, pages);
    }
    assert_eq!(lab.ends(), []);
    lab.benches[0].borrow_mut().depth = 1;
    assert_eq!(lab.finish(), [1, 2, 3].map(|id| (HOST, id, Ok(()))));
}

/// Two volumes behind a cache that takes two requests at a time.
fn two_cached(timeout: Option<Duration>) -> Lab {
    Lab::with(WritePolicy::Back, &[(1000, timeout), (1000, None)], 128)
}

#[test]
fn z12_a_device_behind_the_cache_leaves_requests_in_it() {
    let mut lab = two_cached(None);
    for id in 0..10 {
        lab.zero(HOST, id);
    }
    for id in 0..10 {
        lab.zero_at(WELL, OTHER, id);
        assert_eq!(lab.serve(1), [(OTHER, id, Ok(()))]);
    }
    assert_eq!(lab.finish().len(), 10);
}

/// What waits for it in the cache ends with it, and so does what comes later.
#[test]
fn z12_a_device_behind_the_cache_is_recovered_and_given_up() {
    let mut lab = two_cached(Some(5 * SECOND));
    for id in 0..10 {
        lab.zero(HOST, id);
    }
    for recoveries in 1..=2 {
        lab.now += 6 * SECOND;
        assert_eq!(lab.ends(), []);
        assert_eq!(lab.benches[0].borrow().recoveries, recoveries);
    }
    lab.now += 6 * SECOND;
    let mut ends = Vec::new();
    for _ in 0..10 {
        ends.extend(lab.ends());
    }
    ends.sort_by_key(|&(_, id, _)| id);
    assert_eq!(
        ends,
        std::array::from_fn::<_, 10, _>(|id| (HOST, id as u64, GONE))
    );
    lab.zero_at(WELL, OTHER, 1);
    assert_eq!(lab.serve(1), [(OTHER, 1, Ok(()))]);
    lab.zero(HOST, 11);
    assert_eq!(lab.finish(), [(HOST, 11, GONE)]);
}

/// A page of a namespace that the other shard owns.
fn theirs([mine, other]: &mut [Lab; 2], namespace: NamespaceIndex) -> u64 {
    let asked = |lab: &Lab| {
        let counters = lab.volumes.cache_counters().expect("a cache");
        let asked = counters
            .iter()
            .find(|counter| counter.name == "parts_asked");
        asked.expect("a counter").value
    };
    let theirs = |page: &u64| {
        let before = asked(mine);
        mine.write_at(namespace, HOST, 1000, *page);
        for _ in 0..4 {
            mine.ends();
            other.ends();
        }
        asked(mine) > before
    };
    (0..4)
        .map(|range| range * 256)
        .find(theirs)
        .expect("one that they own")
}

/// What the owner cannot write keeps what it was lent for it: the volume of that device alone waits,
/// and after a second is told why.
#[test]
fn z12_what_an_owner_cannot_write_leaves_what_others_need_to_lend() {
    let mut pair = Lab::pair(WritePolicy::Back, &[(1000, None), (1000, None)]);
    let first = theirs(&mut pair, NAMESPACE);
    let well = theirs(&mut pair, WELL);
    let [mine, other] = &mut pair;
    mine.benches[0].borrow_mut().fault = Some(Fault::WriteError);
    let mut ends = Vec::new();
    let mut started = 0;
    // Four segments each, and half of all there are.
    for id in 0..90 {
        mine.write_at(NAMESPACE, HOST, id, first + id);
        started += 1;
        for _ in 0..3 {
            ends.extend(mine.ends());
            other.serve(0);
        }
        if started - ends.len() == 4 {
            break;
        }
    }
    assert!(ends.iter().all(|(.., result)| result.is_ok()));
    assert_eq!(started - ends.len(), 4, "of {started}");
    for id in 0..20 {
        mine.write_at(WELL, OTHER, id, well + id);
        let mut done = Vec::new();
        for _ in 0..3 {
            done.extend(mine.ends());
            other.serve(1);
        }
        assert_eq!(done, [(OTHER, id, Ok(()))]);
    }
    let mut told = Vec::new();
    for _ in 0..20 {
        mine.now += SECOND / 4;
        told.extend(mine.ends());
        other.serve(0);
    }
    assert_eq!(told.len(), 4);
    assert!(
        told.iter()
            .all(|&(.., result)| result == Err(Fault::WriteError))
    );
}
