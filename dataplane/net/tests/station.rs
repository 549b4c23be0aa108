//! A port whose device becomes another one, with another Ethernet address, while there are
//! connections.

mod support;

use net::{Duration, MacAddress};
use support::script::*;
use support::*;

const MAC_NEW: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x99]);

/// Everything that the stack sends now, as frames.
fn frames(t: &mut Script) -> Vec<Vec<u8>> {
    t.host.turn(t.now)
}

fn to(mac: MacAddress, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&mac.0);
    frame
}

#[test]
fn rfc5227_2_1_another_device_announces_the_addresses_anew() {
    let mut t = Script::new();
    t.open();
    t.wait(Duration::from_secs(10));
    t.out();
    t.host.stack.set_mac_address(t.now, MAC_NEW);
    let mut announced = 0;
    for _ in 0..10 {
        announced += (frames(&mut t).iter())
            .filter(|frame| frame[12..14] == [8, 6] && frame[28..32] == [192, 0, 2, 1])
            .inspect(|frame| {
                assert_eq!(
                    (&frame[6..12], &frame[22..28]),
                    (&MAC_NEW.0[..], &MAC_NEW.0[..])
                );
            })
            .count();
        t.now += Duration::from_secs(1);
    }
    assert!(announced >= 2, "{announced} announcements");
}

#[test]
fn k06_connections_live_on_when_the_ethernet_address_is_another() {
    for ipv6 in [false, true] {
        let mut t = Script::with(ipv6, |_| {});
        t.open();
        // One that is on its way when the device goes.
        t.write(0, 100);
        assert_eq!(frames(&mut t).len(), 1);
        t.host.stack.set_mac_address(t.now, MAC_NEW);
        t.wait(Duration::from_secs(2));
        let sent = frames(&mut t);
        let again = sent.iter().find(|frame| transport(frame).0 == 6);
        let again = again.unwrap_or_else(|| panic!("it is not sent again: {sent:?}"));
        assert_eq!(again[6..12], MAC_NEW.0);
        check_sums(again);
        // What comes for the old address is somebody else's; for the new one it is ours.
        let next = t.frame(&seg(ACK, IRS + 1, t.iss + 101).data(b"hello"));
        t.host.receive(t.now, &to(MAC_A, next.clone()));
        assert_eq!(t.read_all(), b"");
        t.host.receive(t.now, &to(MAC_NEW, next));
        assert_eq!(t.read_all(), b"hello");
        t.now += Duration::from_secs(1);
        let sent = frames(&mut t);
        assert!(
            sent.iter().all(|frame| frame[6..12] == MAC_NEW.0),
            "{sent:?}"
        );
        assert!(
            sent.iter().any(|frame| transport(frame).0 == 6),
            "no acknowledgment"
        );
    }
}

/// The short way in looks at the Ethernet address, too.
#[test]
fn k06_trains_are_for_the_new_ethernet_address_alone() {
    let mut t = Script::new();
    t.host.vouches = true;
    t.open();
    let mut at = 0;
    let mut arrives = |t: &mut Script, mac| {
        let next = t.frame(&seg(ACK, IRS + 1 + at, t.iss + 1).data(&[7; 100]));
        t.host.receive(t.now, &to(mac, next));
        let read = t.read_all().len() as u32;
        at += read;
        t.out();
        read
    };
    for _ in 0..4 {
        assert_eq!(arrives(&mut t, MAC_A), 100);
    }
    t.host.stack.set_mac_address(t.now, MAC_NEW);
    for _ in 0..4 {
        assert_eq!(arrives(&mut t, MAC_A), 0);
        assert_eq!(arrives(&mut t, MAC_NEW), 100);
    }
}
