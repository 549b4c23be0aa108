//! Stores that are no log, or a damaged one: the right refusal, and nothing is written (rows S6, S7).

mod common;

use common::disk::Power;
use common::model::{Logged, VOLUME, VOLUMES};
use common::now;
use common::recover::{Expected, Targets, agreed, begin, recover, superblock};
use common::used::{Devices, HALF, LOG, used};
use nvlog::recovery::{self, Loss, PART, RANGES_MAX, Refusal};
use nvlog::{
    AREA, AREAS, Layout, Record, RecordOp, Region, RegionSuperblock, SUPERBLOCK, Superblock, UNIT,
};
use testkit::Random;

fn flip(devices: &Devices, at: u64) {
    devices.disk.damage(at as usize, |bytes| bytes[0] ^= 0x10);
}

#[test]
fn a_blank_store_has_no_log() {
    for len in [0, UNIT, 4 * AREA - 512, 4 * AREA, 4 * AREA + 4096, 16 << 20] {
        let devices = Devices::new(len, 512);
        assert!(devices.open().expect("blank").is_none(), "{len}");
    }
}

#[test]
fn what_somebody_else_wrote_is_refused() {
    // First and last bytes, a partition table's second sector, and the places of superblocks of some file systems.
    let last = (8 << 20) - 512;
    for at in [
        0,
        512,
        1024,
        4096,
        32 << 10,
        64 << 10,
        AREA + 512,
        last - AREA,
        last,
    ] {
        let devices = Devices::new(8 << 20, 512);
        devices
            .disk
            .damage(at as usize, |bytes| bytes[..8].copy_from_slice(b"EFI PART"));
        assert_eq!(devices.open().err(), Some(Refusal::Foreign), "{at}");
    }
    let devices = Devices::new(8 << 20, 512);
    devices.disk.damage(0, |bytes| Random::new(1).fill(bytes));
    assert_eq!(devices.open().err(), Some(Refusal::Foreign));
}

#[test]
fn a_store_of_another_length_is_refused() {
    let (devices, _) = used(2, 30, 1);
    let was = devices.disk.len();
    for is in [
        was + 4096,
        was + (1 << 20),
        was - 4096,
        was - HALF,
        4 * AREA,
    ] {
        let refused = devices.resized(is).open().err();
        assert_eq!(refused, Some(Refusal::Size { was, is }));
    }
    // What is less than a page is not used anyway.
    assert!(devices.resized(was + 512).open().is_ok());
}

#[test]
fn a_log_of_another_version_is_refused() {
    let (devices, _) = used(2, 30, 2);
    let len = devices.disk.len();
    let make = |copy| {
        devices
            .disk
            .damage(Layout::area(len, copy) as usize, |bytes| {
                bytes[8] = 5;
                bytes[12..16].fill(0);
                let crc = testkit::crc32c(&bytes[..SUPERBLOCK]);
                bytes[12..16].copy_from_slice(&crc.to_le_bytes());
            });
    };
    // A later program has begun to make it one of its own.
    make(0);
    assert!(devices.open().is_ok());
    make(2);
    assert!(devices.open().is_ok());
    make(1);
    assert_eq!(devices.open().err(), Some(Refusal::Version(5)));
    make(3);
    assert_eq!(devices.open().err(), Some(Refusal::Version(5)));
}

#[test]
fn records_of_an_absent_volume_are_kept() {
    let (devices, journals) = used(2, 60, 7);
    let absent = Some(Refusal::Absent(vec![1]));
    let before = [0, 1].map(|drive: usize| devices.drives[drive].bytes(0..VOLUME));
    assert_eq!(devices.replay(|volume| volume != 1).err(), absent);
    assert!(devices.drives[1].holds(0, &before[1]));
    assert!(!devices.drives[0].holds(0, &before[0]));
    // When it is there again, all of it is.
    let expected = Expected {
        journals: &journals,
        base: &vec![vec![0; VOLUME]; VOLUMES],
        may_be_empty: false,
        lied: false,
    };
    let recovered = recover(devices.both(), LOG, devices.layout(1)).expect("all there");
    assert_eq!(expected.check(&recovered, &devices.drives, &[]), 0);
    assert_eq!(devices.replay(|_| true).expect("empty").records, 0);
}

