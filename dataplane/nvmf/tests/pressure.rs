//! Too little of everything: streams block and go on, R2Ts wait for credit,
//! nothing deadlocks, nobody else suffers.

mod rig;

use std::collections::VecDeque;

use nvmf::{CloseReason, Progress};
use rig::host::{Host, Manners, Pdu, in_capsule, rw, sc, sqe, transport, write_asked};
use rig::wire::Cut;
use rig::{Random, Rig, Sizes, config};

fn small(sizes: Sizes) -> Rig {
    Rig::with(config(), sizes)
}

fn write_4k(lba: u64) -> [u8; 64] {
    let mut sqe = rw(0x01, 2, lba, 1);
    in_capsule(&mut sqe, 4096);
    sqe
}

fn read(lba: u64, blocks: u32) -> [u8; 64] {
    let mut sqe = rw(0x02, 2, lba, blocks);
    transport(&mut sqe, blocks * 4096);
    sqe
}

#[test]
fn without_a_slot_the_stream_blocks_until_there_is_one() {
    // One of them is for writes by R2T.
    let mut rig = small(Sizes {
        slots: 6,
        ..Sizes::default()
    });
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 32);
    rig.disks.hold = true;
    let cids: Vec<u16> = (0..5)
        .map(|n| io.submit(&mut rig, read(n, 1), &[]))
        .collect();
    assert!(!io.session.is_blocked());
    let waits = io.submit(&mut rig, read(9, 1), &[]);
    assert!(io.session.is_blocked() && io.session.is_waiting());
    assert_eq!(rig.counters.blocked, 1);
    // A blocked session gives slices back untouched.
    let slice = rig.frame(&[1, 2, 3]);
    let now = rig.now;
    let back = io
        .session
        .receive(now, slice, &mut rig.shard())
        .unwrap_err();
    assert_eq!(back.bytes(), [1, 2, 3]);
    drop(back);
    rig.disks.hold = false;
    rig.release(&mut io.session);
    io.run(&mut rig);
    assert!(!io.session.is_waiting());
    for cid in cids.into_iter().chain([waits]) {
        assert_eq!(io.answer(cid).status, 0);
    }
    assert_eq!(rig.counters.interrupted, 0);
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn admin_queues_and_connects_have_slots_and_runs_while_devices_hang() {
    let mut rig = small(Sizes {
        slots: 32,
        runs: 40,
        runs_reserved: 2,
        ..Sizes::default()
    });
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 64);
    // Drives that do not answer, under more commands than there are slots.
    rig.disks.hold = true;
    let reads: Vec<u16> = (0..40)
        .map(|n| io.submit(&mut rig, read(n, 1), &[]))
        .collect();
    assert!(io.session.is_blocked());
    assert_eq!(rig.commands.in_use(), 29);
    let keep_alive = sqe(0x18, 0);
    assert_eq!(admin.without_data(&mut rig, keep_alive).status, 0);
    assert_eq!(admin.identify(&mut rig, 0x01, 0).status, 0);
    let mut other = admin.io(&mut rig, 2, 8);
    other.close(&mut rig);
    assert_eq!((rig.counters.interrupted, rig.counters.errors), (0, 0));

    rig.disks.hold = false;
    rig.release(&mut io.session);
    io.run(&mut rig);
    for cid in reads {
        assert_eq!(io.answer(cid).status, 0);
    }
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn without_a_run_in_capsule_data_blocks_and_r2ts_wait() {
    let mut rig = small(Sizes {
        runs: 4,
        runs_reserved: 2,
        ..Sizes::default()
    });
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 32);
    rig.disks.hold = true;
    // Reads and R2Ts leave the reserve alone.
    let reads: Vec<u16> = (0..4)
        .map(|n| io.submit(&mut rig, read(n, 1), &[]))
        .collect();
    assert_eq!((io.session.outstanding(), rig.runs.available()), (2, 2));
    let asked = io.submit_asked(&mut rig, write_asked(8, 2), &[3; 8192]);
    assert!(io.session.is_waiting() && !io.session.is_blocked());
    assert_eq!(rig.counters.r2ts, 0);
    // In-capsule data takes it, and then blocks.
    let mut writes = vec![];
    for n in 0..3 {
        writes.push(io.submit(&mut rig, write_4k(n), &[n as u8; 4096]));
    }
    assert!(io.session.is_blocked());
    assert_eq!((io.session.outstanding(), rig.runs.available()), (4, 0));
    // Trying again costs nothing.
    let in_use = rig.commands.in_use();
    let now = rig.now;
    for _ in 0..100 {
        assert_eq!(io.session.resume(now, &mut rig.shard()), Progress::Blocked);
    }
    assert_eq!(rig.commands.in_use(), in_use);
    rig.disks.hold = false;
    rig.release(&mut io.session);
    io.run(&mut rig);
    for cid in reads.into_iter().chain(writes).chain([asked]) {
        assert_eq!(io.answer(cid).status, 0);
    }
    assert!(!io.session.is_waiting());
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// The R2Ts that came, in their order: whose, and their tags.
fn r2ts(rig: &mut Rig, io: &mut Host) -> VecDeque<(u16, u16)> {
    io.run(rig);
    let tag = |pdu| match pdu {
        Pdu::R2t { cid, ttag, .. } => (cid, ttag),
        other => panic!("{other:?}"),
    };
    io.pdus.drain(..).map(tag).collect()
}

