//! What `--discard-log` gives up, and that nothing is without it.

mod tables;

use nvlog::recovery::PART;
use nvlog::{AREA, Crcs, Record, RecordOp, Region};
use pages::{Arena, ClusterPool, HeapRegion};

use super::*;

const LEN: u64 = 4 << 20;
const PAYLOAD: &[u8] = &[7; 4096];

/// A log's store in memory, and what drives were told.
struct Bench {
    pages: ClusterPool,
    store: RefCell<Vec<u8>>,
    drives: RefCell<Vec<(VolumeId, u64)>>,
    /// Ranges that they were to deallocate, and whether they fail.
    deallocated: RefCell<Vec<(VolumeId, u64, u64)>>,
    fails: Cell<bool>,
    writes: RefCell<usize>,
    progress: RefCell<Vec<ReplayProgress>>,
    /// Asked for at the next start.
    tables_len: Cell<u64>,
    identity: Cell<[u8; 16]>,
}

impl Bench {
    fn new() -> Self {
        Self::of(LEN)
    }

    /// With a store of so many bytes.
    fn of(len: u64) -> Self {
        let pages = 2 + PART / PAGE_SIZE;
        let arena = Arena::new(HeapRegion::new(pages + 1));
        Self {
            pages: ClusterPool::carve(&arena, pages, PAGE_SIZE).expect("room"),
            store: RefCell::new(vec![0; len as usize]),
            drives: RefCell::default(),
            deallocated: RefCell::default(),
            fails: Cell::default(),
            writes: RefCell::default(),
            progress: RefCell::default(),
            tables_len: Cell::default(),
            identity: Cell::default(),
        }
    }

