//! Persistent discovery controllers: hosts are told when their log changes (base 2.0, 5.2, 5.16.1.23).

mod rig;

use nvmf::{CloseReason, Hosts, Listener, ListenerConfig};
use rig::host::{Host, Manners, connect_data, log_page, sc, set32, sqe};
use rig::{CLOSED_NQN, DISCOVERY_NQN, HOST_NQN, NQN, Rig, config};

/// Notice, Discovery Log Page Change, log 70h.
const CHANGED: u64 = 0x0070_f002;
const FRIEND: &str = "nqn.2026-01.io.throughline:friend";

fn discovery(rig: &mut Rig, nqn: &str, keep_alive_ms: u32) -> Host {
    let manners = Manners {
        keep_alive_ms,
        ..Manners::default()
    };
    let mut host = Host::new(rig, manners);
    host.initialize(rig);
    let data = connect_data(0xffff, DISCOVERY_NQN, nqn);
    assert_eq!(host.connect_with(rig, 0, 31, &data).status, 0);
    host.set_property(rig, 0x14, 0x0046_0001);
    host
}

/// The event that the request `cid` was completed with, after the timers have run.
fn event(rig: &mut Rig, host: &mut Host, cid: u16) -> Option<u64> {
    host.session.advance(rig.now, &mut rig.shard());
    host.run(rig);
    host.answers.remove(&cid).map(|answer| answer.result)
}

/// GENCTR and NUMREC.
fn header(rig: &mut Rig, host: &mut Host) -> (u64, u64) {
    let log = host.log_page(rig, 0x70, 0, 16).data;
    let at = |at: usize| u64::from_le_bytes(log[at..at + 8].try_into().unwrap());
    (at(0), at(8))
}

/// Something that an operator does.
type Change<'a> = dyn Fn(&Rig) + 'a;

fn park(rig: &mut Rig, host: &mut Host) -> u16 {
    host.submit(rig, sqe(0x0c, 0), &[])
}

