//! Tables: what is on disk, what becomes of them when the power goes, and that they outlive the log's beginning anew (rows R4, R7).

mod common;

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use common::disk::{Disk, Power, Supply};
use common::dumps::{documented, dump, undump};
use common::now;
use common::recover::superblock;
use common::used::{HALF, LOG};
use nvlog::recovery::{self, Agreed, Begun, Found, FoundTables, Refusal};
use nvlog::{
    AREAS, Bad, CONTENT_MAX, ENTRY, ENTRY_PAGES, Entry, Layout, LogId, Members, NoTable,
    REGION_SUPERBLOCK, RegionSuperblock, SUPERBLOCK, Superblock, TABLES, Tables, UNIT,
    VERSION_TABLES, VOLUMES_MAX,
};
use testkit::{Random, operations, property};

const AREA: u64 = (ENTRY_PAGES + 4) * UNIT;

fn entry_of(random: &mut Random) -> Entry {
    let names = ["", "a", "nvme0", "32 bytes are room for this name."];
    let content = *random.pick(&[0, 1, 512, CONTENT_MAX]);
    let first = random.range(ENTRY_PAGES..1 << 40);
    let pages = random.range(1..1 << 20u64);
    Entry {
        sequence: random.range(1..1 << 56u64),
        name: random.pick(&names).to_string(),
        identity: random.bytes(16).try_into().expect("16 bytes"),
        record: random.one_in(2).then_some(first..first + pages),
        content: random.bytes(content),
    }
}

#[test]
fn r04_an_entry_is_what_was_written() {
    let mut random = Random::new(1);
    for _ in 0..300 {
        let (entry, slot) = (entry_of(&mut random), random.below(VOLUMES_MAX));
        let bytes = entry.encode(LOG, slot);
        assert_eq!(bytes.len(), ENTRY);
        assert_eq!(Entry::decode(&bytes, LOG, slot), Ok(entry));
        let other = Entry::decode(&bytes, LOG, (slot + 1) % VOLUMES_MAX);
        assert_eq!(other, Err(Bad::Foreign));
        let other = Entry::decode(&bytes, LogId([1; 16]), slot);
        assert_eq!(other, Err(Bad::OtherLog));
    }
}

