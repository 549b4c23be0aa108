//! Tables of logged volumes, as whoever owns them has them: written now and then, and at each start looked at. What was
//! acknowledged is there; and of what hosts wrote, all that was in the log when the appliance was killed is marked in
//! the record of what was changed.

use std::collections::{BTreeMap, BTreeSet};

use block::{Fault, VolumeId};
use mirror::{Changed, GRANULE, OnDisk, ReplicaId, Standing};
use testkit::Random;
use volume::{LogStart, RecordPages, TableToken, TableWrite};

use super::Shard;
use crate::clock::{self, Nanoseconds};
use crate::oracle::{Oracle, SECTOR};
use crate::plan::VolumePlan;

const PEER: ReplicaId = ReplicaId([0xbb; 16]);
/// One turn of the shard that writes tables in so many writes one.
const SELDOM: u64 = 40;

/// A version of a volume's table that may be there.
#[derive(Clone, Debug, Default)]
struct Version {
    /// Nothing: there is none.
    content: Vec<u8>,
    /// When its record began.
    since: Nanoseconds,
    /// Granules that it has to have.
    required: BTreeSet<u64>,
}

/// A volume with a table.
struct Owned {
    id: VolumeId,
    len: u64,
    /// The last one acknowledged first, then later ones.
    may_be: Vec<Version>,
    /// What the owner knows was changed: at least what is on disk.
    changed: Changed,
    /// The record's number.
    number: u64,
}

/// What is being written: the next version, or else a granule that is marked.
struct UnderWay {
    token: TableToken,
    volume: usize,
    marked: Option<u64>,
}

/// The tables of an appliance.
pub(super) struct Tables {
    owned: BTreeMap<usize, Owned>,
    numbers: u64,
    under_way: Option<UnderWay>,
    /// What hosts began to write after this, and was acknowledged, is in the log.
    logged_from: Nanoseconds,
    /// Consistency points that shards have begun.
    points: u64,
    breach: Option<String>,
}

fn replica(volume: usize) -> ReplicaId {
    ReplicaId([volume as u8 + 1; 16])
}

impl Tables {
    /// Of volumes, by their places, which appliances know by these ids.
    pub(super) fn new<'a>(
        volumes: impl Iterator<Item = (usize, VolumeId, &'a VolumePlan)>,
    ) -> Self {
        let owned = |(volume, id, plan): (usize, VolumeId, &VolumePlan)| {
            let len = plan.disk.geometry.len();
            let owned = Owned {
                id,
                len,
                may_be: vec![Version::default()],
                changed: Changed::none(len),
                number: 0,
            };
            (volume, owned)
        };
        Self {
            owned: volumes.map(owned).collect(),
            numbers: 0,
            under_way: None,
            logged_from: 0,
            points: 0,
            breach: None,
        }
    }

    /// What must not be.
    pub(super) fn breach(&self) -> Option<&str> {
        self.breach.as_deref()
    }

    /// A start has come to its end.
    pub(super) fn begun(&mut self, start: &LogStart) {
        (self.under_way, self.points) = (None, 0);
        self.logged_from = clock::now();
        for (&volume, owned) in &mut self.owned {
            let mut tables = start.tables.iter();
            let table = tables.find(|table| table.volume == owned.id);
            let content = table.map_or(&[][..], |table| &table.content);
            let mut may_be = owned.may_be.drain(..);
            let Some(found) = may_be.find(|version| version.content == content) else {
                drop(may_be);
                let number = number_of(content);
                self.breach = Some(format!(
                    "volume {volume}: its table is none that may be there: record {number:?}"
                ));
                return;
            };
            drop(may_be);
            if let Some(changed) = table.and_then(|table| table.changed.as_ref()) {
                let mut required = found.required.iter();
                if let Some(granule) = required.find(|&&granule| !changed.has(granule)) {
                    self.breach = Some(format!(
                        "volume {volume}: granule {granule} was written, and what was written was in the log; its record does not say so"
                    ));
                    return;
                }
                owned.changed = changed.clone();
            }
            owned.number = number_of(content).unwrap_or(0);
            owned.may_be = vec![found];
        }
    }

