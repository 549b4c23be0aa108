//! Volumes on devices that do what they are told, when they are told.
#![allow(dead_code, missing_docs)]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use block::{
    Buffers, Command, Completed, Device, Fault, Fences, Flags, Geometry, Io, NamespaceIndex,
    NotStarted, Op, OpEnds, OpIndex, OpTable, Request, RequestId, Span, VolumeId, WritePolicy,
};
use events::{StageClock, Ticks};
use nvlog::recovery::Replayed;
use nvlog::{Layout, LogId, Members, RegionSuperblock, Tables};
use pages::{Arena, ClusterPool, CopyLedger, HeapRegion, PAGE_SIZE, RunPool};
use volume::{Devices, LogMember, LogStart, Lost, Origin, Sizes, TableArea, Volumes};

/// What a device has, and what it was ever given.
#[derive(Default)]
pub struct Bench {
    pub under_way: Vec<(OpEnds, Completed)>,
    pub given: Vec<Command>,
    /// Commands that it takes at a time.
    pub depth: usize,
    pub timeout: Option<Duration>,
    /// Times it was told to recover.
    pub recoveries: usize,
    pub is_gone: bool,
    /// Blocks that were deallocated do not read as zeros.
    pub keeps_deallocated: bool,
    /// Elements of its lists meet at pages: it takes none as payload lies.
    pub prp: bool,
    /// What its commands end with, if not well.
    pub fault: Option<Fault>,
    /// Bytes of the tables area of a log in it.
    pub tables_len: u64,
    /// Blocks that it has more, or less, than others.
    pub more_blocks: i64,
    /// Writes can be lost until a flush.
    pub caches: bool,
}

pub struct Disk(Rc<RefCell<Bench>>);

impl Device for Disk {
    type Slot = ();

    fn geometry(&self) -> Geometry {
        Geometry {
            block_size: 4096,
            blocks: (1024 + self.0.borrow().tables_len / 4096)
                .saturating_add_signed(self.0.borrow().more_blocks),
            metadata: 0,
            alignment: 1,
            prp: self.0.borrow().prp,
            max_elements: 16,
            max_bytes: 1 << 17,
            write_cache: self.0.borrow().caches,
            write_zeroes: true,
            unmap: true,
            deallocated_zeros: !self.0.borrow().keeps_deallocated,
        }
    }

    fn is_gone(&self) -> bool {
        self.0.borrow().is_gone
    }

    fn timeout(&self) -> Option<Duration> {
        self.0.borrow().timeout
    }

    fn recover(&mut self) {
        self.0.borrow_mut().recoveries += 1;
    }

    /// What it has ends.
    fn give_up(&mut self) {
        let mut bench = self.0.borrow_mut();
        bench.is_gone = true;
        for (to, completed) in bench.under_way.drain(..) {
            let result = Err(Fault::Gone);
            to.push(Completed {
                result,
                ..completed
            });
        }
    }

    fn poll(&mut self) -> bool {
        false
    }

    fn submit(
        &mut self,
        ops: &mut OpTable<()>,
        op: OpIndex,
        _: usize,
        command: Command,
    ) -> Result<(), NotStarted> {
        let mut bench = self.0.borrow_mut();
        if bench.under_way.len() >= bench.depth {
            return Err(NotStarted::Full);
        }
        let request = ops.request(op);
        let completed = Completed {
            op,
            request,
            result: Ok(()),
        };
        bench.under_way.push((ops.ends(), completed));
        bench.given.push(command);
        Ok(())
    }
}

#[derive(Clone, Copy)]
pub struct NoTime;

impl Ticks for NoTime {
    fn now(&self) -> u64 {
        0
    }

    fn hz(&self) -> u64 {
        1
    }
}

pub const HOST: Origin = Origin { link: 0, slot: 3 };
pub const OTHER: Origin = Origin { link: 0, slot: 4 };
pub const NAMESPACE: NamespaceIndex = NamespaceIndex(0);
/// Bytes of the longest request, unless a test says otherwise.
const LONGEST: usize = 1 << 17;

/// A request's end: whose it was, its number, and how it ended.
pub type End = (Origin, u64, Result<(), Fault>);

