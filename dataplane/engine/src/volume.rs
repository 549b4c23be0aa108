//! From a session's request on a volume to its device, straight or through the
//! page cache, and back.

mod cached;
mod message;
mod owners;
mod peer;
mod table;

use std::collections::VecDeque;

use events::{Counter, tracepoint};
use nvmf::{Completion, Operation, Request, RequestId, Status};
use pages::PageRun;

use crate::clock::StageClock;
use crate::config::WritePolicy;
use crate::device::{DeviceCounters, Devices, Done, Work};
use crate::memory::Memory;
use crate::snapshot::{IoCounters, IoKind, NamespaceCounters, Stage};
use cached::Cached;
use owners::{Here, Owners};

pub(crate) use owners::ring_capacity;
pub(crate) use peer::PeerEnds;

/// The session a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) link: u16,
    pub(crate) slot: u32,
}

/// Whom an answer goes to, and what it is counted as.
#[derive(Clone, Copy, Debug)]
struct Asker {
    owner: Owner,
    id: RequestId,
    kind: IoKind,
    bytes: u64,
    /// Place in the list of namespaces.
    namespace: u32,
    /// When it came, in ticks.
    started: u64,
}

/// A request's end, and what it is counted as.
pub(crate) struct Answer {
    pub(crate) owner: Owner,
    pub(crate) completion: Completion,
    pub(crate) kind: IoKind,
    pub(crate) bytes: u64,
    pub(crate) namespace: u32,
    /// From the request's start to the lap in which its end was taken.
    pub(crate) nanoseconds: u64,
}

/// Whom a request in the cache is for.
#[derive(Clone, Copy, Debug)]
enum Whom {
    /// A session's request, all of it.
    Session(Asker),
    /// A part of a session's request.
    Part(u32),
    /// A part of another shard's request.
    Visit { shard: u16, token: u16 },
    /// Nobody: the engine's own flush.
    Engine,
}

/// Requests that ended, on their way to whom they are for.
type Answers = VecDeque<(Whom, Status, Option<Box<PageRun>>)>;

/// Whom a device's job is for.
#[derive(Debug)]
enum Ticket {
    /// A request that goes past the cache.
    Direct(Asker),
    /// An operation of the cache.
    Cache(cached::Ticket),
}

/// A shard's volumes and the requests under way at them.
pub(crate) struct Volumes {
    devices: Devices<Ticket>,
    cached: Cached,
    owners: Owners,
    answers: Answers,
    namespaces: Box<[Namespace]>,
    pages_by_segments: [u64; 4],
}

/// A namespace, as hosts see a store.
struct Namespace {
    store: usize,
    counters: NamespaceCounters,
}

impl Volumes {
    /// Volumes on `stores`, with the policy of each, for shard number `shard`;
    /// `namespaces` has the store of each namespace, in the order of their `VolumeId`s.
    pub(crate) fn new(
        shard: usize,
        stores: Vec<crate::store::Store>,
        policies: &[WritePolicy],
        namespaces: &[usize],
        sizes: &Sizes,
    ) -> Self {
        // A cached request may need a device for itself and for what it pushes out.
        let jobs = sizes.requests + cached::OPERATIONS;
        let ops = sizes.cached + cached::OPERATIONS;
        let devices = Devices::new(stores, jobs, ops, sizes.elements, sizes.copy);
        Self {
            cached: Cached::new(&devices, policies, sizes),
            owners: Owners::new(shard, sizes),
            devices,
            answers: VecDeque::with_capacity(4 * sizes.requests),
            namespaces: (namespaces.iter())
                .map(|&store| Namespace {
                    store,
                    counters: NamespaceCounters::default(),
                })
                .collect(),
            pages_by_segments: [0; 4],
        }
    }

