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
