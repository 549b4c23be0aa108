//! Row Z12: a host that sends its data by the byte does not keep what others wait for.

mod rig;

use nvmf::{CloseReason, Timestamp};
use rig::host::{Host, Manners, Pdu, in_capsule, rw, sc, write_asked};
use rig::wire::Cut;
use rig::{Random, Rig, Sizes, config};

/// A shard with credit for 32 KiB, but not for 16 more.
fn scarce() -> Rig {
    let sizes = Sizes {
        write_bytes: 40_000,
        ..Sizes::default()
    };
    Rig::with(config(), sizes)
}

/// Submits a write of `blocks` of 4 KiB, and takes the R2T for it.
fn asked(rig: &mut Rig, io: &mut Host, blocks: u32) -> (u16, u16) {
    let cid = io.submit(rig, write_asked(0, blocks), &[]);
    match io.pdus.pop_front() {
        Some(Pdu::R2t {
            cid: for_, ttag, ..
        }) if for_ == cid => (cid, ttag),
        other => panic!("no R2T, but {other:?}"),
    }
}

/// Lets `ms` pass for `hosts`.
fn pass(rig: &mut Rig, ms: u64, hosts: &mut [&mut Host]) {
    rig.now = rig.now.plus_ms(ms);
    for host in hosts {
        host.session.advance(rig.now, &mut rig.shard());
    }
}

/// How a host may send 32 KiB slowly.
#[derive(Clone, Copy, Debug)]
enum Trickle {
    /// One PDU, byte after byte.
    Bytes,
    /// A PDU for each byte.
    Pdus,
}

impl Trickle {
    /// The `n`th of what is sent.
    fn part(self, io: &Host, (cid, ttag): (u16, u16), n: u32) -> Vec<u8> {
        match self {
            Trickle::Bytes if n == 0 => io.h2c_data(cid, ttag, 0, &[7; 32768], true)[..25].to_vec(),
            Trickle::Bytes => vec![7],
            Trickle::Pdus => io.h2c_data(cid, ttag, n, &[7], false),
        }
    }
}

#[test]
fn z12_a_host_that_sends_data_byte_by_byte_is_closed_when_others_wait() {
    for trickle in [Trickle::Bytes, Trickle::Pdus] {
        let mut rig = scarce();
        let mut admin = Host::admin(&mut rig, Manners::default());
        let mut slow = admin.io(&mut rig, 1, 32);
        let mut other = admin.io(&mut rig, 2, 32);
        let tags = asked(&mut rig, &mut slow, 8);
        let waits = other.submit_asked(&mut rig, write_asked(8, 4), &[3; 16384]);
        assert!(other.session.is_waiting());
        for n in 0..10 {
            assert_eq!(slow.session.closing(), None, "{trickle:?}: after {n}");
            let part = trickle.part(&slow, tags, n);
            slow.send(&mut rig, &part);
            pass(&mut rig, 100, &mut [&mut other, &mut slow]);
        }
        let reason = Some(CloseReason::WantOfResources);
        assert_eq!(slow.session.closing(), reason);
        assert_eq!(rig.counters.timeouts, 1);
        slow.close(&mut rig);
        other.run(&mut rig);
        assert_eq!(other.answer(waits).status, 0, "{trickle:?}");
        other.close(&mut rig);
        admin.close(&mut rig);
        rig.assert_all_returned();
    }
}

