//! Volumes in memory, and the engine's part of a request.

use std::collections::BTreeMap;
use std::ptr::NonNull;

use block::{Completion, Fault, NamespaceIndex, Op, Request};
use nvmf::{Session, Target};
use pages::{Fresh, PageRun};

use super::Rig;

/// What was asked of the volumes, apart from data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Read {
        volume: u32,
        first: u64,
        blocks: u32,
        fua: bool,
    },
    Write {
        volume: u32,
        first: u64,
        blocks: u32,
        fua: bool,
    },
    WriteZeroes {
        volume: u32,
        first: u64,
        blocks: u32,
        fua: bool,
        deallocate: bool,
    },
    Deallocate {
        volume: u32,
        first: u64,
        blocks: u32,
    },
    Flush {
        volume: u32,
    },
}

#[derive(Default)]
pub struct Disks {
    pub volumes: BTreeMap<u32, Vec<u8>>,
    /// Bytes of a block of each.
    pub block_sizes: BTreeMap<u32, u64>,
    /// Requests kept from completing, and whose they are.
    pub held: Vec<(usize, Request)>,
    pub hold: bool,
    /// What the next requests end with, instead of being done.
    pub fail: Option<Fault>,
    pub asked: Vec<Asked>,
    /// Keep no log, for tests that count allocations.
    pub quiet: bool,
    /// The segments of the last write: address and length.
    pub last_write: Vec<(NonNull<u8>, usize)>,
}

impl Disks {
    pub fn of(target: &Target) -> Self {
        let (mut volumes, mut block_sizes) = (BTreeMap::new(), BTreeMap::new());
        for ns in target
            .config()
            .subsystems
            .iter()
            .flat_map(|s| &s.namespaces)
        {
            let bytes = ns.blocks as usize * ns.block_size.bytes() as usize;
            volumes.insert(ns.index.0, vec![0; bytes]);
            block_sizes.insert(ns.index.0, ns.block_size.bytes().into());
        }
        Self {
            volumes,
            block_sizes,
            ..Self::default()
        }
    }

    fn range(&mut self, namespace: NamespaceIndex, offset: u64, len: u64) -> &mut [u8] {
        let disk = self.volumes.get_mut(&namespace.0).expect("a volume");
        &mut disk[offset as usize..(offset + len) as usize]
    }
}

impl Rig {
    /// Does what `session`, numbered `owner`, asks for, and completes it unless
    /// told to hold.
    pub fn serve(&mut self, owner: usize, session: &mut Session) {
        while let Some(request) = session.next_request(&mut self.shard()) {
            if self.disks.hold {
                self.disks.held.push((owner, request));
            } else {
                let completion = self.execute(request);
                session.complete(completion, &mut self.shard());
            }
        }
    }

    /// Completes what was held, all of it for `session`.
    pub fn release(&mut self, session: &mut Session) {
        for (_, request) in std::mem::take(&mut self.disks.held) {
            let completion = self.execute(request);
            session.complete(completion, &mut self.shard());
        }
    }

    pub fn execute(&mut self, request: Request) -> Completion {
        let Request { id, namespace, io } = request;
        let result = match self.disks.fail {
            Some(fault) => Err(fault),
            None => Ok(()),
        };
        let mut run = io.run;
        assert_eq!(run.is_some(), io.op.moves_data());
        if result.is_err() {
            return Completion { id, result, run };
        }
        let volume = namespace.0;
        let size = self.disks.block_sizes[&volume];
        assert!(io.offset.is_multiple_of(size) && io.len.is_multiple_of(size));
        let (first, blocks) = (io.offset / size, (io.len / size) as u32);
        let (fua, deallocate) = (io.flags.fua, io.flags.deallocate);
        if let Some(run) = &run {
            assert_eq!((run.offset(), run.len() as u64), (io.offset, io.len));
        }
        let asked = match io.op {
            Op::Read => {
                self.fill(namespace, run.as_deref_mut().expect("a run"));
                Asked::Read {
                    volume,
                    first,
                    blocks,
                    fua,
                }
            }
            Op::Write => {
                self.store(namespace, run.as_deref().expect("a run"));
                Asked::Write {
                    volume,
                    first,
                    blocks,
                    fua,
                }
            }
            Op::WriteZeroes => {
                self.disks.range(namespace, io.offset, io.len).fill(0);
                Asked::WriteZeroes {
                    volume,
                    first,
                    blocks,
                    fua,
                    deallocate,
                }
            }
            Op::Deallocate => {
                self.disks.range(namespace, io.offset, io.len).fill(0);
                Asked::Deallocate {
                    volume,
                    first,
                    blocks,
                }
            }
            Op::Flush => Asked::Flush { volume },
        };
        if !self.disks.quiet {
            self.disks.asked.push(asked);
        }
        Completion { id, result, run }
    }

    /// Stores a write's run as a device would.
    fn store(&mut self, namespace: NamespaceIndex, run: &PageRun) {
        assert!(run.is_complete());
        self.disks.last_write.clear();
        let to = (self.disks).range(namespace, run.offset(), run.len() as u64);
        let mut at = 0;
        for segment in run.segments() {
            let bytes = segment.bytes().expect("data");
            to[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        }
        assert_eq!(at, to.len());
        if !self.disks.quiet {
            for segment in run.segments() {
                let address = segment.address().expect("data");
                self.disks.last_write.push((address, segment.len()));
            }
        }
    }

    /// Fills a read's run as a device would: into fresh pages.
    fn fill(&mut self, namespace: NamespaceIndex, run: &mut PageRun) {
        let disk = &self.disks.volumes[&namespace.0];
        let pull_up = pages::PullUp::new(&self.pages, &self.ledger);
        let (mut at, len, offset) = (0, run.len(), run.offset() as usize);
        while at < len {
            let in_page = (offset + at) % pages::PAGE_SIZE;
            let n = (pages::PAGE_SIZE - in_page).min(len - at);
            let mut page: Fresh = self.pages.alloc().expect("a page for a read");
            page[in_page..in_page + n].copy_from_slice(&disk[offset + at..offset + at + n]);
            let slice = page.freeze().slice(in_page..in_page + n);
            run.place(at, slice, &pull_up).expect("room in the run");
            at += n;
        }
    }
}
