//! Bad input (issue 2): the right status or termination, nothing leaked, other
//! connections undisturbed.

mod rig;

use nvmf::CloseReason;
use nvmf::pdu::FatalStatus;
use rig::host::{Host, Manners, Pdu, in_capsule, rw, sc, transport};
use rig::wire::Cut;
use rig::{Rig, Sizes};

const INVALID_FIELD: u16 = 1;
const SEQUENCE: u16 = 2;
const HEADER_DIGEST: u16 = 3;
const OUT_OF_RANGE: u16 = 4;
const LIMIT: u16 = 5;

/// One connection sends `bytes` after Connect and is terminated with what is
/// expected, at every granularity; another one goes on as if nothing happened.
#[track_caller]
fn terminates(
    manners: Manners,
    expected: (u16, u32),
    bytes: impl Fn(&mut Rig, &mut Host) -> Vec<u8>,
) {
    for cut in [Cut::Every(1), Cut::Every(7), Cut::Every(1448)] {
        let mut rig = Rig::new();
        let mut admin = Host::admin(&mut rig, manners);
        let mut bystander = admin.io(&mut rig, 2, 32);
        let mut io = admin.io(&mut rig, 1, 32);
        let bytes = bytes(&mut rig, &mut io);
        io.cut = cut.clone();
        io.send(&mut rig, &bytes);
        assert_eq!(io.terminated(), expected, "{cut:?}");
        let status = FatalStatus::ALL[usize::from(expected.0) - 1];
        assert_eq!(io.session.closing(), Some(CloseReason::Malformed(status)));
        let mut counted = rig.counters.iter().filter(|c| c.value == 1);
        assert!(counted.any(|c| c.name == status.name()), "{cut:?}");
        // It takes nothing more, and says nothing more.
        let (_, more) = io.capsule(rw(0x02, 1, 0, 1), &[]);
        io.send(&mut rig, &more);
        assert!(io.pdus.is_empty() && io.answers.is_empty());
        io.close(&mut rig);
        assert_eq!(bystander.write(&mut rig, 1, 0, 1, &[9; 512]).status, 0);
        assert_eq!(bystander.read(&mut rig, 1, 0, 1, 512).data, [9; 512]);
        bystander.close(&mut rig);
        admin.close(&mut rig);
        rig.assert_all_returned();
    }
}

fn plain() -> Manners {
    Manners::default()
}

fn digests() -> Manners {
    Manners {
        header_digest: true,
        data_digest: true,
        ..Manners::default()
    }
}

/// A write's capsule with one byte changed.
fn altered(at: usize, value: u8) -> impl Fn(&mut Rig, &mut Host) -> Vec<u8> {
    move |_, io| {
        let mut sqe = rw(0x01, 1, 0, 1);
        in_capsule(&mut sqe, 512);
        let (_, mut capsule) = io.capsule(sqe, &[1; 512]);
        capsule[at] = value;
        capsule
    }
}

/// Has the controller ask for 8,192 bytes, then sends what `answer` makes of
/// the CID and the TTAG.
fn answering(
    answer: impl Fn(&Host, u16, u16) -> Vec<u8>,
) -> impl Fn(&mut Rig, &mut Host) -> Vec<u8> {
    move |rig, io| {
        let mut sqe = rw(0x01, 1, 0, 16);
        transport(&mut sqe, 8192);
        let cid = io.submit(rig, sqe, &[]);
        match io.pdus.pop_front() {
            Some(Pdu::R2t {
                ttag,
                offset: 0,
                len: 8192,
                ..
            }) => answer(io, cid, ttag),
            other => panic!("{other:?} for an R2T"),
        }
    }
}

#[test]
fn unknown_pdu_types() {
    for pdu_type in [0x08, 0x0a, 0x47, 0xff] {
        terminates(plain(), (INVALID_FIELD, 0), altered(0, pdu_type));
    }
}

#[test]
fn pdus_that_only_a_controller_sends() {
    for pdu_type in [1, 3, 5, 7, 9] {
        terminates(plain(), (INVALID_FIELD, 0), move |_, io| {
            let fields = if pdu_type == 1 { 120 } else { 16 };
            let data: &[u8] = if pdu_type == 7 { &[0; 4] } else { &[] };
            io.pdu(pdu_type, 0, &vec![0; fields], data)
        });
    }
}

