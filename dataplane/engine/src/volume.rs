//! From a session's request on a volume to its device, straight or through the
//! page cache, and back.

mod cached;

use std::collections::VecDeque;

use nvmf::{Completion, Operation, Request, RequestId, Status};
use pages::PageRun;

use crate::clock::StageClock;
use crate::config::WritePolicy;
use crate::device::{Devices, Done, Work};
use crate::memory::Memory;
use crate::snapshot::{IoCounters, Stage};
use cached::Cached;

/// The session a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) link: u16,
    pub(crate) slot: u32,
}

/// What a request counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Other,
}

/// Whom an answer goes to, and what it is counted as.
#[derive(Clone, Copy, Debug)]
struct Asker {
    owner: Owner,
    id: RequestId,
    kind: Kind,
    bytes: u64,
}

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
    /// Answers on their way back.
    answers: VecDeque<(Asker, Status, Option<Box<PageRun>>)>,
    io: IoCounters,
    pages_by_segments: [u64; 4],
}

impl Volumes {
    /// Volumes on `devices`, with the policy of each; `requests` may be under way at once.
    pub(crate) fn new(
        stores: Vec<crate::store::Store>,
        policies: &[WritePolicy],
        sizes: &Sizes,
    ) -> Self {
        // A cached request may need a device for itself and for what it pushes out.
        let jobs = sizes.requests + cached::OPERATIONS;
        let devices = Devices::new(stores, jobs, sizes.elements, sizes.copy);
        Self {
            cached: Cached::new(&devices, policies, sizes),
            devices,
            answers: VecDeque::with_capacity(sizes.requests),
            io: IoCounters::default(),
            pages_by_segments: [0; 4],
        }
    }

    /// Starts a request; its answer comes from [`Volumes::next_completion`].
    pub(crate) fn start(
        &mut self,
        owner: Owner,
        request: Request,
        memory: &Memory,
        stages: &mut StageClock,
    ) {
        let volume = request.volume.0 as usize;
        let block = u64::from(request.block_size.bytes());
        let bytes =
            |range: nvmf::BlockRange| (range.first().0 * block, u64::from(range.blocks()) * block);
        let (kind, len, work) = match request.operation {
            Operation::Read { range, run, .. } => (Kind::Read, bytes(range).1, Work::Read(run)),
            Operation::Write { range, fua, run } => {
                for (sum, n) in self.pages_by_segments.iter_mut().zip(run.fragments()) {
                    *sum += u64::from(n);
                }
                (Kind::Write, bytes(range).1, Work::Write { run, fua })
            }
            Operation::WriteZeroes { range, fua, .. } => {
                let (offset, len) = bytes(range);
                (Kind::Other, len, Work::WriteZeroes { offset, len, fua })
            }
            Operation::Deallocate { range } => {
                let (offset, len) = bytes(range);
                (Kind::Other, len, Work::Deallocate { offset, len })
            }
            Operation::Flush => (Kind::Other, 0, Work::Flush),
        };
        let asker = Asker {
            owner,
            id: request.id,
            kind,
            bytes: len,
        };
        stages.end(Stage::Assemble);
        if self.cached.holds(volume) {
            self.cached
                .start(asker, volume, work, memory, &mut self.answers);
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
        let busy = self.devices.poll(memory);
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

    /// The next request that ended.
    pub(crate) fn next_completion(&mut self, memory: &Memory) -> Option<(Owner, Completion)> {
        while self.answers.is_empty() {
            let Done {
                ticket,
                status,
                run,
            } = self.devices.next_done(memory)?;
            match ticket {
                Ticket::Direct(asker) => self.answers.push_back((asker, status, run)),
                Ticket::Cache(ticket) => {
                    self.cached.complete(ticket, status, run, memory);
                    self.cached
                        .pump(&mut self.devices, memory, &mut self.answers);
                }
            }
        }
        let (asker, status, run) = self.answers.pop_front()?;
        self.account(&asker, status);
        Some((
            asker.owner,
            Completion {
                id: asker.id,
                status,
                run,
            },
        ))
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
        self.devices.in_flight() + self.cached.in_progress() + self.answers.len()
    }

    pub(crate) fn devices(&self) -> (usize, usize) {
        (self.devices.ops_len(), self.devices.ops_available())
    }

    pub(crate) fn io(&self) -> IoCounters {
        self.io
    }

    pub(crate) fn pages_by_segments(&self) -> [u64; 4] {
        self.pages_by_segments
    }

    pub(crate) fn device_counters(&self) -> [(&'static str, u64); 3] {
        self.devices.counters()
    }

    pub(crate) fn cache_counters(&self) -> Option<Vec<(&'static str, u64)>> {
        self.cached.counters()
    }

    fn account(&mut self, asker: &Asker, status: Status) {
        let io = &mut self.io;
        match asker.kind {
            _ if !status.is_success() => io.errors += 1,
            Kind::Read => {
                io.reads += 1;
                io.read_bytes += asker.bytes;
            }
            Kind::Write => {
                io.writes += 1;
                io.written_bytes += asker.bytes;
            }
            Kind::Other => io.others += 1,
        }
    }
}

/// How much room volumes get.
pub(crate) struct Sizes {
    /// Requests under way at once.
    pub(crate) requests: usize,
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