    /// The appliance was killed: what is in its log has to be marked.
    pub(super) fn crashed(&mut self, oracle: &Oracle) {
        for (&volume, owned) in &mut self.owned {
            for version in &mut owned.may_be {
                let since = version.since.max(self.logged_from);
                for extent in oracle.written_since(volume, since) {
                    let first = extent.first * SECTOR as u64 / GRANULE;
                    let end = (extent.first + extent.sectors) * SECTOR as u64;
                    version.required.extend(first..end.div_ceil(GRANULE));
                }
            }
        }
    }

    /// Consistency points may have begun, or logs failed: then what was in the log may be there no more.
    pub(super) fn look(&mut self, shards: &[Shard]) {
        let counters = || shards.iter().filter_map(Shard::log_counters);
        let points = counters().map(|log| {
            log.points_by_time
                + log.points_by_fill
                + log.points_by_want
                + log.points_by_demand
                + log.points_by_stop
        });
        let points = points.sum();
        let has_failed = counters().any(|log| log.failed > 0 || log.through > 0);
        if std::mem::replace(&mut self.points, points) != points || has_failed {
            self.logged_from = clock::now();
        }
    }

    /// A turn of the shard that writes tables.
    pub(super) fn turn(&mut self, shard: &mut Shard, random: &mut Random) {
        while let Some((token, result)) = shard.next_table_end() {
            match self.under_way.take_if(|write| write.token == token) {
                Some(write) => self.ended(&write, result),
                None => self.breach = Some(format!("{token:?} ended, which was not begun")),
            }
        }
        if self.under_way.is_none() && random.one_in(SELDOM) {
            let owned = random.below(self.owned.len().max(1));
            if let Some(volume) = self.owned.keys().nth(owned).copied() {
                self.write(volume, shard, random);
            }
        }
    }

    fn ended(&mut self, write: &UnderWay, result: Result<(), Fault>) {
        let Some(owned) = self.owned.get_mut(&write.volume) else {
            return;
        };
        match (result, write.marked) {
            (Ok(()), None) => drop(owned.may_be.drain(..owned.may_be.len() - 1)),
            (Ok(()), Some(granule)) => {
                for version in &mut owned.may_be {
                    version.required.insert(granule);
                }
            }
            // It is there or not.
            (Err(_), _) => {}
        }
    }

    /// Begins to write a new version of a volume's table, or to mark something more.
    fn write(&mut self, volume: usize, shard: &mut Shard, random: &mut Random) {
        let Some(owned) = self.owned.get_mut(&volume) else {
            return;
        };
        let record = |changed, number| RecordPages {
            changed,
            replica: replica(volume),
            number,
            pages: 0..1,
        };
        let marked = (owned.number > 0 && random.one_in(2)).then(|| {
            let granule = random.below(owned.changed.granules());
            owned.changed.mark(granule * GRANULE..granule * GRANULE + 1);
            granule
        });
        let mut content = Vec::new();
        if marked.is_none() {
            self.numbers += 1;
            owned.number = self.numbers;
            owned.changed = Changed::none(owned.len);
            content = content_of(volume, owned, random);
            owned.may_be.push(Version {
                content: content.clone(),
                since: clock::now(),
                required: BTreeSet::new(),
            });
        }
        let write = TableWrite {
            volume: owned.id,
            content: marked.is_none().then_some(&content[..]),
            record: Some(record(&owned.changed, owned.number)),
        };
        match shard.write_table(&write) {
            Ok(token) => {
                self.under_way = Some(UnderWay {
                    token,
                    volume,
                    marked,
                });
            }
            Err(refusal) => {
                self.breach = Some(format!("volume {volume}: no table is written: {refusal}"));
            }
        }
    }
}

/// A standing with the record's number, and something else.
fn content_of(volume: usize, owned: &Owned, random: &mut Random) -> Vec<u8> {
    let standing = Standing::first(replica(volume), 1).alone(PEER, 2, owned.len);
    let on_disk = OnDisk {
        standing: standing.expect("it is whole"),
        record: owned.number,
        len: owned.len,
    };
    let mut content = on_disk.encode().to_vec();
    let more = random.below(nvlog::CONTENT_MAX - content.len());
    content.extend(random.bytes(more));
    content
}

/// The number of the record that a table is of.
fn number_of(content: &[u8]) -> Option<u64> {
    let standing = content.first_chunk()?;
    OnDisk::decode(standing).ok().map(|on_disk| on_disk.record)
}
