//! The page cache against plain bytes, over a device that is slow, unordered
//! and fails on purpose: reads see what was written, flushes make it durable,
//! nothing is lost, and no more clusters are referred to than allowed.

use super::device::{Device, SECTOR};
use super::{Lab, Random, contents};
use block::{Fault, Flags, Io, RequestId, VolumeId, WritePolicy};
use cache::{CacheConfig, Operation, PageCache, VolumeConfig};
use pages::{PAGE_SIZE, RunPool, Slice};
use std::collections::BTreeMap;

/// Bytes are told apart by cells: each is written in whole, with the number of
/// its write.
pub const CELL: usize = 128;
pub const CELLS_IN_SECTOR: usize = SECTOR / CELL;

#[derive(Clone, Debug)]
pub enum Op {
    Write {
        at: usize,
        cells: usize,
        mss: usize,
        fua: bool,
        zeros: bool,
    },
    Read {
        at: usize,
        cells: usize,
    },
    /// Of whole blocks.
    Deallocate {
        at: usize,
        cells: usize,
    },
    Flush,
    FlushRange {
        at: usize,
        cells: usize,
    },
    Idle {
        pages: usize,
    },
    GiveBack {
        clusters: usize,
    },
    /// The device completes some operations.
    Device {
        n: usize,
    },
    /// From now on one device operation in `n` fails; 0 for none.
    Failing {
        n: u64,
    },
    /// A request on the volume beside, if there is one.
    Beside {
        page: usize,
        pages: usize,
        writes: bool,
    },
}

/// The device of a volume beside the one that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// There is none.
    Nothing,
    /// It ends nothing.
    Silent,
    /// Its writes fail.
    Failing,
}

/// What it may have in the cache at a time, and pages that it has.
const BESIDE_REQUESTS: usize = 8;
const BESIDE_PAGES: usize = 400;
const BESIDE: VolumeId = VolumeId(4);
/// Its requests have the numbers from here on.
const BESIDE_TAGS: u64 = 1 << 32;

#[derive(Clone, Debug)]
pub struct Setup {
    /// Pages of the volume; its last lacks so many bytes at the end, whole blocks.
    pub pages: usize,
    pub short: usize,
    pub block: usize,
    pub device_cache: bool,
    pub policy: WritePolicy,
    pub cache_pages: usize,
    pub clusters: usize,
    pub dirty_pages: usize,
    pub whole_pages: usize,
    pub cluster_size: usize,
    pub beside: Beside,
    pub seed: u64,
}

impl Setup {
    /// Bytes of the volume.
    pub fn len(&self) -> usize {
        self.pages * PAGE_SIZE - self.short / self.block * self.block
    }
}

/// What is known of one cell: the writes that may be its value now.
#[derive(Clone, Default)]
struct Cell {
    candidates: Vec<u32>,
}

struct Write {
    at: usize,
    cells: usize,
    started: u64,
    /// When it completed without an error.
    completed: Option<u64>,
    value: u32,
    durable: bool,
}

/// What a request may see at the least: the candidates when it started.
struct Pending {
    op: Op,
    started: u64,
    allowed: Vec<Cell>,
    write: Option<u32>,
}

struct World {
    lab: Lab,
    runs: RunPool,
    cache: PageCache,
    volume: VolumeId,
    device: Device,
    setup: Setup,
    random: Random,
    now: u64,
    writes: Vec<Write>,
    cells: Vec<Cell>,
    pending: BTreeMap<u64, Pending>,
    failures: usize,
    /// Operations for the device beside that it has not ended.
    beside: Vec<Operation>,
    beside_runs: RunPool,
    beside_requests: usize,
}

impl World {
    fn new(setup: &Setup) -> Self {
        let frames = 4096 * 2048 / setup.cluster_size;
        let lab = Lab::new(frames, setup.cluster_size, setup.whole_pages);
        let len = setup.len();
        let mut cache = PageCache::new(CacheConfig {
            pages: setup.cache_pages,
            clusters: setup.clusters,
            dirty_pages: setup.dirty_pages,
            requests: 16,
            operations: 6,
            max_bytes: 64 << 10,
            seed: setup.seed,
        });
        let config = VolumeConfig {
            len: len as u64,
            block: setup.block,
            policy: setup.policy,
            device_cache: setup.device_cache,
        };
        // Not the first place: those before it have no volume.
        let volume = VolumeId(2);
        cache.add_volume(volume, config).unwrap();
        if setup.beside != Beside::Nothing {
            let config = VolumeConfig {
                len: (BESIDE_PAGES * PAGE_SIZE) as u64,
                policy: WritePolicy::Back,
                device_cache: false,
                ..config
            };
            cache.add_volume(BESIDE, config).unwrap();
        }
        Self {
            lab,
            runs: RunPool::new(17, 64 << 10),
            cache,
            volume,
            device: Device::new(len, setup.block, setup.device_cache),
            setup: setup.clone(),
            random: Random::new(setup.seed),
            now: 0,
            // Write 0 is the volume as it was: zeros.
            writes: vec![Write {
                at: 0,
                cells: len / CELL,
                started: 0,
                completed: Some(0),
                value: 0,
                durable: true,
            }],
            cells: vec![
                Cell {
                    candidates: vec![0]
                };
                len / CELL
            ],
            pending: BTreeMap::new(),
            failures: 0,
            beside: Vec::new(),
            beside_runs: RunPool::new(BESIDE_REQUESTS + 1, 64 << 10),
            beside_requests: 0,
        }
    }

