//! Counters as a value: what `throughline stats` prints.

use std::net::SocketAddr;
use std::sync::Arc;

use events::{Counter, Histogram};
use net::ConnectionInfo;
use nvmf::ControllerInfo;
use serde::{Deserialize, Serialize};

use crate::device::DeviceCounters;
use crate::port::QueueCounters;
use crate::shard::NoticeCounters;

/// A stage of the path a frame takes, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// Taking frames from the port.
    Receive,
    /// TCP and below.
    Tcp,
    /// PDUs.
    Protocol,
    /// Logical pages.
    Assemble,
    /// Handing lists to the device.
    Submit,
    /// Taking completions from the device.
    Complete,
    /// Building segments and handing frames to the port.
    Transmit,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 7] = [
        Stage::Receive,
        Stage::Tcp,
        Stage::Protocol,
        Stage::Assemble,
        Stage::Submit,
        Stage::Complete,
        Stage::Transmit,
    ];

    /// The name statistics use.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Receive => "receive",
            Stage::Tcp => "tcp",
            Stage::Protocol => "protocol",
            Stage::Assemble => "assemble",
            Stage::Submit => "submit",
            Stage::Complete => "complete",
            Stage::Transmit => "transmit",
        }
    }
}

/// The counters of a whole engine.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// TSC ticks per second.
    pub tsc_hz: u64,
    /// One per shard.
    pub shards: Vec<ShardSnapshot>,
    /// What there is, in the order in which shards speak of it.
    pub inventory: Arc<Inventory>,
    /// The controllers of all shards.
    pub controllers: Vec<ControllerInfo>,
}

/// The parts of an engine that counters belong to.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Names of the ports.
    pub ports: Vec<String>,
    /// Namespaces.
    pub namespaces: Vec<NamespaceName>,
}

/// Which namespace it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceName {
    /// NQN of its subsystem.
    pub subsystem: String,
    /// Its number there.
    pub nsid: u32,
    /// The store behind it.
    pub store: String,
}

/// The counters of one shard, since it started.
#[derive(Clone, Debug, Default)]
pub struct ShardSnapshot {
    /// The core it polls on.
    pub core: u32,
    /// Polls of the loop, and those that found work.
    pub polls: u64,
    /// Polls that found work.
    pub polls_busy: u64,
    /// TSC ticks since the loop began.
    pub cycles_total: u64,
    /// TSC ticks by stage, in the order of [`Stage::ALL`]; idle polls are left out.
    pub cycles_by_stage: [u64; Stage::ALL.len()],
    /// Completed commands and bytes by kind.
    pub io: IoCounters,
    /// The same by namespace, with latencies, in the order of [`Inventory::namespaces`].
    pub namespaces: Vec<NamespaceCounters>,
    /// Logical pages written, by number of segments: 1, 2, 3, 4.
    pub pages_by_segments: [u64; 4],
    /// Bytes the CPU copied, by reason.
    pub copied_bytes: Vec<(&'static str, u64)>,
    /// Pools: name, size, free.
    pub pools: Vec<PoolSnapshot>,
    /// TCP connections open now.
    pub connections: u64,
    /// The connections themselves, if they were asked for.
    pub connection_list: Vec<ConnectionSnapshot>,
    /// Counters with names of their own, by layer.
    pub counters: Vec<Layer>,
}

/// The counters of a layer.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// Its name: `tcp`, `port`, `nvmf`, `store`, `notices`, `cache`.
    pub name: &'static str,
    /// The port it belongs to, as a place in [`Inventory::ports`].
    pub port: Option<usize>,
    /// Its counters.
    pub counters: Vec<Counter>,
}

