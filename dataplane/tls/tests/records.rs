//! Records, sealed and opened, in any cut; and what is refused.

mod support;

use pages::{Chunk, CopyReason, Inline, PAGE_SIZE, Slice};
use proptest::prelude::*;
use support::{Lab, cut, drain, established, feed, pair, pattern, seal};
use tls::{
    Alert, Failure, Limits, Next, Opener, PLAINTEXT_LEN_MAX, Place, Room, Sealer, Side, Suite,
};

const SUITES: [Suite; 2] = Suite::ALL;

fn suites() -> impl Strategy<Value = Suite> {
    prop::sample::select(&SUITES[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_of_the_stream_gives_the_same_plaintext(
        suite in suites(),
        lens in prop::collection::vec(0usize..20_000, 1..6),
        cuts in prop::collection::vec(1usize..3000, 1..20),
    ) {
        let lab = Lab::new();
        let (mut sealer, mut opener) = pair(suite);
        let (mut stream, mut sent) = (Vec::new(), Vec::new());
        for len in lens {
            let bytes = pattern(len);
            stream.extend(seal(&mut sealer, &lab, &bytes));
            sent.extend(bytes);
        }
        let opened = feed(&mut opener, &lab, cut(&lab, &stream, &cuts));
        prop_assert_eq!(opened.plain, sent);
        prop_assert_eq!(opened.end, None);
        prop_assert_eq!(lab.ledger.bytes_copied(CopyReason::Open), 0);
        prop_assert_eq!(lab.ledger.bytes_copied(CopyReason::Seal), 0);
        drop((sealer, opener));
        prop_assert_eq!((lab.clusters.held(), lab.pages.held()), (0, 0));
    }

    #[test]
    fn a_flipped_bit_anywhere_ends_it_and_nothing_comes_out(
        suite in suites(),
        len in 0usize..9000,
        cuts in prop::collection::vec(1usize..3000, 1..8),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let lab = Lab::new();
        let (mut sealer, mut opener) = pair(suite);
        let mut stream = seal(&mut sealer, &lab, &pattern(len + 1));
        let at = at.index(stream.len());
        stream[at] ^= 1 << bit;
        let opened = feed(&mut opener, &lab, cut(&lab, &stream, &cuts));
        prop_assert_eq!(opened.plain, b"");
        match (at, opened.end) {
            (0, end) => prop_assert_eq!(end, Some(Err(Failure::Ours(Alert::UnexpectedMessage)))),
            // A length that promises more than there is: the record is waited for.
            (3 | 4, None) => {}
            (3 | 4, Some(Err(Failure::Ours(alert)))) => {
                prop_assert!([Alert::RecordOverflow, Alert::BadRecordMac].contains(&alert));
            }
            (_, end) => prop_assert_eq!(end, Some(Err(Failure::Ours(Alert::BadRecordMac)))),
        }
    }

    #[test]
    fn placed_records_are_where_they_are_wanted(
        suite in suites(),
        len in 1usize..17_000,
        cuts in prop::collection::vec(1usize..3000, 1..8),
        head in 0usize..200,
    ) {
        let lab = Lab::new();
        let (mut sealer, mut opener) = pair(suite);
        let sent = pattern(len);
        let stream = seal(&mut sealer, &lab, &sent);
        let mut place = Aligned { lab: &lab, head, hint: Vec::new() };
        let mut plain = Vec::new();
        for slice in cut(&lab, &stream, &cuts) {
            opener.push(slice, lab.memory()).unwrap();
            while let Next::Plain(slice) = opener.next_placed(lab.memory(), &mut place).unwrap() {
                plain.push(slice);
            }
        }
        let bytes: Vec<u8> = plain.iter().flat_map(|slice| slice.bytes().to_vec()).collect();
        prop_assert_eq!(&bytes, &sent);
        prop_assert_eq!(&place.hint[..], &sent[len / (PLAINTEXT_LEN_MAX + 1) * PLAINTEXT_LEN_MAX..][..place.hint.len()]);
        if head > 0 && head < len {
            prop_assert_eq!(plain[0].len(), head.min(len));
            prop_assert_eq!(plain[1].address().as_ptr() as usize % PAGE_SIZE, 0);
        }
        prop_assert_eq!(lab.ledger.bytes_copied(CopyReason::Open), len as u64);
        // Tiny slices are gathered, once.
        prop_assert!(lab.ledger.bytes_copied_total() <= stream.len() as u64);
    }

    #[test]
    fn anything_at_all_is_no_record(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let lab = Lab::new();
        let (_, mut opener) = pair(Suite::Aes128GcmSha256);
        let opened = feed(&mut opener, &lab, cut(&lab, &bytes, &[100]));
        prop_assert_eq!(opened.plain, b"");
        prop_assert!(!matches!(opened.end, Some(Ok(()))));
    }
}

/// `head` bytes of the first record somewhere, and what follows from the start of a page on.
struct Aligned<'a> {
    lab: &'a Lab,
    head: usize,
    hint: Vec<u8>,
}

impl Place for Aligned<'_> {
    fn begin(&mut self, hint: &[u8], len: usize) {
        assert!(hint.len() <= len);
        self.hint = hint.to_vec();
    }

    fn room(&mut self, left: usize) -> Option<Room> {
        let buffer = self.lab.pages.alloc()?;
        let len = match std::mem::take(&mut self.head) {
            0 => PAGE_SIZE.min(left),
            head => head.min(left),
        };
        Some(Room {
            buffer,
            from: 0,
            to: len,
        })
    }
}

