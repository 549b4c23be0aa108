//! A namespace whose device does not answer: its commands leave slots and runs to those of
//! others, on other connections and on their own (row Z12).

mod rig;

use block::NamespaceIndex;
use nvmf::CommandPool;
use rig::host::{Host, Manners, rw, sc, sqe, transport, write_asked};
use rig::{Rig, Sizes, config};

/// The namespaces: one of 512-byte blocks that is well, one of 4096-byte blocks that hangs.
const WELL: u32 = 1;
const HUNG: u32 = 2;
/// Commands for the one that hangs: more than there are slots.
const COMMANDS: usize = 60;
const SLOTS: u16 = 32;

fn shard() -> Rig {
    let sizes = Sizes {
        slots: SLOTS,
        runs: 64,
        runs_reserved: 8,
        ..Sizes::default()
    };
    Rig::with(config(), sizes)
}

/// As the rig numbers them.
fn index(nsid: u32) -> NamespaceIndex {
    rig::namespace(nsid, nvmf::BlockSize::B4096, 4096).index
}

fn read(nsid: u32) -> [u8; 64] {
    let mut sqe = rw(0x02, nsid, 0, 1);
    transport(&mut sqe, if nsid == WELL { 512 } else { 4096 });
    sqe
}

/// A read of the namespace that is well.
fn reads(rig: &mut Rig, host: &mut Host) {
    let cid = host.submit(rig, read(WELL), &[]);
    assert_eq!(host.answer(cid).status, 0);
}

/// A command of one of these kinds for the namespace that hangs.
fn hangs(rig: &mut Rig, host: &mut Host, kind: usize) -> u16 {
    match kind {
        0 => host.submit(rig, read(HUNG), &[]),
        1 => host.submit_asked(rig, write_asked(8, 1), &[7; 4096]),
        _ => host.submit(rig, sqe(0x00, HUNG), &[]),
    }
}

/// Once the device answers, all commands that `io` gave it have their turn; and all hosts leave.
fn end_well(rig: &mut Rig, mut io: Host, hung: &[u16], others: [Host; 2]) {
    rig.release(&mut io.session);
    for _ in 0..COMMANDS {
        let now = rig.now;
        io.session.resume(now, &mut rig.shard());
        io.run(rig);
    }
    for &cid in hung {
        assert_eq!(io.answer(cid).status, 0, "{cid}");
    }
    for mut host in [io].into_iter().chain(others) {
        host.close(rig);
    }
    rig.assert_all_returned();
}

/// The device holds what `io` gives it, commands of this kind; reads of the namespace that is well go on there, and on the first of
/// `others`.
fn leaves_slots(rig: &mut Rig, mut io: Host, mut others: [Host; 2], kind: usize) {
    rig.disks.hold = true;
    let hung: Vec<_> = (0..COMMANDS).map(|_| hangs(rig, &mut io, kind)).collect();
    // They wait without slots, and nothing waits behind them.
    assert!(
        io.session.is_waiting() && !io.session.is_blocked(),
        "{kind}"
    );
    assert!(
        rig.commands.in_use() <= usize::from(SLOTS) / 2 + 2,
        "{kind}"
    );
    rig.disks.hold = false;
    for _ in 0..20 {
        reads(rig, &mut others[0]);
        reads(rig, &mut io);
    }
    end_well(rig, io, &hung, others);
}

#[test]
fn z12_a_namespace_that_hangs_leaves_slots_and_runs_to_others() {
    for kind in 0..3 {
        let mut rig = shard();
        let admin = Host::admin(&mut rig, Manners::default());
        let io = admin.io(&mut rig, 1, 64);
        let mut other = admin.io(&mut rig, 2, 16);
        reads(&mut rig, &mut other);
        leaves_slots(&mut rig, io, [other, admin], kind);
    }
}

/// What a write takes besides a slot: a run that no read may have, and credit.
#[test]
fn z12_a_namespace_that_hangs_leaves_runs_and_credit_to_writes_of_others() {
    for kind in 0..2 {
        let mut rig = Rig::with(
            config(),
            Sizes {
                runs: 32,
                ..Sizes::default()
            },
        );
        rig.commands = CommandPool::new(256, 4 * 4096, 4).keep(1, 16);
        let admin = Host::admin(&mut rig, Manners::default());
        let mut io = admin.io(&mut rig, 1, 64);
        let mut other = admin.io(&mut rig, 2, 16);
        reads(&mut rig, &mut other);
        rig.disks.hold = true;
        let hung: Vec<_> = (0..COMMANDS)
            .map(|_| hangs(&mut rig, &mut io, kind))
            .collect();
        rig.disks.hold = false;
        let mut write = rw(0x01, WELL, 0, 8);
        transport(&mut write, 4096);
        for host in [&mut other, &mut io] {
            let cid = host.submit_asked(&mut rig, write, &[2; 4096]);
            assert_eq!(host.answer(cid).status, 0, "{kind}");
        }
        end_well(&mut rig, io, &hung, [other, admin]);
    }
}

/// The share of a namespace is there before its first command is: all of it would be gone by then.
#[test]
fn z12_a_namespace_has_its_share_before_its_first_command() {
    for kind in 0..3 {
        let mut rig = shard();
        for namespace in [WELL, HUNG] {
            rig.commands.offer(index(namespace));
        }
        let admin = Host::admin(&mut rig, Manners::default());
        let io = admin.io(&mut rig, 1, 64);
        let other = admin.io(&mut rig, 2, 16);
        leaves_slots(&mut rig, io, [other, admin], kind);
    }
}

