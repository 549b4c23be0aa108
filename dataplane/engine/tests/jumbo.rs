//! Row Z1: jumbo frames, each in a cluster larger than a page, or over several that are smaller; and frames that are larger still.
#![allow(missing_docs)]

mod support;

use engine::{Config, Handle, ShardSnapshot};
use support::{
    controller, join_tap, network_of, network_with_offloads, pattern, snapshot, tap_network,
    with_engine,
};
use testkit::Random;

const MTU: u16 = 9000;
const BLOCK: usize = 512;
const BYTES: usize = 8 << 20;
const ROUNDS: u64 = 600;

/// A port for jumbo frames.
fn config(device: &str, cluster_size: u32) -> Config {
    let mut config = support::config(BLOCK as u32);
    config.ports[0].device = device.into();
    config.ports[0].mtu = MTU;
    config.memory.cluster_size = cluster_size;
    // 32 MiB of clusters, whatever their size.
    config.memory.clusters = (32 << 20) / cluster_size;
    config.memory.pages = 4096;
    config.memory.requests = 64;
    config.memory.connections = 32;
    config
}

/// Random writes and reads against a model. Returns how many pages had one, two,
/// three and four segments, and the bytes that were copied.
fn exercise(handle: &Handle) -> ([u64; 4], u64) {
    let (_admin, mut io) = controller();
    let mut model = vec![0; BYTES];
    let mut random = Random::new(0);
    let mut below = |n| random.below(n);
    for round in 0..ROUNDS {
        let most = [16, 256][below(2)];
        let blocks = 1 + below(most);
        let lba = below(BYTES / BLOCK - blocks);
        let bytes = lba * BLOCK..(lba + blocks) * BLOCK;
        if below(2) == 0 {
            let data = pattern(round, bytes.len());
            let in_capsule = data.len() <= 8192;
            let status = io.write(lba as u64, BLOCK, &data, in_capsule).unwrap();
            assert_eq!(status, 0, "round {round}: write");
            model[bytes].copy_from_slice(&data);
        } else {
            let (status, data) = io.read(lba as u64, BLOCK, bytes.len()).unwrap();
            assert_eq!(status, 0, "round {round}: read");
            assert!(
                data == model[bytes],
                "round {round}: {blocks} blocks at {lba}"
            );
        }
    }
    assert_eq!(io.flush().unwrap(), 0);
    let shard = &snapshot(handle).shards[0];
    let copied = shard.copied_bytes.iter().map(|(_, bytes)| bytes).sum();
    println!(
        "pages by segments {:?}, copied {copied}",
        shard.pages_by_segments
    );
    (shard.pages_by_segments, copied)
}

/// `net_af_packet` fills one buffer with a frame, however long: its ring's frames
/// must fit into a cluster, and tile its blocks.
const RING: &str = "net_af_packet0,iface=tl0,blocksz=61440,framesz=10240,framecnt=510";

#[test]
fn z01_a_jumbo_frame_lies_in_one_cluster_larger_than_a_page() {
    network_of(MTU);
    let config = config(RING, 16384);
    with_engine(&config, |handle| {
        let ([one, two, three, four], copied) = exercise(handle);
        assert!(one + two > 0 && four == 0, "{one} {two} {three} {four}");
        assert_eq!(copied, 0);
    });
}

/// `net_tap` fills as many clusters of 2 KiB as a frame takes: five, of a full one.
#[test]
fn z01_a_jumbo_frame_lies_in_several_clusters() {
    tap_network();
    over_several_clusters("net_tap0,iface=tl0", join_tap);
}

/// So does a port over an interface of the kernel.
#[test]
fn z01_a_jumbo_frame_of_the_kernels_lies_in_several_clusters() {
    network_of(MTU);
    over_several_clusters("tl0", || {});
}

/// Jumbo frames on `device` in clusters of 2 KiB, once the host is on the network by `join`.
fn over_several_clusters(device: &str, join: fn()) {
    let config = config(device, 2048);
    with_engine(&config, move |handle| {
        join();
        let ([_, _, three, four], copied) = exercise(handle);
        assert!(three > 0 && four > 0, "{three} {four}");
        assert!(scattered(handle) > 100);
        assert_eq!(copied, 0);
    });
}

/// What the kernel joined, or left to a NIC to cut, is taken as it is: up to 64 KiB.
#[test]
fn z01_a_frame_that_the_kernel_joined_lies_in_many_clusters() {
    network_with_offloads(1500);
    let mut config = config("tl0", 2048);
    config.ports[0].mtu = 1500;
    with_engine(&config, |handle| {
        let ([_, _, three, _], copied) = exercise(handle);
        assert!(three > 0);
        assert!(scattered(handle) > 100);
        let port = &snapshot(handle).shards[0];
        let bytes = of_layer(port, "tcp", "rx_bytes") / of_layer(port, "tcp", "rx_frames");
        assert!(bytes > 1514, "{bytes} bytes a frame");
        assert_eq!(copied, 0);
    });
}

/// Frames that lay in several clusters.
fn scattered(handle: &Handle) -> u64 {
    of_layer(&snapshot(handle).shards[0], "port", "frames_scattered")
}

fn of_layer(shard: &ShardSnapshot, layer: &str, counter: &str) -> u64 {
    let mut layers = shard.counters.iter();
    let layer = layers.find(|l| l.name == layer).expect("a layer");
    let counter = layer.counters.iter().find(|c| c.name == counter);
    counter.expect("a counter").value
}