    /// Starts a request; its answer comes from [`Volumes::next_completion`].
    #[inline(never)] // a border of stages, as those of `Link`
    pub(crate) fn start(
        &mut self,
        owner: Owner,
        request: Request,
        memory: &Memory,
        stages: &mut StageClock,
    ) {
        let namespace = request.volume.0;
        let volume = self.namespaces[namespace as usize].store;
        let block = u64::from(request.block_size.bytes());
        let bytes =
            |range: nvmf::BlockRange| (range.first().0 * block, u64::from(range.blocks()) * block);
        let (kind, len, work) = match request.operation {
            Operation::Read { range, run, .. } => (IoKind::Read, bytes(range).1, Work::Read(run)),
            Operation::Write { range, fua, run } => {
                for (sum, n) in self.pages_by_segments.iter_mut().zip(run.fragments()) {
                    *sum += u64::from(n);
                }
                (IoKind::Write, bytes(range).1, Work::Write { run, fua })
            }
            Operation::WriteZeroes { range, fua, .. } => {
                let (offset, len) = bytes(range);
                (IoKind::Other, len, Work::WriteZeroes { offset, len, fua })
            }
            Operation::Deallocate { range } => {
                let (offset, len) = bytes(range);
                (IoKind::Other, len, Work::Deallocate { offset, len })
            }
            Operation::Flush => (IoKind::Other, 0, Work::Flush),
        };
        stages.end(Stage::Assemble);
        let asker = Asker {
            owner,
            id: request.id,
            kind,
            bytes: len,
            namespace,
            started: stages.lap(),
        };
        tracepoint::request_start(
            request.id.number(),
            owner.slot.into(),
            namespace.into(),
            kind as u64,
            len,
        );
        if self.cached.holds(volume) {
            let mut here = Here {
                cached: &mut self.cached,
                memory,
                answers: &mut self.answers,
            };
            self.owners.start(asker, volume, work, &mut here);
            self.cached
                .pump(&mut self.devices, memory, &mut self.answers);
        } else {
            self.devices
                .start(Ticket::Direct(asker), volume, work, memory);
        }
        stages.end(Stage::Submit);
    }

    /// Polls devices and lets what waited go on; whether there was work.
    pub(crate) fn poll(&mut self, memory: &Memory) -> bool {
        let mut busy = self.devices.poll(memory);
        let mut here = Here {
            cached: &mut self.cached,
            memory,
            answers: &mut self.answers,
        };
        busy |= self.owners.poll(&mut here);
        self.cached.relieve(self.owners.is_crowded(), memory);
        self.cached.resume(memory);
        self.cached
            .pump(&mut self.devices, memory, &mut self.answers);
        busy | self.has_completed()
    }

    /// When there is nothing better to do: some of what is dirty goes to its device.
    pub(crate) fn idle(&mut self, memory: &Memory) {
        self.cached.write_back();
        self.cached
            .pump(&mut self.devices, memory, &mut self.answers);
    }

    pub(crate) fn has_completed(&self) -> bool {
        !self.answers.is_empty() || self.devices.has_done()
    }

    /// The next request of a session that ended.
    pub(crate) fn next_completion(
        &mut self,
        memory: &Memory,
        stages: &StageClock,
    ) -> Option<Answer> {
        loop {
            let Some((whom, status, run)) = self.answers.pop_front() else {
                self.next_done(memory)?;
                continue;
            };
            let mut here = Here {
                cached: &mut self.cached,
                memory,
                answers: &mut self.answers,
            };
            match whom {
                Whom::Session(asker) => {
                    return Some(self.account(&asker, status, run, stages));
                }
                Whom::Part(part) => self.owners.part_done(part, status, run, &mut here),
                Whom::Visit { shard, token } => self.owners.visit_done(shard, token, status, run),
                Whom::Engine if status.is_success() => {}
                Whom::Engine => log::error!(
                    "flushing the page cache failed: {status:?}; dirty pages are lost with this process"
                ),
            }
        }
    }

    /// Takes the next finished job of a device; `None` if there is none.
    fn next_done(&mut self, memory: &Memory) -> Option<()> {
        let Done {
            ticket,
            status,
            run,
        } = self.devices.next_done(memory)?;
        match ticket {
            Ticket::Direct(asker) => {
                self.answers.push_back((Whom::Session(asker), status, run));
            }
            Ticket::Cache(ticket) => {
                self.cached.complete(ticket, status, run, memory);
                self.cached
                    .pump(&mut self.devices, memory, &mut self.answers);
            }
        }
        Some(())
    }

