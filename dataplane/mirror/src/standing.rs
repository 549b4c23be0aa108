//! What a replica of a volume knows of itself and of the other one, and what two that meet do about it.
//!
//! Truth lies with the data: each replica keeps, beside its data, which *generation* of the volume it has, and a *record* of what
//! was changed since the other one had the same. Nobody's memory of who was in sync decides anything.
//!
//! * A generation begins whenever a replica goes on without the other one, before the first write that it alone answers.
//!   Two that do so without each other begin different ones: that is *split brain*, and neither is overwritten.
//! * A record says whose it is (the other replica), and which generation that one has: one, or one of two, where the
//!   other one may have taken the last step of a copy, or not. It is worth nothing for any other.
//! * A replica into which a copy goes is not whole until the copy's end; it is nobody's source.

mod disk;

use std::fmt;

use mutant::mutant;

use crate::record::Changed;
use crate::replica::{Generation, ReplicaId};

pub use disk::{BadStanding, OnDisk, STANDING};

/// The generation that a volume begins with.
pub(crate) const FIRST: u64 = 1;

/// Whether the data are a state of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wholeness {
    /// There are none yet.
    Blank,
    /// They are.
    Whole,
    /// They are between two: a copy of another replica goes on, or was cut off.
    Copying {
        /// Of which.
        from: ReplicaId,
    },
}

/// What was changed since another replica had the same data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which one.
    pub peer: ReplicaId,
    /// The generations that it may have; twice the same if it is one.
    pub common: [Generation; 2],
    /// What was copied to it is in the record no more: whole in the first of those it is another one's, or was put
    /// back from somewhere.
    pub copies: bool,
    /// What.
    pub changed: Changed,
}

/// What a replica knows. It is in stable storage before anything is done that it tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which one it is.
    pub replica: ReplicaId,
    /// Whether its data are a state of the volume.
    pub wholeness: Wholeness,
    /// Which one, or the last one that they were whole in.
    pub generation: Generation,
    /// What was changed since the other one had the same.
    pub record: Option<Record>,
}

/// What a replica tells the other one at each contact: all but what was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which one it is.
    pub replica: ReplicaId,
    /// Whether its data are a state of the volume.
    pub wholeness: Wholeness,
    /// Which one.
    pub generation: Generation,
    /// Its record.
    pub record: Option<RecordClaim>,
}

/// What a replica tells of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordClaim {
    /// As in [`Record`].
    pub peer: ReplicaId,
    /// As in [`Record`].
    pub common: [Generation; 2],
    /// As in [`Record`].
    pub copies: bool,
    /// How many granules were changed.
    pub changed: u64,
}

/// One of two that meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The first.
    First,
    /// The second.
    Second,
}

/// What two replicas that meet do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They have the same.
    InSync,
    /// One is copied to the other: what its record says was changed.
    CopyChanged {
        /// Which one is right.
        source: Which,
    },
    /// One is copied to the other, all of it: what the other one has is no state of the volume.
    CopyAll {
        /// Which one is right.
        source: Which,
    },
    /// Nothing is done before an operator says which one is right.
    Refused(Refused),
}

/// Why two replicas are left as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Both went on without the other one.
    SplitBrain,
    /// Nothing says that they were ever of one volume.
    Unrelated,
    /// None of them is whole.
    NoneWhole,
    /// None of them has data of the volume, and none had: nobody has said which device has what the volume begins with.
    NotEstablished,
    /// They have the same identity: one's drive was copied.
    SameReplica,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SplitBrain => {
                "split brain: both replicas were written to without the other one. Nothing is overwritten: compare them, then say which one is discarded"
            }
            Self::Unrelated => {
                "the replicas have nothing in common that either knows of. Nothing is overwritten: say which one is discarded"
            }
            Self::NoneWhole => {
                "neither replica is whole: a copy into each was cut off. Bring back the one that it came from"
            }
            Self::NotEstablished => {
                "neither node has data of the volume yet: `throughline pair establish` says on one of them that what its store has is the volume"
            }
            Self::SameReplica => {
                "both say that they are the same replica: the drive of one was copied from the other"
            }
        })
    }
}

impl std::error::Error for Refused {}