#[test]
fn base_5_16_1_23_genctr_grows_and_an_event_comes_with_each_change_of_the_log() {
    let mut rig = Rig::new();
    let mut host = discovery(&mut rig, HOST_NQN, 0);
    let oaes = host.identify(&mut rig, 0x01, 0).data[92..96].to_vec();
    assert_eq!(oaes, (1u32 << 31).to_le_bytes());
    assert_eq!(host.set_features(&mut rig, 0x0b, 1 << 31).status, 0);
    let mut seen = header(&mut rig, &mut host);
    let mut cid = park(&mut rig, &mut host);
    assert_eq!(event(&mut rig, &mut host, cid), None);
    let mut other = config().subsystems.remove(0);
    other.nqn = "nqn.2026-01.io.throughline:other".into();
    let nqn = other.nqn.clone();
    let one = Listener {
        address: "10.0.0.1".parse().unwrap(),
        port: 4420,
    };
    let changes: [(&Change<'_>, u64); 5] = [
        (&|rig| rig.target.add_subsystem(other.clone()).unwrap(), 4),
        (&|rig| rig.target.set_listeners(vec![one.into()]), 2),
        (
            &|rig| assert_eq!(rig.target.set_hosts(CLOSED_NQN, Hosts::Any), Ok(true)),
            3,
        ),
        (
            &|rig| assert_eq!(rig.target.set_hosts(&nqn, Hosts::Listed(vec![])), Ok(true)),
            2,
        ),
        (&|rig| assert!(rig.target.remove_subsystem(NQN)), 1),
    ];
    for (i, (change, records)) in changes.into_iter().enumerate() {
        change(&rig);
        assert_eq!(event(&mut rig, &mut host, cid), Some(CHANGED), "change {i}");
        let now = header(&mut rig, &mut host);
        assert!(now.0 > seen.0, "GENCTR after change {i}");
        assert_eq!(now.1, records, "NUMREC after change {i}");
        seen = now;
        cid = park(&mut rig, &mut host);
        assert_eq!(event(&mut rig, &mut host, cid), None);
    }
    host.close(&mut rig);
    rig.assert_all_returned();
}

#[test]
fn base_5_2_one_event_until_the_log_is_read_and_none_that_was_not_asked_for() {
    let mut rig = Rig::new();
    let mut host = discovery(&mut rig, HOST_NQN, 0);
    header(&mut rig, &mut host);
    let first = park(&mut rig, &mut host);
    rig.target.set_listeners(Vec::new());
    assert_eq!(event(&mut rig, &mut host, first), None, "it is not enabled");
    assert_eq!(host.set_features(&mut rig, 0x0b, 1 << 31).status, 0);
    assert_eq!(host.get_features(&mut rig, 0x0b, 0).result, 1 << 31);
    assert_eq!(event(&mut rig, &mut host, first), Some(CHANGED));
    // Masked until the log is read without RAE.
    let second = park(&mut rig, &mut host);
    rig.target.set_listeners(config().listeners);
    assert_eq!(event(&mut rig, &mut host, second), None);
    let mut retain = log_page(0x70, 0, 16);
    set32(&mut retain, 40, 0x70 | 1 << 15 | 3 << 16);
    assert_eq!(host.reading(&mut rig, retain, 16).status, 0);
    assert_eq!(event(&mut rig, &mut host, second), None);
    // What changed before the log was read is in the log.
    header(&mut rig, &mut host);
    assert_eq!(event(&mut rig, &mut host, second), None);
    rig.target.set_listeners(Vec::new());
    assert_eq!(event(&mut rig, &mut host, second), Some(CHANGED));
    // A reset forgets it.
    host.set_property(&mut rig, 0x14, 0);
    host.set_property(&mut rig, 0x14, 0x0046_0001);
    assert_eq!(host.get_features(&mut rig, 0x0b, 0).result, 0);
    host.close(&mut rig);
    rig.assert_all_returned();
}

/// What concerns others is not told: not that there is something else, and not who may use it.
#[test]
fn base_5_2_a_change_for_other_hosts_is_no_event() {
    let mut rig = Rig::new();
    let mut hosts = [HOST_NQN, FRIEND].map(|nqn| discovery(&mut rig, nqn, 0));
    let cids = hosts.each_mut().map(|host| {
        host.set_features(&mut rig, 0x0b, 1 << 31);
        header(&mut rig, host);
        park(&mut rig, host)
    });
    // The closed subsystem was the friend's.
    let nobody = Hosts::Listed(Vec::new());
    assert_eq!(rig.target.set_hosts(CLOSED_NQN, nobody), Ok(true));
    let [host, friend] = &mut hosts;
    assert_eq!(event(&mut rig, host, cids[0]), None);
    assert_eq!(event(&mut rig, friend, cids[1]), Some(CHANGED));
    for mut host in hosts {
        host.close(&mut rig);
    }
    rig.assert_all_returned();
}

/// Base 2.0, 3.1.2.3, 3.9: with a Keep Alive Timeout the connection stays for as long as Keep Alives come.
#[test]
fn base_3_9_a_persistent_discovery_controller_lives_and_dies_by_keep_alive() {
    let mut rig = Rig::new();
    let mut host = discovery(&mut rig, HOST_NQN, 200_000);
    assert!(host.identify(&mut rig, 0x01, 0).data[320] > 0, "KAS");
    for _ in 0..3 {
        rig.now = rig.now.plus_ms(199_000);
        host.session.advance(rig.now, &mut rig.shard());
        assert_eq!(host.session.closing(), None);
        assert_eq!(host.without_data(&mut rig, sqe(0x18, 0)).status, 0);
    }
    // Other commands do not keep it alive, as TBKAS is not offered there.
    rig.now = rig.now.plus_ms(199_000);
    header(&mut rig, &mut host);
    rig.now = rig.now.plus_ms(1000);
    host.session.advance(rig.now, &mut rig.shard());
    assert_eq!(host.session.closing(), Some(CloseReason::KeepAliveTimeout));
    host.close(&mut rig);
    // Abort is not a discovery controller's (base 3.1.2.3).
    let mut host = discovery(&mut rig, HOST_NQN, 0);
    let answer = host.without_data(&mut rig, sqe(0x08, 0));
    assert_eq!(sc(answer.status), (0, 0x01));
    host.close(&mut rig);
    rig.assert_all_returned();
}

/// Hosts learn of all nodes that show a subsystem, whichever they ask.
#[test]
fn base_5_16_1_23_the_log_names_where_other_nodes_show_a_subsystem() {
    let entries = |own: &[&str], peers: &[&str]| {
        let listeners = |list: &[&str]| -> Vec<ListenerConfig> {
            let address = |text: &&str| text.parse::<std::net::SocketAddr>().unwrap().into();
            list.iter().map(address).collect()
        };
        let mut config = config();
        config.listeners = listeners(own);
        config.subsystems[0].peers = listeners(peers);
        let mut rig = Rig::with(config, rig::Sizes::default());
        let mut host = discovery(&mut rig, FRIEND, 0);
        let (_, records) = header(&mut rig, &mut host);
        let log = host
            .log_page(&mut rig, 0x70, 0, 1024 * (1 + records as u32))
            .data;
        let text = |field: &[u8]| {
            let text = str::from_utf8(field).unwrap();
            text.trim_end_matches([' ', '\0']).to_owned()
        };
        let entry = |entry: &[u8]| {
            let address = format!("{}:{}", text(&entry[512..768]), text(&entry[32..64]));
            (text(&entry[256..512]), entry[4], address)
        };
        let entries: Vec<_> = log[1024..].chunks(1024).map(entry).collect();
        host.close(&mut rig);
        entries
    };
    let of = |entries: &[(String, u8, String)], nqn: &str| {
        let own = entries.iter().filter(|(name, ..)| name == nqn);
        own.map(|(_, port, address)| (*port, address.clone()))
            .collect::<Vec<_>>()
    };
    let (a, b, c) = ("192.0.2.2:4420", "192.0.2.1:4420", "192.0.2.1:4421");
    let here = entries(&[a], &[b, c]);
    let expected = [(3, a), (1, b), (2, c)].map(|(port, address)| (port, address.to_owned()));
    assert_eq!(of(&here, NQN), expected);
    assert_eq!(
        of(&here, CLOSED_NQN),
        [(1, a.to_owned())],
        "this node alone"
    );
    // On the other node the same ports have the same numbers.
    let mut there = of(&entries(&[b, c], &[a]), NQN);
    there.sort();
    let mut here = of(&here, NQN);
    here.sort();
    assert_eq!(there, here);
}