#[test]
fn header_lengths_that_are_wrong() {
    for hlen in [0, 8, 71, 73, 128, 255] {
        terminates(plain(), (INVALID_FIELD, 2), altered(2, hlen));
    }
}

#[test]
fn data_offsets_inside_the_header_or_between_dwords() {
    for pdo in [0, 8, 71, 73, 74] {
        terminates(plain(), (INVALID_FIELD, 3), altered(3, pdo));
    }
    // With a header digest the data begins behind it.
    let mut manners = plain();
    manners.header_digest = true;
    terminates(manners, (INVALID_FIELD, 3), |_, io| {
        let mut sqe = rw(0x01, 1, 0, 1);
        in_capsule(&mut sqe, 512);
        let (_, mut capsule) = io.capsule(sqe, &[1; 512]);
        capsule[3] = 72;
        let digest = rig::host::crc32c(&capsule[..72]);
        capsule[72..76].copy_from_slice(&digest.to_le_bytes());
        capsule
    });
}

#[test]
fn pdus_shorter_than_their_header_or_without_data() {
    // PLEN below HLEN, at PDO, and nothing where there must be data.
    for plen in [0u32, 8, 71] {
        terminates(plain(), (INVALID_FIELD, 4), move |_, io| {
            let (_, mut capsule) = io.capsule(rw(0x02, 1, 0, 1), &[]);
            capsule[3] = 72;
            capsule[4..8].copy_from_slice(&plen.to_le_bytes());
            capsule
        });
    }
    terminates(
        plain(),
        (INVALID_FIELD, 4),
        answering(|io, cid, ttag| io.h2c_data(cid, ttag, 0, &[], true)),
    );
}

#[test]
fn capsules_larger_than_any_queue_takes() {
    for data_len in [8193u32, 1 << 20, u32::MAX - 72] {
        terminates(plain(), (INVALID_FIELD, 4), move |_, io| {
            let mut sqe = rw(0x01, 1, 0, 1);
            in_capsule(&mut sqe, data_len);
            let (_, mut capsule) = io.capsule(sqe, &[1; 16]);
            capsule[4..8].copy_from_slice(&(72 + data_len).to_le_bytes());
            capsule
        });
    }
}

#[test]
fn digest_flags_that_were_not_negotiated() {
    terminates(plain(), (INVALID_FIELD, 1), altered(1, 1));
    terminates(plain(), (INVALID_FIELD, 1), altered(1, 2));
    terminates(digests(), (INVALID_FIELD, 1), altered(1, 2));
}

#[test]
fn nvme_tcp_3_3_2_1_header_digests_that_do_not_match() {
    let received = |io: &mut Host| {
        let (_, mut capsule) = io.capsule(rw(0x02, 1, 0, 1), &[]);
        capsule[72..76].copy_from_slice(&0x1234_5678u32.to_le_bytes());
        capsule
    };
    // FEI is the digest received.
    terminates(digests(), (HEADER_DIGEST, 0x1234_5678), move |_, io| {
        received(io)
    });
    // A damaged length is not believed.
    terminates(digests(), (HEADER_DIGEST, 0x1234_5678), move |_, io| {
        let mut capsule = received(io);
        capsule[4] ^= 0x80;
        capsule
    });
}