    /// Memory is shared with the requests: make room as the engine would.
    fn has_memory(&self, op: &Op) -> bool {
        match op {
            Op::Write { cells, mss, .. } => self.lab.frames.free() > cells * CELL / mss + 2,
            _ => true,
        }
    }

    fn submit(&mut self, op: &Op) {
        self.now += 1;
        let tag = self.now;
        if self.cache.requests() == 16 || !self.has_memory(op) {
            return;
        }
        let allowed = |at: usize, cells: usize| self.cells[at..at + cells].to_vec();
        let (request, allowed, write) = match *op {
            Op::Write {
                at,
                cells,
                mss,
                fua,
                zeros,
            } => {
                let id = self.writes.len() as u32;
                let value = if zeros { 0 } else { id };
                let mut run = self.runs.take().unwrap();
                run.begin((at * CELL) as u64, cells * CELL).unwrap();
                let pull_up = self.lab.pull_up();
                let placed = match zeros {
                    true => run
                        .place_zeros(0, cells * CELL, &self.lab.zeros, &pull_up)
                        .is_ok(),
                    false => {
                        let bytes = value.to_le_bytes().repeat(cells * CELL / 4);
                        bytes.chunks(mss).enumerate().all(|(i, payload)| {
                            let cluster = self.lab.cluster(66, payload, None);
                            let slice: Slice = cluster.slice(66..66 + payload.len());
                            run.place(i * mss, slice, &pull_up).is_ok()
                        })
                    }
                };
                if !placed {
                    // No page for a pull-up just now: the engine would wait.
                    self.runs.put(run);
                    return;
                }
                let durable = fua || self.setup.policy == WritePolicy::Through;
                self.writes.push(Write {
                    at,
                    cells,
                    started: self.now,
                    completed: None,
                    value,
                    durable,
                });
                for cell in &mut self.cells[at..at + cells] {
                    cell.candidates.push(id);
                }
                (Io::write(run, Flags::fua(fua)), Vec::new(), Some(id))
            }
            Op::Read { at, cells } => {
                let mut run = self.runs.take().unwrap();
                run.begin((at * CELL) as u64, cells * CELL).unwrap();
                (Io::read(run, Flags::NONE), allowed(at, cells), None)
            }
            // Zeros, wherever the device does not leave what was there.
            Op::Deallocate { at, cells } => {
                let id = self.writes.len() as u32;
                self.writes.push(Write {
                    at,
                    cells,
                    started: self.now,
                    completed: None,
                    value: 0,
                    durable: false,
                });
                for cell in &mut self.cells[at..at + cells] {
                    cell.candidates.push(id);
                }
                let (offset, len) = ((at * CELL) as u64, (cells * CELL) as u64);
                (Io::deallocate(offset, len), Vec::new(), Some(id))
            }
            Op::Flush => (Io::flush(), allowed(0, self.cells.len()), None),
            Op::FlushRange { at, cells } => {
                let (offset, len) = ((at * CELL) as u64, (cells * CELL) as u64);
                (Io::flush_range(offset, len), allowed(at, cells), None)
            }
            _ => return,
        };
        let pending = Pending {
            op: op.clone(),
            started: self.now,
            allowed,
            write,
        };
        self.pending.insert(tag, pending);
        self.cache
            .submit(self.volume, RequestId(tag), request, &self.lab.pull_up())
            .unwrap();
        self.settle();
    }