fn benches(devices: &[(usize, Option<Duration>)]) -> Vec<Rc<RefCell<Bench>>> {
    let bench = |&(depth, timeout): &_| {
        Rc::new(RefCell::new(Bench {
            depth,
            timeout,
            ..Bench::default()
        }))
    };
    devices.iter().map(bench).collect()
}

pub struct Lab {
    pub volumes: Volumes<Disk>,
    pub buffers: Buffers,
    /// By volume.
    pub benches: Vec<Rc<RefCell<Bench>>>,
    pub fences: Arc<Fences>,
    stages: StageClock<NoTime>,
    pub now: Duration,
}

impl Lab {
    /// One volume, whose device takes `depth` commands at a time.
    pub fn new(policy: WritePolicy, depth: usize) -> Self {
        Self::with(policy, &[(depth, None)], 16)
    }

    /// Volumes with devices of these depths and timeouts.
    pub fn with(
        policy: WritePolicy,
        devices: &[(usize, Option<Duration>)],
        requests: usize,
    ) -> Self {
        Self::shard([0, 1], policy, &benches(devices), requests, LONGEST)
    }

    /// One volume, which is the last, that lies on all of these drives.
    pub fn spanned(policy: WritePolicy, drives: Vec<Bench>) -> Self {
        let drives: Vec<_> = (drives.into_iter())
            .map(|drive| Rc::new(RefCell::new(drive)))
            .collect();
        Self::shard_of([0, 1], policy, &drives, 16, LONGEST, true)
    }

    /// One volume, whose changes go to a log, on a device that is the bench behind its own.
    pub fn logged() -> Self {
        Self::logged_or(false)
    }

    /// The same; `through`: once the log has failed and is empty, changes go straight to the drive.
    pub fn logged_or(through: bool) -> Self {
        Self::logged_on(Bench::default(), through)
    }

    /// The same on a drive.
    pub fn logged_on(drive: Bench, through: bool) -> Self {
        let drive = Bench { depth: 16, ..drive };
        let drives = [Rc::new(RefCell::new(drive))];
        let mut lab = Self::shard([0, 1], WritePolicy::Logged, &drives, 16, LONGEST);
        lab.start_log(&benches(&[(16, None)])[0], [0, 1], through);
        lab
    }

    /// The same with its log in this store.
    pub fn logged_in(store: Bench) -> Self {
        let mut lab = Self::new(WritePolicy::Logged, 16);
        let store = Bench { depth: 16, ..store };
        lab.start_log(&Rc::new(RefCell::new(store)), [0, 1], false);
        lab
    }

    /// Two shards that share a volume, whose changes go to their log.
    pub fn logged_pair() -> [Self; 2] {
        Self::logged_pair_of(LONGEST)
    }

    /// The same with requests of at most so many bytes: the shorter they are, the less is lent.
    pub fn logged_pair_of(max_bytes: usize) -> [Self; 2] {
        let mut pair = Self::pair_of(WritePolicy::Logged, &[(1000, None)], max_bytes);
        let bench = benches(&[(16, None)]).remove(0);
        for (me, lab) in pair.iter_mut().enumerate() {
            lab.start_log(&bench, [me, 2], false);
        }
        pair
    }

    /// Shard `me` of `shards` has a log in the store that `bench` is.
    fn start_log(&mut self, bench: &Rc<RefCell<Bench>>, [me, shards]: [usize; 2], through: bool) {
        self.benches.push(Rc::clone(bench));
        (self.volumes).attach_log(vec![Some(Disk(Rc::clone(bench)))], 16, || ());
        let geometry = Disk(Rc::clone(bench)).geometry();
        let tables_len = bench.borrow().tables_len;
        let (len, block) = (geometry.len(), geometry.block_size);
        let layout = Layout::new(len, block, shards as u32, None, tables_len);
        let region = RegionSuperblock {
            generation: 1,
            oldest: 0,
            epochs: [1, 2],
            sequence: 1,
            previous: 0,
            members: Members::only(0),
            is_closed: false,
        };
        let store = LogMember {
            name: "log0".into(),
            volume: VolumeId(1),
            len: geometry.len(),
            member: Some(0),
        };
        let start = LogStart {
            log: LogId([7; 16]),
            stores: vec![store],
            lost: Lost::default(),
            layout: layout.expect("a store that is large enough"),
            regions: vec![region; shards],
            interval: Duration::from_secs(10),
            through_after_failure: through,
            replayed: Replayed::default(),
            warm: Vec::new(),
            discarded: Vec::new(),
            tables: Vec::new(),
            tables_kept: Vec::new(),
            table_area: TableArea::new(
                Tables::new(LogId([7; 16]), tables_len),
                vec![("disk0".into(), [0; 16])],
            ),
        };
        self.volumes.start_log(me, &start);
    }

