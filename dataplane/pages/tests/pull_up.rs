//! Pull-up (row Z8): the least copying, lowest offsets first, only into free space.

mod common;

use std::collections::{BTreeMap, HashMap};

use common::{Lab, Random};
use pages::{CopyReason, LogicalPage, PAGE_SIZE, Refusal, Segment};

fn lens(page: &LogicalPage) -> Vec<usize> {
    page.segments().iter().map(Segment::len).collect()
}

fn bytes(page: &LogicalPage) -> Vec<Option<u8>> {
    page.segments()
        .iter()
        .flat_map(|s| match s.bytes() {
            Some(bytes) => bytes.iter().copied().map(Some).collect(),
            None => vec![None; s.len()],
        })
        .collect()
}

/// Four adjacent segments of the given lengths from 0, the rest NULL.
fn four(lab: &Lab, lengths: [usize; 4], room: bool) -> LogicalPage {
    let total = lengths.iter().sum::<usize>();
    let mut page = LogicalPage::covering(0..total);
    let mut at = 0;
    for (i, len) in lengths.into_iter().enumerate() {
        let segment = match room {
            true => lab.data_with_room(i as u8 + 1, len),
            false => lab.data(i as u8 + 1, len),
        };
        page.write(at, segment, &lab.pull_up()).unwrap();
        at += len;
    }
    page
}

#[test]
fn z08_four_segments_are_not_touched_and_a_fifth_copies_the_least() {
    let lab = Lab::new(8, 2048, 2);
    let mut page = four(&lab, [1000, 100, 900, 1000], true);
    assert_eq!(lab.ledger.bytes_copied_total(), 0);
    // One byte over the end of the last: of the five, the second has the fewest
    // bytes to copy behind the one before it, except for the new one, before
    // which there is no free space.
    page.write(2999, lab.data_with_room(9, 1), &lab.pull_up())
        .unwrap();
    assert_eq!(lens(&page), [1100, 900, 999, 1]);
    assert_eq!(lab.ledger.bytes_copied(CopyReason::PullUp), 100);
    assert_eq!(lab.pages.held(), 0);
}

#[test]
fn z08_the_copied_bytes_go_behind_the_segment_before_them() {
    let lab = Lab::new(8, 2048, 2);
    let mut page = four(&lab, [100, 200, 300, 400], true);
    let stays = page.segments()[0].address();
    page.write(400, lab.data_with_room(9, 10), &lab.pull_up())
        .unwrap();
    // 100 200 | 100 10 190 | 400: ten bytes are copied behind the first part of
    // the third; its tail would be next. The first two are where they were.
    assert_eq!(page.segments()[0].address(), stays);
    assert_eq!(page.segments().len(), 4);
    assert_eq!(
        bytes(&page)[395..415],
        [vec![Some(3); 5], vec![Some(9); 10], vec![Some(3); 5]].concat()
    );
}

#[test]
fn z08_among_equals_the_lowest_offsets_are_filled_first() {
    let lab = Lab::new(8, 2048, 2);
    let mut page = four(&lab, [10, 10, 10, 20], true);
    page.write(40, lab.data_with_room(9, 10), &lab.pull_up())
        .unwrap();
    assert_eq!(
        lens(&page),
        [20, 10, 10, 10],
        "the second went behind the first"
    );
    assert_eq!(lab.ledger.bytes_copied(CopyReason::PullUp), 10);
    assert_eq!(lab.pages.held(), 0, "no fresh page was needed");
}

#[test]
fn z08_without_free_space_a_fresh_page_takes_the_two_smallest_neighbours() {
    let lab = Lab::new(8, 2048, 2);
    let mut page = four(&lab, [1000, 30, 20, 1000], false);
    page.write(2000, lab.data(9, 50), &lab.pull_up()).unwrap();
    assert_eq!(lens(&page), [1000, 50, 950, 50]);
    assert_eq!(lab.ledger.bytes_copied(CopyReason::PullUp), 50);
    assert_eq!(lab.pages.held(), 1);
}