    /// Hands operations to the device and takes completions.
    fn settle(&mut self) {
        assert!(self.cache.clusters() <= self.setup.clusters, "row Z12");
        while let Some(operation) = self.cache.next_operation() {
            if operation.volume == self.volume {
                self.device.start(operation, &mut self.random);
            } else {
                self.beside.push(operation);
            }
        }
        if self.setup.beside == Beside::Failing {
            self.end_beside(Err(super::device::FAILED));
        }
        while let Some(completion) = self.cache.next_completion() {
            if completion.id.0 >= BESIDE_TAGS {
                self.beside_requests -= 1;
                completion
                    .run
                    .into_iter()
                    .for_each(|run| self.beside_runs.put(run));
                continue;
            }
            self.now += 1;
            let pending = self.pending.remove(&completion.id.0).expect("once");
            if completion.result.is_err() {
                self.failures += 1;
            }
            let ok = completion.result.is_ok();
            match pending.op {
                Op::Read { at, .. } if ok => {
                    let run = completion.run.as_ref().unwrap();
                    let bytes = contents(run);
                    assert_eq!(bytes.len(), run.len(), "complete");
                    self.check(at, &bytes, &pending, "read");
                }
                Op::Write { at, cells, .. } if ok => {
                    let id = pending.write.unwrap();
                    self.writes[id as usize].completed = Some(self.now);
                    let writes = &self.writes;
                    for cell in &mut self.cells[at..at + cells] {
                        // What had completed before this one started is gone.
                        cell.candidates.retain(|&other| {
                            writes[other as usize]
                                .completed
                                .is_none_or(|t| t > pending.started)
                                || other == id
                        });
                    }
                    if self.writes[id as usize].durable {
                        // Nothing older than this write; what came after need not be there.
                        let newer = |w: &Write| w.completed.is_none_or(|t| t > pending.started);
                        let covers = |w: &Write, cell| (w.at..w.at + w.cells).contains(&cell);
                        let ids = |cell| {
                            (0u32..)
                                .zip(&self.writes)
                                .filter(move |(_, w)| newer(w) && covers(w, cell))
                        };
                        let allowed = (at..at + cells)
                            .map(|cell| Cell {
                                candidates: ids(cell).map(|(id, _)| id).collect(),
                            })
                            .collect();
                        let pending = Pending { allowed, ..pending };
                        let fua = matches!(pending.op, Op::Write { fua: true, .. });
                        let bytes = match fua {
                            true => &self.device.durable,
                            false => &self.device.current,
                        };
                        let bytes = bytes[at * CELL..(at + cells) * CELL].to_vec();
                        self.check(at, &bytes, &pending, "durable write");
                    }
                }
                Op::Deallocate { .. } if ok => {
                    self.writes[pending.write.unwrap() as usize].completed = Some(self.now);
                }
                Op::Flush if ok => {
                    let bytes = self.device.durable.clone();
                    self.check(0, &bytes, &pending, "flush");
                }
                Op::FlushRange { at, cells } if ok => {
                    let bytes = self.device.durable[at * CELL..(at + cells) * CELL].to_vec();
                    self.check(at, &bytes, &pending, "flush of a range");
                }
                _ => (),
            }
            if let Some(run) = completion.run {
                self.runs.put(run);
            }
        }
    }

    /// Every cell is one of the allowed values, or of a write since.
    fn check(&self, at: usize, bytes: &[u8], pending: &Pending, what: &str) {
        for (i, cell) in bytes.chunks(CELL).enumerate() {
            let value = u32::from_le_bytes(cell[..4].try_into().unwrap());
            assert!(
                cell.chunks(4).all(|v| v == value.to_le_bytes()),
                "{what}: torn cell {}",
                at + i
            );
            let allowed = pending.allowed[i]
                .candidates
                .iter()
                .any(|&id| self.writes[id as usize].value == value);
            let since = self.writes.iter().any(|w| {
                w.started > pending.started
                    && w.value == value
                    && (w.at..w.at + w.cells).contains(&(at + i))
            });
            assert!(
                allowed || since,
                "{what} of cell {}: saw {value}, allowed {:?}, started {}",
                at + i,
                pending.allowed[i].candidates,
                pending.started
            );
        }
        if what == "read" {
            self.check_atomicity(at, bytes, what);
        }
    }

    /// Row Z11: of two writes that both cover two cells of a block, the same is
    /// on top in both.
    fn check_atomicity(&self, at: usize, bytes: &[u8], what: &str) {
        let block = self.setup.block / CELL;
        let value =
            |i: usize| u32::from_le_bytes(bytes[i * CELL..i * CELL + 4].try_into().unwrap());
        for i in 0..bytes.len() / CELL {
            for j in i + 1..bytes.len() / CELL {
                if (at + i) / block != (at + j) / block {
                    break;
                }
                let (a, b) = (value(i), value(j));
                if a == b || a == 0 || b == 0 {
                    continue;
                }
                let covers = |id: u32| {
                    let w = &self.writes[id as usize];
                    let range = w.at..w.at + w.cells;
                    range.contains(&(at + i)) && range.contains(&(at + j))
                };
                assert!(
                    !(covers(a) && covers(b)),
                    "{what}: block torn between {a} and {b}"
                );
            }
        }
    }