#[test]
fn hosts_that_exceed_the_write_credit_share_it_evenly() {
    const WRITE: usize = 16384;
    let mut rig = small(Sizes {
        write_bytes: 8 * WRITE as u64,
        ..Sizes::default()
    });
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut hosts = [1, 2].map(|qid| admin.io(&mut rig, qid, 32));
    // The first was there before.
    let mut asked = [VecDeque::new(), VecDeque::new()];
    for (io, asked) in hosts.iter_mut().zip(&mut asked) {
        for n in 0..20 {
            io.submit(&mut rig, write_asked(n * 4, 4), &[]);
        }
        asked.extend(r2ts(&mut rig, io));
    }
    assert_eq!(asked.each_ref().map(VecDeque::len), [5, 2]);
    // As its writes end, the other gets what they had.
    for _ in 0..3 {
        let (cid, ttag) = asked[0].pop_front().unwrap();
        let data = hosts[0].h2c_data(cid, ttag, 0, &[1; WRITE], true);
        hosts[0].send(&mut rig, &data);
        assert_eq!(hosts[0].answer(cid).status, 0);
        for (io, asked) in hosts.iter_mut().zip(&mut asked) {
            let now = rig.now;
            io.session.resume(now, &mut rig.shard());
            asked.extend(r2ts(&mut rig, io));
        }
    }
    assert_eq!(asked.each_ref().map(VecDeque::len), [3, 3]);
    hosts.into_iter().for_each(|mut io| io.close(&mut rig));
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn r2ts_are_sent_within_the_shard_s_write_credit() {
    let mut rig = small(Sizes {
        write_bytes: 40_000,
        ..Sizes::default()
    });
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 32);
    for n in 0..5 {
        io.submit(&mut rig, write_asked(n * 4, 4), &[]);
    }
    // Two of 16 KiB fit.
    let first = r2ts(&mut rig, &mut io);
    assert_eq!(
        (first.len(), rig.commands.write_bytes_granted()),
        (2, 32_768)
    );
    // While commands wait, the stream is not blocked: the data comes in it.
    assert!(io.session.is_waiting() && !io.session.is_blocked());
    for (cid, ttag) in first {
        let data = io.h2c_data(cid, ttag, 0, &[1; 16384], true);
        io.send(&mut rig, &data);
        assert_eq!(io.answer(cid).status, 0);
    }
    let second = r2ts(&mut rig, &mut io);
    assert_eq!(second.len(), 2);
    io.close(&mut rig);
    assert_eq!(rig.commands.write_bytes_granted(), 0);
    // Credit is given back when the write is done, though nobody reads of it.
    let mut io = admin.io(&mut rig, 1, 32);
    let cid = io.submit(&mut rig, write_asked(0, 4), &[]);
    let (_, ttag) = r2ts(&mut rig, &mut io)[0];
    io.sent.room = 0;
    let data = io.h2c_data(cid, ttag, 0, &[1; 16384], true);
    io.send(&mut rig, &data);
    assert_eq!(rig.commands.write_bytes_granted(), 0);
    io.sent.room = usize::MAX;
    io.run(&mut rig);
    assert_eq!(io.answer(cid).status, 0);
    // One write larger than all credit still goes, by itself.
    let data = vec![5; 65536];
    assert_eq!(io.asked_for(&mut rig, write_asked(0, 16), &data).status, 0);
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn a_stream_blocked_too_long_has_its_command_interrupted() {
    for data in [false, true] {
        let mut rig = small(Sizes {
            slots: 4,
            ..Sizes::default()
        });
        let mut admin = Host::admin(&mut rig, Manners::default());
        let mut io = admin.io(&mut rig, 1, 32);
        rig.disks.hold = true;
        for n in 0..3 {
            io.submit(&mut rig, read(n, 1), &[]);
        }
        let blocked = match data {
            true => io.submit(&mut rig, write_4k(0), &[1; 4096]),
            false => io.submit(&mut rig, sqe(0x00, 1), &[]),
        };
        rig.now = rig.now.plus_ms(9999);
        io.session.advance(rig.now, &mut rig.shard());
        assert!(io.session.is_blocked());
        rig.now = rig.now.plus_ms(1);
        io.session.advance(rig.now, &mut rig.shard());
        io.run(&mut rig);
        // Command Interrupted, to be retried.
        assert_eq!(io.answer(blocked).status, 0x21);
        assert!(!io.session.is_blocked());
        assert_eq!(rig.counters.interrupted, 1);
        rig.disks.hold = false;
        rig.release(&mut io.session);
        io.run(&mut rig);
        assert_eq!(io.read(&mut rig, 2, 0, 1, 4096).data, vec![0; 4096]);
        io.close(&mut rig);
        admin.close(&mut rig);
        rig.assert_all_returned();
    }
}

#[test]
fn refusals_wait_for_the_wire_and_carry_a_retry_delay_if_acre_is_set() {
    let mut rig = small(Sizes {
        runs: 2,
        runs_reserved: 0,
        ..Sizes::default()
    });
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut behavior = sqe(0x09, 0);
    behavior[40] = 0x16;
    let mut acre = [0; 512];
    acre[0] = 1;
    assert_eq!(admin.with_data(&mut rig, behavior, &acre).status, 0);
    let mut io = admin.io(&mut rig, 1, 32);
    rig.disks.hold = true;
    io.submit(&mut rig, read(0, 1), &[]);
    io.submit(&mut rig, read(1, 1), &[]);
    let blocked = io.submit(&mut rig, write_4k(0), &[1; 4096]);
    rig.now = rig.now.plus_ms(10_000);
    io.run(&mut rig);
    assert_eq!(io.answer(blocked).status, 0x21 | 1 << 11, "CRD 1");
    io.close(&mut rig);
    rig.release(&mut io.session);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// Tiny segments make pages of many segments, and pull-ups need whole pages.
#[test]
fn without_pages_for_pull_ups_the_stream_blocks_in_the_middle_of_data() {
    for data_digest in [false, true] {
        let manners = Manners {
            data_digest,
            ..Manners::default()
        };
        // Frames that are full: a pull-up finds no room in them.
        let mut rig = small(Sizes {
            frames: 4096,
            frame_bytes: 512,
            pages: 4,
            ..Sizes::default()
        });
        let mut admin = Host::admin(&mut rig, manners);
        let mut io = admin.io(&mut rig, 1, 32);
        let hogs: Vec<_> = (0..4).map(|_| rig.pages.alloc().unwrap()).collect();
        io.cut = Cut::Every(446);
        let mut random = Random::new(9);
        let data = random.bytes(4096);
        let cid = io.submit(&mut rig, write_4k(0), &data);
        assert!(io.session.is_blocked(), "a fifth segment needs a page");
        drop(hogs);
        io.run(&mut rig);
        assert_eq!(io.answer(cid).status, 0);
        assert_eq!(io.read(&mut rig, 2, 0, 1, 4096).data, data);
        assert!(rig.ledger.bytes_copied_total() > 0);
        // Not for ever: the command is interrupted, its data dropped.
        let hogs: Vec<_> = (0..4).map(|_| rig.pages.alloc().unwrap()).collect();
        let cid = io.submit(&mut rig, write_4k(1), &data);
        assert!(io.session.is_blocked());
        rig.now = rig.now.plus_ms(10_000);
        io.run(&mut rig);
        assert_eq!(sc(io.answer(cid).status), (0, 0x21));
        drop(hogs);
        assert_eq!(io.read(&mut rig, 2, 1, 1, 4096).data, vec![0; 4096]);
        io.close(&mut rig);
        admin.close(&mut rig);
        rig.assert_all_returned();
    }
}

/// In clusters larger than a page a slice may be cut where a physical page
/// ends, so that its first part needs a pull-up and the next command follows.
#[test]
fn a_command_behind_blocked_data_in_one_slice_is_kept_with_it() {
    for data_digest in [false, true] {
        let manners = Manners {
            data_digest,
            ..Manners::default()
        };
        let mut config = config();
        config.in_capsule_bytes = 8192;
        let mut rig = Rig::with(
            config,
            Sizes {
                frames: 64,
                frame_bytes: 16384,
                pages: 4,
                ..Sizes::default()
            },
        );
        let mut admin = Host::admin(&mut rig, manners);
        let mut io = admin.io(&mut rig, 1, 32);
        let data = Random::new(5).bytes(8192);
        let mut write = rw(0x01, 2, 0, 2);
        in_capsule(&mut write, 8192);
        let (first, mut bytes) = io.capsule(write, &data);
        let (second, more) = io.capsule(write_4k(2), &data[..4096]);
        bytes.extend(more);
        let hogs: Vec<_> = (0..4).map(|_| rig.pages.alloc().unwrap()).collect();
        // The first page whole, three small segments of the second, then all
        // the rest, whose first 4,030 bytes end with a physical page.
        io.cut = Cut::List(vec![10, 10, 10, 72 + 4096]);
        io.send(&mut rig, &bytes);
        assert!(io.session.is_blocked() && io.backlog.is_empty());
        drop(hogs);
        io.run(&mut rig);
        assert_eq!(io.answer(first).status, 0);
        assert_eq!(io.answer(second).status, 0);
        let answer = io.read(&mut rig, 2, 0, 3, 12288);
        assert_eq!(answer.data, [&data[..], &data[..4096]].concat());
        io.close(&mut rig);
        admin.close(&mut rig);
        rig.assert_all_returned();
    }
}

#[test]
fn control_data_waits_for_pages() {
    let mut rig = small(Sizes {
        pages: 2,
        ..Sizes::default()
    });
    let mut admin = Host::admin(&mut rig, Manners::default());
    let hogs: Vec<_> = (0..2).map(|_| rig.pages.alloc().unwrap()).collect();
    let mut identify = sqe(0x06, 0);
    identify[40] = 1;
    transport(&mut identify, 4096);
    let cid = admin.submit(&mut rig, identify, &[]);
    assert!(admin.session.is_waiting() && !admin.session.is_blocked());
    // Others of its commands do not wait for it.
    assert_eq!(admin.without_data(&mut rig, sqe(0x18, 0)).status, 0);
    drop(hogs);
    admin.run(&mut rig);
    assert_eq!(admin.answer(cid).data.len(), 4096);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn requested_data_that_does_not_come_ends_the_connection() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 32);
    let mut half = admin.io(&mut rig, 2, 32);
    let mut idle = admin.io(&mut rig, 3, 32);
    io.submit(&mut rig, write_asked(0, 2), &[]);
    let (_, capsule) = half.capsule(write_4k(0), &[1; 4096]);
    half.send(&mut rig, &capsule[..50]);
    rig.now = rig.now.plus_ms(29_999);
    for host in [&mut io, &mut half, &mut idle] {
        host.session.advance(rig.now, &mut rig.shard());
        assert_eq!(host.session.closing(), None);
    }
    rig.now = rig.now.plus_ms(1);
    for (host, dead) in [(&mut io, true), (&mut half, true), (&mut idle, false)] {
        host.session.advance(rig.now, &mut rig.shard());
        let expected = dead.then_some(CloseReason::DataTimeout);
        assert_eq!(host.session.closing(), expected);
        host.close(&mut rig);
    }
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// Other commands on the connection do not excuse it.
#[test]
fn each_r2t_has_a_timeout_of_its_own() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 32);
    io.submit(&mut rig, write_asked(0, 2), &[]);
    for _ in 0..29 {
        rig.now = rig.now.plus_ms(1000);
        assert_eq!(io.read(&mut rig, 2, 0, 1, 4096).status, 0);
        io.session.advance(rig.now, &mut rig.shard());
        assert_eq!(io.session.closing(), None);
    }
    rig.now = rig.now.plus_ms(1000);
    io.session.advance(rig.now, &mut rig.shard());
    assert_eq!(io.session.closing(), Some(CloseReason::DataTimeout));
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// Eight deep queues on a shard that has room for a fraction:
/// all of it gets done, in whatever order the shard can.
#[test]
fn many_deep_queues_on_a_small_shard_complete_everything() {
    let mut rig = small(Sizes {
        frames: 4096,
        runs: 6,
        runs_reserved: 2,
        slots: 40,
        write_bytes: 64 * 1024,
        pages: 256,
        ..Sizes::default()
    });
    let mut random = Random::new(42);
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut hosts = Vec::new();
    for qid in 1..=8 {
        let mut io = admin.io(&mut rig, qid, 32);
        io.cut = Cut::Random(random.clone(), 1448);
        io.owner = hosts.len();
        hosts.push((io, Vec::new()));
    }
    for round in 0..40 {
        rig.disks.hold = round % 2 == 0;
        for (host, cids) in &mut hosts {
            for _ in 0..random.below(4) {
                let lba = random.below(256) as u64;
                cids.push(match random.below(4) {
                    0 => host.submit(&mut rig, read(lba, 8), &[]),
                    1 => host.submit(&mut rig, write_4k(lba), &[round as u8; 4096]),
                    2 => host.submit(&mut rig, sqe(0x00, 2), &[]),
                    _ => {
                        let data = random.bytes(8 * 4096);
                        host.submit_asked(&mut rig, write_asked(lba, 8), &data)
                    }
                });
            }
        }
        complete_held(&mut rig, &mut hosts);
    }
    rig.disks.hold = false;
    for _ in 0..200 {
        complete_held(&mut rig, &mut hosts);
        for (host, _) in &mut hosts {
            host.run(&mut rig);
        }
    }
    for (mut host, cids) in hosts {
        for cid in cids {
            assert_eq!(host.answer(cid).status, 0);
        }
        host.close(&mut rig);
    }
    assert_eq!(rig.counters.interrupted, 0);
    assert!(rig.counters.blocked > 0, "there was room for all: no test");
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// Completes held requests.
fn complete_held(rig: &mut Rig, hosts: &mut [(Host, Vec<u16>)]) {
    for (owner, request) in std::mem::take(&mut rig.disks.held) {
        let completion = rig.execute(request);
        let (host, _) = &mut hosts[owner];
        host.session.complete(completion, &mut rig.shard());
        host.run(rig);
    }
}

#[test]
fn receive_returns_its_progress() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let (_, capsule) = admin.capsule(sqe(0x18, 0), &[]);
    let slice = rig.frame(&capsule);
    let now = rig.now;
    let progress = admin.session.receive(now, slice, &mut rig.shard());
    assert_eq!(progress.unwrap(), Progress::Taken);
    let slice = rig.frame(&[0xff; 8]);
    let progress = admin.session.receive(now, slice, &mut rig.shard());
    assert_eq!(progress.unwrap(), Progress::Closing);
    admin.close(&mut rig);
    rig.assert_all_returned();
}
