//! Connections and controllers: set-up, refusals, ends.

mod rig;

use nvmf::pdu::FatalStatus;
use nvmf::{CloseReason, Cntlid, Hosts, Qid, Timestamp};
use rig::host::{Answer, Host, Manners, connect_data, in_capsule, rw, sc, sqe};
use rig::{CLOSED_NQN, DISCOVERY_NQN, HOST_NQN, NQN, Rig, Sizes, config};
use testkit::{Format, Initialized};

/// IPO and IATTR of an Invalid Parameters answer: where, and whether in the data.
fn invalid(answer: &Answer) -> (u64, bool) {
    assert_eq!(sc(answer.status), (1, 0x82), "Connect Invalid Parameters");
    (answer.result & 0xffff, answer.result >> 16 & 1 == 1)
}

fn fresh(rig: &mut Rig) -> Host {
    let mut host = Host::new(rig, Manners::default());
    host.initialize(rig);
    host
}

#[test]
fn a_refused_connect_names_the_invalid_parameter() {
    let mut rig = Rig::new();
    let mut connect = |qid, sq_size, data: &[u8]| {
        let mut host = fresh(&mut rig);
        let answer = host.connect_with(&mut rig, qid, sq_size, data);
        assert_eq!(host.session.queue().is_some(), answer.status == 0);
        host.close(&mut rig);
        answer
    };
    let good = connect_data(0xffff, NQN, HOST_NQN);
    // SQSIZE: none, and more than an Admin Queue may have.
    assert_eq!(invalid(&connect(0, 0, &good)), (44, false));
    assert_eq!(invalid(&connect(0, 4096, &good)), (44, false));
    // SUBNQN: unknown, empty, without a terminator, not text.
    let unknown = connect_data(0xffff, "nqn.2026-01.io.throughline:no", HOST_NQN);
    assert_eq!(invalid(&connect(0, 31, &unknown)), (256, true));
    let empty = connect_data(0xffff, "", HOST_NQN);
    assert_eq!(invalid(&connect(0, 31, &empty)), (256, true));
    let mut endless = good.clone();
    endless[256..512].fill(b'n');
    assert_eq!(invalid(&connect(0, 31, &endless)), (256, true));
    let mut garbage = good.clone();
    garbage[256] = 0xff;
    assert_eq!(invalid(&connect(0, 31, &garbage)), (256, true));
    // HOSTNQN: not text.
    let mut garbage = good.clone();
    garbage[512] = 0xff;
    assert_eq!(invalid(&connect(0, 31, &garbage)), (512, true));
    // CNTLID: controllers are dynamic, and there is none to add a queue to.
    let fixed = connect_data(1, NQN, HOST_NQN);
    assert_eq!(invalid(&connect(0, 31, &fixed)), (16, true));
    assert_eq!(invalid(&connect(1, 31, &fixed)), (16, true));
    // A host that is not on the list.
    let stranger = connect_data(0xffff, CLOSED_NQN, HOST_NQN);
    assert_eq!(sc(connect(0, 31, &stranger).status), (1, 0x84));
    // One without a name may use what anybody may, and nothing else.
    let nameless = connect_data(0xffff, CLOSED_NQN, "");
    assert_eq!(sc(connect(0, 31, &nameless).status), (1, 0x84));
    let nameless = connect_data(0xffff, NQN, "");
    assert_eq!(connect(0, 31, &nameless).status, 0);
    let friend = connect_data(0xffff, CLOSED_NQN, "nqn.2026-01.io.throughline:friend");
    let mut host = fresh(&mut rig);
    assert_eq!(host.connect_with(&mut rig, 0, 31, &friend).status, 0);
    host.close(&mut rig);
    assert_eq!(
        (rig.counters.connects, rig.counters.connects_refused),
        (2, 11)
    );
    rig.assert_all_returned();
}