#[test]
fn z08_one_byte_at_a_time_pins_at_most_four_clusters() {
    let lab = Lab::new(16, 2048, 4);
    let mut page = LogicalPage::new();
    for at in 0..PAGE_SIZE {
        page.write(at, lab.data_with_room(at as u8, 1), &lab.pull_up())
            .unwrap();
        assert!(lab.frames.held() + lab.pages.held() <= 4);
    }
    assert!(page.is_valid(0..PAGE_SIZE));
    let expected: Vec<_> = (0..PAGE_SIZE).map(|at| Some(at as u8)).collect();
    assert_eq!(bytes(&page), expected);
    // Each byte was copied at most a few times, not once for every byte behind it.
    assert!(lab.ledger.bytes_copied_total() < 4 * PAGE_SIZE as u64);
    drop(page);
    lab.assert_nothing_leaked();
}

#[test]
fn z08_gaps_that_no_copying_can_close_are_refused_and_change_nothing() {
    let lab = Lab::new(16, 2048, 4);
    let mut page = LogicalPage::new();
    page.write(100, lab.data(1, 10), &lab.pull_up()).unwrap();
    let error = page
        .write(200, lab.data(2, 10), &lab.pull_up())
        .unwrap_err();
    assert_eq!(
        (error.reason, error.segment.len()),
        (Refusal::TooFragmented, 10)
    );
    assert_eq!(lens(&page), [100, 10, 3986]);
    drop((page, error));
    lab.assert_nothing_leaked();
}

#[test]
fn z08_without_a_page_the_write_is_refused_and_the_segment_comes_back() {
    let lab = Lab::new(8, 2048, 0);
    let mut page = four(&lab, [1000, 30, 20, 1000], false);
    let error = page
        .write(2000, lab.data(9, 50), &lab.pull_up())
        .unwrap_err();
    assert_eq!(
        (error.reason, error.segment.len()),
        (Refusal::OutOfPages, 50)
    );
    assert_eq!(lens(&page), [1000, 30, 20, 1000]);
    assert_eq!(lab.ledger.bytes_copied_total(), 0);
    // With a little room in one of its clusters, no page is needed.
    page.write(2000, lab.data_with_room(9, 50), &lab.pull_up())
        .unwrap();
    assert_eq!(lab.ledger.bytes_copied_total(), 50);
    drop((page, error));
    lab.assert_nothing_leaked();
}

#[test]
fn z14_a_whole_page_is_one_copy_of_each_byte_at_its_own_offset() {
    let lab = Lab::new(8, 2048, 1);
    let mut page = LogicalPage::new();
    page.write(512, lab.data(1, 1024), &lab.pull_up()).unwrap();
    page.write(1536, lab.data(2, 512), &lab.pull_up()).unwrap();
    let before = bytes(&page);
    assert!(!page.is_whole());
    let copied = page
        .make_whole(CopyReason::DeviceBounce, &lab.pull_up())
        .unwrap();
    assert_eq!((copied, lens(&page)), (1536, vec![512, 1536, 2048]));
    assert!(page.is_whole() && bytes(&page) == before);
    let address = page.segments()[1].address().unwrap().as_ptr() as usize;
    assert_eq!(address % PAGE_SIZE, 512);
    assert_eq!((lab.frames.held(), lab.pages.held()), (0, 1));
    assert_eq!(lab.ledger.bytes_copied(CopyReason::DeviceBounce), 1536);
    assert_eq!(
        page.make_whole(CopyReason::DeviceBounce, &lab.pull_up()),
        Ok(0)
    );
}

/// The same page as a search sees it: for each segment its length and where it
/// is, for each cluster how much it holds and may hold.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Puzzle {
    segments: Vec<Piece>,
    clusters: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Piece {
    Null {
        len: usize,
    },
    Zero {
        len: usize,
    },
    Data {
        len: usize,
        cluster: usize,
        offset: usize,
    },
}

impl Piece {
    fn len(&self) -> usize {
        match *self {
            Piece::Null { len } | Piece::Zero { len } | Piece::Data { len, .. } => len,
        }
    }
}

