//! After a connection is set up, I/O allocates nothing (issue 2, "must hold").
//!
//! One test to this file: the counting allocator is the process's.

mod rig;

use std::cell::Cell;

use pages::Slice;
use rig::host::{Host, Manners, Pdu, in_capsule, rw, sqe, transport};
use rig::{Rig, Sizes, config};
use testkit::allocations::{Counting, here};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `f` and counts the allocations it makes.
fn counted<T>(f: impl FnOnce() -> T) -> T {
    let before = here();
    let result = f();
    ALLOCATIONS.set(ALLOCATIONS.get() + here() - before);
    result
}

/// Hands frames to the session and does what it asks, counting.
fn exchange(rig: &mut Rig, host: &mut Host, frames: Vec<Slice>) {
    let now = rig.now;
    for slice in frames {
        counted(|| {
            let taken = host.session.receive(now, slice, &mut rig.shard());
            assert!(taken.is_ok());
            rig.serve(0, &mut host.session);
            host.session.transmit(&mut host.sent, &mut rig.shard());
        });
    }
}

fn frames(rig: &mut Rig, bytes: &[u8]) -> Vec<Slice> {
    bytes.chunks(1448).map(|part| rig.frame(part)).collect()
}

#[test]
fn the_i_o_path_allocates_nothing() {
    for digests in [false, true] {
        let manners = Manners {
            header_digest: digests,
            data_digest: digests,
            ..Manners::default()
        };
        // Of two writes by R2T one waits for the other.
        let sizes = Sizes {
            write_bytes: 128 * 1024,
            ..Sizes::default()
        };
        let mut rig = Rig::with(config(), sizes);
        rig.disks.quiet = true;
        let mut admin = Host::admin(&mut rig, manners);
        let mut io = admin.io(&mut rig, 1, 64);
        let small = vec![1; 4096];
        let large = vec![2; 128 * 1024];
        for round in 0..50 {
            io.sent.discard = true;
            let mut write = rw(0x01, 2, round, 1);
            in_capsule(&mut write, 4096);
            let (_, capsule) = io.capsule(write, &small);
            let list = frames(&mut rig, &capsule);
            exchange(&mut rig, &mut io, list);
            let mut read = rw(0x02, 2, round, 32);
            transport(&mut read, 128 * 1024);
            for sqe in [read, sqe(0x00, 1), rw(0x08, 2, round, 4)] {
                let (_, capsule) = io.capsule(sqe, &[]);
                let list = frames(&mut rig, &capsule);
                exchange(&mut rig, &mut io, list);
            }
            // By R2T: the host needs to see it.
            io.sent.discard = false;
            io.sent.bytes.reserve(1 << 20);
            for lba in [64, 96] {
                let mut write = rw(0x01, 2, lba, 32);
                transport(&mut write, 128 * 1024);
                let (_, capsule) = io.capsule(write, &[]);
                let list = frames(&mut rig, &capsule);
                exchange(&mut rig, &mut io, list);
            }
            for _ in 0..2 {
                io.parse();
                let Some(Pdu::R2t { cid, ttag, .. }) = io.pdus.pop_back() else {
                    panic!("no R2T");
                };
                let data = io.h2c_data(cid, ttag, 0, &large, true);
                let list = frames(&mut rig, &data);
                io.sent.bytes.reserve(1 << 20);
                exchange(&mut rig, &mut io, list);
                io.parse();
                assert!(matches!(
                    io.pdus.pop_front(),
                    Some(Pdu::Resp { status: 0, .. })
                ));
                let now = rig.now;
                counted(|| {
                    io.session.resume(now, &mut rig.shard());
                    io.session.transmit(&mut io.sent, &mut rig.shard());
                });
            }
            let now = rig.now;
            counted(|| {
                io.session.advance(now, &mut rig.shard());
                io.session.resume(now, &mut rig.shard());
            });
        }
        assert_eq!((rig.counters.writes, rig.counters.reads), (150, 50));
        rig.assert_no_copy();
        io.close(&mut rig);
        admin.close(&mut rig);
        rig.assert_all_returned();
    }
    assert_eq!(ALLOCATIONS.get(), 0, "allocations on the I/O path");
    // The counter does count.
    counted(|| drop(std::hint::black_box(vec![0u8; 64])));
    assert_eq!(ALLOCATIONS.get(), 1);
}
