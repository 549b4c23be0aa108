//! Checksums of pages that a data digest has made on the way: the log takes them, and reads no payload again.

mod lab;

use block::{Flags, Io};
use lab::{HOST, Lab, NAMESPACE};
use pages::PAGE_SIZE;

/// The log's store.
const LOG: usize = 1;
/// Pages with one owner, side by side.
const OWNED: u64 = (1 << 20) / PAGE_SIZE as u64;
/// More than one message has room for.
const PAGES: usize = 9;

/// Writes pages from `first` on, of which one is not zeros, with `made` checksums of them.
fn write(lab: &mut Lab, id: u64, first: u64, made: usize) {
    let mut run = lab.buffers.runs.take().expect("a run");
    (run.begin(first * PAGE_SIZE as u64, PAGES * PAGE_SIZE)).expect("a run that is long enough");
    let pull_up = lab.buffers.pull_up();
    let cluster = lab.buffers.pages.alloc().expect("a page").freeze_filled(0);
    cluster.append(&[7; PAGE_SIZE]);
    (run.place(0, cluster.slice(0..PAGE_SIZE), &pull_up)).expect("a place for it");
    let zeros = (PAGES - 1) * PAGE_SIZE;
    run.place_zeros(PAGE_SIZE, zeros, &lab.buffers.zero_page, &pull_up)
        .expect("a place for them");
    for page in 0..made {
        let byte = if page == 0 { 7 } else { 0 };
        (run.checksums_mut()).push(testkit::crc32c(&[byte; PAGE_SIZE]));
    }
    lab.start(NAMESPACE, HOST, id, Io::write(run, Flags::NONE));
}

/// Records, and bytes read for checksums, of each shard's log.
fn counted(pair: &[Lab; 2]) -> [(u64, u64); 2] {
    pair.each_ref().map(|lab| {
        let log = lab.volumes.log_counters().expect("a log");
        (log.records, log.checksummed_bytes)
    })
}

/// Pages of this shard, of the other one, and some of both.
#[test]
fn s01_pages_of_another_shard_keep_the_checksums_of_their_digest() {
    let mut pair = Lab::logged_pair();
    let mut owners = [0; 2];
    for (id, range) in (0..8).enumerate() {
        for (made, first) in [(PAGES, 1), (0, 20), (PAGES - 1, 40), (PAGES, OWNED - 4)] {
            let before = counted(&pair);
            write(&mut pair[0], id as u64, range % 4 * OWNED + first, made);
            let mut ends = Vec::new();
            for _ in 0..8 {
                ends.extend(pair[0].ends());
                ends.extend(pair[0].serve(LOG));
                pair[1].ends();
                // Halves fill up.
                pair[1].serve(0);
            }
            // The last range has none behind it.
            let is_outside = range % 4 == 3 && first == OWNED - 4;
            assert_eq!(ends.len(), 1, "{ends:?}");
            assert_eq!(ends[0].2.is_err(), is_outside, "{ends:?}");
            let after = counted(&pair);
            let mut read = 0;
            for shard in 0..2 {
                owners[shard] += after[shard].0 - before[shard].0;
                read += after[shard].1 - before[shard].1;
            }
            let all = (PAGES * PAGE_SIZE) as u64;
            let expected = if made == PAGES { 0 } else { all };
            assert_eq!(read, expected, "{made} checksums of {PAGES} pages");
        }
    }
    assert!(owners[0] > 0 && owners[1] > 0, "{owners:?}");
}