    fn do_it(&self, ask: Ask) -> Answer {
        let mut store = self.store.borrow_mut();
        match ask {
            Ask::Read { at, len, .. } => {
                let bytes = &store[at as usize..at as usize + len];
                let page = |part: &[u8]| {
                    let mut page = self.pages.alloc().expect("a page");
                    page[..part.len()].copy_from_slice(part);
                    page.freeze()
                };
                let pages = bytes.chunks(PAGE_SIZE).map(page).collect();
                return Ok(Some(LogPages(Rc::new(pages))));
            }
            Ask::Write { at, bytes, .. } => {
                *self.writes.borrow_mut() += 1;
                store[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
            }
            Ask::DriveWrite { volume, offset, .. } | Ask::DriveZeroes { volume, offset, .. } => {
                self.drives.borrow_mut().push((volume, offset));
            }
            Ask::DriveDeallocation {
                volume,
                offset,
                len,
            } => {
                self.deallocated.borrow_mut().push((volume, offset, len));
                if self.fails.get() {
                    return Err(Fault::WriteError);
                }
            }
            Ask::Flush(_) | Ask::DriveFlush(_) => {}
        }
        Ok(None)
    }

    /// A start of a program that has these stores.
    fn start(&self, stores: &[&str], discard: bool) -> ReplayEnd {
        let end = self.start_for(stores, discard, usize::MAX);
        end.expect("it ends")
    }

    /// The same, which is killed when it has asked for so many things.
    fn start_for(&self, stores: &[&str], discard: bool, asks: usize) -> Option<ReplayEnd> {
        let volume = |name: &&str| nvlog::Volume {
            name: (*name).into(),
            identity: self.identity.get(),
            len: 1 << 20,
            block: 512,
            part_of: None,
        };
        let plan = LogPlan {
            shards: 1,
            half_len: None,
            tables_len: self.tables_len.get(),
            interval: Duration::from_secs(10),
            through_after_failure: false,
            max_bytes: 1 << 17,
            volumes: stores.iter().map(volume).collect(),
            id: LogId(if discard { [9; 16] } else { [1; 16] }),
            stores: vec![LogStorePlan {
                name: "log0".into(),
                volume: VolumeId(9),
                discard,
            }],
        };
        let desk = Desk::default();
        let side = Side {
            desk: desk.clone(),
            store: 0,
            len: self.store.borrow().len() as u64,
            block: 512,
        };
        let mut future = Box::pin(run(desk.clone(), plan, vec![Some(side)]));
        let mut context = task::Context::from_waker(Waker::noop());
        for _ in 0..asks {
            if let Poll::Ready(end) = future.as_mut().poll(&mut context) {
                return Some(end);
            }
            let ask = desk.ask.borrow_mut().take().expect("it asks for something");
            let answer = self.do_it(ask);
            self.progress.borrow_mut().push(desk.progress.get());
            *desk.answer.borrow_mut() = Some(answer);
        }
        None
    }

    /// Logs a write to each of the first volumes, `groups` of them, and where the first group is.
    fn log(&self, start: &LogStart, groups: u32) -> usize {
        let mut region = Region::new(start.log, &start.layout, 0, &start.regions[0]);
        let mut first = None;
        for volume in 0..groups {
            let record = Record {
                transfer: 0,
                object: 0,
                volume,
                op: RecordOp::Write,
                offset: 8192,
                len: PAYLOAD.len() as u64,
            };
            let (mut crcs, mut all) = (Crcs::new(record.offset), Vec::new());
            crcs.take(PAYLOAD, |crc| all.push(crc));
            all.extend(crcs.end());
            region.add(&record, &all);
            let (group, header) = region.seal();
            let at = group.address as usize;
            first.get_or_insert(at);
            let mut store = self.store.borrow_mut();
            store[at..at + header.len()].copy_from_slice(header);
            let at = at + group.header_len;
            store[at..at + PAYLOAD.len()].copy_from_slice(PAYLOAD);
            region.stable(group.sequence);
        }
        first.expect("a group")
    }

    /// It is refused with such words, and nothing was written.
    fn refused(&self, stores: &[&str], words: &str) {
        let before = (self.store.borrow().clone(), *self.writes.borrow());
        let why = self.start(stores, false).expect_err("a refusal");
        assert!(
            why.contains(words) && why.contains("--discard-log"),
            "{why}"
        );
        let after = (self.store.borrow().clone(), *self.writes.borrow());
        assert!(before == after, "a start that was refused wrote something");
    }

    /// What is given up, in words; a start after it has nothing to replay.
    fn given_up(&self, stores: &[&str]) -> String {
        self.drives.borrow_mut().clear();
        let start = self.start(stores, true).expect("a new log");
        let [(store, what)] = &start.discarded[..] else {
            panic!("one store is given up: {:?}", start.discarded);
        };
        assert_eq!(store, "log0");
        let what = what.clone();
        assert_eq!(
            *self.drives.borrow(),
            [],
            "what is given up is not replayed"
        );
        assert_eq!(start.replayed, Replayed::default());
        let next = self.start(stores, false).expect("the log that was begun");
        assert_eq!((next.log, next.discarded), (start.log, Vec::new()));
        assert_eq!((next.replayed.records, next.replayed.torn), (0, 0));
        what
    }
}

#[test]
fn s07_records_of_a_store_that_is_gone_are_given_up_by_name() {
    let bench = Bench::new();
    let start = bench.start(&["disk0", "disk1"], false).expect("a new log");
    bench.log(&start, 2);
    bench.refused(&["disk0"], "stores that are absent");
    assert_eq!(
        bench.given_up(&["disk0"]),
        "2 records of 8192 bytes; of store \"disk0\" 1 records of 4096 bytes; of store \"disk1\" 1 records of 4096 bytes"
    );
}

#[test]
fn s07_a_log_that_could_be_replayed_is_given_up_only_if_that_is_said() {
    let bench = Bench::new();
    let start = bench.start(&["disk0"], false).expect("a new log");
    bench.log(&start, 1);
    let what = bench.given_up(&["disk0"]);
    assert!(what.starts_with("1 records of 4096 bytes"), "{what}");
    let start = bench.start(&["disk0"], false).expect("the log");
    bench.log(&start, 1);
    let replayed = bench.start(&["disk0"], false).expect("the log").replayed;
    assert_eq!(replayed.records, 1);
    assert_eq!(*bench.drives.borrow(), [(VolumeId(0), 8192)]);
}

#[test]
fn s07_a_damaged_log_is_given_up_with_what_is_lost_named() {
    let bench = Bench::new();
    let start = bench.start(&["disk0", "disk1", "disk2"], false);
    let first = bench.log(&start.expect("a new log"), 3);
    bench.store.borrow_mut()[first] ^= 1;
    let stores = ["disk0", "disk1", "disk2"];
    bench.refused(&stores, "the log is damaged");
    let what = bench.given_up(&stores);
    assert!(what.contains("which had been acknowledged"), "{what}");
    // So damaged that nothing can be said of it.
    for copy in 0..3 {
        let at = nvlog::Layout::area(LEN, copy) as usize;
        bench.store.borrow_mut()[at + 50] ^= 1;
    }
    bench.refused(&stores, "its superblocks are damaged");
    let what = bench.given_up(&stores);
    assert!(what.contains("its superblocks are damaged"), "{what}");
}

#[test]
fn s07_what_somebody_else_wrote_is_given_up_only_if_that_is_said() {
    let bench = Bench::new();
    bench.store.borrow_mut()[AREA as usize..][..8].copy_from_slice(b"EFI PART");
    bench.refused(&["disk0"], "something else than a log");
    let what = bench.given_up(&["disk0"]);
    assert!(what.contains("something else than a log"), "{what}");
    assert!(Bench::new().given_up(&["disk0"]).contains("blank"));
}

#[test]
fn s07_a_replay_says_how_far_it_is() {
    let bench = Bench::new();
    let start = bench.start(&["disk0"], false).expect("a new log");
    bench.log(&start, 1);
    bench.progress.borrow_mut().clear();
    bench.start(&["disk0"], false).expect("a replay");
    let told = bench.progress.borrow();
    assert!(told.is_sorted_by_key(|progress| progress.read));
    let halves = 2 * start.layout.half_len;
    let last = told.last().expect("some");
    assert_eq!(last.halves, halves);
    assert!(last.read >= halves, "{last:?}");
}

/// It reads as zeros again, though its drive has been given what was written before.
#[test]
fn k05_s07_a_deallocation_is_replayed_or_zeros_are_written() {
    let bench = Bench::new();
    let start = bench.start(&["disk0"], false).expect("a new log");
    for fails in [false, true] {
        bench.fails.set(fails);
        bench.drives.borrow_mut().clear();
        let start = bench.start(&["disk0"], false).expect("the log");
        let mut region = Region::new(start.log, &start.layout, 0, &start.regions[0]);
        let record = Record {
            transfer: 0,
            object: 0,
            volume: 0,
            op: RecordOp::Deallocate,
            offset: 4096,
            len: 512 << 10,
        };
        region.add(&record, &[]);
        let (group, header) = region.seal();
        let at = group.address as usize;
        bench.store.borrow_mut()[at..at + header.len()].copy_from_slice(header);
        let replayed = bench.start(&["disk0"], false).expect("the log").replayed;
        assert_eq!((replayed.records, replayed.bytes), (1, 512 << 10));
        let told = bench.deallocated.take();
        assert_eq!(told, [(VolumeId(0), 4096, 512 << 10)]);
        let zeroed = bench.drives.take();
        assert_eq!(zeroed.len(), usize::from(fails), "{zeroed:?}");
    }
    assert_eq!(start.log, bench.start(&["disk0"], false).expect("it").log);
}
