//! Hosts that prove who they are, in-band or by TLS: the arithmetic is done elsewhere, and its answers are looked for here.

use events::StageClock;
use nvmf::Timestamp;

use super::Link;
use crate::common::Common;
use crate::door::Door;
use crate::machine::{Machine, Port};
use crate::secure::Secure;

/// Sessions looked at in one poll, however many wait.
const LOOKS_MAX: usize = 32;

impl<P: Port> Link<P> {
    /// Lets sessions go on whose answers have come; whether there were any. Where nobody waits it costs nothing, and where
    /// somebody does, a load.
    #[inline]
    pub(super) fn look_at_desk<M: Machine>(
        &mut self,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
        now: Timestamp,
    ) -> bool {
        if self.at_desk.is_empty() {
            return false;
        }
        let answers = common.doors.nvme.target.auth_desk().answers();
        if std::mem::replace(&mut self.desk_answers, answers) != answers {
            self.desk_looks = self.at_desk.len();
        }
        self.take_answers(common, stages, now)
    }

    #[cold]
    fn take_answers<M: Machine>(
        &mut self,
        common: &mut Common<M>,
        stages: &mut StageClock<M::Ticks>,
        now: Timestamp,
    ) -> bool {
        let mut taken = false;
        for _ in 0..self.desk_looks.min(LOOKS_MAX) {
            self.desk_looks -= 1;
            let Some(id) = self.at_desk.pop_front() else {
                break;
            };
            let Some(connection) = self.connection(id).filter(|connection| !connection.gone) else {
                continue;
            };
            connection.at_desk = false;
            if connection.secure.as_deref().is_some_and(Secure::is_at_desk) {
                taken |= self.take_handshake(id, common, stages, now);
                continue;
            }
            let (buffers, doors) = common.for_doors();
            connection.session.resume(now, buffers, doors);
            taken |= !connection.session.is_at_desk();
            // In the list again, if it still waits.
            self.after(id, common, stages);
        }
        taken
    }
}
