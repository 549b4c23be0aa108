//! A shard without a network: the pools a session needs, volumes in memory, and
//! the test kit's host, which knows nothing of the code under test.
#![allow(dead_code)]

pub mod chaos;
pub mod disk;
pub mod host;
pub mod wire;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use block::{LastSmart, NamespaceIndex};
use nvmf::{
    BlockSize, CommandPool, Counters, Endpoints, Hosts, Listener, NamespaceConfig, Nsid, Resources,
    Session, SubsystemConfig, Target, TargetConfig, Timestamp,
};
use pages::{Arena, ClusterPool, CopyLedger, HeapRegion, PAGE_SIZE, RunPool};
pub use testkit::Random;

use disk::Disks;

pub const NQN: &str = "nqn.2026-01.io.throughline:lab";
pub const CLOSED_NQN: &str = "nqn.2026-01.io.throughline:closed";
pub const HOST_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// How much of everything the shard has.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub frames: usize,
    pub frame_bytes: usize,
    pub pages: usize,
    pub runs: usize,
    pub runs_reserved: usize,
    pub slots: u16,
    pub write_bytes: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            frames: 2048,
            frame_bytes: 2048,
            pages: 512,
            runs: 64,
            runs_reserved: 16,
            slots: 256,
            write_bytes: 1 << 20,
        }
    }
}

pub struct Rig {
    pub target: Arc<Target>,
    pub arena: Rc<Arena>,
    pub frames: ClusterPool,
    pub pages: ClusterPool,
    pub runs: RunPool,
    pub runs_total: usize,
    pub ledger: CopyLedger,
    pub commands: CommandPool,
    pub counters: Counters,
    pub disks: Disks,
    pub now: Timestamp,
    /// TCP port of the listener that hosts connect to.
    pub port: u16,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(config(), Sizes::default())
    }

    pub fn with(config: TargetConfig, sizes: Sizes) -> Self {
        let max_io = config.max_io_bytes as usize;
        let target = Target::new(config).unwrap();
        Self::on(target, max_io, sizes)
    }

    /// Another shard of the same target.
    pub fn beside(&self, sizes: Sizes) -> Self {
        let target = Arc::clone(&self.target);
        Self::on(target, self.runs.max_bytes(), sizes)
    }

    fn on(target: Arc<Target>, max_io: usize, sizes: Sizes) -> Self {
        let frame_pages = (sizes.frames * sizes.frame_bytes).div_ceil(PAGE_SIZE);
        let arena = Arena::new(HeapRegion::new(frame_pages + sizes.pages));
        let disks = Disks::of(&target);
        Self {
            target,
            frames: ClusterPool::carve(&arena, sizes.frames, sizes.frame_bytes).unwrap(),
            pages: ClusterPool::carve(&arena, sizes.pages, PAGE_SIZE).unwrap(),
            arena,
            runs: RunPool::new(sizes.runs, max_io),
            runs_total: sizes.runs,
            ledger: CopyLedger::new(),
            commands: CommandPool::new(sizes.slots, sizes.write_bytes, sizes.runs_reserved),
            counters: Counters::default(),
            disks,
            now: Timestamp(1_000_000),
            port: endpoints().local.port(),
        }
    }

    pub fn shard(&mut self) -> Resources<'_> {
        Resources {
            runs: &self.runs,
            pages: &self.pages,
            ledger: &self.ledger,
            commands: &mut self.commands,
            counters: &mut self.counters,
        }
    }

    pub fn session(&self) -> Session {
        let mut endpoints = endpoints();
        endpoints.local.set_port(self.port);
        Session::new(&self.target, endpoints, self.now)
    }

    /// Nothing is held by anybody.
    #[track_caller]
    pub fn assert_all_returned(&self) {
        assert_eq!(self.frames.held(), 0, "frames");
        assert_eq!(self.pages.held(), 0, "pages");
        assert_eq!(self.runs.available(), self.runs_total, "runs");
        assert_eq!(self.commands.in_use(), 0, "slots");
        assert_eq!(self.commands.write_bytes_granted(), 0, "credit");
    }

    /// The CPU copied no payload.
    #[track_caller]
    pub fn assert_no_copy(&self) {
        assert_eq!(self.ledger.bytes_copied_total(), 0, "copied bytes");
    }
}

pub fn endpoints() -> Endpoints {
    Endpoints {
        local: SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 4420),
        host: SocketAddr::new(Ipv4Addr::new(10, 0, 0, 2).into(), 40000),
    }
}

pub fn namespace(nsid: u32, block_size: BlockSize, bytes: u64) -> NamespaceConfig {
    // Another one for every number, small ones in each octet.
    let id = |octet: u8| {
        let mut id = [octet; 16];
        id[0] ^= (nsid >> 8) as u8;
        id[1] ^= nsid as u8 & 0xf0;
        id
    };
    NamespaceConfig {
        nsid: Nsid(nsid),
        index: NamespaceIndex(100 + nsid),
        block_size,
        blocks: bytes >> block_size.shift(),
        uuid: id(nsid as u8),
        nguid: id(0xa0 | nsid as u8),
        eui64: [0; 8],
        volatile_write_cache: nsid == 1,
        deallocated_reads_zero: true,
        is_backup: false,
        smart: LastSmart::default(),
    }
}

pub fn config() -> TargetConfig {
    let subsystem = |nqn: &str, hosts| SubsystemConfig {
        nqn: nqn.into(),
        serial: "TL0001".into(),
        model: "Throughline".into(),
        namespaces: vec![
            namespace(1, BlockSize::B512, 1 << 20),
            namespace(2, BlockSize::B4096, 2 << 20),
        ],
        hosts,
        max_queues: 8,
        ana: None,
        cntlids: SubsystemConfig::CNTLIDS,
        peers: Vec::new(),
    };
    TargetConfig {
        subsystems: vec![
            subsystem(NQN, Hosts::Any),
            subsystem(
                CLOSED_NQN,
                Hosts::Listed(vec!["nqn.2026-01.io.throughline:friend".into()]),
            ),
        ],
        listeners: vec![
            Listener {
                address: Ipv4Addr::new(10, 0, 0, 1).into(),
                port: 4420,
            }
            .into(),
            Listener {
                address: Ipv6Addr::LOCALHOST.into(),
                port: 4421,
            }
            .into(),
        ],
        queue_depth: 64,
        ..TargetConfig::default()
    }
}
