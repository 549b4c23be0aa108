//! Segment merge (row Z7, FIGS. 7A–7D), kinds (row Z5) and counts (row Z4).

mod common;

use common::Lab;
use pages::{LogicalPage, NullRead, PAGE_SIZE, PageState, Refusal, Segment, SegmentKind};

/// The page's segments as <fill, length>; holes are `0`, NULL is `None`.
fn view(page: &LogicalPage) -> Vec<(Option<u8>, usize)> {
    page.segments()
        .iter()
        .map(|s| (s.bytes().map(|b| b[0]), s.len()))
        .collect()
}

/// A page that is `C2` throughout, and a segment of `C1` to lay over it.
fn overlay(offset: usize, len: usize) -> (Lab, LogicalPage) {
    let lab = Lab::new(8, PAGE_SIZE, 2);
    let mut page = LogicalPage::new();
    let whole = lab.pages.alloc().unwrap();
    let mut whole = whole;
    whole.fill(2);
    let c2 = Segment::data(whole.freeze().slice(0..PAGE_SIZE));
    page.write(0, c2, &lab.pull_up()).unwrap();
    page.write(offset, lab.data(1, len), &lab.pull_up())
        .unwrap();
    (lab, page)
}

#[test]
fn z07_fig_7a_a_segment_that_covers_another_replaces_it() {
    let lab = Lab::new(4, PAGE_SIZE, 1);
    let mut page = LogicalPage::new();
    page.write(1000, lab.data(2, 500), &lab.pull_up()).unwrap();
    page.write(900, lab.data(1, 700), &lab.pull_up()).unwrap();
    assert_eq!(view(&page), [(None, 900), (Some(1), 700), (None, 2496)]);
    assert_eq!(lab.frames.held(), 1, "the covered cluster is free");
    // Exactly the same range, and the whole page.
    page.write(900, lab.data(3, 700), &lab.pull_up()).unwrap();
    assert_eq!(view(&page), [(None, 900), (Some(3), 700), (None, 2496)]);
    page.zero(0, PAGE_SIZE, &lab.zeros, &lab.pull_up()).unwrap();
    assert_eq!(view(&page), [(Some(0), PAGE_SIZE)]);
    assert_eq!(lab.frames.held(), 0);
}

#[test]
fn z07_fig_7b_a_segment_over_the_head_leaves_the_tail() {
    let (lab, page) = overlay(0, 1000);
    assert_eq!(view(&page), [(Some(1), 1000), (Some(2), 3096)]);
    assert_eq!(lab.ledger.bytes_copied_total(), 0);
}

#[test]
fn z07_fig_7c_a_segment_over_the_tail_leaves_the_head() {
    let (lab, page) = overlay(3000, 1096);
    assert_eq!(view(&page), [(Some(2), 3000), (Some(1), 1096)]);
    assert_eq!(lab.ledger.bytes_copied_total(), 0);
}

#[test]
fn z07_fig_7d_a_segment_in_the_middle_makes_three_of_one() {
    let (lab, page) = overlay(1000, 1);
    assert_eq!(
        view(&page),
        [(Some(2), 1000), (Some(1), 1), (Some(2), 3095)]
    );
    assert_eq!(lab.ledger.bytes_copied_total(), 0);
}

#[test]
fn z07_a_segment_over_the_border_of_two_takes_from_both() {
    let lab = Lab::new(4, PAGE_SIZE, 1);
    let mut page = LogicalPage::new();
    page.write(0, lab.data(1, 1000), &lab.pull_up()).unwrap();
    page.write(1000, lab.data(2, 1000), &lab.pull_up()).unwrap();
    page.write(500, lab.data(3, 1000), &lab.pull_up()).unwrap();
    let expected = [
        (Some(1), 500),
        (Some(3), 1000),
        (Some(2), 500),
        (None, 2096),
    ];
    assert_eq!(view(&page), expected);
    assert_eq!(lab.ledger.bytes_copied_total(), 0);
}

#[test]
fn z07_bytes_that_follow_in_memory_too_stay_one_segment() {
    let lab = Lab::new(4, PAGE_SIZE, 1);
    let frame = lab.cluster(66, &[7; 1400], None).slice(66..1466);
    let mut page = LogicalPage::new();
    // In order, out of order, and the gap between: three parts of one frame.
    for (at, range) in [(0, 0..400), (900, 900..1400), (400, 400..900)] {
        let part = Segment::data(frame.clone()).part(range);
        page.write(at, part, &lab.pull_up()).unwrap();
    }
    assert_eq!(view(&page), [(Some(7), 1400), (None, 2696)]);
}