#[test]
fn nvme_tcp_3_3_2_2_wrong_data_digests_fail_the_command_alone() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, digests());
    let mut io = admin.io(&mut rig, 1, 32);
    // In a capsule.
    let mut write = rw(0x01, 1, 0, 1);
    in_capsule(&mut write, 512);
    let (cid, mut capsule) = io.capsule(write, &[1; 512]);
    capsule[76 + 100] ^= 1;
    io.send(&mut rig, &capsule);
    assert_eq!(sc(io.answer(cid).status), (0, 0x22));
    // In the first of two H2CData PDUs: the second is still taken.
    let mut write = rw(0x01, 1, 0, 16);
    transport(&mut write, 8192);
    let cid = io.submit(&mut rig, write, &[]);
    let Some(Pdu::R2t { ttag, .. }) = io.pdus.pop_front() else {
        panic!("no R2T");
    };
    let mut first = io.h2c_data(cid, ttag, 0, &[1; 4096], false);
    let last = first.len() - 1;
    first[last] ^= 1;
    io.send(&mut rig, &first);
    assert!(!io.answers.contains_key(&cid));
    let second = io.h2c_data(cid, ttag, 4096, &[1; 4096], true);
    io.send(&mut rig, &second);
    assert_eq!(sc(io.answer(cid).status), (0, 0x22));
    assert_eq!(rig.counters.data_digest_errors, 2);
    // Nothing of it reached the volume, and the connection is as good as ever.
    assert_eq!(io.read(&mut rig, 1, 0, 16, 8192).data, vec![0; 8192]);
    assert_eq!(io.write(&mut rig, 1, 0, 1, &[2; 512]).status, 0);
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// A write that has failed asks for no more of its data.
#[test]
fn no_r2t_follows_a_wrong_data_digest() {
    let mut config = rig::config();
    config.max_h2c_bytes = 4096;
    let mut rig = Rig::with(config, Sizes::default());
    let mut admin = Host::admin(&mut rig, digests());
    let mut io = admin.io(&mut rig, 1, 32);
    let mut write = rw(0x01, 1, 0, 16);
    transport(&mut write, 8192);
    let cid = io.submit(&mut rig, write, &[]);
    let Some(Pdu::R2t {
        ttag, len: 4096, ..
    }) = io.pdus.pop_front()
    else {
        panic!("no R2T");
    };
    let mut data = io.h2c_data(cid, ttag, 0, &[1; 4096], true);
    data[100] ^= 1;
    io.send(&mut rig, &data);
    assert_eq!(sc(io.answer(cid).status), (0, 0x22));
    assert!(io.pdus.is_empty());
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn a_second_icreq_and_a_first_pdu_that_is_not_icreq_are_sequence_errors() {
    terminates(plain(), (SEQUENCE, 0), |_, io| io.ic_req());
    for pdu_type in [4, 6] {
        let mut rig = Rig::new();
        let mut host = Host::new(&rig, plain());
        let fields = if pdu_type == 4 { 64 } else { 16 };
        let mut pdu = host.pdu(pdu_type, 0, &vec![0; fields], &[0; 4]);
        pdu[16] = 4;
        host.send(&mut rig, &pdu);
        assert_eq!(host.terminated(), (SEQUENCE, 0));
        host.close(&mut rig);
        rig.assert_all_returned();
    }
}

#[test]
fn h2c_data_without_an_r2t_is_refused() {
    // Before any R2T: no slot, a slot in use by somebody else.
    for ttag in [0, 1, 2, 77, 65535] {
        terminates(plain(), (INVALID_FIELD, 10), move |_, io| {
            io.h2c_data(1, ttag, 0, &[0; 512], true)
        });
    }
    terminates(
        plain(),
        (INVALID_FIELD, 8),
        answering(|io, cid, ttag| io.h2c_data(cid + 1, ttag, 0, &[0; 8192], true)),
    );
    // After it was answered.
    terminates(
        plain(),
        (INVALID_FIELD, 10),
        answering(|io, cid, ttag| {
            let mut bytes = io.h2c_data(cid, ttag, 0, &[0; 8192], true);
            bytes.extend(io.h2c_data(cid, ttag, 0, &[0; 8192], true));
            bytes
        }),
    );
}

/// A Transfer Tag is good on the connection it was sent on, and on no other.
#[test]
fn data_for_another_connection_s_r2t() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, plain());
    let mut owner = admin.io(&mut rig, 1, 32);
    let mut thief = admin.io(&mut rig, 2, 32);
    let mut sqe = rw(0x01, 1, 0, 16);
    transport(&mut sqe, 8192);
    let cid = owner.submit(&mut rig, sqe, &[]);
    let Some(Pdu::R2t { ttag, .. }) = owner.pdus.pop_front() else {
        panic!("no R2T");
    };
    let forged = thief.h2c_data(cid, ttag, 0, &[6; 8192], true);
    thief.send(&mut rig, &forged);
    assert_eq!(thief.terminated(), (INVALID_FIELD, 10));
    let data = owner.h2c_data(cid, ttag, 0, &[5; 8192], true);
    owner.send(&mut rig, &data);
    assert_eq!(owner.answer(cid).status, 0);
    assert_eq!(owner.read(&mut rig, 1, 0, 16, 8192).data, vec![5; 8192]);
    for host in [&mut owner, &mut thief, &mut admin] {
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}

