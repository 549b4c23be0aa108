//! Logical pages against plain bytes (rows Z3–Z8): whatever is written, zeroed,
//! cut off and made whole, in whatever order.

use std::collections::HashMap;

use super::Lab;
use pages::{
    CopyReason, LogicalPage, MAX_SEGMENTS, PAGE_SIZE, PageIndex, PullUp, Refusal, Segment,
};

#[derive(Clone, Debug)]
pub enum Op {
    /// Bytes from a frame of their own, with free space behind them or not.
    Write {
        at: usize,
        len: usize,
        room: bool,
    },
    /// Part of what some page shows already, by reference.
    Again {
        from: usize,
        at: usize,
        len: usize,
    },
    Zero {
        at: usize,
        len: usize,
    },
    Truncate {
        len: usize,
    },
    Whole,
    Clear,
    /// A copy of the page takes the place of another.
    Clone {
        to: usize,
    },
}

pub const PAGES: usize = 3;

type Model = Vec<Option<u8>>;

fn write(page: &mut LogicalPage, model: &mut Model, at: usize, segment: Segment, pull_up: &PullUp) {
    let bytes = segment.bytes().unwrap().to_vec();
    let before = pull_up.ledger.bytes_copied_total();
    match page.write(at, segment, pull_up) {
        Ok(()) => {
            for (to, from) in model[at..].iter_mut().zip(bytes) {
                *to = Some(from);
            }
        }
        Err(error) => {
            assert_eq!(
                (error.reason, error.segment.bytes()),
                (Refusal::TooFragmented, Some(&bytes[..]))
            );
            assert_eq!(pull_up.ledger.bytes_copied_total(), before);
        }
    }
}

fn agree(page: &LogicalPage, model: &Model) {
    assert!((1..=MAX_SEGMENTS).contains(&page.segments().len()));
    let mut at = 0;
    for segment in page.segments() {
        for i in 0..segment.len() {
            assert_eq!(
                segment.bytes().map(|b| b[i]),
                model[at + i],
                "byte {}",
                at + i
            );
        }
        at += segment.len();
    }
    assert_eq!(at, PAGE_SIZE);
    assert_eq!(page.missing(), model.iter().filter(|b| b.is_none()).count());
}

/// Row Z4, counted anew: in how many pages each physical page occurs.
fn counts_agree(lab: &Lab, pages: &[LogicalPage]) {
    let mut expected: HashMap<PageIndex, u32> = HashMap::new();
    for page in pages {
        let mut seen: Vec<PageIndex> = page.segments().iter().filter_map(Segment::page).collect();
        seen.sort();
        seen.dedup();
        seen.into_iter()
            .for_each(|p| *expected.entry(p).or_default() += 1);
    }
    for i in 0..(lab.arena.len() / PAGE_SIZE) as u32 {
        let counted = lab.arena.page(PageIndex(i)).references();
        assert_eq!(
            counted,
            expected.get(&PageIndex(i)).copied().unwrap_or(0),
            "page {i}"
        );
    }
}

/// Does the operations on a few pages, and all that pages must keep.
pub fn check(operations: &[(usize, Op)]) {
    let lab = Lab::new(32, 2048, 16);
    let pull_up = lab.pull_up();
    let mut pages: Vec<LogicalPage> = (0..PAGES).map(|_| LogicalPage::new()).collect();
    let mut models = vec![vec![None; PAGE_SIZE]; PAGES];
    for (i, (n, op)) in operations.iter().enumerate() {
        let (page, model) = (&mut pages[*n], &mut models[*n]);
        match *op {
            Op::Write { at, len, room } => {
                let payload: Vec<u8> = (0..len).map(|b| (b * 7 + i) as u8).collect();
                let cluster = lab.cluster(66, &payload, (!room).then_some(2048));
                write(
                    page,
                    model,
                    at,
                    Segment::data(cluster.slice(66..66 + len)),
                    &pull_up,
                );
            }
            Op::Again { from, at, len } => {
                let again = pages[from].segments()[0].clone();
                if again.kind() == pages::SegmentKind::Data {
                    let part = again.part(0..len.min(again.len()));
                    write(&mut pages[*n], &mut models[*n], at, part, &pull_up);
                }
            }
            Op::Zero { at, len } => {
                if page.zero(at, len, &lab.zeros, &pull_up).is_ok() {
                    model[at..at + len].fill(Some(0));
                }
            }
            Op::Truncate { len } => {
                if page.truncate(len, &pull_up).is_ok() {
                    model[len..].fill(None);
                }
            }
            Op::Whole => {
                page.make_whole(CopyReason::Compaction, &pull_up).unwrap();
                assert!(page.is_whole());
            }
            Op::Clear => {
                page.clear();
                model.fill(None);
            }
            Op::Clone { to } => {
                pages[to] = pages[*n].clone();
                models[to] = models[*n].clone();
            }
        }
        agree(&pages[*n], &models[*n]);
        assert!(lab.frames.held() + lab.pages.held() <= PAGES * MAX_SEGMENTS);
    }
    counts_agree(&lab, &pages);
    drop(pages);
    lab.assert_nothing_leaked();
}
