//! Addresses that somebody else has (RFC 5227; RFC 4862, 5.4): found before they are used,
//! told, tried again, and defended once they are in use.

mod support;

use std::net::IpAddr;

use net::{AddressState, ConnectError, Duration, Instant, MacAddress};
use support::script::*;
use support::*;

const OURS: [u8; 4] = [192, 0, 2, 1];
const BROADCAST: [u8; 6] = [0xff; 6];

fn arp(op: u8, from: MacAddress, from_ip: [u8; 4], to_ip: [u8; 4]) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, op];
    arp.extend(from.0);
    arp.extend(from_ip);
    arp.extend([0; 6]);
    arp.extend(to_ip);
    ethernet(from.0, BROADCAST, 0x0806, &arp)
}

/// What another station sends that has our address, or wants it.
fn claims() -> [Vec<u8>; 3] {
    [
        arp(1, MAC_B, OURS, [192, 0, 2, 9]),
        arp(2, MAC_B, OURS, [192, 0, 2, 9]),
        arp(1, MAC_B, [0; 4], OURS),
    ]
}

fn probing(ipv6: bool) -> (Host, Instant) {
    let (mut config, _) = configs(ipv6);
    config.duplicate_address_detection = true;
    (Host::new(config, 64), Instant::from_millis(1000))
}