impl Puzzle {
    /// `page` with `new` laid over it at `at`, made byte by byte.
    fn of(page: &LogicalPage, at: usize, new: &Segment) -> Self {
        let mut addresses = HashMap::new();
        let mut clusters = Vec::new();
        let mut sources = Vec::new();
        let mut add = |sources: &mut Vec<_>, from: usize, segment: &Segment| {
            for i in 0..segment.len() {
                let piece = match (segment.kind(), segment.cluster()) {
                    (pages::SegmentKind::Zero, _) => Piece::Zero { len: 1 },
                    (_, None) => Piece::Null { len: 1 },
                    (_, Some(cluster)) => {
                        let base = cluster.address().as_ptr() as usize;
                        let id = *addresses.entry(base).or_insert_with(|| {
                            clusters.push((cluster.filled(), cluster.size()));
                            clusters.len() - 1
                        });
                        let address = segment.address().unwrap().as_ptr() as usize;
                        Piece::Data {
                            len: 1,
                            cluster: id,
                            offset: address - base + i,
                        }
                    }
                };
                match from + i < sources.len() {
                    true => sources[from + i] = piece,
                    false => sources.push(piece),
                }
            }
        };
        for (offset, segment) in page.placed() {
            add(&mut sources, offset, segment);
        }
        add(&mut sources, at, new);
        let mut puzzle = Puzzle {
            segments: sources,
            clusters,
        };
        puzzle.unite();
        puzzle
    }

    fn unite(&mut self) {
        let mut united: Vec<Piece> = Vec::new();
        for piece in self.segments.drain(..) {
            match (united.last_mut(), piece) {
                (Some(Piece::Null { len }), Piece::Null { len: n }) => *len += n,
                (Some(Piece::Zero { len }), Piece::Zero { len: n }) => *len += n,
                (
                    Some(Piece::Data {
                        len,
                        cluster,
                        offset,
                    }),
                    Piece::Data {
                        len: n,
                        cluster: c,
                        offset: o,
                    },
                ) if *cluster == c && *offset + *len == o => *len += n,
                _ => united.push(piece),
            }
        }
        self.segments = united;
    }

    /// Every position one copy away, and what the copy costs: any prefix of a
    /// segment behind the one before it, and any run of segments into the free
    /// space of any cluster or a fresh page.
    fn moves(&self) -> Vec<(usize, Puzzle)> {
        let mut all = Vec::new();
        for i in 1..self.segments.len() {
            let (
                Piece::Data {
                    len,
                    cluster,
                    offset,
                },
                next,
            ) = (self.segments[i - 1], self.segments[i])
            else {
                continue;
            };
            let (filled, size) = self.clusters[cluster];
            if matches!(next, Piece::Null { .. }) || offset + len != filled {
                continue;
            }
            for n in 1..=next.len().min(size - filled) {
                let mut to = self.clone();
                to.clusters[cluster].0 += n;
                to.segments[i - 1] = Piece::Data {
                    len: len + n,
                    cluster,
                    offset,
                };
                match &mut to.segments[i] {
                    Piece::Zero { len } | Piece::Null { len } => *len -= n,
                    Piece::Data { len, offset, .. } => {
                        *len -= n;
                        *offset += n;
                    }
                }
                to.segments.retain(|s| s.len() > 0);
                to.unite();
                all.push((n, to));
            }
        }
        for start in 0..self.segments.len() {
            for end in start + 1..=self.segments.len() {
                let run = &self.segments[start..end];
                if run.iter().any(|s| matches!(s, Piece::Null { .. })) {
                    break;
                }
                let n: usize = run.iter().map(Piece::len).sum();
                // One fresh page is as good as several: it has room for everything.
                let fresh = self.clusters.iter().any(|&(_, size)| size == PAGE_SIZE);
                for cluster in 0..self.clusters.len() + usize::from(!fresh) {
                    let mut to = self.clone();
                    if cluster == to.clusters.len() {
                        to.clusters.push((0, PAGE_SIZE));
                    }
                    let (filled, size) = to.clusters[cluster];
                    if size - filled < n {
                        continue;
                    }
                    to.clusters[cluster].0 += n;
                    let piece = Piece::Data {
                        len: n,
                        cluster,
                        offset: filled,
                    };
                    to.segments.splice(start..end, [piece]);
                    to.unite();
                    all.push((n, to));
                }
            }
        }
        all
    }

