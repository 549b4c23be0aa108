//! Counters of namespaces and connections.

use std::collections::HashMap;

use engine::{AnaSnapshot, Inventory, IoKind, ShardSnapshot, Smart, Snapshot};
use serde::{Deserialize, Serialize};

use super::{Io, Latency, Named};

/// What the drive behind a store says of its health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drive {
    pub(crate) store: String,
    /// Bits, as in its SMART log.
    pub(crate) critical_warning: u8,
    pub(crate) temperature_celsius: Option<i32>,
    pub(crate) spare_percent: u8,
    pub(crate) spare_threshold_percent: u8,
    pub(crate) used_percent: u8,
}

impl Drive {
    pub(super) fn new((store, smart): &(String, Smart)) -> Self {
        Self {
            store: store.clone(),
            critical_warning: smart.critical_warning,
            temperature_celsius: smart.temperature_celsius(),
            spare_percent: smart.spare_percent,
            spare_threshold_percent: smart.spare_threshold_percent,
            used_percent: smart.used_percent,
        }
    }
}

/// How hosts reach a namespace that come by a listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ana {
    /// NQN of its subsystem, and its number there.
    pub(crate) subsystem: String,
    pub(crate) nsid: u32,
    /// The listener's address and TCP port.
    pub(crate) listener: String,
    /// The state of its ANA group.
    pub(crate) state: String,
}

impl Ana {
    pub(super) fn new(known: &AnaSnapshot) -> Self {
        Self {
            subsystem: known.subsystem.clone(),
            nsid: known.nsid,
            listener: known.listener.to_string(),
            state: known.state.to_string(),
        }
    }
}

/// What was done for a namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Namespace {
    /// NQN of its subsystem, and its number there.
    pub(crate) subsystem: String,
    pub(crate) nsid: u32,
    /// The store behind it.
    pub(crate) store: String,
    pub(crate) io: Io,
    /// By kind of request: `read`, `write`, `other`.
    pub(crate) latency: Named<Latency>,
}

impl Namespace {
    pub(super) fn list(shard: &ShardSnapshot, inventory: &Inventory) -> Vec<Self> {
        let namespaces = inventory.namespaces.iter().zip(&shard.namespaces);
        namespaces
            .map(|(name, counters)| Self {
                subsystem: name.subsystem.clone(),
                nsid: name.nsid,
                store: name.store.clone(),
                io: counters.io,
                latency: Named(
                    IoKind::ALL
                        .map(|kind| {
                            let latency = Latency(counters.latency[kind as usize].clone());
                            (kind.name().to_owned(), latency)
                        })
                        .into(),
                ),
            })
            .collect()
    }

    /// Combines each of `list` with the one at the same place in `others`: every
    /// shard has the same namespaces. `combine` adds or subtracts.
    pub(super) fn combine(list: &mut Vec<Self>, others: &[Self], combine: impl Fn(&mut u64, &u64)) {
        if list.is_empty() {
            // The sum of no shard yet.
            list.extend(others.iter().map(|other| Self {
                io: Io::default(),
                latency: Named::default(),
                ..other.clone()
            }));
        }
        for (namespace, other) in list.iter_mut().zip(others) {
            namespace.io.combine(&other.io, &combine);
            (namespace.latency).merge(&other.latency, |now, then| now.0.combine(&then.0, &combine));
        }
    }

    /// Latencies of every kind together.
    pub(crate) fn latency_of_all(&self) -> Latency {
        let mut all = Latency::default();
        for (_, latency) in self.latency.iter() {
            all.0.combine(&latency.0, |sum, n| *sum += n);
        }
        all
    }
}

/// A connection of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connection {
    pub(crate) port: String,
    /// The host's address.
    pub(crate) peer: String,
    /// NQNs of the subsystem and the host, once Connect was accepted.
    pub(crate) subsystem: String,
    pub(crate) host: String,
    pub(crate) cntlid: Option<u16>,
    /// 0 is the Admin Queue.
    pub(crate) qid: u16,
    pub(crate) queue_depth: u16,
    /// Requests at their devices.
    pub(crate) outstanding: u64,
    pub(crate) io: Io,
    /// Nanoseconds its requests took together.
    pub(crate) latency_sum_ns: u64,
    /// Bytes of the TCP stream.
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) retransmitted: u64,
    pub(crate) round_trip_ns: u64,
    pub(crate) congestion_window: u64,
    pub(crate) peer_window: u64,
    pub(crate) in_flight_bytes: u64,
    pub(crate) queued_bytes: u64,
}

impl Connection {
    pub(super) fn list(shard: &ShardSnapshot, snapshot: &Snapshot) -> Vec<Self> {
        let controllers: HashMap<u16, _> = (snapshot.controllers.iter())
            .map(|controller| (controller.cntlid.0, controller))
            .collect();
        let connections = shard.connection_list.iter();
        connections
            .map(|connection| {
                let controller = (connection.cntlid).and_then(|cntlid| controllers.get(&cntlid));
                let ports = &snapshot.inventory.ports;
                Self {
                    port: ports.get(connection.port).cloned().unwrap_or_default(),
                    peer: connection.peer.to_string(),
                    subsystem: controller.map_or_else(String::new, |c| c.subsystem.clone()),
                    host: controller.map_or_else(String::new, |c| c.host.clone()),
                    cntlid: connection.cntlid,
                    qid: connection.qid,
                    queue_depth: connection.queue_depth,
                    outstanding: connection.outstanding,
                    io: connection.io,
                    latency_sum_ns: connection.latency_ns,
                    bytes_received: connection.bytes_received,
                    bytes_sent: connection.bytes_sent,
                    retransmitted: connection.tcp.retransmitted.into(),
                    round_trip_ns: connection.tcp.round_trip.as_nanos() as u64,
                    congestion_window: connection.tcp.congestion_window.into(),
                    peer_window: connection.tcp.peer_window.into(),
                    in_flight_bytes: connection.tcp.in_flight.into(),
                    queued_bytes: connection.tcp.queued.into(),
                }
            })
            .collect()
    }

    /// What happened on each after `earlier`; a new one began at nothing.
    pub(super) fn since(list: &[Self], earlier: &[Self]) -> Vec<Self> {
        let before: HashMap<_, _> = earlier.iter().map(|c| ((&c.port, &c.peer), c)).collect();
        list.iter()
            .map(|connection| {
                let mut connection = connection.clone();
                if let Some(earlier) = before.get(&(&connection.port, &connection.peer)) {
                    let less = |now: &mut u64, then: &u64| *now = now.saturating_sub(*then);
                    connection.io.combine(&earlier.io, less);
                    less(&mut connection.latency_sum_ns, &earlier.latency_sum_ns);
                    less(&mut connection.bytes_received, &earlier.bytes_received);
                    less(&mut connection.bytes_sent, &earlier.bytes_sent);
                    less(&mut connection.retransmitted, &earlier.retransmitted);
                }
                connection
            })
            .collect()
    }
}
