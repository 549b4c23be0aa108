//! What the PSK of an encrypted connection binds: who may be named on it, and what may not be said in the clear.

mod rig;

use std::sync::Arc;

use nvmf::{CloseReason, Hosts, ListenerConfig, PskNames, TargetConfig, Tls};
use rig::host::{Answer, Host, Manners, connect_data, sc};
use rig::{CLOSED_NQN, DISCOVERY_NQN, HOST_NQN, NQN, Rig, Sizes, config};
use testkit::command::property;
use tls::ConfiguredPsk;

const FRIEND: &str = "nqn.2026-01.io.throughline:friend";
/// Connect Invalid Host.
const INVALID_HOST: (u16, u16) = (1, 0x84);

fn psk(fill: u8) -> Arc<ConfiguredPsk> {
    Arc::new(ConfiguredPsk::new(&[fill; 32], Some(tls::Hash::Sha256)).unwrap())
}

/// One host with a PSK, and one without.
fn listed(fill: u8) -> Hosts {
    let with = nvmf::Host {
        psk: Some(psk(fill)),
        ..nvmf::Host::from(HOST_NQN)
    };
    Hosts::Listed(vec![with, FRIEND.into()])
}

/// A target whose first subsystem knows a host by its PSK.
fn guarded() -> TargetConfig {
    let mut config = config();
    config.subsystems[0].hosts = listed(1);
    config
}

fn guarded_rig() -> Rig {
    Rig::with(guarded(), Sizes::default())
}

/// A connection that is encrypted by the PSK of these names, or is not.
fn fresh(rig: &mut Rig, names: Option<(&str, &str)>) -> Host {
    let mut host = Host::new(rig, Manners::default());
    if let Some((host_nqn, subsystem)) = names {
        host.session.secure(PskNames {
            host: host_nqn.into(),
            subsystem: subsystem.into(),
        });
    }
    host.initialize(rig);
    host
}

/// The answer to a Connect that names these.
fn connect(rig: &mut Rig, host: &mut Host, qid: u16, cntlid: u16, names: (&str, &str)) -> Answer {
    let data = connect_data(cntlid, names.1, names.0);
    let answer = host.connect_with(rig, qid, 31, &data);
    host.cntlid = answer.result as u16;
    answer
}

const OWN: (&str, &str) = (HOST_NQN, NQN);

/// An Admin Queue of the host, enabled.
fn admin(rig: &mut Rig, names: Option<(&str, &str)>) -> Host {
    let mut host = fresh(rig, names);
    assert_eq!(connect(rig, &mut host, 0, 0xffff, OWN).status, 0);
    let enable = host.set_property(rig, property::CC, testkit::command::CC_ENABLED);
    assert_eq!(enable.status, 0);
    host
}

fn close_all(mut rig: Rig, hosts: impl IntoIterator<Item = Host>) {
    hosts.into_iter().for_each(|mut host| host.close(&mut rig));
    rig.assert_all_returned();
}

#[test]
fn k06_connect_names_whom_the_psk_is_of() {
    let mut rig = guarded_rig();
    for (psk, named, expected) in [
        (Some(OWN), OWN, (0, 0)),
        // Another name of the host, or of the subsystem, than that of the key.
        (Some(OWN), (FRIEND, NQN), INVALID_HOST),
        (Some((FRIEND, NQN)), OWN, INVALID_HOST),
        (Some((HOST_NQN, CLOSED_NQN)), OWN, INVALID_HOST),
        (Some(OWN), (HOST_NQN, DISCOVERY_NQN), INVALID_HOST),
        (Some((HOST_NQN, DISCOVERY_NQN)), OWN, INVALID_HOST),
        (
            Some((HOST_NQN, DISCOVERY_NQN)),
            (HOST_NQN, DISCOVERY_NQN),
            (0, 0),
        ),
        // In the clear, whoever has a key, and who has none.
        (None, OWN, INVALID_HOST),
        (None, (FRIEND, NQN), (0, 0)),
        (None, (HOST_NQN, DISCOVERY_NQN), (0, 0)),
    ] {
        let mut host = fresh(&mut rig, psk);
        let answer = connect(&mut rig, &mut host, 0, 0xffff, named);
        assert_eq!(sc(answer.status), expected, "{psk:?} {named:?}");
        // What the log says of it when it goes.
        let (reason, claimed) = match expected {
            INVALID_HOST => (CloseReason::NotLetIn, Some(named.0)),
            _ => (CloseReason::ConnectionLost, None),
        };
        let departure = host.session.departure();
        assert_eq!((departure.reason, departure.claimed), (reason, claimed));
        host.close(&mut rig);
    }
    assert_eq!(rig.counters.connects_refused, 6);
    close_all(rig, []);
}

#[test]
fn k06_io_queues_are_encrypted_as_their_admin_queue_is() {
    let mut rig = guarded_rig();
    let admin = admin(&mut rig, Some(OWN));
    for (psk, expected) in [
        (None, INVALID_HOST),
        (Some((FRIEND, NQN)), INVALID_HOST),
        (Some(OWN), (0, 0)),
    ] {
        let mut io = fresh(&mut rig, psk);
        let answer = connect(&mut rig, &mut io, 1, admin.cntlid, OWN);
        assert_eq!(sc(answer.status), expected, "{psk:?}");
        io.close(&mut rig);
    }
    // The key is taken away meanwhile: what is not encrypted is no queue of its controller all the same.
    let none = Hosts::Listed(vec![HOST_NQN.into()]);
    assert_eq!(rig.target.set_hosts(NQN, none), Ok(true));
    let mut io = fresh(&mut rig, None);
    let answer = connect(&mut rig, &mut io, 1, admin.cntlid, OWN);
    assert_eq!(sc(answer.status), INVALID_HOST);
    close_all(rig, [admin, io]);
}