#[test]
fn records_are_full_and_lie_where_they_were() {
    let lab = Lab::new();
    let (mut sealer, mut opener) = pair(Suite::Aes128GcmSha256);
    let sent = pattern(40_000);
    let pages: Vec<Slice> = sent.chunks(PAGE_SIZE).map(|part| lab.page(part)).collect();
    let addresses: Vec<_> = pages.iter().map(Slice::address).collect();
    let mut chunks = Vec::new();
    for page in pages {
        sealer.push(page.into(), 0, lab.memory()).unwrap();
        chunks.extend(std::iter::from_fn(|| sealer.next(lab.memory())));
    }
    sealer.flush();
    chunks.extend(std::iter::from_fn(|| sealer.next(lab.memory())));
    let headers: Vec<&[u8]> = (chunks.iter().filter(|chunk| chunk.len() == 5))
        .map(Chunk::bytes)
        .collect();
    assert_eq!(
        headers,
        [
            [23, 3, 3, 0x40, 17],
            [23, 3, 3, 0x40, 17],
            [23, 3, 3, 0x1c, 0x51]
        ]
    );
    let sealed: Vec<_> = chunks
        .iter()
        .filter_map(|chunk| match chunk {
            Chunk::Slice(slice) => Some(slice.address()),
            Chunk::Inline(_) => None,
        })
        .collect();
    // Each page where it was; those that two records share are in two parts.
    assert!(addresses.iter().all(|address| sealed.contains(address)));
    let stream: Vec<u8> = chunks
        .iter()
        .flat_map(|chunk| chunk.bytes().to_vec())
        .collect();
    let slices: Vec<Slice> = cut(&lab, &stream, &[1448]).collect();
    let received: Vec<usize> = slices
        .iter()
        .map(|slice| slice.address().as_ptr() as usize)
        .collect();
    let mut plain = Vec::new();
    for slice in slices {
        opener.push(slice, lab.memory()).unwrap();
        while let Next::Plain(slice) = opener.next(lab.memory()).unwrap() {
            let at = slice.address().as_ptr() as usize;
            assert!(
                received
                    .iter()
                    .any(|from| (*from..*from + 1448).contains(&at))
            );
            plain.extend_from_slice(slice.bytes());
        }
    }
    assert_eq!(plain, sent);
    assert_eq!(lab.ledger.bytes_copied_total(), 0);
    assert_eq!(
        lab.ledger.bytes_copied(CopyReason::Open) + lab.ledger.bytes_copied(CopyReason::Seal),
        0
    );
}

