//! Requests that their hosts want back: those of which nothing was begun end as aborted, and leave no
//! trace; the others go on (NVMe base 2.0, 5.1).

mod lab;

use block::{Fault, WritePolicy};
use lab::{HOST, Lab, NAMESPACE, OTHER};

const ABORTED: Result<(), Fault> = Err(Fault::Aborted);

#[test]
fn what_waits_for_its_turn_at_a_device_is_given_back() {
    let mut lab = Lab::new(WritePolicy::Through, 1);
    for id in 1..=4 {
        lab.zero(HOST, id);
    }
    lab.zero(OTHER, 2);
    // The device has the first.
    assert!(!lab.abort(HOST, 1));
    // Whose it is matters, and that there is one.
    assert!(!lab.abort(OTHER, 3) && !lab.abort(HOST, 9));
    assert!(lab.abort(HOST, 3) && !lab.abort(HOST, 3));
    assert!(lab.abort(HOST, 2));
    assert_eq!(lab.ends(), [(HOST, 3, ABORTED), (HOST, 2, ABORTED)]);
    let rest = [(HOST, 1, Ok(())), (HOST, 4, Ok(())), (OTHER, 2, Ok(()))];
    assert_eq!(lab.finish(), rest);
    assert_eq!(lab.given(), [1, 4, 2]);
}

#[test]
fn what_waits_behind_a_fence_is_given_back() {
    let mut lab = Lab::new(WritePolicy::Through, 8);
    let fence = lab.fences.raise(NAMESPACE, 0, 1 << 20);
    lab.zero(HOST, 1);
    lab.zero(OTHER, 1);
    assert!(lab.ends().is_empty() && lab.given().is_empty());
    assert!(lab.abort(HOST, 1) && !lab.abort(HOST, 1));
    assert_eq!(lab.ends(), [(HOST, 1, ABORTED)]);
    lab.fences.lower(fence);
    lab.ends();
    // Of the two it is the other's that the device has now.
    assert!(!lab.abort(OTHER, 1));
    assert_eq!(lab.finish(), [(OTHER, 1, Ok(()))]);
    assert_eq!(lab.given(), [1]);
}

#[test]
fn what_waits_for_room_in_the_cache_is_given_back() {
    let mut lab = Lab::new(WritePolicy::Back, 1);
    for id in 1..=4 {
        lab.zero(HOST, id);
    }
    // Two are in the cache, whose device is slow.
    assert!(!lab.abort(HOST, 1) && !lab.abort(HOST, 2));
    assert!(lab.abort(HOST, 3));
    assert_eq!(lab.ends(), [(HOST, 3, ABORTED)]);
    let mut rest = lab.finish();
    rest.sort_by_key(|&(_, id, _)| id);
    assert_eq!(rest, [1, 2, 4].map(|id| (HOST, id, Ok(()))));
    assert!(!lab.given().contains(&3));
}