fn state(host: &Host) -> AddressState {
    host.stack.addresses().next().unwrap().1
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn rfc5227_2_1_1_an_address_is_probed_before_it_is_used() {
    let (mut host, start) = probing(false);
    let listener = "192.0.2.1:4420".parse().unwrap();
    host.stack.listen(listener, 8).unwrap();
    let mut now = start;
    let mut sent = Vec::new();
    let asks = arp(1, MAC_B, [192, 0, 2, 2], OURS);
    let syn = seg(SYN, IRS, 0).mss(1460).ports(5000, 4420).tcp();
    let ip = packet([192, 0, 2, 2].into(), OURS.into(), 6, syn, 16, 0, 64);
    let syn = ethernet(MAC_B.0, MAC_A.0, 0x0800, &ip);
    while now < start + ms(300) {
        sent.extend(host.turn(now).into_iter().map(|frame| (now, frame)));
        assert_eq!(state(&host), AddressState::Probing);
        // It is not ours yet: nobody is answered, nothing is sent from it.
        host.receive(now, &asks);
        host.receive(now, &syn);
        // Our own probe, come back, says nothing.
        host.receive(now, &arp(1, MAC_A, [0; 4], OURS));
        let peer = "192.0.2.2:9".parse().unwrap();
        let refused = host.stack.connect(now, peer, None);
        assert_eq!(refused, Err(ConnectError::NoSuchAddress));
        now += ms(10);
    }
    let probe = arp(1, MAC_A, [0; 4], OURS);
    let expected = [0, 100, 200].map(|at| (start + ms(at), probe.clone()));
    assert_eq!(sent, expected);
    // Nobody has said a word: it is ours, and the link is told twice.
    assert!(host.stack.next_deadline().unwrap() <= now);
    let announcement = arp(1, MAC_A, OURS, OURS);
    assert_eq!(host.turn(now), std::slice::from_ref(&announcement));
    assert_eq!(state(&host), AddressState::InUse);
    now += ms(2000);
    assert_eq!(host.turn(now), [announcement]);
    host.receive(now, &asks);
    assert_eq!(host.turn(now).len(), 1);
    assert_eq!(host.stack.stats().address_conflicts, 0);
}

#[test]
fn rfc5227_2_1_1_an_address_that_is_taken_is_not_used_and_tried_again() {
    for claim in claims() {
        let (mut host, mut now) = probing(false);
        host.turn(now);
        now += ms(150);
        host.turn(now);
        host.receive(now, &claim);
        assert_eq!(state(&host), AddressState::Taken(MAC_B));
        assert_eq!(host.stack.stats().address_conflicts, 1);
        let address = OURS.into();
        assert!(!host.stack.is_address_usable(address));
        // Silence for a minute, whoever asks.
        host.receive(now, &arp(1, MAC_B, [192, 0, 2, 2], OURS));
        let taken = now;
        while now < taken + ms(59_900) {
            assert!(host.turn(now).is_empty());
            now += ms(100);
        }
        // It still has it, and then it has not.
        now = taken + ms(60_000);
        assert_eq!(host.turn(now), [arp(1, MAC_A, [0; 4], OURS)]);
        assert_eq!(state(&host), AddressState::Probing);
        host.receive(now, &claim);
        assert_eq!(state(&host), AddressState::Taken(MAC_B));
        now += ms(60_000);
        for _ in 0..3 {
            assert_eq!(host.turn(now), [arp(1, MAC_A, [0; 4], OURS)]);
            now += ms(100);
        }
        assert_eq!(host.turn(now), [arp(1, MAC_A, OURS, OURS)]);
        assert!(host.stack.is_address_usable(address));
    }
}

#[test]
fn rfc5227_2_4_an_address_in_use_is_defended_and_the_conflict_told() {
    let (mut host, mut now) = probing(false);
    for _ in 0..4 {
        host.turn(now);
        now += ms(100);
    }
    now += ms(5000);
    host.turn(now);
    let (mut defended, start) = (0, now);
    let changes = host.stack.address_changes();
    while now < start + ms(25_000) {
        host.receive(now, &claims()[1]);
        let sent = host.turn(now);
        assert!(sent.iter().all(|frame| *frame == arp(1, MAC_A, OURS, OURS)));
        defended += sent.len();
        assert_eq!(state(&host), AddressState::Contested(MAC_B));
        assert!(
            host.stack.is_address_usable(OURS.into()),
            "hosts are connected"
        );
        now += ms(100);
    }
    assert_eq!((defended, host.stack.stats().address_conflicts), (3, 250));
    assert_eq!(host.stack.address_changes(), changes + 1, "told once");
    // Who asks whether somebody has it is answered, and is not in conflict.
    host.receive(now, &claims()[2]);
    assert_eq!(host.turn(now).len(), 1);
    now += ms(60_000);
    assert!(host.stack.next_deadline().unwrap() <= now);
    assert!(host.turn(now).is_empty());
    assert_eq!(state(&host), AddressState::InUse);
}

/// One address of two is taken: the other is used.
#[test]
fn rfc5227_2_1_1_one_address_that_is_taken_keeps_no_other_from_use() {
    let (mut config, _) = configs(false);
    config.duplicate_address_detection = true;
    config.addresses.push("198.51.100.1/24".parse().unwrap());
    let (mut host, mut now) = (Host::new(config, 64), Instant::from_millis(1));
    assert_eq!(host.turn(now).len(), 2);
    host.receive(now, &claims()[0]);
    for _ in 0..4 {
        now += ms(100);
        host.turn(now);
    }
    let states: Vec<_> = host.stack.addresses().map(|(_, state)| state).collect();
    assert_eq!(states, [AddressState::Taken(MAC_B), AddressState::InUse]);
}

#[test]
fn rfc4862_5_4_5_an_ipv6_address_that_is_taken_is_told_and_tried_again() {
    let (mut host, mut now) = probing(true);
    let address = host.stack.config().addresses[0].address();
    let IpAddr::V6(ours) = address else { panic!() };
    let mut icmp = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    icmp.extend(ours.octets());
    icmp.extend([2, 1]);
    icmp.extend(MAC_B.0);
    let ip = packet(address, "ff02::1".parse().unwrap(), 58, icmp, 2, 0, 255);
    let answer = ethernet(MAC_B.0, [0x33, 0x33, 0, 0, 0, 1], 0x86dd, &ip);
    host.turn(now);
    host.receive(now, &answer);
    assert_eq!(state(&host), AddressState::Taken(MAC_B));
    now += ms(60_000);
    let solicits = |f: &Vec<u8>| f[20] == 58 && f[54] == 135 && f[22..38] == [0; 16];
    assert!(host.turn(now).iter().any(solicits), "tried again");
    now += ms(1000);
    assert!(host.turn(now).iter().any(|f| f[54] == 136), "announced");
    assert!(host.stack.is_address_usable(address));
    // In use it is kept.
    assert_eq!(state(&host), AddressState::InUse);
    host.receive(now, &answer);
    assert_eq!(host.turn(now).iter().filter(|f| f[54] == 136).count(), 1);
    assert_eq!(state(&host), AddressState::Contested(MAC_B));
}

/// One shard asks for all; whichever hears who has the address tells the others, and the
/// one that asks again says when it is free.
#[test]
fn rfc5227_2_1_1_shards_of_a_port_agree_on_an_address() {
    let shard = |owns: bool| {
        let (mut config, _) = configs(false);
        config.duplicate_address_detection = true;
        config.owns_addresses = owns;
        Host::new(config, 64)
    };
    let (mut owner, mut other) = (shard(true), shard(false));
    let mut now = Instant::from_millis(5);
    let carry = |from: &mut Host, to: &mut Host, now| {
        while let Some(notice) = from.stack.poll_notice() {
            to.stack.notice(now, notice);
        }
    };
    assert_eq!(owner.turn(now).len(), 1);
    assert!(other.turn(now).is_empty(), "one asks for all");
    other.receive(now, &claims()[1]);
    carry(&mut other, &mut owner, now);
    for host in [&mut owner, &mut other] {
        assert_eq!(state(host), AddressState::Taken(MAC_B));
    }
    now += ms(60_000);
    for _ in 0..4 {
        owner.turn(now);
        assert!(other.turn(now).is_empty());
        now += ms(100);
    }
    carry(&mut owner, &mut other, now);
    for host in [&mut owner, &mut other] {
        assert_eq!(state(host), AddressState::InUse);
    }
}