#[test]
fn what_others_have_is_sealed_aside_and_stays() {
    let lab = Lab::new();
    for (suite, own) in SUITES.into_iter().zip([0, 1]) {
        let (mut sealer, mut opener) = pair(suite);
        let before = lab.ledger.bytes_copied(CopyReason::Seal);
        let sent = pattern(PAGE_SIZE);
        let held = lab.page(&sent);
        let others: Vec<Slice> = (0..own).map(|_| held.clone()).collect();
        for part in [0..100, 100..101, 101..PAGE_SIZE] {
            let slice = held.cluster().clone().slice(part);
            sealer.push(slice.into(), own, lab.memory()).unwrap();
        }
        sealer.flush();
        let stream = drain(&mut sealer, &lab);
        assert_eq!(held.bytes(), sent, "what others have does not change");
        assert_eq!(
            lab.ledger.bytes_copied(CopyReason::Seal) - before,
            PAGE_SIZE as u64
        );
        assert_eq!(lab.ledger.bytes_copied_total(), 0);
        assert_eq!(
            feed(&mut opener, &lab, cut(&lab, &stream, &[900])).plain,
            sent
        );
        drop(others);
    }
}

#[test]
fn what_the_caller_has_itself_is_sealed_in_place() {
    let lab = Lab::new();
    let (mut sealer, mut opener) = pair(Suite::Aes256GcmSha384);
    let sent = pattern(PAGE_SIZE);
    let held = lab.page(&sent);
    sealer.push(held.clone().into(), 1, lab.memory()).unwrap();
    sealer.flush();
    let stream = drain(&mut sealer, &lab);
    assert_ne!(held.bytes(), sent);
    assert_eq!(lab.ledger.bytes_copied(CopyReason::Seal), 0);
    assert_eq!(
        feed(&mut opener, &lab, cut(&lab, &stream, &[4000])).plain,
        sent
    );
}

#[test]
fn what_others_have_is_opened_aside_and_stays() {
    let lab = Lab::new();
    for keep in [
        &[0usize][..],
        &[1],
        &[0, 1, 2],
        &[3, 5, 7],
        &[0, 1, 2, 3, 4, 5, 6, 7, 8],
    ] {
        let (mut sealer, mut opener) = pair(Suite::Aes128GcmSha256);
        let sent = pattern(12_000);
        let stream = seal(&mut sealer, &lab, &sent);
        let slices: Vec<Slice> = cut(&lab, &stream, &[1448]).collect();
        let kept: Vec<Slice> = keep.iter().map(|&i| slices[i].clone()).collect();
        let before: Vec<Vec<u8>> = kept.iter().map(|slice| slice.bytes().to_vec()).collect();
        let opened = lab.ledger.bytes_copied(CopyReason::Open);
        assert_eq!(feed(&mut opener, &lab, slices).plain, sent);
        let after: Vec<Vec<u8>> = kept.iter().map(|slice| slice.bytes().to_vec()).collect();
        assert_eq!(before, after, "what others have does not change");
        let bytes: usize = kept.iter().map(Slice::len).sum();
        let opened = lab.ledger.bytes_copied(CopyReason::Open) - opened;
        // All but the header, the last byte and the tag.
        assert!(
            (bytes - 22..=bytes).contains(&(opened as usize)),
            "{opened} of {bytes}"
        );
    }
}

#[test]
fn without_pages_it_waits() {
    let lab = Lab::with_pages(4);
    let (mut sealer, mut opener) = pair(Suite::Aes128GcmSha256);
    let sent = pattern(PAGE_SIZE);
    let held = lab.page(&sent);
    let taken: Vec<_> = std::iter::from_fn(|| lab.pages.alloc()).collect();
    sealer.push(held.clone().into(), 0, lab.memory()).unwrap();
    sealer.flush();
    assert!(sealer.next(lab.memory()).is_none() && !sealer.is_empty());
    let refused = sealer.push(held.clone().into(), 0, lab.memory());
    assert!(refused.is_err(), "what was pushed before is not sealed yet");
    drop(taken);
    let stream = drain(&mut sealer, &lab);
    assert!(sealer.is_empty());
    let slice = lab.slice(&stream);
    let taken: Vec<_> = std::iter::from_fn(|| lab.pages.alloc()).collect();
    opener.push(slice.clone(), lab.memory()).unwrap();
    for _ in 0..2 {
        assert!(matches!(opener.next(lab.memory()), Ok(Next::NoPage)));
    }
    assert!(opener.push(slice.clone(), lab.memory()).is_err());
    drop(taken);
    let Ok(Next::Plain(plain)) = opener.next(lab.memory()) else {
        panic!("there are pages");
    };
    assert_eq!(plain.bytes(), sent);
}

