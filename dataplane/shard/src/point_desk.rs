//! A consistency point that the control side asks all shards for.

use std::fmt;
use std::sync::Mutex;

use block::Fault;
use sync::Watched;
use volume::PointEnd;

/// What a consistency point of all shards has brought to the drives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PointDone {
    /// Shards that had one.
    pub shards: usize,
    /// Bytes of the log that can be used again.
    pub log_bytes: u64,
}

/// Why a consistency point was not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointError {
    /// There is no log.
    NoLog,
    /// The engine does not serve yet, or no more.
    NotServing,
    /// A drive did not take what it was to take: so many bytes stay in the log.
    DriveFailed {
        /// Why.
        fault: Fault,
        /// Bytes of the log, of all shards whose drives failed.
        bytes: u64,
    },
    /// The log's store has failed.
    LogFailed(Fault),
    /// So many of the shards have not completed theirs in time.
    Unanswered {
        /// They.
        late: usize,
        /// All.
        shards: usize,
    },
}

impl std::error::Error for PointError {}

impl fmt::Display for PointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PointError::NoLog => f.write_str(
                "there is no log: no namespace has write = \"logged\", and what hosts have flushed is on its drives",
            ),
            PointError::NotServing => f.write_str("the program does not serve yet, or no more"),
            PointError::DriveFailed { fault, bytes } => write!(
                f,
                "a drive failed: {fault}. {bytes} bytes stay in the log, which replays them if the program starts again; it is tried again every second. Mend the drive"
            ),
            PointError::LogFailed(fault) => write!(
                f,
                "the log's store has failed: {fault}. What was acknowledged goes to its drives; the log keeps what it has until a restart replays it"
            ),
            PointError::Unanswered { late, shards } => write!(
                f,
                "{late} of {shards} shards have not completed it in time; they go on with it, and what is not on its drives yet is in the log"
            ),
        }
    }
}

/// Where the control side and shards meet.
#[derive(Default)]
pub(crate) struct PointDesk {
    /// One at a time: its end belongs to whoever asked for it.
    pub(crate) turn: Mutex<()>,
    /// Its number is that of the newest point. By shard, how it ended, once it has.
    ends: Watched<Vec<Option<PointEnd>>>,
}

impl PointDesk {
    /// The newest point that was asked for: looked at between turns.
    pub(crate) fn number(&self) -> u64 {
        self.ends.number()
    }

    /// Asks so many shards.
    pub(crate) fn ask(&self, shards: usize) {
        let mut ends = self.ends.lock();
        *ends = vec![None; shards];
        self.ends.publish(&ends, self.ends.number() + 1);
    }

    /// A shard has come to the end of point `number`.
    pub(crate) fn answer(&self, number: u64, shard: usize, end: PointEnd) {
        let mut ends = self.ends.lock();
        if number == self.ends.number()
            && let Some(place) = ends.get_mut(shard)
        {
            *place = Some(end);
        }
    }

    /// How it went, once all shards have come to its end.
    pub(crate) fn poll(&self) -> Option<Result<PointDone, PointError>> {
        let ends: Option<Vec<_>> = self.ends.lock().iter().copied().collect();
        ends.map(|ends| together(&ends))
    }

    /// Shards that have not come to its end.
    pub(crate) fn late(&self) -> PointError {
        let ends = self.ends.lock();
        PointError::Unanswered {
            late: ends.iter().filter(|end| end.is_none()).count(),
            shards: ends.len(),
        }
    }
}

/// What the ends of all shards come to: the worst of them.
fn together(ends: &[PointEnd]) -> Result<PointDone, PointError> {
    let mut done = PointDone::default();
    let mut stays = None;
    for end in ends {
        match *end {
            PointEnd::NoLog => return Err(PointError::NoLog),
            PointEnd::LogFailed(fault) => return Err(PointError::LogFailed(fault)),
            PointEnd::DriveFailed { fault, bytes } => {
                let (_, sum) = stays.get_or_insert((fault, 0));
                *sum += bytes;
            }
            PointEnd::Done { bytes } => {
                done.shards += 1;
                done.log_bytes += bytes;
            }
        }
    }
    match stays {
        Some((fault, bytes)) => Err(PointError::DriveFailed { fault, bytes }),
        None => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_a_consistency_point_is_done_when_every_shard_says_so() {
        let desk = PointDesk::default();
        desk.ask(2);
        let number = desk.number();
        desk.answer(number, 0, PointEnd::Done { bytes: 100 });
        assert_eq!(desk.poll(), None);
        let late = PointError::Unanswered { late: 1, shards: 2 };
        assert_eq!(desk.late(), late);
        assert!(late.to_string().starts_with("1 of 2 shards"));
        desk.answer(number, 1, PointEnd::Done { bytes: 11 });
        let done = PointDone {
            shards: 2,
            log_bytes: 111,
        };
        assert_eq!(desk.poll(), Some(Ok(done)));
        // What is said of an older one is not of this one.
        desk.ask(2);
        (0..2).for_each(|shard| desk.answer(number, shard, PointEnd::Done { bytes: 1 }));
        assert_eq!(desk.poll(), None);
        let fault = Fault::WriteError;
        let stays = PointEnd::DriveFailed { fault, bytes: 7 };
        (0..2).for_each(|shard| desk.answer(desk.number(), shard, stays));
        let Some(Err(error)) = desk.poll() else {
            panic!("a drive failed");
        };
        assert_eq!(error, PointError::DriveFailed { fault, bytes: 14 });
        assert!(error.to_string().contains("14 bytes stay in the log"));
    }
}
