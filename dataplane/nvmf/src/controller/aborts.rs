//! Abort commands, between the Admin Queue that they come in and the queues of the commands they
//! name (base 5.1).
//!
//! The queues of a controller are on whichever shards their connections came to. What one asks of
//! another lies here, in the controller that they share, and each looks when its timers run.

use crate::status::Status;
use crate::units::{Cid, Qid};
use crate::work::AbortId;

/// Abort commands that a host may have at a time, minus one (ACL).
pub(super) const LIMIT: u8 = 3;

/// The Abort commands of a controller that name commands of its I/O queues.
#[derive(Debug, Default)]
pub(super) struct Aborts([Option<Abort>; LIMIT as usize + 1]);

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Abort {
    qid: Qid,
    cid: Cid,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The queue has not looked.
    Asked,
    /// The queue is about to say.
    Taken,
    /// Whether the command was aborted.
    Over(bool),
}

impl Aborts {
    /// Asks queue `qid` to abort its command `cid`; none if it is asked to already, and this Abort is not
    /// what aborts it.
    ///
    /// # Errors
    /// [`Status::ABORT_LIMIT_EXCEEDED`].
    pub fn ask(&mut self, qid: Qid, cid: Cid) -> Result<Option<AbortId>, Status> {
        let free = self.0.iter().position(Option::is_none);
        let at = free.ok_or(Status::ABORT_LIMIT_EXCEEDED)?;
        let mut others = self.0.iter().flatten();
        if others.any(|a| (a.qid, a.cid) == (qid, cid) && !matches!(a.state, State::Over(_))) {
            return Ok(None);
        }
        let state = State::Asked;
        self.0[at] = Some(Abort { qid, cid, state });
        Ok(Some(AbortId(at as u8)))
    }

    /// The next command that queue `qid` is asked to abort.
    pub fn take(&mut self, qid: Qid) -> Option<Cid> {
        let mut asked = self.0.iter_mut().flatten();
        let abort = asked.find(|abort| (abort.qid, abort.state) == (qid, State::Asked))?;
        abort.state = State::Taken;
        Some(abort.cid)
    }

    /// Queue `qid` says whether its command was aborted: whoever asked is told.
    pub fn end(&mut self, qid: Qid, cid: Cid, aborted: bool) {
        for abort in self.0.iter_mut().flatten() {
            if (abort.qid, abort.cid, abort.state) == (qid, cid, State::Taken) {
                abort.state = State::Over(aborted);
            }
        }
    }

    /// Queues that are gone, or all if none is named, abort nothing more.
    pub fn end_all(&mut self, of: Option<Qid>) {
        for abort in self.0.iter_mut().flatten() {
            if of.is_none_or(|qid| qid == abort.qid) && !matches!(abort.state, State::Over(_)) {
                abort.state = State::Over(false);
            }
        }
    }

    /// Whether the command was aborted, once that is known; then the Abort is over.
    pub fn take_end(&mut self, id: AbortId) -> Option<bool> {
        let abort = self.0.get_mut(usize::from(id.0))?;
        match (*abort)?.state {
            State::Over(aborted) => {
                *abort = None;
                Some(aborted)
            }
            State::Asked | State::Taken => None,
        }
    }

    /// Nobody waits for the end of `id` any more.
    pub fn forget(&mut self, id: AbortId) {
        if let Some(abort) = self.0.get_mut(usize::from(id.0)) {
            *abort = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_5_1_as_many_aborts_as_acl_says_and_each_has_an_end() {
        let mut aborts = Aborts::default();
        let commands = [(1, 1), (2, 1), (1, 2), (3, 3)];
        let ask = |aborts: &mut Aborts, (qid, cid)| aborts.ask(Qid(qid), Cid(cid));
        let first = commands[..3]
            .iter()
            .map(|&c| ask(&mut aborts, c).unwrap().unwrap());
        let mut ids: Vec<_> = first.collect();
        // The same again, while the first is under way: that one aborts it, if any.
        assert_eq!(ask(&mut aborts, (1, 1)), Ok(None));
        ids.push(ask(&mut aborts, commands[3]).unwrap().unwrap());
        let one_more = ask(&mut aborts, (1, 9));
        assert_eq!(one_more, Err(Status::ABORT_LIMIT_EXCEEDED));
        assert_eq!(aborts.take(Qid(1)), Some(Cid(1)));
        assert_eq!(aborts.take(Qid(1)), Some(Cid(2)));
        assert_eq!(aborts.take(Qid(1)), None);
        let ends =
            |aborts: &mut Aborts| -> Vec<_> { ids.iter().map(|&id| aborts.take_end(id)).collect() };
        // Of another queue, or not yet taken.
        aborts.end(Qid(2), Cid(1), true);
        aborts.end(Qid(3), Cid(3), true);
        assert_eq!(ends(&mut aborts), [None; 4]);
        aborts.end(Qid(1), Cid(1), true);
        assert_eq!(ends(&mut aborts), [Some(true), None, None, None]);
        aborts.end_all(Some(Qid(2)));
        aborts.end_all(None);
        let all = [None, Some(false), Some(false), Some(false)];
        assert_eq!(ends(&mut aborts), all);
        let id = ask(&mut aborts, (1, 9)).unwrap().unwrap();
        aborts.forget(id);
        assert_eq!(aborts.take(Qid(1)), None);
    }
}
