use super::*;

fn health(ports: &[PortState], stores: &[DeviceState]) -> Readiness {
    let namespace = |(nsid, state): (u32, &DeviceState)| {
        let name = NamespaceName {
            subsystem: "nqn.2026-01.com.example:a".into(),
            nsid,
            store: format!("disk{nsid}"),
        };
        (name, *state)
    };
    let port = |(i, state): (usize, &PortState)| (format!("port{i}"), *state);
    let health = Health {
        ports: ports.iter().enumerate().map(port).collect(),
        namespaces: (1..).zip(stores).map(namespace).collect(),
        parts: Vec::new(),
        logs: Vec::new(),
    };
    Readiness::new(None, &health, &["eth1".into(), "0000:01:00.0".into()])
}

#[test]
fn k06_what_is_served_is_said_and_nothing_else() {
    use DeviceState::{Failing, Gone, Works};
    let up = PortState::Up;
    let down = [PortState::NoLink, PortState::Off, PortState::Gone];
    let state = |ports: &[PortState], stores: &[DeviceState]| health(ports, stores).state();
    assert_eq!(state(&[up, up], &[Works, Works]), State::Ready);
    assert_eq!(
        state(&[up], &[]),
        State::Ready,
        "no namespace is offered yet"
    );
    for wrong in down {
        assert_eq!(state(&[wrong], &[Works]), State::Unready);
        assert_eq!(state(&[up, wrong], &[Works]), State::Degraded);
    }
    for wrong in [Failing, Gone] {
        assert_eq!(state(&[up], &[wrong, wrong]), State::Unready);
        assert_eq!(state(&[up], &[wrong, Works]), State::Degraded);
    }
    let mut stuck = health(&[up], &[Works]);
    stuck.shards = Some("core 1 does not poll".into());
    assert_eq!(
        (stuck.state(), stuck.line()),
        (State::Unready, "unready: core 1 does not poll".into())
    );
}

#[test]
fn k06_each_wrong_is_told_with_what_to_do() {
    let now = health(
        &[PortState::Off, PortState::NoLink],
        &[DeviceState::Works, DeviceState::Gone, DeviceState::Failing],
    );
    let told = [
        "port0: eth1 is down: ip link set eth1 up",
        "port1: 0000:01:00.0 has no link: plug in the cable",
        "namespace 2 of nqn.2026-01.com.example:a: the device of store `disk2` is gone: put it back",
        "namespace 3 of nqn.2026-01.com.example:a: the device of store `disk3` fails",
    ];
    let reasons = now.reasons();
    assert_eq!(reasons.len(), told.len(), "{reasons:?}");
    for (reason, told) in reasons.iter().zip(told) {
        assert!(reason.starts_with(told), "{reason}");
    }
}

#[test]
fn r08_of_a_store_on_several_the_one_that_fails_is_named() {
    use DeviceState::{Failing, Gone, Works};
    let part = |store: &str, state| ("big".to_owned(), store.to_owned(), state);
    let of = |first, second| {
        let name = NamespaceName {
            subsystem: "nqn.2026-01.com.example:a".into(),
            nsid: 1,
            store: "big".into(),
        };
        let health = Health {
            namespaces: vec![(name, Ord::max(first, second))],
            parts: vec![part("flash0", first), part("flash1", second)],
            ..Health::default()
        };
        Readiness::new(None, &health, &[]).line()
    };
    assert_eq!(of(Works, Works), "ready");
    let failing = of(Works, Failing);
    let told = "the device of store `flash1`, a part of `big`, fails";
    assert!(failing.contains(told), "{failing}");
    let gone = of(Gone, Failing);
    let told = "the device of store `flash0`, a part of `big`, is gone";
    assert!(gone.contains(told), "{gone}");
}

#[test]
fn s06_a_log_on_one_of_its_two_stores_is_degraded() {
    let log = |name: &str, state| (name.to_owned(), state);
    let health = |second| Health {
        logs: vec![log("log0", DeviceState::Works), log("log1", second)],
        ..Health::default()
    };
    let of = |second| Readiness::new(None, &health(second), &[]);
    assert_eq!(of(DeviceState::Works).state(), State::Ready);
    for state in [DeviceState::Failing, DeviceState::Gone] {
        let line = of(state).line();
        assert!(
            line.starts_with("degraded: log store log1: `log1` is out"),
            "{line}"
        );
    }
}

#[test]
fn k06_each_change_is_told_once() {
    let good = health(&[PortState::Up], &[DeviceState::Works]);
    let off = health(&[PortState::Off], &[DeviceState::Works]);
    let gone = health(&[PortState::Gone], &[DeviceState::Works]);
    let (broken, mended) = off.since(&good);
    assert_eq!((broken, mended.len()), (off.reasons(), 0));
    assert_eq!(off.since(&off), (vec![], vec![]));
    // Otherwise wrong is not right again.
    assert_eq!(gone.since(&off), (gone.reasons(), vec![]));
    assert_eq!(good.since(&gone), (vec![], vec!["port0".to_owned()]));
}

/// The engine tells of an address, in one line with what to do: readiness has none of its own, though
/// it says why wherever it is asked.
#[test]
fn k06_an_address_that_is_taken_has_one_line() {
    let good = health(&[PortState::Up], &[DeviceState::Works]);
    let mut taken = good.clone();
    taken.addresses = vec![Address {
        port: 0,
        address: "192.0.2.1".parse().unwrap(),
        is_used: false,
        wrong: Some("not used, the station 02:00:00:00:66:01 has it".into()),
    }];
    assert_eq!(taken.reasons().len(), 1);
    assert_eq!(taken.since(&good), (vec![], vec![]));
    assert_eq!(good.since(&taken), (vec![], vec![]));
    // What else breaks with it has its line.
    taken.ports[0].wrong = Some("eth1 is gone".into());
    let (broken, mended) = taken.since(&good);
    assert_eq!(
        (broken, mended.len()),
        (vec!["port0: eth1 is gone".to_owned()], 0)
    );
    assert_eq!(good.since(&taken), (vec![], vec!["port0".to_owned()]));
}

#[test]
fn k06_a_port_works_by_the_addresses_that_are_its_own() {
    let mut now = health(&[PortState::Up, PortState::Up], &[DeviceState::Works]);
    let one = |address: &str, is_used, wrong: Option<&str>| Address {
        port: 0,
        address: address.parse().unwrap(),
        is_used,
        wrong: wrong.map(str::to_owned),
    };
    now.addresses = vec![
        one("192.0.2.1", true, None),
        one("2001:db8::1", false, Some("not used")),
    ];
    assert_eq!(now.line(), "degraded: 2001:db8::1 of port0: not used");
    assert!(now.port_works(0) && now.port_works(1));
    assert!(now.is_reached("192.0.2.1".parse().unwrap()));
    assert!(!now.is_reached("2001:db8::1".parse().unwrap()));
    now.addresses[0].wrong = Some("another uses it too".into());
    assert_eq!((now.state(), now.port_works(0)), (State::Degraded, true));
    now.addresses[0].is_used = false;
    assert_eq!((now.state(), now.port_works(0)), (State::Unready, false));
}