    /// Two shards that share the volumes.
    pub fn pair(policy: WritePolicy, devices: &[(usize, Option<Duration>)]) -> [Self; 2] {
        Self::pair_of(policy, devices, LONGEST)
    }

    fn pair_of(
        policy: WritePolicy,
        devices: &[(usize, Option<Duration>)],
        max_bytes: usize,
    ) -> [Self; 2] {
        let benches = benches(devices);
        let mut pair = [0, 1].map(|me| Self::shard([me, 2], policy, &benches, 128, max_bytes));
        for (lab, ends) in pair.iter_mut().zip(volume::rings(2, max_bytes)) {
            lab.volumes.join(ends);
        }
        pair
    }

    fn shard(
        [me, shards]: [usize; 2],
        policy: WritePolicy,
        benches: &[Rc<RefCell<Bench>>],
        requests: usize,
        max_bytes: usize,
    ) -> Self {
        Self::shard_of([me, shards], policy, benches, requests, max_bytes, false)
    }

    /// `spans`: all of them are one volume.
    fn shard_of(
        [me, shards]: [usize; 2],
        policy: WritePolicy,
        benches: &[Rc<RefCell<Bench>>],
        requests: usize,
        max_bytes: usize,
        spans: bool,
    ) -> Self {
        let arena = Arena::new(HeapRegion::new(2 + 64 + 64));
        let zero_page = arena.zero_page().unwrap();
        let buffers = Buffers {
            pages: ClusterPool::carve(&arena, 64, PAGE_SIZE).unwrap(),
            clusters: ClusterPool::carve(&arena, 128, 2048).unwrap(),
            runs: RunPool::new(32, LONGEST),
            runs_len: 32,
            ledger: Rc::new(CopyLedger::new()),
            zero_page,
        };
        let sizes = Sizes {
            shards,
            clusters: 128,
            requests,
            cached: 2,
            elements: 16,
            max_bytes,
            // Of two shards, more than one may lend the other.
            cache_clusters: if shards == 1 { 64 } else { 1024 },
            deallocated_max: 1 << 20,
            deallocation_rest: Duration::from_secs(60),
            copy: false,
            seed: 1,
        };
        let fences = Arc::new(Fences::with_capacity(4));
        let devices: Vec<_> = benches.iter().map(|bench| Disk(Rc::clone(bench))).collect();
        let mut volumes: Vec<_> = (0..benches.len() as u16).map(VolumeId).collect();
        let mut policies = vec![policy; benches.len()];
        let members = volumes.iter().zip(&devices);
        let members: Vec<_> = members.map(|(&id, disk)| (id, disk.geometry())).collect();
        let span = spans.then(|| Span::new(&members).expect("drives that fit"));
        if spans {
            policies.fill(WritePolicy::Through);
            policies.push(policy);
            volumes = vec![VolumeId(benches.len() as u16)];
        }
        let volumes = Volumes::new(
            me,
            Devices::new(devices, span.into_iter().collect()),
            &policies,
            &volumes,
            &sizes,
            &fences,
            || (),
        );
        Self {
            volumes,
            buffers,
            benches: benches.to_vec(),
            fences,
            stages: StageClock::new(NoTime),
            now: Duration::ZERO,
        }
    }

    /// Zeroes the block `id`, as a request of that number.
    pub fn zero(&mut self, origin: Origin, id: u64) {
        self.zero_at(NAMESPACE, origin, id);
    }

    /// The same of a namespace.
    pub fn zero_at(&mut self, namespace: NamespaceIndex, origin: Origin, id: u64) {
        let io = Io::write_zeroes(id * 4096, 4096, Flags::fua(true));
        self.start(namespace, origin, id, io);
    }

