//! What every read may return: a history of each sector of each volume.
//!
//! A sector is 512 bytes; writes are atomic for each, and for no more. For every sector
//! the oracle keeps the writes whose data it may hold now, and those that it may hold
//! after a crash. Each write has a version of its own, so that what is read says which.
//!
//! * A read returns the data of a write that was not surely overwritten before the read
//!   began: overwritten by a write that began after the first had ended, and was acknowledged.
//! * What was read, stays, until a later write, or one that ran beside, takes its place.
//! * A write that was aborted was not done: nothing ever returns its data.
//! * A write that failed, or whose end nobody knows, may have been done or not.
//! * What was read of a logged volume no crash takes back; but a write that failed may come with a replay.
//! * After a crash a sector holds what it held at some time after its last promise: the
//!   acknowledgment of a write on a volume without a volatile cache, or with FUA; or the
//!   beginning of a flush that succeeded, for what was acknowledged before that.
//!
//! Order is that of calls, not of virtual time: of two events at one instant one was first.

mod history;
mod report;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use testkit::pattern::{Found, Stamp, identify};

use crate::clock::{self, Nanoseconds};
use history::{Entry, History, Stays, Value};
pub(crate) use history::{NEVER, Tick};

/// Bytes of a sector.
pub(crate) const SECTOR: usize = 512;

/// Names a request. Of a write, the version of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OpId(pub(crate) u32);

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    WriteZeroes,
    /// Advice: each sector may read as zeros from then on.
    Deallocate,
    Flush,
}

/// Sectors of a volume; none, of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) volume: usize,
    pub(crate) first: u64,
    pub(crate) sectors: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    UnderWay,
    Succeeded,
    Failed(u16),
    /// Its host took it back: nothing of it was done.
    Aborted,
    /// Its connection was lost first.
    Lost,
}

/// A request.
#[derive(Clone, Debug)]
struct Op {
    who: String,
    kind: Kind,
    extent: Extent,
    fua: bool,
    start: Tick,
    begun: Nanoseconds,
    ended: Nanoseconds,
    end: End,
}

/// A volume as the oracle knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VolumeRules {
    pub(crate) sectors: u64,
    /// Acknowledged writes may be lost until they are flushed.
    pub(crate) is_volatile: bool,
    /// A log has what is acknowledged, and what is read.
    pub(crate) is_logged: bool,
    /// What is deallocated reads as zeros from then on.
    pub(crate) deallocates_to_zeros: bool,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The histories of all volumes.
pub(crate) struct Oracle {
    now: Tick,
    volumes: Vec<(VolumeRules, History)>,
    /// By [`OpId`]; the first is the state before all writes.
    ops: Vec<Op>,
    /// By volume: the last crash.
    crashed: Vec<Tick>,
    /// Reads under way, by their beginnings.
    reading: BTreeMap<Tick, OpId>,
    /// Sectors that were compared.
    compared: u64,
}

impl Oracle {
    pub(crate) fn new(volumes: &[VolumeRules]) -> Self {
        let nowhere = Extent {
            volume: 0,
            first: 0,
            sectors: 0,
        };
        let initial = Op {
            who: "nobody".into(),
            kind: Kind::WriteZeroes,
            extent: nowhere,
            fua: false,
            start: 0,
            begun: 0,
            ended: 0,
            end: End::Succeeded,
        };
        Self {
            now: 1,
            volumes: (volumes.iter())
                .map(|&rules| (rules, History::new(rules.sectors)))
                .collect(),
            ops: vec![initial],
            crashed: vec![0; volumes.len()],
            reading: BTreeMap::new(),
            compared: 0,
        }
    }

    /// Sectors that were compared so far.
    pub(crate) fn compared(&self) -> u64 {
        self.compared
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.ops.len() as u64 - 1
    }

    fn tick(&mut self) -> Tick {
        self.now += 1;
        self.now
    }

    /// `who` asks for something.
    pub(crate) fn begin(&mut self, who: String, kind: Kind, extent: Extent, fua: bool) -> OpId {
        let start = self.tick();
        let id = OpId(self.ops.len() as u32);
        let value = match kind {
            Kind::Write => Some(Value::Version(id.0)),
            Kind::WriteZeroes | Kind::Deallocate => Some(Value::Zeros),
            Kind::Read | Kind::Flush => None,
        };
        if let Some(value) = value {
            let (_, history) = &mut self.volumes[extent.volume];
            for sector in extent.first..extent.first + extent.sectors {
                history.begin(sector, Entry::new(id, value));
            }
        }
        if kind == Kind::Read {
            self.reading.insert(start, id);
        }
        self.ops.push(Op {
            who,
            kind,
            extent,
            fua,
            start,
            begun: clock::now(),
            ended: 0,
            end: End::UnderWay,
        });
        id
    }

