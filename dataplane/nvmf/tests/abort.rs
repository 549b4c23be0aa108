//! Abort: by queue and CID, across the queues of a controller; what waits is taken back, what a
//! device has is not (base 2.0, 5.1).

mod rig;

use block::Fault;
use nvmf::CloseReason;
use rig::host::{Host, Manners, Pdu, command, in_capsule, rw, sc, sqe, transport, write_asked};
use rig::{Rig, Sizes};

const ABORTED: (u16, u16) = (0, 0x07);
const AER: u8 = 0x0c;

fn read(lba: u64, blocks: u32) -> [u8; 64] {
    let mut sqe = rw(0x02, 2, lba, blocks);
    transport(&mut sqe, blocks * 4096);
    sqe
}

/// Sends an Abort of command `cid` of queue `sqid`; its own CID.
fn send_abort(rig: &mut Rig, admin: &mut Host, sqid: u16, cid: u16) -> u16 {
    admin.submit(rig, command::Command::abort(sqid, cid).sqe, &[])
}

/// Lets the timers of both queues run, and the volumes be asked; they give nothing back but what `gives`.
fn settle(rig: &mut Rig, admin: &mut Host, io: &mut Host, gives: bool) {
    io.session.advance(rig.now, &mut rig.shard());
    while let Some(id) = io.session.next_abort() {
        let held = rig.disks.held.iter().position(|(_, held)| held.id == id);
        match held {
            Some(at) if gives => {
                let (_, request) = rig.disks.held.remove(at);
                let completion = block::Completion {
                    id,
                    result: Err(Fault::Aborted),
                    run: request.io.run,
                };
                io.session.complete(completion, &mut rig.shard());
            }
            _ => io.session.not_aborted(id, &rig.shard()),
        }
    }
    io.run(rig);
    admin.session.advance(rig.now, &mut rig.shard());
    admin.run(rig);
}

/// An Abort and what it comes to: whether it says that the command was aborted.
fn abort(rig: &mut Rig, admin: &mut Host, io: &mut Host, cid: u16) -> bool {
    let abort = send_abort(rig, admin, 1, cid);
    assert!(
        !admin.answers.contains_key(&abort),
        "an answer before the queue knows"
    );
    settle(rig, admin, io, false);
    let answer = admin.answer(abort);
    assert_eq!(answer.status, 0);
    answer.result & 1 == 0
}

fn ready(sizes: Sizes) -> (Rig, Host, Host) {
    let mut rig = Rig::with(rig::config(), sizes);
    let admin = Host::admin(&mut rig, Manners::default());
    let io = admin.io(&mut rig, 1, 32);
    (rig, admin, io)
}