impl Layer {
    /// Every layer a shard may have, with all of its counters, at zero.
    pub fn every() -> Vec<Layer> {
        let layer = |name, port, counters| Layer {
            name,
            port,
            counters,
        };
        vec![
            layer("tcp", Some(0), net::Counters::default().iter().collect()),
            layer("port", Some(0), QueueCounters::default().iter().collect()),
            layer("nvmf", None, nvmf::Counters::default().iter().collect()),
            layer("store", None, DeviceCounters::default().iter().collect()),
            layer("notices", None, NoticeCounters::default().iter().collect()),
            layer("cache", None, crate::volume::cache_counters_at_zero()),
        ]
    }
}

events::counters! {
    /// Requests that ended.
    #[derive(Copy, Serialize, Deserialize)]
    pub struct IoCounters {
        /// Reads completed.
        reads,
        /// Writes completed.
        writes,
        /// Flushes, write-zeroes and deallocations completed.
        others,
        /// Commands completed with an error status.
        errors,
        /// Payload bytes read.
        read_bytes,
        /// Payload bytes written.
        written_bytes,
    }
}

/// What a request counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum IoKind {
    /// A read.
    Read,
    /// A write.
    Write,
    /// Anything else that goes to a device.
    Other,
}

impl IoKind {
    /// Every kind, in order.
    pub const ALL: [IoKind; 3] = [IoKind::Read, IoKind::Write, IoKind::Other];

    /// The name statistics use.
    pub const fn name(self) -> &'static str {
        match self {
            IoKind::Read => "read",
            IoKind::Write => "write",
            IoKind::Other => "other",
        }
    }
}

impl IoCounters {
    /// Counts a request that ended.
    #[inline]
    pub(crate) fn count(&mut self, kind: IoKind, bytes: u64, succeeded: bool) {
        match kind {
            _ if !succeeded => self.errors += 1,
            IoKind::Read => {
                self.reads += 1;
                self.read_bytes += bytes;
            }
            IoKind::Write => {
                self.writes += 1;
                self.written_bytes += bytes;
            }
            IoKind::Other => self.others += 1,
        }
    }

    /// Reads and writes.
    pub fn transfers(&self) -> u64 {
        self.reads + self.writes
    }
}

/// What a shard did for a namespace.
#[derive(Clone, Debug, Default)]
pub struct NamespaceCounters {
    /// Requests that ended.
    pub io: IoCounters,
    /// How long those took that succeeded, by [`IoKind`]: from the moment a request
    /// has all it needs and goes to its volume, until its end is taken from there.
    pub latency: [Histogram; IoKind::ALL.len()],
}

impl NamespaceCounters {
    #[inline]
    pub(crate) fn count(&mut self, kind: IoKind, bytes: u64, nanoseconds: u64, succeeded: bool) {
        self.io.count(kind, bytes, succeeded);
        if succeeded {
            self.latency[kind as usize].record(nanoseconds);
        }
    }
}

/// A connection as it was when somebody asked.
#[derive(Clone, Debug)]
pub struct ConnectionSnapshot {
    /// Its port, as a place in [`Inventory::ports`].
    pub port: usize,
    /// The host's end.
    pub peer: SocketAddr,
    /// The controller it belongs to, once Connect was accepted.
    pub cntlid: Option<u16>,
    /// Which of its queues it is; 0 is the Admin Queue.
    pub qid: u16,
    /// Entries of the queue.
    pub queue_depth: u16,
    /// Requests at their devices.
    pub outstanding: u64,
    /// Requests that ended.
    pub io: IoCounters,
    /// Nanoseconds that those took together that succeeded.
    pub latency_ns: u64,
    /// Bytes of the TCP stream received.
    pub bytes_received: u64,
    /// Bytes of the TCP stream sent.
    pub bytes_sent: u64,
    /// How TCP is doing.
    pub tcp: ConnectionInfo,
}

/// A fixed pool.
#[derive(Clone, Debug, Default)]
pub struct PoolSnapshot {
    /// What it holds.
    pub name: &'static str,
    /// How many there are.
    pub size: u64,
    /// How many are free now.
    pub free: u64,
}
