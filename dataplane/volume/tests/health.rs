//! How devices do, as their volumes see them.

mod lab;

use block::{DeviceState, Fault, NamespaceIndex, WritePolicy};
use lab::{HOST, Lab};

/// One fault is a bad block, one after the other is a bad device; one that is done right says
/// that the device works. Each device has its own.
#[test]
fn k06_a_device_that_fails_whatever_it_is_asked_is_told() {
    let mut lab = Lab::with(WritePolicy::Through, &[(8, None), (8, None)], 16);
    let mut after = |disk: usize, result: Result<(), Fault>, times: usize| {
        let mut bench = lab.benches[disk].borrow_mut();
        (bench.fault, bench.is_gone) = (result.err(), result == Err(Fault::Gone));
        drop(bench);
        for _ in 0..times {
            lab.zero_at(NamespaceIndex(disk as u32), HOST, 1);
            assert_eq!(lab.serve(disk), [(HOST, 1, result)]);
        }
        lab.volumes.device_states().collect::<Vec<_>>()
    };
    use DeviceState::{Failing, Gone, Works};
    let bad = Err(Fault::WriteError);
    assert_eq!(after(0, Ok(()), 1), [Works, Works]);
    assert_eq!(after(0, bad, 2), [Works, Works]);
    assert_eq!(after(0, Ok(()), 1), [Works, Works]);
    assert_eq!(after(0, bad, 2), [Works, Works], "not in a row");
    assert_eq!(after(1, bad, 3), [Works, Failing]);
    assert_eq!(after(0, bad, 1), [Failing, Failing]);
    assert_eq!(after(1, Ok(()), 1), [Failing, Works]);
    // What no device is to blame for changes nothing.
    assert_eq!(after(0, Err(Fault::NoSpace), 1), [Failing, Works]);
    assert_eq!(after(1, Err(Fault::NoSpace), 9), [Failing, Works]);
    assert_eq!(after(0, Ok(()), 1), [Works, Works]);
    assert_eq!(after(1, Err(Fault::Gone), 0), [Works, Gone]);
}
