//! Tables that a run writes: first pages of a record, then the entry, one write after the other (rows R4, R7).

mod lab;

use block::{Fault, Op, VolumeId};
use lab::{Bench, Lab};
use mirror::{Changed, GRANULE, ReplicaId};
use nvlog::{CONTENT_MAX, ENTRY_PAGES, NoTable, TABLES, Tables};
use volume::{RecordPages, TableRefusal, TableToken, TableWrite};

/// Volume 1 is none of the shard's, but the log's store.
const LOG: usize = 1;
const AREA: u64 = (ENTRY_PAGES + 40) * 4096;
/// Bytes that a page of a record is of.
const PAGE_OF: u64 = 32256 * GRANULE;

fn lab() -> Lab {
    Lab::logged_in(Bench {
        tables_len: AREA,
        ..Bench::default()
    })
}

fn write<'a>(content: Option<&'a [u8]>, changed: Option<&'a Changed>) -> TableWrite<'a> {
    let record = changed.map(|changed| RecordPages {
        changed,
        replica: ReplicaId([3; 16]),
        number: 7,
        pages: 1..2,
    });
    TableWrite {
        volume: VolumeId(0),
        content,
        record,
    }
}

/// Blocks of the store that were written, and how many.
fn written(lab: &Lab) -> Vec<(u64, u64)> {
    let told = lab.told(LOG).into_iter();
    let written = told.filter(|(op, ..)| *op == Op::Write);
    written.map(|(_, block, blocks)| (block, blocks)).collect()
}

fn ends(lab: &mut Lab) -> Vec<(TableToken, Result<(), Fault>)> {
    std::iter::from_fn(|| lab.volumes.next_table_end()).collect()
}

#[test]
fn r04_r07_an_entry_is_written_when_the_pages_of_its_record_are_stable() {
    let mut lab = lab();
    let first = TABLES / 4096 + ENTRY_PAGES;
    let entry = |copy| Tables::entry_at(0, copy) / 4096;
    let changed = Changed::none(20 * PAGE_OF);
    let token = lab.volumes.write_table(&write(Some(b"x"), Some(&changed)));
    let token = token.expect("room");
    lab.ends();
    // All pages of a record that is new, some at a time.
    for pages in [
        first..first + 8,
        first + 8..first + 16,
        first + 16..first + 20,
    ] {
        let sum = |told: Vec<(u64, u64)>| {
            let end = told.iter().map(|(block, blocks)| block + blocks).max();
            (told.first().map(|told| told.0), end)
        };
        assert_eq!(sum(written(&lab)), (Some(pages.start), Some(pages.end)));
        assert_eq!(ends(&mut lab), []);
        assert_eq!(lab.volumes.in_flight(), 1);
        lab.serve(LOG);
        lab.ends();
    }
    assert_eq!(written(&lab), [(entry(0), 1)]);
    assert_eq!(ends(&mut lab), []);
    lab.finish();
    assert_eq!(ends(&mut lab), [(token, Ok(()))]);
    // Then those that are asked for; with the entry, or alone.
    let both = lab.volumes.write_table(&write(Some(b"y"), Some(&changed)));
    let alone = lab.volumes.write_table(&write(None, Some(&changed)));
    lab.finish();
    let second = (first + 1, 1);
    assert_eq!(written(&lab), [second, (entry(1), 1), second]);
    let tokens = [both, alone].map(|token| (token.expect("room"), Ok(())));
    assert_eq!(ends(&mut lab), tokens);
    // Without a record its pages are anybody's.
    for (content, copy) in [(&b"z"[..], 0), (b"", 1)] {
        lab.volumes
            .write_table(&write(Some(content), None))
            .expect("room");
        lab.finish();
        assert_eq!(written(&lab), [(entry(copy), 1)]);
    }
}

#[test]
fn r04_what_cannot_be_written_is_said() {
    let changed = Changed::none(41 * PAGE_OF);
    let mut lab = lab();
    let mut refused = |write: TableWrite<'_>| lab.volumes.write_table(&write).err();
    let none = write(None, Some(&changed));
    assert_eq!(refused(none), Some(TableRefusal::NoRecord));
    let other = TableWrite {
        volume: VolumeId(1),
        ..write(Some(b"x"), None)
    };
    assert_eq!(refused(other), Some(TableRefusal::NoVolume));
    let long = vec![0; CONTENT_MAX + 1];
    let too_long = Some(TableRefusal::No(NoTable::Content(CONTENT_MAX + 1)));
    assert_eq!(refused(write(Some(&long), None)), too_long);
    let pages = Some(TableRefusal::No(NoTable::Pages(41)));
    assert_eq!(refused(write(Some(b"x"), Some(&changed))), pages);
    for _ in 0..8 {
        assert_eq!(refused(write(Some(b"x"), None)), None);
    }
    assert_eq!(refused(write(Some(b"x"), None)), Some(TableRefusal::Busy));
    lab.finish();
    assert_eq!(ends(&mut lab).len(), 8);
    // Where there is no area; on another shard; without a log.
    let no_area = Lab::logged().volumes.write_table(&write(Some(b"x"), None));
    assert_eq!(no_area, Err(TableRefusal::No(NoTable::NoArea)));
    let [_, mut second] = Lab::logged_pair();
    let elsewhere = second.volumes.write_table(&write(Some(b"x"), None));
    assert_eq!(elsewhere, Err(TableRefusal::NotHere));
}

#[test]
fn r04_a_store_that_fails_ends_all_writes() {
    let mut lab = lab();
    let tokens = [(); 2].map(|()| lab.volumes.write_table(&write(Some(b"x"), None)));
    lab.ends();
    lab.benches[LOG].borrow_mut().fault = Some(Fault::WriteError);
    lab.serve(LOG);
    lab.ends();
    let failed = tokens.map(|token| (token.expect("room"), Err(Fault::WriteError)));
    assert_eq!(ends(&mut lab), failed);
    let later = lab
        .volumes
        .write_table(&write(Some(b"x"), None))
        .expect("room");
    assert_eq!(ends(&mut lab), [(later, Err(Fault::WriteError))]);
}