impl Claim {
    /// Its record, if that is of the other one.
    fn record_of(&self, other: &Claim) -> Option<RecordClaim> {
        self.record.filter(|record| record.peer == other.replica)
    }

    /// Generations that its data are of: those of its record, too, as long as nothing was changed.
    fn has(&self, generation: Generation, other: &Claim) -> bool {
        let unchanged = self.record_of(other).filter(|record| record.changed == 0);
        generation == self.generation
            || unchanged.is_some_and(|record| record.common.contains(&generation))
    }

    /// Whether its record is of what the other one has.
    fn knows(&self, other: &Claim) -> bool {
        if mutant!("replicas-record-of-another-generation") {
            return self.record_of(other).is_some();
        }
        self.record_of(other).is_some_and(|record| {
            let [first, second] = record.common;
            let is_cut_off = matches!(other.wholeness, Wholeness::Copying { .. });
            match record.copies && !is_cut_off {
                true => first != second && other.has(second, self),
                false => other.has(first, self) || other.has(second, self),
            }
        })
    }

    fn has_changed(&self, other: &Claim) -> bool {
        self.record_of(other)
            .is_some_and(|record| record.changed > 0)
    }

    /// Whether both records begin at the same generation.
    fn shares_one_with(&self, other: &Claim) -> bool {
        match (self.record_of(other), other.record_of(self)) {
            (Some(mine), Some(theirs)) => {
                let mut common = mine.common.iter();
                common.any(|one| theirs.common.contains(one))
            }
            _ => false,
        }
    }
}

/// What two replicas do that meet. It is the same whichever is the first.
pub fn meet(first: &Claim, second: &Claim) -> Verdict {
    use Wholeness::{Blank, Copying, Whole};
    if first.replica == second.replica {
        return Verdict::Refused(Refused::SameReplica);
    }
    match (first.wholeness, second.wholeness) {
        (Whole, Whole) => both_whole(first, second),
        (Whole, other) => one_whole(Which::First, first, second, other),
        (other, Whole) => one_whole(Which::Second, second, first, other),
        (Blank, Blank) => Verdict::Refused(Refused::NotEstablished),
        (Blank | Copying { .. }, Blank | Copying { .. }) => Verdict::Refused(Refused::NoneWhole),
    }
}

fn one_whole(source: Which, whole: &Claim, other: &Claim, wholeness: Wholeness) -> Verdict {
    match wholeness {
        // What is changed since then, and the copy has not brought yet.
        Wholeness::Copying { from } if from == whole.replica && whole.knows(other) => {
            Verdict::CopyChanged { source }
        }
        Wholeness::Copying { from } if from == whole.replica => Verdict::CopyAll { source },
        // It may be younger than the one that is whole.
        Wholeness::Copying { .. } => Verdict::Refused(Refused::Unrelated),
        _ => Verdict::CopyAll { source },
    }
}

fn both_whole(first: &Claim, second: &Claim) -> Verdict {
    let unrelated = Verdict::Refused(Refused::Unrelated);
    let knows = (first.knows(second), second.knows(first));
    match (first.has_changed(second), second.has_changed(first)) {
        (true, true) if knows == (false, false) && !first.shares_one_with(second) => unrelated,
        (true, true) => Verdict::Refused(Refused::SplitBrain),
        (true, false) if knows.0 => Verdict::CopyChanged {
            source: Which::First,
        },
        (false, true) if knows.1 => Verdict::CopyChanged {
            source: Which::Second,
        },
        (false, false) if first.generation == second.generation => Verdict::InSync,
        // Their data are the same; what is left to be done is to call them so.
        (false, false) if knows.0 || knows.1 => Verdict::CopyChanged {
            source: match first.generation > second.generation {
                true => Which::First,
                false => Which::Second,
            },
        },
        _ => unrelated,
    }
}

/// Why a replica does not do what it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWhole;

impl fmt::Display for NotWhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the replica is not whole: a copy into it was cut off, or never begun")
    }
}

impl std::error::Error for NotWhole {}

/// What becomes of a replica: each gives the standing that is to be stable before what it is for is done.
impl Standing {
    /// Of a replica without data.
    pub fn blank(replica: ReplicaId) -> Self {
        let generation = Generation { number: 0, tag: 0 };
        Self {
            replica,
            wholeness: Wholeness::Blank,
            generation,
            record: None,
        }
    }