    /// Shares pages with other shards from now on; `ends` by shard.
    pub(crate) fn join(&mut self, ends: Vec<Option<PeerEnds>>) {
        self.owners.join(ends);
    }

    /// Lets go of what the cache has, and of what other shards lent us; whether
    /// all is back where it belongs, with us and with them.
    pub(crate) fn let_go(&mut self, memory: &Memory) -> bool {
        self.cached.forget();
        self.poll(memory);
        self.owners.is_settled()
    }

    /// Asks for everything dirty to be written; the engine stops.
    pub(crate) fn flush(&mut self, memory: &Memory) {
        self.cached.flush_all(memory, &mut self.answers);
        self.cached
            .pump(&mut self.devices, memory, &mut self.answers);
    }

    /// Pages that only memory holds.
    pub(crate) fn dirty_pages(&self) -> usize {
        self.cached.dirty_pages()
    }

    /// Requests and device jobs not yet at their end.
    pub(crate) fn in_flight(&self) -> usize {
        self.devices.in_flight()
            + self.cached.in_progress()
            + self.owners.in_progress()
            + self.answers.len()
    }

    pub(crate) fn devices(&self) -> (usize, usize) {
        (self.devices.ops_len(), self.devices.ops_available())
    }

    /// Of each namespace, in the order of their `VolumeId`s.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &NamespaceCounters> {
        self.namespaces.iter().map(|namespace| &namespace.counters)
    }

    pub(crate) fn io(&self) -> IoCounters {
        let mut sum = IoCounters::default();
        for namespace in self.namespaces() {
            sum.combine(&namespace.io, |sum, n| *sum += n);
        }
        sum
    }

    pub(crate) fn pages_by_segments(&self) -> [u64; 4] {
        self.pages_by_segments
    }

    pub(crate) fn device_counters(&self) -> DeviceCounters {
        self.devices.counters()
    }

    pub(crate) fn cache_counters(&self) -> Option<Vec<Counter>> {
        let mut counters = self.cached.counters()?;
        counters.extend(
            self.owners
                .counters()
                .iter()
                .flat_map(|owners| owners.iter()),
        );
        Some(counters)
    }

    fn account(
        &mut self,
        asker: &Asker,
        status: Status,
        run: Option<Box<PageRun>>,
        stages: &StageClock,
    ) -> Answer {
        let nanoseconds = stages.since(asker.started);
        let counters = &mut self.namespaces[asker.namespace as usize].counters;
        counters.count(asker.kind, asker.bytes, nanoseconds, status.is_success());
        let id = asker.id;
        Answer {
            owner: asker.owner,
            completion: Completion { id, status, run },
            kind: asker.kind,
            bytes: asker.bytes,
            namespace: asker.namespace,
            nanoseconds,
        }
    }
}

/// What [`Volumes::cache_counters`] gives, of a cache that has done nothing.
pub(crate) fn cache_counters_at_zero() -> Vec<Counter> {
    let owners = owners::OwnersCounters::default();
    cached::counters_at_zero().chain(owners.iter()).collect()
}

/// How much room volumes get.
pub(crate) struct Sizes {
    /// Shards that share the volumes.
    pub(crate) shards: usize,
    /// Receive clusters.
    pub(crate) clusters: usize,
    /// Requests under way at once.
    pub(crate) requests: usize,
    /// Of them, those that the cache, and a device, works on at once; others wait.
    pub(crate) cached: usize,
    /// Elements of one device list.
    pub(crate) elements: usize,
    /// Bytes of the longest request.
    pub(crate) max_bytes: usize,
    /// Clusters the cache may refer to.
    pub(crate) cache_clusters: usize,
    /// Assemble by memcpy.
    pub(crate) copy: bool,
    /// For the cache's index.
    pub(crate) seed: u64,
}