#[test]
fn a_place_without_room_is_asked_again() {
    let lab = Lab::with_pages(8);
    let (mut sealer, mut opener) = pair(Suite::Aes128GcmSha256);
    let sent = pattern(10_000);
    let stream = seal(&mut sealer, &lab, &sent);
    opener.push(lab.slice(&stream), lab.memory()).unwrap();
    let mut taken: Vec<_> = std::iter::from_fn(|| lab.pages.alloc()).collect();
    let mut place = Aligned {
        lab: &lab,
        head: 72,
        hint: Vec::new(),
    };
    let mut plain = Vec::new();
    loop {
        match opener.next_placed(lab.memory(), &mut place).unwrap() {
            Next::NoPage => drop(taken.pop().expect("four pages are enough")),
            Next::Plain(slice) => plain.extend_from_slice(slice.bytes()),
            Next::Wants => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(plain, sent);
    assert_eq!(taken.len(), 4);
}

#[test]
fn tiny_slices_do_not_hold_more_than_a_record_is_worth() {
    let lab = Lab::new();
    let (mut sealer, mut opener) = pair(Suite::Aes128GcmSha256);
    let sent = pattern(2000);
    let stream = seal(&mut sealer, &lab, &sent);
    let mut most = 0;
    let mut plain = Vec::new();
    for &byte in &stream {
        opener.push(lab.slice(&[byte]), lab.memory()).unwrap();
        most = most.max(lab.clusters.held() + lab.pages.held());
        while let Next::Plain(slice) = opener.next(lab.memory()).unwrap() {
            plain.extend_from_slice(slice.bytes());
        }
    }
    assert_eq!(plain, sent);
    assert!(most < 80, "{most}");
    assert!(lab.ledger.bytes_copied(CopyReason::PullUp) < stream.len() as u64);
}

#[test]
fn keys_are_updated_before_the_limit() {
    let lab = Lab::new();
    let limits = Limits {
        update_at: 1600,
        end_at: 2400,
    };
    let established = |side| established(Suite::Aes128GcmSha256, side, 7);
    let mut sealer = Sealer::new(&established(Side::Client)).with_limits(limits);
    let mut opener = Opener::new(&established(Side::Server)).with_limits(limits);
    let mut was_near = false;
    for _ in 0..1000 {
        let stream = seal(&mut sealer, &lab, &pattern(1000));
        let opened = feed(&mut opener, &lab, cut(&lab, &stream, &[1448]));
        assert_eq!((opened.plain.len(), opened.end), (1000, None));
        was_near |= sealer.is_near_limit();
    }
    assert!(was_near);
    // A peer that does not.
    let mut sealer = Sealer::new(&established(Side::Client));
    let mut opener = Opener::new(&established(Side::Server)).with_limits(limits);
    let end = (0..1000).find_map(|_| {
        let stream = seal(&mut sealer, &lab, &pattern(1000));
        feed(&mut opener, &lab, cut(&lab, &stream, &[1448])).end
    });
    assert!(opener.is_near_limit());
    assert_eq!(end, Some(Err(Failure::KeyWornOut)));
    assert_eq!(Failure::KeyWornOut.alert(), Some(Alert::CloseNotify));
}

#[test]
fn a_peer_with_a_limit_gets_no_larger_record() {
    let lab = Lab::new();
    for limit in [64, 65, 1000, 4097, 16_384, 16_385, u16::MAX] {
        let mut established = established(Suite::Aes128GcmSha256, Side::Client, 7);
        established.record_size_limit = Some(limit);
        let mut sealer = Sealer::new(&established);
        let (_, mut opener) = pair(Suite::Aes128GcmSha256);
        let sent = pattern(20_000);
        let stream = seal(&mut sealer, &lab, &sent);
        let mut rest = &stream[..];
        let mut largest = 0;
        while let [_, _, _, high, low, ..] = *rest {
            let len = usize::from(high) << 8 | usize::from(low);
            largest = largest.max(len - 16);
            rest = &rest[5 + len..];
        }
        assert_eq!(largest, usize::from(limit).min(16_385));
        assert_eq!(
            feed(&mut opener, &lab, cut(&lab, &stream, &[1448])).plain,
            sent
        );
    }
}

#[test]
fn no_record_ends_within_a_page_that_is_to_be_whole() {
    let lab = Lab::new();
    for (header, pages, piece) in [
        (40, 1, 1448),
        (47, 32, 1448),
        (7, 9, 900),
        (200, 5, 4096),
        (20, 3, 700),
    ] {
        let (sealer, mut opener) = pair(Suite::Aes128GcmSha256);
        let mut sealer = sealer.with_whole_pages();
        let frame: Vec<u8> = (0..header + pages * PAGE_SIZE)
            .map(|i| (i * 7 + i / 256) as u8)
            .collect();
        let mut stream = Vec::new();
        for _ in 0..5 {
            let (head, payload) = frame.split_at(header);
            let by_value = head
                .chunks(Inline::CAPACITY)
                .map(|part| Chunk::Inline(Inline::new(part).unwrap()));
            // As payload lies in receive clusters: pages begin anywhere in them. One in two of them is somebody else's, too.
            let slices: Vec<_> = payload.chunks(piece).map(|part| lab.slice(part)).collect();
            let others: Vec<_> = slices.iter().step_by(2).cloned().collect();
            for chunk in by_value.chain(slices.into_iter().map(Chunk::Slice)) {
                let mut chunk = Some(chunk);
                while let Some(again) = chunk.take() {
                    chunk = sealer.push(again, 0, lab.memory()).err();
                    while let Some(sealed) = sealer.next(lab.memory()) {
                        stream.extend_from_slice(sealed.bytes());
                    }
                }
            }
            drop(others);
        }
        sealer.flush();
        stream.extend(drain(&mut sealer, &lab));
        let (mut rest, mut at) = (&stream[..], 0);
        while let [_, _, _, high, low, ..] = *rest {
            let len = usize::from(high) << 8 | usize::from(low);
            at += len - 17;
            let payload = (at % frame.len()).saturating_sub(header);
            assert!(
                payload.is_multiple_of(PAGE_SIZE),
                "{header}, {pages}, {piece}: {payload} bytes into the payload"
            );
            rest = &rest[5 + len..];
        }
        assert_eq!(at, 5 * frame.len());
        let opened = feed(&mut opener, &lab, cut(&lab, &stream, &[1448]));
        assert_eq!(opened.plain, frame.repeat(5));
    }
}

#[test]
fn the_last_record_is_an_alert() {
    let lab = Lab::new();
    for (alert, text) in [
        (Alert::CloseNotify, &b"text"[..]),
        (Alert::BadRecordMac, b""),
    ] {
        let (mut sealer, mut opener) = pair(Suite::Aes256GcmSha384);
        let chunk = || Chunk::Inline(Inline::new(b"text").unwrap());
        sealer.push(chunk(), 0, lab.memory()).unwrap();
        sealer.alert(alert);
        sealer.push(chunk(), 0, lab.memory()).unwrap();
        sealer.update_key(true);
        let stream = drain(&mut sealer, &lab);
        sealer.alert(Alert::InternalError);
        assert!(sealer.next(lab.memory()).is_none() && sealer.is_empty());
        let opened = feed(&mut opener, &lab, cut(&lab, &stream, &[20]));
        assert_eq!(opened.plain, text);
        let end = match alert {
            Alert::CloseNotify => Ok(()),
            alert => Err(Failure::Theirs(alert as u8)),
        };
        assert_eq!(opened.end, Some(end));
    }
}

#[test]
fn both_sides_take_new_keys() {
    let lab = Lab::new();
    let (mut sealer, mut opener) = pair(Suite::Aes256GcmSha384);
    let mut stream = seal(&mut sealer, &lab, b"one");
    sealer.update_key(false);
    stream.extend(seal(&mut sealer, &lab, b"two"));
    sealer.update_key(true);
    stream.extend(seal(&mut sealer, &lab, b"three"));
    let opened = feed(&mut opener, &lab, cut(&lab, &stream, &[50]));
    assert_eq!(
        (&opened.plain[..], opened.key_updates),
        (&b"onetwothree"[..], 1)
    );
}

#[test]
fn nothing_shows_a_key() {
    let (sealer, opener) = pair(Suite::Aes128GcmSha256);
    let established = established(Suite::Aes128GcmSha256, Side::Client, 7);
    let shown = format!("{sealer:?} {opener:?} {established:?}");
    assert!(
        shown.contains("Secret") && !shown.contains("7, 7"),
        "{shown}"
    );
}
