//! A log whose store, drives and recovery lose power at any operation: what was acknowledged is there afterwards, in the
//! order of the log, and nothing that is older (rows S1, S6, S7).

mod common;

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::disk::{Disk, Supply};
use common::model::{VOLUME, VOLUMES};
use common::recover::{Expected, recover_at_last};
use common::writer::Run;
use nvlog::recovery::Refusal;
use nvlog::{Layout, LogId};
use testkit::{Random, operations, property};

/// How often something happened, in all cases.
#[derive(Default)]
struct Seen([AtomicU64; 14]);

const NAMES: [&str; 14] = [
    "groups written",
    "idle headers",
    "halves switched",
    "halves freed",
    "groups that ended out of order",
    "crashes of a run",
    "crashes of a recovery",
    "groups replayed",
    "torn bytes",
    "recoveries",
    "records longer than a part",
    "lies",
    "lies found",
    "lies nobody can know of",
];

impl Seen {
    fn add(&self, what: usize, n: u64) {
        self.0[what].fetch_add(n, Relaxed);
    }

    /// Asserts that all of the first ones happened.
    fn print(&self, which: std::ops::Range<usize>) {
        let sums = self.0.each_ref().map(|sum| sum.load(Relaxed));
        for (name, sum) in NAMES.iter().zip(sums) {
            println!("{sum:10} {name}");
        }
        for what in which {
            assert!(sums[what] > 0, "no {}", NAMES[what]);
        }
    }
}

/// A store, drives, and runs that end with the power.
fn case(seed: u64, lies: bool, seen: &Seen) {
    let random = &mut Random::new(seed);
    let block = *random.pick(&[512, 4096]);
    let half_len = *random.pick(&[64 << 10, 64 << 10, 96 << 10, 512 << 10u64]);
    let len = Layout::needs(3, half_len, 0) + random.below(3u64) * u64::from(block);
    let layout = |random: &mut Random| {
        let regions = random.range(1..=3);
        let half_len = *random.pick(&[None, Some(half_len), Some(64 << 10)]);
        let half_len = half_len.filter(|_| random.one_in(2)).or(Some(64 << 10));
        Layout::new(len, block, regions, half_len, 0).expect("room")
    };
    let log = LogId(random.bytes(16).try_into().expect("16 bytes"));
    let supply = Rc::new(Supply::default());
    let disk = Disk::new(&supply, len, block);
    let drives = [(); VOLUMES].map(|()| Disk::new(&supply, VOLUME as u64, 512));
    let devices = (&disk, &drives[..]);
    if lies {
        disk.lie(random.fork(), 60, 1);
    }
    let mut run: Option<(Run, Vec<Vec<u8>>)> = None;
    for _ in 0..4 {
        let (journals, base) = match &run {
            Some((run, base)) => (&run.journals[..], base.clone()),
            None => (&[][..], vec![vec![0; VOLUME]; VOLUMES]),
        };
        let mut expected = Expected {
            journals,
            base: &base,
            may_be_empty: false,
            lied: !disk.lies().is_empty(),
        };
        let told = expected.told(&disk);
        let (recovered, layout, interrupted) =
            recover_at_last(random, &supply, devices, log, layout);
        expected.may_be_empty = interrupted > 0;
        expected.lied = !disk.lies().is_empty();
        seen.add(6, interrupted);
        seen.add(9, 1);
        let recovered = match recovered {
            Ok(recovered) => recovered,
            Err(refusal) => {
                refused(&refusal, &expected, &disk, seen);
                break;
            }
        };
        seen.add(7, recovered.replayed.groups);
        seen.add(8, recovered.replayed.torn);
        let dropped = expected.check(&recovered, &drives, &told);
        if dropped > 0 {
            seen.add(13, 1);
            break;
        }
        let base = drives.iter().map(|drive| drive.bytes(0..VOLUME)).collect();
        let mut next = Run::new(log, layout, &recovered.regions, devices);
        let steps = random.below(150);
        supply.lasts(random.one_in(2).then(|| random.below(steps + 1)));
        for _ in 0..steps {
            if next.step(random).is_err() {
                break;
            }
        }
        supply.lasts(None);
        disk.power_on(random);
        drives.iter().for_each(|drive| drive.power_on(random));
        seen.add(5, 1);
        let did = next.did;
        let sums = [
            did.groups,
            did.idle,
            did.switched,
            did.freed,
            did.out_of_order,
        ];
        sums.into_iter()
            .enumerate()
            .for_each(|(what, n)| seen.add(what, n));
        seen.add(10, did.long);
        run = Some((next, base));
    }
    seen.add(11, disk.lies().len() as u64);
}

/// A refusal is one because of a lie.
fn refused(refusal: &Refusal<common::disk::Power>, expected: &Expected, disk: &Disk, seen: &Seen) {
    assert!(expected.lied, "{refusal:?}");
    seen.add(12, 1);
    match refusal {
        Refusal::Lost(losses) => {
            for loss in losses {
                expected.journals[loss.region].assert_named(loss, disk);
            }
        }
        Refusal::Superblocks { .. } => {}
        other => panic!("{other:?}, {:?}", disk.lies()),
    }
}

#[test]
fn s01_s06_s07_what_was_acknowledged_is_there_whenever_the_power_goes() {
    let seen = Seen::default();
    let check = |seeds: &[u64]| seeds.iter().for_each(|&seed| case(seed, false, &seen));
    property(operations(500), |random| vec![random.word()], check);
    seen.print(0..11);
}

#[test]
fn s07_a_store_that_lies_is_found_out() {
    let seen = Seen::default();
    let check = |seeds: &[u64]| seeds.iter().for_each(|&seed| case(seed, true, &seen));
    property(operations(500), |random| vec![random.word()], check);
    seen.print(0..13);
}
