//! What requests of hosts hang on, when they begin and when they end.

use std::sync::Arc;
use std::time::Duration;

use block::{Fault, Op};
use mirror::Mirrored;

/// What hosts' requests for a namespace hang on.
pub(super) enum Gate {
    /// Nothing.
    Open,
    /// Whether this node serves the mirrored volume. Not of the namespace that the other node's changes go to.
    Served(Arc<Mirrored>),
    /// Whether what this node has of the mirrored volume may be read as a backup; of none it may not.
    Backup(Option<Arc<Mirrored>>),
}

impl Gate {
    /// Lets an operation begin: what it is to [end](Gate::lets_out) with.
    #[inline]
    pub(super) fn lets_in(&self, op: Op, now: Duration) -> Result<u16, Fault> {
        match self {
            Gate::Open => Ok(0),
            Gate::Served(mirrored) => {
                let suspensions = mirrored.suspensions();
                match mirrored.serves(now) {
                    true => Ok(suspensions),
                    false => Err(Fault::Elsewhere),
                }
            }
            Gate::Backup(mirrored) => {
                let mirrored = mirrored.as_ref().filter(|_| !op.changes_data());
                mirrored
                    .and_then(|mirrored| mirrored.backup())
                    .ok_or(Fault::Gone)
            }
        }
    }

    /// Whether the end of an operation may be told, that was let in so.
    #[inline]
    pub(super) fn lets_out(&self, begun: u16, now: Duration) -> Result<(), Fault> {
        match self {
            Gate::Open => Ok(()),
            // It was done, or was not: the node that serves has the truth.
            Gate::Served(mirrored) => match mirrored.may_answer(begun, now) {
                true => Ok(()),
                false => Err(Fault::Elsewhere),
            },
            // Some of what was read may be of before, and some of after.
            Gate::Backup(mirrored) => {
                let time = mirrored.as_ref().and_then(|mirrored| mirrored.backup());
                match time == Some(begun) {
                    true => Ok(()),
                    false => Err(Fault::Gone),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mirror::{Content, GRANULE, Pair, PairConfig, ReplicaId, Role, Standing};

    use super::*;

    const T: Duration = Duration::from_secs(1);

    /// A read that began while there was a backup is not answered when that has ended, also if there is one again.
    #[test]
    fn r07_a_read_that_outlives_the_backup_is_not_answered() {
        let len = 4 * GRANULE;
        let shared = Arc::new(Mirrored::new(len, len, 1));
        let content = Content {
            standing: Standing::first(ReplicaId([1; 16]), 7),
            role: Role::Destination,
            peer: Some(ReplicaId([2; 16])),
            severed: Some(1_800_000_000),
        };
        let config = PairConfig {
            volume: [9; 16],
            number: 0,
            len,
            block: 4096,
        };
        let mut pair = Pair::new(config, content, None, Arc::clone(&shared), || 5, T);
        let none = Gate::Backup(None);
        let gate = Gate::Backup(Some(Arc::clone(&shared)));
        assert_eq!(gate.lets_in(Op::Read, T), Err(Fault::Gone));
        pair.advance(T);
        assert_eq!(none.lets_in(Op::Read, T), Err(Fault::Gone));
        let begun = gate.lets_in(Op::Read, T).expect("it is readable");
        assert_eq!(gate.lets_in(Op::Write, T), Err(Fault::Gone));
        assert_eq!(gate.lets_out(begun, T), Ok(()));
        // It is no namespace that hosts write to, whatever may be read.
        let served = Gate::Served(shared);
        assert_eq!(served.lets_in(Op::Read, T), Err(Fault::Elsewhere));
        pair.promote(true).expect("it is forced");
        pair.advance(2 * T);
        assert_eq!(gate.lets_in(Op::Read, T), Err(Fault::Gone));
        assert_eq!(gate.lets_out(begun, T), Err(Fault::Gone));
    }
}