#[test]
fn z07_holes_and_null_are_merged_over_like_data() {
    let lab = Lab::new(4, PAGE_SIZE, 1);
    let mut page = LogicalPage::new();
    page.zero(0, 3000, &lab.zeros, &lab.pull_up()).unwrap();
    page.write(1000, lab.data(1, 500), &lab.pull_up()).unwrap();
    let expected = [
        (Some(0), 1000),
        (Some(1), 500),
        (Some(0), 1500),
        (None, 1096),
    ];
    assert_eq!(view(&page), expected);
    page.zero(500, 1000, &lab.zeros, &lab.pull_up()).unwrap();
    assert_eq!(view(&page), [(Some(0), 3000), (None, 1096)]);
    page.write(2900, lab.data(2, 200), &lab.pull_up()).unwrap();
    assert_eq!(view(&page), [(Some(0), 2900), (Some(2), 200), (None, 996)]);
}

#[test]
fn z05_a_page_starts_as_null_and_null_is_refused_on_read_and_write() {
    let lab = Lab::new(4, PAGE_SIZE, 1);
    let mut page = LogicalPage::new();
    assert_eq!(view(&page), [(None, PAGE_SIZE)]);
    assert_eq!(page.segments()[0].kind(), SegmentKind::Null);
    assert_eq!(page.read(0..1).err(), Some(NullRead { at: 0 }));
    let refused = page.write(0, Segment::null(8), &lab.pull_up()).unwrap_err();
    assert_eq!(refused.reason, Refusal::Null);
    page.write(100, lab.data(1, 100), &lab.pull_up()).unwrap();
    assert!(page.is_valid(100..200) && !page.is_valid(99..200));
    assert_eq!(page.read(150..300).err(), Some(NullRead { at: 200 }));
    assert_eq!(page.read(100..200).unwrap().count(), 1);
}

#[test]
fn z05_the_page_of_zeros_is_shared_and_has_no_writable_handle() {
    let lab = Lab::new(4, PAGE_SIZE, 1);
    let mut pages: Vec<_> = (0..10).map(|_| LogicalPage::new()).collect();
    for page in &mut pages {
        page.zero(0, PAGE_SIZE, &lab.zeros, &lab.pull_up()).unwrap();
    }
    let structure = lab.arena.page(lab.zeros.page_at(0));
    assert_eq!(
        (structure.references(), structure.state()),
        (10, PageState::Zeros)
    );
    assert_eq!(
        lab.frames.held() + lab.pages.held(),
        0,
        "holes hold no memory"
    );
    // A pull-up next to zeros does not write into them.
    for (i, page) in pages.iter_mut().enumerate() {
        for at in [1, 1000, 2000] {
            page.write(at, lab.data(i as u8, 1), &lab.pull_up())
                .unwrap_or_default();
        }
        page.clear();
    }
    assert!(lab.zeros.bytes().iter().all(|&b| b == 0));
}

#[test]
fn z05_truncation_makes_the_tail_null() {
    let lab = Lab::new(8, PAGE_SIZE, 1);
    let mut page = LogicalPage::new();
    page.write(0, lab.data(1, 1000), &lab.pull_up()).unwrap();
    page.write(1000, lab.data(2, 1000), &lab.pull_up()).unwrap();
    page.truncate(1500, &lab.pull_up()).unwrap();
    assert_eq!(view(&page), [(Some(1), 1000), (Some(2), 500), (None, 2596)]);
    page.truncate(0, &lab.pull_up()).unwrap();
    assert_eq!(view(&page), [(None, PAGE_SIZE)]);
    assert_eq!(lab.frames.held(), 0);
}

#[test]
fn z13_valid_hole_and_invalid_bytes_stand_side_by_side_without_a_copy() {
    let lab = Lab::new(4, PAGE_SIZE, 1);
    let mut page = LogicalPage::new();
    page.write(0, lab.data(1, 512), &lab.pull_up()).unwrap();
    page.zero(512, 1024, &lab.zeros, &lab.pull_up()).unwrap();
    let kinds: Vec<_> = page.segments().iter().map(Segment::kind).collect();
    assert_eq!(
        kinds,
        [SegmentKind::Data, SegmentKind::Zero, SegmentKind::Null]
    );
    assert_eq!(lab.ledger.bytes_copied_total(), 0);
}

#[test]
fn z04_fig_3b_counts_logical_pages_and_not_segments() {
    // Physical pages 52a and 52b, two clusters each.
    let lab = Lab::new(4, 2048, 1);
    let segments: Vec<Segment> = (0..4).map(|fill| lab.data(fill, 1400)).collect();
    let [a1, a2, b1, b2] = <[Segment; 4]>::try_from(segments).unwrap();
    let count = |segment: &Segment| lab.arena.page(segment.page().unwrap()).references();
    assert_eq!(a1.page(), a2.page());
    assert_eq!(b1.page(), b2.page());

    // 50a refers to both clusters of 52a and to one of 52b; 50b to the other.
    let mut page_50a = LogicalPage::new();
    page_50a.write(0, a1.clone(), &lab.pull_up()).unwrap();
    page_50a.write(1400, a2.clone(), &lab.pull_up()).unwrap();
    page_50a
        .write(2800, b1.part(0..1296), &lab.pull_up())
        .unwrap();
    let mut page_50b = LogicalPage::new();
    page_50b.write(0, b2.clone(), &lab.pull_up()).unwrap();
    assert_eq!((count(&a1), count(&b1)), (1, 2), "56a is 1 and 56b is 2");

    // One of two segments gone is still a reference; both gone is none.
    page_50a
        .write(0, Segment::zero(&lab.zeros, 1400), &lab.pull_up())
        .unwrap();
    assert_eq!((count(&a1), count(&b1)), (1, 2));
    page_50a
        .zero(1400, 1400, &lab.zeros, &lab.pull_up())
        .unwrap();
    assert_eq!((count(&a1), count(&b1)), (0, 2));
    drop(page_50b);
    assert_eq!(count(&b1), 1);
    let copy = page_50a.clone();
    assert_eq!(count(&b1), 2);
    drop((page_50a, copy));
    assert_eq!(count(&b1), 0);
}

