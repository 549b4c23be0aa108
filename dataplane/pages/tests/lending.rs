//! Segments lent to another shard and returned.

mod common;

use common::Lab;
use pages::{BorrowedPool, LentTable, Segment};

#[test]
fn a_borrowed_segment_is_counted_here_and_returned_after_its_last_handle() {
    let lab = Lab::new(4, 2048, 1);
    let mut lent = LentTable::new(7, 2);
    let borrowed = BorrowedPool::new(2);
    let segment = lent.lend(lab.data_with_room(5, 1000), 0).unwrap();
    assert_eq!((segment.lender(), segment.len(), lent.len()), (7, 1000, 1));
    let slice = borrowed.borrow(segment).unwrap();
    assert_eq!(slice.bytes(), [5; 1000]);
    let again = slice.clone();
    drop(slice);
    assert!(borrowed.next_return().is_none() && borrowed.held() == 1);
    drop(again);
    let back = borrowed.next_return().unwrap();
    assert_eq!(
        (back.lender(), borrowed.held(), lab.frames.held()),
        (7, 0, 1)
    );
    lent.take_back(back);
    assert!(lent.is_empty());
    lab.assert_nothing_leaked();
}

#[test]
fn z08_nothing_is_ever_copied_behind_borrowed_bytes() {
    let lab = Lab::new(8, 2048, 4);
    let mut lent = LentTable::new(0, 8);
    let borrowed = BorrowedPool::new(8);
    let mut page = pages::LogicalPage::new();
    for i in 0..6 {
        let segment = lent.lend(lab.data_with_room(i, 10), 0).unwrap();
        let segment = Segment::data(borrowed.borrow(segment).unwrap());
        page.write(usize::from(i) * 10, segment, &lab.pull_up())
            .unwrap();
    }
    // The lender's clusters end where they ended; a page of this shard took the copies.
    assert!(lab.pages.held() == 1 && page.is_valid(0..60));
    drop(page);
    while let Some(back) = borrowed.next_return() {
        lent.take_back(back);
    }
    lab.assert_nothing_leaked();
}

#[test]
fn segments_come_back_when_too_many_are_lent_or_borrowed() {
    let lab = Lab::new(4, 2048, 1);
    let mut lent = LentTable::new(0, 2);
    let borrowed = BorrowedPool::new(1);
    let first = lent.lend(lab.data(1, 10), 0).unwrap();
    let second = lent.lend(lab.data(2, 10), 0).unwrap();
    let third = lent.lend(lab.data(3, 10), 0).unwrap_err();
    assert_eq!(third.len(), 10);
    assert!(lent.lend(Segment::null(10), 0).is_err());
    let slice = borrowed.borrow(first).unwrap();
    let second = borrowed.borrow(second).unwrap_err();
    drop(slice);
    let back = borrowed.next_return().unwrap();
    lent.take_back(back);
    assert_eq!(borrowed.borrow(second).unwrap().bytes(), [2; 10]);
}

/// Memory that was lent and not returned is kept for good, not freed.
#[test]
fn a_lender_that_ends_first_leaves_its_bytes_in_place() {
    let borrowed = BorrowedPool::new(1);
    let slice = {
        let lab = Lab::new(4, 2048, 1);
        let mut lent = LentTable::new(0, 1);
        let segment = lent.lend(lab.data(9, 100), 0).unwrap();
        borrowed.borrow(segment).unwrap()
    };
    assert_eq!(slice.bytes(), [9; 100]);
}