#[test]
fn a_store_that_fails_is_said() {
    let (devices, _) = used(2, 60, 8);
    let opened = devices.open().expect("a log").expect("one");
    let before = agreed(&devices.disk).expect("a log");
    devices.supply.lasts(Some(0));
    assert_eq!(devices.open().err(), Some(Refusal::Failed(Power)));
    let targets = Targets::new(&devices.drives);
    let replayed = now(recovery::replay(
        &devices.stores(),
        &opened,
        &targets,
        |_| true,
    ));
    assert_eq!(replayed, Err(Refusal::Failed(Power)));
    let new = superblock(LOG, devices.layout(2));
    let begun = begin(&devices.disk, &before, new);
    assert_eq!(begun.err(), Some(Power));
}

/// The losses that a replay says there are.
fn losses(devices: &Devices) -> Vec<Loss> {
    match devices.replay(|_| true) {
        Err(Refusal::Lost(losses)) => losses,
        other => panic!("no loss: {other:?}"),
    }
}

#[test]
fn s07_a_torn_tail_is_dropped() {
    // Until some header says more, the last group may be torn, wherever.
    let payload_of = |group: &Logged| -> usize {
        let payloads = group.changes.iter().map(|change| change.payload.len());
        payloads.sum()
    };
    let seed = (9..).find(|&seed| {
        let (_, journals) = used(1, 40, seed);
        payload_of(journals[0].groups.last().expect("one")) > 0
    });
    let seed = seed.expect("one");
    let (_, journals) = used(1, 40, seed);
    let group = journals[0].groups.last().expect("one");
    let (header, payload) = (group.header.len(), payload_of(group));
    let is_left = |group: &&Logged| group.sequence >= journals[0].from;
    let left = journals[0].groups.iter().filter(is_left).count() as u64;
    for at in (0..header + payload).step_by(311) {
        let (devices, _) = used(1, 40, seed);
        flip(&devices, group.address + at as u64);
        let replayed = devices.replay(|_| true).expect("a torn tail");
        // What is torn can be seen if its header can be read.
        assert_eq!(replayed.torn > 0, at >= header);
        assert_eq!(replayed.groups, left - 1);
    }
}

#[test]
fn s07_what_was_acknowledged_and_is_damaged_is_lost_and_said() {
    let (_, journals) = used(3, 60, 10);
    for (number, journal) in journals.iter().enumerate() {
        for which in 0..journal.groups.len() {
            let (devices, journals) = used(3, 60, 10);
            let journal = &journals[number];
            let group = &journal.groups[which];
            let is_told =
                group.sequence >= journal.from && group.sequence <= journal.told(&devices.disk);
            if !is_told {
                continue;
            }
            let payload = group
                .changes
                .iter()
                .any(|change| !change.payload.is_empty());
            let at = if payload && which % 2 == 0 {
                group.header.len()
            } else {
                3
            };
            flip(&devices, group.address + at as u64);
            let losses = losses(&devices);
            assert_eq!(losses.len(), 1);
            let loss = &losses[0];
            assert_eq!((loss.region, loss.address), (number, group.address));
            assert_eq!(loss.groups, group.sequence..journal.told(&devices.disk) + 1);
            assert_eq!(loss.more, 0);
            journal.assert_named(loss, &devices.disk);
        }
    }
}

#[test]
fn s07_a_loss_is_said_of_all_regions_and_of_both_halves() {
    // Both halves in use: a consistency point has not come to its end.
    let (devices, journals) = (11..)
        .map(|seed| used(2, 60, seed))
        .find(|(_, journals)| {
            journals.iter().all(|journal| {
                let is_told = journal
                    .groups
                    .last()
                    .is_some_and(|last| last.said >= journal.from);
                let groups = journal
                    .groups
                    .iter()
                    .filter(|group| group.sequence >= journal.from);
                let halves: std::collections::BTreeSet<u8> =
                    groups.map(|group| group.header[24]).collect();
                is_told && halves.len() == 2
            })
        })
        .expect("one");
    let mut lost = Vec::new();
    for journal in &journals {
        let group = journal
            .groups
            .iter()
            .find(|group| group.sequence == journal.from);
        let group = group.expect("the first one");
        flip(&devices, group.address);
        lost.push(journal.from..journal.told(&devices.disk) + 1);
    }
    let losses = losses(&devices);
    assert_eq!(losses.len(), 2);
    for (number, loss) in losses.iter().enumerate() {
        assert_eq!((loss.region, &loss.groups), (number, &lost[number]));
        journals[number].assert_named(loss, &devices.disk);
    }
    let text = Refusal::<String>::Lost(losses.clone()).to_string();
    assert!(
        text.contains("of region 0") && text.contains("of region 1"),
        "{text}"
    );
}

