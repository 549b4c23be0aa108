//! What is on disk: what is written is read back, what is damaged or cannot be is refused, and the example in the
//! crate's documentation is true.

mod common;

use common::dumps::{documented, dump, undump};
use nvlog::{
    Bad, Checksums, Crcs, HEADER_MAX, Header, Layout, LogId, Members, PAGE, PAGES_MAX, PartOf,
    Record, RecordOp, Region, RegionSuperblock, SUPERBLOCK, Superblock, TABLES, UNIT, VERSION,
    VERSION_SPANS, VOLUMES_MAX, Volume,
};
use testkit::Random;

const LOG: LogId = LogId(*b"0123456789abcdef");

fn log_of(random: &mut Random) -> LogId {
    LogId(random.bytes(16).try_into().expect("16 bytes"))
}

fn superblock_of(random: &mut Random) -> Superblock {
    let regions = random.range(1..=64u32);
    let len = random.range(256 << 20..1 << 40u64);
    let half_len = random.one_in(2).then(|| random.range(64 << 10..1 << 20));
    let block = *random.pick(&[512, 4096]);
    let tables_len = *random.pick(&[0, 508, 509, 1000]) * 4096;
    let names = [
        "",
        "a",
        "volume of höchster Güte",
        "32 bytes are room for this name.",
    ];
    let volume = |random: &mut Random| Volume {
        name: random.pick(&names).to_string(),
        identity: random.bytes(16).try_into().expect("16 bytes"),
        len: random.word(),
        block: *random.pick(&[512, 4096]),
        part_of: None,
    };
    let count = *random.pick(&[0, 1, 3, VOLUMES_MAX]);
    let mut volumes: Vec<_> = (0..count).map(|_| volume(random)).collect();
    if count > 1 && random.chance(1, 2) {
        // The last is one on several drives; another one may be, too.
        for (place, volume) in volumes.iter_mut().take(random.range(1..count)).enumerate() {
            volume.part_of = Some(PartOf {
                span: (count - 1) as u16,
                place: place as u16,
            });
        }
    }
    Superblock {
        log: log_of(random),
        generation: random.word() >> 8,
        layout: Layout::new(len, block, regions, half_len, tables_len).expect("room"),
        placement: random.word() as u32,
        member: random.below(2u8),
        volumes,
    }
}

fn region_superblock_of(random: &mut Random) -> RegionSuperblock {
    let oldest = random.below(2u8);
    let first = random.below(1 << 55u64);
    let second = first + random.range(1..1 << 20u64);
    RegionSuperblock {
        generation: random.word() >> 8,
        oldest,
        epochs: match oldest {
            0 => [first, second],
            _ => [second, first],
        },
        sequence: random.range(1..1 << 55u64),
        previous: random.word() as u32,
        members: *random.pick(&[Members::only(0), Members::only(1), Members::BOTH]),
        is_closed: random.chance(1, 2),
    }
}

