//! Rows C1–C8: FIGS. 7 and 8 of row C2, and the least number of descriptors against a
//! search over every way to divide.

use pages::{Arena, ClusterPool, CopyLedger, HeapRegion, PAGE_SIZE, PullUp, RunPool};
use sgl::{
    Chain, Descriptor, Direction, Divider, Element, Joined, Limits, Progress, Refused, Request,
    RequestState,
};
use testkit::Random;

/// Every descriptor of `chain` with its elements, `slots` at most each.
fn all<C: Chain + ?Sized>(
    limits: Limits,
    remote: u64,
    len: u64,
    chain: &C,
    slots: usize,
) -> Result<Vec<(Descriptor, Vec<Element>)>, Refused> {
    let divider = Divider::new(limits).unwrap();
    let mut state = RequestState::new(remote, len);
    let mut out = vec![Element::new(0, 0); slots];
    let mut all = Vec::new();
    while let Some(d) = divider.format(&mut state, chain, &mut out)? {
        all.push((d, out[..d.elements].to_vec()));
    }
    assert!(state.is_formatted());
    let counted = divider.count(&RequestState::new(remote, len), chain, slots);
    assert_eq!(counted, Ok(all.len() as u64), "row C4: the counting pass");
    Ok(all)
}

fn lens(descriptors: &[(Descriptor, Vec<Element>)]) -> Vec<Vec<u64>> {
    descriptors
        .iter()
        .map(|(_, elements)| elements.iter().map(|e| e.len).collect())
        .collect()
}

fn apart(lengths: &[u64]) -> Vec<Element> {
    (1..)
        .zip(lengths)
        .map(|(i, &len)| Element::new(i << 40, len))
        .collect()
}

fn total(chain: &[Element]) -> u64 {
    chain.iter().map(|e| e.len).sum()
}

const MAX_1000: Limits = Limits {
    max_transfer: 1000,
    ..Limits::NONE
};

#[test]
fn c02_fig_7_three_buffers_become_two_descriptors() {
    // 70 goes with 72A, the part of 72 that still fits; 72B with 74.
    let chain = apart(&[600, 700, 500]);
    let all = all(MAX_1000, 5000, 1800, &chain[..], 8).unwrap();
    assert_eq!(lens(&all), [vec![600, 400], vec![300, 500]]);
    assert_eq!((all[0].0.remote, all[1].0.remote), (5000, 6000));
    assert_eq!(
        all[1].1[0].address,
        chain[1].address + 400,
        "72B starts at OFFSET"
    );
}

#[test]
fn c02_fig_8_a_large_buffer_is_divided_and_its_rest_coalesced() {
    let chain = apart(&[1500, 400]);
    let all = all(MAX_1000, 0, 1900, &chain[..], 8).unwrap();
    assert_eq!(lens(&all), [vec![1000], vec![500, 400]]);
}

#[test]
fn c01_adjacent_elements_become_one() {
    let chain = [(100, 50), (150, 50), (200, 7), (300, 3)].map(|(a, l)| Element::new(a, l));
    let all = all(Limits::NONE, 0, 110, &chain[..], 8).unwrap();
    assert_eq!(lens(&all), [vec![107, 3]]);
}

#[test]
fn c01_a_block_device_is_given_whole_blocks() {
    let chain = apart(&[1448, 1448, 1448, 1448, 352]);
    let limits = Limits {
        max_segments: 3,
        block: 512,
        ..Limits::NONE
    };
    let all = all(limits, 512, 6144, &chain[..], 8).unwrap();
    assert_eq!(lens(&all), [vec![1448, 1448, 1200], vec![248, 1448, 352]]);
    assert_eq!(
        Divider::new(limits)
            .unwrap()
            .count(&RequestState::new(0, 6145), &chain[..], 8),
        Err(Refused::PartialBlock)
    );
}

#[test]
fn c03_formatting_stops_and_goes_on_where_it_stopped() {
    let chain = apart(&[600, 700, 500]);
    let divider = Divider::new(MAX_1000).unwrap();
    let mut state = RequestState::new(0, 1800);
    let mut out = [Element::new(0, 0); 8];
    divider
        .format(&mut state, &chain[..], &mut out)
        .unwrap()
        .unwrap();
    // No descriptor is free now. Later, from the kept state and the same chain:
    let mut later = state;
    assert_eq!((later.formatted(), later.remaining()), (1000, 800));
    let d = divider
        .format(&mut later, &chain[..], &mut out)
        .unwrap()
        .unwrap();
    assert_eq!((d.remote, d.len), (1000, 800));
    assert_eq!(divider.format(&mut later, &chain[..], &mut out), Ok(None));
    // The state that was kept is a value: the second can be formatted again.
    assert_eq!(
        divider.format(&mut state, &chain[..], &mut out),
        Ok(Some(d))
    );
}