    /// Reads `pages` pages of a namespace.
    pub fn read_at(&mut self, namespace: NamespaceIndex, origin: Origin, id: u64, pages: usize) {
        self.read_from(namespace, origin, id, 0, pages);
    }

    /// The same from a page on.
    pub fn read_from(
        &mut self,
        namespace: NamespaceIndex,
        origin: Origin,
        id: u64,
        first: u64,
        pages: usize,
    ) {
        let mut run = self.buffers.runs.take().expect("a run");
        run.begin(first * PAGE_SIZE as u64, pages * PAGE_SIZE)
            .expect("a run that is long enough");
        self.start(namespace, origin, id, Io::read(run, Flags::fua(false)));
    }

    /// Writes a page of a namespace, of four segments of one cluster.
    pub fn write_at(&mut self, namespace: NamespaceIndex, origin: Origin, id: u64, page: u64) {
        let mut run = self.buffers.runs.take().expect("a run");
        run.begin(page * PAGE_SIZE as u64, PAGE_SIZE)
            .expect("a run that is long enough");
        let cluster = self.buffers.clusters.alloc().expect("a cluster").freeze();
        for (at, from) in [0, 500, 100, 900].into_iter().enumerate() {
            run.place(
                at * 1024,
                cluster.clone().slice(from..from + 1024),
                &self.buffers.pull_up(),
            )
            .expect("a place for it");
        }
        self.start(namespace, origin, id, Io::write(run, Flags::NONE));
    }

    pub fn start(&mut self, namespace: NamespaceIndex, origin: Origin, id: u64, io: Io) {
        let request = Request {
            id: RequestId(id),
            namespace,
            io,
        };
        (self.volumes).start(origin, request, &self.buffers, &mut self.stages);
    }

    pub fn abort(&mut self, origin: Origin, id: u64) -> bool {
        self.volumes.abort(origin, RequestId(id))
    }

    pub fn flush_volume(&mut self, volume: VolumeId) {
        self.volumes.flush_volume(volume, &self.buffers);
    }

    /// Whose requests ended, and how.
    pub fn ends(&mut self) -> Vec<End> {
        let mut ends = Vec::new();
        self.volumes.poll(self.now, &self.buffers);
        while let Some(ended) = self.volumes.next_completion(&self.buffers, &self.stages) {
            let completion = ended.completion;
            ends.push((ended.origin, completion.id.0, completion.result));
            if let Some(run) = completion.run {
                self.buffers.runs.put(run);
            }
        }
        ends
    }

    /// The device of a volume ends what it has.
    pub fn serve(&mut self, volume: usize) -> Vec<End> {
        self.serve_some(volume, usize::MAX)
    }

    /// The same of so many of its oldest commands.
    pub fn serve_some(&mut self, volume: usize, commands: usize) -> Vec<End> {
        let mut bench = self.benches[volume].borrow_mut();
        let result = bench.fault.map_or(Ok(()), Err);
        let some = commands.min(bench.under_way.len());
        for (to, completed) in bench.under_way.drain(..some) {
            to.push(Completed {
                result,
                ..completed
            });
        }
        drop(bench);
        self.ends()
    }

    /// The devices end what they have, and whatever follows.
    pub fn finish(&mut self) -> Vec<End> {
        let mut ends = Vec::new();
        loop {
            let busy = |bench: &Rc<RefCell<Bench>>| !bench.borrow().under_way.is_empty();
            let was_busy = self.benches.iter().any(busy);
            for volume in 0..self.benches.len() {
                ends.extend(self.serve(volume));
            }
            if !was_busy && !self.benches.iter().any(busy) {
                assert_eq!(self.volumes.in_flight(), 0);
                return ends;
            }
        }
    }

    /// What a volume's device was told since this was last asked: what, the first block, and how many.
    pub fn told(&self, volume: usize) -> Vec<(Op, u64, u64)> {
        let given = self.benches[volume].borrow_mut().given.split_off(0);
        let told = given.iter().map(|it| (it.op, it.block, it.blocks));
        told.collect()
    }

    /// Blocks that the device was told to change.
    pub fn given(&self) -> Vec<u64> {
        let given = &self.benches[0].borrow().given;
        given.iter().map(|command| command.block).collect()
    }
}
