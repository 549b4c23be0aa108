//! Superblocks, whatever has become of some of their copies: which version counts, and that one always does (rows S6, S7).

mod common;

use common::model::{VOLUME, VOLUMES, owner};
use common::now;
use common::recover::{Expected, Targets, agreed, begin, recover, superblock};
use common::used::{Devices, HALF, LOG, used};
use nvlog::recovery::{self, Refusal};
use nvlog::{
    AREAS, Layout, Members, REGION_SUPERBLOCK, Region, RegionSuperblock, SUPERBLOCK, Superblock,
    UNIT,
};
use testkit::Random;

type Damage = fn(&mut [u8]);

/// How a superblock is damaged.
fn damages() -> [(&'static str, Damage); 3] {
    [
        ("a bit", |bytes| bytes[40] ^= 1),
        ("zeros", |bytes| bytes[..SUPERBLOCK].fill(0)),
        ("rubbish", |bytes| {
            Random::new(9).fill(&mut bytes[..SUPERBLOCK])
        }),
    ]
}

#[test]
fn two_good_copies_of_a_superblock_are_enough_and_one_is_not() {
    for (name, damage) in damages() {
        for which in 0..1 << AREAS {
            let (devices, _) = used(1, 30, 3);
            let was = devices.open().expect("a log").expect("one");
            let damaged = (0..AREAS).filter(|copy| which >> copy & 1 != 0);
            for copy in damaged.clone() {
                let at = Layout::area(devices.disk.len(), copy) as usize;
                devices.disk.damage(at, damage);
            }
            let opened = devices.open();
            let ours = name == "a bit" || which != 15;
            match damaged.count() {
                0..=2 => assert_eq!(
                    opened.expect("a log").expect("one").superblock,
                    was.superblock
                ),
                _ if ours => {
                    let refused = Refusal::Superblocks { region: None };
                    assert_eq!(opened.err(), Some(refused), "{name} {which:b}");
                }
                // Nothing says that it was one, and nothing that it is blank.
                _ => assert_eq!(opened.err(), Some(Refusal::Foreign), "{name}"),
            }
        }
    }
}

#[test]
fn two_good_copies_of_a_regions_superblock_are_enough_and_one_is_not() {
    let damages: [Damage; 3] = [
        |bytes| bytes[70] ^= 1,
        |bytes| bytes[..REGION_SUPERBLOCK].fill(0),
        // That of another region: written to the wrong place.
        |bytes| bytes.copy_within(UNIT as usize..UNIT as usize + 512, 0),
    ];
    for damage in damages {
        for which in 0..1 << AREAS {
            let (devices, _) = used(2, 60, 4);
            let was = devices.open().expect("a log").expect("one");
            for copy in (0..AREAS).filter(|copy| which >> copy & 1 != 0) {
                let at = Layout::region_superblock(devices.disk.len(), 0, copy);
                devices.disk.damage(at as usize, damage);
            }
            match (which as u32).count_ones() {
                0..=2 => assert_eq!(
                    devices.open().expect("a log").expect("one").regions,
                    was.regions
                ),
                _ => {
                    let refused = Refusal::Superblocks { region: Some(0) };
                    assert_eq!(devices.open().err(), Some(refused), "{which:b}");
                }
            }
        }
    }
}

#[test]
fn s07_a_log_that_is_begun_may_stop_at_any_step() {
    for lasts in 0.. {
        let mut ended = 0;
        for seed in 0..8 {
            // First on a blank store, then on one with records.
            let devices = Devices::new(Layout::needs(3, HALF, 0), 512);
            devices.supply.lasts(Some(lasts));
            let begun = recover(devices.both(), LOG, devices.layout(3)).is_ok();
            devices.supply.lasts(None);
            devices.disk.power_on(&mut Random::new(seed));
            let opened = devices
                .open()
                .unwrap_or_else(|why| panic!("step {lasts}: {why:?}"));
            assert!(opened.is_some() || !begun);
            let first = begun;

            let (devices, journals) = used(3, 40, 5);
            let before = agreed(&devices.disk).expect("a log");
            devices.supply.lasts(Some(lasts));
            let new = superblock(LOG, devices.layout(2));
            let begun = begin(&devices.disk, &before, new).is_ok();
            devices.supply.lasts(None);
            devices.disk.power_on(&mut Random::new(seed));
            let expected = Expected {
                journals: &journals,
                base: &vec![vec![0; VOLUME]; VOLUMES],
                may_be_empty: true,
                lied: false,
            };
            let opened = devices.open().expect("a log").expect("one");
            let regions = opened.superblock.layout.regions;
            assert!(regions == 2 || regions == 3 && !begun);
            // Each region's records are all there, or none.
            let targets = Targets::new(&devices.drives);
            now(recovery::replay(
                &devices.stores(),
                &opened,
                &targets,
                |_| true,
            ))
            .expect("no loss");
            let calls = targets.calls.take();
            for (number, journal) in expected.journals.iter().enumerate() {
                let mine = calls
                    .iter()
                    .filter(|call| owner(call.volume, call.offset, 3) == number);
                let mine: Vec<_> = mine.copied().collect();
                let all = journal.replayed_to(&mine) == Some(journal.acknowledged);
                assert!(all || mine.is_empty() && lasts > 0, "step {lasts}");
            }
            ended += u32::from(first && begun);
        }
        if ended == 8 {
            assert!(lasts >= 20, "it has more steps than {lasts}");
            break;
        }
    }
}

#[test]
fn s06_a_superblock_may_stop_at_any_step() {
    for lasts in 0..7 {
        for seed in 0..16 {
            let (devices, journals) = used(1, 0, 6);
            let opened = devices.open().expect("a log").expect("one");
            let mut region = Region::new(LOG, &opened.superblock.layout, 0, &opened.regions[0]);
            region.seal();
            region.switch();
            region.stable(journals[0].from);
            let superblock = region.without_the_other();
            devices.supply.lasts(Some(lasts));
            let written = devices.say(0, &superblock);
            devices.supply.lasts(None);
            devices.disk.power_on(&mut Random::new(seed));
            let now = devices.open().expect("a log").expect("one").regions[0];
            assert!(now == superblock || now == opened.regions[0] && written.is_err());
        }
    }
}

#[test]
fn s06_a_log_begins_with_higher_numbers_than_any_copy_has() {
    // What a run of more regions left, or a write that never counted: one copy, of a region that is not used now.
    for (region, copy) in [(0, 1), (2, 3), (63, 0)] {
        let (devices, _) = used(2, 20, 13);
        let stray = RegionSuperblock {
            generation: 500,
            oldest: 1,
            epochs: [700, 600],
            sequence: 1 << 40,
            previous: 0,
            members: Members::only(0),
            is_closed: false,
        };
        let at = Layout::region_superblock(devices.disk.len(), region, copy);
        let unit = stray.encode(LOG, region);
        devices.disk.put(at, &unit).expect("power");
        let begun = recover(devices.both(), LOG, devices.layout(2)).expect("recovered");
        for superblock in begun.regions {
            assert!(superblock.generation > 500);
            assert!(superblock.epochs.iter().all(|&epoch| epoch > 700));
            assert!(superblock.epochs[0] < superblock.epochs[1]);
            // No group of the run before, which may have written many, has such a number.
            assert!(superblock.sequence > (1 << 40) + (1 << 31));
        }
    }
}

#[test]
fn the_newest_superblock_that_two_agree_on_is_taken() {
    for copies in [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]] {
        let (devices, _) = used(1, 20, 14);
        let opened = devices.open().expect("a log").expect("one");
        let newer = Superblock {
            generation: opened.superblock.generation + 1,
            ..opened.superblock
        };
        let region = RegionSuperblock {
            generation: opened.regions[0].generation + 1,
            ..opened.regions[0]
        };
        let len = devices.disk.len();
        for copy in copies {
            let at = Layout::region_superblock(len, 0, copy);
            devices.disk.put(at, &region.encode(LOG, 0)).expect("power");
            let at = Layout::area(len, copy);
            devices.disk.put(at, &newer.encode()).expect("power");
        }
        let opened = devices.open().expect("a log").expect("one");
        assert_eq!(opened.superblock, newer);
        assert_eq!(opened.regions, [region]);
    }
}