#[test]
fn c04_progress_is_counted_per_completed_transfer() {
    let chain = apart(&[600, 700, 500]);
    let all = all(MAX_1000, 0, 1800, &chain[..], 8).unwrap();
    let mut progress = Progress::new(all.len() as u64, 1800);
    assert!(!progress.complete(&all[1].0));
    assert_eq!(
        (progress.transfers(), progress.bytes()),
        ((1, 2), (800, 1800))
    );
    assert!(progress.complete(&all[0].0) && progress.is_done());
}

#[test]
fn c05_requests_with_contiguous_remote_ranges_become_one() {
    let chains: Vec<Vec<Element>> = [&[300][..], &[], &[200, 100], &[50], &[60]]
        .map(apart)
        .into();
    let request =
        |direction, remote, i: usize| Request::new(direction, remote, &chains[i][..]).unwrap();
    let requests = [
        request(Direction::Write, 1000, 0),
        request(Direction::Write, 1300, 1),
        request(Direction::Write, 1300, 2),
        request(Direction::Write, 1700, 3),
        request(Direction::Read, 1750, 4),
    ];
    let (first, rest) = Joined::first_of(&requests).unwrap();
    assert_eq!((first.requests().len(), rest.len()), (3, 2));
    let state = first.state();
    let joined = all(Limits::NONE, state.remote(), state.len(), &first, 8).unwrap();
    assert_eq!(
        (joined[0].0.remote, lens(&joined)),
        (1000, vec![vec![300, 200, 100]])
    );
    // A gap, or the other direction, ends it.
    let (second, rest) = Joined::first_of(rest).unwrap();
    assert_eq!((second.requests().len(), rest.len()), (1, 1));
}

/// All formatted before the first completes, or each in the same memory when the
/// one before is complete: the descriptors are the same, in both directions.
#[test]
fn c06_reads_and_writes_are_formatted_before_or_after_earlier_transfers() {
    let chain = apart(&[600, 700, 500, 100]);
    let before = all(MAX_1000, 5000, 1900, &chain[..], 8).unwrap();
    let divider = Divider::new(MAX_1000).unwrap();
    for direction in [Direction::Read, Direction::Write] {
        let request = Request::new(direction, 5000, &chain[..]).unwrap();
        let mut state = request.state();
        let count = divider.count(&state, request.chain(), 8).unwrap();
        let mut progress = Progress::new(count, request.len());
        let mut descriptor = [Element::new(0, 0); 8];
        let mut after = Vec::new();
        while let Some(d) = divider
            .format(&mut state, request.chain(), &mut descriptor)
            .unwrap()
        {
            assert!(!progress.is_done(), "the count was known before the first");
            after.push((d, descriptor[..d.elements].to_vec()));
            // Complete: its memory is used again for the next.
            progress.complete(&d);
            descriptor.fill(Element::new(0, 0));
        }
        assert!(progress.is_done());
        assert_eq!(after, before);
    }
}

#[test]
fn c08_requests_beyond_4_gib_work() {
    let chain = apart(&[5 << 32, 3, (7 << 32) - 3]);
    let limits = Limits {
        max_transfer: (4 << 30) - 512,
        block: 512,
        ..Limits::NONE
    };
    let all = all(limits, 1 << 45, 12 << 32, &chain[..], 4).unwrap();
    assert_eq!(all.iter().map(|(d, _)| d.len).sum::<u64>(), 12 << 32);
    assert_eq!(all.len() as u64, (12u64 << 32).div_ceil((4 << 30) - 512));
    let last = &all[all.len() - 1].0;
    assert_eq!(last.remote + last.len, (1 << 45) + (12 << 32));
}

#[test]
fn c07_a_page_run_is_a_chain_and_its_null_parts_are_refused() {
    let arena = Arena::new(HeapRegion::new(12));
    let frames = ClusterPool::carve(&arena, 8, 2048).unwrap();
    let pages = ClusterPool::carve(&arena, 4, PAGE_SIZE).unwrap();
    let ledger = CopyLedger::new();
    let runs = RunPool::new(1, 8192);
    let mut run = runs.take().unwrap();
    run.begin(4096, 8192).unwrap();
    let mut at = 0;
    while at < 8192 {
        let n = 1448.min(8192 - at);
        let slice = frames.alloc().unwrap().freeze().slice(66..66 + n);
        run.place(at, slice, &PullUp::new(&pages, &ledger)).unwrap();
        at += n;
    }
    let limits = Limits {
        block: 512,
        max_segments: 16,
        ..Limits::NONE
    };
    let formatted = all(limits, 4096, 8192, &*run, 16).unwrap();
    // The frame that lies over the border of two pages is one element.
    assert_eq!(lens(&formatted), [vec![1448, 1448, 1448, 1448, 1448, 952]]);
    run.begin(0, 512).unwrap();
    assert_eq!(all(limits, 0, 512, &*run, 16), Err(Refused::Null { at: 0 }));
}

