//! Tables at a start: whose they are, and that what was in the log is marked in records of what was changed, whenever
//! the start is cut off (rows R4, R7).

use mirror::{Changed, GRANULE, OnDisk, ReplicaId, Standing};
use nvlog::{ENTRY_PAGES, HALF_MIN, Layout, Tables, UNIT};

use super::*;
use crate::logged::tables::TableArea;

const REPLICA: ReplicaId = ReplicaId([3; 16]);
const PEER: ReplicaId = ReplicaId([4; 16]);
const VOLUME_LEN: u64 = 1 << 20;
const NUMBER: u64 = 7;
const STORES: &[&str] = &["disk0", "disk1"];

/// Room for the entries, and some pages.
const AREA: u64 = (ENTRY_PAGES + 8) * UNIT;

fn bench() -> Bench {
    let bench = Bench::of(Layout::needs(1, 4 * HALF_MIN, 2 * AREA));
    bench.tables_len.set(AREA);
    bench
}

/// What the standing says of a volume that goes on alone; behind it something else.
fn content(number: u64) -> Vec<u8> {
    let standing = Standing::first(REPLICA, 1).alone(PEER, 2, VOLUME_LEN);
    let on_disk = OnDisk {
        standing: standing.expect("it is whole"),
        record: number,
        len: VOLUME_LEN,
    };
    let mut content = on_disk.encode().to_vec();
    content.extend(b"and more");
    content
}

