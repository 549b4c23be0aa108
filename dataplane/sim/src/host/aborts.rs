//! Abort commands of a host: what they said, and what became of the commands that they name.

use testkit::{Cid, Completion};

use crate::clock::{self, Nanoseconds};
use crate::oracle::Violation;

/// Abort commands that a host has at a time, at most: as many as ACL says (base 2.0, 5.1).
const MOST: usize = 4;

/// Status of a command that was aborted, and of an Abort that there was no slot for.
pub(super) const ABORT_REQUESTED: u16 = 0x07;
const INTERRUPTED: u16 = 0x21;

/// An Abort that has not been compared with the end of its command.
#[derive(Debug)]
struct Abort {
    /// Its own CID, on the Admin Queue, until it ends.
    cid: Option<Cid>,
    queue: usize,
    named: Cid,
    at: Nanoseconds,
    /// Whether its command ended as aborted.
    ended: Option<bool>,
    /// Whether it says so.
    said: Option<bool>,
}

/// Those of a controller.
#[derive(Debug, Default)]
pub(super) struct Aborts(Vec<Abort>);

impl Aborts {
    /// Those that have not ended.
    fn under_way(&self) -> impl Iterator<Item = &Abort> {
        self.0.iter().filter(|abort| abort.cid.is_some())
    }

    pub(super) fn has_room(&self) -> bool {
        self.under_way().count() < MOST
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way().next().is_none()
    }

    /// Since when the oldest of them waits.
    pub(super) fn waits_since(&self) -> Option<Nanoseconds> {
        self.under_way().map(|abort| abort.at).min()
    }

    /// The Abort `cid` names the command `named` of `queue`.
    pub(super) fn begin(&mut self, cid: Cid, queue: usize, named: Cid) {
        self.0.push(Abort {
            cid: Some(cid),
            queue,
            named,
            at: clock::now(),
            ended: None,
            said: None,
        });
    }

    /// A command ended, perhaps one that an Abort names.
    pub(super) fn ended(&mut self, queue: usize, completion: &Completion) -> Result<(), Violation> {
        let is_it = |abort: &&mut Abort| (abort.queue, abort.named) == (queue, completion.cid);
        if let Some(abort) = self.0.iter_mut().find(is_it) {
            abort.ended = Some(completion.status & 0x7ff == ABORT_REQUESTED);
        }
        self.compare()
    }

    /// An Abort ended.
    pub(super) fn answered(&mut self, completion: &Completion) -> Result<(), Violation> {
        let is_it = |abort: &Abort| abort.cid == Some(completion.cid);
        let Some(at) = self.0.iter().position(is_it) else {
            return Ok(());
        };
        match completion.status & 0x7ff {
            0 => {
                let abort = &mut self.0[at];
                (abort.cid, abort.said) = (None, Some(completion.result & 1 == 0));
                self.compare()
            }
            INTERRUPTED => {
                self.0.remove(at);
                Ok(())
            }
            status => Err(Violation(format!(
                "an Abort has status {status:#06x}, and nothing explains it"
            ))),
        }
    }

    /// What an Abort says is what happened, whichever comes first.
    fn compare(&mut self) -> Result<(), Violation> {
        for abort in &self.0 {
            if let (Some(ended), Some(said)) = (abort.ended, abort.said)
                && ended != said
            {
                return Err(Violation(format!(
                    "queue {} CID {} was aborted: {ended}; its Abort says {said}",
                    abort.queue, abort.named
                )));
            }
        }
        self.0
            .retain(|abort| abort.ended.is_none() || abort.said.is_none() && abort.cid.is_some());
        Ok(())
    }
}