#[test]
fn z12_a_host_that_sends_a_page_a_second_stays_connected() {
    let mut rig = scarce();
    let admin = Host::admin(&mut rig, Manners::default());
    let mut slow = admin.io(&mut rig, 1, 32);
    let mut other = admin.io(&mut rig, 2, 32);
    let (cid, ttag) = asked(&mut rig, &mut slow, 8);
    let waits = other.submit_asked(&mut rig, write_asked(8, 4), &[3; 16384]);
    let pdu = slow.h2c_data(cid, ttag, 0, &[7; 32768], true);
    for part in pdu.chunks(410) {
        slow.send(&mut rig, part);
        pass(&mut rig, 98, &mut [&mut other, &mut slow]);
        assert_eq!(slow.session.closing(), None);
    }
    assert_eq!(slow.answer(cid).status, 0);
    other.run(&mut rig);
    assert_eq!(other.answer(waits).status, 0);
    assert_eq!(rig.counters.timeouts, 0);
    for mut host in [slow, other, admin] {
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}

/// A host that cannot send because TCP shut its window owes nothing for that time: it is given up a second after the window is
/// open, if it sends nothing then and others wait. But a window that is shut is no way to hold things for ever.
#[test]
fn z12_rfc9293_3_8_6_1_a_host_whose_window_we_shut_is_not_blamed_for_sending_nothing() {
    for opens in [true, false] {
        let mut rig = scarce();
        let mut admin = Host::admin(&mut rig, Manners::default());
        let mut shut = admin.io(&mut rig, 1, 32);
        let mut other = admin.io(&mut rig, 2, 32);
        let tags = asked(&mut rig, &mut shut, 8);
        // In the middle of a PDU, too.
        let part = Trickle::Bytes.part(&shut, tags, 0);
        shut.send(&mut rig, &part);
        let waits = other.submit_asked(&mut rig, write_asked(8, 4), &[3; 16384]);
        let held_up = |rig: &mut Rig, host: &mut Host, other: &mut Host| {
            host.session.hold_up(rig.now.plus_ms(100));
            rig.commands.note_wait(Timestamp(0), rig.now);
            pass(rig, 100, &mut [other, host]);
        };
        for n in 0..80 {
            held_up(&mut rig, &mut shut, &mut other);
            assert_eq!(shut.session.closing(), None, "after {n}");
        }
        let mut more = 0;
        while shut.session.closing().is_none() {
            match opens {
                true => pass(&mut rig, 100, &mut [&mut other, &mut shut]),
                false => held_up(&mut rig, &mut shut, &mut other),
            }
            more += 1;
            assert!(more < 400, "it holds things for ever");
        }
        let expected = if opens { 10 } else { 220 };
        assert_eq!(more, expected, "opens: {opens}");
        assert_eq!(shut.session.closing(), Some(CloseReason::WantOfResources));
        shut.close(&mut rig);
        other.run(&mut rig);
        // It was told to try again after 10 s.
        let expected = if opens { (0, 0) } else { (0, 0x21) };
        assert_eq!(sc(other.answer(waits).status), expected);
        other.close(&mut rig);
        admin.close(&mut rig);
        rig.assert_all_returned();
    }
}

/// Nor for ever when nobody waits: less than a page in the whole time for an answer is none.
#[test]
fn z12_less_than_a_page_does_not_restart_the_data_timeout() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut slow = admin.io(&mut rig, 1, 32);
    let mut in_place = admin.io(&mut rig, 2, 32);
    let tags = asked(&mut rig, &mut slow, 8);
    let mut sqe = rw(0x01, 2, 0, 2);
    in_capsule(&mut sqe, 8192);
    let (_, capsule) = in_place.capsule(sqe, &[1; 8192]);
    for (n, byte) in capsule.iter().enumerate().take(60) {
        for host in [&slow, &in_place] {
            assert_eq!(host.session.closing(), None, "after {n}");
        }
        let part = Trickle::Pdus.part(&slow, tags, n as u32);
        slow.send(&mut rig, &part);
        in_place.send(&mut rig, &[*byte]);
        pass(&mut rig, 500, &mut [&mut slow, &mut in_place]);
    }
    for mut host in [slow, in_place] {
        assert_eq!(host.session.closing(), Some(CloseReason::DataTimeout));
        host.close(&mut rig);
    }
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// The shard takes nothing while its stream is blocked; that is not the host's doing.
#[test]
fn z12_time_in_which_the_stream_was_blocked_does_not_count_as_late() {
    // Frames that are full: a pull-up finds no room in them, and needs a page.
    let mut rig = Rig::with(
        config(),
        Sizes {
            frames: 4096,
            frame_bytes: 512,
            pages: 4,
            write_bytes: 4096,
            ..Sizes::default()
        },
    );
    let admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 32);
    let mut other = admin.io(&mut rig, 2, 32);
    let (cid, ttag) = asked(&mut rig, &mut io, 1);
    let waits = other.submit_asked(&mut rig, write_asked(8, 1), &[3; 4096]);
    let hogs: Vec<_> = (0..4).map(|_| rig.pages.alloc().unwrap()).collect();
    io.cut = Cut::Every(446);
    let pdu = io.h2c_data(cid, ttag, 0, &Random::new(9).bytes(4096), true);
    let (most, rest) = pdu.split_at(pdu.len() - 10);
    io.send(&mut rig, most);
    assert!(io.session.is_blocked());
    pass(&mut rig, 900, &mut [&mut other, &mut io]);
    drop(hogs);
    io.run(&mut rig);
    assert!(!io.session.is_blocked());
    pass(&mut rig, 999, &mut [&mut other, &mut io]);
    assert_eq!(io.session.closing(), None);
    io.send(&mut rig, rest);
    assert_eq!(io.answer(cid).status, 0);
    other.run(&mut rig);
    assert_eq!(other.answer(waits).status, 0);
    for mut host in [io, other, admin] {
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}
