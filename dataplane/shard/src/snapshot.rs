//! Counters as a value: what `throughline stats` prints.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use block::{IoCounters, NamespaceCounters, NamespaceIndex, Smart};
use events::{Counter, Stage};
use net::ConnectionInfo;
use nvmf::{AnaState, ControllerInfo};

use crate::alert_desk::AlertCounters;
use crate::pair_desk::PairReport;

/// The counters of all shards.
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
    /// The states of ANA groups, where a subsystem reports asymmetric access.
    pub ana: Vec<AnaSnapshot>,
    /// What drives say of their health, by the name of their store; those that say nothing are left out.
    pub drives: Vec<(String, Smart)>,
    /// How volumes of pairs stand.
    pub pairs: Vec<PairReport>,
    /// What became of alerts of pairs.
    pub alerts: AlertCounters,
}

/// What counters belong to.
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

/// How hosts reach a namespace that come by a listener (base 2.0, 8.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnaSnapshot {
    /// NQN of its subsystem.
    pub subsystem: String,
    /// Its number there, which is that of its ANA group.
    pub nsid: u32,
    /// The listener.
    pub listener: SocketAddr,
    /// The state of the group.
    pub state: AnaState,
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
    /// Which namespaces those are, while they are in the shard's own order; then empty.
    pub namespace_indexes: Vec<NamespaceIndex>,
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

impl ShardSnapshot {
    /// Puts its namespaces in the order of `indexes`: one that the shard does not have
    /// counted nothing.
    pub(crate) fn in_order_of(&mut self, indexes: &[NamespaceIndex]) {
        let counters = std::mem::take(&mut self.namespaces);
        let known: BTreeMap<_, _> = (self.namespace_indexes.drain(..).zip(counters)).collect();
        let of = |index| known.get(index).cloned().unwrap_or_default();
        self.namespaces = indexes.iter().map(of).collect();
    }
}

/// The counters of a layer.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// Its name: `tcp`, `port`, `nvmf`, `store`, `notices`, `cache`, `log`, `mirror`.
    pub name: &'static str,
    /// The port it belongs to, as a place in [`Inventory::ports`].
    pub port: Option<usize>,
    /// Its counters.
    pub counters: Vec<Counter>,
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