    /// How few segments any copying could leave: NULL ones stay where they are.
    fn fewest(&self) -> usize {
        let null = |s: &Piece| matches!(s, Piece::Null { .. });
        self.segments.chunk_by(|a, b| null(a) == null(b)).count()
    }

    /// The least bytes that bring the page to four segments, if below `limit`.
    fn cheapest_below(&self, limit: usize) -> Option<usize> {
        let mut open = BTreeMap::from([((0, self.clone()), ())]);
        let mut seen = HashMap::new();
        while let Some(((cost, puzzle), ())) = open.pop_first() {
            if puzzle.segments.len() <= 4 {
                return Some(cost);
            }
            for (n, next) in puzzle.moves() {
                let cost = cost + n;
                if cost < limit && seen.get(&next).is_none_or(|&best| cost < best) {
                    seen.insert(next.clone(), cost);
                    open.insert((cost, next), ());
                }
            }
        }
        None
    }
}

#[test]
fn z08_exhaustive_search_finds_no_cheaper_pull_up() {
    let lab = Lab::new(64, 2048, 64);
    let mut pulled_up = 0;
    for seed in 0..common::operations(3600) as u64 / 12 {
        let mut random = Random::new(seed);
        let size = 6 + random.below(7);
        let mut page = LogicalPage::covering(0..size);
        for step in 0..12 {
            let len = 1 + random.below(3);
            let at = random.below(size - len + 1);
            let fill = (seed as u8).wrapping_mul(31).wrapping_add(step);
            let segment = match random.below(8) {
                0 => Segment::zero(&lab.zeros, len),
                1 if page.segments()[0].len() > len => {
                    // Bytes that the page refers to already, once more.
                    let again = &page.segments()[0];
                    match again.kind() {
                        pages::SegmentKind::Data => again.part(0..len),
                        _ => lab.data_with_room(fill, len),
                    }
                }
                2 | 3 => lab.data(fill, len),
                _ => {
                    // Room for zero to four bytes only.
                    let start = 2048 - len - random.below(5);
                    lab.cluster(start, &vec![fill; len], None)
                        .slice(start..start + len)
                        .segments()
                        .next()
                        .unwrap()
                }
            };
            let mut expected = bytes(&page);
            for (i, byte) in segment.bytes().unwrap().iter().enumerate() {
                expected[at + i] = Some(*byte);
            }
            let puzzle = Puzzle::of(&page, at, &segment);
            let used: Vec<(pages::Cluster, Vec<u8>)> = page
                .segments()
                .iter()
                .chain([&segment])
                .filter_map(|s| s.cluster().cloned())
                .map(|c| (c.clone(), c.bytes().to_vec()))
                .collect();
            let before = lab.ledger.bytes_copied_total();
            let written = page.write(at, segment, &lab.pull_up());
            let copied = (lab.ledger.bytes_copied_total() - before) as usize;
            // Not a byte in use changed, protocol or data.
            for (cluster, bytes) in used {
                assert_eq!(
                    &cluster.bytes()[..bytes.len()],
                    bytes,
                    "seed {seed} step {step}"
                );
            }
            match written {
                Ok(()) => {
                    assert_eq!(bytes(&page), expected, "seed {seed} step {step}");
                    assert!(page.segments().len() <= 4);
                    if puzzle.segments.len() > 4 {
                        pulled_up += 1;
                        assert_eq!(
                            puzzle.cheapest_below(copied),
                            None,
                            "seed {seed} step {step}: copied {copied}"
                        );
                    } else {
                        assert_eq!(copied, 0, "seed {seed} step {step}");
                    }
                }
                Err(error) => {
                    assert_eq!(error.reason, Refusal::TooFragmented);
                    assert!(
                        copied == 0 && puzzle.fewest() > 4,
                        "seed {seed} step {step}"
                    );
                }
            }
        }
    }
    assert!(pulled_up > 100, "{pulled_up}");
    lab.assert_nothing_leaked();
}