    /// The data of write `id`.
    pub(crate) fn data(&self, id: OpId) -> Vec<u8> {
        let Extent {
            volume,
            first,
            sectors,
        } = self.ops[id.0 as usize].extent;
        let stamp = Stamp {
            volume: volume as u32,
            block: first,
            version: id.0,
        };
        testkit::pattern::blocks(stamp, SECTOR, sectors as usize)
    }

    pub(crate) fn volume_of(&self, id: OpId) -> usize {
        self.ops[id.0 as usize].extent.volume
    }

    /// A request succeeded; `data` is what a read returned.
    pub(crate) fn succeed(&mut self, id: OpId, data: &[u8]) -> Result<(), Violation> {
        let now = self.tick();
        let op = self.end(id, End::Succeeded);
        // Its end was on its way when the appliance was killed: what it says of then may
        // have been lost since.
        if op.start < self.crashed[op.extent.volume] {
            let is_durable = op.fua || !self.volumes[op.extent.volume].0.is_volatile;
            if !matches!(op.kind, Kind::Write | Kind::WriteZeroes) || !is_durable {
                self.over(id, &op, now);
                return Ok(());
            }
        }
        match op.kind {
            Kind::Read => {
                let result = self.check_read(id, &op, data, now);
                self.reading.remove(&op.start);
                return result;
            }
            Kind::Deallocate if !self.volumes[op.extent.volume].0.deallocates_to_zeros => {
                self.over(id, &op, now);
            }
            Kind::Write | Kind::WriteZeroes | Kind::Deallocate => {
                let oldest = self.oldest_read();
                let (rules, history) = &mut self.volumes[op.extent.volume];
                let durable = op.fua || !rules.is_volatile;
                for sector in op.extent.first..op.extent.first + op.extent.sectors {
                    history.acknowledge(sector, id, op.start, now, durable);
                    history.forget(sector, oldest);
                }
            }
            Kind::Flush => {
                let oldest = self.oldest_read();
                self.volumes[op.extent.volume].1.flush(op.start, oldest);
            }
        }
        Ok(())
    }

    /// A deallocation succeeded, and something excuses it from having been done, wholly or in part.
    pub(crate) fn excuse(&mut self, id: OpId) {
        let now = self.tick();
        let op = self.end(id, End::Succeeded);
        self.over(id, &op, now);
    }

    /// Whether a request is a deallocation.
    pub(crate) fn deallocates(&self, id: OpId) -> bool {
        self.ops[id.0 as usize].kind == Kind::Deallocate
    }

    /// A request failed. Whether a write was done, nobody knows; but it is over.
    pub(crate) fn fail(&mut self, id: OpId, status: u16) {
        let now = self.tick();
        let op = self.end(id, End::Failed(status));
        self.over(id, &op, now);
    }

    /// A request was aborted (base 2.1, 5.1): nothing of it was done, nor ever will be.
    pub(crate) fn abort(&mut self, id: OpId) -> Result<(), Violation> {
        let now = self.tick();
        let op = self.end(id, End::Aborted);
        if !matches!(op.kind, Kind::Read | Kind::Flush) {
            let (_, history) = &mut self.volumes[op.extent.volume];
            if let Some(sector) = history.seen(&op.extent, id) {
                return Err(Violation(format!(
                    "volume {} sector {sector}: {} is said to be aborted, and was read",
                    op.extent.volume,
                    self.describe(id)
                )));
            }
            history.withdraw(&op.extent, id);
        }
        self.over(id, &op, now);
        Ok(())
    }

    /// The connection of a request was lost before its end came.
    ///
    /// A write that its device still holds may be done at any later time, until the appliance
    /// is [settled](Oracle::settle); but see [`Oracle::fence`].
    pub(crate) fn lose(&mut self, id: OpId, was_sent: bool) {
        let now = self.tick();
        let op = self.end(id, End::Lost);
        if !was_sent {
            self.volumes[op.extent.volume].1.withdraw(&op.extent, id);
        }
        if op.kind == Kind::Read || !was_sent {
            self.over(id, &op, now);
        }
    }

    /// The appliance knows that the connection of a [lost](Oracle::lose) write is gone: whatever is
    /// acknowledged of what begins from now on, that write does not overwrite (base 2.0, 3.7.2).
    pub(crate) fn fence(&mut self, id: OpId) {
        let now = self.tick();
        let extent = self.ops[id.0 as usize].extent;
        self.volumes[extent.volume].1.fence(&extent, id, now);
    }