fn done(mut rig: Rig, mut admin: Host, mut io: Host) {
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn base_5_1_the_queue_is_part_of_what_is_named() {
    let (mut rig, mut admin, mut io) = ready(Sizes::default());
    // The same CID is that of a parked event request on the Admin Queue, and of a read on queue 1.
    let parked = admin.submit(&mut rig, sqe(AER, 0), &[]);
    rig.disks.hold = true;
    while io.kit.next_cid() != parked {
        io.kit.take_cid();
    }
    let cid = io.submit(&mut rig, read(0, 1), &[]);
    assert_eq!(cid, parked);
    assert!(!abort(&mut rig, &mut admin, &mut io, cid));
    assert!(!admin.answers.contains_key(&parked), "it is still parked");
    // It runs on, as the answer said.
    rig.disks.hold = false;
    rig.release(&mut io.session);
    io.run(&mut rig);
    assert_eq!(io.answer(cid).status, 0);
    // Of the Admin Queue it is the other, at once.
    let told = send_abort(&mut rig, &mut admin, 0, parked);
    assert_eq!(admin.answer(told).result & 1, 0);
    assert_eq!(sc(admin.answer(parked).status), ABORTED);
    // Nothing is aborted that is not there: no such command, no such queue, itself.
    assert!(!abort(&mut rig, &mut admin, &mut io, 0x4242));
    for (sqid, cid) in [(0, 0x4242), (2, cid), (0xffff, cid)] {
        let told = send_abort(&mut rig, &mut admin, sqid, cid);
        let answer = admin.answer(told);
        assert_eq!((answer.status, answer.result & 1), (0, 1), "queue {sqid}");
    }
    let itself = admin.kit.next_cid();
    let told = send_abort(&mut rig, &mut admin, 0, itself);
    assert_eq!((told, admin.answer(told).result & 1), (itself, 1));
    done(rig, admin, io);
}

#[test]
fn base_5_1_a_write_that_waits_for_its_turn_to_send_is_not_done() {
    // Credit for one write at a time.
    let sizes = Sizes {
        write_bytes: 8192,
        ..Sizes::default()
    };
    let (mut rig, mut admin, mut io) = ready(sizes);
    let mut other = admin.io(&mut rig, 2, 32);
    let first = io.submit(&mut rig, write_asked(0, 2), &[]);
    let second = io.submit_asked(&mut rig, write_asked(8, 2), &[5; 8192]);
    let third = io.submit_asked(&mut rig, write_asked(16, 2), &[6; 8192]);
    assert!(io.session.is_waiting());
    assert_eq!(rig.counters.r2ts, 1);
    assert!(abort(&mut rig, &mut admin, &mut io, second));
    assert_eq!(sc(io.answer(second).status), ABORTED);
    assert!(abort(&mut rig, &mut admin, &mut io, third));
    assert_eq!(sc(io.answer(third).status), ABORTED);
    assert!(!io.session.is_waiting());
    // What was requested of the first arrives.
    let Some(Pdu::R2t { cid, ttag, .. }) = io.pdus.pop_front() else {
        panic!("an R2T");
    };
    let data = io.h2c_data(cid, ttag, 0, &[7; 8192], true);
    io.send(&mut rig, &data);
    assert_eq!(io.answer(first).status, 0);
    // Nobody holds the turn that those had waited for.
    let write = other.submit_asked(&mut rig, write_asked(32, 2), &[9; 8192]);
    assert_eq!(other.answer(write).status, 0);
    assert!(
        rig.disks.volumes[&102][8 * 4096..24 * 4096]
            .iter()
            .all(|&b| b == 0)
    );
    other.close(&mut rig);
    done(rig, admin, io);
}

#[test]
fn base_5_1_a_write_whose_r2t_was_not_sent_is_not_done() {
    let (mut rig, mut admin, mut io) = ready(Sizes::default());
    io.sent.room = 0;
    let write = io.submit_asked(&mut rig, write_asked(0, 2), &[5; 8192]);
    assert_eq!(rig.counters.r2ts, 0);
    let told = send_abort(&mut rig, &mut admin, 1, write);
    settle(&mut rig, &mut admin, &mut io, false);
    // Its response is not sent, so nobody is told yet.
    assert!(!admin.answers.contains_key(&told));
    io.sent.room = usize::MAX;
    settle(&mut rig, &mut admin, &mut io, false);
    assert_eq!(sc(io.answer(write).status), ABORTED);
    assert_eq!(admin.answer(told).result & 1, 0);
    assert_eq!(rig.counters.r2ts, 0);
    done(rig, admin, io);
}

/// The host sends what an R2T requested, whatever it asked of the Admin Queue: until then the command
/// keeps its tag and its CID.
#[test]
fn tcp_3_3_3_1_data_on_the_way_for_an_aborted_write_meets_nothing() {
    for digest in [false, true] {
        let mut rig = Rig::new();
        let manners = Manners {
            data_digest: digest,
            ..Manners::default()
        };
        let mut admin = Host::admin(&mut rig, manners);
        let mut io = admin.io(&mut rig, 1, 32);
        let write = io.submit(&mut rig, write_asked(0, 2), &[]);
        let Some(Pdu::R2t { cid, ttag, .. }) = io.pdus.pop_front() else {
            panic!("an R2T");
        };
        let other = io.submit(&mut rig, write_asked(4, 1), &[]);
        let Some(Pdu::R2t { ttag: others, .. }) = io.pdus.pop_front() else {
            panic!("an R2T");
        };
        assert_ne!(ttag, others);
        // Some of it has come, and the rest of the PDU is cut.
        let first = io.h2c_data(cid, ttag, 0, &[1; 4096], false);
        let (head, tail) = first.split_at(1000);
        io.send(&mut rig, head);
        let told = send_abort(&mut rig, &mut admin, 1, write);
        settle(&mut rig, &mut admin, &mut io, false);
        assert!(!io.answers.contains_key(&write) && !admin.answers.contains_key(&told));
        // The memory is free at once; the slot is not.
        assert_eq!(rig.runs.available(), rig.runs_total - 1);
        // A second Abort of the same is not what aborts it.
        let again = send_abort(&mut rig, &mut admin, 1, write);
        assert_eq!(admin.answer(again).result & 1, 1);
        io.send(&mut rig, tail);
        assert!(!io.answers.contains_key(&write));
        let second = io.h2c_data(cid, ttag, 4096, &[1; 4096], true);
        io.send(&mut rig, &second);
        assert_eq!(sc(io.answer(write).status), ABORTED);
        settle(&mut rig, &mut admin, &mut io, false);
        assert_eq!(admin.answer(told).result & 1, 0);
        // Now the CID may be used again, with a tag that may be the same.
        let data = io.h2c_data(other, others, 0, &[2; 4096], true);
        io.send(&mut rig, &data);
        assert_eq!(io.answer(other).status, 0);
        assert!(
            rig.disks.volumes[&102][..8192]
                .iter()
                .all(|&byte| byte == 0)
        );
        // Data of an R2T that is not out is an error, as ever.
        let late = io.h2c_data(cid, ttag, 0, &[3; 4096], true);
        io.send(&mut rig, &late);
        assert!(matches!(
            io.session.closing(),
            Some(CloseReason::Malformed(_))
        ));
        io.pdus.clear();
        done(rig, admin, io);
    }
}

/// A host that forgets an aborted write does not hold its slot for ever.
#[test]
fn base_5_1_a_host_that_sends_no_data_for_an_aborted_write_is_disconnected() {
    let (mut rig, mut admin, mut io) = ready(Sizes::default());
    let write = io.submit(&mut rig, write_asked(0, 2), &[]);
    let told = send_abort(&mut rig, &mut admin, 1, write);
    settle(&mut rig, &mut admin, &mut io, false);
    rig.now = rig.now.plus_ms(30_000);
    io.session.advance(rig.now, &mut rig.shard());
    assert_eq!(io.session.closing(), Some(CloseReason::DataTimeout));
    io.close(&mut rig);
    admin.session.advance(rig.now, &mut rig.shard());
    admin.run(&mut rig);
    assert_eq!(admin.answer(told).result & 1, 1, "its queue is gone");
    io.pdus.clear();
    done(rig, admin, io);
}

#[test]
fn base_5_1_a_write_whose_capsule_is_arriving_is_not_done() {
    let (mut rig, mut admin, mut io) = ready(Sizes::default());
    let mut write = rw(0x01, 2, 0, 1);
    in_capsule(&mut write, 4096);
    let (cid, capsule) = io.capsule(write, &[5; 4096]);
    let (head, tail) = capsule.split_at(1000);
    io.send(&mut rig, head);
    let told = send_abort(&mut rig, &mut admin, 1, cid);
    settle(&mut rig, &mut admin, &mut io, false);
    assert!(!admin.answers.contains_key(&told));
    io.send(&mut rig, tail);
    assert_eq!(sc(io.answer(cid).status), ABORTED);
    settle(&mut rig, &mut admin, &mut io, false);
    assert_eq!(admin.answer(told).result & 1, 0);
    assert!(rig.disks.asked.is_empty());
    done(rig, admin, io);
}

#[test]
fn base_5_1_a_read_that_waits_for_memory_is_not_done() {
    let sizes = Sizes {
        runs: 4,
        runs_reserved: 2,
        ..Sizes::default()
    };
    let (mut rig, mut admin, mut io) = ready(sizes);
    rig.disks.hold = true;
    let cids: Vec<u16> = (0..5)
        .map(|n| io.submit(&mut rig, read(n, 1), &[]))
        .collect();
    assert_eq!(io.session.outstanding(), 2);
    // From the middle, the front and the end of those that wait.
    for at in [3, 2, 4] {
        assert!(abort(&mut rig, &mut admin, &mut io, cids[at]));
        assert_eq!(sc(io.answer(cids[at]).status), ABORTED);
    }
    assert!(!io.session.is_waiting());
    rig.disks.hold = false;
    rig.release(&mut io.session);
    io.run(&mut rig);
    assert_eq!(
        (io.answer(cids[0]).status, io.answer(cids[1]).status),
        (0, 0)
    );
    done(rig, admin, io);
}

/// The queues of a controller are on different shards. Neither slot nor run is there for a command: it
/// is still in the stream, and what is behind it goes on when it is aborted.
#[test]
fn base_5_1_a_command_that_waits_for_a_slot_on_another_shard_is_not_done() {
    for in_its_capsule in [false, true] {
        let mut here = Rig::new();
        let mut there = here.beside(Sizes {
            slots: 6,
            ..Sizes::default()
        });
        let mut admin = Host::admin(&mut here, Manners::default());
        let mut io = admin.io(&mut there, 1, 32);
        there.disks.hold = true;
        let reads: Vec<u16> = (0..5)
            .map(|n| io.submit(&mut there, read(n, 1), &[]))
            .collect();
        let waits = match in_its_capsule {
            false => io.submit(&mut there, read(9, 1), &[]),
            true => {
                let mut write = rw(0x01, 2, 9, 1);
                in_capsule(&mut write, 4096);
                io.submit(&mut there, write, &[5; 4096])
            }
        };
        assert!(io.session.is_blocked());
        let told = send_abort(&mut here, &mut admin, 1, waits);
        io.session.advance(there.now, &mut there.shard());
        io.run(&mut there);
        assert!(!io.session.is_blocked());
        assert_eq!(sc(io.answer(waits).status), ABORTED);
        admin.session.advance(here.now, &mut here.shard());
        admin.run(&mut here);
        assert_eq!(admin.answer(told).result & 1, 0);
        there.disks.hold = false;
        there.release(&mut io.session);
        io.run(&mut there);
        for cid in reads {
            assert_eq!(io.answer(cid).status, 0);
        }
        assert!(there.disks.volumes[&102].iter().all(|&byte| byte == 0));
        io.close(&mut there);
        there.assert_all_returned();
        admin.close(&mut here);
        here.assert_all_returned();
    }
}

#[test]
fn base_5_1_what_volumes_have_is_theirs_to_give_back() {
    let (mut rig, mut admin, mut io) = ready(Sizes::default());
    rig.disks.hold = true;
    let write = io.submit_asked(&mut rig, write_asked(0, 2), &[5; 8192]);
    let flush = io.submit(&mut rig, sqe(0x00, 2), &[]);
    assert_eq!(io.session.outstanding(), 2);
    // They have begun it.
    assert!(!abort(&mut rig, &mut admin, &mut io, write));
    // They have not.
    for cid in [write, flush] {
        let told = send_abort(&mut rig, &mut admin, 1, cid);
        settle(&mut rig, &mut admin, &mut io, true);
        assert_eq!(sc(io.answer(cid).status), ABORTED);
        assert_eq!(admin.answer(told).result & 1, 0);
    }
    assert_eq!(io.session.outstanding(), 0);
    // Ranges of which some may be at a device: not one of them is given back.
    let mut deallocate = sqe(0x09, 2);
    deallocate[40] = 1;
    deallocate[44] = 1 << 2;
    in_capsule(&mut deallocate, 32);
    let mut ranges = [0; 32];
    (ranges[4], ranges[20], ranges[24]) = (1, 1, 8);
    let cid = io.submit(&mut rig, deallocate, &ranges);
    assert_eq!(io.session.outstanding(), 2);
    let told = send_abort(&mut rig, &mut admin, 1, cid);
    settle(&mut rig, &mut admin, &mut io, true);
    assert_eq!(admin.answer(told).result & 1, 1);
    rig.disks.hold = false;
    rig.release(&mut io.session);
    io.run(&mut rig);
    assert_eq!(io.answer(cid).status, 0);
    done(rig, admin, io);
}

/// ACL: four at a time.
#[test]
fn base_5_1_one_abort_too_many_is_refused() {
    let (mut rig, mut admin, mut io) = ready(Sizes::default());
    let most = admin.identify(&mut rig, 0x01, 0).data[258];
    let told: Vec<u16> = (0..=most)
        .map(|n| send_abort(&mut rig, &mut admin, 1, 0x4000 + u16::from(n)))
        .collect();
    let one_more = send_abort(&mut rig, &mut admin, 1, 0x5000);
    assert_eq!(sc(admin.answer(one_more).status), (1, 0x03));
    settle(&mut rig, &mut admin, &mut io, false);
    for cid in told {
        assert_eq!(admin.answer(cid).result & 1, 1);
    }
    assert!(!abort(&mut rig, &mut admin, &mut io, 0x5000));
    done(rig, admin, io);
}

#[test]
fn base_5_1_an_abort_for_a_queue_that_goes_has_an_end() {
    let (mut rig, mut admin, mut io) = ready(Sizes::default());
    let told = send_abort(&mut rig, &mut admin, 1, 5);
    assert_eq!(io.disconnect(&mut rig).status, 0);
    settle(&mut rig, &mut admin, &mut io, false);
    assert_eq!(admin.answer(told).result & 1, 1);
    io.close(&mut rig);
    // After a reset Aborts are void, as parked event requests are.
    let mut io = admin.io(&mut rig, 1, 32);
    let void = send_abort(&mut rig, &mut admin, 1, 5);
    let aborts: Vec<u16> = (0..3)
        .map(|n| send_abort(&mut rig, &mut admin, 1, 6 + n))
        .collect();
    io.close(&mut rig);
    admin.set_property(&mut rig, 0x14, 0);
    admin.set_property(&mut rig, 0x14, 0x0046_0001);
    settle(&mut rig, &mut admin, &mut io, false);
    assert!(!admin.answers.contains_key(&void));
    assert!(aborts.iter().all(|cid| !admin.answers.contains_key(cid)));
    // They take no place from those that follow.
    let mut io = admin.io(&mut rig, 1, 32);
    for n in 0..4 {
        send_abort(&mut rig, &mut admin, 1, 0x4000 + n);
    }
    settle(&mut rig, &mut admin, &mut io, false);
    assert_eq!(admin.answers.len(), 4);
    admin.answers.clear();
    done(rig, admin, io);
}
