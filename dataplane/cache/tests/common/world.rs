//! A cache over one volume, one operation at a time.

use block::{Completion, Fault, Flags, Io, Op, RequestId, VolumeId, WritePolicy};
use cache::{CacheConfig, Operation, PageCache, VolumeConfig};
use pages::{PageRun, RunPool};

use super::{Lab, dma};

pub const LEN: u64 = 1 << 20;

/// A cache over one volume, whose device the test is.
pub struct World {
    pub lab: Lab,
    pub runs: RunPool,
    pub cache: PageCache,
    pub volume: VolumeId,
}

pub const CONFIG: CacheConfig = CacheConfig {
    pages: 24,
    clusters: 72,
    dirty_pages: 1000,
    requests: 8,
    operations: 8,
    max_bytes: 64 << 10,
    seed: 1,
};

impl World {
    pub fn new(block: usize, policy: WritePolicy, device_cache: bool) -> Self {
        let mut cache = PageCache::new(CONFIG);
        let config = VolumeConfig {
            len: LEN,
            block,
            policy,
            device_cache,
        };
        let volume = VolumeId(1);
        cache.add_volume(volume, config).unwrap();
        let (lab, runs) = (Lab::new(256, 2048, 200), RunPool::new(8, 64 << 10));
        Self {
            lab,
            runs,
            cache,
            volume,
        }
    }

    pub fn write_back(block: usize) -> Self {
        Self::new(block, WritePolicy::Back, false)
    }

    pub fn submit(&mut self, request: Io, tag: u64) {
        self.cache
            .submit(self.volume, RequestId(tag), request, &self.lab.pull_up())
            .unwrap();
    }

    /// Writes `len` bytes of `fill` at `offset`, in frames.
    pub fn write(&mut self, offset: u64, len: usize, fill: u8, fua: bool, tag: u64) {
        let mut run = self.runs.take().unwrap();
        run.begin(offset, len).unwrap();
        for at in (0..len).step_by(1448) {
            let n = 1448.min(len - at);
            let slice = self.lab.cluster(66, &vec![fill; n], None).slice(66..66 + n);
            run.place(at, slice, &self.lab.pull_up()).unwrap();
        }
        self.submit(Io::write(run, Flags::fua(fua)), tag);
    }

    pub fn read(&mut self, offset: u64, len: usize, tag: u64) {
        let mut run = self.runs.take().unwrap();
        run.begin(offset, len).unwrap();
        self.submit(Io::read(run, Flags::NONE), tag);
    }

    pub fn completed(&mut self) -> Option<(u64, Result<(), Fault>)> {
        let Completion { id, run, result } = self.cache.next_completion()?;
        if let Some(run) = run {
            self.runs.put(run);
        }
        Some((id.0, result))
    }

    /// The bytes of a read that completed.
    pub fn bytes(&mut self, tag: u64) -> Vec<u8> {
        let completion = self.cache.next_completion().expect("a completion");
        assert_eq!((completion.id.0, completion.result), (tag, Ok(())));
        let run = completion.run.unwrap();
        let bytes = run
            .segments()
            .flat_map(|s| s.bytes().unwrap().to_vec())
            .collect();
        self.runs.put(run);
        bytes
    }

    pub fn operation(&mut self) -> Operation {
        self.cache.next_operation().expect("an operation")
    }

    pub fn done(&mut self, operation: Operation, result: Result<(), Fault>) {
        self.cache
            .complete(operation.id, operation.io.run, result, &self.lab.pull_up());
    }

    /// The device reads `fill` bytes for `operation`.
    pub fn deliver(&mut self, operation: Operation, fill: u8) {
        let (Op::Read, Some(run)) = (operation.io.op, &operation.io.run) else {
            panic!("a read: {operation:?}");
        };
        dma(run, &vec![fill; run.len()]);
        self.done(operation, Ok(()));
    }
}

/// What an operation asks for: `R` or `W`, `F` past the device's cache, `D` to deallocate; offset and length.
pub fn summary(operation: &Operation) -> (char, u64, usize) {
    let io = &operation.io;
    let letter = match (io.op, io.flags.fua) {
        (Op::Read, _) => 'R',
        (Op::Write, false) => 'W',
        (Op::Write, true) => 'F',
        (Op::Flush, _) => 'f',
        (Op::Deallocate, _) => 'D',
        _ => panic!("none of the cache's: {io:?}"),
    };
    let run = io.run.as_ref().map(|run| (run.offset(), run.len() as u64));
    assert!(run.is_none_or(|run| run == (io.offset, io.len)));
    (letter, io.offset, io.len as usize)
}