/// Puts the checksum right of what somebody changed; it lies at `at`.
fn reseal(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let crc = testkit::crc32c(bytes);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn superblocks_are_what_was_written() {
    let mut random = Random::new(1);
    for _ in 0..200 {
        let superblock = superblock_of(&mut random);
        let bytes = superblock.encode();
        assert_eq!(bytes.len(), SUPERBLOCK);
        assert_eq!(Superblock::decode(&bytes), Ok(superblock));
        let (log, region) = (log_of(&mut random), random.below(64usize));
        let superblock = region_superblock_of(&mut random);
        let bytes = superblock.encode(log, region);
        assert_eq!(
            RegionSuperblock::decode(&bytes, log, region),
            Ok(superblock)
        );
        let other = RegionSuperblock::decode(&bytes, log, (region + 1) % 64);
        assert_eq!(other, Err(Bad::Foreign));
        let other = RegionSuperblock::decode(&bytes, log_of(&mut random), region);
        assert_eq!(other, Err(Bad::OtherLog));
    }
}

#[test]
fn a_superblock_with_any_bit_flipped_is_refused() {
    let mut random = Random::new(2);
    let mut bytes = superblock_of(&mut random).encode();
    for bit in 0..8 * bytes.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Superblock::decode(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    let mut bytes = region_superblock_of(&mut random).encode(LOG, 3);
    for bit in 0..8 * bytes.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let decoded = RegionSuperblock::decode(&bytes, LOG, 3);
        assert!(decoded.is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn superblocks_that_cannot_be_are_refused() {
    let mut random = Random::new(3);
    let good = Superblock {
        volumes: Vec::new(),
        ..superblock_of(&mut random)
    };
    let changed = |at: usize, field: &[u8]| {
        let mut bytes = good.encode();
        bytes[at..at + field.len()].copy_from_slice(field);
        reseal(&mut bytes, 12);
        Superblock::decode(&bytes)
    };
    assert_eq!(Superblock::decode(&[0; SUPERBLOCK]), Err(Bad::Blank));
    assert_eq!(changed(0, b"TL-NVLOX"), Err(Bad::Foreign));
    for version in [0, VERSION - 1, VERSION_SPANS + 1, u32::MAX] {
        let refused = changed(8, &version.to_le_bytes());
        assert_eq!(refused, Err(Bad::Version(version)));
    }
    let layout = good.layout;
    let fields: [(usize, &[u8]); 13] = [
        (32, &(1u64 << 56).to_le_bytes()),
        (40, &(layout.len + 512).to_le_bytes()),
        (40, &0u64.to_le_bytes()),
        (48, &0u32.to_le_bytes()),
        (48, &1024u32.to_le_bytes()),
        (52, &0u32.to_le_bytes()),
        (52, &65u32.to_le_bytes()),
        (56, &0u64.to_le_bytes()),
        (56, &(layout.half_len + 512).to_le_bytes()),
        (56, &layout.len.to_le_bytes()),
        (56, &u64::MAX.to_le_bytes()),
        (68, &(VOLUMES_MAX as u32 + 1).to_le_bytes()),
        (72, &[2]),
    ];
    for (at, field) in fields {
        assert_eq!(changed(at, field), Err(Bad::Fields), "{field:?} at {at}");
    }
    // A name that is not UTF-8.
    let mut bytes = good.encode();
    bytes[68] = 1;
    bytes[128 + 32] = 0xff;
    reseal(&mut bytes, 12);
    assert_eq!(Superblock::decode(&bytes), Err(Bad::Fields));

    let good = RegionSuperblock {
        generation: 7,
        oldest: 1,
        epochs: [6, 5],
        sequence: 9,
        previous: 1,
        members: Members::only(0),
        is_closed: false,
    };
    let changed = |at: usize, field: &[u8]| {
        let mut bytes = good.encode(LOG, 0);
        bytes[at..at + field.len()].copy_from_slice(field);
        reseal(&mut bytes, 12);
        RegionSuperblock::decode(&bytes, LOG, 0)
    };
    assert_eq!(changed(40, &7u64.to_le_bytes()), Ok(good));
    assert_eq!(changed(8, &[1]), Err(Bad::Version(1)));
    let many = (1u64 << 56).to_le_bytes();
    let fields: [(usize, &[u8]); 12] = [
        (36, &[2]),
        (36, &[0]),
        (40, &many),
        (48, &many),
        (48, &5u64.to_le_bytes()),
        (56, &6u64.to_le_bytes()),
        (56, &7u64.to_le_bytes()),
        (64, &0u64.to_le_bytes()),
        (64, &many),
        (76, &[0]),
        (76, &[4]),
        (77, &[2]),
    ];
    for (at, field) in fields {
        assert_eq!(changed(at, field), Err(Bad::Fields), "{field:?} at {at}");
    }
}

/// A region at the start of its life, in a store with blocks of `block` bytes.
fn region_of(block: u32, number: usize) -> (Layout, Region) {
    let layout = Layout::new(64 << 20, block, 2, Some(8 << 20), 0).expect("room");
    let superblock = RegionSuperblock {
        generation: 1,
        oldest: 0,
        epochs: [1, 2],
        sequence: 1000,
        previous: 0,
        members: Members::only(0),
        is_closed: false,
    };
    (layout, Region::new(LOG, &layout, number, &superblock))
}

fn record_of(random: &mut Random) -> Record {
    let op = *random.pick(&[
        RecordOp::Write,
        RecordOp::Write,
        RecordOp::WriteZeroes,
        RecordOp::Deallocate,
    ]);
    let most = match op {
        RecordOp::Write if random.one_in(20) => (PAGES_MAX as u64 - 1) * PAGE,
        RecordOp::Write => 100_000,
        _ => 1 << 40,
    };
    Record {
        transfer: 0,
        object: 0,
        volume: random.word() as u32,
        op,
        offset: random.below(1 << 50u64),
        len: random.range(1..=most),
    }
}

fn crcs_of(record: &Record, payload: &[u8]) -> Vec<u32> {
    let (mut crcs, mut all) = (Crcs::new(record.offset), Vec::new());
    crcs.take(payload, |crc| all.push(crc));
    all.extend(crcs.end());
    all
}

#[test]
fn s01_a_header_says_what_its_group_is() {
    let mut random = Random::new(4);
    for case in 0..500 {
        let block = *random.pick(&[512, 4096]);
        let number = random.below(2usize);
        let (layout, mut region) = region_of(block, number);
        let mut records = Vec::new();
        for _ in 0..random.below(100) {
            let mut record = record_of(&mut random);
            if !region.has_room(&record) {
                break;
            }
            let crcs: Vec<u32> = (0..record.checksums())
                .map(|_| random.word() as u32)
                .collect();
            record.transfer = region.add(&record, &crcs);
            records.push((record, crcs));
        }
        let payload_len: u64 = records.iter().map(|(record, _)| record.payload()).sum();
        let (group, bytes) = region.seal();
        assert!(group.header_len <= HEADER_MAX && group.total().is_multiple_of(block as usize));
        assert_eq!(group.payload_len as u64, payload_len);
        let header = Header::decode(bytes, block).expect("a header");
        assert_eq!(header.log, LOG);
        assert_eq!((usize::from(header.region), header.half), (number, 0));
        assert_eq!((header.epoch, header.sequence), (1, 1000));
        assert_eq!((header.acknowledged, header.previous), (999, 0));
        assert_eq!(header.address, layout.half(number, 0));
        assert_eq!(header.total(block), group.total() as u64);
        let (mut place, mut count) = (0, 0);
        for ((record, at, crcs), (expected, checksums)) in header.records(bytes).zip(&records) {
            assert_eq!(record, *expected);
            assert_eq!(record.transfer, 1000 << 8 | count);
            assert_eq!(at, place);
            assert_eq!(Checksums::iter(&crcs).collect::<Vec<_>>(), *checksums);
            (place, count) = (place + record.payload(), count + 1);
        }
        assert_eq!(count as usize, records.len(), "case {case}");
        // Cut off, or with a block of another size, it is none.
        for len in [0, 79, bytes.len() - 1] {
            assert_eq!(Header::decode(&bytes[..len], block), None);
        }
        if block == 512 && !bytes.len().is_multiple_of(4096) {
            assert_eq!(Header::decode(bytes, 4096), None);
        }
    }
}

#[test]
fn a_header_with_any_bit_flipped_is_refused() {
    let mut random = Random::new(5);
    for block in [512, 4096] {
        let (_, mut region) = region_of(block, 0);
        for _ in 0..7 {
            let record = Record {
                len: random.range(1..20_000u64),
                ..record_of(&mut random)
            };
            let crcs: Vec<u32> = (0..record.checksums())
                .map(|_| random.word() as u32)
                .collect();
            region.add(&record, &crcs);
        }
        let mut bytes = region.seal().1.to_vec();
        assert!(Header::decode(&bytes, block).is_some());
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes, block), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn headers_that_cannot_be_are_refused() {
    let (_, mut region) = region_of(512, 0);
    let (write, payload) = (example_write(), example_payload());
    region.add(&write, &crcs_of(&write, &payload));
    region.add(&example_zeroes(), &[]);
    let good = region.seal().1.to_vec();
    let changed = |at: usize, field: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + field.len()].copy_from_slice(field);
        reseal(&mut bytes, 76);
        Header::decode(&bytes, 512)
    };
    assert!(changed(56, &0u64.to_le_bytes()).is_some());
    let second = 80 + write.size();
    let fields: [(usize, &[u8]); 23] = [
        (0, b"TLGX"),
        (4, &[1]),
        // More records than there are.
        (26, &[3]),
        // Lengths: none, no multiple, longer than it may be.
        (28, &0u32.to_le_bytes()),
        (28, &513u32.to_le_bytes()),
        (28, &(1u32 << 16).to_le_bytes()),
        // Sequences.
        (40, &0u64.to_le_bytes()),
        (40, &1001u64.to_le_bytes()),
        (48, &1000u64.to_le_bytes()),
        (48, &u64::MAX.to_le_bytes()),
        // Payload that its records do not have.
        (68, &512u32.to_le_bytes()),
        // The first record: transfer, object, operation, flags, checksums, lengths, place.
        (80, &1u64.to_le_bytes()),
        (88, &[1]),
        (100, &[0]),
        (100, &[4]),
        (101, &[1]),
        (102, &[1]),
        (112, &0u64.to_le_bytes()),
        (112, &512u64.to_le_bytes()),
        (120, &[1]),
        // The second one: no bytes, an end beyond what there can be.
        (second + 32, &0u64.to_le_bytes()),
        (second + 32, &u64::MAX.to_le_bytes()),
        (second + 24, &(u64::MAX - 4096).to_le_bytes()),
    ];
    for (at, field) in fields {
        assert_eq!(changed(at, field), None, "{field:?} at {at}");
    }
}

#[test]
fn checksums_are_of_each_page_however_the_payload_comes() {
    let mut random = Random::new(6);
    for _ in 0..300 {
        let offset = random.below(3 * PAGE);
        let len = random.range(1..4 * PAGE as usize);
        let payload = random.bytes(len);
        let record = Record {
            offset,
            len: len as u64,
            ..example_write()
        };
        let mut expected = Vec::new();
        let mut rest = &payload[..];
        let mut room = (PAGE - offset % PAGE) as usize;
        while !rest.is_empty() {
            let (page, after) = rest.split_at(room.min(rest.len()));
            expected.push(testkit::crc32c(page));
            (rest, room) = (after, PAGE as usize);
        }
        assert_eq!(expected.len(), record.checksums());
        let (mut crcs, mut all) = (Crcs::new(offset), Vec::new());
        let mut rest = &payload[..];
        while !rest.is_empty() {
            let (slice, after) = rest.split_at(random.range(1..=rest.len()));
            crcs.take(slice, |crc| all.push(crc));
            rest = after;
        }
        all.extend(crcs.end());
        assert_eq!(all, expected);
    }
}

#[test]
fn a_layout_has_room_for_what_it_says() {
    let mut random = Random::new(7);
    for _ in 0..2000 {
        let len = random.range(0..64 << 20u64);
        let regions = random.range(0..=70u32);
        let half_len = random.one_in(2).then(|| random.below(1 << 20u64));
        let tables_len = *random.pick(&[0, 0, 508, 600, 508 << 8]) * 4096;
        let block = *random.pick(&[512, 4096, 520]);
        let layout = match Layout::new(len, block, regions, half_len, tables_len) {
            Ok(layout) => layout,
            Err(nvlog::Unfit::TooSmall { has, needs }) => {
                assert!(has <= len && has < needs, "{len} {half_len:?}");
                // As long as it asks for, it is one.
                assert!(Layout::new(needs, 512, regions, half_len, tables_len).is_ok());
                continue;
            }
            Err(_) => continue,
        };
        let mut places = Vec::new();
        for copy in 0..4 {
            let area = Layout::area(len, copy);
            places.push(area..area + nvlog::AREA);
            let last = Layout::region_superblock(len, nvlog::REGIONS_MAX - 1, copy);
            assert!(area + (SUPERBLOCK as u64) < last && last + UNIT <= area + nvlog::AREA);
        }
        for region in 0..regions as usize {
            for half in 0..2 {
                let start = layout.half(region, half);
                places.push(start..start + layout.half_len);
            }
        }
        places.insert(0, TABLES..TABLES + tables_len);
        places.sort_by_key(|place| place.start);
        assert!(
            places
                .iter()
                .all(|place| place.start.is_multiple_of(UNIT) && place.end <= len)
        );
        assert!(places.windows(2).all(|two| two[0].end <= two[1].start));
    }
}

// ---- the example in the crate's documentation --------------------------------------------------------------------------

fn example_write() -> Record {
    Record {
        transfer: 0,
        object: 0,
        volume: 1,
        op: RecordOp::Write,
        offset: 0x12_3e00,
        len: 5120,
    }
}

fn example_zeroes() -> Record {
    Record {
        op: RecordOp::WriteZeroes,
        volume: 0,
        offset: 0x4000_0000,
        len: 1 << 20,
        ..example_write()
    }
}

fn example_deallocation() -> Record {
    Record {
        op: RecordOp::Deallocate,
        offset: 1 << 30,
        len: 16 << 20,
        ..example_zeroes()
    }
}

/// The bytes 0, 1, 2, … 255, 0, ….
fn example_payload() -> Vec<u8> {
    (0..5120u32).map(|i| i as u8).collect()
}

fn example_superblock() -> Superblock {
    let volume = |name: &str, identity: &[u8; 16], len, block| Volume {
        name: name.into(),
        identity: *identity,
        len,
        block,
        part_of: None,
    };
    Superblock {
        log: LOG,
        generation: 5,
        layout: Layout::new(64 << 20, 512, 2, Some(8 << 20), 0).expect("room"),
        placement: 1,
        member: 1,
        volumes: vec![
            volume("nvme0", b"drive of volume0", 1 << 40, 4096),
            volume("files", &[0; 16], 1 << 30, 512),
        ],
    }
}

#[test]
fn the_documented_superblock_is_what_is_written() {
    let superblock = example_superblock();
    let bytes = superblock.encode();
    let lines = &documented()[0];
    assert_eq!(*lines, dump(&bytes), "\n{}", dump(&bytes).join("\n"));
    let read = Superblock::decode(&undump(lines, SUPERBLOCK));
    assert_eq!(read, Ok(superblock));
}

/// Whose next group goes to half 1, with these numbers.
fn example_region() -> RegionSuperblock {
    RegionSuperblock {
        generation: 5,
        oldest: 1,
        epochs: [10, 9],
        sequence: 1000,
        previous: 0x1234_5678,
        members: Members::only(0),
        is_closed: false,
    }
}

#[test]
fn s06_the_documented_superblock_of_a_region_is_what_is_written() {
    let superblock = RegionSuperblock {
        generation: 7,
        members: Members::only(1),
        ..example_region()
    };
    let bytes = superblock.encode(LOG, 1);
    let lines = &documented()[1];
    assert_eq!(*lines, dump(&bytes), "\n{}", dump(&bytes).join("\n"));
    let read = RegionSuperblock::decode(&undump(lines, bytes.len()), LOG, 1);
    assert_eq!(read, Ok(superblock));
}

#[test]
fn s01_the_documented_group_is_what_is_written() {
    let layout = example_superblock().layout;
    let mut region = Region::new(LOG, &layout, 1, &example_region());
    let (write, payload) = (example_write(), example_payload());
    let crcs = crcs_of(&write, &payload);
    region.add(&write, &crcs);
    region.add(&example_zeroes(), &[]);
    let (group, bytes) = region.seal();
    let lines = &documented()[2];
    assert_eq!(*lines, dump(bytes), "\n{}", dump(bytes).join("\n"));
    let read = undump(lines, group.header_len);
    let header = Header::decode(&read, 512).expect("a header");
    assert_eq!((header.sequence, header.epoch), (1000, 9));
    assert_eq!(header.address, layout.half(1, 1));
    let records: Vec<Record> = header.records(&read).map(|(record, ..)| record).collect();
    let expected = [
        Record {
            transfer: 0x3e800,
            ..write
        },
        Record {
            transfer: 0x3e801,
            ..example_zeroes()
        },
    ];
    assert_eq!(records, expected);
    let (_, _, checksums) = header.records(&read).next().expect("the write");
    assert_eq!(checksums.iter().collect::<Vec<_>>(), crcs);
    // And the next group, behind the payload of that one.
    let (next, end) = (example_deallocation(), group.address + group.total() as u64);
    region.stable(group.sequence);
    region.add(&next, &[]);
    let (group, bytes) = region.seal();
    let lines = &documented()[3];
    assert_eq!(*lines, dump(bytes), "\n{}", dump(bytes).join("\n"));
    let read = undump(lines, group.header_len);
    let after = Header::decode(&read, 512).expect("a header");
    assert_eq!((after.address, after.previous), (end, header.checksum));
    let (record, ..) = after.records(&read).next().expect("the deallocation");
    assert_eq!(
        record,
        Record {
            transfer: 0x3e900,
            ..next
        }
    );
    assert_eq!((record.payload(), record.checksums()), (0, 0));
}