    /// No request is under way below: what was lost is done by now, or never will be.
    pub(crate) fn settle(&mut self) {
        (0..self.volumes.len()).for_each(|volume| self.settle_volume(volume, &HashSet::new()));
    }

    /// No request of a volume is, but these: another node has them, and may do them yet.
    pub(crate) fn settle_volume(&mut self, volume: usize, elsewhere: &HashSet<OpId>) {
        let now = self.tick();
        self.volumes[volume].1.settle(now, elsewhere);
    }

    /// The appliance was killed: everything goes back to some state since its last promise.
    pub(crate) fn crash(&mut self) {
        (0..self.volumes.len()).for_each(|volume| self.crash_volume(volume, &HashSet::new()));
    }

    /// The appliance that served a volume was killed. Another node has these.
    pub(crate) fn crash_volume(&mut self, volume: usize, elsewhere: &HashSet<OpId>) {
        self.settle_volume(volume, elsewhere);
        self.crashed[volume] = self.now;
        self.volumes[volume].1.crash();
    }

    /// Sectors of a volume that were ever written, in extents of at most `most`.
    pub(crate) fn written(&self, volume: usize, most: u64) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        for first in self.volumes[volume].1.written() {
            match extents.last_mut() {
                Some(last) if last.first + last.sectors == first && last.sectors < most => {
                    last.sectors += 1;
                }
                _ => extents.push(Extent {
                    volume,
                    first,
                    sectors: 1,
                }),
            }
        }
        extents
    }

    /// What was acknowledged of what hosts began to write to a volume after a time.
    pub(crate) fn written_since(
        &self,
        volume: usize,
        since: Nanoseconds,
    ) -> impl Iterator<Item = Extent> {
        let writes = self.ops.iter().skip(1).filter(move |op| {
            let is_write = matches!(op.kind, Kind::Write | Kind::WriteZeroes);
            is_write && op.extent.volume == volume && op.begun > since && op.end == End::Succeeded
        });
        writes.map(|op| op.extent)
    }

    fn end(&mut self, id: OpId, end: End) -> Op {
        let op = &mut self.ops[id.0 as usize];
        assert_eq!(op.end, End::UnderWay, "a request ends once");
        (op.end, op.ended) = (end, clock::now());
        op.clone()
    }

    /// A request that changes nothing from now on.
    fn over(&mut self, id: OpId, op: &Op, now: Tick) {
        match op.kind {
            Kind::Read => {
                self.reading.remove(&op.start);
            }
            Kind::Flush => {}
            Kind::Write | Kind::WriteZeroes | Kind::Deallocate => {
                let (_, history) = &mut self.volumes[op.extent.volume];
                for sector in op.extent.first..op.extent.first + op.extent.sectors {
                    history.over(sector, id, now);
                }
            }
        }
    }

    fn oldest_read(&self) -> Tick {
        self.reading.keys().next().copied().unwrap_or(NEVER)
    }

    fn check_read(&mut self, id: OpId, op: &Op, data: &[u8], now: Tick) -> Result<(), Violation> {
        if data.len() as u64 != op.extent.sectors * SECTOR as u64 {
            return Err(Violation(format!(
                "{} returned {} bytes",
                self.describe(id),
                data.len()
            )));
        }
        for (sector, bytes) in (op.extent.first..).zip(data.chunks(SECTOR)) {
            self.compared += 1;
            let value = self.value_of(id, sector, bytes)?;
            let ended = |write: OpId| self.ops[write.0 as usize].end;
            let (rules, history) = &mut self.volumes[op.extent.volume];
            let stays = match (rules.is_logged, op.fua) {
                (true, _) => Stays::UnlessFailed,
                (false, true) => Stays::Always,
                (false, false) => Stays::WhilePowered,
            };
            if !history.read(sector, value, (op.start, now), stays, ended) {
                return Err(self.unexpected(id, sector, &format!("{value}")));
            }
        }
        Ok(())
    }

    /// What a sector's bytes are.
    fn value_of(&self, id: OpId, sector: u64, bytes: &[u8]) -> Result<Value, Violation> {
        let volume = self.ops[id.0 as usize].extent.volume as u32;
        if let Some(stamp) = Stamp::of(bytes)
            && (stamp.volume, stamp.block) == (volume, sector)
        {
            return Ok(Value::Version(stamp.version));
        }
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(Value::Zeros);
        }
        // Not one sector: what its first line is, and the first that differs from it.
        let first = identify(&bytes[..testkit::pattern::LINE]);
        let mut what = format!("{first}");
        if let Found::Line(stamp, _) = first
            && let Err(wrong) = stamp.check(bytes)
        {
            what = format!("{first}, then at byte {}: {}", wrong.at, wrong.found);
        }
        Err(self.unexpected(id, sector, &what))
    }
}