    fn device(&mut self, n: usize) {
        for _ in 0..n {
            let Some((operation, result)) = self.device.finish_one(&mut self.random) else {
                return;
            };
            self.cache
                .complete(operation.id, operation.io.run, result, &self.lab.pull_up());
            self.settle();
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Device { n } => self.device(n),
            Op::Failing { n } => self.device.failing = n,
            Op::Idle { pages } => self.cache.write_back(pages),
            Op::GiveBack { clusters } => {
                self.cache.give_back(clusters, &self.lab.pull_up());
            }
            Op::Beside {
                page,
                pages,
                writes,
            } => self.submit_beside(page, pages, writes),
            _ => self.submit(op),
        }
        self.settle();
    }

    /// A request on the volume beside.
    fn submit_beside(&mut self, page: usize, pages: usize, writes: bool) {
        let has_none = self.setup.beside == Beside::Nothing;
        if has_none || self.beside_requests == BESIDE_REQUESTS || self.cache.requests() == 16 {
            return;
        }
        let mut run = self.beside_runs.take().unwrap();
        let len = pages * PAGE_SIZE;
        run.begin((page * PAGE_SIZE) as u64, len).unwrap();
        let io = if writes {
            // Half of the frames are for the volume that is looked at.
            if self.lab.frames.free() < self.lab.frames.len() / 2 + pages * 2 {
                return self.beside_runs.put(run);
            }
            for at in (0..len).step_by(PAGE_SIZE / 2) {
                let cluster = self.lab.cluster(0, &[7; PAGE_SIZE / 2], None);
                let slice = cluster.slice(0..PAGE_SIZE / 2);
                run.place(at, slice, &self.lab.pull_up()).unwrap();
            }
            Io::write(run, Flags::NONE)
        } else {
            Io::read(run, Flags::NONE)
        };
        self.beside_requests += 1;
        let id = RequestId(BESIDE_TAGS);
        let memory = &self.lab.pull_up();
        self.cache.submit(BESIDE, id, io, memory).unwrap();
        self.settle();
    }

    /// The device beside ends what it has: writes so.
    fn end_beside(&mut self, written: Result<(), Fault>) {
        while let Some(operation) = self.beside.pop() {
            let result = match &operation.io.run {
                Some(run) if operation.io.op == block::Op::Read => {
                    super::dma(run, &vec![0; run.len()]);
                    Ok(())
                }
                _ => written,
            };
            let memory = &self.lab.pull_up();
            self.cache
                .complete(operation.id, operation.io.run, result, memory);
            while let Some(operation) = self.cache.next_operation() {
                match operation.volume == self.volume {
                    true => self.device.start(operation, &mut self.random),
                    false => self.beside.push(operation),
                }
            }
        }
    }

    /// The device beside works, again or at last.
    fn heal_beside(&mut self) {
        self.setup.beside = Beside::Silent;
        self.cache.retry_failed();
        while self.beside_requests > 0 || self.cache.dirty_pages() > 0 {
            self.cache.write_back(1);
            self.cache.resume(&self.lab.pull_up());
            self.settle();
            assert!(!self.beside.is_empty(), "nothing is written beside");
            self.end_beside(Ok(()));
            self.settle();
        }
    }

    /// The device works again; everything completes; a last flush makes all durable.
    fn finish(mut self) {
        self.device.failing = 0;
        assert!(
            self.device.failed || self.failures == 0,
            "told of another's fault"
        );
        for round in 0..2 {
            let mut steps = 0;
            while !self.pending.is_empty() {
                self.cache.resume(&self.lab.pull_up());
                self.settle();
                self.device(1);
                steps += 1;
                assert!(
                    steps < 10_000,
                    "starved: {:?}",
                    self.pending.values().map(|p| &p.op).collect::<Vec<_>>()
                );
            }
            if round == 0 {
                self.submit(&Op::Flush);
            }
        }
        if self.setup.beside != Beside::Nothing {
            self.heal_beside();
        }
        // A failed write may be in the cache or not, but what is there is durable.
        assert_eq!(self.cache.dirty_pages(), 0);
        let durable = self.device.durable.clone();
        assert_eq!(durable, self.device.current);
        self.cache.give_back(usize::MAX, &self.lab.pull_up());
        assert_eq!(self.cache.clusters(), 0);
        assert_eq!(self.runs.available(), 17);
        drop(self.cache);
        self.lab.assert_nothing_leaked();
    }
}

/// Does the operations on the setup of the first, and all that a cache must keep.
pub fn check(operations: &[(Setup, Op)]) {
    let Some((setup, _)) = operations.first() else {
        return;
    };
    let mut world = World::new(setup);
    for (_, op) in operations {
        world.step(op);
    }
    world.finish();
}
