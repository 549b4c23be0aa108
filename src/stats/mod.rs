//! The engine's counters as they travel: made from a snapshot, sent over the
//! control socket, read back by the commands.

mod show;

pub(crate) use self::show::{Copies, Segments};
use engine::{ShardSnapshot, Snapshot, Stage};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// The counters of a running program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// The program's version.
    pub(crate) version: String,
    /// Seconds since it started.
    pub(crate) uptime_seconds: f64,
    /// Whether it serves: every shard polls and every listener is open.
    pub(crate) ready: bool,
    /// TSC ticks per second.
    pub(crate) tsc_hz: u64,
    pub(crate) shards: Vec<Shard>,
}

/// What one shard, or several together, have done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shard {
    pub(crate) core: u32,
    pub(crate) polls: u64,
    pub(crate) polls_busy: u64,
    pub(crate) cycles_total: u64,
    pub(crate) cycles_by_stage: Named<u64>,
    pub(crate) io: Io,
    /// Logical pages written that had 1, 2, 3 and 4 segments.
    pub(crate) pages_by_segments: [u64; 4],
    pub(crate) copied_bytes: Named<u64>,
    pub(crate) pools: Named<Pool>,
    pub(crate) connections: u64,
    /// Counters with names of their own, by layer.
    pub(crate) counters: Named<Named<u64>>,
}

/// Completed commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Io {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) others: u64,
    pub(crate) errors: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
}

impl Io {
    /// Reads and writes.
    pub(crate) fn transfers(&self) -> u64 {
        self.reads + self.writes
    }
}

/// A fixed pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) size: u64,
    pub(crate) free: u64,
}

/// A JSON object whose order is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named<T>(pub(crate) Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// Combines each value with the one of the same name here, or with the
    /// default where there is none yet.
    fn merge(&mut self, other: &Self, combine: impl Fn(&mut T, &T))
    where
        T: Default,
    {
        for (name, value) in &other.0 {
            let at = self
                .0
                .iter()
                .position(|(known, _)| known == name)
                .unwrap_or_else(|| {
                    self.0.push((name.clone(), T::default()));
                    self.0.len() - 1
                });
            combine(&mut self.0[at].1, value);
        }
    }
}

impl Named<u64> {
    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|(_, value)| value).sum()
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: serde::de::DeserializeOwned> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map: Map<String, Value> = Map::deserialize(deserializer)?;
        let value = |(name, value)| {
            let value = serde_json::from_value(value).map_err(serde::de::Error::custom)?;
            Ok((name, value))
        };
        map.into_iter()
            .map(value)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Stats {
    pub(crate) fn new(snapshot: &Snapshot, uptime: std::time::Duration, ready: bool) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: uptime.as_secs_f64(),
            ready,
            tsc_hz: snapshot.tsc_hz,
            shards: snapshot.shards.iter().map(Shard::from).collect(),
        }
    }

    /// All shards together. Only sums mean something in it.
    pub(crate) fn total(&self) -> Shard {
        let mut total = Shard::default();
        for shard in &self.shards {
            total.combine(shard, |sum, value| *sum += value);
        }
        total
    }
}

impl Shard {
    /// What happened after `earlier`; pools and connections stay as they are now.
    pub(crate) fn since(&self, earlier: &Shard) -> Shard {
        let mut difference = self.clone();
        difference.combine(earlier, |now, then| *now = now.saturating_sub(*then));
        difference.pools = self.pools.clone();
        difference.connections = self.connections;
        difference
    }

    fn combine(&mut self, other: &Shard, combine: impl Fn(&mut u64, &u64)) {
        combine(&mut self.polls, &other.polls);
        combine(&mut self.polls_busy, &other.polls_busy);
        combine(&mut self.cycles_total, &other.cycles_total);
        self.cycles_by_stage.merge(&other.cycles_by_stage, &combine);
        let (io, others) = (&mut self.io, &other.io);
        combine(&mut io.reads, &others.reads);
        combine(&mut io.writes, &others.writes);
        combine(&mut io.others, &others.others);
        combine(&mut io.errors, &others.errors);
        combine(&mut io.read_bytes, &others.read_bytes);
        combine(&mut io.written_bytes, &others.written_bytes);
        for (sum, value) in self
            .pages_by_segments
            .iter_mut()
            .zip(&other.pages_by_segments)
        {
            combine(sum, value);
        }
        self.copied_bytes.merge(&other.copied_bytes, &combine);
        self.pools.merge(&other.pools, |sum, pool| {
            combine(&mut sum.size, &pool.size);
            combine(&mut sum.free, &pool.free);
        });
        combine(&mut self.connections, &other.connections);
        self.counters
            .merge(&other.counters, |sum, layer| sum.merge(layer, &combine));
    }
}

