//! What a shard did, by namespace and by connection.
#![allow(missing_docs)]

mod support;

use engine::{Detail, IoKind, NamespaceConfig, SubsystemConfig, WritePolicy};
use support::{NQN, controller, eventually, host, network, pattern, snapshot, target, with_engine};
use testkit::Config;
use testkit::blocking::Queue;

const OTHER: &str = "nqn.2026-01.example.throughline:other";

/// Two subsystems show the same store. Each request counts for the namespace
/// it named and for the connection it came by, and nowhere else.
#[test]
fn k08_counters_by_namespace_and_connection() {
    network();
    let mut config = support::config(512);
    let other = SubsystemConfig {
        nqn: OTHER.into(),
        namespaces: vec![NamespaceConfig {
            nsid: 5,
            store: "malloc0".into(),
            uuid: None,
            nguid: None,
            write: WritePolicy::Through,
            block_size: None,
            backup_of: None,
        }],
        ..config.target.subsystems[0].clone()
    };
    config.target.subsystems.push(other);
    with_engine(&config, |handle| {
        let (_admin, mut io) = controller();
        let other = Config {
            subsystem: OTHER.into(),
            ..host()
        };
        let (_admin2, _idle) = Queue::controller(target(), other).unwrap();
        for i in 0..100 {
            let data = pattern(i, 4096);
            assert_eq!(io.write(i * 8, 512, &data, i % 2 == 0).unwrap(), 0);
            assert!(i % 2 == 1 || io.read(i * 8, 512, 4096).unwrap().1 == data);
        }
        assert_eq!(io.flush().unwrap(), 0);
        let past_the_end = u64::from(u32::MAX);
        assert_ne!(io.read(past_the_end, 512, 512).unwrap().0, 0);

        let snapshot = snapshot(handle);
        let names = &snapshot.inventory.namespaces;
        assert_eq!((names[0].subsystem.as_str(), names[0].nsid), (NQN, 1));
        assert_eq!((names[1].subsystem.as_str(), names[1].nsid), (OTHER, 5));
        let shard = &snapshot.shards[0];
        let [ours, other] = &shard.namespaces[..] else {
            panic!("two namespaces");
        };
        assert_eq!((ours.io.writes, ours.io.written_bytes), (100, 100 << 12));
        assert_eq!((ours.io.reads, ours.io.read_bytes), (50, 50 << 12));
        assert_eq!(ours.io.others, 1);
        assert_eq!(other.io, Default::default());
        for (kind, count) in [(IoKind::Read, 50), (IoKind::Write, 100), (IoKind::Other, 1)] {
            let latency = &ours.latency[kind as usize];
            assert_eq!(latency.count(), count, "{kind:?}");
            assert!(latency.sum() > 0 && latency.quantile(0.999) >= latency.quantile(0.5));
        }
        assert_eq!(shard.io, ours.io);

        let list = &shard.connection_list;
        assert_eq!((list.len(), shard.connections), (4, 4));
        let working: Vec<_> = list.iter().filter(|c| c.io != Default::default()).collect();
        let [working] = working[..] else {
            panic!("one connection works: {list:?}");
        };
        assert_eq!(working.io, ours.io);
        assert_eq!((working.qid, working.queue_depth), (1, 32));
        assert_eq!(working.peer.ip().to_string(), "192.0.2.2");
        let sums = ours.latency.iter().map(|latency| latency.sum());
        assert_eq!(working.latency_ns, sums.sum::<u64>());
        // Data, and at least a header of 64 or 16 bytes for each command and response.
        let sent = (50 << 12) + 152 * 16;
        let received = (100 << 12) + 152 * 64;
        assert!(
            (received..received + 8192).contains(&working.bytes_received),
            "{working:?}"
        );
        assert!(
            (sent..sent + 8192).contains(&working.bytes_sent),
            "{working:?}"
        );
        assert!(working.tcp.congestion_window > 0 && !working.tcp.round_trip.is_zero());
        let controller = (snapshot.controllers.iter())
            .find(|controller| Some(controller.cntlid.0) == working.cntlid)
            .expect("its controller");
        assert_eq!(controller.subsystem, NQN);

        let brief = handle
            .snapshot(Detail::Counters, testkit::blocking::PATIENCE)
            .expect("the shards answer");
        assert!(brief.shards[0].connection_list.is_empty());
        drop((_admin, io, _admin2, _idle));
        eventually("all connections are gone", || {
            support::snapshot(handle).shards[0].connections == 0
        });
    });
}