#[test]
fn z02_a_page_structure_knows_whether_its_data_is_valid() {
    let lab = Lab::new(2, 2048, 1);
    let (first, second) = (lab.data(1, 100), lab.data(2, 100));
    let state = || lab.arena.page(pages::PageIndex(0)).state();
    assert_eq!(state(), PageState::Valid);
    drop(first);
    assert_eq!(state(), PageState::Valid, "its other cluster is held");
    drop(second);
    assert_eq!(state(), PageState::Invalid);
}

#[test]
fn z07_a_view_of_a_part_of_a_page_takes_nothing_outside() {
    let lab = Lab::new(4, PAGE_SIZE, 1);
    let mut page = LogicalPage::covering(512..1024);
    let refused = page
        .write(1000, lab.data(1, 100), &lab.pull_up())
        .unwrap_err();
    assert_eq!(
        (refused.reason, refused.segment.len()),
        (Refusal::Outside, 100)
    );
    let refused = page
        .write(400, refused.segment, &lab.pull_up())
        .unwrap_err();
    page.write(600, refused.segment, &lab.pull_up()).unwrap();
    assert_eq!(view(&page), [(None, 88), (Some(1), 100), (None, 324)]);
    assert_eq!(page.read(0..600).err(), Some(NullRead { at: 0 }));
    assert!(!page.is_valid(600..1100) && page.is_valid(600..700));
}

/// Every two ranges of a page of eight bytes, in both orders of arrival, data
/// and holes, over nothing, holes and data: so every case of the figures.
#[test]
fn z07_every_overlap_of_two_segments_in_both_orders() {
    const SIZE: usize = 8;
    const HOLE: Option<u8> = Some(0);
    let lab = Lab::new(8, PAGE_SIZE, 2);
    let ranges = || (0..SIZE).flat_map(|from| (from + 1..=SIZE).map(move |to| from..to));
    let lay = |page: &mut LogicalPage, fill: u8, range: &std::ops::Range<usize>| match fill {
        0 => (page.zero(range.start, range.len(), &lab.zeros, &lab.pull_up())).is_ok(),
        _ => (page.write(range.start, lab.data(fill, range.len()), &lab.pull_up())).is_ok(),
    };
    let mut cases = 0;
    for base in [None, HOLE, Some(9)] {
        for (first, second) in ranges().flat_map(|a| ranges().map(move |b| (a.clone(), b))) {
            for (a, b) in [(1, 2), (1, 0), (0, 2), (0, 0)] {
                let mut page = LogicalPage::covering(0..SIZE);
                assert!(base.is_none_or(|fill| lay(&mut page, fill, &(0..SIZE))));
                let mut model = [base; SIZE];
                let before = lab.ledger.bytes_copied_total();
                assert!(lay(&mut page, a, &first), "three segments at most");
                model[first.clone()].fill(Some(a));
                let laid = lay(&mut page, b, &second);
                let mut both = model;
                both[second.clone()].fill(Some(b));
                let runs = both.chunk_by(|x, y| x == y);
                let runs: Vec<_> = runs.map(|run| (run[0], run.len())).collect();
                let copied = lab.ledger.bytes_copied_total() - before;
                let case = format!("{a} at {first:?}, {b} at {second:?} over {base:?}");
                if runs.len() <= 4 {
                    assert!(laid && copied == 0, "{case}");
                    assert_eq!(view(&page), runs, "{case}");
                } else if laid {
                    assert!(page.segments().len() <= 4 && copied > 0, "{case}");
                    let byte = |s: &Segment, i| s.bytes().map(|bytes| bytes[i]);
                    let of = |s| (0..Segment::len(s)).map(move |i| byte(s, i));
                    let bytes: Vec<_> = page.segments().iter().flat_map(of).collect();
                    assert_eq!(bytes, both, "{case}");
                } else {
                    // Gaps that do not exist cannot be copied over (row Z8).
                    assert!(base.is_none() && copied == 0, "{case}");
                }
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 3 * 36 * 36 * 4);
    lab.assert_nothing_leaked();
}
