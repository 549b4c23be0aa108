//! In-band authentication of hosts: what a queue does before it, by it, and after it.

mod rig;

use std::sync::Arc;

use auth::{Explanation, Group, Hash, HostKeys, HostStep, Key, Message, Names, Policy};
use nvmf::{CloseReason, Hosts, TargetConfig};
use rig::host::{Answer, Host, Manners, connect_data, rw, sc};
use rig::{CLOSED_NQN, DISCOVERY_NQN, HOST_NQN, NQN, Rig, Sizes, config};
use testkit::Command;
use testkit::command::property;

/// AUTHREQ of a Connect response: ATR.
const ATR: u64 = 1 << 17;
/// Authentication Required.
const REQUIRED: (u16, u16) = (1, 0x91);
const SEQUENCE_ERROR: (u16, u16) = (0, 0x0c);
const INVALID_FIELD: (u16, u16) = (0, 0x02);
const INVALID_OPCODE: (u16, u16) = (0, 0x01);

fn keys(first: u8) -> Arc<HostKeys> {
    let key = |fill| Key::new(&[fill; 32], Some(Hash::Sha256)).unwrap();
    Arc::new(HostKeys {
        host: key(first),
        controller: Some(key(first + 100)),
    })
}

fn with_keys(keys: &Arc<HostKeys>) -> Hosts {
    Hosts::Listed(vec![nvmf::Host {
        nqn: HOST_NQN.into(),
        keys: Some(Arc::clone(keys)),
        psk: None,
    }])
}

/// A target whose first subsystem wants a proof of the host.
fn guarded() -> TargetConfig {
    let mut config = config();
    config.subsystems[0].hosts = with_keys(&keys(1));
    config.authentication = Policy {
        groups: vec![Group::Null],
        ..Policy::default()
    };
    config
}

fn guarded_rig() -> Rig {
    Rig::with(guarded(), Sizes::default())
}

/// Different in each call.
fn random() -> impl FnMut(&mut [u8]) {
    use std::sync::atomic::{AtomicU8, Ordering};
    static NEXT: AtomicU8 = AtomicU8::new(1);
    |bytes| bytes.fill_with(|| NEXT.fetch_add(7, Ordering::Relaxed).rotate_left(3))
}

fn prover(keys: &Arc<HostKeys>) -> auth::Host {
    let names = Names {
        host: HOST_NQN.into(),
        subsystem: NQN.into(),
    };
    auth::Host::new(names, Arc::clone(keys), &Hash::ALL, &Group::ALL, 9)
}

fn work(rig: &Rig) {
    while rig.target.auth_desk().work(&mut random()) {}
}

/// Gives a message to the controller; its answer, once the desk has looked at it.
fn say(host: &mut Host, rig: &mut Rig, message: Vec<u8>) -> Answer {
    let command = Command::authentication_send(message.clone());
    let cid = host.submit(rig, command.sqe, &message);
    work(rig);
    host.run(rig);
    host.answer(cid)
}

fn hear(host: &mut Host, rig: &mut Rig) -> Answer {
    let command = Command::authentication_receive(4096);
    host.without_data(rig, command.sqe)
}

/// A whole conversation, as the host sees its end.
fn prove(host: &mut Host, rig: &mut Rig, keys: &Arc<HostKeys>) -> HostStep {
    let mut prover = prover(keys);
    let mut message = prover.negotiate();
    loop {
        assert_eq!(say(host, rig, message).status, 0);
        let heard = hear(host, rig);
        assert_eq!((heard.status, heard.data.len()), (0, 4096));
        match prover.take(&heard.data, &mut random()) {
            HostStep::Send(next) => message = next,
            HostStep::SendLast(last) => {
                assert_eq!(say(host, rig, last).status, 0);
                return HostStep::Done;
            }
            end => return end,
        }
    }
}

/// A connection whose Connect was accepted, with or without the wish for a proof.
fn connected(rig: &mut Rig, qid: u16, cntlid: u16) -> (Host, u64) {
    let mut host = Host::new(rig, Manners::default());
    host.initialize(rig);
    let answer = host.connect(rig, qid, cntlid, 31);
    assert_eq!(answer.status, 0, "Connect");
    host.cntlid = answer.result as u16;
    (host, answer.result)
}

/// An Admin Queue whose host has proved who it is, enabled.
fn admitted(rig: &mut Rig) -> Host {
    let (mut host, _) = connected(rig, 0, 0xffff);
    assert_eq!(prove(&mut host, rig, &keys(1)), HostStep::Done);
    let enable = host.set_property(rig, property::CC, testkit::command::CC_ENABLED);
    assert_eq!(enable.status, 0);
    host
}