#[test]
fn z09_a_prp_device_is_given_edges_at_memory_pages_or_refuses() {
    let limits = Limits {
        block: 512,
        inner_edge: 4096,
        max_transfer: 12288,
        ..Limits::NONE
    };
    // Starts inside a page, ends inside one, edges between at page borders.
    let pages = [(0x1200, 0xe00), (0x8000, 0x1000), (0xa000, 0x200)];
    let chain = pages.map(|(a, l)| Element::new(a, l));
    let formatted = all(limits, 0, total(&chain), &chain[..], 8).unwrap();
    assert_eq!(lens(&formatted), [vec![0xe00, 0x1000, 0x200]]);
    // Two pieces of one block that meet inside a page: no division helps.
    let chain = [(0x1000, 300), (0x5000, 212)].map(|(a, l)| Element::new(a, l));
    let refused = all(limits, 0, 512, &chain[..], 8);
    assert_eq!(refused, Err(Refused::InnerEdge { at: 0 }));
}

/// Whether `chain`'s bytes `range` may be one descriptor: by the letter of
/// `Limits`, one byte at a time.
fn may_be_one(
    limits: &Limits,
    bytes: &[u64],
    remote: u64,
    range: std::ops::Range<usize>,
    slots: usize,
) -> bool {
    let (start, end) = (remote + range.start as u64, remote + range.end as u64);
    let len = end - start;
    if len > limits.max_transfer || start % limits.block != 0 || end % limits.block != 0 {
        return false;
    }
    if limits.boundary > 0 && start / limits.boundary != (end - 1) / limits.boundary {
        return false;
    }
    // Fewest elements that end at each byte, trying every length of the last.
    let slots = slots.min(limits.max_segments as usize);
    let n = range.len();
    let mut fewest = vec![usize::MAX; n + 1];
    fewest[0] = 0;
    for to in 1..=n {
        for from in (0..to).rev() {
            let (first, last) = (bytes[range.start + from], bytes[range.start + to - 1]);
            let size = (to - from) as u64;
            if last - first != size - 1 && last.wrapping_sub(first) != size - 1 {
                break;
            }
            let aligned =
                first.is_multiple_of(limits.alignment) && size.is_multiple_of(limits.alignment);
            let edge = |address: u64| address.is_multiple_of(limits.inner_edge);
            let edges = (from == 0 || edge(first)) && (to == n || edge(last + 1));
            if size <= limits.max_element && aligned && edges && fewest[from] != usize::MAX {
                fewest[to] = fewest[to].min(fewest[from] + 1);
            }
        }
    }
    fewest[n] <= slots
}

#[test]
fn c02_no_division_has_fewer_descriptors() {
    let mut random = Random::new(1);
    let mut below = |n: u64| random.below(n);
    let (mut divided, mut refused) = (0, 0);
    for case in 0..20_000 {
        let block = [1, 1, 2, 4][below(4) as usize];
        let limits = Limits {
            max_transfer: block + below(12),
            max_segments: 1 + below(4) as u32,
            max_element: [u64::MAX, 4 + below(6)][below(2) as usize],
            block,
            alignment: [1, 1, 1, 2][below(4) as usize],
            inner_edge: [1, 1, 1, 4][below(4) as usize],
            boundary: [0, 0, 8][below(3) as usize],
        };
        let slots = 1 + below(4) as usize;
        let mut address = 64;
        let mut chain = Vec::new();
        for _ in 0..1 + below(6) {
            // Side by side, or apart; on even addresses more often than not.
            address += [0, 2, 4, 7, 8][below(5) as usize];
            let len = [1, 2, 4, 6, 8][below(5) as usize];
            chain.push(Element::new(address, len));
            address += len;
        }
        let len = total(&chain) - total(&chain) % block;
        if len == 0 {
            continue;
        }
        let remote = block * below(8);
        let bytes: Vec<u64> = chain.iter().flat_map(|e| e.address..e.end()).collect();
        // Fewest descriptors that end at each byte.
        let mut fewest = vec![None; len as usize + 1];
        fewest[0] = Some(0);
        for to in 1..=len as usize {
            fewest[to] = (0..to)
                .filter(|&from| fewest[from].is_some())
                .filter(|&from| may_be_one(&limits, &bytes, remote, from..to, slots))
                .filter_map(|from| Some(fewest[from]? + 1))
                .min();
        }
        match all(limits, remote, len, &chain[..], slots) {
            Ok(descriptors) => {
                divided += usize::from(descriptors.len() > 1);
                let n = descriptors.len();
                assert_eq!(
                    Some(n),
                    fewest[len as usize],
                    "case {case}: {limits:?} {chain:?}"
                );
                let mut at = 0;
                for (d, elements) in descriptors {
                    assert_eq!(d.remote, remote + at as u64);
                    let covered: Vec<u64> =
                        elements.iter().flat_map(|e| e.address..e.end()).collect();
                    assert_eq!(covered, bytes[at..at + d.len as usize], "case {case}");
                    at += d.len as usize;
                }
            }
            Err(why) => {
                refused += 1;
                assert_eq!(
                    fewest[len as usize], None,
                    "case {case}: {why} {limits:?} {chain:?}"
                );
            }
        }
    }
    assert!(divided > 3000 && refused > 1000, "{divided} {refused}");
}
