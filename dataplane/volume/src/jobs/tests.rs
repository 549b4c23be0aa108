use std::cell::Cell;
use std::rc::Rc;

use block::{OpIndex, VolumeId};
use pages::{Arena, ClusterPool, CopyLedger, HeapRegion, RunPool};

use super::*;

/// A device that does, or fails, what it is asked at once.
#[derive(Clone)]
struct Disk(Rc<Cell<Result<(), Fault>>>);

impl Device for Disk {
    type Slot = ();

    fn geometry(&self) -> Geometry {
        Geometry {
            block_size: 512,
            blocks: 1000,
            metadata: 0,
            alignment: 1,
            prp: false,
            max_elements: 256,
            max_bytes: 1 << 20,
            write_cache: false,
            write_zeroes: true,
            unmap: true,
            deallocated_zeros: false,
        }
    }

    fn is_gone(&self) -> bool {
        self.0.get() == Err(Fault::Gone)
    }

    fn timeout(&self) -> Option<Duration> {
        None
    }

    fn recover(&mut self) {}

    fn give_up(&mut self) {}

    fn poll(&mut self) -> bool {
        false
    }

    fn submit(
        &mut self,
        ops: &mut OpTable<()>,
        op: OpIndex,
        _: usize,
        _: Command,
    ) -> Result<(), NotStarted> {
        let (request, result) = (ops.request(op), self.0.get());
        ops.ends().push(Completed {
            op,
            request,
            result,
        });
        Ok(())
    }
}

fn buffers() -> Buffers {
    let arena = Arena::new(HeapRegion::new(16));
    let zero_page = arena.zero_page().unwrap();
    Buffers {
        pages: ClusterPool::carve(&arena, 4, PAGE_SIZE).unwrap(),
        clusters: ClusterPool::carve(&arena, 4, 2048).unwrap(),
        runs: RunPool::new(4, 1 << 17),
        runs_len: 4,
        ledger: Rc::new(CopyLedger::new()),
        zero_page,
    }
}

/// One fault is a bad block, one after the other is a bad device; one that is done right says
/// that the device works. Each device has its own.
#[test]
fn k06_a_device_that_fails_whatever_it_is_asked_is_told() {
    let disks = [(); 2].map(|()| Disk(Rc::new(Cell::new(Ok(())))));
    let buffers = buffers();
    let mut jobs = Jobs::new(disks.to_vec(), 4, 8, 4, || (), false);
    let mut after = |disk: usize, result: Result<(), Fault>, times: usize| {
        disks[disk].0.set(result);
        for _ in 0..times {
            let io = Io {
                op: Op::WriteZeroes,
                flags: block::Flags::NONE,
                offset: 0,
                len: 4096,
                run: None,
            };
            jobs.start((), VolumeId(disk as u16), io, &buffers);
            let done = jobs.next_done(&buffers).expect("it ends at once");
            assert_eq!(done.result, result);
        }
        jobs.device_states().collect::<Vec<_>>()
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