#[test]
fn a_loss_names_no_more_than_can_be_read() {
    // One half, full of groups of short records.
    let devices = Devices::new(Layout::needs(1, 1 << 20, 0), 512);
    let layout = Layout::new(devices.disk.len(), 512, 1, None, 0).expect("room");
    let recovered = recover(devices.both(), LOG, layout).expect("blank");
    let mut region = Region::new(LOG, &layout, 0, &recovered.regions[0]);
    let mut records = 0;
    for _ in 0..40 {
        while region.has_room(&zeroes()) {
            region.add(&zeroes(), &[]);
            records += 1;
        }
        let (group, header) = region.seal();
        devices.disk.put(group.address, header).expect("power");
        region.stable(group.sequence);
    }
    // Of the last group nobody says that it was acknowledged.
    let in_one = records / 40;
    flip(&devices, layout.half(0, 0));
    let losses = losses(&devices);
    assert_eq!(losses[0].ranges.len(), RANGES_MAX);
    assert_eq!(losses[0].groups.end - losses[0].groups.start, 39);
    assert_eq!(losses[0].more, records - in_one - RANGES_MAX);
    assert!(
        Refusal::<String>::Lost(losses)
            .to_string()
            .contains("more ranges")
    );
}

#[test]
fn a_store_that_is_not_that_of_the_superblock_is_none() {
    // One of four copies says something newer: it never counted.
    let (devices, _) = used(1, 20, 12);
    let was = devices.open().expect("a log").expect("one").superblock;
    let newer = Superblock {
        generation: was.generation + 1,
        ..was.clone()
    };
    devices.disk.put(0, &newer.encode()).expect("power");
    let opened = devices.open().expect("a log").expect("one");
    assert_eq!(opened.superblock, was);
    // The next one is newer than that.
    let recovered = recover(devices.both(), LOG, devices.layout(1)).expect("recovered");
    let opened = devices.open().expect("a log").expect("one");
    assert!(opened.superblock.generation > newer.generation);
    assert_eq!(recovered.was, Some(was));
}

/// A log of one group with one record; where it lies, and its header.
fn one_group() -> (Devices, u64, Vec<u8>) {
    let (devices, _) = used(2, 0, 15);
    let opened = devices.open().expect("a log").expect("one");
    let mut region = Region::new(LOG, &opened.superblock.layout, 0, &opened.regions[0]);
    region.add(&zeroes(), &[]);
    let (group, header) = region.seal();
    let header = header.to_vec();
    devices.disk.put(group.address, &header).expect("power");
    (devices, group.address, header)
}

fn zeroes() -> Record {
    Record {
        transfer: 0,
        object: 0,
        volume: 0,
        op: RecordOp::WriteZeroes,
        offset: 512,
        len: 512,
    }
}

