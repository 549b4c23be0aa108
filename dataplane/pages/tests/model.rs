//! Pages and runs against plain bytes, in whatever order they are written.

mod common;

use common::page_model::{Op, PAGES, check};
use common::{Lab, Random, operations, property};
use pages::{PAGE_SIZE, PageRun, Refusal, RunPool, Slice};

fn generate(random: &mut Random) -> Vec<(usize, Op)> {
    // Now few large segments, now many small ones.
    let longest = [16, 200, 1448, 4096][random.below(4)];
    (0..20 + random.below(60))
        .map(|_| {
            let at = random.below(PAGE_SIZE);
            let len = 1 + random.below(longest.min(PAGE_SIZE - at));
            let op = match random.below(32) {
                0 => Op::Clear,
                1 => Op::Whole,
                2 => Op::Truncate { len: at },
                3..6 => Op::Zero { at, len },
                6 | 7 => Op::Clone {
                    to: random.below(PAGES),
                },
                8..12 => Op::Again {
                    from: random.below(PAGES),
                    at,
                    len,
                },
                _ => Op::Write {
                    at,
                    len: len.min(2048 - 66),
                    room: random.one_in(2),
                },
            };
            (random.below(PAGES), op)
        })
        .collect()
}

#[test]
fn z07_z08_pages_agree_with_plain_bytes() {
    property(operations(30_000), generate, check);
}

/// One piece of a request as it arrives.
#[derive(Clone, Debug)]
struct Arrival {
    at: usize,
    len: usize,
}

/// A request and the pieces of it, in any order, some twice, some overlapping.
fn arrivals(random: &mut Random) -> Vec<(u64, usize, Vec<Arrival>)> {
    (0..8)
        .map(|_| {
            let offset = (random.below(100) * 512) as u64;
            let len = 512 * (1 + random.below(40));
            let mss = [536, 1220, 1448, 8948][random.below(4)];
            let phase = random.below(mss);
            let mut pieces = Vec::new();
            let mut at = 0;
            while at < len {
                let end = ((at + phase) / mss + 1) * mss - phase;
                pieces.push(Arrival {
                    at,
                    len: end.min(len) - at,
                });
                at = end;
            }
            // A few out of order, a few twice; one overlaps its neighbours.
            for _ in 0..random.below(3) {
                let (i, j) = (random.below(pieces.len()), random.below(pieces.len()));
                pieces.swap(i, j);
                pieces.push(pieces[i].clone());
            }
            if random.one_in(3) {
                let at = random.below(len);
                let len = (1 + random.below(1448)).min(len - at);
                pieces.insert(random.below(pieces.len()), Arrival { at, len });
            }
            (offset, len, pieces)
        })
        .collect()
}

fn contents(run: &PageRun) -> Vec<Option<u8>> {
    run.segments()
        .flat_map(|s| (0..s.len()).map(move |i| s.bytes().map(|b| b[i])))
        .collect()
}

fn check_run(requests: &[(u64, usize, Vec<Arrival>)]) {
    let lab = Lab::new(64, 16384, 32);
    let runs = RunPool::new(1, 1 << 20);
    for (offset, len, pieces) in requests {
        let mut run = runs.take().unwrap();
        run.begin(*offset, *len).unwrap();
        let mut model = vec![None; *len];
        for (i, piece) in pieces.iter().enumerate() {
            let payload: Vec<u8> = (0..piece.len).map(|b| (b * 3 + i) as u8).collect();
            let start = 4096 * (i % 2) + 66;
            let slice = lab
                .cluster(start, &payload, Some(16384))
                .slice(start..start + piece.len);
            // What is refused is sent again, as TCP would.
            match run.place(piece.at, slice, &lab.pull_up()) {
                Ok(()) => (),
                Err(error) => {
                    assert_eq!(error.reason, Refusal::TooFragmented);
                    assert_eq!(error.slice.len(), piece.at + piece.len - error.at);
                    let placed = error.at - piece.at;
                    for (to, from) in model[piece.at..].iter_mut().zip(&payload[..placed]) {
                        *to = Some(*from);
                    }
                    continue;
                }
            }
            for (to, from) in model[piece.at..].iter_mut().zip(&payload) {
                *to = Some(*from);
            }
        }
        assert_eq!(contents(&run), model);
        let missing = model.iter().filter(|b| b.is_none()).count();
        assert_eq!((run.missing(), run.is_complete()), (missing, missing == 0));
        assert_eq!(
            run.fragments().iter().sum::<u32>() as usize,
            run.pages().len()
        );
        if run.is_complete() {
            for range in [0..*len, 1..len - 1, len / 3..len / 2 + 1] {
                let sent: Vec<u8> = run
                    .slices(range.clone())
                    .flat_map(|s: Slice| s.bytes().to_vec())
                    .collect();
                let expected: Vec<u8> = model[range].iter().map(|b| b.unwrap()).collect();
                assert_eq!(sent, expected);
            }
        }
        runs.put(run);
        lab.assert_nothing_leaked();
    }
}

#[test]
fn z06_runs_agree_with_plain_bytes_in_any_order_of_arrival() {
    property(operations(30_000) / 64, arrivals, check_run);
}
