//! Row Z12: the budget's inequality, and what it is for: peers that send tiny
//! segments, or stall in the middle of a write, do not stop others.

mod common;

use common::{HEADERS, Lab, Random, operations, property};
use pages::{Budget, BudgetConfig, Intake, Pressure, Promise, RunPool};

const CLUSTER: usize = 2048;

fn config(clusters: usize, cache: usize) -> BudgetConfig {
    BudgetConfig {
        clusters,
        cluster_size: CLUSTER,
        headers: HEADERS,
        port: 64,
        cache,
        operation_pages: 0,
        loose: 4,
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    /// A short frame, padded to the least that Ethernet carries.
    Padded(usize),
    Take(usize),
}

fn generate(random: &mut Random) -> Vec<Op> {
    let sizes = [[1, 1, 1], [1, 6, 40], [1, 1000, 1448], [1448, 1448, 700]][random.below(4)];
    (0..200)
        .map(|_| match random.below(5) {
            0 => Op::Take(1 + random.below(3000)),
            1 => Op::Padded(1 + random.below(6)),
            n => Op::Push(1 + random.below(sizes[n - 2])),
        })
        .collect()
}

#[test]
fn z12_an_intake_keeps_its_bound_and_its_bytes() {
    property(operations(20_000), generate, |ops| {
        let lab = Lab::new(256, CLUSTER, 1);
        let budget = Budget::new(config(256, 0)).unwrap();
        let mut intake = Intake::new(256, 4);
        let mut model = std::collections::VecDeque::new();
        let mut next = 0u8;
        for op in ops {
            match *op {
                Op::Push(len) | Op::Padded(len) => {
                    if budget.clusters_for(intake.bytes() + len) > 200 {
                        continue;
                    }
                    let payload: Vec<u8> = (0..len).map(|i| next.wrapping_add(i as u8)).collect();
                    next = next.wrapping_add(len as u8);
                    let padded = matches!(op, Op::Padded(_)).then_some(HEADERS + 6);
                    let cluster = lab.cluster(HEADERS, &payload, padded);
                    model.extend(payload);
                    intake
                        .push(cluster.slice(HEADERS..HEADERS + len), &lab.ledger)
                        .unwrap();
                }
                Op::Take(n) => {
                    let mut left = n;
                    while let Some(slice) = intake.take(left) {
                        left -= slice.len();
                        let expected: Vec<u8> = model.drain(..slice.len()).collect();
                        assert_eq!(slice.bytes(), expected);
                    }
                }
            }
            assert_eq!(intake.bytes(), model.len());
            let most = budget.clusters_for(intake.bytes());
            assert!(lab.frames.held() <= most, "{} > {most}", lab.frames.held());
        }
        drop(intake);
        lab.assert_nothing_leaked();
    });
}

#[test]
fn z12_full_frames_are_never_packed() {
    let lab = Lab::new(64, CLUSTER, 1);
    let mut intake = Intake::new(64, 2);
    for _ in 0..20 {
        // A write of 8 KB as a client sends it: five full frames and a rest.
        for len in [1448, 1448, 1448, 1448, 1448, 952] {
            let cluster = lab.cluster(HEADERS, &vec![1; len], None);
            intake
                .push(cluster.slice(HEADERS..HEADERS + len), &lab.ledger)
                .unwrap();
        }
        while intake.take(usize::MAX).is_some() {}
    }
    assert_eq!(lab.ledger.bytes_copied_total(), 0);
}

#[test]
fn z12_promises_and_admissions_never_exceed_the_pool() {
    let budget = Budget::new(config(1000, 400)).unwrap();
    assert!(
        Budget::new(config(100, 40)).is_none(),
        "the fixed terms do not fit"
    );
    let mut random = Random::new(5);
    let mut promises: Vec<Promise> = (0..50).map(|_| Promise::default()).collect();
    let mut admitted = Vec::new();
    let free = budget.left();
    for _ in 0..10_000 {
        let i = random.below(promises.len());
        match random.below(4) {
            0 => {
                let pages = 1 + random.below(20);
                if budget.admit(pages) {
                    admitted.push(pages);
                }
            }
            1 => admitted
                .pop()
                .into_iter()
                .for_each(|pages| budget.release(pages)),
            2 => budget.withdraw(std::mem::take(&mut promises[i])),
            _ => {
                let bytes = random.below(100_000);
                let told = budget.promise(&mut promises[i], bytes);
                assert!(told <= bytes);
            }
        }
        assert!(budget.left() <= free);
    }
    admitted.into_iter().for_each(|pages| budget.release(pages));
    promises
        .into_iter()
        .for_each(|promise| budget.withdraw(promise));
    assert_eq!(budget.left(), free);
}

#[test]
fn z12_a_thousand_stalled_peers_of_tiny_segments_do_not_stop_another_client() {
    const CLUSTERS: usize = 8192;
    let lab = Lab::new(CLUSTERS, CLUSTER, 64);
    let budget = Budget::new(config(CLUSTERS, 1024)).unwrap();
    let runs = RunPool::new(64, 64 << 10);
    // The good client came first, and has its window.
    let mut good = Promise::default();
    assert_eq!(budget.promise(&mut good, 16 << 10), 16 << 10);
    let mut peers = Vec::new();
    let mut stalled = Vec::new();
    for _ in 0..1000 {
        let mut promise = Promise::default();
        let told = budget.promise(&mut promise, budget.fair_window(1001).min(64 << 10));
        let mut intake = Intake::new(1 << 10, 4);
        // One byte per segment, as many as its window lets it send.
        for _ in 0..told {
            let byte = lab.frames.alloc().expect("row Z12: memory never runs out");
            let slice = byte.freeze_filled(HEADERS + 1).slice(HEADERS..HEADERS + 1);
            intake.push(slice, &lab.ledger).unwrap();
        }
        peers.push((promise, intake));
        // And half a write, if it is admitted at all.
        if stalled.len() < 60 && budget.admit(Budget::pages_of(32 << 10)) {
            let mut run = runs.take().unwrap();
            run.begin(0, 32 << 10).unwrap();
            for at in 0..16 << 10 {
                let byte = lab.frames.alloc().expect("row Z12: memory never runs out");
                let slice = byte.freeze_filled(HEADERS + 1).slice(HEADERS..HEADERS + 1);
                run.place(at, slice, &lab.pull_up()).unwrap();
            }
            stalled.push(run);
        }
    }
    assert!(lab.frames.unheld() >= 64, "the port has its clusters");
    // The good client writes on.
    let mut intake = Intake::new(64, 4);
    for round in 0..100 {
        for _ in 0..11 {
            let frame = lab.frames.alloc().expect("row Z12: memory never runs out");
            let slice = frame
                .freeze_filled(HEADERS + 1448)
                .slice(HEADERS..HEADERS + 1448);
            intake.push(slice, &lab.ledger).unwrap();
        }
        let mut run = runs.take().unwrap();
        run.begin(round * 512, 11 * 1448 / 512 * 512).unwrap();
        let mut at = 0;
        while let Some(slice) = intake.take(run.len() - at) {
            let n = slice.len();
            run.place(at, slice, &lab.pull_up()).unwrap();
            at += n;
        }
        assert!(run.is_complete());
        while intake.take(usize::MAX).is_some() {}
        runs.put(run);
    }
    assert_eq!(budget.pressure(&lab.frames), Pressure::None);
    stalled.into_iter().for_each(|run| runs.put(run));
    for (promise, _) in peers {
        budget.withdraw(promise);
    }
    budget.withdraw(good);
    drop(intake);
    lab.assert_nothing_leaked();
}