#[test]
fn k06_an_encrypted_queue_is_none_of_a_controller_in_the_clear() {
    let mut rig = Rig::new();
    let admin = admin(&mut rig, None);
    let mut io = fresh(&mut rig, Some(OWN));
    let answer = connect(&mut rig, &mut io, 1, admin.cntlid, OWN);
    assert_eq!(sc(answer.status), INVALID_HOST);
    close_all(rig, [admin, io]);
}

#[test]
fn k06_a_host_that_gets_a_psk_connects_again() {
    let mut rig = Rig::new();
    let mut admin = admin(&mut rig, None);
    assert_eq!(rig.target.set_hosts(NQN, listed(1)), Ok(true));
    admin.session.advance(rig.now, &mut rig.shard());
    assert_eq!(admin.session.closing(), Some(CloseReason::ControllerGone));
    // One that is encrypted stays, whatever becomes of its key.
    let mut secure = self::admin(&mut rig, Some(OWN));
    assert_eq!(rig.target.set_hosts(NQN, listed(2)), Ok(true));
    secure.session.advance(rig.now, &mut rig.shard());
    assert_eq!(secure.session.closing(), None);
    assert_eq!(secure.identify(&mut rig, 1, 0).status, 0);
    close_all(rig, [admin, secure]);
}

#[test]
fn k06_keys_are_found_by_what_hosts_offer() {
    let rig = guarded_rig();
    let known = |rig: &Rig, fill, nqn: &str| {
        let ways = |version| tls::Derivation::ALL.map(|derivation| (version, derivation));
        let ways = tls::IdentityVersion::ALL.into_iter().flat_map(ways);
        let keys =
            ways.map(|(version, way)| psk(fill).derive(HOST_NQN, nqn, version, way).unwrap());
        let table = rig.target.psks();
        let mut found = keys.map(|key| {
            let mut keys = table.find(key.identity().to_string().as_bytes()).iter();
            keys.any(|known| known.secret().bytes() == key.secret().bytes())
        });
        let first = found.next().unwrap();
        assert!(found.all(|is_found| is_found == first), "all ways alike");
        first
    };
    assert!(known(&rig, 1, NQN) && known(&rig, 1, DISCOVERY_NQN));
    assert!(!known(&rig, 2, NQN) && !known(&rig, 1, CLOSED_NQN));
    let same = rig.target.psks();
    assert!(Arc::ptr_eq(&same, &rig.target.psks()), "made once");
    assert_eq!(rig.target.set_hosts(NQN, listed(2)), Ok(true));
    assert!(!known(&rig, 1, NQN) && known(&rig, 2, NQN));
    assert!(rig.target.remove_subsystem(NQN));
    assert!(rig.target.psks().is_empty());
}

/// NVMe/TCP 3.6.1: SECTYPE and TREQ of the entries that a host is shown.
#[test]
fn k06_discovery_tells_a_host_how_it_gets_in_and_only_that() {
    let mut config = guarded();
    let at = |port, tls| ListenerConfig {
        tls,
        ..(std::net::IpAddr::from([10, 0, 0, 1]), port).into()
    };
    config.listeners = vec![
        at(4420, Tls::Off),
        at(4421, Tls::Allowed),
        at(4422, Tls::Required),
    ];
    config.subsystems[0].peers = vec![at(4430, Tls::Required)];
    let mut rig = Rig::with(config, Sizes::default());
    let entries = |rig: &mut Rig, nqn: &str| {
        let mut host = fresh(rig, None);
        let named = (nqn, DISCOVERY_NQN);
        assert_eq!(connect(rig, &mut host, 0, 0xffff, named).status, 0);
        host.set_property(rig, property::CC, testkit::command::CC_ENABLED);
        let log = host.log_page(rig, 0x70, 0, 16).data;
        let records = u64::from_le_bytes(log[8..16].try_into().unwrap()) as u32;
        let log = host.log_page(rig, 0x70, 0, 1024 * (1 + records)).data;
        let entry = |entry: &[u8]| {
            let port = str::from_utf8(&entry[32..36]).unwrap();
            (port.parse::<u16>().unwrap(), entry[4], entry[3], entry[768])
        };
        let of_first = |entry: &&[u8]| entry[256..].starts_with(NQN.as_bytes());
        let entries: Vec<_> = log[1024..]
            .chunks(1024)
            .filter(of_first)
            .map(entry)
            .collect();
        host.close(rig);
        entries
    };
    // Port, PORTID, TREQ, SECTYPE. The numbers of ports are those of all, sorted, as a peer counts them too.
    let (required, not_required) = (0b101, 0b110);
    assert_eq!(
        entries(&mut rig, HOST_NQN),
        [
            (4421, 2, required, 2),
            (4422, 3, required, 2),
            (4430, 4, required, 2)
        ]
    );
    assert_eq!(
        entries(&mut rig, FRIEND),
        [(4420, 1, not_required, 0), (4421, 2, not_required, 0)]
    );
    // Whoever is not let in is told nothing.
    assert_eq!(entries(&mut rig, "nqn.2026-01.io.throughline:stranger"), []);
    close_all(rig, []);
}
