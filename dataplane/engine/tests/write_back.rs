//! The page cache as an NVMe host meets it: a volatile write cache.
#![allow(missing_docs)]

mod support;

use std::fs;

use support::{controller, eventually, network, pattern, snapshot, with_engine};
use testkit::Random;

const BLOCK: usize = 512;
const BYTES: usize = 8 << 20;
const ROUNDS: u64 = 4000;

/// Random writes of one block to 64 KiB over each other, reads in between,
/// flushes and FUA now and then: reads see what was written. Once a shutdown of
/// the controller is complete all of it is on the device, and so it is, with
/// what a second controller wrote, when the engine has stopped.
#[test]
fn z11_z12_z13_a_volatile_write_cache_loses_nothing() {
    let path = std::env::temp_dir().join(format!("throughline-write-back-{}", std::process::id()));
    fs::write(&path, vec![0; BYTES]).unwrap();
    network();
    let config = support::write_back(&path, BLOCK);
    let (tell, told) = std::sync::mpsc::channel();
    let file = path.clone();
    with_engine(&config, move |handle| {
        let (mut admin, mut io) = controller();
        let (_, identity) = admin.identify(1, 0).unwrap();
        assert_eq!(identity[525] & 1, 1, "a volatile write cache is advertised");
        let mut model = vec![0; BYTES];
        let mut random = Random::new(0);
        let mut below = |n| random.below(n);
        for round in 0..ROUNDS {
            if round == ROUNDS / 2 {
                assert_eq!(admin.property_set(0x14, 0x0046_4001).unwrap(), 0, "CC.SHN");
                eventually("CSTS.SHST says complete", || {
                    let csts = admin.property_get(0x1c).unwrap().1;
                    csts >> 2 & 0b11 == 0b10
                });
                assert!(
                    fs::read(&file).unwrap() == model,
                    "all of it is on the device"
                );
                (admin, io) = controller();
            }
            let blocks = if below(4) == 0 {
                1 + below(128)
            } else {
                1 + below(8)
            };
            // Most of the traffic meets in a corner, so that writes overlap.
            let reach = if below(3) == 0 { BYTES / BLOCK } else { 256 };
            let lba = below(reach - blocks.min(reach - 1));
            let bytes = lba * BLOCK..((lba + blocks) * BLOCK).min(BYTES);
            let blocks = bytes.len() / BLOCK;
            match below(10) {
                0..5 => {
                    let data = pattern(round, bytes.len());
                    let in_capsule = data.len() <= 8192 && below(2) == 0;
                    let status = match below(8) {
                        0 => io.write_fua(lba as u64, BLOCK, &data, in_capsule).unwrap(),
                        _ => io.write(lba as u64, BLOCK, &data, in_capsule).unwrap(),
                    };
                    assert_eq!(status, 0, "round {round}: write");
                    model[bytes].copy_from_slice(&data);
                }
                5..9 => {
                    let (status, data) = io.read(lba as u64, BLOCK, bytes.len()).unwrap();
                    assert_eq!(status, 0, "round {round}: read");
                    assert!(
                        data == model[bytes],
                        "round {round}: read of {blocks} at {lba}"
                    );
                }
                _ if below(2) == 0 => assert_eq!(io.flush().unwrap(), 0, "round {round}: flush"),
                _ => {
                    assert_eq!(
                        io.write_zeroes(lba as u64, blocks).unwrap(),
                        0,
                        "round {round}"
                    );
                    model[bytes].fill(0);
                }
            }
        }
        let cache = snapshot(handle).shards[0]
            .counters
            .iter()
            .find_map(|layer| (layer.name == "cache").then(|| layer.counters.clone()))
            .expect("a cache");
        assert!(
            cache.iter().any(|c| c.name == "hits" && c.value > 0),
            "{cache:?}"
        );
        tell.send(model).unwrap();
    });
    let model = told.recv().unwrap();
    let device = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let differs =
        (0..BYTES / BLOCK).find(|i| device[i * BLOCK..][..BLOCK] != model[i * BLOCK..][..BLOCK]);
    assert_eq!(differs, None, "block on the device after a clean stop");
}