#[test]
fn connect_checks_its_format_and_its_data_s_length() {
    let mut rig = Rig::new();
    let mut host = fresh(&mut rig);
    let data = connect_data(0xffff, NQN, HOST_NQN);
    let mut format = host.connect_sqe(0, 31);
    format[40] = 1;
    assert_eq!(
        sc(host.with_data(&mut rig, format, &data).status),
        (1, 0x80)
    );
    let connect = host.connect_sqe(0, 31);
    let short = host.with_data(&mut rig, connect, &data[..512]);
    assert_eq!(sc(short.status), (0, 0x0f));
    // The connection is still good for a proper one.
    assert_eq!(host.with_data(&mut rig, connect, &data).status, 0);
    assert_eq!(host.session.queue(), Some((Cntlid(1), Qid::ADMIN)));
    // And a second one is out of sequence.
    let again = host.with_data(&mut rig, connect, &data);
    assert_eq!(sc(again.status), (0, 0x0c));
    host.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn commands_before_connect_are_sequence_errors() {
    let mut rig = Rig::new();
    let mut host = fresh(&mut rig);
    for opcode in [0x06, 0x02, 0x01, 0x18, 0x0c] {
        let answer = host.without_data(&mut rig, sqe(opcode, 1));
        assert_eq!(sc(answer.status), (0, 0x0c), "opcode {opcode:x}");
    }
    // With in-capsule data, too: it is taken and dropped.
    let answer = host.with_data(&mut rig, rw(0x01, 1, 0, 8), &[0; 4096]);
    assert_eq!(sc(answer.status), (0, 0x0c));
    assert_eq!(sc(host.get_property(&mut rig, 0, true).status), (0, 0x0c));
    assert_eq!(sc(host.disconnect(&mut rig).status), (0, 0x0c));
    host.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn an_io_queue_belongs_to_an_enabled_controller_of_the_same_host() {
    let mut rig = Rig::new();
    let mut admin = fresh(&mut rig);
    let answer = admin.connect(&mut rig, 0, 0xffff, 31);
    let cntlid = answer.result as u16;
    let connect = |rig: &mut Rig, qid, data: &[u8]| {
        let mut io = fresh(rig);
        let answer = io.connect_with(rig, qid, 63, data);
        (io, answer)
    };
    let good = connect_data(cntlid, NQN, HOST_NQN);
    // CC.EN is 0.
    let (_, early) = connect(&mut rig, 1, &good);
    assert_eq!(sc(early.status), (0, 0x0c));
    admin.set_property(&mut rig, 0x14, 0x0046_0001);
    // Another subsystem, another host, another host identifier.
    let other = connect_data(cntlid, CLOSED_NQN, "nqn.2026-01.io.throughline:friend");
    assert_eq!(invalid(&connect(&mut rig, 1, &other).1), (16, true));
    let imposter = connect_data(cntlid, NQN, "nqn.2026-01.io.throughline:friend");
    assert_eq!(invalid(&connect(&mut rig, 1, &imposter).1), (512, true));
    let mut other_id = good.clone();
    other_id[0] ^= 1;
    assert_eq!(invalid(&connect(&mut rig, 1, &other_id).1), (512, true));
    // More entries than MQES says.
    let mut deep = fresh(&mut rig);
    let answer = deep.connect_with(&mut rig, 1, 64, &good);
    assert_eq!(invalid(&answer), (44, false));
    // A queue beyond those granted, and one there is already.
    assert_eq!(invalid(&connect(&mut rig, 9, &good).1), (42, false));
    let (mut first, answer) = connect(&mut rig, 8, &good);
    assert_eq!((answer.status, answer.result), (0, cntlid.into()));
    assert_eq!(sc(connect(&mut rig, 8, &good).1.status), (0, 0x0c));
    assert_eq!(rig.target.controllers()[0].io_queues, 1);
    // Its number is free again once it is gone.
    first.close(&mut rig);
    let (mut second, answer) = connect(&mut rig, 8, &good);
    assert_eq!(answer.status, 0);
    second.close(&mut rig);
    admin.close(&mut rig);
    assert_eq!(invalid(&connect(&mut rig, 1, &good).1), (16, true));
    rig.assert_all_returned();
}

#[test]
fn a_discovery_controller_has_no_io_queues() {
    let mut rig = Rig::new();
    let mut admin = fresh(&mut rig);
    let data = connect_data(0xffff, DISCOVERY_NQN, HOST_NQN);
    let cntlid = admin.connect_with(&mut rig, 0, 31, &data).result as u16;
    admin.set_property(&mut rig, 0x14, 0x0046_0001);
    let mut io = fresh(&mut rig);
    let data = connect_data(cntlid, DISCOVERY_NQN, HOST_NQN);
    let answer = io.connect_with(&mut rig, 1, 31, &data);
    assert_eq!(invalid(&answer), (16, true));
    io.close(&mut rig);
    admin.close(&mut rig);
}

#[test]
fn controllers_are_limited_and_numbered() {
    let mut config = config();
    config.max_controllers = 2;
    let mut rig = Rig::with(config, Sizes::default());
    let mut first = Host::admin(&mut rig, Manners::default());
    let mut second = Host::admin(&mut rig, Manners::default());
    assert_eq!((first.cntlid, second.cntlid), (1, 2));
    let mut third = fresh(&mut rig);
    let busy = third.connect(&mut rig, 0, 0xffff, 31);
    assert_eq!(sc(busy.status), (1, 0x81));
    first.close(&mut rig);
    assert_eq!(third.connect(&mut rig, 0, 0xffff, 31).result, 3);
    second.close(&mut rig);
    third.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn base_3_1_3_properties_enable_and_shut_down() {
    let mut rig = Rig::new();
    let mut admin = fresh(&mut rig);
    admin.cntlid = admin.connect(&mut rig, 0, 0xffff, 31).result as u16;
    let cap = admin.get_property(&mut rig, 0x00, true).result;
    assert_eq!((cap & 0xffff, cap >> 37 & 0xff), (63, 1));
    assert_eq!(
        admin.get_property(&mut rig, 0x08, false).result,
        0x0002_0000
    );
    assert_eq!(admin.get_property(&mut rig, 0x1c, false).result, 0);
    // CC.EN is 0: Admin commands are out of sequence.
    assert_eq!(sc(admin.identify(&mut rig, 1, 0).status), (0, 0x0c));
    assert_eq!(
        sc(admin.without_data(&mut rig, sqe(0x18, 0)).status),
        (0, 0x0c)
    );
    admin.set_property(&mut rig, 0x14, 0x0046_0001);
    assert_eq!(admin.get_property(&mut rig, 0x1c, false).result, 1);
    assert_eq!(
        admin.get_property(&mut rig, 0x14, false).result,
        0x0046_0001
    );
    assert_eq!(admin.identify(&mut rig, 1, 0).status, 0);
    // Invalid: no such property, wrong size, one that cannot be set.
    assert_eq!(
        sc(admin.get_property(&mut rig, 0x20, false).status),
        (0, 0x02)
    );
    assert_eq!(
        sc(admin.get_property(&mut rig, 0x00, false).status),
        (0, 0x02)
    );
    assert_eq!(sc(admin.set_property(&mut rig, 0x1c, 0).status), (0, 0x02));
    // Shutdown takes the I/O queues along.
    let mut io = admin.io(&mut rig, 1, 32);
    admin.set_property(&mut rig, 0x14, 0x0046_4001);
    assert_eq!(admin.get_property(&mut rig, 0x1c, false).result, 0b0101);
    io.session.advance(rig.now, &mut rig.shard());
    assert_eq!(io.session.closing(), Some(CloseReason::ControllerGone));
    assert_eq!(admin.get_property(&mut rig, 0x1c, false).result, 0b1001);
    io.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn a_reset_ends_io_queues_and_frees_their_numbers() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut old = admin.io(&mut rig, 1, 32);
    let parked = admin.submit(&mut rig, sqe(0x0c, 0), &[]);
    admin.set_property(&mut rig, 0x14, 0);
    // Ready until its queues have ended.
    assert_eq!(admin.get_property(&mut rig, 0x1c, false).result, 1);
    old.session.advance(rig.now, &mut rig.shard());
    assert_eq!(old.session.closing(), Some(CloseReason::ControllerGone));
    assert_eq!(admin.get_property(&mut rig, 0x1c, false).result, 0);
    admin.set_property(&mut rig, 0x14, 0x0046_0001);
    // The parked request is void and not completed.
    assert!(!admin.answers.contains_key(&parked));
    let mut new = admin.io(&mut rig, 1, 32);
    // The old connection's end does not touch the new queue.
    old.close(&mut rig);
    assert_eq!(rig.target.controllers()[0].io_queues, 1);
    assert_eq!(new.read(&mut rig, 1, 0, 1, 512).status, 0);
    new.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn base_6_4_disconnect_ends_an_io_queue() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 32);
    let mut format = sqe(0x7f, 8);
    format[40] = 1;
    assert_eq!(sc(io.without_data(&mut rig, format).status), (1, 0x80));
    assert_eq!(io.disconnect(&mut rig).status, 0);
    assert_eq!(io.session.closing(), Some(CloseReason::Disconnected));
    // Nothing is taken any more; the number is free at once.
    let mut again = admin.io(&mut rig, 1, 32);
    io.close(&mut rig);
    assert_eq!(again.read(&mut rig, 1, 0, 1, 512).status, 0);
    assert_eq!(sc(admin.disconnect(&mut rig).status), (1, 0x85));
    assert_eq!(sc(io_only(&mut again, &mut rig).status), (0, 0x02));
    again.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

/// A property command on an I/O queue.
fn io_only(io: &mut Host, rig: &mut Rig) -> Answer {
    io.get_property(rig, 0, true)
}

#[test]
fn authentication_is_unknown_where_no_host_has_a_key() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, Manners::default());
    for fctype in [5, 6] {
        let answer = admin.without_data(&mut rig, sqe(0x7f, fctype));
        assert_eq!(sc(answer.status), (0, 0x01));
    }
    admin.close(&mut rig);
}

#[test]
fn base_3_9_a_controller_ends_when_keep_alive_expires() {
    let mut rig = Rig::new();
    let manners = Manners {
        keep_alive_ms: 5000,
        ..Manners::default()
    };
    let mut admin = Host::admin(&mut rig, manners);
    // The I/O queue lives on another shard.
    let mut other = rig.beside(Sizes::default());
    let mut io = admin.io(&mut other, 1, 32);
    let mut idle = admin.io(&mut other, 2, 32);
    for _ in 0..3 {
        rig.now = rig.now.plus_ms(4900);
        admin.session.advance(rig.now, &mut rig.shard());
        assert_eq!(admin.without_data(&mut rig, sqe(0x18, 0)).status, 0);
    }
    rig.now = rig.now.plus_ms(4999);
    admin.session.advance(rig.now, &mut rig.shard());
    assert_eq!(admin.session.closing(), None);
    rig.now = rig.now.plus_ms(1);
    admin.session.advance(rig.now, &mut rig.shard());
    assert_eq!(admin.session.closing(), Some(CloseReason::KeepAliveTimeout));
    assert_eq!(rig.counters.timeouts, 1);
    // The I/O queues notice by themselves, and before a command: that is not
    // answered, for the host may well get it done by another controller.
    assert_eq!(rig.target.controllers().len(), 1);
    idle.session.advance(other.now, &mut other.shard());
    assert_eq!(idle.session.closing(), Some(CloseReason::ControllerGone));
    let late = io.submit(&mut other, rw(0x02, 1, 0, 1), &[]);
    assert!(!io.answers.contains_key(&late));
    assert_eq!(io.session.closing(), Some(CloseReason::ControllerGone));
    assert!(rig.target.controllers().is_empty());
    idle.close(&mut other);
    io.close(&mut other);
    admin.close(&mut rig);
    rig.assert_all_returned();
    other.assert_all_returned();
}

/// Traffic Based Keep Alive: I/O on another shard is as good as Keep Alive commands.
#[test]
fn base_3_9_2_io_restarts_the_keep_alive_timer() {
    let mut rig = Rig::new();
    let manners = Manners {
        keep_alive_ms: 5000,
        ..Manners::default()
    };
    let mut admin = Host::admin(&mut rig, manners);
    let id = admin.identify(&mut rig, 0x01, 0).data;
    assert_eq!(id[96] >> 6 & 1, 1, "CTRATT: TBKAS");
    let mut other = rig.beside(Sizes::default());
    let mut io = admin.io(&mut other, 1, 32);
    let start = rig.now;
    // One command anywhere in each interval is enough, be it early, late, or one that fails.
    for (interval, (at, block)) in [(1, 0), (4999, 0), (2500, 1 << 40)].into_iter().enumerate() {
        let begun = start.plus_ms(interval as u64 * 5000);
        other.now = begun.plus_ms(at);
        let status = io.read(&mut other, 1, block, 1, 512).status;
        assert_eq!(status == 0, block == 0);
        for ms in [4999, 5000] {
            rig.now = begun.plus_ms(ms);
            admin.session.advance(rig.now, &mut rig.shard());
            assert_eq!(admin.session.closing(), None, "{interval}, {ms} ms");
        }
    }
    // So is one that came in an interval before, and is done in this one.
    other.disks.hold = true;
    let slow = io.submit(&mut other, sqe(0x00, 1), &[]);
    for _ in 0..2 {
        rig.now = rig.now.plus_ms(5000);
        admin.session.advance(rig.now, &mut rig.shard());
        assert_eq!(admin.session.closing(), None);
        other.release(&mut io.session);
    }
    other.disks.hold = false;
    io.run(&mut other);
    assert_eq!(io.answer(slow).status, 0);
    // Keep Alive starts the timer at once: what came before it does not count.
    admin.identify(&mut rig, 0x01, 0);
    rig.now = rig.now.plus_ms(4000);
    assert_eq!(admin.without_data(&mut rig, sqe(0x18, 0)).status, 0);
    for (ms, reason) in [(4999, None), (1, Some(CloseReason::KeepAliveTimeout))] {
        rig.now = rig.now.plus_ms(ms);
        admin.session.advance(rig.now, &mut rig.shard());
        assert_eq!(admin.session.closing(), reason);
    }
    io.session.advance(rig.now, &mut other.shard());
    assert_eq!(io.session.closing(), Some(CloseReason::ControllerGone));
    io.close(&mut other);
    admin.close(&mut rig);
    rig.assert_all_returned();
    other.assert_all_returned();
}

#[test]
fn a_zero_keep_alive_timeout_disables_it_except_for_discovery() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, Manners::default());
    rig.now = rig.now.plus_ms(100_000_000);
    admin.session.advance(rig.now, &mut rig.shard());
    assert_eq!(admin.session.closing(), None);
    let mut discovery = fresh(&mut rig);
    let data = connect_data(0xffff, DISCOVERY_NQN, HOST_NQN);
    discovery.connect_with(&mut rig, 0, 31, &data);
    rig.now = rig.now.plus_ms(120_000);
    discovery.session.advance(rig.now, &mut rig.shard());
    assert_eq!(
        discovery.session.closing(),
        Some(CloseReason::KeepAliveTimeout)
    );
    discovery.close(&mut rig);
    admin.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn a_connection_without_icreq_or_connect_is_closed_in_time() {
    let mut rig = Rig::new();
    let start = rig.now;
    let mut silent = Host::new(&rig, Manners::default());
    let mut slow = fresh(&mut rig);
    // Bytes now and then do not help, neither of ICReq nor of Connect: it must come in time.
    let mut dribbles = Host::new(&rig, Manners::default());
    let ic_req = dribbles.ic_req();
    let mut dribbled = fresh(&mut rig);
    let (_, connect) = dribbled.capsule(sqe(0x7f, 0), &[]);
    for ms in (0..10_000).step_by(1000) {
        rig.now = start.plus_ms(ms);
        for host in [&mut silent, &mut slow, &mut dribbles, &mut dribbled] {
            host.session.advance(rig.now, &mut rig.shard());
            assert_eq!(host.session.closing(), None);
        }
        slow.without_data(&mut rig, sqe(0x06, 0));
        for (host, bytes) in [(&mut dribbles, &ic_req), (&mut dribbled, &connect)] {
            let at = ms as usize / 1000;
            host.send(&mut rig, &bytes[at..=at]);
        }
    }
    rig.now = start.plus_ms(10_000);
    for host in [&mut silent, &mut slow, &mut dribbles, &mut dribbled] {
        host.session.advance(rig.now, &mut rig.shard());
        assert_eq!(host.session.closing(), Some(CloseReason::HandshakeTimeout));
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}

#[test]
fn a_host_that_may_connect_no_more_loses_its_controller() {
    let mut rig = Rig::new();
    let mut admin = Host::admin(&mut rig, Manners::default());
    let mut io = admin.io(&mut rig, 1, 32);
    let info = rig.target.controllers();
    assert_eq!((info[0].cntlid, info[0].io_queues), (Cntlid(1), 1));
    assert_eq!(
        (info[0].subsystem.as_str(), info[0].host.as_str()),
        (NQN, HOST_NQN)
    );
    let nobody = Hosts::Listed(Vec::new());
    assert_eq!(rig.target.set_hosts(HOST_NQN, nobody.clone()), Ok(false));
    assert_eq!(rig.target.set_hosts(NQN, nobody), Ok(true));
    for host in [&mut admin, &mut io] {
        host.session.advance(Timestamp(0), &mut rig.shard());
        assert_eq!(host.session.closing(), Some(CloseReason::ControllerGone));
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}

#[test]
fn icreq_negotiates_digests_and_refuses_what_is_not_supported() {
    let mut config = config();
    config.header_digest = false;
    let mut rig = Rig::with(config, Sizes::default());
    // The target offers no header digests.
    let mut host = Host::new(
        &rig,
        Manners {
            data_digest: true,
            ..Manners::default()
        },
    );
    let mut both = host.ic_req();
    both[11] = 3;
    host.send(&mut rig, &both);
    let resp = host.kit.initialized();
    let format = Format {
        data_digest: true,
        ..Format::default()
    };
    let h2c_max = 128 * 1024;
    assert_eq!(resp, Some(Initialized { format, h2c_max }));
    // PFV other than 0, HPDA beyond 31, a length that is wrong.
    let bad = [
        (8, 1, (6, 8)),
        (10, 32, (1, 10)),
        (4, 129, (1, 4)),
        (2, 72, (1, 2)),
        (1, 1, (1, 1)),
    ];
    for (at, value, expected) in bad {
        let mut host = Host::new(&rig, Manners::default());
        let mut ic_req = host.ic_req();
        ic_req[at] = value;
        host.send(&mut rig, &ic_req);
        assert_eq!(host.terminated(), expected, "byte {at}");
        let unsupported = CloseReason::Malformed(FatalStatus::UnsupportedParameter);
        assert_eq!(host.session.closing() == Some(unsupported), expected.0 == 6);
        host.close(&mut rig);
    }
    host.close(&mut rig);
    rig.assert_all_returned();
}

/// Issue 2, "must hold": two hours' worth of connections compressed.
#[test]
fn ten_thousand_cycles_leave_nothing_behind() {
    let mut rig = Rig::new();
    rig.disks.quiet = true;
    let data = vec![0x5a; 4096];
    for cycle in 0..10_000u32 {
        let mut admin = Host::new(&rig, Manners::default());
        admin.initialize(&mut rig);
        admin.cntlid = admin.connect(&mut rig, 0, 0xffff, 31).result as u16;
        admin.set_property(&mut rig, 0x14, 0x0046_0001);
        if cycle % 8 == 0 {
            assert_eq!(admin.identify(&mut rig, 1, 0).status, 0);
        }
        admin.submit(&mut rig, sqe(0x0c, 0), &[]);
        let mut io = admin.io(&mut rig, 1, 32);
        assert_eq!(io.write(&mut rig, 1, 8, 8, &data).status, 0);
        match cycle % 3 {
            0 => assert_eq!(io.disconnect(&mut rig).status, 0),
            // Vanishes with a write half sent.
            1 => {
                let mut sqe = rw(0x01, 1, 0, 8);
                in_capsule(&mut sqe, 4096);
                let (_, capsule) = io.capsule(sqe, &data);
                io.send(&mut rig, &capsule[..2000]);
            }
            _ => {}
        }
        io.close(&mut rig);
        admin.close(&mut rig);
        rig.assert_all_returned();
    }
    assert!(rig.target.controllers().is_empty());
    rig.assert_no_copy();
    assert_eq!(rig.counters.connects, 20_000);
}

#[test]
fn base_3_1_1_controllers_get_numbers_of_their_subsystem() {
    let mut config = rig::config();
    config.subsystems[0].cntlids = 1000..=1002;
    config.subsystems[1].cntlids = 1001..=0xffef;
    config.subsystems[1].hosts = nvmf::Hosts::Any;
    let mut rig = Rig::with(config, Sizes::default());
    let connect = |rig: &mut Rig, nqn: &str| {
        let mut host = Host::new(rig, Manners::default());
        host.initialize(rig);
        let answer = host.connect_with(rig, 0, 31, &connect_data(0xffff, nqn, HOST_NQN));
        (host, answer)
    };
    let (mut first, answer) = connect(&mut rig, NQN);
    assert_eq!((answer.status, answer.result), (0, 1000));
    // A number is one controller's, whatever subsystem it is of.
    let mut hosts = Vec::new();
    for (nqn, cntlid) in [(CLOSED_NQN, 1001), (NQN, 1002), (DISCOVERY_NQN, 1)] {
        let (host, answer) = connect(&mut rig, nqn);
        assert_eq!((answer.status, answer.result), (0, cntlid), "{nqn}");
        hosts.push(host);
    }
    let (mut refused, answer) = connect(&mut rig, NQN);
    assert_eq!(sc(answer.status), (1, 0x81), "Controller Busy");
    refused.close(&mut rig);
    first.close(&mut rig);
    let (again, answer) = connect(&mut rig, NQN);
    assert_eq!((answer.status, answer.result), (0, 1000));
    for mut host in hosts.into_iter().chain([again]) {
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}