    /// The first of a volume: what its drive has is the volume. `tag` is random.
    pub fn first(replica: ReplicaId, tag: u64) -> Self {
        Self {
            wholeness: Wholeness::Whole,
            generation: Generation { number: FIRST, tag },
            ..Self::blank(replica)
        }
    }

    /// What it tells the other one.
    pub fn claim(&self) -> Claim {
        let record = self.record.as_ref();
        Claim {
            replica: self.replica,
            wholeness: self.wholeness,
            generation: self.generation,
            record: record.map(|record| RecordClaim {
                peer: record.peer,
                common: record.common,
                copies: record.copies,
                changed: record.changed.count(),
            }),
        }
    }

    /// Whether it goes on without `peer`, and what it alone answers is in a record of it.
    pub fn is_alone(&self, peer: ReplicaId) -> bool {
        self.record
            .as_ref()
            .is_some_and(|record| record.peer == peer && !record.common.contains(&self.generation))
    }

    /// It goes on without `peer`: before the first write that it alone answers. What of `len` bytes the peer has not confirmed is then
    /// to be marked. `tag` is random.
    ///
    /// # Errors
    /// [`NotWhole`].
    pub fn alone(&self, peer: ReplicaId, tag: u64, len: u64) -> Result<Self, NotWhole> {
        if self.wholeness != Wholeness::Whole {
            return Err(NotWhole);
        }
        let mut next = self.clone();
        let record = next.record.take_if(|record| record.peer == peer);
        let record = record.unwrap_or_else(|| Record {
            peer,
            common: [self.generation; 2],
            copies: false,
            changed: Changed::none(len),
        });
        // The other one may have this generation: what it does not have is another one.
        if record.common.contains(&self.generation) {
            let number = self.generation.number + 1;
            next.generation = Generation { number, tag };
        }
        next.record = Some(record);
        Ok(next)
    }

    /// An operator says that it is the volume, though it has never met another one. `tag` is random.
    pub fn named(&self, tag: u64) -> Self {
        let number = self.generation.number + 1;
        Self {
            generation: Generation { number, tag },
            ..self.clone()
        }
    }

    /// All of it is to be copied to `peer`, which says that it is of generation `theirs`.
    ///
    /// # Errors
    /// [`NotWhole`].
    pub fn copies_all(&self, peer: &Claim, len: u64) -> Result<Self, NotWhole> {
        if self.wholeness != Wholeness::Whole {
            return Err(NotWhole);
        }
        let record = Some(Record {
            peer: peer.replica,
            common: [peer.generation; 2],
            copies: false,
            changed: Changed::all(len),
        });
        Ok(Self {
            record,
            ..self.clone()
        })
    }

    /// `peer` has it in stable storage that a copy [comes](Standing::copying): before the first granule that was copied is cleared.
    pub fn copies(&self, peer: &Claim) -> Self {
        let mut next = self.clone();
        if let Some(record) = &mut next.record {
            (record.common, record.copies) = ([peer.generation; 2], true);
        }
        next
    }

    /// A copy of another replica is about to come, before its first byte.
    pub fn copying(&self, source: ReplicaId) -> Self {
        Self {
            wholeness: Wholeness::Copying { from: source },
            record: None,
            ..self.clone()
        }
    }

    /// Nothing is left to be copied to the other one, which may [take](Standing::copied) the generation from now on;
    /// `None` if something is.
    pub fn ends_copy(&self) -> Option<Self> {
        let mut next = self.clone();
        if let Some(record) = &mut next.record {
            record.common = [record.common[0], self.generation];
            if record.changed.count() > 0 {
                return None;
            }
        }
        Some(next)
    }

    /// The copy has ended, with `generation` of its source.
    pub fn copied(&self, generation: Generation) -> Self {
        Self {
            wholeness: Wholeness::Whole,
            generation,
            record: None,
            ..self.clone()
        }
    }

    /// The other one has the same; `None` if something was changed that it lacks, since that was looked at.
    pub fn in_sync(&self) -> Option<Self> {
        let record = self.record.as_ref();
        if record.is_some_and(|record| record.changed.count() > 0) {
            return None;
        }
        Some(Self {
            record: None,
            ..self.clone()
        })
    }
}