#[test]
fn data_outside_its_r2t() {
    for (offset, len) in [(4u32, 8192), (512, 512), (8192, 512), (u32::MAX - 3, 8)] {
        terminates(
            plain(),
            (OUT_OF_RANGE, 0),
            answering(move |io, cid, ttag| io.h2c_data(cid, ttag, offset, &vec![0; len], true)),
        );
    }
    // More than was asked for, at once and in two.
    terminates(
        plain(),
        (OUT_OF_RANGE, 0),
        answering(|io, cid, ttag| io.h2c_data(cid, ttag, 0, &[0; 8196], true)),
    );
    terminates(
        plain(),
        (OUT_OF_RANGE, 0),
        answering(|io, cid, ttag| {
            let mut bytes = io.h2c_data(cid, ttag, 0, &[0; 8000], false);
            bytes.extend(io.h2c_data(cid, ttag, 8000, &[0; 512], true));
            bytes
        }),
    );
    // Beyond MAXH2CDATA.
    terminates(
        plain(),
        (LIMIT, 0),
        answering(|io, cid, ttag| io.h2c_data(cid, ttag, 0, &vec![0; 128 * 1024 + 4], true)),
    );
    // LAST_PDU too early; DATAL that is not what PLEN says.
    terminates(
        plain(),
        (INVALID_FIELD, 1),
        answering(|io, cid, ttag| io.h2c_data(cid, ttag, 0, &[0; 4096], true)),
    );
    terminates(
        plain(),
        (INVALID_FIELD, 16),
        answering(|io, cid, ttag| {
            let mut bytes = io.h2c_data(cid, ttag, 0, &[0; 8192], true);
            bytes[16] = 4;
            bytes
        }),
    );
}

#[test]
fn the_terminate_request_carries_the_header_in_error() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, plain());
    let mut io = admin.io(&mut rig, 1, 32);
    let (_, mut capsule) = io.capsule(rw(0x02, 1, 0, 1), &[]);
    capsule[2] = 40;
    io.send(&mut rig, &capsule);
    match io.pdus.pop_back() {
        Some(Pdu::Term { header, .. }) => assert_eq!(header, capsule),
        other => panic!("{other:?}"),
    }
    io.close(&mut rig);
    admin.close(&mut rig);
}

#[test]
fn a_terminate_request_waits_for_the_pdu_under_way() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, digests());
    let mut io = admin.io(&mut rig, 1, 32);
    io.sent.room = 3;
    let mut read = rw(0x02, 2, 0, 8);
    transport(&mut read, 32768);
    let cid = io.submit(&mut rig, read, &[]);
    let (_, mut bad) = io.capsule(rw(0x02, 1, 0, 1), &[]);
    bad[0] = 0x77;
    io.send(&mut rig, &bad);
    io.sent.room = usize::MAX;
    io.run(&mut rig);
    // The data PDU is whole; the host's reader would have failed otherwise.
    assert_eq!(io.answers[&cid].data.len(), 32768);
    assert_eq!(io.terminated(), (INVALID_FIELD, 0));
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn a_terminate_request_of_the_host_closes_the_connection() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, digests());
    let mut io = admin.io(&mut rig, 1, 32);
    // Terminate requests have no digests (NVMe/TCP 3.3.2).
    let mut term = vec![2, 0, 24, 0, 24 + 72, 0, 0, 0];
    term.extend(3u16.to_le_bytes());
    term.resize(24 + 72, 0);
    io.send(&mut rig, &term);
    assert_eq!(io.session.closing(), Some(CloseReason::TerminatedByHost(3)));
    assert_eq!(rig.counters.terminated_by_host, 1);
    io.run(&mut rig);
    assert!(io.pdus.is_empty(), "no answer is due");
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn more_commands_than_the_queue_has_entries() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, plain());
    let mut io = admin.io(&mut rig, 1, 4);
    rig.disks.hold = true;
    let mut read = rw(0x02, 1, 0, 1);
    transport(&mut read, 512);
    for _ in 0..4 {
        io.submit(&mut rig, read, &[]);
        assert_eq!(io.session.closing(), None);
    }
    io.submit(&mut rig, read, &[]);
    assert_eq!(io.terminated(), (SEQUENCE, 0));
    io.close(&mut rig);
    rig.release(&mut io.session);
    admin.close(&mut rig);
    rig.assert_all_returned();
}