/// What a device holds of a queue's reads its host has not got: it is no reason for reads of other namespaces on the same
/// queue to wait.
#[test]
fn z12_reads_that_a_device_holds_stop_no_others_of_their_queue() {
    let mut rig = shard();
    let admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 64);
    let mut other = admin.io(&mut rig, 2, 16);
    reads(&mut rig, &mut other);
    // Little can be lent to reads: one at a time, of a queue whose host has nothing of it.
    rig.commands.set_read_bytes_left(4096);
    rig.disks.hold = true;
    let hung: Vec<_> = (0..COMMANDS).map(|_| hangs(&mut rig, &mut io, 0)).collect();
    assert!(io.session.is_waiting() && !io.session.is_blocked());
    assert!(rig.commands.in_use() <= 4, "those that wait have no slots");
    rig.disks.hold = false;
    for _ in 0..20 {
        reads(&mut rig, &mut io);
    }
    end_well(&mut rig, io, &hung, [other, admin]);
}

/// A namespace whose device holds the credit that the longest write of another needs: that one is to be tried again, in
/// time. What waits for its own device waits on.
#[test]
fn z12_a_command_that_waits_for_what_others_hold_is_interrupted_in_time() {
    let sizes = Sizes {
        write_bytes: 6000,
        ..Sizes::default()
    };
    let mut rig = Rig::with(config(), sizes);
    let mut admin = Host::admin(&mut rig, Manners::default());
    let [mut well, mut hung] = [1, 2].map(|qid| admin.io(&mut rig, qid, 64));
    reads(&mut rig, &mut well);
    rig.disks.hold = true;
    let held: Vec<_> = (0..3).map(|_| hangs(&mut rig, &mut hung, 1)).collect();
    rig.disks.hold = false;
    let mut write = rw(0x01, WELL, 0, 8);
    transport(&mut write, 4096);
    let cid = well.submit_asked(&mut rig, write, &[2; 4096]);
    let mut waited = 0;
    while well.session.is_waiting() {
        assert!(waited < 11_000, "nothing for {waited} ms");
        (waited, rig.now) = (waited + 500, rig.now.plus_ms(500));
        for host in [&mut well, &mut hung] {
            host.session.advance(rig.now, &mut rig.shard());
            host.run(&mut rig);
        }
    }
    assert!(waited >= 10_000, "{waited} ms");
    assert_eq!(sc(well.answer(cid).status), (0, 0x21));
    assert!(hung.session.is_waiting(), "for its device");
    rig.release(&mut hung.session);
    for _ in 0..COMMANDS {
        let now = rig.now;
        hung.session.resume(now, &mut rig.shard());
        hung.run(&mut rig);
    }
    for cid in held {
        assert_eq!(hung.answer(cid).status, 0);
    }
    let cid = well.submit_asked(&mut rig, write, &[2; 4096]);
    assert_eq!(well.answer(cid).status, 0);
    for host in [&mut well, &mut hung, &mut admin] {
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}

/// Where there is one namespace it has everything.
#[test]
fn one_namespace_alone_has_all_slots() {
    let mut rig = shard();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 64);
    rig.disks.hold = true;
    let cids: Vec<_> = (0..COMMANDS)
        .map(|_| io.submit(&mut rig, sqe(0x00, HUNG), &[]))
        .collect();
    assert!(io.session.is_blocked());
    assert!(rig.commands.in_use() > usize::from(SLOTS) * 3 / 4);
    rig.disks.hold = false;
    rig.release(&mut io.session);
    io.run(&mut rig);
    for cid in cids {
        assert_eq!(io.answer(cid).status, 0);
    }
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// A write that is held back gives up the turn that it had while it waited for credit: writes of
/// others do not wait for a device that hangs.
#[test]
fn z12_a_write_that_is_held_back_keeps_no_turn() {
    let sizes = Sizes {
        slots: SLOTS,
        runs: 64,
        runs_reserved: 8,
        write_bytes: 4096,
        ..Sizes::default()
    };
    let mut rig = Rig::with(config(), sizes);
    let mut admin = Host::admin(&mut rig, Manners::default());
    let [mut well, mut late, mut hung] = [1, 2, 3].map(|qid| admin.io(&mut rig, qid, 64));
    let mut write = rw(0x01, WELL, 0, 8);
    transport(&mut write, 4096);
    // The credit is gone, and the next queue has the turn for what comes back.
    rig.disks.hold = true;
    let first = well.submit_asked(&mut rig, write, &[1; 4096]);
    let waits = hangs(&mut rig, &mut late, 1);
    assert!(late.session.is_waiting());
    // Then its device has its share.
    let reads: Vec<_> = (0..COMMANDS)
        .map(|_| hangs(&mut rig, &mut hung, 0))
        .collect();
    let now = rig.now;
    late.session.resume(now, &mut rig.shard());
    // The write that had the credit is done; what the device hangs with stays.
    let (_, request) = rig.disks.held.remove(0);
    let completion = rig.execute(request);
    well.session.complete(completion, &mut rig.shard());
    well.run(&mut rig);
    assert_eq!(well.answer(first).status, 0);
    rig.disks.hold = false;
    let next = well.submit_asked(&mut rig, write, &[2; 4096]);
    assert_eq!(well.answer(next).status, 0);
    rig.release(&mut hung.session);
    for _ in 0..COMMANDS {
        for host in [&mut hung, &mut late] {
            host.session.resume(now, &mut rig.shard());
            host.run(&mut rig);
        }
    }
    for cid in reads {
        assert_eq!(hung.answer(cid).status, 0);
    }
    assert_eq!(late.answer(waits).status, 0);
    for host in [&mut well, &mut late, &mut hung, &mut admin] {
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}