fn reseal(header: &mut [u8]) {
    header[76..80].fill(0);
    let crc = testkit::crc32c(header);
    header[76..80].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn s07_a_group_of_another_log_place_or_time_is_none() {
    let (devices, _, _) = one_group();
    assert_eq!(devices.replay(|_| true).expect("one").groups, 1);
    // Log, region, half, epoch, sequence with its transfer, place, checksum of the header before.
    for at in [8, 6, 24, 32, 40, 56, 64] {
        let (devices, address, mut header) = one_group();
        header[at] ^= 1;
        if at == 40 {
            // Its records are those of that group, and it is not the one that follows.
            header[81] ^= 1;
        }
        reseal(&mut header);
        devices.disk.put(address, &header).expect("power");
        let replayed = devices.replay(|_| true).expect("nothing is lost");
        assert_eq!(replayed.groups, 0, "the field at {at}");
    }
    // A good one in another place.
    let (devices, address, header) = one_group();
    devices.disk.put(address + HALF, &header).expect("power");
    devices
        .disk
        .put(address + 2 * HALF, &header)
        .expect("power");
    devices.disk.put(address, &[0; 512]).expect("power");
    let replayed = devices.replay(|_| true).expect("nothing is lost");
    assert_eq!((replayed.groups, replayed.torn), (0, 0));
}

#[test]
fn s07_a_group_that_does_not_end_in_its_half_is_none() {
    // Its header is good and lies at the last block of the half; the payload would be in the next one.
    let (devices, _) = used(1, 0, 16);
    let opened = devices.open().expect("a log").expect("one");
    let layout = opened.superblock.layout;
    let mut region = Region::new(LOG, &layout, 0, &opened.regions[0]);
    while region.fill().0 < HALF - 512 {
        let (group, header) = region.seal();
        devices.disk.put(group.address, header).expect("power");
        region.stable(group.sequence);
    }
    let write = Record {
        op: RecordOp::Write,
        offset: 0,
        ..zeroes()
    };
    assert!(!region.has_room(&write) && region.has_room(&zeroes()));
    let payload = [3; 512];
    region.add(&zeroes(), &[]);
    let (group, header) = region.seal();
    let mut header = header.to_vec();
    header[68..72].copy_from_slice(&512u32.to_le_bytes());
    header[100] = RecordOp::Write as u8;
    header[102] = 1;
    header[104..112].fill(0);
    header[128..132].copy_from_slice(&testkit::crc32c(&payload).to_le_bytes());
    reseal(&mut header);
    assert!(nvlog::Header::decode(&header, 512).is_some());
    devices.disk.put(group.address, &header).expect("power");
    devices
        .disk
        .put(group.address + 512, &payload)
        .expect("power");
    let replayed = devices.replay(|_| true).expect("nothing is lost");
    assert_eq!((replayed.groups, replayed.records), (HALF / 512 - 1, 0));
}

#[test]
fn s07_a_header_across_two_parts_that_are_read_is_found() {
    let devices = Devices::new(Layout::needs(1, 1 << 20, 0), 512);
    let layout = Layout::new(devices.disk.len(), 512, 1, None, 0).expect("room");
    let recovered = recover(devices.both(), LOG, layout).expect("blank");
    let mut region = Region::new(LOG, &layout, 0, &recovered.regions[0]);
    while region.fill().0 < PART as u64 - 512 {
        let (group, header) = region.seal();
        devices.disk.put(group.address, header).expect("power");
    }
    // The only header that says that the others were acknowledged.
    for sequence in recovered.regions[0].sequence.. {
        if region.in_flight() == 0 {
            break;
        }
        region.stable(sequence);
    }
    for _ in 0..20 {
        region.add(&zeroes(), &[]);
    }
    let (group, header) = region.seal();
    assert_eq!(header.len(), 1536);
    devices.disk.put(group.address, header).expect("power");
    flip(&devices, layout.half(0, 0));
    let losses = losses(&devices);
    assert_eq!(losses[0].groups.end, group.sequence);
}

#[test]
fn what_is_left_of_a_log_is_no_blank_store() {
    let areas = |devices: &Devices| {
        (0..AREAS)
            .map(|copy| Layout::area(devices.disk.len(), copy) as usize)
            .collect::<Vec<_>>()
    };
    let zeros = |devices: &Devices, len: usize| {
        for at in areas(devices) {
            devices.disk.damage(at, |bytes| bytes[..len].fill(0));
        }
    };
    // Groups alone.
    let (devices, _, _) = one_group();
    zeros(&devices, AREA as usize);
    assert_eq!(devices.open().err(), Some(Refusal::Foreign));
    // Superblocks of regions that have freed a half.
    let (devices, _) = used(1, 0, 17);
    let region = devices.open().expect("a log").expect("one").regions[0];
    let freed = RegionSuperblock {
        generation: region.generation + 1,
        ..region
    };
    devices.say(0, &freed).expect("power");
    zeros(&devices, SUPERBLOCK);
    assert_eq!(devices.open().err(), Some(Refusal::Foreign));
    // Three damaged copies of a log that has no group in its first region yet.
    let (devices, _) = used(1, 0, 18);
    for at in &areas(&devices)[1..] {
        flip(&devices, *at as u64 + 100);
    }
    let refused = Refusal::Superblocks { region: None };
    assert_eq!(devices.open().err(), Some(refused.clone()));
    // One copy of a later run's, and nothing in the other places.
    let (devices, _) = used(1, 0, 19);
    recover(devices.both(), LOG, devices.layout(1)).expect("recovered");
    for at in &areas(&devices)[1..] {
        devices
            .disk
            .damage(*at, |bytes| bytes[..SUPERBLOCK].fill(0));
    }
    for copy in 0..AREAS {
        let first = RegionSuperblock {
            generation: 1,
            ..region
        };
        let at = Layout::region_superblock(devices.disk.len(), 0, copy);
        devices.disk.put(at, &first.encode(LOG, 0)).expect("power");
    }
    assert_eq!(devices.open().err(), Some(refused));
}
