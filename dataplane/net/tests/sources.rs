//! Frames from addresses that no host can have, or that are ours: nothing is answered,
//! nothing is remembered, everything is counted (RFC 1122, 3.2.1.3; RFC 4291, 2).

mod support;

use std::net::IpAddr;

use net::{ConfigError, Stack};
use support::script::*;
use support::*;

/// For an interface with 192.0.2.1/24.
const V4: [&str; 10] = [
    "192.0.2.1",
    "192.0.2.0",
    "192.0.2.255",
    "255.255.255.255",
    "240.0.0.1",
    "224.0.0.251",
    "239.255.255.255",
    "127.0.0.1",
    "0.0.0.0",
    "0.1.2.3",
];

/// For an interface with 2001:db8::1/64.
const V6: [&str; 6] = [
    "2001:db8::1",
    "ff02::1",
    "ff0e::99",
    "::1",
    "::",
    "::ffff:192.0.2.2",
];

fn sources(ipv6: bool) -> Vec<IpAddr> {
    let texts: &[&str] = if ipv6 { &V6 } else { &V4 };
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A packet to us, from `source`, of each kind that is answered if it is from a host.
fn packets(t: &Script, source: IpAddr) -> Vec<Vec<u8>> {
    let ours = t.ours.ip();
    let tcp = |segment: Seg| packet(source, ours, 6, segment.ports(5000, 4420).tcp(), 16, 0, 64);
    let echo = |kind| vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1, 1, 2, 3, 4];
    let (icmp, kind) = if ours.is_ipv6() { (58, 128) } else { (1, 8) };
    let udp = vec![0x13, 0x88, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    vec![
        tcp(seg(SYN, IRS, 0).mss(1460)),
        tcp(seg(ACK, IRS, 77)),
        packet(source, ours, icmp, echo(kind), 2, 0, 64),
        packet(source, ours, 17, udp, 6, 0, 64),
        packet(source, ours, 99, vec![0; 20], 0, 0, 64),
    ]
}

fn gives(t: &mut Script, packet: &[u8]) -> usize {
    let kind = if t.ours.is_ipv4() { 0x0800 } else { 0x86dd };
    t.host
        .receive(t.now, &ethernet(MAC_B.0, MAC_A.0, kind, packet));
    t.out().len() + std::mem::take(&mut t.others).len()
}

#[test]
fn rfc1122_3_2_1_3_packets_from_nobody_are_dropped_and_counted() {
    for ipv6 in [false, true] {
        let mut t = Script::with(ipv6, |_| {});
        let mut dropped = 0;
        for source in sources(ipv6) {
            for (kind, packet) in packets(&t, source).iter().enumerate() {
                assert_eq!(gives(&mut t, packet), 0, "{source}, kind {kind}");
                dropped += 1;
                assert_eq!(t.count("ip_source_bad"), dropped, "{source}, kind {kind}");
            }
        }
        assert_eq!(t.host.stack.connection_count(), 0);
        // The same from a host are answered, each.
        let host = t.peer.ip();
        for packet in packets(&t, host) {
            assert_eq!(gives(&mut t, &packet), 1);
        }
        assert_eq!(t.count("ip_source_bad"), dropped);
    }
}

#[test]
fn rfc1122_3_2_1_3_questions_of_nobody_are_not_answered() {
    let mut t = Script::new();
    let ask = |from: IpAddr| {
        let IpAddr::V4(from) = from else { panic!() };
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
        arp.extend(MAC_B.0);
        arp.extend(from.octets());
        arp.extend([0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
        ethernet(MAC_B.0, [0xff; 6], 0x0806, &arp)
    };
    let mut dropped = 0;
    for source in sources(false) {
        // A probe asks from nowhere (RFC 5227, 2.1.1), and one from our address is a conflict.
        if source.is_unspecified() || source == t.ours.ip() {
            continue;
        }
        t.host.receive(t.now, &ask(source));
        t.out();
        assert!(t.others.is_empty(), "{source}");
        dropped += 1;
    }
    assert_eq!(t.count("ip_source_bad"), dropped);
    t.host.receive(t.now, &ask(t.peer.ip()));
    t.out();
    assert_eq!(t.others.len(), 1);
}

#[test]
fn rfc4861_7_1_1_solicitations_of_nobody_are_not_answered() {
    let mut t = Script::with(true, |_| {});
    let ask = |from: IpAddr, ours: IpAddr| {
        let IpAddr::V6(target) = ours else { panic!() };
        let mut icmp = vec![135, 0, 0, 0, 0, 0, 0, 0];
        icmp.extend(target.octets());
        if !from.is_unspecified() {
            icmp.extend([1, 1]);
            icmp.extend(MAC_B.0);
        }
        packet(from, ours, 58, icmp, 2, 0, 255)
    };
    let ours = t.ours.ip();
    let mut dropped = 0;
    for source in sources(true).into_iter().filter(|a| !a.is_unspecified()) {
        // From our own address it is a conflict, too: that is defended, not answered.
        let defended = usize::from(source == ours);
        assert_eq!(gives(&mut t, &ask(source, ours)), defended, "{source}");
        dropped += 1;
        assert_eq!(t.count("ip_source_bad"), dropped);
    }
    // From nowhere asks who is still to have an address (RFC 4862, 5.4.2); and hosts ask.
    for source in ["::", "2001:db8::2", "fe80::2"] {
        assert_eq!(gives(&mut t, &ask(source.parse().unwrap(), ours)), 1);
    }
}

#[test]
fn rfc1122_3_2_1_3_such_addresses_are_no_interface_s() {
    for address in [
        "240.0.0.1/24",
        "0.1.2.3/8",
        "127.0.0.1/8",
        "192.0.2.0/24",
        "192.0.2.255/24",
        "::1/128",
        "ff02::1/64",
        "::ffff:192.0.2.2/128",
    ] {
        let (mut config, _) = configs(false);
        config.addresses = vec![address.parse().unwrap()];
        let refused = Stack::new(config).err();
        assert!(
            matches!(refused, Some(ConfigError::AddressNotUnicast(_))),
            "{address}"
        );
    }
    for address in [
        "192.0.2.0/31",
        "192.0.2.255/23",
        "192.0.2.7/32",
        "2001:db8::/64",
    ] {
        let (mut config, _) = configs(false);
        config.addresses = vec![address.parse().unwrap()];
        assert!(Stack::new(config).is_ok(), "{address}");
    }
}
