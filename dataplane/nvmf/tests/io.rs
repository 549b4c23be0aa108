//! I/O through the whole protocol: what is written is read back, nothing is
//! copied, nothing is kept.

mod rig;

use rig::host::{Host, Manners};
use rig::wire::Cut;
use rig::{Random, Rig};

/// Writes and reads at several sizes in both namespaces.
fn exercise(rig: &mut Rig, io: &mut Host, random: &mut Random) {
    for (nsid, shift) in [(1, 9), (2, 12)] {
        for blocks in [1u32, 8, 16, 32] {
            let len = blocks << shift;
            let lba = random.below(64) as u64;
            let data = random.bytes(len as usize);
            assert_eq!(io.write(rig, nsid, lba, blocks, &data).status, 0);
            let answer = io.read(rig, nsid, lba, blocks, len);
            assert_eq!(answer.status, 0);
            assert!(answer.data == data, "namespace {nsid}, {len} bytes");
        }
    }
}

#[test]
fn what_is_written_is_read_back_with_any_digests_and_alignment() {
    for (header_digest, data_digest) in [(false, false), (true, false), (false, true), (true, true)]
    {
        for hpda in [0, 1, 31] {
            let mut rig = Rig::new();
            let mut random = Random::new(u64::from(hpda));
            let manners = Manners {
                header_digest,
                data_digest,
                hpda,
                h2c_bytes: 10_000,
                ..Manners::default()
            };
            let mut admin = Host::admin(&mut rig, manners);
            let mut io = admin.io(&mut rig, 1, 32);
            exercise(&mut rig, &mut io, &mut random);
            io.cut = Cut::Random(random.clone(), 700);
            exercise(&mut rig, &mut io, &mut random);
            io.close(&mut rig);
            admin.close(&mut rig);
            rig.assert_all_returned();
        }
    }
}