impl Bench {
    /// Writes a volume's table, as a run does.
    fn put(&self, area: &mut TableArea, volume: usize, content: &[u8], changed: Option<&Changed>) {
        let (name, identity) = area.volumes[volume].clone();
        let count = changed.map_or(0, Changed::pages);
        let put = area.tables.put(&name, identity, count, content);
        let put = put.expect("room");
        let mut store = self.store.borrow_mut();
        let mut write = |at: u64, bytes: &[u8]| {
            store[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        };
        for (i, page) in (0..).zip(put.record.unwrap_or(0..0)) {
            let changed = changed.expect("a record");
            write(Tables::page_at(page), &changed.page(i, REPLICA, NUMBER));
        }
        write(put.at, &put.bytes);
    }

    /// A log with a table for the first volume, whose record says that its last granule was changed; where that lies.
    fn with_record(&self) -> (LogStart, usize) {
        let mut start = self.start(STORES, false).expect("a new log");
        let mut changed = Changed::none(VOLUME_LEN);
        changed.mark(VOLUME_LEN - 1..VOLUME_LEN);
        let mut area = start.table_area.clone();
        self.put(&mut area, 0, &content(NUMBER), Some(&changed));
        start.table_area = area;
        (start, Tables::page_at(ENTRY_PAGES) as usize)
    }
}

/// Which granules were changed.
fn granules(changed: &Changed) -> Vec<u64> {
    let all = 0..changed.granules();
    all.filter(|&granule| changed.has(granule)).collect()
}

const LAST: u64 = VOLUME_LEN / GRANULE - 1;

#[test]
fn r04_a_start_gives_the_tables_of_its_volumes() {
    let bench = bench();
    let start = bench.start(STORES, false).expect("a new log");
    assert!(start.tables.is_empty() && start.table_area.is_empty());
    assert_eq!(start.table_area.len(), AREA);
    let mut area = start.table_area.clone();
    bench.put(&mut area, 1, b"of disk1", None);
    bench.put(&mut area, 0, b"of disk0, at first", None);
    bench.put(&mut area, 0, b"of disk0", None);
    // An area that is asked for no more, or is to be longer, has what it had.
    for tables_len in [AREA, 0, 2 * AREA, AREA] {
        bench.tables_len.set(tables_len);
        let start = bench.start(STORES, false).expect("the log");
        let tables = start.tables.iter();
        let mut tables: Vec<_> = tables
            .map(|table| (table.volume.0, &table.content[..], &table.changed))
            .collect();
        tables.sort_by_key(|table| table.0);
        assert_eq!(
            tables,
            [(0, &b"of disk0"[..], &None), (1, b"of disk1", &None)]
        );
    }
    let start = bench.start(STORES, false).expect("the log");
    assert_eq!(start.layout.tables_len, 2 * AREA);
    // What has no room is said, with what to do.
    bench.tables_len.set(64 << 20);
    let why = bench.start(STORES, false).expect_err("it has no room");
    assert!(why.contains("for tables: name a larger store"), "{why}");
}

#[test]
fn r07_what_is_replayed_is_marked_before_the_log_is_empty() {
    // Whatever it has done when it is killed, the next start marks it, or it is marked.
    for asks in 0.. {
        let bench = bench();
        let (start, page) = bench.with_record();
        bench.log(&start, 2);
        let has_ended = bench.start_for(STORES, false, asks).is_some();
        let next = bench.start(STORES, false).expect("the log");
        let changed = next.tables[0].changed.as_ref().expect("a record");
        assert_eq!(granules(changed), [0, LAST], "after {asks} asks");
        let mut on_disk = Changed::all(VOLUME_LEN);
        let bytes = bench.store.borrow()[page..page + 4096].to_vec();
        let bytes = bytes.first_chunk().expect("a page");
        assert!(on_disk.take_page(bytes, 0, REPLICA, NUMBER));
        assert_eq!(on_disk, *changed);
        if has_ended {
            assert_eq!(next.replayed.records, 0);
            assert!(asks > 30, "it asks for more than {asks} things");
            break;
        }
    }
}

#[test]
fn r07_a_torn_page_of_a_record_says_that_all_was_changed() {
    for damage in 0..3 {
        let bench = bench();
        let (_, page) = bench.with_record();
        match damage {
            0 => bench.store.borrow_mut()[page + 4000] ^= 1,
            1 => bench.store.borrow_mut()[page..page + 512].fill(0),
            // Of another record.
            _ => {
                let other = Changed::none(VOLUME_LEN).page(0, REPLICA, NUMBER + 1);
                bench.store.borrow_mut()[page..page + 4096].copy_from_slice(&other);
            }
        }
        for _ in 0..2 {
            let start = bench.start(STORES, false).expect("the log");
            let changed = start.tables[0].changed.as_ref().expect("a record");
            assert_eq!(*changed, Changed::all(VOLUME_LEN));
        }
        let mut on_disk = Changed::none(VOLUME_LEN);
        let bytes = bench.store.borrow()[page..page + 4096].to_vec();
        let bytes = bytes.first_chunk().expect("a page");
        assert!(on_disk.take_page(bytes, 0, REPLICA, NUMBER), "it is mended");
    }
}

#[test]
fn r04_a_table_of_another_drive_is_kept_and_told() {
    let bench = bench();
    bench.with_record();
    let before = bench.store.borrow().clone();
    let entry = Tables::entry_at(0, 0) as usize..Tables::entry_at(1, 0) as usize;
    bench.identity.set([9; 16]);
    let start = bench.start(STORES, false).expect("the log");
    assert_eq!(start.tables, []);
    let [what] = &start.tables_kept[..] else {
        panic!("{:?}", start.tables_kept);
    };
    assert!(
        what.contains("\"disk0\", which has another drive"),
        "{what}"
    );
    // The volume that is there has a table of its own.
    let mut area = start.table_area.clone();
    bench.put(&mut area, 0, b"new", None);
    assert_eq!(bench.store.borrow()[entry.clone()], before[entry]);
    let start = bench.start(STORES, false).expect("the log");
    assert_eq!((start.tables.len(), start.tables_kept.len()), (1, 1));
    bench.identity.set([0; 16]);
    let start = bench.start(&["disk0"], false).expect("the log");
    let [table] = &start.tables[..] else {
        panic!("{:?}", start.tables);
    };
    assert_eq!(table.content, content(NUMBER));
    assert_eq!(granules(table.changed.as_ref().expect("a record")), [LAST]);
}

#[test]
fn r07_a_record_of_nobody_is_refused() {
    let bench = bench();
    let (mut start, _) = bench.with_record();
    let mut area = std::mem::take(&mut start.table_area);
    let changed = Changed::none(VOLUME_LEN);
    bench.put(&mut area, 0, b"no standing", Some(&changed));
    bench.refused(STORES, "has a record of what was changed, and not whose");
    assert!(
        bench
            .given_up(STORES)
            .contains("; the tables of its volumes")
    );
    let start = bench.start(STORES, false).expect("the new log");
    assert_eq!((start.tables, start.tables_kept), (vec![], vec![]));
}

#[test]
fn r04_a_damaged_table_is_refused() {
    let bench = bench();
    let (start, _) = bench.with_record();
    let mut area = start.table_area;
    bench.put(
        &mut area,
        0,
        &content(NUMBER),
        Some(&Changed::none(VOLUME_LEN)),
    );
    for copy in 0..2 {
        bench.store.borrow_mut()[Tables::entry_at(0, copy) as usize + 300] ^= 1;
    }
    bench.refused(STORES, "table 0 is damaged");
}
