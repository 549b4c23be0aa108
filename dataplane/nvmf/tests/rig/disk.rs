//! Volumes in memory, and the engine's part of a request.

use std::collections::BTreeMap;
use std::ptr::NonNull;

use nvmf::{
    BlockRange, BlockSize, Completion, Operation, Request, Session, Status, Target, VolumeId,
};
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
    /// Requests kept from completing, and whose they are.
    pub held: Vec<(usize, Request)>,
    pub hold: bool,
    /// What the next requests end with, instead of being done.
    pub fail: Option<Status>,
    pub asked: Vec<Asked>,
    /// Keep no log, for tests that count allocations.
    pub quiet: bool,
    /// The segments of the last write: address and length.
    pub last_write: Vec<(NonNull<u8>, usize)>,
}

impl Disks {
    pub fn of(target: &Target) -> Self {
        let mut volumes = BTreeMap::new();
        for ns in target
            .config()
            .subsystems
            .iter()
            .flat_map(|s| &s.namespaces)
        {
            let bytes = ns.blocks as usize * ns.block_size.bytes() as usize;
            volumes.insert(ns.volume.0, vec![0; bytes]);
        }
        Self {
            volumes,
            ..Self::default()
        }
    }

    fn range(&mut self, volume: VolumeId, range: BlockRange, size: BlockSize) -> &mut [u8] {
        let start = range.offset(size) as usize;
        let disk = self.volumes.get_mut(&volume.0).expect("a volume");
        &mut disk[start..start + range.len(size) as usize]
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
        let (id, volume, size) = (request.id, request.volume, request.block_size);
        if let Some(status) = self.disks.fail {
            let run = match request.operation {
                Operation::Read { run, .. } | Operation::Write { run, .. } => Some(run),
                _ => None,
            };
            return Completion { id, status, run };
        }
        let v = volume.0;
        let (asked, run) = match request.operation {
            Operation::Read {
                range,
                fua,
                mut run,
            } => {
                assert_eq!(run.offset(), range.offset(size));
                assert_eq!(run.len() as u64, range.len(size));
                self.fill(volume, &mut run);
                let (first, blocks) = (range.first().0, range.blocks());
                (
                    Asked::Read {
                        volume: v,
                        first,
                        blocks,
                        fua,
                    },
                    Some(run),
                )
            }
            Operation::Write { range, fua, run } => {
                assert!(run.is_complete());
                assert_eq!(run.offset(), range.offset(size));
                assert_eq!(run.len() as u64, range.len(size));
                self.disks.last_write.clear();
                let to = self.disks.range(volume, range, size);
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
                let (first, blocks) = (range.first().0, range.blocks());
                (
                    Asked::Write {
                        volume: v,
                        first,
                        blocks,
                        fua,
                    },
                    Some(run),
                )
            }
            Operation::WriteZeroes {
                range,
                fua,
                deallocate,
            } => {
                self.disks.range(volume, range, size).fill(0);
                let (first, blocks) = (range.first().0, range.blocks());
                let asked = Asked::WriteZeroes {
                    volume: v,
                    first,
                    blocks,
                    fua,
                    deallocate,
                };
                (asked, None)
            }
            Operation::Deallocate { range } => {
                self.disks.range(volume, range, size).fill(0);
                let (first, blocks) = (range.first().0, range.blocks());
                (
                    Asked::Deallocate {
                        volume: v,
                        first,
                        blocks,
                    },
                    None,
                )
            }
            Operation::Flush => (Asked::Flush { volume: v }, None),
        };
        if !self.disks.quiet {
            self.disks.asked.push(asked);
        }
        Completion {
            id,
            status: Status::SUCCESS,
            run,
        }
    }

    /// Fills a read's run as a device would: into fresh pages.
    fn fill(&mut self, volume: VolumeId, run: &mut PageRun) {
        let disk = &self.disks.volumes[&volume.0];
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