#[test]
fn r04_an_entry_with_any_bit_flipped_is_refused() {
    let mut bytes = entry_of(&mut Random::new(2)).encode(LOG, 3);
    for bit in 0..8 * bytes.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Entry::decode(&bytes, LOG, 3).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn r04_an_entry_that_cannot_be_is_refused() {
    let good = example();
    let changed = |at: usize, field: &[u8]| {
        let mut bytes = good.encode(LOG, 1);
        bytes[at..at + field.len()].copy_from_slice(field);
        bytes[12..16].fill(0);
        let crc = testkit::crc32c(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        Entry::decode(&bytes, LOG, 1)
    };
    assert_eq!(Entry::decode(&[0; ENTRY], LOG, 1), Err(Bad::Blank));
    assert_eq!(changed(0, b"TL-TABLX"), Err(Bad::Foreign));
    for version in [0, VERSION_TABLES - 1, VERSION_TABLES + 1] {
        let refused = changed(8, &version.to_le_bytes());
        assert_eq!(refused, Err(Bad::Version(version)));
    }
    let fields: [(usize, &[u8]); 12] = [
        (32, &0u64.to_le_bytes()),
        (32, &(1u64 << 56).to_le_bytes()),
        (44, &(CONTENT_MAX as u32 + 1).to_le_bytes()),
        // Less than is there.
        (44, &1u32.to_le_bytes()),
        (64, &[0xff]),
        // A name behind the name's end.
        (95, b"x"),
        // Records: among the entries, of no pages, beyond what there can be.
        (96, &(ENTRY_PAGES - 1).to_le_bytes()),
        (96, &0u64.to_le_bytes()),
        (104, &0u64.to_le_bytes()),
        (104, &u64::MAX.to_le_bytes()),
        (104, &(1u64 << 60).to_le_bytes()),
        (112, &[1]),
    ];
    for (at, field) in fields {
        assert_eq!(changed(at, field), Err(Bad::Fields), "{field:?} at {at}");
    }
}

// ---- the examples in the crate's documentation -------------------------------------------------------------------------

fn example() -> Entry {
    Entry {
        sequence: 1,
        name: "files".into(),
        identity: [0; 16],
        record: Some(ENTRY_PAGES..ENTRY_PAGES + 3),
        content: b"content".to_vec(),
    }
}

#[test]
fn r04_the_documented_entry_is_what_is_written() {
    let bytes = example().encode(LOG, 1);
    let lines = &documented()[4];
    assert_eq!(*lines, dump(&bytes), "\n{}", dump(&bytes).join("\n"));
    let read = Entry::decode(&undump(lines, ENTRY), LOG, 1);
    assert_eq!(read, Ok(example()));
}

#[test]
fn r04_the_documented_superblock_with_tables_is_what_is_written() {
    let layout = Layout::new(64 << 20, 512, 2, Some(8 << 20), 2 << 20).expect("room");
    let superblock = Superblock {
        generation: 6,
        volumes: Vec::new(),
        ..superblock(LOG, layout)
    };
    let bytes = superblock.encode();
    let lines = &documented()[5];
    assert_eq!(*lines, dump(&bytes), "\n{}", dump(&bytes).join("\n"));
    let read = Superblock::decode(&undump(lines, SUPERBLOCK));
    assert_eq!(read, Ok(superblock));
}

// ---- slots and pages ---------------------------------------------------------------------------------------------------

#[test]
fn r04_slots_and_pages_are_of_one_volume_each() {
    let name = |volume: u64| format!("volume{volume}");
    let generate = |random: &mut Random| {
        let one = |random: &mut Random| (random.below(6u64), random.below(5u64), random.one_in(4));
        (0..40).map(|_| one(random)).collect::<Vec<_>>()
    };
    let check = |puts: &[(u64, u64, bool)]| {
        let mut tables = Tables::new(LOG, (ENTRY_PAGES + 9) * UNIT);
        let mut model: BTreeMap<u64, (u64, Option<Range<u64>>)> = BTreeMap::new();
        let mut places: BTreeMap<u64, u64> = BTreeMap::new();
        for &(volume, pages, ends) in puts {
            let pages = if ends { 0 } else { pages };
            let content: &[u8] = if ends { b"" } else { b"x" };
            let room = tables.room(&name(volume), [0; 16]);
            let put = match tables.put(&name(volume), [0; 16], pages, content) {
                Ok(put) => put,
                Err(NoTable::Pages(pages)) => {
                    assert!(pages > room, "there is room for {room}");
                    // No gap is so long.
                    let mut taken: Vec<_> = model.values().filter_map(|(_, r)| r.clone()).collect();
                    taken.push(ENTRY_PAGES + 9..ENTRY_PAGES + 9);
                    taken.sort_by_key(|range| range.start);
                    let mut at = ENTRY_PAGES;
                    for range in taken {
                        assert!(range.start - at < pages, "there is room at {at}");
                        at = range.end;
                    }
                    continue;
                }
                Err(other) => panic!("{other:?}"),
            };
            let slot = (put.at - TABLES) / UNIT / 2;
            let entry = Entry::decode(&put.bytes, LOG, slot as usize).expect("an entry");
            assert_eq!(entry.record, put.record);
            let before = model.remove(&volume);
            let had = before.as_ref().and_then(|(_, record)| record.clone());
            assert!(pages <= room, "there was room for {room}");
            // Of a shorter one the first pages stay.
            let stays = |had: &Range<u64>| had.end - had.start >= pages;
            let first = had.filter(stays).map(|had| had.start);
            let now = put.record.as_ref().map(|record| record.start);
            assert_eq!(put.is_new, now.is_some() && first.is_none());
            assert!(put.is_new || now == first.filter(|_| pages > 0));
            if let Some((at, _)) = before {
                assert_eq!(at, slot, "a volume's slot changes");
            }
            // The other copy than the last time.
            if let Some(last) = places.insert(slot, put.at) {
                assert_eq!(last.abs_diff(put.at), UNIT);
            }
            for (other, record) in model.values() {
                assert_ne!(*other, slot);
                if let (Some(a), Some(b)) = (record, &put.record) {
                    assert!(a.end <= b.start || b.end <= a.start, "{a:?} {b:?}");
                }
            }
            if let Some(record) = &put.record {
                assert_eq!(record.end - record.start, pages);
                assert!(record.start >= ENTRY_PAGES && record.end <= ENTRY_PAGES + 9);
            }
            if entry.is_used() {
                model.insert(volume, (slot, put.record));
            }
        }
    };
    property(operations(20_000), generate, check);
}

#[test]
fn r04_what_has_no_room_is_said() {
    let mut tables = Tables::new(LOG, 0);
    assert_eq!(tables.put("a", [0; 16], 0, b"x"), Err(NoTable::NoArea));
    tables.grow(AREA);
    let long = vec![0; CONTENT_MAX + 1];
    let refused = tables.put("a", [0; 16], 0, &long);
    assert_eq!(refused, Err(NoTable::Content(CONTENT_MAX + 1)));
    assert_eq!(tables.put("a", [0; 16], 5, b"x"), Err(NoTable::Pages(5)));
    assert!(tables.is_empty());
    for volume in 0..VOLUMES_MAX {
        tables
            .put(&format!("{volume}"), [0; 16], 0, b"x")
            .expect("a slot");
    }
    assert_eq!(tables.put("a", [0; 16], 0, b"x"), Err(NoTable::Slots));
    // The same name with another drive is another volume.
    assert_eq!(tables.put("7", [1; 16], 0, b"x"), Err(NoTable::Slots));
    tables.put("7", [0; 16], 0, b"").expect("its own slot");
    assert!(tables.put("7", [1; 16], 0, b"x").is_ok());
}

// ---- on stores ---------------------------------------------------------------------------------------------------------

/// The stores of a log, one or two.
struct Bench {
    supply: Rc<Supply>,
    disks: Vec<Disk>,
}

/// What a start found, and began.
struct Started {
    found: FoundTables,
    begun: Begun,
    layout: Layout,
}

impl Bench {
    fn new(count: usize, block: u32) -> Self {
        let supply = Rc::new(Supply::default());
        let len = Layout::needs(3, HALF, 2 * AREA);
        let disk = |i: u64| Disk::new(&supply, len + i * 8192, block);
        let disks = (0..count as u64).map(disk).collect();
        Self { supply, disks }
    }

    fn stores(&self, there: [bool; 2]) -> Vec<Option<(&Disk, u64)>> {
        let disks = self.disks.iter().zip(there);
        disks
            .map(|(disk, is_there)| is_there.then_some((disk, disk.len())))
            .collect()
    }

    fn agree(&self, there: [bool; 2]) -> Result<Agreed, Refusal<Power>> {
        let mut found = Vec::new();
        for (disk, is_there) in self.disks.iter().zip(there) {
            found.push(match is_there {
                true => Found::Seen(now(recovery::look(disk, disk.len()))?),
                false => Found::Absent,
            });
        }
        recovery::agree(&found).map_err(|(_, refusal)| refusal)
    }

    fn tables(&self, there: [bool; 2]) -> Result<FoundTables, Refusal<Power>> {
        let agreed = self.agree(there)?;
        now(recovery::tables(&self.stores(there), &agreed, LOG))
    }

    /// A start with a tables area of at least so many bytes.
    fn start(&self, there: [bool; 2], tables_len: u64) -> Result<Started, Refusal<Power>> {
        let agreed = self.agree(there)?;
        let stores = self.stores(there);
        let mut found = now(recovery::tables(&stores, &agreed, LOG))?;
        let tables_len = tables_len.max(agreed.tables_len());
        let len = self.disks.iter().map(Disk::len).min().expect("a store");
        let layout = Layout::new(len, 512, 2, Some(HALF), tables_len).expect("room");
        let new = superblock(LOG, layout);
        let begun = now(recovery::begin(&stores, &agreed, new)).map_err(Refusal::Failed)?;
        found.tables.grow(tables_len);
        Ok(Started {
            found,
            begun,
            layout,
        })
    }

    /// Writes pages and then the entry to the stores that are in.
    fn write(
        &self,
        ins: [bool; 2],
        pages: &[(u64, Vec<u8>)],
        put: &nvlog::Put,
    ) -> Result<(), Power> {
        let disks =
            || (self.disks.iter().zip(ins)).filter_map(|(disk, is_in)| is_in.then_some(disk));
        for (page, bytes) in pages {
            for disk in disks() {
                disk.put(Tables::page_at(*page), bytes)?;
            }
        }
        disks().try_for_each(Disk::sync)?;
        for disk in disks() {
            disk.put(put.at, &put.bytes)?;
        }
        disks().try_for_each(Disk::sync)
    }

    /// The store at `place` says that it alone has all of each region.
    fn say_alone(&self, place: usize, regions: &mut [RegionSuperblock]) -> Result<(), Power> {
        let disk = &self.disks[place];
        for (number, region) in regions.iter_mut().enumerate() {
            region.generation += 1;
            region.members = Members::only(place as u8);
            let mut unit = [0; UNIT as usize];
            unit[..REGION_SUPERBLOCK].copy_from_slice(&region.encode(LOG, number));
            for wave in nvlog::WAVES {
                for copy in wave {
                    disk.put(Layout::region_superblock(disk.len(), number, copy), &unit)?;
                }
                disk.sync()?;
            }
        }
        Ok(())
    }
}

/// What a volume's table may be: by name, the contents that may be there, the last one acknowledged first.
type Model = BTreeMap<String, Vec<Vec<u8>>>;

fn check(model: &mut Model, found: &FoundTables) {
    for (name, may_be) in model.iter_mut() {
        let entry = found.entries.iter().find(|(_, entry)| entry.name == *name);
        let content = entry.map_or(Vec::new(), |(_, entry)| entry.content.clone());
        assert!(
            may_be.contains(&content),
            "{name}: {content:?} of {may_be:?}"
        );
        // Once seen it stays.
        *may_be = vec![content];
    }
}

/// Runs that write tables, on one store or two, with the power going at any step of them and of starts; stores that are
/// lost, and come back; and an area that grows.
fn case(seed: u64) {
    let random = &mut Random::new(seed);
    let count = random.range(1..=2usize);
    let bench = Bench::new(count, *random.pick(&[512, 4096]));
    let mut model = Model::new();
    let mut there = [true; 2];
    // Pages of records that were written whole, by the place of their first byte.
    let mut pages: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for run in 0..6u8 {
        let tables_len = *random.pick(&[0, AREA, AREA, 2 * AREA]);
        let started = loop {
            bench
                .supply
                .lasts(random.one_in(3).then(|| random.below(150)));
            let started = bench.start(there, tables_len);
            bench.supply.lasts(None);
            if let Err(refusal) = &started {
                assert_eq!(*refusal, Refusal::Failed(Power));
                bench.disks.iter().for_each(|disk| disk.power_on(random));
                // What one had that could be taken alone, it still has.
                check(&mut model, &bench.tables(there).expect("a log, or none"));
                continue;
            }
            break started.expect("begun");
        };
        let Started {
            found,
            begun,
            layout,
        } = started;
        check(&mut model, &found);
        for (_, entry) in &found.entries {
            for page in entry.record.clone().unwrap_or(0..0) {
                let Some(bytes) = pages.get(&page) else {
                    continue;
                };
                let ins = (0..count).filter(|&place| begun.members[place].is_some());
                for place in ins {
                    assert!(bench.disks[place].holds(Tables::page_at(page), bytes));
                }
            }
        }
        let mut ins = [0, 1].map(|place| there[place] && begun.members[place].is_some());
        let (mut tables, mut regions) = (found.tables, begun.regions);
        assert_eq!(tables.len(), layout.tables_len);
        let steps = random.below(10u8);
        let last = random.one_in(2).then(|| random.below(60));
        bench.supply.lasts(last);
        for step in 0..steps {
            if ins == [true; 2] && count == 2 && random.one_in(8) {
                let out = random.below(2usize);
                ins[out] = false;
                if bench.say_alone(1 - out, &mut regions).is_err() {
                    ins = [true; 2];
                    break;
                }
            }
            let name = format!("volume{}", random.below(3u8));
            let content = match random.one_in(6) {
                true => Vec::new(),
                false => vec![run + 1, step],
            };
            let wanted = if content.is_empty() {
                0
            } else {
                random.below(3)
            };
            let Ok(put) = tables.put(&name, [0; 16], wanted, &content) else {
                continue;
            };
            let may_be = model.entry(name).or_insert_with(|| vec![Vec::new()]);
            may_be.push(content.clone());
            let new = put.record.clone().unwrap_or(0..0).map(|page| {
                let bytes = random.bytes(UNIT as usize);
                (page, bytes)
            });
            let new: Vec<_> = new.collect();
            for (page, _) in &new {
                pages.remove(page);
            }
            if bench.write(ins, &new, &put).is_err() {
                break;
            }
            *may_be = vec![content];
            pages.extend(new);
        }
        bench.supply.lasts(None);
        bench.disks.iter().for_each(|disk| disk.power_on(random));
        // One that is out may stay away for a while.
        there = [true; 2];
        if ins != [true; 2] && count == 2 && random.one_in(2) {
            there = ins;
        }
    }
}

#[test]
fn r04_r07_tables_are_there_whenever_the_power_goes() {
    let check = |seeds: &[u64]| seeds.iter().for_each(|&seed| case(seed));
    property(operations(100), |random| vec![random.word()], check);
}

#[test]
fn r04_a_torn_copy_leaves_the_other_one() {
    let bench = Bench::new(1, 512);
    let there = [true; 2];
    let Started { found, .. } = bench.start(there, AREA).expect("a log");
    let mut tables = found.tables;
    let mut last = Vec::new();
    for version in 1..6u8 {
        let content = |version| vec![version; CONTENT_MAX];
        let put = tables
            .put("a", [0; 16], 0, &content(version))
            .expect("room");
        bench.write(there, &[], &put).expect("power");
        // The next version is cut off anywhere.
        let mut later = tables.clone();
        let next = later.put("a", [0; 16], 0, &content(99)).expect("room");
        for sectors in 0..8 {
            let at = next.at as usize;
            let was = bench.disks[0].bytes(at..at + ENTRY);
            bench.disks[0].damage(at, |bytes| {
                bytes[..512 * sectors].copy_from_slice(&next.bytes[..512 * sectors]);
            });
            let found = bench.tables(there).expect("the one before");
            assert_eq!(found.entries[0].1.content, content(version));
            bench.disks[0].damage(at, |bytes| bytes[..ENTRY].copy_from_slice(&was));
        }
        last = vec![put.at, next.at];
    }
    // Neither is as it was written.
    for at in last {
        bench.disks[0].damage(at as usize, |bytes| bytes[300] ^= 1);
    }
    let refused = bench.tables(there).err();
    assert_eq!(refused, Some(Refusal::Table { slot: 0 }));
}

#[test]
fn r04_what_one_of_two_stores_has_lost_is_taken_from_the_other() {
    let bench = Bench::new(2, 512);
    let there = [true; 2];
    let Started { found, .. } = bench.start(there, AREA).expect("a log");
    let mut tables = found.tables;
    let mut put = tables.put("a", [3; 16], 0, b"first").expect("room");
    bench.write(there, &[], &put).expect("power");
    put = tables.put("a", [3; 16], 0, b"second").expect("room");
    bench.write(there, &[], &put).expect("power");
    for lost in 0..2 {
        for copy in 0..2 {
            let at = Tables::entry_at(0, copy) as usize;
            bench.disks[lost].damage(at, |bytes| bytes[40] ^= 1);
        }
        let Started { found, .. } = bench.start(there, AREA).expect("the other one has it");
        assert_eq!(found.entries[0].1.content, b"second");
        assert!(bench.disks[lost].holds(put.at, &put.bytes), "it is mended");
    }
}

/// What hosts wrote to a half is no table, whatever it says.
#[test]
fn r04_an_area_that_was_none_begins_without_tables() {
    let bench = Bench::new(1, 512);
    let there = [true; 2];
    bench.start(there, 0).expect("a log without tables");
    let forged = example().encode(LOG, 0);
    let at = Tables::entry_at(0, 0) as usize;
    let forge = || bench.disks[0].damage(at, |bytes| bytes[..ENTRY].copy_from_slice(&forged));
    forge();
    for lasts in 0.. {
        bench.supply.lasts(Some(lasts));
        let started = bench.start(there, AREA);
        bench.supply.lasts(None);
        bench.disks[0].power_on(&mut Random::new(lasts));
        let found = bench.tables(there).expect("a log");
        assert!(found.entries.is_empty(), "after {lasts} operations");
        let agreed = bench.agree(there).expect("a log");
        if started.is_ok() {
            assert_eq!(agreed.tables_len(), AREA);
            break;
        }
        if agreed.tables_len() == 0 {
            forge();
        }
    }
}

#[test]
fn r04_a_start_without_a_word_of_tables_keeps_them() {
    let bench = Bench::new(1, 4096);
    let there = [true; 2];
    let Started { found, layout, .. } = bench.start(there, AREA).expect("a log");
    let mut tables = found.tables;
    let put = tables.put("a", [0; 16], 4, b"x").expect("room");
    let page = |page| (page, vec![page as u8; UNIT as usize]);
    let pages: Vec<_> = put.record.clone().expect("pages").map(page).collect();
    bench.write(there, &pages, &put).expect("power");
    for tables_len in [0, 0, AREA, 2 * AREA, AREA, 0] {
        let started = bench.start(there, tables_len).expect("a log");
        assert_eq!(started.found.entries.len(), 1);
        assert_eq!(started.found.entries[0].1.record, put.record);
        for (page, bytes) in &pages {
            assert!(bench.disks[0].holds(Tables::page_at(*page), bytes));
        }
        assert!(started.layout.tables_len >= layout.tables_len);
    }
    let agreed = bench.agree(there).expect("a log");
    assert_eq!(agreed.tables_len(), 2 * AREA);
}

/// A program that knows no tables takes what it can read for version 2: two copies of this one are none of its.
#[test]
fn r04_a_store_with_tables_says_so_to_those_that_know_none() {
    let bench = Bench::new(1, 512);
    bench.start([true; 2], 0).expect("a log");
    let version = |copy| {
        let at = Layout::area(bench.disks[0].len(), copy) as usize;
        bench.disks[0].bytes(at + 8..at + 12)
    };
    assert!((0..AREAS).all(|copy| version(copy) == [2, 0, 0, 0]));
    bench.start([true; 2], AREA).expect("a log");
    assert!((0..AREAS).all(|copy| version(copy) == [3, 0, 0, 0]));
}

#[test]
fn r04_an_entry_of_a_later_version_is_refused() {
    let bench = Bench::new(1, 512);
    let there = [true; 2];
    let Started { found, .. } = bench.start(there, AREA).expect("a log");
    let mut tables = found.tables;
    for version in [1, 2] {
        let put = tables.put("a", [0; 16], 0, &[version]).expect("room");
        bench.write(there, &[], &put).expect("power");
    }
    let at = Tables::entry_at(0, 1) as usize;
    bench.disks[0].damage(at, |bytes| {
        bytes[8] = 4;
        bytes[12..16].fill(0);
        let crc = testkit::crc32c(&bytes[..ENTRY]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    });
    assert_eq!(bench.tables(there).err(), Some(Refusal::Version(4)));
}