impl From<&ShardSnapshot> for Shard {
    fn from(shard: &ShardSnapshot) -> Self {
        let named = |list: &[(&'static str, u64)]| {
            Named(
                list.iter()
                    .map(|&(name, value)| (name.to_owned(), value))
                    .collect(),
            )
        };
        let stages = Stage::ALL.map(|stage| (stage.name(), shard.cycles_by_stage[stage as usize]));
        let io = shard.io;
        // Every port has its own `tcp` and `port` layers: here they are one.
        let mut counters: Named<Named<u64>> = Named::default();
        for (layer, list) in &shard.counters {
            let layer = Named(vec![((*layer).to_owned(), Named(list.clone()))]);
            counters.merge(&layer, |sum, list| {
                sum.merge(list, |sum, value| *sum += value)
            });
        }
        Self {
            core: shard.core,
            polls: shard.polls,
            polls_busy: shard.polls_busy,
            cycles_total: shard.cycles_total,
            cycles_by_stage: named(&stages),
            io: Io {
                reads: io.reads,
                writes: io.writes,
                others: io.others,
                errors: io.errors,
                read_bytes: io.read_bytes,
                written_bytes: io.written_bytes,
            },
            pages_by_segments: shard.pages_by_segments,
            copied_bytes: named(&shard.copied_bytes),
            pools: Named(
                shard
                    .pools
                    .iter()
                    .map(|pool| {
                        (
                            pool.name.to_owned(),
                            Pool {
                                size: pool.size,
                                free: pool.free,
                            },
                        )
                    })
                    .collect(),
            ),
            connections: shard.connections,
            counters,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use engine::{IoCounters, PoolSnapshot};

    use super::*;

    pub(crate) fn sample() -> Stats {
        let shard = ShardSnapshot {
            core: 1,
            polls: 1000,
            polls_busy: 250,
            cycles_total: 26_000_000,
            cycles_by_stage: [100, 200, 300, 400, 500, 600, 700].map(|c| c * 1000),
            io: IoCounters {
                reads: 600,
                writes: 400,
                others: 3,
                errors: 1,
                read_bytes: 600 << 12,
                written_bytes: 400 << 12,
            },
            pages_by_segments: [10, 20, 60, 10],
            copied_bytes: vec![("pull_up", 4096), ("ablation", 0)],
            pools: vec![PoolSnapshot {
                name: "clusters",
                size: 1024,
                free: 1000,
            }],
            connections: 2,
            // Two ports.
            counters: vec![
                ("tcp", vec![("segments_in".into(), 5), ("resets".into(), 0)]),
                ("tcp", vec![("segments_in".into(), 2), ("resets".into(), 0)]),
            ],
        };
        let other = ShardSnapshot {
            core: 2,
            ..shard.clone()
        };
        let snapshot = Snapshot {
            tsc_hz: 2_600_000_000,
            shards: vec![shard, other],
        };
        Stats::new(&snapshot, Duration::from_millis(12_500), true)
    }

    #[test]
    fn stats_survive_the_wire_in_order() {
        let stats = sample();
        let text = serde_json::to_string(&stats).unwrap();
        assert!(
            text.contains(r#""cycles_by_stage":{"receive":100000,"tcp":200000"#),
            "{text}"
        );
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::from_value::<Stats>(value).unwrap(), stats);
    }

    #[test]
    fn shards_add_up_and_differences_come_back() {
        let stats = sample();
        let total = stats.total();
        assert_eq!((total.io.reads, total.pages_by_segments[2]), (1200, 120));
        assert_eq!(
            total.pools.get("clusters"),
            Some(&Pool {
                size: 2048,
                free: 2000
            })
        );
        assert_eq!(
            total
                .counters
                .get("tcp")
                .and_then(|tcp| tcp.get("segments_in")),
            Some(&14)
        );
        let one = Shard {
            core: 0,
            ..stats.shards[0].clone()
        };
        let difference = total.since(&one);
        assert_eq!(difference.io, one.io);
        assert_eq!(difference.cycles_by_stage, one.cycles_by_stage);
        assert_eq!(difference.pools, total.pools);
    }
}