/// Each start is cut off wherever it may be, and whichever copies it was writing are torn: two always agree.
#[test]
fn s07_starts_that_fail_one_after_the_other_leave_two_copies_that_agree() {
    for seed in 0..40 {
        let (devices, _) = used(2, 20, seed);
        devices.replay(|_| true).expect("a log");
        let mut random = Random::new(seed);
        for _ in 0..12 {
            let before = agreed(&devices.disk).expect("two copies agree");
            let copies = || {
                let at = |copy| Layout::region_superblock(devices.disk.len(), 0, copy) as usize;
                [0, 2, 1, 3].map(|copy| (at(copy), devices.disk.bytes(at(copy)..at(copy) + 512)))
            };
            let were = copies();
            let last = random.below(28u64);
            devices.supply.lasts(Some(last));
            let begun = begin(&devices.disk, &before, superblock(LOG, devices.layout(2)));
            devices.supply.lasts(None);
            devices.disk.power_on(&mut random);
            // Two at most are not flushed when the next ones are written, and the last write is one of them.
            let mut written = copies().into_iter().zip(were);
            let last = written.rfind(|(is, was)| is != was);
            if let Some(((at, _), _)) = last.filter(|_| begun.is_err() && random.chance(1, 2)) {
                devices.disk.damage(at, |bytes| bytes[40] ^= 1);
            }
        }
    }
}