/// Its host has not proved who it is, or has found that we cannot: the connection ends.
#[track_caller]
fn assert_failed(host: &Host) {
    let failed = Some(CloseReason::AuthenticationFailed);
    assert_eq!(host.session.closing(), failed);
}

/// These end, and nothing of them is left.
#[track_caller]
fn close_all<const N: usize>(mut rig: Rig, mut hosts: [Host; N]) {
    for host in &mut hosts {
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}

#[test]
fn nothing_is_taken_of_a_host_before_it_has_proved_who_it_is() {
    let mut rig = guarded_rig();
    let (mut host, result) = connected(&mut rig, 0, 0xffff);
    assert_eq!(result & ATR, ATR);
    assert_eq!(
        (host.session.queue(), rig.target.controllers()),
        (None, vec![])
    );
    let enable = host.set_property(&mut rig, property::CC, testkit::command::CC_ENABLED);
    assert_eq!(sc(enable.status), REQUIRED);
    assert_eq!(
        sc(host.get_property(&mut rig, property::CSTS, false).status),
        REQUIRED
    );
    assert_eq!(sc(host.identify(&mut rig, 1, 0).status), REQUIRED);
    assert_eq!(sc(host.set_features(&mut rig, 7, 0).status), REQUIRED);
    assert_eq!(sc(host.connect(&mut rig, 0, 0xffff, 31).status), REQUIRED);
    assert_eq!(sc(host.disconnect(&mut rig).status), REQUIRED);
    // Nobody connects I/O queues to it either.
    let mut io = Host::new(&rig, Manners::default());
    io.initialize(&mut rig);
    let cntlid = host.cntlid;
    assert_eq!(
        sc(io.connect(&mut rig, 1, cntlid, 31).status),
        SEQUENCE_ERROR
    );
    io.close(&mut rig);
    assert_eq!(prove(&mut host, &mut rig, &keys(1)), HostStep::Done);
    assert_eq!(rig.target.controllers().len(), 1);
    assert!(host.session.queue().is_some());
    let enable = host.set_property(&mut rig, property::CC, testkit::command::CC_ENABLED);
    assert_eq!(enable.status, 0);
    assert_eq!(host.identify(&mut rig, 1, 0).status, 0);
    assert_eq!(rig.counters.authenticated, 1);
    close_all(rig, [host]);
}

#[test]
fn each_io_queue_needs_a_proof_of_its_own() {
    let mut rig = guarded_rig();
    let admin = admitted(&mut rig);
    let (mut io, result) = connected(&mut rig, 1, admin.cntlid);
    assert_eq!(result & ATR, ATR);
    for sqe in [rw(0x02, 1, 0, 1), rw(0x01, 1, 0, 1)] {
        let asked = io.reading(&mut rig, sqe, 512);
        assert_eq!(sc(asked.status), REQUIRED);
    }
    let written = io.with_data(&mut rig, rw(0x01, 1, 0, 1), &[9; 512]);
    assert_eq!(sc(written.status), REQUIRED);
    assert_eq!(rig.target.controllers()[0].io_queues, 0);
    assert_eq!(prove(&mut io, &mut rig, &keys(1)), HostStep::Done);
    assert_eq!(rig.target.controllers()[0].io_queues, 1);
    let read = io.read(&mut rig, 1, 0, 1, 512);
    assert_eq!((read.status, read.data), (0, vec![0; 512]));
    close_all(rig, [io, admin]);
}

/// Who knows a host's name and the number of its controller takes no queue number from it, and does not keep its
/// controller alive.
#[test]
fn a_stranger_is_not_in_the_way_of_a_hosts_own_queues() {
    let mut rig = guarded_rig();
    let admin = admitted(&mut rig);
    let (mut stranger, _) = connected(&mut rig, 1, admin.cntlid);
    let (mut io, _) = connected(&mut rig, 1, admin.cntlid);
    assert_eq!(prove(&mut io, &mut rig, &keys(1)), HostStep::Done);
    assert_eq!(io.read(&mut rig, 1, 0, 1, 512).status, 0);
    // The number is taken by then, even for somebody who has the key.
    let mut prover = prover(&keys(1));
    say(&mut stranger, &mut rig, prover.negotiate());
    let heard = hear(&mut stranger, &mut rig);
    let HostStep::Send(reply) = prover.take(&heard.data, &mut random()) else {
        panic!("a reply");
    };
    say(&mut stranger, &mut rig, reply);
    let heard = hear(&mut stranger, &mut rig);
    let HostStep::SendLast(last) = prover.take(&heard.data, &mut random()) else {
        panic!("the last message");
    };
    stranger.submit(
        &mut rig,
        Command::authentication_send(last.clone()).sqe,
        &last,
    );
    work(&rig);
    stranger.run(&mut rig);
    assert_eq!(
        stranger.session.closing(),
        Some(CloseReason::ControllerGone)
    );
    stranger.close(&mut rig);
    assert_eq!(rig.target.controllers()[0].io_queues, 1);
    assert_eq!(io.read(&mut rig, 1, 0, 1, 512).status, 0);
    close_all(rig, [io, admin]);
}

#[test]
fn a_wrong_key_gets_the_reason_and_the_connection_ends() {
    let mut rig = guarded_rig();
    let (mut host, _) = connected(&mut rig, 0, 0xffff);
    let refused = HostStep::Refused(Explanation::Failed as u8);
    assert_eq!(prove(&mut host, &mut rig, &keys(2)), refused);
    assert_failed(&host);
    assert_eq!(
        (
            rig.counters.authenticated,
            rig.counters.authentication_failures
        ),
        (0, 1)
    );
    host.close(&mut rig);
    assert_eq!(rig.target.controllers(), vec![]);
    // So does the connection of a host to which we could not prove who we are.
    let (mut host, _) = connected(&mut rig, 0, 0xffff);
    let other = Arc::new(HostKeys {
        host: keys(1).host.clone(),
        controller: keys(3).controller.clone(),
    });
    let HostStep::Refuse(last) = prove(&mut host, &mut rig, &other) else {
        panic!("the host refuses");
    };
    assert_eq!(say(&mut host, &mut rig, last).status, 0);
    assert_failed(&host);
    close_all(rig, [host]);
}

#[test]
fn commands_out_of_order_or_ill_formed_are_refused() {
    let mut rig = guarded_rig();
    let (mut host, _) = connected(&mut rig, 0, 0xffff);
    // There is nothing to receive yet.
    assert_eq!(sc(hear(&mut host, &mut rig).status), SEQUENCE_ERROR);
    let negotiate = prover(&keys(1)).negotiate();
    // Another security protocol; no data; more than any message; room for less than a message.
    let command = Command::authentication_send(negotiate.clone()).dword(10, 0xea01_0100);
    let other = host.with_data(&mut rig, command.sqe, &negotiate);
    assert_eq!(sc(other.status), INVALID_FIELD);
    let long = vec![0; 4100];
    let command = Command::authentication_send(long.clone());
    assert_eq!(
        sc(host.with_data(&mut rig, command.sqe, &long).status),
        INVALID_FIELD
    );
    let none = Command::authentication_receive(0);
    assert_eq!(
        sc(host.without_data(&mut rig, none.sqe).status),
        INVALID_FIELD
    );
    // Strangers send in capsules.
    let command = Command::authentication_send(negotiate.clone());
    let asked = host.asked_for(&mut rig, command.sqe, &negotiate);
    assert_eq!(sc(asked.status), (0, 0x11));
    // One message at a time, and none is received while one is looked at.
    let cid = host.submit(&mut rig, command.sqe, &negotiate);
    let second = host.with_data(&mut rig, command.sqe, &negotiate);
    assert_eq!(sc(second.status), SEQUENCE_ERROR);
    assert_eq!(sc(hear(&mut host, &mut rig).status), SEQUENCE_ERROR);
    work(&rig);
    host.run(&mut rig);
    assert_eq!(host.answer(cid).status, 0);
    let short = Command::authentication_receive(16);
    assert_eq!(
        sc(host.without_data(&mut rig, short.sqe).status),
        INVALID_FIELD
    );
    // The message is still there.
    let heard = hear(&mut host, &mut rig);
    assert!(matches!(
        prover(&keys(1)).take(&heard.data, &mut random()),
        HostStep::Send(_)
    ));
    // A message that is not due ends it, with the reason.
    assert_eq!(say(&mut host, &mut rig, negotiate).status, 0);
    let heard = hear(&mut host, &mut rig);
    let message = Message::read(&heard.data).unwrap();
    let reason = Explanation::IncorrectMessage as u8;
    assert_eq!(message.body, auth::Body::Failure1(reason));
    assert_failed(&host);
    close_all(rig, [host]);
}

#[test]
fn a_host_that_takes_too_long_over_its_proof_is_closed() {
    let mut rig = guarded_rig();
    let (mut silent, _) = connected(&mut rig, 0, 0xffff);
    let (mut halfway, _) = connected(&mut rig, 0, 0xffff);
    say(&mut halfway, &mut rig, prover(&keys(1)).negotiate());
    let start = rig.now;
    for (ms, reason) in [
        (29_999, None),
        (30_000, Some(CloseReason::AuthenticationTimeout)),
    ] {
        rig.now = start.plus_ms(ms);
        for host in [&mut silent, &mut halfway] {
            host.session.advance(rig.now, &mut rig.shard());
            assert_eq!(host.session.closing(), reason);
        }
    }
    close_all(rig, [silent, halfway]);
}

/// Half handshakes by the thousand: none of them counts, and whoever has the key gets in.
#[test]
fn strangers_hold_nothing_that_others_need() {
    let mut config = guarded();
    config.max_controllers = 2;
    config.subsystems[0].cntlids = 1..=4;
    let mut rig = Rig::with(config, Sizes::default());
    let mut strangers = Vec::new();
    for _ in 0..1000 {
        let (mut stranger, _) = connected(&mut rig, 0, 0xffff);
        let message = prover(&keys(1)).negotiate();
        let command = Command::authentication_send(message.clone());
        stranger.submit(&mut rig, command.sqe, &message);
        strangers.push(stranger);
    }
    let mut first = admitted(&mut rig);
    let mut second = admitted(&mut rig);
    assert_eq!(rig.target.controllers().len(), 2);
    // Now there are as many as there may be.
    let mut third = Host::new(&rig, Manners::default());
    third.initialize(&mut rig);
    let answer = third.connect(&mut rig, 0, 0xffff, 31);
    assert_eq!(sc(answer.status), (1, 0x81));
    for stranger in &mut strangers {
        stranger.run(&mut rig);
        stranger.close(&mut rig);
    }
    assert_eq!(first.identify(&mut rig, 1, 0).status, 0);
    [&mut first, &mut second, &mut third]
        .into_iter()
        .for_each(|host| host.close(&mut rig));
    assert_eq!(rig.target.controllers(), vec![]);
    rig.assert_all_returned();
}

#[test]
fn a_host_may_prove_it_again_while_it_goes_on() {
    let mut rig = guarded_rig();
    let mut admin = admitted(&mut rig);
    let mut prover = prover(&keys(1));
    assert_eq!(say(&mut admin, &mut rig, prover.negotiate()).status, 0);
    assert_eq!(admin.identify(&mut rig, 1, 0).status, 0, "meanwhile");
    let heard = hear(&mut admin, &mut rig);
    let HostStep::Send(reply) = prover.take(&heard.data, &mut random()) else {
        panic!("a reply");
    };
    assert_eq!(say(&mut admin, &mut rig, reply).status, 0);
    let heard = hear(&mut admin, &mut rig);
    let HostStep::SendLast(last) = prover.take(&heard.data, &mut random()) else {
        panic!("the last message");
    };
    assert_eq!(say(&mut admin, &mut rig, last).status, 0);
    assert_eq!(rig.counters.authenticated, 2);
    assert_eq!(rig.target.controllers().len(), 1);
    // With another key than the one there is now it ends.
    assert_eq!(rig.target.set_hosts(NQN, with_keys(&keys(5))), Ok(true));
    assert_eq!(
        admin.identify(&mut rig, 1, 0).status,
        0,
        "what was proved stays"
    );
    let end = prove(&mut admin, &mut rig, &keys(1));
    assert_eq!(end, HostStep::Refused(Explanation::Failed as u8));
    assert_failed(&admin);
    close_all(rig, [admin]);
}

#[test]
fn hosts_without_a_key_are_as_before() {
    let mut rig = Rig::new();
    let (mut host, result) = connected(&mut rig, 0, 0xffff);
    assert_eq!(result & ATR, 0);
    let message = prover(&keys(1)).negotiate();
    let command = Command::authentication_send(message.clone());
    let answer = host.with_data(&mut rig, command.sqe, &message);
    assert_eq!(sc(answer.status), INVALID_OPCODE);
    assert_eq!(sc(hear(&mut host, &mut rig).status), INVALID_OPCODE);
    assert_eq!(rig.target.controllers().len(), 1);
    // Once it has to prove who it is, a controller that was had without does not stay.
    assert_eq!(rig.target.set_hosts(NQN, with_keys(&keys(1))), Ok(true));
    host.session.advance(rig.now, &mut rig.shard());
    assert_eq!(host.session.closing(), Some(CloseReason::ControllerGone));
    host.close(&mut rig);
    assert_eq!(rig.target.controllers(), vec![]);
    // Another host, and discovery, need none.
    for (subsystem, name) in [
        (CLOSED_NQN, "nqn.2026-01.io.throughline:friend"),
        (DISCOVERY_NQN, HOST_NQN),
    ] {
        let mut host = Host::new(&rig, Manners::default());
        host.initialize(&mut rig);
        let data = connect_data(0xffff, subsystem, name);
        let answer = host.connect_with(&mut rig, 0, 31, &data);
        assert_eq!((answer.status, answer.result & ATR), (0, 0));
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}
