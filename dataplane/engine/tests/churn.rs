//! Two hours' worth of connections, compressed.
#![allow(missing_docs)]

mod support;

use support::{eventually, host_with_digests, network, pattern, snapshot, target, with_engine};
use testkit::blocking::Queue;

const CYCLES: u64 = 10_000;

/// Connect, identify, write, disconnect, ten thousand times: every pool is
/// then as free as before, and so is every command slot.
#[test]
fn k06_ten_thousand_connections_leave_nothing_behind() {
    network();
    with_engine(&support::config(512), |handle| {
        let pools = || -> Vec<(&str, u64)> {
            snapshot(handle).shards[0]
                .pools
                .iter()
                .map(|pool| (pool.name, pool.free))
                .collect()
        };
        let before = pools();
        for cycle in 0..CYCLES {
            let host = host_with_digests(cycle % 2 == 1, cycle % 3 == 1);
            let (mut admin, mut io) = Queue::controller(target(), host)
                .unwrap_or_else(|error| panic!("cycle {cycle}: {error}"));
            let (status, data) = admin.identify(1, 0).unwrap();
            assert_eq!((status, &data[4..10]), (0, &b"TL0001"[..]), "cycle {cycle}");
            let data = pattern(cycle, 4096);
            assert_eq!(
                io.write(cycle % 1024 * 8, 512, &data, cycle % 2 == 0)
                    .unwrap(),
                0
            );
        }
        eventually("all connections are gone", || {
            snapshot(handle).shards[0].connections == 0
        });
        eventually(
            &format!("pools are as before: {before:?}, not {:?}", pools()),
            || pools() == before,
        );
        assert_eq!(snapshot(handle).shards[0].io.writes, CYCLES);
    });
}
