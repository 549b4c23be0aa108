//! Whose a connection was, and why it ends, is known when it ends and afterwards.

mod rig;

use nvmf::pdu::FatalStatus;
use nvmf::{CloseReason, Cntlid, Departure, Qid};
use rig::host::{Host, Manners};
use rig::{HOST_NQN, Rig, endpoints};

#[track_caller]
fn departs(host: &Host, reason: CloseReason, qid: Option<u16>) {
    let expected = Departure {
        reason,
        endpoints: endpoints(),
        queue: qid.map(|qid| (Cntlid(host.cntlid), Qid(qid), HOST_NQN)),
        claimed: None,
    };
    assert_eq!(host.session.departure(), expected);
}

#[test]
fn k08_a_controller_that_was_silent_says_whose_it_was() {
    let mut rig = Rig::new();
    let manners = Manners {
        keep_alive_ms: 5000,
        ..Manners::default()
    };
    let mut admin = Host::admin(&mut rig, manners);
    let mut io = admin.io(&mut rig, 3, 32);
    // Nothing ends, as far as the session knows.
    departs(&io, CloseReason::ConnectionLost, Some(3));
    // What came is traffic, and starts the timer once more (base 2.0, 3.9.2).
    for _ in 0..2 {
        rig.now = rig.now.plus_ms(5000);
        admin.session.advance(rig.now, &mut rig.shard());
    }
    io.session.advance(rig.now, &mut rig.shard());
    departs(&admin, CloseReason::KeepAliveTimeout, Some(0));
    departs(&io, CloseReason::ControllerGone, Some(3));
    for host in [&mut admin, &mut io] {
        host.close(&mut rig);
    }
    // The first reason stays.
    departs(&admin, CloseReason::KeepAliveTimeout, Some(0));
    rig.assert_all_returned();
}

#[test]
fn k08_before_connect_nobody_knows_whose_it_is() {
    let mut rig = Rig::new();
    let mut host = Host::new(&rig, Manners::default());
    host.send(&mut rig, &[0; 128]);
    let reason = CloseReason::Malformed(FatalStatus::InvalidHeaderField);
    departs(&host, reason, None);
    host.close(&mut rig);
    let mut host = Host::new(&rig, Manners::default());
    rig.now = rig.now.plus_ms(10_000);
    host.session.advance(rig.now, &mut rig.shard());
    departs(&host, CloseReason::HandshakeTimeout, None);
    host.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn k08_a_wrong_header_digest_says_whose_it_was() {
    let mut rig = Rig::new();
    let manners = Manners {
        header_digest: true,
        ..Manners::default()
    };
    let mut admin = Host::admin(&mut rig, manners);
    let mut io = admin.io(&mut rig, 1, 32);
    let (_, mut capsule) = io.capsule(rig::host::sqe(0x00, 2), &[]);
    *capsule.last_mut().unwrap() ^= 1;
    io.send(&mut rig, &capsule);
    let reason = CloseReason::Malformed(FatalStatus::HeaderDigestError);
    departs(&io, reason, Some(1));
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}
